//! What a device or server holds once it has joined.

use std::time::Duration;

use aimass_crypto::cert::{self, BACKDATED, CertInfo, RENEWAL_GRACE};
use aimass_crypto::sign::PublicKey;
use aimass_protocol::token::Role;
use aimass_protocol::{AgentId, TenantId};
use serde::{Deserialize, Serialize};

use crate::enrol::Bundle;

/// Shortest pause between two attempts to renew.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

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
    /// Whether the root that issues now has issued the certificate.
    by_issuing_root: bool,
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
            by_issuing_root: is_by_issuing_root(&certificate, &bundle),
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

    /// Whether it is time to renew: [`Enrolment::renew_at_s`] has come, or another root issues now and the one behind this certificate will
    /// be retired. `now_s`: seconds since the epoch.
    pub fn renew_due(&self, now_s: i64) -> bool {
        now_s >= self.renew_at_s() || !self.by_issuing_root
    }

    /// When a third of the certificate's lifetime is left, seconds since the epoch. It lives from its issue on; the time before that, by which
    /// it is backdated, does not count.
    pub fn renew_at_s(&self) -> i64 {
        let issued_s = self.info.not_before_s.saturating_add(whole_seconds(BACKDATED));
        let lifetime_s = self.info.not_after_s.saturating_sub(issued_s).max(0);
        self.info.not_after_s.saturating_sub(lifetime_s / 3)
    }

    /// How long to wait before renewing is tried once more: a quarter of the time to the certificate's end, or since, and at least a second.
    /// So attempts are most frequent where they matter most, and rare long before and long after. `now_s`: seconds since the epoch.
    pub fn renewal_pause(&self, now_s: i64) -> Duration {
        Duration::from_secs(self.info.not_after_s.abs_diff(now_s) / 4).max(SHORTEST_PAUSE)
    }

    /// Whether the certificate no longer holds (renewal may still be possible).
    pub fn expired(&self, now_s: i64) -> bool {
        now_s > self.info.not_after_s
    }

    /// Whether it expired so long ago that only a new token helps.
    pub fn beyond_renewal(&self, now_s: i64) -> bool {
        now_s.saturating_sub(self.info.not_after_s) > whole_seconds(RENEWAL_GRACE)
    }

    pub(crate) fn set_bundle(&mut self, bundle: Bundle) {
        self.by_issuing_root = is_by_issuing_root(&self.certificate, &bundle);
        self.bundle = bundle;
    }
}

fn is_by_issuing_root(certificate: &[u8], bundle: &Bundle) -> bool {
    let issuing = bundle.roots().next();
    issuing.is_some_and(|root| cert::verify_issued_by(certificate, root).is_ok())
}

fn whole_seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
