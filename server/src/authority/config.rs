//! What an operator sets.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Settings of the enrolment authority.
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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("aimass-authority"),
            listen: SocketAddr::from(([127, 0, 0, 1], 4434)),
            public_address: None,
            api_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }
}
