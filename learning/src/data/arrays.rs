//! Arrays as rows: those of an NPZ file (several inputs, several targets, weights), or two NPY files.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use super::csv::{listed, open};
use super::zip::{self, Entry};
use super::{Column, DataError, Limits, Source, Wanted, npy, npz};
use crate::Batch;
use crate::array::{Array, Values};

/// The array that weighs rows.
const WEIGHTS: &str = "weights";
/// Targets that take more than this are checked batch by batch.
const TARGETS_AT_HAND_BYTES: u64 = 64 << 20;

/// One array, its first axis the row.
#[derive(Debug)]
struct Rows {
    key: String,
    header: npy::Header,
    place: Place,
}

/// Where its values are.
#[derive(Debug)]
enum Place {
    /// In memory as they are in the file, which may be a quarter of what they are once decoded.
    Packed(Vec<u8>),
    /// In memory, as they were not in C's order.
    Whole(Array),
    /// In a file, from this byte on.
    File(Arc<File>, u64),
}

/// See [`open`](super::open()).
#[derive(Debug)]
pub(super) struct ArrayRows {
    name: String,
    arrays: Vec<Rows>,
    /// Indices of `arrays`.
    inputs: Vec<usize>,
    targets: Vec<usize>,
    weights: Option<usize>,
    /// Whether floats may be no finite numbers; else they are refused.
    gaps: bool,
    len: usize,
}

impl ArrayRows {
    pub(super) fn open(path: &Path, wanted: &Wanted, limits: &Limits) -> Result<Self, DataError> {
        let (name, file, size) = file_of(path, limits)?;
        Self::read(name, file, size, wanted, limits)
    }

    pub(super) fn read(name: String, file: File, size: u64, wanted: &Wanted, limits: &Limits) -> Result<Self, DataError> {
        Self::read_chosen(name, file, size, limits, |name, keys| choose(name, keys, wanted))
    }

    /// Arrays that are read as they are, with their gaps.
    pub(super) fn open_columns(path: &Path, columns: &[String], limits: &Limits) -> Result<Self, DataError> {
        let (name, file, size) = file_of(path, limits)?;
        let rows = Self::read_chosen(name, file, size, limits, |name, keys| {
            let find = |key: &String| {
                keys.iter()
                    .copied()
                    .find(|k| k == key)
                    .ok_or_else(|| missing(name, keys, "the job", key))
            };
            Ok(Chosen {
                inputs: columns.iter().map(find).collect::<Result<_, _>>()?,
                targets: Vec::new(),
                weights: None,
            })
        })?;
        Ok(Self { gaps: true, ..rows })
    }

    fn read_chosen(
        name: String,
        file: File,
        size: u64,
        limits: &Limits,
        choose: impl for<'a> FnOnce(&str, &[&'a str]) -> Result<Chosen<'a>, DataError>,
    ) -> Result<Self, DataError> {
        let entries = zip::directory(&name, &file, size)?;
        let keys: Vec<&str> = entries.iter().map(|e| npz::key(&name, e)).collect::<Result<_, _>>()?;
        let chosen = choose(&name, &keys)?;
        let file = Arc::new(file);
        let mut left = *limits;
        let mut arrays: Vec<Rows> = Vec::new();
        let mut place = |key: &str| -> Result<usize, DataError> {
            if let Some(known) = arrays.iter().position(|a| a.key == key) {
                return Ok(known);
            }
            let at = keys.iter().position(|k| *k == key).unwrap_or_default();
            arrays.push(Rows::open(&name, &file, key, &entries[at], limits, &mut left)?);
            Ok(arrays.len() - 1)
        };
        let inputs = chosen.inputs.iter().map(|k| place(k)).collect::<Result<_, _>>()?;
        let targets = chosen.targets.iter().map(|k| place(k)).collect::<Result<_, _>>()?;
        let weights = chosen.weights.map(&mut place).transpose()?;
        let source = Self::new(name, arrays, limits)?;
        let source = Self {
            inputs,
            targets,
            weights,
            ..source
        };
        if let Some(weights) = source.weights
            && source.arrays[weights].header.shape.len() != 1
        {
            let problem = "the array `weights` is not a list; give one number a row, or another name";
            return Err(DataError::parse(&source.name, 0, 0, problem));
        }
        Ok(source)
    }

    /// One input and one target, each a file of its own.
    pub(super) fn open_pair(input: &Path, target: &Path, limits: &Limits) -> Result<Self, DataError> {
        let mut left = *limits;
        let arrays = [(input, "input"), (target, "target")].map(|(path, key)| Rows::of_file(path, key, limits, &mut left));
        let [input_rows, target_rows] = arrays;
        Self::new(input.display().to_string(), vec![input_rows?, target_rows?], limits)
    }

    /// The first array feeds the model, the second is predicted.
    fn new(name: String, arrays: Vec<Rows>, limits: &Limits) -> Result<Self, DataError> {
        let first = &arrays[0];
        let len = first.len();
        if let Some(other) = arrays.iter().find(|a| a.len() != len) {
            let problem = format!(
                "the array `{}` has {len} rows (its first axis), `{}` has {}; every array needs one row an example",
                first.key,
                other.key,
                other.len()
            );
            return Err(DataError::parse(&name, 0, 0, problem));
        }
        if len == 0 || len > limits.max_rows {
            let problem = format!("its arrays have {len} rows; give 1 to {}", limits.max_rows);
            return Err(DataError::parse(&name, 0, 0, problem));
        }
        Ok(Self {
            name,
            arrays,
            inputs: vec![0],
            targets: vec![1],
            weights: None,
            gaps: false,
            len,
        })
    }

    fn rows(&self, array: usize, rows: &[usize]) -> Result<Array, DataError> {
        let array = &self.arrays[array];
        let wrong = |problem: String| DataError::parse(&self.name, 0, 0, format!("the array `{}` {problem}", array.key));
        let row_bytes = usize::try_from(array.header.data_bytes()).unwrap_or(usize::MAX) / self.len;
        let mut bytes = Vec::with_capacity(row_bytes.saturating_mul(rows.len()));
        match &array.place {
            Place::Whole(whole) => return whole.select_rows(rows).ok_or_else(|| wrong("has no such rows".to_owned())),
            Place::Packed(all) => rows
                .iter()
                .for_each(|&row| bytes.extend_from_slice(&all[row * row_bytes..][..row_bytes])),
            Place::File(file, begin) => {
                bytes.resize(row_bytes.saturating_mul(rows.len()), 0);
                let mut left = &mut bytes[..];
                // Rows that follow each other in the file are read at once.
                for run in rows.chunk_by(|row, next| row.checked_add(1) == Some(*next)) {
                    let (place, rest) = left.split_at_mut(row_bytes * run.len());
                    left = rest;
                    let at = begin + (run[0] as u64) * row_bytes as u64;
                    file.read_exact_at(place, at).map_err(|e| DataError::io(&self.name, e))?;
                }
            }
        }
        let values = array.header.element.decode(&bytes).map_err(wrong)?;
        if let Values::Floats(values) = &values
            && !self.gaps
            && let Some(at) = values.iter().position(|v| !v.is_finite())
        {
            let row = rows[at * rows.len() / values.len()];
            return Err(wrong(format!("holds {} in row {}; correct the data", values[at], row + 1)));
        }
        let shape = [&[rows.len()], &array.header.shape[1..]].concat();
        Array::new(shape, values).ok_or_else(|| wrong("was changed while it was in use; start again".to_owned()))
    }
}

/// An archive's name, the file and its size.
fn file_of(path: &Path, limits: &Limits) -> Result<(String, File, u64), DataError> {
    let unbounded = Limits {
        max_bytes: u64::MAX,
        ..*limits
    };
    let (file, size) = open(path, &unbounded)?;
    Ok((path.display().to_string(), file, size))
}

/// The arrays of an archive, each read to its end.
pub(super) fn columns(path: &Path, limits: &Limits) -> Result<(usize, Vec<Column>), DataError> {
    let (name, file, size) = file_of(path, limits)?;
    let (mut rows, mut columns, file) = (None, Vec::new(), Arc::new(file));
    for entry in zip::directory(&name, &file, size)? {
        let key = npz::key(&name, &entry)?;
        let array = Rows::open(&name, &file, key, &entry, limits, &mut limits.clone())?;
        if rows.is_some_and(|rows| rows != array.len()) {
            let problem = format!("the array `{key}` has another number of rows (its first axis) than those before it");
            return Err(DataError::parse(&name, 0, 0, problem));
        }
        rows = Some(array.len());
        columns.push(Column {
            name: array.key,
            shape: array.header.shape[1..].to_vec(),
        });
    }
    let empty = || DataError::parse(&name, 0, 0, "holds no arrays; save inputs and targets with numpy.savez");
    Ok((rows.ok_or_else(empty)?, columns))
}

impl Rows {
    fn open(name: &str, shared: &Arc<File>, key: &str, entry: &Entry, limits: &Limits, left: &mut Limits) -> Result<Self, DataError> {
        let file: &File = shared;
        let inner = format!("{name}:{key}");
        let streamed = !entry.deflated && entry.bytes > limits.resident_bytes;
        if !streamed && entry.bytes > left.max_bytes {
            return Err(npz::too_large(name, limits));
        }
        let scalar = || DataError::parse(&inner, 0, 0, "is a single number; every array needs one row an example");
        if !streamed {
            let (header, place) = zip::content(name, file, entry, |content| {
                let header = npy::Header::read(&inner, content)?;
                let place = if header.fortran && header.shape.len() > 1 {
                    Place::Whole(npy::parse_values(&inner, header.clone(), content, left)?)
                } else {
                    Place::Packed(npy::body(&inner, &header, content)?)
                };
                Ok((header, place))
            })?;
            let kept = match place {
                Place::Whole(_) => header.data_bytes().max(header.decoded_bytes()),
                Place::Packed(_) | Place::File(..) => header.data_bytes(),
            };
            left.max_bytes -= kept.min(left.max_bytes);
            let rows = Self {
                key: key.to_owned(),
                header,
                place,
            };
            return if rows.header.shape.is_empty() { Err(scalar()) } else { Ok(rows) };
        }
        let header = zip::content(name, file, entry, |content| npy::Header::read(&inner, content))?;
        if header.shape.is_empty() {
            return Err(scalar());
        }
        if header.fortran && header.shape.len() > 1 {
            let problem = "is too large to be brought into C's order; save it with numpy.ascontiguousarray";
            return Err(DataError::parse(&inner, 0, 0, problem));
        }
        if header.header_bytes + header.data_bytes() != entry.bytes {
            return Err(DataError::parse(
                &inner,
                0,
                0,
                "does not hold what its header asks for; save it again",
            ));
        }
        Ok(Self {
            key: key.to_owned(),
            place: Place::File(shared.clone(), entry.offset + header.header_bytes),
            header,
        })
    }

    /// The array of an NPY file.
    fn of_file(path: &Path, key: &str, limits: &Limits, left: &mut Limits) -> Result<Self, DataError> {
        let (name, file, size) = file_of(path, limits)?;
        let header = npy::Header::read(&name, &mut &file)?;
        if header.shape.is_empty() {
            return Err(DataError::parse(
                &name,
                0,
                0,
                "is a single number; an array needs one row an example",
            ));
        }
        let in_order = !header.fortran || header.shape.len() < 2;
        let place = if in_order && size > limits.resident_bytes {
            if header.header_bytes.saturating_add(header.data_bytes()) != size {
                let problem = "does not hold what its header asks for; save it again";
                return Err(DataError::parse(&name, 0, 0, problem));
            }
            Place::File(Arc::new(file), header.header_bytes)
        } else if size.max(header.decoded_bytes()) > left.max_bytes {
            return Err(npz::too_large(&name, limits));
        } else if in_order {
            Place::Packed(npy::body(&name, &header, &file)?)
        } else {
            Place::Whole(npy::read_npy(path, left)?)
        };
        if !matches!(place, Place::File(..)) {
            left.max_bytes -= size.max(header.decoded_bytes()).min(left.max_bytes);
        }
        Ok(Self {
            key: key.to_owned(),
            header,
            place,
        })
    }

    fn len(&self) -> usize {
        self.header.shape[0]
    }
}

/// Names of the arrays that are used.
struct Chosen<'a> {
    inputs: Vec<&'a str>,
    targets: Vec<&'a str>,
    weights: Option<&'a str>,
}

fn missing(name: &str, keys: &[&str], what: &str, key: &str) -> DataError {
    let names: Vec<String> = keys.iter().map(|&k| k.to_owned()).collect();
    let problem = format!("there is no array `{key}` for {what}; the file has {}", listed(&names));
    DataError::parse(name, 0, 0, problem)
}

fn choose<'a>(name: &str, keys: &[&'a str], wanted: &Wanted) -> Result<Chosen<'a>, DataError> {
    let missing = |what: &str, key: &str| missing(name, keys, what, key);
    let find = |key: &String| keys.iter().copied().find(|k| k == key);
    let targets: Vec<&str> = wanted
        .targets
        .iter()
        .map(|key| find(key).ok_or_else(|| missing("the target", key)))
        .collect::<Result<_, _>>()?;
    let free: Vec<&str> = keys.iter().copied().filter(|k| !targets.contains(k) && *k != WEIGHTS).collect();
    let inputs: Vec<&str> = match (&wanted.inputs[..], &wanted.model_inputs[..], &free[..]) {
        // One input and one array: their names need not be the same.
        ([], [input], [only]) if find(input).is_none() => vec![*only],
        ([], needed, _) => needed
            .iter()
            .map(|key| find(key).ok_or_else(|| missing("the model's input of this name", key)))
            .collect::<Result<_, _>>()?,
        (listed, ..) => listed
            .iter()
            .map(|key| find(key).ok_or_else(|| missing("the model's input", key)))
            .collect::<Result<_, _>>()?,
    };
    // Rows that are only asked about have no targets, and nobody names any.
    if inputs.is_empty() {
        return Err(DataError::parse(name, 0, 0, "nothing of it is an input; name one"));
    }
    if let Some(both) = targets.iter().find(|t| inputs.contains(t)) {
        let problem = format!("the target `{both}` is also an input; take it out of the inputs");
        return Err(DataError::parse(name, 0, 0, problem));
    }
    let used = |key: &str| inputs.contains(&key) || targets.contains(&key);
    let weights = keys.iter().copied().find(|&k| k == WEIGHTS && !used(k));
    Ok(Chosen { inputs, targets, weights })
}

fn floats(values: Values) -> Vec<f32> {
    match values {
        Values::Floats(values) => values,
        Values::Ints(values) => values.into_iter().map(|v| v as f32).collect(),
        Values::Bools(values) => values.into_iter().map(|v| f32::from(u8::from(v))).collect(),
    }
}

impl Source for ArrayRows {
    fn len(&self) -> usize {
        self.len
    }

    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError> {
        let all = |arrays: &[usize]| -> Result<Vec<Array>, DataError> { arrays.iter().map(|&array| self.rows(array, rows)).collect() };
        let weights = self.weights.map(|array| self.rows(array, rows)).transpose()?;
        let weights = weights.map(|array| floats(array.into_values()));
        if let Some(at) = weights.iter().flatten().position(|&w| w < 0.0) {
            let problem = format!(
                "the array `{WEIGHTS}` is negative in row {}; give each row a weight of 0 or more",
                rows[at] + 1
            );
            return Err(DataError::parse(&self.name, 0, 0, problem));
        }
        Ok(Batch {
            inputs: all(&self.inputs)?,
            targets: all(&self.targets)?,
            weights,
            flat: true,
        })
    }

    fn targets(&self) -> Option<Vec<Array>> {
        let bytes: u64 = self.targets.iter().map(|&array| self.arrays[array].header.decoded_bytes()).sum();
        if bytes > TARGETS_AT_HAND_BYTES {
            return None;
        }
        let every: Vec<usize> = (0..self.len).collect();
        self.targets.iter().map(|&array| self.rows(array, &every).ok()).collect()
    }

    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) -> Result<(), DataError> {
        /// Bytes at once.
        const PIECE: usize = 1 << 20;
        feed(b"aimass/arrays/1");
        let used = self.inputs.iter().chain(&self.targets).chain(&self.weights);
        for &array in used {
            let array = &self.arrays[array];
            feed(format!("{}|{:?}|{:?}|", array.key, array.header.element, array.header.shape).as_bytes());
            let row_bytes = usize::try_from(array.header.data_bytes()).unwrap_or(usize::MAX) / self.len;
            match &array.place {
                Place::Packed(bytes) => feed(bytes),
                Place::Whole(whole) => match whole.values() {
                    Values::Floats(values) => values.iter().for_each(|v| feed(&v.to_le_bytes())),
                    Values::Ints(values) => values.iter().for_each(|v| feed(&v.to_le_bytes())),
                    Values::Bools(values) => values.iter().for_each(|&v| feed(&[u8::from(v)])),
                },
                Place::File(file, begin) => {
                    let mut buffer = vec![0; PIECE];
                    let (mut at, end) = (*begin, begin + (row_bytes * self.len) as u64);
                    while at < end {
                        let n = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                        file.read_exact_at(&mut buffer[..n], at).map_err(|e| DataError::io(&self.name, e))?;
                        feed(&buffer[..n]);
                        at += n as u64;
                    }
                }
            }
        }
        Ok(())
    }
}
