//! What a model is worth as devices run it, and whether that is what was trained.

use aimass_inference::{Apart, Tolerance};
use aimass_learning::data::Source;
use aimass_learning::{Array, Head, Loss, Metric, Scorer};
use aimass_onnx::Model;
use serde::Serialize;

use crate::served::Served;
use crate::{CompressError, Data};

/// Rows that are computed at once.
const BATCH: usize = 64;
/// Rows on which the trainer and tract are compared at most.
const COMPARED: usize = 1024;

/// How good a model is on data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// Share of right answers of the first head that has them, 0 to 1.
    pub accuracy: Option<f64>,
    /// Share of the variance of the targets that the first head explains, at most 1, where its loss is the squared error.
    pub explained: Option<f64>,
    /// Mean loss, weighted over the heads.
    pub loss: f64,
    /// Rows.
    pub examples: u64,
}

/// What a model is: bytes on disk, and what it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// Of the file.
    pub bytes: u64,
    /// On the data that is measured on; `None` without.
    pub score: Option<Score>,
}

impl Score {
    /// What points are counted in, 0 to 1: accuracy, or the share of the variance that is explained.
    pub fn share(&self) -> Option<f64> {
        self.accuracy.or(self.explained)
    }
}

impl Measured {
    /// # Errors
    /// [`CompressError::Load`] and [`CompressError::Run`] for what tract can't run; those of the data.
    pub fn of(model: &Model, data: &Data) -> Result<Self, CompressError> {
        let on = data.measured_on();
        Ok(Self {
            bytes: model.as_bytes().len() as u64,
            score: on.map(|on| score(model, on, &data.heads, &data.metrics)).transpose()?,
        })
    }
}

/// How good a model is on all of `data`, computed by tract.
///
/// # Errors
/// As [`Measured::of`].
pub fn score(model: &Model, data: &dyn Source, heads: &[Head], metrics: &[Metric]) -> Result<Score, CompressError> {
    let served = Served::load(model)?;
    let names: Vec<&str> = model.outputs().iter().map(|output| output.name.as_str()).collect();
    let mut scorer = Scorer::new(heads, metrics)?;
    let mut spread = Spread::default();
    let rows: Vec<usize> = (0..data.len()).collect();
    for rows in rows.chunks(BATCH) {
        let batch = data.batch(rows)?;
        let inputs = served.engine.conform(batch.inputs, batch.flat)?;
        let outputs = served.run(&inputs)?;
        let of_heads = heads.iter().map(|head| {
            let at = head.output.as_ref().and_then(|output| names.iter().position(|name| name == output));
            outputs[at.unwrap_or(0)].clone()
        });
        if let Some(targets) = batch.targets.first() {
            spread.add(targets);
        }
        scorer.add(
            &of_heads.collect::<Vec<Array>>(),
            &batch.targets,
            batch.weights.as_deref(),
            rows.len(),
        )?;
    }
    let found = scorer.finish()?;
    Ok(Score {
        accuracy: found.accuracy,
        explained: match heads {
            [head, ..] if head.loss == Loss::Mse => {
                let loss = found.heads.first().map_or(found.loss, |head| head.loss);
                spread.variance().map(|variance| 1.0 - loss / variance)
            }
            _ => None,
        },
        loss: found.loss,
        examples: found.examples,
    })
}

/// How targets vary.
#[derive(Debug, Clone, Copy, Default)]
struct Spread {
    n: f64,
    sum: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, targets: &Array) {
        for &value in targets.as_floats().unwrap_or_default() {
            self.n += 1.0;
            self.sum += f64::from(value);
            self.squares += f64::from(value).powi(2);
        }
    }

    /// `None` for values that are all the same.
    fn variance(&self) -> Option<f64> {
        let variance = self.squares / self.n - (self.sum / self.n).powi(2);
        Some(variance).filter(|v| v.is_finite() && *v > 0.0)
    }
}

/// How far the trainer and tract lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Agreement {
    /// See [`Tolerance::max`].
    pub max: f64,
    /// See [`Tolerance::mean`].
    pub mean: f64,
    /// Rows compared.
    pub rows: usize,
    /// What is allowed.
    pub tolerance: Tolerance,
}

/// Compares what the trainer computes with what tract computes, on up to 1,024 rows.
///
/// # Errors
/// [`CompressError::Parity`] beyond the tolerance; [`CompressError::NonFinite`].
pub fn agreement(model: &Model, data: &dyn Source, tolerance: Tolerance) -> Result<Agreement, CompressError> {
    let mut served = Served::load(model)?;
    let mut apart = Apart::default();
    let rows: Vec<usize> = (0..data.len().min(COMPARED)).collect();
    for chunk in rows.chunks(BATCH) {
        let batch = data.batch(chunk)?;
        let inputs = served.engine.conform(batch.inputs, batch.flat)?;
        let theirs = served.run(&inputs)?;
        let ours = served.engine.run_all(inputs)?;
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let (Some(ours), Some(theirs)) = (ours.as_floats(), theirs.as_floats()) else {
                continue;
            };
            let at = apart.add(ours, theirs, chunk.len());
            at.map_err(|at| CompressError::NonFinite { row: chunk[0] + at })?;
        }
    }
    match apart.beyond(tolerance) {
        Some((found, allowed)) => Err(CompressError::Parity {
            found,
            allowed,
            rows: apart.rows(),
        }),
        None => Ok(Agreement {
            max: apart.max(),
            mean: apart.mean(),
            rows: rows.len(),
            tolerance,
        }),
    }
}
