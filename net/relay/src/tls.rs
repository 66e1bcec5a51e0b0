//! TLS towards both sides, made without the product's own code.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, ServerConfig, TransportConfig};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;

use crate::{Certified, Config};

const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// What clients see.
pub(crate) fn server(config: &Config) -> Result<ServerConfig> {
    let provider = Arc::new(default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&TLS13])?;
    let builder = if config.as_client.is_some() {
        builder.with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(roots(config)?, provider).build()?)
    } else {
        builder.with_no_client_auth()
    };
    let (chain, key) = parts(&config.as_server);
    let mut tls = builder.with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![config.alpn.clone()];
    Ok(ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?)))
}

/// What the server sees.
pub(crate) fn client(config: &Config) -> Result<ClientConfig> {
    let provider: Arc<CryptoProvider> = Arc::new(default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(config)?, Arc::clone(&provider)).build()?;
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(verifier);
    let mut tls = match &config.as_client {
        Some(client) => {
            let (chain, key) = parts(client);
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![config.alpn.clone()];
    let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    client.transport_config(Arc::new(transport));
    Ok(client)
}

fn roots(config: &Config) -> Result<Arc<RootCertStore>> {
    let mut store = RootCertStore::empty();
    for root in &config.roots {
        store.add(CertificateDer::from(root.clone()))?;
    }
    Ok(Arc::new(store))
}

fn parts(certified: &Certified) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = certified.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    (chain, PrivatePkcs8KeyDer::from(certified.key_pkcs8.clone()).into())
}
