use std::time::Duration;

use aimass_protocol::message::agent::{CheckIn, ComeBack, Held, OutcomeQuery, OutcomeReply, Progress, Ready};
use aimass_protocol::{AgentId, CohortId, ContributionId, ErrorCode, Timestamp};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::fixtures::{agent, at_s, check_in, cohort, contribution, job, job_spec, model, rng};

mod ends;
mod identity;
mod modes;
mod restart;
mod rounds;
mod secure;
mod sharing;
mod table;
mod work;

/// A coordinator with its clock and what it last wanted.
#[derive(Clone)]
struct Bench {
    coordinator: Coordinator,
    rng: ChaCha8Rng,
    now: Timestamp,
}

impl Bench {
    fn new() -> Self {
        Self {
            coordinator: Coordinator::new(Config::default()),
            rng: rng(1),
            now: at_s(1000),
        }
    }

    /// One with job 1.
    fn with_job() -> Self {
        let mut bench = Self::new();
        assert_eq!(bench.step(Event::AddJob(Box::new(job_spec(1)))), []);
        bench
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut out = Vec::new();
        self.coordinator.step(self.now, event, &mut self.rng, &mut out);
        out
    }

    fn tick_after(&mut self, seconds: u64) -> Vec<Effect> {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.step(Event::Tick)
    }

    /// The one reply to `agent`, when nothing else happened.
    fn reply(&mut self, event: Event) -> AgentReply {
        match self.step(event).as_slice() {
            [Effect::Reply { reply, .. }] => reply.clone(),
            other => panic!("one reply expected, got {other:?}"),
        }
    }

    fn refusal(&mut self, event: Event) -> ErrorCode {
        match self.reply(event) {
            AgentReply::Refused { refusal, .. } => refusal.code,
            other => panic!("a refusal expected, got {other:?}"),
        }
    }

    fn check_in(&mut self, n: u8) -> AgentReply {
        self.reply(Event::CheckIn {
            agent: agent(n),
            check_in: check_in(),
        })
    }

    fn ready(&mut self, n: u8) -> Vec<Effect> {
        self.step(ready(n, n))
    }

    /// Agents `1..=n` are ready; the cohort that was formed.
    fn gather(&mut self, n: u8) -> CohortId {
        let effects: Vec<_> = (1..=n).flat_map(|n| self.ready(n)).collect();
        opened(&effects)
    }

    /// The agent's update goes into the sum.
    fn add(&mut self, n: u8, cohort: CohortId) -> Vec<Effect> {
        self.step(upload(n, cohort));
        self.step(received(n, cohort));
        self.step(Event::Added { agent: agent(n), cohort })
    }

    fn publish(&mut self, round: u32, n: u8) -> Vec<Effect> {
        self.step(Event::Published {
            job: job(1),
            round,
            base: model(n),
            base_bytes: 1000,
            accuracy: Some(0.5),
        })
    }

    fn phase(&self) -> PhaseName {
        self.coordinator.job(job(1)).expect("job 1 is there").phase
    }
}

fn ready(n: u8, c: u8) -> Event {
    Event::Ready {
        agent: agent(n),
        ready: Ready {
            job: job(1),
            base: model(100),
            contribution: contribution(c),
        },
    }
}

fn upload(n: u8, cohort: CohortId) -> Event {
    Event::UploadBegun {
        agent: agent(n),
        cohort,
        contribution: contribution(n),
    }
}

fn received(n: u8, cohort: CohortId) -> Event {
    Event::Received {
        agent: agent(n),
        cohort,
        contribution: contribution(n),
    }
}

fn outcome(n: u8, cohort: CohortId) -> Event {
    Event::Outcome {
        agent: agent(n),
        query: OutcomeQuery {
            job: job(1),
            cohort,
            contribution: contribution(n),
        },
    }
}

fn told(n: u8, reply: AgentReply) -> Effect {
    Effect::Reply { agent: agent(n), reply }
}

fn not_included(n: u8) -> Effect {
    told(n, AgentReply::Outcome(OutcomeReply::NotIncluded))
}

fn opened(effects: &[Effect]) -> CohortId {
    match effects.first() {
        Some(Effect::OpenRound(open)) => open.terms.cohort,
        other => panic!("a cohort expected, got {other:?}"),
    }
}

fn members(effects: &[Effect]) -> Vec<AgentId> {
    effects
        .iter()
        .filter_map(|e| {
            matches!(
                e,
                Effect::Reply {
                    reply: AgentReply::Cohort(_),
                    ..
                }
            )
            .then(|| target(e))
            .flatten()
        })
        .collect()
}

fn target(effect: &Effect) -> Option<AgentId> {
    match effect {
        Effect::Reply { agent, .. } => Some(*agent),
        _ => None,
    }
}
