#![no_main]

libfuzzer_sys::fuzz_target!(init: e2e_tests::fuzz::prepare(), |data: &[u8]| (e2e_tests::fuzz::target("admin").run)(data));
