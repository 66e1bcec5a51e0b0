//! Shares on their way from a dealer to a holder: sealed for the holder, signed by the dealer.

use super::MemberId;

/// One dealer's shares of both of its secrets for one holder. The server passes it on and can't read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedShare {
    /// The dealer.
    pub from: MemberId,
    /// The holder.
    pub to: MemberId,
    /// Share of s || share of s', 32 bytes each, sealed with ChaCha20-Poly1305.
    pub sealed: [u8; 80],
    /// The dealer's, in the context [`crate::sign::Context::Share`], over salt || from || to || sealed.
    pub signature: [u8; 64],
}
