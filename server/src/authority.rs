//! The enrolment authority: who belongs to the deployment, and whom its devices trust.
//!
//! It holds the root keys. Devices and servers come over QUIC: with a one-time token for a first certificate, with a certificate for
//! the next. The operator comes over the loopback HTTP API. It knows nothing of jobs or models.
//!
//! **Roots.** The first root of the trust bundle issues. The authority's own certificate is issued by the *last* one, the oldest that
//! is still trusted, and tokens pin that one: so a device whose bundle is from before a rotation can still verify the authority and
//! learn the new root from it, until the old one is retired.

mod api;
mod config;
mod error;
mod issue;
mod quic;
mod service;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod tokens;
mod trust;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aimass_net::ServerEndpoint;
use aimass_net::enrol::AUTHORITY;
use aimass_protocol::check::is_address;
use aimass_protocol::frame::{ALPN_ENROL, ALPN_RENEW};
use aimass_protocol::{Digest, Timestamp};
use tokio::task::JoinSet;

use crate::loopback;
pub use config::{CertificateLifetime, Config, LifetimeError};
pub use error::{AuthorityError, OperatorError};
use service::Service;
use state::{Lifetimes, State};
pub use store::StoreError;

/// How long open requests may take to finish once the authority stops.
const SHUTDOWN_DRAIN: Duration = Duration::from_secs(1);

/// Where a running authority is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Bound QUIC address.
    pub quic_address: SocketAddr,
    /// Bound address of the HTTP API.
    pub api_address: SocketAddr,
    /// The `host:port` that tokens carry.
    pub public_address: String,
    /// SHA-256 of the issuing root's SubjectPublicKeyInfo.
    pub root_spki: Digest,
    /// Whether this start has made the root.
    pub created: bool,
}

/// Runs the authority on its folder until `shutdown`; makes the folder and the first root when absent. `ready` is called once it answers.
///
/// # Errors
/// [`AuthorityError`], before `ready` is called; later only if the HTTP listener fails.
pub async fn run(config: Config, ready: impl FnOnce(&Ready), shutdown: impl Future<Output = ()>) -> Result<(), AuthorityError> {
    let dir = config.data_dir.clone();
    let lifetimes = Lifetimes {
        agent: config.agent_certificate_s.duration(),
        server: config.server_certificate_s.duration(),
    };
    let opened = tokio::task::spawn_blocking(move || State::open(&dir, lifetimes, now()))
        .await
        .map_err(AuthorityError::task)?;
    let (mut state, created) = opened?;

    let served = state.serve_as(now())?;
    let services: [(&[u8], _); 2] = [(ALPN_ENROL, quic::ENROL_AUTH), (ALPN_RENEW, quic::RENEW_AUTH)];
    let endpoint = ServerEndpoint::bind(config.listen, &served.identity, &services, &served.roots, quic::limits())?;
    let quic_address = endpoint.local_addr();
    let public_address = match config.public_address {
        Some(given) if !is_address(&given) => return Err(AuthorityError::PublicAddress { given }),
        Some(given) => given,
        None if quic_address.ip().is_unspecified() => return Err(AuthorityError::NoPublicAddress { listen: quic_address }),
        None => quic_address.to_string(),
    };
    let api = loopback::bind(&config.data_dir, config.api_listen).await?;
    let ready_info = Ready {
        quic_address,
        api_address: api.address(),
        public_address: public_address.clone(),
        root_spki: state.issuing_spki(),
        created,
    };
    let service = Arc::new(Service::new(state, endpoint.clone(), served, public_address));

    tracing::info!(quic = %quic_address, api = %api.address(), root = %ready_info.root_spki, created, "{AUTHORITY} is running");
    ready(&ready_info);
    let mut clients = JoinSet::new();
    let ended = tokio::select! {
        ended = api.serve(api::router(Arc::clone(&service)), shutdown) => ended,
        () = quic::serve(Arc::clone(&service), &endpoint, &mut clients) => Ok(()),
        () = service::keep_certificate_fresh(&service) => Ok(()),
    };
    endpoint.close(SHUTDOWN_DRAIN).await;
    clients.shutdown().await;
    tracing::info!("{AUTHORITY} has stopped");
    ended.map_err(AuthorityError::Api)
}

/// The wall clock.
fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// Seconds since the epoch, as certificates count.
fn seconds(now: Timestamp) -> i64 {
    i64::try_from(now.as_ms() / 1000).unwrap_or(i64::MAX)
}
