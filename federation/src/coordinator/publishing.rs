//! Publishing: the sum becomes the next model. Nothing goes into it any more.

use aimass_protocol::message::agent::OutcomeReply;
use aimass_protocol::{AgentId, ContributionId, Digest, ErrorCode};

use super::cohort::{Cohort, Progress};
use super::collecting::{late, not_a_member};
use super::entry::Phase;
use super::gathering::Gathering;
use super::job::{Context, Job};
use super::{AgentReply, Effect, JobEnd, RoundOutcome};
use crate::RequestKind;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Publishing {
    pub(super) cohort: Cohort,
    /// The operator stopped the job: it ends with this round, which may be on disk already.
    pub(super) stopping: bool,
}

impl Publishing {
    /// An upload that begins or ends now: good if it is a repeat of one that is in the sum.
    pub(super) fn upload<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, contribution: ContributionId) {
        match self.cohort.member(agent, contribution).map(|m| m.progress) {
            Some(Progress::Added) => cx.reply(agent, AgentReply::Accepted),
            Some(_) => late(cx, agent),
            None => not_a_member(cx, agent),
        }
    }

    pub(super) fn revoked<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId) {
        if self.cohort.stop_asking(agent) {
            cx.refuse(agent, RequestKind::Outcome, ErrorCode::Revoked, super::REVOKED);
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
        job.rebase(cx, base, base_bytes);
        if let Some(end) = finished(job, accuracy) {
            return job.end(cx, end);
        }
        if self.stopping {
            return job.end(cx, JobEnd::Stopped);
        }
        Phase::Gathering(Gathering::default())
    }

    pub(super) fn failed<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>, reason: &str) -> Phase {
        cx.out.push(Effect::DropSum { cohort: self.cohort.id() });
        self.cohort.answer(cx, OutcomeReply::NotIncluded);
        if self.stopping {
            return job.end(cx, JobEnd::Stopped);
        }
        job.publish_failures += 1;
        if job.publish_failures > cx.config.publish_retries {
            let reason = format!(
                "round {} could not be published, {} tries: {reason}",
                job.round, job.publish_failures
            );
            return job.end(cx, JobEnd::Failed { reason });
        }
        let pause = cx.config.publish_pause.saturating_mul(1 << (job.publish_failures - 1).min(10));
        Phase::Gathering(Gathering::held_until(cx.now.after(pause)))
    }
}

/// How a job has ended whose last published model has this accuracy, if it has.
pub(super) fn finished(job: &Job, accuracy: Option<f32>) -> Option<JobEnd> {
    let target = job.file.evaluate.as_ref().and_then(|e| e.target_accuracy);
    let target_reached = job.round > 1 && matches!((accuracy, target), (Some(a), Some(t)) if a >= t);
    (target_reached || job.round > job.file.round.rounds).then_some(JobEnd::Finished { target_reached })
}
