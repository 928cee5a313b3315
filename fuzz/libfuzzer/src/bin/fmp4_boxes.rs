#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| arcly_fuzz::fmp4::fmp4_boxes(data));
