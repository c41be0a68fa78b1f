//! URIs and the values they stand in, one to a line.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sip::exercise::uri(bytes));
