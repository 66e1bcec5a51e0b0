//! What can go wrong on the way, split by what one was doing.

use std::net::SocketAddr;

use aimass_protocol::ErrorCode;
use aimass_protocol::message::Refusal;

/// On a connection or stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The connection or stream is gone; try again.
    #[error("the connection broke: {reason}")]
    Broken {
        /// What the transport says.
        reason: String,
    },
    /// The peer was silent for too long; try again.
    #[error("the peer was silent for {waited_s} s in the middle of {what}")]
    Stalled {
        /// What should have come.
        what: &'static str,
        /// Seconds waited.
        waited_s: u64,
    },
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {reason}")]
    Protocol {
        /// How.
        reason: String,
    },
    /// A chunk or blob does not match its digest.
    #[error("{what} does not match its digest")]
    Digest {
        /// Which.
        what: String,
    },
    /// The peer refused the request, the stream or the connection.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The peer refused our certificate (in TLS 1.3 this is heard after the handshake).
    #[error("the peer refused our certificate: {reason}")]
    CertificateRefused {
        /// What it said.
        reason: String,
        /// Whether it said that the certificate is expired: renew it.
        expired: bool,
    },
    /// A message of ours that can't be sent.
    #[error("this message can't be sent: {reason}")]
    Unsendable {
        /// Why.
        reason: String,
    },
    /// A file of ours.
    #[error("{what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

impl NetError {
    /// Whether the same may succeed on a new connection without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Stalled { .. } | Self::Digest { .. } => true,
            Self::Refused(refusal) => refusal.code.is_retryable(),
            Self::Protocol { .. } | Self::CertificateRefused { .. } | Self::Unsendable { .. } | Self::Io { .. } => false,
        }
    }

    /// What to tell the peer: its fault by name, ours as "unavailable".
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Protocol { .. } => ErrorCode::Malformed,
            Self::Digest { .. } => ErrorCode::DigestMismatch,
            Self::Refused(refusal) => refusal.code,
            Self::CertificateRefused { .. } => ErrorCode::Forbidden,
            Self::Broken { .. } | Self::Stalled { .. } | Self::Unsendable { .. } | Self::Io { .. } => ErrorCode::Unavailable,
        }
    }
}

/// While connecting. Every text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody answers.
    #[error("{addr} does not answer: check the address and that the service runs")]
    Unreachable {
        /// The address.
        addr: String,
    },
    /// The address does not resolve.
    #[error("{addr:?} does not resolve: expected host:port")]
    Address {
        /// The address.
        addr: String,
    },
    /// The peer takes no connection now.
    #[error("{addr} takes no more connections now: try again in a while")]
    Busy {
        /// The address.
        addr: String,
    },
    /// The peer speaks another version of the protocol.
    #[error("{addr} speaks no protocol version that this program knows: update the older of the two")]
    Version {
        /// The address.
        addr: String,
    },
    /// The peer's certificate is not of our root, not valid now, or not for this role.
    #[error("{addr} could not prove that it belongs to this deployment: {reason}")]
    Untrusted {
        /// The address.
        addr: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The peer refused our certificate.
    #[error("{addr} refused our certificate: {reason}")]
    Refused {
        /// The address.
        addr: String,
        /// `expired`, `revoked`, `unknown authority`, ...: what it said.
        reason: String,
        /// Whether it said that the certificate is expired: renew it.
        expired: bool,
    },
    /// A local fault, for instance no free port.
    #[error("{reason}")]
    Local {
        /// Why, and what to do.
        reason: String,
    },
}

impl ConnectError {
    /// Whether trying again later may succeed without anybody changing anything here.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Busy { .. } | Self::Address { .. })
    }
}

/// While a server shakes hands with a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It took too long.
    #[error("{peer} did not finish its handshake in time")]
    TimedOut {
        /// The client's address.
        peer: SocketAddr,
    },
    /// It took its time while others waited.
    #[error("{peer} had to give way in its handshake: there were too many at once")]
    Displaced {
        /// The client's address.
        peer: SocketAddr,
    },
    /// It speaks no protocol of ours.
    #[error("{peer} speaks no protocol version that this server knows")]
    Version {
        /// The client's address.
        peer: SocketAddr,
    },
    /// It showed no certificate where one is needed.
    #[error("{peer} showed no certificate")]
    NoCertificate {
        /// The client's address.
        peer: SocketAddr,
    },
    /// Its certificate is over.
    #[error("{peer} showed an expired certificate")]
    Expired {
        /// The client's address.
        peer: SocketAddr,
    },
    /// Its certificate is of another authority, for another purpose, or not one of ours.
    #[error("{peer} showed a certificate that is not trusted: {reason}")]
    Certificate {
        /// The client's address.
        peer: SocketAddr,
        /// What is wrong with it.
        reason: String,
    },
    /// It did not trust us.
    #[error("{peer} did not trust this server: {reason}")]
    DistrustsUs {
        /// The client's address.
        peer: SocketAddr,
        /// What it said.
        reason: String,
    },
    /// It went away, or broke the protocol.
    #[error("the handshake with {peer} failed: {reason}")]
    Broken {
        /// The client's address.
        peer: SocketAddr,
        /// What the transport says.
        reason: String,
    },
}

impl HandshakeError {
    /// A stable word for counters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TimedOut { .. } => "handshake_timeout",
            Self::Displaced { .. } => "handshake_displaced",
            Self::Version { .. } => "handshake_version",
            Self::NoCertificate { .. } => "handshake_no_certificate",
            Self::Expired { .. } => "handshake_expired",
            Self::Certificate { .. } => "handshake_untrusted",
            Self::DistrustsUs { .. } => "handshake_distrusts_us",
            Self::Broken { .. } => "handshake_broken",
        }
    }
}

/// While binding a server's address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another process has the port.
    #[error("{addr} is in use by another process: stop it, or choose another address or port")]
    InUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The address can't be bound.
    #[error("can't listen on {addr}: {source}; choose an address of this machine, and a port above 1023 unless you are root")]
    Address {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The identity or the roots can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// An identity or roots that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate and key can't be used together.
    #[error("this certificate and key can't be used: {reason}")]
    Identity {
        /// Why.
        reason: String,
    },
    /// A root can't be used, or there is none.
    #[error("these roots can't be used: {reason}")]
    Trust {
        /// Why.
        reason: String,
    },
}
