//! An agent between the opening and the unmasking: it knows its neighbours, and what it may still reveal about them.

use std::collections::{BTreeMap, BTreeSet};

use rand_core::CryptoRng;

use super::{Keys, Opening};
use crate::secagg::mask::{MaskKey, MaskSecret, SelfSecret, Sign, SignedMask};
use crate::secagg::shamir::{Share, split};
use crate::secagg::share::{SealKeys, SharePair, survivors_bytes};
use crate::secagg::{Bitmap, Cheat, MemberId, Roster, SealedShare};
use crate::sign::{Context, PublicKey, SigningKey};

/// What came of the neighbours' shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Who dealt a share that can't be opened, ascending. There is a mask with them all the same, but this agent can't help to undo it.
    pub unreadable: Vec<MemberId>,
}

/// A cohort that is open.
pub(super) struct Round {
    own: MemberId,
    nonce: [u8; 32],
    roster: Roster,
    salt: [u8; 32],
    opening: [u8; 32],
    threshold: u32,
    floor: u32,
    /// Whether the agent holds shares of its own secrets: in the complete graph.
    is_own_holder: bool,
    own_mask: MaskKey,
    neighbours: BTreeMap<MemberId, Neighbour>,
    /// Until they are dealt.
    secrets: Option<(MaskSecret, SelfSecret)>,
    dealt: Option<Dealt>,
    received: Option<(Vec<SealedShare>, Received)>,
    consented: Option<Bitmap>,
}

struct Dealt {
    sealed: Vec<SealedShare>,
    /// The agent's share of its own self secret. (Its mask secret nobody may ask it for: it asks as a survivor.)
    own: Option<Share>,
}

/// A neighbour in the graph.
pub(super) struct Neighbour {
    identity: PublicKey,
    pair: MaskKey,
    seal: SealKeys,
    held: Held,
}

/// What the agent holds of a neighbour's secrets.
enum Held {
    /// It sent no share, and there is no mask with it.
    Nothing,
    /// Its share can't be opened; there is a mask with it.
    Unreadable,
    /// Shares of both secrets, until the survivors are known.
    Both(SharePair),
    /// The one that may be revealed; the other is gone.
    One(Share),
}

impl Neighbour {
    pub(super) fn new(identity: PublicKey, pair: MaskKey, seal: SealKeys) -> Self {
        Self {
            identity,
            pair,
            seal,
            held: Held::Nothing,
        }
    }

    fn has_dealt(&self) -> bool {
        !matches!(self.held, Held::Nothing)
    }
}

impl Round {
    pub(super) fn new(
        opening: &Opening<'_>,
        is_own_holder: bool,
        own: MemberId,
        keys: Keys,
        roster: Roster,
        own_mask: MaskKey,
        neighbours: BTreeMap<MemberId, Neighbour>,
    ) -> Self {
        Self {
            own,
            nonce: keys.nonce,
            roster,
            salt: opening.salt(),
            opening: opening.digest(),
            threshold: opening.terms.threshold,
            floor: opening.terms.floor,
            is_own_holder,
            own_mask,
            neighbours,
            secrets: Some((keys.mask, keys.own)),
            dealt: None,
            received: None,
            consented: None,
        }
    }

    pub(super) fn is_among(&self, roster: &Roster) -> bool {
        self.roster == *roster
    }

    pub(super) fn nonce(&self) -> [u8; 32] {
        self.nonce
    }

    pub(super) fn survivors(&self) -> Option<&Bitmap> {
        self.consented.as_ref()
    }

    pub(super) fn check_same(&self, opening: &Opening<'_>) -> Result<(), Cheat> {
        if opening.salt() != self.salt {
            Err(Cheat::TwoDescriptors)
        } else if opening.digest() != self.opening {
            Err(Cheat::TwoOpenings)
        } else {
            Ok(())
        }
    }

    pub(super) fn deal(&mut self, identity: &SigningKey, rng: &mut impl CryptoRng) -> Vec<SealedShare> {
        if let Some((mask, own)) = self.secrets.take() {
            self.dealt = Some(self.split(&mask, &own, identity, rng));
        }
        self.dealt.as_ref().map(|dealt| dealt.sealed.clone()).unwrap_or_default()
    }

    fn split(&self, mask: &MaskSecret, own: &SelfSecret, identity: &SigningKey, rng: &mut impl CryptoRng) -> Dealt {
        let mut holders: BTreeSet<&MemberId> = self.neighbours.keys().collect();
        if self.is_own_holder {
            holders.insert(&self.own);
        }
        let places: Vec<u32> = holders
            .iter()
            .filter_map(|id| self.roster.index_of(id))
            .map(|index| index + 1)
            .collect();
        // The places are ascending, and at least as many as the threshold: the opening was checked for it.
        let mut deal = |secret| split(secret, self.threshold, &places, rng).expect("holders have places, and suffice");
        let pairs = deal(mask.secret()).into_iter().zip(deal(own.secret()));
        let mut dealt = Dealt {
            sealed: Vec::new(),
            own: None,
        };
        for (holder, (mask, own)) in holders.into_iter().zip(pairs) {
            match self.neighbours.get(holder) {
                Some(neighbour) => dealt.sealed.push(neighbour.seal.seal(&SharePair { mask, own }, identity)),
                None => dealt.own = Some(own),
            }
        }
        dealt
    }

    pub(super) fn receive(&mut self, shares: Vec<SealedShare>) -> Result<Received, Cheat> {
        if let Some((before, received)) = &self.received {
            return if *before == shares {
                Ok(received.clone())
            } else {
                Err(Cheat::TwoShareSets)
            };
        }
        if self.dealt.is_none() {
            return Err(Cheat::OutOfTurn {
                step: "the neighbours' shares",
            });
        }
        let mut received = Received { unreadable: Vec::new() };
        for share in &shares {
            let peer = share.from;
            if share.to != self.own {
                return Err(Cheat::SwappedShare { peer });
            }
            let neighbour = self.neighbours.get_mut(&peer).ok_or(Cheat::NotNeighbour { peer })?;
            if neighbour.has_dealt() {
                return Err(Cheat::DoubleShare { peer });
            }
            if !share.is_signed_by(&neighbour.identity, &self.salt) {
                return Err(Cheat::ForgedShare { peer });
            }
            neighbour.held = neighbour.seal.open(&share.sealed).map_or(Held::Unreadable, Held::Both);
            if matches!(neighbour.held, Held::Unreadable) {
                received.unreadable.push(peer);
            }
        }
        received.unreadable.sort_unstable();
        let have = self.count_holders(|_, neighbour| neighbour.has_dealt());
        if have < self.threshold {
            return Err(Cheat::FewHolders {
                have,
                threshold: self.threshold,
            });
        }
        self.received = Some((shares, received.clone()));
        Ok(received)
    }

    pub(super) fn masks(&self) -> Result<Vec<SignedMask>, Cheat> {
        if self.received.is_none() {
            return Err(Cheat::OutOfTurn { step: "masking" });
        }
        let own = SignedMask {
            sign: Sign::Plus,
            key: self.own_mask.clone(),
        };
        let pairs = self.neighbours.iter().filter(|(_, neighbour)| neighbour.has_dealt());
        let pairs = pairs.map(|(peer, neighbour)| SignedMask {
            sign: Sign::of_pair(&self.own, peer),
            key: neighbour.pair.clone(),
        });
        Ok(std::iter::once(own).chain(pairs).collect())
    }

    pub(super) fn consent(&mut self, bitmap: &[u8], identity: &SigningKey) -> Result<[u8; 64], Cheat> {
        match &self.consented {
            Some(before) if before.as_bytes() != bitmap => return Err(Cheat::TwoSurvivorSets),
            Some(_) => {}
            None => {
                let survivors = self.check_survivors(bitmap)?;
                // What must not be revealed for these survivors is gone from here on, whatever happens next.
                for (peer, neighbour) in &mut self.neighbours {
                    let survives = survives(&self.roster, &survivors, peer);
                    neighbour.held = match std::mem::replace(&mut neighbour.held, Held::Unreadable) {
                        Held::Both(shares) if survives => Held::One(shares.own),
                        Held::Both(shares) => Held::One(shares.mask),
                        held => held,
                    };
                }
                self.consented = Some(survivors);
            }
        }
        Ok(identity.sign(Context::Survivors, &survivors_bytes(&self.salt, bitmap)))
    }

    fn check_survivors(&self, bitmap: &[u8]) -> Result<Bitmap, Cheat> {
        if self.received.is_none() {
            return Err(Cheat::OutOfTurn {
                step: "consent to the survivors",
            });
        }
        let survivors = Bitmap::from_bytes(self.roster.len(), bitmap).ok_or(Cheat::BadSurvivors {
            members: self.roster.len(),
        })?;
        if !survives(&self.roster, &survivors, &self.own) {
            return Err(Cheat::NotSurvivor);
        }
        if survivors.count() < self.floor {
            return Err(Cheat::FewSurvivors {
                have: survivors.count(),
                floor: self.floor,
            });
        }
        let unknown = |(peer, neighbour): &(&MemberId, &Neighbour)| !neighbour.has_dealt() && survives(&self.roster, &survivors, peer);
        if let Some((peer, _)) = self.neighbours.iter().find(unknown) {
            return Err(Cheat::UnknownSurvivor { peer: *peer });
        }
        let have = self.count_holders(|peer, _| survives(&self.roster, &survivors, peer));
        if have < self.threshold {
            return Err(Cheat::FewSurvivingHolders {
                have,
                threshold: self.threshold,
            });
        }
        Ok(survivors)
    }

    pub(super) fn unmask(&mut self, consents: &[(MemberId, [u8; 64])]) -> Result<Vec<(MemberId, Share)>, Cheat> {
        let survivors = self.consented.as_ref().ok_or(Cheat::OutOfTurn { step: "unmasking" })?;
        let signed = survivors_bytes(&self.salt, survivors.as_bytes());
        let mut signers = BTreeSet::new();
        for (peer, signature) in consents {
            let forged = Cheat::ForgedConsent { peer: *peer };
            let neighbour = self.neighbours.get(peer).ok_or(forged.clone())?;
            let is_valid = neighbour.identity.verify(Context::Survivors, &signed, signature).is_ok();
            if !is_valid || !survives(&self.roster, survivors, peer) || !signers.insert(peer) {
                return Err(forged);
            }
        }
        let have = self.count_holders(|peer, _| signers.contains(peer));
        if have < self.threshold {
            return Err(Cheat::FewConsents {
                have,
                threshold: self.threshold,
            });
        }
        let held = self.neighbours.iter().filter_map(|(peer, neighbour)| match &neighbour.held {
            Held::One(share) => Some((*peer, share.clone())),
            Held::Nothing | Held::Unreadable | Held::Both(_) => None,
        });
        let own = self.dealt.as_ref().and_then(|dealt| dealt.own.clone());
        let mut shares: Vec<_> = held.chain(own.map(|share| (self.own, share))).collect();
        shares.sort_unstable_by_key(|(peer, _)| *peer);
        Ok(shares)
    }

    /// How many of the holders of this agent's secrets are so; the agent itself is, where it is one.
    fn count_holders(&self, is_so: impl Fn(&MemberId, &Neighbour) -> bool) -> u32 {
        let count = self.neighbours.iter().filter(|(peer, neighbour)| is_so(peer, neighbour)).count();
        u32::try_from(count).expect("at most 1024 members") + u32::from(self.is_own_holder)
    }
}

fn survives(roster: &Roster, survivors: &Bitmap, member: &MemberId) -> bool {
    roster.index_of(member).is_some_and(|index| survivors.contains(index))
}
