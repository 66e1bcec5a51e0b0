//! Bytes into every decoder of a control message or a record.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    aimass_protocol::fuzz::control_message(bytes);
});
