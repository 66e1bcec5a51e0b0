//! Groups' averages become one model: the one place where `[strategy] name = "feddf"` becomes a training. Aggregator and simulator fuse by it, to the same
//! bytes on any number of threads, so that a fusion that was cut short is begun anew without a trace.

use std::num::NonZeroUsize;

use aimass_crypto::hash::Sha256;
use aimass_learning::data::{DataError, Source, Wanted};
use aimass_learning::training::Training;
use aimass_learning::{BatchNorm, Ensemble, Head, OptimizerConfig, Rule, Schedule, Teacher, TrainConfig, TrainError, Trainer};
use aimass_onnx::{LayoutError, Model, ParamLayout};
use aimass_protocol::Digest;
use aimass_protocol::job::{FusionSection, JobFile};

use crate::heads;
use crate::taught::{check_pair, softened, taught};

/// Why groups were not fused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FusionError {
    /// The strategy is another.
    #[error("the job's strategy fuses nothing")]
    Unasked,
    /// Another number of groups, or groups of other models.
    #[error("{found} averages of groups are there, of {expected} with {n_weights} weights each")]
    Groups {
        /// How many fit.
        found: usize,
        /// How many the job asks for.
        expected: usize,
        /// Weights of the model.
        n_weights: usize,
    },
    /// No example stands behind the groups.
    #[error("the groups' averages are of no examples; give agents data")]
    Empty,
    /// The layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The averages can't answer, or what learns from them does not converge.
    #[error("the fusion of the groups: {0}; lower strategy.lr, or correct strategy.data")]
    Train(#[from] TrainError),
}

/// A group's average.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// `[n_weights]`, in the layout's order.
    pub weights: &'a [f32],
    /// Examples that it is of, as updates are weighted.
    pub examples: u64,
}

/// Opens public rows by `open`: with the job's targets where they are there, else without.
///
/// # Errors
/// What `open` says with targets and without, where it works neither way.
pub fn open(wanted: &Wanted, open: impl Fn(&Wanted) -> Result<Box<dyn Source>, DataError>) -> Result<Box<dyn Source>, DataError> {
    open(wanted).or_else(|with_targets| {
        let without = Wanted {
            targets: Vec::new(),
            ..wanted.clone()
        };
        open(&without).map_err(|without| DataError::Columns {
            problem: format!("{with_targets}; and without a target: {without}"),
        })
    })
}

/// Whether a model of the job can be asked about these rows.
///
/// # Errors
/// [`TrainError`].
pub fn check(model: &Model, file: &JobFile, rows: &dyn Source) -> Result<(), TrainError> {
    let fusion = file.strategy.fusion.as_ref();
    let heads = fusion.map_or_else(Vec::new, |fusion| taught_alone(fusion, file));
    check_pair(model, model, &heads, file, Some(rows))
}

/// What the groups answer is all that is learnt.
fn taught_alone(fusion: &FusionSection, file: &JobFile) -> Vec<Head> {
    softened(heads(&file.train), fusion.temperature, 1.0)
}

/// The next weights: those of a student that begins as the mean of the groups' averages, weighted by examples, and learns the mean of their logits on `rows`.
/// `base` is the model, by its digest, that all groups began with; `threads` change nothing but the time.
///
/// # Errors
/// [`FusionError`].
/// # Source
/// Lin et al. 2020 (NeurIPS), algorithm 1, with a group's average in place of a client's model: with masks the aggregator sees no client's.
pub fn fuse(
    base: (&Model, Digest),
    layout: &ParamLayout,
    groups: &[Group<'_>],
    rows: &dyn Source,
    file: &JobFile,
    threads: NonZeroUsize,
) -> Result<Vec<f32>, FusionError> {
    let (base, digest) = base;
    let fusion = file.strategy.fusion.as_ref().ok_or(FusionError::Unasked)?;
    let student = base.with_weights(layout, &mean(groups, layout, fusion)?)?;
    let averages = groups.iter().map(|group| base.with_weights(layout, group.weights));
    let teachers = Teacher::ensemble(averages.collect::<Result<_, _>>()?, Ensemble::Logits)?;
    let config = config(fusion, file, rows.len(), seed(file.job.seed, digest));
    let rows = taught(rows, &teachers, &student, &config, threads, &mut |_, _| true)?;
    let mut training = Training::on(&student, layout, &rows, &config, |model, layout, config| {
        let mut trainer = Trainer::new(model, layout, config)?;
        trainer.set_threads(threads);
        Ok(trainer)
    })?;
    while training.step()?.is_some() {}
    Ok(training.weights()?.weights)
}

fn mean(groups: &[Group<'_>], layout: &ParamLayout, fusion: &FusionSection) -> Result<Vec<f32>, FusionError> {
    let n_weights = layout.n_weights();
    let fits = groups.iter().filter(|group| group.weights.len() == n_weights).count();
    if groups.len() != fusion.groups as usize || fits != groups.len() {
        return Err(FusionError::Groups {
            found: fits,
            expected: fusion.groups as usize,
            n_weights,
        });
    }
    let examples: f64 = groups.iter().map(|group| group.examples as f64).sum();
    if examples <= 0.0 {
        return Err(FusionError::Empty);
    }
    let mut sums = vec![0.0f64; n_weights];
    for group in groups {
        let share = group.examples as f64 / examples;
        for (sum, weight) in sums.iter_mut().zip(group.weights) {
            *sum += share * f64::from(*weight);
        }
    }
    Ok(sums.into_iter().map(|sum| sum as f32).collect())
}

fn config(fusion: &FusionSection, file: &JobFile, rows: usize, seed: [u8; 32]) -> TrainConfig {
    let batch = usize::try_from(fusion.batch.unwrap_or(file.train.batch))
        .unwrap_or(usize::MAX)
        .max(1);
    let steps = (rows.div_ceil(batch) as u64).saturating_mul(fusion.epochs.into());
    TrainConfig {
        heads: taught_alone(fusion, file),
        optimizer: OptimizerConfig {
            rule: Rule::Adam {
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
                decoupled: false,
            },
            lr: fusion.lr,
            weight_decay: 0.0,
            proximal: 0.0,
            clip_norm: None,
            schedule: Schedule::Cosine {
                warmup: 0,
                steps: steps.max(1),
                floor: 0.0,
            },
        },
        // As in rounds: running statistics are no weights.
        batch_norm: BatchNorm::Stored,
        epochs: fusion.epochs,
        batch,
        seed,
    }
}

/// Of the order of the rows.
fn seed(job_seed: u64, base: Digest) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"aimass/fuse");
    hash.update(&job_seed.to_le_bytes());
    hash.update(base.as_bytes());
    hash.finish()
}

#[cfg(test)]
mod tests;
