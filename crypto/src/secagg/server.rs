//! The server's side of one draw of a cohort. It holds no secret of its own.

use std::collections::BTreeSet;

use super::mask::Suite;
use super::params::GraphParams;
use super::{Advert, Bitmap, Fault, MemberId, Roster, RosterError, SealedShare, Unmasking};
use crate::sign::PublicKey;

/// What a step that the server takes itself lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// Too few members are left for the cohort to go on.
    #[error("{have} members are left and at least {need} are needed")]
    TooFew {
        /// How many.
        have: usize,
        /// How many there must be.
        need: usize,
    },
    /// Somebody did not reveal its nonce: draw again without them.
    #[error("{} members did not reveal their nonces", .members.len())]
    Unrevealed {
        /// Who.
        members: Vec<MemberId>,
    },
    /// Degree and threshold that do not fit the roster.
    #[error("degree {degree} and threshold {threshold} do not fit {members} members")]
    BadParams {
        /// Neighbours of each.
        degree: u32,
        /// Shares that give a secret.
        threshold: u32,
        /// Members of the roster.
        members: u32,
    },
    /// Survivors that did not deal and receive shares, or too few of somebody's holders.
    #[error("the survivors do not suffice to unmask their sum")]
    NotUnmaskable,
    /// Another set of survivors is sealed.
    #[error("another set of survivors is sealed already")]
    OtherSurvivors,
    /// A step before its turn, or after it.
    #[error("{step} is not the cohort's next step")]
    OutOfTurn {
        /// Which.
        step: &'static str,
    },
    /// A record that is no cohort's.
    #[error("the record of the cohort is damaged: {reason}")]
    BadRecord {
        /// What is wrong.
        reason: &'static str,
    },
}

/// What a restarted server needs from the moment that shares are closed: public data alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRecord {
    /// The cohort.
    pub cohort: [u8; 16],
    /// Which of its draws.
    pub draw: u8,
    /// [`Suite`]'s number.
    pub suite: u8,
    /// SHA-256 of the descriptor.
    pub salt: [u8; 32],
    /// Of the graph.
    pub graph_seed: [u8; 32],
    /// Neighbours of each member.
    pub degree: u32,
    /// Shares that give a secret.
    pub threshold: u32,
    /// Fewest survivors.
    pub floor: u32,
    /// The roster, ascending.
    pub members: Vec<MemberRecord>,
    /// The sealed shares among those who dealt. They may be left out: then who has not had its own yet can't go on.
    pub shares: Vec<SealedShare>,
    /// The survivors, when they are sealed.
    pub survivors: Option<Vec<u8>>,
}

/// A member in a [`ServerRecord`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRecord {
    /// Its id.
    pub member: MemberId,
    /// Its identity key.
    pub identity: [u8; 32],
    /// As in its advert.
    pub mask_key: [u8; 32],
    /// As in its advert.
    pub self_commitment: [u8; 32],
    /// As in its advert.
    pub draw_commitment: [u8; 32],
    /// Whether it is among those whose shares were closed.
    pub dealt: bool,
}

/// A cohort in one draw, as its server sees it. A [`Fault`] changes nothing; the caller drops who made it ([`Self::leave`]).
///
/// What a member sends twice the same is taken as one.
pub struct Server {}

impl Server {
    /// A draw of a cohort among `members`.
    pub fn new(cohort: [u8; 16], draw: u8, members: impl IntoIterator<Item = MemberId>) -> Self {
        todo!()
    }

    /// Forgets a member as far as that is still possible: before the roster its advert, before the shares are closed its shares.
    pub fn leave(&mut self, member: &MemberId) {
        todo!()
    }

    /// A member's advert, with the key of its certificate.
    pub fn advert(&mut self, member: MemberId, advert: Advert, identity: PublicKey, signature: [u8; 64]) -> Result<(), Fault> {
        todo!()
    }

    /// Who has sent no advert.
    pub fn missing_adverts(&self) -> Vec<MemberId> {
        todo!()
    }

    /// Ends the adverts; who sent none is out. Again: the same roster.
    pub fn close_adverts(&mut self) -> Result<Roster, StepError> {
        todo!()
    }

    /// A member's nonce.
    pub fn reveal(&mut self, member: MemberId, nonce: [u8; 32]) -> Result<(), Fault> {
        todo!()
    }

    /// Who of the roster has not revealed its nonce.
    pub fn missing_reveals(&self) -> Vec<MemberId> {
        todo!()
    }

    /// Draws the graph and gives its seed. Again: the same one.
    pub fn close_reveals(&mut self, params: GraphParams) -> Result<[u8; 32], StepError> {
        todo!()
    }

    /// Nonces in the roster's order, when all are there.
    pub fn nonces(&self) -> Vec<[u8; 32]> {
        todo!()
    }

    /// Says what the descriptor's SHA-256 is, and with what masks are made. From here on shares are taken.
    pub fn describe(&mut self, salt: [u8; 32], suite: Suite) -> Result<(), StepError> {
        todo!()
    }

    /// Adverts and signatures of a member's neighbours, ascending.
    pub fn opening_for(&self, member: &MemberId) -> Vec<(Advert, [u8; 64])> {
        todo!()
    }

    /// A member's sealed shares, one for each neighbour.
    pub fn shares(&mut self, member: MemberId, shares: Vec<SealedShare>) -> Result<(), Fault> {
        todo!()
    }

    /// Who of the roster has dealt no shares.
    pub fn missing_shares(&self) -> Vec<MemberId> {
        todo!()
    }

    /// Ends the shares and gives those who are in, U2: who has fewer than `threshold` holders among them is out, until that holds for
    /// all of them.
    pub fn close_shares(&mut self, floor: u32) -> Result<BTreeSet<MemberId>, StepError> {
        todo!()
    }

    /// The sealed shares for a member of U2, by ascending dealer.
    pub fn shares_for(&self, member: &MemberId) -> Vec<SealedShare> {
        todo!()
    }

    /// What a restarted server needs, from [`Self::close_shares`] on.
    pub fn record(&self) -> Option<ServerRecord> {
        todo!()
    }

    /// A server that goes on where the record was made. Consents and unmask shares have to be sent again, or replayed.
    pub fn restore(record: ServerRecord) -> Result<Self, StepError> {
        todo!()
    }

    /// Whether these could be unmasked: each of U2 has `threshold` holders among them, and there are as many as the floor.
    pub fn can_unmask(&self, survivors: &BTreeSet<MemberId>) -> bool {
        todo!()
    }

    /// Fixes the survivors, once. Again: the same bitmap. The caller stores it before anybody is shown it.
    pub fn seal(&mut self, survivors: &BTreeSet<MemberId>) -> Result<Bitmap, StepError> {
        todo!()
    }

    /// The survivors, when they are sealed.
    pub fn bitmap(&self) -> Option<&Bitmap> {
        todo!()
    }

    /// A survivor's signature under the survivors.
    pub fn consent(&mut self, member: MemberId, signature: [u8; 64]) -> Result<(), Fault> {
        todo!()
    }

    /// Survivors who have not signed.
    pub fn missing_consents(&self) -> Vec<MemberId> {
        todo!()
    }

    /// What a survivor's neighbours signed, by ascending member.
    pub fn consents_for(&self, member: &MemberId) -> Vec<(MemberId, [u8; 64])> {
        todo!()
    }

    /// Whether at least `threshold` of a survivor's holders signed.
    pub fn has_consents(&self, member: &MemberId) -> bool {
        todo!()
    }

    /// A survivor's shares: one of each neighbour in U2 (and of its own in the complete graph); those it could not read are missing.
    pub fn unmask(&mut self, member: MemberId, shares: &[(MemberId, [u8; 32])]) -> Result<(), Fault> {
        todo!()
    }

    /// Survivors who have given no shares.
    pub fn missing_unmasks(&self) -> Vec<MemberId> {
        todo!()
    }

    /// Whether there are `threshold` shares of every secret that is needed. Wrong ones among them need more.
    pub fn is_unmaskable(&self) -> bool {
        todo!()
    }

    /// What the masks are computed from, when the survivors are sealed.
    pub fn unmasking(&self) -> Option<Unmasking> {
        todo!()
    }
}
