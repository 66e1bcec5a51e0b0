//! Reads files that people name: regular ones, and no more of them than can be meant.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why a file can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("can't read {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is no regular file; save it to one", path.display())]
    NoFile { path: PathBuf },
    #[error("{} has more than the {limit} bytes that are accepted; use a smaller file", path.display())]
    TooLarge { path: PathBuf, limit: usize },
    #[error("{} is not UTF-8 text; save it as UTF-8", path.display())]
    NoText { path: PathBuf },
}

/// A file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, FileError> {
    let path_buf = || path.to_owned();
    let failed = |source| FileError::Io { path: path_buf(), source };
    // Opening a pipe would wait for its writer.
    let meta = std::fs::metadata(path).map_err(failed)?;
    if !meta.is_file() {
        return Err(FileError::NoFile { path: path_buf() });
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take((limit as u64).saturating_add(1))
        .read_to_end(&mut content)
        .map_err(failed)?;
    if content.len() > limit {
        return Err(FileError::TooLarge { path: path_buf(), limit });
    }
    Ok(content)
}

/// A text of at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: usize) -> Result<String, FileError> {
    String::from_utf8(read(path, limit)?).map_err(|_| FileError::NoText { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_within_the_limit_are_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("four");
        std::fs::write(&path, b"abc\xff").expect("written");
        assert_eq!(read(&path, 4).expect("fits"), b"abc\xff");
        let said = |result: Result<Vec<u8>, FileError>| result.expect_err("refused").to_string();
        assert!(said(read(&path, 3)).contains("more than the 3 bytes"));
        assert!(said(read(dir.path(), 3)).contains("no regular file"));
        assert!(said(read(&dir.path().join("none"), 3)).contains("none"));
        assert!(said(read_text(&path, 9).map(String::into_bytes)).contains("not UTF-8"));
    }
}
