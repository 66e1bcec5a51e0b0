//! Bytes into the plan, the validators and the sums of contributions, plain and masked.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    aimass_compression::fuzz::contribution(bytes);
});
