//! One run of any model on named arrays.

use std::collections::BTreeMap;

use aimass_learning::{Array, Values};
use aimass_onnx::ElementType;
use tract_onnx::prelude::{DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, TValue, TVec, Tensor, TractError};

use super::{InferError, as_served, chain, check_ops};

/// All outputs of a model for named inputs, in the file's order, each with its name.
///
/// # Errors
/// [`InferError::Input`] for an input that is missing, unknown or of another type than the model takes; [`InferError::Op`] and
/// [`InferError::Graph`] for what tract can't run.
pub fn run(bytes: &[u8], mut inputs: BTreeMap<String, Array>) -> Result<Vec<(String, Array)>, InferError> {
    let model = as_served(bytes)?;
    let onnx = check_ops(&model)?;
    let graph_error = |e: TractError| InferError::Graph { reason: chain(&e) };
    let names: Vec<&str> = model.inputs().iter().map(|input| input.name.as_str()).collect();
    let refuse = |reason: String| InferError::Input { reason };
    let mut graph = onnx.model_for_read(&mut model.as_bytes()).map_err(graph_error)?;
    let mut tensors: TVec<TValue> = TVec::new();
    for (i, input) in model.inputs().iter().enumerate() {
        let array = inputs.remove(&input.name);
        let array = array.ok_or_else(|| refuse(format!("`{}` is missing; the model needs {}", input.name, names.join(", "))))?;
        let tensor = to_tensor(&array, input.element).map_err(graph_error)?;
        let tensor = tensor.ok_or_else(|| refuse(format!("the array for `{}` is not {:?}", input.name, input.element)))?;
        graph = graph
            .with_input_fact(i, InferenceFact::dt_shape(tensor.datum_type(), tensor.shape()))
            .map_err(graph_error)?;
        tensors.push(tensor.into());
    }
    if let Some(unknown) = inputs.keys().next() {
        return Err(refuse(format!("the model has no input `{unknown}`; it has {}", names.join(", "))));
    }
    let outputs = graph
        .into_optimized()
        .and_then(IntoRunnable::into_runnable)
        .and_then(|plan| plan.run(tensors))
        .map_err(graph_error)?;
    let outputs = model.outputs().iter().zip(outputs.iter());
    outputs
        .map(|(info, tensor)| {
            let array = to_array(tensor).map_err(graph_error)?;
            Ok((info.name.clone(), array))
        })
        .collect()
}

/// Whether tract can run a model on inputs of these shapes, by name: it is made ready, and nothing is computed.
///
/// # Errors
/// [`InferError::Op`] and [`InferError::Graph`] for what tract can't run.
pub fn check(bytes: &[u8], shapes: &BTreeMap<String, Vec<usize>>) -> Result<(), InferError> {
    let model = as_served(bytes)?;
    let graph_error = |e: TractError| InferError::Graph { reason: chain(&e) };
    let mut graph = check_ops(&model)?.model_for_read(&mut model.as_bytes()).map_err(graph_error)?;
    for (i, input) in model.inputs().iter().enumerate() {
        let element = match input.element {
            ElementType::F32 => DatumType::F32,
            ElementType::I64 => DatumType::I64,
            ElementType::I32 => DatumType::I32,
            ElementType::Bool => DatumType::Bool,
            _ => continue,
        };
        if let Some(shape) = shapes.get(&input.name) {
            graph = graph
                .with_input_fact(i, InferenceFact::dt_shape(element, shape))
                .map_err(graph_error)?;
        }
    }
    graph.into_optimized().and_then(IntoRunnable::into_runnable).map_err(graph_error)?;
    Ok(())
}

/// `None` where the array is of another type than `element`.
fn to_tensor(array: &Array, element: ElementType) -> Result<Option<Tensor>, TractError> {
    Ok(Some(match (array.values(), element) {
        (Values::Floats(values), ElementType::F32) => Tensor::from_shape(array.shape(), values)?,
        (Values::Ints(values), ElementType::I64) => Tensor::from_shape(array.shape(), values)?,
        (Values::Ints(values), ElementType::I32) => {
            let narrowed: Result<Vec<i32>, _> = values.iter().map(|&v| i32::try_from(v)).collect();
            Tensor::from_shape(array.shape(), &narrowed?)?
        }
        (Values::Bools(values), ElementType::Bool) => Tensor::from_shape(array.shape(), values)?,
        _ => return Ok(None),
    }))
}

fn to_array(tensor: &Tensor) -> Result<Array, TractError> {
    let shape = tensor.shape().to_vec();
    let values = match tensor.datum_type() {
        DatumType::F32 => Values::Floats(tensor.to_plain_array_view::<f32>()?.iter().copied().collect()),
        DatumType::Bool => Values::Bools(tensor.to_plain_array_view::<bool>()?.iter().copied().collect()),
        _ => {
            let widened = tensor.cast_to_dt(DatumType::I64)?;
            Values::Ints(widened.to_plain_array_view::<i64>()?.iter().copied().collect())
        }
    };
    Array::new(shape, values).ok_or_else(|| TractError::msg("an output does not fill its shape"))
}
