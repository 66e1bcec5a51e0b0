//! The server's side of one draw of a cohort. It holds no secret of its own, and what an agent does wrong changes nothing.
//!
//! ```text
//! advert* -> close_adverts -> reveal* -> close_reveals -> describe -> shares* -> close_shares [durable] -> seal [durable]
//!              the roster                 the graph                                U2: record               U3: bitmap
//!                                                                           -> consent*, unmask* -> unmasking -> solve
//! ```
//!
//! # Source
//! Bonawitz et al. 2017, figure 4; Bell et al. 2020, section 4.

mod dealt;
mod draw;
mod record;
mod survivors;

use std::collections::{BTreeMap, BTreeSet};

pub use self::dealt::{UnverifiedShares, VerifiedShares};
pub use self::record::{MemberRecord, ServerRecord};
use super::graph::Graph;
use super::mask::Suite;
use super::params::GraphParams;
use super::roster::MIN_MEMBERS;
use super::shamir::Share;
use super::{Advert, Bitmap, Fault, MemberId, Roster, SealedShare, StepError};
use crate::sign::PublicKey;

/// A cohort in one draw, as its server sees it. A [`Fault`] changes nothing; the caller drops who made it ([`Self::leave`]).
///
/// What a member sends twice the same is taken as one, at any time, so that a broken connection harms nobody.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    cohort: [u8; 16],
    draw: u8,
    invited: BTreeSet<MemberId>,
    left: BTreeSet<MemberId>,
    /// Who has sent an advert.
    parties: BTreeMap<MemberId, Party>,
    adverts: BTreeMap<MemberId, (Advert, [u8; 64])>,
    roster: Option<Roster>,
    nonces: BTreeMap<MemberId, [u8; 32]>,
    drawn: Option<Drawn>,
    described: Option<([u8; 32], Suite)>,
    /// Each dealer's shares, ascending by holder.
    dealt: BTreeMap<MemberId, Vec<SealedShare>>,
    closed: Option<Closed>,
    survivors: Option<Bitmap>,
    consents: BTreeMap<MemberId, [u8; 64]>,
    /// What each survivor gave, ascending by whose secret it is a share of.
    unmasks: BTreeMap<MemberId, Vec<(MemberId, Share)>>,
    /// How many shares there are of whose secret.
    counts: BTreeMap<MemberId, u32>,
}

/// What is needed of a member to the end.
#[derive(Debug, Clone, PartialEq)]
struct Party {
    identity: PublicKey,
    mask_key: [u8; 32],
    self_commitment: [u8; 32],
}

#[derive(Debug, Clone, PartialEq)]
struct Drawn {
    seed: [u8; 32],
    params: GraphParams,
    graph: Graph,
}

/// U2: those whose shares are in.
#[derive(Debug, Clone, PartialEq)]
struct Closed {
    members: BTreeSet<MemberId>,
    floor: u32,
}

impl Server {
    /// A draw of a cohort among `members`.
    pub fn new(cohort: [u8; 16], draw: u8, members: impl IntoIterator<Item = MemberId>) -> Self {
        Self {
            cohort,
            draw,
            invited: members.into_iter().collect(),
            left: BTreeSet::new(),
            parties: BTreeMap::new(),
            adverts: BTreeMap::new(),
            roster: None,
            nonces: BTreeMap::new(),
            drawn: None,
            described: None,
            dealt: BTreeMap::new(),
            closed: None,
            survivors: None,
            consents: BTreeMap::new(),
            unmasks: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    /// A member goes, or is made to. What can still be done without it forgets it: before [`Self::close_adverts`] its advert, before
    /// [`Self::close_reveals`] its nonce, before [`Self::close_shares`] its shares. Afterwards it is one who dropped out, or one whose
    /// unmask shares are there. It is not heard any more.
    pub fn leave(&mut self, member: &MemberId) {
        self.left.insert(*member);
        if self.roster.is_none() {
            self.parties.remove(member);
            self.adverts.remove(member);
        }
        if self.drawn.is_none() {
            self.nonces.remove(member);
        }
        if self.closed.is_none() {
            self.dealt.remove(member);
        }
    }

    /// The roster, when adverts are closed.
    pub fn roster(&self) -> Option<&Roster> {
        self.roster.as_ref()
    }

    /// Who of the roster has dealt no shares, and has not left.
    pub fn missing_shares(&self) -> Vec<MemberId> {
        self.of_roster(|member| !self.dealt.contains_key(member))
    }

    /// Ends the shares and gives those who are in, U2: who has fewer than `threshold` holders among them is out, until that holds for
    /// all of them. Again: the same set.
    ///
    /// # Errors
    /// [`StepError::TooFew`] when fewer than `floor` (at least 3) are left; [`StepError::OutOfTurn`] before [`Self::describe`].
    pub fn close_shares(&mut self, floor: u32) -> Result<BTreeSet<MemberId>, StepError> {
        if let Some(closed) = &self.closed {
            return Ok(closed.members.clone());
        }
        let (Some(drawn), Some(_)) = (&self.drawn, &self.described) else {
            return Err(StepError::OutOfTurn {
                step: "closing the shares",
            });
        };
        let mut members: BTreeSet<MemberId> = self.dealt.keys().copied().collect();
        loop {
            let enough = |member: &&MemberId| self.count_holders(member, |holder| members.contains(holder)) >= drawn.params.threshold;
            let kept: BTreeSet<MemberId> = members.iter().filter(enough).copied().collect();
            if kept.len() == members.len() {
                break;
            }
            members = kept;
        }
        let floor = floor.max(MIN_MEMBERS);
        if members.len() < floor as usize {
            return Err(StepError::TooFew {
                have: members.len(),
                need: floor as usize,
            });
        }
        self.closed = Some(Closed {
            members: members.clone(),
            floor,
        });
        Ok(members)
    }

    /// The sealed shares for a member of U2, by ascending dealer; none before [`Self::close_shares`].
    pub fn shares_for(&self, member: &MemberId) -> Vec<SealedShare> {
        let Some(closed) = self.closed.as_ref().filter(|closed| closed.members.contains(member)) else {
            return Vec::new();
        };
        let dealers = self.neighbours(member).into_iter().filter(|dealer| closed.members.contains(dealer));
        let share_of = |dealer| {
            let dealt: &Vec<SealedShare> = self.dealt.get(&dealer)?;
            let found = dealt.binary_search_by_key(member, |share| share.to).ok()?;
            dealt.get(found).cloned()
        };
        dealers.filter_map(share_of).collect()
    }

    fn party(&self, member: &MemberId) -> Result<&Party, Fault> {
        if self.left.contains(member) {
            return Err(Fault::NotMember);
        }
        self.parties.get(member).ok_or(Fault::NotMember)
    }

    /// Members of the roster that have not left and of whom this holds.
    fn of_roster(&self, holds: impl Fn(&MemberId) -> bool) -> Vec<MemberId> {
        let members = self.roster.iter().flat_map(Roster::members).map(|(member, _)| *member);
        members.filter(|member| !self.left.contains(member) && holds(member)).collect()
    }

    /// A member's neighbours, ascending; none before the graph is drawn.
    fn neighbours(&self, member: &MemberId) -> Vec<MemberId> {
        self.around(member, Graph::neighbours)
    }

    /// Who holds shares of a member's secrets, ascending: its neighbours, in the complete graph itself too.
    fn holders(&self, member: &MemberId) -> Vec<MemberId> {
        self.around(member, Graph::holders)
    }

    fn around(&self, member: &MemberId, of: impl Fn(&Graph, u32) -> Vec<u32>) -> Vec<MemberId> {
        let (Some(roster), Some(drawn)) = (&self.roster, &self.drawn) else {
            return Vec::new();
        };
        let indices = roster.index_of(member).map(|index| of(&drawn.graph, index));
        roster.at(&indices.unwrap_or_default())
    }

    fn count_holders(&self, member: &MemberId, is_so: impl Fn(&MemberId) -> bool) -> u32 {
        let count = self.holders(member).iter().filter(|holder| is_so(holder)).count();
        u32::try_from(count).expect("at most 1024 members")
    }
}
