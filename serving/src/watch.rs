//! Models whose files are looked at from time to time: a new one is swapped in, a bad one changes nothing.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crate::error::HostError;
use crate::host::Host;

/// A folder with this file in it serves what its `file` names, as an agent keeps releases.
const POINTER: &str = "current.json";
const MAX_POINTER_BYTES: u64 = 256 * 1024;
/// Most files of a folder that are looked at.
const MAX_FILES: usize = 10_000;

/// A model that is served from a file, or from a folder: the file that its `current.json` names, else its newest `.onnx` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The model's name.
    pub model: String,
    /// The file or folder.
    pub path: PathBuf,
}

/// What tells one state of a file from the next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    path: PathBuf,
    modified: Option<SystemTime>,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Progress {
    /// What is in service, or was refused: it is not tried again.
    done: Option<Mark>,
    /// What was seen the last time; a file is taken once it stands still.
    seen: Option<Mark>,
    /// The number of the last version.
    version: u64,
}

/// Looks at files. [`tick`](Self::tick) by hand, or [`run`](Self::run) on a thread.
#[derive(Debug)]
pub struct Watcher {
    host: Arc<Host>,
    models: Vec<Watched>,
    progress: BTreeMap<String, Progress>,
}

impl Watcher {
    /// Nothing is looked at yet.
    pub fn new(host: Arc<Host>, models: Vec<Watched>) -> Self {
        Self {
            host,
            models,
            progress: BTreeMap::new(),
        }
    }

    /// Loads every model that is not there yet, without waiting for its file to stand still.
    ///
    /// # Errors
    /// The first [`HostError`]. Files that are missing are errors as well.
    pub fn load_all(&mut self) -> Result<(), HostError> {
        for watched in self.models.clone() {
            self.load(&watched)?;
        }
        Ok(())
    }

    /// [`load_all`](Self::load_all), but what can't be loaded is logged, and tried again when its file changes.
    pub fn load_what_can_be(&mut self) {
        for watched in self.models.clone() {
            if let Err(e) = self.load(&watched) {
                tracing::warn!("{e}; it is tried again when {} changes", watched.path.display());
            }
        }
    }

    fn load(&mut self, watched: &Watched) -> Result<(), HostError> {
        let mark = mark(&watched.path);
        let path = mark.as_ref().map_or(watched.path.clone(), |mark| mark.path.clone());
        let progress = self.progress.entry(watched.model.clone()).or_default();
        progress.done = mark;
        progress.version += 1;
        let version = progress.version.to_string();
        let loaded = self.host.load_file(&watched.model, &version, &path)?;
        tracing::info!("serving {} version {} from {}", loaded.model, loaded.version, path.display());
        Ok(())
    }

    /// Looks at every file once, and swaps in what is new and stands still.
    pub fn tick(&mut self) {
        for watched in self.models.clone() {
            let Some(mark) = mark(&watched.path) else { continue };
            let progress = self.progress.entry(watched.model.clone()).or_default();
            if progress.done.as_ref() == Some(&mark) {
                continue;
            }
            if progress.seen.as_ref() != Some(&mark) {
                // It may be written to at this moment.
                progress.seen = Some(mark);
                continue;
            }
            progress.version += 1;
            progress.done = Some(mark.clone());
            let version = progress.version.to_string();
            self.take(&watched.model, &version, &mark.path);
        }
    }

    fn take(&self, model: &str, version: &str, path: &Path) {
        let known = self.host.slot(model).is_some();
        let result = if known {
            self.host.swap_file(model, version, path)
        } else {
            self.host.load_file(model, version, path)
        };
        match result {
            Ok(_) => tracing::info!("serving {model} version {version} from {}", path.display()),
            Err(e) => {
                self.host.metrics().swap_failed(model);
                let kept = if known {
                    "the version in service stays"
                } else {
                    "it is tried again when the file changes"
                };
                tracing::warn!("{} is not served: {e}; {kept}", path.display());
            }
        }
    }

    /// Looks every `every`, on a thread, until the handle is dropped.
    ///
    /// # Errors
    /// [`HostError::Thread`].
    pub fn run(mut self, every: Duration) -> Result<WatcherHandle, HostError> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                    self.tick();
                }
            })
            .map_err(HostError::Thread)?;
        Ok(WatcherHandle {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

/// Ends the watching when dropped.
#[derive(Debug)]
pub struct WatcherHandle {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for WatcherHandle {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The file that a folder's [`POINTER`] names: one of the folder's own.
fn pointed_to(folder: &Path) -> Option<PathBuf> {
    let path = folder.join(POINTER);
    let bytes = std::fs::metadata(&path).ok()?.len();
    if bytes > MAX_POINTER_BYTES {
        tracing::warn!(
            "{}: {bytes} bytes are over the limit of {MAX_POINTER_BYTES}: it is not read",
            path.display()
        );
        return None;
    }
    let pointer: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).ok()?)
        .map_err(|e| tracing::warn!("{}: {e}: it is not followed", path.display()))
        .ok()?;
    let name = pointer.get("file")?.as_str()?;
    let is_own = Path::new(name).file_name().is_some_and(|own| own == name) && name.ends_with(".onnx");
    if !is_own {
        tracing::warn!("{}: it names no .onnx file of its folder: it is not followed", path.display());
        return None;
    }
    Some(folder.join(name))
}

/// The file, what a folder's [`POINTER`] names, or the newest model of a folder; of several of one time the last by name.
fn mark(path: &Path) -> Option<Mark> {
    let of_file = |path: PathBuf| {
        let meta = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
        Some(Mark {
            modified: meta.modified().ok(),
            bytes: meta.len(),
            path,
        })
    };
    if !path.is_dir() {
        return of_file(path.to_owned());
    }
    if path.join(POINTER).exists() {
        return of_file(pointed_to(path)?);
    }
    let files = std::fs::read_dir(path).ok()?.take(MAX_FILES);
    let models = files
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"));
    models
        .filter_map(of_file)
        .max_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)))
}
