//! Connections between devices and the server, and what is lost on them.

use aimass_federation::RequestKind;
use aimass_federation::agent::Event as News;
use aimass_federation::coordinator::Event;

use super::server::Open;
use super::{Ask, Happening, World};
use crate::fault::{Fault, Key, Trouble};

/// A connection that carries nothing for so long is given up.
pub(super) const IDLE_MS: u64 = 30_000;

/// A connection, as nobody but the simulator sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) device: usize,
    /// Whether anything still passes.
    pub(super) whole: bool,
}

impl World {
    pub(super) fn connect(&mut self, device: usize, life: u64) {
        if !self.devices[device].is_alive(life) {
            return;
        }
        let agent = self.devices[device].agent;
        if self.faults.partitioned_until(self.now, device).is_some() {
            let why = "no answer";
            return self.soon((3_000, 10_000), Happening::NotConnected { device, life, why });
        }
        if !self.server.up || self.server.disk.revoked.contains(&agent) {
            let why = "refused";
            return self.soon((5, 500), Happening::NotConnected { device, life, why });
        }
        self.seq += 1;
        let connection = self.seq;
        self.links.insert(connection, Link { device, whole: true });
        self.server.connections.insert(connection);
        self.devices[device].connection = Some(connection);
        self.tell_device(device, News::Connected);
    }

    /// Nothing passes any more.
    pub(super) fn cut(&mut self, connection: u64) {
        let Some(link) = self.links.get_mut(&connection).filter(|link| link.whole) else {
            return;
        };
        link.whole = false;
        let device = link.device;
        self.note(|| format!("-- connection {connection} of device {device} is cut"));
        self.stop_transfers(connection);
        self.soon((10, 2_000), Happening::DeviceLoses { device, connection });
        self.soon((10, 40_000), Happening::ServerLoses { connection });
    }

    pub(super) fn server_loses(&mut self, connection: u64) {
        let Some(link) = self.links.remove(&connection) else { return };
        if !self.server.connections.remove(&connection) {
            return;
        }
        self.server.open.retain(|_, open| open.connection != connection);
        let agent = self.devices[link.device].agent;
        let has_another = self
            .server
            .connections
            .iter()
            .any(|other| self.links.get(other).is_some_and(|l| self.devices[l.device].agent == agent));
        if !has_another {
            self.tell_server(Event::Gone { agent });
        }
    }

    pub(super) fn device_loses(&mut self, device: usize, connection: u64) {
        if self.devices[device].connection == Some(connection) {
            self.devices[device].connection = None;
            let reason = "the connection broke".to_owned();
            self.tell_device(device, News::Disconnected { reason });
        }
    }

    /// Sends a device's request.
    pub(super) fn request(&mut self, device: usize, kind: RequestKind, ask: Ask) {
        self.seq += 1;
        let request = self.seq;
        self.devices[device].latest.insert(kind, request);
        let Some(connection) = self.devices[device].connection else {
            return;
        };
        let what = Happening::Request {
            device,
            connection,
            request,
            kind,
            ask,
        };
        self.transmit(device, connection, request, kind, what);
    }

    /// Sends the answer to a request.
    pub(super) fn send(&mut self, open: &Open, device: usize, kind: RequestKind, news: News) {
        let (connection, request) = (open.connection, open.request);
        let what = Happening::Answer {
            device,
            connection,
            request,
            kind,
            news: Box::new(news),
        };
        self.transmit(device, connection, request, kind, what);
    }

    fn transmit(&mut self, device: usize, connection: u64, request: u64, kind: RequestKind, what: Happening) {
        self.report.messages += 1;
        let message = self.devices[device].messages;
        self.devices[device].messages += 1;
        let latency = self.devices[device].plan.latency_ms;
        let mut at = self.now + self.chance.within(latency);
        if let Some(until) = self.faults.partitioned_until(self.now, device) {
            at = at.max(until + latency.0);
        }
        let fault = self.faults.take(self.now, Key::Message(device, message));
        if let Some(fault) = fault {
            self.note(|| format!("!! {fault}"));
        }
        match fault {
            Some(Fault::Message {
                trouble: Trouble::Breaks, ..
            }) => return self.cut(connection),
            Some(Fault::Message {
                trouble: Trouble::Lost, ..
            }) => {
                return self.reset(device, connection, request, kind, (500, 5_000));
            }
            Some(Fault::Message {
                trouble: Trouble::Twice { after_ms },
                ..
            }) => self.at(at + after_ms, what.clone()),
            Some(Fault::Message {
                trouble: Trouble::Delayed { by_ms },
                ..
            }) => at += by_ms,
            _ => {}
        }
        self.at(at, what);
    }

    /// A stream ends without an answer, and the device notices.
    pub(super) fn reset(&mut self, device: usize, connection: u64, request: u64, kind: RequestKind, within_ms: (u64, u64)) {
        let reason = "the stream was reset".to_owned();
        let what = Happening::Answer {
            device,
            connection,
            request,
            kind,
            news: Box::new(News::Failed { request: kind, reason }),
        };
        self.soon(within_ms, what);
    }

    fn is_whole(&self, connection: u64) -> bool {
        self.links.get(&connection).is_some_and(|link| link.whole)
    }

    pub(super) fn requested(&mut self, device: usize, connection: u64, request: u64, kind: RequestKind, ask: Ask) {
        if !self.is_whole(connection) || !self.server.connections.contains(&connection) {
            return;
        }
        let agent = self.devices[device].agent;
        let open = Open {
            connection,
            request,
            ask: ask.clone(),
        };
        match ask {
            Ask::Fetch { base } => self.fetched(device, &open, base),
            Ask::Shares(shares) => {
                let step = self.server.coordinator.check_shares(agent, &shares).verify();
                let ask = Ask::Event(Event::Secure { agent, step });
                self.requested_of_coordinator(device, kind, Open { ask, ..open });
            }
            Ask::Event(_) => self.requested_of_coordinator(device, kind, open),
        }
    }

    fn requested_of_coordinator(&mut self, device: usize, kind: RequestKind, open: Open) {
        let Ask::Event(event) = open.ask.clone() else { return };
        let (agent, request) = (self.devices[device].agent, open.request);
        // Of two open requests the newer gets the answer; the older's stream is closed.
        let older = self
            .server
            .open
            .insert((agent, kind), open)
            .filter(|older| older.request != request);
        if let Some(older) = older
            && let Some(link) = self.links.get(&older.connection)
        {
            self.reset(link.device, older.connection, older.request, kind, (5, 500));
        }
        self.note(|| format!("device {device} asks: {event:?}"));
        self.tell_server(event);
    }

    /// An answer counts as long as its request is the newest of its kind.
    pub(super) fn answered(&mut self, device: usize, connection: u64, request: u64, kind: RequestKind, news: News) {
        let it = &self.devices[device];
        let fresh = it.connection == Some(connection) && it.latest.get(&kind) == Some(&request);
        if it.up && fresh && self.is_whole(connection) {
            self.tell_device(device, news);
        }
    }
}
