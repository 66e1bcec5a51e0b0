//! HTTP: the paths of the protocol, over TCP and a Unix socket at once.

mod body;
mod listen;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::error::ServeError;
use crate::host::Host;
use crate::protocol::{self, JSON_LENGTH_HEADER};

pub use listen::{Endpoints, ListenError};

/// How long requests under way may take to finish once the service stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

type Shared = State<Arc<Host>>;

impl ServeError {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::NotFound(_) => 404,
            Self::Method(_) => 405,
            Self::SlowBody { .. } => 408,
            Self::TooLarge { .. } => 413,
            Self::Internal(_) => 500,
            Self::Busy { .. } => 503,
            Self::Late { .. } => 504,
        }
    }
}

impl IntoResponse for ServeError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(json!({ "error": self.to_string() }))).into_response();
        if let Self::Busy { retry_s, .. } = self {
            response.headers_mut().insert(header::RETRY_AFTER, retry_s.into());
        }
        response
    }
}

/// Answers requests at all endpoints until `shutdown`; requests under way then have a few seconds to finish.
///
/// # Errors
/// What a listener says.
pub async fn serve(host: Arc<Host>, endpoints: Endpoints, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let app = router(host);
    let (stop, stopped) = watch::channel(false);
    let ended = |mut stopped: watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let Endpoints { tcp, unix, .. } = endpoints;
    let over_tcp = async {
        match tcp {
            Some(listener) => {
                axum::serve(listener, app.clone())
                    .with_graceful_shutdown(ended(stopped.clone()))
                    .await
            }
            None => Ok(()),
        }
    };
    #[cfg(unix)]
    let over_unix = async {
        match unix {
            Some(unix) => {
                let (listener, _file) = unix;
                axum::serve(listener, app.clone())
                    .with_graceful_shutdown(ended(stopped.clone()))
                    .await
            }
            None => Ok(()),
        }
    };
    #[cfg(not(unix))]
    let over_unix = async {
        let () = unix;
        io::Result::Ok(())
    };
    let both = async { tokio::try_join!(over_tcp, over_unix).map(|_| ()) };
    let mut both = std::pin::pin!(both);
    tokio::select! {
        ended = &mut both => return ended,
        () = shutdown => {}
    }
    let _ = stop.send(true);
    tokio::time::timeout(SHUTDOWN_GRACE, both).await.unwrap_or(Ok(()))
}

fn router(host: Arc<Host>) -> Router {
    Router::new()
        .route("/v2", get(server))
        .route("/v2/", get(server))
        .route("/v2/health/live", get(|| async { axum::Json(json!({ "live": true })) }))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/{model}", get(model))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/infer", post(infer))
        .route("/v2/models/{model}/versions/{version}", get(model_version))
        .route("/v2/models/{model}/versions/{version}/ready", get(version_ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer_version))
        .route("/metrics", get(metrics))
        .fallback(|| async { ServeError::NotFound("there is no such path: see /v2, or /v2/models/NAME/infer".to_owned()) })
        .method_not_allowed_fallback(|| async {
            ServeError::Method("this path does not take this method: infer takes POST, all others GET".to_owned())
        })
        .with_state(host)
}

async fn server() -> axum::Json<Value> {
    axum::Json(json!({
        "name": "aimass",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data", "windows"],
    }))
}

/// Ready where every model is: they are warm before they are listed.
async fn ready(State(host): Shared) -> Response {
    let ready = !host.names().is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(json!({ "ready": ready }))).into_response()
}

async fn metrics(State(host): Shared) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], host.metrics_text()).into_response()
}

async fn model(State(host): Shared, Path(model): Path<String>) -> Result<axum::Json<Value>, ServeError> {
    let (slot, version) = host.find(&model, None)?;
    Ok(axum::Json(protocol::metadata(&slot, &version)))
}

async fn model_version(State(host): Shared, Path((model, version)): Path<(String, String)>) -> Result<axum::Json<Value>, ServeError> {
    let (slot, version) = host.find(&model, Some(&version))?;
    Ok(axum::Json(protocol::metadata(&slot, &version)))
}

async fn model_ready(State(host): Shared, Path(model): Path<String>) -> Result<axum::Json<Value>, ServeError> {
    host.find(&model, None)?;
    Ok(axum::Json(json!({ "name": model, "ready": true })))
}

async fn version_ready(State(host): Shared, Path((model, version)): Path<(String, String)>) -> Result<axum::Json<Value>, ServeError> {
    host.find(&model, Some(&version))?;
    Ok(axum::Json(json!({ "name": model, "ready": true })))
}

async fn infer(State(host): Shared, Path(model): Path<String>, request: Request) -> Response {
    counted(&host, &model, None, request).await
}

async fn infer_version(State(host): Shared, Path((model, version)): Path<(String, String)>, request: Request) -> Response {
    counted(&host, &model, Some(&version), request).await
}

async fn counted(host: &Host, model: &str, version: Option<&str>, request: Request) -> Response {
    let response = match answer(host, model, version, request).await {
        Ok(response) => response,
        Err(error) => {
            if error.status() >= 500 {
                tracing::warn!("{model}: {error}");
            }
            error.into_response()
        }
    };
    let known = if host.slot(model).is_some() { model } else { "" };
    host.metrics().answered(known, response.status().as_u16());
    response
}

async fn answer(host: &Host, model: &str, version: Option<&str>, request: Request) -> Result<Response, ServeError> {
    // Looked up first: a request for nothing is not read.
    host.find(model, version)?;
    let json_bytes = json_length(request.headers())?;
    let body = body::read(host, request).await?;
    // After the body is here, so that a slow client gets the version in service by then.
    let (_, found) = host.find(model, version)?;
    let decoded = protocol::decode(&body.bytes, json_bytes, &found)?;
    let done = host.infer(&found, decoded).await?;
    drop(body);
    let encoded = protocol::encode(&done)?;
    let mut headers = HeaderMap::new();
    match encoded.json_bytes {
        Some(n) => {
            headers.insert(JSON_LENGTH_HEADER, n.into());
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/octet-stream"));
        }
        None => {
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        }
    }
    Ok((headers, Body::from(encoded.body)).into_response())
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, ServeError> {
    let Some(value) = headers.get(JSON_LENGTH_HEADER) else {
        return Ok(None);
    };
    let n = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    n.map(Some)
        .ok_or_else(|| ServeError::BadRequest("Inference-Header-Content-Length is no number of bytes".to_owned()))
}
