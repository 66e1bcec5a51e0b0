//! "Send me this model."

use std::sync::Arc;

use aimass_net::NetError;
use aimass_protocol::ErrorCode;
use aimass_protocol::manifest::Manifest;
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::{Fetch, FetchReply};

use super::request::Stream;
use crate::blobs::BlobError;

/// Sends the manifest, then the chunks that the agent lacks. One chunk is in memory at a time, besides what QUIC has in flight.
pub(super) async fn serve(stream: &mut Stream, fetch: Fetch) -> Result<(), NetError> {
    // Held-out data lies in the same store: only what is some job's model may go out.
    let Some(job) = stream.shared.models.job_of(fetch.digest) else {
        return stream.refuse(unknown()).await;
    };
    stream.job = Some(job);
    let manifest = match stream.shared.blobs.manifest(fetch.digest).await {
        Ok(manifest) => manifest,
        Err(error) => return refuse(stream, &error).await,
    };
    if fetch.from_chunk as usize > manifest.chunks().len() {
        let text = format!("the model has {} chunks: fetch it from chunk 0", manifest.chunks().len());
        return stream.refuse(Refusal::new(ErrorCode::Malformed, text)).await;
    }
    let shared = Arc::clone(&stream.shared);
    shared.fetches.take(send(stream, &manifest, fetch.from_chunk)).await
}

async fn send(stream: &mut Stream, manifest: &Manifest, from_chunk: u32) -> Result<(), NetError> {
    stream
        .reply(FetchReply {
            manifest: manifest.clone(),
        })
        .await?;
    for index in from_chunk as usize..manifest.chunks().len() {
        let chunk = match stream.shared.blobs.read_chunk(manifest, index).await {
            Ok(chunk) => chunk,
            Err(error) => {
                tracing::error!(%error, "a model can't be read");
                stream.writer.abort(ErrorCode::Unavailable);
                return Ok(());
            }
        };
        stream.writer.chunk(chunk).await?;
    }
    stream.writer.finish();
    Ok(())
}

fn unknown() -> Refusal {
    Refusal::new(ErrorCode::BlobUnknown, "there is no such model here: check in again")
}

async fn refuse(stream: &mut Stream, error: &BlobError) -> Result<(), NetError> {
    tracing::error!(%error, "a model can't be read");
    let refusal = match error {
        BlobError::NotFound { .. } => unknown(),
        other => Refusal::new(other.code(), "the server can't read the model now: try again later"),
    };
    stream.refuse(refusal).await
}
