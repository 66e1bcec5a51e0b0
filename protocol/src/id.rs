//! Identifiers, keys and signatures: newtypes over fixed bytes (short hex for people, all of it for machines), and the tenant's name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    /// Not hexadecimal, or of the wrong length.
    #[error("{text:?} has to be {expected} hexadecimal digits")]
    Hex {
        /// What was given, cut to 80 characters.
        text: String,
        /// Digits of a whole id.
        expected: usize,
    },
    /// Not a tenant's name.
    #[error("{text:?} is not a tenant: use 1 to 32 of a-z, 0-9 and '-', starting with a letter and not ending with '-'")]
    Tenant {
        /// What was given, cut to 80 characters.
        text: String,
    },
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Wraps bytes that were made elsewhere (a hash, a random draw).
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// All digits, for files, keys and machines. [`fmt::Display`] prints the first eight only.
            pub fn to_hex(&self) -> String {
                hex::encode(self.0)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(&self.0[..4]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let mut bytes = [0; $len];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseIdError::Hex {
                    text: text.chars().take(80).collect(),
                    expected: 2 * $len,
                })?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.serialize_str(&self.to_hex()) } else { s.serialize_bytes(&self.0) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    String::deserialize(d)?.parse().map_err(de::Error::custom)
                } else {
                    Ok(Self(serde_bytes::ByteArray::<$len>::deserialize(d)?.into_array()))
                }
            }
        }
    };
}

id!(
    /// An agent: the first half of the SHA-256 of its public key, so that it can be neither chosen nor shared.
    AgentId, 16
);
id!(
    /// A job: the first half of the SHA-256 of its signed bytes.
    JobId, 16
);
id!(
    /// A cohort: drawn at random by the server when it is formed.
    CohortId, 16
);
id!(
    /// One trained contribution of one agent: drawn at random by the agent. With the job and the base model it names the work.
    ContributionId, 16
);
id!(
    /// A SHA-256: the address of a blob, a chunk or a document.
    Digest, 32
);
id!(
    /// An Ed25519 public key as it travels (RFC 8032, section 5.1.5). Whether it is a point of the curve is for the verifier to find out.
    PublicKeyBytes, 32
);
id!(
    /// An Ed25519 signature as it travels (RFC 8032, section 5.1.6).
    SignatureBytes, 64
);
id!(
    /// Random bytes that tell two documents of otherwise equal content apart.
    Nonce, 16
);

/// A tenant's name. Every id and store key is held within its tenant, and it is a label of its servers' DNS names, so it reads like one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TenantId(String);

impl TenantId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TenantId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let good = (1..=32).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-')
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseIdError::Tenant {
                text: text.chars().take(80).collect(),
            })
        }
    }
}

impl<'de> Deserialize<'de> for TenantId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_for_machines_is_whole_and_for_people_short() {
        let id = AgentId::from_bytes(*b"0123456789abcdef");
        assert_eq!(id.to_hex(), "30313233343536373839616263646566");
        assert_eq!(id.to_string(), "30313233");
        assert_eq!(format!("{id:?}"), "AgentId(30313233)");
        assert_eq!(id.to_hex().parse(), Ok(id));
        assert!("30313233".parse::<AgentId>().is_err());
    }

    #[test]
    fn json_holds_hex() {
        let id = JobId::from_bytes([0xab; 16]);
        let json = serde_json::to_string(&id).expect("an id is a value");
        assert_eq!(json, format!("\"{}\"", "ab".repeat(16)));
        assert_eq!(serde_json::from_str::<JobId>(&json).expect("its own text"), id);
    }

    #[test]
    fn a_tenant_is_a_dns_label() {
        for good in ["a", "default", "plant-7", "x".repeat(32).as_str()] {
            assert_eq!(good.parse::<TenantId>().expect(good).as_str(), good);
        }
        for bad in ["", "7up", "-a", "a-", "A", "a.b", "a/b", "a b", "ä", "x".repeat(33).as_str()] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad:?} was taken");
        }
    }
}
