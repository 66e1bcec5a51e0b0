//! Which clients check in, and when.

use aimass_federation::coordinator::{Event, PhaseName};
use aimass_protocol::job::RoundMode;

use super::{Fleet, Happening, Selection, Workshop};
use crate::chance::Chance;

/// Places that are free are looked at so often.
pub(super) const LOOK_AGAIN_MS: u64 = 5_000;

/// A drawn client checks in within this time.
const WAKES_WITHIN_MS: u64 = 200;

/// So many draws are made for one place before it waits for the next look: most clients may be away.
const DRAWS: u32 = 64;
/// And so many neighbours of the last one are looked at.
const LOOKED_AT: u64 = 20_000;

/// Clients of a fleet that has been there for long come first at this rate a second, so that they don't all come at once.
const ARRIVALS_PER_S: u64 = 1000;

impl<W: Workshop> Fleet<W> {
    /// The first clients come.
    pub(super) fn open(&mut self) {
        match self.setup.selection {
            Selection::Uniform => self.at(0, Happening::Select),
            Selection::Arrival => {
                let n = self.n_clients();
                let spread_ms = (u64::from(n) * 1000 / ARRIVALS_PER_S).max(WAKES_WITHIN_MS);
                for client in 0..n {
                    let at = self.chance.below(spread_ms);
                    if let Some(window) = self.clients.window(client, at) {
                        self.at(window.from_ms.max(at), Happening::Wake { client });
                    }
                }
            }
        }
    }

    pub(super) fn n_clients(&self) -> u32 {
        u32::try_from(self.clients.len()).unwrap_or(u32::MAX)
    }

    /// A round begins: who works for it is drawn. Where all wait for it, that is a matter of the round and of who is there alone, not of what is left of
    /// the round before.
    pub(super) fn begin_round(&mut self) {
        if self.setup.selection != Selection::Uniform {
            return;
        }
        if self.setup.job.round.mode != RoundMode::Async {
            self.engaged.clear();
            self.again.clear();
            self.draws = Chance::new(self.setup.seed, &format!("round {}", self.round + 1));
        }
        self.select();
    }

    /// Draws clients for free places.
    pub(super) fn select(&mut self) {
        if self.setup.selection != Selection::Uniform {
            return;
        }
        let (mode, max) = (self.setup.job.round.mode, self.setup.job.round.max);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        if self.engaged.len() >= max {
            return;
        }
        let phase = self.coordinator.job(self.job).map(|view| view.phase);
        let is_open = match phase {
            Some(PhaseName::Gathering) => true,
            Some(PhaseName::Ended) | None => false,
            Some(_) => mode == RoundMode::Async,
        };
        if !is_open {
            return;
        }
        let n = u64::from(self.n_clients());
        while self.engaged.len() < max {
            let is_free = |client: &u32| {
                let is_there = || {
                    self.clients
                        .window(*client, self.now)
                        .is_some_and(|window| window.from_ms <= self.now)
                };
                !self.engaged.contains(client) && !self.given.contains(client) && is_there()
            };
            let drawn = (0..DRAWS).find_map(|_| {
                let client = u32::try_from(self.draws.below(n)).unwrap_or(0);
                Some(client).filter(is_free)
            });
            // Few are free: the next one from a place that is drawn.
            let from = self.draws.below(n);
            let next = || {
                let mut others = (0..n.min(LOOKED_AT)).map(|step| u32::try_from((from + step) % n).unwrap_or(0));
                others.find(is_free)
            };
            let Some(client) = drawn.or_else(next) else { return };
            self.engaged.insert(client);
            if self.active.contains_key(&client) {
                // It is told first what became of its last contribution.
                self.again.insert(client);
            } else {
                let ms = self.draws.below(WAKES_WITHIN_MS);
                self.after(ms, Happening::Wake { client });
            }
        }
    }

    /// Whether a client has work that it goes on with when it comes back.
    fn is_waiting(&self, client: u32) -> bool {
        self.kept.get(&client).is_some_and(super::client::Kept::has_work)
    }

    /// A client without a process looks whether there is work.
    pub(super) fn wake(&mut self, client: u32) {
        if self.active.contains_key(&client) {
            return;
        }
        let Some(window) = self.clients.window(client, self.now) else {
            return self.disengage(client);
        };
        if window.from_ms > self.now {
            // It was not told that it has to go.
            let agent = self.names.agent(client, &mut self.trust);
            self.tell_server(Event::Gone { agent });
            self.disengage(client);
            if self.setup.selection == Selection::Arrival || self.is_waiting(client) {
                self.at(window.from_ms, Happening::Wake { client });
            }
            return;
        }
        if self.is_waiting(client) {
            return self.activate(client, window.until_ms, None);
        }
        self.check_in(client);
    }

    /// A client that was drawn is done, or gone.
    pub(super) fn disengage(&mut self, client: u32) {
        if self.again.remove(&client) {
            return self.after(1, Happening::Wake { client });
        }
        if self.engaged.remove(&client) {
            self.select();
        }
    }
}
