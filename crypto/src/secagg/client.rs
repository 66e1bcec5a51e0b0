//! An agent's side of one draw of a cohort.

use rand_core::CryptoRng;

use super::mask::{SignedMask, Suite};
use super::shamir::Share;
use super::{Advert, Bitmap, Cheat, MemberId, Roster, SealedShare};
use crate::sign::{PublicKey, SigningKey};

/// How a cohort is run, as its descriptor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// What mask streams are made with.
    pub suite: Suite,
    /// Neighbours of each member.
    pub degree: u32,
    /// Shares that give a secret, and signatures under the survivors that an agent wants to see.
    pub threshold: u32,
    /// Fewest survivors.
    pub floor: u32,
}

/// What the server shows when the nonces are revealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening<'a> {
    /// The signed descriptor's bytes, as received; their SHA-256 is the cohort's salt.
    pub descriptor: &'a [u8],
    /// Of the roster, as the descriptor says.
    pub roster_digest: [u8; 32],
    /// Of the graph, as the descriptor says.
    pub graph_seed: [u8; 32],
    /// As the descriptor says.
    pub terms: Terms,
    /// Of the members, in the roster's order.
    pub nonces: Vec<[u8; 32]>,
    /// This agent's neighbours: advert, the key of the certificate that a trusted root issued for that agent, the advert's signature.
    pub neighbours: Vec<(Advert, PublicKey, [u8; 64])>,
}

/// What came of the neighbours' shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Who dealt a share that can't be opened. There is a mask with them all the same, but this agent can't help to unmask them.
    pub unreadable: Vec<MemberId>,
}

/// An agent in one draw of one cohort. A new draw is a new client: keys serve once.
///
/// Each step may be asked for again with the same answer, as after a broken connection. Everything else that is not the protocol is a
/// [`Cheat`]: the client drops its secrets and from then on only repeats it.
pub struct Client {}

impl Client {
    /// Fresh keys for a draw of a cohort.
    pub fn new(cohort: [u8; 16], draw: u8, member: MemberId, rng: &mut impl CryptoRng) -> Self {
        todo!()
    }

    /// Its public half, to be signed by the agent's identity ([`Advert::sign`]).
    pub fn advert(&self) -> Advert {
        todo!()
    }

    /// Checks the roster against what this agent sent, and gives the nonce to reveal.
    ///
    /// `floor` is the fewest members, and later survivors, that the agent consents to.
    pub fn see_roster(&mut self, roster: Roster, floor: u32) -> Result<[u8; 32], Cheat> {
        todo!()
    }

    /// Checks descriptor, nonces, graph and neighbours. Whether degree and threshold are enough for the agent's own assumptions is for
    /// the caller to check ([`super::params`]).
    pub fn open(&mut self, opening: &Opening<'_>) -> Result<(), Cheat> {
        todo!()
    }

    /// Shares of both secrets, one for each neighbour. `key` is the agent's identity.
    pub fn deal(&mut self, key: &SigningKey, rng: &mut impl CryptoRng) -> Result<Vec<SealedShare>, Cheat> {
        todo!()
    }

    /// Takes the neighbours' shares. From here on it is fixed with whom this agent shares masks.
    pub fn receive(&mut self, shares: Vec<SealedShare>) -> Result<Received, Cheat> {
        todo!()
    }

    /// The masks to lay over the agent's residues.
    pub fn masks(&mut self) -> Result<Vec<SignedMask>, Cheat> {
        todo!()
    }

    /// Checks the survivors (a [`Bitmap`]'s bytes) and signs them; never a second set.
    pub fn consent(&mut self, bitmap: &[u8], key: &SigningKey) -> Result<[u8; 64], Cheat> {
        todo!()
    }

    /// Checks neighbours' signatures under the same survivors, and gives this agent's shares: of a neighbour's self secret where it
    /// survived, of its mask secret where it did not.
    ///
    /// The caller marks the contribution as spent, durably, before the answer leaves the device.
    pub fn unmask(&mut self, consents: &[(MemberId, [u8; 64])]) -> Result<Vec<(MemberId, Share)>, Cheat> {
        todo!()
    }

    /// The survivors that were consented to.
    pub fn survivors(&self) -> Option<&Bitmap> {
        todo!()
    }
}
