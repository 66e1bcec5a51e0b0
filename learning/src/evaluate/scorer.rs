//! What a model's outputs are worth, whatever computed them.

use super::no_rows;
use crate::array::Array;
use crate::loss::{Answers, View};
use crate::metrics::{Metric, Scores};
use crate::{Evaluation, Head, Loss, TrainError};

/// Compares outputs with targets batch by batch: the loss of each head, and metrics. Sums are kept in f64. Losses over pairs
/// ([`Loss::Contrastive`]) compare the rows of a batch, so theirs depends on the batches.
///
/// [`Loss::Contrastive`]: crate::Loss::Contrastive
pub struct Scorer {
    heads: Vec<Measured>,
    examples: u64,
}

/// A head, and what was seen of it.
struct Measured {
    head: Head,
    scores: Scores,
    sum: f64,
    weight: f64,
}

impl std::fmt::Debug for Scorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scorer").field("examples", &self.examples).finish_non_exhaustive()
    }
}

impl Scorer {
    /// Of nothing yet. Accuracy is measured wherever there are classes or labels; each other metric by the heads that it suits.
    ///
    /// # Errors
    /// [`TrainError::Config`] for no head, options of a loss that can't work, and metrics that suit no head.
    pub fn new(heads: &[Head], metrics: &[Metric]) -> Result<Self, TrainError> {
        if heads.is_empty() {
            return Err(TrainError::Config {
                reason: "there is no loss; name at least one head".to_owned(),
            });
        }
        heads.iter().try_for_each(|head| head.loss.check())?;
        if let Some(metric) = metrics.iter().find(|metric| !heads.iter().any(|head| metric.suits(&head.loss))) {
            return Err(TrainError::Config {
                reason: format!("the metric {metric} says nothing about this loss; leave it out, or use another loss"),
            });
        }
        let measured = |head: &Head| Measured {
            scores: Scores::new(head.loss.hard(), metrics),
            head: head.clone(),
            sum: 0.0,
            weight: 0.0,
        };
        Ok(Self {
            heads: heads.iter().map(measured).collect(),
            examples: 0,
        })
    }

    fn losses(&self) -> impl Iterator<Item = &Loss> {
        self.heads.iter().map(|measured| &measured.head.loss)
    }

    /// Refuses targets and weights that do not go with the heads, before anything is computed.
    ///
    /// # Errors
    /// [`TrainError::Data`].
    pub fn check(&self, targets: &[Array], weights: Option<&[f32]>, rows: usize) -> Result<(), TrainError> {
        let wrong = |reason: String| Err(TrainError::Data { reason });
        Answers::new(self.losses(), targets)?;
        if weights.is_some_and(|w| w.len() != rows) {
            return wrong(format!("the weights of the samples are not {rows}, one a row; correct the data"));
        }
        Ok(())
    }

    /// Adds what a batch of `rows` shows: an output and an array of targets a head, and how much each row counts (1 where absent).
    ///
    /// # Errors
    /// [`TrainError::Data`] for targets that the loss can't take; [`TrainError::Graph`] for outputs that it can't.
    pub fn add(&mut self, outputs: &[Array], targets: &[Array], weights: Option<&[f32]>, rows: usize) -> Result<(), TrainError> {
        self.check(targets, weights, rows)?;
        let each: Vec<_> = Answers::new(self.losses(), targets)?.by_head(self.losses()).collect();
        for ((measured, output), (targets, teacher)) in self.heads.iter_mut().zip(outputs).zip(each) {
            let loss = &measured.head.loss;
            let view = View {
                output: output.as_floats().ok_or_else(|| TrainError::Graph {
                    reason: "a loss needs an output of floats; choose another output".to_owned(),
                })?,
                shape: output.shape(),
                targets,
                teacher,
                weights,
            };
            let n = loss.outputs(view.shape, rows)?;
            loss.check_targets(targets, n)?;
            let batch = loss.of_batch(view, 1.0, None)?;
            measured.sum += batch.sum;
            measured.weight += batch.weight;
            // What nobody reads may be anything.
            if loss.reads_targets() || teacher.is_none() {
                measured.scores.add(view)?;
            }
        }
        self.examples += rows as u64;
        Ok(())
    }

    /// What all batches together show.
    ///
    /// # Errors
    /// [`TrainError::Data`] when there was none.
    pub fn finish(self) -> Result<Evaluation, TrainError> {
        if self.examples == 0 {
            return Err(no_rows());
        }
        let (mut loss, mut heads) = (0.0, Vec::with_capacity(self.heads.len()));
        for measured in self.heads {
            if measured.weight <= 0.0 {
                return Err(TrainError::Data {
                    reason: "no two rows of a batch could be compared, so the loss has no value; use data with several rows a label"
                        .to_owned(),
                });
            }
            let mean = measured.sum / measured.weight;
            loss += f64::from(measured.head.weight) * mean;
            heads.push(measured.scores.finish(mean));
        }
        Ok(Evaluation {
            loss,
            accuracy: heads.iter().find_map(|head| head.values.get(&Metric::Accuracy).copied()),
            examples: self.examples,
            heads,
        })
    }
}
