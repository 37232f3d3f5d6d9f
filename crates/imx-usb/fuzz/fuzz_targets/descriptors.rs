#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| imx_usb_fuzz::descriptors(bytes));
