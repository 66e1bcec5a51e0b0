//! Sealed shares from their dealers. A dealer signs one for each neighbour: hundreds of signatures in a large cohort, which are verified away from the
//! server's state.

use std::collections::BTreeSet;

use super::Server;
use crate::secagg::{Fault, MemberId, SealedShare};
use crate::sign::PublicKey;

/// One dealer's shares as they came, one for each of its neighbours, with what their signatures are verified against.
#[derive(Debug, Clone, PartialEq)]
pub struct UnverifiedShares {
    member: MemberId,
    identity: PublicKey,
    salt: [u8; 32],
    /// Ascending by holder.
    shares: Vec<SealedShare>,
}

/// One dealer's shares, each of which it has signed. [`UnverifiedShares::verify`] alone makes them.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedShares(UnverifiedShares);

impl UnverifiedShares {
    /// Verifies the signatures, one for each neighbour.
    ///
    /// # Errors
    /// [`Fault::ForgedShare`].
    pub fn verify(self) -> Result<VerifiedShares, Fault> {
        match self.shares.iter().find(|share| !share.is_signed_by(&self.identity, &self.salt)) {
            Some(forged) => Err(Fault::ForgedShare { peer: forged.to }),
            None => Ok(VerifiedShares(self)),
        }
    }
}

impl Server {
    /// Checks all of a member's sealed shares but their signatures: one for each neighbour, and the same as before if there were some.
    ///
    /// # Errors
    /// [`Fault::StrayShare`], [`Fault::MissingShare`]; [`Fault::Changed`]; [`Fault::OutOfTurn`], [`Fault::NotMember`].
    pub fn check_shares(&self, member: MemberId, mut shares: Vec<SealedShare>) -> Result<UnverifiedShares, Fault> {
        shares.sort_by_key(|share| share.to);
        let step = "its shares";
        let party = self.party(&member)?;
        let Some((salt, _)) = self.described else {
            return Err(Fault::OutOfTurn { step });
        };
        match self.dealt.get(&member) {
            Some(before) if *before == shares => {}
            Some(_) => return Err(Fault::Changed { step }),
            None if self.closed.is_some() => return Err(Fault::OutOfTurn { step }),
            None => self.are_for_neighbours(member, &shares)?,
        }
        Ok(UnverifiedShares {
            member,
            identity: party.identity,
            salt,
            shares,
        })
    }

    fn are_for_neighbours(&self, member: MemberId, shares: &[SealedShare]) -> Result<(), Fault> {
        let mut neighbours = BTreeSet::from_iter(self.neighbours(&member));
        for share in shares {
            let peer = share.to;
            if share.from != member || !neighbours.remove(&peer) {
                return Err(Fault::StrayShare { peer });
            }
        }
        match neighbours.first() {
            Some(peer) => Err(Fault::MissingShare { peer: *peer }),
            None => Ok(()),
        }
    }

    /// Takes a member's sealed shares. What [`Self::check_shares`] checks is checked again: steps may have been taken since.
    ///
    /// # Errors
    /// As [`Self::check_shares`]; [`Fault::ForgedShare`] when they were verified for another cohort or another key.
    pub fn shares(&mut self, verified: VerifiedShares) -> Result<(), Fault> {
        let VerifiedShares(given) = verified;
        let expected = self.check_shares(given.member, given.shares)?;
        if (expected.identity, expected.salt) != (given.identity, given.salt) {
            let peer = expected.shares.first().map_or(expected.member, |share| share.to);
            return Err(Fault::ForgedShare { peer });
        }
        self.dealt.insert(expected.member, expected.shares);
        Ok(())
    }
}
