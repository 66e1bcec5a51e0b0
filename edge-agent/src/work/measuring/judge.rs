//! What counts as right.

use aimass_learning::{Array, Batch, Scorer, TrainError};
use aimass_recipe::heads;

use super::TrainOrder;

/// Counts the rows that a model gets right.
pub(super) enum Judge {
    /// The largest output is that of the row's class.
    Classes(Scorer),
    /// The root of a row's mean squared error is at most `within`.
    Numbers { within: f32, counted: Counted },
}

/// Rows, and those that are right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) rows: u64,
    /// At most the rows.
    pub(super) correct: u64,
}

impl Judge {
    pub(super) fn of(order: &TrainOrder) -> Result<Self, TrainError> {
        Ok(match order.file.release.as_ref().and_then(|release| release.within) {
            None => Self::Classes(Scorer::new(&heads(&order.file.train), &[])?),
            Some(within) => Self::Numbers {
                within,
                counted: Counted::default(),
            },
        })
    }

    /// Counts `rows` rows of finite outputs.
    ///
    /// # Errors
    /// Where outputs and targets do not go together, for people.
    pub(super) fn add(&mut self, output: &Array, batch: &Batch, rows: usize) -> Result<(), String> {
        match self {
            Self::Classes(scorer) => scorer
                .add(std::slice::from_ref(output), &batch.targets, batch.weights.as_deref(), rows)
                .map_err(|e| e.to_string()),
            Self::Numbers { within, counted } => {
                let targets = batch.targets.first().and_then(Array::as_floats).unwrap_or_default();
                let outputs = output.as_floats().unwrap_or_default();
                if rows == 0 || targets.is_empty() || targets.len() != outputs.len() || !targets.len().is_multiple_of(rows) {
                    return Err(format!(
                        "{} numbers came out for {rows} rows, and data.target has {}: name the column or array that the model is to give",
                        outputs.len(),
                        targets.len()
                    ));
                }
                let width = targets.len() / rows;
                for (outputs, targets) in outputs.chunks(width).zip(targets.chunks(width)) {
                    let squares = outputs.iter().zip(targets).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
                    let error = (squares.sum::<f64>() / width as f64).sqrt();
                    counted.rows += 1;
                    counted.correct += u64::from(error <= f64::from(*within));
                }
                Ok(())
            }
        }
    }

    pub(super) fn finish(self) -> Result<Counted, TrainError> {
        Ok(match self {
            Self::Numbers { counted, .. } => counted,
            Self::Classes(scorer) => {
                let found = scorer.finish()?;
                let share = found.accuracy.unwrap_or(0.0).clamp(0.0, 1.0);
                Counted {
                    rows: found.examples,
                    correct: (share * found.examples as f64).round() as u64,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(targets: &[f32], shape: Vec<usize>) -> Batch {
        Batch {
            inputs: Vec::new(),
            targets: vec![Array::floats(shape, targets.to_vec()).expect("as many")],
            weights: None,
            flat: false,
        }
    }

    #[test]
    fn should_count_rows_whose_numbers_are_near() {
        let mut judge = Judge::Numbers {
            within: 0.5,
            counted: Counted::default(),
        };
        let outputs = Array::floats(vec![3, 2], vec![1.0, 2.0, 1.0, 2.0, 0.0, 0.0]).expect("as many");
        // Off by 0, by 0.5 (the bound itself), and by more in one of two numbers.
        judge
            .add(&outputs, &batch(&[1.0, 2.0, 1.5, 2.5, 0.0, 0.8], vec![3, 2]), 3)
            .expect("fits");
        assert_eq!(judge.finish().expect("counted"), Counted { rows: 3, correct: 2 });
    }

    #[test]
    fn should_refuse_targets_that_are_no_numbers_of_the_model() {
        let mut judge = Judge::Numbers {
            within: 0.5,
            counted: Counted::default(),
        };
        let outputs = Array::floats(vec![3, 2], vec![0.0; 6]).expect("as many");
        let wrong = judge.add(&outputs, &batch(&[0.0; 3], vec![3]), 3).expect_err("one each");
        assert!(wrong.contains("data.target"), "{wrong}");
        assert_eq!(judge.finish().expect("counted"), Counted::default());
    }
}
