//! The operator's HTTP API, on loopback and behind the token (see [`crate::loopback`]).

mod agents;
mod blobs;
mod jobs;
mod log;
mod releases;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post, put};

use super::service::Shared;

/// What the handlers share.
#[derive(Clone)]
struct Api {
    shared: Arc<Shared>,
    quic_address: SocketAddr,
}

/// All routes.
pub(crate) fn router(shared: Arc<Shared>, quic_address: SocketAddr) -> Router {
    Router::new()
        .route("/v1/status", get(status::status))
        .route("/metrics", get(status::metrics))
        .route("/v1/blobs", put(blobs::put))
        .route("/v1/blobs/{digest}", get(blobs::get))
        .route("/v1/jobs", get(jobs::list).post(jobs::submit))
        .route("/v1/jobs/{id}", get(jobs::show))
        .route("/v1/jobs/{id}/file", get(jobs::file))
        .route("/v1/jobs/{id}/watch", get(jobs::watch))
        .route("/v1/jobs/{id}/stop", post(jobs::stop))
        .route("/v1/jobs/{id}/model", get(jobs::model))
        .route("/v1/registry", get(releases::list))
        .route("/v1/registry/{model}", get(releases::show))
        .route("/v1/registry/{model}/alias", post(releases::alias))
        .route("/v1/releases/{id}", get(releases::release))
        .route("/v1/releases/{id}/rollback", post(releases::rollback))
        .route("/v1/agents", get(agents::list))
        .route("/v1/agents/{id}/accept", post(agents::accept))
        .route("/v1/agents/{id}/revoke", post(agents::revoke))
        .route("/v1/log/checkpoint", get(log::checkpoint))
        .route("/v1/log/proof", get(log::proof))
        .route("/v1/log/consistency", get(log::consistency))
        .route("/v1/log/entries", get(log::entries))
        .route("/v1/log/entries/{index}/survivors", get(log::survivors))
        .route("/v1/log/forget/{agent}", post(log::forget))
        .with_state(Api { shared, quic_address })
}
