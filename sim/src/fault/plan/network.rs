//! What goes wrong on links.

use super::super::{Blocks, Fault, Trouble};
use super::Draw;

/// Messages of each device that something may happen to: more than most send before the faults end.
pub(super) const MESSAGES: u64 = 1000;

/// Partitions begin and end at a tick. TigerBeetle's tick is 10 ms, and its timeouts are 0.5 to 5 s, 50 ticks and more; ours are 30 s and more.
pub(super) const TICK_MS: u64 = 1000;

/// Ranges, in thousandths of messages.
const LOST: u64 = 300;
const TWICE: u64 = 500;
const DELAYED: u64 = 200;
/// In thousandths of ticks.
const PARTITION: u64 = 30;
const UNPARTITION: (u64, u64) = (10, 100);
/// Ticks that a partition lasts at least, and that pass at least before the next.
const STABLE: (u64, u64) = (0, 200);
const WHOLE: (u64, u64) = (0, 20);

impl Draw {
    pub(super) fn partitions(&mut self) {
        let (begins, ends) = (self.chance.sometimes(PARTITION), self.chance.within(UNPARTITION));
        let (stable, whole) = (self.chance.within(STABLE), self.chance.within(WHOLE));
        let is_asymmetric = self.chance.per_mille(500);
        let mode = self.chance.below(3);
        let ticks = self.until_ms / TICK_MS;
        let mut tick = 0;
        while tick < ticks {
            if !self.chance.per_mille(begins) {
                tick += 1;
                continue;
            }
            let mut lasts = stable.max(1);
            while tick + lasts < ticks && !self.chance.per_mille(ends) {
                lasts += 1;
            }
            let blocks = match (is_asymmetric, self.chance.per_mille(500)) {
                (false, _) => Blocks::Both,
                (true, false) => Blocks::Requests,
                (true, true) => Blocks::Replies,
            };
            let fault = Fault::Partition {
                at_ms: tick * TICK_MS + self.chance.below(TICK_MS),
                for_ms: lasts * TICK_MS,
                agents: self.cut_off(mode),
                blocks,
            };
            self.out.push(fault);
            tick += lasts + whole.max(1);
        }
    }

    /// Whom the server is not with: so many as are drawn, each by a coin, or one machine, which may be the server.
    fn cut_off(&mut self, mode: u64) -> u64 {
        let twins = u64::from_le_bytes(self.chance.bytes());
        let mut agents: Vec<usize> = (0..self.agents).collect();
        self.chance.shuffle(&mut agents);
        let n = match mode {
            0 => 1 + self.chance.below(self.agents as u64),
            1 => (0..self.agents).map(|_| self.chance.below(2)).sum::<u64>().max(1),
            _ if self.chance.below(self.agents as u64 + 1) == 0 => return u64::MAX,
            _ => 1,
        };
        let others = twins.checked_shl(u32::try_from(self.agents).unwrap_or(64)).unwrap_or(0);
        let chosen = agents.iter().take(usize::try_from(n).unwrap_or(self.agents));
        chosen.fold(others, |mask, agent| mask | 1 << agent)
    }

    pub(super) fn messages(&mut self) {
        let (lost, twice, delayed) = (
            self.chance.sometimes(LOST),
            self.chance.sometimes(TWICE),
            self.chance.sometimes(DELAYED),
        );
        // Of what is lost, so much takes its connection with it.
        let breaks = self.chance.sometimes(500);
        for agent in 0..self.agents {
            for message in 0..MESSAGES {
                let trouble = if self.chance.per_mille(lost) {
                    if self.chance.per_mille(breaks) {
                        Trouble::Breaks
                    } else {
                        Trouble::Lost
                    }
                } else if self.chance.per_mille(twice) {
                    Trouble::Twice {
                        after_ms: self.chance.within((5, 10_000)),
                    }
                } else if self.chance.per_mille(delayed) {
                    Trouble::Delayed {
                        by_ms: self.chance.within((100, 60_000)),
                    }
                } else {
                    continue;
                };
                self.out.push(Fault::Message { agent, message, trouble });
            }
        }
    }
}
