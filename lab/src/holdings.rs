//! Which data each client has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aimass_crypto::hash::Sha256;
use aimass_learning::DataError;
use aimass_learning::data::{Joined, Limits, Source, Subset, Wanted, open};
use aimass_recipe::seeds;
use aimass_sim::population::{Partition, Parts, PopulationError};

/// Files of single clients are read batch by batch past this, as many of them are open one after another; so are arrays, whose rows are found without reading
/// others.
const RESIDENT_BYTES: u64 = 8 << 20;
/// Most files of a folder.
const MAX_FILES: usize = 1_000_000;

/// Why clients have no data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HoldingsError {
    /// A file.
    #[error(transparent)]
    Data(#[from] DataError),
    /// How rows are shared out.
    #[error(transparent)]
    Partition(#[from] PopulationError),
    /// A folder.
    #[error("--data {}: {problem}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
}

/// Data of all clients.
pub struct Holdings {
    kind: Kind,
    /// For the report.
    left_out: Vec<String>,
}

enum Kind {
    /// Nothing is trained: so many rows each.
    Counted(u32),
    /// Rows of one source.
    Shared { all: Arc<dyn Source>, parts: Parts },
    /// A file each.
    Files {
        paths: Vec<PathBuf>,
        wanted: Wanted,
        /// Rows and fingerprint of those that were read.
        known: Mutex<BTreeMap<u32, (u32, [u8; 32])>>,
    },
}

impl std::fmt::Debug for Holdings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holdings").finish_non_exhaustive()
    }
}

/// What one client has.
pub struct Holding {
    /// Its rows.
    pub rows: Arc<dyn Source>,
    /// What tells its data from others', for seeds.
    pub fingerprint: [u8; 32],
}

impl std::fmt::Debug for Holding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holding").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

impl Holdings {
    /// Clients that train nothing and count as having so many rows.
    pub fn counted(rows: u32) -> Self {
        Self {
            kind: Kind::Counted(rows),
            left_out: Vec::new(),
        }
    }

    /// Shares out what the files hold. A single folder with [`Partition::Files`] is a file a client; several files are taken as one, in which the file may be
    /// the key. Of a folder, the file of `held_out` data is left out.
    ///
    /// # Errors
    /// [`HoldingsError`], before anything runs.
    pub fn open(
        data: &[PathBuf],
        labels: Option<&Path>,
        held_out: Option<&Path>,
        wanted: &Wanted,
        partition: &Partition,
        clients: u32,
        seed: u64,
    ) -> Result<Self, HoldingsError> {
        let wanted = Wanted {
            labels: labels.map(Path::to_owned),
            ..wanted.clone()
        };
        let Files { paths, left_out } = files(data, held_out)?;
        if matches!(partition, Partition::Files) {
            if paths.len() < clients as usize {
                let problem = format!(
                    "has {} files for {clients} clients; with partition \"files\" each client needs one: add files, or lower --clients",
                    paths.len()
                );
                let path = data.first().cloned().unwrap_or_default();
                return Err(HoldingsError::Folder { path, problem });
            }
            let kind = Kind::Files {
                paths: paths.into_iter().take(clients as usize).collect(),
                wanted,
                known: Mutex::default(),
            };
            return Ok(Self { kind, left_out });
        }
        let (wanted, keys) = match key_of(partition) {
            Some(column) => keys(&paths, column, wanted)?,
            None => (wanted, None),
        };
        let all: Arc<dyn Source> = match &paths[..] {
            [path] => open_shared(path, &wanted)?.into(),
            several => {
                let parts = several.iter().map(|path| open_shared(path, &wanted));
                Arc::new(Joined::new(parts.collect::<Result<_, _>>()?))
            }
        };
        let rows = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let classes = if partition.needs_labels() { labels_of(&*all) } else { None };
        let parts = partition.split(rows, classes.as_deref(), keys.as_deref(), clients, seed)?;
        let kind = Kind::Shared { all, parts };
        Ok(Self { kind, left_out })
    }

    /// What a report has to say about it.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.left_out.clone();
        if let Kind::Shared { parts, .. } = &self.kind {
            notes.extend_from_slice(parts.notes());
        }
        notes
    }

    /// Any client's data, to check the model against: all of it where it is one source.
    ///
    /// # Errors
    /// [`DataError`].
    pub fn sample(&self) -> Result<Option<Arc<dyn Source>>, DataError> {
        match &self.kind {
            Kind::Counted(_) => Ok(None),
            Kind::Shared { all, .. } => Ok(Some(Arc::clone(all))),
            Kind::Files { .. } => Ok(Some(self.client(0)?.rows)),
        }
    }

    /// Rows of a client.
    ///
    /// # Errors
    /// [`DataError`] where its file can't be read.
    pub fn rows(&self, client: u32) -> Result<u32, DataError> {
        match &self.kind {
            Kind::Counted(rows) => Ok(*rows),
            Kind::Shared { parts, .. } => Ok(u32::try_from(parts.rows(client).len()).unwrap_or(u32::MAX)),
            Kind::Files { known, .. } => {
                let seen = known
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get(&client)
                    .map(|(rows, _)| *rows);
                match seen {
                    Some(rows) => Ok(rows),
                    None => Ok(u32::try_from(self.client(client)?.rows.len()).unwrap_or(u32::MAX)),
                }
            }
        }
    }

    /// A client's data.
    ///
    /// # Errors
    /// [`DataError`] where its file can't be read.
    pub fn client(&self, client: u32) -> Result<Holding, DataError> {
        match &self.kind {
            Kind::Counted(_) => Err(DataError::Columns {
                problem: "nothing is trained here, so there are no rows".to_owned(),
            }),
            Kind::Shared { all, parts } => {
                let rows: Vec<usize> = parts.rows(client).iter().map(|&row| row as usize).collect();
                let mut hash = Sha256::new();
                hash.update(b"aimass/part/1");
                hash.update(&(all.len() as u64).to_le_bytes());
                rows.iter().for_each(|row| hash.update(&(*row as u64).to_le_bytes()));
                let rows = Subset::new(Arc::clone(all), rows).ok_or_else(|| DataError::Columns {
                    problem: "a part has rows that are not there".to_owned(),
                })?;
                Ok(Holding {
                    rows: Arc::new(rows),
                    fingerprint: hash.finish(),
                })
            }
            Kind::Files { paths, wanted, known } => {
                let path = paths.get(client as usize).ok_or_else(|| DataError::Columns {
                    problem: format!("client {client} has no file"),
                })?;
                let limits = Limits {
                    resident_bytes: RESIDENT_BYTES,
                    ..Limits::default()
                };
                let rows: Arc<dyn Source> = open(path, wanted, &limits)?.into();
                let seen = known.lock().unwrap_or_else(PoisonError::into_inner).get(&client).copied();
                let fingerprint = match seen {
                    Some((_, fingerprint)) => fingerprint,
                    None => {
                        let fingerprint = seeds::fingerprint(&*rows)?;
                        let n = u32::try_from(rows.len()).unwrap_or(u32::MAX);
                        known
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .insert(client, (n, fingerprint));
                        fingerprint
                    }
                };
                Ok(Holding { rows, fingerprint })
            }
        }
    }
}

/// Data that all clients, or all threads, share.
///
/// # Errors
/// [`DataError`].
pub fn open_shared(path: &Path, wanted: &Wanted) -> Result<Box<dyn Source>, DataError> {
    let mut limits = Limits::default();
    if path.extension().is_some_and(|extension| extension == "npz" || extension == "npy") {
        limits.resident_bytes = RESIDENT_BYTES;
    }
    open(path, wanted, &limits)
}

/// Files of training data, and what to say of others.
struct Files {
    paths: Vec<PathBuf>,
    left_out: Vec<String>,
}

/// The files that are named, those of a folder in the order of their names.
fn files(data: &[PathBuf], held_out: Option<&Path>) -> Result<Files, HoldingsError> {
    let held_out = held_out.and_then(|path| path.canonicalize().ok());
    let mut all = Files {
        paths: Vec::new(),
        left_out: Vec::new(),
    };
    for path in data {
        if !path.is_dir() {
            all.paths.push(path.clone());
            continue;
        }
        let refused = |problem: String| HoldingsError::Folder {
            path: path.clone(),
            problem,
        };
        let entries = std::fs::read_dir(path).map_err(|e| refused(e.to_string()))?;
        let mut found = Vec::new();
        for entry in entries {
            let file = entry.map_err(|e| refused(e.to_string()))?.path();
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // Labels go with their images.
            let is_data = file.is_file() && !name.starts_with('.') && !name.contains("labels");
            if is_data && held_out.is_some() && file.canonicalize().ok() == held_out {
                let note = format!("{} was not trained on: models are measured on it", file.display());
                all.left_out.push(note);
            } else if is_data {
                found.push(file);
            }
            if found.len() > MAX_FILES {
                return Err(refused(format!("has more than {MAX_FILES} files; take fewer")));
            }
        }
        if found.is_empty() {
            return Err(refused("holds no files; name the folder with the data".to_owned()));
        }
        if let Some(name) = test_images(&found) {
            let problem = format!(
                "holds MNIST's test images ({name}) beside the training images; name the file of the training images, or measure on the test images \
                 with --evaluate, which leaves them out"
            );
            return Err(refused(problem));
        }
        found.sort();
        all.paths.extend(found);
    }
    Ok(all)
}

/// The file of test images, by MNIST's names, where there are training images too.
fn test_images(files: &[PathBuf]) -> Option<&str> {
    let mut names = files.iter().filter_map(|file| file.file_name()?.to_str());
    let has_training = names.clone().any(|name| name.starts_with("train-images"));
    names.find(|name| has_training && name.starts_with("t10k-images"))
}

fn key_of(partition: &Partition) -> Option<&str> {
    match partition {
        Partition::Key { column } => Some(column),
        Partition::Reused { of, .. } => key_of(of),
        _ => None,
    }
}

type Keys = (Wanted, Option<Vec<String>>);

/// The key of each row, from CSV files. Where the job names no inputs, the key's column is none of them.
fn keys(paths: &[PathBuf], column: &str, wanted: Wanted) -> Result<Keys, HoldingsError> {
    let mut keys = Vec::new();
    let mut inputs = wanted.inputs.clone();
    for path in paths {
        let refused = |problem: String| HoldingsError::Folder {
            path: path.clone(),
            problem,
        };
        let mut reader = csv::Reader::from_path(path).map_err(|e| refused(e.to_string()))?;
        let header = reader.headers().map_err(|e| refused(e.to_string()))?.clone();
        let Some(place) = header.iter().position(|name| name == column) else {
            let all: Vec<&str> = header.iter().take(12).collect();
            let problem = format!(
                "has no column {column:?}, which [partition] column names; it has {}",
                all.join(", ")
            );
            return Err(refused(problem));
        };
        if wanted.inputs.is_empty() && inputs.is_empty() {
            let is_input = |name: &&str| *name != column && !wanted.targets.iter().any(|target| target == name);
            inputs = header.iter().filter(is_input).map(str::to_owned).collect();
        }
        for record in reader.records() {
            let record = record.map_err(|e| refused(e.to_string()))?;
            keys.push(record.get(place).unwrap_or_default().to_owned());
        }
    }
    Ok((Wanted { inputs, ..wanted }, Some(keys)))
}

/// The class of each row, where its first target is one.
fn labels_of(source: &dyn Source) -> Option<Vec<u32>> {
    let targets = source.targets()?;
    let first = targets.first()?;
    if let Some(values) = first.as_floats() {
        return values
            .iter()
            .map(|value| (value.fract() == 0.0 && *value >= 0.0).then_some(*value as u32))
            .collect();
    }
    first.as_ints()?.iter().map(|value| u32::try_from(*value).ok()).collect()
}

#[cfg(test)]
mod tests;
