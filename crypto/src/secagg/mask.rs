//! Keys and masks: from an agent's two secrets to the streams that are added to its vector.
//!
//! An agent i has a mask secret s and a self secret s'. With each neighbour j it agrees on a key (X25519) whose stream the one with the
//! smaller id adds and the other takes away; the stream of s' it adds alone. Ids are compared bytewise:
//! `y_i = x_i + self_i + sum over j > i of pair_ij - sum over j < i of pair_ij`, modulo 2^b in every slot.
//!
//! # Source
//! Bonawitz et al. 2017, section 4; X25519: RFC 7748; HKDF: RFC 5869; ChaCha20: RFC 8439; counter mode: NIST SP 800-38A.

mod stream;
#[cfg(test)]
mod tests;

use std::fmt;

use rand_core::CryptoRng;
use subtle::{Choice, ConstantTimeEq};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

pub use self::stream::{MaskStream, Suite};
use crate::hash::Sha256;
use crate::secagg::MemberId;
use crate::secagg::kdf::hkdf;
use crate::secagg::shamir::Secret;

/// An X25519 key pair; the private half is wiped on drop.
#[derive(Clone)]
pub struct PrivateKey {
    secret: StaticSecret,
    public: PublicKey,
}

impl PrivateKey {
    /// A new key.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *bytes);
        Self::from_bytes(&bytes)
    }

    /// From 32 bytes; X25519 clamps them.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let secret = StaticSecret::from(*bytes);
        let public = PublicKey::from(&secret);
        Self { secret, public }
    }

    /// The public half.
    pub fn public_key(&self) -> [u8; 32] {
        self.public.to_bytes()
    }

    /// X25519 with a peer; `None` where its key is a point of low order, which would give everybody the same secret.
    pub(crate) fn agree(&self, peer: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let shared = self.secret.diffie_hellman(&PublicKey::from(*peer));
        shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey")
            .field("public", &hex::encode(self.public.as_bytes()))
            .finish_non_exhaustive()
    }
}

/// The secret s behind an agent's pairwise masks. It is shared as a scalar, because a clamped X25519 key does not fit below l.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskSecret(Secret);

impl MaskSecret {
    /// A new secret.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self(Secret::random(rng))
    }

    /// A secret that was dealt or reconstructed.
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// What is shared.
    pub fn secret(&self) -> &Secret {
        &self.0
    }

    /// The mask key pair: HKDF-SHA256 of s, info "x25519".
    pub fn private_key(&self) -> PrivateKey {
        PrivateKey::from_bytes(&hkdf(self.0.as_bytes(), b"", &[b"x25519"]))
    }
}

/// The secret s' behind an agent's self mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfSecret(Secret);

impl SelfSecret {
    /// A new secret.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self(Secret::random(rng))
    }

    /// A secret that was dealt or reconstructed.
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// What is shared.
    pub fn secret(&self) -> &Secret {
        &self.0
    }

    /// The seed b: HKDF-SHA256 of s', info "self".
    pub fn seed(&self) -> SelfSeed {
        SelfSeed(*hkdf(self.0.as_bytes(), b"", &[b"self"]))
    }

    /// What an advert says of it: SHA-256("aimass self-mask v1" || s').
    pub fn commitment(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"aimass self-mask v1");
        hash.update(self.0.as_bytes());
        hash.finish()
    }
}

/// Makes 32 secret bytes: wiped on drop, compared in constant time, never printed.
macro_rules! secret_bytes {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// From its bytes.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl ConstantTimeEq for $name {
            fn ct_eq(&self, other: &Self) -> Choice {
                self.0.ct_eq(&other.0)
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.ct_eq(other).into()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

secret_bytes! {
    /// The seed b of a self mask.
    SelfSeed
}

secret_bytes! {
    /// The key of one mask stream, for one cohort.
    MaskKey
}

/// The key that two agents share: HKDF-SHA256 of X25519, with the cohort's salt, info "pairwise-mask" || smaller || larger public key.
/// `None` where the peer's key is a point of low order.
pub fn pair_key(own: &PrivateKey, peer: &[u8; 32], salt: &[u8]) -> Option<MaskKey> {
    let public = own.public_key();
    let (low, high) = if public <= *peer { (&public, peer) } else { (peer, &public) };
    let shared = own.agree(peer)?;
    Some(MaskKey(*hkdf(&*shared, salt, &[b"pairwise-mask", low, high])))
}

/// The key of an agent's self mask: HKDF-SHA256 of b, with the cohort's salt, info "self-mask" || the agent's mask key.
pub fn self_key(seed: &SelfSeed, mask_key: &[u8; 32], salt: &[u8]) -> MaskKey {
    MaskKey(*hkdf(&seed.0, salt, &[b"self-mask", mask_key]))
}

/// Whether a stream is added or taken away, modulo 2^b in every slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sign {
    /// Added.
    Plus,
    /// Taken away.
    Minus,
}

impl Sign {
    /// How `own` lays the mask that it shares with `peer`: the smaller id adds. (There is no mask of an agent with itself.)
    pub fn of_pair(own: &MemberId, peer: &MemberId) -> Self {
        if peer > own { Self::Plus } else { Self::Minus }
    }

    /// The other one: what undoes this one.
    #[must_use]
    pub fn flipped(self) -> Self {
        match self {
            Self::Plus => Self::Minus,
            Self::Minus => Self::Plus,
        }
    }
}

/// One mask: a stream and what to do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedMask {
    /// Added or taken away.
    pub sign: Sign,
    /// The key of its stream.
    pub key: MaskKey,
}
