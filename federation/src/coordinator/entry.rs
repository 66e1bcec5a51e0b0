//! A job with its phase: what each event means in each phase.

use aimass_protocol::job::RoundMode;
use aimass_protocol::message::agent::{OutcomeQuery, OutcomeReply, Progress, ProgressReply, Ready};
use aimass_protocol::{AgentId, CohortId, ContributionId, ErrorCode, JobId, Timestamp};
use rand_core::CryptoRng;

use super::cohort::{Cohort, Progress as MemberProgress};
use super::collecting::{Collecting, late, not_a_member};
use super::ended::Ended;
use super::gathering::Gathering;
use super::job::{Context, Job};
use super::joining::Joining;
use super::publishing::{Publishing, finished};
use super::share::VirtualTime;
use super::unmasking::Unmasking;
use super::{AgentReply, Effect, Event, JobEnd, JobSpec, JobView, PhaseName};
use crate::RequestKind;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    Gathering(Gathering),
    Joining(Joining),
    Collecting(Collecting),
    Unmasking(Unmasking),
    Publishing(Publishing),
    Ended(Ended),
}

/// A round that can't be filled costs its job up to two to this many times what it would.
const MOST_UNFILLED: u32 = 6;

/// See [`Entry::standing`]; the first is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Some of the agents that a round needs are here.
    Filling,
    /// A round could begin.
    Beginning,
    /// All that it needs are here; it takes some more.
    Filled,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) job: Job,
    pub(super) phase: Phase,
}

impl Entry {
    /// A job that is new or was restored: a cohort that was at work goes on, where it was.
    pub(super) fn new<R>(spec: JobSpec, cx: &mut Context<'_, R>) -> Self {
        let mut job = Job::new(&spec, cx.config.remembered_rounds);
        let JobSpec { accuracy, ended, open, .. } = spec;
        let open = open.filter(|restored| restored.open.terms.round == job.round);
        let phase = if let Some(end) = ended {
            Phase::Ended(Ended { end })
        } else if let Some(end) = finished(&job, accuracy) {
            job.end(cx, end)
        } else if job.need() > job.max() {
            let reason = format!(
                "a round needs {} contributions but takes {} agents; raise round.max",
                job.need(),
                job.max()
            );
            job.end(cx, JobEnd::Failed { reason })
        } else if let Some(restored) = open {
            let cohort = restored.open.terms.cohort;
            match Collecting::restored(&job, restored, cx) {
                Ok(phase) => Phase::Collecting(phase),
                Err(reason) => {
                    cx.out.push(Effect::DropSum { cohort });
                    job.trouble = Some(format!("the round that was open could not be taken up again: {reason}"));
                    Phase::Gathering(Gathering::default())
                }
            }
        } else {
            Phase::Gathering(Gathering::default())
        };
        Self { job, phase }
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    pub(super) fn has_cohort(&self, id: CohortId) -> bool {
        match &self.phase {
            Phase::Joining(phase) => phase.cohort() == id,
            _ => self.cohort().is_some_and(|cohort| cohort.id() == id),
        }
    }

    fn cohort_mut(&mut self) -> Option<&mut Cohort> {
        match &mut self.phase {
            Phase::Collecting(phase) => Some(&mut phase.cohort),
            Phase::Unmasking(phase) => Some(&mut phase.cohort),
            Phase::Publishing(phase) => Some(&mut phase.cohort),
            Phase::Gathering(_) | Phase::Joining(_) | Phase::Ended(_) => None,
        }
    }

    fn cohort(&self) -> Option<&Cohort> {
        match &self.phase {
            Phase::Collecting(phase) => Some(&phase.cohort),
            Phase::Unmasking(phase) => Some(&phase.cohort),
            Phase::Publishing(phase) => Some(&phase.cohort),
            Phase::Gathering(_) | Phase::Joining(_) | Phase::Ended(_) => None,
        }
    }

    /// True if the agent now waits for a cohort.
    pub(super) fn ready<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, ready: Ready) -> bool {
        let Ready {
            job: _,
            base,
            contribution,
        } = ready;
        if self.is_ended() || !self.job.permits(base) || self.job.included(contribution).is_some() {
            cx.reply(agent, AgentReply::Superseded);
            return false;
        }
        if let Some(code) = self.job.barred.get(&agent) {
            let text = "this agent's update was refused in the running round; drop the contribution and check in for the next round";
            cx.refuse(agent, RequestKind::Ready, *code, text);
            return false;
        }
        if let Phase::Joining(phase) = &mut self.phase
            && phase.offered_again(cx, agent, contribution)
        {
            return false;
        }
        if self.cohort().is_some_and(|cohort| cohort.secure.is_some()) && self.rejoins(cx, agent, contribution) {
            return false;
        }
        // The reply was lost. But a member that is too late for this cohort waits for the next one.
        let awaited = match &self.phase {
            Phase::Collecting(phase) if phase.cohort.secure.is_none() => {
                phase.cohort.member(agent, contribution).is_some_and(|m| phase.awaits(cx.now, m))
            }
            Phase::Publishing(phase) if phase.cohort.secure.is_none() => {
                phase.cohort.member(agent, contribution).is_some_and(|m| m.is_whole())
            }
            _ => false,
        };
        if awaited && let Some(cohort) = self.cohort() {
            let terms = cohort.terms.clone();
            cx.reply(agent, AgentReply::Cohort(terms));
            return false;
        }
        if self.is_offered_by_another(agent, contribution) {
            let text = "another agent offers a contribution of this name; draw a new name at random and offer again";
            cx.refuse(agent, RequestKind::Ready, ErrorCode::Duplicate, text);
            return false;
        }
        self.job.wait(cx.now, agent, base, contribution);
        true
    }

    /// A member of a cohort with masks offers again: its keys are gone. True if it was answered, because its input is in the sum or on the way there.
    fn rejoins<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, contribution: ContributionId) -> bool {
        let Some(member) = self.cohort().and_then(|cohort| cohort.member(agent, contribution)) else {
            return false;
        };
        if member.is_whole() {
            let text = "this contribution is on its way into a sum, and can't be masked twice; drop it and check in";
            cx.refuse(agent, RequestKind::Ready, ErrorCode::Duplicate, text);
            return true;
        }
        if let Phase::Collecting(phase) = &mut self.phase {
            phase.abandoned(cx, agent);
        }
        false
    }

    fn is_offered_by_another(&self, agent: AgentId, contribution: ContributionId) -> bool {
        let waits = self
            .job
            .waiting()
            .iter()
            .any(|(other, w)| *other != agent && w.contribution == contribution);
        let joined = self.cohort().is_some_and(|c| {
            c.members()
                .iter()
                .any(|(other, m)| *other != agent && m.is_live() && m.contribution == contribution)
        });
        let joining = matches!(&self.phase, Phase::Joining(phase) if phase.is_offered_by_another(agent, contribution));
        waits || joined || joining
    }

    /// The agent's open upload is one into another cohort.
    pub(super) fn uploads_elsewhere(&mut self, now: Timestamp, agent: AgentId) {
        if let Phase::Collecting(phase) = &mut self.phase {
            phase.cohort.uploads_elsewhere(now, agent);
        }
    }

    /// The agent's open request of this kind is one about another cohort: an answer about this one would be taken for its answer.
    pub(super) fn asks_elsewhere(&mut self, agent: AgentId, request: RequestKind) {
        let secure = match &mut self.phase {
            Phase::Joining(phase) => Some(&mut phase.secure),
            _ => self.cohort_mut().and_then(|cohort| cohort.secure.as_mut()),
        };
        if let Some(secure) = secure.filter(|secure| secure.is_asking(agent, request)) {
            secure.stop_asking(agent);
        }
    }

    /// The agent asks for the outcome of something else.
    pub(super) fn stop_asking(&mut self, agent: AgentId) {
        match &mut self.phase {
            Phase::Collecting(phase) => phase.cohort.stop_asking(agent),
            Phase::Unmasking(phase) => phase.cohort.stop_asking(agent),
            Phase::Publishing(phase) => phase.cohort.stop_asking(agent),
            Phase::Gathering(_) | Phase::Joining(_) | Phase::Ended(_) => false,
        };
    }

    /// True if the request stays open.
    pub(super) fn upload_begun<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, contribution: ContributionId) -> bool {
        match &mut self.phase {
            Phase::Collecting(phase) => return phase.upload_begun(cx, agent, contribution),
            Phase::Unmasking(_) | Phase::Publishing(_) => self.upload_again(cx, agent, contribution),
            Phase::Gathering(_) | Phase::Joining(_) | Phase::Ended(_) => {}
        }
        false
    }

    pub(super) fn received<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, contribution: ContributionId) {
        match &mut self.phase {
            Phase::Collecting(phase) => phase.received(&mut self.job, cx, agent, contribution),
            Phase::Unmasking(_) | Phase::Publishing(_) => self.upload_again(cx, agent, contribution),
            Phase::Gathering(_) | Phase::Joining(_) | Phase::Ended(_) => {}
        }
    }

    /// An upload into a sum that nothing goes into any more: good if it is a repeat of one that is in it.
    fn upload_again<R>(&self, cx: &mut Context<'_, R>, agent: AgentId, contribution: ContributionId) {
        match self
            .cohort()
            .and_then(|cohort| cohort.member(agent, contribution))
            .map(|m| m.progress())
        {
            Some(MemberProgress::Added) => cx.reply(agent, AgentReply::Accepted),
            Some(_) => late(cx, agent),
            None => not_a_member(cx, agent),
        }
    }

    pub(super) fn added<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId) {
        if let Phase::Collecting(phase) = &mut self.phase {
            phase.added(cx, agent);
        }
    }

    pub(super) fn add_failed<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, code: ErrorCode) {
        if let Phase::Collecting(phase) = &mut self.phase
            && let Some(next) = phase.add_failed(&mut self.job, cx, agent, code)
        {
            self.phase = next;
        }
    }

    /// The round could not be made durable: nobody was told of it.
    pub(super) fn open_failed<R>(&mut self, cx: &mut Context<'_, R>, reason: &str) {
        match &mut self.phase {
            Phase::Collecting(phase) => self.phase = phase.give_up(&mut self.job, cx, reason),
            Phase::Joining(phase) => {
                self.job.trouble = Some(reason.to_owned());
                self.phase = phase.give_up(&mut self.job, cx);
            }
            _ => {}
        }
    }

    /// Whose inputs are summed could not be made durable: nobody was told, and nobody reveals anything for this sum.
    pub(super) fn seal_failed<R>(&mut self, cx: &mut Context<'_, R>, reason: &str) {
        if let Phase::Unmasking(phase) = &mut self.phase {
            self.job.trouble = Some(reason.to_owned());
            phase.drop_sum(cx);
            let pause = self.job.pause_after_failure(&cx.config);
            self.phase = Phase::Gathering(Gathering::held_until(cx.now.after(pause)));
        }
    }

    pub(super) fn progressed<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, progress: Progress) {
        let wanted = !self.is_ended() && self.job.permits(progress.base);
        if wanted {
            self.job.seats.progressed(cx.now, agent, progress.percent);
        }
        cx.reply(agent, AgentReply::Progress(ProgressReply { wanted }));
    }

    pub(super) fn upload_progressed<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId) {
        if let Phase::Collecting(phase) = &mut self.phase {
            phase.cohort.heard(cx.now, agent);
        }
    }

    /// Whether a round waits here for more agents than there seem to be.
    pub(super) fn is_unfillable(&self, now: Timestamp) -> bool {
        matches!(&self.phase, Phase::Gathering(phase) if phase.is_unfillable(&self.job, now))
    }

    /// Whether it has work, not enough agents for a round, and could have more.
    pub(super) fn is_hungry(&self) -> bool {
        self.job.suits != Some(false) && matches!(self.phase, Phase::Gathering(_)) && self.job.seats.len() < self.job.need()
    }

    /// An agent waits for a round of `job`: that job is for its device. Whether this one is too shows when it checks in, which an agent with a contribution does
    /// not do when the server was restarted. Until then nobody can say that no device fits.
    pub(super) fn offered(&mut self, job: JobId, was_looked_at: bool) {
        if self.job.id == job {
            self.job.suits = Some(true);
        } else if !was_looked_at {
            self.job.suits.take_if(|suits| !*suits);
        }
    }

    /// Its place before the shares: a round that has begun is filled before another one begins, and one that has enough comes last.
    pub(super) fn standing(&self) -> Standing {
        let n = self.job.seats.len();
        match (&self.phase, self.job.mode()) {
            (_, RoundMode::Async) => Standing::Beginning,
            (Phase::Gathering(_), _) if n > 0 && n < self.job.goal() => Standing::Filling,
            _ if n >= self.job.goal() => Standing::Filled,
            _ => Standing::Beginning,
        }
    }

    /// An agent was given work: the first one of a round pays for all that it needs, each one beyond for itself.
    pub(super) fn pay(&mut self, now: Timestamp, time: &mut VirtualTime) {
        let weight = self.job.weight(now);
        let goal = self.job.goal();
        match (self.job.mode(), self.job.seats.len()) {
            (RoundMode::Async, _) => self.job.share.pay(time, weight, 1),
            (_, 1) => self.job.share.pay(time, weight, goal),
            (_, n) if n > goal => self.job.share.charge(*time, weight, 1),
            _ => {}
        }
    }

    /// A round that could not be filled in time begins anew, with the agents that it has.
    pub(super) fn wait_on(&mut self, now: Timestamp) {
        if let Phase::Gathering(phase) = &mut self.phase {
            phase.reopen(&self.job, now);
        }
    }

    /// Lets its agents work for other jobs.
    pub(super) fn let_go<R>(&mut self, cx: &mut Context<'_, R>, time: VirtualTime) {
        if let Phase::Gathering(phase) = &mut self.phase {
            self.job.let_go(cx);
            phase.reopen(&self.job, cx.now);
            // It had the agents' time for nothing: it waits longer each time.
            self.job.unfilled = self.job.unfilled.saturating_add(1);
            let (weight, agents) = (self.job.weight(cx.now), self.job.goal() << self.job.unfilled.min(MOST_UNFILLED));
            self.job.share.charge(time, weight, agents);
        }
    }

    /// True if the request stays open.
    pub(super) fn outcome<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, query: OutcomeQuery) -> bool {
        if let Some(included) = self.job.included(query.contribution) {
            cx.reply(agent, AgentReply::Outcome(included));
            return false;
        }
        match &mut self.phase {
            Phase::Collecting(phase) if phase.cohort.id() == query.cohort => {
                // Before the survivors are known only those ask for the outcome that have no keys any more.
                if let Some(secure) = &mut phase.cohort.secure {
                    secure.lost_keys(agent);
                }
                phase.cohort.ask(cx, agent, query.contribution)
            }
            Phase::Unmasking(phase) if phase.cohort.id() == query.cohort => {
                phase.outcome_asked(agent);
                phase.cohort.ask(cx, agent, query.contribution)
            }
            Phase::Publishing(phase) if phase.cohort.id() == query.cohort => phase.cohort.ask(cx, agent, query.contribution),
            _ => {
                cx.reply(agent, AgentReply::Outcome(OutcomeReply::NotIncluded));
                false
            }
        }
    }

    /// The agent asks for other work and holds no contribution to this job: what it was expected to send does not come.
    pub(super) fn abandoned<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId) {
        self.job.stop_waiting(agent);
        match &mut self.phase {
            Phase::Joining(phase) => phase.leaves(cx, agent),
            Phase::Collecting(phase) => {
                phase.abandoned(cx, agent);
                // A member whose input is in the sum has let go of it, and of its keys.
                let is_member = phase.cohort.get(agent).is_some();
                if let Some(secure) = phase.cohort.secure.as_mut().filter(|_| is_member) {
                    secure.lost_keys(agent);
                }
            }
            Phase::Unmasking(phase) => phase.outcome_asked(agent),
            _ => {}
        }
    }

    pub(super) fn gone(&mut self, now: Timestamp, agent: AgentId) {
        self.job.gone(now, agent);
        match &mut self.phase {
            Phase::Joining(phase) => phase.gone(now, agent),
            Phase::Collecting(phase) => phase.cohort.gone(now, agent),
            Phase::Unmasking(phase) => phase.cohort.gone(now, agent),
            Phase::Publishing(phase) => phase.cohort.gone(now, agent),
            Phase::Gathering(_) | Phase::Ended(_) => {}
        }
    }

    pub(super) fn revoked<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId) {
        if self.job.stop_waiting(agent) {
            cx.refuse(agent, RequestKind::Ready, ErrorCode::Revoked, super::REVOKED);
        }
        self.job.seats.leave(agent);
        self.job.known.is_out(agent);
        match &mut self.phase {
            Phase::Joining(phase) => phase.revoked(cx, agent),
            Phase::Collecting(phase) => phase.revoked(cx, agent),
            Phase::Unmasking(phase) => phase.revoked(cx, agent),
            Phase::Publishing(phase) => phase.revoked(cx, agent),
            Phase::Gathering(_) | Phase::Ended(_) => {}
        }
    }

    pub(super) fn stop<R>(&mut self, cx: &mut Context<'_, R>) {
        match &mut self.phase {
            Phase::Gathering(_) => {}
            Phase::Joining(phase) => {
                phase.give_up(&mut self.job, cx);
            }
            Phase::Collecting(phase) => phase.drop_sum(cx),
            Phase::Unmasking(phase) => phase.drop_sum(cx),
            Phase::Publishing(phase) => {
                if !phase.stop(cx) {
                    return;
                }
            }
            Phase::Ended(_) => return,
        }
        self.phase = self.job.end(cx, JobEnd::Stopped);
    }

    /// [`Event::Published`] and [`Event::PublishFailed`], if this job waits for them.
    pub(super) fn concluded<R>(&mut self, cx: &mut Context<'_, R>, event: &Event) {
        let Phase::Publishing(phase) = &mut self.phase else { return };
        if !phase.is_under_way() {
            return;
        }
        let next = match event {
            Event::Published {
                round,
                base,
                base_bytes,
                accuracy,
                ..
            } if *round == self.job.round => Some(phase.published(&mut self.job, cx, *base, *base_bytes, *accuracy)),
            Event::PublishFailed {
                round,
                retry,
                blame,
                reason,
                ..
            } if *round == self.job.round => {
                // Else one dealer could spoil every sum.
                self.job.barred.extend(blame.iter().map(|agent| (*agent, ErrorCode::SecAgg)));
                phase.failed(&mut self.job, cx, *retry, reason)
            }
            _ => None,
        };
        if let Some(next) = next {
            self.phase = next;
        }
    }

    /// Makes every transition that is due.
    pub(super) fn advance<R: CryptoRng>(&mut self, cx: &mut Context<'_, R>) {
        while let Some(next) = match &mut self.phase {
            Phase::Gathering(phase) => phase.advance(&mut self.job, cx),
            Phase::Joining(phase) => phase.advance(&mut self.job, cx),
            Phase::Collecting(phase) => phase.advance(&mut self.job, cx),
            Phase::Unmasking(phase) => phase.advance(&mut self.job, cx),
            Phase::Publishing(phase) => {
                phase.advance(&self.job, cx);
                None
            }
            Phase::Ended(_) => None,
        } {
            self.phase = next;
        }
    }

    /// When time alone changes something.
    pub(super) fn timeout(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.phase {
            Phase::Gathering(phase) => phase.timeout(&self.job, now),
            Phase::Joining(phase) => phase.timeout(),
            Phase::Collecting(phase) => Some(phase.timeout(&self.job)),
            Phase::Unmasking(phase) => phase.timeout(),
            Phase::Publishing(phase) => phase.timeout(),
            Phase::Ended(_) => None,
        }
    }

    pub(super) fn view(&self) -> JobView {
        let (phase, ended) = match &self.phase {
            Phase::Gathering(_) => (PhaseName::Gathering, None),
            Phase::Collecting(phase) if phase.is_sealed => (phase.sealed_as(), None),
            Phase::Joining(_) => (PhaseName::Joining, None),
            Phase::Collecting(_) => (PhaseName::Collecting, None),
            Phase::Unmasking(_) => (PhaseName::Unmasking, None),
            Phase::Publishing(_) => (PhaseName::Publishing, None),
            Phase::Ended(phase) => (PhaseName::Ended, Some(phase.end.clone())),
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        JobView {
            job: self.job.id,
            phase,
            ended,
            round: self.job.round - 1,
            rounds: self.job.file.round.rounds,
            base: self.job.base(),
            seats: count(self.job.seats.len()),
            ready: count(self.job.waiting().len()),
            members: match &self.phase {
                Phase::Joining(phase) => count(phase.members()),
                _ => self.cohort().map_or(0, |c| count(c.members().len())),
            },
            received: self.cohort().map_or(0, |c| count(c.tally().adding + c.tally().added)),
            trouble: self.job.trouble.clone(),
        }
    }
}
