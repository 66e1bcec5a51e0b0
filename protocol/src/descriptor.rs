//! The cohort descriptor: every parameter that an agent consents to when it sends its update.

use serde::{Deserialize, Serialize};

use crate::job::AggregationMode;
use crate::log::LogHead;
use crate::{CohortId, Digest, JobId, TenantId, Timestamp};

/// Signed by the server. Hashes and signatures cover its bytes as received, never a re-encoding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// Version of this structure: [`Descriptor::VERSION`].
    pub version: u16,
    /// The tenant.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
    /// The round, counted from 1.
    pub round: u32,
    /// This cohort.
    pub cohort: CohortId,
    /// The base models that contributions may stand on. Exactly one in a synchronous round.
    pub bases: Vec<Digest>,
    /// SHA-256 of the parameter layout's canonical bytes.
    pub layout_digest: Digest,
    /// How an update becomes integers.
    pub codec: CodecParams,
    /// Whether masks are applied.
    pub mode: AggregationMode,
    /// Agents in the cohort; the sum's width follows from it.
    pub members: u32,
    /// Fewest contributions that may ever be summed.
    pub floor: u32,
    /// After this the server takes no more input.
    pub deadline: Timestamp,
    /// Seed of the rotation that updates go through before they are rounded; none: they are not rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Digest>,
    /// The log of rounds and models, as it was when the cohort was formed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogHead>,
    /// How inputs are masked; there exactly when `mode` is [`AggregationMode::Secure`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secagg: Option<SecAggParams>,
}

impl Descriptor {
    /// The version that this crate reads and writes.
    pub const VERSION: u16 = 1;
}

/// Parameters of the update codec. See the compression crate for what they do; of [`CodecName::Exact`] it is the analytics crate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodecParams {
    /// Which codec.
    pub codec: CodecName,
    /// Bits of a rounded value before summing, 2 to 32; of `exact` those of a value within its range.
    pub bits: u8,
    /// L2 norm that an update is clipped to, weight units; above 0, neither infinite nor subnormal. Of `exact` 1: values are fractions of their range.
    pub clip: f32,
    /// Weight that counts fully: an agent's weight is `min(examples, weight_cap)`. At least 1. Of `exact` the most rows of an agent that count.
    pub weight_cap: u32,
}

/// How inputs are masked. See the crypto crate for what the parameters do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecAggParams {
    /// What expands mask keys.
    pub suite: MaskSuite,
    /// What the servers and agents that break the protocol are assumed to do.
    pub profile: Profile,
    /// Neighbours of each member.
    pub degree: u32,
    /// Shares that reconstruct a secret, and signatures of neighbours that a member wants under a set of survivors.
    pub threshold: u32,
    /// Which draw it was, counted from 1.
    pub draw: u8,
    /// SHA-256 of the roster.
    pub roster: Digest,
    /// The seed that the neighbours follow from.
    pub graph_seed: Digest,
}

/// What expands mask keys into masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MaskSuite {
    /// ChaCha20 (RFC 8439): faster where the processor has no AES instructions.
    #[serde(rename = "chacha20")]
    ChaCha20,
    /// AES-256 in counter mode.
    #[default]
    #[serde(rename = "aes-256-ctr")]
    Aes256Ctr,
}

/// Which attackers the graph's degree and threshold hold against (Bell et al. 2020, sections 3 and 4). The weaker one is less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// A server that follows the protocol but remembers everything, and the agents that it controls.
    Standard,
    /// A server that may do anything after the draw, and the agents that it controls.
    #[default]
    Hardened,
}

/// The codecs of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodecName {
    /// Evenly spaced integers with stochastic rounding.
    Fixed,
    /// Whole numbers as they are: the statistics of analytics jobs.
    Exact,
}
