//! Puts new weights into a file's bytes and leaves every other byte where it was.
//!
//! The way to a weight is `ModelProto.graph` (7), `GraphProto.initializer` (5), `TensorProto`. Its value fields give way to one
//! `raw_data` (9). Where that has the same length as before, which is the common case, the values are overwritten in place; otherwise
//! the three messages around it are written again with new lengths, their other fields copied as they are.

use std::ops::Range;

use crate::wire::{Field, Fields, WireError, put_varint};

pub(crate) const GRAPH: u64 = 7;
pub(crate) const INITIALIZER: u64 = 5;
const RAW_DATA: u64 = 9;
/// Tag of `raw_data`.
pub(crate) const RAW_DATA_TAG: u8 = (RAW_DATA << 3) as u8 | 2;

/// Values that are written at once: they stay in the first-level cache.
const AT_ONCE: usize = 4096;

/// Fields of `TensorProto` that hold values.
fn holds_values(field: &Field) -> bool {
    matches!(field.number, 4..=7 | 9..=11)
}

/// New bytes, and where in them each initializer's `raw_data` lies (`None` where it has none).
pub(crate) struct Spliced {
    pub(crate) bytes: Vec<u8>,
    pub(crate) raw_data: Vec<Option<Range<usize>>>,
}

/// Values and where they go.
struct Place<'v> {
    at: Range<usize>,
    values: &'v [f32],
}

/// Replaces the values of the initializers for which `values` is `Some`; `values[i]` belongs to the file's `i`-th initializer.
pub(crate) fn splice(bytes: &[u8], values: &[Option<&[f32]>]) -> Result<Spliced, WireError> {
    if let Some(places) = in_place(bytes, values)? {
        // In the order of the file, each byte once.
        let mut out = Vec::with_capacity(bytes.len());
        for place in places {
            out.extend_from_slice(&bytes[out.len()..place.at.start]);
            for values in place.values.chunks(AT_ONCE) {
                let begin = out.len();
                out.resize(begin + 4 * values.len(), 0);
                let words = out[begin..].as_chunks_mut::<4>().0;
                words.iter_mut().zip(values).for_each(|(word, value)| *word = value.to_le_bytes());
            }
        }
        out.extend_from_slice(&bytes[out.len()..]);
        return located(out);
    }
    let growth = values.iter().flatten().map(|values| 4 * values.len() + 16).sum();
    let out = rewrite_initializers(bytes, growth, |index, tensor| {
        let values = values.get(index).copied().flatten();
        values.map(|values| rewrite_tensor(bytes, tensor, values)).transpose()
    })?;
    located(out)
}

/// The file with some initializers in another form: `with` gets the position of each and where it lies, and returns its message or,
/// where it stays, `None`. `growth`: bytes that the file grows by, about.
pub(crate) fn rewrite_initializers(
    bytes: &[u8],
    growth: usize,
    mut with: impl FnMut(usize, Range<usize>) -> Result<Option<Vec<u8>>, WireError>,
) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(bytes.len() + growth);
    let mut index = 0;
    for field in Fields::new(bytes, 0..bytes.len()) {
        let field = field?;
        if !field.is_bytes(GRAPH) {
            out.extend_from_slice(&bytes[field.whole()]);
            continue;
        }
        let mut graph = Vec::with_capacity(field.value.len() + growth);
        for field in Fields::new(bytes, field.value) {
            let field = field?;
            let tensor = match field.is_bytes(INITIALIZER) {
                true => with(index, field.value.clone())?,
                false => None,
            };
            index += usize::from(field.is_bytes(INITIALIZER));
            match tensor {
                Some(tensor) => put(&bytes[field.tag], &tensor, &mut graph),
                None => graph.extend_from_slice(&bytes[field.whole()]),
            }
        }
        put(&bytes[field.tag], &graph, &mut out);
    }
    Ok(out)
}

/// Where the values go when each replaced initializer has exactly one value field: a `raw_data` of the same length.
fn in_place<'v>(bytes: &[u8], values: &[Option<&'v [f32]>]) -> Result<Option<Vec<Place<'v>>>, WireError> {
    let mut places = Vec::new();
    for (tensor, values) in initializers(bytes)?.into_iter().zip(values) {
        let Some(values) = values else { continue };
        let mut fields = Fields::new(bytes, tensor).filter(|field| field.as_ref().map_or(true, holds_values));
        match (fields.next().transpose()?, fields.next().transpose()?) {
            (Some(raw), None) if raw.is_bytes(RAW_DATA) && raw.value.len() == 4 * values.len() => {
                places.push(Place { at: raw.value, values });
            }
            (None, None) if values.is_empty() => {}
            _ => return Ok(None),
        }
    }
    Ok(Some(places))
}

fn located(bytes: Vec<u8>) -> Result<Spliced, WireError> {
    let raw = |tensor: Range<usize>| {
        // Of a field given twice the last counts.
        Fields::new(&bytes, tensor).try_fold(None, |last, field| {
            field.map(|f| if f.is_bytes(RAW_DATA) { Some(f.value) } else { last })
        })
    };
    let raw_data = initializers(&bytes)?.into_iter().map(raw).collect::<Result<_, _>>()?;
    Ok(Spliced { bytes, raw_data })
}

/// Where each initializer lies. A graph given in pieces is one graph, as protobuf says.
fn initializers(bytes: &[u8]) -> Result<Vec<Range<usize>>, WireError> {
    let mut found = Vec::new();
    for graph in Fields::new(bytes, 0..bytes.len()) {
        let graph = graph?;
        if !graph.is_bytes(GRAPH) {
            continue;
        }
        for field in Fields::new(bytes, graph.value) {
            let field = field?;
            if field.is_bytes(INITIALIZER) {
                found.push(field.value);
            }
        }
    }
    Ok(found)
}

fn rewrite_tensor(bytes: &[u8], tensor: Range<usize>, values: &[f32]) -> Result<Vec<u8>, WireError> {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut out = Vec::with_capacity(tensor.len() + data.len() + 16);
    let mut written = false;
    for field in Fields::new(bytes, tensor) {
        let field = field?;
        if !holds_values(&field) {
            out.extend_from_slice(&bytes[field.whole()]);
        } else if !written {
            put(&[RAW_DATA_TAG], &data, &mut out);
            written = true;
        }
    }
    if !written {
        put(&[RAW_DATA_TAG], &data, &mut out);
    }
    Ok(out)
}

/// Writes a field that has a length.
pub(crate) fn put(tag: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(tag);
    put_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests;
