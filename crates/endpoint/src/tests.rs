//! The brain against a scripted network, in virtual time.

mod clock;
mod hostile;
mod requests;
mod scripted;
mod sign_in;
mod storm;
mod survival;

pub(crate) use clock::epoch;
