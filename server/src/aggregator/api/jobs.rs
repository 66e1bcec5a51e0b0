//! Jobs: submitted, shown, watched, stopped; their models.

use std::time::Duration;

use aimass_federation::coordinator::JobEnd;
use aimass_protocol::job::SignedJob;
use aimass_protocol::{JobId, PublicKeyBytes, SignatureBytes, codec};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Api, blobs};
use crate::aggregator::counters::Counter;
use crate::aggregator::driver::{Command, JobSnapshot, StopError};
use crate::aggregator::job::JobError;
use crate::aggregator::registry::MIN_PREFIX_DIGITS;
use crate::aggregator::submit::{SubmitError, snapshots, submit as submit_job};
use crate::loopback::{ApiError, ApiJson, ApiQuery};
use crate::store::{CompressionRecord, RoundRecord};

/// Longest wait of a watch.
const MAX_WAIT_MS: u64 = 25_000;

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let text = error.to_string();
        match error {
            SubmitError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text),
            SubmitError::Tenant { .. } | SubmitError::UnknownOwner { .. } | SubmitError::BadSignature => {
                Self::new(StatusCode::FORBIDDEN, "forbidden", text)
            }
            SubmitError::TooMany { .. } | SubmitError::TooLong { .. } | SubmitError::Catalog(_) => Self::conflict(text),
            SubmitError::Job(JobError::ModelMissing { .. } | JobError::EvaluationMissing { .. }) => {
                Self::new(StatusCode::NOT_FOUND, "blob_unknown", text)
            }
            SubmitError::Job(JobError::File(_)) => Self::new(StatusCode::BAD_REQUEST, "job_file", text),
            SubmitError::Job(JobError::Malformed { .. } | JobError::Fault) => Self::new(StatusCode::BAD_REQUEST, "malformed", text),
            SubmitError::Job(JobError::Blob(_) | JobError::ShuttingDown) | SubmitError::Store(_) | SubmitError::ShuttingDown => {
                Self::unavailable(text)
            }
        }
    }
}

/// Body of a submission.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Submission {
    signed_job: String,
    owner: PublicKeyBytes,
    signature: SignatureBytes,
}

/// `POST /v1/jobs`.
pub(super) async fn submit(State(api): State<Api>, ApiJson(submission): ApiJson<Submission>) -> Result<Json<Value>, ApiError> {
    let signed = hex::decode(&submission.signed_job).map_err(|e| ApiError::bad_request(format!("signed_job: not hexadecimal: {e}")))?;
    match submit_job(&api.shared, signed, submission.owner, submission.signature).await {
        Ok(job) => Ok(Json(json!({ "job": job }))),
        Err(error) => {
            api.shared.counters.count(Counter::JobsRefused);
            tracing::info!(%error, "job refused");
            Err(error.into())
        }
    }
}

/// `GET /v1/jobs`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let jobs: Vec<_> = snapshots(&api.shared, None).await?.iter().map(|job| view(job, 0)).collect();
    Ok(Json(json!({ "jobs": jobs })))
}

/// `GET /v1/jobs/{id}`.
pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    Ok(Json(view(&find(&api, &id).await?, 0)))
}

/// `GET /v1/jobs/{id}/file`: the job file as its owner signed it.
pub(super) async fn file(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let record = find(&api, &id).await?.record;
    let signed = hex::decode(&record.signed_job).map_err(|e| ApiError::unavailable(e.to_string()))?;
    let signed: SignedJob = codec::decode(&signed).map_err(|e| ApiError::unavailable(e.to_string()))?;
    Ok(([(CONTENT_TYPE, "application/toml")], signed.job_file.into_vec()).into_response())
}

/// Query of a watch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Watch {
    #[serde(default)]
    after: u32,
    #[serde(default = "longest_wait")]
    wait_ms: u64,
}

fn longest_wait() -> u64 {
    MAX_WAIT_MS
}

/// `GET /v1/jobs/{id}/watch?after=N&wait_ms=M`: answers once a round after N is finished or the job has ended (with its last step, if
/// it has one), at the latest after M.
pub(super) async fn watch(
    State(api): State<Api>,
    Path(id): Path<String>,
    ApiQuery(query): ApiQuery<Watch>,
) -> Result<Json<Value>, ApiError> {
    let mut changes = api.shared.changes.clone();
    let deadline = tokio::time::Instant::now() + Duration::from_millis(query.wait_ms.min(MAX_WAIT_MS));
    let job = find(&api, &id).await?.record.job;
    loop {
        // Marked before looking: a change in between wakes us again.
        changes.borrow_and_update();
        let snapshot = one(&api, job).await?;
        let over = snapshot.record.end.is_some() && !snapshot.compression.as_ref().is_some_and(CompressionRecord::is_pending);
        let news = over || snapshot.rounds.last().is_some_and(|round| round.round > query.after);
        if news || tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
            return Ok(Json(view(&snapshot, query.after)));
        }
    }
}

/// `POST /v1/jobs/{id}/stop`: answers when the end is stored.
pub(super) async fn stop(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let job = find(&api, &id).await?.record.job;
    let (done, stopped) = oneshot::channel();
    api.shared
        .commands
        .send(Command::StopJob { job, done })
        .map_err(|_| SubmitError::ShuttingDown)?;
    match stopped.await.map_err(|_| SubmitError::ShuttingDown)? {
        Ok(()) => Ok(Json(view(&one(&api, job).await?, 0))),
        Err(error @ StopError::Unknown) => Err(ApiError::not_found(error.to_string())),
        Err(error @ StopError::Store { .. }) => Err(ApiError::unavailable(error.to_string())),
    }
}

/// Query of a model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichModel {
    round: Option<u32>,
}

/// `GET /v1/jobs/{id}/model?round=N`: the model that round N made, 0 for the initial one; without N the latest.
pub(super) async fn model(
    State(api): State<Api>,
    Path(id): Path<String>,
    ApiQuery(which): ApiQuery<WhichModel>,
) -> Result<Response, ApiError> {
    let snapshot = find(&api, &id).await?;
    let digest = match which.round {
        None => snapshot.view.base,
        Some(0) => snapshot.initial_model,
        Some(wanted) => {
            let found = snapshot.rounds.iter().find(|round| round.round == wanted);
            let last = snapshot.rounds.last().map_or(0, |round| round.round);
            let unknown = || ApiError::not_found(format!("the job has no finished round {wanted}; the last one is {last}"));
            found.ok_or_else(unknown)?.model
        }
    };
    blobs::send(&api.shared.blobs, digest).await
}

/// The job whose id starts with `prefix`.
pub(super) async fn find(api: &Api, prefix: &str) -> Result<JobSnapshot, ApiError> {
    if let Ok(job) = prefix.parse() {
        return one(api, job).await;
    }
    if prefix.len() < MIN_PREFIX_DIGITS {
        return Err(ApiError::bad_request(format!(
            "{prefix:?} is no job id: give at least {MIN_PREFIX_DIGITS} hexadecimal digits of it"
        )));
    }
    let prefix = prefix.to_ascii_lowercase();
    let mut found = snapshots(&api.shared, None).await?;
    found.retain(|job| job.record.job.to_hex().starts_with(&prefix));
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(unknown(&prefix)),
        count => Err(ApiError::conflict(format!(
            "{count} jobs have an id that starts with {prefix:?}: give more digits"
        ))),
    }
}

async fn one(api: &Api, job: JobId) -> Result<JobSnapshot, ApiError> {
    snapshots(&api.shared, Some(job)).await?.pop().ok_or_else(|| unknown(&job.to_hex()))
}

fn unknown(prefix: &str) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "job_unknown",
        format!("no job has an id that starts with {prefix:?}: `aimass job list` shows them"),
    )
}

/// `JobView` of the API, with the rounds after `after`.
fn view(job: &JobSnapshot, after: u32) -> Value {
    let history: Vec<_> = job.rounds.iter().filter(|round| round.round > after).map(round_view).collect();
    let end = job.record.end.as_ref();
    json!({
        "job": job.record.job,
        "name": job.name,
        "kind": job.kind,
        "state": end.map_or("running", JobEnd::state),
        "reason": end.map_or_else(String::new, JobEnd::reason),
        "round": job.view.round,
        "rounds": job.view.rounds,
        "phase": job.view.phase,
        "trouble": job.view.trouble,
        "ready": job.view.ready,
        "members": job.view.members,
        "received": job.view.received,
        "submitted_at_ms": job.record.submitted_at_ms,
        "ended_at_ms": job.record.ended_at_ms,
        "model": job.view.base,
        "compressed": job.compression.as_ref().map(compression_view),
        "history": history,
    })
}

/// The last step: `waiting`, `done` with the model, or `failed` with the reason.
fn compression_view(record: &CompressionRecord) -> Value {
    let state = match (&record.made, &record.failure) {
        (Some(_), _) => "done",
        (None, Some(_)) => "failed",
        (None, None) => "waiting",
    };
    json!({
        "state": state,
        "reason": record.failure,
        "round": record.round,
        "parent": record.parent,
        "ranges": record.ranges,
        "recipe": record.recipe,
        "model": record.made,
        "ended_at_ms": record.ended_at_ms,
    })
}

fn round_view(round: &RoundRecord) -> Value {
    json!({
        "round": round.round,
        "contributions": round.contributions,
        "weight": round.weight,
        "train_loss": round.train_loss,
        "clipped": round.clipped,
        "accuracy": round.accuracy,
        "loss": round.loss,
        "device_accuracy": round.device_accuracy,
        "device_loss": round.device_loss,
        "device_examples": round.device_examples,
        "parity": round.parity,
        "not_served": round.not_served,
        "bytes_up": round.bytes_up,
        "bytes_down": round.bytes_down,
        "seconds": round.seconds,
        "model": round.model,
        "group": round.group,
        "ended_at_ms": round.ended_at_ms,
    })
}
