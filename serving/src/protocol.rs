//! The Open Inference Protocol (version 2, as KServe and Triton speak it): requests and responses, in JSON and with binary tensors.
//!
//! # Source
//! Open Inference Protocol, REST; Triton's binary tensor data extension.

mod numbers;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use numbers::MAX_ELEMENTS;
pub use request::decode;
pub use response::{Encoded, encode, metadata};

/// The header that says how many bytes of a body are JSON, where tensors follow.
pub const JSON_LENGTH_HEADER: &str = "inference-header-content-length";
