//! From unmask shares to the masks that have to leave the sum.

use std::collections::BTreeSet;

use super::MemberId;
use super::mask::{MaskSecret, SelfSecret, Sign, SignedMask, Suite, pair_key, self_key};
use super::shamir::{Secret, ShamirError, Share, reconstruct_robust};

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
    ///
    /// # Errors
    /// [`UnmaskError`] for the first secret with too few shares, or too many wrong ones.
    pub fn solve(&self) -> Result<Solved, UnmaskError> {
        let mut masks = Vec::new();
        let mut liars = BTreeSet::new();
        for target in &self.targets {
            let solved = self.solve_one(target)?;
            masks.extend(solved.masks);
            liars.extend(solved.liars);
        }
        Ok(Solved {
            masks,
            liars: liars.into_iter().collect(),
        })
    }

    /// The masks of one secret, for who spreads the work over cores.
    ///
    /// # Errors
    /// [`UnmaskError`].
    pub fn solve_one(&self, target: &Target) -> Result<Solved, UnmaskError> {
        let failed = |reason| UnmaskError {
            member: target.member,
            reason,
        };
        let shares: Vec<(u32, Share)> = target.shares.iter().map(|(_, x, share)| (*x, share.clone())).collect();
        let reconstruct = |is_right: &dyn Fn(&Secret) -> bool| reconstruct_robust(&shares, self.threshold, is_right).map_err(failed);
        let (masks, wrong) = match &target.secret {
            TargetSecret::SelfMask { commitment } => {
                let (secret, wrong) = reconstruct(&|secret| SelfSecret::new(secret.clone()).commitment() == *commitment)?;
                let key = self_key(&SelfSecret::new(secret).seed(), &target.mask_key, &self.salt);
                let sign = Sign::Plus.flipped();
                (vec![SignedMask { sign, key }], wrong)
            }
            TargetSecret::Pairwise { survivors } => {
                let (secret, wrong) = reconstruct(&|secret| MaskSecret::new(secret.clone()).private_key().public_key() == target.mask_key)?;
                let private = MaskSecret::new(secret).private_key();
                // Each survivor laid its half of the pair; nobody laid the other one.
                let mask_with = |(peer, mask_key): &(MemberId, [u8; 32])| {
                    let sign = Sign::of_pair(peer, &target.member).flipped();
                    Some(SignedMask {
                        sign,
                        key: pair_key(&private, mask_key, &self.salt)?,
                    })
                };
                // A weak key has no mask: neither server nor agents go on with one.
                (survivors.iter().filter_map(mask_with).collect(), wrong)
            }
        };
        let holders = target.shares.iter().filter(|(_, x, _)| wrong.contains(x));
        Ok(Solved {
            masks,
            liars: holders.map(|(holder, ..)| *holder).collect(),
        })
    }
}
