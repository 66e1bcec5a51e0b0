//! The area under the ROC curve.

use crate::TrainError;

/// Scores that AUC keeps at most: one a row and class (two classes: one a row).
pub const MAX_SCORES: usize = 1 << 22;

/// One row's score for one class.
#[derive(Debug, Clone, Copy)]
struct Score {
    value: f64,
    weight: f64,
    positive: bool,
}

/// Scores by class.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranks {
    classes: Vec<Vec<Score>>,
    kept: usize,
}

impl Ranks {
    /// # Errors
    /// [`TrainError::Data`] when there are more than can be kept.
    pub(super) fn add(&mut self, class: usize, value: f64, positive: bool, weight: f64) -> Result<(), TrainError> {
        if self.kept >= MAX_SCORES {
            return Err(TrainError::Data {
                reason: format!(
                    "auc keeps a score a row and class, {MAX_SCORES} at most; evaluate fewer rows, or leave auc out of the metrics"
                ),
            });
        }
        if self.classes.len() <= class {
            self.classes.resize(class + 1, Vec::new());
        }
        self.kept += 1;
        self.classes[class].push(Score { value, weight, positive });
        Ok(())
    }

    /// The mean over the classes that have rows of both kinds; `None` where there is none, or a score is no number.
    pub(super) fn auc(self) -> Option<f64> {
        if self.classes.iter().flatten().any(|score| score.value.is_nan()) {
            return None;
        }
        let areas: Vec<f64> = self.classes.into_iter().filter_map(area).collect();
        (!areas.is_empty()).then(|| areas.iter().sum::<f64>() / areas.len() as f64)
    }
}

/// Share of the pairs of a positive and a negative row in which the positive one has the larger score; equal ones count half.
///
/// # Source
/// Hanley and McNeil 1982, The Meaning and Use of the Area under a ROC Curve, section III.
fn area(mut scores: Vec<Score>) -> Option<f64> {
    scores.sort_by(|a, b| a.value.total_cmp(&b.value));
    let (mut below, mut positives, mut sum) = (0.0, 0.0, 0.0);
    for ties in scores.chunk_by(|a, b| a.value == b.value) {
        let weight = |positive: bool| ties.iter().filter(|s| s.positive == positive).map(|s| s.weight).sum::<f64>();
        let (up, down) = (weight(true), weight(false));
        sum += up * (below + 0.5 * down);
        below += down;
        positives += up;
    }
    let pairs = positives * below;
    (pairs > 0.0).then(|| sum / pairs)
}
