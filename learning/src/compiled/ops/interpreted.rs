//! A node that the interpreter runs: whatever has no kernel of its own.

use burn_autodiff::Autodiff;
use burn_backend::backend::AutodiffBackend;
use burn_backend::ops::FloatTensorOps;
use burn_backend::tensor::FloatTensor;
use burn_backend::{Shape, TensorData};
use rand_chacha::ChaCha20Rng;

use crate::TrainError;
use crate::array::{Array, Values};
use crate::executor::Cpu;
use crate::inspect::differentiable;
use crate::ops::{DeviceTensor, Kernel, Operands, dims};
use crate::program::{Program, Step};

/// A step of the program as it was planned.
#[derive(Debug)]
pub(in super::super) struct Interpreted {
    node: usize,
    kernel: Kernel,
    inputs: Vec<Vec<usize>>,
    outputs: Vec<Vec<usize>>,
}

/// An operand.
pub(in super::super) enum Operand<'a> {
    Floats(&'a [f32]),
    /// With whether the gradient passes it.
    Tracked(&'a [f32]),
    Held(DeviceTensor<Cpu>),
}

/// What the forward pass leaves for the backward one.
pub(in super::super) struct Tape {
    /// By input.
    leaves: Vec<Option<FloatTensor<Autodiff<Cpu>>>>,
    outputs: Vec<Option<FloatTensor<Autodiff<Cpu>>>>,
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tape").field("leaves", &self.leaves.len()).finish_non_exhaustive()
    }
}

fn tensor(values: &[f32], shape: &[usize]) -> FloatTensor<Cpu> {
    Cpu::float_from_data(
        TensorData::new(values.to_vec(), dims(shape)),
        &burn_backend::tensor::Device::<Cpu>::default(),
    )
}

impl Interpreted {
    pub(in super::super) fn new(program: &Program, step: &Step) -> Self {
        let shape = |slot: usize| program.shapes[slot].clone();
        Self {
            node: step.node,
            kernel: step.kernel.clone(),
            inputs: step.inputs.iter().map(|operand| shape(operand.slot)).collect(),
            outputs: step.outputs.iter().map(|output| output.map(shape).unwrap_or_default()).collect(),
        }
    }

    /// Its node, by its place in the graph.
    pub(in super::super) fn node(&self) -> usize {
        self.node
    }

    /// Whether the gradient passes it at all.
    pub(in super::super) fn is_differentiable(&self) -> bool {
        differentiable(&self.kernel)
    }

    /// Elements that it holds on its tape, by estimate: operands and what it makes, and a copy of each on the way.
    pub(in super::super) fn elements(&self) -> u64 {
        let all = self.inputs.iter().chain(&self.outputs);
        let times = match &self.kernel {
            // Gates and states of every step, each of its operations with what it made.
            Kernel::Recurrent(layer) if layer.unrolls() => 24,
            Kernel::Recurrent(_) => 8,
            _ => 2,
        };
        all.map(|shape| times * shape.iter().product::<usize>() as u64).sum()
    }

    /// Runs it forward. The tape is there where an operand is tracked.
    pub(in super::super) fn forward(&self, operands: Vec<Operand<'_>>, noise: &mut ChaCha20Rng) -> (Vec<DeviceTensor<Cpu>>, Option<Tape>) {
        if !operands.iter().any(|operand| matches!(operand, Operand::Tracked(_))) {
            let tensors = operands.into_iter().zip(&self.inputs).map(|(operand, shape)| match operand {
                Operand::Floats(values) | Operand::Tracked(values) => DeviceTensor::<Cpu>::Float(tensor(values, shape)),
                Operand::Held(tensor) => tensor,
            });
            return (self.kernel.run::<Cpu>(Operands::new(tensors.collect()), noise), None);
        }
        let mut leaves = Vec::with_capacity(operands.len());
        let tensors = operands.into_iter().zip(&self.inputs).map(|(operand, shape)| {
            let (tensor, leaf) = match operand {
                Operand::Floats(values) => (DeviceTensor::constant(DeviceTensor::Float(tensor(values, shape))), None),
                Operand::Tracked(values) => {
                    let leaf = Autodiff::<Cpu>::from_inner(tensor(values, shape));
                    let leaf = Autodiff::<Cpu>::float_set_require_grad(leaf, true);
                    (DeviceTensor::Float(leaf.clone()), Some(leaf))
                }
                Operand::Held(tensor) => (DeviceTensor::constant(tensor), None),
            };
            leaves.push(leaf);
            tensor
        });
        let tensors = tensors.collect();
        let made = self.kernel.run_tracked::<Cpu>(Operands::new(tensors), noise);
        let outputs = made.iter().map(|tensor| match tensor {
            DeviceTensor::Float(tensor) => Some(tensor.clone()),
            _ => None,
        });
        let outputs = outputs.collect();
        (made.into_iter().map(DeviceTensor::inner).collect(), Some(Tape { leaves, outputs }))
    }

    /// The gradient by each tracked operand, from those by the outputs; `None` where nothing flows.
    pub(in super::super) fn backward(&self, tape: Tape, by_outputs: &[&[f32]]) -> Result<Vec<Option<Vec<f32>>>, TrainError> {
        let mut objective: Option<FloatTensor<Autodiff<Cpu>>> = None;
        for ((output, by), shape) in tape.outputs.into_iter().zip(by_outputs).zip(&self.outputs) {
            let Some(output) = output.filter(|_| !by.is_empty()) else {
                continue;
            };
            let by = Autodiff::<Cpu>::from_inner(tensor(by, shape));
            // As a list: burn's gradient of a sum fails for scalars.
            let term = Autodiff::<Cpu>::float_reshape(Autodiff::<Cpu>::float_mul(output, by), Shape::new([shape.iter().product()]));
            let term = Autodiff::<Cpu>::float_sum(term);
            objective = Some(match objective {
                None => term,
                Some(sum) => Autodiff::<Cpu>::float_add(sum, term),
            });
        }
        let Some(objective) = objective else {
            return Ok(vec![None; tape.leaves.len()]);
        };
        let mut gradients = Autodiff::<Cpu>::backward(objective);
        let each = tape.leaves.into_iter().map(|leaf| {
            let gradient = leaf.and_then(|leaf| Autodiff::<Cpu>::grad_remove(&leaf, &mut gradients));
            gradient.map(|gradient| floats(DeviceTensor::Float(gradient))).transpose()
        });
        each.collect()
    }
}

pub(in super::super) fn floats(tensor: DeviceTensor<Cpu>) -> Result<Vec<f32>, TrainError> {
    match tensor.download().map(Array::into_values)? {
        Values::Floats(values) => Ok(values),
        _ => Err(TrainError::Device {
            reason: "it gave a tensor of another type".to_owned(),
        }),
    }
}
