//! Identity, certificates, signatures, hashes and secure aggregation. Pure: randomness and time are passed in.
//!
//! Keys are Ed25519 (RFC 8032), hashes SHA-256, both from ring. Certificates are X.509 (RFC 5280), issued directly by a root.
//! [`secagg`] says which parts of secure aggregation are here.

pub mod cert;
pub mod hash;
pub mod log;
pub mod secagg;
pub mod sign;
pub mod subject;
