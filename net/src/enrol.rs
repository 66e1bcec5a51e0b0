//! The client side of enrolment, for agents and servers: join with a token, renew, follow the trust bundle, report a revocation.
//!
//! Nothing here trusts on first use: a token pins the hash of the authority's root, and from then on the bundle says whom to trust.

mod bundle;
#[cfg(test)]
mod tests;

use std::time::Duration;

use aimass_crypto::cert;
use aimass_crypto::sign::SigningKey;
use aimass_protocol::AgentId;
use aimass_protocol::ErrorCode;
use aimass_protocol::frame::{ALPN_ENROL, ALPN_RENEW};
use aimass_protocol::message::agent::{BundleQuery, BundleReply};
use aimass_protocol::message::authority::{CertificateReply, Enrol, EnrolRequest, Renew, RenewRequest, RevocationReply, SetRevoked};
use aimass_protocol::token::JoinToken;
use serde_bytes::ByteBuf;

use crate::identity::{Enrolment, EnrolmentError, Membership};
use crate::{ClientEndpoint, ConnectError, Connection, Identity, NetError, Trust, request};
pub use bundle::{Bundle, BundleError, accept_bundle};

/// How long the authority may take to answer; it syncs to disk first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Most steps from an old bundle to the newest; each is signed by a root of the one before.
const MAX_BUNDLE_STEPS: usize = 64;
/// The authority's tenant and role in its own certificate.
pub const AUTHORITY: &str = "authority";

/// Joining failed. Every text says what to do; a token is not lost by a failure on the way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Whoever answers does not hold the root that the token pins.
    #[error(
        "{addr} is not the authority that made this token ({reason}): check that the token is of this deployment and that this device's clock is right, or ask the operator for a new token (`aimass token create`)"
    )]
    Untrusted {
        /// The authority's address in the token.
        addr: String,
        /// What is wrong with its certificate.
        reason: String,
    },
    /// The authority was not reached.
    #[error(transparent)]
    Connect(ConnectError),
    /// The authority refused (its text says the fix), or the connection broke.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The authority's bundle is not signed by the pinned root.
    #[error("the authority's answer can't be trusted: {0}")]
    Bundle(#[from] BundleError),
    /// The certificate is not what the token promises.
    #[error("the authority's answer can't be used: {0}")]
    Certificate(#[from] EnrolmentError),
    /// The certificate does not hold by this device's clock.
    #[error(
        "this device's clock is wrong: it says {now_s} s since 1970, but the new certificate holds from {not_before_s} to {not_after_s}: set the clock and join again with the same token"
    )]
    Clock {
        /// This device's time, seconds since the epoch.
        now_s: i64,
        /// When the certificate begins to hold.
        not_before_s: i64,
        /// When it ends.
        not_after_s: i64,
    },
}

impl JoinError {
    /// Whether the same token may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(e) => e.is_retryable(),
            Self::Net(e) => e.is_retryable(),
            Self::Untrusted { .. } | Self::Bundle(_) | Self::Certificate(_) | Self::Clock { .. } => false,
        }
    }
}

/// Renewing, following the bundle or reporting a revocation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenewError {
    /// The certificate is over for longer than renewal allows.
    #[error("the certificate expired too long ago to be renewed: join again with a new token (`aimass token create`)")]
    TooLate,
    /// The operator has revoked this identity.
    #[error("{text}")]
    Revoked {
        /// What the authority says.
        text: String,
    },
    /// The authority's root is not in the bundle held.
    #[error(
        "{addr} is not trusted here ({reason}): if its root was replaced and the old one retired, join again with a new token; otherwise check this device's clock"
    )]
    Untrusted {
        /// The authority's address.
        addr: String,
        /// What is wrong with its certificate.
        reason: String,
    },
    /// The authority was not reached.
    #[error(transparent)]
    Connect(ConnectError),
    /// The authority refused (its text says the fix), or the connection broke.
    #[error(transparent)]
    Net(NetError),
    /// The authority's bundle may not follow the one held.
    #[error("the authority's answer can't be trusted: {0}")]
    Bundle(#[from] BundleError),
    /// The new certificate is not this identity's.
    #[error("the authority's answer can't be used: {0}")]
    Certificate(#[from] EnrolmentError),
}

impl RenewError {
    /// Whether the same may succeed later without anybody changing anything on this device. A revocation can be undone by the operator.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(e) => e.is_retryable(),
            Self::Net(e) => e.is_retryable(),
            Self::Revoked { .. } => true,
            Self::TooLate | Self::Untrusted { .. } | Self::Bundle(_) | Self::Certificate(_) => false,
        }
    }
}

impl From<ConnectError> for RenewError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Untrusted { addr, reason } => Self::Untrusted { addr, reason },
            ConnectError::Refused { expired: true, .. } => Self::TooLate,
            other => Self::Connect(other),
        }
    }
}

impl From<NetError> for RenewError {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Refused(refusal) if refusal.code == ErrorCode::Revoked => Self::Revoked { text: refusal.text },
            NetError::CertificateRefused { expired: true, .. } => Self::TooLate,
            other => Self::Net(other),
        }
    }
}

/// Uses `token` for `key`: gets a first certificate and bundle. Asking again with the same key is safe, until the token expires.
/// `now_s`: this device's clock, seconds since the epoch. The caller checks first that the token's role is its own.
///
/// # Errors
/// [`JoinError`].
pub async fn join(token: &JoinToken, key: &SigningKey, now_s: i64) -> Result<Enrolment, JoinError> {
    let untrusted = |e| match e {
        ConnectError::Untrusted { addr, reason } => JoinError::Untrusted { addr, reason },
        other => JoinError::Connect(other),
    };
    let endpoint = ClientEndpoint::new().map_err(untrusted)?;
    let trust = Trust::PinnedRoot(*token.root_spki.as_bytes());
    let name = cert::dns_name(AUTHORITY, AUTHORITY);
    let connection = endpoint
        .connect(&token.authority, &name, ALPN_ENROL, None, &trust)
        .await
        .map_err(untrusted)?;
    let ask = EnrolRequest::Enrol(Enrol {
        secret: token.secret.clone(),
        csr: ByteBuf::from(cert::signing_request(key)),
    });
    let reply: Result<(CertificateReply, _), _> = request(&connection, &ask, ANSWER_TIMEOUT).await;
    connection.finish();
    endpoint.close().await;
    let (reply, _) = reply?;

    let bundle = Bundle::from_pinned(&reply.bundle, &token.root_spki)?;
    let membership = Membership {
        tenant: token.tenant.clone(),
        role: token.role,
        id: AgentId::from_bytes(key.public().fingerprint()),
        authority: token.authority.clone(),
        server: token.server.clone(),
    };
    let enrolment = Enrolment::new(membership, reply.certificate.into_vec(), bundle)?;
    enrolment.check_key(&key.public())?;
    enrolment.check_issuer()?;
    let info = enrolment.info();
    if now_s < info.not_before_s || now_s > info.not_after_s {
        return Err(JoinError::Clock {
            now_s,
            not_before_s: info.not_before_s,
            not_after_s: info.not_after_s,
        });
    }
    Ok(enrolment)
}

/// Gets a new certificate for the same key, and the newest bundle. The caller stores the result.
///
/// # Errors
/// [`RenewError`]; the old certificate stands.
pub async fn renew(current: &Enrolment, key: &SigningKey) -> Result<Enrolment, RenewError> {
    let link = Link::open(current, key).await?;
    let renewed = link.renew(current, key).await;
    link.close().await;
    renewed
}

/// Asks the authority for the newest trust bundle; `None` when `current` holds it already.
///
/// # Errors
/// [`RenewError`]; the old bundle stays in force.
pub async fn fetch_bundle(current: &Enrolment, key: &SigningKey) -> Result<Option<Bundle>, RenewError> {
    let link = Link::open(current, key).await?;
    let bundle = link.newest_bundle(current.bundle()).await;
    link.close().await;
    bundle
}

/// Tells the authority, as a server of the agent's tenant, that `agent` may not renew (or may again). Safe to repeat. Returns what holds now.
///
/// # Errors
/// [`RenewError`].
pub async fn set_revoked(current: &Enrolment, key: &SigningKey, agent: AgentId, revoked: bool) -> Result<bool, RenewError> {
    let link = Link::open(current, key).await?;
    let ask = RenewRequest::SetRevoked(SetRevoked {
        tenant: current.membership().tenant.clone(),
        agent,
        revoked,
    });
    let reply: Result<(RevocationReply, _), _> = request(&link.connection, &ask, ANSWER_TIMEOUT).await;
    link.close().await;
    Ok(reply?.0.revoked)
}

/// A connection to the authority with one's own certificate.
struct Link {
    endpoint: ClientEndpoint,
    connection: Connection,
}

impl Link {
    async fn open(current: &Enrolment, key: &SigningKey) -> Result<Self, RenewError> {
        let endpoint = ClientEndpoint::new()?;
        let identity = Identity::new(vec![current.certificate().to_vec()], key);
        let trust = Trust::Roots(current.bundle().roots().map(<[u8]>::to_vec).collect());
        let (addr, name) = (&current.membership().authority, cert::dns_name(AUTHORITY, AUTHORITY));
        let connection = endpoint.connect(addr, &name, ALPN_RENEW, Some(&identity), &trust).await?;
        Ok(Self { endpoint, connection })
    }

    /// Follows the authority's bundles from `held` on, each signed by a root of the one before.
    async fn newest_bundle(&self, held: &Bundle) -> Result<Option<Bundle>, RenewError> {
        let mut newest = None;
        for _ in 0..MAX_BUNDLE_STEPS {
            let current: &Bundle = newest.as_ref().unwrap_or(held);
            let ask = RenewRequest::Bundle(BundleQuery {
                have_version: current.version(),
            });
            let (reply, _): (BundleReply, _) = request(&self.connection, &ask, ANSWER_TIMEOUT).await?;
            let Some(received) = reply.bundle else { break };
            match current.accept(&received)? {
                Some(newer) => newest = Some(newer),
                None => break,
            }
        }
        Ok(newest)
    }

    async fn renew(&self, current: &Enrolment, key: &SigningKey) -> Result<Enrolment, RenewError> {
        let bundle = self
            .newest_bundle(current.bundle())
            .await?
            .unwrap_or_else(|| current.bundle().clone());
        let ask = RenewRequest::Renew(Renew {
            csr: ByteBuf::from(cert::signing_request(key)),
        });
        let (reply, _): (CertificateReply, _) = request(&self.connection, &ask, ANSWER_TIMEOUT).await?;
        let bundle = bundle.accept(&reply.bundle)?.unwrap_or(bundle);
        let enrolment = Enrolment::new(current.membership().clone(), reply.certificate.into_vec(), bundle)?;
        enrolment.check_key(&key.public())?;
        enrolment.check_issuer()?;
        Ok(enrolment)
    }

    async fn close(self) {
        self.connection.finish();
        self.endpoint.close().await;
    }
}
