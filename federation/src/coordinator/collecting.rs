//! Collecting: a cohort uploads, each whole update goes into the sum once.

use aimass_protocol::message::agent::OutcomeReply;
use aimass_protocol::{AgentId, ContributionId, ErrorCode, Timestamp};

use super::cohort::{Cohort, Member, Progress};
use super::entry::Phase;
use super::gathering::Gathering;
use super::job::{Context, Job};
use super::publishing::Publishing;
use super::{AgentReply, Effect};
use crate::RequestKind;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Collecting {
    pub(super) cohort: Cohort,
}

impl Collecting {
    pub(super) fn upload_begun<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, contribution: ContributionId) {
        let cohort = self.cohort.id();
        if let Some(member) = self.awaited(cx, agent, contribution) {
            member.progress = Progress::Uploading;
            cx.reply(agent, AgentReply::UploadAllowed { cohort, contribution });
        }
    }

    pub(super) fn received<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, contribution: ContributionId) {
        let cohort = self.cohort.id();
        if let Some(member) = self.awaited(cx, agent, contribution) {
            member.progress = Progress::Adding;
            cx.out.push(Effect::Add {
                cohort,
                agent,
                contribution,
            });
        }
    }

    /// The member whose update may still come. Anybody else hears how things stand.
    fn awaited<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, contribution: ContributionId) -> Option<&mut Member> {
        let deadline = self.cohort.terms.deadline;
        let Some(member) = self.cohort.member(agent, contribution) else {
            not_a_member(cx, agent);
            return None;
        };
        match member.progress {
            Progress::Added => cx.reply(agent, AgentReply::Accepted),
            // Answered when it is added.
            Progress::Adding => {}
            Progress::Dropped(code) => dropped(cx, agent, code),
            Progress::Invited | Progress::Uploading if cx.now >= deadline => late(cx, agent),
            Progress::Invited | Progress::Uploading => return Some(member),
        }
        None
    }

    pub(super) fn added<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId) {
        if let Some(member) = self.cohort.members.get_mut(&agent)
            && member.progress == Progress::Adding
        {
            member.progress = Progress::Added;
            cx.reply(agent, AgentReply::Accepted);
        }
    }

    pub(super) fn add_failed<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>, agent: AgentId, code: ErrorCode) {
        let Some(member) = self.cohort.members.get_mut(&agent).filter(|m| m.progress == Progress::Adding) else {
            return;
        };
        if code.is_retryable() {
            member.progress = Progress::Invited;
            cx.refuse(agent, RequestKind::Upload, code, "the update could not be taken now; send it again");
            return;
        }
        member.progress = Progress::Dropped(code);
        // Else the same agent could fail every cohort of the round.
        job.barred.insert(agent, code);
        dropped(cx, agent, code);
        if self.cohort.stop_asking(agent) {
            cx.reply(agent, AgentReply::Outcome(OutcomeReply::NotIncluded));
        }
    }

    /// Drops what is not yet on its way into the sum. What is, stays: a sum can't be taken apart.
    pub(super) fn revoked<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId) {
        if self.cohort.stop_asking(agent) {
            cx.refuse(agent, RequestKind::Outcome, ErrorCode::Revoked, super::REVOKED);
        }
        let Some(member) = self.cohort.members.get_mut(&agent) else {
            return;
        };
        if member.progress == Progress::Uploading {
            cx.refuse(agent, RequestKind::Upload, ErrorCode::Revoked, super::REVOKED);
        }
        if matches!(member.progress, Progress::Invited | Progress::Uploading) {
            member.progress = Progress::Dropped(ErrorCode::Revoked);
        }
    }

    /// The deadline, until it is reached: then only additions under way are waited for, and those report by themselves.
    pub(super) fn timeout(&self) -> Timestamp {
        self.cohort.terms.deadline
    }

    /// Ends the phase when nothing more can come, or when too few are left.
    pub(super) fn advance<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>) -> Option<Phase> {
        let added = self.cohort.count(|p| p == Progress::Added);
        let expected = self.cohort.count(|p| matches!(p, Progress::Invited | Progress::Uploading));
        if self.cohort.count(|p| p == Progress::Adding) > 0 {
            return None;
        }
        let over = expected == 0 || cx.now >= self.cohort.terms.deadline;
        if over && added >= job.need() {
            self.cohort.close(cx, "the round went on without this update; offer it again");
            cx.out.push(Effect::Aggregate {
                job: job.id,
                cohort: self.cohort.id(),
                round: job.round,
                base: job.base,
                survivors: self.cohort.survivors(),
            });
            return Some(Phase::Publishing(Publishing {
                cohort: self.cohort.clone(),
                stopping: false,
            }));
        }
        if over || added + expected < job.need() {
            self.drop_sum(cx);
            return Some(Phase::Gathering(Gathering::default()));
        }
        None
    }

    /// Gives the cohort up; its contributions are in no sum and may be offered again.
    pub(super) fn drop_sum<R>(&mut self, cx: &mut Context<'_, R>) {
        cx.out.push(Effect::DropSum { cohort: self.cohort.id() });
        self.cohort
            .close(cx, "the round ended without enough updates; offer this one again");
        self.cohort.answer(cx, OutcomeReply::NotIncluded);
    }
}

pub(super) fn not_a_member<R>(cx: &mut Context<'_, R>, agent: AgentId) {
    cx.refuse(
        agent,
        RequestKind::Upload,
        ErrorCode::CohortUnknown,
        "the cohort is over or does not hold this agent with this contribution; offer the contribution again",
    );
}

pub(super) fn late<R>(cx: &mut Context<'_, R>, agent: AgentId) {
    cx.refuse(
        agent,
        RequestKind::Upload,
        ErrorCode::Late,
        "the cohort's deadline has passed; offer the contribution again",
    );
}

fn dropped<R>(cx: &mut Context<'_, R>, agent: AgentId, code: ErrorCode) {
    let text = match code {
        ErrorCode::UpdateLength => {
            "the update does not have the length of the descriptor's plan; check that agent and server run the same version"
        }
        ErrorCode::UpdateValue => "the update holds a value out of range; training diverged: lower the learning rate",
        ErrorCode::Revoked => super::REVOKED,
        _ => "the update was refused and is not part of this round; wait for the next one",
    };
    cx.refuse(agent, RequestKind::Upload, code, text);
}
