//! One module a subcommand.

pub(crate) mod agents;
pub(crate) mod authority;
pub(crate) mod compare;
pub(crate) mod compress;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod example;
pub(crate) mod job;
pub(crate) mod log;
pub(crate) mod model;
pub(crate) mod owner;
pub(crate) mod registry;
pub(crate) mod release;
pub(crate) mod secagg;
pub(crate) mod serve;
pub(crate) mod sim;
pub(crate) mod token;
pub(crate) mod train;

use std::io::Read;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aimass_protocol::Timestamp;
use anyhow::{Context, Result};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use ring::rand::{SecureRandom, SystemRandom};

/// The wall clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A generator for keys and nonces, seeded by the operating system.
///
/// # Errors
/// When the system has no randomness.
pub(crate) fn system_rng() -> Result<ChaCha20Rng> {
    let mut seed = [0; 32];
    SystemRandom::new()
        .fill(&mut seed)
        .ok()
        .context("the operating system gives no randomness")?;
    Ok(ChaCha20Rng::from_seed(seed))
}

/// A join token from a file, from standard input (`-`) or from the variable `AIMASS_JOIN_TOKEN`.
pub(crate) fn join_token(file: Option<&Path>) -> Result<Option<aimass_protocol::token::JoinToken>> {
    let text = match file {
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            std::io::stdin()
                .take(4096)
                .read_to_string(&mut text)
                .context("can't read the token from standard input")?;
            text
        }
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("can't read the token file {}", path.display()))?,
        None => match std::env::var("AIMASS_JOIN_TOKEN") {
            Ok(text) => text,
            Err(_) => return Ok(None),
        },
    };
    Ok(Some(text.trim().parse()?))
}
