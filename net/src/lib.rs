//! QUIC with mutual TLS 1.3 behind framed streams. quinn's and rustls' types stay in here.
//!
//! A [`ServerEndpoint`] serves one or more application protocols, each with its own demand on the client's certificate; a
//! [`ClientEndpoint`] connects to them. Both give a [`Connection`], on which each request is a bidirectional stream of its own:
//! frames written by a [`FrameWriter`], read by a [`FrameReader`]. [`blob`] moves content-addressed files over such a stream.

pub mod blob;
mod client;
mod congestion;
mod connection;
mod connection_id;
pub mod disk;
pub mod enrol;
mod error;
mod fault;
pub mod identity;
mod server;
mod stream;
#[cfg(test)]
mod testing;
mod tls;
mod transport;

pub use client::ClientEndpoint;
pub use connection::{Connection, TransferStats};
pub use error::{BindError, ConnectError, HandshakeError, NetError, TlsError};
pub use server::{Incoming, Limits, ServerEndpoint};
pub use stream::{FrameReader, FrameWriter, PROGRESS_TIMEOUT, exchange, reply, request};
pub use tls::{ClientAuth, Identity, Trust};
pub use transport::Congestion;
