//! Join tokens: what a device needs to enrol, as one line of text.
//!
//! `aimass1.` followed by base64url (no padding) of the CBOR of [`JoinToken`].

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::codec::{self, EncodeError};
use crate::limits::MAX_TOKEN_CHARS;
use crate::{Digest, TenantId, Timestamp};

const PREFIX: &str = "aimass1.";

/// What the holder of a token becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A device.
    Agent,
    /// An aggregation server.
    Server,
    /// The enrolment authority itself.
    Authority,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Server => "server",
            Self::Authority => "authority",
        })
    }
}

/// A one-time invitation. Whoever holds it can enrol, so `Debug` does not show its secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinToken {
    /// Where the enrolment authority listens, `host:port`.
    pub authority: String,
    /// Where the aggregation server listens, `host:port`; empty in a server's token.
    pub server: String,
    /// SHA-256 of the root's SubjectPublicKeyInfo (DER): the authority must prove this root.
    pub root_spki: Digest,
    /// Whose devices it admits to.
    pub tenant: TenantId,
    /// What its holder becomes.
    pub role: Role,
    /// When it stops working.
    pub expires_at: Timestamp,
    /// Proof of the invitation; the authority keeps its hash only.
    pub secret: TokenSecret,
}

/// The random part of a token: 32 bytes, zeroized on drop, compared in constant time, never shown by `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TokenSecret([u8; Self::LEN]);

impl TokenSecret {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Wraps bytes drawn at random elsewhere.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be hashed or sent and for nothing else.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl PartialEq for TokenSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenSecret {}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(redacted)")
    }
}

impl Serialize for TokenSecret {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for TokenSecret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Self(serde_bytes::ByteArray::<{ Self::LEN }>::deserialize(d)?.into_array()))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("authority", &self.authority)
            .field("server", &self.server)
            .field("tenant", &self.tenant)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// A text that is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a join token (it starts with \"{PREFIX}\"): copy the whole line that `aimass token create` printed")]
pub struct ParseTokenError;

impl JoinToken {
    /// The line of text to hand to the device, at most [`MAX_TOKEN_CHARS`] long. It holds the secret: never log it.
    ///
    /// # Errors
    /// [`EncodeError::Invalid`] when an address is none.
    pub fn to_text(&self) -> Result<String, EncodeError> {
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(codec::encode(self)?)))
    }
}

impl FromStr for JoinToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let text = text.trim();
        if text.len() > MAX_TOKEN_CHARS {
            return Err(ParseTokenError);
        }
        let body = text.strip_prefix(PREFIX).ok_or(ParseTokenError)?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| ParseTokenError)?;
        codec::decode(&bytes).map_err(|_| ParseTokenError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            authority: "127.0.0.1:7701".into(),
            server: "[::1]:7700".into(),
            root_spki: Digest::from_bytes([1; 32]),
            tenant: TenantId::default(),
            role: Role::Agent,
            expires_at: Timestamp::from_ms(1),
            secret: TokenSecret::from_bytes([0x5a; 32]),
        }
    }

    #[test]
    fn its_text_parses_to_itself_with_space_around() {
        let text = token().to_text().expect("its addresses read");
        assert_eq!(format!("  {text}\n").parse(), Ok(token()));
    }

    #[test]
    fn debug_never_shows_the_secret() {
        let shown = format!("{:?} {:?}", token(), token().secret);
        assert!(!shown.contains("90") && !shown.to_lowercase().contains("5a"), "{shown}");
    }

    #[test]
    fn an_address_that_is_none_gives_no_token() {
        for bad in [
            "",
            "host",
            "host:",
            ":7700",
            "host:0",
            "host:70000",
            "ho st:1",
            "::1:7700",
            "[::1:7700",
            "host:+1",
            "host:7700\n",
        ] {
            let token = JoinToken {
                authority: bad.into(),
                ..token()
            };
            assert!(matches!(token.to_text(), Err(EncodeError::Invalid(_))), "{bad:?} was taken");
        }
        let no_server = JoinToken {
            server: String::new(),
            ..token()
        };
        assert!(no_server.to_text().is_err(), "an agent needs a server");
        assert!(
            JoinToken {
                role: Role::Server,
                ..no_server
            }
            .to_text()
            .is_ok(),
            "a server needs none"
        );
    }

    #[test]
    fn the_longest_token_fits_its_limit() {
        let host = format!("{}:65535", "h".repeat(253));
        let token = JoinToken {
            authority: host.clone(),
            server: host,
            tenant: "t".repeat(32).parse().expect("a name"),
            ..token()
        };
        assert!(token.to_text().expect("within limits").len() <= MAX_TOKEN_CHARS);
    }
}
