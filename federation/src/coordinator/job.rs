//! What a job carries through all of its phases.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use aimass_protocol::job::JobFile;
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::OutcomeReply;
use aimass_protocol::{AgentId, ContributionId, Digest, ErrorCode, JobId, Timestamp};

use super::ended::Ended;
use super::entry::Phase;
use super::{AgentReply, Config, Effect, JobEnd, RoundOutcome};
use crate::RequestKind;

/// A step's surroundings.
pub(super) struct Context<'a, R> {
    pub(super) now: Timestamp,
    pub(super) config: Config,
    pub(super) rng: &'a mut R,
    pub(super) out: &'a mut Vec<Effect>,
}

impl<R> Context<'_, R> {
    pub(super) fn reply(&mut self, agent: AgentId, reply: AgentReply) {
        self.out.push(Effect::Reply { agent, reply });
    }

    pub(super) fn refuse(&mut self, agent: AgentId, request: RequestKind, code: ErrorCode, text: impl Into<String>) {
        self.reply(
            agent,
            AgentReply::Refused {
                request,
                refusal: Refusal::new(code, text),
            },
        );
    }
}

/// An agent's place among the `round.max` that train for a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seat {
    since: Timestamp,
    gone_since: Option<Timestamp>,
}

/// An agent that waits to be put in a cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) contribution: ContributionId,
    /// Its place in the queue.
    order: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) file: JobFile,
    /// The round that runs, counted from 1.
    pub(super) round: u32,
    pub(super) base: Digest,
    pub(super) base_bytes: u64,
    /// When work for it was last handed out, in the coordinator's count of tasks.
    pub(super) served: u64,
    /// Failures to publish the running round.
    pub(super) publish_failures: u32,
    /// Agents whose update was refused in the running round.
    pub(super) barred: BTreeMap<AgentId, ErrorCode>,
    waiting: BTreeMap<AgentId, Waiting>,
    next_order: u64,
    seats: BTreeMap<AgentId, Seat>,
    recent: VecDeque<RoundOutcome>,
}

impl Job {
    pub(super) fn new(id: JobId, file: JobFile, round: u32, base: Digest, base_bytes: u64, recent: Vec<RoundOutcome>) -> Self {
        Self {
            id,
            file,
            round,
            base,
            base_bytes,
            served: 0,
            publish_failures: 0,
            barred: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next_order: 0,
            seats: BTreeMap::new(),
            recent: recent.into(),
        }
    }

    /// Fewest contributions that make a round.
    pub(super) fn need(&self) -> usize {
        size(self.file.round.min.max(self.file.aggregation.floor).max(1))
    }

    /// Ready agents that make a cohort at once.
    pub(super) fn goal(&self) -> usize {
        size(self.file.round.target).max(self.need()).min(self.max())
    }

    /// Most agents in a round.
    pub(super) fn max(&self) -> usize {
        size(self.file.round.max)
    }

    pub(super) fn max_time(&self) -> Duration {
        self.file.round.max_time
    }

    /// The model that a contribution went into.
    pub(super) fn included(&self, contribution: ContributionId) -> Option<OutcomeReply> {
        let outcome = self.recent.iter().find(|o| o.contributions.contains(&contribution))?;
        Some(OutcomeReply::Included {
            round: outcome.round,
            model: outcome.model,
        })
    }

    pub(super) fn remember(&mut self, outcome: RoundOutcome, limit: usize) {
        self.recent.push_back(outcome);
        while self.recent.len() > limit {
            self.recent.pop_front();
        }
    }

    pub(super) fn waiting(&self) -> &BTreeMap<AgentId, Waiting> {
        &self.waiting
    }

    /// Queues an agent. The same contribution again keeps its place.
    pub(super) fn wait(&mut self, now: Timestamp, agent: AgentId, contribution: ContributionId) {
        let order = match self.waiting.get(&agent) {
            Some(w) if w.contribution == contribution => w.order,
            _ => {
                self.next_order += 1;
                self.next_order
            }
        };
        self.waiting.insert(agent, Waiting { contribution, order });
        self.seats.insert(
            agent,
            Seat {
                since: now,
                gone_since: None,
            },
        );
    }

    pub(super) fn stop_waiting(&mut self, agent: AgentId) -> bool {
        self.waiting.remove(&agent).is_some()
    }

    /// Takes up to `n` agents out of the queue, those that wait longest first.
    pub(super) fn take_waiting(&mut self, n: usize) -> BTreeMap<AgentId, ContributionId> {
        let mut queue: Vec<_> = self.waiting.iter().map(|(agent, w)| (w.order, *agent, w.contribution)).collect();
        queue.sort_unstable();
        queue.truncate(n);
        for (_, agent, _) in &queue {
            self.waiting.remove(agent);
        }
        queue.into_iter().map(|(_, agent, contribution)| (agent, contribution)).collect()
    }

    /// Tells all waiting agents that their contribution is of no use any more.
    fn supersede<R>(&mut self, cx: &mut Context<'_, R>) {
        for agent in std::mem::take(&mut self.waiting).into_keys() {
            cx.reply(agent, AgentReply::Superseded);
        }
    }

    /// Goes on to the next round with a new base.
    pub(super) fn rebase<R>(&mut self, cx: &mut Context<'_, R>, base: Digest, base_bytes: u64) {
        self.round = self.round.saturating_add(1);
        self.publish_failures = 0;
        self.barred.clear();
        self.seats.clear();
        // A round of zero updates may give back the model that it started from: what waits on it is still good.
        if base != self.base {
            self.supersede(cx);
        }
        for agent in self.waiting.keys() {
            self.seats.insert(
                *agent,
                Seat {
                    since: cx.now,
                    gone_since: None,
                },
            );
        }
        self.base = base;
        self.base_bytes = base_bytes;
    }

    pub(super) fn end<R>(&mut self, cx: &mut Context<'_, R>, end: JobEnd) -> Phase {
        self.supersede(cx);
        self.seats.clear();
        self.barred.clear();
        cx.out.push(Effect::JobEnded {
            job: self.id,
            end: end.clone(),
        });
        Phase::Ended(Ended { end })
    }

    pub(super) fn seats(&self) -> usize {
        self.seats.len()
    }

    /// Gives `agent` a seat, or renews the one that it has, after freeing those of agents that fell silent. False if all are taken.
    pub(super) fn seat(&mut self, now: Timestamp, grace: Duration, agent: AgentId) -> bool {
        let max_time = self.max_time();
        let waiting = &self.waiting;
        self.seats.retain(|agent, seat| {
            let silent = now >= seat.since.after(max_time) || seat.gone_since.is_some_and(|gone| now >= gone.after(grace));
            waiting.contains_key(agent) || !silent
        });
        if !self.seats.contains_key(&agent) && self.seats.len() >= self.max() {
            return false;
        }
        self.seats.insert(
            agent,
            Seat {
                since: now,
                gone_since: None,
            },
        );
        true
    }

    /// The agent's connection closed: it no longer waits, and its seat is kept for a while.
    pub(super) fn gone(&mut self, now: Timestamp, agent: AgentId) {
        self.waiting.remove(&agent);
        if let Some(seat) = self.seats.get_mut(&agent) {
            seat.gone_since.get_or_insert(now);
        }
    }

    /// The agent is here: its seat is not up for grabs.
    pub(super) fn back(&mut self, agent: AgentId) {
        if let Some(seat) = self.seats.get_mut(&agent) {
            seat.gone_since = None;
        }
    }

    pub(super) fn unseat(&mut self, agent: AgentId) {
        self.seats.remove(&agent);
    }
}

fn size(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
