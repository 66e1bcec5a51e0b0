//! Files that are either the old or the new ones after a crash: written beside their place, synced, renamed, and the folder synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::disk;

/// Creates a folder and its parents. New folders belong to their owner alone (mode 0700 on Unix).
///
/// # Errors
/// What the file system says, with the path.
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    disk::call("making a folder")
        .and_then(|()| builder.create(dir))
        .map_err(|e| naming(dir, &e))?;
    sync_parent(dir)
}

/// Replaces the file at `path` by `bytes`, or leaves it as it was. The file is its owner's alone (mode 0600 on Unix).
///
/// One writer a path at a time: callers hold their folder's lock.
///
/// # Errors
/// What the file system says (disk full, no permission), with the path. The old file stands then.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    stage(path, bytes)?.commit()
}

/// A file that is durable beside its place and not yet in it.
#[must_use = "nothing changes before `commit`"]
#[derive(Debug)]
pub struct Staged {
    temporary: PathBuf,
    path: PathBuf,
}

/// The first half of [`write()`]: after a crash here the old file still stands, and the leftover (`<name>.tmp`) is overwritten by the next write.
///
/// # Errors
/// As [`write()`].
pub fn stage(path: &Path, bytes: &[u8]) -> io::Result<Staged> {
    let mut name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))?
        .to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(naming(&temporary, &e)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let fill = || {
        disk::call("making a file")?;
        let mut file = options.open(&temporary)?;
        disk::call("writing a file")?;
        file.write_all(bytes)?;
        disk::call("syncing a file")?;
        file.sync_all()
    };
    match fill() {
        Ok(()) => Ok(Staged {
            temporary,
            path: path.to_owned(),
        }),
        Err(e) => {
            let _ = fs::remove_file(&temporary);
            Err(naming(&temporary, &e))
        }
    }
}

impl Staged {
    /// The second half of [`write()`].
    ///
    /// # Errors
    /// As [`write()`].
    pub fn commit(self) -> io::Result<()> {
        disk::call("renaming a file")
            .and_then(|()| fs::rename(&self.temporary, &self.path))
            .map_err(|e| naming(&self.path, &e))?;
        sync_parent(&self.path)
    }
}

/// Makes creations, renames and removals in the folder of `path` durable.
///
/// # Errors
/// What the file system says, with the path.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    #[cfg(unix)]
    disk::call("syncing a folder")
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(|e| naming(dir, &e))?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

/// Removes temporary files that a crash left in `dir`.
///
/// # Errors
/// What the file system says, with the path.
pub fn remove_leftovers(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir).map_err(|e| naming(dir, &e))? {
        let path = entry.map_err(|e| naming(dir, &e))?.path();
        if path.extension().is_some_and(|e| e == "tmp") {
            fs::remove_file(&path).map_err(|e| naming(&path, &e))?;
        }
    }
    Ok(())
}

fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
