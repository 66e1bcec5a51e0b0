//! The issuing side.

use std::time::Duration;

use rand_core::CryptoRng;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType,
    SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{BACKDATED, CertError, ROOT_LIFETIME, Subject, dns_name, root_public_key};
use crate::sign::{PublicKey, SigningKey};

/// A root that issues certificates: its key and its self-signed certificate.
pub struct Root {
    key: SigningKey,
    certificate_der: Vec<u8>,
}

impl Root {
    /// A new self-signed root named `name`, valid 20 years from `now_s` (seconds since the epoch).
    ///
    /// # Panics
    /// Never: a certificate with these few fields can always be written.
    pub fn create(name: &str, now_s: i64, rng: &mut impl CryptoRng) -> Self {
        let key = SigningKey::generate(rng);
        let mut params = params(now_s, ROOT_LIFETIME, rng);
        params.distinguished_name.push(DnType::CommonName, name);
        // It issues end entities only, nothing in between.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate_der = params
            .self_signed(&key)
            .expect("a certificate of fixed fields can be written")
            .der()
            .to_vec();
        Self { key, certificate_der }
    }

    /// From its key and certificate.
    ///
    /// # Errors
    /// [`CertError`] when they do not belong together, or the certificate is no root.
    pub fn load(key: SigningKey, certificate_der: &[u8]) -> Result<Self, CertError> {
        if root_public_key(certificate_der)? != key.public() {
            return Err(CertError::new("the root's key and its certificate do not belong together"));
        }
        Ok(Self {
            key,
            certificate_der: certificate_der.to_vec(),
        })
    }

    /// Its key.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Its certificate (DER).
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate_der
    }

    /// Certifies `public_key` as `tenant`/`role`, from `now_s - 48 h` to `now_s + lifetime`. Agents may only be clients; servers may be both
    /// (they are clients of the authority); the authority may only be a server.
    ///
    /// # Errors
    /// [`CertError`] when the tenant or role is none.
    pub fn issue(
        &self,
        tenant: &str,
        role: &str,
        public_key: &PublicKey,
        now_s: i64,
        lifetime: Duration,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, CertError> {
        let subject = Subject::new(tenant, role, public_key.fingerprint())?;
        let mut params = params(now_s, lifetime, rng);
        params.distinguished_name.push(DnType::CommonName, subject.id.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![SanType::URI(subject.to_string().try_into().map_err(CertError::new)?)];
        if !subject.is_agent() {
            params
                .subject_alt_names
                .push(SanType::DnsName(dns_name(tenant, role).try_into().map_err(CertError::new)?));
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if subject.is_agent() || subject.is_server() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from_slice(&self.certificate_der), &self.key).map_err(CertError::new)?;
        Ok(params.signed_by(public_key, &issuer).map_err(CertError::new)?.der().to_vec())
    }
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Root").field("key", &self.key).finish_non_exhaustive()
    }
}

fn params(now_s: i64, lifetime: Duration, rng: &mut impl CryptoRng) -> CertificateParams {
    let mut serial = [0; 16];
    rng.fill_bytes(&mut serial);
    // A positive number of exactly 16 bytes (RFC 5280, section 4.1.2.2: positive, at most 20).
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.not_before = date(now_s.saturating_sub(seconds(BACKDATED)));
    params.not_after = date(now_s.saturating_add(seconds(lifetime)));
    params
}

fn seconds(d: Duration) -> i64 {
    i64::try_from(d.as_secs()).unwrap_or(i64::MAX)
}

/// Held to the years that X.509 can write, 1970 to 9999.
fn date(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds.clamp(0, 253_402_300_799)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
