//! What is kept of the batches of one head, until all have been seen.

use std::collections::BTreeSet;

use super::classes::{Confusion, Counts, MAX_CONFUSION_CLASSES};
use super::ranks::Ranks;
use super::{HeadScores, Metric};
use crate::loss::{CrossEntropy, View};
use crate::{Loss, TrainError};

/// Sums of one head.
#[derive(Debug, Clone)]
pub(crate) struct Scores {
    loss: Loss,
    wanted: BTreeSet<Metric>,
    counts: Option<Counts>,
    confusion: Option<Confusion>,
    ranks: Ranks,
    /// Weight of the positions or rows.
    weight: f64,
    right: f64,
    /// Of each [`Metric::Top`].
    top: Vec<(u32, f64)>,
    negative_log_likelihood: f64,
    absolute: f64,
    squared: f64,
}

impl Scores {
    /// Keeps what the metrics that suit the loss need, and accuracy where there are answers.
    pub(crate) fn new(loss: &Loss, metrics: &[Metric]) -> Self {
        let mut wanted: BTreeSet<Metric> = metrics.iter().copied().filter(|metric| metric.suits(loss)).collect();
        if Metric::Accuracy.suits(loss) {
            wanted.insert(Metric::Accuracy);
        }
        let top = wanted
            .iter()
            .filter_map(|m| if let Metric::Top(k) = m { Some((*k, 0.0)) } else { None });
        Self {
            loss: loss.clone(),
            top: top.collect(),
            wanted,
            counts: None,
            confusion: None,
            ranks: Ranks::default(),
            weight: 0.0,
            right: 0.0,
            negative_log_likelihood: 0.0,
            absolute: 0.0,
            squared: 0.0,
        }
    }

    /// Takes a batch that the loss has passed.
    pub(crate) fn add(&mut self, view: View<'_>) -> Result<(), TrainError> {
        match self.loss.clone() {
            Loss::CrossEntropy(options) => self.add_classes(&options, view),
            Loss::BinaryCrossEntropy(_) => self.add_labels(view),
            Loss::Mse | Loss::Mae | Loss::Huber(_) => {
                self.add_values(view);
                Ok(())
            }
            // Its scores are those of the loss of the task.
            Loss::Contrastive(_) | Loss::Pairwise(_) | Loss::Distillation(_) => Ok(()),
        }
    }

    fn wants_f1(&self) -> bool {
        self.wanted.iter().any(|metric| matches!(metric, Metric::F1(_)))
    }

    /// Makes the counts of `classes`, where F1 or a confusion matrix of `of` classes is wanted.
    fn prepare(&mut self, classes: usize, of: usize) -> Result<(), TrainError> {
        if self.counts.is_none() && self.wants_f1() {
            self.counts = Some(Counts::new(classes));
        }
        if self.confusion.is_none() && self.wanted.contains(&Metric::Confusion) {
            if of > MAX_CONFUSION_CLASSES {
                return Err(TrainError::Config {
                    reason: format!("a confusion matrix of {of} classes is too large, {MAX_CONFUSION_CLASSES} are possible; leave it out"),
                });
            }
            self.confusion = Some(Confusion {
                classes: of,
                cells: vec![0.0; of * of],
            });
        }
        Ok(())
    }

    fn confuse(&mut self, truth: usize, answer: usize, weight: f64) {
        if let Some(confusion) = &mut self.confusion
            && let Some(cell) = confusion.cells.get_mut(truth * confusion.classes + answer)
        {
            *cell += weight;
        }
    }

    fn add_classes(&mut self, options: &CrossEntropy, view: View<'_>) -> Result<(), TrainError> {
        let Some(positions) = options.positions(view.shape) else {
            return Ok(());
        };
        self.prepare(positions.classes, positions.classes)?;
        for (at, target) in view.numbers().into_iter().enumerate() {
            let Some(truth) = options.class(target) else { continue };
            let weight = view.weight(at / positions.per_row);
            let logits: Vec<f64> = positions.logits(view.output, at).map(f64::from).collect();
            let Some(&of_truth) = logits.get(truth) else { continue };
            self.weight += weight;
            // Where the true class stands, 0 for the largest logit; something that is no number is never right.
            let place = logits
                .iter()
                .enumerate()
                .filter(|&(i, &z)| !(z < of_truth || (z == of_truth && i >= truth)))
                .count();
            self.right += weight * f64::from(u8::from(place == 0));
            for (k, right) in &mut self.top {
                *right += weight * f64::from(u8::from(place < *k as usize));
            }
            if self.counts.is_some() || self.confusion.is_some() {
                let answer = largest(&logits);
                if let Some(counts) = &mut self.counts {
                    counts.add(truth, true, answer == truth, weight);
                    if answer != truth {
                        counts.add(answer, false, true, weight);
                    }
                }
                self.confuse(truth, answer, weight);
            }
            if self.wanted.contains(&Metric::Perplexity) {
                self.negative_log_likelihood += weight * (log_sum_exp(&logits) - of_truth);
            }
            if self.wanted.contains(&Metric::Auc) {
                if let [first, second] = logits[..] {
                    self.ranks.add(0, second - first, truth == 1, weight)?;
                    continue;
                }
                let exps: Vec<f64> = {
                    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    logits.iter().map(|z| (z - largest).exp()).collect()
                };
                let total: f64 = exps.iter().sum();
                for (class, exp) in exps.iter().enumerate() {
                    self.ranks.add(class, exp / total, truth == class, weight)?;
                }
            }
        }
        Ok(())
    }

    fn add_labels(&mut self, view: View<'_>) -> Result<(), TrainError> {
        let targets = view.numbers();
        let rows = view.shape.first().copied().unwrap_or(0).max(1);
        let labels = (view.output.len() / rows).max(1);
        if labels > 1 && self.wanted.contains(&Metric::Confusion) {
            return Err(TrainError::Config {
                reason: format!("a confusion matrix of {labels} labels that do not exclude each other is none; leave it out"),
            });
        }
        self.prepare(labels, 2)?;
        for (row, (output, truth)) in view.output.chunks(labels).zip(targets.chunks(labels)).enumerate() {
            let weight = view.weight(row);
            let mut right = true;
            for (label, (&x, &t)) in output.iter().zip(truth).enumerate() {
                let (answer, truth) = (x > 0.0, t > 0.5);
                right &= answer == truth && !x.is_nan();
                if let Some(counts) = &mut self.counts {
                    counts.add(label, truth, answer, weight);
                }
                self.confuse(usize::from(truth), usize::from(answer), weight);
                if self.wanted.contains(&Metric::Auc) {
                    self.ranks.add(label, f64::from(x), truth, weight)?;
                }
            }
            self.weight += weight;
            self.right += weight * f64::from(u8::from(right));
        }
        Ok(())
    }

    fn add_values(&mut self, view: View<'_>) {
        let rows = view.shape.first().copied().unwrap_or(0).max(1);
        let per_row = (view.output.len() / rows).max(1);
        for (at, (&x, t)) in view.output.iter().zip(view.numbers()).enumerate() {
            let weight = view.weight(at / per_row);
            let error = f64::from(x) - t;
            self.weight += weight;
            self.absolute += weight * error.abs();
            self.squared += weight * error * error;
        }
    }

    /// `loss` is the mean over everything.
    pub(crate) fn finish(self, loss: f64) -> HeadScores {
        let mut scores = HeadScores {
            loss,
            classes: self.counts.as_ref().map(Counts::scores).unwrap_or_default(),
            confusion: self.confusion,
            ..HeadScores::default()
        };
        let mut ranks = Some(self.ranks);
        let mean = |sum: f64| (self.weight > 0.0).then(|| sum / self.weight);
        for &metric in &self.wanted {
            let value = match metric {
                Metric::Accuracy => mean(self.right),
                Metric::Top(k) => self.top.iter().find(|(of, _)| *of == k).and_then(|&(_, right)| mean(right)),
                Metric::F1(average) => self.counts.as_ref().and_then(|counts| counts.f1(average)),
                Metric::Auc => ranks.take().and_then(Ranks::auc),
                Metric::Mae => mean(self.absolute),
                Metric::Rmse => mean(self.squared).map(f64::sqrt),
                Metric::Perplexity => mean(self.negative_log_likelihood).map(f64::exp),
                Metric::Confusion => None,
            };
            if let Some(value) = value {
                scores.values.insert(metric, value);
            }
        }
        scores
    }
}

/// The index of the largest; of equal ones the first.
fn largest(values: &[f64]) -> usize {
    let mut at = 0;
    for (i, value) in values.iter().enumerate() {
        if *value > values[at] {
            at = i;
        }
    }
    at
}

fn log_sum_exp(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter().map(|v| (v - largest).exp()).sum::<f64>().ln() + largest
}
