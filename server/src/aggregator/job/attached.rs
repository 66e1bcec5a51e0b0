//! Files that a training job names besides its model: a teacher, a student, public data. They are here, as long as the owner signed, and go with the model.

use aimass_learning::data::{Limits, Source, Wanted, open_bytes};
use aimass_onnx::Model;
use aimass_protocol::Digest;
use aimass_protocol::job::JobFileError;
use aimass_recipe::{fusion, taught};
use axum::body::Bytes;

use super::{Job, JobError};
use crate::blobs::{BlobError, BlobStore};

/// Their bytes, by the section that names them.
pub(super) type Attached = Vec<(&'static str, Bytes)>;

/// Who fills in what nobody writes by hand.
const SUBMIT: &str = "submit the job with `aimass job submit`, which fills it in and uploads the file";

impl Job {
    /// The teacher, which agents fetch: its field, digest and size.
    pub(super) fn teacher(&self) -> Option<(String, Digest, u64)> {
        let pinned = self.file.train.distil.as_ref()?.teacher.pinned?;
        Some(("train.distil.digest".to_owned(), pinned.digest, pinned.size_bytes))
    }

    /// Reads all of them.
    pub(super) async fn read_attached(&self, blobs: &BlobStore) -> Result<Attached, JobError> {
        let mut read = Vec::new();
        for (section, file) in self.file.attached() {
            let field = |key: &str| format!("{section}.{key}");
            let Some(pinned) = file.pinned else {
                return Err(self.at(&field("digest"), "is missing", SUBMIT).into());
            };
            let bytes = match blobs.read(pinned.digest).await {
                Ok(bytes) => bytes,
                Err(BlobError::NotFound { digest }) => {
                    let problem = format!("the file {} is not stored here", digest.to_hex());
                    return Err(self.at(&field("digest"), problem, SUBMIT).into());
                }
                Err(other) => return Err(JobError::Blob(other)),
            };
            if bytes.len() as u64 != pinned.size_bytes {
                let problem = format!("the file has {} bytes, and {} were signed", bytes.len(), pinned.size_bytes);
                return Err(self.at(&field("size_bytes"), problem, SUBMIT).into());
            }
            read.push((section, bytes));
        }
        Ok(read)
    }

    /// Refuses a teacher or a student that does not go with the model.
    pub(super) fn check_attached(&self, attached: &Attached, model: &Model, evaluation: Option<&dyn Source>) -> Result<(), JobFileError> {
        for (section, bytes) in attached {
            let key = match *section {
                "train.distil" => "train.distil.teacher",
                "compress.distil" => "compress.distil.student",
                _ => continue,
            };
            let fix = "name a model that passes `aimass model check`";
            let other = Model::from_shared(bytes.clone()).map_err(|e| self.at(key, e.to_string(), fix))?;
            let checked = match *section {
                "train.distil" => taught::check(model, &other, &self.file, evaluation),
                _ => taught::check_student(&other, model, &self.file, evaluation),
            };
            let fix = "use models with the same inputs and outputs, see docs/compress.md";
            checked.map_err(|e| self.at(e.field(), e.to_string(), fix))?;
        }
        Ok(())
    }

    /// The rows that groups are asked about, where the strategy fuses them; it is tried whether they go with the model.
    pub(super) fn public(&self, attached: &Attached, model: &Model, wanted: &Wanted) -> Result<Option<Box<dyn Source>>, JobFileError> {
        let Some(fusion) = &self.file.strategy.fusion else {
            return Ok(None);
        };
        let bytes = attached.iter().find(|(section, _)| *section == "strategy").map(|(_, bytes)| bytes);
        let bytes = bytes.ok_or_else(|| self.at("strategy.data", "is not here", SUBMIT))?;
        let wrong = |problem: String| self.at("strategy.data", problem, "give rows that feed the model; targets need not be there");
        let rows = fusion::open(wanted, |wanted| open_bytes(&fusion.data.path, bytes, wanted, &Limits::default()));
        let rows = rows.map_err(|e| wrong(e.to_string()))?;
        fusion::check(model, &self.file, &*rows).map_err(|e| wrong(e.to_string()))?;
        Ok(Some(rows))
    }
}
