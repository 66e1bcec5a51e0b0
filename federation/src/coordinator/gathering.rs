//! Gathering: agents train on their own time and say that they are ready.

use std::time::Duration;

use aimass_protocol::job::AggregationMode;
use aimass_protocol::{CohortId, Timestamp};
use rand_core::CryptoRng;

use super::cohort::Cohort;
use super::collecting::Collecting;
use super::entry::Phase;
use super::job::{Context, Job, size};
use super::joining::Joining;
use super::{AgentReply, CohortTerms, Effect, JobEnd, OpenRound};

/// In a round that ends training, this part of its time is left for what comes after.
const UPLOAD_SHARE: u32 = 10;

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Gathering {
    /// When the first agent took part; the round's `max_time` counts from here, so a job without agents waits as long as it takes.
    opened_at: Option<Timestamp>,
    /// No cohort before this: a pause after a failure to publish.
    hold_until: Timestamp,
    /// Since when so many agents have spent the model that the others are too few for a round.
    spent_up: Option<Timestamp>,
}

impl Gathering {
    pub(super) fn held_until(hold_until: Timestamp) -> Self {
        Self {
            hold_until,
            ..Self::default()
        }
    }

    /// How much of the round's time is left for training, in a round that ends it; `None` when that is too little to begin.
    pub(super) fn time_left(&self, job: &Job, now: Timestamp) -> Option<Duration> {
        let opened = self.opened_at.unwrap_or(now);
        let upload = job.max_time() / UPLOAD_SHARE;
        let left = opened.after(job.max_time() - upload).since(now);
        (left >= upload).then_some(left)
    }

    /// Whether the round's time passed without enough agents.
    pub(super) fn is_unfillable(&self, job: &Job, now: Timestamp) -> bool {
        job.waiting().len() < job.need() && self.opened_at.is_some_and(|opened| now >= opened.after(job.max_time()))
    }

    /// Begins to wait anew, with the agents that it has.
    pub(super) fn reopen(&mut self, job: &Job, now: Timestamp) {
        self.opened_at = (job.seats.len() > 0).then_some(now);
    }

    /// When a cohort is formed of those that are ready now, or when it shows that they are too few.
    pub(super) fn due(&self, job: &Job) -> Option<Timestamp> {
        let ready = job.waiting().len();
        if ready >= job.goal() {
            Some(self.hold_until)
        } else {
            self.opened_at.map(|opened| opened.after(job.max_time()).max(self.hold_until))
        }
    }

    /// When time alone changes something, after `now`.
    pub(super) fn timeout(&self, job: &Job, now: Timestamp) -> Option<Timestamp> {
        let both = self.due(job).into_iter().chain(self.ends_at(job));
        both.filter(|at| *at > now).min()
    }

    /// When the job ends because its model is spent.
    fn ends_at(&self, job: &Job) -> Option<Timestamp> {
        self.spent_up.map(|since| since.after(job.long_patience()))
    }

    /// Why the job can't go on: with those who have spent the current model there would be enough for a round, without them there are not, and so it was for as
    /// long as a round may take. What is spent must not be offered again, so waiting on would be for ever.
    fn is_spent_up(&mut self, job: &mut Job, now: Timestamp) -> Option<String> {
        if !job.known.is_spent() {
            self.spent_up = None;
            return None;
        }
        let (need, (able, spent)) = (job.need(), job.able_and_spent(now));
        if able >= need || able + spent < need {
            self.spent_up = None;
            return None;
        }
        self.spent_up.get_or_insert(now);
        self.ends_at(job).filter(|ends| *ends <= now).map(|_| {
            let groups = job.file.rounds_a_model();
            if groups > 1 {
                return format!(
                    "{spent} agents are in an earlier group of the {groups} that begin with one model, each is in one of them alone, and the {able} that are left are \
                     too few for a round of {need}: submit the job again with fewer groups, a lower round.min, or {} agents at least",
                    need.saturating_mul(size(groups))
                );
            }
            format!(
                "{spent} agents have spent their contributions to the current model, most likely on a sum that too few helped to unmask, and may not give others; \
                 the {able} that are left are too few for a round of {need}: pull the last model with `aimass job pull`, and submit a new job that starts from \
                 it, with another job.seed, and with more agents or a longer round.max_time"
            )
        })
    }

    pub(super) fn advance<R: CryptoRng>(&mut self, job: &mut Job, cx: &mut Context<'_, R>) -> Option<Phase> {
        if job.seats.len() > 0 {
            self.opened_at.get_or_insert(cx.now);
            job.begun(cx.now);
        }
        if let Some(reason) = self.is_spent_up(job, cx.now) {
            return Some(job.end(cx, JobEnd::Failed { reason }));
        }
        let is_due = self.due(job).is_some_and(|due| due <= cx.now);
        if is_due && job.waiting().len() < job.need() {
            // Without those whose update was refused there are too few: each may try again, not more often than once in the round's time.
            job.barred.clear();
        }
        if !is_due || job.waiting().len() < job.need() {
            return None;
        }

        let members = job.take_waiting(job.max());
        let mut id = [0; CohortId::LEN];
        cx.rng.fill_bytes(&mut id);
        let terms = CohortTerms {
            job: job.id,
            round: job.round,
            cohort: CohortId::from_bytes(id),
            bases: job.bases(),
            members: u32::try_from(members.len()).unwrap_or(u32::MAX),
            floor: job.file.aggregation.floor,
            deadline: cx.now.after(job.max_time()),
            codec: job.file.update,
            mode: job.file.aggregation.mode,
            secagg: None,
        };
        if terms.mode == AggregationMode::Secure {
            return Some(Phase::Joining(Joining::begin(cx, terms, members)));
        }
        cx.out.push(Effect::OpenRound(OpenRound {
            terms: terms.clone(),
            members: members.iter().map(|(agent, contribution)| (*agent, *contribution)).collect(),
            survivors: None,
            secagg: None,
            unmasking: None,
        }));
        for agent in members.keys() {
            cx.reply(*agent, AgentReply::Cohort(terms.clone()));
        }
        Some(Phase::Collecting(Collecting::new(cx.now, Cohort::new(cx.now, terms, members))))
    }
}
