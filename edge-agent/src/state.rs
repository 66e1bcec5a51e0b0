//! The work folder: what survives `kill -9`. Every file is replaced as a whole and is on the disk before the step that relies on it.
//! Paths are relative to the data folder; `work/` holds what this program alone writes:
//!
//! ```text
//! reports.jsonl                          what servers did that looks like cheating
//! work/session.json                      where the session is
//! work/last.json                         what happened last, for `status`
//! work/task/task.cbor                    the task that is fetched or trained, as the server sent it
//! work/task/checkpoint.bin               how far its training is
//! work/models/<digest>.onnx              the base model
//! work/models/<digest>.part              the chunks of it that arrived and were verified
//! work/contribution/<id>/delta.f32       trained minus base, f32 little-endian
//! work/contribution/<id>/tally.u64       of an analytics job instead: what was counted, u64 little-endian
//! work/contribution/<id>/trained.json    what training said; written after either of them, so it vouches for it
//! work/contribution/<id>/encoded.bin     the packed residues
//! work/contribution/<id>/manifest.json   for which cohort, and their manifest; written after encoded.bin
//! ```

mod contribution;
mod files;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use aimass_net::disk;
use aimass_net::identity::durable;
use aimass_protocol::message::agent::Task;
use aimass_protocol::{ContributionId, Digest, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::contribution::{EncodedRecord, EvaluationRecord, TrainedRecord};
pub(crate) use self::files::{crc32_of, file_crc32, read_pieces};
use self::files::{entries, naming, read_json, read_whole, remove_if_there, write_json};

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

/// The data folder and what lies in it. Private to the user (mode 0700).
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

    /// Makes the folder of models alone: for a folder that holds nothing else.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub(crate) fn prepare_models(&self) -> Result<(), StateError> {
        let dir = self.models_dir();
        disk::call("making a folder")
            .and_then(|()| fs::create_dir_all(&dir))
            .map_err(|e| naming(&dir, &e))
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

    /// The rounds that were counted for, as [`Self::save_turns`] left them.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn load_turns<T: DeserializeOwned>(&self) -> Result<Option<T>, StateError> {
        read_json(&self.work_dir().join("turns.json"))
    }

    /// Keeps them durably.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn save_turns<T: Serialize>(&self, turns: &T) -> Result<(), StateError> {
        write_json(&self.work_dir().join("turns.json"), turns)
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
}

#[cfg(test)]
mod tests;
