//! Payload bytes by job, for the round's line of figures.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aimass_protocol::JobId;

/// Bytes since the round before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RoundTraffic {
    /// From agents.
    pub(crate) up: u64,
    /// To agents.
    pub(crate) down: u64,
}

/// Bytes of each running job.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    jobs: Mutex<HashMap<JobId, RoundTraffic>>,
}

impl Traffic {
    /// Adds bytes that one stream of `job` carried.
    pub(crate) fn add(&self, job: JobId, up: u64, down: u64) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let traffic = jobs.entry(job).or_default();
        traffic.up += up;
        traffic.down += down;
    }

    /// The bytes since the last call for `job`.
    pub(crate) fn take(&self, job: JobId) -> RoundTraffic {
        self.jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&job)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_starts_at_zero_and_jobs_are_apart() {
        let traffic = Traffic::default();
        let (a, b) = (JobId::from_bytes([1; 16]), JobId::from_bytes([2; 16]));
        traffic.add(a, 5, 7);
        traffic.add(a, 1, 1);
        traffic.add(b, 100, 0);
        assert_eq!(traffic.take(a), RoundTraffic { up: 6, down: 8 });
        assert_eq!(traffic.take(a), RoundTraffic::default());
        assert_eq!(traffic.take(b), RoundTraffic { up: 100, down: 0 });
    }
}
