//! The contribution that is held: how it gets into a sum, and out of hand.

use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::OutcomeReply;
use aimass_protocol::{CohortId, ContributionId, ErrorCode, JobId, Timestamp};

use super::policy::PolicyError;
use super::session::{FOREVER, Session};
use super::work::Work;
use super::{Contribution, Effect, Event, Stage, Warning};
use crate::RequestKind;

impl Session {
    /// What happened to the contribution that is held, as far as it has nothing to do with masks.
    pub(super) fn about_held(&mut self, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Cohort { contribution, descriptor } if self.is_open(RequestKind::Ready) && self.holds(contribution) => {
                self.heard();
                self.join(descriptor, out);
            }
            Event::Superseded { contribution } if self.is_open(RequestKind::Ready) && self.holds(contribution) => {
                self.heard();
                self.discard(out);
                self.go(Work::CheckIn);
            }
            Event::Encoded { contribution, cohort } if self.is_encoding() && self.is_in(contribution, cohort) => {
                self.sent(false, out);
                self.go(Work::Upload);
            }
            Event::EncodeFailed { contribution, reason } if self.is_encoding() && self.holds(contribution) => {
                self.give_up(reason, self.pause(), out);
            }
            Event::ResiduesLost { contribution, cohort } if self.is_open(RequestKind::Upload) && self.is_in(contribution, cohort) => {
                self.residues_lost(out);
            }
            Event::Accepted { contribution, cohort } if self.is_open(RequestKind::Upload) && self.is_in(contribution, cohort) => {
                self.heard();
                self.sent(true, out);
                self.go(self.after_upload());
            }
            Event::Outcome { contribution, reply } if self.is_open(RequestKind::Outcome) && self.holds(contribution) => {
                self.heard();
                self.outcome(reply, out);
            }
            // Answers to requests that were replaced, and work that was given up meanwhile.
            _ => {}
        }
    }

    fn is_encoding(&self) -> bool {
        matches!(self.work, Work::Encode(_))
    }

    /// Where an accepted contribution goes on: with its keys it can help to unmask the sum.
    fn after_upload(&self) -> Work {
        if self.cohort.is_some() { Work::AwaitSurvivors } else { Work::Await }
    }

    pub(super) fn holds(&self, contribution: ContributionId) -> bool {
        self.held.as_ref().is_some_and(|c| c.id == contribution)
    }

    pub(super) fn is_in(&self, contribution: ContributionId, cohort: CohortId) -> bool {
        self.holds(contribution)
            && self
                .held
                .as_ref()
                .and_then(|c| c.stage.descriptor())
                .is_some_and(|d| d.cohort == cohort)
    }

    fn join(&mut self, descriptor: Box<Descriptor>, out: &mut Vec<Effect>) {
        let date = self.date();
        let Some(held) = &self.held else { return };
        let cohort = descriptor.cohort;
        match self.config.policy.check_cohort(date, held, &descriptor) {
            Ok(()) => {
                self.offered(*descriptor, out);
                self.go(Work::Encode(None));
            }
            Err(PolicyError::Smuggled) => self.cheated(RequestKind::Ready, Some(cohort), PolicyError::Smuggled.to_string(), out),
            Err(error) => self.give_up(error.to_string(), FOREVER, out),
        }
    }

    /// The terms are agreed to.
    pub(super) fn offered(&mut self, descriptor: Descriptor, out: &mut Vec<Effect>) {
        if let Some(held) = &mut self.held {
            held.stage = Stage::Offered { descriptor };
            out.push(Effect::Persist);
        }
    }

    fn sent(&mut self, accepted: bool, out: &mut Vec<Effect>) {
        if let Some(held) = &mut self.held
            && let Some(descriptor) = held.stage.descriptor().cloned()
        {
            held.stage = Stage::Sent { descriptor, accepted };
            out.push(Effect::Persist);
        }
    }

    fn outcome(&mut self, reply: OutcomeReply, out: &mut Vec<Effect>) {
        match reply {
            OutcomeReply::Included { round, model } => {
                if let Some(held) = &self.held {
                    out.push(Effect::Included {
                        job: held.job,
                        contribution: held.id,
                        round,
                        model,
                    });
                }
                self.note_spent();
                self.discard(out);
                self.go(Work::CheckIn);
            }
            OutcomeReply::NotIncluded => self.not_included(out),
        }
    }

    /// The server says that the contribution is in no sum. What was spent is not offered again whatever it says: it may be in one.
    pub(super) fn not_included(&mut self, out: &mut Vec<Effect>) {
        if matches!(
            &self.held,
            Some(Contribution {
                stage: Stage::Spent { .. },
                ..
            })
        ) {
            self.discard(out);
            self.go(Work::CheckIn);
        } else {
            self.offer_again(out);
        }
    }

    /// The contribution is in no sum: it may go into another cohort.
    pub(super) fn offer_again(&mut self, out: &mut Vec<Effect>) {
        if let Some(held) = &mut self.held {
            let cohort = held.stage.descriptor().map(|d| d.cohort);
            held.stage = Stage::Trained;
            out.push(Effect::Persist);
            out.extend(cohort.map(|cohort| Effect::DiscardUpload {
                contribution: held.id,
                cohort,
            }));
        }
        self.go(Work::Offer);
    }

    pub(super) fn discard(&mut self, out: &mut Vec<Effect>) {
        if let Some(held) = self.held.take() {
            out.push(Effect::Persist);
            out.push(Effect::Discard { contribution: held.id });
        }
    }

    /// Drops the contribution that is held, and its job for a while.
    pub(super) fn give_up(&mut self, reason: String, until: Timestamp, out: &mut Vec<Effect>) {
        if let Some(job) = self.held.as_ref().map(|c| c.job) {
            self.decline(job, until, reason, out);
        }
        self.discard(out);
        self.go(Work::CheckIn);
    }

    pub(super) fn invalid(&mut self, job: JobId, reason: String, out: &mut Vec<Effect>) {
        match &self.work {
            Work::CheckIn if self.is_open(RequestKind::CheckIn) => {
                self.decline(job, self.pause(), reason.clone(), out);
                self.later(reason, out);
            }
            Work::Fetch(task) | Work::Train(task) if task.job == job => {
                self.decline(job, self.pause(), reason, out);
                self.drop_task(out);
            }
            Work::CheckIn | Work::Fetch(_) | Work::Train(_) => {}
            work if self.held.as_ref().is_some_and(|c| c.job == job) => match work.request().filter(|_| self.cohort.is_some()) {
                Some(step) => self.cheated(step, None, reason, out),
                None => self.give_up(reason, self.pause(), out),
            },
            _ => {}
        }
    }

    pub(super) fn refused(&mut self, request: RequestKind, refusal: Refusal, out: &mut Vec<Effect>) {
        use ErrorCode::{CohortUnknown, Duplicate, Forbidden, JobUnknown, Late, Revoked, StaleBase};

        out.push(Effect::Warn(Warning::Refused {
            request,
            refusal: refusal.clone(),
        }));
        let Refusal { code, text } = refusal;
        // A revocation can be undone: what is held is kept for that.
        if code.is_retryable() || matches!(code, Revoked | Forbidden) {
            return self.later(text, out);
        }
        match (request, code) {
            // It is never the request at hand.
            (RequestKind::Progress, _) => {}
            (RequestKind::CheckIn, _) => self.later(text, out),
            (RequestKind::Fetch, _) => {
                // Most likely the round went on.
                self.drop_task(out);
                self.later(text, out);
            }
            (RequestKind::Upload, Duplicate) => self.go(self.after_upload()),
            // They may have arrived.
            (RequestKind::Unmask, CohortUnknown | Late | Duplicate) => self.go(Work::Await),
            // The input is in a sum whose masks come off without this agent: it must be in no other.
            (RequestKind::Survivors | RequestKind::Consent, Late) => {
                self.spend(out);
                self.go(Work::Await);
            }
            (RequestKind::Upload | RequestKind::Outcome, CohortUnknown | Late) => self.not_included(out),
            (
                RequestKind::Advert | RequestKind::Reveal | RequestKind::Shares | RequestKind::Survivors | RequestKind::Consent,
                CohortUnknown | Late | Duplicate,
            ) => self.offer_again(out),
            (_, StaleBase | JobUnknown | Duplicate) => {
                self.discard(out);
                self.go(Work::CheckIn);
            }
            _ => self.give_up(text, self.pause(), out),
        }
    }
}
