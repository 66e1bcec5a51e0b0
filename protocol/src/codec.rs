//! The one place that knows CBOR. Control messages only: never tensors, never without a length limit.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::check::{Checked, Violation};
use crate::limits::MAX_CONTROL_BYTES;

/// Longest part of a parser's message that is passed on: it can quote the peer.
const MAX_REASON_CHARS: usize = 200;

/// A control message that can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Longer than the limit; nothing was parsed.
    #[error("a control message of {len} bytes is over the limit of {limit}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not the CBOR of the expected message, or bytes are left over.
    #[error("malformed control message: {reason}")]
    Malformed {
        /// What the parser says, cut short and without control characters.
        reason: String,
    },
    /// Well-formed, but against the message's own rules.
    #[error("invalid control message: {0}")]
    Invalid(#[from] Violation),
}

/// A control message that can't be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Its encoding is over the limit that the peer would hold it to.
    #[error("the control message would take {len} bytes, over the limit of {limit}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The encoder refused a value.
    #[error("the control message can't be encoded: {reason}")]
    Value {
        /// What the encoder says.
        reason: String,
    },
    /// Against the message's own rules: the peer would refuse it.
    #[error("refusing to send an invalid control message: {0}")]
    Invalid(#[from] Violation),
}

/// Bytes that a message, or a part of one, takes as CBOR; 0 of what can't be written. For accounts: nothing is checked.
pub fn encoded_len<T: Serialize>(message: &T) -> u64 {
    serde_cbor::to_vec(message).map_or(0, |bytes| bytes.len() as u64)
}

/// Encodes `message` as CBOR, after checking what a receiver checks.
///
/// Fields keep the order of their definition, so equal values give equal bytes.
///
/// # Errors
/// [`EncodeError::Invalid`], [`EncodeError::TooLong`] when the result is over [`MAX_CONTROL_BYTES`].
pub fn encode<T: Serialize + Checked>(message: &T) -> Result<Vec<u8>, EncodeError> {
    message.check()?;
    let bytes = serde_cbor::to_vec(message).map_err(|e| EncodeError::Value { reason: e.to_string() })?;
    if bytes.len() > MAX_CONTROL_BYTES {
        return Err(EncodeError::TooLong {
            len: bytes.len(),
            limit: MAX_CONTROL_BYTES,
        });
    }
    Ok(bytes)
}

/// Decodes one message that fills `bytes` to the last and obeys its rules.
///
/// # Errors
/// [`DecodeError::TooLong`] before anything is parsed, [`DecodeError::Malformed`] for another shape, trailing bytes included,
/// [`DecodeError::Invalid`] for a rule that does not hold.
pub fn decode<T: DeserializeOwned + Checked>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > MAX_CONTROL_BYTES {
        return Err(DecodeError::TooLong {
            len: bytes.len(),
            limit: MAX_CONTROL_BYTES,
        });
    }
    // One spelling only: names, not numbers, for fields; {"Variant": ...}, not ["Variant", ...], for enums.
    let mut parser = serde_cbor::Deserializer::from_slice(bytes)
        .disable_packed_format()
        .disable_legacy_enums();
    let message = T::deserialize(&mut parser)
        .and_then(|message| parser.end().map(|()| message))
        .map_err(malformed)?;
    message.check()?;
    Ok(message)
}

fn malformed(error: serde_cbor::Error) -> DecodeError {
    let reason = error.to_string();
    DecodeError::Malformed {
        reason: reason
            .chars()
            .take(MAX_REASON_CHARS)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect(),
    }
}
