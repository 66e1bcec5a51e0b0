//! A cohort with masks, from the draw to the shares that unmask its sum.
//!
//! ```text
//! OFFERING --Draw--> ADVERTISING --Roster--> REVEALING --Opening [persist: offered]--> SHARING --SharesReceived--> ENCODING
//!    ^                  ^                        |                                                                    | Encoded [persist: sent]
//!    |                  +------- DrawAgain ------+                                                                    v
//!    |                                                                                                            UPLOADING
//!    |                                                                                                                | Accepted [persist]
//!    +-- NotIncluded, CohortUnknown, Late: new keys <-- CONSENTING <--Survivors-- AWAITING SURVIVORS <----------------+
//!                                                           | Agreed [persist: spent]
//!                                                           v
//!                                                       UNMASKING --Taken--> AWAITING OUTCOME
//! ```
//!
//! What no honest server does ends it: the keys are dropped, nothing more is revealed, it is reported, and the job is declined until the program is
//! started again.

mod breach;

use aimass_crypto::secagg::{self, Cheat, Client, MemberId};
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::job::AggregationMode;
use aimass_protocol::limits::MAX_DRAWS;
use aimass_protocol::message::agent::SignedDescriptor;
use aimass_protocol::message::secagg::{
    Advert, Agreement, Consent, ConsentReply, DrawCall, Opening, Reveal, Roster, SealedShare, ShareBytes, Shares, SurvivorsReply, Unmask,
    UnmaskReply, UnmaskShare,
};
use aimass_protocol::{AgentId, CohortId, Digest, SignatureBytes, Timestamp};
use rand_core::CryptoRng;
use serde_bytes::ByteBuf;

use self::breach::{Breach, check_opening};
use super::contribution::spend;
use super::policy::PolicyError;
use super::session::{FOREVER, Session};
use super::work::Work;
use super::{Effect, Event, Hands, Identity, Masks, Report, Spent, Stage, Warning};
use crate::RequestKind;

/// One draw of a cohort, with the keys that were made for it.
#[derive(Debug)]
pub(super) struct Cohort {
    id: CohortId,
    draw: u8,
    /// Members on the roster; 0 before there is one.
    members: u32,
    client: Client,
    /// As the server showed it.
    descriptor: Option<SignedDescriptor>,
}

impl Session {
    /// What happened to a cohort with masks.
    pub(super) fn about_masks<R: CryptoRng>(&mut self, event: Event, hands: &mut Hands<'_, R>, out: &mut Vec<Effect>) {
        match event {
            Event::Draw { contribution, call } if self.is_open(RequestKind::Ready) && self.holds(contribution) => {
                self.heard();
                self.draw(call, hands, out);
            }
            Event::Roster { cohort, draw, roster } if self.is_open(RequestKind::Advert) && self.is_at(cohort, draw) => {
                self.heard();
                self.see_roster(&roster, out);
            }
            Event::Opening {
                cohort,
                draw,
                opening,
                descriptor,
            } if self.is_open(RequestKind::Reveal) && self.is_at(cohort, draw) => {
                self.heard();
                self.open(&opening, *descriptor, hands, out);
            }
            Event::DrawAgain { cohort, draw, call } if self.is_open(RequestKind::Reveal) && self.is_at(cohort, draw) => {
                self.heard();
                self.draw_again(call, hands, out);
            }
            Event::SharesReceived { cohort, shares } if self.is_open(RequestKind::Shares) && self.is_among(cohort) => {
                self.heard();
                self.receive(shares, hands.identity, out);
            }
            Event::Survivors { cohort, reply } if self.is_among(cohort) => self.survivors(reply, hands.identity, out),
            Event::Agreed { cohort, reply } if self.is_open(RequestKind::Consent) && self.is_among(cohort) => {
                self.heard();
                self.agreed(reply, out);
            }
            Event::Unmasked { cohort, reply } if self.is_open(RequestKind::Unmask) && self.is_among(cohort) => {
                self.heard();
                match reply {
                    UnmaskReply::Taken => self.go(Work::Await),
                    UnmaskReply::Abandoned => self.not_included(out),
                }
            }
            // Answers to requests that were replaced.
            _ => {}
        }
    }

    fn is_among(&self, cohort: CohortId) -> bool {
        self.cohort.as_ref().is_some_and(|own| own.id == cohort)
    }

    fn is_at(&self, cohort: CohortId, draw: u8) -> bool {
        self.cohort.as_ref().is_some_and(|own| (own.id, own.draw) == (cohort, draw))
    }

    fn draw<R: CryptoRng>(&mut self, call: DrawCall, hands: &mut Hands<'_, R>, out: &mut Vec<Effect>) {
        if self.held.as_ref().is_some_and(|held| held.consent.mode == AggregationMode::Secure) {
            self.advertise(call, hands);
        } else {
            let reason = "the server forms a cohort with masks, and the signed job has none; tell the operator";
            self.give_up(reason.to_owned(), FOREVER, out);
        }
    }

    /// Makes keys for a draw, which serve for no other.
    fn advertise<R: CryptoRng>(&mut self, call: DrawCall, hands: &mut Hands<'_, R>) {
        let DrawCall { cohort, draw } = call;
        let identity = hands.identity;
        let client = Client::new(*cohort.as_bytes(), draw, identity.member(), hands.rng);
        let advert = client.advert();
        let message = Advert {
            cohort,
            draw,
            mask_key: Digest::from_bytes(advert.mask_key),
            seal_key: Digest::from_bytes(advert.seal_key),
            self_commitment: Digest::from_bytes(advert.self_commitment),
            draw_commitment: Digest::from_bytes(advert.draw_commitment),
            certificate: ByteBuf::from(identity.certificate.clone()),
            signature: SignatureBytes::from_bytes(advert.sign(&identity.key)),
            log_size: self.log.size,
        };
        self.cohort = Some(Cohort {
            id: cohort,
            draw,
            members: 0,
            client,
            descriptor: None,
        });
        self.go(Work::Advertise(Box::new(message)));
    }

    fn see_roster(&mut self, shown: &Roster, out: &mut Vec<Effect>) {
        let (Some(cohort), Some(held)) = (&mut self.cohort, &self.held) else {
            return;
        };
        let floor = self.config.policy.least_survivors(&held.consent);
        let members = shown
            .members
            .iter()
            .map(|member| (*member.agent.as_bytes(), *member.draw_commitment.as_bytes()));
        let seen = secagg::Roster::new(*cohort.id.as_bytes(), cohort.draw, members.collect());
        let nonce = seen.map_err(Cheat::from).and_then(|roster| {
            cohort.members = roster.len();
            cohort.client.see_roster(roster, floor)
        });
        match nonce {
            Ok(nonce) => {
                let reveal = Reveal {
                    cohort: cohort.id,
                    draw: cohort.draw,
                    nonce: Digest::from_bytes(nonce),
                };
                self.go(Work::Reveal(reveal));
            }
            Err(cheat) => self.cheated(RequestKind::Advert, None, cheat.to_string(), out),
        }
    }

    fn draw_again<R: CryptoRng>(&mut self, call: DrawCall, hands: &mut Hands<'_, R>, out: &mut Vec<Effect>) {
        let next = self.cohort.as_ref().map(|cohort| (cohort.id, cohort.draw.saturating_add(1)));
        if next == Some((call.cohort, call.draw)) && call.draw <= MAX_DRAWS {
            self.advertise(call, hands);
        } else {
            self.offer_again(out);
        }
    }

    fn open<R: CryptoRng>(&mut self, opening: &Opening, descriptor: Descriptor, hands: &mut Hands<'_, R>, out: &mut Vec<Effect>) {
        match self.check(opening, &descriptor, hands) {
            Ok(shares) => {
                self.offered(descriptor, out);
                self.go(Work::Share(Box::new(shares)));
            }
            // The device's clock may be wrong.
            Err(Breach::Policy(error @ PolicyError::Deadline { .. })) => self.give_up(error.to_string(), FOREVER, out),
            // While roots change, a neighbour's root may not be known here yet: the job is not declined for ever.
            Err(breach @ Breach::Puppet { .. }) => self.cheated_until(self.pause(), RequestKind::Reveal, None, breach.to_string(), out),
            Err(breach) => self.cheated(RequestKind::Reveal, None, breach.to_string(), out),
        }
    }

    /// Checks all of an opening; the shares to deal if it is as it should be.
    fn check<R: CryptoRng>(&mut self, opening: &Opening, descriptor: &Descriptor, hands: &mut Hands<'_, R>) -> Result<Shares, Breach> {
        let date = self.date();
        let (Some(cohort), Some(held)) = (&mut self.cohort, &self.held) else {
            return Err(Cheat::OutOfTurn { step: "the opening" }.into());
        };
        cohort.descriptor = Some(opening.descriptor.clone());
        self.config.policy.check_cohort(date, held, descriptor)?;
        let (masks, head) = match (&descriptor.secagg, &descriptor.log) {
            (Some(masks), Some(head)) if descriptor.cohort == cohort.id => (masks, head),
            _ => return Err(Breach::OtherCohort),
        };
        if (masks.draw, descriptor.members) != (cohort.draw, cohort.members) {
            return Err(Breach::OtherDraw);
        }
        let checked = check_opening(opening, descriptor, masks, hands.identity, date)?;
        cohort.client.open(&checked)?;
        self.log = self.log.grown(head, &opening.log_consistency)?;
        let dealt = cohort.client.deal(&hands.identity.key, hands.rng)?;
        let shares = dealt.into_iter().map(|share| SealedShare {
            agent: AgentId::from_bytes(share.to),
            sealed: ByteBuf::from(share.sealed),
            signature: SignatureBytes::from_bytes(share.signature),
        });
        Ok(Shares {
            cohort: cohort.id,
            shares: shares.collect(),
        })
    }

    fn receive(&mut self, shares: Vec<SealedShare>, identity: &Identity, out: &mut Vec<Effect>) {
        let Some(cohort) = &mut self.cohort else { return };
        let received = sealed(shares, identity.member()).and_then(|shares| cohort.client.receive(shares));
        let masks = received.and_then(|received| Ok((received.unreadable, cohort.client.masks()?)));
        match masks {
            Ok((unreadable, masks)) => {
                if !unreadable.is_empty() {
                    out.push(Effect::Warn(Warning::UnreadableShares {
                        cohort: cohort.id,
                        from: unreadable.into_iter().map(AgentId::from_bytes).collect(),
                    }));
                }
                self.encode(masks, out);
            }
            Err(cheat) => self.cheated(RequestKind::Shares, None, cheat.to_string(), out),
        }
    }

    fn encode(&mut self, masks: Vec<secagg::mask::SignedMask>, out: &mut Vec<Effect>) {
        let held = self.held.as_ref().and_then(|held| held.stage.descriptor());
        match held.and_then(|descriptor| descriptor.secagg.as_ref()) {
            Some(params) => {
                let masks = Masks::new(crate::masks::suite(params.suite), masks);
                self.go(Work::Encode(Some(masks)));
            }
            None => self.offer_again(out),
        }
    }

    /// Makes damaged residues again, byte by byte the same. Without the keys, or if that is not to be had, other ones for another cohort.
    pub(super) fn residues_lost(&mut self, out: &mut Vec<Effect>) {
        let is_secure = |held: &super::Contribution| held.stage.descriptor().is_some_and(|descriptor| descriptor.secagg.is_some());
        if !self.held.as_ref().is_some_and(is_secure) {
            return self.go(Work::Encode(None));
        }
        match self.cohort.as_mut().map(|cohort| cohort.client.masks()) {
            Some(Ok(masks)) => self.encode(masks, out),
            Some(Err(cheat)) => self.cheated(RequestKind::Upload, None, cheat.to_string(), out),
            None => self.offer_again(out),
        }
    }

    /// The server names the survivors, once. Another set for the same cohort is an attack whenever it comes.
    fn survivors(&mut self, reply: SurvivorsReply, identity: &Identity, out: &mut Vec<Effect>) {
        let is_asked = self.is_open(RequestKind::Survivors);
        let is_settled = matches!(self.work, Work::Consent(_) | Work::Unmask(_));
        let Some(cohort) = self.cohort.as_mut().filter(|_| is_asked || is_settled) else {
            return;
        };
        let id = cohort.id;
        let consent = match reply {
            SurvivorsReply::Set(bitmap) => cohort.client.consent(&bitmap, &identity.key),
            SurvivorsReply::NotIncluded if is_asked => {
                self.heard();
                return self.not_included(out);
            }
            SurvivorsReply::NotIncluded => return,
        };
        match consent {
            Ok(signature) if is_asked => {
                self.heard();
                self.go(Work::Consent(Box::new(Consent {
                    cohort: id,
                    signature: SignatureBytes::from_bytes(signature),
                })));
            }
            Ok(_) => {}
            Err(cheat) => self.cheated(RequestKind::Survivors, None, cheat.to_string(), out),
        }
    }

    /// Others agree to the same survivors: the contribution is spent, and then shares may leave the device.
    fn agreed(&mut self, reply: ConsentReply, out: &mut Vec<Effect>) {
        let agreements = match reply {
            ConsentReply::Agreed(agreements) => agreements,
            ConsentReply::NotIncluded => return self.not_included(out),
        };
        let (Some(cohort), Work::Consent(consent)) = (&mut self.cohort, &self.work) else {
            return;
        };
        let signed: Vec<_> = agreements
            .iter()
            .map(|Agreement { agent, signature }| (*agent.as_bytes(), *signature.as_bytes()))
            .collect();
        let shares = match cohort.client.unmask(&signed) {
            Ok(shares) => shares,
            Err(cheat) => return self.cheated(RequestKind::Consent, None, cheat.to_string(), out),
        };
        let unmask = Unmask {
            cohort: cohort.id,
            consent: consent.signature,
            shares: shares
                .iter()
                .map(|(member, share)| UnmaskShare {
                    agent: AgentId::from_bytes(*member),
                    share: ShareBytes::from_bytes(*share.as_bytes()),
                })
                .collect(),
        };
        self.spend(out);
        self.go(Work::Unmask(Box::new(unmask)));
    }

    /// Notes that the contribution may be told from two sums from now on, should it be in a second one.
    pub(super) fn spend(&mut self, out: &mut Vec<Effect>) {
        let Some(held) = &mut self.held else { return };
        let Some(descriptor) = held.stage.descriptor().cloned() else {
            return;
        };
        held.stage = Stage::Spent { descriptor };
        self.note_spent();
        out.push(Effect::Persist);
    }

    /// Notes that nothing else may stand on the base of what is held, where it went into a sum with masks, or into one that is compared with others from the
    /// same base. To be persisted with what follows.
    pub(super) fn note_spent(&mut self) {
        let Some(held) = &self.held else { return };
        if held.consent.mode == AggregationMode::Secure || held.consent.once_a_model {
            let (base, log_index) = (held.base, held.log_index.unwrap_or(0));
            spend(&mut self.spent, held.job, Spent::new(base, log_index));
        }
    }

    /// Only a server that cheats explains this. The keys go first.
    pub(super) fn cheated(&mut self, step: RequestKind, cohort: Option<CohortId>, what: String, out: &mut Vec<Effect>) {
        self.cheated_until(FOREVER, step, cohort, what, out);
    }

    fn cheated_until(&mut self, until: Timestamp, step: RequestKind, cohort: Option<CohortId>, what: String, out: &mut Vec<Effect>) {
        let left = self.cohort.take();
        let Some(held) = &self.held else { return };
        out.push(Effect::Report(Report {
            job: held.job,
            cohort: cohort.or(left.as_ref().map(|left| left.id)),
            step,
            what: what.clone(),
            descriptor: left.and_then(|left| left.descriptor),
        }));
        self.give_up(
            format!("{what}. Nothing more is sent for it; tell the job's owner, and keep the agent's state folder"),
            until,
            out,
        );
    }
}

/// As the crypto crate has them; a share that can't be one is forged.
fn sealed(shares: Vec<SealedShare>, own: MemberId) -> Result<Vec<secagg::SealedShare>, Cheat> {
    let one = |share: SealedShare| {
        let from = *share.agent.as_bytes();
        let sealed = share.sealed.as_slice().try_into().map_err(|_| Cheat::ForgedShare { peer: from })?;
        Ok(secagg::SealedShare {
            from,
            to: own,
            sealed,
            signature: *share.signature.as_bytes(),
        })
    };
    shares.into_iter().map(one).collect()
}
