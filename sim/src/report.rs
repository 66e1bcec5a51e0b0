//! What a run was like.

use std::collections::BTreeMap;
use std::fmt;

use aimass_federation::coordinator::{JobEnd, PhaseName};
use aimass_protocol::JobId;

/// A round that was published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PublishedRound {
    /// When, in milliseconds of virtual time.
    pub at_ms: u64,
    /// The job.
    pub job: JobId,
    /// The round.
    pub round: u32,
    /// Contributions in it.
    pub contributions: usize,
    /// Accuracy of its model, if the workload measures that.
    pub accuracy: Option<f32>,
}

/// A run in figures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// When all jobs had ended and no device held a contribution any more, in milliseconds of virtual time.
    pub ended_ms: u64,
    /// Things that happened.
    pub happenings: u64,
    /// Steps of the coordinator.
    pub server_steps: u64,
    /// Steps of sessions.
    pub agent_steps: u64,
    /// Requests and replies.
    pub messages: u64,
    /// Kills of the server, by the phases that running jobs were in.
    pub server_kills: BTreeMap<PhaseName, u32>,
    /// Kills of devices.
    pub agent_kills: u32,
    /// Faults that took effect, by kind.
    pub faults: BTreeMap<&'static str, u32>,
    /// Published rounds, in order.
    pub rounds: Vec<PublishedRound>,
    /// How each job ended.
    pub ends: BTreeMap<JobId, JobEnd>,
    /// Contributions of which a device was told that they count.
    pub told_included: usize,
    /// Jobs that wait for new agents: their model is spent for so many that no round can be made of the others.
    pub starved: usize,
    /// Jobs that ended for that reason.
    pub spent_up: usize,
    /// Requests that were refused.
    pub refusals: u32,
    /// Requests that a device gave up, because no answer came in time.
    pub unanswered: u32,
    /// Rounds that were published before the faults ended.
    pub rounds_in_trouble: usize,
    /// Most bytes that the coordinator's state took, written out.
    pub largest_state_bytes: usize,
}

impl Report {
    /// When a job first had a model of at least this accuracy, in milliseconds of virtual time.
    pub fn reached_ms(&self, job: JobId, accuracy: f32) -> Option<u64> {
        let good = |round: &&PublishedRound| round.job == job && round.accuracy.is_some_and(|a| a >= accuracy);
        self.rounds.iter().find(good).map(|round| round.at_ms)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rounds, {} contributions counted, {} s of virtual time, {} messages, {} faults",
            self.rounds.len(),
            self.rounds.iter().map(|r| r.contributions).sum::<usize>(),
            self.ended_ms / 1000,
            self.messages,
            self.faults.values().sum::<u32>(),
        )
    }
}
