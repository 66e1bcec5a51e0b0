//! Which blobs agents may fetch: the models of jobs. Held-out data lies in the same blob store and is the server's alone.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use aimass_protocol::{Digest, JobId};

/// The models that were handed out, each with its job.
#[derive(Debug, Default)]
pub(crate) struct Models {
    jobs: RwLock<HashMap<Digest, JobId>>,
}

impl Models {
    /// Lets agents fetch `models` of `job`.
    pub(crate) fn allow(&self, job: JobId, models: impl IntoIterator<Item = Digest>) {
        self.jobs
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(models.into_iter().map(|model| (model, job)));
    }

    /// The job that `model` belongs to (the last one, if several share it).
    pub(crate) fn job_of(&self, model: Digest) -> Option<JobId> {
        self.jobs.read().unwrap_or_else(PoisonError::into_inner).get(&model).copied()
    }
}
