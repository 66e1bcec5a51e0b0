//! Models and held-out data in and out, streamed.

use std::pin::Pin;

use aimass_protocol::Digest;
use axum::Json;
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Api;
use crate::blobs::{BlobError, BlobStore, BlobWriter};
use crate::loopback::ApiError;

impl From<BlobError> for ApiError {
    fn from(error: BlobError) -> Self {
        let code = error.code();
        aimass_protocol::message::Refusal::new(code, error.to_string()).into()
    }
}

/// `PUT /v1/blobs`: the body becomes a blob.
pub(super) async fn put(State(api): State<Api>, body: Body) -> Result<Json<Value>, ApiError> {
    let mut writer = api.shared.blobs.begin().await?;
    if let Err(error) = receive(&mut writer, body).await {
        writer.abort().await;
        return Err(error);
    }
    let manifest = writer.finish().await?;
    Ok(Json(json!({ "digest": manifest.digest(), "size_bytes": manifest.size_bytes() })))
}

async fn receive(writer: &mut BlobWriter, mut body: Body) -> Result<(), ApiError> {
    while let Some(bytes) = next_data(&mut body).await? {
        writer.write(bytes).await?;
    }
    Ok(())
}

/// The next piece of a body; `None` at its end.
async fn next_data(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    loop {
        match std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(error)) => return Err(ApiError::bad_request(format!("the upload broke off: {error}"))),
        }
    }
}

/// `GET /v1/blobs/{digest}`.
pub(super) async fn get(State(api): State<Api>, Path(digest): Path<String>) -> Result<Response, ApiError> {
    let digest: Digest = digest
        .parse()
        .map_err(|e: aimass_protocol::id::ParseIdError| ApiError::bad_request(e.to_string()))?;
    send(&api.shared.blobs, digest).await
}

/// A blob as a response.
pub(super) async fn send(blobs: &BlobStore, digest: Digest) -> Result<Response, ApiError> {
    let (body, size) = blobs.body(digest).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
    ];
    Ok((StatusCode::OK, headers, body).into_response())
}
