//! What happened to the agents of a swarm.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aimass_federation::agent::Activity;
use aimass_protocol::ContributionId;
use aimass_protocol::message::agent::OutcomeReply;

/// How one contribution fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage {
    /// Its name.
    pub contribution: ContributionId,
    /// The round that it was accepted in first.
    pub round: u32,
    /// How often the server said that it was accepted, and later that it was not included.
    pub thrown_back: u32,
    /// The round that it was told to be included in.
    pub included: Option<u32>,
    /// Whether it was told of another such round: a fault.
    pub included_again: bool,
}

/// What happened. Cheap to ask at any time.
pub struct Tally {
    agents: Vec<Mutex<One>>,
    all: Mutex<All>,
}

#[derive(Default)]
struct One {
    online: bool,
    connected_at: Option<Instant>,
    activity: Option<Activity>,
    passages: Vec<Passage>,
}

#[derive(Default)]
struct All {
    disconnects: u64,
    failed_connects: u64,
    /// Check-ins: when, and how long the answer took.
    check_ins: Vec<(Instant, Duration)>,
    /// What the server refused and what failed, by code or text.
    troubles: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn new(agents: usize) -> Self {
        Self {
            agents: (0..agents).map(|_| Mutex::default()).collect(),
            all: Mutex::default(),
        }
    }

    fn one(&self, index: usize) -> MutexGuard<'_, One> {
        self.agents[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, is: impl Fn(&One) -> bool) -> usize {
        self.agents
            .iter()
            .filter(|agent| is(&agent.lock().unwrap_or_else(PoisonError::into_inner)))
            .count()
    }

    /// Agents with a connection, as far as they know.
    pub fn online(&self) -> usize {
        self.count(|one| one.online)
    }

    /// Agents with a connection that was made after `instant`.
    pub fn connected_since(&self, instant: Instant) -> usize {
        self.count(|one| one.online && one.connected_at.is_some_and(|at| at >= instant))
    }

    /// Agents that do this now.
    pub fn doing(&self, activity: Activity) -> usize {
        self.count(|one| one.activity == Some(activity))
    }

    /// Connections that broke.
    pub fn disconnects(&self) -> u64 {
        self.all().disconnects
    }

    /// Connections that did not come about.
    pub fn failed_connects(&self) -> u64 {
        self.all().failed_connects
    }

    /// How long the server took to answer each check-in since `instant`.
    pub fn check_ins_since(&self, instant: Instant) -> Vec<Duration> {
        let all = self.all();
        all.check_ins
            .iter()
            .filter(|(at, _)| *at >= instant)
            .map(|(_, took)| *took)
            .collect()
    }

    /// What was refused and what failed, with how often.
    pub fn troubles(&self) -> BTreeMap<String, u64> {
        self.all().troubles.clone()
    }

    /// How the contributions of an agent fared that the server ever accepted.
    pub fn passages(&self, index: usize) -> Vec<Passage> {
        self.one(index).passages.clone()
    }

    /// Contributions that the server ever accepted.
    pub fn accepted(&self) -> usize {
        (0..self.agents.len()).map(|index| self.one(index).passages.len()).sum()
    }

    pub(crate) fn connected(&self, index: usize) {
        let mut one = self.one(index);
        one.online = true;
        one.connected_at = Some(Instant::now());
    }

    pub(crate) fn disconnected(&self, index: usize, reason: &str) {
        let was_online = std::mem::take(&mut self.one(index).online);
        let mut all = self.all();
        if was_online {
            all.disconnects += 1;
        } else {
            all.failed_connects += 1;
        }
        *all.troubles.entry(reason.to_owned()).or_default() += 1;
    }

    /// Its host was killed.
    pub(crate) fn gone(&self, index: usize) {
        let mut one = self.one(index);
        one.online = false;
        one.activity = None;
    }

    pub(crate) fn does(&self, index: usize, activity: Activity) {
        self.one(index).activity = Some(activity);
    }

    pub(crate) fn checked_in(&self, asked: Instant) {
        self.all().check_ins.push((Instant::now(), asked.elapsed()));
    }

    pub(crate) fn trouble(&self, what: &str) {
        *self.all().troubles.entry(what.to_owned()).or_default() += 1;
    }

    pub(crate) fn accepted_in(&self, index: usize, contribution: ContributionId, round: u32) {
        let mut one = self.one(index);
        if !one.passages.iter().any(|passage| passage.contribution == contribution) {
            one.passages.push(Passage {
                contribution,
                round,
                thrown_back: 0,
                included: None,
                included_again: false,
            });
        }
    }

    pub(crate) fn outcome(&self, index: usize, contribution: ContributionId, reply: OutcomeReply) {
        let mut one = self.one(index);
        let Some(passage) = one.passages.iter_mut().find(|passage| passage.contribution == contribution) else {
            return;
        };
        match reply {
            OutcomeReply::NotIncluded => passage.thrown_back += 1,
            OutcomeReply::Included { round, .. } => match passage.included {
                None => passage.included = Some(round),
                Some(before) => passage.included_again |= before != round,
            },
        }
    }
}
