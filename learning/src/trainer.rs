//! A model being trained, step by step.

use std::num::NonZeroUsize;

use aimass_onnx::{Model, ParamLayout};
use burn_backend::Backend;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::array::Array;
use crate::executor::{Cpu, check_memory};
use crate::loss::{Answers, View};
use crate::machine::Machine;
use crate::program::Graph;
use crate::{Batch, BatchNorm, Head, Mask, OptimizerConfig, TrainConfig, TrainError};

/// Stream of the generator that dropout draws from at step n (counted from 0) is `DROPOUT + n`; the order of examples is stream 0.
const DROPOUT: u64 = 1;

/// Holds weights and steps them. Give it any batches; [`train`](crate::train()) is the loop over a data set.
///
/// [`Trainer::new`] computes by a compiled plan on the CPU; [`Trainer::on`] interprets the graph over the backend `B`, for instance a GPU in
/// the process that is made for it.
pub struct Trainer<B: Backend = Cpu> {
    machine: Machine<B>,
    heads: Vec<Head>,
    batch_norm: BatchNorm,
    seed: [u8; 32],
    base: Vec<f32>,
    buffers: Vec<f32>,
    mask: Option<Mask>,
    steps: u64,
}

/// What one step found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Mean loss before the step: over the heads, each times its weight.
    pub loss: f32,
    /// L2 norm of the gradient before clipping, where clipping is on.
    pub gradient_norm: Option<f64>,
}

impl<B: Backend> std::fmt::Debug for Trainer<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("heads", &self.heads)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

pub(crate) fn nothing_trains(graph: &Graph) -> TrainError {
    TrainError::Graph {
        reason: format!(
            "no weight reaches the output `{}`, so nothing would train; check the model or [model] trainable",
            graph.outputs.join(", ")
        ),
    }
}

/// Names of the outputs that the heads read.
pub(crate) fn outputs_of(model: &Model, heads: &[Head]) -> Result<Vec<String>, TrainError> {
    let first = || {
        let first = model.outputs().first().map(|output| output.name.clone());
        first.ok_or_else(|| TrainError::Graph {
            reason: "the model has no output; export it again".to_owned(),
        })
    };
    heads.iter().map(|head| head.output.clone().map_or_else(first, Ok)).collect()
}

impl Trainer {
    /// Reads the graph for the CPU, and refuses what can't train, before any data is there.
    ///
    /// # Errors
    /// [`TrainError::Graph`], [`TrainError::Config`].
    pub fn new(model: &Model, layout: &ParamLayout, config: &TrainConfig) -> Result<Self, TrainError> {
        Self::with(model, layout, config, Machine::compiled)
    }
}

impl<B: Backend> Trainer<B> {
    /// Reads the graph for the interpreter on the backend's default device, and refuses what can't train, before any data is there.
    ///
    /// # Errors
    /// [`TrainError::Graph`], [`TrainError::Config`].
    pub fn on(model: &Model, layout: &ParamLayout, config: &TrainConfig) -> Result<Self, TrainError> {
        Self::with(model, layout, config, Machine::interpreted)
    }

    fn with(
        model: &Model,
        layout: &ParamLayout,
        config: &TrainConfig,
        machine: impl FnOnce(Graph, OptimizerConfig) -> Machine<B>,
    ) -> Result<Self, TrainError> {
        config.check()?;
        let of_layout = |e: aimass_onnx::LayoutError| TrainError::Graph { reason: e.to_string() };
        let base = model.weights(layout).map_err(of_layout)?;
        let buffers = model.values(layout, aimass_onnx::ParamKind::Buffer).map_err(of_layout)?;
        let graph = Graph::with_outputs(model, Some(layout), &outputs_of(model, &config.heads)?)?;
        if !graph.trains() {
            return Err(nothing_trains(&graph));
        }
        let mut machine = machine(graph, config.optimizer.clone());
        machine.set_anchor(&base);
        Ok(Self {
            machine,
            heads: config.heads.clone(),
            batch_norm: config.batch_norm,
            seed: config.seed,
            base,
            buffers,
            mask: None,
            steps: 0,
        })
    }

    /// Refuses from now on whatever takes more memory than this, by estimate: weights, gradients, moments, and every value that the
    /// backward pass reads.
    ///
    /// # Errors
    /// [`TrainError::Config`] when the weights alone are too many; steps fail with it for batches that are too large.
    pub fn limit_memory(&mut self, limit_bytes: Option<u64>) -> Result<(), TrainError> {
        self.machine.limit_memory(limit_bytes);
        let moments = self.machine.moments_a_weight();
        let floats = (self.base.len() as u64).saturating_mul(2 + moments as u64);
        check_memory(floats.saturating_mul(4), limit_bytes.unwrap_or(u64::MAX))
    }

    /// From now on so many threads work on a step together, on the CPU; 1 before. The weights are the same to the last bit for any number.
    pub fn set_threads(&mut self, threads: NonZeroUsize) {
        self.machine.set_threads(threads.get());
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One step over a batch.
    ///
    /// # Errors
    /// [`TrainError::Data`] for arrays that do not fit or a target that is no class; [`TrainError::Graph`] where the model can't take
    /// shapes like these; [`TrainError::Diverged`] when the loss is not finite. The weights are then as they were.
    pub fn step(&mut self, batch: Batch) -> Result<StepReport, TrainError> {
        let rows = batch.len();
        let Batch {
            inputs,
            targets,
            weights,
            flat,
        } = batch;
        if rows == 0 {
            return Err(TrainError::Data {
                reason: "a batch has no rows; feed at least one".to_owned(),
            });
        }
        if weights.as_ref().is_some_and(|w| w.len() != rows) {
            return Err(TrainError::Data {
                reason: format!("the weights of the samples are not {rows}, one a row; correct the data"),
            });
        }
        let inputs = if flat { self.machine.graph().conform(inputs)? } else { inputs };
        let mut noise = ChaCha20Rng::from_seed(self.seed);
        noise.set_stream(DROPOUT + self.steps);
        let (heads, step) = (&self.heads, self.steps + 1);
        let mut mean = 0.0f64;
        let batch_statistics = self.batch_norm == BatchNorm::Batch;
        let done = self.machine.step(inputs, batch_statistics, &mut noise, |outputs| {
            let (loss, gradients) = losses(heads, outputs, &targets, weights.as_deref(), rows)?;
            mean = loss;
            if (mean as f32).is_finite() {
                Ok(gradients)
            } else {
                Err(TrainError::Diverged { step, loss: mean as f32 })
            }
        })?;
        self.steps = step;
        Ok(StepReport {
            loss: mean as f32,
            gradient_norm: done.gradient_norm,
        })
    }

    /// All weights now, `[layout.n_weights()]`. Those that the outputs do not depend on are as they were.
    ///
    /// # Errors
    /// [`TrainError::Device`].
    pub fn weights(&self) -> Result<Vec<f32>, TrainError> {
        let mut flat = self.base.clone();
        self.machine.read_weights(&mut flat)?;
        Ok(flat)
    }

    /// All running statistics now, `[layout.n_buffers()]`.
    ///
    /// # Errors
    /// [`TrainError::Device`].
    pub fn buffers(&self) -> Result<Vec<f32>, TrainError> {
        let mut flat = self.buffers.clone();
        self.machine.read_buffers(&mut flat)?;
        Ok(flat)
    }

    /// Begins anew from other weights, `[layout.n_weights()]`: a [proximal term](OptimizerConfig::proximal) pulls to them.
    ///
    /// # Errors
    /// [`TrainError::Data`] for another length.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<(), TrainError> {
        self.restore_weights(weights)?;
        self.machine.set_anchor(weights);
        Ok(())
    }

    /// Goes on from other weights; a proximal term pulls to where it did.
    pub(crate) fn restore_weights(&mut self, weights: &[f32]) -> Result<(), TrainError> {
        check_len(weights, self.base.len(), "weights")?;
        self.base.copy_from_slice(weights);
        if let Some(mask) = &self.mask {
            mask.apply(&mut self.base);
        }
        self.machine.set_weights(&self.base);
        Ok(())
    }

    /// Adds this to every gradient from now on, `[layout.n_weights()]`: SCAFFOLD's `c - c_i` (Karimireddy et al. 2020, ICML, algorithm 1). It
    /// comes behind clipping, which is of the batch's own gradient, and before decay and the rule. A weight that gets no gradient in a step
    /// stays as it is all the same.
    ///
    /// # Errors
    /// [`TrainError::Data`] for another length.
    pub fn set_correction(&mut self, correction: Option<&[f32]>) -> Result<(), TrainError> {
        if let Some(correction) = correction {
            check_len(correction, self.base.len(), "corrections")?;
        }
        self.machine.set_correction(correction);
        Ok(())
    }

    /// Keeps weights 0 from now on that are pruned: they are made 0 now, with the optimizer's moments, and stay exactly 0 after every step. Without a
    /// mask they are free again.
    ///
    /// # Errors
    /// [`TrainError::Data`] for the mask of another model; [`TrainError::Device`].
    pub fn set_mask(&mut self, mask: Option<&Mask>) -> Result<(), TrainError> {
        if let Some(mask) = mask {
            mask.check(self.base.len())?;
            mask.apply(&mut self.base);
        }
        self.machine.set_mask(mask)?;
        self.mask = mask.cloned();
        Ok(())
    }

    /// Goes on from other running statistics, `[layout.n_buffers()]`.
    ///
    /// # Errors
    /// [`TrainError::Data`] for another length.
    pub fn set_buffers(&mut self, buffers: &[f32]) -> Result<(), TrainError> {
        check_len(buffers, self.buffers.len(), "running statistics")?;
        self.buffers.copy_from_slice(buffers);
        self.machine.set_buffers(buffers);
        Ok(())
    }

    /// Begins another training of the same model with the same settings but for the seed: from these weights and running statistics, with no steps done.
    /// Plans and buffers stay, a mask does not, and what follows is to the bit what a new trainer would do.
    ///
    /// # Errors
    /// [`TrainError::Data`] for other lengths.
    pub fn begin_again(&mut self, weights: &[f32], buffers: &[f32], seed: [u8; 32]) -> Result<(), TrainError> {
        self.set_mask(None)?;
        self.set_weights(weights)?;
        self.set_buffers(buffers)?;
        self.seed = seed;
        self.restore(0, &vec![Vec::new(); self.machine.moments_a_weight()])
    }

    /// The optimizer's moments, flat vectors of `[layout.n_weights()]` each.
    ///
    /// # Errors
    /// [`TrainError::Device`].
    pub fn optimizer_state(&self) -> Result<Vec<Vec<f32>>, TrainError> {
        self.machine.optimizer_state(self.base.len())
    }

    /// Goes on as if `steps` steps had been done and left the optimizer at `state`.
    ///
    /// # Errors
    /// [`TrainError::Data`] for the state of another optimizer or model.
    pub fn restore(&mut self, steps: u64, state: &[Vec<f32>]) -> Result<(), TrainError> {
        self.machine.restore(steps, state)?;
        self.machine.set_mask(self.mask.as_ref())?;
        self.steps = steps;
        Ok(())
    }
}

fn check_len(values: &[f32], expected: usize, what: &str) -> Result<(), TrainError> {
    if values.len() == expected {
        return Ok(());
    }
    Err(TrainError::Data {
        reason: format!("{} {what} for a model of {expected}; they are of another model", values.len()),
    })
}

/// The weighted sum of the heads' mean losses, and its gradient by each output.
#[allow(clippy::type_complexity)]
fn losses(
    heads: &[Head],
    outputs: &[Array],
    targets: &[Array],
    weights: Option<&[f32]>,
    rows: usize,
) -> Result<(f64, Vec<Option<Vec<f32>>>), TrainError> {
    let each = || heads.iter().map(|head| &head.loss);
    let answers = Answers::new(each(), targets)?;
    let mut total = 0.0;
    let mut gradients = Vec::with_capacity(heads.len());
    for ((head, output), (targets, teacher)) in heads.iter().zip(outputs).zip(answers.by_head(each())) {
        if head.loss.is_taught() && teacher.is_none() {
            return Err(TrainError::Data {
                reason: "a batch holds no answers of the teacher; train on data that a teacher has answered".to_owned(),
            });
        }
        let values = output.as_floats().ok_or_else(|| TrainError::Graph {
            reason: "a loss needs an output of floats; choose another output".to_owned(),
        })?;
        let n = head.loss.outputs(output.shape(), rows)?;
        head.loss.check_targets(targets, n)?;
        let mut gradient = vec![0.0; values.len()];
        let scale = f64::from(head.weight);
        let view = View {
            output: values,
            shape: output.shape(),
            targets,
            teacher,
            weights,
        };
        total += scale * head.loss.of_batch(view, scale, Some(&mut gradient))?.mean();
        gradients.push(Some(gradient));
    }
    Ok((total, gradients))
}

#[cfg(test)]
mod tests;
