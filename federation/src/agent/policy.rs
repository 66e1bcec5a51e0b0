//! What the device's owner allows. A server can't talk an agent into less.

use std::time::Duration;

use aimass_protocol::descriptor::{Descriptor, Profile, SecAggParams};
use aimass_protocol::job::AggregationMode;
use aimass_protocol::limits::{MAX_SECURE_MEMBERS, MIN_SECURE_MEMBERS};
use aimass_protocol::{Digest, Timestamp};

use super::{Consent, Contribution};
use crate::masks::graph_params;

/// Fewest contributions of a masked sum, as the floors have it.
const LEAST_SECURE: u32 = MIN_SECURE_MEMBERS as u32;

/// How far the clocks of device and server may lie apart: devices without a battery-backed clock start somewhere in the past.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(24 * 3600);

/// The owner's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether updates may leave the device without masks, protected by TLS alone.
    pub allow_plain: bool,
    /// Fewest contributions that must be summed before anything is decoded.
    pub min_survivors: u32,
    /// The weakest attackers that masks have to hold against.
    pub min_profile: Profile,
    /// Purposes that the data may be used for; empty allows any.
    pub purposes: Vec<String>,
}

impl Default for Policy {
    /// Nothing insecure.
    fn default() -> Self {
        Self {
            allow_plain: false,
            min_survivors: 1,
            min_profile: Profile::Standard,
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
    /// The masks hold against weaker attackers than asked for.
    #[error(
        "its masks hold against a server that follows the protocol (profile \"standard\") and policy.min_profile is \"hardened\"; the job's owner can set aggregation.profile"
    )]
    Profile,
    /// The job was signed with masks and the cohort has none.
    #[error(
        "the signed job says mode \"secure\", and the server formed a cohort without masks (plain mode smuggled in): it wants to read this update"
    )]
    Smuggled,
    /// The cohort's deadline can't be met, or the clocks differ.
    #[error("the server's cohort descriptor {problem}; compare the clocks of device and server")]
    Deadline {
        /// What is wrong with it.
        problem: &'static str,
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
            AggregationMode::Plain if !self.allow_plain => return Err(PolicyError::Plain),
            AggregationMode::Secure | AggregationMode::Plain => {}
        }
        if !self.purposes.is_empty() && !self.purposes.contains(&consent.purpose) {
            return Err(PolicyError::Purpose {
                purpose: consent.purpose.clone(),
            });
        }
        if consent.mode == AggregationMode::Secure {
            self.check_profile(consent.profile)?;
        }
        self.check_floor(consent.floor)
    }

    /// Fewest contributions that may be summed for a job.
    pub(super) fn least_survivors(&self, consent: &Consent) -> u32 {
        let least = match consent.mode {
            AggregationMode::Plain => 1,
            AggregationMode::Secure => LEAST_SECURE,
        };
        least.max(self.min_survivors).max(consent.floor)
    }

    /// Whether a cohort keeps what the job's owner signed and what this policy asks for.
    ///
    /// # Errors
    /// [`PolicyError`], whose text says what to change.
    pub fn check_cohort(&self, now: Timestamp, contribution: &Contribution, descriptor: &Descriptor) -> Result<(), PolicyError> {
        let consent = &contribution.consent;
        self.check_job(consent)?;
        if consent.mode == AggregationMode::Secure && (descriptor.mode == AggregationMode::Plain || descriptor.secagg.is_none()) {
            return Err(PolicyError::Smuggled);
        }
        self.check_floor(descriptor.floor)?;
        let latest = now.after(Duration::from_millis(consent.max_time_ms)).after(CLOCK_TOLERANCE);
        first(
            &[
                (descriptor.version != Descriptor::VERSION, "has an unknown version"),
                (descriptor.job != contribution.job, "is for another job"),
                (!descriptor.bases.contains(&contribution.base), "is for another base model"),
                (
                    descriptor.bases.len() as u64 > u64::from(consent.max_staleness) + 1,
                    "permits more base models than the signed job",
                ),
                (has_twice(&descriptor.bases), "names a base model twice"),
                (descriptor.mode != consent.mode, "has another aggregation mode than the signed job"),
                (
                    descriptor.floor < self.least_survivors(consent),
                    "has a lower floor than the signed job",
                ),
                (descriptor.codec != consent.codec, "has other codec parameters than the signed job"),
                (descriptor.members < descriptor.floor, "has fewer members than its floor"),
            ],
            |problem| PolicyError::Descriptor { problem },
        )?;
        if let Some(masks) = &descriptor.secagg {
            self.check_profile(masks.profile)?;
            first(&masks_of(consent, descriptor, masks), |problem| PolicyError::Descriptor { problem })?;
        }
        first(
            &[
                (
                    descriptor.deadline.after(CLOCK_TOLERANCE) <= now,
                    "has a deadline that passed more than a day ago",
                ),
                (
                    descriptor.deadline > latest,
                    "has a deadline more than a day past the round's longest time",
                ),
            ],
            |problem| PolicyError::Deadline { problem },
        )
    }

    fn check_profile(&self, profile: Profile) -> Result<(), PolicyError> {
        if profile < self.min_profile {
            Err(PolicyError::Profile)
        } else {
            Ok(())
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

/// What may be wrong with how a cohort's inputs are masked.
fn masks_of(consent: &Consent, descriptor: &Descriptor, masks: &SecAggParams) -> [(bool, &'static str); 6] {
    let n = descriptor.members;
    let wanted = graph_params(n, masks.profile).ok();
    // With more neighbours than that, as large a part of them has to agree.
    let is_enough = wanted.is_some_and(|wanted| {
        let (have, want) = (u64::from(masks.threshold), u64::from(wanted.threshold));
        masks.degree >= wanted.degree && have * u64::from(wanted.degree) >= want * u64::from(masks.degree)
    });
    [
        (consent.mode == AggregationMode::Plain, "has masks, and the signed job has none"),
        (
            n as usize > MAX_SECURE_MEMBERS,
            "has more members than a cohort with masks may have",
        ),
        (masks.profile < consent.profile, "has a weaker profile than the signed job"),
        (masks.suite != consent.suite, "has another mask suite than the signed job"),
        (descriptor.log.is_none(), "names no log of models"),
        (!is_enough, "has a graph of masks that is weaker than its profile promises"),
    ]
}

/// The first of these that is so.
fn first(wrong: &[(bool, &'static str)], error: impl Fn(&'static str) -> PolicyError) -> Result<(), PolicyError> {
    match wrong.iter().find(|(is_wrong, _)| *is_wrong) {
        Some((_, problem)) => Err(error(problem)),
        None => Ok(()),
    }
}

fn has_twice(bases: &[Digest]) -> bool {
    let distinct: std::collections::BTreeSet<_> = bases.iter().collect();
    distinct.len() < bases.len()
}
