//! Rows that are held back from training, and how good a model is on them.

use std::sync::Arc;

use aimass_compression::MAX_TRAIN_LOSS;
use aimass_crypto::hash::Sha256;
use aimass_learning::data::{Source, Subset, split};
use aimass_learning::training::evaluate_on;
use aimass_learning::{Evaluation, Head};
use aimass_onnx::Model;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use tracing::warn;

use crate::state::EvaluationRecord;

/// The rows that an agent holds back and those that it trains on, as ascending indices into its data: `(held back, trained on)`. `share` of the `rows`
/// (above 0, up to 0.5), rounded, and one at least, are held back; of fewer than 2 rows none.
///
/// Which ones follows from the job's seed and the data's fingerprint, not from a model: they are the same in every round.
pub fn held_back_rows(rows: usize, share: f32, job_seed: u64, fingerprint: &[u8; 32]) -> (Vec<usize>, Vec<usize>) {
    if rows < 2 {
        return (Vec::new(), (0..rows).collect());
    }
    let mut seed = Sha256::new();
    seed.update(b"aimass/held-back");
    seed.update(&job_seed.to_le_bytes());
    seed.update(fingerprint);
    let one_row = 1.0 / rows as f64;
    let mut rng = ChaCha20Rng::from_seed(seed.finish());
    let (mut held_back, mut rest) = split(rows, f64::from(share).max(one_row), &mut rng);
    // Data that is read from a file is read in its order.
    held_back.sort_unstable();
    rest.sort_unstable();
    (held_back, rest)
}

/// An agent's data, as a job uses it.
pub(super) struct Parts {
    /// What is trained on.
    pub(super) train: Arc<dyn Source>,
    /// What is evaluated on; `None` where the job asks for no evaluation.
    pub(super) held_back: Option<Subset>,
}

impl Parts {
    /// Divides the data where the job asks for evaluation on devices.
    pub(super) fn of(data: Box<dyn Source>, on_devices: Option<f32>, job_seed: u64, fingerprint: &[u8; 32]) -> Self {
        let all: Arc<dyn Source> = data.into();
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

/// How good `model` is on the rows that were held back. Where that can't be said, or can't be summed, it counts as no rows: an update is worth having all
/// the same.
pub(super) fn evaluate(model: &Model, held_back: &dyn Source, heads: &[Head]) -> EvaluationRecord {
    if held_back.is_empty() {
        return EvaluationRecord::default();
    }
    let found = evaluate_on(model, held_back, heads, &[]).map_err(|e| e.to_string());
    match found.and_then(|found| summable(&found)) {
        Ok(record) => record,
        Err(reason) => {
            warn!("the base model can't be evaluated on the rows that are held back, and none of them counts: {reason}");
            EvaluationRecord::default()
        }
    }
}

fn summable(found: &Evaluation) -> Result<EvaluationRecord, String> {
    // Losses of models are far within what an f32 holds, or out of range.
    let loss = found.loss as f32;
    if !(-MAX_TRAIN_LOSS..=MAX_TRAIN_LOSS).contains(&loss) {
        return Err(format!("its loss is {loss}, not between -{MAX_TRAIN_LOSS} and {MAX_TRAIN_LOSS}"));
    }
    // At most the examples.
    let correct = (found.accuracy.unwrap_or(0.0).clamp(0.0, 1.0) * found.examples as f64).round() as u64;
    Ok(EvaluationRecord {
        loss,
        correct,
        examples: found.examples,
    })
}

#[cfg(test)]
mod tests {
    use aimass_learning::Metric;

    use super::*;

    const DATA: [u8; 32] = [3; 32];

    #[test]
    fn each_row_is_held_back_or_trained_on() {
        for (rows, share, expected) in [
            (0, 0.5, 0),
            (1, 0.5, 0),
            (2, 0.01, 1),
            (2, 0.5, 1),
            (3, 0.5, 2),
            (10, 0.2, 2),
            (101, 0.25, 25),
            (1000, 0.0001, 1),
        ] {
            let (held_back, rest) = held_back_rows(rows, share, 7, &DATA);
            assert_eq!(held_back.len(), expected, "{share} of {rows}");
            assert!(held_back.is_sorted() && rest.is_sorted());
            let mut all = [held_back, rest].concat();
            all.sort_unstable();
            assert_eq!(all, (0..rows).collect::<Vec<_>>(), "{share} of {rows}");
        }
    }

    #[test]
    fn the_rows_are_the_same_for_the_same_job_and_data_and_others_for_others() {
        let rows = |seed, data: u8| held_back_rows(200, 0.2, seed, &[data; 32]).0;
        assert_eq!(rows(7, 3), rows(7, 3));
        assert_ne!(rows(7, 3), rows(8, 3));
        assert_ne!(rows(7, 3), rows(7, 4));
        // Computed apart from this code. A change would train on rows that were held back before.
        assert_eq!(held_back_rows(12, 0.25, 7, &DATA).0, FIRST_VERSION);
    }

    const FIRST_VERSION: [usize; 3] = [2, 5, 8];

    #[test]
    fn what_can_not_be_summed_counts_as_no_rows() {
        let found = |loss, accuracy| Evaluation {
            loss,
            accuracy,
            examples: 8,
            heads: Vec::new(),
        };
        let record = |loss, correct| EvaluationRecord {
            loss,
            correct,
            examples: 8,
        };
        assert_eq!(summable(&found(0.5, Some(0.625))), Ok(record(0.5, 5)));
        assert_eq!(summable(&found(-1024.0, None)), Ok(record(-1024.0, 0)), "regression");
        for loss in [f64::NAN, f64::INFINITY, 1024.5, f64::MAX] {
            assert!(summable(&found(loss, Some(1.0))).is_err(), "{loss}");
        }
        // The accuracy is one of the metrics, which is what the aggregator goes by.
        assert!(Metric::Accuracy.suits(&aimass_learning::Loss::cross_entropy()));
        assert!(!Metric::Accuracy.suits(&aimass_learning::Loss::Mse));
    }
}
