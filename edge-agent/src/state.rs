//! The work folder: what survives `kill -9`. Every file is replaced as a whole and is on the disk before the step that relies on it.
//!
//! ```text
//! <data-dir>/reports.jsonl                       what servers did that looks like cheating
//! <data-dir>/work/session.json                   where the session is
//! <data-dir>/work/last.json                      what happened last, for `status`
//! <data-dir>/work/task/task.cbor                 the task that is fetched or trained, as the server sent it
//! <data-dir>/work/task/checkpoint.bin            how far its training is
//! <data-dir>/work/models/<digest>.onnx           the base model
//! <data-dir>/work/models/<digest>.part           the chunks of it that arrived and were verified
//! <data-dir>/work/contribution/<id>/delta.f32    trained minus base, f32 little-endian
//! <data-dir>/work/contribution/<id>/tally.u64    of an analytics job instead: what was counted, u64 little-endian
//! <data-dir>/work/contribution/<id>/trained.json what training said; written after either of them, so it vouches for it
//! <data-dir>/work/contribution/<id>/encoded.bin  the packed residues
//! <data-dir>/work/contribution/<id>/manifest.json for which cohort, and their manifest; written after encoded.bin
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use aimass_analytics::Shape;
use aimass_net::disk;
use aimass_net::identity::durable;
use aimass_protocol::job::RoundMode;
use aimass_protocol::manifest::Manifest;
use aimass_protocol::message::agent::Task;
use aimass_protocol::{CohortId, ContributionId, Digest, JobId, codec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A state file that can't be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The operating system refused; the text names the file.
    #[error("{source}{}", advice(source))]
    Io {
        /// Why, and which file.
        #[from]
        source: io::Error,
    },
    /// Another agent works in this folder.
    #[error("{} is in use by another agent process; stop that one or give --data-dir another folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Not what this program writes.
    #[error("{}: {reason}; it was not written by this version: remove it to start anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space, the agent goes on where it was",
        io::ErrorKind::PermissionDenied => "; make the folder writable for this user or give --data-dir another one",
        _ => "",
    }
}

/// What training, or counting, said about a contribution; kept beside its values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainedRecord {
    /// The job.
    pub job: JobId,
    /// The base model.
    pub base: Digest,
    /// SHA-256 of the base's parameter layout, or of what was counted.
    pub layout_digest: Digest,
    /// Values in `delta.f32` or `tally.u64`.
    pub n_weights: usize,
    /// CRC-32 of that file: it is not synced, so a power failure may have taken it.
    pub delta_crc32: u32,
    /// Examples trained on, or rows counted.
    pub examples: u64,
    /// Steps done; 0 of what was counted.
    pub steps: u64,
    /// Mean loss over the last pass; 0 of what was counted.
    pub train_loss: f32,
    /// What was counted, of an analytics job; `None` where something was trained.
    #[serde(default)]
    pub tally: Option<Shape>,
    /// How good the base is on the rows that were held back; `None` where the job asks for no evaluation on devices.
    #[serde(default)]
    pub evaluation: Option<EvaluationRecord>,
    /// Round that the base belongs to.
    pub round: u32,
    /// How the job's rounds wait: what a weight is counted in follows from it.
    #[serde(default)]
    pub round_mode: RoundMode,
    /// Seed of the rounding; of what was counted, which is not rounded, zeros.
    pub rounding_seed: Digest,
}

impl TrainedRecord {
    /// The file that it vouches for.
    fn values_file(&self) -> &'static str {
        match self.tally {
            None => "delta.f32",
            Some(_) => "tally.u64",
        }
    }
}

/// How good a model is on the rows that were held back; all 0 where there are none.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Mean loss.
    pub loss: f32,
    /// Rows that the model gets right; 0 where that means nothing.
    pub correct: u64,
    /// Rows.
    pub examples: u64,
}

/// What was encoded for which cohort.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncodedRecord {
    /// The cohort.
    pub cohort: CohortId,
    /// Of `encoded.bin`.
    pub manifest: Manifest,
    /// CRC-32 of `encoded.bin`: that file is not synced, so a power failure may have taken it.
    pub encoded_crc32: u32,
    /// Whether the update was scaled down to the clip.
    pub clipped: bool,
}

/// `<data-dir>` and `<data-dir>/work`. Private to the user (mode 0700).
#[derive(Debug, Clone)]
pub struct StateFolder {
    data_dir: PathBuf,
}

/// Held while an agent runs; the operating system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl StateFolder {
    /// The folder at `data_dir`, which need not exist.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into() }
    }

    /// The agent's whole folder.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where net keeps the identity.
    pub fn identity_dir(&self) -> PathBuf {
        self.data_dir.join("identity")
    }

    /// Makes the folders, takes the lock, and removes what a killed process left half written.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(&self) -> Result<FolderLock, StateError> {
        for folder in [
            self.data_dir.clone(),
            self.work_dir(),
            self.task_dir(),
            self.models_dir(),
            self.contributions_dir(),
        ] {
            durable::create_private_dir(&folder)?;
        }
        let lock = self.try_lock()?.ok_or_else(|| StateError::InUse {
            path: self.data_dir.clone(),
        })?;
        durable::remove_leftovers(&self.work_dir())?;
        for folder in [self.task_dir(), self.models_dir(), self.contributions_dir()] {
            durable::remove_leftovers(&folder)?;
        }
        for id in self.contributions()? {
            durable::remove_leftovers(&self.contribution_dir(id))?;
        }
        Ok(lock)
    }

    /// The lock, or `None` when another process holds it.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn try_lock(&self) -> Result<Option<FolderLock>, StateError> {
        let path = self.data_dir.join("agent.lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| naming(&path, &e))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(FolderLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(naming(&path, &e)),
        }
    }

    fn work_dir(&self) -> PathBuf {
        self.data_dir.join("work")
    }

    fn task_dir(&self) -> PathBuf {
        self.work_dir().join("task")
    }

    fn models_dir(&self) -> PathBuf {
        self.work_dir().join("models")
    }

    fn contributions_dir(&self) -> PathBuf {
        self.work_dir().join("contribution")
    }

    fn contribution_dir(&self, id: ContributionId) -> PathBuf {
        self.contributions_dir().join(id.to_hex())
    }

    /// Where a base model lies once it is complete.
    pub fn model_path(&self, base: Digest) -> PathBuf {
        self.models_dir().join(format!("{}.onnx", base.to_hex()))
    }

    /// Where its chunks gather.
    pub fn partial_model_path(&self, base: Digest) -> PathBuf {
        self.models_dir().join(format!("{}.part", base.to_hex()))
    }

    /// Removes every base model, whole or partial, but `keep`.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn retain_models(&self, keep: &[Digest]) -> Result<(), StateError> {
        let keep: Vec<PathBuf> = keep
            .iter()
            .flat_map(|d| [self.model_path(*d), self.partial_model_path(*d)])
            .collect();
        for path in entries(&self.models_dir())? {
            if !keep.contains(&path) {
                disk::call("removing a model")
                    .and_then(|()| fs::remove_file(&path))
                    .map_err(|e| naming(&path, &e))?;
            }
        }
        Ok(())
    }

    /// Moves a complete download, of verified chunks, into its place.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn finish_model(&self, base: Digest) -> Result<PathBuf, StateError> {
        let (part, whole) = (self.partial_model_path(base), self.model_path(base));
        // Not synced: whoever reads it compares its digest, and fetches it again where a power failure damaged it.
        disk::call("naming a model")
            .and_then(|()| fs::rename(&part, &whole))
            .map_err(|e| naming(&whole, &e))?;
        Ok(whole)
    }

    /// The session as it was persisted last; `None` at the very beginning.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn load_session<T: DeserializeOwned>(&self) -> Result<Option<T>, StateError> {
        read_json(&self.work_dir().join("session.json"))
    }

    /// Persists the session.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn save_session<T: Serialize>(&self, session: &T) -> Result<(), StateError> {
        write_json(&self.work_dir().join("session.json"), session)
    }

    /// Keeps the task at hand: whoever goes on with it verifies its signature again.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn save_task(&self, task: &Task) -> Result<(), StateError> {
        let path = self.task_dir().join("task.cbor");
        let bytes = codec::encode(task).map_err(|e| naming(&path, &io::Error::other(e)))?;
        Ok(durable::write(&path, &bytes)?)
    }

    /// The task that was kept last, if there is one.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn load_task(&self) -> Result<Option<Task>, StateError> {
        let path = self.task_dir().join("task.cbor");
        let Some(bytes) = read_whole(&path)? else { return Ok(None) };
        codec::decode(&bytes).map(Some).map_err(|e| StateError::Damaged {
            path,
            reason: e.to_string(),
        })
    }

    /// Where training keeps how far it is.
    pub fn checkpoint_path(&self) -> PathBuf {
        self.task_dir().join("checkpoint.bin")
    }

    /// Removes the checkpoint.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn discard_checkpoint(&self) -> Result<(), StateError> {
        remove_if_there(&self.checkpoint_path())
    }

    /// Removes everything kept for the task at hand.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn discard_task(&self) -> Result<(), StateError> {
        entries(&self.task_dir())?.iter().try_for_each(|path| remove_if_there(path))
    }

    /// The reports that were kept, a line each.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn load_reports(&self) -> Result<Option<String>, StateError> {
        let bytes = read_whole(&self.data_dir.join("reports.jsonl"))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Replaces them, for this user alone.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn save_reports(&self, lines: &str) -> Result<(), StateError> {
        Ok(durable::write(&self.data_dir.join("reports.jsonl"), lines.as_bytes())?)
    }

    /// What happened last, for `status`.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn load_last<T: DeserializeOwned>(&self) -> Result<Option<T>, StateError> {
        read_json(&self.work_dir().join("last.json"))
    }

    /// Notes what happened last. Not synced to the disk: a power failure may take it back.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn save_last<T: Serialize>(&self, last: &T) -> Result<(), StateError> {
        let (path, beside) = (self.work_dir().join("last.json"), self.work_dir().join("last.json.tmp"));
        let text = serde_json::to_vec_pretty(last).map_err(|e| naming(&path, &e.into()))?;
        disk::call("noting what happened")
            .and_then(|()| fs::write(&beside, text))
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(|e| naming(&path, &e))
    }

    /// Ids of the contributions that have a folder.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn contributions(&self) -> Result<Vec<ContributionId>, StateError> {
        let names = entries(&self.contributions_dir())?
            .into_iter()
            .filter_map(|p| p.file_name()?.to_str()?.parse().ok());
        Ok(names.collect())
    }

    /// Removes a contribution and everything kept for it.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn discard(&self, id: ContributionId) -> Result<(), StateError> {
        let path = self.contribution_dir(id);
        match disk::call("removing a contribution").and_then(|()| fs::remove_dir_all(&path)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(naming(&path, &e)),
            _ => Ok(()),
        }
    }

    /// Removes what was encoded for `cohort`; what was encoded for another one since stays.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn discard_encoded(&self, id: ContributionId, cohort: CohortId) -> Result<(), StateError> {
        if self.load_encoded(id)?.is_some_and(|record| record.cohort == cohort) {
            // The record first: without it the bytes count for nothing.
            for name in ["manifest.json", "encoded.bin"] {
                remove_if_there(&self.contribution_dir(id).join(name))?;
            }
        }
        Ok(())
    }

    /// Removes every contribution but `keep`.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn retain_contributions(&self, keep: &[ContributionId]) -> Result<(), StateError> {
        for id in self.contributions()? {
            if !keep.contains(&id) {
                self.discard(id)?;
            }
        }
        Ok(())
    }

    /// Keeps a trained update: first the values, then the record that vouches for them. A killed process finds both; after a power failure
    /// [`Self::is_intact`] tells whether the values are still there.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn save_trained(&self, id: ContributionId, record: &TrainedRecord, delta: &[f32]) -> Result<(), StateError> {
        let folder = self.contribution_dir(id);
        durable::create_private_dir(&folder)?;
        write_large(&folder.join("delta.f32"), |out| blocks_of(delta, |block| out.write_all(block)))?;
        write_json(&folder.join("trained.json"), record)
    }

    /// Keeps what was counted in the same way; `record.tally` says that it was. The record gets the length and the CRC-32 of `values`.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn save_counted(&self, id: ContributionId, record: TrainedRecord, values: &[u64]) -> Result<TrainedRecord, StateError> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let record = TrainedRecord {
            n_weights: values.len(),
            delta_crc32: crc32fast::hash(&bytes),
            ..record
        };
        let folder = self.contribution_dir(id);
        durable::create_private_dir(&folder)?;
        write_large(&folder.join(record.values_file()), |out| out.write_all(&bytes))?;
        write_json(&folder.join("trained.json"), &record)?;
        Ok(record)
    }

    /// Whether a contribution's record and the values that it vouches for are both there.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn is_intact(&self, id: ContributionId) -> Result<bool, StateError> {
        let Some(record) = self.load_trained(id)? else { return Ok(false) };
        Ok(file_crc32(&self.contribution_dir(id).join(record.values_file()))? == Some(record.delta_crc32))
    }

    /// What training said; `None` when the contribution is not (wholly) there.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn load_trained(&self, id: ContributionId) -> Result<Option<TrainedRecord>, StateError> {
        read_json(&self.contribution_dir(id).join("trained.json"))
    }

    /// The update's values, `[record.n_weights]`.
    ///
    /// # Errors
    /// [`StateError::Damaged`] for another length.
    pub fn load_delta(&self, id: ContributionId, record: &TrainedRecord) -> Result<Vec<f32>, StateError> {
        let path = self.contribution_dir(id).join("delta.f32");
        let read = || {
            let mut file = File::open(&path)?;
            let len = file.metadata()?.len();
            if len != record.n_weights as u64 * 4 {
                return Ok(Err(format!("{len} bytes do not hold {} values", record.n_weights)));
            }
            let mut values = Vec::with_capacity(record.n_weights);
            let mut block = [0; 16 * 1024];
            while values.len() < record.n_weights {
                let wanted = (block.len() / 4).min(record.n_weights - values.len()) * 4;
                file.read_exact(&mut block[..wanted])?;
                values.extend(block[..wanted].as_chunks::<4>().0.iter().map(|v| f32::from_le_bytes(*v)));
            }
            Ok(Ok(values))
        };
        let found: Result<Vec<f32>, String> = read().map_err(|e| naming(&path, &e))?;
        found.map_err(|reason| StateError::Damaged { path, reason })
    }

    /// What was counted, `[record.n_weights]`.
    ///
    /// # Errors
    /// [`StateError::Damaged`] for another length.
    pub fn load_counted(&self, id: ContributionId, record: &TrainedRecord) -> Result<Vec<u64>, StateError> {
        let path = self.contribution_dir(id).join("tally.u64");
        let bytes = read_whole(&path)?.unwrap_or_default();
        if bytes.len() as u64 != record.n_weights as u64 * 8 {
            let reason = format!("{} bytes do not hold {} numbers", bytes.len(), record.n_weights);
            return Err(StateError::Damaged { path, reason });
        }
        Ok(bytes.as_chunks::<8>().0.iter().map(|value| u64::from_le_bytes(*value)).collect())
    }

    /// Keeps what will be uploaded: first the bytes, then the record that vouches for them.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn save_encoded(&self, id: ContributionId, record: &EncodedRecord, packed: &[u8]) -> Result<(), StateError> {
        let folder = self.contribution_dir(id);
        durable::create_private_dir(&folder)?;
        // Not synced: it is compared with the record before it is sent.
        write_large(&folder.join("encoded.bin"), |out| out.write_all(packed))?;
        write_json(&folder.join("manifest.json"), record)
    }

    /// What was encoded last; `None` when nothing was.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn load_encoded(&self, id: ContributionId) -> Result<Option<EncodedRecord>, StateError> {
        read_json(&self.contribution_dir(id).join("manifest.json"))
    }

    /// The file of the packed residues.
    pub fn encoded_path(&self, id: ContributionId) -> PathBuf {
        self.contribution_dir(id).join("encoded.bin")
    }
}

/// CRC-32 of values as `delta.f32` holds them.
pub(crate) fn crc32_of(values: &[f32]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    // Hashing can't fail.
    let _ = blocks_of(values, |block| {
        crc.update(block);
        Ok(())
    });
    crc.finalize()
}

/// CRC-32 of a file; `None` when there is no such file.
pub(crate) fn file_crc32(path: &Path) -> Result<Option<u32>, StateError> {
    let mut crc = crc32fast::Hasher::new();
    let there = read_pieces(path, |piece| crc.update(piece))?;
    Ok(there.then(|| crc.finalize()))
}

/// Gives a file's bytes to `take` in pieces; says whether there is such a file.
pub(crate) fn read_pieces(path: &Path, mut take: impl FnMut(&[u8])) -> Result<bool, StateError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(naming(path, &e)),
    };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = disk::call("reading a file").and_then(|()| file.read(&mut buffer));
        match read.map_err(|e| naming(path, &e))? {
            0 => return Ok(true),
            n => take(&buffer[..n]),
        }
    }
}

/// Values as little-endian bytes, a block at a time.
fn blocks_of(values: &[f32], mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut block = [0; 16 * 1024];
    for values in values.chunks(block.len() / 4) {
        for (bytes, value) in block.as_chunks_mut::<4>().0.iter_mut().zip(values) {
            *bytes = value.to_le_bytes();
        }
        each(&block[..values.len() * 4])?;
    }
    Ok(())
}

/// Puts a large file in its place, whole or not at all for a killed process. It is not synced: flash wears, and seconds of a slow card are
/// dear; its CRC is kept beside it instead.
fn write_large(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), StateError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let beside = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    disk::call("making a file")
        .and_then(|()| options.open(&beside))
        .and_then(|mut file| disk::call("writing a file").and_then(|()| fill(&mut file)))
        .and_then(|()| disk::call("renaming a file"))
        .and_then(|()| fs::rename(&beside, path))
        .map_err(|e| naming(path, &e))
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    let text = serde_json::to_vec_pretty(value).map_err(|e| naming(path, &e.into()))?;
    Ok(durable::write(path, &text)?)
}

fn read_whole(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match disk::call("reading a record").and_then(|()| fs::read(path)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(naming(path, &e)),
    }
}

fn remove_if_there(path: &Path) -> Result<(), StateError> {
    match disk::call("removing a file").and_then(|()| fs::remove_file(path)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(naming(path, &e)),
        _ => Ok(()),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let Some(bytes) = read_whole(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| StateError::Damaged {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, StateError> {
    let list = match fs::read_dir(folder) {
        Ok(list) => list,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(naming(folder, &e)),
    };
    let paths: io::Result<Vec<PathBuf>> = list.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(|e| naming(folder, &e))?;
    paths.sort();
    Ok(paths)
}

fn naming(path: &Path, error: &io::Error) -> StateError {
    io::Error::new(error.kind(), format!("{}: {error}", path.display())).into()
}

#[cfg(test)]
mod tests;
