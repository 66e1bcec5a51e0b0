//! Brings the values of tensors that a model keeps in files beside it into the model.
//!
//! Exporters do this for models above 2 GiB, and `torch.onnx.export` for every model unless it is told not to. A model travels as one
//! file, so whoever reads it from a folder brings the values in first: [`files`] names what to read, [`bring_in`] puts it in.
//!
//! # Source
//! <https://onnx.ai/onnx/repo-docs/ExternalData.html>

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use prost::Message;

use crate::error::shown;
use crate::proto::{DataLocation, ModelProto, TensorProto};
use crate::scan::scan;
use crate::splice::{RAW_DATA_TAG, put, rewrite_initializers};
use crate::wire::{Fields, WireError};
use crate::{MAX_MODEL_BYTES, ReadError};

/// `TensorProto.external_data` and `TensorProto.data_location`.
const OF_OTHER_FILES: [u64; 2] = [13, 14];
/// Files that one model may be spread over.
const MAX_FILES: usize = 4096;

/// The files that hold values of a model's initializers: relative to the model's folder and not above it, with `/` between the parts.
/// Empty for a model that is one file.
///
/// # Errors
/// [`ReadError::ExternalPlace`] for a path that is absolute or leads out of the folder; [`ReadError::TooLarge`], and what is no model.
pub fn files(model: &Bytes) -> Result<BTreeSet<String>, ReadError> {
    let proto = decoded(model)?;
    let mut found = BTreeSet::new();
    for tensor in initializers(&proto).filter(|tensor| is_external(tensor)) {
        let part = Part::of(tensor)?;
        if !found.contains(part.location) && found.len() == MAX_FILES {
            return Err(place(tensor, part.location));
        }
        found.insert(part.location.to_owned());
    }
    Ok(found)
}

/// The model as one file: each initializer whose values are in one of `files` (by the names that [`files`] gives) gets them as raw data;
/// everything else stays byte for byte.
///
/// # Errors
/// [`ReadError::ExternalPlace`] for a file that is not among them, [`ReadError::ExternalRange`] for one that is too short,
/// [`ReadError::TooLarge`] when the whole is longer than [`MAX_MODEL_BYTES`]; and what is no model.
pub fn bring_in(model: Bytes, files: &BTreeMap<String, Bytes>) -> Result<Bytes, ReadError> {
    let proto = decoded(&model)?;
    let mut parts: Vec<Option<&[u8]>> = Vec::new();
    let mut growth = 0usize;
    for tensor in initializers(&proto) {
        let part = is_external(tensor).then(|| Part::of(tensor)?.values(tensor, files)).transpose()?;
        growth = growth.saturating_add(part.map_or(0, |part| part.len() + 16));
        parts.push(part);
    }
    if parts.iter().all(Option::is_none) {
        return Ok(model);
    }
    let found_bytes = model.len().saturating_add(growth);
    if found_bytes > MAX_MODEL_BYTES {
        return Err(ReadError::TooLarge {
            found_bytes,
            limit_bytes: MAX_MODEL_BYTES,
        });
    }
    let whole = rewrite_initializers(&model, growth, |index, tensor| {
        let part = parts.get(index).copied().flatten();
        part.map(|values| with_values(&model, tensor, values)).transpose()
    });
    whole.map(Bytes::from).map_err(malformed)
}

fn malformed(WireError { offset, what }: WireError) -> ReadError {
    ReadError::Malformed { offset, what }
}

fn decoded(model: &Bytes) -> Result<ModelProto, ReadError> {
    if model.len() > MAX_MODEL_BYTES {
        return Err(ReadError::TooLarge {
            found_bytes: model.len(),
            limit_bytes: MAX_MODEL_BYTES,
        });
    }
    scan(model)?;
    ModelProto::decode(model.clone()).map_err(|error| ReadError::Decode {
        reason: shown(&error.to_string()),
    })
}

fn initializers(proto: &ModelProto) -> impl Iterator<Item = &TensorProto> {
    proto.graph.iter().flat_map(|graph| &graph.initializer)
}

fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == DataLocation::External as i32
}

fn place(tensor: &TensorProto, location: &str) -> ReadError {
    ReadError::ExternalPlace {
        tensor: shown(&tensor.name),
        location: shown(location),
    }
}

/// Where a tensor's values are.
struct Part<'a> {
    location: &'a str,
    offset: u64,
    /// `None`: to the end of the file.
    length: Option<u64>,
}

impl<'a> Part<'a> {
    fn of(tensor: &'a TensorProto) -> Result<Self, ReadError> {
        let value = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let location = value("location").unwrap_or_default();
        let stays_inside = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':', '\0']);
        if !location.split('/').all(stays_inside) {
            return Err(place(tensor, location));
        }
        let number = |key| {
            let digits = value(key).map(|text| text.trim().parse::<u64>());
            digits
                .transpose()
                .map_err(|_| no_values(tensor, location, "at a place that is no number"))
        };
        Ok(Self {
            location,
            offset: number("offset")?.unwrap_or(0),
            length: number("length")?,
        })
    }

    fn values<'f>(&self, tensor: &TensorProto, files: &'f BTreeMap<String, Bytes>) -> Result<&'f [u8], ReadError> {
        let file = files.get(self.location).ok_or_else(|| place(tensor, self.location))?;
        let end = match self.length {
            Some(length) => self.offset.checked_add(length),
            None => Some(file.len() as u64),
        };
        let range = end.and_then(|end| Some(usize::try_from(self.offset).ok()?..usize::try_from(end).ok()?));
        let values = range.and_then(|range| file.get(range));
        values.ok_or_else(|| no_values(tensor, self.location, "which ends before them"))
    }
}

fn no_values(tensor: &TensorProto, location: &str, problem: &'static str) -> ReadError {
    ReadError::ExternalRange {
        tensor: shown(&tensor.name),
        location: shown(location),
        problem,
    }
}

/// A tensor's message with its values in it.
fn with_values(bytes: &[u8], tensor: Range<usize>, values: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(tensor.len() + values.len() + 16);
    for field in Fields::new(bytes, tensor) {
        let field = field?;
        if !OF_OTHER_FILES.contains(&field.number) {
            out.extend_from_slice(&bytes[field.whole()]);
        }
    }
    put(&[RAW_DATA_TAG], values, &mut out);
    Ok(out)
}

#[cfg(test)]
mod tests;
