//! Adverts and nonces: from those who were invited to a graph among those who are there.

use super::{Drawn, Party, Server};
use crate::secagg::advert::is_weak;
use crate::secagg::mask::Suite;
use crate::secagg::params::GraphParams;
use crate::secagg::roster::{MAX_MEMBERS, MIN_MEMBERS};
use crate::secagg::{Advert, Fault, MemberId, Roster, StepError, draw_commitment};
use crate::sign::PublicKey;

impl Server {
    /// A member's advert, with the key of its certificate.
    ///
    /// # Errors
    /// [`Fault::ForeignAdvert`], [`Fault::ForgedAdvert`], [`Fault::WeakKey`], [`Fault::CopiedKey`]; [`Fault::Changed`],
    /// [`Fault::OutOfTurn`], [`Fault::NotMember`].
    pub fn advert(&mut self, member: MemberId, advert: Advert, identity: PublicKey, signature: [u8; 64]) -> Result<(), Fault> {
        let step = "its advert";
        if self.left.contains(&member) {
            return Err(Fault::NotMember);
        }
        if let Some((before, _)) = self.adverts.get(&member) {
            // Signatures are not compared: what they are over is.
            return if *before == advert { Ok(()) } else { Err(Fault::Changed { step }) };
        }
        if !self.invited.contains(&member) {
            return Err(Fault::NotMember);
        }
        if self.roster.is_some() {
            return Err(Fault::OutOfTurn { step });
        }
        if (advert.cohort, advert.draw, advert.member) != (self.cohort, self.draw, member) {
            return Err(Fault::ForeignAdvert);
        }
        if !advert.is_signed_by(&identity, &signature) {
            return Err(Fault::ForgedAdvert);
        }
        if is_weak(&advert.mask_key) || is_weak(&advert.seal_key) {
            return Err(Fault::WeakKey);
        }
        let copied = |other: &&Advert| {
            [other.mask_key, other.seal_key]
                .iter()
                .any(|key| [advert.mask_key, advert.seal_key].contains(key))
        };
        if let Some(other) = self.adverts.values().map(|(other, _)| other).find(copied) {
            return Err(Fault::CopiedKey { peer: other.member });
        }
        let party = Party {
            identity,
            mask_key: advert.mask_key,
            self_commitment: advert.self_commitment,
        };
        self.parties.insert(member, party);
        self.adverts.insert(member, (advert, signature));
        Ok(())
    }

    /// Who has sent no advert, and has not left.
    pub fn missing_adverts(&self) -> Vec<MemberId> {
        let is_missing = |member: &&MemberId| !self.adverts.contains_key(*member) && !self.left.contains(*member);
        self.invited.iter().filter(is_missing).copied().collect()
    }

    /// Ends the adverts; who sent none is out. Again: the same roster.
    ///
    /// # Errors
    /// [`StepError::TooFew`] when fewer than 3 sent one, [`StepError::TooMany`].
    pub fn close_adverts(&mut self) -> Result<Roster, StepError> {
        if let Some(roster) = &self.roster {
            return Ok(roster.clone());
        }
        let have = self.adverts.len();
        if have < MIN_MEMBERS as usize {
            return Err(StepError::TooFew {
                have,
                need: MIN_MEMBERS as usize,
            });
        }
        let members = self.adverts.iter().map(|(member, (advert, _))| (*member, advert.draw_commitment));
        // Keys of a map are strictly ascending, so only their number can be wrong.
        let roster = Roster::new(self.cohort, self.draw, members.collect()).map_err(|_| StepError::TooMany {
            have,
            most: MAX_MEMBERS as usize,
        })?;
        self.roster = Some(roster.clone());
        Ok(roster)
    }

    /// A member's nonce.
    ///
    /// # Errors
    /// [`Fault::WrongNonce`]; [`Fault::OutOfTurn`], [`Fault::NotMember`].
    pub fn reveal(&mut self, member: MemberId, nonce: [u8; 32]) -> Result<(), Fault> {
        self.party(&member)?;
        let Some(roster) = &self.roster else {
            return Err(Fault::OutOfTurn { step: "its nonce" });
        };
        if roster.commitment(&member).ok_or(Fault::NotMember)? != draw_commitment(&nonce) {
            return Err(Fault::WrongNonce);
        }
        if self.drawn.is_none() {
            self.nonces.insert(member, nonce);
        }
        Ok(())
    }

    /// Who of the roster has not revealed its nonce, and has not left.
    pub fn missing_reveals(&self) -> Vec<MemberId> {
        self.of_roster(|member| !self.nonces.contains_key(member))
    }

    /// Draws the graph and gives its seed. Again: the same one.
    ///
    /// # Errors
    /// [`StepError::Unrevealed`]: a new draw without these; [`StepError::BadParams`]; [`StepError::OutOfTurn`] before
    /// [`Self::close_adverts`].
    pub fn close_reveals(&mut self, params: GraphParams) -> Result<[u8; 32], StepError> {
        let step = "closing the reveals";
        let Some(roster) = &self.roster else {
            return Err(StepError::OutOfTurn { step });
        };
        if let Some(drawn) = &self.drawn {
            return if drawn.params == params {
                Ok(drawn.seed)
            } else {
                Err(StepError::OutOfTurn { step })
            };
        }
        let ids = roster.members().iter().map(|(member, _)| *member);
        let members: Vec<MemberId> = ids.filter(|member| !self.nonces.contains_key(member)).collect();
        if !members.is_empty() {
            return Err(StepError::Unrevealed { members });
        }
        let bad = StepError::BadParams {
            degree: params.degree,
            threshold: params.threshold,
            members: roster.len(),
        };
        let seed = roster.graph_seed(&self.nonces()).expect("each nonce was checked when it came");
        let graph = roster.graph(seed, params).ok_or(bad)?;
        self.drawn = Some(Drawn { seed, params, graph });
        Ok(seed)
    }

    /// The nonces in the roster's order, as far as they are revealed.
    pub fn nonces(&self) -> Vec<[u8; 32]> {
        self.nonces.values().copied().collect()
    }

    /// Says what the descriptor's SHA-256 is, and with what masks are made. From here on shares are taken.
    ///
    /// # Errors
    /// [`StepError::OutOfTurn`] before [`Self::close_reveals`], or when something else was said before.
    pub fn describe(&mut self, salt: [u8; 32], suite: Suite) -> Result<(), StepError> {
        let is_new = self.described.is_none_or(|described| described == (salt, suite));
        if self.drawn.is_none() || !is_new {
            return Err(StepError::OutOfTurn { step: "the descriptor" });
        }
        self.described = Some((salt, suite));
        Ok(())
    }

    /// Adverts and signatures of a member's neighbours, ascending; none before [`Self::close_reveals`].
    pub fn opening_for(&self, member: &MemberId) -> Vec<(Advert, [u8; 64])> {
        let neighbours = self.neighbours(member);
        neighbours
            .iter()
            .filter_map(|neighbour| self.adverts.get(neighbour))
            .cloned()
            .collect()
    }
}
