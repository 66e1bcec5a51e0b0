//! Messages of a cheating server, and of puppets, to an agent of secure aggregation.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| aimass_crypto::secagg::fuzz::client(bytes));
