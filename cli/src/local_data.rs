//! Data files that are named on a command line.

use std::path::{Path, PathBuf};

use aimass_edge_agent::exit::ExitKind;
use aimass_learning::DataError;
use aimass_learning::data::{Joined, Limits, Source, Wanted, open};
use anyhow::Result;

use crate::output::Failure;

/// One file, with its labels where they are in another one.
pub(crate) fn one(path: &Path, labels: Option<&PathBuf>, wanted: &Wanted) -> Result<Box<dyn Source>> {
    let wanted = Wanted {
        labels: labels.cloned(),
        ..wanted.clone()
    };
    Ok(open(path, &wanted, &Limits::default()).map_err(|e| refused(&e))?)
}

/// Several files of one kind, taken as one.
pub(crate) fn all(files: &[PathBuf], labels: &[PathBuf], wanted: &Wanted) -> Result<Joined> {
    if !labels.is_empty() && labels.len() != files.len() {
        let text = format!("{} --labels for {} --data; give one for each", labels.len(), files.len());
        return Err(Failure::new(ExitKind::Usage, text).into());
    }
    let sources = files.iter().enumerate().map(|(i, path)| one(path, labels.get(i), wanted));
    Ok(Joined::new(sources.collect::<Result<_>>()?))
}

/// How a command ends whose data is no good.
pub(crate) fn refused(error: &DataError) -> Failure {
    let kind = match error {
        DataError::Io { source, .. } if source.kind() != std::io::ErrorKind::NotFound => ExitKind::Failure,
        _ => ExitKind::BadData,
    };
    Failure::new(kind, error.to_string())
}
