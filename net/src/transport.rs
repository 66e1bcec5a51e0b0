//! Sockets and QUIC's transport parameters, from what was measured (design.md, section 10).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{BbrConfig, CubicConfig};
use quinn::{Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt};
use ring::hmac;
use socket2::{Domain, Protocol, Socket, Type};

use crate::congestion::ByLossConfig;
use crate::connection_id::SignedIds;

/// Survives a blackhole of a minute; 30 s did not.
const IDLE_TIMEOUT: VarInt = VarInt::from_u32(120_000);
/// How often a client is heard of when it has nothing to say: below the usual 30 s of a NAT's UDP binding, and soon enough to notice a
/// restarted server. 10,000 clients at this pace take 4 % of a core.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Shortest pause between stateless resets, of all together: an endpoint sends 20,000 a second at most, whoever asks. Clients of a restarted
/// server ask in bursts (timers count in milliseconds), and one that gets no answer asks again only after twice the time: with a pause of a
/// millisecond the last of 10,000 heard after 37 s. What asks for a reset has to carry an id that proves that it is ours; who has seen one on its
/// way can repeat it, and so use up what the others wait for.
const RESET_INTERVAL: Duration = Duration::from_micros(50);
/// Streams that a client may have open at once: one a request. The limit is most of what an idle connection costs.
const CLIENT_STREAMS: VarInt = VarInt::from_u32(8);
/// Unread bytes of one stream and of one connection: what a peer can make us hold. 512 KiB are two chunks.
const STREAM_WINDOW: VarInt = VarInt::from_u32(512 * 1024);
const CONNECTION_WINDOW: VarInt = VarInt::from_u32(1024 * 1024);
/// Bytes of ours that wait for an acknowledgement, a connection. A server has many of them: a quarter MiB still carries 10 Mbit/s over 200 ms.
const CLIENT_SEND_WINDOW: u64 = 1024 * 1024;
const SERVER_SEND_WINDOW: u64 = 256 * 1024;
/// Larger ones stalled when they were forced.
const MTU_UPPER_BOUND: u16 = 1452;
/// Asked of the kernel, which may give less: a burst of 5,000 handshakes overflows the usual 208 KiB.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Congestion control of what this side sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Congestion {
    /// Cubic, and BBR where packets get lost whatever the rate. The default.
    #[default]
    ByLoss,
    /// Cubic (RFC 9438): fair on ordinary links.
    Cubic,
    /// BBR: for links that lose more than a few percent of packets whatever the rate (6.65 MB over 40 ms with 10 % loss: 1.1 s, cubic 54 s).
    /// It wastes a narrow uplink, and quinn calls it experimental.
    Bbr,
}

pub(crate) fn server(congestion: Congestion) -> TransportConfig {
    let mut config = base(congestion);
    config.max_concurrent_bidi_streams(CLIENT_STREAMS).send_window(SERVER_SEND_WINDOW);
    config
}

pub(crate) fn client(congestion: Congestion, keep_alive: Duration) -> TransportConfig {
    let mut config = base(congestion);
    // Servers answer; they never ask.
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .send_window(CLIENT_SEND_WINDOW);
    config.keep_alive_interval(Some(keep_alive));
    config
}

fn base(congestion: Congestion) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_UPPER_BOUND);
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::from(IDLE_TIMEOUT)))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(STREAM_WINDOW)
        .receive_window(CONNECTION_WINDOW)
        .mtu_discovery_config(Some(mtu));
    match congestion {
        Congestion::ByLoss => config.congestion_controller_factory(Arc::new(ByLossConfig)),
        Congestion::Cubic => config.congestion_controller_factory(Arc::new(CubicConfig::default())),
        Congestion::Bbr => config.congestion_controller_factory(Arc::new(BbrConfig::default())),
    };
    config
}

/// A UDP socket with large buffers; an IPv6 one takes IPv4 too where the system lets it.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        // Where this is refused, the socket is for IPv6 alone.
        let _ = socket.set_only_v6(false);
    }
    for set in [Socket::set_recv_buffer_size, Socket::set_send_buffer_size] {
        if let Err(e) = set(&socket, SOCKET_BUFFER_BYTES) {
            tracing::debug!(error = %e, "the system refuses large socket buffers");
        }
    }
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// A client's endpoint on the running tokio runtime.
pub(crate) fn client_endpoint(socket: std::net::UdpSocket) -> io::Result<Endpoint> {
    endpoint(socket, EndpointConfig::default(), None)
}

/// A server's endpoint on the running tokio runtime.
///
/// `reset_key` has to be the same after a restart: only then does the new process recognise the connection ids of the old one and answer
/// them with a stateless reset (RFC 9000, section 10.3) that its clients believe. Without it a client of a killed server waits for its
/// idle timeout, two minutes, before it connects again.
pub(crate) fn server_endpoint(socket: std::net::UdpSocket, server: ServerConfig, reset_key: &[u8; 32]) -> io::Result<Endpoint> {
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset_key)));
    let secret = *reset_key;
    config.cid_generator(move || Box::new(SignedIds::new(&secret)));
    config.min_reset_interval(RESET_INTERVAL);
    endpoint(socket, config, Some(server))
}

fn endpoint(socket: std::net::UdpSocket, config: EndpointConfig, server: Option<ServerConfig>) -> io::Result<Endpoint> {
    let runtime = quinn::default_runtime().ok_or_else(|| io::Error::other("QUIC needs a tokio runtime"))?;
    Endpoint::new(config, server, socket, runtime)
}

/// An IPv4 address that a dual-stack socket shows as IPv6, as IPv4.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
