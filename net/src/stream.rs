//! Frames on a stream. Every length is held to its limit before anything is allocated for it, and a peer that stops in the middle is given up.

#[cfg(test)]
mod tests;

use std::time::Duration;

use aimass_protocol::ErrorCode;
use aimass_protocol::check::Checked;
use aimass_protocol::codec;
use aimass_protocol::frame::{FrameError, FrameHeader, FrameKind, HEADER_BYTES};
use aimass_protocol::message::{Refusal, Reply};
use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream, StoppedError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::connection::OpenStream;
use crate::fault::{PEACE, net_error, read_error, stopped, wire, write_error};
use crate::{Connection, NetError};

/// How long a peer may be silent in the middle of something before it is given up.
pub const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// The sending half of a stream. Dropping it ends the stream in peace, as [`Self::finish`] does; dropping it in the middle of a frame (a send that
/// was cancelled) breaks the stream off.
pub struct FrameWriter {
    stream: SendStream,
    written: u64,
    mid_frame: bool,
    progress: Duration,
    _open: OpenStream,
}

impl FrameWriter {
    pub(crate) fn new(stream: SendStream, open: OpenStream) -> Self {
        Self {
            stream,
            written: 0,
            mid_frame: false,
            progress: PROGRESS_TIMEOUT,
            _open: open,
        }
    }

    /// Gives a peer that takes nothing up after `progress` instead of [`PROGRESS_TIMEOUT`].
    pub fn set_progress_timeout(&mut self, progress: Duration) {
        self.progress = progress;
    }

    /// Sends a control message.
    ///
    /// # Errors
    /// [`NetError::Unsendable`] before anything is sent; [`NetError::Refused`] when the peer stopped reading (it may have said why in a frame);
    /// [`NetError::Broken`], [`NetError::Stalled`], [`NetError::CertificateRefused`].
    pub async fn control<T: Serialize + Checked>(&mut self, message: &T) -> Result<(), NetError> {
        let payload = codec::encode(message).map_err(|e| NetError::Unsendable { reason: e.to_string() })?;
        self.frame(FrameKind::Control, payload.into()).await
    }

    /// Sends a chunk.
    ///
    /// # Errors
    /// As [`Self::control`].
    pub async fn chunk(&mut self, chunk: Bytes) -> Result<(), NetError> {
        self.frame(FrameKind::Chunk, chunk).await
    }

    /// Says that nothing follows.
    pub fn finish(&mut self) {
        // It fails only where the stream has ended already.
        let _ = self.stream.finish();
    }

    /// Says that nothing follows, and waits until the peer has acknowledged all of it: before a connection is closed on purpose.
    ///
    /// # Errors
    /// As [`Self::control`].
    pub async fn delivered(&mut self) -> Result<(), NetError> {
        self.finish();
        match timeout(self.progress, self.stream.stopped()).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(code))) => Err(stopped(code)),
            Ok(Err(StoppedError::ConnectionLost(e))) => Err(net_error(&e)),
            Ok(Err(e @ StoppedError::ZeroRttRejected)) => Err(NetError::Broken { reason: e.to_string() }),
            Err(_) => Err(self.stalled()),
        }
    }

    /// Gives up in the middle: the peer's read gives [`NetError::Refused`] with `code`.
    pub fn abort(&mut self, code: ErrorCode) {
        self.mid_frame = false;
        // It fails only where the stream has ended already.
        let _ = self.stream.reset(wire(code));
    }

    /// Bytes of frames written, headers included.
    pub fn bytes_written(&self) -> u64 {
        self.written
    }

    async fn frame(&mut self, kind: FrameKind, payload: Bytes) -> Result<(), NetError> {
        let header = FrameHeader::new(kind, payload.len()).map_err(|e| NetError::Unsendable { reason: e.to_string() })?;
        let mut parts = [Bytes::copy_from_slice(&header.to_bytes()), payload];
        self.mid_frame = true;
        while parts.iter().any(|part| !part.is_empty()) {
            // A slow peer is none that stands still: each time it takes something, the clock starts again.
            let sent = timeout(self.progress, self.stream.write_chunks(&mut parts))
                .await
                .map_err(|_| self.stalled())?;
            self.written += sent.map_err(|e| write_error(&e))?.bytes as u64;
        }
        self.mid_frame = false;
        Ok(())
    }

    fn stalled(&self) -> NetError {
        NetError::Stalled {
            what: "taking a frame",
            waited_s: self.progress.as_secs(),
        }
    }
}

impl Drop for FrameWriter {
    fn drop(&mut self) {
        if self.mid_frame {
            let _ = self.stream.reset(PEACE);
        }
    }
}

/// The receiving half of a stream. Dropping it before its end tells the peer to stop.
pub struct FrameReader {
    stream: RecvStream,
    read: u64,
    progress: Duration,
}

impl FrameReader {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            read: 0,
            progress: PROGRESS_TIMEOUT,
        }
    }

    /// Gives a peer that sends nothing up after `progress` instead of [`PROGRESS_TIMEOUT`].
    pub fn set_progress_timeout(&mut self, progress: Duration) {
        self.progress = progress;
    }

    /// The next control message, which must begin within the progress timeout.
    ///
    /// # Errors
    /// [`NetError::Protocol`] for a wrong, oversized, cut or malformed frame; [`NetError::Stalled`]; [`NetError::Refused`] when the peer gave up;
    /// [`NetError::Broken`], [`NetError::CertificateRefused`].
    pub async fn control<T: DeserializeOwned + Checked>(&mut self) -> Result<T, NetError> {
        self.control_within(self.progress).await
    }

    /// The same, waiting up to `wait` for its first byte: for replies that come late (long polls).
    ///
    /// # Errors
    /// As [`Self::control`].
    pub async fn control_within<T: DeserializeOwned + Checked>(&mut self, wait: Duration) -> Result<T, NetError> {
        let header = self.header(FrameKind::Control, wait, "a message").await?;
        let payload = self.payload(header.len, "a message").await?;
        codec::decode(&payload).map_err(|e| protocol(&e))
    }

    /// The next chunk, which must have `expected_len` bytes.
    ///
    /// # Errors
    /// As [`Self::control`].
    pub async fn chunk(&mut self, expected_len: usize) -> Result<Bytes, NetError> {
        let header = self.header(FrameKind::Chunk, self.progress, "a chunk").await?;
        if header.len != expected_len {
            return Err(NetError::Protocol {
                reason: format!("a chunk of {} bytes came where {expected_len} belong", header.len),
            });
        }
        self.payload(header.len, "a chunk").await
    }

    /// Checks that nothing follows.
    ///
    /// # Errors
    /// [`NetError::Protocol`] when something does; otherwise as [`Self::control`].
    pub async fn end(&mut self) -> Result<(), NetError> {
        match self.some(&mut [0; 1], self.progress, "the end of a stream").await? {
            None => Ok(()),
            Some(_) => Err(NetError::Protocol {
                reason: "bytes follow the last frame".to_owned(),
            }),
        }
    }

    /// Tells the peer to stop sending: its writes give [`NetError::Refused`] with `code`. Send the refusal as a frame first.
    pub fn stop(&mut self, code: ErrorCode) {
        // It fails only where the stream has ended already.
        let _ = self.stream.stop(wire(code));
    }

    /// Bytes of frames read, headers included.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    async fn header(&mut self, expected: FrameKind, wait: Duration, what: &'static str) -> Result<FrameHeader, NetError> {
        let mut bytes = [0; HEADER_BYTES];
        let Some(first) = self.some(&mut bytes, wait, what).await? else {
            return Err(NetError::Protocol {
                reason: format!("the stream ended where {what} belongs"),
            });
        };
        self.fill(&mut bytes[first..], what).await?;
        let header = FrameHeader::from_bytes(bytes).map_err(|e| protocol(&e))?;
        if header.kind == expected {
            Ok(header)
        } else {
            Err(protocol(&FrameError::WrongKind { expected }))
        }
    }

    /// `len` is within the limit of its kind.
    async fn payload(&mut self, len: usize, what: &'static str) -> Result<Bytes, NetError> {
        let mut payload = BytesMut::zeroed(len);
        self.fill(&mut payload, what).await?;
        Ok(payload.freeze())
    }

    async fn fill(&mut self, mut rest: &mut [u8], what: &'static str) -> Result<(), NetError> {
        while !rest.is_empty() {
            let Some(n) = self.some(rest, self.progress, what).await? else {
                return Err(NetError::Protocol {
                    reason: format!("the stream ended in the middle of {what}"),
                });
            };
            rest = &mut rest[n..];
        }
        Ok(())
    }

    /// At least one byte, or `None` at the stream's end.
    async fn some(&mut self, into: &mut [u8], wait: Duration, what: &'static str) -> Result<Option<usize>, NetError> {
        let stalled = |_| NetError::Stalled {
            what,
            waited_s: wait.as_secs(),
        };
        let read = timeout(wait, self.stream.read(into))
            .await
            .map_err(stalled)?
            .map_err(|e| read_error(&e))?;
        self.read += read.unwrap_or(0) as u64;
        Ok(read)
    }
}

/// Sends a request that has no more than one frame, and reads its reply, whose first byte may take `wait`. What follows the reply is in the reader.
///
/// # Errors
/// As [`FrameWriter::control`] and [`FrameReader::control`]; a refusal is [`NetError::Refused`].
pub async fn request<Q, R>(connection: &Connection, request: &Q, wait: Duration) -> Result<(R, FrameReader), NetError>
where
    Q: Serialize + Checked,
    R: DeserializeOwned + Checked,
{
    let (mut writer, mut reader) = connection.open().await?;
    let sent = writer.control(request).await;
    writer.finish();
    Ok((first_reply(sent, &mut reader, wait).await?, reader))
}

/// Sends a request after which more is to be sent, and reads its first reply.
///
/// # Errors
/// As [`request`].
pub async fn exchange<Q, R>(connection: &Connection, request: &Q, wait: Duration) -> Result<(R, FrameWriter, FrameReader), NetError>
where
    Q: Serialize + Checked,
    R: DeserializeOwned + Checked,
{
    let (mut writer, mut reader) = connection.open().await?;
    let sent = writer.control(request).await;
    Ok((first_reply(sent, &mut reader, wait).await?, writer, reader))
}

async fn first_reply<R: DeserializeOwned + Checked>(
    sent: Result<(), NetError>,
    reader: &mut FrameReader,
    wait: Duration,
) -> Result<R, NetError> {
    // A peer that stopped reading may have said why.
    if !matches!(sent, Ok(()) | Err(NetError::Refused(_))) {
        sent?;
    }
    match reader.control_within::<Reply<R>>(wait).await? {
        Reply::Ok(reply) => Ok(reply),
        Reply::Refused(refusal) => Err(refusal.into()),
    }
}

/// Sends a reply or a refusal as a `Reply<T>` frame. The stream stays open.
///
/// # Errors
/// As [`FrameWriter::control`].
pub async fn reply<T: Serialize + Checked>(writer: &mut FrameWriter, reply: Result<T, Refusal>) -> Result<(), NetError> {
    let reply = match reply {
        Ok(reply) => Reply::Ok(reply),
        Err(refusal) => Reply::Refused(refusal),
    };
    writer.control(&reply).await
}

fn protocol(error: &impl std::fmt::Display) -> NetError {
    NetError::Protocol { reason: error.to_string() }
}
