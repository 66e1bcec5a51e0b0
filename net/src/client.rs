//! Connecting.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use aimass_crypto::cert::dns_name;
use aimass_crypto::sign::SigningKey;
use aimass_protocol::frame::ALPN_AGENT;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, TransportConfig};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::fault::{PEACE, connect_error};
use crate::identity::Enrolment;
use crate::{Congestion, ConnectError, Connection, Identity, Trust, tls, transport};

/// How long connecting may take, all addresses of a name together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most addresses of a name that are tried, and how long after each the next one joins in ("Happy Eyeballs", RFC 8305, section 5).
const MAX_ADDRESSES: usize = 4;
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// How long closing waits for the peers to hear of it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A UDP socket to connect from. Cheap to clone; one serves any number of connections.
#[derive(Clone)]
pub struct ClientEndpoint {
    quic: Endpoint,
    transport: Arc<TransportConfig>,
    congestion: Congestion,
    streams: Arc<AtomicUsize>,
    patience: Duration,
}

impl ClientEndpoint {
    /// Binds a socket for IPv6 and IPv4. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError::Local`].
    pub fn new() -> Result<Self, ConnectError> {
        Self::with_congestion(Congestion::default())
    }

    /// The same with another congestion control than the default.
    ///
    /// # Errors
    /// [`ConnectError::Local`].
    pub fn with_congestion(congestion: Congestion) -> Result<Self, ConnectError> {
        let socket = transport::bind((Ipv6Addr::UNSPECIFIED, 0).into()).or_else(|_| transport::bind((Ipv4Addr::UNSPECIFIED, 0).into()));
        let quic = socket.and_then(transport::client_endpoint).map_err(|e| local(&e))?;
        Ok(Self {
            quic,
            transport: Arc::new(transport::client(congestion, transport::KEEP_ALIVE)),
            congestion,
            streams: Arc::default(),
            patience: CONNECT_TIMEOUT,
        })
    }

    /// Gives up connecting after `patience` instead of 10 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Is heard of every so often when there is nothing to say, instead of every 10 s: that is also how soon a restarted server is noticed.
    #[must_use]
    pub fn keep_alive(mut self, every: Duration) -> Self {
        self.transport = Arc::new(transport::client(self.congestion, every));
        self
    }

    /// Connects a member to its aggregation server, as its enrolment says.
    ///
    /// # Errors
    /// As [`ClientEndpoint::connect`].
    pub async fn connect_member(&self, enrolment: &Enrolment, key: &SigningKey) -> Result<Connection, ConnectError> {
        let identity = Identity::new(vec![enrolment.certificate().to_vec()], key);
        let trust = Trust::Roots(enrolment.bundle().roots().map(<[u8]>::to_vec).collect());
        let member = enrolment.membership();
        let name = dns_name(member.tenant.as_str(), "server");
        self.connect(&member.server, &name, ALPN_AGENT, Some(&identity), &trust).await
    }

    /// Connects to `addr` (`host:port`), whose certificate must carry `server_name` (see `aimass_crypto::cert::dns_name`), within 10 s.
    ///
    /// With TLS 1.3 a server refuses a client's certificate only after the client is through with its handshake: that comes as
    /// [`NetError::CertificateRefused`](crate::NetError::CertificateRefused) from the first request.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(
        &self,
        addr: &str,
        server_name: &str,
        alpn: &[u8],
        identity: Option<&Identity>,
        trust: &Trust,
    ) -> Result<Connection, ConnectError> {
        let tls = tls::client_config(alpn, identity, trust).map_err(|e| ConnectError::Local { reason: e.to_string() })?;
        let tls = QuicClientConfig::try_from(tls).map_err(|e| ConnectError::Local { reason: e.to_string() })?;
        let mut config = ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::clone(&self.transport));
        timeout(self.patience, self.race(addr, server_name, config))
            .await
            .unwrap_or_else(|_| Err(ConnectError::Unreachable { addr: addr.to_owned() }))
    }

    /// Moves all connections to a new socket (the network changed).
    ///
    /// # Errors
    /// [`ConnectError::Local`].
    pub fn rebind(&self) -> Result<(), ConnectError> {
        let is_ipv6 = self.quic.local_addr().is_ok_and(|addr| addr.is_ipv6());
        let any: SocketAddr = if is_ipv6 {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        };
        transport::bind(any)
            .and_then(|socket| self.quic.rebind(socket))
            .map_err(|e| local(&e))
    }

    /// Closes all connections and waits up to a second for the peers to hear of it.
    pub async fn close(&self) {
        self.quic.close(PEACE, b"");
        // The peers' idle timeout is what remains.
        let _ = timeout(CLOSE_TIMEOUT, self.quic.wait_idle()).await;
    }

    /// The first address of the name that works, or the most telling error.
    async fn race(&self, addr: &str, server_name: &str, config: ClientConfig) -> Result<Connection, ConnectError> {
        let resolved = tokio::net::lookup_host(addr)
            .await
            .map_err(|_| ConnectError::Address { addr: addr.to_owned() })?;
        let mut tried: Vec<SocketAddr> = Vec::with_capacity(MAX_ADDRESSES);
        for address in resolved {
            if tried.len() < MAX_ADDRESSES && !tried.contains(&address) {
                tried.push(address);
            }
        }
        let mut attempts = JoinSet::new();
        for (address, nth) in tried.into_iter().zip(0..) {
            let (quic, config, addr, name) = (self.quic.clone(), config.clone(), addr.to_owned(), server_name.to_owned());
            attempts.spawn(async move {
                sleep(NEXT_ADDRESS_AFTER * nth).await;
                let connecting = quic.connect_with(config, address, &name).map_err(|e| match e {
                    // An address family that this machine lacks.
                    quinn::ConnectError::InvalidRemoteAddress(_) => ConnectError::Unreachable { addr: addr.clone() },
                    other => ConnectError::Local { reason: other.to_string() },
                })?;
                connecting.await.map_err(|e| connect_error(&addr, &e))
            });
        }
        let mut failure = None;
        while let Some(ended) = attempts.join_next().await {
            match ended {
                Ok(Ok(quic)) => return Ok(Connection::new(quic, Arc::clone(&self.streams))),
                Ok(Err(e @ ConnectError::Unreachable { .. })) => failure = failure.or(Some(e)),
                Ok(Err(e)) => failure = Some(e),
                Err(e) => failure = failure.or(Some(ConnectError::Local { reason: e.to_string() })),
            }
        }
        Err(failure.unwrap_or_else(|| ConnectError::Address { addr: addr.to_owned() }))
    }
}

fn local(error: &std::io::Error) -> ConnectError {
    ConnectError::Local {
        reason: format!("can't open a UDP socket: {error}"),
    }
}
