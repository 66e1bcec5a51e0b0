//! What the server shows when nonces are revealed, and what an agent checks in it.

use std::collections::{BTreeMap, BTreeSet};

use super::Keys;
use super::round::{Neighbour, Round};
use crate::hash::{Sha256, sha256};
use crate::secagg::mask::{Suite, pair_key, self_key};
use crate::secagg::params::GraphParams;
use crate::secagg::share::SealKeys;
use crate::secagg::{Advert, Cheat, MemberId, Roster};
use crate::sign::PublicKey;

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
    /// The descriptor's bytes, as received; their SHA-256 is the cohort's salt.
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

impl Opening<'_> {
    pub(super) fn salt(&self) -> [u8; 32] {
        sha256(self.descriptor)
    }

    /// Of everything in it, to know it again.
    pub(super) fn digest(&self) -> [u8; 32] {
        let Terms {
            suite,
            degree,
            threshold,
            floor,
        } = self.terms;
        let mut hash = Sha256::new();
        hash.update(&self.salt());
        hash.update(&self.roster_digest);
        hash.update(&self.graph_seed);
        hash.update(&[suite.number()]);
        for number in [degree, threshold, floor] {
            hash.update(&number.to_le_bytes());
        }
        hash.update(&(self.nonces.len() as u64).to_le_bytes());
        hash.update(&self.nonces.concat());
        for (advert, key, signature) in &self.neighbours {
            hash.update(&advert.signed_bytes());
            hash.update(key.as_bytes());
            hash.update(signature);
        }
        hash.finish()
    }
}

/// Checks all of it against the roster that the agent revealed its nonce for.
pub(super) fn check(opening: &Opening<'_>, own: &Advert, keys: Keys, roster: Roster, floor: u32) -> Result<Round, Cheat> {
    if opening.roster_digest != roster.digest() {
        return Err(Cheat::OtherRoster);
    }
    if opening.graph_seed != roster.graph_seed(&opening.nonces)? {
        return Err(Cheat::WrongSeed);
    }
    if opening.terms.floor < floor {
        return Err(Cheat::LowFloor {
            floor: opening.terms.floor,
            own: floor,
        });
    }
    let Terms { degree, threshold, .. } = opening.terms;
    let graph = roster
        .graph(opening.graph_seed, GraphParams { degree, threshold })
        .ok_or(Cheat::BadTerms {
            degree,
            threshold,
            members: roster.len(),
        })?;
    let me = roster.index_of(&own.member).ok_or(Cheat::NotInRoster)?;
    check_neighbours(opening, own, &roster, roster.at(&graph.neighbours(me)))?;

    let salt = opening.salt();
    let mask = keys.mask.private_key();
    let neighbours = opening.neighbours.iter().map(|(advert, identity, _)| {
        let peer = advert.member;
        let pair = pair_key(&mask, &advert.mask_key, &salt).ok_or(Cheat::WeakKey { peer })?;
        let seal = SealKeys::agree(&keys.seal, own.member, peer, &advert.seal_key, salt).ok_or(Cheat::WeakKey { peer })?;
        Ok((peer, Neighbour::new(*identity, pair, seal)))
    });
    let neighbours = neighbours.collect::<Result<BTreeMap<_, _>, Cheat>>()?;
    let own_mask = self_key(&keys.own.seed(), &own.mask_key, &salt);
    Ok(Round::new(
        opening,
        graph.is_complete(),
        own.member,
        keys,
        roster,
        own_mask,
        neighbours,
    ))
}

/// Neighbours are exactly those of the graph, each in its own name, for this draw, with a mask key of its own.
fn check_neighbours(opening: &Opening<'_>, own: &Advert, roster: &Roster, expected: Vec<MemberId>) -> Result<(), Cheat> {
    let mut expected = BTreeSet::from_iter(expected);
    let mut mask_keys = BTreeSet::from([own.mask_key]);
    for (advert, identity, signature) in &opening.neighbours {
        let peer = advert.member;
        if !expected.remove(&peer) {
            return Err(Cheat::NotNeighbour { peer });
        }
        let of_this_draw = (advert.cohort, advert.draw) == (own.cohort, own.draw);
        if !of_this_draw || roster.commitment(&peer) != Some(advert.draw_commitment) {
            return Err(Cheat::ReplayedAdvert { peer });
        }
        if !advert.is_signed_by(identity, signature) {
            return Err(Cheat::ForgedAdvert { peer });
        }
        // Two pairwise masks with one key and opposite signs would cancel each other.
        if !mask_keys.insert(advert.mask_key) {
            return Err(Cheat::CopiedKey { peer });
        }
    }
    match expected.first() {
        Some(peer) => Err(Cheat::MissingNeighbour { peer: *peer }),
        None => Ok(()),
    }
}
