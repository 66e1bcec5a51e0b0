//! The clock and the randomness of the operating system: the only places that ask for them.

use std::time::{SystemTime, UNIX_EPOCH};

use aimass_protocol::Timestamp;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// The operating system gives no randomness: nothing secret can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no randomness; try again once it has started up")]
pub struct NoRandomness;

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The wall clock in seconds since the epoch, as certificates count.
pub(crate) fn now_s() -> i64 {
    i64::try_from(now().as_ms() / 1000).unwrap_or(i64::MAX)
}

/// A generator for keys and names, seeded by the operating system.
pub(crate) fn system_rng() -> Result<ChaCha20Rng, NoRandomness> {
    let mut seed = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(seed.as_mut()).map_err(|_| NoRandomness)?;
    Ok(ChaCha20Rng::from_seed(*seed))
}
