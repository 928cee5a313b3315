#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| arcly_fuzz::rtp::rtp_red(data));
