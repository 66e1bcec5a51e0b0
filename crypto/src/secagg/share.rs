//! Shares on their way from a dealer to a holder: sealed for the holder, signed by the dealer.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::MemberId;
use super::kdf::hkdf;
use super::mask::PrivateKey;
use super::shamir::Share;
use crate::sign::{Context, PublicKey, SigningKey};

/// A share of each of a dealer's two secrets, as one text.
const PLAIN_BYTES: usize = 64;

/// One dealer's shares of both of its secrets for one holder. The server passes it on and can't read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedShare {
    /// The dealer.
    pub from: MemberId,
    /// The holder.
    pub to: MemberId,
    /// Share of s || share of s', 32 bytes each, sealed with ChaCha20-Poly1305 (RFC 8439).
    pub sealed: [u8; 80],
    /// The dealer's, in the context [`crate::sign::Context::Share`], over salt || from || to || sealed.
    pub signature: [u8; 64],
}

impl SealedShare {
    /// Whether its dealer, whose identity `key` is, signed it for this holder and the cohort of this salt.
    pub(super) fn is_signed_by(&self, key: &PublicKey, salt: &[u8; 32]) -> bool {
        let signed = signed_bytes(salt, &self.from, &self.to, &self.sealed);
        key.verify(Context::Share, &signed, &self.signature).is_ok()
    }
}

/// A dealer's two shares for one holder.
#[derive(Debug, Clone)]
pub(super) struct SharePair {
    /// Of the mask secret s.
    pub(super) mask: Share,
    /// Of the self secret s'.
    pub(super) own: Share,
}

/// What two neighbours seal shares for one another with: one key a direction, each of which seals once.
pub(super) struct SealKeys {
    salt: [u8; 32],
    own: MemberId,
    peer: MemberId,
    outgoing: Zeroizing<[u8; 32]>,
    incoming: Zeroizing<[u8; 32]>,
}

impl SealKeys {
    /// Agrees on both keys. `None` where the peer's key is a point of low order.
    pub(super) fn agree(key: &PrivateKey, own: MemberId, peer: MemberId, peer_key: &[u8; 32], salt: [u8; 32]) -> Option<Self> {
        let shared = key.agree(peer_key)?;
        let own_key = key.public_key();
        let (low, high) = if own_key <= *peer_key {
            (&own_key, peer_key)
        } else {
            (peer_key, &own_key)
        };
        let one_way = |from: &MemberId, to: &MemberId| hkdf(&*shared, &salt, &[b"share", from, to, low, high]);
        Some(Self {
            salt,
            own,
            peer,
            outgoing: one_way(&own, &peer),
            incoming: one_way(&peer, &own),
        })
    }

    /// Seals shares for the peer.
    pub(super) fn seal(&self, shares: &SharePair, identity: &SigningKey) -> SealedShare {
        let mut plain = Zeroizing::new([0; PLAIN_BYTES]);
        plain[..32].copy_from_slice(shares.mask.as_bytes());
        plain[32..].copy_from_slice(shares.own.as_bytes());
        let aad = Aad::from(header(&self.salt, &self.own, &self.peer));
        let tag = aead(&self.outgoing)
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key([0; 12]), aad, &mut *plain)
            .expect("64 bytes are not too many for one key");
        let mut sealed = [0; 80];
        sealed[..PLAIN_BYTES].copy_from_slice(&*plain);
        sealed[PLAIN_BYTES..].copy_from_slice(tag.as_ref());
        SealedShare {
            from: self.own,
            to: self.peer,
            sealed,
            signature: identity.sign(Context::Share, &signed_bytes(&self.salt, &self.own, &self.peer, &sealed)),
        }
    }

    /// Opens the peer's shares. `None` when they were sealed with something else, or are no scalars.
    pub(super) fn open(&self, sealed: &[u8; 80]) -> Option<SharePair> {
        let mut bytes = Zeroizing::new(*sealed);
        let aad = Aad::from(header(&self.salt, &self.peer, &self.own));
        let plain = aead(&self.incoming)
            .open_in_place(Nonce::assume_unique_for_key([0; 12]), aad, &mut *bytes)
            .ok()?;
        let (mask, own) = plain.split_first_chunk::<32>()?;
        Some(SharePair {
            mask: Share::from_bytes(mask)?,
            own: Share::from_bytes(own.try_into().ok()?)?,
        })
    }
}

fn aead(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key of 32 bytes"))
}

fn header(salt: &[u8; 32], from: &MemberId, to: &MemberId) -> Vec<u8> {
    [&salt[..], from, to].concat()
}

fn signed_bytes(salt: &[u8; 32], from: &MemberId, to: &MemberId, sealed: &[u8; 80]) -> Vec<u8> {
    [&salt[..], from, to, sealed].concat()
}

/// What a survivor signs, in [`Context::Survivors`]: salt || bitmap.
pub(super) fn survivors_bytes(salt: &[u8; 32], bitmap: &[u8]) -> Vec<u8> {
    [&salt[..], bitmap].concat()
}
