//! The aggregator's records. JSON, so that a person can read an export; ids and digests in full hex.

use aimass_federation::coordinator::JobEnd;
use aimass_protocol::message::agent::Capabilities;
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, JobId, PublicKeyBytes, SignatureBytes};
use serde::{Deserialize, Serialize};

use super::ParityRecord;

/// Whether an agent may take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    /// Known, waiting for the operator.
    Pending,
    /// Takes part.
    Accepted,
    /// Cut off by the operator.
    Revoked,
}

/// An agent as last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRecord {
    /// The agent.
    pub agent: AgentId,
    /// Whether it may take part.
    pub state: AgentState,
    /// Address it last came from.
    pub address: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Data contracts that it offers.
    pub contracts: Vec<String>,
    /// Milliseconds since the Unix epoch.
    pub first_seen_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub last_seen_ms: u64,
    /// What the authority has still to be told: `Some(true)` that it is revoked, `Some(false)` that it is so no more.
    pub tell_authority: Option<bool>,
}

/// A job as it was submitted. What its file says is parsed from `signed_job` again at each start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRecord {
    /// The job.
    pub job: JobId,
    /// The signed bytes, hex.
    pub signed_job: String,
    /// The owner's Ed25519 public key.
    pub owner: PublicKeyBytes,
    /// The owner's signature.
    pub signature: SignatureBytes,
    /// How it ended; `None` while it runs.
    pub end: Option<JobEnd>,
    /// Milliseconds since the Unix epoch.
    pub submitted_at_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub ended_at_ms: Option<u64>,
}

/// A finished round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundRecord {
    /// The job.
    pub job: JobId,
    /// Counted from 1.
    pub round: u32,
    /// The model that the round stood on.
    pub base: Digest,
    /// The model that it made; of an analytics job the report.
    pub model: Digest,
    /// Size of that model.
    pub model_bytes: u64,
    /// The average of the round's agents, where averages of several rounds are fused into one model; until then `model` is the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Digest>,
    /// Contributions in the sum.
    pub contributions: u32,
    /// Their weights together; of an analytics job the rows that were counted.
    pub weight: u64,
    /// Weighted mean training loss; none of an analytics job.
    pub train_loss: Option<f32>,
    /// Contributions that were clipped; of an analytics job agents with more rows than count.
    pub clipped: u32,
    /// On held-out data, 0 to 1.
    pub accuracy: Option<f64>,
    /// On held-out data.
    pub loss: Option<f64>,
    /// Of the base, on the rows that the agents held back, all together; 0 to 1. `None` where the job asks for none, or nobody held rows back.
    #[serde(default)]
    pub device_accuracy: Option<f64>,
    /// Of the base, on the rows that the agents held back.
    #[serde(default)]
    pub device_loss: Option<f32>,
    /// Rows that the agents held back.
    #[serde(default)]
    pub device_examples: Option<u64>,
    /// How far the trainer and tract lie apart with the model that it made; none of a report.
    #[serde(default)]
    pub parity: Option<ParityRecord>,
    /// Why that is not known: devices can't serve the model.
    #[serde(default)]
    pub not_served: Option<String>,
    /// Why the job ends with this round although others were to follow: the release was rolled back.
    #[serde(default)]
    pub gave_up: Option<String>,
    /// Payload bytes from agents since the round before.
    pub bytes_up: u64,
    /// Payload bytes to agents since the round before.
    pub bytes_down: u64,
    /// Since the round before, or since the submission.
    pub seconds: f64,
    /// Milliseconds since the Unix epoch.
    pub ended_at_ms: u64,
}

impl RoundRecord {
    /// The accuracy that a job's target is compared with: on held-out data, or where there is none on the devices.
    pub(crate) fn reached(&self) -> Option<f64> {
        self.accuracy.or(self.device_accuracy)
    }
}

/// One contribution that went into a round's model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncludedRecord {
    /// The round, counted from 1.
    pub round: u32,
    /// Whose.
    pub agent: AgentId,
    /// The work.
    pub contribution: ContributionId,
}

/// One update of an open round that is in the journal: whole, valid, durable. It was added to the round's sum, and is again after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalRecord {
    /// The cohort.
    pub cohort: CohortId,
    /// Whose.
    pub agent: AgentId,
    /// The work.
    pub contribution: ContributionId,
    /// The update, by its manifest: the same name with other content is another update.
    pub digest: Digest,
}
