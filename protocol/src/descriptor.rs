//! The cohort descriptor: every parameter that an agent consents to when it sends its update.

use serde::{Deserialize, Serialize};

use crate::job::AggregationMode;
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
}

impl Descriptor {
    /// The version that this crate reads and writes.
    pub const VERSION: u16 = 1;
}

/// Parameters of the update codec. See the compression crate for what they do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodecParams {
    /// Which codec.
    pub codec: CodecName,
    /// Bits of a rounded value before summing, 2 to 32.
    pub bits: u8,
    /// L2 norm that an update is clipped to, weight units; above 0, neither infinite nor subnormal.
    pub clip: f32,
    /// Weight that counts fully: an agent's weight is `min(examples, weight_cap)`. At least 1.
    pub weight_cap: u32,
}

/// The codecs of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodecName {
    /// Evenly spaced integers with stochastic rounding.
    Fixed,
}
