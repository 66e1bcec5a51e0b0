//! What a job carries through all of its phases.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use aimass_protocol::job::{JobFile, RoundMode, RoundSize};
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::{CheckIn, OutcomeReply};
use aimass_protocol::{AgentId, ContributionId, Digest, ErrorCode, JobId, Timestamp};

use super::ended::Ended;
use super::entry::Phase;
use super::known::Known;
use super::patience::{History, Task};
use super::seats::{Rules, Seats};
use super::share::{Share, urgency, weight};
use super::{AgentReply, Config, Effect, JobEnd, JobSpec, RoundOutcome};
use crate::RequestKind;

/// Once shares may have been revealed, what is missing is waited for at least so long: who has revealed some can't contribute to this model again,
/// whatever becomes of the sum.
const LEAST_PATIENCE: Duration = Duration::from_secs(300);

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

/// An agent that waits to be put in a cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) contribution: ContributionId,
    base: Digest,
    /// Its place in the queue.
    order: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) file: JobFile,
    /// The round that runs, counted from 1.
    pub(super) round: u32,
    /// The models that contributions may stand on, newest first; never empty.
    bases: VecDeque<Digest>,
    /// Size of the first.
    pub(super) base_bytes: u64,
    /// What it was given of the agents' time.
    pub(super) share: Share,
    /// Whether a device that fits was ever seen; `None` while there are some that were not looked at.
    pub(super) suits: Option<bool>,
    /// What is in the way of the running round, for people.
    pub(super) trouble: Option<String>,
    /// Failures in a row to open or publish the running round.
    pub(super) failures: u32,
    /// How often in a row agents were let go.
    pub(super) unfilled: u32,
    /// Sums of the running round that made no model.
    pub(super) spoiled: u32,
    /// Agents whose update was refused in the running round.
    pub(super) barred: BTreeMap<AgentId, ErrorCode>,
    /// Agents that kept their part of a draw back in the running round.
    kept_back: BTreeSet<AgentId>,
    pub(super) known: Known,
    pub(super) seats: Seats,
    pub(super) history: History,
    /// How long the last round took.
    round_took: Option<Duration>,
    round_began: Option<Timestamp>,
    waiting: BTreeMap<AgentId, Waiting>,
    next_order: u64,
    recent: VecDeque<RoundOutcome>,
}

impl Job {
    /// The job of a spec, without its phase.
    pub(super) fn new(spec: &JobSpec, remembered: usize) -> Self {
        let skipped = spec.recent.len().saturating_sub(remembered);
        let earlier = size(spec.file.round.max_staleness);
        let mut bases = VecDeque::from([spec.base]);
        for base in &spec.earlier {
            if bases.len() <= earlier && !bases.contains(base) {
                bases.push_back(*base);
            }
        }
        Self {
            id: spec.id,
            file: spec.file.clone(),
            round: spec.next_round.max(1),
            bases,
            base_bytes: spec.base_bytes,
            share: Share::default(),
            suits: None,
            trouble: None,
            failures: 0,
            unfilled: 0,
            spoiled: 0,
            barred: BTreeMap::new(),
            kept_back: BTreeSet::new(),
            known: Known::default(),
            seats: Seats::default(),
            history: History::default(),
            round_took: None,
            round_began: None,
            waiting: BTreeMap::new(),
            next_order: 0,
            recent: spec.recent.iter().skip(skipped).cloned().collect(),
        }
    }

    /// The model that the running round starts from.
    pub(super) fn base(&self) -> Digest {
        self.bases[0]
    }

    /// The models that contributions may stand on, newest first.
    pub(super) fn bases(&self) -> Vec<Digest> {
        self.bases.iter().copied().collect()
    }

    /// Whether a contribution may stand on this model.
    pub(super) fn permits(&self, base: Digest) -> bool {
        self.bases.contains(&base)
    }

    pub(super) fn mode(&self) -> RoundMode {
        self.file.round.mode
    }

    /// Fewest contributions that make a round.
    pub(super) fn need(&self) -> usize {
        size(self.file.round.min.max(self.file.aggregation.floor).max(1))
    }

    /// Ready agents that make a cohort at once.
    pub(super) fn goal(&self) -> usize {
        size(self.size().target).max(self.need()).min(self.max())
    }

    /// Most agents in a round.
    pub(super) fn max(&self) -> usize {
        size(self.size().max)
    }

    /// How many agents make the running round.
    fn size(&self) -> RoundSize {
        let (able, spent) = self.known.count();
        self.file.size_of(self.round, u32::try_from(able + spent).unwrap_or(u32::MAX))
    }

    pub(super) fn max_time(&self) -> Duration {
        self.file.round.max_time
    }

    /// How long shares are waited for once some may have been revealed, and others when too many agents have spent the model.
    pub(super) fn long_patience(&self) -> Duration {
        self.max_time().max(LEAST_PATIENCE)
    }

    /// Its weight among the jobs that agents are shared by.
    pub(super) fn weight(&self, now: Timestamp) -> u64 {
        let left = self.file.round.rounds.saturating_sub(self.round - 1);
        let takes = self.round_took.unwrap_or(self.max_time());
        weight(self.file.job.priority, urgency(now, self.file.job.deadline, left, takes))
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
    pub(super) fn wait(&mut self, now: Timestamp, agent: AgentId, base: Digest, contribution: ContributionId) {
        let order = match self.waiting.get(&agent) {
            Some(w) if w.contribution == contribution => w.order,
            _ => {
                self.next_order += 1;
                self.next_order
            }
        };
        self.waiting.insert(agent, Waiting { contribution, base, order });
        if let Some(took) = self.seats.hold(now, agent) {
            self.history.learn(agent, Task::Training, took);
        }
    }

    pub(super) fn stop_waiting(&mut self, agent: AgentId) -> bool {
        let waited = self.waiting.remove(&agent).is_some();
        if waited {
            self.seats.waits_no_more(agent, &self.history);
        }
        waited
    }

    /// Takes up to `n` agents out of the queue, those that wait longest first.
    pub(super) fn take_waiting(&mut self, n: usize) -> BTreeMap<AgentId, ContributionId> {
        let mut queue: Vec<_> = self.waiting.iter().map(|(agent, w)| (w.order, *agent, w.contribution)).collect();
        queue.sort_unstable();
        queue.truncate(n);
        self.seats.look_again();
        for (_, agent, _) in &queue {
            self.waiting.remove(agent);
            if self.mode() == RoundMode::Async {
                self.seats.leave(*agent);
            }
        }
        queue.into_iter().map(|(_, agent, contribution)| (agent, contribution)).collect()
    }

    /// Tells waiting agents whose base is not permitted (any more) that their contribution is of no use.
    fn supersede<R>(&mut self, cx: &mut Context<'_, R>) {
        let bases = &self.bases;
        let stale: Vec<AgentId> = self
            .waiting
            .extract_if(.., |_, w| !bases.contains(&w.base))
            .map(|(agent, _)| agent)
            .collect();
        self.seats.look_again();
        for agent in stale {
            cx.reply(agent, AgentReply::Superseded);
        }
    }

    /// Lets all agents go that hold a place, whether they wait or train: the round can't be filled, and other jobs have work for them.
    pub(super) fn let_go<R>(&mut self, cx: &mut Context<'_, R>) {
        for agent in std::mem::take(&mut self.waiting).into_keys() {
            cx.reply(agent, AgentReply::Superseded);
        }
        self.seats.clear();
    }

    /// Goes on to the next round with a new base.
    pub(super) fn rebase<R>(&mut self, cx: &mut Context<'_, R>, base: Digest, base_bytes: u64) {
        self.round = self.round.saturating_add(1);
        self.failures = 0;
        self.spoiled = 0;
        self.unfilled = 0;
        self.trouble = None;
        self.barred.clear();
        self.kept_back.clear();
        if base != self.base() {
            self.known.rebase();
        }
        self.round_took = self.round_began.map(|began| cx.now.since(began));
        self.round_began = Some(cx.now);
        // A round of zero updates may give back the model that it started from: what waits on it is still good.
        if base != self.base() {
            self.bases.retain(|earlier| *earlier != base);
            self.bases.push_front(base);
            self.bases.truncate(size(self.file.round.max_staleness).saturating_add(1));
        }
        self.base_bytes = base_bytes;
        self.supersede(cx);
        if self.mode() != RoundMode::Async {
            self.seats.clear();
            for agent in self.waiting.keys() {
                self.seats.hold(cx.now, *agent);
            }
        }
    }

    /// An agent kept its part of a draw back. Once is bad luck; twice could be to spoil the draws of others.
    pub(super) fn kept_back(&mut self, agent: AgentId) {
        if !self.kept_back.insert(agent) {
            self.barred.insert(agent, ErrorCode::SecAgg);
        }
    }

    /// Whether the agent has spent the current model: it does not train from it again.
    pub(super) fn is_spent_in(&self, check_in: &CheckIn) -> bool {
        check_in.spent.iter().any(|spent| spent.job == self.id && spent.base == self.base())
    }

    /// The agent gives nothing now: its place is another's.
    pub(super) fn free_seat(&mut self, agent: AgentId) {
        if !self.waiting.contains_key(&agent) {
            self.seats.leave(agent);
        }
    }

    /// How many agents may contribute to the current model, and how many have spent it, of those that are here or were not long ago.
    pub(super) fn able_and_spent(&mut self, now: Timestamp) -> (usize, usize) {
        self.known.forget_gone(now.before(self.long_patience()));
        let (able, spent) = self.known.count();
        (able + self.seats.count(|agent| !self.known.contains(agent)), spent)
    }

    /// The first agent takes part in the running round.
    pub(super) fn begun(&mut self, now: Timestamp) {
        self.round_began.get_or_insert(now);
    }

    /// How long to wait after one more failure.
    pub(super) fn pause_after_failure(&mut self, config: &Config) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let factor = 1 << (self.failures - 1).min(10);
        config.publish_pause.saturating_mul(factor).min(config.longest_pause)
    }

    pub(super) fn end<R>(&mut self, cx: &mut Context<'_, R>, end: JobEnd) -> Phase {
        self.let_go(cx);
        self.barred.clear();
        self.history = History::default();
        cx.out.push(Effect::JobEnded {
            job: self.id,
            end: end.clone(),
        });
        Phase::Ended(Ended { end })
    }

    /// Gives `agent` a seat, or renews the one that it has. False if all are taken.
    pub(super) fn seat(&mut self, now: Timestamp, quiet: Duration, agent: AgentId) -> bool {
        let rules = Rules {
            max_time: self.max_time(),
            quiet,
        };
        let (max, waiting) = (self.max(), &self.waiting);
        self.seats
            .take(now, agent, max, rules, &self.history, |agent| waiting.contains_key(&agent))
    }

    /// Frees the seats of agents that fell silent.
    pub(super) fn free_seats(&mut self, now: Timestamp, quiet: Duration) {
        let rules = Rules {
            max_time: self.max_time(),
            quiet,
        };
        let waiting = &self.waiting;
        self.seats.free(now, rules, &self.history, |agent| waiting.contains_key(&agent));
    }

    /// The agent's connection closed: it no longer waits, and its seat is kept for a while.
    pub(super) fn gone(&mut self, now: Timestamp, agent: AgentId) {
        self.stop_waiting(agent);
        self.seats.gone(now, agent);
        self.known.gone(now, agent);
    }
}

pub(super) fn size(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
