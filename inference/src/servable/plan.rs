//! A model made ready for inputs of certain shapes, with the states of runs kept for the next.

use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::prelude::{
    DatumType, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, TValue, TVec, Tensor as TractTensor, TractError, TypedModel,
    TypedRunnableModel, TypedSimpleState,
};

use super::budget::{MemoryBudget, Reservation};
use super::error::{LoadError, RunError};
use super::ports::Port;
use crate::guard::caught;
use crate::tensor::{Data, Datatype, Tensor};
use crate::{InferError, chain};

/// Without a memory cap, one value of a graph is at most this large.
const MAX_VALUE_BYTES: u64 = 8 << 30;

/// See the module.
pub(super) struct Plan {
    runnable: Arc<TypedRunnableModel>,
    states: Mutex<Vec<TypedSimpleState>>,
    max_states: usize,
    _memory: Reservation,
}

impl Plan {
    /// Prepares `graph` for inputs of these shapes, for `threads` runs at once.
    pub(super) fn build(
        graph: InferenceModel,
        ports: &[Port],
        shapes: &[Vec<usize>],
        threads: usize,
        budget: &MemoryBudget,
    ) -> Result<Self, LoadError> {
        let limit = budget.cap().min(MAX_VALUE_BYTES);
        caught(|| Self::prepare(graph, ports, shapes, threads, budget, limit)).unwrap_or_else(|reason| Err(LoadError::Fault { reason }))
    }

    fn prepare(
        mut graph: InferenceModel,
        ports: &[Port],
        shapes: &[Vec<usize>],
        threads: usize,
        budget: &MemoryBudget,
        limit: u64,
    ) -> Result<Self, LoadError> {
        for (i, (port, shape)) in ports.iter().zip(shapes).enumerate() {
            graph = graph
                .with_input_fact(i, InferenceFact::dt_shape(datum_type(port.datatype), shape))
                .map_err(graph_error)?;
        }
        graph.analyse(false).map_err(graph_error)?;
        // Before anything is folded, so before anything of that size is allocated.
        check_sizes(&graph, limit)?;
        let typed = graph.into_typed().map_err(graph_error)?;
        check_typed_sizes(&typed, limit)?;
        // Weights that are packed for a kernel show no size any more; they take what they took before, about.
        let (unpacked, _) = memory(&typed).map_err(graph_error)?;
        let model = typed.into_optimized().map_err(graph_error)?;
        check_typed_sizes(&model, limit)?;
        let (weights, activations) = memory(&model).map_err(graph_error)?;
        let weights = weights.max(unpacked);
        let memory = budget.reserve(weights.saturating_add(activations.saturating_mul(threads as u64)))?;
        let runnable = model.into_runnable().map_err(graph_error)?;
        Ok(Self {
            runnable,
            states: Mutex::default(),
            max_states: threads,
            _memory: memory,
        })
    }

    /// Outputs for inputs of the plan's shapes.
    pub(super) fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        caught(|| self.compute(inputs)).unwrap_or_else(|reason| Err(RunError::Fault { reason }))
    }

    fn compute(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let failed = |e: TractError| RunError::Graph { reason: chain(&e) };
        let tensors: TVec<TValue> = inputs
            .iter()
            .map(|tensor| to_tract(tensor).map(TValue::from))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let mut state = match self.kept_states().pop() {
            Some(state) => state,
            None => self.runnable.spawn().map_err(failed)?,
        };
        // A state whose run failed is dropped: what it holds is of no use to the next.
        let outputs = state.run(tensors).map_err(failed)?;
        let outputs = outputs.iter().enumerate().map(|(i, tensor)| from_tract(i, tensor)).collect();
        // Recurrent nodes would go on from where this run ended.
        if state.op_states.iter().all(Option::is_none) {
            let mut kept = self.kept_states();
            if kept.len() < self.max_states {
                kept.push(state);
            }
        }
        outputs
    }

    fn kept_states(&self) -> std::sync::MutexGuard<'_, Vec<TypedSimpleState>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn graph_error(error: TractError) -> LoadError {
    InferError::Graph { reason: chain(&error) }.into()
}

fn datum_type(datatype: Datatype) -> DatumType {
    match datatype {
        Datatype::Bool => DatumType::Bool,
        Datatype::U8 => DatumType::U8,
        Datatype::I8 => DatumType::I8,
        Datatype::I32 => DatumType::I32,
        Datatype::I64 => DatumType::I64,
        Datatype::F32 => DatumType::F32,
        Datatype::F64 => DatumType::F64,
    }
}

fn over(node: &str, bytes: Option<u64>, limit: u64) -> Result<u64, LoadError> {
    match bytes {
        Some(bytes) if bytes <= limit => Ok(bytes),
        other => Err(LoadError::Value {
            node: node.to_owned(),
            bytes: other.unwrap_or(u64::MAX),
            limit,
        }),
    }
}

fn bytes_of(shape: impl IntoIterator<Item = usize>, width: usize) -> Option<u64> {
    shape.into_iter().try_fold(width as u64, |n, d| n.checked_mul(d as u64))
}

/// Refuses a graph of which one value alone is too large, as far as the shapes are known.
fn check_sizes(graph: &InferenceModel, limit: u64) -> Result<(), LoadError> {
    use tract_onnx::tract_hir::infer::Factoid as _;
    for node in &graph.nodes {
        for outlet in &node.outputs {
            let (Some(dims), Some(datum)) = (outlet.fact.shape.concretize(), outlet.fact.datum_type.concretize()) else {
                continue;
            };
            let shape: Option<Vec<i64>> = dims.iter().map(|dim| dim.to_i64().ok()).collect();
            let Some(shape) = shape else { continue };
            let shape: Option<Vec<usize>> = shape.iter().map(|&n| usize::try_from(n).ok()).collect();
            over(&node.name, shape.and_then(|shape| bytes_of(shape, datum.size_of())), limit)?;
        }
    }
    Ok(())
}

fn check_typed_sizes(model: &TypedModel, limit: u64) -> Result<(), LoadError> {
    for node in &model.nodes {
        for outlet in &node.outputs {
            if let Some(shape) = outlet.fact.shape.as_concrete() {
                over(&node.name, bytes_of(shape.iter().copied(), outlet.fact.datum_type.size_of()), limit)?;
            }
        }
    }
    Ok(())
}

/// Bytes of the constants, and most bytes of values that live at once in a run; values whose size depends on values count nothing.
fn memory(model: &TypedModel) -> Result<(u64, u64), TractError> {
    let order = model.eval_order()?;
    let mut last_use = vec![usize::MAX; model.nodes.len()];
    for (step, &node) in order.iter().enumerate() {
        for input in &model.nodes[node].inputs {
            last_use[input.node] = step;
        }
    }
    let bytes = |node: usize| -> u64 {
        let sizes = model.nodes[node]
            .outputs
            .iter()
            .filter_map(|outlet| outlet.fact.mem_size().to_i64().ok());
        sizes.map(|n| u64::try_from(n).unwrap_or(0)).sum()
    };
    let is_constant =
        |node: usize| model.nodes[node].outputs.iter().any(|outlet| outlet.fact.konst.is_some()) && model.nodes[node].inputs.is_empty();
    let (mut weights, mut live, mut most) = (0u64, 0u64, 0u64);
    for (step, &node) in order.iter().enumerate() {
        if is_constant(node) {
            weights += bytes(node);
            continue;
        }
        live += bytes(node);
        most = most.max(live);
        let mut over: Vec<usize> = model.nodes[node].inputs.iter().map(|input| input.node).collect();
        over.sort_unstable();
        over.dedup();
        for input in over.into_iter().filter(|&input| last_use[input] == step && !is_constant(input)) {
            live = live.saturating_sub(bytes(input));
        }
    }
    Ok((weights, most))
}

fn to_tract(tensor: &Tensor) -> Result<TractTensor, TractError> {
    let shape = tensor.shape();
    match tensor.data() {
        Data::Bool(values) => TractTensor::from_shape(shape, values),
        Data::U8(values) => TractTensor::from_shape(shape, values),
        Data::I8(values) => TractTensor::from_shape(shape, values),
        Data::I32(values) => TractTensor::from_shape(shape, values),
        Data::I64(values) => TractTensor::from_shape(shape, values),
        Data::F32(values) => TractTensor::from_shape(shape, values),
        Data::F64(values) => TractTensor::from_shape(shape, values),
    }
}

fn from_tract(index: usize, tensor: &TractTensor) -> Result<Tensor, RunError> {
    let refuse = |reason: String| RunError::Output { index, reason };
    macro_rules! read {
        ($variant:ident, $tensor:expr) => {
            Data::$variant(
                $tensor
                    .to_plain_array_view()
                    .map_err(|e| refuse(chain(&e)))?
                    .iter()
                    .copied()
                    .collect(),
            )
        };
    }
    let data = match tensor.datum_type() {
        DatumType::Bool => read!(Bool, tensor),
        DatumType::U8 => read!(U8, tensor),
        DatumType::I8 => read!(I8, tensor),
        DatumType::I32 => read!(I32, tensor),
        DatumType::I64 => read!(I64, tensor),
        DatumType::F32 => read!(F32, tensor),
        DatumType::F64 => read!(F64, tensor),
        // What tract makes of shapes.
        DatumType::TDim => read!(I64, tensor.cast_to_dt(DatumType::I64).map_err(|e| refuse(chain(&e)))?),
        other => {
            return Err(refuse(format!(
                "its type {other:?} is not served; cast it to float32 or int64 in the model"
            )));
        }
    };
    Tensor::new(tensor.shape().to_vec(), data).map_err(|e| refuse(e.to_string()))
}
