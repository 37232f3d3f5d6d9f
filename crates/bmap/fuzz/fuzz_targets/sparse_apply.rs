#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bmap_fuzz::sparse_apply(bytes));
