//! The client's side: which servers it believes.

use std::sync::Arc;

use aimass_crypto::cert;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, Error};

use super::{Identity, Trust, anchors, provider};
use crate::TlsError;

/// TLS for one connection to a server.
pub(crate) fn client_config(alpn: &[u8], identity: Option<&Identity>, trust: &Trust) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| TlsError::Trust { reason: e.to_string() })?;
    let builder = match trust {
        Trust::Roots(roots) => builder.with_webpki_verifier(webpki(roots)?),
        // "dangerous" is rustls' name for any verifier that is not its own; this one ends in webpki's full verification.
        Trust::PinnedRoot(spki) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PinnedRoot { spki: *spki })),
    };
    let mut config = match identity {
        Some(identity) => {
            let (chain, key) = identity.parts()?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| TlsError::Identity { reason: e.to_string() })?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    // A server has one certificate: the name need not travel in the clear to be checked.
    config.enable_sni = false;
    Ok(config)
}

fn webpki(roots: &[Vec<u8>]) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(anchors(roots)?, provider()).build();
    verifier.map_err(|e| TlsError::Trust { reason: e.to_string() })
}

/// Verifies as webpki does (signatures, name, use, time), with the one root of the sent chain that has the pinned key as the only anchor.
#[derive(Debug)]
struct PinnedRoot {
    spki: [u8; 32],
}

impl PinnedRoot {
    fn is_pinned(&self, der: &CertificateDer<'_>, now_s: i64) -> bool {
        // webpki takes an anchor as given: what makes it a root, and that it still holds, is checked here.
        cert::root_info(der).is_ok_and(|root| root.spki_sha256 == self.spki && (root.not_before_s..=root.not_after_s).contains(&now_s))
    }
}

impl ServerCertVerifier for PinnedRoot {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let root = intermediates
            .iter()
            .find(|der| self.is_pinned(der, now_s))
            .ok_or(CertificateError::UnknownIssuer)?;
        let verifier = webpki(&[root.to_vec()]).map_err(|e| Error::General(e.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    handshake_signatures!();
}
