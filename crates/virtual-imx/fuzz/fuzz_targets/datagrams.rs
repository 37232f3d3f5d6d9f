#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| virtual_imx_fuzz::datagrams(bytes));
