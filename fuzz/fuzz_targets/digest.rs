//! Values of the authentication headers, one to a line.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sip::exercise::digest(bytes));
