//! Connections between devices and the server, and what is lost on them.

use aimass_federation::RequestKind;
use aimass_federation::agent::Event as News;
use aimass_federation::coordinator::Event;

use super::server::Open;
use super::{Ask, Happening, World};
use crate::fault::{Blocks, Fault, Key, Trouble};

/// A connection that carries nothing for so long is given up, as `net/` has it.
pub(super) const IDLE_MS: u64 = 120_000;

/// An upload that stands still for so long is given up, as `net/` has it.
const PROGRESS_TIMEOUT_MS: u64 = 30_000;

/// A device waits so long for the answer to a request, as the agent's driver does. What becomes of an upload is seen by its progress.
fn patience_ms(kind: RequestKind) -> Option<u64> {
    match kind {
        RequestKind::CheckIn | RequestKind::Progress => Some(30_000),
        RequestKind::Upload => None,
        _ => Some(600_000),
    }
}

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
        if self.faults.blocked_until(self.now, device, Blocks::Both).is_some() {
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
        self.cut_by(connection, Blocks::Both);
    }

    /// Nothing passes any more, after this did not pass for long: who heard nothing notices first.
    pub(super) fn cut_by(&mut self, connection: u64, blocks: Blocks) {
        let Some(link) = self.links.get_mut(&connection).filter(|link| link.whole) else {
            return;
        };
        link.whole = false;
        let device = link.device;
        self.note(|| format!("-- connection {connection} of device {device} is cut"));
        self.stop_transfers(connection);
        let (device_ms, server_ms) = match blocks {
            Blocks::Both | Blocks::Replies => (2_000, 40_000),
            Blocks::Requests => (40_000, 2_000),
        };
        self.soon((10, device_ms), Happening::DeviceLoses { device, connection });
        self.soon((10, server_ms), Happening::ServerLoses { connection });
    }

    /// A partition begins. Connections that carry nothing for long are given up, and uploads before them.
    pub(super) fn isolate(&mut self, agents: u64, blocks: Blocks, for_ms: u64) {
        let silent: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| link.whole && agents >> link.device & 1 == 1)
            .map(|(connection, _)| *connection)
            .collect();
        for &connection in silent.iter().filter(|_| for_ms > IDLE_MS) {
            self.at(self.now + IDLE_MS, Happening::Cut { connection, blocks });
        }
        let transfers = self.server.transfers.iter();
        let stalled: Vec<u64> = transfers
            .filter(|(_, t)| silent.contains(&t.connection))
            .map(|(id, _)| *id)
            .collect();
        let life = self.server.life;
        for transfer in stalled.into_iter().filter(|_| for_ms > PROGRESS_TIMEOUT_MS) {
            self.at(self.now + PROGRESS_TIMEOUT_MS, Happening::TransferStalled { life, transfer });
        }
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
        // What it has to write before is on its disk first.
        let from = self.now.max(self.devices[device].busy_until);
        if let Some(patience_ms) = patience_ms(kind) {
            self.devices[device].unanswered.insert(kind, request);
            let what = Happening::NoAnswer {
                device,
                connection,
                request,
                kind,
            };
            self.at(from + patience_ms, what);
        }
        self.transmit((device, connection, request, kind), from, Blocks::Requests, what);
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
        let from = self.now.max(self.server.busy_until);
        self.transmit((device, connection, request, kind), from, Blocks::Replies, what);
    }

    fn transmit(&mut self, (device, connection, request, kind): (usize, u64, u64, RequestKind), from: u64, way: Blocks, what: Happening) {
        self.report.messages += 1;
        let message = self.devices[device].messages;
        self.devices[device].messages += 1;
        // What a partition keeps back is sent again when it is over, if the connection lasts so long.
        let from = self.faults.blocked_until(from, device, way).unwrap_or(from);
        let mut at = from + self.chance.within(self.devices[device].plan.latency_ms);
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
            self.devices[device].unanswered.retain(|_, waiting| *waiting != request);
            self.tell_device(device, news);
        }
    }

    /// A device has waited long enough for an answer, and closes the stream.
    pub(super) fn no_answer(&mut self, device: usize, connection: u64, request: u64, kind: RequestKind) {
        let it = &self.devices[device];
        if it.connection == Some(connection) && it.unanswered.get(&kind) == Some(&request) {
            self.give_up(device, request, kind);
        }
    }

    /// A device closes the stream of its newest request of a kind.
    pub(super) fn give_up(&mut self, device: usize, request: u64, kind: RequestKind) {
        let it = &mut self.devices[device];
        if it.up && it.latest.get(&kind) == Some(&request) {
            it.unanswered.remove(&kind);
            it.latest.remove(&kind);
            self.report.unanswered += 1;
            let reason = "no answer".to_owned();
            self.tell_device(device, News::Failed { request: kind, reason });
        }
    }
}
