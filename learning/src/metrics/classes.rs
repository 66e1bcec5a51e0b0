//! Hits and misses by class.

use super::Average;

/// Classes of a confusion matrix at most.
pub const MAX_CONFUSION_CLASSES: usize = 1000;

/// One class, or one label of several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassScores {
    /// Share of the answers with this class that are right; 0 when there is none.
    pub precision: f64,
    /// Share of the rows of this class that are found; 0 when there is none.
    pub recall: f64,
    /// Harmonic mean of the two; 0 when both are.
    pub f1: f64,
    /// Weight of the rows of this class: how many, where rows have no weights.
    pub support: f64,
}

/// A square matrix, row-major: row the truth, column the answer, each cell the weight of the rows there.
#[derive(Debug, Clone, PartialEq)]
pub struct Confusion {
    /// Rows and columns.
    pub classes: usize,
    /// `[classes, classes]`.
    pub cells: Vec<f64>,
}

/// Weights of hits and misses of each class.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    hits: Vec<f64>,
    /// Of the truth.
    rows: Vec<f64>,
    /// Of the answers.
    answers: Vec<f64>,
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl Counts {
    pub(super) fn new(classes: usize) -> Self {
        let zeros = || vec![0.0; classes];
        Self {
            hits: zeros(),
            rows: zeros(),
            answers: zeros(),
        }
    }

    /// A row that is (or is not) of a class, and is said to be.
    pub(super) fn add(&mut self, class: usize, truth: bool, answer: bool, weight: f64) {
        let add = |to: &mut Vec<f64>, when: bool| {
            if let Some(to) = to.get_mut(class).filter(|_| when) {
                *to += weight;
            }
        };
        add(&mut self.hits, truth && answer);
        add(&mut self.rows, truth);
        add(&mut self.answers, answer);
    }

    pub(super) fn scores(&self) -> Vec<ClassScores> {
        let one = |((&hits, &rows), &answers): ((&f64, &f64), &f64)| ClassScores {
            precision: ratio(hits, answers),
            recall: ratio(hits, rows),
            f1: ratio(2.0 * hits, rows + answers),
            support: rows,
        };
        self.hits.iter().zip(&self.rows).zip(&self.answers).map(one).collect()
    }

    /// `None` when nothing was counted.
    pub(super) fn f1(&self, average: Average) -> Option<f64> {
        let sum = |values: &[f64]| values.iter().sum::<f64>();
        let known: Vec<(f64, f64)> = self
            .scores()
            .iter()
            .zip(&self.answers)
            .filter(|(class, answers)| class.support > 0.0 || **answers > 0.0)
            .map(|(class, _)| (class.f1, class.support))
            .collect();
        let mean = |weight: &dyn Fn(f64) -> f64| {
            let total: f64 = known.iter().map(|&(_, support)| weight(support)).sum();
            (total > 0.0).then(|| known.iter().map(|&(f1, support)| f1 * weight(support)).sum::<f64>() / total)
        };
        match average {
            Average::Macro => mean(&|_| 1.0),
            Average::Weighted => mean(&|support| support),
            Average::Micro => {
                let whole = sum(&self.rows) + sum(&self.answers);
                (whole > 0.0).then(|| 2.0 * sum(&self.hits) / whole)
            }
        }
    }
}
