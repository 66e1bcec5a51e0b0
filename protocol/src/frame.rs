//! Frames of a stream: one byte of kind, four bytes of length (little-endian), the payload.

use crate::limits::{CHUNK_BYTES, MAX_CONTROL_BYTES};

/// Application protocol of agents towards the aggregator; its last part is the protocol's version.
pub const ALPN_AGENT: &[u8] = b"aimass/1";
/// Application protocol of enrolment: a token in place of a client certificate.
pub const ALPN_ENROL: &[u8] = b"aimass-enrol/1";
/// Application protocol of renewal and administration at the authority: a client certificate, for renewal an expired one too.
pub const ALPN_RENEW: &[u8] = b"aimass-renew/1";
/// Version of the control messages.
pub const PROTOCOL_VERSION: u16 = 1;
/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 5;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// One control message in CBOR.
    Control,
    /// One chunk of a blob, raw.
    Chunk,
}

impl FrameKind {
    /// The longest payload of this kind in bytes.
    pub fn limit(self) -> usize {
        match self {
            Self::Control => MAX_CONTROL_BYTES,
            Self::Chunk => CHUNK_BYTES,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Control => 1,
            Self::Chunk => 2,
        }
    }
}

/// A header that no well-behaved peer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The kind is not of this version.
    #[error("unknown frame kind {kind}")]
    UnknownKind {
        /// The byte found.
        kind: u8,
    },
    /// The payload would be over the limit of its kind.
    #[error("a frame of {len} bytes is over the limit of {limit}")]
    TooLong {
        /// The length announced, in bytes.
        len: usize,
        /// The limit of its kind, in bytes.
        limit: usize,
    },
    /// Another kind was expected here.
    #[error("expected a {expected:?} frame")]
    WrongKind {
        /// The kind that should have come.
        expected: FrameKind,
    },
}

/// A checked header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What follows.
    pub kind: FrameKind,
    /// Bytes that follow; within the limit of its kind.
    pub len: usize,
}

impl FrameHeader {
    /// Checks that a payload of `len` bytes may be sent.
    ///
    /// # Errors
    /// [`FrameError::TooLong`].
    pub fn new(kind: FrameKind, len: usize) -> Result<Self, FrameError> {
        if len > kind.limit() {
            return Err(FrameError::TooLong { len, limit: kind.limit() });
        }
        Ok(Self { kind, len })
    }

    /// The payload's length, if it is of the kind that has to come here.
    ///
    /// # Errors
    /// [`FrameError::WrongKind`].
    pub fn expect(self, expected: FrameKind) -> Result<usize, FrameError> {
        if self.kind == expected {
            Ok(self.len)
        } else {
            Err(FrameError::WrongKind { expected })
        }
    }

    /// The header's bytes.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let len = u32::try_from(self.len).unwrap_or(u32::MAX).to_le_bytes();
        [self.kind.byte(), len[0], len[1], len[2], len[3]]
    }

    /// Reads a header and holds it to its limit, before anything is allocated.
    ///
    /// # Errors
    /// [`FrameError::UnknownKind`], [`FrameError::TooLong`].
    pub fn from_bytes(bytes: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let kind = match bytes[0] {
            1 => FrameKind::Control,
            2 => FrameKind::Chunk,
            kind => return Err(FrameError::UnknownKind { kind }),
        };
        let len = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        Self::new(kind, usize::try_from(len).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_kind_and_length_in_little_endian() {
        let header = FrameHeader::new(FrameKind::Chunk, 0x01_02_03).expect("within the limit");
        assert_eq!(header.to_bytes(), [2, 3, 2, 1, 0]);
        assert_eq!(FrameHeader::from_bytes([2, 3, 2, 1, 0]), Ok(header));
    }

    #[test]
    fn the_limit_itself_is_allowed_and_one_more_is_not() {
        for kind in [FrameKind::Control, FrameKind::Chunk] {
            let limit = kind.limit();
            assert!(FrameHeader::new(kind, limit).is_ok());
            assert_eq!(
                FrameHeader::new(kind, limit + 1),
                Err(FrameError::TooLong { len: limit + 1, limit })
            );
        }
        assert!(matches!(
            FrameHeader::from_bytes([1, 255, 255, 255, 255]),
            Err(FrameError::TooLong { .. })
        ));
    }

    #[test]
    fn another_kind_than_expected_is_refused() {
        let header = FrameHeader::new(FrameKind::Chunk, 7).expect("within the limit");
        assert_eq!(header.expect(FrameKind::Chunk), Ok(7));
        assert_eq!(
            header.expect(FrameKind::Control),
            Err(FrameError::WrongKind {
                expected: FrameKind::Control
            })
        );
        assert_eq!(FrameHeader::from_bytes([3, 0, 0, 0, 0]), Err(FrameError::UnknownKind { kind: 3 }));
    }
}
