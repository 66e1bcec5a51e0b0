//! Accepting connections.

mod handshakes;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aimass_protocol::ErrorCode;
use quinn::Endpoint;
use quinn::crypto::rustls::QuicServerConfig;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use self::handshakes::{Handshakes, Running};
use crate::fault::{PEACE, handshake_error};
use crate::tls::{ServerTls, SessionTls};
use crate::transport::{self, canonical};
use crate::{BindError, ClientAuth, Congestion, Connection, HandshakeError, Identity, TlsError};

/// Bytes that clients may send before they are accepted, one and all together.
const INCOMING_BUFFER_BYTES: u64 = 64 * 1024;
const INCOMING_BUFFERS_BYTES: u64 = 4 * 1024 * 1024;
/// How often closing looks whether streams are still open.
const DRAIN_POLL: Duration = Duration::from_millis(10);
/// What closing leaves for the last acknowledgements, and then for the peers to hear of the close.
const LINGER: Duration = Duration::from_millis(50);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Bounds of a server endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at once; further ones are told that the server is busy.
    pub max_connections: usize,
    /// Most handshakes at once. A client that comes then and has proven its address takes the place of the oldest that has had a second; others are
    /// left to their retransmission, a second later.
    pub max_handshakes: usize,
    /// From so many handshakes at once on, a client must first prove that it receives at its address (RFC 9000, section 8.1.2), so that a flood from
    /// forged addresses costs no key exchanges. Not always: it is one more round trip, and a lost packet more that costs a second.
    pub retry_above: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Congestion control towards clients.
    pub congestion: Congestion,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            max_handshakes: 1_024,
            retry_above: 256,
            handshake_timeout: Duration::from_secs(10),
            congestion: Congestion::default(),
        }
    }
}

/// A bound UDP socket that serves some application protocols. Cheap to clone.
#[derive(Clone)]
pub struct ServerEndpoint {
    shared: Arc<Shared>,
}

struct Shared {
    quic: Endpoint,
    local: SocketAddr,
    /// The part of quinn's configuration that no reload touches.
    base: quinn::ServerConfig,
    tls: RwLock<Arc<ServerTls>>,
    services: Arc<[(Vec<u8>, ClientAuth)]>,
    limits: Limits,
    handshakes: Handshakes,
    streams: Arc<AtomicUsize>,
    closing: watch::Sender<bool>,
}

impl ServerEndpoint {
    /// Binds `addr` (port 0: any) and serves `services`: application protocols, each with what it asks of its clients.
    /// `roots` (DER) are what clients' certificates are verified against. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(
        addr: SocketAddr,
        identity: &Identity,
        services: &[(&[u8], ClientAuth)],
        roots: &[Vec<u8>],
        limits: Limits,
    ) -> Result<Self, BindError> {
        let services: Arc<[_]> = services.iter().map(|(alpn, auth)| (alpn.to_vec(), *auth)).collect();
        let tls = Arc::new(ServerTls::new(identity, Arc::clone(&services), roots)?);
        // The endpoint itself needs TLS for a packet's first keys only; every handshake gets its own.
        let (_, first) = tls.session()?;
        let mut base = quinn::ServerConfig::with_crypto(quic_tls(first)?);
        base.transport_config(Arc::new(transport::server(limits.congestion)));
        base.migration(true);
        base.max_incoming(limits.max_handshakes);
        base.incoming_buffer_size(INCOMING_BUFFER_BYTES);
        base.incoming_buffer_size_total(INCOMING_BUFFERS_BYTES);
        let bind_error = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { addr },
            _ => BindError::Address { addr, source },
        };
        let quic = transport::bind(addr)
            .and_then(|socket| transport::server_endpoint(socket, base.clone(), &identity.reset_key()))
            .map_err(bind_error)?;
        let local = quic.local_addr().map_err(bind_error)?;
        let shared = Shared {
            quic,
            local,
            base,
            tls: RwLock::new(tls),
            services,
            limits,
            handshakes: Handshakes::default(),
            streams: Arc::default(),
            closing: watch::Sender::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// The next client, before its handshake; `None` once the endpoint is closed. Spawn [`Incoming::handshake`]: it must not hold up the next accept.
    pub async fn accept(&self) -> Option<Incoming> {
        let shared = &self.shared;
        let mut closing = shared.closing.subscribe();
        loop {
            let quic = tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing) => return None,
                quic = shared.quic.accept() => quic?,
            };
            let handshakes = shared.handshakes.len();
            if shared.quic.open_connections() >= shared.limits.max_connections {
                quic.refuse();
            } else if handshakes >= shared.limits.retry_above && quic.may_retry() {
                // It can't fail: that it may was asked just now.
                let _ = quic.retry();
            } else if handshakes >= shared.limits.max_handshakes && !shared.handshakes.displace_oldest(Instant::now()) {
                quic.ignore();
            } else {
                return Some(Incoming {
                    quic,
                    running: shared.handshakes.begin(),
                    server: self.clone(),
                });
            }
        }
    }

    /// Takes a new certificate or new roots. Standing connections stay; the next handshakes use these.
    ///
    /// # Errors
    /// [`TlsError`]; the old ones stay in use.
    pub fn reload(&self, identity: &Identity, roots: &[Vec<u8>]) -> Result<(), TlsError> {
        let tls = ServerTls::new(identity, Arc::clone(&self.shared.services), roots)?;
        *self.shared.tls.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tls);
        Ok(())
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.quic.open_connections()
    }

    /// Takes no more connections, waits up to `drain` for open streams to end, then closes all connections. Keep `drain` short: clients that come
    /// back meanwhile find nobody.
    pub async fn close(&self, drain: Duration) {
        let shared = &self.shared;
        shared.closing.send_replace(true);
        shared.quic.set_server_config(None);
        let deadline = Instant::now() + drain;
        while shared.streams.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            sleep(DRAIN_POLL).await;
        }
        sleep(LINGER.min(drain)).await;
        shared.quic.close(PEACE, b"");
        let _ = timeout(CLOSE_TIMEOUT, shared.quic.wait_idle()).await;
    }
}

/// A client that has said hello. Dropping it refuses the client.
pub struct Incoming {
    quic: quinn::Incoming,
    running: Running,
    server: ServerEndpoint,
}

impl Incoming {
    /// Where it says it is.
    pub fn remote_address(&self) -> SocketAddr {
        canonical(self.quic.remote_address())
    }

    /// Does the handshake, within the endpoint's time limit.
    ///
    /// # Errors
    /// [`HandshakeError`], which has a name for a counter.
    pub async fn handshake(self) -> Result<Connection, HandshakeError> {
        let peer = self.remote_address();
        let Self { quic, mut running, server } = self;
        let shared = &server.shared;
        let broken = |e: TlsError| HandshakeError::Broken {
            peer,
            reason: e.to_string(),
        };
        let tls = Arc::clone(&shared.tls.read().unwrap_or_else(PoisonError::into_inner));
        let (session, config): (Arc<SessionTls>, _) = tls.session().map_err(broken)?;
        let mut config_for_one = shared.base.clone();
        config_for_one.crypto = quic_tls(config).map_err(broken)?;
        let connecting = quic.accept_with(Arc::new(config_for_one)).map_err(|e| handshake_error(peer, &e))?;
        let quic = tokio::select! {
            done = timeout(shared.limits.handshake_timeout, connecting) => done.map_err(|_| HandshakeError::TimedOut { peer })?,
            () = running.displaced() => return Err(HandshakeError::Displaced { peer }),
        };
        let connection = Connection::new(quic.map_err(|e| handshake_error(peer, &e))?, Arc::clone(&shared.streams));
        drop(running);
        if !session.admits(connection.alpn(), connection.peer().is_some()) {
            connection.close(ErrorCode::Forbidden, "this session was not verified for its protocol");
            return Err(HandshakeError::Certificate {
                peer,
                reason: "another protocol was negotiated than the one that was verified".to_owned(),
            });
        }
        if *shared.closing.borrow() {
            connection.close(ErrorCode::Unavailable, "the server is stopping");
        }
        Ok(connection)
    }
}

fn quic_tls(config: rustls::ServerConfig) -> Result<Arc<QuicServerConfig>, TlsError> {
    QuicServerConfig::try_from(config)
        .map(Arc::new)
        .map_err(|e| TlsError::Identity { reason: e.to_string() })
}
