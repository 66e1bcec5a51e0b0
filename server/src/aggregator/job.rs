//! A job as the aggregator works on it: its signed bytes, its checked file, its model's layout and its held-out data.

mod attached;
mod work;

use std::sync::Arc;

use aimass_crypto::hash::sha256;
use aimass_federation::coordinator::{CohortTerms, check_graph};
use aimass_protocol::job::{JobFile, JobFileError, JobSource, SignedJob};
use aimass_protocol::limits::MAX_BLOB_BYTES;
use aimass_protocol::{Digest, JobId, PublicKeyBytes, SignatureBytes, codec};
use aimass_recipe::seeds;
use serde_bytes::ByteBuf;

use crate::blobs::{BlobError, BlobStore};

use attached::Attached;
pub(crate) use work::{Codec, Training, Work};

/// A job that can't run here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum JobError {
    /// The signed bytes do not parse.
    #[error("the signed job can't be read: {reason}; sign it again with `aimass job submit` of the same version as the server")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// The job file, or what it says of model and data, is wrong.
    #[error("job file: {0}")]
    File(#[from] JobFileError),
    /// The model was not uploaded.
    #[error("the job's model {} is not stored here: upload the model first", digest.to_hex())]
    ModelMissing {
        /// Its digest.
        digest: Digest,
    },
    /// The held-out data was not uploaded.
    #[error("the job's held-out data {} is not stored here: upload it first", digest.to_hex())]
    EvaluationMissing {
        /// Its digest.
        digest: Digest,
    },
    /// The blob store failed.
    #[error(transparent)]
    Blob(BlobError),
    /// The program failed over it.
    #[error("the program met a fault of its own with this job: report it with the job file and its model")]
    Fault,
    /// The work was cut short by the end of the process.
    #[error("the server is shutting down: submit the job again later")]
    ShuttingDown,
}

impl JobError {
    /// Why work off the reactor gave nothing.
    pub(crate) fn cut(error: tokio::task::JoinError) -> Self {
        if error.is_panic() { Self::Fault } else { Self::ShuttingDown }
    }
}

/// A job.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Its id.
    pub(crate) id: JobId,
    /// What its owner signed.
    pub(crate) signed_bytes: ByteBuf,
    /// The owner's key.
    pub(crate) owner: PublicKeyBytes,
    /// The owner's signature.
    pub(crate) signature: SignatureBytes,
    /// What the signed bytes say.
    pub(crate) signed: SignedJob,
    /// The checked job file.
    pub(crate) file: JobFile,
    source: JobSource,
    /// The initial model.
    pub(crate) model: Digest,
    /// Its size in bytes.
    pub(crate) model_bytes: u64,
    /// What rounds need; `None` for a job that has ended.
    pub(crate) work: Option<Arc<Work>>,
}

impl Job {
    /// Reads signed bytes. Says nothing about who signed them, or whether the job can run.
    ///
    /// # Errors
    /// [`JobError::Malformed`], [`JobError::File`].
    pub(crate) fn read(signed_bytes: ByteBuf, owner: PublicKeyBytes, signature: SignatureBytes) -> Result<Self, JobError> {
        let malformed = |reason: String| JobError::Malformed { reason };
        let signed: SignedJob = codec::decode(&signed_bytes).map_err(|e| malformed(e.to_string()))?;
        let text = std::str::from_utf8(&signed.job_file).map_err(|e| malformed(format!("the job file is not UTF-8: {e}")))?;
        let (file, source) = JobFile::parse_with_source(text)?;
        let hash = sha256(&signed_bytes);
        let mut id = [0; JobId::LEN];
        id.copy_from_slice(&hash[..JobId::LEN]);
        let id = JobId::from_bytes(id);
        Ok(Self {
            id,
            signed_bytes,
            owner,
            signature,
            model: signed.model,
            signed,
            file,
            source,
            model_bytes: 0,
            work: None,
        })
    }

    /// Loads what rounds need, and checks that model, data and codec fit together.
    ///
    /// # Errors
    /// [`JobError`].
    pub(crate) async fn load(mut self, blobs: &BlobStore) -> Result<Self, JobError> {
        let model = blobs.read(self.model).await.map_err(|e| match e {
            BlobError::NotFound { digest } => JobError::ModelMissing { digest },
            other => JobError::Blob(other),
        })?;
        let evaluation = match self.signed.evaluation {
            None => None,
            Some(digest) => Some(blobs.read(digest).await.map_err(|e| match e {
                BlobError::NotFound { digest } => JobError::EvaluationMissing { digest },
                other => JobError::Blob(other),
            })?),
        };
        self.model_bytes = model.len() as u64;
        self.check_variants(blobs).await?;
        let attached = self.read_attached(blobs).await?;
        let calibrated = match &self.file.calibration {
            None => None,
            Some(calibration) => Some(blobs.read(calibration.digest).await.map_err(JobError::Blob)?),
        };
        tokio::task::spawn_blocking(move || {
            let work = self.prepare(&model, evaluation.as_deref(), &attached, calibrated.as_deref())?;
            self.work = Some(Arc::new(work));
            Ok(self)
        })
        .await
        .map_err(JobError::cut)?
    }

    /// The files that agents fetch besides the base: those of a release, the model of a calibration, a job's teacher.
    pub(crate) fn files(&self) -> impl Iterator<Item = (String, Digest, u64)> {
        let release = self.file.release.iter();
        let calibration = self.file.calibration.iter();
        let models = calibration.map(|calibration| ("calibration.digest".to_owned(), calibration.digest, calibration.size_bytes));
        let released = release.flat_map(|release| {
            let variants = release.variants.iter().enumerate();
            let variants = variants.map(|(at, variant)| (format!("release.variants[{at}].digest"), variant.digest, variant.size_bytes));
            let champion = release.champion.iter();
            variants.chain(champion.map(|champion| ("release.champion.digest".to_owned(), champion.digest, champion.size_bytes)))
        });
        models.chain(released).chain(self.teacher())
    }

    /// Whether all of them are here, and as long as the owner signed.
    async fn check_variants(&self, blobs: &BlobStore) -> Result<(), JobError> {
        let released = self.files().filter(|(field, ..)| !field.starts_with("train"));
        for (field, digest, size_bytes) in released {
            let found = match blobs.size(digest).await {
                Ok(found) => found,
                Err(BlobError::NotFound { digest }) => {
                    let problem = format!("the file {} is not stored here", digest.to_hex());
                    return Err(self
                        .at(&field, problem, "upload it first: the command that submits the file does")
                        .into());
                }
                Err(other) => return Err(JobError::Blob(other)),
            };
            if found != size_bytes {
                let problem = format!("the file has {found} bytes, and {size_bytes} were signed");
                return Err(self
                    .at(
                        &field,
                        problem,
                        "correct size_bytes, or remove it and let the command that submits the file fill it in",
                    )
                    .into());
            }
        }
        Ok(())
    }

    /// Why the last step of a job can't be done.
    pub(crate) fn refuse_compression(&self, problem: &str) -> JobError {
        let fix = "ask for what can be done to this model, see docs/compress.md";
        self.at("compress", format!("it can't be made smaller so: {problem}"), fix).into()
    }

    /// Why a release's variant must not go out.
    pub(crate) fn refuse_variant(&self, at: usize, problem: &str) -> JobError {
        let field = format!("release.variants[{at}].path");
        let fix = "make it again with `aimass compress`, or leave out what devices can't compute: it must not go out";
        self.at(&field, problem, fix).into()
    }

    /// `calibrated` is the model of a calibration.
    fn prepare(&self, model: &[u8], evaluation: Option<&[u8]>, attached: &Attached, calibrated: Option<&[u8]>) -> Result<Work, JobError> {
        let file = &self.file;
        let work = match (&file.analyze, &file.release, &file.calibration) {
            (Some(analyze), ..) => Work::Analytics(self.prepare_analytics(analyze, model, evaluation)?),
            (None, Some(release), _) => Work::Release(self.prepare_release(release, model, evaluation)?),
            (None, None, Some(calibration)) => {
                Work::Calibration(self.prepare_calibration(calibration, model, evaluation, calibrated.unwrap_or_default())?)
            }
            (None, None, None) => Work::Training(Box::new(self.prepare_training(model, evaluation, attached)?)),
        };
        // No round's contributions are longer than the last one's.
        let codec = work.codec(file, file.round.rounds, file.round.max, None).map_err(|e| match work {
            Work::Training(_) => self.at("update.bits", e.to_string(), "use fewer bits, or fewer agents a round"),
            Work::Analytics(_) => self.at("analyze", e.to_string(), "use fewer bits, or fewer agents a round"),
            Work::Release(_) => self.at("release.variants", e.to_string(), "use fewer variants, or fewer agents a round"),
            Work::Calibration(_) => self.at("calibration.bits", e.to_string(), "use fewer bits, or fewer agents a round"),
        })?;
        let packed_bytes = codec.plan().packed_bytes() as u64;
        if packed_bytes > MAX_BLOB_BYTES {
            let problem = format!("an update would take {packed_bytes} bytes, over the limit of {MAX_BLOB_BYTES}");
            return Err(self.at("update.bits", problem, "use fewer bits or a smaller model").into());
        }
        check_graph(&self.file).map_err(|e| self.at("round.max", e.problem, e.fix))?;
        Ok(work)
    }

    fn at(&self, field: &str, problem: impl Into<String>, fix: &str) -> JobFileError {
        self.source.error_at(field, problem, fix)
    }

    /// Accuracy of the initial model on the held-out data.
    pub(crate) fn initial_accuracy(&self) -> Option<f64> {
        match self.work.as_deref()? {
            Work::Training(training) => training.initial.as_ref()?.accuracy,
            Work::Analytics(_) | Work::Release(_) | Work::Calibration(_) => None,
        }
    }

    /// What the updates of a full round take in the journal.
    pub(crate) fn journal_bytes(&self) -> u64 {
        let codec = self
            .work
            .as_ref()
            .and_then(|work| work.codec(&self.file, self.file.round.rounds, self.file.round.max, None).ok());
        let packed_bytes = codec.map_or(0, |codec| codec.plan().packed_bytes() as u64);
        packed_bytes.saturating_mul(self.file.round.max.into())
    }

    /// The seed of the rotation that a cohort's updates go through; none where what is summed is no update. It follows from the job's seed and the model, and
    /// is no secret: a plain and a secure run of one job make the same models.
    pub(crate) fn rotation(&self, terms: &CohortTerms) -> Option<Digest> {
        if !self.file.trains() {
            return None;
        }
        let base = terms.bases.first().copied().unwrap_or(Digest::from_bytes([0; 32]));
        Some(Digest::from_bytes(seeds::of_rotation(self.file.job.seed, base)))
    }
}
