//! What an evaluation measures: streamed over batches, weighted by sample as the losses are.

mod classes;
mod ranks;
mod scores;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

pub use classes::{ClassScores, Confusion, MAX_CONFUSION_CLASSES};
pub use ranks::MAX_SCORES;
pub(crate) use scores::Scores;

use crate::Loss;

/// A number (or matrix) that an evaluation can give besides the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Share of right answers. Several labels: rows whose labels are all right.
    Accuracy,
    /// Share of positions whose class is among the `k` largest logits; of equal ones the first count.
    Top(u32),
    /// F1 over classes or labels, and with it precision, recall and F1 of each.
    F1(Average),
    /// Area under the ROC curve by ranks, ties counting half: of the positive class, or the mean of each class (or label) against the
    /// rest. Classes that have no rows, or all, do not count.
    Auc,
    /// Mean absolute error.
    Mae,
    /// Root of the mean squared error.
    Rmse,
    /// exp of the mean negative log-likelihood, whatever smoothing and class weights the loss has.
    Perplexity,
    /// How often each class is taken for which.
    Confusion,
}

/// How F1 scores of classes become one. Classes that are neither in the truth nor among the answers do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Average {
    /// Their mean.
    Macro,
    /// F1 of the hits and misses of all classes together.
    Micro,
    /// Their mean, weighted by how many rows each class has.
    Weighted,
}

/// A name that is no metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no metric; use accuracy, top5 (any number), f1_macro, f1_micro, f1_weighted, auc, mae, rmse, perplexity or confusion")]
pub struct UnknownMetric {
    /// The name.
    pub name: String,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accuracy => f.write_str("accuracy"),
            Self::Top(k) => write!(f, "top{k}"),
            Self::F1(Average::Macro) => f.write_str("f1_macro"),
            Self::F1(Average::Micro) => f.write_str("f1_micro"),
            Self::F1(Average::Weighted) => f.write_str("f1_weighted"),
            Self::Auc => f.write_str("auc"),
            Self::Mae => f.write_str("mae"),
            Self::Rmse => f.write_str("rmse"),
            Self::Perplexity => f.write_str("perplexity"),
            Self::Confusion => f.write_str("confusion"),
        }
    }
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        let top = |digits: &str| digits.parse().ok().filter(|&k: &u32| k > 0 && digits == k.to_string());
        Ok(match name {
            "accuracy" => Self::Accuracy,
            "f1_macro" => Self::F1(Average::Macro),
            "f1_micro" => Self::F1(Average::Micro),
            "f1_weighted" => Self::F1(Average::Weighted),
            "auc" => Self::Auc,
            "mae" => Self::Mae,
            "rmse" => Self::Rmse,
            "perplexity" => Self::Perplexity,
            "confusion" => Self::Confusion,
            _ => match name.strip_prefix("top").and_then(top) {
                Some(k) => Self::Top(k),
                None => return Err(UnknownMetric { name: name.to_owned() }),
            },
        })
    }
}

impl Metric {
    /// Whether it can be told from what a head with this loss answers.
    pub fn suits(self, loss: &Loss) -> bool {
        match loss {
            Loss::CrossEntropy(_) => !matches!(self, Self::Mae | Self::Rmse),
            Loss::BinaryCrossEntropy(_) => matches!(self, Self::Accuracy | Self::F1(_) | Self::Auc | Self::Confusion),
            Loss::Mse | Loss::Mae | Loss::Huber(_) => matches!(self, Self::Mae | Self::Rmse),
            Loss::Contrastive(_) | Loss::Pairwise(_) => false,
            Loss::Distillation(options) => self.suits(&options.hard),
        }
    }
}

/// Over a whole data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Mean loss: over the heads, each times its weight.
    pub loss: f64,
    /// Share of right answers, 0 to 1, of the first head that answers with classes or labels; `None` where none does.
    pub accuracy: Option<f64>,
    /// Examples.
    pub examples: u64,
    /// What each head was found to do.
    pub heads: Vec<HeadScores>,
}

/// What one head does.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeadScores {
    /// Mean loss.
    pub loss: f64,
    /// The metrics that are numbers. One that the data leaves undefined (AUC of one class alone) is not there.
    pub values: BTreeMap<Metric, f64>,
    /// Each class or label, where F1 was asked for.
    pub classes: Vec<ClassScores>,
    /// Where it was asked for.
    pub confusion: Option<Confusion>,
}

#[cfg(test)]
mod tests;
