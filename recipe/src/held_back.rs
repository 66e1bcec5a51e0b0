//! Rows that a device holds back from training, and how good a model is on them.

use std::sync::Arc;

use aimass_compression::{Evaluation, MAX_TRAIN_LOSS};
use aimass_learning::data::{Source, Subset};
use aimass_learning::training::evaluate_on;
use aimass_learning::{Evaluation as Found, Head};
use aimass_onnx::Model;

use crate::seeds::held_back_rows;

/// A device's data, as a job uses it.
pub struct Parts {
    /// What is trained on.
    pub train: Arc<dyn Source>,
    /// What is evaluated on; `None` where the job asks for no evaluation.
    pub held_back: Option<Subset>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("train", &self.train.len()).finish_non_exhaustive()
    }
}

impl Parts {
    /// Divides the data where the job asks for evaluation on devices.
    pub fn of(all: Arc<dyn Source>, on_devices: Option<f32>, job_seed: u64, fingerprint: &[u8; 32]) -> Self {
        let parts = on_devices.and_then(|share| {
            let (held_back, train) = held_back_rows(all.len(), share, job_seed, fingerprint);
            Some((Subset::new(Arc::clone(&all), train)?, Subset::new(Arc::clone(&all), held_back)?))
        });
        match parts {
            None => Self {
                train: all,
                held_back: None,
            },
            Some((train, held_back)) => Self {
                train: Arc::new(train),
                held_back: Some(held_back),
            },
        }
    }
}

/// How good `model` is on rows that were held back, as it goes into a sum; of no rows nothing.
///
/// # Errors
/// Why that can't be said, or can't be summed.
pub fn evaluate(model: &Model, held_back: &dyn Source, heads: &[Head]) -> Result<Evaluation, String> {
    if held_back.is_empty() {
        return Ok(NOTHING);
    }
    let found = evaluate_on(model, held_back, heads, &[]).map_err(|e| e.to_string())?;
    summable(&found)
}

/// What was found on no rows.
pub const NOTHING: Evaluation = Evaluation {
    loss: 0.0,
    correct: 0,
    examples: 0,
};

fn summable(found: &Found) -> Result<Evaluation, String> {
    // Losses of models are far within what an f32 holds, or out of range.
    let loss = found.loss as f32;
    if !(-MAX_TRAIN_LOSS..=MAX_TRAIN_LOSS).contains(&loss) {
        return Err(format!("its loss is {loss}, not between -{MAX_TRAIN_LOSS} and {MAX_TRAIN_LOSS}"));
    }
    // At most the examples.
    let correct = (found.accuracy.unwrap_or(0.0).clamp(0.0, 1.0) * found.examples as f64).round() as u64;
    Ok(Evaluation {
        loss,
        correct,
        examples: found.examples,
    })
}

#[cfg(test)]
mod tests {
    use aimass_learning::Metric;

    use super::*;

    #[test]
    fn what_can_not_be_summed_counts_as_no_rows() {
        let found = |loss, accuracy| Found {
            loss,
            accuracy,
            examples: 8,
            heads: Vec::new(),
        };
        let sums = |loss, accuracy| summable(&found(loss, accuracy)).map(|e| (e.loss, e.correct, e.examples));
        assert_eq!(sums(0.5, Some(0.625)), Ok((0.5, 5, 8)));
        assert_eq!(sums(-1024.0, None), Ok((-1024.0, 0, 8)), "regression");
        for loss in [f64::NAN, f64::INFINITY, 1024.5, f64::MAX] {
            assert!(sums(loss, Some(1.0)).is_err(), "{loss}");
        }
        // The accuracy is one of the metrics, which is what the aggregator goes by.
        assert!(Metric::Accuracy.suits(&aimass_learning::Loss::cross_entropy()));
        assert!(!Metric::Accuracy.suits(&aimass_learning::Loss::Mse));
    }
}
