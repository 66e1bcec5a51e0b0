//! The agent's session: asks for work, trains, joins a cohort, uploads, learns the outcome; and goes on after any interruption.
//!
//! [`Session::step`] takes one [`Event`] and returns [`Effect`]s for the driver to perform in order.
//!
//! Where a cohort is secure, the session checks all that the server shows, holds the keys (in memory alone) and gives up at the first thing that an
//! honest server would not do: see [`Report`].

mod backoff;
mod contribution;
mod event;
mod hands;
mod held;
pub mod log;
mod policy;
mod secure;
mod session;
mod task;
mod work;

pub use contribution::{Assignment, Consent, Contribution, Snapshot, Spent, Stage, TimeLimit};
pub use event::{Effect, Event, Warning};
pub use hands::{Hands, Identity, Masks, Report};
pub use policy::{Policy, PolicyError};
pub use session::Session;

use std::time::Duration;

use aimass_protocol::AgentId;
use aimass_protocol::message::agent::Capabilities;

/// What a session is started with.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The owner's rules.
    pub policy: Policy,
    /// What the device can do.
    pub capabilities: Capabilities,
    /// Names of the data contracts that it holds data for.
    pub contracts: Vec<String>,
    /// Spreads this agent's waits apart from other agents'; for instance from its id ([`Config::seed_of`]).
    pub seed: u64,
    /// First pause after a failure; doubles with each further one.
    pub backoff_first: Duration,
    /// Longest pause.
    pub backoff_max: Duration,
    /// A long poll (offer, outcome) without answer is asked again after this, in case the server forgot it.
    pub repeat_after: Duration,
    /// How long a job that failed here (training, encoding, refused content) is declined.
    pub failed_job_pause: Duration,
}

impl Config {
    /// The defaults: pauses of 1 to 60 s.
    pub fn new(policy: Policy, capabilities: Capabilities, contracts: Vec<String>, seed: u64) -> Self {
        Self {
            policy,
            capabilities,
            contracts,
            seed,
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            repeat_after: Duration::from_secs(120),
            failed_job_pause: Duration::from_secs(300),
        }
    }

    /// A seed from an agent's id.
    pub fn seed_of(agent: AgentId) -> u64 {
        let b = agent.as_bytes();
        u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
    }
}

/// What the session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Nothing until the next check-in.
    Idle,
    /// Asks for work.
    CheckingIn,
    /// Fetches a base model.
    Fetching,
    /// Trains.
    Training,
    /// Waits to be put in a cohort.
    Offering,
    /// Shows its keys to a cohort.
    Advertising,
    /// Reveals its part of the draw.
    Revealing,
    /// Gives shares of its secrets to its neighbours.
    Sharing,
    /// Makes residues.
    Encoding,
    /// Uploads.
    Uploading,
    /// Waits to hear whose inputs are summed.
    AwaitingSurvivors,
    /// Has agreed to the survivors and waits for others to agree.
    Consenting,
    /// Releases shares that unmask the sum.
    Unmasking,
    /// Waits for the round to end.
    AwaitingOutcome,
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
