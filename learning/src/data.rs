//! Training data: rows of features and targets, from files of several formats, in memory or read batch by batch.

mod arrays;
mod columns;
mod csv;
mod describe;
mod error;
mod idx;
mod joined;
mod npy;
mod npz;
mod partition;
mod source;
mod table;
mod zip;

use std::path::Path;

pub use columns::Columns;
pub use describe::{Column, Description, describe};
pub use error::{DataError, PartitionError};
pub use joined::Joined;
pub use npy::{read_npy, write_npy};
pub use npz::read_npz;
pub(crate) use partition::shuffle;
pub use partition::{partition_dirichlet, split, split_stratified};
pub use source::{Source, Subset, Wanted, open, open_bytes};

/// What a data file may hold at most. A file past a limit is refused before its content is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a file that is read into memory, and of its content once unpacked.
    pub max_bytes: u64,
    /// Bytes that [`open`] reads into memory where the format lets it read batch by batch as well. Such files have no limit of bytes.
    pub resident_bytes: u64,
    /// Columns of a CSV, pixels of an IDX image.
    pub max_columns: usize,
    /// Rows.
    pub max_rows: usize,
}

impl Default for Limits {
    /// 1 GiB (256 MiB resident), 100,000 columns, 20,000,000 rows.
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            resident_bytes: 256 << 20,
            max_columns: 100_000,
            max_rows: 20_000_000,
        }
    }
}

/// Rows in memory. `features`: `[len, n_features]` row-major. `targets`: `[len]` (a class index, or a value to regress).
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    features: Vec<f32>,
    targets: Vec<f32>,
    n_features: usize,
}

impl Dataset {
    /// From parts; `None` unless `features` holds exactly `n_features` (at least 1) values for every target.
    pub fn new(features: Vec<f32>, targets: Vec<f32>, n_features: usize) -> Option<Self> {
        let fits = n_features > 0 && targets.len().checked_mul(n_features) == Some(features.len());
        fits.then_some(Self {
            features,
            targets,
            n_features,
        })
    }

    /// Reads a CSV with a header (`.csv` or `.csv.gz`): `inputs` names the feature columns in order (empty: all but the target).
    ///
    /// # Errors
    /// [`DataError`] with file, line and column.
    pub fn read_csv(path: &Path, inputs: &[String], target: &str) -> Result<Self, DataError> {
        Self::read_csv_within(path, inputs, target, &Limits::default())
    }

    /// [`read_csv`](Self::read_csv) with other limits.
    ///
    /// # Errors
    /// [`DataError`] with file, line and column.
    pub fn read_csv_within(path: &Path, inputs: &[String], target: &str, limits: &Limits) -> Result<Self, DataError> {
        let name = path.display().to_string();
        let (file, _) = csv::open(path, limits)?;
        Ok(Self::one_target(csv::parse(
            &name,
            file,
            csv::Fields::whole(inputs, &[target.to_owned()]),
            limits,
        )?))
    }

    fn one_target(mut table: csv::Table) -> Self {
        Self {
            features: table.features,
            targets: table.targets.pop().unwrap_or_default(),
            n_features: table.n_features,
        }
    }

    /// The same from bytes (`name` is for errors; gzip is recognised by its magic).
    ///
    /// # Errors
    /// [`DataError`] with file, line and column.
    pub fn from_csv_bytes(name: &str, bytes: &[u8], inputs: &[String], target: &str) -> Result<Self, DataError> {
        let table = csv::parse(name, bytes, csv::Fields::whole(inputs, &[target.to_owned()]), &Limits::default())?;
        Ok(Self::one_target(table))
    }

    /// Reads a pair of IDX files of unsigned bytes, as MNIST is published (packed with gzip or not). Pixels become 0 to 1 (value / 255).
    ///
    /// # Errors
    /// [`DataError`]; a header's sizes are compared with the bytes that are there before anything is allocated.
    /// # Source
    /// The IDX format of Y. LeCun's MNIST page: two zero bytes, type 0x08, rank, then big-endian u32 sizes.
    pub fn read_idx(images: &Path, labels: &Path, limits: &Limits) -> Result<Self, DataError> {
        idx::read(images, labels, limits)
    }

    /// Writes a CSV that [`read_csv`](Self::read_csv) reads back to the same values; `columns` names the features.
    ///
    /// # Errors
    /// [`DataError::Io`]; [`DataError::Columns`] when there are not as many names as features, or one is the target's.
    pub fn write_csv(&self, path: &Path, columns: &[String], target: &str) -> Result<(), DataError> {
        csv::write(self, path, columns, target)
    }

    /// The rows with these indices, in this order; `None` when one is past the end.
    pub fn select(&self, rows: &[usize]) -> Option<Self> {
        let mut features = Vec::with_capacity(rows.len() * self.n_features);
        let mut targets = Vec::with_capacity(rows.len());
        for &row in rows {
            targets.push(*self.targets.get(row)?);
            features.extend_from_slice(&self.features[row * self.n_features..][..self.n_features]);
        }
        Some(Self {
            features,
            targets,
            n_features: self.n_features,
        })
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.targets.len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }
    /// Features a row.
    pub fn n_features(&self) -> usize {
        self.n_features
    }
    /// All features, `[len, n_features]` row-major.
    pub fn features(&self) -> &[f32] {
        &self.features
    }
    /// All targets.
    pub fn targets(&self) -> &[f32] {
        &self.targets
    }

    /// The bytes that identify this data, to be hashed by the caller: `"aimass/dataset/1"`, rows and features a row as u64, then all
    /// features and all targets as f32, everything little-endian. They hold the data itself: hash them, never send or log them.
    pub fn fingerprint_bytes(&self) -> Vec<u8> {
        const TAG: &[u8] = b"aimass/dataset/1";
        let mut bytes = Vec::with_capacity(TAG.len() + 16 + 4 * (self.features.len() + self.targets.len()));
        bytes.extend_from_slice(TAG);
        bytes.extend_from_slice(&(self.targets.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&(self.n_features as u64).to_le_bytes());
        for value in self.features.iter().chain(&self.targets) {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests;
