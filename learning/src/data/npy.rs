//! NPY, numpy's file of one array, versions 1 to 3.
//!
//! Source: numpy.lib.format in numpy's reference. The header is the text of a Python dict with exactly the keys `descr`,
//! `fortran_order` and `shape`; the values follow without a gap.

mod header;

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

pub(super) use header::Header;

use super::csv::open;
use super::{DataError, Limits};
use crate::array::{Array, Values};

/// Bytes that are read at once: whole elements of any type.
const AT_ONCE: usize = 64 << 10;

/// Reads an `.npy` file: little-endian f4, f8, i1 to i8, u1 to u4 and b1. Floats become float32, integers int64. An array in Fortran's
/// order is brought into C's.
///
/// # Errors
/// [`DataError`] for other types, a file that is cut off or goes on after the array, one past the limits (of its own bytes, and of the
/// values in memory), and a float64 that float32 can't hold. The header's sizes allocate nothing before the bytes are there.
pub fn read_npy(path: &Path, limits: &Limits) -> Result<Array, DataError> {
    let name = path.display().to_string();
    let (file, _) = open(path, limits)?;
    parse(&name, BufReader::new(file), limits)
}

/// Writes an array as an `.npy` file of version 1: `<f4`, `<i8` or `|b1`.
///
/// # Errors
/// [`DataError::Io`].
pub fn write_npy(path: &Path, array: &Array) -> Result<(), DataError> {
    let name = path.display().to_string();
    let io = |e| DataError::io(&name, e);
    let mut file = BufWriter::new(File::create(path).map_err(io)?);
    file.write_all(&header::to_bytes(array)).map_err(io)?;
    match array.values() {
        Values::Floats(values) => values.iter().try_for_each(|v| file.write_all(&v.to_le_bytes())),
        Values::Ints(values) => values.iter().try_for_each(|v| file.write_all(&v.to_le_bytes())),
        Values::Bools(values) => values.iter().try_for_each(|&v| file.write_all(&[u8::from(v)])),
    }
    .and_then(|()| file.flush())
    .map_err(io)
}

/// Reads one array; `content` has to end with it.
pub(super) fn parse(name: &str, mut content: impl Read, limits: &Limits) -> Result<Array, DataError> {
    let header = Header::read(name, &mut content)?;
    parse_values(name, header, content, limits)
}

/// Reads the values of an array whose header was read. They are decoded as they come, so that beside them no bytes are kept.
pub(super) fn parse_values(name: &str, header: Header, content: impl Read, limits: &Limits) -> Result<Array, DataError> {
    let wrong = |problem: String| DataError::parse(name, 0, 0, problem);
    let largest = header.data_bytes().max(header.decoded_bytes());
    if largest > limits.max_bytes {
        return Err(wrong(format!(
            "its array of the shape {:?} takes {largest} bytes, the limit is {}; split it or raise the limit",
            header.shape, limits.max_bytes
        )));
    }
    let mut values = header.element.decode(&[]).map_err(wrong)?;
    pieces(name, &header, content, |bytes| {
        match (&mut values, header.element.decode(bytes).map_err(wrong)?) {
            (Values::Floats(all), Values::Floats(more)) => all.extend(more),
            (Values::Ints(all), Values::Ints(more)) => all.extend(more),
            (Values::Bools(all), Values::Bools(more)) => all.extend(more),
            _ => return Err(wrong("holds elements of several types; save it again".to_owned())),
        }
        Ok(())
    })?;
    let values = if header.fortran { reordered(&header.shape, values) } else { values };
    Array::new(header.shape, values).ok_or_else(|| wrong("its values do not fill its shape; save it again".to_owned()))
}

/// The array's bytes, which must be all that is left. Memory grows with what is there.
pub(super) fn body(name: &str, header: &Header, content: impl Read) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    pieces(name, header, content, |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(bytes)
}

/// Gives the array's bytes, which must be all that is left, in pieces of whole elements.
fn pieces(
    name: &str,
    header: &Header,
    mut content: impl Read,
    mut take: impl FnMut(&[u8]) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let (expected, io) = (header.data_bytes(), |e| DataError::io(name, e));
    let mut buffer = Vec::with_capacity(AT_ONCE);
    let mut there = 0;
    loop {
        buffer.clear();
        // One more than is left, to see whether it ends there.
        let most = (expected - there).min(AT_ONCE as u64 - 1) + 1;
        (&mut content).take(most).read_to_end(&mut buffer).map_err(io)?;
        let n = buffer.len() as u64;
        if there + n > expected {
            let problem = format!("goes on after the {expected} bytes of its array; save it again");
            return Err(DataError::parse(name, 0, 0, problem));
        }
        take(&buffer)?;
        there += n;
        if n < most {
            break;
        }
    }
    if there == expected {
        return Ok(());
    }
    let problem = format!("is cut off: its header asks for {expected} bytes, there are {there}; copy or save it again");
    Err(DataError::parse(name, 0, 0, problem))
}

/// Values in Fortran's order (the first axis runs fastest), in C's.
fn reordered(shape: &[usize], values: Values) -> Values {
    match values {
        Values::Floats(v) => Values::Floats(transposed(shape, &v)),
        Values::Ints(v) => Values::Ints(transposed(shape, &v)),
        Values::Bools(v) => Values::Bools(transposed(shape, &v)),
    }
}

fn transposed<T: Copy>(shape: &[usize], values: &[T]) -> Vec<T> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = 1;
    for &length in shape {
        strides.push(stride);
        stride *= length;
    }
    let mut at = vec![0; shape.len()];
    let mut ordered = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        ordered.push(values[at.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>()]);
        for axis in (0..shape.len()).rev() {
            at[axis] += 1;
            if at[axis] < shape[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    ordered
}

#[cfg(test)]
pub(crate) mod tests;
