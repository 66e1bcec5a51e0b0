//! The registry of models, and releases: shown, aliased, rolled back.

use aimass_protocol::JobId;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::jobs::find;
use crate::aggregator::catalog::{CatalogError, Shown};
use crate::aggregator::driver::{Command, now};
use crate::loopback::{ApiError, ApiJson};
use crate::store::RegistryChange;

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> Self {
        let text = error.to_string();
        match error {
            CatalogError::Model { .. } | CatalogError::Version { .. } | CatalogError::Release { .. } => {
                Self::new(StatusCode::NOT_FOUND, "registry_unknown", text)
            }
            CatalogError::Alias { .. } => Self::bad_request(text),
            CatalogError::Settled { .. } | CatalogError::OtherChampion { .. } => Self::conflict(text),
        }
    }
}

/// `GET /v1/registry`.
pub(super) async fn list(State(api): State<Api>) -> Json<Value> {
    let models: Vec<Value> = api.shared.catalog.all().into_iter().map(view).collect();
    Json(json!({ "models": models }))
}

/// `GET /v1/registry/{model}`.
pub(super) async fn show(State(api): State<Api>, Path(model): Path<String>) -> Result<Json<Value>, ApiError> {
    Ok(Json(view(api.shared.catalog.one(&model)?)))
}

/// Body of an alias.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Alias {
    alias: String,
    /// None to remove it.
    version: Option<u32>,
}

/// `POST /v1/registry/{model}/alias`: answers when it is stored.
pub(super) async fn alias(
    State(api): State<Api>,
    Path(model): Path<String>,
    ApiJson(body): ApiJson<Alias>,
) -> Result<Json<Value>, ApiError> {
    let _changing = api.shared.submitting.lock().await;
    let change = api.shared.catalog.aliased(&model, &body.alias, body.version)?;
    store(&api, change).await?;
    tracing::info!(%model, alias = %body.alias, version = body.version, "an alias was set");
    Ok(Json(view(api.shared.catalog.one(&model)?)))
}

/// `GET /v1/releases/{id}`: the version that a release is, and the job that measures it.
pub(super) async fn release(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let job = find(&api, &id).await?;
    Ok(Json(of_job(&api, job.record.job, job.record.end.is_some())?))
}

/// `POST /v1/releases/{id}/rollback`: answers when it is stored.
pub(super) async fn rollback(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let job = find(&api, &id).await?;
    let (id, has_ended) = (job.record.job, job.record.end.is_some());
    {
        let _changing = api.shared.submitting.lock().await;
        store(&api, api.shared.catalog.rolled_back(id, now().as_ms())?).await?;
    }
    tracing::warn!(job = %id, "the operator rolled the release back");
    if !has_ended {
        let (done, stopped) = tokio::sync::oneshot::channel();
        // Without a driver the service ends, and the job is decided all the same.
        if api.shared.commands.send(Command::StopJob { job: id, done }).is_ok() {
            let _ = stopped.await;
        }
    }
    Ok(Json(of_job(&api, id, true)?))
}

async fn store(api: &Api, change: RegistryChange) -> Result<(), ApiError> {
    let (store, written) = (api.shared.store.clone(), change.clone());
    let stored = tokio::task::spawn_blocking(move || store.put_registry(&written)).await;
    let stored = stored.map_err(|e| ApiError::unavailable(e.to_string()))?;
    stored.map_err(|e| ApiError::unavailable(e.to_string()))?;
    api.shared.catalog.apply(change);
    Ok(())
}

fn of_job(api: &Api, job: JobId, has_ended: bool) -> Result<Value, ApiError> {
    let unknown = || ApiError::from(CatalogError::Release { job });
    let version = api.shared.catalog.version_of(job).ok_or_else(unknown)?;
    let (model, _) = api.shared.catalog.one(&version.model)?;
    let aliases: Vec<&String> = model
        .aliases
        .iter()
        .filter(|(_, n)| **n == version.version)
        .map(|(alias, _)| alias)
        .collect();
    let mut shown = json!(version);
    shown["aliases"] = json!(aliases);
    shown["running"] = json!(!has_ended);
    Ok(shown)
}

/// `ModelView` of the API: the newest version first.
fn view((model, versions): Shown) -> Value {
    json!({ "model": model.model, "aliases": model.aliases, "latest": model.latest, "versions": versions })
}
