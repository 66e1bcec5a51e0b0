//! What became of the last step of jobs that ask for it: their last model, made smaller.

use aimass_protocol::{Digest, JobId};
use serde::{Deserialize, Serialize};

/// The last step of a job: pending as long as it has neither `made` nor `failure`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompressionRecord {
    /// The job.
    pub job: JobId,
    /// The round whose model it is made from; 0 for the initial one.
    pub round: u32,
    /// That model.
    pub parent: Digest,
    /// The report whose ranges it is quantized by, of a calibration.
    #[serde(default)]
    pub ranges: Option<Digest>,
    /// How: the keys of `[compress]` in a line.
    pub recipe: String,
    /// How often it was begun: a server that is killed meanwhile begins anew.
    pub attempts: u32,
    /// The smaller model.
    pub made: Option<CompressedRecord>,
    /// Why there is none.
    pub failure: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub ended_at_ms: Option<u64>,
}

impl CompressionRecord {
    /// Whether it is still to be done.
    pub fn is_pending(&self) -> bool {
        self.made.is_none() && self.failure.is_none()
    }
}

/// A smaller model, and what it was compared by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompressedRecord {
    /// SHA-256 of the file.
    pub digest: Digest,
    /// What went in.
    pub before: MeasuredRecord,
    /// What came out.
    pub after: MeasuredRecord,
    /// Rows that were measured on; 0 where the server has no data.
    pub rows: u64,
    /// Points of accuracy or of explained variance that were lost; where there is neither, percent of the loss.
    pub points_lost: Option<f64>,
    /// How far trainer and tract lie apart, where there is data.
    pub parity: Option<ParityRecord>,
    /// What was done, in order.
    pub steps: Vec<StepRecord>,
}

/// What a model is worth, as tract runs it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredRecord {
    /// Of the file.
    pub bytes: u64,
    /// Share of right answers, 0 to 1.
    pub accuracy: Option<f64>,
    /// Share of the variance that is explained, at most 1.
    pub explained: Option<f64>,
    /// Mean loss.
    pub loss: Option<f64>,
}

/// How far trainer and tract lie apart, and how far they may.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParityRecord {
    /// Largest difference in a row, as a share of the row's largest magnitude.
    pub max: f64,
    /// What it may be.
    pub max_allowed: f64,
    /// Mean difference, as a share of the mean of the rows' largest magnitudes.
    pub mean: f64,
    /// What it may be.
    pub mean_allowed: f64,
    /// Rows that were compared.
    pub rows: u64,
}

impl ParityRecord {
    /// Whether the two compute the same, as far as is asked for.
    pub fn holds(&self) -> bool {
        self.max <= self.max_allowed && self.mean <= self.mean_allowed
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepRecord {
    /// Which.
    pub name: String,
    /// What it did, for people.
    pub note: String,
    /// The model after it.
    pub after: MeasuredRecord,
    /// How long it took.
    pub seconds: f64,
}
