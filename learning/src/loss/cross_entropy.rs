//! Softmax cross-entropy, over rows or over every position of a sequence or image.

use aimass_kernels::{Isa, rows};

use super::{BatchLoss, ClassAxis, CrossEntropy, View, each_weight, place, shapes_differ};
use crate::TrainError;

/// Where the classes of each position lie in logits, row-major.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Positions {
    /// Classes.
    pub(crate) classes: usize,
    /// Positions of a row: 1 for `[batch, classes]`.
    pub(crate) per_row: usize,
    /// Values between two classes of one position.
    stride: usize,
}

impl Positions {
    /// Logits of position `at`, counted over the batch.
    pub(crate) fn logits(self, output: &[f32], at: usize) -> impl Iterator<Item = f32> + Clone {
        let start = self.start(at);
        (0..self.classes).map(move |class| output[start + class * self.stride])
    }

    /// Where the logit of a class of position `at` is.
    pub(crate) fn place(self, at: usize, class: usize) -> usize {
        self.start(at) + class * self.stride
    }

    fn start(self, at: usize) -> usize {
        at / self.stride * self.classes * self.stride + at % self.stride
    }
}

impl CrossEntropy {
    /// `None` for a shape that holds no logits.
    pub(crate) fn positions(&self, shape: &[usize]) -> Option<Positions> {
        let (rows, rest) = shape.split_first()?;
        let (classes, stride) = match self.class_axis {
            ClassAxis::Last => (*rest.last()?, 1),
            ClassAxis::Second => (*rest.first()?, rest[1..].iter().product()),
        };
        let per_row = rest.iter().product::<usize>().checked_div(classes)?;
        (classes > 1 && per_row > 0 && *rows > 0).then_some(Positions { classes, per_row, stride })
    }

    fn ignores(&self, target: f64) -> bool {
        self.ignore_index.is_some_and(|index| target == index as f64)
    }

    /// The class of a target; `None` for one that is ignored.
    pub(crate) fn class(&self, target: f64) -> Option<usize> {
        (!self.ignores(target)).then_some(target as usize)
    }

    pub(super) fn takes(&self, target: f64, classes: usize) -> bool {
        self.ignores(target) || (target >= 0.0 && target.fract() == 0.0 && target < classes as f64)
    }

    fn class_weight(&self, class: usize) -> f64 {
        let weights = self.class_weights.as_ref();
        weights.and_then(|w| w.get(class)).map_or(1.0, |&w| f64::from(w))
    }

    /// # Source
    /// The definition of `torch.nn.CrossEntropyLoss` (label smoothing: Szegedy et al. 2016, CVPR, section 7).
    pub(super) fn of_batch(&self, view: View<'_>, scale: f64, gradient: Option<&mut [f32]>) -> Result<BatchLoss, TrainError> {
        let Some(positions) = self.positions(view.shape) else {
            return Err(shapes_differ("cross-entropy", view));
        };
        let targets = view.numbers();
        let rows = view.shape[0];
        if targets.len() != rows * positions.per_row {
            return Err(shapes_differ("cross-entropy", view));
        }
        let mut weight = 0.0;
        for (at, &target) in targets.iter().enumerate() {
            if !self.takes(target, positions.classes) {
                return Err(self.wrong_target(target, positions.classes, at, positions.per_row));
            }
            if let Some(class) = self.class(target) {
                weight += view.weight(at / positions.per_row) * self.class_weight(class);
            }
        }
        if weight <= 0.0 {
            return Err(TrainError::Data {
                reason: "no row of the batch counts: its targets are ignored or weigh 0; use larger batches, or leave such rows out"
                    .to_owned(),
            });
        }
        if let Some(gradient) = gradient {
            return self.trained(view, positions, &targets, weight, scale, gradient);
        }
        let mut loss = BatchLoss { sum: 0.0, weight };
        let smooth = f64::from(self.label_smoothing);
        let spread = smooth / positions.classes as f64;
        for (at, &target) in targets.iter().enumerate() {
            let Some(class) = self.class(target) else { continue };
            let logits = positions.logits(view.output, at);
            let largest = f64::from(logits.clone().fold(f32::NEG_INFINITY, f32::max));
            let exp = |z: f32| (f64::from(z) - largest).exp();
            let total: f64 = logits.clone().map(exp).sum();
            let log_total = total.ln() + largest;
            // What the logarithm of each class's probability is multiplied by.
            let wanted = |i: usize| {
                let hit = if i == class { 1.0 - smooth } else { 0.0 };
                (hit + spread) * self.class_weight(i)
            };
            let row_weight = view.weight(at / positions.per_row);
            let mut value = 0.0;
            for (i, z) in logits.clone().enumerate() {
                let wanted = wanted(i);
                // A class that is not wanted may have the probability 0.
                if wanted != 0.0 {
                    value += wanted * (log_total - f64::from(z));
                }
            }
            // An infinite logit makes the sum of probabilities no number; so is the loss then.
            loss.sum += row_weight * if log_total.is_finite() { value } else { f64::NAN };
        }
        Ok(loss)
    }

    /// The loss and its gradient, with exponentials in single precision.
    fn trained(
        &self,
        view: View<'_>,
        positions: Positions,
        targets: &[f64],
        weight: f64,
        scale: f64,
        gradient: &mut [f32],
    ) -> Result<BatchLoss, TrainError> {
        // Targets were checked: what is no class is ignored.
        const IGNORED: i64 = -1;
        let classes: Vec<i64> = targets
            .iter()
            .map(|&t| self.class(t).map_or(IGNORED, |class| class as i64))
            .collect();
        let kernel = rows::CrossEntropy {
            classes: positions.classes,
            stride: positions.stride,
            per_sample: positions.per_row,
            ignore: Some(IGNORED),
            sample_weights: view.weights,
            class_weights: self.class_weights.as_deref(),
            label_smoothing: self.label_smoothing,
        };
        let loss = kernel.run(Isa::best(), view.output, &classes, scale, Some(gradient));
        let loss = loss.map_err(|wrong| self.wrong_target(targets[wrong.at], positions.classes, wrong.at, positions.per_row))?;
        Ok(BatchLoss { sum: loss.sum, weight })
    }

    /// `at` counts positions over the batch or data.
    pub(super) fn wrong_target(&self, target: f64, classes: usize, at: usize, per_row: usize) -> TrainError {
        let place = place(at, per_row);
        let last = classes.saturating_sub(1);
        let fix = "number the classes from 0, or use a model with more outputs";
        TrainError::Data {
            reason: format!("{place} has the target {target}, the model's classes are 0 to {last}; {fix}"),
        }
    }

    pub(super) fn check(&self) -> Result<(), TrainError> {
        let refuse = |reason: String| Err(TrainError::Config { reason });
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return refuse(format!("`label_smoothing` is {}; use a number from 0 to 1", self.label_smoothing));
        }
        match &self.class_weights {
            None => Ok(()),
            Some(weights) => each_weight("class_weights", weights),
        }
    }

    /// That an output of this shape can be read. Returns the classes.
    pub(super) fn outputs(&self, shape: &[usize]) -> Result<usize, TrainError> {
        let Some(positions) = self.positions(shape) else {
            return Err(TrainError::Graph {
                reason: format!(
                    "cross-entropy needs logits [batch, classes] with 2 or more classes, the model's output is {shape:?}; use the loss mse or another model"
                ),
            });
        };
        match &self.class_weights {
            Some(weights) if weights.len() != positions.classes => Err(TrainError::Config {
                reason: format!(
                    "`class_weights` has {} numbers for {} classes; write one a class",
                    weights.len(),
                    positions.classes
                ),
            }),
            _ => Ok(positions.classes),
        }
    }
}
