//! What goes wrong on disks.

use super::super::Fault;
use super::Draw;

/// Of a thousand writes, so many fail at most.
const FAILS: u64 = 100;
/// A slow disk's writes take 1 to 40 ms times this: 0.04 to 2 s in the mean. TigerBeetle draws a mean of 0.03 to 1 s.
const FACTOR: (u64, u64) = (2, 100);

impl Draw {
    /// Disks that are full for a write, and updates and sums that turn out to be bad.
    pub(super) fn failing_writes(&mut self) {
        let fails = self.chance.sometimes(FAILS);
        let some = |draw: &mut Self, n: u64, fault: &dyn Fn(u64) -> Fault| {
            for write in 0..n {
                if draw.chance.per_mille(fails) {
                    draw.out.push(fault(write));
                }
            }
        };
        some(self, 60, &|open| Fault::FailOpen { open });
        some(self, 100, &|seal| Fault::FailSeal { seal });
        some(self, 300, &|add| Fault::FailAdd { add, bad_update: false });
        some(self, 60, &|publish| Fault::FailPublish { publish, storage: true });
        for agent in 0..self.agents {
            some(self, 20, &|work| Fault::AgentDiskFull { agent, work });
        }
        for _ in 0..self.chance.sometimes(2) {
            if self.spend() {
                let fault = Fault::FailAdd {
                    add: self.chance.below(40),
                    bad_update: true,
                };
                self.out.push(fault);
            }
        }
        // No more than a job survives, should they all hit one round.
        for _ in 0..self.chance.sometimes(3) {
            let fault = Fault::FailPublish {
                publish: self.chance.below(10),
                storage: false,
            };
            self.out.push(fault);
        }
    }

    pub(super) fn slow_disks(&mut self) {
        for _ in 0..self.chance.sometimes(3) {
            self.slow_disk(None);
        }
        for _ in 0..self.chance.sometimes(self.agents as u64) {
            let agent = self.agent();
            self.slow_disk(Some(agent));
        }
    }

    fn slow_disk(&mut self, agent: Option<usize>) {
        let at_ms = self.at_ms();
        let fault = Fault::SlowDisk {
            agent,
            at_ms,
            for_ms: self.chance.within((1_000, self.until_ms)),
            factor: self.chance.within(FACTOR),
        };
        self.out.push(fault);
    }
}
