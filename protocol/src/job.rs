//! The job file (`job.toml`) and the signed job.

mod about;
mod analyze;
mod attached;
mod calibration;
mod compress;
mod distil;
mod file;
mod filled;
mod fusion;
mod moment;
mod reader;
mod release;
mod requirement;
mod schema;
mod sections;
mod source;
#[cfg(test)]
mod tests;
mod train;
mod training;

pub use analyze::{AnalyzeColumns, AnalyzeSection, Feature, Features, Measure};
pub use attached::{AttachedFile, Pinned};
pub use calibration::CalibrationSection;
pub use compress::{ActivationsName, CalibrationName, CompressSection, QuantizeSection, StoreName};
pub use distil::{DistilSection, StudentSection};
pub use file::*;
pub use fusion::FusionSection;
pub use release::{ChampionSection, FitsSection, GateSection, MeasuredSection, ReleaseSection, Stage, VariantSection};
pub use requirement::{Requirement, RequirementError};
pub use schema::job_file_keys;
pub use source::JobSource;
pub use train::*;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{Digest, Nonce, TenantId, Timestamp};

/// What a job's owner signs: everything that makes the job what it is. Its SHA-256 names the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedJob {
    /// The tenant whose agents may run it.
    pub tenant: TenantId,
    /// `job.toml` as its owner wrote it, UTF-8.
    pub job_file: ByteBuf,
    /// The initial model.
    pub model: Digest,
    /// The held-out evaluation data that the server keeps, if the job has some.
    pub evaluation: Option<Digest>,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// Random, so that the same job can be submitted twice on purpose.
    pub nonce: Nonce,
}
