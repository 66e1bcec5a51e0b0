//! Who the agents are; accepting and revoking them.

use std::sync::Arc;

use aimass_protocol::AgentId;
use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::Api;
use crate::aggregator::driver::Command;
use crate::aggregator::registry::{RegistryError, revoked};
use crate::loopback::ApiError;
use crate::store::{AgentRecord, AgentState};

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        let text = error.to_string();
        match error {
            RegistryError::Unknown { .. } => Self::not_found(text),
            RegistryError::Ambiguous { .. } => Self::conflict(text),
            RegistryError::Short { .. } => Self::bad_request(text),
            RegistryError::Store(_) => Self::unavailable(text),
        }
    }
}

fn view(api: &Api, record: &AgentRecord) -> Value {
    let live = api.shared.live.address(record.agent);
    json!({
        "agent": record.agent,
        "tenant": api.shared.tenant,
        "state": record.state,
        "online": live.is_some(),
        "address": live.map_or_else(|| record.address.clone(), |address| address.to_string()),
        "capabilities": record.capabilities,
        "contracts": record.contracts,
        "first_seen_ms": record.first_seen_ms,
        "last_seen_ms": record.last_seen_ms,
    })
}

/// `GET /v1/agents`.
pub(super) async fn list(State(api): State<Api>) -> Json<Value> {
    let agents: Vec<_> = api.shared.registry.all().iter().map(|record| view(&api, record)).collect();
    Json(json!({ "agents": agents }))
}

/// `POST /v1/agents/{id}/accept`: lets a pending agent in, or takes a revocation back.
pub(super) async fn accept(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let record = set_state(&api, &id, AgentState::Accepted).await?;
    Ok(Json(view(&api, &record)))
}

/// `POST /v1/agents/{id}/revoke`: cuts an agent off, now and until it is accepted again.
pub(super) async fn revoke(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let record = set_state(&api, &id, AgentState::Revoked).await?;
    // The driver is gone only when the service ends.
    let _ = api.shared.commands.send(Command::Revoked { agent: record.agent });
    let refusal = revoked();
    let closed = api.shared.live.close(record.agent, refusal.code, &refusal.text);
    tracing::info!(agent = %record.agent, connections = closed, "agent revoked");
    Ok(Json(view(&api, &record)))
}

async fn set_state(api: &Api, id: &str, state: AgentState) -> Result<AgentRecord, ApiError> {
    let agent: AgentId = api.shared.registry.find(id)?;
    let shared = Arc::clone(&api.shared);
    let changed = tokio::task::spawn_blocking(move || shared.registry.set_state(agent, state)).await;
    let record = changed.map_err(|e| ApiError::unavailable(e.to_string()))??;
    if record.tell_authority.is_some() {
        api.shared.errands.wake();
    }
    Ok(record)
}
