//! `job.toml`, parsed into types that can't hold an impossible value.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::analyze::AnalyzeSection;
use super::calibration::CalibrationSection;
use super::compress::CompressSection;
use super::fusion::FusionSection;
use super::release::{ReleaseSection, Stage};
use super::requirement::Requirement;
use super::source::JobSource;
use super::train::TrainSection;
use crate::Timestamp;
use crate::descriptor::{CodecParams, MaskSuite, Profile};

/// A checked job file.
///
/// An analytics job has `analyze` and none of `[model]`, `[train]`, `[strategy]`, `[update]`, `[evaluate]` and `[compress]`: it starts from no file, predicts nothing,
/// trains for no epoch, and its numbers are whole ([`CodecName::Exact`](crate::descriptor::CodecName::Exact)). A release has `release`, and of those sections
/// `[evaluate]` alone: which of its rows an agent measures on. A calibration job has `calibration`, `[model]`, and where a model is made at its end `[compress]`
/// and `[evaluate]`.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFile {
    /// `[job]`
    pub job: JobSection,
    /// `[model]`
    pub model: ModelSection,
    /// `[data]`
    pub data: DataSection,
    /// `[train]`
    pub train: TrainSection,
    /// `[strategy]`
    pub strategy: StrategySection,
    /// `[round]`
    pub round: RoundSection,
    /// `[aggregation]`
    pub aggregation: AggregationSection,
    /// `[update]`
    pub update: CodecParams,
    /// `[evaluate]`
    pub evaluate: Option<EvaluateSection>,
    /// `[compress]`: of training and calibration jobs.
    pub compress: Option<CompressSection>,
    /// `[analyze]`: there exactly where the kind is [`JobKind::Analytics`].
    pub analyze: Option<AnalyzeSection>,
    /// `[release]` and `[gate]`: there exactly where the kind is [`JobKind::Release`].
    pub release: Option<ReleaseSection>,
    /// `[calibration]`: there exactly where the kind is [`JobKind::Calibration`].
    pub calibration: Option<CalibrationSection>,
}

/// `[job]`
#[derive(Debug, Clone, PartialEq)]
pub struct JobSection {
    /// For people; letters, digits, `-`, `_`, `.` and spaces.
    pub name: String,
    /// What is done.
    pub kind: JobKind,
    /// Seed of everything random that need not be secret.
    pub seed: u64,
    /// Why the data is used, for the device owner's policy.
    pub purpose: String,
    /// Higher goes first, 0 to 100, default 50.
    pub priority: u8,
    /// Only agents that carry all of these tags are offered the job.
    pub tags: Vec<String>,
    /// Only agents of one of these classes are offered the job; of any where it is empty.
    pub device_classes: Vec<String>,
    /// Only agents on devices that meet it are offered the job.
    pub require: Option<Requirement>,
    /// When it should be done: the nearer that is for the rounds that are left, the larger its share of the agents.
    pub deadline: Option<Timestamp>,
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// Federated training.
    Train,
    /// Statistics of the agents' data, seen summed over a cohort alone.
    Analytics,
    /// Variants of a model, measured on the agents' devices and data before they are promoted.
    Release,
    /// Ranges of a model's activations on the agents' data, for its quantization.
    Calibration,
}

/// `[model]`
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSection {
    /// The ONNX file, relative to the job file; empty in an analytics job.
    pub path: String,
    /// Globs over initializer names that train besides those in weight slots; a leading `!` freezes.
    pub trainable: Vec<String>,
}

/// `[data]`
#[derive(Debug, Clone, PartialEq)]
pub struct DataSection {
    /// Name of the data that agents must hold.
    pub contract: String,
    /// Columns that feed the model, in order; empty means all but the target.
    pub inputs: Vec<String>,
    /// The column to predict; empty in an analytics job.
    pub target: String,
}

/// `[strategy]`
#[derive(Debug, Clone, PartialEq)]
pub struct StrategySection {
    /// The strategy.
    pub name: StrategyName,
    /// Factor of the server's step; 1 is plain averaging.
    pub server_lr: f32,
    /// There exactly where the strategy is [`StrategyName::FedDf`].
    pub fusion: Option<FusionSection>,
}

/// Strategies of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StrategyName {
    /// Weighted mean of the clients' deltas (McMahan et al. 2017, algorithm 1).
    FedAvg,
    /// Weighted mean of a buffer of deltas, older ones discounted by their staleness (Nguyen et al. 2022, algorithm 1).
    FedBuff,
    /// Averages of groups that started from one model, fused by what they answer together (Lin et al. 2020, algorithm 1).
    FedDf,
}

/// How the agents of a round wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundMode {
    /// All train from the same model, as long as it takes them.
    #[default]
    Sync,
    /// All train from the same model, and stop when the round's time is nearly over: partial work counts.
    SemiSync,
    /// Each trains from the model that is current when it asks; a step is taken whenever `target` contributions are there.
    Async,
}

impl RoundMode {
    /// Parts of an example that the weights of updates are counted in (the compression crate's `weight_scale`): discounts of stale updates need parts.
    pub fn weight_scale(self) -> u32 {
        match self {
            Self::Sync | Self::SemiSync => 1,
            Self::Async => 1024,
        }
    }
}

/// `[round]`
#[derive(Debug, Clone, PartialEq)]
pub struct RoundSection {
    /// How its agents wait for each other.
    pub mode: RoundMode,
    /// Rounds to run.
    pub rounds: u32,
    /// Fewest contributions that make a round.
    pub min: u32,
    /// A cohort is formed as soon as this many agents are ready.
    pub target: u32,
    /// Most agents that train for one round.
    pub max: u32,
    /// How long a round may take; then it goes on with at least `min`, or is tried again.
    pub max_time: Duration,
    /// How many steps older than the current model a contribution's base may be; 0 unless the mode is [`RoundMode::Async`].
    pub max_staleness: u32,
}

/// How many agents make one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundSize {
    /// Fewest contributions.
    pub min: u32,
    /// A cohort is formed as soon as so many are ready.
    pub target: u32,
    /// Most agents that work for it.
    pub max: u32,
}

/// `[aggregation]`
#[derive(Debug, Clone, PartialEq)]
pub struct AggregationSection {
    /// Secure unless plain is named: nothing insecure is a default.
    pub mode: AggregationMode,
    /// Fewest contributions that may ever be summed: at least 3 in secure mode, 1 in plain mode.
    pub floor: u32,
    /// Which attackers masks hold against.
    pub profile: Profile,
    /// What expands mask keys.
    pub suite: MaskSuite,
}

/// Whether the server sees single updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AggregationMode {
    /// Zero masks: the server could read each update. Protected by TLS alone.
    Plain,
    /// Masked inputs: the server sees the sum alone.
    #[default]
    Secure,
}

/// `[evaluate]`
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluateSection {
    /// Held-out data that the server keeps, relative to the job file.
    pub data: Option<String>,
    /// The share of its rows, above 0 and up to 0.5, that each agent holds back from training; the model that a round starts from is evaluated on them,
    /// and the round's sum holds what all agents found together.
    pub on_devices: Option<f32>,
    /// Stop early once this accuracy (0 to 1) is reached: on the server's data, or on the devices' where there is none.
    pub target_accuracy: Option<f32>,
}

/// Where and why a job file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {field}: {problem}; {fix}")]
pub struct JobFileError {
    /// Line, counted from 1.
    pub line: usize,
    /// Column, counted from 1.
    pub column: usize,
    /// The key, for instance `train.lr`; `syntax` where it is no TOML.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub fix: String,
}

impl JobFile {
    /// Whether agents train a model; otherwise they count, and what is published are reports.
    pub fn trains(&self) -> bool {
        self.analyze.is_none() && self.release.is_none() && self.calibration.is_none()
    }

    /// Rounds that train from one model: one, but for groups whose averages are fused.
    pub fn rounds_a_model(&self) -> u32 {
        self.strategy.fusion.as_ref().map_or(1, |fusion| fusion.groups.max(1))
    }

    /// Whether the round after this one, counted from 1, trains from the same model as it does.
    pub fn keeps_its_base(&self, round: u32) -> bool {
        !round.is_multiple_of(self.rounds_a_model())
    }

    /// How many agents make a round, counted from 1, of `devices` that the job is for: the stages of a release grow, all rounds of another job are alike.
    pub fn size_of(&self, round: u32, devices: u32) -> RoundSize {
        let RoundSection { min, target, max, .. } = self.round;
        let last = |release: &ReleaseSection| {
            release
                .stages
                .get(round.saturating_sub(1) as usize)
                .or(release.stages.last())
                .copied()
        };
        let asked = match self.release.as_ref().and_then(last) {
            None => return RoundSize { min, target, max },
            Some(Stage::Devices(n)) => n,
            Some(Stage::Percent(percent)) => u32::try_from((u64::from(devices) * u64::from(percent)).div_ceil(100)).unwrap_or(u32::MAX),
        };
        let asked = asked.clamp(min, max);
        RoundSize {
            min,
            target: asked,
            max: asked,
        }
    }

    /// The share of its rows that each agent holds back from training and evaluates on; `None` where the job asks for none.
    pub fn on_devices(&self) -> Option<f32> {
        self.evaluate.as_ref()?.on_devices
    }

    /// Parses and checks a job file of at most [`MAX_JOB_FILE_BYTES`](crate::limits::MAX_JOB_FILE_BYTES).
    ///
    /// `protocol/testdata/job.example.toml` explains every key and its default.
    ///
    /// # Errors
    /// [`JobFileError`] for unknown keys, missing keys, wrong types and impossible values, with the place and the fix.
    pub fn parse(text: &str) -> Result<Self, JobFileError> {
        Self::parse_with_source(text).map(|(file, _)| file)
    }

    /// Like [`JobFile::parse`], and keeps where each key stands, so that a later check (the model does not fit its data) can point
    /// to the line as well: see [`JobSource::error_at`].
    ///
    /// # Errors
    /// As [`JobFile::parse`].
    pub fn parse_with_source(text: &str) -> Result<(Self, JobSource), JobFileError> {
        super::sections::parse(text)
    }
}
