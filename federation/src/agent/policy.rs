//! What the device's owner allows. A server can't talk an agent into less.

use std::time::Duration;

use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::job::AggregationMode;
use aimass_protocol::{Digest, Timestamp};

use super::{Consent, Contribution};

/// The descriptor version that is understood.
const DESCRIPTOR_VERSION: u16 = 1;

/// How far the clocks of device and server may lie apart: devices without a battery-backed clock start somewhere in the past.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(24 * 3600);

/// The owner's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether updates may leave the device without masks, protected by TLS alone.
    pub allow_plain: bool,
    /// Fewest contributions that must be summed before anything is decoded.
    pub min_survivors: u32,
    /// Purposes that the data may be used for; empty allows any.
    pub purposes: Vec<String>,
}

impl Default for Policy {
    /// Nothing insecure.
    fn default() -> Self {
        Self {
            allow_plain: false,
            min_survivors: 1,
            purposes: Vec::new(),
        }
    }
}

/// Why a job or a cohort is declined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The job has no masks.
    #[error("its updates would be protected by TLS alone (mode \"plain\"); allow that with policy.allow_plain = true or --allow-plain")]
    Plain,
    /// The job asks for masks.
    #[error("mode \"secure\" is not available in this version; the job's owner can name mode \"plain\"")]
    Secure,
    /// The purpose is not among those allowed.
    #[error("its purpose {purpose:?} is not among policy.purposes; add it there to allow it")]
    Purpose {
        /// The job's purpose.
        purpose: String,
    },
    /// Too few contributions might be summed.
    #[error("it may sum {floor} contributions and policy.min_survivors is {min_survivors}; the job's owner can raise aggregation.floor")]
    Floor {
        /// Offered.
        floor: u32,
        /// Asked for.
        min_survivors: u32,
    },
    /// The descriptor is not what the job's owner signed, or makes no sense.
    #[error("the server's cohort descriptor {problem}; tell the operator")]
    Descriptor {
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Policy {
    /// Whether a job may have this device's data on these terms. Asked before anything is trained, and again after a restart.
    ///
    /// # Errors
    /// [`PolicyError`], whose text says what to change.
    pub fn check_job(&self, consent: &Consent) -> Result<(), PolicyError> {
        match consent.mode {
            AggregationMode::Secure => return Err(PolicyError::Secure),
            AggregationMode::Plain if !self.allow_plain => return Err(PolicyError::Plain),
            AggregationMode::Plain => {}
        }
        if !self.purposes.is_empty() && !self.purposes.contains(&consent.purpose) {
            return Err(PolicyError::Purpose {
                purpose: consent.purpose.clone(),
            });
        }
        self.check_floor(consent.floor)
    }

    /// Whether a cohort keeps what the job's owner signed and what this policy asks for.
    ///
    /// # Errors
    /// [`PolicyError`], whose text says what to change.
    pub fn check_cohort(&self, now: Timestamp, contribution: &Contribution, descriptor: &Descriptor) -> Result<(), PolicyError> {
        let consent = &contribution.consent;
        self.check_job(consent)?;
        self.check_floor(descriptor.floor)?;
        let latest = now.after(Duration::from_millis(consent.max_time_ms)).after(CLOCK_TOLERANCE);
        let wrong = [
            (descriptor.version != DESCRIPTOR_VERSION, "has an unknown version"),
            (descriptor.job != contribution.job, "is for another job"),
            (!descriptor.bases.contains(&contribution.base), "is for another base model"),
            (
                descriptor.bases.len() as u64 > u64::from(consent.max_staleness) + 1,
                "permits more base models than the signed job",
            ),
            (has_twice(&descriptor.bases), "names a base model twice"),
            (descriptor.mode != consent.mode, "has another aggregation mode than the signed job"),
            (descriptor.floor < consent.floor, "has a lower floor than the signed job"),
            (descriptor.codec != consent.codec, "has other codec parameters than the signed job"),
            (descriptor.members < descriptor.floor, "has fewer members than its floor"),
            (
                descriptor.deadline.after(CLOCK_TOLERANCE) <= now,
                "has a deadline that passed more than a day ago",
            ),
            (
                descriptor.deadline > latest,
                "has a deadline more than a day past the round's longest time",
            ),
        ];
        match wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            Some((_, problem)) => Err(PolicyError::Descriptor { problem }),
            None => Ok(()),
        }
    }

    fn check_floor(&self, floor: u32) -> Result<(), PolicyError> {
        let min_survivors = self.min_survivors;
        if floor < min_survivors {
            Err(PolicyError::Floor { floor, min_survivors })
        } else {
            Ok(())
        }
    }
}

fn has_twice(bases: &[Digest]) -> bool {
    let distinct: std::collections::BTreeSet<_> = bases.iter().collect();
    distinct.len() < bases.len()
}
