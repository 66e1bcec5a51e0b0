//! An agent's keys for one draw of a cohort.

use super::MemberId;
use crate::hash::sha256;
use crate::sign::{Context, PublicKey, SigningKey};

/// The public keys and commitments that a member makes for one draw of one cohort, and for nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advert {
    /// The cohort.
    pub cohort: [u8; 16],
    /// Which of its draws.
    pub draw: u8,
    /// Whose keys these are.
    pub member: MemberId,
    /// X25519 public key that pairwise masks are agreed on with.
    pub mask_key: [u8; 32],
    /// X25519 public key that shares are sealed with. Apart from the mask key, which may be reconstructed: that must open no shares.
    pub seal_key: [u8; 32],
    /// Commitment to the secret of the member's own mask.
    pub self_commitment: [u8; 32],
    /// Commitment to the member's part in the graph's seed: [`draw_commitment`].
    pub draw_commitment: [u8; 32],
}

/// SHA-256("aimass draw v1" || nonce): what a member says of its nonce before it knows those of others.
pub fn draw_commitment(nonce: &[u8; 32]) -> [u8; 32] {
    sha256(&[&b"aimass draw v1"[..], nonce].concat())
}

impl Advert {
    /// What its member signs, in [`Context::Advert`]: cohort || draw (1 byte) || member || mask key || seal key || self commitment ||
    /// draw commitment.
    pub fn signed_bytes(&self) -> Vec<u8> {
        [
            &self.cohort[..],
            &[self.draw],
            &self.member,
            &self.mask_key,
            &self.seal_key,
            &self.self_commitment,
            &self.draw_commitment,
        ]
        .concat()
    }

    /// Signs it with its member's identity.
    pub fn sign(&self, key: &SigningKey) -> [u8; 64] {
        key.sign(Context::Advert, &self.signed_bytes())
    }

    /// Whether `key` is its member's identity and signed it.
    pub fn is_signed_by(&self, key: &PublicKey, signature: &[u8; 64]) -> bool {
        key.fingerprint() == self.member && key.verify(Context::Advert, &self.signed_bytes(), signature).is_ok()
    }
}

/// Whether an X25519 public key gives the same shared secret to everybody: a point of low order (RFC 7748, section 6.1).
pub(super) fn is_weak(key: &[u8; 32]) -> bool {
    // Every private key is a multiple of the cofactor, so any of them tells.
    x25519_dalek::x25519([1; 32], *key) == [0; 32]
}
