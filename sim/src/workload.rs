//! What agents train, and what a sum becomes.

mod one_hot;
mod regression;

pub use one_hot::OneHot;
pub use regression::Regression;

use aimass_compression::{Accumulator, ClientUpdate, FixedCodec, FixedParams, PlanError};
use aimass_protocol::job::JobFile;
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, JobId};
use rand_chacha::ChaCha8Rng;

/// A training that begins.
#[derive(Debug, Clone, Copy)]
pub struct Training<'a> {
    /// Index of the device.
    pub device: usize,
    /// The job.
    pub job: JobId,
    /// Its file.
    pub file: &'a JobFile,
    /// The model to start from.
    pub base: Digest,
    /// The name that the contribution will have.
    pub contribution: ContributionId,
    /// Training stops after this time, on a device that is not slow; then what was done counts.
    pub budget_ms: Option<u64>,
}

/// What a training gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// How long it takes on a device that is not slow, in milliseconds.
    pub took_ms: u64,
    /// What it learned.
    pub update: Update,
}

/// An update before it is encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// `[n_weights]`, weight units: trained minus base.
    pub delta: Vec<f32>,
    /// Examples trained on.
    pub examples: u64,
    /// Mean training loss.
    pub train_loss: f32,
}

/// A sum that becomes a model.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The job.
    pub job: JobId,
    /// Its file.
    pub file: &'a JobFile,
    /// The round.
    pub round: u32,
    /// The cohort.
    pub cohort: CohortId,
    /// The model to step from.
    pub base: Digest,
    /// Whose contributions the sum is said to hold.
    pub survivors: &'a [(AgentId, ContributionId)],
}

/// A published model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stepped {
    /// Its digest.
    pub model: Digest,
    /// Its accuracy on held-out data, if that is measured.
    pub accuracy: Option<f32>,
}

/// Training, encoding and stepping, as the programs do them with real models.
pub trait Workload {
    /// Weights of the model.
    fn n_weights(&self) -> usize;

    /// Trains on a device. Called again for a training that a killed process had begun.
    fn train(&mut self, training: &Training<'_>, rng: &mut ChaCha8Rng) -> Trained;

    /// Makes an update into the bytes that are uploaded; `staleness` is how many steps its base is behind.
    ///
    /// # Errors
    /// Why the update can't be encoded.
    fn encode(
        &mut self,
        contribution: ContributionId,
        update: &Update,
        codec: &FixedCodec,
        staleness: u32,
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<u8>, String> {
        let _ = contribution;
        let update = ClientUpdate {
            delta: &update.delta,
            examples: update.examples,
            staleness,
            train_loss: update.train_loss,
            evaluation: None,
        };
        let encoded = codec.encode(update, rng).map_err(|error| error.to_string())?;
        Ok(encoded.packed)
    }

    /// Makes a sum into the next model.
    ///
    /// # Errors
    /// What is wrong with the sum: that is a violation.
    fn step(&mut self, step: &Step<'_>, codec: &FixedCodec, sum: &Accumulator) -> Result<Stepped, String>;
}

/// The codec of a job's cohort.
pub(crate) fn codec(n_weights: usize, file: &JobFile, members: u32) -> Result<FixedCodec, PlanError> {
    FixedCodec::new(FixedParams {
        n_weights,
        bits: file.update.bits,
        clip: file.update.clip,
        weight_cap: file.update.weight_cap,
        weight_scale: file.round.mode.weight_scale(),
        members,
        evaluation: false,
        rotation: None,
    })
}
