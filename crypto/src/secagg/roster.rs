//! Who is in a cohort, and the seed of its graph.

use super::MemberId;
use super::advert::draw_commitment;
use super::graph::Graph;
use super::params::{self, GraphParams};
use crate::hash::{Sha256, sha256};

/// Fewest members of a cohort.
pub const MIN_MEMBERS: u32 = 3;
/// Most members of a cohort.
pub const MAX_MEMBERS: u32 = 1024;

/// The members of one draw of a cohort, ascending, each with its commitment to a nonce. A member's place is its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    cohort: [u8; 16],
    draw: u8,
    members: Vec<(MemberId, [u8; 32])>,
}

/// Why a roster is none, or nonces do not fit one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RosterError {
    /// Too few or too many.
    #[error("a cohort has {MIN_MEMBERS} to {MAX_MEMBERS} members, not {members}")]
    Size {
        /// How many.
        members: usize,
    },
    /// A member twice, or out of order.
    #[error("members must be in ascending order and there once, but {} is not", hex::encode(.member))]
    Order {
        /// Who.
        member: MemberId,
    },
    /// Not one nonce a member.
    #[error("{have} nonces for {members} members")]
    NonceCount {
        /// Nonces there are.
        have: usize,
        /// Members there are.
        members: u32,
    },
    /// A nonce that is not the committed one.
    #[error("the nonce of {} is not the one it committed to", hex::encode(.member))]
    WrongNonce {
        /// Whose.
        member: MemberId,
    },
}

impl Roster {
    /// A roster of `members`, each with its draw commitment.
    ///
    /// # Errors
    /// [`RosterError::Size`], [`RosterError::Order`] unless ids are strictly ascending.
    pub fn new(cohort: [u8; 16], draw: u8, members: Vec<(MemberId, [u8; 32])>) -> Result<Self, RosterError> {
        if !(MIN_MEMBERS as usize..=MAX_MEMBERS as usize).contains(&members.len()) {
            return Err(RosterError::Size { members: members.len() });
        }
        match members.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            Some(pair) => Err(RosterError::Order { member: pair[1].0 }),
            None => Ok(Self { cohort, draw, members }),
        }
    }

    /// The cohort.
    pub fn cohort(&self) -> [u8; 16] {
        self.cohort
    }

    /// Which of its draws.
    pub fn draw(&self) -> u8 {
        self.draw
    }

    /// The members with their commitments, ascending.
    pub fn members(&self) -> &[(MemberId, [u8; 32])] {
        &self.members
    }

    /// How many members.
    #[expect(clippy::len_without_is_empty, reason = "a roster has at least three members")]
    pub fn len(&self) -> u32 {
        u32::try_from(self.members.len()).expect("at most 1024 members")
    }

    /// A member's index.
    pub fn index_of(&self, member: &MemberId) -> Option<u32> {
        let found = self.members.binary_search_by_key(member, |(id, _)| *id).ok()?;
        u32::try_from(found).ok()
    }

    /// The member at an index.
    pub fn member(&self, index: u32) -> Option<MemberId> {
        self.members.get(index as usize).map(|(id, _)| *id)
    }

    /// A member's draw commitment.
    pub fn commitment(&self, member: &MemberId) -> Option<[u8; 32]> {
        Some(self.members[self.index_of(member)? as usize].1)
    }

    /// SHA-256("aimass roster v1" || cohort || draw || number of members (u32 LE) || (id || draw commitment) of each).
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"aimass roster v1");
        hash.update(&self.cohort);
        hash.update(&[self.draw]);
        hash.update(&self.len().to_le_bytes());
        for (id, commitment) in &self.members {
            hash.update(id);
            hash.update(commitment);
        }
        hash.finish()
    }

    /// SHA-256("aimass graph v1" || digest || nonces): nobody knew it before every nonce was committed to.
    ///
    /// # Errors
    /// [`RosterError::NonceCount`], [`RosterError::WrongNonce`].
    pub fn graph_seed(&self, nonces: &[[u8; 32]]) -> Result<[u8; 32], RosterError> {
        if nonces.len() != self.members.len() {
            return Err(RosterError::NonceCount {
                have: nonces.len(),
                members: self.len(),
            });
        }
        for ((member, commitment), nonce) in self.members.iter().zip(nonces) {
            if draw_commitment(nonce) != *commitment {
                return Err(RosterError::WrongNonce { member: *member });
            }
        }
        Ok(sha256(&[&b"aimass graph v1"[..], &self.digest(), &nonces.concat()].concat()))
    }

    /// The graph of this seed over the members. `None` for a degree that no graph has, or a threshold that does not fit it: in the
    /// complete graph at least floor(2n/3) + 1 and at most n, else from 2 to the degree.
    pub fn graph(&self, seed: [u8; 32], params: GraphParams) -> Option<Graph> {
        let graph = Graph::new(seed, self.len(), params.degree).ok()?;
        let (least, most) = if graph.is_complete() {
            (params::complete(self.len()).threshold, self.len())
        } else {
            (2, params.degree)
        };
        (least..=most).contains(&params.threshold).then_some(graph)
    }

    /// The members at these indices.
    pub(super) fn at(&self, indices: &[u32]) -> Vec<MemberId> {
        indices.iter().filter_map(|index| self.member(*index)).collect()
    }
}
