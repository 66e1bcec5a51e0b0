//! X.509 (RFC 5280): signing requests by devices, certificates by the root, and what a certificate says.
//!
//! A certificate's subject is its SAN URI `aimass://<tenant>/<role>/<fingerprint hex>`; servers and the authority carry the DNS name
//! `<role>.<tenant>.aimass.internal` as well, so that rustls checks the role when it checks the name. Agents get clientAuth only.

mod read;
mod root;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rcgen::{CertificateParams, PKCS_ED25519, PublicKeyData, SignatureAlgorithm};

pub use self::read::{RootInfo, parse, root_info, root_public_key, spki_sha256, verify_issued_by, verify_signing_request};
pub use self::root::Root;
use crate::sign::{PublicKey, SigningKey};
pub use crate::subject::{ParseSubjectError, Subject};

/// How long a device's or server's certificate holds.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a root holds.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// How far certificates are backdated, for devices whose clock is behind.
pub const BACKDATED: Duration = Duration::from_secs(48 * 3600);
/// How long after its end a certificate may still be renewed.
pub const RENEWAL_GRACE: Duration = Duration::from_secs(90 * 24 * 3600);

/// What a certificate says. Not verified by itself: the TLS handshake or [`verify_issued_by`] does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertInfo {
    /// Whose it is; its id is the fingerprint of `public_key`.
    pub subject: Subject,
    /// Ed25519 public key.
    pub public_key: PublicKey,
    /// Seconds since the Unix epoch.
    pub not_before_s: i64,
    /// Seconds since the Unix epoch.
    pub not_after_s: i64,
}

/// A certificate or request that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertError {
    /// Not one of ours.
    #[error("this certificate can't be used: {reason}")]
    Invalid {
        /// Why.
        reason: String,
    },
}

impl CertError {
    fn new(reason: impl std::fmt::Display) -> Self {
        Self::Invalid {
            reason: reason.to_string(),
        }
    }
}

impl From<ParseSubjectError> for CertError {
    fn from(e: ParseSubjectError) -> Self {
        Self::new(e)
    }
}

/// A signing request (PKCS#10, DER): proof that its maker holds the key. It names nobody: the authority decides that.
///
/// # Panics
/// Never: an empty request with an Ed25519 key can always be written.
pub fn signing_request(key: &SigningKey) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params
        .serialize_request(key)
        .expect("an empty request with an Ed25519 key can be written");
    request.der().to_vec()
}

/// The name that rustls checks for a server or authority certificate.
pub fn dns_name(tenant: &str, role: &str) -> String {
    format!("{role}.{tenant}.aimass.internal")
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl PublicKeyData for SigningKey {
    fn der_bytes(&self) -> &[u8] {
        self.public_ref().as_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl rcgen::SigningKey for SigningKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.sign_raw(message).to_vec())
    }
}
