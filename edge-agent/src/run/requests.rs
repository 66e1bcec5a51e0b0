//! One function a request: each opens its own stream and is done when its answer is here.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aimass_net::{Connection, FrameReader, FrameWriter, NetError, disk};
use aimass_protocol::limits::CHUNK_BYTES;
use aimass_protocol::message::Reply;
use aimass_protocol::message::agent::{
    AgentRequest, BundleQuery, BundleReply, CheckIn, CheckInReply, Fetch, FetchReply, OutcomeQuery, OutcomeReply, Progress, ProgressReply,
    Ready, ReadyReply, Upload, UploadReply,
};
use aimass_protocol::{CohortId, ContributionId, Digest, ErrorCode};

use crate::state::{EncodedRecord, StateFolder};
use crate::work;

/// For replies that the server gives at once.
const PROMPT: Duration = Duration::from_secs(30);
/// For the server to read an upload again and to add it to its sum.
const ADDING: Duration = Duration::from_secs(120);
/// For replies that wait for other agents, as for a transfer's turn. The session asks again long before.
pub(super) const LONG_POLL: Duration = Duration::from_secs(600);
/// How often a download may start again because what is on disk is not what it was thought to be.
const FETCH_ATTEMPTS: u32 = 3;

/// Asks for work.
///
/// # Errors
/// The refusal, or what broke.
pub async fn check_in(connection: &Connection, check_in: CheckIn) -> Result<CheckInReply, NetError> {
    Ok(aimass_net::request(connection, &AgentRequest::CheckIn(check_in), PROMPT).await?.0)
}

/// Offers a contribution; answered when a cohort is formed.
///
/// # Errors
/// The refusal, or what broke.
pub async fn ready(connection: &Connection, ready: Ready) -> Result<ReadyReply, NetError> {
    Ok(aimass_net::request(connection, &AgentRequest::Ready(ready), LONG_POLL).await?.0)
}

/// Asks what became of a contribution; answered when its round is over.
///
/// # Errors
/// The refusal, or what broke.
pub async fn outcome(connection: &Connection, query: OutcomeQuery) -> Result<OutcomeReply, NetError> {
    Ok(aimass_net::request(connection, &AgentRequest::Outcome(query), LONG_POLL).await?.0)
}

pub(crate) async fn progress(connection: &Connection, progress: Progress) -> Result<ProgressReply, NetError> {
    Ok(aimass_net::request(connection, &AgentRequest::Progress(progress), PROMPT).await?.0)
}

/// The bytes of a bundle newer than `have_version`, if the server has one.
pub(crate) async fn bundle(connection: &Connection, have_version: u64) -> Result<Option<Vec<u8>>, NetError> {
    let request = AgentRequest::Bundle(BundleQuery { have_version });
    let (reply, _): (BundleReply, _) = aimass_net::request(connection, &request, PROMPT).await?;
    Ok(reply.bundle.map(serde_bytes::ByteBuf::into_vec))
}

/// Brings a base model to the disk; returns the bytes that travelled for it (0 when it was there already).
pub(crate) async fn fetch(connection: &Connection, state: &StateFolder, base: Digest, base_bytes: u64) -> Result<u64, NetError> {
    let path = state.model_path(base);
    if blocking(move || work::file_digest(&path).map_err(io::Error::other)).await? == Some(base) {
        return Ok(0);
    }
    let path = state.partial_model_path(base);
    let (file, len) = blocking(move || open_partial(&path)).await?;
    let mut from_chunk = u32::try_from((len / CHUNK_BYTES as u64).min(base_bytes.div_ceil(CHUNK_BYTES as u64))).unwrap_or(0);
    for _ in 0..FETCH_ATTEMPTS {
        let request = AgentRequest::Fetch(Fetch { digest: base, from_chunk });
        let (reply, mut reader): (FetchReply, _) = aimass_net::request(connection, &request, LONG_POLL).await?;
        let manifest = reply.manifest;
        if manifest.digest() != base || manifest.size_bytes() != base_bytes {
            return Err(NetError::Protocol {
                reason: "the manifest is not that of the model that the task named".to_owned(),
            });
        }
        let handle = duplicate(&file)?;
        let expected = manifest.clone();
        let held = blocking(move || aimass_net::blob::verified_prefix(&handle, &expected)).await?;
        if held != from_chunk {
            from_chunk = held;
            continue;
        }
        // Whether all of it is the model that the task named shows when it is opened: training compares the digest of the whole.
        aimass_net::blob::receive_chunks(&mut reader, &manifest, from_chunk, &file, &std::sync::Arc::new(()), || {}).await?;
        let state = state.clone();
        blocking(move || state.finish_model(base).map_err(io::Error::other)).await?;
        return Ok(travelled(base_bytes, from_chunk));
    }
    Err(NetError::Io {
        what: "the downloaded part of the model".to_owned(),
        source: io::Error::other("it changes while it is read"),
    })
}

/// What an upload moved.
pub(crate) struct Uploaded {
    /// Bytes of the update.
    pub(crate) bytes: u64,
    /// Bytes that travelled for it just now.
    pub(crate) sent_bytes: u64,
}

/// Uploads the residues, from where the server has them.
pub(crate) async fn upload(
    connection: &Connection,
    path: PathBuf,
    record: EncodedRecord,
    contribution: ContributionId,
    cohort: CohortId,
) -> Result<Uploaded, NetError> {
    let manifest = record.manifest;
    let file = blocking(move || open_named(&path)).await?;
    let bytes = manifest.size_bytes();
    let ask = Upload {
        cohort,
        contribution,
        manifest: manifest.clone(),
    };
    let Some(mut upload) = begin_upload(connection, ask).await? else {
        // Nothing to send: the server has all of it.
        return Ok(Uploaded { bytes, sent_bytes: 0 });
    };
    let next_chunk = upload.next_chunk;
    let sent = aimass_net::blob::send_chunks(&mut upload.writer, &file, &manifest, next_chunk).await;
    upload.end(sent).await?;
    Ok(Uploaded {
        bytes,
        sent_bytes: travelled(bytes, next_chunk),
    })
}

/// An upload that the server has agreed to: the chunks from `next_chunk` on are sent with `writer`.
pub struct OpenUpload {
    /// First chunk that the server lacks.
    pub next_chunk: u32,
    /// For the chunks.
    pub writer: FrameWriter,
    reader: FrameReader,
}

/// Asks the server to take an update; `None` when it has all of it already.
///
/// # Errors
/// The refusal, or what broke.
pub async fn begin_upload(connection: &Connection, ask: Upload) -> Result<Option<OpenUpload>, NetError> {
    let chunks = ask.manifest.chunks().len();
    let request = AgentRequest::Upload(ask);
    // The server lets so many transfers begin at once: the others wait for their turn.
    let (reply, writer, reader): (UploadReply, _, _) = aimass_net::exchange(connection, &request, LONG_POLL).await?;
    match reply {
        UploadReply::Accepted => Ok(None),
        UploadReply::Resume { next_chunk } if next_chunk as usize > chunks => Err(NetError::Protocol {
            reason: format!("the server asks for chunk {next_chunk} of {chunks}"),
        }),
        UploadReply::Resume { next_chunk } => Ok(Some(OpenUpload {
            next_chunk,
            writer,
            reader,
        })),
    }
}

impl OpenUpload {
    /// Waits for the server's word, after the chunks were sent with this result.
    ///
    /// # Errors
    /// The refusal, or what broke.
    pub async fn end(mut self, sent: Result<(), NetError>) -> Result<(), NetError> {
        match sent {
            Ok(()) => self.writer.finish(),
            // The server has said why on its own half of the stream.
            Err(NetError::Refused(_)) => {}
            Err(e) => {
                self.writer.abort(ErrorCode::Unavailable);
                return Err(e);
            }
        }
        match self.reader.control_within::<Reply<UploadReply>>(ADDING).await? {
            Reply::Ok(UploadReply::Accepted) => Ok(()),
            Reply::Ok(UploadReply::Resume { .. }) => Err(NetError::Protocol {
                reason: "the server asks for chunks that were sent already".to_owned(),
            }),
            Reply::Refused(refusal) => Err(refusal.into()),
        }
    }
}

/// Bytes of a blob from chunk `from` on; none when all of it was there already (the last chunk is shorter than the others).
fn travelled(bytes: u64, from: u32) -> u64 {
    bytes.saturating_sub(u64::from(from) * CHUNK_BYTES as u64)
}

fn open_partial(path: &Path) -> io::Result<(File, u64)> {
    let open = || {
        disk::call("opening a download")?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        let len = file.metadata()?.len();
        Ok((file, len))
    };
    open().map_err(|e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

fn open_named(path: &Path) -> io::Result<File> {
    File::open(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

fn duplicate(file: &File) -> Result<File, NetError> {
    file.try_clone().map_err(|source| NetError::Io {
        what: "the downloaded part of the model".to_owned(),
        source,
    })
}

/// Runs file work off the reactor.
async fn blocking<T: Send + 'static>(f: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, NetError> {
    let result = tokio::task::spawn_blocking(f).await.unwrap_or_else(|e| Err(io::Error::other(e)));
    result.map_err(|source| NetError::Io {
        what: "state folder".to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_that_was_whole_already_does_not_travel() {
        let chunk = CHUNK_BYTES as u64;
        assert_eq!(travelled(2 * chunk + 5, 0), 2 * chunk + 5);
        assert_eq!(travelled(2 * chunk + 5, 2), 5);
        assert_eq!(travelled(2 * chunk + 5, 3), 0, "killed between the last chunk and the rename");
    }
}
