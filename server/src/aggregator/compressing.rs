//! The last step of a job that asks for it: its last model is made smaller, one at a time and off the reactor.
//!
//! Whether it is to be done follows from the job's end and its record, so that a server that was killed meanwhile begins anew and makes the same bytes.
//! Whatever becomes of it, the models of the rounds stay as they are.

use std::sync::Arc;

use aimass_analytics::calibration::CalibrationReport;
use aimass_compress::{CompressError, Compressed, Measured, compress_calibrated, compress_job, rehearse};
use aimass_federation::coordinator::JobEnd;
use aimass_learning::data::{Limits, Source, Wanted, open_bytes};
use aimass_onnx::Model;
use aimass_recipe::Recipe;
use axum::body::Bytes;

use super::driver::now;
use super::job::{Job, JobError};
use super::service::Shared;
use crate::blobs::BlobError;
use crate::store::{CompressedRecord, CompressionRecord, JobRecord, MeasuredRecord, ParityRecord, RoundRecord, StepRecord, StoreError};

/// How often a server may end while it is at one model, before that model is given up: it may be what ends the server.
const MAX_ATTEMPTS: u32 = 5;

/// Why nothing is known yet of a smaller model: the next start of the server tries again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Postponed {
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the server is ending")]
    Ending,
}

/// The record of a job that has just finished; `None` where nothing is asked for, or the job ended otherwise.
pub(crate) fn begun(job: &Job, record: &JobRecord, rounds: &[RoundRecord]) -> Option<CompressionRecord> {
    let section = job.file.compress.as_ref()?;
    let last = rounds.last().map_or(job.model, |round| round.model);
    let calibration = job.file.calibration.as_ref();
    matches!(record.end, Some(JobEnd::Finished { .. })).then(|| CompressionRecord {
        job: job.id,
        round: rounds.last().map_or(0, |round| round.round),
        parent: calibration.map_or(last, |calibration| calibration.digest),
        ranges: calibration.map(|_| last),
        recipe: section.to_string(),
        attempts: 0,
        made: None,
        failure: None,
        ended_at_ms: None,
    })
}

/// Makes the smaller model when it is its turn, and stores it and its record.
///
/// # Errors
/// [`Postponed`]; what can't ever become a model is no error: the record says why.
pub(crate) async fn run(shared: &Shared, job: &Arc<Job>, mut record: CompressionRecord) -> Result<CompressionRecord, Postponed> {
    // Nobody closes it.
    let _turn = shared.compressing.acquire().await;
    let made = if record.attempts >= MAX_ATTEMPTS {
        Err(format!(
            "the server ended {MAX_ATTEMPTS} times while it was at it: give it more memory, or ask for less in [compress]"
        ))
    } else {
        record.attempts += 1;
        put(shared, &record).await?;
        tracing::info!(job = %job.id, recipe = %record.recipe, attempt = record.attempts, "making the last model smaller");
        make(shared, job, &record).await?
    };
    match made {
        Ok(done) => {
            let stored = shared.blobs.put(done.model.bytes()).await?;
            record.made = Some(of(&done, stored.digest()));
        }
        Err(reason) => record.failure = Some(reason),
    }
    record.ended_at_ms = Some(now().as_ms());
    put(shared, &record).await?;
    match (&record.made, &record.failure) {
        (Some(made), _) => {
            let (before, after) = (made.before.bytes, made.after.bytes);
            tracing::info!(job = %job.id, model = %made.digest, before, after, points_lost = made.points_lost, "the smaller model is stored");
        }
        (None, reason) => {
            let reason = reason.as_deref().unwrap_or_default();
            tracing::error!(job = %job.id, reason, "there is no smaller model; that of the last round stays");
        }
    }
    Ok(record)
}

async fn put(shared: &Shared, record: &CompressionRecord) -> Result<(), Postponed> {
    let (store, record) = (shared.store.clone(), record.clone());
    let stored = tokio::task::spawn_blocking(move || store.put_compression(&record)).await;
    Ok(stored.map_err(|_| Postponed::Ending)??)
}

/// The smaller model, or why there will never be one.
async fn make(shared: &Shared, job: &Arc<Job>, record: &CompressionRecord) -> Result<Result<Compressed, String>, Postponed> {
    let missing = |e: BlobError| match e {
        BlobError::NotFound { .. } => Ok(e.to_string()),
        other => Err(Postponed::Blob(other)),
    };
    let model = match shared.blobs.read(record.parent).await {
        Ok(model) => model,
        Err(e) => return missing(e).map(Err),
    };
    let (mut evaluation, mut ranges) = (None, None);
    for (digest, into) in [(job.signed.evaluation, &mut evaluation), (record.ranges, &mut ranges)] {
        let Some(digest) = digest else { continue };
        match shared.blobs.read(digest).await {
            Ok(bytes) => *into = Some(bytes),
            Err(e) => return missing(e).map(Err),
        }
    }
    let student = job.file.compress.as_ref().and_then(|section| section.distil.as_ref());
    let student = match student.and_then(|distil| distil.student.pinned) {
        None => None,
        Some(pinned) => match shared.blobs.read(pinned.digest).await {
            Ok(bytes) => Some(bytes),
            Err(e) => return missing(e).map(Err),
        },
    };
    let job = Arc::clone(job);
    let done = tokio::task::spawn_blocking(move || work(&job, model, student, evaluation, ranges)).await;
    match done {
        Ok(done) => Ok(done.map_err(|e| e.to_string())),
        Err(cut) if cut.is_panic() => Ok(Err("the work ended by a fault of the program: report it with the model".to_owned())),
        Err(_) => Err(Postponed::Ending),
    }
}

/// Minutes for a large model with training, so off the reactor. `ranges` is the report of a calibration.
fn work(
    job: &Job,
    model: Bytes,
    student: Option<Bytes>,
    evaluation: Option<Bytes>,
    ranges: Option<Bytes>,
) -> Result<Compressed, CompressError> {
    let model = Model::from_shared(model)?;
    let student = student.map(Model::from_shared).transpose()?;
    let named = job.file.evaluate.as_ref().and_then(|section| section.data.as_deref());
    let mut show = |event: aimass_compress::Event<'_>| {
        if let aimass_compress::Event::Ended(step) = event {
            tracing::info!(job = %job.id, step = step.name, note = %step.note, bytes = step.after.bytes, seconds = step.seconds, "a step has ended");
        }
    };
    let open = |wanted: &Wanted| {
        let data = evaluation
            .zip(named)
            .map(|(bytes, name)| open_bytes(name, &bytes, wanted, &Limits::default()));
        Ok(data.transpose()?.map(|data| Arc::from(data) as Arc<dyn Source>))
    };
    match ranges {
        None => compress_job(&model, &job.file, student, open, &mut show),
        Some(report) => compress_calibrated(&model, &job.file, &CalibrationReport::parse(&report)?, open, &mut show),
    }
}

/// Whether the last step of a job that is submitted can be done at all, as far as that shows on the model that it starts from.
///
/// # Errors
/// [`JobError`].
pub(crate) async fn rehearsed(shared: &Shared, job: &Job) -> Result<(), JobError> {
    let student = job.file.compress.as_ref().and_then(|section| section.distil.as_ref());
    let student = student.and_then(|distil| distil.student.pinned).map(|pinned| pinned.digest);
    let mut read = Vec::new();
    for digest in [Some(job.model), job.signed.evaluation, student] {
        read.push(match digest {
            None => None,
            Some(digest) => Some(shared.blobs.read(digest).await.map_err(JobError::Blob)?),
        });
    }
    let tried = job.clone();
    let found = tokio::task::spawn_blocking(move || {
        let mut read = read.into_iter();
        let (model, rows, student) = (read.next().flatten(), read.next().flatten(), read.next().flatten());
        let model = Model::from_shared(model.unwrap_or_default())?;
        let student = student.map(Model::from_shared).transpose()?;
        let named = tried.file.evaluate.as_ref().and_then(|section| section.data.as_deref());
        let wanted = Recipe::of(&model, &tried.file)?.wanted;
        let rows = rows
            .zip(named)
            .map(|(bytes, name)| open_bytes(name, &bytes, &wanted, &Limits::default()));
        rehearse(&model, &tried.file, student.as_ref(), rows.transpose()?.map(Arc::from))
    });
    let found = found.await.map_err(JobError::cut)?;
    found.map_err(|e| job.refuse_compression(&e.to_string()))
}

fn of(done: &Compressed, digest: aimass_protocol::Digest) -> CompressedRecord {
    CompressedRecord {
        digest,
        before: measured(&done.before),
        after: measured(&done.after),
        rows: done.after.score.map_or(0, |score| score.examples),
        points_lost: done.drop_points(),
        parity: done.parity.map(ParityRecord::from),
        steps: done
            .steps
            .iter()
            .map(|step| StepRecord {
                name: step.name.to_owned(),
                note: step.note.clone(),
                after: measured(&step.after),
                seconds: step.seconds,
            })
            .collect(),
    }
}

fn measured(found: &Measured) -> MeasuredRecord {
    MeasuredRecord {
        bytes: found.bytes,
        accuracy: found.score.and_then(|score| score.accuracy),
        explained: found.score.and_then(|score| score.explained),
        loss: found.score.map(|score| score.loss),
    }
}
