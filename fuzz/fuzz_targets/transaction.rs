//! One message heard, repeated, answered, sent and cancelled, until all time has passed.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Some moment; only differences matter.
    #[expect(clippy::disallowed_methods, reason = "an epoch for virtual time")]
    sip::exercise::transaction(bytes, std::time::Instant::now());
});
