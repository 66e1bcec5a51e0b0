//! What a cohort with masks must never give away.

use std::collections::{BTreeMap, BTreeSet};

use aimass_federation::agent::Contribution;
use aimass_protocol::message::secagg::{ShareBytes, Unmask};
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, JobId};

use super::{Oracle, Violation};

#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// The last roster of each cohort.
    rosters: BTreeMap<CohortId, Vec<AgentId>>,
    /// The set of survivors that members were told.
    told: BTreeMap<CohortId, Vec<u8>>,
    /// Cohorts whose unmasking is on the server's disk.
    kept: BTreeSet<CohortId>,
    /// What left a device: in which cohort, who released a share of whose secret, and which.
    shares: BTreeMap<(CohortId, AgentId, AgentId), ShareBytes>,
    /// Contributions of a device that released a share, and in which cohort it did.
    released: BTreeMap<(usize, ContributionId), CohortId>,
    /// Models that a device must not train from any more.
    spent: BTreeSet<(usize, JobId, Digest)>,
}

impl Oracle {
    pub(crate) fn roster(&mut self, cohort: CohortId, members: Vec<AgentId>) {
        self.secrets.rosters.insert(cohort, members);
    }

    /// A member is told who the survivors are: there is one set for ever.
    pub(crate) fn survivors_told(&mut self, cohort: CohortId, set: &[u8]) {
        let before = self.secrets.told.entry(cohort).or_insert_with(|| set.to_vec());
        if before != set {
            let what = format!("members were told two sets of survivors, {before:?} and {set:?}");
            self.violate(Violation::Secret { cohort, what });
        }
    }

    pub(crate) fn unmasking_kept(&mut self, cohort: CohortId) {
        self.secrets.kept.insert(cohort);
    }

    pub(crate) fn is_unmasking_kept(&self, cohort: CohortId) -> bool {
        self.secrets.kept.contains(&cohort)
    }

    /// A device releases shares that unmask the sum in which its contribution is.
    pub(crate) fn released(&mut self, device: usize, agent: AgentId, held: &Contribution, unmask: &Unmask) {
        let cohort = unmask.cohort;
        for share in &unmask.shares {
            let before = self
                .secrets
                .shares
                .entry((cohort, agent, share.agent))
                .or_insert_with(|| share.share.clone());
            if *before != share.share {
                let what = format!("device {device} releases shares of two secrets of {}", share.agent);
                return self.violate(Violation::Secret { cohort, what });
            }
        }
        self.secrets.released.insert((device, held.id), cohort);
        self.secrets.spent.insert((device, held.job, held.base));
    }

    /// A device offers a contribution, which must not be in two sums that are unmasked.
    pub(crate) fn offered(&mut self, device: usize, contribution: ContributionId) {
        if let Some(&cohort) = self.secrets.released.get(&(device, contribution)) {
            let what = format!("device {device} released shares in it, and offers contribution {contribution} again");
            self.violate(Violation::Secret { cohort, what });
        }
    }

    pub(crate) fn trains(&mut self, device: usize, job: JobId, base: Digest) {
        if self.secrets.spent.contains(&(device, job, base)) {
            let what = format!("trains from model {base} of job {job}, which it has spent");
            self.violate(Violation::Device { device, what });
        }
    }

    /// An input is whole. Of another device with the same disk nobody can know that it has released a share.
    pub(crate) fn uploaded(&mut self, device: usize, cohort: CohortId, contribution: ContributionId) {
        let released = self.secrets.released.get(&(device, contribution));
        if let Some(other) = released.filter(|other| **other != cohort) {
            let what = format!("it gets contribution {contribution}, whose device {device} released shares in cohort {other}");
            self.violate(Violation::Secret { cohort, what });
        }
    }

    /// What is published of a cohort with masks is the sum of those that its members agreed to.
    pub(super) fn check_unmasked(&mut self, cohort: CohortId, survivors: &[(AgentId, ContributionId)]) {
        let Some((set, roster)) = self.secrets.told.get(&cohort).zip(self.secrets.rosters.get(&cohort)) else {
            return;
        };
        let is_in = |place: &usize| set.get(place / 8).is_some_and(|byte| byte >> (place % 8) & 1 == 1);
        let agreed: Vec<AgentId> = (0..roster.len()).filter(is_in).map(|place| roster[place]).collect();
        if survivors.iter().map(|(agent, _)| *agent).ne(agreed.iter().copied()) {
            let what = format!("the sum of {survivors:?} is published, and its members agreed to that of {agreed:?}");
            self.violate(Violation::Secret { cohort, what });
        }
    }
}
