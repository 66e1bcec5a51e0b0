//! From unmask shares to the masks that have to leave the sum.

use super::MemberId;
use super::mask::{SignedMask, Suite};
use super::shamir::{ShamirError, Share};

/// The shares that survivors gave, and what is needed to make masks of them. Plain data, so that it can be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmasking {
    /// What mask streams are made with.
    pub suite: Suite,
    /// SHA-256 of the descriptor.
    pub salt: [u8; 32],
    /// Shares that give a secret.
    pub threshold: u32,
    /// One for each secret that is needed, ascending by member.
    pub targets: Vec<Target>,
}

/// One secret to be reconstructed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whose.
    pub member: MemberId,
    /// As in its advert.
    pub mask_key: [u8; 32],
    /// Which of its two.
    pub secret: TargetSecret,
    /// Shares: holder, its x, the share.
    pub shares: Vec<(MemberId, u32, Share)>,
}

/// Which of a member's secrets, never both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetSecret {
    /// s', of a survivor.
    SelfMask {
        /// As in its advert.
        commitment: [u8; 32],
    },
    /// s, of one who dropped out.
    Pairwise {
        /// Its neighbours among the survivors, with their mask keys.
        survivors: Vec<(MemberId, [u8; 32])>,
    },
}

/// What leaves the sum, and who lied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solved {
    /// To be laid over the sum's residues, each with its sign, to remove all masks.
    pub masks: Vec<SignedMask>,
    /// Holders that gave wrong shares which could be corrected, ascending.
    pub liars: Vec<MemberId>,
}

/// A secret that can't be reconstructed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a secret of {} can't be reconstructed: {reason}", hex::encode(.member))]
pub struct UnmaskError {
    /// Whose it is.
    pub member: MemberId,
    /// Why.
    pub reason: ShamirError,
}

impl Unmasking {
    /// The masks to be removed.
    pub fn solve(&self) -> Result<Solved, UnmaskError> {
        todo!()
    }
}
