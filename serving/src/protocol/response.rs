//! Responses and metadata.

use std::io::Write as _;

use aimass_inference::{Axis, Data, Port, Tensor};
use serde_json::{Value, json};

use crate::error::ServeError;
use crate::host::Answer;
use crate::slot::{ModelSlot, Version};

/// A response's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The bytes.
    pub body: Vec<u8>,
    /// How many of them are JSON, where tensors follow; `None`: all.
    pub json_bytes: Option<usize>,
}

/// Encodes what came of a request: the outputs that were asked for, as JSON or in binary form after it.
///
/// # Errors
/// [`ServeError::Internal`] where an output holds NaN or an infinity, which JSON can't say.
pub fn encode(answer: &Answer) -> Result<Encoded, ServeError> {
    let failed = |e: &dyn std::fmt::Display| ServeError::Internal(format!("the response can't be written: {e}"));
    let version = &answer.version;
    let head = json!({ "model_name": version.model, "model_version": version.version });
    let mut body = head.to_string().into_bytes();
    body.pop();
    if let Some(id) = &answer.id {
        write!(body, ",\"id\":{}", Value::from(id.as_str())).map_err(|e| failed(&e))?;
    }
    body.extend_from_slice(b",\"outputs\":[");
    let mut tail = Vec::new();
    let mut any_binary = false;
    for (i, (name, tensor, binary)) in answer.outputs.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        let (name, datatype) = (Value::from(name.as_str()), tensor.datatype());
        write!(body, "{{\"name\":{name},\"datatype\":\"{datatype}\",\"shape\":{:?}", tensor.shape()).map_err(|e| failed(&e))?;
        if *binary {
            any_binary = true;
            tensor.data().append_le_bytes(&mut tail);
            write!(body, ",\"parameters\":{{\"binary_data_size\":{}}}", tensor.bytes()).map_err(|e| failed(&e))?;
        } else {
            finite(&answer.outputs[i].0, tensor)?;
            body.extend_from_slice(b",\"data\":");
            write_data(&mut body, tensor.data()).map_err(|e| failed(&e))?;
        }
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    let json_bytes = any_binary.then_some(body.len());
    body.append(&mut tail);
    Ok(Encoded { body, json_bytes })
}

fn finite(name: &str, tensor: &Tensor) -> Result<(), ServeError> {
    match tensor.data().first_not_finite() {
        None => Ok(()),
        Some(at) => Err(ServeError::Internal(format!(
            "output {name:?} is NaN or infinite (value {at}), which JSON can't say: check the inputs, or ask for binary_data"
        ))),
    }
}

fn write_data(out: &mut Vec<u8>, data: &Data) -> serde_json::Result<()> {
    match data {
        Data::Bool(values) => serde_json::to_writer(out, values),
        Data::U8(values) => serde_json::to_writer(out, values),
        Data::I8(values) => serde_json::to_writer(out, values),
        Data::I32(values) => serde_json::to_writer(out, values),
        Data::I64(values) => serde_json::to_writer(out, values),
        Data::F32(values) => serde_json::to_writer(out, values),
        Data::F64(values) => serde_json::to_writer(out, values),
        other => Err(serde::ser::Error::custom(format!("{} is not served", other.datatype()))),
    }
}

/// The metadata of a model: inputs and outputs, a free axis being -1.
pub fn metadata(slot: &ModelSlot, version: &Version) -> Value {
    let ports = |ports: &[Port]| -> Value { ports.iter().map(port).collect() };
    json!({
        "name": version.model,
        "versions": slot.names(),
        "platform": format!("onnx_{}", version.servable.engine()),
        "inputs": ports(version.servable.inputs()),
        "outputs": ports(version.servable.outputs()),
    })
}

fn port(port: &Port) -> Value {
    let axis = |axis: &Axis| match axis {
        Axis::Fixed(n) => i64::try_from(*n).unwrap_or(i64::MAX),
        Axis::Free(_) => -1,
    };
    json!({
        "name": port.name,
        "datatype": port.datatype.name(),
        "shape": port.axes.iter().map(axis).collect::<Vec<_>>(),
    })
}
