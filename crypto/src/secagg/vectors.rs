//! Reading golden vectors.
//!
//! `masks_v1`, `shamir_v1` and `graph_params` are the platform's reference vectors; `keys_v1` and `graph_v1` were computed from the
//! definitions in these modules' docs with Python's `hashlib`, `hmac` and `cryptography` 48.

use serde_json::Value;

/// A file of `crypto/testdata/secagg`.
pub(crate) fn parse(json: &str) -> Value {
    serde_json::from_str(json).expect("a vector file is JSON")
}

/// A list.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// A whole number of 32 bits.
pub(crate) fn int(value: &Value) -> u32 {
    value.as_u64().and_then(|int| int.try_into().ok()).expect("a number of 32 bits")
}

/// Bytes in hexadecimal.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("a text")).expect("hexadecimal")
}

/// 32 bytes in hexadecimal.
pub(crate) fn bytes32(value: &Value) -> [u8; 32] {
    bytes(value).try_into().expect("32 bytes")
}
