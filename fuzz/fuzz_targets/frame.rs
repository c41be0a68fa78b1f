//! A stream, whole and torn; the first byte says how large the pieces are.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sip::exercise::frame(bytes));
