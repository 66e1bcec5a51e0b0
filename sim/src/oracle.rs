//! What must hold after every step.

mod secrets;

use std::collections::{BTreeMap, BTreeSet};

use self::secrets::Secrets;
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, JobId};

/// What does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A contribution is in two published sums, or twice in one.
    #[error("contribution {contribution} is counted twice: {how}")]
    CountedTwice {
        /// Which.
        contribution: ContributionId,
        /// Where.
        how: String,
    },
    /// A published sum is not that of its survivors.
    #[error("the sum of round {round} is not that of its survivors: {how}")]
    WrongSum {
        /// The round.
        round: u32,
        /// In what they differ.
        how: String,
    },
    /// A contribution was acknowledged, and its cohort was published without it.
    #[error("contribution {contribution} was accepted into cohort {cohort}, which was published without it")]
    AcceptedLost {
        /// Which.
        contribution: ContributionId,
        /// Of which cohort.
        cohort: CohortId,
    },
    /// An agent was told what is not so.
    #[error("device {device} was told of contribution {contribution}: {told}, which is not so")]
    ToldWrong {
        /// Index of the device.
        device: usize,
        /// Which.
        contribution: ContributionId,
        /// What.
        told: String,
    },
    /// A round began, went on or ended in a way that it must not.
    #[error("job {job}: {what}")]
    Round {
        /// The job.
        job: JobId,
        /// What is wrong.
        what: String,
    },
    /// The server's driver is asked for what can't be.
    #[error("{what}")]
    Driver {
        /// What.
        what: String,
    },
    /// A restarted server did not go on where it was.
    #[error("job {job} does not go on where it was: {what}")]
    PhaseLost {
        /// The job.
        job: JobId,
        /// What is wrong.
        what: String,
    },
    /// A timer that is due at once, or a clock that stands still.
    #[error("{who} spins: {what}")]
    Spin {
        /// The server, or a device.
        who: String,
        /// How.
        what: String,
    },
    /// The server's state grows beyond what its agents and jobs take.
    #[error("the coordinator's state takes {bytes} bytes written out, more than {most}")]
    Memory {
        /// Found.
        bytes: usize,
        /// Allowed.
        most: usize,
    },
    /// A device did what its contract forbids.
    #[error("device {device} {what}")]
    Device {
        /// Its index.
        device: usize,
        /// What.
        what: String,
    },
    /// A device or the server released more than secure aggregation may.
    #[error("cohort {cohort}: {what}")]
    Secret {
        /// The cohort.
        cohort: CohortId,
        /// What.
        what: String,
    },
    /// A job makes no progress although nothing fails any more.
    #[error("job {job} ({phase}) has published nothing since {since_s} s, and nothing fails any more")]
    Stuck {
        /// The job.
        job: JobId,
        /// Where it is.
        phase: String,
        /// When it last did, or when the faults ended.
        since_s: u64,
    },
    /// A job ended otherwise than it should.
    #[error("job {job} ended: {how}")]
    Ended {
        /// The job.
        job: JobId,
        /// How.
        how: String,
    },
    /// A device still holds a contribution long after all jobs ended.
    #[error("device {device} still holds contribution {contribution} although all jobs ended long ago")]
    Unsettled {
        /// Its index.
        device: usize,
        /// Which.
        contribution: ContributionId,
    },
    /// Nothing can ever happen again.
    #[error("nothing can ever happen again")]
    Dead,
    /// The code panicked.
    #[error("panic: {message}")]
    Panic {
        /// What it said.
        message: String,
    },
}

/// What became of a cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Open,
    Dropped,
    Published,
}

/// What the simulator knows and no machine does.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// The first thing that did not hold.
    pub(crate) violation: Option<Violation>,
    /// Which round and model each contribution is in.
    published: BTreeMap<(JobId, ContributionId), (u32, Digest)>,
    /// By which cohort each is counted.
    counted_in: BTreeMap<ContributionId, CohortId>,
    cohorts: BTreeMap<CohortId, (JobId, Fate)>,
    /// What agents were told to be in a sum.
    accepted: BTreeSet<(CohortId, ContributionId)>,
    /// What agents were told to be in none.
    denied: BTreeSet<(CohortId, ContributionId)>,
    /// What the sums were sealed as.
    sealed: BTreeMap<CohortId, Vec<(AgentId, ContributionId)>>,
    /// Contributions in the sums that the server holds, each with how often it was added.
    sums: BTreeMap<CohortId, BTreeMap<ContributionId, u32>>,
    /// Contributions of which a device knows that they count.
    included: BTreeSet<ContributionId>,
    secrets: Secrets,
}

impl Oracle {
    pub(crate) fn violate(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    /// An empty sum is made: once for a new cohort, again after each restart.
    pub(crate) fn opened(&mut self, job: JobId, cohort: CohortId) {
        let before = self.cohorts.insert(cohort, (job, Fate::Open));
        if matches!(before, Some((_, Fate::Dropped | Fate::Published))) {
            let what = format!("cohort {cohort} is opened again although it is over");
            self.violate(Violation::Round { job, what });
        }
        if self.sums.insert(cohort, BTreeMap::new()).is_some() {
            let what = format!("cohort {cohort} has two sums");
            self.violate(Violation::Round { job, what });
        }
    }

    /// It is settled what a sum is made of: that never changes.
    pub(crate) fn sealed(&mut self, cohort: CohortId, survivors: &[(AgentId, ContributionId)], durable: bool) {
        if let Some(before) = self.sealed.get(&cohort)
            && before != survivors
        {
            let what = format!("cohort {cohort} was sealed with {before:?} and now with {survivors:?}");
            self.violate(Violation::Driver { what });
        }
        if durable {
            self.sealed.insert(cohort, survivors.to_vec());
        }
    }

    pub(crate) fn dropped(&mut self, cohort: CohortId) {
        self.sums.remove(&cohort);
        if let Some((_, fate)) = self.cohorts.get_mut(&cohort)
            && *fate == Fate::Open
        {
            *fate = Fate::Dropped;
        }
    }

    /// The server's memory is gone.
    pub(crate) fn server_killed(&mut self) {
        self.sums.clear();
    }

    pub(crate) fn added(&mut self, cohort: CohortId, contribution: ContributionId) {
        let count = self.sums.entry(cohort).or_default().entry(contribution).or_insert(0);
        *count += 1;
        if *count > 1 {
            let how = format!("{count} times in the sum of cohort {cohort}");
            self.violate(Violation::CountedTwice { contribution, how });
        }
    }

    /// The server says to an agent that its update is in the sum.
    pub(crate) fn accepted(&mut self, device: usize, cohort: CohortId, contribution: ContributionId) {
        let counted = self.counted_in.contains_key(&contribution);
        match self.cohorts.get(&cohort) {
            Some((_, Fate::Open)) => {
                let is_in = self.sums.get(&cohort).is_some_and(|sum| sum.contains_key(&contribution));
                if !is_in {
                    let told = format!("accepted into cohort {cohort}");
                    return self.violate(Violation::ToldWrong {
                        device,
                        contribution,
                        told,
                    });
                }
                self.accepted.insert((cohort, contribution));
            }
            _ if counted => {}
            _ => {
                let told = format!("accepted into cohort {cohort}, which is over without it");
                self.violate(Violation::ToldWrong {
                    device,
                    contribution,
                    told,
                });
            }
        }
    }

    /// A device may upload (again), so it is not told any more that this cohort does not count its contribution.
    pub(crate) fn invited(&mut self, cohort: CohortId, contribution: ContributionId) {
        self.denied.remove(&(cohort, contribution));
    }

    /// The server says to an agent that its contribution is not counted in this cohort.
    pub(crate) fn denied(&mut self, device: usize, cohort: CohortId, contribution: ContributionId) {
        if self.counted_in.get(&contribution) == Some(&cohort) {
            let told = "not included".to_owned();
            return self.violate(Violation::ToldWrong {
                device,
                contribution,
                told,
            });
        }
        self.denied.insert((cohort, contribution));
    }

    /// A device hears that its contribution is counted.
    pub(crate) fn included(&mut self, device: usize, job: JobId, contribution: ContributionId, round: u32, model: Digest) {
        if self.published.get(&(job, contribution)) == Some(&(round, model)) {
            self.included.insert(contribution);
        } else {
            let told = format!("included in round {round}");
            self.violate(Violation::ToldWrong {
                device,
                contribution,
                told,
            });
        }
    }

    /// A round is stored.
    pub(crate) fn published(&mut self, job: JobId, cohort: CohortId, round: u32, model: Digest, survivors: &[(AgentId, ContributionId)]) {
        self.check_unmasked(cohort, survivors);
        let contributions: BTreeSet<_> = survivors.iter().map(|(_, c)| *c).collect();
        let sum = self.sums.get(&cohort).map(|sum| sum.keys().copied().collect::<BTreeSet<_>>());
        if sum.as_ref() != Some(&contributions) {
            let how = format!("it holds {:?} and is said to hold {contributions:?}", sum.unwrap_or_default());
            self.violate(Violation::WrongSum { round, how });
        }
        if self.cohorts.insert(cohort, (job, Fate::Published)) != Some((job, Fate::Open)) {
            let what = format!("cohort {cohort} is published although it is over");
            self.violate(Violation::Round { job, what });
        }
        if let Some(sealed) = self.sealed.get(&cohort)
            && sealed != survivors
        {
            let how = format!("it was sealed with {sealed:?}");
            self.violate(Violation::WrongSum { round, how });
        }
        let lost = self
            .accepted
            .iter()
            .find(|(of, contribution)| *of == cohort && !contributions.contains(contribution));
        if let Some(&(cohort, contribution)) = lost {
            self.violate(Violation::AcceptedLost { contribution, cohort });
        }
        for contribution in contributions {
            self.counted_in.insert(contribution, cohort);
            if let Some((before, _)) = self.published.insert((job, contribution), (round, model)) {
                let how = format!("in rounds {before} and {round}");
                self.violate(Violation::CountedTwice { contribution, how });
            }
            if self.denied.contains(&(cohort, contribution)) {
                let how = format!("its agent was told that cohort {cohort} does not count it, and may offer it again");
                self.violate(Violation::CountedTwice { contribution, how });
            }
        }
    }

    /// The cohort of this job that is at work, and whether its sum is sealed.
    pub(crate) fn open_cohort(&self, job: JobId) -> Option<(CohortId, bool)> {
        let (cohort, _) = self.cohorts.iter().find(|(_, (of, fate))| *of == job && *fate == Fate::Open)?;
        Some((*cohort, self.sealed.contains_key(cohort)))
    }

    /// Contributions of which a device was told that they count.
    pub(crate) fn told_included(&self) -> usize {
        self.included.len()
    }
}
