//! NPZ, numpy's zip of arrays.

use std::collections::BTreeMap;
use std::path::Path;

use super::csv::open;
use super::zip::{self, Entry};
use super::{DataError, Limits, npy};
use crate::array::Array;

/// Reads an `.npz` file as numpy.savez and savez_compressed write it: arrays by name, each read as [`read_npy`](super::read_npy) does.
///
/// # Errors
/// [`DataError`]: as for `.npy`, and for an archive that is damaged, encrypted, holds other files than arrays or one name twice.
/// The limits hold for the file, for what it unpacks to, and for the values in memory, all arrays together.
pub fn read_npz(path: &Path, limits: &Limits) -> Result<BTreeMap<String, Array>, DataError> {
    let name = path.display().to_string();
    let (file, size) = open(path, limits)?;
    let mut left = *limits;
    let mut arrays = BTreeMap::new();
    for entry in zip::directory(&name, &file, size)? {
        let key = key(&name, &entry)?;
        if entry.bytes > left.max_bytes {
            return Err(too_large(&name, limits));
        }
        let inner = format!("{name}:{key}");
        let array = zip::content(&name, &file, &entry, |content| npy::parse(&inner, content, &left))?;
        left.max_bytes -= entry.bytes.max(8 * array.values().len() as u64).min(left.max_bytes);
        arrays.insert(key.to_owned(), array);
    }
    Ok(arrays)
}

/// An array's name: the file's without `.npy`.
pub(super) fn key<'a>(name: &str, entry: &'a Entry) -> Result<&'a str, DataError> {
    entry.name.strip_suffix(".npy").ok_or_else(|| {
        let shown: String = entry.name.chars().take(80).collect();
        DataError::parse(
            name,
            0,
            0,
            format!("holds `{shown}`, which is not an array; save it with numpy.savez"),
        )
    })
}

pub(super) fn too_large(name: &str, limits: &Limits) -> DataError {
    let problem = format!(
        "unpacks to more than {} bytes, the limit; split it, store it with numpy.savez, or raise the limit",
        limits.max_bytes
    );
    DataError::parse(name, 0, 0, problem)
}

#[cfg(test)]
mod tests;
