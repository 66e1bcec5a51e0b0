//! From the uploads that are there to the shares that unmask their sum.

use std::collections::{BTreeMap, BTreeSet};

use super::Server;
use crate::secagg::shamir::Share;
use crate::secagg::share::survivors_bytes;
use crate::secagg::{Bitmap, Fault, MemberId, Roster, StepError, Target, TargetSecret, Unmasking};
use crate::sign::Context;

impl Server {
    /// Whether these could be unmasked: they are in U2, as many as the floor, and each of U2 has `threshold` holders among them.
    pub fn can_unmask(&self, survivors: &BTreeSet<MemberId>) -> bool {
        let Some(closed) = &self.closed else { return false };
        survivors.len() >= closed.floor as usize && survivors.is_subset(&closed.members) && self.can_reveal(survivors)
    }

    /// Whether the shares of these alone would unmask a sum: each of U2 has `threshold` holders among them. They may be fewer than the survivors whose sum
    /// it is, and than the floor.
    pub fn can_reveal(&self, members: &BTreeSet<MemberId>) -> bool {
        let (Some(closed), Some(drawn)) = (&self.closed, &self.drawn) else {
            return false;
        };
        let enough = |member| self.count_holders(member, |holder| members.contains(holder)) >= drawn.params.threshold;
        closed.members.iter().all(enough)
    }

    /// Fixes the survivors, once. Again: the same bitmap. The caller stores it before anybody is shown it.
    ///
    /// # Errors
    /// [`StepError::NotUnmaskable`], [`StepError::OtherSurvivors`]; [`StepError::OutOfTurn`] before [`Self::close_shares`].
    pub fn seal(&mut self, survivors: &BTreeSet<MemberId>) -> Result<Bitmap, StepError> {
        let (Some(roster), Some(_)) = (&self.roster, &self.closed) else {
            return Err(StepError::OutOfTurn { step: "sealing" });
        };
        let bitmap = Bitmap::from_indices(roster.len(), survivors.iter().filter_map(|member| roster.index_of(member)));
        match &self.survivors {
            Some(before) if *before != bitmap => Err(StepError::OtherSurvivors),
            None if !self.can_unmask(survivors) => Err(StepError::NotUnmaskable),
            _ => {
                self.survivors = Some(bitmap.clone());
                Ok(bitmap)
            }
        }
    }

    /// The survivors, when they are sealed.
    pub fn bitmap(&self) -> Option<&Bitmap> {
        self.survivors.as_ref()
    }

    /// A survivor's signature under the survivors.
    ///
    /// # Errors
    /// [`Fault::ForgedConsent`]; [`Fault::NotSurvivor`], [`Fault::OutOfTurn`], [`Fault::NotMember`].
    pub fn consent(&mut self, member: MemberId, signature: [u8; 64]) -> Result<(), Fault> {
        let party = self.party(&member)?;
        let (Some(survivors), Some((salt, _))) = (&self.survivors, self.described) else {
            return Err(Fault::OutOfTurn { step: "its consent" });
        };
        if !self.survives(&member) {
            return Err(Fault::NotSurvivor);
        }
        if self.consents.get(&member) == Some(&signature) {
            return Ok(());
        }
        let signed = survivors_bytes(&salt, survivors.as_bytes());
        let checked = party.identity.verify(Context::Survivors, &signed, &signature);
        checked.map_err(|_| Fault::ForgedConsent)?;
        self.consents.entry(member).or_insert(signature);
        Ok(())
    }

    /// Survivors who have not signed, and have not left.
    pub fn missing_consents(&self) -> Vec<MemberId> {
        self.of_roster(|member| self.survives(member) && !self.consents.contains_key(member))
    }

    /// What a member's neighbours signed, by ascending member.
    pub fn consents_for(&self, member: &MemberId) -> Vec<(MemberId, [u8; 64])> {
        let neighbours = self.neighbours(member).into_iter();
        neighbours.filter_map(|peer| Some((peer, *self.consents.get(&peer)?))).collect()
    }

    /// Whether at least `threshold` of a survivor's holders signed.
    pub fn has_consents(&self, member: &MemberId) -> bool {
        let signed = self.count_holders(member, |holder| self.consents.contains_key(holder));
        self.drawn.as_ref().is_some_and(|drawn| signed >= drawn.params.threshold)
    }

    /// A survivor's shares: one of each neighbour in U2 (and of itself in the complete graph); those it could not read are missing.
    ///
    /// # Errors
    /// [`Fault::StrayUnmask`], [`Fault::BadUnmask`]; [`Fault::Changed`]; [`Fault::NotSurvivor`], [`Fault::OutOfTurn`],
    /// [`Fault::NotMember`].
    pub fn unmask(&mut self, member: MemberId, shares: &[(MemberId, [u8; 32])]) -> Result<(), Fault> {
        let step = "its unmask shares";
        self.party(&member)?;
        let (Some(closed), Some(_)) = (&self.closed, &self.survivors) else {
            return Err(Fault::OutOfTurn { step });
        };
        if !self.survives(&member) {
            return Err(Fault::NotSurvivor);
        }
        // Who holds whose shares is mutual.
        let mut dealers: BTreeSet<MemberId> = self
            .holders(&member)
            .into_iter()
            .filter(|dealer| closed.members.contains(dealer))
            .collect();
        let mut given = BTreeMap::new();
        for (peer, share) in shares {
            if !dealers.remove(peer) {
                return Err(Fault::StrayUnmask { peer: *peer });
            }
            given.insert(*peer, Share::from_bytes(share).ok_or(Fault::BadUnmask { peer: *peer })?);
        }
        let given: Vec<(MemberId, Share)> = given.into_iter().collect();
        match self.unmasks.get(&member) {
            Some(before) if *before == given => Ok(()),
            Some(_) => Err(Fault::Changed { step }),
            None => {
                for (dealer, _) in &given {
                    *self.counts.entry(*dealer).or_default() += 1;
                }
                self.unmasks.insert(member, given);
                Ok(())
            }
        }
    }

    /// Survivors who have given no shares, and have not left.
    pub fn missing_unmasks(&self) -> Vec<MemberId> {
        self.of_roster(|member| self.survives(member) && !self.unmasks.contains_key(member))
    }

    /// Whether there are `threshold` shares of every secret that is needed. If some of them are wrong it takes more.
    pub fn is_unmaskable(&self) -> bool {
        let (Some(closed), Some(drawn), Some(_)) = (&self.closed, &self.drawn, &self.survivors) else {
            return false;
        };
        let enough = |member: &MemberId| self.counts.get(member).is_some_and(|count| *count >= drawn.params.threshold);
        closed.members.iter().all(enough)
    }

    /// What the masks are computed from, when the survivors are sealed: the shares that are there by now.
    pub fn unmasking(&self) -> Option<Unmasking> {
        let (closed, drawn, roster) = (self.closed.as_ref()?, self.drawn.as_ref()?, self.roster.as_ref()?);
        self.survivors.as_ref()?;
        let (salt, suite) = self.described?;
        let mut shares: BTreeMap<MemberId, Vec<(MemberId, u32, Share)>> = BTreeMap::new();
        for (holder, given) in &self.unmasks {
            let place = roster.index_of(holder)? + 1;
            for (dealer, share) in given {
                shares.entry(*dealer).or_default().push((*holder, place, share.clone()));
            }
        }
        let targets = closed.members.iter().map(|member| {
            let party = self.parties.get(member)?;
            let mask_key_of = |peer: MemberId| Some((peer, self.parties.get(&peer)?.mask_key));
            let secret = if self.survives(member) {
                TargetSecret::SelfMask {
                    commitment: party.self_commitment,
                }
            } else {
                let survivors = self.neighbours(member).into_iter().filter(|peer| self.survives(peer));
                TargetSecret::Pairwise {
                    survivors: survivors.filter_map(mask_key_of).collect(),
                }
            };
            Some(Target {
                member: *member,
                mask_key: party.mask_key,
                secret,
                shares: shares.remove(member).unwrap_or_default(),
            })
        });
        Some(Unmasking {
            suite,
            salt,
            threshold: drawn.params.threshold,
            targets: targets.collect::<Option<_>>()?,
        })
    }

    fn survives(&self, member: &MemberId) -> bool {
        let index = self.roster.as_ref().and_then(|roster: &Roster| roster.index_of(member));
        index
            .zip(self.survivors.as_ref())
            .is_some_and(|(index, survivors)| survivors.contains(index))
    }
}
