//! A job as the aggregator works on it: its signed bytes, its checked file, its model's layout and its held-out data.

use std::fmt;
use std::sync::Arc;

use aimass_compression::{FixedCodec, FixedParams, PlanError};
use aimass_crypto::hash::sha256;
use aimass_federation::coordinator::{CohortTerms, check_graph};
use aimass_learning::data::{Limits, Source, open_bytes};
use aimass_learning::inspect::obstacles;
use aimass_learning::training::{check_data, evaluate_on};
use aimass_learning::{Evaluation, Head, Metric, TrainError, fit_check};
use aimass_onnx::{Dim, Model, ParamLayout};
use aimass_protocol::job::{JobFile, JobFileError, JobSource, SignedJob};
use aimass_protocol::limits::MAX_BLOB_BYTES;
use aimass_protocol::{Digest, JobId, PublicKeyBytes, SignatureBytes, codec};
use aimass_recipe::Recipe;
use serde_bytes::ByteBuf;

use crate::blobs::{BlobError, BlobStore};

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
    /// The work was cut short by the end of the process.
    #[error("the server is shutting down: submit the job again later")]
    ShuttingDown,
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

/// What the rounds of a job need.
pub(crate) struct Work {
    /// Which initializers train.
    pub(crate) layout: ParamLayout,
    /// SHA-256 of the layout's canonical bytes.
    pub(crate) layout_digest: Digest,
    /// Held-out data, if the job has some.
    pub(crate) evaluation: Option<Box<dyn Source>>,
    /// The outputs and losses that it is evaluated with.
    pub(crate) heads: Vec<Head>,
    /// How the initial model does on the held-out data.
    pub(crate) initial: Option<Evaluation>,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("layout_digest", &self.layout_digest)
            .finish_non_exhaustive()
    }
}

impl Work {
    /// How a model does on the held-out data; `None` where there is none.
    ///
    /// # Errors
    /// [`TrainError`].
    pub(crate) fn measure(&self, model: &Model) -> Result<Option<Evaluation>, TrainError> {
        let data = self.evaluation.as_deref();
        data.map(|data| evaluate_on(model, data, &self.heads, &[])).transpose()
    }

    /// Whether outputs are right or wrong: classes or labels, not values to regress.
    pub(crate) fn has_accuracy(&self) -> bool {
        self.heads.iter().any(|head| Metric::Accuracy.suits(&head.loss))
    }
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
        tokio::task::spawn_blocking(move || {
            let work = self.prepare(&model, evaluation.as_deref())?;
            self.work = Some(Arc::new(work));
            Ok(self)
        })
        .await
        .map_err(|_| JobError::ShuttingDown)?
    }

    fn prepare(&self, model: &[u8], evaluation: Option<&[u8]>) -> Result<Work, JobError> {
        let model =
            Model::from_bytes(model).map_err(|e| self.at("model.path", e.to_string(), "use a model that passes `aimass model check`"))?;
        let recipe = Recipe::of(&model, &self.file).map_err(|e| {
            self.at(
                e.field(),
                e.to_string(),
                "correct it, or submit the job with `aimass job submit`, which adds adapters",
            )
        })?;
        let Recipe { layout, heads, wanted } = recipe;
        let codec = self
            .codec(&layout, self.file.round.max, None)
            .map_err(|e| self.at("update.bits", e.to_string(), "use fewer bits, or fewer agents a round"))?;
        let packed_bytes = codec.plan().packed_bytes() as u64;
        if packed_bytes > MAX_BLOB_BYTES {
            let problem = format!("an update would take {packed_bytes} bytes, over the limit of {MAX_BLOB_BYTES}");
            return Err(self.at("update.bits", problem, "use fewer bits or a smaller model").into());
        }
        let named = self.file.evaluate.as_ref().and_then(|section| section.data.as_ref());
        check_graph(&self.file).map_err(|e| self.at("round.max", e.problem, e.fix))?;
        let evaluation = match (evaluation, named) {
            (None, None) => None,
            (Some(bytes), Some(name)) => {
                let data = open_bytes(name, bytes, &wanted, &Limits::default())
                    .map_err(|e| self.at("evaluate.data", e.to_string(), "correct the file at that place"))?;
                Some(data)
            }
            (None, Some(_)) => {
                return Err(self
                    .at(
                        "evaluate.data",
                        "the held-out data was not signed with the job",
                        "submit the job again",
                    )
                    .into());
            }
            (Some(_), None) => {
                return Err(self
                    .at(
                        "evaluate",
                        "held-out data was signed, but the job file names none",
                        "add [evaluate] with data",
                    )
                    .into());
            }
        };
        // Found out now, and not on a thousand devices.
        let fits = match &evaluation {
            Some(data) => check_data(&model, &layout, &**data, &heads),
            None => check_alone(&model, &layout, &self.file, &heads),
        };
        fits.map_err(|e| match e {
            TrainError::Config { .. } => self.at("train.loss", e.to_string(), "correct the loss's options"),
            TrainError::Data { .. } => self.at("data.inputs", e.to_string(), "name the columns that the model takes"),
            _ => self.at("model.path", e.to_string(), "use a model whose graph can be trained"),
        })?;
        let layout_digest = Digest::from_bytes(sha256(&layout.canonical_bytes()));
        let mut work = Work {
            layout,
            layout_digest,
            evaluation,
            heads,
            initial: None,
        };
        work.initial = work
            .measure(&model)
            .map_err(|e| self.at("evaluate.data", e.to_string(), "use data whose columns and classes fit the model"))?;
        Ok(work)
    }

    fn at(&self, field: &str, problem: impl Into<String>, fix: &str) -> JobFileError {
        self.source.error_at(field, problem, fix)
    }

    /// Accuracy of the initial model on the held-out data.
    pub(crate) fn initial_accuracy(&self) -> Option<f64> {
        self.work.as_ref()?.initial.as_ref()?.accuracy
    }

    /// What the updates of a full round take in the journal.
    pub(crate) fn journal_bytes(&self) -> u64 {
        let codec = self
            .work
            .as_ref()
            .and_then(|work| self.codec(&work.layout, self.file.round.max, None).ok());
        let packed_bytes = codec.map_or(0, |codec| codec.plan().packed_bytes() as u64);
        packed_bytes.saturating_mul(self.file.round.max.into())
    }

    /// The seed of the rotation that a cohort's updates go through. It follows from the job's seed and the model, and is no secret: a plain and a secure
    /// run of one job make the same models.
    pub(crate) fn rotation(&self, terms: &CohortTerms) -> Digest {
        let base = terms.bases.first().map_or([0; 32], |base| *base.as_bytes());
        Digest::from_bytes(sha256(
            &[&b"aimass rotation v1"[..], &self.file.job.seed.to_le_bytes(), &base].concat(),
        ))
    }

    /// How updates of this job become integers, in a sum of `members`. The rotation changes no lengths.
    ///
    /// # Errors
    /// [`PlanError`].
    pub(crate) fn codec(&self, layout: &ParamLayout, members: u32, rotation: Option<Digest>) -> Result<FixedCodec, PlanError> {
        let update = self.file.update;
        FixedCodec::new(FixedParams {
            n_weights: layout.n_weights(),
            bits: update.bits,
            clip: update.clip,
            weight_scale: self.file.round.mode.weight_scale(),
            weight_cap: update.weight_cap,
            members,
            rotation: rotation.map(|seed| *seed.as_bytes()),
            evaluation: self.file.on_devices().is_some(),
        })
    }
}

/// Whether a model trains, as far as that can be known without data.
fn check_alone(model: &Model, layout: &ParamLayout, file: &JobFile, heads: &[Head]) -> Result<(), TrainError> {
    if let ([head], Some(width)) = (heads, row_width(model, file)) {
        return fit_check(model, layout, width, head, None).map(|_| ());
    }
    match obstacles(model).first() {
        None => Ok(()),
        Some(obstacle) => Err(TrainError::Graph {
            reason: obstacle.to_string(),
        }),
    }
}

/// How long a row of features is: by the job file, else by the model; `None` when neither says it, or rows are more than that.
fn row_width(model: &Model, file: &JobFile) -> Option<usize> {
    let [input] = model.inputs() else { return None };
    if !file.data.inputs.is_empty() {
        return Some(file.data.inputs.len());
    }
    let dims = input.dims.as_ref()?;
    dims.iter()
        .skip(1)
        .map(|dim| match dim {
            Dim::Fixed(n) => Some(*n),
            _ => None,
        })
        .product()
}
