//! Secure aggregation between simulated machines: terms and their openings, masks over residues, and masks off sums.

use aimass_compression::{Accumulator, SumPlan, mask};
use aimass_crypto::hash::sha256;
use aimass_crypto::secagg::mask::{MaskStream, Sign, SignedMask, Suite};
use aimass_crypto::sign::Context;
use aimass_federation::agent::{Event as News, Masks};
use aimass_federation::coordinator::{AgentReply, CohortTerms, Event, OpenRound, SecureStep, UnmaskingRecord};
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::log::{LogEvent, LogHead};
use aimass_protocol::message::agent::SignedDescriptor;
use aimass_protocol::message::secagg::{Opening, SurvivorsReply};
use aimass_protocol::{CohortId, Digest, JobId, SignatureBytes, TenantId, codec};
use serde_bytes::ByteBuf;

use super::{Ask, World};
use crate::fault::Key;
use crate::log;
use crate::oracle::Violation;
use crate::sabotage::Sabotage;

/// What the members of a cohort with masks agree to. In the server's memory.
#[derive(Debug, Clone)]
pub(super) struct Described {
    signed: SignedDescriptor,
    descriptor: Descriptor,
}

impl World {
    /// Makes the descriptor of a cohort whose graph is drawn; its digest.
    pub(super) fn describe(&mut self, terms: CohortTerms) -> Option<Event> {
        let cohort = terms.cohort;
        let descriptor = descriptor(terms, Some(self.server.disk.log.head()));
        let bytes = match codec::encode(&descriptor) {
            Ok(bytes) => bytes,
            Err(error) => {
                let what = format!("the descriptor of cohort {cohort} can't be written: {error}");
                self.oracle.violate(Violation::Driver { what });
                return None;
            }
        };
        let digest = Digest::from_bytes(sha256(&bytes));
        let signature = SignatureBytes::from_bytes(self.trust.server.sign(Context::Descriptor, &bytes));
        let signed = SignedDescriptor {
            descriptor: ByteBuf::from(bytes),
            signature,
        };
        self.server.described.insert(cohort, Described { signed, descriptor });
        Some(Event::Described { cohort, digest })
    }

    /// A cohort came to nothing before it was a round. Its draws are noted.
    pub(super) fn forget_cohort(&mut self, terms: &CohortTerms, draws: u8) {
        self.server.described.remove(&terms.cohort);
        if draws > 0 {
            let event = log::abandoned(terms, None, 0, draws);
            self.log(terms.job, event);
        }
    }

    /// A round that was given up after its survivors were sealed is in the log.
    pub(super) fn log_abandoned(&mut self, open: &OpenRound) {
        if let Some(survivors) = &open.survivors {
            let event = log::given_up(open, survivors.len());
            self.log(open.terms.job, event);
        }
    }

    pub(super) fn log_round(&mut self, open: &OpenRound, model: Digest, survivors: usize) {
        self.log(open.terms.job, log::round(open, model, survivors));
    }

    fn log(&mut self, job: JobId, event: LogEvent) {
        let time = self.server.clock.read(self.now);
        self.server.disk.log.append(&self.trust, time, job, event);
    }

    /// What a device reads in a reply to a step of a cohort with masks.
    pub(super) fn secure_news(&mut self, device: usize, step: &SecureStep, reply: AgentReply) -> Option<News> {
        let cohort = step.cohort();
        Some(match (step, reply) {
            (SecureStep::Advert { advert, .. }, AgentReply::Roster(roster)) => {
                self.oracle
                    .roster(cohort, roster.members.iter().map(|member| member.agent).collect());
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
                let Described { signed, descriptor } = self.server.described.get(&cohort)?.clone();
                let shown = descriptor.log.map_or(0, |head| head.size);
                let opening = Opening {
                    descriptor: signed,
                    nonces,
                    neighbours,
                    log_consistency: self.server.disk.log.consistency(log_size, shown),
                };
                News::Opening {
                    cohort,
                    draw: reveal.draw,
                    opening: Box::new(opening),
                    descriptor: Box::new(descriptor),
                }
            }
            (_, AgentReply::Shares { reply, .. }) => News::SharesReceived {
                cohort,
                shares: reply.shares,
            },
            (SecureStep::Survivors(query), AgentReply::Survivors(reply)) => {
                let reply = self.told_survivors(device, reply);
                match &reply {
                    SurvivorsReply::Set(set) => self.oracle.survivors_told(cohort, set),
                    SurvivorsReply::NotIncluded => self.oracle.denied(device, cohort, query.contribution),
                }
                News::Survivors { cohort, reply }
            }
            (_, AgentReply::Consent(reply)) => News::Agreed { cohort, reply },
            (_, AgentReply::Unmask(reply)) => News::Unmasked { cohort, reply },
            _ => return None,
        })
    }

    /// A driver that is wrong tells some members of another set.
    fn told_survivors(&self, device: usize, reply: SurvivorsReply) -> SurvivorsReply {
        match reply {
            SurvivorsReply::Set(mut set) if self.sabotage == Sabotage::TellsTwoSets && device % 2 == 1 => {
                if let Some(first) = set.first_mut() {
                    *first &= first.wrapping_sub(1);
                }
                SurvivorsReply::Set(set)
            }
            reply => reply,
        }
    }

    /// Sends a device's step of a cohort with masks.
    pub(super) fn secure_request(&mut self, device: usize, step: SecureStep) {
        let agent = self.devices[device].agent;
        let kind = step.kind();
        self.request(device, kind, Ask::Event(Event::Secure { agent, step }));
    }

    /// Keeps what takes the masks off a sum. If that fails, it is tried again before the sum is published.
    pub(super) fn keep_unmasking(&mut self, cohort: CohortId, unmasking: UnmaskingRecord) {
        let number = self.server.seals;
        self.server.seals += 1;
        let fails = self.faults.take(self.now, Key::Seal(number)).is_some();
        if fails {
            self.note(|| format!("!! the unmasking of cohort {cohort} can't be stored"));
        }
        let on_disk = self.server.disk.open.values_mut().find(|o| o.open.terms.cohort == cohort);
        if let Some(on_disk) = on_disk.filter(|_| !fails) {
            on_disk.open.unmasking = Some(unmasking.clone());
            self.oracle.unmasking_kept(cohort);
        }
        self.server.unmaskings.insert(cohort, unmasking);
    }

    /// Takes the masks off a sum; false where that is a violation.
    pub(super) fn unmask(&mut self, cohort: CohortId) -> bool {
        let Some(sum) = self.server.sums.get_mut(&cohort).filter(|sum| sum.is_masked()) else {
            return true;
        };
        let on_disk = self.server.disk.open.values().find(|o| o.open.terms.cohort == cohort);
        // A driver that keeps nothing has it in memory at least.
        let record = on_disk
            .and_then(|o| o.open.unmasking.as_ref())
            .or(self.server.unmaskings.get(&cohort));
        let what = match record.and_then(UnmaskingRecord::to_unmasking) {
            None => "nothing is there that takes its masks off".to_owned(),
            Some(unmasking) => match unmasking.solve() {
                Err(error) => error.to_string(),
                Ok(solved) if !solved.liars.is_empty() => "honest agents are taken for liars".to_owned(),
                Ok(solved) => match take_off(sum, unmasking.suite, &solved.masks) {
                    Ok(()) => return true,
                    Err(error) => error,
                },
            },
        };
        let what = format!("cohort {cohort} can't be unmasked: {what}");
        self.oracle.violate(Violation::Driver { what });
        false
    }

    /// Whether what the server is about to tell of a cohort rests on something that it could not store.
    pub(super) fn is_withheld(&self, asked: &Event, reply: &AgentReply) -> bool {
        match (asked, reply) {
            (_, AgentReply::Cohort(terms)) => self.server.unopened.contains(&terms.cohort),
            (_, AgentReply::Shares { cohort, .. }) => self.server.unopened.contains(cohort),
            (Event::Secure { step, .. }, AgentReply::Survivors(SurvivorsReply::Set(_))) => {
                self.server.unsealed.contains(&step.cohort()) && self.sabotage != Sabotage::ForgetsSurvivors
            }
            _ => false,
        }
    }
}

/// Lays masks over residues.
pub(super) fn lay(plan: &SumPlan, packed: &mut [u8], masks: &Masks) -> Result<(), String> {
    let mut streams: Vec<_> = masks.signed().iter().map(|signed| stream(masks.suite(), signed)).collect();
    mask::apply(plan, packed, &mut streams).map_err(|error| error.to_string())
}

fn take_off(sum: &mut Accumulator, suite: Suite, masks: &[SignedMask]) -> Result<(), String> {
    let mut streams: Vec<_> = masks.iter().map(|signed| stream(suite, signed)).collect();
    sum.unmask(&mut streams).map_err(|error| error.to_string())
}

fn stream(suite: Suite, signed: &SignedMask) -> (mask::Sign, impl FnMut(&mut [u8]) + use<>) {
    let mut stream = MaskStream::new(suite, &signed.key, 0);
    let sign = match signed.sign {
        Sign::Plus => mask::Sign::Plus,
        Sign::Minus => mask::Sign::Minus,
    };
    (sign, move |bytes: &mut [u8]| stream.fill(bytes))
}

/// What a cohort's members agree to.
pub(super) fn descriptor(terms: CohortTerms, log: Option<LogHead>) -> Descriptor {
    Descriptor {
        version: Descriptor::VERSION,
        tenant: TenantId::default(),
        job: terms.job,
        round: terms.round,
        cohort: terms.cohort,
        layout_digest: terms.bases[0],
        bases: terms.bases,
        codec: terms.codec,
        mode: terms.mode,
        members: terms.members,
        floor: terms.floor,
        deadline: terms.deadline,
        rotation: None,
        log,
        secagg: terms.secagg,
    }
}
