//! Runs programs over burn: the first executor. Nothing of burn leaves this file, `ops` and `optimizer`.
//!
//! What an executor does is small: it holds the weights, computes outputs ([`Executor::forward`]), and makes one step of gradient
//! descent from the gradients of the loss by the outputs ([`Executor::step`]). Losses, batches and the order of examples are not its
//! business, so another one fits behind the same calls.
//!
//! Memory: the CPU backend keeps no pool of its own. Tensors live as long as the executor; what remains in an idle process is what
//! the allocator keeps and one sleeping thread a core (rayon's, started by the first large operation).

use std::collections::HashMap;
use std::sync::Arc;

use burn_autodiff::Autodiff;
use burn_backend::backend::AutodiffBackend;
use burn_backend::ops::FloatTensorOps;
use burn_backend::tensor::{Device, FloatTensor};
use burn_backend::{Backend, Shape};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::array::Array;
use crate::ops::{DeviceTensor, Kernel, Operands, dims};
use crate::optimizer::Optimizer;
use crate::program::{self, Feed, Graph, Mode, Program, Role};
use crate::{Mask, TrainError};

/// The CPU backend.
pub type Cpu = burn_flex::Flex;

/// Programs that are kept: full batches and last ones, in both modes, of the shapes in use.
const MAX_PROGRAMS: usize = 16;

pub(crate) struct Executor<B: Backend> {
    graph: Graph,
    device: Device<B>,
    /// One for each source of the graph; `None` only while a step changes it.
    sources: Vec<Option<FloatTensor<B>>>,
    programs: HashMap<Key, Arc<Bound<B>>>,
    /// What a program may take, and how many moments the optimizer keeps a weight.
    memory_limit: Option<(u64, usize)>,
}

/// What a program is made for: the shapes of its inputs, and its mode.
type Key = (Vec<Vec<usize>>, Mode);

/// A program with its constants on the device.
pub(crate) struct Bound<B: Backend> {
    pub(crate) program: Program,
    constants: Vec<(usize, DeviceTensor<B>)>,
}

/// What a step did besides moving weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StepDone {
    /// L2 norm of the gradient over all weights, before clipping, where it was asked for.
    pub(crate) gradient_norm: Option<f64>,
}

fn upload<B: Backend>(values: Vec<f32>, shape: &[usize], device: &Device<B>) -> FloatTensor<B> {
    B::float_from_data(burn_backend::TensorData::new(values, dims(shape)), device)
}

fn download<B: Backend>(tensor: FloatTensor<B>) -> Result<Vec<f32>, TrainError> {
    match DeviceTensor::<B>::Float(tensor).download()?.into_values() {
        crate::array::Values::Floats(values) => Ok(values),
        _ => Err(TrainError::Device {
            reason: "it gave a tensor of another type".to_owned(),
        }),
    }
}

fn shapes_of(inputs: &[Array]) -> Vec<Vec<usize>> {
    inputs.iter().map(|array| array.shape().to_vec()).collect()
}

impl<B: Backend> Executor<B> {
    pub(crate) fn new(mut graph: Graph) -> Self {
        keep_pages();
        let device = Device::<B>::default();
        let mut sources = Vec::with_capacity(graph.sources.len());
        for source in &mut graph.sources {
            sources.push(Some(upload::<B>(source.values.to_vec(), &source.shape, &device)));
            // Planning asks for what never changes alone.
            if source.role != Role::Constant {
                source.values = Arc::default();
            }
        }
        Self {
            graph,
            device,
            sources,
            programs: HashMap::new(),
            memory_limit: None,
        }
    }

    /// From now on programs that take more memory, by estimate, are refused.
    pub(crate) fn limit_memory(&mut self, limit_bytes: Option<u64>, moments: usize) {
        self.memory_limit = limit_bytes.map(|limit| (limit, moments));
        self.programs.clear();
    }

    pub(crate) fn device(&self) -> &Device<B> {
        &self.device
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The program for inputs of these shapes, from the few that are kept.
    pub(crate) fn program(&mut self, shapes: &[Vec<usize>], mode: Mode) -> Result<Arc<Bound<B>>, TrainError> {
        let key = (shapes.to_vec(), mode);
        if let Some(bound) = self.programs.get(&key) {
            return Ok(bound.clone());
        }
        if self.programs.len() >= MAX_PROGRAMS {
            self.programs.clear();
        }
        let program = self.graph.plan(shapes, mode)?;
        if let Some((limit_bytes, moments)) = self.memory_limit {
            check_memory(crate::inspect::cost(&self.graph, &program, moments).peak_bytes, limit_bytes)?;
        }
        let mut constants = Vec::with_capacity(program.constants.len());
        for constant in &program.constants {
            constants.push((constant.slot, DeviceTensor::upload(constant.array.clone(), &self.device)?));
        }
        let bound = Arc::new(Bound { program, constants });
        self.programs.insert(key, bound.clone());
        Ok(bound)
    }

    /// The outputs for one batch of inputs, in inference mode.
    pub(crate) fn forward(&mut self, inputs: Vec<Array>) -> Result<Vec<Array>, TrainError> {
        let bound = self.program(&shapes_of(&inputs), Mode::Inference)?;
        let program = &bound.program;
        let mut feed = program.feed(&self.graph, inputs)?;
        let mut slots: Vec<Option<DeviceTensor<B>>> = vec![None; program.slots];
        for (slot, array) in std::mem::take(&mut feed.arrays) {
            slots[slot] = Some(DeviceTensor::upload(array, &self.device)?);
        }
        for (slot, source) in slots[self.graph.inputs.len()..].iter_mut().zip(&self.sources) {
            *slot = source.clone().map(DeviceTensor::Float);
        }
        for (slot, constant) in &bound.constants {
            slots[*slot] = Some(constant.clone());
        }
        let mut noise = ChaCha20Rng::from_seed([0; 32]);
        run(program, &mut slots, &mut noise, Kernel::run::<B>);
        collect(program, &feed, |slot| slots[slot].clone(), DeviceTensor::download)
    }

    /// One step. `gradient` gets the outputs and returns the gradient of the loss by each (`None` for those that the loss does not read,
    /// otherwise of the output's length); if it fails, nothing changes. `noise` feeds dropout.
    pub(crate) fn step(
        &mut self,
        inputs: Vec<Array>,
        batch_statistics: bool,
        optimizer: &mut Optimizer<B>,
        noise: &mut ChaCha20Rng,
        gradient: impl FnOnce(&[Array]) -> Result<Vec<Option<Vec<f32>>>, TrainError>,
    ) -> Result<StepDone, TrainError> {
        let bound = self.program(&shapes_of(&inputs), Mode::Training { batch_statistics })?;
        let program = &bound.program;
        let mut feed = program.feed(&self.graph, inputs)?;
        let mut slots: Vec<Option<DeviceTensor<Autodiff<B>>>> = vec![None; program.slots];
        for (slot, array) in std::mem::take(&mut feed.arrays) {
            slots[slot] = Some(DeviceTensor::constant(DeviceTensor::upload(array, &self.device)?));
        }
        let mut leaves = Vec::new();
        for (i, source) in self.sources.iter().enumerate() {
            let Some(tensor) = source else { continue };
            let mut tensor = Autodiff::<B>::from_inner(tensor.clone());
            if self.graph.sources[i].weight().is_some() {
                tensor = Autodiff::<B>::float_set_require_grad(tensor, true);
                leaves.push((i, tensor.clone()));
            }
            slots[self.graph.inputs.len() + i] = Some(DeviceTensor::Float(tensor));
        }
        for (slot, constant) in &bound.constants {
            slots[*slot] = Some(DeviceTensor::constant(constant.clone()));
        }
        run(program, &mut slots, noise, Kernel::run_tracked::<B>);
        let outputs = collect(program, &feed, |slot| slots[slot].clone(), |tensor| tensor.inner().download())?;
        let by_outputs = gradient(&outputs)?;
        let moved: Vec<_> = program
            .buffers
            .iter()
            .filter_map(|(source, slot)| match slots[*slot].take() {
                Some(DeviceTensor::Float(tensor)) => Some((*source, Autodiff::<B>::inner(tensor))),
                _ => None,
            })
            .collect();
        // The gradient of sum(output * by_output) by the output is by_output; backward starts from that sum over all outputs.
        let mut objective: Option<FloatTensor<Autodiff<B>>> = None;
        for (output, by_output) in program.outputs.iter().zip(by_outputs) {
            let (program::From::Device(slot), Some(by_output)) = (&output.from, by_output) else {
                continue;
            };
            let Some(DeviceTensor::Float(tensor)) = slots[*slot].clone() else {
                continue;
            };
            let len = by_output.len();
            let by_output = Autodiff::<B>::from_inner(upload::<B>(by_output, &output.shape, &self.device));
            let term = Autodiff::<B>::float_mul(tensor, by_output);
            // As a list: burn's gradient of a sum fails for scalars.
            let total = |term| Autodiff::<B>::float_sum(Autodiff::<B>::float_reshape(term, Shape::new([len])));
            objective = Some(match objective {
                None if program.outputs.len() == 1 => term,
                None => total(term),
                Some(sum) => Autodiff::<B>::float_add(sum, total(term)),
            });
        }
        drop(slots);
        let Some(objective) = objective else {
            return Err(TrainError::Graph {
                reason: "the loss reads no output that is made of floats; choose another output".to_owned(),
            });
        };
        let mut gradients = Autodiff::<B>::backward(objective);
        let by_weight: Vec<_> = leaves
            .iter()
            .filter_map(|(i, leaf)| Some((*i, Autodiff::<B>::grad_remove(leaf, &mut gradients)?)))
            .collect();
        // With the leaves gone the weights have one owner and are updated where they are.
        drop((leaves, gradients));
        let gradient_norm = optimizer.step(&mut self.sources, by_weight)?;
        for (source, tensor) in moved {
            self.sources[source] = Some(tensor);
        }
        Ok(StepDone { gradient_norm })
    }

    /// Copies the weights as they are now to their places in a flat vector that is long enough for all.
    pub(crate) fn read_weights(&self, flat: &mut [f32]) -> Result<(), TrainError> {
        self.read(flat, program::GraphSource::weight)
    }

    /// The same for running statistics.
    pub(crate) fn read_buffers(&self, flat: &mut [f32]) -> Result<(), TrainError> {
        self.read(flat, program::GraphSource::buffer)
    }

    fn read(&self, flat: &mut [f32], place: impl Fn(&program::GraphSource) -> Option<std::ops::Range<usize>>) -> Result<(), TrainError> {
        for (source, tensor) in self.graph.sources.iter().zip(&self.sources) {
            let place = place(source).and_then(|range| flat.get_mut(range));
            if let (Some(place), Some(tensor)) = (place, tensor.clone()) {
                place.copy_from_slice(&download::<B>(tensor)?);
            }
        }
        Ok(())
    }

    /// Replaces the weights by those of a flat vector that is long enough for all.
    pub(crate) fn set_weights(&mut self, flat: &[f32]) {
        self.set(flat, program::GraphSource::weight);
    }

    /// The same for running statistics.
    pub(crate) fn set_buffers(&mut self, flat: &[f32]) {
        self.set(flat, program::GraphSource::buffer);
    }

    /// What `optimizer` keeps 0 from now on; weights and moments are made so now.
    pub(crate) fn set_mask(&mut self, mask: Option<&Mask>, optimizer: &mut Optimizer<B>) -> Result<(), TrainError> {
        optimizer.set_mask(&self.graph.sources, mask, &self.device)?;
        for (i, source) in self.sources.iter_mut().enumerate() {
            *source = source.take().map(|source| optimizer.pruned(i, source));
        }
        Ok(())
    }

    fn set(&mut self, flat: &[f32], place: impl Fn(&program::GraphSource) -> Option<std::ops::Range<usize>>) {
        for (source, tensor) in self.graph.sources.iter().zip(&mut self.sources) {
            if let Some(values) = place(source).and_then(|range| flat.get(range)) {
                *tensor = Some(upload::<B>(values.to_vec(), &source.shape, &self.device));
            }
        }
    }
}

/// Has the C library keep what a step of a small model frees, for the next step.
///
/// glibc gives the end of its heap back to the system after every step whose tensors are together more than some 128 KiB, and a third of
/// a small model's step went to getting those pages anew. It takes the largest block that was freed as the measure of what is usual, so it is
/// shown one, which is never written to; twice that much may then stay with an idle process.
fn keep_pages() {
    const USUAL_BYTES: usize = 4 << 20;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(USUAL_BYTES)));
}

/// Runs one kernel.
type Runner<B> = fn(&Kernel, Operands<B>, &mut ChaCha20Rng) -> Vec<DeviceTensor<B>>;

pub(crate) fn check_memory(peak_bytes: u64, limit_bytes: u64) -> Result<(), TrainError> {
    const MIB: u64 = 1 << 20;
    if peak_bytes <= limit_bytes {
        return Ok(());
    }
    Err(TrainError::Config {
        reason: format!(
            "a step over such a batch takes about {} MiB, the limit is {} MiB; use a smaller batch or model, or raise the limit",
            peak_bytes.div_ceil(MIB),
            limit_bytes / MIB
        ),
    })
}

/// Runs the steps; a value is dropped (or overwritten in place) after its last use.
fn run<B: Backend>(program: &Program, slots: &mut [Option<DeviceTensor<B>>], noise: &mut ChaCha20Rng, kernel: Runner<B>) {
    for step in &program.steps {
        let operands = step.inputs.iter().map(|operand| {
            let slot = &mut slots[operand.slot];
            let tensor = if operand.last { slot.take() } else { slot.clone() };
            tensor.expect("planning orders the steps so that operands are there")
        });
        let operands = Operands::new(operands.collect());
        for (slot, tensor) in step.outputs.iter().zip(kernel(&step.kernel, operands, noise)) {
            if let Some(slot) = slot {
                slots[*slot] = Some(tensor);
            }
        }
    }
}

/// The program's outputs as arrays.
fn collect<B: Backend>(
    program: &Program,
    feed: &Feed,
    mut tensor: impl FnMut(usize) -> Option<DeviceTensor<B>>,
    download: impl Fn(DeviceTensor<B>) -> Result<Array, TrainError>,
) -> Result<Vec<Array>, TrainError> {
    let missing = || TrainError::Device {
        reason: "an output was not computed".to_owned(),
    };
    let mut outputs: Vec<Array> = Vec::with_capacity(program.outputs.len());
    for (i, output) in program.outputs.iter().enumerate() {
        outputs.push(match &output.from {
            program::From::Known(array) => array.clone(),
            program::From::Host(slot) => feed.host(*slot).ok_or_else(missing)?,
            program::From::Device(slot) => {
                // One value under two names is there once.
                let earlier = program.outputs[..i]
                    .iter()
                    .position(|o| o.element == output.element && matches!(o.from, program::From::Device(s) if s == *slot));
                match earlier {
                    Some(earlier) => outputs[earlier].clone(),
                    None => {
                        let array = download(tensor(*slot).ok_or_else(missing)?)?;
                        output.element.array_of(array.reshaped(output.shape.clone()).ok_or_else(missing)?)
                    }
                }
            }
        });
    }
    Ok(outputs)
}

/// What a kernel makes of constants; `None` where it fails.
pub(crate) fn fold(kernel: &Kernel, inputs: Vec<Array>) -> Option<Vec<f32>> {
    let device = Device::<Cpu>::default();
    let tensors = inputs.into_iter().map(|array| DeviceTensor::<Cpu>::upload(array, &device).ok());
    let operands = Operands::new(tensors.collect::<Option<Vec<_>>>()?);
    let made = kernel.run::<Cpu>(operands, &mut ChaCha20Rng::from_seed([0; 32]));
    match made.into_iter().next()? {
        DeviceTensor::Float(tensor) => download::<Cpu>(tensor).ok(),
        _ => None,
    }
}
