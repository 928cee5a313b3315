#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| arcly_fuzz::video::h266_units(data));
