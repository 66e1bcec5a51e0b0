//! Faults that come at a time.

use aimass_federation::coordinator::Event;

use super::{Happening, World};
use crate::chance::Chance;
use crate::fault::Fault;
use crate::scenario::MAX_AGENTS;

/// When a fault begins that a time sets off.
pub(super) fn begins_at(fault: &Fault) -> Option<u64> {
    match *fault {
        Fault::Partition { at_ms, .. }
        | Fault::Leave { at_ms, .. }
        | Fault::ServerClock { at_ms, .. }
        | Fault::AgentClock { at_ms, .. }
        | Fault::Twin { at_ms, .. }
        | Fault::AllGone { at_ms, .. }
        | Fault::StopJob { at_ms, .. }
        | Fault::Revoke { at_ms, .. } => Some(at_ms),
        _ => None,
    }
}

impl World {
    pub(super) fn timed(&mut self, fault: Fault) {
        self.note(|| format!("!! {fault}"));
        match fault {
            Fault::Partition {
                at_ms,
                for_ms,
                agents,
                blocks,
            } => {
                let window = self.faults.window(at_ms, for_ms);
                self.isolate(agents, blocks, window.end - window.start.min(window.end));
            }
            Fault::Leave { agent, .. } => {
                if let Some(it) = self.devices.get_mut(agent) {
                    it.left = true;
                    self.kill_device(agent, 0);
                }
            }
            Fault::ServerClock { ahead_ms, .. } => {
                self.kill_server(2_000);
                self.server.clock.ahead_ms = ahead_ms;
            }
            Fault::AgentClock { agent, ahead_ms, .. } if agent < self.devices.len() => {
                self.kill_device(agent, 2_000);
                self.devices[agent].clock.ahead_ms = ahead_ms;
            }
            Fault::Twin { agent, copied, .. } => {
                if let Some(it) = self.devices.get(agent).filter(|_| self.devices.len() < MAX_AGENTS) {
                    let chance = Chance::new(self.seed, &format!("twin {}", self.devices.len()));
                    let twin = it.twin(copied, chance);
                    self.devices.push(twin);
                    self.start_device(self.devices.len() - 1);
                }
            }
            Fault::AllGone { for_ms, .. } => {
                for device in 0..self.devices.len() {
                    self.devices[device].off_until = self.now + for_ms;
                    self.kill_device(device, for_ms);
                }
            }
            Fault::StopJob { job, .. } => self.stop(job),
            Fault::Revoke { agent, for_ms, .. } => self.revoke(agent, for_ms),
            _ => {}
        }
    }

    fn stop(&mut self, job: usize) {
        let Some(job) = self.server.disk.jobs.keys().nth(job).copied() else {
            return;
        };
        self.stopped.push(job);
        self.server.disk.stops.insert(job);
        self.tell_server(Event::StopJob { job });
    }

    fn revoke(&mut self, agent: usize, for_ms: Option<u64>) {
        let Some(agent) = self.devices.get(agent).map(|d| d.agent) else {
            return;
        };
        self.server.disk.revoked.insert(agent);
        if let Some(for_ms) = for_ms {
            let until = self.faults.window(self.now, for_ms).end;
            self.at(until, Happening::Accept { agent });
        }
        self.tell_server(Event::Revoked { agent });
        let theirs: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| link.whole && self.devices[link.device].agent == agent)
            .map(|(connection, _)| *connection)
            .collect();
        for connection in theirs {
            self.cut(connection);
        }
    }

    /// Twins go away, and what is down starts: a liveness mode like TigerBeetle's. Who has left, or was revoked for good, stays away; windows are over.
    pub(super) fn end_of_faults(&mut self) {
        self.note(|| "-- nothing fails from here on".to_owned());
        self.at(self.now, Happening::StartServer);
        for device in 0..self.devices.len() {
            if self.devices[device].identity != device {
                self.devices[device].left = true;
                self.kill_device(device, 0);
            }
            self.devices[device].off_until = self.now;
            self.at(self.now, Happening::StartDevice { device });
        }
    }
}
