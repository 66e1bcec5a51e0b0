//! Collecting: a cohort uploads, each whole update goes into the sum once.

use std::collections::BTreeSet;

use aimass_protocol::message::agent::OutcomeReply;
use aimass_protocol::{AgentId, ContributionId, ErrorCode, Timestamp};

use super::cohort::{Cohort, Member, Progress};
use super::entry::Phase;
use super::gathering::Gathering;
use super::job::{Context, Job};
use super::publishing::Publishing;
use super::secure::Secure;
use super::unmasking::{Unmasking, answer_unmasked};
use super::{AgentReply, Effect, PhaseName, RestoredRound};
use crate::RequestKind;

/// How often sealed inputs that can't be read are tried again, with pauses that grow from a second to half a minute.
const MOST_TRIES: u32 = 12;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Collecting {
    pub(super) cohort: Cohort,
    /// No input is taken after this.
    until: Timestamp,
    /// Before this, somebody who is expected has been heard of; found out again when it is reached.
    silent_at: Timestamp,
    /// The server was killed while it published: the sum is that of its survivors, made again.
    pub(super) is_sealed: bool,
    /// It was killed after that: what takes the masks off is on its disk.
    is_unmasked: bool,
    /// Whose sealed inputs could not be read, and when that is tried again.
    again: BTreeSet<AgentId>,
    again_at: Timestamp,
    /// How often it was.
    tries: u32,
    /// With so many inputs in the sum its masks could not be taken off: more are waited for.
    stays_masked_with: Option<usize>,
}

impl Collecting {
    pub(super) fn new(now: Timestamp, cohort: Cohort) -> Self {
        let until = cohort.terms.deadline;
        Self {
            cohort,
            until,
            silent_at: now,
            is_sealed: false,
            is_unmasked: false,
            again: BTreeSet::new(),
            again_at: Timestamp::default(),
            tries: 0,
            stays_masked_with: None,
        }
    }

    /// Goes on with a cohort after a restart: what is in the journal is added again, the others may still upload, for as long as a round may take.
    ///
    /// # Errors
    /// The record of the masks is damaged: the round is given up.
    pub(super) fn restored<R>(job: &Job, restored: RestoredRound, cx: &mut Context<'_, R>) -> Result<Self, String> {
        let RestoredRound { open, durable } = restored;
        let secure = match &open.secagg {
            Some(record) => Some(Secure::restore(record, open.survivors.as_deref())?),
            None => None,
        };
        let survivors: Option<BTreeSet<AgentId>> = open.survivors.as_ref().map(|all| all.iter().map(|(agent, _)| *agent).collect());
        let mut cohort = Cohort::new(cx.now, open.terms.clone(), open.members.iter().copied());
        cohort.secure = secure;
        let id = cohort.id();
        let is_unmasked = open.unmasking.is_some();
        cx.out.push(Effect::OpenRound(open));
        if let Some(survivors) = &survivors {
            let late: Vec<AgentId> = cohort.members().keys().filter(|a| !survivors.contains(*a)).copied().collect();
            for agent in late {
                cohort.set(cx.now, agent, Progress::Dropped(ErrorCode::Late));
            }
        }
        for (agent, contribution) in durable {
            if cohort
                .member(agent, contribution)
                .is_some_and(|m| m.progress() == Progress::Invited)
            {
                cohort.restore(cx.now, agent);
                cx.out.push(Effect::Add {
                    cohort: id,
                    agent,
                    contribution,
                });
            }
        }
        Ok(Self {
            cohort,
            until: cx.now.after(job.max_time()),
            silent_at: cx.now,
            is_sealed: survivors.is_some(),
            is_unmasked,
            again: BTreeSet::new(),
            again_at: Timestamp::default(),
            tries: 0,
            stays_masked_with: None,
        })
    }

    /// True if the request stays open: the update may come, or is on its way into the sum.
    pub(super) fn upload_begun<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, contribution: ContributionId) -> bool {
        let cohort = self.cohort.id();
        let awaited = self.awaited(cx, agent, contribution).is_some();
        if awaited {
            self.cohort.set(cx.now, agent, Progress::Uploading);
            cx.reply(agent, AgentReply::UploadAllowed { cohort, contribution });
        }
        let is_adding = self
            .cohort
            .member(agent, contribution)
            .is_some_and(|m| m.progress() == Progress::Adding);
        if awaited || is_adding {
            self.cohort.uploads_here(agent);
        }
        awaited || is_adding
    }

    pub(super) fn received<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>, agent: AgentId, contribution: ContributionId) {
        if self.awaited(cx, agent, contribution).is_some() {
            self.cohort.learn(cx.now, &mut job.history, agent);
            self.leaves(cx.now, agent, Progress::Adding);
            cx.out.push(Effect::Add {
                cohort: self.cohort.id(),
                agent,
                contribution,
            });
        }
    }

    /// The member whose update may still come. Anybody else hears how things stand.
    fn awaited<R>(&self, cx: &mut Context<'_, R>, agent: AgentId, contribution: ContributionId) -> Option<Member> {
        let Some(member) = self.cohort.member(agent, contribution) else {
            not_a_member(cx, agent);
            return None;
        };
        match member.progress() {
            Progress::Added => cx.reply(agent, AgentReply::Accepted),
            // Answered when it is added.
            Progress::Adding => {}
            Progress::Dropped(code) => dropped(cx, agent, code),
            Progress::Invited | Progress::Uploading if cx.now >= self.until || self.is_sealed => late(cx, agent),
            Progress::Invited | Progress::Uploading => return Some(member),
        }
        None
    }

    /// Whether a member with this contribution need not be put into another cohort.
    pub(super) fn awaits(&self, now: Timestamp, member: Member) -> bool {
        member.is_whole() || member.is_live() && now < self.until && !self.is_sealed
    }

    pub(super) fn added<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId) {
        if self.cohort.get(agent).is_some_and(|m| m.progress() == Progress::Adding) {
            self.cohort.set(cx.now, agent, Progress::Added);
            if self.cohort.hears_of_upload(agent) {
                cx.reply(agent, AgentReply::Accepted);
            }
        }
    }

    pub(super) fn add_failed<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>, agent: AgentId, code: ErrorCode) -> Option<Phase> {
        let member = self.cohort.get(agent).filter(|m| m.progress() == Progress::Adding)?;
        if member.acknowledged && self.is_sealed && self.cohort.secure.is_some() && code.is_retryable() && self.tries < MOST_TRIES {
            // Its survivors may have spent their contributions for this sum: it is not given up over one failure.
            if self.again.is_empty() {
                let factor = 1 << self.tries.min(5);
                self.again_at = cx.now.after(cx.config.publish_pause.saturating_mul(factor));
                self.tries += 1;
            }
            self.again.insert(agent);
            return None;
        }
        if member.acknowledged {
            // It will not send again what it was told to be in the sum. All of them hold their contributions until they hear the outcome.
            return Some(self.give_up(job, cx, "an update that was in the sum can't be read any more"));
        }
        if code.is_retryable() {
            self.cohort.set(cx.now, agent, Progress::Invited);
            cx.refuse(agent, RequestKind::Upload, code, "the update could not be taken now; send it again");
            return None;
        }
        self.leaves(cx.now, agent, Progress::Dropped(code));
        // Else the same agent could fail every cohort of the round.
        job.barred.insert(agent, code);
        dropped(cx, agent, code);
        if self.cohort.stop_asking(agent) {
            cx.reply(agent, AgentReply::Outcome(OutcomeReply::NotIncluded));
        }
        None
    }

    fn add_again<R>(&mut self, cx: &mut Context<'_, R>) {
        for agent in std::mem::take(&mut self.again) {
            if let Some(member) = self.cohort.get(agent).filter(|m| m.progress() == Progress::Adding) {
                cx.out.push(Effect::Add {
                    cohort: self.cohort.id(),
                    agent,
                    contribution: member.contribution,
                });
            }
        }
    }

    /// A member asks for other work.
    pub(super) fn abandoned<R>(&mut self, cx: &Context<'_, R>, agent: AgentId) {
        if self.cohort.get(agent).is_some_and(|m| m.is_live() && !m.is_whole()) {
            self.leaves(cx.now, agent, Progress::Dropped(ErrorCode::Late));
        }
    }

    /// A member is expected no more: it may have been the one that was waited for longest.
    fn leaves(&mut self, now: Timestamp, agent: AgentId, progress: Progress) {
        self.cohort.set(now, agent, progress);
        self.silent_at = self.silent_at.min(now);
    }

    /// The round could not be made durable: it is tried again later.
    pub(super) fn give_up<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>, why: &str) -> Phase {
        self.drop_sum(cx);
        job.trouble = Some(why.to_owned());
        let pause = job.pause_after_failure(&cx.config);
        Phase::Gathering(Gathering::held_until(cx.now.after(pause)))
    }

    /// What a round is at that was sealed before the server was killed.
    pub(super) fn sealed_as(&self) -> PhaseName {
        if self.cohort.secure.is_none() || self.is_unmasked {
            PhaseName::Publishing
        } else {
            PhaseName::Unmasking
        }
    }

    /// Drops what is not yet on its way into the sum. What is, stays: a sum can't be taken apart.
    pub(super) fn revoked<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId) {
        if self.cohort.stop_asking(agent) {
            cx.refuse(agent, RequestKind::Outcome, ErrorCode::Revoked, super::REVOKED);
        }
        let Some(member) = self.cohort.get(agent) else { return };
        if member.progress() == Progress::Uploading {
            cx.refuse(agent, RequestKind::Upload, ErrorCode::Revoked, super::REVOKED);
        }
        if matches!(member.progress(), Progress::Invited | Progress::Uploading) {
            self.leaves(cx.now, agent, Progress::Dropped(ErrorCode::Revoked));
        }
    }

    /// When time alone may end the phase: at its end, or when enough are in and the others are silent.
    pub(super) fn timeout(&self, job: &Job) -> Timestamp {
        if !self.again.is_empty() {
            return self.again_at;
        }
        let added = self.cohort.tally().added;
        if added >= job.need() && self.stays_masked_with != Some(added) {
            self.silent_at.min(self.until)
        } else {
            self.until
        }
    }

    /// Whether all that are still expected have been silent for longer than they ever were.
    fn all_are_silent(&mut self, now: Timestamp, job: &Job) -> bool {
        if now >= self.silent_at {
            self.silent_at = self.cohort.silent_at(&job.history, self.until);
        }
        now >= self.silent_at
    }

    /// Ends the phase when nothing more can come, or when too few are left.
    pub(super) fn advance<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>) -> Option<Phase> {
        if self.again_at <= cx.now {
            self.add_again(cx);
        }
        let tally = self.cohort.tally();
        if tally.adding > 0 {
            return None;
        }
        let is_enough = tally.added >= job.need();
        let over = tally.expected == 0 || self.is_sealed || cx.now >= self.until;
        let may_go_on = is_enough && self.stays_masked_with != Some(tally.added) && (over || self.all_are_silent(cx.now, job));
        // Looked at last: in a large cohort it takes long.
        let goes_on = may_go_on && self.cohort.is_unmaskable();
        if may_go_on && !goes_on {
            self.stays_masked_with = Some(tally.added);
        }
        if goes_on {
            cx.out.push(Effect::Seal {
                cohort: self.cohort.id(),
                survivors: self.cohort.survivors(),
            });
            self.cohort.close(cx, "the round went on without this update; offer it again");
            if self.cohort.secure.is_none() || self.is_unmasked {
                if let Some(secure) = &mut self.cohort.secure {
                    answer_unmasked(secure, cx);
                }
                return Some(Phase::Publishing(Publishing::begin(self.cohort.clone(), job, cx)));
            }
            return match Unmasking::begin(self.cohort.clone(), job, cx, self.is_sealed) {
                Some(phase) => Some(Phase::Unmasking(phase)),
                None => Some(self.give_up(job, cx, "the record of the cohort's survivors does not fit its members")),
            };
        }
        if over || tally.added + tally.expected < job.need() {
            self.drop_sum(cx);
            return Some(Phase::Gathering(Gathering::default()));
        }
        None
    }

    /// Gives the cohort up; its contributions are in no sum and may be offered again.
    pub(super) fn drop_sum<R>(&mut self, cx: &mut Context<'_, R>) {
        cx.out.push(Effect::DropSum { cohort: self.cohort.id() });
        if let Some(secure) = &mut self.cohort.secure {
            secure.give_up(cx);
        }
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
