//! A flood: clients that say hello as fast as they can and never finish, from forged ports as far as this machine has them.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use quinn::ClientConfig;
use quinn::crypto::rustls::QuicClientConfig;
use quinn_proto::{Connection, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig};
use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::version::TLS13;

/// First packets that are made beforehand and sent again and again: a server that keeps no state takes each for a new one.
const POOL: usize = 4096;
/// Ports that they come from.
const PORTS: usize = 16;
/// First packets sent between two looks at the clock and at the answers.
const BURST: usize = 64;
/// How long a server keeps a handshake that does not go on; then another takes its place.
const HALF_OPEN_FOR: Duration = Duration::from_secs(10);

/// Where first packets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hellos {
    /// Each is made when it is sent, with keys of its own, as real clients do.
    Made,
    /// A few thousand are sent again and again, as fast as packets can be sent at all.
    Repeated,
}

/// What a flood has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flooded {
    /// First packets sent.
    pub hellos: u64,
    /// Handshakes begun in earnest and left alone.
    pub half_open: u64,
    /// Of those, how many had to prove their address before and did so.
    pub proven: u64,
}

/// A generator of first packets.
pub struct Flood {
    target: SocketAddr,
    config: ClientConfig,
    endpoint: Endpoint,
    name: String,
    sockets: Vec<UdpSocket>,
    pool: Vec<Vec<u8>>,
    /// Half-open handshakes that the server may still ask for a proof of address.
    waiting: HashMap<ConnectionHandle, Connection>,
    flooded: Flooded,
    begun: Option<Instant>,
}

impl Flood {
    /// Prepares one against `target`, speaking `alpn` and asking for the server `name`.
    ///
    /// # Errors
    /// When there are no sockets.
    pub fn new(target: SocketAddr, alpn: &[u8], name: &str) -> Result<Self> {
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        let sockets: io::Result<Vec<UdpSocket>> = (0..PORTS)
            .map(|_| {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            })
            .collect();
        let mut flood = Self {
            target,
            config: ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?)),
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None),
            name: name.to_owned(),
            sockets: sockets.context("the flood finds no ports")?,
            pool: Vec::new(),
            waiting: HashMap::new(),
            flooded: Flooded::default(),
            begun: None,
        };
        for _ in 0..POOL {
            let (_, _, hello) = flood.hello()?;
            flood.pool.push(hello);
        }
        Ok(flood)
    }

    /// Floods for `time` (more), holding `half_open` handshakes open all the while, and says what it has done since the first call.
    ///
    /// # Errors
    /// When a socket fails.
    pub fn run(&mut self, time: Duration, half_open: usize, hellos: Hellos) -> Result<Flooded> {
        let until = Instant::now() + time;
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let mut next = 0;
        while Instant::now() < until {
            // All at once at first, then each again when the server has given it up.
            let rounds = begun.elapsed().as_secs_f64() / HALF_OPEN_FOR.as_secs_f64();
            let due = (half_open as f64 * (1.0 + rounds)) as u64;
            for _ in self.flooded.half_open..due.min(self.flooded.half_open + BURST as u64) {
                self.half_open()?;
            }
            self.prove_addresses()?;
            for _ in 0..BURST {
                if hellos == Hellos::Made {
                    self.pool[next % POOL] = self.hello()?.2;
                }
                let hello = &self.pool[next % POOL];
                if sent(self.sockets[next % PORTS].send_to(hello, self.target))? {
                    self.flooded.hellos += 1;
                }
                next += 1;
            }
        }
        Ok(self.flooded)
    }

    /// A client's first packet.
    fn hello(&mut self) -> Result<(ConnectionHandle, Connection, Vec<u8>)> {
        let now = Instant::now();
        let (handle, mut connection) = self.endpoint.connect(now, self.config.clone(), self.target, &self.name)?;
        let mut packet = Vec::new();
        ensure!(connection.poll_transmit(now, 1, &mut packet).is_some(), "a client says hello first");
        Ok((handle, connection, packet))
    }

    fn half_open(&mut self) -> Result<()> {
        let (handle, connection, hello) = self.hello()?;
        if sent(self.sockets[0].send_to(&hello, self.target))? {
            self.flooded.half_open += 1;
            if self.waiting.len() >= POOL {
                self.waiting.clear();
            }
            self.waiting.insert(handle, connection);
        }
        Ok(())
    }

    /// Answers demands for a proof of address, and nothing else.
    fn prove_addresses(&mut self) -> Result<()> {
        let mut buffer = [0; 2048];
        while let Ok((len, _)) = self.sockets[0].recv_from(&mut buffer) {
            // A Retry packet of QUIC version 1 (RFC 9000, section 17.2.5).
            if buffer[0] & 0xf0 != 0xf0 {
                continue;
            }
            let now = Instant::now();
            let event = self
                .endpoint
                .handle(now, self.target, None, None, buffer[..len].into(), &mut Vec::new());
            let Some(DatagramEvent::ConnectionEvent(handle, event)) = event else {
                continue;
            };
            let Some(mut connection) = self.waiting.remove(&handle) else {
                continue;
            };
            connection.handle_event(event);
            let mut packet = Vec::new();
            if connection.poll_transmit(now, 1, &mut packet).is_some() && sent(self.sockets[0].send_to(&packet, self.target))? {
                self.flooded.proven += 1;
            }
        }
        Ok(())
    }
}

/// Whether it was sent; a full buffer or a refusal is none of ours.
fn sent(result: io::Result<usize>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hellos_arrive_and_each_is_another_clients() {
        let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        sink.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let mut flood = Flood::new(sink.local_addr().expect("bound"), b"test", "server.test").expect("made");
        let flooded = flood.run(Duration::from_millis(20), 8, Hellos::Repeated).expect("floods");
        assert!(flooded.hellos > 0 && flooded.half_open >= 8 && flooded.proven == 0, "{flooded:?}");
        let mut buffer = [0; 2048];
        let mut ids = std::collections::BTreeSet::new();
        for _ in 0..16 {
            let (len, _) = sink.recv_from(&mut buffer).expect("a hello");
            assert!(len >= 1200, "a first packet fills 1200 bytes (RFC 9000, section 14.1): {len}");
            // Its destination connection id, which the client draws at random.
            ids.insert(buffer[6..14].to_vec());
        }
        assert_eq!(ids.len(), 16);
    }
}
