//! The moment at which every test begins.

use std::sync::LazyLock;
use std::time::Instant;

/// Always the same; nothing compares it with the time of day.
#[expect(clippy::disallowed_methods, reason = "an Instant cannot be made from nothing")]
pub(crate) fn epoch() -> Instant {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    *EPOCH
}
