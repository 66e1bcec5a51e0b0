//! Why a folder can't be used.

use std::path::PathBuf;

/// Why a folder can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The file system refuses.
    #[error("can't {what} {}: {error}", path.display())]
    Io {
        /// Read, write or make.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The folder holds something else than a run.
    #[error("{} holds files that are of no run ({found}): name a new or empty folder", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// One of them.
        found: String,
    },
    /// The folder holds a run of other input.
    #[error("{} holds a run {difference}: name another folder, or delete this one", path.display())]
    OtherInput {
        /// The folder.
        path: PathBuf,
        /// Of what.
        difference: String,
    },
    /// A file of a run does not read.
    #[error("{}: line {line}: {problem}: delete the run's folder and run it again", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}
