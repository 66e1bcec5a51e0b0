//! The operator's side: JSON over loopback HTTP.

use std::sync::Arc;

use aimass_crypto::cert;
use aimass_protocol::token::Role;
use aimass_protocol::{Digest, PublicKeyBytes, TenantId};
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::service::Service;
use super::state::State;
use super::tokens::NewToken;
use super::{OperatorError, now};
use crate::loopback::{ApiError, ApiJson};

type Answer = Result<Json<Value>, ApiError>;

/// Every path of the API.
pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/tokens", get(list_tokens).post(create_token))
        .route("/v1/tokens/{id}/revoke", post(withdraw_token))
        .route("/v1/bundle", get(bundle))
        .route("/v1/owners", post(add_owner))
        .route("/v1/owners/{public_key}", delete(remove_owner))
        .route("/v1/roots/rotate", post(rotate_root))
        .route("/v1/roots/{spki}/retire", post(retire_root))
        .with_state(service)
}

async fn status(Shared(service): Shared<Arc<Service>>) -> Answer {
    let (mut view, roots) = service
        .with_state(|state| {
            let view = json!({
                "version": env!("CARGO_PKG_VERSION"),
                "root_spki": state.issuing_spki().to_hex(),
                "bundle_version": state.current_bundle().version(),
                "tokens": state.count_tokens(now()),
                "issued": state.issued,
            });
            roots(state).map(|roots| (view, roots))
        })
        .await??;
    view["quic_address"] = json!(service.quic_address());
    view["public_address"] = json!(service.public_address);
    view["roots"] = json!(roots);
    view["counters"] = json!(service.counters());
    Ok(Json(view))
}

/// The trusted roots, the issuing one first.
fn roots(state: &State) -> Result<Vec<Value>, OperatorError> {
    let view = |(index, der): (usize, &[u8])| {
        let info = cert::root_info(der)?;
        Ok(json!({ "spki": hex::encode(info.spki_sha256), "not_after_s": info.not_after_s, "issuing": index == 0 }))
    };
    state.current_bundle().roots().enumerate().map(view).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    role: Role,
    #[serde(default)]
    tenant: TenantId,
    #[serde(default)]
    server: Option<String>,
    expires_s: u64,
}

async fn create_token(Shared(service): Shared<Arc<Service>>, ApiJson(ask): ApiJson<TokenRequest>) -> Answer {
    let new = NewToken {
        role: ask.role,
        tenant: ask.tenant,
        server: ask.server.unwrap_or_default(),
        expires_s: ask.expires_s,
    };
    let authority = service.public_address.clone();
    let (token, id) = service
        .with_state(move |state| state.create_token(now(), &authority, new))
        .await??;
    let text = token.to_text().map_err(OperatorError::Token)?;
    tracing::info!(id, role = %token.role, tenant = %token.tenant, "token created");
    Ok(Json(json!({ "token": text, "id": id, "expires_at_ms": token.expires_at })))
}

async fn list_tokens(Shared(service): Shared<Arc<Service>>) -> Answer {
    let tokens = service.with_state(|state| state.list_tokens(now())).await?;
    Ok(Json(json!({ "tokens": tokens })))
}

async fn withdraw_token(Shared(service): Shared<Arc<Service>>, Path(id): Path<String>) -> Answer {
    service.with_state(move |state| state.withdraw_token(&id)).await??;
    Ok(Json(json!({})))
}

async fn bundle(Shared(service): Shared<Arc<Service>>) -> Answer {
    let (content, roots) = service
        .with_state(|state| roots(state).map(|roots| (state.current_bundle().content().clone(), roots)))
        .await??;
    let owners: Vec<_> = content
        .owners
        .iter()
        .map(|owner| json!({ "tenant": owner.tenant, "name": owner.name, "public_key": owner.public_key }))
        .collect();
    Ok(Json(
        json!({ "version": content.version, "issued_at_ms": content.issued_at, "roots": roots, "owners": owners }),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnerRequest {
    #[serde(default)]
    tenant: TenantId,
    name: String,
    public_key: String,
}

async fn add_owner(Shared(service): Shared<Arc<Service>>, ApiJson(ask): ApiJson<OwnerRequest>) -> Answer {
    let key = owner_key(&ask.public_key)?;
    let version = service
        .with_state(move |state| state.add_owner(now(), ask.tenant, &ask.name, key))
        .await??;
    Ok(Json(json!({ "bundle_version": version })))
}

async fn remove_owner(Shared(service): Shared<Arc<Service>>, Path(public_key): Path<String>) -> Answer {
    let key = owner_key(&public_key)?;
    let version = service.with_state(move |state| state.remove_owner(now(), &key)).await??;
    Ok(Json(json!({ "bundle_version": version })))
}

fn owner_key(text: &str) -> Result<PublicKeyBytes, OperatorError> {
    text.trim().parse().map_err(|_| OperatorError::OwnerKey)
}

async fn rotate_root(Shared(service): Shared<Arc<Service>>) -> Answer {
    let (spki, version) = service.with_state(|state| state.rotate_root(now())).await??;
    service.reload_endpoint_or_later().await;
    Ok(Json(json!({ "root_spki": spki.to_hex(), "bundle_version": version })))
}

async fn retire_root(Shared(service): Shared<Arc<Service>>, Path(spki): Path<String>) -> Answer {
    let retired: Digest = spki.parse().map_err(|_| OperatorError::UnknownRoot {
        spki: spki.chars().take(80).collect(),
    })?;
    let version = service.with_state(move |state| state.retire_root(now(), &retired)).await??;
    service.reload_endpoint_or_later().await;
    Ok(Json(json!({ "bundle_version": version })))
}

impl From<OperatorError> for ApiError {
    fn from(error: OperatorError) -> Self {
        use OperatorError as E;
        let (status, code) = match &error {
            E::ServerAddress { .. } | E::Role | E::Lifetime { .. } | E::OwnerKey | E::OwnerName => (StatusCode::BAD_REQUEST, "bad_request"),
            E::UnknownToken { .. } => (StatusCode::NOT_FOUND, "token_unknown"),
            E::UnknownOwner { .. } => (StatusCode::NOT_FOUND, "owner_unknown"),
            E::UnknownRoot { .. } => (StatusCode::NOT_FOUND, "root_unknown"),
            E::AmbiguousToken { .. } => (StatusCode::CONFLICT, "ambiguous"),
            E::TokenSpent { .. } => (StatusCode::CONFLICT, "token_used"),
            E::Full { .. } => (StatusCode::CONFLICT, "full"),
            E::IssuingRoot => (StatusCode::CONFLICT, "root_issuing"),
            E::Bundle(_) | E::Token(_) | E::Certificate(_) | E::Tls(_) | E::Store(_) => {
                tracing::error!("{error}");
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
        };
        Self::new(status, code, error.to_string())
    }
}
