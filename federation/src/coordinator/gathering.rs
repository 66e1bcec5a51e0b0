//! Gathering: agents train on their own time and say that they are ready.

use aimass_protocol::{CohortId, Timestamp};
use rand_core::CryptoRng;

use super::cohort::Cohort;
use super::collecting::Collecting;
use super::entry::Phase;
use super::job::{Context, Job};
use super::{AgentReply, CohortTerms, Effect};

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

    /// When a cohort is formed of those that are ready now; none while they are too few.
    pub(super) fn due(&self, job: &Job) -> Option<Timestamp> {
        let ready = job.waiting().len();
        if ready >= job.goal() {
            Some(self.hold_until)
        } else if ready >= job.need() {
            self.opened_at.map(|opened| opened.after(job.max_time()).max(self.hold_until))
        } else {
            None
        }
    }

    pub(super) fn advance<R: CryptoRng>(&mut self, job: &mut Job, cx: &mut Context<'_, R>) -> Option<Phase> {
        if job.seats() > 0 {
            self.opened_at.get_or_insert(cx.now);
        }
        self.due(job).filter(|due| *due <= cx.now)?;

        let members = job.take_waiting(job.max());
        let mut id = [0; CohortId::LEN];
        cx.rng.fill_bytes(&mut id);
        let terms = CohortTerms {
            job: job.id,
            round: job.round,
            cohort: CohortId::from_bytes(id),
            base: job.base,
            members: u32::try_from(members.len()).unwrap_or(u32::MAX),
            floor: job.file.aggregation.floor,
            deadline: cx.now.after(job.max_time()),
            codec: job.file.update,
            mode: job.file.aggregation.mode,
        };
        cx.out.push(Effect::OpenSum {
            job: job.id,
            cohort: terms.cohort,
            round: job.round,
            members: terms.members,
        });
        for agent in members.keys() {
            cx.reply(*agent, AgentReply::Cohort(terms));
        }
        Some(Phase::Collecting(Collecting {
            cohort: Cohort::new(terms, members),
        }))
    }
}
