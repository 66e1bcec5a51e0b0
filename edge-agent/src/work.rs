//! What is done with the data: training or counting, and turning the result into residues. Blocking; nothing of it is kept in memory afterwards.

mod calibrating;
mod counting;
mod measuring;
mod teacher;
mod training;
mod turns;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aimass_analytics::WidthError;
use aimass_analytics::calibration::CountError;
use aimass_analytics::release::Device;
use aimass_compress::CompressError;
use aimass_compression::mask::{self, Sign};
use aimass_compression::{ClientUpdate, ContributionError, Evaluation, FixedCodec, FixedParams, PlanError, SumPlan};
use aimass_crypto::hash::{Sha256, sha256};
use aimass_crypto::secagg::mask as secret;
use aimass_federation::agent::Masks;
use aimass_learning::checkpoint::Identity;
use aimass_learning::data::{self, Limits, Source};
use aimass_learning::training::Training;
use aimass_learning::{AnyTrainer, BackendConfig, DataError, Head, Progress, TrainConfig, TrainError};
use aimass_net::disk;
use aimass_onnx::{Model, ReadError};
use aimass_protocol::descriptor::{CodecName, Descriptor};
use aimass_protocol::job::JobFile;
use aimass_protocol::manifest::ManifestError;
use aimass_protocol::{CohortId, ContributionId, Digest, JobId, Timestamp};
use aimass_recipe::held_back::{self, Parts};
use aimass_recipe::{Recipe, RecipeError, Setting, seeds, taught, train_config};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;
use tracing::{info, warn};

use crate::state::{self, EncodedRecord, EvaluationRecord, StateError, StateFolder, TrainedRecord};

pub(crate) use measuring::self_test;
pub(crate) use teacher::pinned as pinned_teacher;
pub use training::Wish;

/// How much training a killed process loses at most, but for the step that it was in; more where saving is slow.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

/// What to train, or to count.
#[derive(Debug, Clone)]
pub struct TrainOrder {
    /// The job.
    pub job: JobId,
    /// Its file.
    pub file: JobFile,
    /// The round that the base belongs to.
    pub round: u32,
    /// The base model, which lies in the state folder; of an analytics job the report of the round before.
    pub base: Digest,
    /// The file registered for the job's data contract.
    pub data: PathBuf,
    /// What the result is called.
    pub contribution: ContributionId,
    /// Training stops at the first step after this, and what was done counts.
    pub finish_by: Option<Timestamp>,
    /// What this device is, for a release.
    pub bench: Bench,
}

/// A device as a release measures it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bench {
    /// What variants ask of it.
    pub device: Device,
    /// Files larger than this are refused.
    pub max_file_bytes: u64,
}

/// Why there is no contribution.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkError {
    /// The data file.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The server asks for more than the owner signed.
    #[error("the server asks for round {round}, and the signed job has {rounds}: nothing is counted; tell the operator")]
    Turn {
        /// By the server.
        round: u32,
        /// By the job.
        rounds: u32,
    },
    /// What was counted does not change: counted for other sums it could be told.
    #[error(
        "the server asks for round {round} on another report, and this device counted for round {counted}: nothing is counted; tell the operator"
    )]
    Again {
        /// By the server.
        round: u32,
        /// The last that was counted for.
        counted: u32,
    },
    /// The server starts a job that counts from something else than nothing.
    #[error(
        "the server's first round stands on {base}, which is not the empty report of the signed job: nothing is counted; tell the operator"
    )]
    Beginning {
        /// What it stands on.
        base: Digest,
    },
    /// The server goes on from something else than the report of the round before.
    #[error(
        "the server's round stands on {base}, which is not the report of the round before: {reason}; nothing is counted; tell the operator"
    )]
    Before {
        /// What it stands on.
        base: Digest,
        /// Why it is not.
        reason: String,
    },
    /// The model of a calibration is not there, too large, or another one than the job says.
    #[error("the calibration's model: {0}")]
    Calibrated(String),
    /// The model does not run on the rows, or what it computes is not finite.
    #[error("nothing is counted of this device's rows: {0}")]
    Look(#[from] CompressError),
    /// What was seen is not of the round.
    #[error(transparent)]
    Count(#[from] CountError),
    /// The data and what the job counts of it.
    #[error(transparent)]
    Width(#[from] WidthError),
    /// The base model's file is gone, or not what was fetched.
    #[error("the base model {base} is not on disk, or does not match its digest; it is fetched again")]
    Base {
        /// The model.
        base: Digest,
    },
    /// The teacher's file is gone, or not what the owner signed.
    #[error("the teacher {teacher} is not on disk, or is not the file that the owner signed; it is fetched again")]
    Teacher {
        /// Its digest.
        teacher: Digest,
    },
    /// A teacher that this device does not take.
    #[error(
        "the job's teacher has {size_bytes} bytes, and [models] max_mib permits {max_bytes}: raise it, or leave the job to larger devices"
    )]
    TeacherTooLarge {
        /// Its size.
        size_bytes: u64,
        /// What is permitted.
        max_bytes: u64,
    },
    /// A job file that does not say which bytes its teacher is.
    #[error("the job names a teacher and not its digest: nothing is trained; tell the job's owner to submit it with `aimass job submit`")]
    TeacherUnpinned,
    /// The teacher's graph.
    #[error("the job's teacher: {0}")]
    TeacherModel(ReadError),
    /// The model.
    #[error("the base model: {0}")]
    Model(#[from] ReadError),
    /// The job and the model.
    #[error("the job's {field}: {0}", field = .0.field())]
    Recipe(#[from] RecipeError),
    /// Training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The cohort does not take what was trained from this model.
    #[error("the cohort takes no contributions that were trained from model {base}")]
    OtherBase {
        /// The contribution's.
        base: Digest,
    },
    /// The codec's parameters.
    #[error("the cohort's codec: {0}")]
    Plan(#[from] PlanError),
    /// The update can't be encoded.
    #[error(transparent)]
    Encode(#[from] aimass_compression::EncodeError),
    /// The masks can't be laid.
    #[error("the masks of the cohort: {0}")]
    Mask(#[from] ContributionError),
    /// The cohort is secure and there are no masks, or the other way round.
    #[error("the cohort's mode does not go with the masks that there are: nothing is encoded")]
    Mode,
    /// The cohort sums something else than what there is: updates, or what was counted.
    #[error("the cohort's codec is of another kind of job than the contribution: nothing is encoded")]
    OtherCodec,
    /// The update is too long to be sent.
    #[error("the encoded update: {0}")]
    Manifest(#[from] ManifestError),
    /// The contribution is gone from the state folder.
    #[error("contribution {id} is no longer on disk")]
    Missing {
        /// Which.
        id: ContributionId,
    },
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Does what a task asks for: [`train`]; or where the job counts, counts; or measures a variant of a release; or looks at the activations of a model. Those take one pass over the data, which starts anew after an interruption;
/// `control` hears of every batch.
///
/// # Errors
/// [`WorkError`]; no contribution is kept then.
pub fn work_on(
    folder: &StateFolder,
    order: &TrainOrder,
    backend: &BackendConfig,
    control: &mut dyn FnMut(Progress) -> Wish,
) -> Result<(TrainedRecord, Duration), WorkError> {
    let file = &order.file;
    match (&file.analyze, &file.release, &file.calibration) {
        (Some(analyze), ..) => counting::count(folder, order, analyze, control),
        (None, Some(release), _) => measuring::measure(folder, order, release, control),
        (None, None, Some(calibration)) => calibrating::look(folder, order, calibration, control),
        (None, None, None) => train(folder, order, backend, control),
    }
}

/// Trains on `backend` and keeps the result durably under `order.contribution`. Goes on from the checkpoint that an interrupted training of the same
/// job, base and data has left, to the same bytes; the checkpoint stays until the session lets go of the task. `control` hears of every step and says
/// how to go on. Where the job asks for evaluation on devices, some rows are never trained on and the base is evaluated on them first, which `control`
/// does not interrupt. Returns what was kept and how long all of it took.
///
/// # Errors
/// [`WorkError`]; no contribution is kept then.
pub fn train(
    folder: &StateFolder,
    order: &TrainOrder,
    backend: &BackendConfig,
    control: &mut dyn FnMut(Progress) -> Wish,
) -> Result<(TrainedRecord, Duration), WorkError> {
    let started = Instant::now();
    let path = folder.model_path(order.base);
    let bytes = match disk::call("reading a model").and_then(|()| fs::read(&path)) {
        Ok(bytes) if Digest::from_bytes(sha256(&bytes)) == order.base => bytes,
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(StateError::from(io::Error::new(e.kind(), format!("{}: {e}", path.display()))).into());
        }
        _ => return Err(WorkError::Base { base: order.base }),
    };
    let model = Model::from_shared(bytes.into())?;
    let Recipe { layout, wanted, heads } = Recipe::of(&model, &order.file)?;
    let data = data::open(&order.data, &wanted, &Limits::default())?;
    let fingerprint = seeds::fingerprint(&*data)?;
    let Parts { train: data, held_back } = Parts::of(data.into(), order.file.on_devices(), order.file.job.seed, &fingerprint);
    let evaluation = held_back.map(|rows| evaluate(&model, &rows, &heads));
    let seed = seeds::of_training(order.file.job.seed, order.base, &fingerprint);
    let config = train_config(&order.file, Setting::Round, data.len(), seed);
    let note = |text: &str| info!("{text}");
    let open = |model: &_, layout: &_, config: &_| AnyTrainer::open(backend, model, layout, config, note);
    let update = if config.epochs == 0 {
        let config = TrainConfig { heads, ..config };
        aimass_learning::dry_run(&model, &layout, &*data, &config)?
    } else {
        let teacher = teacher::of(folder, order)?;
        let taught = teacher
            .map(|teacher| {
                let mut go_on = |step, steps| control(Progress { step, steps, loss: 0.0 }) == Wish::GoOn;
                taught::taught(&*data, &teacher, &model, &config, teacher::threads(backend), &mut go_on)
            })
            .transpose()?;
        let data: &dyn Source = taught.as_ref().map_or(&*data, |taught| taught);
        let kept = training::Kept {
            path: folder.checkpoint_path(),
            identity: identity_of(order, &fingerprint),
            every: CHECKPOINT_EVERY,
        };
        let begin = || Training::on(&model, &layout, data, &config, open);
        training::run(begin, &layout, &kept, order.finish_by, control)?
    };
    let record = TrainedRecord {
        job: order.job,
        base: order.base,
        layout_digest: Digest::from_bytes(sha256(&layout.canonical_bytes())),
        n_weights: update.delta.len(),
        delta_crc32: state::crc32_of(&update.delta),
        examples: update.examples,
        steps: update.steps,
        train_loss: update.train_loss,
        tally: None,
        release: None,
        calibration: None,
        evaluation,
        round: order.round,
        round_mode: order.file.round.mode,
        rounding_seed: Digest::from_bytes(seeds::of_rounding(order.file.job.seed, order.base, &fingerprint)),
    };
    drop((model, layout, data));
    folder.save_trained(order.contribution, &record, &update.delta)?;
    Ok((record, started.elapsed()))
}

/// How good `model` is on the rows that were held back. Where that can't be said, or can't be summed, it counts as no rows: an update is worth having all
/// the same.
fn evaluate(model: &Model, rows: &dyn Source, heads: &[Head]) -> EvaluationRecord {
    let found = held_back::evaluate(model, rows, heads).unwrap_or_else(|reason| {
        warn!("the base model can't be evaluated on the rows that are held back, and none of them counts: {reason}");
        held_back::NOTHING
    });
    EvaluationRecord {
        loss: found.loss,
        correct: found.correct,
        examples: found.examples,
    }
}

/// What a checkpoint belongs to. The job's id says how it is trained, the base and the data what the seed is.
fn identity_of(order: &TrainOrder, fingerprint: &[u8; 32]) -> Identity {
    let mut recipe = Sha256::new();
    recipe.update(b"aimass/round-training");
    recipe.update(order.job.as_bytes());
    Identity {
        recipe: recipe.finish(),
        model: *order.base.as_bytes(),
        data: *fingerprint,
    }
}

/// Turns a kept contribution into residues for a cohort, lays `masks` over them where the cohort is secure, and keeps them durably. Residues that are
/// there for the same cohort stay as they are.
///
/// # Errors
/// [`WorkError`]; [`WorkError::Mode`] unless there are masks exactly where the cohort is secure: residues without theirs never reach the disk.
pub fn encode(state: &StateFolder, id: ContributionId, descriptor: &Descriptor, masks: Option<&Masks>) -> Result<EncodedRecord, WorkError> {
    if masks.is_some() != descriptor.secagg.is_some() {
        return Err(WorkError::Mode);
    }
    if let Some(record) = encoded(state, id, descriptor.cohort)? {
        return Ok(record);
    }
    let trained = state.load_trained(id)?.ok_or(WorkError::Missing { id })?;
    let staleness = descriptor.bases.iter().position(|base| *base == trained.base);
    let staleness = staleness.ok_or(WorkError::OtherBase { base: trained.base })?;
    let (mut packed, plan, clipped) = match (trained.is_counted(), descriptor.codec.codec) {
        (false, CodecName::Fixed) => pack_update(state, id, &trained, descriptor, staleness)?,
        (true, CodecName::Exact) => pack_counted(&trained, &state.load_counted(id, &trained)?, descriptor.members)?,
        _ => return Err(WorkError::OtherCodec),
    };
    if let Some(masks) = masks {
        lay(&plan, &mut packed, masks)?;
    }
    let manifest = aimass_net::blob::update_manifest(&packed)?;
    let record = EncodedRecord {
        cohort: descriptor.cohort,
        manifest,
        encoded_crc32: crc32fast::hash(&packed),
        clipped,
    };
    state.save_encoded(id, &record, &packed)?;
    Ok(record)
}

/// Residues without masks, their plan, and whether something was clipped.
type Packed = (Vec<u8>, SumPlan, bool);

fn pack_counted(counted: &TrainedRecord, values: &[u64], members: u32) -> Result<Packed, WorkError> {
    let (codec, packed) = match (&counted.tally, &counted.release, &counted.calibration) {
        (Some(shape), ..) => {
            let codec = shape.codec(members)?;
            let packed = shape.encode(&codec, values)?;
            (codec, packed)
        }
        (None, Some(shape), _) => {
            let codec = shape.codec(members)?;
            let packed = shape.encode(&codec, values)?;
            (codec, packed)
        }
        (None, None, Some(shape)) => {
            let codec = shape.codec(members)?;
            let packed = shape.encode(&codec, values)?;
            (codec, packed)
        }
        (None, None, None) => return Err(WorkError::OtherCodec),
    };
    Ok((packed, codec.plan().clone(), false))
}

fn pack_update(
    state: &StateFolder,
    id: ContributionId,
    trained: &TrainedRecord,
    descriptor: &Descriptor,
    staleness: usize,
) -> Result<Packed, WorkError> {
    let codec = FixedCodec::new(FixedParams {
        n_weights: trained.n_weights,
        bits: descriptor.codec.bits,
        clip: descriptor.codec.clip,
        weight_cap: descriptor.codec.weight_cap,
        weight_scale: trained.round_mode.weight_scale(),
        members: descriptor.members,
        rotation: descriptor.rotation.map(|seed| *seed.as_bytes()),
        evaluation: trained.evaluation.is_some(),
    })?;
    let delta = state.load_delta(id, trained)?;
    let update = ClientUpdate {
        delta: &delta,
        examples: trained.examples,
        // A descriptor has a few bases.
        staleness: u32::try_from(staleness).unwrap_or(u32::MAX),
        train_loss: trained.train_loss,
        evaluation: trained.evaluation.map(|found| Evaluation {
            loss: found.loss,
            correct: found.correct,
            examples: found.examples,
        }),
    };
    let encoded = codec.encode(update, &mut ChaCha8Rng::from_seed(*trained.rounding_seed.as_bytes()))?;
    Ok((encoded.packed, codec.plan().clone(), encoded.clipped))
}

/// Lays masks over packed residues of this plan: afterwards they look random to whoever does not know them.
///
/// # Errors
/// [`ContributionError`] when the residues are not of this plan.
pub fn lay(plan: &SumPlan, packed: &mut [u8], masks: &Masks) -> Result<(), ContributionError> {
    let mut streams: Vec<_> = masks
        .signed()
        .iter()
        .map(|mask| {
            let sign = match mask.sign {
                secret::Sign::Plus => Sign::Plus,
                secret::Sign::Minus => Sign::Minus,
            };
            let mut stream = secret::MaskStream::new(masks.suite(), &mask.key, 0);
            (sign, move |bytes: &mut [u8]| stream.fill(bytes))
        })
        .collect();
    mask::apply(plan, packed, &mut streams)
}

/// What is kept for this cohort, if its bytes are those that its record vouches for.
///
/// # Errors
/// [`WorkError::State`].
pub fn encoded(state: &StateFolder, id: ContributionId, cohort: CohortId) -> Result<Option<EncodedRecord>, WorkError> {
    let Some(record) = state.load_encoded(id)?.filter(|record| record.cohort == cohort) else {
        return Ok(None);
    };
    let crc = state::file_crc32(&state.encoded_path(id))?;
    Ok((crc == Some(record.encoded_crc32)).then_some(record))
}

/// SHA-256 of a file, read in pieces; `None` when there is no such file.
///
/// # Errors
/// What the file system says, with the path.
pub fn file_digest(path: &Path) -> Result<Option<Digest>, StateError> {
    let mut hash = Sha256::new();
    let there = state::read_pieces(path, |piece| hash.update(piece))?;
    Ok(there.then(|| Digest::from_bytes(hash.finish())))
}

#[cfg(test)]
mod tests;
