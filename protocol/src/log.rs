//! The log of models: what an entry says, and the proof that comes with a task. `docs/log.md` describes log and checkpoint for auditors.
//!
//! Every model that agents are asked to train from is an entry of its server's log, an RFC 6962 Merkle tree whose checkpoints the server signs.
//! An entry is signed by nobody itself: the checkpoint over the tree's root is what binds it.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::job::AggregationMode;
use crate::{AgentId, CohortId, ContributionId, Digest, JobId, Nonce, TenantId, Timestamp};

/// A state of the log: all that an agent has to remember of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogHead {
    /// Entries.
    pub size: u64,
    /// The Merkle tree's root over them (RFC 6962, section 2.1).
    pub root: Digest,
}

/// One entry. Leaves of the tree are hashed over its CBOR as the server stored it, never over a re-encoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogEntry {
    /// Version of this structure: [`LogEntry::VERSION`].
    pub version: u16,
    /// The tenant.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
    /// When it was written, by the server's clock.
    pub time: Timestamp,
    /// What happened.
    pub event: LogEvent,
}

impl LogEntry {
    /// The version that this crate reads and writes.
    pub const VERSION: u16 = 1;

    /// The model that this entry vouches for: one that agents may be asked to train from.
    pub fn model(&self) -> Option<Digest> {
        match &self.event {
            LogEvent::Base { model } => Some(*model),
            LogEvent::Round(round) => Some(round.model),
            LogEvent::Abandoned(_) => None,
        }
    }

    /// Whether it tells, by a root, who the survivors of a round were.
    pub fn has_survivors(&self) -> bool {
        match &self.event {
            LogEvent::Base { .. } => false,
            LogEvent::Round(_) => true,
            LogEvent::Abandoned(round) => round.survivors_root.is_some(),
        }
    }
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum LogEvent {
    /// A job was added: the model that it starts from.
    Base {
        /// The model.
        model: Digest,
    },
    /// A round's model was published.
    Round(RoundEntry),
    /// A round was given up, after its survivors were sealed or because no graph could be drawn.
    Abandoned(AbandonedEntry),
}

/// See [`LogEvent::Round`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundEntry {
    /// The round, counted from 1.
    pub round: u32,
    /// The model that it made.
    pub model: Digest,
    /// The model that the step was taken from.
    pub before: Digest,
    /// The cohort.
    pub cohort: CohortId,
    /// SHA-256 of the cohort's descriptor, as its members received it.
    pub descriptor: Digest,
    /// Whether masks were applied.
    pub mode: AggregationMode,
    /// Agents in the cohort.
    pub members: u32,
    /// Contributions in the sum.
    pub survivors: u32,
    /// The Merkle tree's root over the [`SurvivorOpening`]s.
    pub survivors_root: Digest,
    /// Draws of the graph that it took; 0 without masks.
    pub draws: u8,
}

/// See [`LogEvent::Abandoned`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbandonedEntry {
    /// The round, counted from 1. It is run again with another cohort.
    pub round: u32,
    /// The model that the step would have been taken from.
    pub before: Digest,
    /// The cohort.
    pub cohort: CohortId,
    /// SHA-256 of the cohort's descriptor; none where no graph was drawn.
    pub descriptor: Option<Digest>,
    /// Whether masks were applied.
    pub mode: AggregationMode,
    /// Agents in the cohort.
    pub members: u32,
    /// Survivors that were sealed; 0 where it did not come so far.
    pub survivors: u32,
    /// The Merkle tree's root over the [`SurvivorOpening`]s; none without survivors.
    pub survivors_root: Option<Digest>,
    /// Draws of the graph.
    pub draws: u8,
}

/// What a leaf of a round's survivors tree is made of: [`SurvivorOpening::to_bytes`]. The log holds the root alone. The server keeps the openings
/// apart and can delete one, after which nobody can tell whom the leaf stood for: the salt has as many bits as an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurvivorOpening {
    /// Whose.
    pub agent: AgentId,
    /// The work.
    pub contribution: ContributionId,
    /// Random.
    pub salt: Nonce,
}

impl SurvivorOpening {
    /// `agent || contribution || salt`, 48 bytes.
    pub fn to_bytes(&self) -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[..16].copy_from_slice(self.agent.as_bytes());
        bytes[16..32].copy_from_slice(self.contribution.as_bytes());
        bytes[32..].copy_from_slice(self.salt.as_bytes());
        bytes
    }
}

/// Shows an agent that a task's base model is in the log, and that the log holds all that the agent saw of it before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseProof {
    /// The checkpoint: a C2SP signed note, as text.
    pub checkpoint: ByteBuf,
    /// The [`LogEntry`] of the base, in CBOR as stored.
    pub entry: ByteBuf,
    /// The entry's index, counted from 0.
    pub index: u64,
    /// The entry is in the checkpoint's tree (RFC 6962, section 2.1.1).
    pub inclusion: Vec<Digest>,
    /// The tree of the check-in's `log_size` entries is a prefix of the checkpoint's (RFC 6962, section 2.1.2); empty where that size is 0 or the
    /// checkpoint's own.
    pub consistency: Vec<Digest>,
}
