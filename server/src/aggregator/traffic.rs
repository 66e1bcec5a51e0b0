//! Payload bytes by job, for the round's line of figures.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aimass_protocol::{CohortId, JobId};

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
    /// Whose job a cohort with masks works for: most of its requests name the cohort alone.
    cohorts: Mutex<HashMap<CohortId, JobId>>,
}

impl Traffic {
    /// Adds bytes that one stream of `job` carried.
    pub(crate) fn add(&self, job: JobId, up: u64, down: u64) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let traffic = jobs.entry(job).or_default();
        traffic.up += up;
        traffic.down += down;
    }

    /// A cohort with masks begins to work for a job.
    pub(crate) fn began(&self, cohort: CohortId, job: JobId) {
        self.cohorts.lock().unwrap_or_else(PoisonError::into_inner).insert(cohort, job);
    }

    /// It is over.
    pub(crate) fn ended(&self, cohort: CohortId) {
        self.cohorts.lock().unwrap_or_else(PoisonError::into_inner).remove(&cohort);
    }

    /// The job that a cohort works for.
    pub(crate) fn job_of(&self, cohort: CohortId) -> Option<JobId> {
        self.cohorts.lock().unwrap_or_else(PoisonError::into_inner).get(&cohort).copied()
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
