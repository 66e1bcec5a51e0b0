//! Growing pauses after failures.

use std::time::Duration;

use crate::jitter;

/// Pauses that double from `first` to `max`, each between a third of its length and all of it, so that agents that failed together come back apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    seed: u64,
    failures: u32,
    draws: u64,
}

impl Backoff {
    pub(super) fn new(first: Duration, max: Duration, seed: u64) -> Self {
        Self {
            first,
            max,
            seed,
            failures: 0,
            draws: 0,
        }
    }

    /// The pause after one more failure.
    pub(super) fn next(&mut self) -> Duration {
        let longest = self.first.saturating_mul(1 << self.failures.min(20)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        self.draws += 1;
        jitter::spread(longest * 2 / 3, self.seed ^ jitter::mix(self.draws))
    }

    /// Something worked: the next pause is short again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn should_double_up_to_the_cap_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), 7);
        for attempt in 0..40 {
            let longest = Duration::from_secs(1 << attempt.min(6)).min(Duration::from_secs(60));
            let pause = backoff.next();
            assert!(
                pause >= longest / 3 - Duration::from_millis(1) && pause <= longest,
                "attempt {attempt}: {pause:?} of {longest:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_secs(1));
    }

    #[test]
    fn should_differ_between_agents_and_repeat_for_one() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), seed);
            (0..5).map(|_| backoff.next()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(1), pauses(1));
        assert_ne!(pauses(1), pauses(2));
    }
}
