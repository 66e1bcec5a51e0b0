//! What an agent moves: base models in, updates out. Nothing of it is kept.

use std::time::Duration;

use aimass_crypto::hash::Sha256;
use aimass_edge_agent::run::begin_upload;
use aimass_federation::agent::Masks;
use aimass_net::{Connection, NetError, blob, request};
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::message::agent::{AgentRequest, Fetch, FetchReply, Upload};
use aimass_protocol::{ContributionId, Digest};

use crate::Oracle;

/// For an answer that waits for its turn.
const IN_TURN: Duration = Duration::from_secs(600);

/// Takes the whole model off the wire, and compares its digest.
pub(crate) async fn fetch(connection: &Connection, base: Digest) -> Result<(), NetError> {
    let ask = AgentRequest::Fetch(Fetch {
        digest: base,
        from_chunk: 0,
    });
    let (FetchReply { manifest }, mut reader) = request(connection, &ask, IN_TURN).await?;
    let mut whole = Sha256::new();
    for index in 0..manifest.chunks().len() {
        whole.update(&reader.chunk(manifest.chunk_len(index)).await?);
    }
    reader.end().await?;
    if whole.finish() == *base.as_bytes() {
        Ok(())
    } else {
        Err(NetError::Digest {
            what: "the base model".to_owned(),
        })
    }
}

/// Makes the update and sends what the server lacks of it.
pub(crate) async fn upload(
    connection: &Connection,
    oracle: &Oracle,
    index: usize,
    contribution: ContributionId,
    descriptor: &Descriptor,
    masks: Option<&Masks>,
) -> Result<(), NetError> {
    let broken = |reason: String| NetError::Protocol { reason };
    let update = oracle
        .update(index, contribution, descriptor, masks)
        .map_err(|e| broken(e.to_string()))?;
    let manifest = blob::update_manifest(&update).map_err(|e| broken(e.to_string()))?;
    let ask = Upload {
        cohort: descriptor.cohort,
        contribution,
        manifest: manifest.clone(),
    };
    let Some(mut open) = begin_upload(connection, ask).await? else {
        return Ok(());
    };
    let next_chunk = open.next_chunk;
    let sent = blob::send_bytes(&mut open.writer, &update, &manifest, next_chunk).await;
    drop(update);
    open.end(sent).await
}
