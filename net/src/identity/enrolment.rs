//! What a device or server holds once it has joined.

use aimass_crypto::cert::{self, CertInfo, RENEWAL_GRACE};
use aimass_crypto::sign::PublicKey;
use aimass_protocol::token::Role;
use aimass_protocol::{AgentId, TenantId};
use serde::{Deserialize, Serialize};

use crate::enrol::Bundle;

/// A certificate that does not fit the one who holds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolmentError {
    /// Not a certificate of ours.
    #[error(transparent)]
    Certificate(#[from] cert::CertError),
    /// It is for another key.
    #[error("the certificate is not for this device's key")]
    OtherKey,
    /// It names somebody else.
    #[error("the certificate is for {got}, not for {expected}")]
    OtherSubject {
        /// Who it is for, as `tenant/role/id`.
        got: String,
        /// Who it should be for.
        expected: String,
    },
    /// No root of the bundle has issued it.
    #[error("the certificate was not issued by a root of the trust bundle")]
    OtherRoot,
}

/// Who one is and where one belongs: `enrolment.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// The tenant.
    pub tenant: TenantId,
    /// Agent or server.
    pub role: Role,
    /// Fingerprint of the own key.
    pub id: AgentId,
    /// Where the enrolment authority listens, `host:port`.
    pub authority: String,
    /// Where the aggregator listens, `host:port`; empty for a server.
    pub server: String,
}

/// A membership with the certificate that proves it and the bundle that says whom to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    membership: Membership,
    certificate: Vec<u8>,
    info: CertInfo,
    bundle: Bundle,
}

impl Enrolment {
    /// Puts the parts together after checking that the certificate is the member's. Its root may have left the bundle since: see
    /// [`Enrolment::check_issuer`].
    ///
    /// # Errors
    /// [`EnrolmentError`].
    pub fn new(membership: Membership, certificate: Vec<u8>, bundle: Bundle) -> Result<Self, EnrolmentError> {
        let info = cert::parse(&certificate)?;
        let expected = format!("{}/{}/{}", membership.tenant, membership.role, membership.id.to_hex());
        let got = format!("{}/{}/{}", info.subject.tenant, info.subject.role, info.subject.id);
        if got != expected {
            return Err(EnrolmentError::OtherSubject { got, expected });
        }
        if AgentId::from_bytes(info.public_key.fingerprint()) != membership.id {
            return Err(EnrolmentError::OtherKey);
        }
        Ok(Self {
            membership,
            certificate,
            info,
            bundle,
        })
    }

    /// Checks that the certificate is for `key`.
    ///
    /// # Errors
    /// [`EnrolmentError::OtherKey`].
    pub fn check_key(&self, key: &PublicKey) -> Result<(), EnrolmentError> {
        if self.info.public_key == *key {
            Ok(())
        } else {
            Err(EnrolmentError::OtherKey)
        }
    }

    /// Checks that a root of the bundle has issued the certificate. Once that root is retired, only a new token helps.
    ///
    /// # Errors
    /// [`EnrolmentError::OtherRoot`].
    pub fn check_issuer(&self) -> Result<(), EnrolmentError> {
        let issued_by = |root| cert::verify_issued_by(&self.certificate, root).is_ok();
        if self.bundle.roots().any(issued_by) {
            Ok(())
        } else {
            Err(EnrolmentError::OtherRoot)
        }
    }

    /// Who one is and where one belongs.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The certificate (DER).
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// What the certificate says.
    pub fn info(&self) -> &CertInfo {
        &self.info
    }

    /// Whom to trust.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Whether it is time to renew: a third of the certificate's lifetime is left, or another root issues now and the one behind this
    /// certificate will be retired. `now_s`: seconds since the epoch.
    pub fn renew_due(&self, now_s: i64) -> bool {
        let lifetime_s = self.info.not_after_s.saturating_sub(self.info.not_before_s);
        let by_issuing_root = self
            .bundle
            .roots()
            .next()
            .is_some_and(|root| cert::verify_issued_by(&self.certificate, root).is_ok());
        self.info.not_after_s.saturating_sub(now_s) <= lifetime_s / 3 || !by_issuing_root
    }

    /// Whether the certificate no longer holds (renewal may still be possible).
    pub fn expired(&self, now_s: i64) -> bool {
        now_s > self.info.not_after_s
    }

    /// Whether it expired so long ago that only a new token helps.
    pub fn beyond_renewal(&self, now_s: i64) -> bool {
        let grace_s = i64::try_from(RENEWAL_GRACE.as_secs()).unwrap_or(i64::MAX);
        now_s.saturating_sub(self.info.not_after_s) > grace_s
    }

    pub(crate) fn set_bundle(&mut self, bundle: Bundle) {
        self.bundle = bundle;
    }
}
