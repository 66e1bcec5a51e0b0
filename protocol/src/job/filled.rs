//! Keys that nobody writes by hand: a command fills them in from a file.

use super::file::JobFileError;
use super::reader::Section;
use super::schema::shown;
use crate::Digest;
use crate::limits::MAX_BLOB_BYTES;

impl Section<'_, '_> {
    /// A SHA-256; `by` is the command that fills it in, `aimass ... submit`.
    pub(super) fn digest(&self, key: &str, by: &str) -> Result<Digest, JobFileError> {
        let Some(text) = self.optional_text(key, "\"9f86d081...\"")? else {
            return Err(self.unfilled(key, by));
        };
        text.parse().map_err(|_| {
            let problem = format!("{:?} is no SHA-256", shown(text));
            let fix = format!("write the 64 hexadecimal digits that `sha256sum` prints, or remove it and let `{by}` fill it in");
            self.refuse(key, problem, fix)
        })
    }

    /// `size_bytes` of a file that may be sent.
    pub(super) fn size(&self, by: &str) -> Result<u64, JobFileError> {
        if !self.has("size_bytes") {
            return Err(self.unfilled("size_bytes", by));
        }
        self.integer("size_bytes", 1, MAX_BLOB_BYTES, None, "1048576")
    }

    /// What to do where something is missing that nobody writes by hand.
    pub(super) fn unfilled(&self, key: &str, by: &str) -> JobFileError {
        let check = by.replace("submit", "check");
        let fix = format!("let `{by}` or `{check} --output FILE` fill it in from the file at `path`");
        self.refuse(key, "is missing", fix)
    }
}
