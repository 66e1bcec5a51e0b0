//! Files that a job names besides its model: by path for its owner, by digest for everybody else.

use super::file::{JobFile, JobFileError};
use super::reader::Section;
use crate::Digest;

/// What fills in a digest.
const BY: &str = "aimass job submit";

/// A file beside the job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedFile {
    /// Where its owner has it, relative to the job file.
    pub path: String,
    /// Which bytes those are. Nobody writes that by hand: `aimass job submit` does, so that it is signed; until then it is `None`.
    pub pinned: Option<Pinned>,
}

/// The bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinned {
    /// SHA-256.
    pub digest: Digest,
    /// How many they are, at least 1.
    pub size_bytes: u64,
}

impl JobFile {
    /// The files that the job names besides its model and its held-out data, each with the section whose `digest` and `size_bytes` it has.
    pub fn attached(&self) -> impl Iterator<Item = (&'static str, &AttachedFile)> {
        let teacher = self.train.distil.iter().map(|distil| ("train.distil", &distil.teacher));
        let student = self.compress.iter().flat_map(|section| &section.distil);
        let student = student.map(|distil| ("compress.distil", &distil.student));
        let public = self.strategy.fusion.iter().map(|fusion| ("strategy", &fusion.data));
        teacher.chain(student).chain(public)
    }
}

/// Reads the path at `key`, and `digest` and `size_bytes` beside it.
pub(super) fn read(section: &Section<'_, '_>, key: &str, example: &str) -> Result<AttachedFile, JobFileError> {
    let path = section.path(key, example)?;
    let pinned = match (section.has("digest"), section.has("size_bytes")) {
        (false, false) => None,
        (true, true) => Some(Pinned {
            digest: section.digest("digest", BY)?,
            size_bytes: section.size(BY)?,
        }),
        (has_digest, _) => {
            let (there, missing) = if has_digest {
                ("digest", "size_bytes")
            } else {
                ("size_bytes", "digest")
            };
            let fix = format!("remove {there} and let `aimass job submit` fill in both from the file at `{key}`");
            return Err(section.refuse(missing, format!("is missing beside {there}"), fix));
        }
    };
    Ok(AttachedFile { path, pinned })
}
