//! What training reads: rows of any kind of data, batch by batch.

use std::io::{BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::arrays::ArrayRows;
use super::csv::{self, Fields, GZIP_MAGIC};
use super::idx::{self, IdxRows};
use super::table::{StreamedCsv, features_batch};
use super::{DataError, Dataset, Limits};
use crate::Batch;
use crate::array::Array;

/// What an NPY file begins with.
pub(super) const NPY_MAGIC: &[u8] = b"\x93NUMPY";

/// Rows of data. Which row comes when is the caller's business, so that an order can be drawn, split and resumed.
pub trait Source: Send + Sync {
    /// Rows.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows with these indices (less than [`len`](Self::len)), in this order.
    ///
    /// # Errors
    /// [`DataError`] where they have to be read from a file and can't be.
    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError>;

    /// The targets of all rows, an array a head, where they are at hand: so that they can be checked before the first step.
    fn targets(&self) -> Option<Vec<Array>>;

    /// Feeds the bytes that identify this data, to be hashed. They hold the data itself: hash them, never send or log them.
    ///
    /// # Errors
    /// [`DataError`] where they have to be read from a file and can't be.
    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) -> Result<(), DataError>;
}

impl Source for Dataset {
    fn len(&self) -> usize {
        self.targets.len()
    }

    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError> {
        features_batch(&self.features, self.n_features, &[&self.targets], rows)
    }

    fn targets(&self) -> Option<Vec<Array>> {
        Some(vec![Array::float_list(self.targets.clone())])
    }

    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) -> Result<(), DataError> {
        feed(&self.fingerprint_bytes());
        Ok(())
    }
}

/// Some rows of a source: a split, in which row `i` is row `rows[i]` of the whole.
pub struct Subset {
    source: Arc<dyn Source>,
    rows: Vec<usize>,
}

impl std::fmt::Debug for Subset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subset").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

impl Subset {
    /// `None` when one of `rows` is past the end.
    pub fn new(source: Arc<dyn Source>, rows: Vec<usize>) -> Option<Self> {
        let len = source.len();
        rows.iter().all(|&row| row < len).then_some(Self { source, rows })
    }

    /// Indices into the whole.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError> {
        let rows: Vec<usize> = rows.iter().map(|&row| self.rows[row]).collect();
        self.source.batch(&rows)
    }

    fn targets(&self) -> Option<Vec<Array>> {
        let all = self.source.targets()?;
        all.iter().map(|array| array.select_rows(&self.rows)).collect()
    }

    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) -> Result<(), DataError> {
        self.source.fingerprint(feed)?;
        self.rows.iter().for_each(|&row| feed(&(row as u64).to_le_bytes()));
        Ok(())
    }
}

/// What of a data file is used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Columns or arrays that feed the model, in the order of its inputs. Empty: all columns but the targets; the arrays named like the
    /// model's inputs.
    pub inputs: Vec<String>,
    /// Columns or arrays to predict, one a head.
    pub targets: Vec<String>,
    /// Names of the inputs that the model needs, in order.
    pub model_inputs: Vec<String>,
    /// The file of labels that goes with an IDX file of images or an NPY file; for images it is found by MNIST's names where absent.
    pub labels: Option<PathBuf>,
}

/// Opens a data file, of the kind that its first bytes tell:
///
/// - CSV with a header (`.csv`, `.csv.gz`): columns of numbers. A plain file past [`Limits::resident_bytes`] is read batch by batch.
/// - NPZ: arrays whose first axis is the row; `weights` weighs the rows, if it is there. Arrays that are stored, not deflated, are read
///   batch by batch once they are past [`Limits::resident_bytes`].
/// - NPY, with the targets in another NPY file ([`Wanted::labels`]).
/// - IDX images of unsigned bytes (packed with gzip or not) with their labels; pixels become 0 to 1.
///
/// # Errors
/// [`DataError`] with what to do about it.
pub fn open(path: &Path, wanted: &Wanted, limits: &Limits) -> Result<Box<dyn Source>, DataError> {
    let name = path.display().to_string();
    let (magic, packed) = beginning(path, &name)?;
    if magic.starts_with(b"PK") {
        return Ok(Box::new(ArrayRows::open(path, wanted, limits)?));
    }
    if magic.starts_with(NPY_MAGIC) {
        return match &wanted.labels {
            Some(labels) if wanted.targets.len() <= 1 => Ok(Box::new(ArrayRows::open_pair(path, labels, limits)?)),
            Some(_) => Err(DataError::parse(
                &name,
                0,
                0,
                "has one array of targets, the job has several heads; use an .npz file",
            )),
            None => {
                let problem = "is one array; name the file of the targets with --labels, or put both into one file with numpy.savez(file, input=..., target=...)";
                Err(DataError::parse(&name, 0, 0, problem))
            }
        };
    }
    if magic.starts_with(&[0, 0]) && magic.len() >= 4 {
        if wanted.targets.len() > 1 {
            let problem = "IDX files have one target, the job has several heads; use an .npz file";
            return Err(DataError::parse(&name, 0, 0, problem));
        }
        let labels = match &wanted.labels {
            Some(labels) => labels.clone(),
            None => idx::labels_beside(path)?,
        };
        return Ok(Box::new(IdxRows::open(path, &labels, limits)?));
    }
    open_csv(path, packed, Fields::whole(&wanted.inputs, &wanted.targets), limits)
}

/// A CSV, in memory or read batch by batch.
pub(super) fn open_csv(path: &Path, packed: bool, fields: Fields<'_>, limits: &Limits) -> Result<Box<dyn Source>, DataError> {
    let name = path.display().to_string();
    let size = std::fs::metadata(path).map_err(|e| DataError::io(&name, e))?.len();
    if !packed && size > limits.resident_bytes {
        return Ok(Box::new(StreamedCsv::open(path, fields, limits)?));
    }
    let (file, _) = csv::open(path, limits)?;
    Ok(Box::new(csv::parse(&name, file, fields, limits)?))
}

/// The same for a file that is in memory, `name` being for messages: a CSV or an NPZ file.
///
/// # Errors
/// [`DataError`] with what to do about it.
pub fn open_bytes(name: &str, bytes: &[u8], wanted: &Wanted, limits: &Limits) -> Result<Box<dyn Source>, DataError> {
    if bytes.starts_with(b"PK") {
        let io = |e| DataError::io(name, e);
        let mut file = tempfile::tempfile().map_err(io)?;
        file.write_all(bytes).map_err(io)?;
        return Ok(Box::new(ArrayRows::read(
            name.to_owned(),
            file,
            bytes.len() as u64,
            wanted,
            limits,
        )?));
    }
    let single = match bytes {
        _ if bytes.starts_with(NPY_MAGIC) => {
            Some("is one array; put inputs and targets into one file with numpy.savez(file, input=..., target=...)")
        }
        [0, 0, ..] => Some("holds images or labels alone; put both into one file with numpy.savez, or use a CSV"),
        _ => None,
    };
    if let Some(problem) = single {
        return Err(DataError::parse(name, 0, 0, problem));
    }
    Ok(Box::new(csv::parse(
        name,
        bytes,
        Fields::whole(&wanted.inputs, &wanted.targets),
        limits,
    )?))
}

/// The first bytes once unpacked, and whether they were packed.
pub(super) fn beginning(path: &Path, name: &str) -> Result<(Vec<u8>, bool), DataError> {
    let unbounded = Limits {
        max_bytes: u64::MAX,
        ..Limits::default()
    };
    let (file, _) = csv::open(path, &unbounded)?;
    let mut raw = [0; 2];
    let n = (&file).take(2).read(&mut raw).map_err(|e| DataError::io(name, e))?;
    let (file, _) = csv::open(path, &unbounded)?;
    let mut magic = Vec::new();
    let mut content = csv::unpacked(name, BufReader::new(file), &unbounded)?.take(6);
    // What is wrong with a damaged archive is said by the reader of the whole.
    let _ = content.read_to_end(&mut magic);
    Ok((magic, raw[..n] == GZIP_MAGIC))
}

#[cfg(test)]
mod tests;
