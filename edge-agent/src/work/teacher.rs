//! The larger model that a job's agents learn from: fetched beside the base, kept across rounds, and compared with what the owner signed before it is used.

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use aimass_crypto::hash::sha256;
use aimass_learning::{BackendConfig, Teacher};
use aimass_net::disk;
use aimass_onnx::Model;
use aimass_protocol::Digest;
use aimass_protocol::job::{JobFile, Pinned};

use super::{TrainOrder, WorkError};
use crate::state::{StateError, StateFolder};

/// The file of a job's teacher, if it has one; it is fetched where this device takes it.
///
/// # Errors
/// [`WorkError::TeacherUnpinned`], [`WorkError::TeacherTooLarge`].
pub(crate) fn pinned(file: &JobFile, max_bytes: u64) -> Result<Option<Pinned>, WorkError> {
    // A dry run learns from nobody.
    let Some(distil) = file.train.distil.as_ref().filter(|_| file.train.epochs > 0) else {
        return Ok(None);
    };
    let pinned = distil.teacher.pinned.ok_or(WorkError::TeacherUnpinned)?;
    if pinned.size_bytes > max_bytes {
        return Err(WorkError::TeacherTooLarge {
            size_bytes: pinned.size_bytes,
            max_bytes,
        });
    }
    Ok(Some(pinned))
}

/// The teacher of an order, read from the state folder. One that is not what was signed is removed, so that it is fetched anew.
pub(super) fn of(folder: &StateFolder, order: &TrainOrder) -> Result<Option<Teacher>, WorkError> {
    let Some(Pinned { digest, size_bytes }) = pinned(&order.file, order.bench.max_file_bytes)? else {
        return Ok(None);
    };
    let path = folder.model_path(digest);
    let failed = |e: io::Error| WorkError::from(StateError::from(io::Error::new(e.kind(), format!("{}: {e}", path.display()))));
    let bytes = match disk::call("reading a teacher").and_then(|()| fs::read(&path)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(WorkError::Teacher { teacher: digest }),
        Err(e) => return Err(failed(e)),
    };
    if bytes.len() as u64 != size_bytes || Digest::from_bytes(sha256(&bytes)) != digest {
        disk::call("removing a teacher")
            .and_then(|()| fs::remove_file(&path))
            .map_err(failed)?;
        return Err(WorkError::Teacher { teacher: digest });
    }
    let model = Model::from_shared(bytes.into()).map_err(WorkError::TeacherModel)?;
    Ok(Some(Teacher::new(model)))
}

/// As many as train the student; the answers are the same for any number.
pub(super) fn threads(backend: &BackendConfig) -> NonZeroUsize {
    backend
        .threads
        .or_else(|| available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN)
}
