//! What a cohort's members agree to: its descriptor, made and signed once, so that every member gets the same bytes.

use aimass_crypto::hash::sha256;
use aimass_federation::coordinator::{CohortTerms, Event};
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::message::agent::SignedDescriptor;
use aimass_protocol::message::secagg::{NeighbourAdvert, Opening, RevealReply};
use aimass_protocol::{CohortId, Digest, SignatureBytes, codec};
use serde_bytes::ByteBuf;

use super::{Answer, Driver, Terms, unavailable};

impl Driver {
    /// The descriptor of a cohort without masks. After a restart its bytes are the same again.
    pub(super) fn descriptor(&mut self, terms: CohortTerms) -> Answer {
        if let Some(made) = self.descriptors.get(&terms.cohort) {
            return Answer::Cohort(made.signed.clone());
        }
        if !self.sums.contains_key(&terms.cohort) {
            return unavailable("the round could not be opened; offer the contribution again");
        }
        match self.make_terms(&terms) {
            Some(made) => {
                let signed = made.signed.clone();
                self.descriptors.insert(terms.cohort, made);
                Answer::Cohort(signed)
            }
            None => unavailable("the cohort's descriptor can't be made; the server's log says why"),
        }
    }

    /// Makes the descriptor of a cohort with masks, whose graph is drawn.
    pub(super) fn describe(&mut self, terms: &CohortTerms) {
        let Some(made) = self.make_terms(terms) else {
            return self.events.push_back(Event::OpenFailed {
                cohort: terms.cohort,
                reason: "the cohort's descriptor can't be made; the server's log says why".to_owned(),
            });
        };
        let digest = Digest::from_bytes(sha256(&made.signed.descriptor));
        self.descriptors.insert(terms.cohort, made);
        self.events.push_back(Event::Described {
            cohort: terms.cohort,
            digest,
        });
    }

    /// The terms as one member is shown them, with the proof that the log which it knows has only grown since.
    pub(super) fn opening(&self, cohort: CohortId, nonces: Vec<Digest>, neighbours: Vec<NeighbourAdvert>, log_size: u64) -> Answer {
        let Some(terms) = self.descriptors.get(&cohort) else {
            return unavailable("the cohort is over; offer the contribution again");
        };
        let log_consistency = match terms.log {
            Some(head) => self.log_consistency(log_size, head.size),
            None => Vec::new(),
        };
        Answer::Reveal(Box::new(RevealReply::Opening(Opening {
            descriptor: terms.signed.clone(),
            nonces,
            neighbours,
            log_consistency,
        })))
    }

    fn make_terms(&self, terms: &CohortTerms) -> Option<Terms> {
        let entry = self.jobs.get(&terms.job)?;
        let work = entry.job.work.as_ref()?;
        let log = terms.secagg.map(|_| self.log_head());
        let descriptor = Descriptor {
            version: Descriptor::VERSION,
            tenant: self.shared.tenant.clone(),
            job: terms.job,
            round: terms.round,
            cohort: terms.cohort,
            bases: terms.bases.clone(),
            layout_digest: work.layout_digest(),
            codec: terms.codec,
            mode: terms.mode,
            members: terms.members,
            floor: terms.floor,
            deadline: terms.deadline,
            rotation: entry.job.rotation(terms),
            log,
            secagg: terms.secagg,
        };
        match codec::encode(&descriptor) {
            Ok(bytes) => {
                let signature = SignatureBytes::from_bytes(self.shared.trust.sign_descriptor(&bytes));
                Some(Terms {
                    signed: SignedDescriptor {
                        descriptor: ByteBuf::from(bytes),
                        signature,
                    },
                    log,
                })
            }
            Err(error) => {
                tracing::error!(job = %terms.job, round = terms.round, %error, "the cohort's descriptor can't be made");
                None
            }
        }
    }
}
