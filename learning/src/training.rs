//! A training that can be stopped after any step and gone on with later, to the same bytes.
//!
//! What a step does follows from the weights, the optimizer's moments, the number of steps done (which seeds dropout and the schedule),
//! and the rows of the batch. The rows follow from the seed and how far the passes over the data have come. A [`Checkpoint`] holds
//! exactly these.

use aimass_onnx::{Model, ParamKind, ParamLayout};
use burn_backend::Backend;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::checkpoint::{Checkpoint, Identity, Position, Recent};
use crate::data::{Source, shuffle};
use crate::program::{Graph, Mode};
use crate::trainer::{nothing_trains, outputs_of};
use crate::{Batch, Evaluation, Evaluator, Head, LocalUpdate, Mask, Metric, StepReport, TrainConfig, TrainError, Trainer};

/// Rows that are evaluated at once.
const EVALUATED_AT_ONCE: usize = 256;

/// What makes steps: a [`Trainer`] here, or one in another process.
pub trait Stepper {
    /// See [`Trainer::step`].
    ///
    /// # Errors
    /// As there.
    fn step(&mut self, batch: Batch) -> Result<StepReport, TrainError>;
    /// Steps done.
    fn steps(&self) -> u64;
    /// See [`Trainer::weights`].
    ///
    /// # Errors
    /// As there.
    fn weights(&mut self) -> Result<Vec<f32>, TrainError>;
    /// See [`Trainer::buffers`].
    ///
    /// # Errors
    /// As there.
    fn buffers(&mut self) -> Result<Vec<f32>, TrainError>;
    /// See [`Trainer::optimizer_state`].
    ///
    /// # Errors
    /// As there.
    fn optimizer_state(&mut self) -> Result<Vec<Vec<f32>>, TrainError>;
    /// Goes on as if `steps` steps had led to these weights, running statistics and moments.
    ///
    /// # Errors
    /// [`TrainError::Data`] for those of another model or optimizer.
    fn restore_all(&mut self, steps: u64, weights: &[f32], buffers: &[f32], moments: &[Vec<f32>]) -> Result<(), TrainError>;
    /// See [`Trainer::set_mask`].
    ///
    /// # Errors
    /// As there.
    fn set_mask(&mut self, mask: Option<&Mask>) -> Result<(), TrainError>;
}

impl<B: Backend> Stepper for Trainer<B> {
    fn step(&mut self, batch: Batch) -> Result<StepReport, TrainError> {
        Trainer::step(self, batch)
    }
    fn steps(&self) -> u64 {
        Trainer::steps(self)
    }
    fn weights(&mut self) -> Result<Vec<f32>, TrainError> {
        Trainer::weights(self)
    }
    fn buffers(&mut self) -> Result<Vec<f32>, TrainError> {
        Trainer::buffers(self)
    }
    fn optimizer_state(&mut self) -> Result<Vec<Vec<f32>>, TrainError> {
        Trainer::optimizer_state(self)
    }
    fn restore_all(&mut self, steps: u64, weights: &[f32], buffers: &[f32], moments: &[Vec<f32>]) -> Result<(), TrainError> {
        self.restore_weights(weights)?;
        self.set_buffers(buffers)?;
        self.restore(steps, moments)
    }
    fn set_mask(&mut self, mask: Option<&Mask>) -> Result<(), TrainError> {
        Trainer::set_mask(self, mask)
    }
}

impl<T: Stepper> Stepper for &mut T {
    fn step(&mut self, batch: Batch) -> Result<StepReport, TrainError> {
        T::step(self, batch)
    }
    fn steps(&self) -> u64 {
        T::steps(self)
    }
    fn weights(&mut self) -> Result<Vec<f32>, TrainError> {
        T::weights(self)
    }
    fn buffers(&mut self) -> Result<Vec<f32>, TrainError> {
        T::buffers(self)
    }
    fn optimizer_state(&mut self) -> Result<Vec<Vec<f32>>, TrainError> {
        T::optimizer_state(self)
    }
    fn restore_all(&mut self, steps: u64, weights: &[f32], buffers: &[f32], moments: &[Vec<f32>]) -> Result<(), TrainError> {
        T::restore_all(self, steps, weights, buffers, moments)
    }
    fn set_mask(&mut self, mask: Option<&Mask>) -> Result<(), TrainError> {
        T::set_mask(self, mask)
    }
}

/// What a step found, and where it was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stepped {
    /// The pass, counted from 1.
    pub epoch: u32,
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Rows of the batch.
    pub rows: usize,
    /// Mean loss of the batch before the step.
    pub loss: f32,
    /// Mean loss over the pass, after its last step.
    pub epoch_loss: Option<f64>,
}

/// Weights and running statistics from which losses were finite.
#[derive(Debug, Clone, PartialEq)]
pub struct GoodWeights {
    /// `[layout.n_weights()]`.
    pub weights: Vec<f32>,
    /// `[layout.n_buffers()]`.
    pub buffers: Vec<f32>,
    /// After which step.
    pub step: u64,
}

/// Passes over data in an order drawn from the seed.
pub struct Training<'a, T = Trainer> {
    stepper: T,
    model: &'a Model,
    layout: &'a ParamLayout,
    data: &'a dyn Source,
    heads: Vec<Head>,
    seed: [u8; 32],
    batch: usize,
    epochs: u32,
    rng: ChaCha20Rng,
    /// Rows in the order of the current pass, of which `at` are done.
    order: Vec<usize>,
    at: usize,
    /// Whole passes.
    epoch: u32,
    loss_sum: f64,
    /// Mean loss over the last whole pass.
    pass_loss: Option<f64>,
    recent: Recent,
    /// Rows of the last step.
    last: Vec<usize>,
    /// As the current pass began.
    good: GoodWeights,
    mask: Option<Mask>,
}

impl<T> std::fmt::Debug for Training<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Training")
            .field("epoch", &self.epoch)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl<'a> Training<'a> {
    /// Checks model, data and settings against each other, and begins on the CPU.
    ///
    /// # Errors
    /// [`TrainError`], before the first step.
    pub fn new(model: &'a Model, layout: &'a ParamLayout, data: &'a dyn Source, config: &TrainConfig) -> Result<Self, TrainError> {
        Self::on(model, layout, data, config, Trainer::new)
    }
}

impl<'a, T: Stepper> Training<'a, T> {
    /// The same with another stepper, made once everything is checked.
    ///
    /// # Errors
    /// [`TrainError`], before the first step.
    pub fn on(
        model: &'a Model,
        layout: &'a ParamLayout,
        data: &'a dyn Source,
        config: &TrainConfig,
        make: impl FnOnce(&Model, &ParamLayout, &TrainConfig) -> Result<T, TrainError>,
    ) -> Result<Self, TrainError> {
        config.check()?;
        check_data(model, layout, data, &config.heads)?;
        // A batch larger than the data is the whole data.
        let batch = config.batch.min(data.len());
        let stepper = make(model, layout, &TrainConfig { batch, ..config.clone() })?;
        Self::checked(stepper, model, layout, data, config)
    }

    /// The same with a stepper that stands at the model's weights and has made no step, where model, data and settings were checked against each other
    /// before ([`check_data`]): to train on one part of the data after another without making anything anew.
    ///
    /// # Errors
    /// [`TrainError::Data`] for no rows; [`TrainError::Device`].
    pub fn checked(
        mut stepper: T,
        model: &'a Model,
        layout: &'a ParamLayout,
        data: &'a dyn Source,
        config: &TrainConfig,
    ) -> Result<Self, TrainError> {
        if data.is_empty() {
            return Err(TrainError::Data {
                reason: "the data has no rows; nothing can be trained".to_owned(),
            });
        }
        let batch = config.batch.min(data.len());
        let good = GoodWeights {
            weights: stepper.weights()?,
            buffers: stepper.buffers()?,
            step: stepper.steps(),
        };
        let mut rng = ChaCha20Rng::from_seed(config.seed);
        let mut order: Vec<usize> = (0..data.len()).collect();
        shuffle(&mut order, &mut rng);
        Ok(Self {
            stepper,
            model,
            layout,
            data,
            heads: config.heads.clone(),
            seed: config.seed,
            batch,
            epochs: config.epochs,
            rng,
            order,
            at: 0,
            epoch: 0,
            loss_sum: 0.0,
            pass_loss: None,
            recent: Recent::default(),
            last: Vec::new(),
            good,
            mask: None,
        })
    }

    /// Prunes: weights that `mask` does not keep are 0 from now on, exactly, whatever the optimizer does. Part of a checkpoint. Without a mask they
    /// are free again.
    ///
    /// # Errors
    /// [`TrainError::Data`] for the mask of another model; [`TrainError::Device`].
    pub fn set_mask(&mut self, mask: Option<Mask>) -> Result<(), TrainError> {
        if let Some(mask) = &mask {
            mask.check(self.layout.n_weights())?;
        }
        self.stepper.set_mask(mask.as_ref())?;
        if let Some(mask) = &mask {
            mask.apply(&mut self.good.weights);
        }
        self.mask = mask;
        Ok(())
    }

    /// What is pruned.
    pub fn mask(&self) -> Option<&Mask> {
        self.mask.as_ref()
    }

    /// What makes the steps.
    pub fn stepper(&self) -> &T {
        &self.stepper
    }

    /// Steps in all.
    pub fn steps(&self) -> u64 {
        (self.order.len().div_ceil(self.batch) as u64).saturating_mul(self.epochs.into())
    }

    /// Steps done.
    pub fn step_count(&self) -> u64 {
        self.stepper.steps()
    }

    /// Rows that were trained on at least once.
    pub fn rows_seen(&self) -> u64 {
        if self.epoch == 0 { self.at as u64 } else { self.order.len() as u64 }
    }

    /// The pass that the next batch belongs to, counted from 1, and the rows of that batch, as indices into the data. After a step that
    /// failed these are the rows that it failed on.
    pub fn next_rows(&self) -> (u32, &[usize]) {
        let end = self.order.len().min(self.at + self.batch);
        (self.epoch + 1, &self.order[self.at..end])
    }

    /// Mean loss since it was last asked for, over the rows seen since; `None` where there was no step. Part of a checkpoint.
    pub fn take_recent_loss(&mut self) -> Option<f64> {
        let Recent { sum, rows } = std::mem::take(&mut self.recent);
        (rows > 0).then(|| sum / rows as f64)
    }

    /// Makes a step; `None` when all passes are done.
    ///
    /// # Errors
    /// [`TrainError`]; then everything is as it was, and [`Self::next_rows`] names the rows.
    pub fn step(&mut self) -> Result<Option<Stepped>, TrainError> {
        if self.epoch >= self.epochs {
            return Ok(None);
        }
        let (epoch, rows) = self.next_rows();
        let (n, end) = (rows.len(), self.at + rows.len());
        let (rows, batch) = (rows.to_vec(), self.data.batch(rows)?);
        let loss = self.stepper.step(batch)?.loss;
        let sum = f64::from(loss) * n as f64;
        let mut epoch_loss = None;
        if end == self.order.len() {
            self.good = self.finite()?;
            epoch_loss = Some((self.loss_sum + sum) / self.order.len() as f64);
            (self.at, self.epoch, self.loss_sum, self.pass_loss) = (0, epoch, 0.0, epoch_loss);
            shuffle(&mut self.order, &mut self.rng);
        } else {
            self.at = end;
            self.loss_sum += sum;
        }
        self.recent.sum += sum;
        self.recent.rows += n as u64;
        self.last = rows;
        Ok(Some(Stepped {
            epoch,
            step: self.stepper.steps(),
            steps: self.steps(),
            rows: n,
            loss,
            epoch_loss,
        }))
    }

    /// The weights and running statistics as they are.
    fn finite(&mut self) -> Result<GoodWeights, TrainError> {
        let now = GoodWeights {
            weights: self.stepper.weights()?,
            buffers: self.stepper.buffers()?,
            step: self.stepper.steps(),
        };
        if now.weights.iter().chain(&now.buffers).all(|v| v.is_finite()) {
            return Ok(now);
        }
        Err(TrainError::Diverged {
            step: now.step,
            loss: f32::INFINITY,
        })
    }

    /// The weights now.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] when one is not finite; [`TrainError::Device`].
    pub fn weights(&mut self) -> Result<GoodWeights, TrainError> {
        self.finite()
    }

    /// Ends it: what was learnt so far, as a difference to the model that it began with. A training that went on from a checkpoint has made a
    /// step since, or the loss of its last pass is not known.
    ///
    /// # Errors
    /// As [`Self::weights`].
    pub fn into_update(mut self) -> Result<LocalUpdate, TrainError> {
        let train_loss = match self.at {
            0 => self.pass_loss.unwrap_or_default(),
            rows => self.loss_sum / rows as f64,
        };
        let (examples, steps, model, layout) = (self.rows_seen(), self.step_count(), self.model, self.layout);
        let mut delta = self.weights()?.weights;
        // What training held is given back before the base is read once more.
        drop(self);
        let base = model.weights(layout).map_err(|e| TrainError::Data { reason: e.to_string() })?;
        delta.iter_mut().zip(&base).for_each(|(after, before)| *after -= before);
        Ok(LocalUpdate {
            delta,
            examples,
            steps,
            train_loss: train_loss as f32,
        })
    }

    /// The last weights that are of use after [`TrainError::Diverged`]: those of now, if the batch before the failing one has a finite
    /// loss with them; otherwise those that the current pass began with.
    ///
    /// # Errors
    /// [`TrainError::Device`].
    pub fn last_good(&mut self) -> Result<GoodWeights, TrainError> {
        let Ok(now) = self.finite() else {
            return Ok(self.good.clone());
        };
        if self.last.is_empty() {
            return Ok(now);
        }
        let model = self.model_with(&now)?;
        let mut evaluator = Evaluator::new(&model, &self.heads, &[])?;
        let batch = self.data.batch(&self.last)?;
        let loss = evaluator.add(batch).and_then(|()| evaluator.finish()).map(|e| e.loss);
        Ok(match loss {
            Ok(loss) if (loss as f32).is_finite() => now,
            _ => self.good.clone(),
        })
    }

    /// The model with these weights and running statistics in it.
    ///
    /// # Errors
    /// [`TrainError::Data`] for those of another model.
    pub fn model_with(&self, good: &GoodWeights) -> Result<Model, TrainError> {
        let model = self.model.with_weights(self.layout, &good.weights);
        let model = model.and_then(|model| model.with_values(self.layout, ParamKind::Buffer, &good.buffers));
        model.map_err(|e| TrainError::Data { reason: e.to_string() })
    }

    /// All that is needed to go on from here. `identity` says what belongs together.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] when a weight is not finite: such a state is not worth keeping; [`TrainError::Device`].
    pub fn checkpoint(&mut self, identity: Identity) -> Result<Checkpoint, TrainError> {
        let GoodWeights { weights, buffers, step } = self.finite()?;
        Ok(Checkpoint {
            identity,
            step,
            position: Position {
                epoch: self.epoch,
                row: self.at as u64,
                rng_words: self.rng.get_word_pos(),
                loss_sum: self.loss_sum,
            },
            recent: self.recent,
            weights,
            buffers,
            moments: self.stepper.optimizer_state()?,
            mask: self.mask.clone(),
        })
    }

    /// Goes on from a checkpoint as if there had been no stop.
    ///
    /// # Errors
    /// [`TrainError::Data`] for a checkpoint that does not come from a training like this one.
    pub fn resume(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        let Position {
            epoch,
            row,
            rng_words,
            loss_sum,
        } = checkpoint.position;
        let other = || TrainError::Data {
            reason: "the checkpoint is of a training on other data or with another seed or batch; start anew".to_owned(),
        };
        let at = usize::try_from(row)
            .ok()
            .filter(|&row| row < self.order.len() && row.is_multiple_of(self.batch));
        let at = at.ok_or_else(other)?;
        let steps_a_pass = self.order.len().div_ceil(self.batch) as u64;
        let step = steps_a_pass
            .checked_mul(epoch.into())
            .and_then(|n| n.checked_add((at / self.batch) as u64));
        if step != Some(checkpoint.step) {
            return Err(other());
        }
        // The order of each pass follows from the one before.
        let mut rng = ChaCha20Rng::from_seed(self.seed);
        let mut order: Vec<usize> = (0..self.order.len()).collect();
        (0..=epoch).for_each(|_| shuffle(&mut order, &mut rng));
        if rng.get_word_pos() != rng_words {
            return Err(other());
        }
        if let Some(mask) = &checkpoint.mask {
            mask.check(self.layout.n_weights())?;
        }
        // In this order: a mask that is set would prune what comes.
        self.stepper.set_mask(checkpoint.mask.as_ref())?;
        self.mask.clone_from(&checkpoint.mask);
        self.stepper
            .restore_all(checkpoint.step, &checkpoint.weights, &checkpoint.buffers, &checkpoint.moments)?;
        (self.rng, self.order, self.at, self.epoch, self.loss_sum) = (rng, order, at, epoch, loss_sum);
        self.recent = checkpoint.recent;
        self.pass_loss = None;
        self.good = self.finite()?;
        self.last.clear();
        Ok(())
    }
}

/// Whether the model trains on this data with these heads, without training: every op supported, every shape fitting, a dynamic batch,
/// every target one that its loss can take (of all rows where they are at hand).
///
/// # Errors
/// [`TrainError::Graph`] with node, op and what to do; [`TrainError::Data`] where model and data differ.
pub fn check_data(model: &Model, layout: &ParamLayout, data: &dyn Source, heads: &[Head]) -> Result<(), TrainError> {
    // 3 rows and 2: a batch that was frozen into the graph fits at most one of them.
    const ROWS: [usize; 2] = [3, 2];
    if data.is_empty() {
        return Err(TrainError::Data {
            reason: "the data has no rows; nothing can be trained".to_owned(),
        });
    }
    let graph = Graph::with_outputs(model, Some(layout), &outputs_of(model, heads)?)?;
    if !graph.trains() {
        return Err(nothing_trains(&graph));
    }
    let all_targets = data.targets();
    for n in ROWS {
        let rows: Vec<usize> = (0..n).map(|i| i % data.len()).collect();
        let batch = data.batch(&rows)?;
        let taught = heads.iter().filter(|head| head.loss.is_taught()).count();
        if batch.targets.len() != heads.len() + taught {
            let with = |fix: &str| {
                format!(
                    "the data has {} targets a row, the job {} heads; {fix}",
                    batch.targets.len(),
                    heads.len()
                )
            };
            return Err(TrainError::Data {
                reason: match taught {
                    0 => with("name one target a head"),
                    _ => with(&format!(
                        "{taught} of them learn from a teacher, which has to answer this data first"
                    )),
                },
            });
        }
        let inputs = if batch.flat { graph.conform(batch.inputs)? } else { batch.inputs };
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|array| array.shape().to_vec()).collect();
        let program = graph.plan(&shapes, Mode::Training { batch_statistics: true })?;
        for (i, ((head, output), targets)) in heads.iter().zip(&program.outputs).zip(&batch.targets).enumerate() {
            let outputs = head.loss.outputs(&output.shape, n)?;
            head.loss.check_shapes(&output.shape, targets.shape())?;
            if let Some(all) = all_targets.as_ref().and_then(|all| all.get(i)).filter(|_| n == ROWS[0]) {
                head.loss.check_targets(all, outputs)?;
                head.loss.check_data(all)?;
            }
        }
    }
    Ok(())
}

/// Evaluates `model` on all of `data`, in batches of 256.
///
/// # Errors
/// As [`Evaluator`]'s, and [`TrainError::Source`].
pub fn evaluate_on(model: &Model, data: &dyn Source, heads: &[Head], metrics: &[Metric]) -> Result<Evaluation, TrainError> {
    let mut evaluator = Evaluator::new(model, heads, metrics)?;
    let rows: Vec<usize> = (0..data.len()).collect();
    for rows in rows.chunks(EVALUATED_AT_ONCE) {
        evaluator.add(data.batch(rows)?)?;
    }
    evaluator.finish()
}

/// Names of the inputs that the outputs which the heads read depend on, in the model's order: those that data has to feed.
///
/// # Errors
/// [`TrainError::Graph`].
pub fn inputs_needed(model: &Model, heads: &[Head]) -> Result<Vec<String>, TrainError> {
    let graph = Graph::with_outputs(model, None, &outputs_of(model, heads)?)?;
    Ok(graph.inputs.into_iter().map(|input| input.name).collect())
}

#[cfg(test)]
mod tests;
