//! What an operator sets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use aimass_crypto::cert::CERTIFICATE_LIFETIME;
use serde::{Deserialize, Serialize};

/// Settings of the enrolment authority. Every key has a default; unknown keys are refused. `authority.example.toml` documents them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The folder with root keys, tokens, certificates issued and revocations. Back it up: whoever has it is the authority. One process a folder.
    pub data_dir: PathBuf,
    /// Where devices and servers reach it (QUIC, a UDP port).
    pub listen: SocketAddr,
    /// The `host:port` that tokens carry; when absent, the address it is bound to.
    pub public_address: Option<String>,
    /// Where its HTTP API listens; a loopback address, port 0 for any free one.
    pub api_listen: SocketAddr,
    /// Seconds that an agent's certificate holds from its issue on. It renews by itself when a third of that is left.
    pub agent_certificate_s: CertificateLifetime,
    /// The same for a server's certificate.
    pub server_certificate_s: CertificateLifetime,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("aimass-authority"),
            listen: SocketAddr::from(([127, 0, 0, 1], 4434)),
            public_address: None,
            api_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            agent_certificate_s: CertificateLifetime::default(),
            server_certificate_s: CertificateLifetime::default(),
        }
    }
}

/// How long a certificate holds from its issue on: 10 seconds to 365 days, 30 days by default. In settings a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct CertificateLifetime(Duration);

/// A lifetime that no certificate may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a certificate can't hold for {given_s} s: use {} (10 seconds: less leaves no time to renew) to {} (365 days)",
    CertificateLifetime::SHORTEST_S,
    CertificateLifetime::LONGEST_S
)]
pub struct LifetimeError {
    /// What was given, in seconds.
    pub given_s: u64,
}

impl CertificateLifetime {
    const SHORTEST_S: u64 = 10;
    const LONGEST_S: u64 = 365 * 24 * 3600;

    /// As a duration.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl Default for CertificateLifetime {
    fn default() -> Self {
        Self(CERTIFICATE_LIFETIME)
    }
}

impl TryFrom<u64> for CertificateLifetime {
    type Error = LifetimeError;

    fn try_from(given_s: u64) -> Result<Self, LifetimeError> {
        if (Self::SHORTEST_S..=Self::LONGEST_S).contains(&given_s) {
            Ok(Self(Duration::from_secs(given_s)))
        } else {
            Err(LifetimeError { given_s })
        }
    }
}

impl From<CertificateLifetime> for u64 {
    fn from(lifetime: CertificateLifetime) -> Self {
        lifetime.0.as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_bounded_and_say_the_bounds() {
        let read = |seconds: &str| serde_json::from_str::<Config>(&format!(r#"{{"agent_certificate_s": {seconds}}}"#));
        for good in [10, 3600, 365 * 24 * 3600] {
            let config = read(&good.to_string()).expect("within the bounds");
            assert_eq!(config.agent_certificate_s.duration().as_secs(), good);
            assert_eq!(config.server_certificate_s.duration(), CERTIFICATE_LIFETIME);
        }
        for bad in ["0", "9", "31536001", "18446744073709551615"] {
            let text = read(bad).expect_err("out of bounds").to_string();
            assert!([bad, "10", "31536000"].iter().all(|part| text.contains(part)), "{text}");
        }
        assert!(read("-1").is_err() && read("\"1h\"").is_err());
    }
}
