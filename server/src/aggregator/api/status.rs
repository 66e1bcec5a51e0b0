//! How the server is doing.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::Api;
use crate::aggregator::memory::rss_bytes;
use crate::aggregator::submit::snapshots;
use crate::loopback::ApiError;
use crate::store::AgentState;

struct Figures {
    known: usize,
    online: usize,
    pending: usize,
    revoked: usize,
    running: usize,
    ended: usize,
    rss_bytes: Option<u64>,
}

async fn figures(api: &Api) -> Result<Figures, ApiError> {
    let agents = api.shared.registry.all();
    let count = |state| agents.iter().filter(|record| record.state == state).count();
    let jobs = snapshots(&api.shared, None).await?;
    let running = jobs.iter().filter(|job| job.record.end.is_none()).count();
    Ok(Figures {
        known: agents.len(),
        online: api.shared.live.online(),
        pending: count(AgentState::Pending),
        revoked: count(AgentState::Revoked),
        running,
        ended: jobs.len() - running,
        rss_bytes: rss_bytes(),
    })
}

/// `GET /v1/status`.
pub(super) async fn status(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let figures = figures(&api).await?;
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "tenant": api.shared.tenant,
        "quic_address": api.quic_address,
        "started_at_ms": api.shared.started_at.as_ms(),
        "agents": { "known": figures.known, "online": figures.online, "pending": figures.pending, "revoked": figures.revoked },
        "jobs": { "running": figures.running, "ended": figures.ended },
        "counters": api.shared.counters.snapshot(),
        "rss_bytes": figures.rss_bytes,
    })))
}

/// `GET /metrics`: Prometheus text.
pub(super) async fn metrics(State(api): State<Api>) -> Result<impl IntoResponse, ApiError> {
    let figures = figures(&api).await?;
    let number = |n: usize| n as u64;
    let text = api.shared.counters.prometheus(&[
        ("agents_known", "Agents that ever connected.", number(figures.known)),
        ("agents_online", "Agents connected now.", number(figures.online)),
        ("agents_pending", "Agents that wait for the operator.", number(figures.pending)),
        ("agents_revoked", "Agents that were revoked.", number(figures.revoked)),
        ("jobs_running", "Jobs that run.", number(figures.running)),
        ("jobs_ended", "Jobs that have ended.", number(figures.ended)),
        (
            "resident_memory_bytes",
            "Resident memory of this process; 0 where the system does not say.",
            figures.rss_bytes.unwrap_or(0),
        ),
    ]);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text))
}
