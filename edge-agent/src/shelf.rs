//! What this device serves: below the data folder, a folder a model.
//!
//! ```text
//! models/NAME/current.json      what is served now: replaced as a whole, so a reader sees the old or the new one
//! models/NAME/previous.json     what was served before: the last that is known to be good
//! models/NAME/assigned.json     the release that the server named last, and both sizes of it for this device
//! models/NAME/<digest>.onnx     the files of them; no other stays
//! models/.incoming/             what is being fetched
//! ```
//!
//! Whoever serves models reads `current.json` (a [`Current`]) and loads the file that it names; when it is another one, it loads that and lets go of the
//! first. A file is only ever named here after it was tried on this device ([`crate::trial`]). Where it can't be loaded later, [`Shelf::go_back`] takes
//! the one before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aimass_analytics::release::Size;
use aimass_net::disk;
use aimass_net::identity::durable;
use aimass_protocol::limits::MAX_SERVED;
use aimass_protocol::message::agent::Serving;
use aimass_protocol::{Digest, JobId, is_label};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::state::StateError;
use crate::trial::SelfTest;

/// Longest of the records, in bytes: outputs of two self-tests and some names.
const MAX_RECORD_BYTES: u64 = 256 * 1024;
/// What is fetched lies there.
const INCOMING: &str = ".incoming";

/// A file that may be served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Current {
    /// The model's name in the registry.
    pub model: String,
    /// The release that it is of.
    pub release: JobId,
    /// The variant's name.
    pub variant: String,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// The file's name in the model's folder.
    pub file: String,
    /// What it has to compute.
    pub self_test: SelfTest,
}

/// A release as the server named it, for this device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assigned {
    /// The release.
    pub release: JobId,
    /// The variant that is for this device; none where it was refused.
    pub fitting: Option<Current>,
    /// The smallest that is, for times of little memory; none where that is the same, or was refused.
    pub small: Option<Current>,
}

/// The folder of served models. Cheap to clone; clones take turns in changing it.
#[derive(Debug, Clone)]
pub struct Shelf {
    root: PathBuf,
    /// Held while something changes: who serves switches sizes while the server names another release.
    changing: Arc<Mutex<()>>,
}

impl Shelf {
    /// Below an agent's data folder, which need not have it yet.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            root: data_dir.join("models"),
            changing: Arc::default(),
        }
    }

    /// Where fetched files gather.
    pub fn incoming(&self) -> PathBuf {
        self.root.join(INCOMING)
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, model: &str) -> PathBuf {
        self.root.join(model)
    }

    /// The models that there are, by name.
    pub fn models(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut models: Vec<String> = names.filter(|name| is_model(name)).take(MAX_SERVED).collect();
        models.sort();
        models
    }

    /// What is served of a model now; `None` where nothing is, or what is there can't be read.
    pub fn current(&self, model: &str) -> Option<Current> {
        self.read(model, "current.json")
    }

    /// The file of [`Current`].
    pub fn path(&self, current: &Current) -> PathBuf {
        self.folder(&current.model).join(file_name(current.digest))
    }

    /// What the server named last.
    pub fn assigned(&self, model: &str) -> Option<Assigned> {
        self.read(model, "assigned.json")
    }

    /// The same of all models, as the server is told.
    pub fn have(&self) -> Vec<Serving> {
        let of = |model: String| {
            let release = self.assigned(&model)?.release;
            Some(Serving { model, release })
        };
        self.models().into_iter().filter_map(of).collect()
    }

    /// Puts a file that was tried into the model's folder.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn put(&self, model: &str, digest: Digest, bytes: &[u8]) -> Result<(), StateError> {
        durable::create_private_dir(&self.root)?;
        durable::create_private_dir(&self.folder(model))?;
        Ok(durable::write(&self.folder(model).join(file_name(digest)), bytes)?)
    }

    /// Notes what the server named, and serves it where it was not refused: a release that was refused changes nothing.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn assign(&self, model: &str, assigned: &Assigned) -> Result<(), StateError> {
        let _changing = self.change();
        durable::create_private_dir(&self.root)?;
        durable::create_private_dir(&self.folder(model))?;
        if let Some(fitting) = &assigned.fitting {
            self.serve(fitting)?;
        }
        self.write(model, "assigned.json", assigned)?;
        self.clean(model)
    }

    /// Serves this from now on; what was served before is kept as the last good one.
    fn serve(&self, next: &Current) -> Result<(), StateError> {
        if let Some(current) = self.current(&next.model).filter(|current| current.digest != next.digest) {
            self.write(&next.model, "previous.json", &current)?;
        }
        self.write(&next.model, "current.json", next)
    }

    /// Serves the size that is wanted of what the server named last. Says whether something changed.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn resize(&self, model: &str, size: Size) -> Result<bool, StateError> {
        let _changing = self.change();
        let Some(Assigned {
            fitting: Some(fitting),
            small,
            ..
        }) = self.assigned(model)
        else {
            return Ok(false);
        };
        let wanted = match (size, small) {
            (Size::Small, Some(small)) => small,
            (Size::Small, None) | (Size::Fitting, _) => fitting,
        };
        if self.current(model).is_some_and(|current| current.digest == wanted.digest) {
            return Ok(false);
        }
        self.serve(&wanted)?;
        Ok(true)
    }

    /// Serves the one before, because what is served can't be loaded: that is not taken up again. Returns what is served now; `None` where there is
    /// no other.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn go_back(&self, model: &str) -> Result<Option<Current>, StateError> {
        let _changing = self.change();
        let Some(previous) = self.read::<Current>(model, "previous.json") else {
            return Ok(None);
        };
        if let (Some(failed), Some(mut assigned)) = (self.current(model), self.assigned(model)) {
            for size in [&mut assigned.fitting, &mut assigned.small] {
                size.take_if(|variant| variant.digest == failed.digest);
            }
            self.write(model, "assigned.json", &assigned)?;
        }
        self.write(model, "current.json", &previous)?;
        let path = self.folder(model).join("previous.json");
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io::Error::new(e.kind(), format!("{}: {e}", path.display())).into()),
            _ => Ok(Some(previous)),
        }
    }

    /// Removes files that no record names.
    fn clean(&self, model: &str) -> Result<(), StateError> {
        let assigned = self.assigned(model);
        let named = [
            self.current(model),
            self.read::<Current>(model, "previous.json"),
            assigned.as_ref().and_then(|assigned| assigned.fitting.clone()),
            assigned.as_ref().and_then(|assigned| assigned.small.clone()),
        ];
        let keep: Vec<String> = named.into_iter().flatten().map(|current| file_name(current.digest)).collect();
        let folder = self.folder(model);
        let Ok(entries) = fs::read_dir(&folder) else { return Ok(()) };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.ends_with(".onnx") && !keep.iter().any(|kept| kept == name) {
                disk::call("removing a variant")
                    .and_then(|()| fs::remove_file(&path))
                    .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
            }
        }
        Ok(())
    }

    fn read<T: DeserializeOwned>(&self, model: &str, name: &str) -> Option<T> {
        let path = self.folder(model).join(name);
        let len = fs::metadata(&path).ok()?.len();
        if len > MAX_RECORD_BYTES {
            tracing::warn!(
                "{}: {len} bytes are over the limit of {MAX_RECORD_BYTES}: it is not read",
                path.display()
            );
            return None;
        }
        let bytes = fs::read(&path).ok()?;
        serde_json::from_slice(&bytes)
            .map_err(|e| tracing::warn!("{}: {e}: it counts as not there", path.display()))
            .ok()
    }

    fn write<T: Serialize>(&self, model: &str, name: &str, record: &T) -> Result<(), StateError> {
        let bytes = serde_json::to_vec_pretty(record).map_err(io::Error::from)?;
        Ok(durable::write(&self.folder(model).join(name), &bytes)?)
    }
}

fn is_model(name: &str) -> bool {
    is_label(name) && !name.starts_with('.')
}

/// The file of a variant in its model's folder.
pub fn file_name(digest: Digest) -> String {
    format!("{}.onnx", digest.to_hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current(n: u8, release: u8) -> Current {
        let digest = Digest::from_bytes([n; 32]);
        Current {
            model: "digits".to_owned(),
            release: JobId::from_bytes([release; 16]),
            variant: format!("v{n}"),
            digest,
            size_bytes: 3,
            file: file_name(digest),
            self_test: SelfTest {
                seed: 1,
                rows: 1,
                tolerance: 0.1,
                outputs: vec![1.0],
            },
        }
    }

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let dir = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::new(dir.path());
        (dir, shelf)
    }

    fn assign(shelf: &Shelf, release: u8, fitting: Option<u8>, small: Option<u8>) {
        for n in fitting.into_iter().chain(small) {
            shelf.put("digits", Digest::from_bytes([n; 32]), b"abc").expect("written");
        }
        let assigned = Assigned {
            release: JobId::from_bytes([release; 16]),
            fitting: fitting.map(|n| current(n, release)),
            small: small.map(|n| current(n, release)),
        };
        shelf.assign("digits", &assigned).expect("assigned");
    }

    fn served(shelf: &Shelf) -> Option<String> {
        let current = shelf.current("digits")?;
        assert!(shelf.path(&current).is_file(), "what is served is there");
        Some(current.variant)
    }

    #[test]
    fn should_serve_what_was_assigned_and_keep_the_one_before() {
        let (_dir, shelf) = shelf();
        assert_eq!((served(&shelf), shelf.have().len()), (None, 0));
        assign(&shelf, 1, Some(1), Some(2));
        assert_eq!(served(&shelf).as_deref(), Some("v1"));
        assert_eq!(shelf.have()[0].release, JobId::from_bytes([1; 16]));
        assign(&shelf, 2, Some(3), None);
        assert_eq!(served(&shelf).as_deref(), Some("v3"));
        let folder = shelf.folder("digits");
        assert!(folder.join(file_name(Digest::from_bytes([1; 32]))).is_file(), "the last good one");
        assert!(!folder.join(file_name(Digest::from_bytes([2; 32]))).exists(), "nobody names it");
        let back = shelf.go_back("digits").expect("goes back").expect("there is one");
        assert_eq!((back.variant.as_str(), served(&shelf).as_deref()), ("v1", Some("v1")));
        assert_eq!(shelf.go_back("digits").expect("asked"), None, "once");
        assert!(
            !shelf.resize("digits", Size::Fitting).expect("asked"),
            "what failed is not taken up again"
        );
        assert_eq!(served(&shelf).as_deref(), Some("v1"));
    }

    #[test]
    fn should_change_nothing_when_a_release_was_refused() {
        let (_dir, shelf) = shelf();
        assign(&shelf, 1, Some(1), None);
        assign(&shelf, 2, None, None);
        assert_eq!(served(&shelf).as_deref(), Some("v1"));
        assert_eq!(shelf.have()[0].release, JobId::from_bytes([2; 16]), "it is not offered again");
        assert!(!shelf.resize("digits", Size::Small).expect("asked"));
        assert_eq!(served(&shelf).as_deref(), Some("v1"));
    }

    #[test]
    fn should_switch_sizes_and_back() {
        let (_dir, shelf) = shelf();
        assert!(!shelf.resize("digits", Size::Small).expect("asked"), "nothing there");
        assign(&shelf, 1, Some(1), Some(2));
        assert!(shelf.resize("digits", Size::Small).expect("switched"));
        assert_eq!(served(&shelf).as_deref(), Some("v2"));
        assert!(!shelf.resize("digits", Size::Small).expect("asked"), "it is small");
        assert!(shelf.resize("digits", Size::Fitting).expect("switched"));
        assert_eq!(served(&shelf).as_deref(), Some("v1"));
    }

    #[test]
    fn should_not_trust_what_it_did_not_write() {
        let (_dir, shelf) = shelf();
        assign(&shelf, 1, Some(1), None);
        let path = shelf.folder("digits").join("current.json");
        for wrong in ["", "{}", "null", &"x".repeat(300 * 1024)] {
            fs::write(&path, wrong).expect("written");
            assert_eq!(shelf.current("digits"), None);
        }
        assert_eq!(shelf.models(), ["digits"]);
    }
}
