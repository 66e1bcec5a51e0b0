//! An established connection.

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aimass_crypto::cert::{self, CertInfo};
use aimass_crypto::sign::PublicKey;
use aimass_protocol::ErrorCode;
use quinn::ConnectionError;
use quinn::crypto::rustls::HandshakeData;
use rustls::pki_types::CertificateDer;

use crate::fault::{PEACE, net_error, wire};
use crate::transport::canonical;
use crate::{FrameReader, FrameWriter, NetError};

/// An established connection. Cheap to clone; it closes in peace when the last clone and stream are gone.
#[derive(Clone)]
pub struct Connection {
    quic: quinn::Connection,
    facts: Arc<Facts>,
}

/// What the handshake has found out.
struct Facts {
    alpn: Vec<u8>,
    chain: Vec<Vec<u8>>,
    peer: Option<CertInfo>,
    /// Streams of the whole endpoint that are open.
    streams: Arc<AtomicUsize>,
}

/// Counts an open stream for as long as its writer lives.
pub(crate) struct OpenStream(Arc<AtomicUsize>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a connection has moved: UDP payload, so with QUIC's own overhead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferStats {
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets of ours that were lost.
    pub lost_packets: u64,
    /// Smoothed round-trip time.
    pub rtt: Duration,
}

impl Connection {
    /// `streams`: the endpoint's counter of open streams.
    pub(crate) fn new(quic: quinn::Connection, streams: Arc<AtomicUsize>) -> Self {
        let alpn = quic
            .handshake_data()
            .and_then(|data| data.downcast::<HandshakeData>().ok())
            .and_then(|data| data.protocol);
        let chain = quic
            .peer_identity()
            .and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
        let chain: Vec<Vec<u8>> = chain
            .map(|chain| chain.iter().map(|der| der.to_vec()).collect())
            .unwrap_or_default();
        let peer = chain.first().and_then(|leaf| cert::parse(leaf).ok());
        Self {
            quic,
            facts: Arc::new(Facts {
                alpn: alpn.unwrap_or_default(),
                chain,
                peer,
                streams,
            }),
        }
    }

    /// What the peer's verified certificate says; `None` when it showed none.
    pub fn peer(&self) -> Option<&CertInfo> {
        self.facts.peer.as_ref()
    }

    /// The peer's verified public key; `None` when it showed no certificate.
    pub fn peer_public_key(&self) -> Option<PublicKey> {
        self.peer().map(|info| info.public_key)
    }

    /// The chain that the peer showed (DER, leaf first); empty when it showed none. The leaf was verified; so was the root that a
    /// [`Trust::PinnedRoot`](crate::Trust::PinnedRoot) names, by its key.
    pub fn peer_certificates(&self) -> &[Vec<u8>] {
        &self.facts.chain
    }

    /// Where the peer is now; it may move.
    pub fn remote_address(&self) -> SocketAddr {
        canonical(self.quic.remote_address())
    }

    /// The application protocol.
    pub fn alpn(&self) -> &[u8] {
        &self.facts.alpn
    }

    /// Opens a stream. Waits while the peer's limit of streams is used up. The peer hears of it with the first frame.
    ///
    /// # Errors
    /// [`NetError::Broken`], [`NetError::CertificateRefused`], [`NetError::Refused`].
    pub async fn open(&self) -> Result<(FrameWriter, FrameReader), NetError> {
        let (send, recv) = self.quic.open_bi().await.map_err(|e| net_error(&e))?;
        Ok(self.frames(send, recv))
    }

    /// The peer's next stream; `None` when the connection was closed in peace, or by us.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn accept(&self) -> Result<Option<(FrameWriter, FrameReader)>, NetError> {
        match self.quic.accept_bi().await {
            Ok((send, recv)) => Ok(Some(self.frames(send, recv))),
            Err(ConnectionError::LocallyClosed) => Ok(None),
            Err(ConnectionError::ApplicationClosed(close)) if close.error_code == PEACE => Ok(None),
            Err(e) => Err(net_error(&e)),
        }
    }

    /// Closes at once; what the peer has not acknowledged is lost. Every call of the peer then gives [`NetError::Refused`] with `code` and `text`.
    pub fn close(&self, code: ErrorCode, text: &str) {
        self.quic.close(wire(code), text.as_bytes());
    }

    /// Closes at once and in peace: nothing is wrong, there is no more to say.
    pub fn finish(&self) {
        self.quic.close(PEACE, b"");
    }

    /// Waits for the end, and says why it came.
    pub async fn closed(&self) -> NetError {
        net_error(&self.quic.closed().await)
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.quic.close_reason().is_some()
    }

    /// What it has moved.
    pub fn stats(&self) -> TransferStats {
        let stats = self.quic.stats();
        TransferStats {
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            sent_packets: stats.path.sent_packets,
            lost_packets: stats.path.lost_packets,
            rtt: stats.path.rtt,
        }
    }

    fn frames(&self, send: quinn::SendStream, recv: quinn::RecvStream) -> (FrameWriter, FrameReader) {
        self.facts.streams.fetch_add(1, Ordering::AcqRel);
        (
            FrameWriter::new(send, OpenStream(Arc::clone(&self.facts.streams))),
            FrameReader::new(recv),
        )
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let peer = self.peer().map(|info| info.subject.to_string());
        f.debug_struct("Connection")
            .field("remote", &self.remote_address())
            .field("peer", &peer)
            .finish_non_exhaustive()
    }
}
