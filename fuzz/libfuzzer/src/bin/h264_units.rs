#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| arcly_fuzz::video::h264_units(data));
