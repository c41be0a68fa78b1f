//! Who the users are: read-only here, published as a whole, replaced as a whole.

use std::collections::BTreeMap;

use resilience::topology::PoolName;
use sip::digest::Ha1;
use sip::uri::AddressOfRecord;

/// All users of the deployment, at one version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directory {
    /// Goes up with each publication; an older one is never taken.
    pub version: u64,
    /// The users. Look up, or walk in order; there is no other order.
    pub users: BTreeMap<AddressOfRecord, User>,
}

impl Directory {
    /// The user behind an address-of-record.
    pub fn user(&self, aor: &AddressOfRecord) -> Option<&User> {
        self.users.get(aor)
    }

    /// The user who has this telephone number. Walks everybody: numbers are dialled far less often than
    /// addresses are looked up.
    pub fn with_number(&self, number: &str) -> Option<(&AddressOfRecord, &User)> {
        self.users.iter().find(|(_, user)| user.number.as_deref() == Some(number))
    }
}

/// One user.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// The pool the user is homed on: the primary registrar.
    pub home: PoolName,
    /// A disabled user is known, and refused with 403 once proved.
    pub enabled: bool,
    /// The telephone number (E.164 with `+`) tried when no pool has the user.
    pub number: Option<String>,
    /// `MD5(user:realm:password)`; the password itself is nowhere.
    pub ha1_md5: Ha1,
    /// `SHA-256(user:realm:password)`, for clients of RFC 8760.
    pub ha1_sha256: Ha1,
}
