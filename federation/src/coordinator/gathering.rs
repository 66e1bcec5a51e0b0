//! Gathering: agents train on their own time and say that they are ready.

use std::time::Duration;

use aimass_protocol::job::AggregationMode;
use aimass_protocol::{CohortId, Timestamp};
use rand_core::CryptoRng;

use super::cohort::Cohort;
use super::collecting::Collecting;
use super::entry::Phase;
use super::job::{Context, Job};
use super::joining::Joining;
use super::{AgentReply, CohortTerms, Effect, OpenRound};

/// In a round that ends training, this part of its time is left for what comes after.
const UPLOAD_SHARE: u32 = 10;

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Gathering {
    /// When the first agent took part; the round's `max_time` counts from here, so a job without agents waits as long as it takes.
    opened_at: Option<Timestamp>,
    /// No cohort before this: a pause after a failure to publish.
    hold_until: Timestamp,
}

impl Gathering {
    pub(super) fn held_until(hold_until: Timestamp) -> Self {
        Self {
            opened_at: None,
            hold_until,
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

    pub(super) fn advance<R: CryptoRng>(&mut self, job: &mut Job, cx: &mut Context<'_, R>) -> Option<Phase> {
        if job.seats.len() > 0 {
            self.opened_at.get_or_insert(cx.now);
            job.begun(cx.now);
        }
        self.due(job).filter(|due| *due <= cx.now && job.waiting().len() >= job.need())?;

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
