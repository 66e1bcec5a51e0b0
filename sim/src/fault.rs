//! What goes wrong: an explicit list, so that it can be shrunk.

mod index;
mod plan;

pub(crate) use index::{Faults, Key};
pub use plan::FaultPlan;

use std::fmt;

use aimass_federation::coordinator::PhaseName;

/// One thing that goes wrong. Counts begin at 0 and run over the whole simulation, restarts included; times are virtual, in milliseconds from its begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The server's process dies in its `step`-th step, after `effect` of that step's effects, and starts again after `down_ms`.
    KillServer {
        /// Which step.
        step: u64,
        /// Effects that are still performed.
        effect: usize,
        /// How long it is down.
        down_ms: u64,
    },
    /// The same in the `step`-th of the steps after which some job with agents is in `phase`.
    KillServerIn {
        /// Which phase.
        phase: PhaseName,
        /// Which of those steps.
        step: u64,
        /// Effects that are still performed.
        effect: usize,
        /// How long it is down.
        down_ms: u64,
    },
    /// A device's process dies in its `step`-th step, likewise.
    KillAgent {
        /// Which device.
        agent: usize,
        /// Which step.
        step: u64,
        /// Effects that are still performed.
        effect: usize,
        /// How long it is down.
        down_ms: u64,
    },
    /// Something happens to the `message`-th request or reply on a device's links.
    Message {
        /// Which device.
        agent: usize,
        /// Which message.
        message: u64,
        /// What happens to it.
        trouble: Trouble,
    },
    /// Nothing passes between the server and some devices for a while, or nothing in one direction.
    Partition {
        /// When.
        at_ms: u64,
        /// How long.
        for_ms: u64,
        /// Bit n stands for device n.
        agents: u64,
        /// What does not pass.
        blocks: Blocks,
    },
    /// A device is switched off and never comes back.
    Leave {
        /// Which device.
        agent: usize,
        /// When.
        at_ms: u64,
    },
    /// A device's `training`-th training never ends.
    Stall {
        /// Which device.
        agent: usize,
        /// Which training.
        training: u64,
    },
    /// A device can't store the result of its `work`-th training or encoding.
    AgentDiskFull {
        /// Which device.
        agent: usize,
        /// Which work.
        work: u64,
    },
    /// The server can't make its `open`-th cohort durable.
    FailOpen {
        /// Which opening.
        open: u64,
    },
    /// The server can't note durably what its `seal`-th sum is made of.
    FailSeal {
        /// Which seal.
        seal: u64,
    },
    /// The server's `add`-th addition fails.
    FailAdd {
        /// Which addition.
        add: u64,
        /// Whether the update is to blame; else the server's disk.
        bad_update: bool,
    },
    /// The server's `publish`-th try to publish a round fails.
    FailPublish {
        /// Which try.
        publish: u64,
        /// Whether storage is to blame, so that the same sum can be published later.
        storage: bool,
    },
    /// A disk is slow for a while: each write takes 1 to 40 ms times `factor`, and its machine does nothing else meanwhile. Else writes take no time.
    SlowDisk {
        /// Whose: a device's, or the server's. What the server adds and publishes takes `factor` times as long, too.
        agent: Option<usize>,
        /// When.
        at_ms: u64,
        /// How long.
        for_ms: u64,
        /// How many times slower.
        factor: u64,
    },
    /// The server is killed and starts again with its clock set wrong.
    ServerClock {
        /// When.
        at_ms: u64,
        /// How far its clock is ahead from then on.
        ahead_ms: i64,
    },
    /// A device is killed and starts again with its clock set wrong.
    AgentClock {
        /// Which device.
        agent: usize,
        /// When.
        at_ms: u64,
        /// How far its clock is ahead from then on.
        ahead_ms: i64,
    },
    /// A second device appears that has another one's identity, until the faults end.
    Twin {
        /// Whose identity.
        agent: usize,
        /// When.
        at_ms: u64,
        /// Whether its disk is a copy, too; else it is empty.
        copied: bool,
    },
    /// All devices are off for a while.
    AllGone {
        /// When.
        at_ms: u64,
        /// How long.
        for_ms: u64,
    },
    /// The operator stops a job.
    StopJob {
        /// Its index in the scenario.
        job: usize,
        /// When.
        at_ms: u64,
    },
    /// The operator revokes an agent, and perhaps accepts it again.
    Revoke {
        /// Which device's identity.
        agent: usize,
        /// When.
        at_ms: u64,
        /// How long; none means for good.
        for_ms: Option<u64>,
    },
}

/// What a partition keeps back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// Requests and replies.
    Both,
    /// What devices send.
    Requests,
    /// What the server sends.
    Replies,
}

/// What happens to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It is lost with its stream, which the device notices.
    Lost,
    /// It comes a second time, so much later.
    Twice {
        /// How much later.
        after_ms: u64,
    },
    /// It comes later, after others that were sent behind it.
    Delayed {
        /// How much later.
        by_ms: u64,
    },
    /// It is lost with its connection.
    Breaks,
}

impl Fault {
    /// The device that it is about, if it is about one.
    pub fn agent(&self) -> Option<usize> {
        match *self {
            Self::KillAgent { agent, .. }
            | Self::Message { agent, .. }
            | Self::Leave { agent, .. }
            | Self::Stall { agent, .. }
            | Self::AgentDiskFull { agent, .. }
            | Self::AgentClock { agent, .. }
            | Self::Twin { agent, .. }
            | Self::Revoke { agent, .. } => Some(agent),
            Self::SlowDisk { agent, .. } => agent,
            _ => None,
        }
    }

    /// A word for its kind, for counts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::KillServer { .. } | Self::KillServerIn { .. } => "server killed",
            Self::KillAgent { .. } => "agent killed",
            Self::Message { trouble, .. } => match trouble {
                Trouble::Lost => "message lost",
                Trouble::Twice { .. } => "message repeated",
                Trouble::Delayed { .. } => "message delayed",
                Trouble::Breaks => "connection broken",
            },
            Self::Partition { blocks: Blocks::Both, .. } => "partition",
            Self::Partition { .. } => "partition in one direction",
            Self::Leave { .. } => "agent left",
            Self::Stall { .. } => "training stalled",
            Self::AgentDiskFull { .. } => "agent's disk full",
            Self::FailOpen { .. } => "opening failed",
            Self::FailSeal { .. } => "seal failed",
            Self::FailAdd { .. } => "addition failed",
            Self::FailPublish { .. } => "publishing failed",
            Self::SlowDisk { agent: None, .. } => "server's disk slow",
            Self::SlowDisk { .. } => "agent's disk slow",
            Self::ServerClock { .. } => "server's clock wrong",
            Self::AgentClock { .. } => "agent's clock wrong",
            Self::Twin { .. } => "two devices with one identity",
            Self::AllGone { .. } => "all agents gone",
            Self::StopJob { .. } => "job stopped",
            Self::Revoke { .. } => "agent revoked",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
