//! The brain of one client: discovery, cache, registration. No IO, no clock.
