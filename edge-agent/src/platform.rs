//! The clocks and the randomness of the operating system: the only places that ask for them.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aimass_protocol::Timestamp;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// The operating system gives no randomness: nothing secret can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no randomness; try again once it has started up")]
pub struct NoRandomness;

/// Goes on evenly from a point in time.
#[derive(Debug, Clone, Copy)]
struct Clock {
    start: Timestamp,
    since: Instant,
}

impl Clock {
    fn at(&self, instant: Instant) -> Timestamp {
        self.start.after(instant.saturating_duration_since(self.since))
    }
}

/// The time that timers go by: the wall clock as it was when it was first asked for, and evenly on from there. A wall clock that is set, goes back or
/// jumps by years changes no timer, and training's end stays where it is.
///
/// What others have dated is compared with [`wall`] instead: certificates by [`now_s`], a cohort's deadline by telling the session what the wall clock
/// says whenever a descriptor comes. So a device that starts in 1970 and learns the time later sees both as they are from then on.
pub(crate) fn now() -> Timestamp {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    let clock = CLOCK.get_or_init(|| Clock {
        start: wall(),
        since: Instant::now(),
    });
    clock.at(Instant::now())
}

/// The wall clock.
pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The wall clock in seconds since the epoch, as certificates count.
pub(crate) fn now_s() -> i64 {
    i64::try_from(wall().as_ms() / 1000).unwrap_or(i64::MAX)
}

/// A generator for keys and names, seeded by the operating system.
pub(crate) fn system_rng() -> Result<ChaCha20Rng, NoRandomness> {
    let mut seed = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(seed.as_mut()).map_err(|_| NoRandomness)?;
    Ok(ChaCha20Rng::from_seed(*seed))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timers_go_by_an_even_clock() {
        let since = Instant::now();
        // The wall clock said 1970 at the start; whatever it says later is not asked for.
        let clock = Clock {
            start: Timestamp::from_ms(5),
            since,
        };
        assert_eq!(clock.at(since), Timestamp::from_ms(5));
        assert_eq!(clock.at(since + Duration::from_secs(60)), Timestamp::from_ms(60_005));
        let (first, second) = (now(), now());
        assert!(first <= second && wall().since(first) < Duration::from_secs(3600));
    }
}
