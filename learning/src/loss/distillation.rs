//! Distillation: a student learns what a teacher answers, besides what is true.

use super::cross_entropy::Positions;
use super::{BatchLoss, Loss, View, elementwise, shapes_differ};
use crate::TrainError;
use crate::array::Array;

/// Options of [`Loss::Distillation`].
#[derive(Debug, Clone, PartialEq)]
pub struct Distillation {
    /// Divides the logits of both, above 0: the higher, the more counts what the teacher holds for less likely. Of no account for values
    /// (mse, mae, huber).
    pub temperature: f32,
    /// Share of the teacher in the loss, 0 to 1. With 1 the targets are not read.
    pub alpha: f32,
    /// The loss of the task.
    pub hard: Box<Loss>,
}

impl Distillation {
    pub(super) fn check(&self) -> Result<(), TrainError> {
        let refuse = |reason: String| Err(TrainError::Config { reason });
        if !self.temperature.is_finite() || self.temperature <= 0.0 {
            return refuse(format!("`temperature` is {}; use a number above 0", self.temperature));
        }
        if !(0.0..=1.0).contains(&self.alpha) {
            return refuse(format!("`alpha` is {}; use a number from 0 to 1", self.alpha));
        }
        if matches!(*self.hard, Loss::Distillation(_) | Loss::Contrastive(_) | Loss::Pairwise(_)) {
            return refuse(format!(
                "a {} loss can't be the loss of the task that is distilled; use cross-entropy, binary cross-entropy, mse, mae or huber",
                self.hard.name()
            ));
        }
        self.hard.check()
    }

    /// Whether the targets are read.
    pub(super) fn reads_targets(&self) -> bool {
        self.alpha < 1.0
    }

    /// `alpha T^2 KL(softmax(teacher / T) || softmax(student / T)) + (1 - alpha) hard`, as means over the positions that count; labels each by
    /// themselves, values by `alpha mse(teacher) + (1 - alpha) hard`. Without the teacher's answers the loss of the task alone.
    ///
    /// # Source
    /// Hinton, Vinyals, Dean 2015, section 2 (the factor T^2 included).
    pub(super) fn of_batch(&self, view: View<'_>, scale: f64, mut gradient: Option<&mut [f32]>) -> Result<BatchLoss, TrainError> {
        let Some(teacher) = view.teacher else {
            return self.hard.of_batch(view, scale, gradient);
        };
        let alpha = f64::from(self.alpha);
        let hard = if self.reads_targets() {
            Some(self.hard.of_batch(view, scale * (1.0 - alpha), gradient.as_deref_mut())?)
        } else {
            None
        };
        let answers = answers(teacher, view)?;
        let soft = match &*self.hard {
            Loss::CrossEntropy(options) => {
                let positions = options.positions(view.shape).ok_or_else(|| shapes_differ("distillation", view))?;
                // What the task ignores, as padding is, teaches nothing.
                let targets = if self.reads_targets() { view.numbers() } else { Vec::new() };
                let counts = |at: usize| targets.get(at).is_none_or(|&target| options.class(target).is_some());
                self.classes(view, positions, answers, &counts, scale * alpha, gradient)?
            }
            Loss::BinaryCrossEntropy(_) => self.each(view, answers, scale * alpha, gradient, |x, t| self.label(x, t))?,
            _ => self.each(view, answers, scale * alpha, gradient, |x, t| elementwise::squared(0, x, t))?,
        };
        let hard = hard.map_or(0.0, BatchLoss::mean);
        let mean = alpha * soft.mean() + (1.0 - alpha) * hard;
        Ok(BatchLoss {
            sum: mean * soft.weight,
            weight: soft.weight,
        })
    }

    /// `T^2 KL` over the classes of each position, and its gradient `T (student - teacher)`.
    fn classes(
        &self,
        view: View<'_>,
        positions: Positions,
        answers: &[f32],
        counts: &dyn Fn(usize) -> bool,
        scale: f64,
        mut gradient: Option<&mut [f32]>,
    ) -> Result<BatchLoss, TrainError> {
        let n = view.shape[0] * positions.per_row;
        let row_weight = |at: usize| if counts(at) { view.weight(at / positions.per_row) } else { 0.0 };
        let weight: f64 = (0..n).map(row_weight).sum();
        if weight <= 0.0 {
            return Err(TrainError::Data {
                reason: "no row of the batch counts: its targets are ignored or weigh 0; use larger batches, or leave such rows out"
                    .to_owned(),
            });
        }
        let t = f64::from(self.temperature);
        let (mut taught, mut learnt) = (vec![0.0; positions.classes], vec![0.0; positions.classes]);
        let mut sum = 0.0;
        for at in (0..n).filter(|&at| row_weight(at) > 0.0) {
            log_softmax(positions.logits(answers, at), t, &mut taught);
            log_softmax(positions.logits(view.output, at), t, &mut learnt);
            let row_weight = row_weight(at);
            let mut divergence = 0.0;
            for (class, (taught, learnt)) in taught.iter().zip(&learnt).enumerate() {
                let p = taught.exp();
                // A class that the teacher rules out adds nothing.
                if p > 0.0 {
                    divergence += p * (taught - learnt);
                }
                if let Some(gradient) = gradient.as_deref_mut() {
                    let slope = t * (learnt.exp() - p);
                    gradient[positions.place(at, class)] += (slope * row_weight * scale / weight) as f32;
                }
            }
            // An infinite logit makes the sum of probabilities no number; so is the loss then.
            sum += row_weight * t * t * divergence;
        }
        Ok(BatchLoss { sum, weight })
    }

    /// The same for a label that is there or not, with its derivative.
    fn label(&self, student: f64, teacher: f64) -> (f64, f64) {
        let t = f64::from(self.temperature);
        let (x, z) = (student / t, teacher / t);
        let softplus = |x: f64| (-x.abs()).exp().ln_1p() + x.max(0.0);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let p = sigmoid(z);
        // p ln(p / q) + (1 - p) ln((1 - p) / (1 - q)), by ln(sigmoid(x)) = -softplus(-x).
        let divergence = p * (softplus(-x) - softplus(-z)) + (1.0 - p) * (softplus(x) - softplus(z));
        (t * t * divergence, t * (sigmoid(x) - p))
    }

    /// The mean over the values of each row, weighted by row.
    fn each(
        &self,
        view: View<'_>,
        answers: &[f32],
        scale: f64,
        mut gradient: Option<&mut [f32]>,
        each: impl Fn(f64, f64) -> (f64, f64),
    ) -> Result<BatchLoss, TrainError> {
        let rows = view.shape.first().copied().unwrap_or(0);
        let per_row = view.output.len().checked_div(rows).unwrap_or(0).max(1);
        let weight = view.total_weight(rows)?;
        let mut sum = 0.0;
        for (at, (&x, &t)) in view.output.iter().zip(answers).enumerate() {
            let (value, derivative) = each(f64::from(x), f64::from(t));
            let row_weight = view.weight(at / per_row) / per_row as f64;
            sum += row_weight * value;
            if let Some(gradient) = gradient.as_deref_mut() {
                gradient[at] += (derivative * row_weight * scale / weight) as f32;
            }
        }
        Ok(BatchLoss { sum, weight })
    }
}

/// What the teacher answers, which is finite and of the output's shape.
fn answers<'a>(teacher: &'a Array, view: View<'_>) -> Result<&'a [f32], TrainError> {
    let values = teacher.as_floats().filter(|_| teacher.shape() == view.shape);
    let values = values.ok_or_else(|| TrainError::Data {
        reason: format!(
            "the teacher answers with the shape {:?}, the student with {:?}; distil into a student with the teacher's outputs",
            teacher.shape(),
            view.shape
        ),
    })?;
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(TrainError::Data {
            reason: format!(
                "the teacher answers row {} with {}; check the teacher on this data",
                at / teacher.row_len().max(1) + 1,
                values[at]
            ),
        }),
        None => Ok(values),
    }
}

/// The logarithms of the probabilities that logits, divided by `t`, stand for.
pub(crate) fn log_softmax(logits: impl Iterator<Item = f32> + Clone, t: f64, to: &mut [f64]) {
    let largest = logits.clone().map(|z| f64::from(z) / t).fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.clone().map(|z| (f64::from(z) / t - largest).exp()).sum();
    let log_total = total.ln() + largest;
    for (to, z) in to.iter_mut().zip(logits) {
        *to = f64::from(z) / t - log_total;
    }
}

#[cfg(test)]
mod tests;
