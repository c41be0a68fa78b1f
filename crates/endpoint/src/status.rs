//! What is true of one client now, for whoever asks.

use std::fmt;
use std::time::Instant;

use resilience::homing::Service;

/// Where a client is registered, since when, and why there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// The registrar's host name; `None` while registered nowhere.
    pub registrar: Option<String>,
    /// What the user gets there.
    pub service: Service,
    /// Since when this has been so.
    pub since: Instant,
    /// What brought it about, in words.
    pub why: String,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.registrar, self.service) {
            (Some(registrar), Service::Limited) => write!(f, "{registrar} (limited functionality)"),
            (Some(registrar), _) => write!(f, "{registrar}"),
            (None, _) => write!(f, "nowhere ({})", self.why),
        }
    }
}
