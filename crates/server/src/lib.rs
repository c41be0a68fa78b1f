//! The brain of one server: director, registrar, proxy. No IO, no clock.
