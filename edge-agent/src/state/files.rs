//! Files of the work folder: whole or not there, and named in every error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aimass_net::disk;
use aimass_net::identity::durable;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StateError;

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
pub(super) fn blocks_of(values: &[f32], mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
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
pub(super) fn write_large(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), StateError> {
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

pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    let text = serde_json::to_vec_pretty(value).map_err(|e| naming(path, &e.into()))?;
    Ok(durable::write(path, &text)?)
}

pub(super) fn read_whole(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match disk::call("reading a record").and_then(|()| fs::read(path)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(naming(path, &e)),
    }
}

pub(super) fn remove_if_there(path: &Path) -> Result<(), StateError> {
    match disk::call("removing a file").and_then(|()| fs::remove_file(path)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(naming(path, &e)),
        _ => Ok(()),
    }
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let Some(bytes) = read_whole(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| StateError::Damaged {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, StateError> {
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

pub(super) fn naming(path: &Path, error: &io::Error) -> StateError {
    io::Error::new(error.kind(), format!("{}: {error}", path.display())).into()
}
