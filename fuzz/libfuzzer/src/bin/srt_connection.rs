#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| arcly_fuzz::srt_session::srt_connection(data));
