//! Faults by what sets them off.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use aimass_federation::coordinator::PhaseName;

use super::{Blocks, Fault, FaultPlan};

/// What sets a fault off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    ServerStep(u64),
    ServerStepIn(PhaseName, u64),
    AgentStep(usize, u64),
    Message(usize, u64),
    Training(usize, u64),
    AgentWork(usize, u64),
    Open(u64),
    Seal(u64),
    Add(u64),
    Publish(u64),
}

/// The faults of a plan that have not happened yet, and those that have.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    until_ms: u64,
    by_key: BTreeMap<Key, (usize, Fault)>,
    /// Those that last for a time.
    windows: Vec<(usize, Fault)>,
    applied: BTreeSet<usize>,
}

impl Faults {
    pub(crate) fn new(plan: &FaultPlan) -> Self {
        let mut faults = Self {
            until_ms: plan.until_ms,
            by_key: BTreeMap::new(),
            windows: Vec::new(),
            applied: BTreeSet::new(),
        };
        for &(id, fault) in &plan.faults {
            let key = match fault {
                Fault::KillServer { step, .. } => Key::ServerStep(step),
                Fault::KillServerIn { phase, step, .. } => Key::ServerStepIn(phase, step),
                Fault::KillAgent { agent, step, .. } => Key::AgentStep(agent, step),
                Fault::Message { agent, message, .. } => Key::Message(agent, message),
                Fault::Stall { agent, training } => Key::Training(agent, training),
                Fault::AgentDiskFull { agent, work } => Key::AgentWork(agent, work),
                Fault::FailOpen { open } => Key::Open(open),
                Fault::FailSeal { seal } => Key::Seal(seal),
                Fault::FailAdd { add, .. } => Key::Add(add),
                Fault::FailPublish { publish, .. } => Key::Publish(publish),
                Fault::Partition { .. } | Fault::SlowDisk { .. } => {
                    faults.windows.push((id, fault));
                    continue;
                }
                // Set off by the clock.
                _ => continue,
            };
            faults.by_key.insert(key, (id, fault));
        }
        faults
    }

    pub(crate) fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// The fault that `key` sets off, if faults still happen.
    pub(crate) fn take(&mut self, now_ms: u64, key: Key) -> Option<Fault> {
        if now_ms >= self.until_ms {
            return None;
        }
        let (id, fault) = self.by_key.remove(&key)?;
        self.applied.insert(id);
        Some(fault)
    }

    pub(crate) fn happened(&mut self, id: usize) {
        self.applied.insert(id);
    }

    /// When what `way` says passes again between the server and this device, if it does not now.
    pub(crate) fn blocked_until(&mut self, now_ms: u64, agent: usize, way: Blocks) -> Option<u64> {
        let mut until = None;
        for &(id, fault) in &self.windows {
            if let Fault::Partition {
                at_ms,
                for_ms,
                agents,
                blocks,
            } = fault
                && self.window(at_ms, for_ms).contains(&now_ms)
                && agents >> agent & 1 == 1
                && (blocks == way || blocks == Blocks::Both || way == Blocks::Both)
            {
                self.applied.insert(id);
                until = until.max(Some(self.window(at_ms, for_ms).end));
            }
        }
        until
    }

    /// How many times slower the disk of the server or of a device is now.
    pub(crate) fn disk_factor(&mut self, now_ms: u64, of: Option<usize>) -> u64 {
        let mut slowest = 1;
        for &(id, fault) in &self.windows {
            if let Fault::SlowDisk {
                agent,
                at_ms,
                for_ms,
                factor,
            } = fault
                && agent == of
                && self.window(at_ms, for_ms).contains(&now_ms)
            {
                self.applied.insert(id);
                slowest = slowest.max(factor);
            }
        }
        slowest
    }

    /// What lasts ends with the faults.
    pub(crate) fn window(&self, at_ms: u64, for_ms: u64) -> Range<u64> {
        at_ms..at_ms.saturating_add(for_ms).min(self.until_ms)
    }

    /// Places in the plan's list of the faults that took effect.
    pub(crate) fn applied(&self) -> &BTreeSet<usize> {
        &self.applied
    }
}
