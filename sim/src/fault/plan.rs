//! Drawing a list of faults.

mod network;
mod storage;

use std::collections::BTreeSet;

use aimass_federation::coordinator::PhaseName;

use super::Fault;
use crate::chance::Chance;
use crate::scenario::Scenario;

/// A device and the server may disagree about the time by a day: the agent's policy tolerates no more. The server's clock may be off by half of it, and
/// so may a device's.
const HALF_A_DAY_MS: u64 = 12 * 3600 * 1000;

/// A list of faults.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FaultPlan {
    /// Each with its place in the list that was drawn, which it keeps when others are left out.
    pub faults: Vec<(usize, Fault)>,
    /// No fault happens after this, and liveness is asked for from here on.
    pub until_ms: u64,
}

impl FaultPlan {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::default()
    }

    /// These faults alone, in the first `until_ms`.
    pub fn of(faults: impl IntoIterator<Item = Fault>, until_ms: u64) -> Self {
        Self {
            faults: faults.into_iter().enumerate().collect(),
            until_ms,
        }
    }

    /// Draws faults for a scenario: first how likely each kind is, from nothing to the most that it may be, then the faults. A third of the kinds are left
    /// out. Enough agents stay that every job can finish.
    ///
    /// # Source
    /// The ranges are those of TigerBeetle's simulator (`src/vopr.zig`, `options_swarm`) where it has the kind; `docs/simulation.md` compares them.
    pub fn generate(scenario: &Scenario) -> Self {
        let mut draw = Draw {
            chance: Chance::new(scenario.seed, "faults"),
            agents: scenario.agents.len(),
            spare: scenario.agents.len().saturating_sub(scenario.need()),
            until_ms: 0,
            out: Vec::new(),
        };
        draw.until_ms = draw.chance.within((60_000, 900_000));
        draw.kills();
        draw.population();
        draw.failing_writes();
        draw.slow_disks();
        draw.clocks();
        draw.operator(scenario.jobs.len());
        draw.partitions();
        draw.messages();
        Self::of(draw.out, draw.until_ms)
    }

    /// Leaves the faults at these places of the list that was drawn.
    #[must_use]
    pub fn only(&self, places: &[usize]) -> Self {
        let places: BTreeSet<usize> = places.iter().copied().collect();
        Self {
            faults: self.faults.iter().filter(|(id, _)| places.contains(id)).copied().collect(),
            until_ms: self.until_ms,
        }
    }

    /// Leaves the faults that a scenario of `agents` devices can have.
    #[must_use]
    pub fn among(&self, agents: usize) -> Self {
        Self {
            faults: self
                .faults
                .iter()
                .filter(|(_, fault)| fault.agent().is_none_or(|a| a < agents))
                .copied()
                .collect(),
            until_ms: self.until_ms,
        }
    }

    /// Agents that a job may have to do without, in the worst case.
    pub fn departures(&self) -> usize {
        let departs = |fault: &Fault| {
            matches!(
                fault,
                Fault::Leave { .. } | Fault::Stall { .. } | Fault::Revoke { for_ms: None, .. } | Fault::FailAdd { bad_update: true, .. }
            )
        };
        self.faults.iter().filter(|(_, fault)| departs(fault)).count()
    }

    /// The places of its faults.
    pub fn places(&self) -> Vec<usize> {
        self.faults.iter().map(|(id, _)| *id).collect()
    }
}

struct Draw {
    chance: Chance,
    agents: usize,
    /// Agents that every job can do without.
    spare: usize,
    until_ms: u64,
    out: Vec<Fault>,
}

impl Draw {
    fn agent(&mut self) -> usize {
        usize::try_from(self.chance.below(self.agents as u64)).unwrap_or(0)
    }

    fn at_ms(&mut self) -> u64 {
        self.chance.below(self.until_ms)
    }

    fn effect(&mut self) -> usize {
        usize::try_from(self.chance.below(5)).unwrap_or(0)
    }

    /// Half of the counts are below `early`.
    fn early_or_late(&mut self, early: u64, late: u64) -> u64 {
        let most = if self.chance.per_mille(500) { early } else { late };
        self.chance.below(most)
    }

    fn spend(&mut self) -> bool {
        let can = self.spare > 0;
        self.spare -= usize::from(can);
        can
    }

    fn kills(&mut self) {
        for _ in 0..self.chance.sometimes(4) {
            let fault = Fault::KillServer {
                step: self.early_or_late(100, 1600),
                effect: self.effect(),
                down_ms: self.chance.within((100, 20_000)),
            };
            self.out.push(fault);
        }
        for _ in 0..self.chance.sometimes(4) {
            let phases = [
                PhaseName::Gathering,
                PhaseName::Joining,
                PhaseName::Collecting,
                PhaseName::Unmasking,
                PhaseName::Publishing,
            ];
            let fault = Fault::KillServerIn {
                phase: phases[usize::try_from(self.chance.below(5)).unwrap_or(0)],
                step: self.early_or_late(10, 60),
                effect: self.effect(),
                down_ms: self.chance.within((100, 20_000)),
            };
            self.out.push(fault);
        }
        for _ in 0..self.chance.sometimes(2 * self.agents as u64) {
            let fault = Fault::KillAgent {
                agent: self.agent(),
                step: self.early_or_late(40, 400),
                effect: self.effect(),
                down_ms: self.chance.within((100, 60_000)),
            };
            self.out.push(fault);
        }
    }

    fn population(&mut self) {
        let percent = [0, 0, 0, 10, 30, 50][usize::try_from(self.chance.below(6)).unwrap_or(0)];
        let first = self.agent();
        for n in 0..(self.agents * percent).div_ceil(100) {
            if self.spend() {
                let fault = Fault::Leave {
                    agent: (first + n) % self.agents,
                    at_ms: self.at_ms(),
                };
                self.out.push(fault);
            }
        }
        if self.chance.per_mille(200) && self.spend() {
            let fault = Fault::Stall {
                agent: self.agent(),
                training: self.chance.below(3),
            };
            self.out.push(fault);
        }
        if self.chance.per_mille(150) {
            let fault = Fault::AllGone {
                at_ms: self.at_ms(),
                for_ms: self.chance.within((5_000, 300_000)),
            };
            self.out.push(fault);
        }
        // Cohorts with masks do without an agent that is there twice.
        if self.chance.per_mille(200) && self.spend() {
            let fault = Fault::Twin {
                agent: self.agent(),
                at_ms: self.at_ms(),
                copied: self.chance.per_mille(500),
            };
            self.out.push(fault);
        }
    }

    fn clocks(&mut self) {
        for _ in 0..self.chance.sometimes(2) {
            let fault = Fault::ServerClock {
                at_ms: self.at_ms(),
                ahead_ms: self.ahead_ms(),
            };
            self.out.push(fault);
        }
        for _ in 0..self.chance.sometimes(3) {
            let fault = Fault::AgentClock {
                agent: self.agent(),
                at_ms: self.at_ms(),
                ahead_ms: self.ahead_ms(),
            };
            self.out.push(fault);
        }
    }

    /// A few seconds or half a day, either way.
    fn ahead_ms(&mut self) -> i64 {
        let most = if self.chance.per_mille(500) { 20_000 } else { HALF_A_DAY_MS };
        let by = i64::try_from(self.chance.within((most / 2, most))).unwrap_or(0);
        if self.chance.per_mille(500) { by } else { -by }
    }

    fn operator(&mut self, jobs: usize) {
        if self.chance.per_mille(150) {
            let fault = Fault::StopJob {
                job: usize::try_from(self.chance.below(jobs as u64)).unwrap_or(0),
                at_ms: self.at_ms(),
            };
            self.out.push(fault);
        }
        if self.chance.per_mille(200) {
            let for_good = self.chance.per_mille(500) && self.spend();
            let fault = Fault::Revoke {
                agent: self.agent(),
                at_ms: self.at_ms(),
                for_ms: (!for_good).then(|| self.chance.within((1_000, 120_000))),
            };
            self.out.push(fault);
        }
    }
}

#[cfg(test)]
mod tests;
