//! Agents and servers to the enrolment authority, on [`ALPN_ENROL`](crate::frame::ALPN_ENROL) (a token, no certificate) and
//! [`ALPN_RENEW`](crate::frame::ALPN_RENEW) (a certificate).

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::token::TokenSecret;
use crate::{AgentId, TenantId};

/// What may be asked with a token alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum EnrolRequest {
    /// A first certificate. Answered with [`CertificateReply`]. Repeating it with the same key returns the same subject.
    Enrol(Enrol),
}

/// See [`EnrolRequest::Enrol`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrol {
    /// The token's secret.
    pub secret: TokenSecret,
    /// PKCS#10 certificate signing request (DER) by the device's own key.
    pub csr: ByteBuf,
}

/// What may be asked with a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum RenewRequest {
    /// A new certificate for the same subject. Answered with [`CertificateReply`].
    Renew(Renew),
    /// The trust bundle. Answered with [`BundleReply`](super::agent::BundleReply).
    Bundle(super::agent::BundleQuery),
    /// From a server: this agent may not renew (or may again). Answered with [`RevocationReply`]; safe to repeat.
    SetRevoked(SetRevoked),
}

/// See [`RenewRequest::Renew`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// Signing request (DER) by the same key.
    pub csr: ByteBuf,
}

/// See [`RenewRequest::SetRevoked`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetRevoked {
    /// The agent's tenant; must be the server's own.
    pub tenant: TenantId,
    /// The agent.
    pub agent: AgentId,
    /// Whether it is revoked from now on.
    pub revoked: bool,
}

/// See [`RenewRequest::SetRevoked`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationReply {
    /// What holds now.
    pub revoked: bool,
}

/// A certificate and what to trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateReply {
    /// The certificate (DER), issued directly by a root of the bundle.
    pub certificate: ByteBuf,
    /// The [`SignedBundle`](crate::bundle::SignedBundle) in CBOR.
    pub bundle: ByteBuf,
}
