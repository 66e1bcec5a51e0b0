//! Congestion control by what a link does: Cubic, and BBR where packets get lost whatever the rate.
//!
//! Cubic takes every loss for a full queue; on a link that loses a tenth of everything it hardly sends at all. BBR goes by bandwidth and round trip, and
//! wastes a narrow uplink. So a link is measured under Cubic, which does not fill queues for long: where losses go on all the same, BBR takes over,
//! and now and then Cubic looks again.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{BbrConfig, Controller, ControllerFactory, CubicConfig};
use quinn_proto::RttEstimator;

/// Bytes of a sample: 64 full packets.
const SAMPLE_BYTES: u64 = 64 * 1200;
/// Percent of a sample lost, from which on it is a bad one.
const BAD_PERCENT: u64 = 4;
/// Bad samples in a row that are no full queue: Cubic has made way after the first.
const BAD_IN_A_ROW: u32 = 2;
/// Good samples in a row after which Cubic takes over again, and samples after which it does in any case: what is lost may be BBR's own doing.
const GOOD_IN_A_ROW: u32 = 16;
const LOOK_AGAIN_AFTER: u32 = 256;
/// What BBR starts with: its usual 200 packets are more than a lossy link may carry.
const BBR_START_BYTES: u64 = 32 * 1200;

/// Makes [`ByLoss`].
#[derive(Debug)]
pub(crate) struct ByLossConfig;

impl ControllerFactory for ByLossConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(ByLoss {
            inner: cubic(now, current_mtu),
            is_bbr: false,
            mtu: current_mtu,
            sent_bytes: 0,
            lost_bytes: 0,
            in_a_row: 0,
            samples: 0,
        })
    }
}

fn cubic(now: Instant, mtu: u16) -> Box<dyn Controller> {
    Arc::new(CubicConfig::default()).build(now, mtu)
}

/// See the module.
struct ByLoss {
    inner: Box<dyn Controller>,
    is_bbr: bool,
    mtu: u16,
    /// Of the running sample.
    sent_bytes: u64,
    lost_bytes: u64,
    /// Samples in a row that speak for the other controller, and all since this one took over.
    in_a_row: u32,
    samples: u32,
}

impl ByLoss {
    /// Looks at a sample that is complete.
    fn judge(&mut self, now: Instant) {
        let is_bad = self.lost_bytes * 100 >= self.sent_bytes * BAD_PERCENT;
        (self.sent_bytes, self.lost_bytes) = (0, 0);
        self.samples += 1;
        self.in_a_row = if is_bad == self.is_bbr { 0 } else { self.in_a_row + 1 };
        if !self.is_bbr && self.in_a_row >= BAD_IN_A_ROW {
            let mut bbr = BbrConfig::default();
            bbr.initial_window(BBR_START_BYTES);
            self.take_over(Arc::new(bbr).build(now, self.mtu));
        } else if self.is_bbr && (self.in_a_row >= GOOD_IN_A_ROW || self.samples >= LOOK_AGAIN_AFTER) {
            self.take_over(cubic(now, self.mtu));
        }
    }

    fn take_over(&mut self, controller: Box<dyn Controller>) {
        self.inner = controller;
        self.is_bbr = !self.is_bbr;
        (self.in_a_row, self.samples) = (0, 0);
    }
}

impl Controller for ByLoss {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
        self.sent_bytes += bytes;
        if self.sent_bytes >= SAMPLE_BYTES {
            self.judge(now);
        }
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        self.lost_bytes += lost_bytes;
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu;
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            inner: self.inner.clone_box(),
            ..*self
        })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1200;

    /// Sends samples of which every `nth` packet is lost (0: none); says which controller it ended with.
    fn after(link: &mut ByLoss, samples: u64, nth: u64) -> bool {
        let now = Instant::now();
        for number in 0..samples * 64 {
            if nth > 0 && number % nth == 0 {
                link.on_congestion_event(now, now, false, PACKET);
            }
            link.on_sent(now, PACKET, number);
        }
        link.is_bbr
    }

    fn fresh() -> ByLoss {
        let built = Arc::new(ByLossConfig).build(Instant::now(), 1200);
        *built.into_any().downcast().expect("what the factory makes")
    }

    #[test]
    fn a_good_link_keeps_cubic_and_so_does_one_full_queue() {
        let mut link = fresh();
        assert!(!after(&mut link, 100, 0));
        assert!(!after(&mut link, 100, 50), "2 percent");
        assert!(!after(&mut link, 1, 3), "a third of one sample");
        assert!(!after(&mut link, 1, 0));
        assert!(!after(&mut link, 1, 3));
    }

    #[test]
    fn losses_that_go_on_bring_bbr_and_a_link_that_recovers_brings_cubic_back() {
        let mut link = fresh();
        assert!(after(&mut link, 2, 10), "a tenth is lost");
        assert!(after(&mut link, 100, 10));
        assert!(!after(&mut link, 17, 0), "it has become a good one");
    }

    #[test]
    fn cubic_looks_again_whatever_bbr_loses() {
        let mut link = fresh();
        assert!(after(&mut link, 2, 10));
        assert!(after(&mut link, u64::from(LOOK_AGAIN_AFTER) - 1, 2));
        assert!(!after(&mut link, 1, 2));
        assert!(!after(&mut link, 20, 0), "the losses were BBR's own doing");
    }
}
