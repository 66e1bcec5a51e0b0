//! Sparse storage: a pruned model whose file is really smaller.
//!
//! [`pack`] stores each tensor that is mostly one value as a map of where it is not and the values there; [`expand`] brings the tensors
//! back, bit for bit. Two formats, described with their bytes in `docs/sparse-models.md`:
//! - [`Format::Standard`] rebuilds each weight by operators of ONNX's own set from a bit mask and its values, so any runtime reads the
//!   file as it is. Onnxruntime folds these nodes into constants while loading, so inference is as fast as before.
//! - [`Format::Compact`] is smaller: gaps between values, Rice coded. Only our tools read it, by [`unpacked`].
//!
//! A file from outside is bounded before anything is allocated: a tensor expands to at most [`MAX_RATIO`] times its coded bytes, and all
//! of them together to at most [`aimass_onnx::MAX_MODEL_BYTES`].

mod code;
mod error;
mod positions;
mod record;
mod standard;

pub use code::MAX_RATIO;
pub use error::SparseError;

use std::collections::BTreeSet;

use aimass_onnx::proto::{DataType, GraphProto, ModelProto, StringStringEntryProto, TensorProto};
use aimass_onnx::{MAX_MODEL_BYTES, Model, TensorRef};

use code::Dense;
use record::Record;

use crate::wiring::shown;

/// Keys of the entries in the model's metadata start with this.
const KEY: &str = "aimass.sparse:";
/// Names of what is added start with this.
const PREFIX: &str = "aimass.sparse/";
/// A tensor is packed where that saves at least this much.
const LEAST_SAVED_BYTES: usize = 256;

/// How sparse tensors are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// By ONNX's own operators: every runtime reads it.
    Standard,
    /// By a code of our own: smallest.
    Compact,
}

/// A packed model and what that brought.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The model. The one that was given, where nothing in it is sparse enough.
    pub model: Model,
    /// Names of the tensors that are packed, in the file's order.
    pub tensors: Vec<String>,
    /// Length of the file before.
    pub bytes_before: usize,
    /// Length of the file now.
    pub bytes_after: usize,
}

/// Stores the sparse initializers of a model by their values. Types of one to eight whole bytes a number; in an 8-bit type the value that
/// is left out is the most frequent one, otherwise it is zero. What would not become smaller stays as it is.
///
/// # Errors
/// [`SparseError::Packed`] for a model that is packed already; [`SparseError::Opset`] and [`SparseError::IrVersion`] for a model too old
/// for [`Format::Standard`].
pub fn pack(model: &Model, format: Format) -> Result<Packed, SparseError> {
    if is_packed(model) || names(model.graph()).any(|name| name.starts_with(PREFIX)) {
        return Err(SparseError::Packed);
    }
    if format == Format::Standard {
        standard::check(model)?;
    }
    let mut proto = model.proto().clone();
    // An initializer that is an input too is a default: whoever runs the model may feed another value of its type.
    let inputs: BTreeSet<&str> = model.graph().input.iter().map(|input| input.name.as_str()).collect();
    let mut tensors = Vec::new();
    let mut entries = Vec::new();
    let mut parts = standard::Parts::default();
    for tensor in proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        let Some(dense) = Dense::of(tensor).filter(|_| !inputs.contains(tensor.name.as_str())) else {
            continue;
        };
        let small = match format {
            Format::Compact => dense.coded().map(|coded| packed_tensor(tensor, coded)),
            Format::Standard => parts.tensor(tensor, &dense),
        };
        let Some(small) = small.filter(|_| dense.bytes() <= MAX_MODEL_BYTES) else {
            continue;
        };
        entries.push(StringStringEntryProto {
            key: format!("{KEY}{}", tensor.name),
            value: Record::of(format, tensor).write(),
        });
        tensors.push(std::mem::replace(tensor, small).name);
    }
    proto.metadata_props.extend(entries);
    if let Some(graph) = proto.graph.as_mut().filter(|_| !tensors.is_empty()) {
        parts.put_into(graph);
    }
    let packed = if tensors.is_empty() {
        model.clone()
    } else {
        Model::from_proto(proto)?
    };
    Ok(Packed {
        tensors,
        bytes_before: model.as_bytes().len(),
        bytes_after: packed.as_bytes().len(),
        model: packed,
    })
}

/// Whether tensors of a model are stored sparsely.
pub fn is_packed(model: &Model) -> bool {
    model.proto().metadata_props.iter().any(|entry| entry.key.starts_with(KEY))
}

/// The model with every tensor in full: the one that was packed, its values to the last bit. A model that is not packed comes back as
/// it is.
///
/// # Errors
/// [`SparseError::Damaged`] with the tensor for anything that `pack` does not write, [`SparseError::TooLarge`] before more is allocated
/// than a model may have.
pub fn expand(model: &Model) -> Result<Model, SparseError> {
    if !is_packed(model) {
        return Ok(model.clone());
    }
    let records = record::read(model)?;
    let total = records.values().try_fold(0usize, |total, record| total.checked_add(record.bytes()));
    if total.is_none_or(|total| total > MAX_MODEL_BYTES) {
        return Err(SparseError::TooLarge {
            limit_bytes: MAX_MODEL_BYTES,
        });
    }
    let mut proto = model.proto().clone();
    proto.metadata_props.retain(|entry| !entry.key.starts_with(KEY));
    let Some(graph) = proto.graph.as_mut() else {
        return Ok(model.clone());
    };
    let mut missing: BTreeSet<&str> = records.keys().map(String::as_str).collect();
    let (mut tensors, mut masks) = (Vec::with_capacity(graph.initializer.len()), standard::Masks::of(graph));
    let weights = graph.initializer.iter().filter_map(|tensor| standard::weight_of(&tensor.name));
    standard::Parts::check(
        graph,
        weights
            .filter_map(|name| records.get_key_value(name))
            .map(|(name, record)| (name.as_str(), record)),
    )?;
    for tensor in std::mem::take(&mut graph.initializer) {
        let name = standard::weight_of(&tensor.name).unwrap_or(&tensor.name).to_owned();
        let Some(record) = records.get(&name) else {
            tensors.push(tensor);
            continue;
        };
        let dense = match (record.format, tensor.name == name) {
            (Format::Compact, true) => compact_values(&tensor, record)?,
            (Format::Standard, false) => masks.values(&name, &tensor, record)?,
            _ => return Err(damaged(&name, "its values are where those of another format are")),
        };
        missing.remove(name.as_str());
        tensors.push(TensorProto {
            name,
            dims: record.dims.clone(),
            data_type: record.element as i32,
            raw_data: dense.into(),
            ..TensorProto::default()
        });
    }
    if let Some(name) = missing.first() {
        return Err(damaged(name, "it has no values"));
    }
    graph.initializer = tensors;
    standard::remove(graph);
    Ok(Model::from_proto(proto)?)
}

/// Reads a model from a file, packed or not: the one function for whoever reads models from outside.
///
/// # Errors
/// [`SparseError::Read`] for what is no model, and as [`expand`].
pub fn unpacked(bytes: &[u8]) -> Result<Model, SparseError> {
    expand(&Model::from_bytes(bytes)?)
}

/// Bytes that the packed tensors of a model take when they are expanded: what it costs to load it, beside its file.
///
/// # Errors
/// [`SparseError::Damaged`] for an entry that does not parse.
pub fn expanded_bytes(model: &Model) -> Result<usize, SparseError> {
    let records = record::read(model)?;
    Ok(records.values().fold(0usize, |total, record| total.saturating_add(record.bytes())))
}

/// The coded tensor that stands for a compact one.
fn packed_tensor(tensor: &TensorProto, coded: Vec<u8>) -> TensorProto {
    TensorProto {
        name: tensor.name.clone(),
        dims: vec![i64::try_from(coded.len()).unwrap_or(i64::MAX)],
        data_type: DataType::Uint8 as i32,
        raw_data: coded.into(),
        ..TensorProto::default()
    }
}

fn compact_values(tensor: &TensorProto, record: &Record) -> Result<Vec<u8>, SparseError> {
    let bytes = TensorRef::new(tensor).is_ok() && tensor.data_type == DataType::Uint8 as i32 && tensor.dims.len() == 1;
    if !bytes {
        return Err(damaged(&tensor.name, "its code is no list of bytes"));
    }
    code::decoded(&tensor.raw_data, record.elements, record.width).map_err(|problem| damaged(&tensor.name, problem))
}

/// Every name that a graph gives to a value or node.
fn names(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let nodes = graph.node.iter().flat_map(|node| node.output.iter().chain([&node.name]));
    let tensors = graph.initializer.iter().map(|tensor| &tensor.name);
    let inputs = graph.input.iter().map(|input| &input.name);
    nodes.chain(tensors).chain(inputs).map(String::as_str)
}

fn damaged(tensor: &str, problem: &'static str) -> SparseError {
    SparseError::Damaged {
        tensor: shown(tensor),
        problem,
    }
}

/// Where the entry of a tensor is in a model's metadata.
fn entries(proto: &ModelProto) -> impl Iterator<Item = (&str, &str)> {
    let entry = |entry: &'_ StringStringEntryProto| entry.key.starts_with(KEY);
    proto
        .metadata_props
        .iter()
        .filter(move |e| entry(e))
        .map(|e| (&e.key[KEY.len()..], e.value.as_str()))
}

#[cfg(test)]
mod tests;
