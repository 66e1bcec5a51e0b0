//! Messages of agents, some of them bad, to a server of secure aggregation.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| aimass_crypto::secagg::fuzz::server(bytes));
