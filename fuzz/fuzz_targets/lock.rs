#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| encke_repo::fuzzing::lock(bytes));
