//! Losses: a value and its gradient by the model's output, in plain numbers, so that every executor shares them.
//!
//! All arithmetic is f64, but for the exponentials of a cross-entropy whose gradient is wanted. Each loss is a mean as PyTorch's `reduction="mean"` takes it; with weights of the samples it is the weighted
//! mean over the rows.

mod answers;
mod contrastive;
mod cross_entropy;
mod distillation;
mod elementwise;

use crate::TrainError;
use crate::array::{Array, Values};
pub(crate) use answers::Answers;
pub use distillation::Distillation;
pub(crate) use distillation::log_softmax;

/// Losses.
#[derive(Debug, Clone, PartialEq)]
pub enum Loss {
    /// Softmax cross-entropy over class indices. The output is logits `[batch, classes]`, or with positions between (a token or pixel
    /// each); targets have its shape without the classes. The mean is over everything that is not ignored.
    CrossEntropy(CrossEntropy),
    /// Binary cross-entropy on logits: one label or many, each 0 to 1. Targets have the output's shape.
    BinaryCrossEntropy(BinaryCrossEntropy),
    /// Mean squared error. Targets have the output's shape; axes of length 1 do not count.
    Mse,
    /// Mean absolute error. Shapes as for [`Loss::Mse`].
    Mae,
    /// Squared near the target, absolute far from it. Shapes as for [`Loss::Mse`].
    Huber(Huber),
    /// Draws embeddings `[batch, d]` of the same label together, away from all others; targets are labels or pair ids `[batch]`.
    Contrastive(Contrastive),
    /// The same by distance and a margin.
    Pairwise(Pairwise),
    /// What a teacher answers, besides the loss of the task. Batches hold the teacher's answers behind the targets of all heads, an array for each
    /// head with this loss: see [`Taught`](crate::Taught). A batch without any is measured by the loss of the task alone.
    Distillation(Distillation),
}

/// Options of [`Loss::CrossEntropy`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CrossEntropy {
    /// Share of the target that is spread over all classes, 0 to 1.
    pub label_smoothing: f32,
    /// Weight of each class; 1 where absent.
    pub class_weights: Option<Vec<f32>>,
    /// Targets of this value do not count, for instance -100.
    pub ignore_index: Option<i64>,
    /// Where the classes are in an output with positions.
    pub class_axis: ClassAxis,
}

/// Which axis of logits holds the classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClassAxis {
    /// `[batch, positions..., classes]`, as language models give them.
    #[default]
    Last,
    /// `[batch, classes, positions...]`, as PyTorch's cross-entropy takes them.
    Second,
}

/// Options of [`Loss::BinaryCrossEntropy`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BinaryCrossEntropy {
    /// Weight of positive answers: one for all labels, or one for each of the output's last axis; 1 where absent.
    pub pos_weight: Option<Vec<f32>>,
}

/// Options of [`Loss::Huber`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Huber {
    /// Where the loss becomes a line, above 0.
    pub delta: f32,
}

impl Default for Huber {
    fn default() -> Self {
        Self { delta: 1.0 }
    }
}

/// Options of [`Loss::Contrastive`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contrastive {
    /// Divides the similarities (cosines), above 0.
    pub temperature: f32,
}

impl Default for Contrastive {
    /// 0.1, the best of Khosla et al. 2020, section 4.4.
    fn default() -> Self {
        Self { temperature: 0.1 }
    }
}

/// Options of [`Loss::Pairwise`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pairwise {
    /// Distance that rows of different labels keep, above 0.
    pub margin: f32,
}

impl Default for Pairwise {
    fn default() -> Self {
        Self { margin: 1.0 }
    }
}

/// Over one batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BatchLoss {
    /// Sum over what counts (rows, tokens, pairs), each times its weight.
    pub(crate) sum: f64,
    /// Sum of those weights.
    pub(crate) weight: f64,
}

impl BatchLoss {
    /// A batch without pairs.
    const NOTHING: Self = Self { sum: 0.0, weight: 0.0 };

    /// The mean; 0 for a batch without pairs.
    pub(crate) fn mean(self) -> f64 {
        if self.weight > 0.0 { self.sum / self.weight } else { 0.0 }
    }
}

/// What a loss reads of one batch.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    /// The model's output, row-major.
    pub(crate) output: &'a [f32],
    /// Of a shape that [`Loss::outputs`] passed.
    pub(crate) shape: &'a [usize],
    /// Its targets.
    pub(crate) targets: &'a Array,
    /// What a teacher answers, for those that read it.
    pub(crate) teacher: Option<&'a Array>,
    /// How much each row counts; 1 where absent.
    pub(crate) weights: Option<&'a [f32]>,
}

impl View<'_> {
    /// Targets of any type as numbers.
    pub(crate) fn numbers(&self) -> Vec<f64> {
        numbers(self.targets)
    }

    /// How much a row counts.
    pub(crate) fn weight(&self, row: usize) -> f64 {
        self.weights.and_then(|w| w.get(row)).map_or(1.0, |&w| f64::from(w))
    }

    fn total_weight(&self, rows: usize) -> Result<f64, TrainError> {
        let total: f64 = (0..rows).map(|row| self.weight(row)).sum();
        if total > 0.0 {
            return Ok(total);
        }
        Err(TrainError::Data {
            reason: "the weights of the batch's samples add up to 0, so nothing counts; leave such rows out, or weigh them above 0"
                .to_owned(),
        })
    }
}

impl Loss {
    /// Plain cross-entropy.
    pub fn cross_entropy() -> Self {
        Self::CrossEntropy(CrossEntropy::default())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::CrossEntropy(_) => "cross-entropy",
            Self::BinaryCrossEntropy(_) => "binary cross-entropy",
            Self::Mse => "mse",
            Self::Mae => "mae",
            Self::Huber(_) => "huber",
            Self::Contrastive(_) => "contrastive",
            Self::Pairwise(_) => "pairwise",
            Self::Distillation(_) => "distillation",
        }
    }

    /// Refuses options that can't work.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let positive = |name: &str, value: f32| {
            if value.is_finite() && value > 0.0 {
                return Ok(());
            }
            Err(TrainError::Config {
                reason: format!("`{name}` is {value}; use a number above 0"),
            })
        };
        match self {
            Self::CrossEntropy(options) => options.check(),
            Self::BinaryCrossEntropy(options) => options.check(),
            Self::Huber(options) => positive("delta", options.delta),
            Self::Contrastive(options) => positive("temperature", options.temperature),
            Self::Pairwise(options) => positive("margin", options.margin),
            Self::Distillation(options) => options.check(),
            Self::Mse | Self::Mae => Ok(()),
        }
    }

    /// The loss of the task: itself, but for one that a teacher has a part in.
    pub fn hard(&self) -> &Self {
        match self {
            Self::Distillation(options) => &options.hard,
            own => own,
        }
    }

    /// Whether a teacher has a part in it.
    pub fn is_taught(&self) -> bool {
        matches!(self, Self::Distillation(_))
    }

    /// Whether targets are read; where only a teacher's answers are, they may be anything.
    pub(crate) fn reads_targets(&self) -> bool {
        match self {
            Self::Distillation(options) => options.reads_targets(),
            _ => true,
        }
    }

    /// Whether an output of this shape suits, for a batch of `rows`. Returns the classes, or for other losses the values of a row.
    pub(crate) fn outputs(&self, shape: &[usize], rows: usize) -> Result<usize, TrainError> {
        let refuse = |reason: String| Err(TrainError::Graph { reason });
        if let Self::Distillation(options) = self {
            return options.hard.outputs(shape, rows);
        }
        if shape.first() != Some(&rows) {
            return refuse(format!(
                "the model's output has the shape {shape:?} for a batch of {rows}: the batch was mixed into other dimensions; \
                 export it with a dynamic batch, and flatten with Flatten(axis=1)"
            ));
        }
        let per_row: usize = shape[1..].iter().product();
        match self {
            Self::CrossEntropy(options) => return options.outputs(shape),
            Self::Contrastive(_) | Self::Pairwise(_) if shape.len() != 2 || per_row == 0 => {
                return refuse(format!(
                    "a {} loss needs embeddings [batch, d], the model's output is {shape:?}; use another model or loss",
                    self.name()
                ));
            }
            Self::BinaryCrossEntropy(options) => options.outputs(shape)?,
            _ => {}
        }
        if per_row == 0 {
            return refuse(format!("the model's output {shape:?} holds no values; use another model"));
        }
        Ok(per_row)
    }

    /// Whether targets of this shape go with an output of that shape, which [`Self::outputs`] passed.
    pub(crate) fn check_shapes(&self, output: &[usize], targets: &[usize]) -> Result<(), TrainError> {
        if let Self::Distillation(options) = self {
            return if self.reads_targets() {
                options.hard.check_shapes(output, targets)
            } else {
                Ok(())
            };
        }
        let long = |shape: &[usize]| -> Vec<usize> { shape.iter().copied().filter(|&d| d != 1).collect() };
        let wanted = match self {
            Self::CrossEntropy(options) if options.class_axis == ClassAxis::Second => {
                let without = output.iter().enumerate().filter(|(axis, _)| *axis != 1);
                without.map(|(_, &length)| length).collect()
            }
            Self::CrossEntropy(_) => output.split_last().map(|(_, rest)| rest.to_vec()).unwrap_or_default(),
            Self::Contrastive(_) | Self::Pairwise(_) => output.iter().take(1).copied().collect(),
            _ => output.to_vec(),
        };
        if long(&wanted) == long(targets) {
            return Ok(());
        }
        let name = self.name();
        let one_target = targets.len() == 1 && targets.first() == output.first();
        if one_target && !matches!(self, Self::CrossEntropy(_)) {
            return Err(TrainError::Graph {
                reason: format!(
                    "{name} with one target needs an output [batch] or [batch, 1], the model's is {output:?}; use another model or loss"
                ),
            });
        }
        Err(TrainError::Data {
            reason: format!("{name} on an output {output:?} needs targets {wanted:?}, the data has {targets:?}; correct the data"),
        })
    }

    /// Refuses targets that this loss can't take, by row. `outputs` is what [`Self::outputs`] gave.
    pub(crate) fn check_targets(&self, targets: &Array, outputs: usize) -> Result<(), TrainError> {
        if let Self::Distillation(options) = self {
            return if self.reads_targets() {
                options.hard.check_targets(targets, outputs)
            } else {
                Ok(())
            };
        }
        let per_row = targets.row_len().max(1);
        let fits = |t: f64| match self {
            Self::CrossEntropy(options) => options.takes(t, outputs),
            Self::BinaryCrossEntropy(_) => (0.0..=1.0).contains(&t),
            _ => t.is_finite(),
        };
        let values = numbers(targets);
        let Some(at) = values.iter().position(|&t| !fits(t)) else {
            return Ok(());
        };
        let target = values[at];
        let place = place(at, per_row);
        Err(match self {
            Self::CrossEntropy(options) => options.wrong_target(target, outputs, at, per_row),
            Self::BinaryCrossEntropy(_) => TrainError::Data {
                reason: format!("{place} has the target {target}, binary cross-entropy takes 0 to 1; write 0 for no and 1 for yes"),
            },
            _ => TrainError::Data {
                reason: format!("{place} has the target {target}, which is not finite; leave the row out"),
            },
        })
    }

    /// Refuses the targets of a whole data set from which nothing could be learnt: all of them ignored, or no pair among them.
    pub(crate) fn check_data(&self, targets: &Array) -> Result<(), TrainError> {
        let refuse = |reason: &str| Err(TrainError::Data { reason: reason.to_owned() });
        match self {
            Self::Distillation(options) if self.reads_targets() => options.hard.check_data(targets),
            Self::CrossEntropy(options) if numbers(targets).iter().all(|&t| options.class(t).is_none()) => {
                refuse("every target is the one that `ignore_index` leaves out, so there is nothing to learn; name another, or other data")
            }
            Self::Contrastive(_) => {
                let mut labels = numbers(targets);
                labels.sort_by(f64::total_cmp);
                if labels.windows(2).any(|pair| pair[0] == pair[1]) {
                    return Ok(());
                }
                refuse("no two rows have the same label, so there is nothing to draw together; use data with several rows a label")
            }
            Self::Pairwise(_) if targets.values().len() < 2 => refuse("one row makes no pair to compare; use data with several rows"),
            _ => Ok(()),
        }
    }

    /// The loss over a batch. Writes the gradient of the mean loss, times `scale`, into `gradient` (of the output's length, zeros) where
    /// one is wanted.
    ///
    /// # Errors
    /// [`TrainError::Data`] for targets of another shape, targets that are no classes, weights that are no weights, and batches in which
    /// nothing counts.
    pub(crate) fn of_batch(&self, view: View<'_>, scale: f64, gradient: Option<&mut [f32]>) -> Result<BatchLoss, TrainError> {
        if let Some(weights) = view.weights
            && let Some(row) = weights.iter().position(|w| !w.is_finite() || *w < 0.0)
        {
            return Err(TrainError::Data {
                reason: format!("row {} weighs {}; use a finite number, 0 or more", row + 1, weights[row]),
            });
        }
        self.check_shapes(view.shape, view.targets.shape())?;
        match self {
            Self::Distillation(options) => options.of_batch(view, scale, gradient),
            Self::CrossEntropy(options) => options.of_batch(view, scale, gradient),
            Self::BinaryCrossEntropy(options) => options.of_batch(view, scale, gradient),
            Self::Mse => elementwise::of_batch("mse", view, scale, gradient, elementwise::squared),
            Self::Mae => elementwise::of_batch("mae", view, scale, gradient, elementwise::absolute),
            Self::Huber(options) => elementwise::of_batch("huber", view, scale, gradient, |_, x, t| options.each(x, t)),
            Self::Contrastive(options) => options.of_batch(view, scale, gradient),
            Self::Pairwise(options) => options.of_batch(view, scale, gradient),
        }
    }
}

fn numbers(targets: &Array) -> Vec<f64> {
    match targets.values() {
        Values::Floats(values) => values.iter().map(|&v| f64::from(v)).collect(),
        Values::Ints(values) => values.iter().map(|&v| v as f64).collect(),
        Values::Bools(values) => values.iter().map(|&v| f64::from(u8::from(v))).collect(),
    }
}

/// Names a value of a batch or of data whose rows have `per_row` of them.
fn place(at: usize, per_row: usize) -> String {
    match per_row {
        0 | 1 => format!("row {}", at + 1),
        _ => format!("row {}, position {}", at / per_row + 1, at % per_row + 1),
    }
}

fn shapes_differ(name: &str, view: View<'_>) -> TrainError {
    TrainError::Data {
        reason: format!(
            "{name} can't compare an output {:?} with targets {:?}; correct the data, or use another loss",
            view.shape,
            view.targets.shape()
        ),
    }
}

/// That these are weights.
fn each_weight(name: &str, weights: &[f32]) -> Result<(), TrainError> {
    match weights.iter().find(|w| !w.is_finite() || **w < 0.0) {
        Some(bad) => Err(TrainError::Config {
            reason: format!("`{name}` holds {bad}; use finite numbers, 0 or more"),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
