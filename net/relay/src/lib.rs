//! For tests: relays between a client and a server. [`Relay`] records what they say, as the bytes of their streams; [`udp`] passes their datagrams
//! over a link as bad as asked for; [`flood`] is a client that never means it.
//!
//! A [`Relay`] ends mutual TLS on both sides, with the server's key towards the client and the client's key towards the server, so both must
//! be the test's own. It knows nothing of frames or messages: what it records does not depend on the code that the recording is to test.
//! Nothing but tests and benches depends on this crate.

pub mod flood;
mod tls;
pub mod udp;

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use quinn::{ConnectionError, Endpoint, EndpointConfig, ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::task::JoinHandle;

/// A certificate chain (DER, leaf first) with the leaf's private key.
#[derive(Clone)]
pub struct Certified {
    /// The chain.
    pub chain: Vec<Vec<u8>>,
    /// The key, PKCS#8 (DER).
    pub key_pkcs8: Vec<u8>,
}

/// Between whom a relay stands.
pub struct Config {
    /// The one application protocol that is passed on.
    pub alpn: Vec<u8>,
    /// Root certificates (DER) that both sides are verified against.
    pub roots: Vec<Vec<u8>>,
    /// Who the relay is towards clients.
    pub as_server: Certified,
    /// Who it is towards the server. `None`: the protocol asks clients for no certificate.
    pub as_client: Option<Certified>,
    /// The server.
    pub server: SocketAddr,
    /// The DNS name in the server's certificate.
    pub server_name: String,
}

/// One of the two who speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Who has connected.
    Client,
    /// Whom it wanted.
    Server,
}

/// Bytes of a stream that one end sent before the other one said something again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Who sent them.
    pub from: End,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// How a connection was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// Who closed it.
    pub by: End,
    /// The application's error code.
    pub code: u64,
    /// The reason that was sent along.
    pub reason: Vec<u8>,
}

/// What went over one connection so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The turns of each bidirectional stream, in the order in which the client opened the streams.
    pub streams: Vec<Vec<Turn>>,
    /// How it ended; `None` while it lasts.
    pub closed: Option<Close>,
    /// Streams that were broken off by one of the ends.
    pub broken_streams: usize,
}

/// A running relay; it ends when it is dropped.
pub struct Relay {
    endpoint: Endpoint,
    recorded: Arc<Mutex<Vec<Recorded>>>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Serves on `socket`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the certificates can't be used.
    pub fn start(socket: UdpSocket, config: &Config) -> Result<Self> {
        let runtime = quinn::default_runtime().context("a relay needs a tokio runtime")?;
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(tls::server(config)?), socket, runtime)?;
        let upstream = Upstream {
            tls: tls::client(config)?,
            server: config.server,
            name: config.server_name.clone(),
        };
        let recorded: Arc<Mutex<Vec<Recorded>>> = Arc::default();
        let accepting = tokio::spawn(accept(endpoint.clone(), upstream, Arc::clone(&recorded)));
        Ok(Self {
            endpoint,
            recorded,
            accepting,
        })
    }

    /// What has been said on each connection until now, in the order in which they were made.
    pub fn recorded(&self) -> Vec<Recorded> {
        locked(&self.recorded).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        self.endpoint.close(VarInt::from_u32(0), b"");
    }
}

#[derive(Clone)]
struct Upstream {
    tls: quinn::ClientConfig,
    server: SocketAddr,
    name: String,
}

async fn accept(endpoint: Endpoint, upstream: Upstream, recorded: Arc<Mutex<Vec<Recorded>>>) {
    while let Some(incoming) = endpoint.accept().await {
        let (endpoint, upstream, recorded) = (endpoint.clone(), upstream.clone(), Arc::clone(&recorded));
        tokio::spawn(async move {
            let Ok(client) = incoming.await else { return };
            let connecting = endpoint.connect_with(upstream.tls, upstream.server, &upstream.name);
            let server = match connecting {
                Ok(connecting) => connecting.await.map_err(|e| e.to_string()),
                Err(e) => Err(e.to_string()),
            };
            match server {
                Ok(server) => pass_on(&client, &server, &recorded).await,
                Err(e) => client.close(VarInt::from_u32(1), format!("the relay can't connect: {e}").as_bytes()),
            }
        });
    }
}

async fn pass_on(client: &quinn::Connection, server: &quinn::Connection, recorded: &Arc<Mutex<Vec<Recorded>>>) {
    let number = {
        let mut recorded = locked(recorded);
        recorded.push(Recorded::default());
        recorded.len() - 1
    };
    let (by, error) = loop {
        tokio::select! {
            stream = client.accept_bi() => match stream {
                Ok((to_client, from_client)) => match server.open_bi().await {
                    Ok((to_server, from_server)) => {
                        let tape = Tape::of_new_stream(recorded, number);
                        tokio::spawn(copy(from_client, to_server, tape.clone(), End::Client));
                        tokio::spawn(copy(from_server, to_client, tape, End::Server));
                    }
                    Err(e) => break (End::Server, e),
                },
                Err(e) => break (End::Client, e),
            },
            e = server.closed() => break (End::Server, e),
        }
    };
    // Anything but a close by the application says nothing that could be passed on.
    let (code, reason) = match error {
        ConnectionError::ApplicationClosed(close) => (close.error_code, close.reason.to_vec()),
        _ => (VarInt::from_u32(0), Vec::new()),
    };
    locked(recorded)[number].closed = Some(Close {
        by,
        code: code.into_inner(),
        reason: reason.clone(),
    });
    let other = if by == End::Client { server } else { client };
    other.close(code, &reason);
}

/// Where the turns of one stream go.
#[derive(Clone)]
struct Tape {
    recorded: Arc<Mutex<Vec<Recorded>>>,
    connection: usize,
    stream: usize,
}

impl Tape {
    fn of_new_stream(recorded: &Arc<Mutex<Vec<Recorded>>>, connection: usize) -> Self {
        let mut connections = locked(recorded);
        let streams = &mut connections[connection].streams;
        streams.push(Vec::new());
        Self {
            recorded: Arc::clone(recorded),
            connection,
            stream: streams.len() - 1,
        }
    }

    fn said(&self, from: End, bytes: &[u8]) {
        let turns = &mut locked(&self.recorded)[self.connection].streams[self.stream];
        match turns.last_mut() {
            Some(turn) if turn.from == from => turn.bytes.extend_from_slice(bytes),
            _ => turns.push(Turn {
                from,
                bytes: bytes.to_vec(),
            }),
        }
    }

    fn broken(&self) {
        locked(&self.recorded)[self.connection].broken_streams += 1;
    }
}

/// Most bytes that are taken from a stream at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Each piece is recorded before it is passed on, so an answer never comes before its question.
async fn copy(mut from: RecvStream, mut to: SendStream, tape: Tape, end: End) {
    loop {
        match from.read_chunk(PIECE_BYTES, true).await {
            Ok(Some(piece)) => {
                tape.said(end, &piece.bytes);
                if let Err(WriteError::Stopped(code)) = to.write_chunk(piece.bytes).await {
                    tape.broken();
                    // It fails only where the stream has ended already.
                    let _ = from.stop(code);
                    return;
                }
            }
            Ok(None) => {
                let _ = to.finish();
                return;
            }
            Err(ReadError::Reset(code)) => {
                tape.broken();
                let _ = to.reset(code);
                return;
            }
            // The connection is over.
            Err(_) => return,
        }
    }
}

fn locked(recorded: &Mutex<Vec<Recorded>>) -> MutexGuard<'_, Vec<Recorded>> {
    recorded.lock().unwrap_or_else(PoisonError::into_inner)
}
