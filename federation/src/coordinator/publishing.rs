//! Publishing: the sum becomes the next model. Nothing goes into it any more.

use aimass_protocol::message::agent::OutcomeReply;
use aimass_protocol::{AgentId, Digest, ErrorCode, Timestamp};

use super::cohort::Cohort;
use super::entry::Phase;
use super::gathering::Gathering;
use super::job::{Context, Job};
use super::{Effect, JobEnd, RoundOutcome};
use crate::RequestKind;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Publishing {
    pub(super) cohort: Cohort,
    /// The operator stopped the job: it ends with this round, which may be on disk already.
    pub(super) stopping: bool,
    /// When it is published again, after a failure.
    again_at: Option<Timestamp>,
}

impl Publishing {
    /// A sum that is sealed.
    pub(super) fn begin<R>(cohort: Cohort, job: &Job, cx: &mut Context<'_, R>) -> Self {
        let mut phase = Self {
            cohort,
            stopping: false,
            again_at: None,
        };
        phase.aggregate(job, cx);
        phase
    }

    fn aggregate<R>(&mut self, job: &Job, cx: &mut Context<'_, R>) {
        self.again_at = None;
        cx.out.push(Effect::Aggregate {
            job: job.id,
            cohort: self.cohort.id(),
            round: job.round,
            base: job.base(),
            survivors: self.cohort.survivors(),
        });
    }

    pub(super) fn revoked<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId) {
        if self.cohort.stop_asking(agent) {
            cx.refuse(agent, RequestKind::Outcome, ErrorCode::Revoked, super::REVOKED);
        }
    }

    /// Whether an answer to [`Effect::Aggregate`] is awaited.
    pub(super) fn is_under_way(&self) -> bool {
        self.again_at.is_none()
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        self.again_at
    }

    /// Tries again when it is time.
    pub(super) fn advance<R>(&mut self, job: &Job, cx: &mut Context<'_, R>) {
        if self.again_at.is_some_and(|at| at <= cx.now) {
            self.aggregate(job, cx);
        }
    }

    pub(super) fn published<R>(
        &mut self,
        job: &mut Job,
        cx: &mut Context<'_, R>,
        base: Digest,
        base_bytes: u64,
        accuracy: Option<f32>,
    ) -> Phase {
        let round = job.round;
        let contributions = self.cohort.survivors().into_iter().map(|(_, contribution)| contribution).collect();
        job.remember(
            RoundOutcome {
                round,
                model: base,
                contributions,
            },
            cx.config.remembered_rounds,
        );
        self.cohort.answer(cx, OutcomeReply::Included { round, model: base });
        let is_stuck = self.cohort.secure.is_some() && job.base() == base && !job.file.keeps_its_base(round);
        job.rebase(cx, base, base_bytes);
        if let Some(end) = finished(job, accuracy) {
            return job.end(cx, end);
        }
        if self.stopping {
            return job.end(cx, JobEnd::Stopped);
        }
        if is_stuck {
            let reason = "the round gave back the model that it started from, and its agents mask no second contribution to one model; raise train.lr";
            return job.end(cx, JobEnd::Failed { reason: reason.to_owned() });
        }
        Phase::Gathering(Gathering::default())
    }

    /// The round was not published. A sum that could not be stored is kept and stored later; one that makes no model is of no use.
    pub(super) fn failed<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>, retry: bool, reason: &str) -> Option<Phase> {
        let pause = job.pause_after_failure(&cx.config);
        job.trouble = Some(reason.to_owned());
        if retry && !self.stopping {
            self.again_at = Some(cx.now.after(pause));
            return None;
        }
        cx.out.push(Effect::DropSum { cohort: self.cohort.id() });
        self.cohort.answer(cx, OutcomeReply::NotIncluded);
        if self.stopping {
            return Some(job.end(cx, JobEnd::Stopped));
        }
        job.spoiled += 1;
        if job.spoiled > cx.config.publish_retries {
            let reason = format!("round {} could not be published, {} tries: {reason}", job.round, job.spoiled);
            return Some(job.end(cx, JobEnd::Failed { reason }));
        }
        Some(Phase::Gathering(Gathering::held_until(cx.now.after(pause))))
    }

    /// The operator stops the job. The model may be on disk already, so a round that is being published is finished first; one that waits to be tried
    /// again is not.
    pub(super) fn stop<R>(&mut self, cx: &mut Context<'_, R>) -> bool {
        self.stopping = true;
        if self.again_at.is_none() {
            return false;
        }
        cx.out.push(Effect::DropSum { cohort: self.cohort.id() });
        self.cohort.answer(cx, OutcomeReply::NotIncluded);
        true
    }
}

/// How a job has ended whose last published model has this accuracy, if it has.
pub(super) fn finished(job: &Job, accuracy: Option<f32>) -> Option<JobEnd> {
    let target = job.file.evaluate.as_ref().and_then(|e| e.target_accuracy);
    let target_reached = job.round > 1 && matches!((accuracy, target), (Some(a), Some(t)) if a >= t);
    (target_reached || job.round > job.file.round.rounds).then_some(JobEnd::Finished { target_reached })
}
