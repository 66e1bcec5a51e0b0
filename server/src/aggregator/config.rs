//! What an operator can set.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use aimass_protocol::TenantId;
use serde::{Deserialize, Serialize};

/// Settings of `aimass serve`. Every key has a default; unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The server's folder: identity, store, models, API token. One process at a time. Default `aimass-server`.
    pub data_dir: PathBuf,
    /// UDP address that agents connect to. Default `127.0.0.1:4433`; `0.0.0.0:4433` for all interfaces.
    pub listen: SocketAddr,
    /// TCP address of the operator's API; loopback only, port 0 for any free one. Default `127.0.0.1:0`.
    pub api_listen: SocketAddr,
    /// The tenant whose agents and jobs this server works for; the same as in the token that it joined with. Default `default`.
    pub tenant: TenantId,
    /// What becomes of an agent that shows up with a valid certificate for the first time. Default `auto`.
    pub accept: Accept,
    /// Most connections at once; further ones are refused before their handshake. Default 20,000.
    pub max_connections: usize,
    /// Most jobs of the tenant that run at once. Default 64.
    pub max_running_jobs: usize,
    /// Most devices of the tenant that are registered; further ones are turned away. Default 100,000.
    pub max_agents: usize,
    /// Most bytes that the updates of the tenant's running jobs may take in the journal, if each of their rounds were full; a job that would go over it is
    /// refused. Default 64 GiB.
    pub max_journal_bytes: u64,
    /// Days for which it can be told who was in a round; looked at when one ends. The log stays. Default 90; 0 forgets it with the round.
    pub keep_survivors_days: u32,
    /// Seconds between two looks at the authority's trust bundle, besides the one at start. Default 600, at least 1.
    pub bundle_refresh_s: u64,
}

/// See [`Config::accept`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    /// It takes part at once: the one-time token that it joined with was the permission.
    #[default]
    Auto,
    /// It waits for `aimass agents accept`.
    Manual,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("aimass-server"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4433)),
            api_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tenant: TenantId::default(),
            accept: Accept::Auto,
            max_connections: 20_000,
            max_running_jobs: 64,
            max_agents: 100_000,
            max_journal_bytes: 64 << 30,
            keep_survivors_days: 90,
            bundle_refresh_s: 600,
        }
    }
}

impl Config {
    /// Checks what the types can't.
    ///
    /// # Errors
    /// A text that names the key, the problem and the fix.
    pub fn check(&self) -> Result<(), String> {
        if !self.api_listen.ip().is_loopback() {
            return Err(format!(
                "api_listen: {} is not loopback; the API has no TLS: use 127.0.0.1 or [::1]",
                self.api_listen
            ));
        }
        if self.max_connections == 0 {
            return Err("max_connections: 0 would serve nobody; use at least 1".to_owned());
        }
        if self.max_running_jobs == 0 {
            return Err("max_running_jobs: 0 would run nothing; use at least 1".to_owned());
        }
        if self.max_agents == 0 {
            return Err("max_agents: 0 would register nobody; use at least 1".to_owned());
        }
        if self.bundle_refresh_s == 0 {
            return Err("bundle_refresh_s: 0 would ask the authority without pause; use at least 1".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good_and_stay_on_this_machine() {
        let config = Config::default();
        config.check().expect("defaults must pass");
        assert!(config.listen.ip().is_loopback() && config.api_listen.ip().is_loopback());
    }

    #[test]
    fn impossible_values_are_refused_by_key() {
        let bad = [
            Config {
                api_listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 1)),
                ..Config::default()
            },
            Config {
                max_connections: 0,
                ..Config::default()
            },
            Config {
                max_running_jobs: 0,
                ..Config::default()
            },
            Config {
                max_agents: 0,
                ..Config::default()
            },
            Config {
                bundle_refresh_s: 0,
                ..Config::default()
            },
        ];
        for (config, key) in bad.iter().zip([
            "api_listen",
            "max_connections",
            "max_running_jobs",
            "max_agents",
            "bundle_refresh_s",
        ]) {
            let text = config.check().expect_err("must be refused");
            assert!(text.starts_with(key), "{text}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = serde_json::from_str::<Config>(r#"{"acept": "auto"}"#).expect_err("a typo must not pass");
        assert!(error.to_string().contains("acept"), "{error}");
        let partial: Config = serde_json::from_str(r#"{"accept": "manual"}"#).expect("one key is enough");
        assert_eq!(partial.accept, Accept::Manual);
    }
}
