//! What a model is loaded from, and what it is tried on.

use std::path::Path;

use super::{LoadError, Port};
use crate::tensor::{self, Data, Datatype, Tensor};

/// Reads a model file that is not over the limit.
///
/// # Errors
/// [`LoadError::File`], [`LoadError::TooLarge`].
pub fn read_file(path: &Path, max_bytes: u64) -> Result<Vec<u8>, LoadError> {
    use std::io::Read as _;
    let failed = |source| LoadError::File {
        path: path.display().to_string(),
        source,
    };
    let too_large = |bytes| LoadError::TooLarge { bytes, limit: max_bytes };
    // Looked at first: opening a pipe would wait for its writer.
    let meta = std::fs::metadata(path).map_err(failed)?;
    if !meta.is_file() {
        return Err(failed(std::io::Error::other("is no regular file; name a model file (.onnx)")));
    }
    if meta.len() > max_bytes {
        return Err(too_large(meta.len()));
    }
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

pub(super) fn zeros(ports: &[Port], shapes: &[Vec<usize>]) -> Result<Vec<Tensor>, LoadError> {
    let tensors = ports.iter().zip(shapes).map(|(port, shape)| {
        Tensor::zeros(port.datatype, shape.clone()).map_err(|e| LoadError::Port {
            name: port.name.clone(),
            reason: e.to_string(),
        })
    });
    tensors.collect()
}

/// Uneven values between -1 and 1; integers are 0 or 1, which most tables have a row for.
pub(super) fn patterned(datatype: Datatype, shape: Vec<usize>, seed: usize) -> Option<Tensor> {
    let n = tensor::count(&shape).ok()?;
    let value = |i: usize| ((i + 7 * seed) as f64 * 0.37 + seed as f64).sin();
    let bit = |i: usize| (i / 2 + seed) % 2;
    let data = match datatype {
        Datatype::Bool => Data::Bool((0..n).map(|i| bit(i) == 1).collect()),
        Datatype::U8 => Data::U8((0..n).map(|i| bit(i) as u8).collect()),
        Datatype::I8 => Data::I8((0..n).map(|i| bit(i) as i8).collect()),
        Datatype::I32 => Data::I32((0..n).map(|i| bit(i) as i32).collect()),
        Datatype::I64 => Data::I64((0..n).map(|i| bit(i) as i64).collect()),
        Datatype::F32 => Data::F32((0..n).map(|i| value(i) as f32).collect()),
        Datatype::F64 => Data::F64((0..n).map(value).collect()),
    };
    Tensor::new(shape, data).ok()
}
