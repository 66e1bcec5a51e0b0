//! Keeps the certificate and the trust bundle fresh while the agent runs.
//!
//! Both follow from what is held: the certificate is renewed when a third of its life is left, or when the bundle says that another root
//! issues now; the server is asked for a newer bundle at each connection and every now and then after. All of a fleet may notice something
//! at once, so each agent waits for a random share of the time that there is.

use std::time::Duration;

use rand_core::Rng;
use tokio::time::Instant;

use super::Driver;
use crate::platform::now_s;
use crate::run::RunError;

/// What is due when, as far as it does not follow from the certificate.
#[derive(Default)]
pub(super) struct Upkeep {
    /// The next routine question for a newer bundle; none while there is no connection, or no answer yet.
    bundle_at: Option<Instant>,
    /// The next attempt to renew; none before it is due.
    renewal_at: Option<Instant>,
}

impl Driver {
    /// How long nothing is due.
    pub(super) fn until_upkeep(&self) -> Duration {
        let until = |at: Option<Instant>| at.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        self.until_renewal().min(until(self.upkeep.bundle_at))
    }

    fn until_renewal(&self) -> Duration {
        let Some(enrolment) = self.identity.enrolment().filter(|_| !self.network.is_renewing()) else {
            return Duration::MAX;
        };
        if enrolment.beyond_renewal(now_s()) {
            // The next connection says so.
            return Duration::MAX;
        }
        if enrolment.renew_due(now_s()) {
            return self
                .upkeep
                .renewal_at
                .map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        }
        Duration::from_secs(u64::try_from(enrolment.renew_at_s().saturating_sub(now_s())).unwrap_or(0))
    }

    /// Does what is due.
    pub(super) fn maintain(&mut self) -> Result<(), RunError> {
        let now = Instant::now();
        if self.upkeep.bundle_at.is_some_and(|at| at <= now) {
            self.ask_server_for_bundle()?;
        }
        if !self.until_renewal().is_zero() {
            return Ok(());
        }
        match self.upkeep.renewal_at {
            None => {
                let pause = self.renewal_pause()?;
                self.upkeep.renewal_at = Some(now + random_share(pause, &mut self.rng));
                Ok(())
            }
            Some(_) => self.begin_renewal(),
        }
    }

    /// Notes that the server is being asked for a bundle, or nobody can be asked.
    pub(super) fn bundle_is_asked(&mut self) {
        self.upkeep.bundle_at = None;
    }

    /// Sets the time of the next routine question.
    pub(super) fn bundle_was_asked(&mut self) {
        let half = self.options.bundle_refresh / 2;
        self.upkeep.bundle_at = Some(Instant::now() + half + random_share(half, &mut self.rng));
    }

    /// Sets the time of the next attempt to renew, after one that has ended.
    pub(super) fn renewal_was_tried(&mut self) -> Result<(), RunError> {
        let still_due = self.enrolment()?.renew_due(now_s());
        let pause = self.renewal_pause()?;
        self.upkeep.renewal_at = still_due.then(|| Instant::now() + pause);
        Ok(())
    }

    fn renewal_pause(&self) -> Result<Duration, RunError> {
        Ok(self.enrolment()?.renewal_pause(now_s()).min(self.options.bundle_refresh))
    }
}

/// A uniformly random part of `time`.
fn random_share(time: Duration, rng: &mut impl Rng) -> Duration {
    time.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    use super::*;

    #[test]
    fn shares_spread_over_the_whole_time() {
        let (mut rng, time) = (ChaCha20Rng::seed_from_u64(1), Duration::from_secs(600));
        let shares: Vec<Duration> = (0..1000).map(|_| random_share(time, &mut rng)).collect();
        assert!(shares.iter().all(|share| *share <= time));
        let late = shares.iter().filter(|share| **share > time / 2).count();
        assert!((400..600).contains(&late), "{late} of 1000 in the second half");
    }
}
