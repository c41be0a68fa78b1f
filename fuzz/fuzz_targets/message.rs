//! One datagram, read, asked everything, answered, forwarded and stamped.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sip::exercise::message(bytes));
