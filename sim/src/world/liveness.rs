//! Liveness: what has to come once the faults are over.

use aimass_federation::coordinator::JobSpec;
use aimass_protocol::ContributionId;
use aimass_protocol::job::AggregationMode;

use super::device::Device;
use super::{SETTLED_MS, World};
use crate::fault::Fault;
use crate::oracle::Violation;
use crate::scenario::need;

impl World {
    /// A device that holds a contribution and must learn what became of it.
    pub(super) fn unsettled(&self) -> Option<(usize, ContributionId)> {
        let revoked = &self.server.disk.revoked;
        self.devices
            .iter()
            .enumerate()
            .filter(|(_, d)| !d.left && !revoked.contains(&d.agent))
            .filter_map(|(index, d)| Some((index, d.disk.snapshot.held.as_ref()?)))
            // It waits for a round that can't be made.
            .find(|(_, held)| {
                !self
                    .server
                    .disk
                    .jobs
                    .get(&held.job)
                    .is_some_and(|spec| self.is_starved(spec) && self.may_wait(spec))
            })
            .map(|(index, held)| (index, held.id))
    }

    /// Whether each job has ended, or never will.
    pub(super) fn all_over(&self) -> bool {
        self.server
            .disk
            .jobs
            .values()
            .all(|spec| spec.ended.is_some() || self.is_starved(spec) && self.may_wait(spec))
    }

    /// Whether too few agents are left that may contribute to the job's model: the others have spent it, because shares that they revealed could not
    /// unmask their sum.
    pub(super) fn is_starved(&self, spec: &JobSpec) -> bool {
        if spec.file.aggregation.mode == AggregationMode::Plain || self.now < self.faults.until_ms() {
            return false;
        }
        self.able(spec) < need(&spec.file) + self.kept_out()
    }

    /// Whether a job that is starved may wait for new agents: too few have spent its model to say so. Else it ends.
    pub(super) fn may_wait(&self, spec: &JobSpec) -> bool {
        spec.ended.is_none() && (self.kept_out() > 0 || self.able(spec) + self.spent(spec) < need(&spec.file))
    }

    /// Devices that may contribute to the job's model.
    fn able(&self, spec: &JobSpec) -> usize {
        self.devices.iter().filter(|d| self.is_here(d) && !has_spent(d, spec)).count()
    }

    /// Devices that have spent it.
    pub(super) fn spent(&self, spec: &JobSpec) -> usize {
        self.devices.iter().filter(|d| self.is_here(d) && has_spent(d, spec)).count()
    }

    fn is_here(&self, device: &Device) -> bool {
        !device.left && !self.server.disk.revoked.contains(&device.agent)
    }

    /// Faults that keep a device out of the round: it has not left, and is not here either.
    fn kept_out(&self) -> usize {
        let kept_out = |fault: &Fault| {
            matches!(
                fault,
                Fault::Stall { .. } | Fault::FailAdd { bad_update: true, .. } | Fault::Twin { .. }
            )
        };
        let applied = self.faults.applied();
        let faults = self.plan.faults.iter();
        faults.filter(|(place, fault)| kept_out(fault) && applied.contains(place)).count()
    }

    /// Liveness, once the faults are over: every job publishes, and in the end every device knows.
    pub(super) fn check_progress(&mut self) {
        let patience = self.server.patience_ms();
        let until = self.faults.until_ms();
        let mut last = until;
        let latest = self.published_at.values().copied().max().unwrap_or(0).max(until);
        for (id, spec) in &self.server.disk.jobs {
            let since = self.published_at.get(id).copied().unwrap_or(0).max(until);
            last = last.max(since);
            // One that has to end does so when its agents have nothing else to work for.
            let since = if self.is_starved(spec) { latest } else { since };
            let may_wait = self.is_starved(spec) && self.may_wait(spec);
            if spec.ended.is_none() && self.now > since + patience && !may_wait {
                let view = self.server.coordinator.job(*id);
                let stuck = Violation::Stuck {
                    job: *id,
                    phase: view.map_or_else(
                        || "not loaded".to_owned(),
                        |v| format!("{:?}, {} seats, {} ready", v.phase, v.seats, v.ready),
                    ),
                    since_s: since / 1000,
                };
                return self.oracle.violate(stuck);
            }
        }
        if self.all_over()
            && self.now > last + SETTLED_MS
            && let Some((device, contribution)) = self.unsettled()
        {
            self.oracle.violate(Violation::Unsettled { device, contribution });
        }
    }
}

fn has_spent(device: &Device, spec: &JobSpec) -> bool {
    device
        .disk
        .snapshot
        .spent
        .get(&spec.id)
        .is_some_and(|spent| spent.base == spec.base)
}
