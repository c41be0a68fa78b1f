//! What our registrar tells us about our registration without being asked.
//!
//! A NOTIFY with `Event: registration-notify` and one line of `text/registration-event`:
//!
//! | body | meaning |
//! | --- | --- |
//! | `deregistered;event=preferred-registrar-change` | go to `P-Preferred-Registrar`: failback, or a drained server |
//! | `deregistered;event=deactivated` | the user was moved: register anew |
//! | `deregistered;event=userservices-unavailable` | this registrar cannot serve such as us now: register anew |
//! | `deregistered;event=unregistered`, `…=rejected` | evicted, or disabled: over; coming back would only fight it |
//! | `registered;event=userservices-unavailable` | still registered, limited |
//! | `registered;event=userservices-available` | full again |

use sip::header::HeaderName;
use sip::message::Message;

/// One such notice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Notice {
    /// The line, for the log.
    pub(crate) body: String,
    /// What it means.
    pub(crate) meaning: Meaning,
    /// `P-Preferred-Registrar`, a bare URI.
    pub(crate) preferred: Option<String>,
}

/// What a notice means for us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Meaning {
    /// Our binding is gone; another registrar is the right one, named or not.
    Moved,
    /// Our binding is gone, and we are not wanted back.
    Ended,
    /// Presence, contacts and conferences are not to be had.
    ServicesLost,
    /// They are to be had again.
    ServicesBack,
    /// None of these; for the log only.
    Unknown,
}

/// The notice in `request`, if it is one.
pub(crate) fn read(request: &Message) -> Option<Notice> {
    let event = request.header(HeaderName::Event)?;
    let package = event.split(';').next().unwrap_or_default().trim();
    if !package.eq_ignore_ascii_case("registration-notify") {
        return None;
    }
    let body = String::from_utf8_lossy(request.body()).trim().to_ascii_lowercase();
    let (state, event) = body.split_once(";event=").unwrap_or((&body, ""));
    let meaning = match (state.trim(), event.trim()) {
        ("deregistered", "preferred-registrar-change" | "deactivated" | "userservices-unavailable") => {
            Meaning::Moved
        }
        ("deregistered", "unregistered" | "rejected") => Meaning::Ended,
        ("registered", "userservices-unavailable") => Meaning::ServicesLost,
        ("registered", "userservices-available") => Meaning::ServicesBack,
        _ => Meaning::Unknown,
    };
    let preferred = request.header_named("P-Preferred-Registrar").map(|uri| {
        // A bare URI by the model's rule; brackets are forgiven.
        uri.trim().trim_start_matches('<').split('>').next().unwrap_or_default().to_owned()
    });
    Some(Notice { body, meaning, preferred })
}
