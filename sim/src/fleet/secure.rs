//! Cohorts with masks: terms, their openings, and what the steps cost on the wire.

use aimass_crypto::hash::sha256;
use aimass_crypto::sign::Context;
use aimass_federation::agent::Event as News;
use aimass_federation::coordinator::{AgentReply, CohortTerms, Event, SecureStep};
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::message::agent::SignedDescriptor;
use aimass_protocol::message::secagg::Opening;
use aimass_protocol::{Digest, SignatureBytes, codec};
use serde::Serialize;
use serde_bytes::ByteBuf;

use super::{Ask, Fleet, Workshop};

/// What the members of a cohort with masks agree to.
#[derive(Debug, Clone)]
pub(super) struct Described {
    signed: SignedDescriptor,
    descriptor: Descriptor,
}

impl<W: Workshop> Fleet<W> {
    /// Of the rotation of a cohort's updates, as the aggregator draws it.
    pub(super) fn rotation(&self, terms: &CohortTerms) -> Digest {
        let base = terms.bases.first().copied().unwrap_or(Digest::from_bytes([0; 32]));
        self.workshop.rotation(base)
    }

    /// What a cohort's members agree to.
    pub(super) fn descriptor(&self, terms: &CohortTerms) -> Descriptor {
        Descriptor {
            version: Descriptor::VERSION,
            tenant: self.trust.tenant.clone(),
            job: terms.job,
            round: terms.round,
            cohort: terms.cohort,
            bases: terms.bases.clone(),
            layout_digest: self.workshop.layout(),
            codec: terms.codec,
            mode: terms.mode,
            members: terms.members,
            floor: terms.floor,
            deadline: terms.deadline,
            rotation: Some(self.rotation(terms)),
            log: terms.secagg.map(|_| self.log.head()),
            secagg: terms.secagg,
        }
    }

    /// Makes the descriptor of a cohort whose graph is drawn.
    pub(super) fn describe(&mut self, terms: CohortTerms) {
        let cohort = terms.cohort;
        let descriptor = self.descriptor(&terms);
        let bytes = match codec::encode(&descriptor) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.wrong = Some(format!("the descriptor of cohort {cohort} can't be written: {error}"));
                return;
            }
        };
        let digest = Digest::from_bytes(sha256(&bytes));
        let signature = SignatureBytes::from_bytes(self.trust.server.sign(Context::Descriptor, &bytes));
        let signed = SignedDescriptor {
            descriptor: ByteBuf::from(bytes),
            signature,
        };
        self.cohorts.entry(cohort).or_default().described = Some(Described { signed, descriptor });
        // The driver's next event: effects of this step that are left do not depend on it.
        self.after(0, super::Happening::Announce(Box::new(Event::Described { cohort, digest })));
    }

    /// Sends a client's step.
    pub(super) fn secure_request(&mut self, client: u32, step: SecureStep) {
        let agent = self.names.agent(client, &mut self.trust);
        match &step {
            SecureStep::Advert { advert, .. } => self.count_message(client, advert, true),
            SecureStep::Reveal(reveal) => self.count_message(client, reveal, true),
            SecureStep::Survivors(query) => self.count_message(client, query, true),
            SecureStep::Consent(consent) => self.count_message(client, consent, true),
            SecureStep::Unmask(unmask) => self.count_message(client, unmask, true),
            SecureStep::Shares { .. } => {}
        }
        let kind = step.kind();
        self.request(client, kind, Ask::Event(Event::Secure { agent, step }));
    }

    /// Counts a message's bytes.
    pub(super) fn count_message<T: Serialize>(&mut self, client: u32, message: &T, up: bool) {
        let bytes = codec::encoded_len(message);
        if up {
            self.counts.bytes_up += bytes;
        } else {
            self.counts.bytes_down += bytes;
        }
        self.spend(client, 0, bytes);
    }

    /// What a client reads in a reply to a step of a cohort with masks.
    pub(super) fn secure_news(&mut self, client: u32, step: &SecureStep, reply: AgentReply) -> Option<News> {
        let cohort = step.cohort();
        Some(match (step, reply) {
            (SecureStep::Advert { advert, .. }, AgentReply::Roster(roster)) => {
                self.count_message(client, &roster, false);
                let draw = advert.draw;
                News::Roster { cohort, draw, roster }
            }
            (SecureStep::Reveal(reveal), AgentReply::DrawAgain(call)) => {
                let draw = reveal.draw;
                News::DrawAgain { cohort, draw, call }
            }
            (
                SecureStep::Reveal(reveal),
                AgentReply::Opening {
                    nonces,
                    neighbours,
                    log_size,
                    ..
                },
            ) => {
                let Described { signed, descriptor } = self.cohorts.get(&cohort)?.described.clone()?;
                let shown = descriptor.log.map_or(0, |head| head.size);
                let opening = Opening {
                    descriptor: signed,
                    nonces,
                    neighbours,
                    log_consistency: self.log.consistency(log_size, shown),
                };
                self.count_message(client, &opening, false);
                News::Opening {
                    cohort,
                    draw: reveal.draw,
                    opening: Box::new(opening),
                    descriptor: Box::new(descriptor),
                }
            }
            (_, AgentReply::Shares { reply, .. }) => {
                self.count_message(client, &reply, false);
                News::SharesReceived {
                    cohort,
                    shares: reply.shares,
                }
            }
            (SecureStep::Survivors(_), AgentReply::Survivors(reply)) => {
                self.count_message(client, &reply, false);
                News::Survivors { cohort, reply }
            }
            (_, AgentReply::Consent(reply)) => {
                self.count_message(client, &reply, false);
                News::Agreed { cohort, reply }
            }
            (_, AgentReply::Unmask(reply)) => News::Unmasked { cohort, reply },
            _ => return None,
        })
    }
}
