//! What a fleet computes, apart from when it happens.

use aimass_federation::agent::Masks;
use aimass_federation::coordinator::UnmaskingRecord;
use aimass_protocol::{CohortId, Digest};

use crate::population::Role;

/// What a whole training of a client takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Steps.
    pub steps: u64,
    /// Billions of floating-point operations.
    pub gflop: f64,
}

/// A contribution that goes into a cohort's sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// The round.
    pub round: u32,
    /// The cohort.
    pub cohort: CohortId,
    /// Whose data.
    pub client: u32,
    /// What the client is.
    pub role: Role,
    /// The model that it trained from.
    pub base: Digest,
    /// How many steps that is behind.
    pub staleness: u32,
    /// So many steps were made; `None` for all.
    pub steps: Option<u64>,
    /// Members of the cohort.
    pub members: u32,
    /// The seed of the rotation.
    pub rotation: Digest,
    /// What lies over its residues; `None` where the cohort is plain.
    pub masks: Option<Masks>,
}

/// A sum that becomes a model.
#[derive(Debug, Clone, Copy)]
pub struct Sum<'a> {
    /// The round.
    pub round: u32,
    /// The cohort.
    pub cohort: CohortId,
    /// The model to step from.
    pub base: Digest,
    /// Members of the cohort.
    pub members: u32,
    /// The seed of the rotation.
    pub rotation: Digest,
    /// Clients whose contributions are in the sum.
    pub survivors: &'a [u32],
    /// What takes the masks off; `None` where the cohort is plain.
    pub unmasking: Option<&'a UnmaskingRecord>,
}

/// A published model, and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// Its digest.
    pub model: Digest,
    /// Its file's size in bytes.
    pub model_bytes: u64,
    /// Accuracy on held-out data.
    pub test_accuracy: Option<f64>,
    /// Loss on held-out data.
    pub test_loss: Option<f64>,
    /// Mean loss of the trainings in the sum.
    pub train_loss: Option<f64>,
    /// Accuracy of the round's base on rows that the devices held back.
    pub device_accuracy: Option<f64>,
    /// Contributions that were clipped.
    pub clipped: u32,
}

/// Why a sum became no model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpublished {
    /// For people, with what to do.
    pub reason: String,
    /// Clients whose contributions are to blame.
    pub blame: Vec<u32>,
}

/// Training, summing and stepping with real models, on as many threads as there are. Whatever is asked for is a function of what is passed: no result
/// depends on the order in which work is done.
pub trait Workshop {
    /// What a whole training of this client takes.
    fn effort(&mut self, client: u32) -> Effort;
    /// Bytes of a contribution to a cohort of so many members.
    fn upload_bytes(&mut self, members: u32) -> u64;
    /// Digest of the layout of the weights.
    fn layout(&self) -> Digest;
    /// The seed of the rotation of updates from which a step is taken from `base`.
    fn rotation(&self, base: Digest) -> Digest;
    /// A contribution goes into the sum of its cohort: trained, encoded, added, at any time before the sum is asked for.
    fn contribute(&mut self, work: Work);
    /// The sum of this cohort is not needed any more.
    fn forget(&mut self, cohort: CohortId);
    /// Makes a sum into the next model.
    ///
    /// # Errors
    /// [`Unpublished`].
    fn publish(&mut self, sum: &Sum<'_>) -> Result<Published, Unpublished>;
}
