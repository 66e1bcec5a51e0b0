//! Why the aggregator does not start, or stops.

use std::io;
use std::path::PathBuf;

use aimass_net::BindError;
use aimass_net::enrol::JoinError;
use aimass_net::identity::IdentityError;
use aimass_protocol::TenantId;
use aimass_protocol::token::Role;

use crate::blobs::BlobError;
use crate::loopback::LoopbackError;
use crate::store::StoreError;

/// The aggregator can't start or go on. Every text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A setting is impossible.
    #[error("settings: {0}")]
    Config(String),
    /// The data folder can't be used.
    #[error("{}: {source}", path.display())]
    DataDir {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server's identity can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The token is for something else.
    #[error("this token is for the role {role}, a server needs one made by `aimass token create --role server`")]
    TokenRole {
        /// The role that the token gives.
        role: Role,
    },
    /// Joining failed.
    #[error("joining failed: {0}")]
    Join(#[from] JoinError),
    /// The settings and the identity name different tenants.
    #[error("this server has joined for the tenant {joined}, but the settings say {configured}: set tenant = {joined:?}, or use another data folder", joined = joined.as_str())]
    Tenant {
        /// By the certificate.
        joined: TenantId,
        /// By the settings.
        configured: TenantId,
    },
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The models can't be used.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// Agents can't be served at the address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The operator can't be served.
    #[error(transparent)]
    Api(#[from] LoopbackError),
    /// The operating system gives no randomness.
    #[error("the operating system gives no random bytes")]
    Randomness,
    /// A part of the service ended by itself.
    #[error("the {part} ended unexpectedly: {reason}; start the server again and report this")]
    Ended {
        /// Which.
        part: &'static str,
        /// Why.
        reason: String,
    },
}
