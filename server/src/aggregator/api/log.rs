//! The log of models: checkpoint, proofs, entries; the survivors of a round, which can be forgotten.

use aimass_crypto::log::verifier_key;
use aimass_protocol::log::LogEntry;
use aimass_protocol::{AgentId, Digest, codec};
use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use crate::loopback::{ApiError, ApiQuery};
use crate::store::{AggregatorStore, StoreError};

/// Most entries of a page.
const MAX_PAGE: usize = 1000;

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::unavailable(error.to_string())
    }
}

/// Runs what reads or writes the store off the reactor.
async fn blocking<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&AggregatorStore) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let store = api.shared.store.clone();
    let done = tokio::task::spawn_blocking(move || work(&store)).await;
    Ok(done.map_err(|e| ApiError::unavailable(e.to_string()))??)
}

/// `GET /v1/log/checkpoint`.
pub(super) async fn checkpoint(State(api): State<Api>) -> Json<Value> {
    let log = &api.shared.log;
    let (origin, key) = (log.origin(), log.key());
    Json(json!({
        "checkpoint": text(&log.checkpoint()),
        "verifier_key": verifier_key(&origin, &key),
        "origin": origin,
        "public_key": key.to_hex(),
    }))
}

/// Query of a proof: by index, or by model (the latest entry of it).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    index: Option<u64>,
    model: Option<Digest>,
}

/// `GET /v1/log/proof?index=N` or `?model=DIGEST`.
pub(super) async fn proof(State(api): State<Api>, ApiQuery(which): ApiQuery<Which>) -> Result<Json<Value>, ApiError> {
    let index = match which {
        Which {
            index: Some(index),
            model: None,
        } => index,
        Which {
            index: None,
            model: Some(model),
        } => {
            let found = blocking(&api, move |store| latest(store, model)).await?;
            let unknown = || ApiError::not_found(format!("no entry of the log vouches for the model {}", model.to_hex()));
            found.ok_or_else(unknown)?
        }
        _ => return Err(ApiError::bad_request("give either index or model")),
    };
    let proof = api.shared.log.inclusion(index).ok_or_else(|| {
        let size = api.shared.log.head().size;
        ApiError::not_found(format!("the log has {size} entries, counted from 0: there is no entry {index}"))
    })?;
    let entries = blocking(&api, move |store| store.log_entries(index, 1)).await?;
    let entry = entries
        .first()
        .ok_or_else(|| ApiError::unavailable("the entry is not on the disk: restore the data folder from its last backup"))?;
    Ok(Json(json!({
        "index": proof.index,
        "entry": hex::encode(entry),
        "inclusion": proof.hashes,
        "checkpoint": text(&proof.checkpoint),
    })))
}

/// The last entry that vouches for a model.
fn latest(store: &AggregatorStore, model: Digest) -> Result<Option<u64>, StoreError> {
    for index in store.logged(model)?.into_iter().rev() {
        let entries = store.log_entries(index, 1)?;
        let entry = entries.first().and_then(|bytes| codec::decode::<LogEntry>(bytes).ok());
        // An entry that could not be flushed may have left its place to another one.
        if entry.is_some_and(|entry| entry.model() == Some(model)) {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// Query of a consistency proof; without `to` up to the end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Between {
    from: u64,
    to: Option<u64>,
}

/// `GET /v1/log/consistency?from=N&to=M`.
pub(super) async fn consistency(State(api): State<Api>, ApiQuery(between): ApiQuery<Between>) -> Result<Json<Value>, ApiError> {
    let log = &api.shared.log;
    let (from, size) = (between.from, log.head().size);
    let to = between.to.unwrap_or(size);
    let wrong = || ApiError::bad_request(format!("the log has {size} entries: give sizes up to that, the smaller one first"));
    let proof = log.consistency(from, to).ok_or_else(wrong)?;
    Ok(Json(json!({
        "from": { "size": from, "root": log.root_at(from) },
        "to": { "size": to, "root": log.root_at(to) },
        "consistency": proof,
    })))
}

/// Query of entries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[serde(default)]
    from: u64,
    #[serde(default = "full_page")]
    limit: usize,
}

fn full_page() -> usize {
    MAX_PAGE
}

/// `GET /v1/log/entries?from=N&limit=M`: those that the checkpoint of the moment covers.
pub(super) async fn entries(State(api): State<Api>, ApiQuery(page): ApiQuery<Page>) -> Result<Json<Value>, ApiError> {
    let size = api.shared.log.head().size;
    let left = usize::try_from(size.saturating_sub(page.from)).unwrap_or(usize::MAX);
    let (from, limit) = (page.from, page.limit.min(MAX_PAGE).min(left));
    let entries = blocking(&api, move |store| store.log_entries(from, limit)).await?;
    let entries: Vec<String> = entries.iter().map(hex::encode).collect();
    Ok(Json(json!({ "size": size, "from": from, "entries": entries })))
}

/// `GET /v1/log/entries/{index}/survivors`: what its survivors' root is over, as far as it was not forgotten.
pub(super) async fn survivors(State(api): State<Api>, Path(index): Path<u64>) -> Result<Json<Value>, ApiError> {
    let survivors = blocking(&api, move |store| store.survivors(index)).await?;
    Ok(Json(json!({ "index": index, "survivors": survivors })))
}

/// `POST /v1/log/forget/{agent}`: deletes what tells in which rounds an agent was, of all finished rounds.
pub(super) async fn forget(State(api): State<Api>, Path(agent): Path<AgentId>) -> Result<Json<Value>, ApiError> {
    let forgotten = blocking(&api, move |store| store.forget_survivor(agent)).await?;
    Ok(Json(json!({ "agent": agent, "forgotten": forgotten })))
}

fn text(note: &[u8]) -> String {
    String::from_utf8_lossy(note).into_owned()
}
