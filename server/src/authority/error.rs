//! What can go wrong, by who can put it right.

use std::io;
use std::net::SocketAddr;

use aimass_crypto::cert::CertError;
use aimass_net::enrol::BundleError;
use aimass_net::{BindError, TlsError};
use aimass_protocol::codec::EncodeError;
use aimass_protocol::limits::MAX_TAG_BYTES;

use super::StoreError;
use crate::loopback::LoopbackError;

/// The authority can't run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// Its folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its first root or own certificate can't be made.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// Its QUIC address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its HTTP API.
    #[error(transparent)]
    Loopback(#[from] LoopbackError),
    /// Not an address that tokens could carry.
    #[error(
        "public_address {given:?} is not host:port: give the name or address under which devices reach this authority, for instance \"authority.example.org:4434\""
    )]
    PublicAddress {
        /// What was given.
        given: String,
    },
    /// Tokens would carry an address that nobody can reach.
    #[error("listening on {listen} says not where devices reach this authority: set public_address to host:port")]
    NoPublicAddress {
        /// The bound address.
        listen: SocketAddr,
    },
    /// The HTTP listener failed.
    #[error("the HTTP API failed: {0}")]
    Api(#[source] io::Error),
}

impl AuthorityError {
    pub(crate) fn task(error: tokio::task::JoinError) -> Self {
        Self::Store(StoreError::Io(io::Error::other(error)))
    }
}

/// What the operator asked for can't be done; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// Not an address that a device could connect to.
    #[error("{given:?} is not host:port: give the address at which agents reach the aggregator, for instance \"fl.example.org:4433\"")]
    ServerAddress {
        /// What was given.
        given: String,
    },
    /// A role that no token gives.
    #[error("a token can make an agent or a server, not an authority")]
    Role,
    /// A lifetime out of range.
    #[error("a token may live from 1 second to {max_s} seconds, not {given_s}")]
    Lifetime {
        /// What was asked for, in seconds.
        given_s: u64,
        /// The longest, in seconds.
        max_s: u64,
    },
    /// No such token.
    #[error("there is no token {id:?}: `aimass token list` shows them; at least 4 digits are needed")]
    UnknownToken {
        /// What was given.
        id: String,
    },
    /// Several tokens begin like this.
    #[error("{id:?} fits {count} tokens: give more digits")]
    AmbiguousToken {
        /// What was given.
        id: String,
        /// How many it fits.
        count: usize,
    },
    /// The token's certificate stands, whatever becomes of the token.
    #[error("token {id} was used already: revoke the agent that used it (`aimass agents revoke`)")]
    TokenSpent {
        /// The token.
        id: String,
    },
    /// Not a key.
    #[error("the owner's key is not an Ed25519 public key of 64 hexadecimal digits: copy what `aimass owner create` printed")]
    OwnerKey,
    /// Not a name.
    #[error("an owner's name has 1 to {MAX_TAG_BYTES} letters, digits, '-', '_', '.' or inner spaces")]
    OwnerName,
    /// No such owner.
    #[error("no owner in the trust bundle has the key {key}")]
    UnknownOwner {
        /// What was given.
        key: String,
    },
    /// The bundle is full.
    #[error("the trust bundle holds {limit} {what} already: remove one first")]
    Full {
        /// `owners` or `roots`.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// No such root.
    #[error("no trusted root has the SPKI hash {spki}: `aimass authority status` shows them")]
    UnknownRoot {
        /// What was given.
        spki: String,
    },
    /// The root that issues can't go.
    #[error(
        "this root issues certificates now: rotate first, wait until every device has renewed (running ones do so within the hour, the others when they are back), then retire it"
    )]
    IssuingRoot,
    /// The bundle can't be made.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The token can't be written.
    #[error("the token can't be made: {0}")]
    Token(#[source] EncodeError),
    /// A certificate can't be made.
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// TLS does not take it.
    #[error("the new certificate can't be served yet: {0}")]
    Tls(#[from] TlsError),
    /// The folder can't be written.
    #[error("the authority can't write to its folder (disk full?): {0}")]
    Store(#[from] io::Error),
}
