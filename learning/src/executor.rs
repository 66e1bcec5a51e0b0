//! Runs programs over burn: the first executor. Nothing of burn leaves this file and `ops`.
//!
//! What an executor does is small: it holds the weights, computes outputs ([`Executor::forward`]), and makes one step of gradient
//! descent from the gradient of the loss by the outputs ([`Executor::step`]). Losses, batches and the order of examples are not its
//! business, so another one fits behind the same three calls.
//!
//! Memory: the CPU backend keeps no pool of its own. Tensors live as long as the executor; what remains in an idle process is what
//! the allocator keeps and one sleeping thread a core (rayon's, started by the first large operation).

use std::collections::HashMap;
use std::sync::Arc;

use burn_autodiff::Autodiff;
use burn_backend::backend::AutodiffBackend;
use burn_backend::ops::FloatTensorOps;
use burn_backend::tensor::{Device, FloatTensor};
use burn_backend::{Backend, TensorData, read_sync};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::TrainError;
use crate::ops::Operands;
use crate::program::{Graph, GraphError, Mode, Program};

/// The CPU backend.
pub(crate) type Cpu = burn_flex::Flex;

/// Programs that are kept: full batches and last ones, in both modes, of the sizes in use.
const MAX_PROGRAMS: usize = 8;

pub(crate) struct Executor<B: Backend> {
    graph: Graph,
    n_features: usize,
    device: Device<B>,
    /// One for each source of the graph; `None` only while a step changes it.
    sources: Vec<Option<FloatTensor<B>>>,
    programs: HashMap<(usize, Mode), Arc<Program>>,
}

fn upload<B: Backend>(values: Vec<f32>, shape: &[usize], device: &Device<B>) -> FloatTensor<B> {
    B::float_from_data(TensorData::new(values, shape.to_vec()), device)
}

fn download<B: Backend>(tensor: FloatTensor<B>) -> Result<Vec<f32>, TrainError> {
    let failed = |e: &dyn std::fmt::Display| TrainError::Device { reason: e.to_string() };
    let data = read_sync(B::float_into_data(tensor)).map_err(|e| failed(&e))?;
    data.try_into_vec::<f32>().map_err(|e| failed(&e))
}

impl<B: Backend> Executor<B> {
    pub(crate) fn new(graph: Graph, n_features: usize) -> Self {
        let device = Device::<B>::default();
        let sources = graph
            .sources
            .iter()
            .map(|s| Some(upload::<B>(s.values.to_vec(), &s.shape, &device)))
            .collect();
        Self {
            graph,
            n_features,
            device,
            sources,
            programs: HashMap::new(),
        }
    }

    /// The program for this many rows, from the few that are kept.
    pub(crate) fn program(&mut self, rows: usize, mode: Mode) -> Result<Arc<Program>, GraphError> {
        if let Some(program) = self.programs.get(&(rows, mode)) {
            return Ok(program.clone());
        }
        if self.programs.len() >= MAX_PROGRAMS {
            self.programs.clear();
        }
        let program = Arc::new(self.graph.plan(rows, self.n_features, mode)?);
        self.programs.insert((rows, mode), program.clone());
        Ok(program)
    }

    /// The first output for rows of features, `[rows, ...]` row-major.
    pub(crate) fn forward(&mut self, features: &[f32]) -> Result<Vec<f32>, TrainError> {
        let program = self.program(features.len() / self.n_features, Mode::Inference)?;
        let mut slots = vec![None; program.slots];
        slots[0] = Some(upload::<B>(features.to_vec(), &program.input_shape, &self.device));
        for (slot, source) in slots[1..].iter_mut().zip(&self.sources) {
            slot.clone_from(source);
        }
        let mut noise = ChaCha20Rng::from_seed([0; 32]);
        download::<B>(run::<B>(&program, slots, &self.device, &mut noise))
    }

    /// One step of gradient descent. `gradient` gets the outputs and returns the gradient of the loss by them, of the same length; if it
    /// fails, no weight changes. `noise` feeds dropout.
    pub(crate) fn step(
        &mut self,
        features: &[f32],
        lr: f32,
        noise: &mut ChaCha20Rng,
        gradient: impl FnOnce(&[f32]) -> Result<Vec<f32>, TrainError>,
    ) -> Result<(), TrainError> {
        let program = self.program(features.len() / self.n_features, Mode::Training)?;
        let mut slots: Vec<Option<FloatTensor<Autodiff<B>>>> = vec![None; program.slots];
        let input = upload::<B>(features.to_vec(), &program.input_shape, &self.device);
        slots[0] = Some(Autodiff::<B>::from_inner(input));
        let mut leaves = Vec::new();
        for (i, source) in self.sources.iter().enumerate() {
            let Some(tensor) = source else { continue };
            let mut tensor = Autodiff::<B>::from_inner(tensor.clone());
            if self.graph.sources[i].weight.is_some() {
                tensor = Autodiff::<B>::float_set_require_grad(tensor, true);
                leaves.push((i, tensor.clone()));
            }
            slots[i + 1] = Some(tensor);
        }
        let output = run::<Autodiff<B>>(&program, slots, &self.device, noise);
        let outputs = download::<B>(Autodiff::<B>::inner(output.clone()))?;
        let by_output = upload::<B>(gradient(&outputs)?, &program.output_shape, &self.device);
        // The gradient of sum(output * by_output) by the output is by_output; backward starts from ones of any shape.
        let mut gradients = Autodiff::<B>::backward(Autodiff::<B>::float_mul(output, Autodiff::<B>::from_inner(by_output)));
        let by_weight: Vec<_> = leaves
            .iter()
            .map(|(i, leaf)| (*i, Autodiff::<B>::grad_remove(leaf, &mut gradients)))
            .collect();
        // With the leaves gone the weights have one owner and are updated where they are.
        drop((leaves, gradients));
        for (i, gradient) in by_weight {
            if let (Some(gradient), Some(weight)) = (gradient, self.sources[i].take()) {
                self.sources[i] = Some(B::float_sub(weight, B::float_mul_scalar(gradient, lr.into())));
            }
        }
        Ok(())
    }

    /// Copies the weights as they are now to their places in a flat vector that is long enough for all.
    pub(crate) fn read_weights(&self, flat: &mut [f32]) -> Result<(), TrainError> {
        for (source, tensor) in self.graph.sources.iter().zip(&self.sources) {
            let place = source.weight.clone().and_then(|range| flat.get_mut(range));
            if let (Some(place), Some(tensor)) = (place, tensor.clone()) {
                place.copy_from_slice(&download::<B>(tensor)?);
            }
        }
        Ok(())
    }

    /// Replaces the weights by those of a flat vector that is long enough for all.
    pub(crate) fn set_weights(&mut self, flat: &[f32]) {
        for (source, tensor) in self.graph.sources.iter().zip(&mut self.sources) {
            if let Some(values) = source.weight.clone().and_then(|range| flat.get(range)) {
                *tensor = Some(upload::<B>(values.to_vec(), &source.shape, &self.device));
            }
        }
    }
}

/// Runs the steps; a value is dropped (or overwritten in place) after its last use.
fn run<B: Backend>(
    program: &Program,
    mut slots: Vec<Option<FloatTensor<B>>>,
    device: &Device<B>,
    noise: &mut ChaCha20Rng,
) -> FloatTensor<B> {
    for constant in &program.constants {
        slots[constant.slot] = Some(upload::<B>(constant.values.clone(), &constant.shape, device));
    }
    for step in &program.steps {
        let operands = step.inputs.iter().map(|operand| {
            let slot = &mut slots[operand.slot];
            let tensor = if operand.last { slot.take() } else { slot.clone() };
            tensor.expect("planning orders the steps so that operands are there")
        });
        let operands = Operands::new(operands.collect());
        slots[step.output] = Some(step.kernel.run::<B>(operands, noise));
    }
    slots[program.output].take().expect("planning ends at the output")
}
