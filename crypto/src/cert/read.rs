//! The reading side: everything here may come from a peer.

use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

use super::{CertError, CertInfo, Subject};
use crate::hash::sha256;
use crate::sign::PublicKey;

/// AlgorithmIdentifier of Ed25519 without parameters (RFC 8410, section 3) and the head of a BIT STRING of 64 bytes.
const SIGNATURE_HEADER: [u8; 10] = [0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x41, 0];

/// The tag that a certificate or request begins with.
const SEQUENCE: u8 = 0x30;

/// What a root says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootInfo {
    /// Its key.
    pub public_key: PublicKey,
    /// SHA-256 of its SubjectPublicKeyInfo: what a join token pins.
    pub spki_sha256: [u8; 32],
    /// Seconds since the Unix epoch.
    pub not_before_s: i64,
    /// Seconds since the Unix epoch.
    pub not_after_s: i64,
}

/// Reads a certificate of ours: Ed25519, one SAN URI that names the fingerprint of its key.
///
/// # Errors
/// [`CertError`].
pub fn parse(der: &[u8]) -> Result<CertInfo, CertError> {
    let certificate = read(der)?;
    let public_key = ed25519(certificate.public_key())?;
    let names = certificate
        .subject_alternative_name()
        .map_err(CertError::new)?
        .ok_or_else(|| CertError::new("it names no subject"))?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return Err(CertError::new("expected one subject URI"));
    };
    let subject: Subject = uri.parse()?;
    if subject.id != hex::encode(public_key.fingerprint()) {
        return Err(CertError::new("its id is not that of its key"));
    }
    let validity = certificate.validity();
    Ok(CertInfo {
        subject,
        public_key,
        not_before_s: validity.not_before.timestamp(),
        not_after_s: validity.not_after.timestamp(),
    })
}

/// Reads a root certificate, after checking that it is a CA and signed by itself.
///
/// # Errors
/// [`CertError`].
pub fn root_info(der: &[u8]) -> Result<RootInfo, CertError> {
    let certificate = read(der)?;
    let public_key = ed25519(certificate.public_key())?;
    if !certificate.is_ca() {
        return Err(CertError::new("it is no root: it may not issue certificates"));
    }
    verify_signature(&certificate, &public_key).map_err(|_| CertError::new("it is no root: it is not signed by itself"))?;
    let validity = certificate.validity();
    Ok(RootInfo {
        public_key,
        spki_sha256: sha256(certificate.public_key().raw),
        not_before_s: validity.not_before.timestamp(),
        not_after_s: validity.not_after.timestamp(),
    })
}

/// Public key of a root certificate, after checking that it is a CA and signed by itself.
///
/// # Errors
/// [`CertError`].
pub fn root_public_key(der: &[u8]) -> Result<PublicKey, CertError> {
    Ok(root_info(der)?.public_key)
}

/// SHA-256 of the SubjectPublicKeyInfo of any certificate: what a join token pins of a root.
///
/// # Errors
/// [`CertError`].
pub fn spki_sha256(der: &[u8]) -> Result<[u8; 32], CertError> {
    Ok(sha256(read(der)?.public_key().raw))
}

/// Checks that `root_der` is a root and that it issued `certificate_der`. Says nothing about the time: see [`CertInfo`].
///
/// # Errors
/// [`CertError`].
pub fn verify_issued_by(certificate_der: &[u8], root_der: &[u8]) -> Result<(), CertError> {
    let key = root_public_key(root_der)?;
    let (certificate, root) = (read(certificate_der)?, read(root_der)?);
    if certificate.issuer().as_raw() != root.subject().as_raw() {
        return Err(CertError::new("it names another issuer than this root"));
    }
    verify_signature(&certificate, &key)
}

/// Checks a signing request's self-signature and returns its key. Whatever else it asks for is ignored: the authority decides.
///
/// # Errors
/// [`CertError`].
pub fn verify_signing_request(der: &[u8]) -> Result<PublicKey, CertError> {
    let (rest, request) =
        X509CertificationRequest::from_der(der).map_err(|e| CertError::new(format!("this is no signing request: {e}")))?;
    if !rest.is_empty() {
        return Err(CertError::new("bytes follow the signing request"));
    }
    let key = ed25519(&request.certification_request_info.subject_pki)?;
    key.verify_raw(request.certification_request_info.raw, signature(der)?)
        .map_err(|_| CertError::new("the signing request is not signed by its own key"))?;
    Ok(key)
}

fn read(der: &[u8]) -> Result<X509Certificate<'_>, CertError> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|e| CertError::new(format!("this is no certificate: {e}")))?;
    if !rest.is_empty() {
        return Err(CertError::new("bytes follow the certificate"));
    }
    if certificate.version() != X509Version::V3 {
        return Err(CertError::new("it is not of X.509 version 3"));
    }
    Ok(certificate)
}

/// The signature at the end of a certificate or request. Compared byte by byte, since the parser lets variants of the unsigned part pass, and each
/// signed document should have one form only.
fn signature(der: &[u8]) -> Result<&[u8], CertError> {
    let end = der
        .len()
        .checked_sub(SIGNATURE_HEADER.len() + 64)
        .and_then(|at| der.get(at..))
        .filter(|_| der.first() == Some(&SEQUENCE));
    end.and_then(|end| end.strip_prefix(&SIGNATURE_HEADER))
        .ok_or_else(|| CertError::new("it is not signed with Ed25519"))
}

fn ed25519(spki: &SubjectPublicKeyInfo<'_>) -> Result<PublicKey, CertError> {
    if spki.algorithm.algorithm != OID_SIG_ED25519 {
        return Err(CertError::new("its key is not Ed25519"));
    }
    PublicKey::from_bytes(&spki.subject_public_key.data).map_err(CertError::new)
}

fn verify_signature(certificate: &X509Certificate<'_>, key: &PublicKey) -> Result<(), CertError> {
    key.verify_raw(certificate.tbs_certificate.as_ref(), signature(certificate.as_raw())?)
        .map_err(|_| CertError::new("it is not signed by this root"))
}
