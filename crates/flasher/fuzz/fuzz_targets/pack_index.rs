#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flasher_fuzz::pack_index(bytes));
