//! Who is served next: jobs share the agents by their weights, and none starves.
//!
//! Start-time fair queueing (Goyal, Vin and Cheng 1996, section 2): serving a job costs it the inverse of its weight, and the job that paid least is served
//! next. A job that asked for nothing for a while does not save up. What is paid for is a round, not an agent: a round that has begun is filled before
//! another one begins, or two jobs could each hold half of the agents that they need and wait for ever.

use std::time::Duration;

use aimass_protocol::Timestamp;

/// What a round costs at weight 1, for each agent that it asks for.
const COST: u64 = 1 << 20;
/// Ten steps of priority double a job's share.
const PRIORITY_STEP: u32 = 10;
/// A deadline makes a share larger by at most this factor.
const MOST_URGENT: u64 = 8;

/// What a job has been given, in virtual time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Share {
    /// The end of its last service.
    paid: u64,
}

/// The queue's virtual time: the start of the service that was given last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct VirtualTime(u64);

impl Share {
    /// Where it stands: the least is served first.
    pub(super) fn start(self, time: VirtualTime) -> u64 {
        self.paid.max(time.0)
    }

    /// Pays for a round of `agents`, as the one whose turn it was.
    pub(super) fn pay(&mut self, time: &mut VirtualTime, weight: u64, agents: usize) {
        let start = self.start(*time);
        self.charge(*time, weight, agents);
        time.0 = start;
    }

    /// Pays for `agents` out of turn.
    pub(super) fn charge(&mut self, time: VirtualTime, weight: u64, agents: usize) {
        let cost = COST.saturating_mul(agents.max(1) as u64) / weight.max(1);
        self.paid = self.start(time).saturating_add(cost.max(1));
    }
}

/// A job's weight: 1 to 1024 by its priority of 0 to 100, times its urgency.
pub(super) fn weight(priority: u8, urgency: u64) -> u64 {
    (1 << (u32::from(priority.min(100)) / PRIORITY_STEP)) * urgency
}

/// How much a deadline presses, 1 to 8: the time that the rounds which are left will take, over the time that is left.
pub(super) fn urgency(now: Timestamp, deadline: Option<Timestamp>, rounds_left: u32, round_takes: Duration) -> u64 {
    let Some(deadline) = deadline else { return 1 };
    let needed = round_takes.as_millis().saturating_mul(rounds_left.into());
    let left = deadline.since(now).as_millis();
    match needed.checked_div(left) {
        Some(ratio) => u64::try_from(ratio).unwrap_or(MOST_URGENT).clamp(1, MOST_URGENT),
        None => MOST_URGENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at_s;

    /// How often each of the weights is served in `n` rounds of one agent.
    fn serve(weights: &[u64], n: usize) -> Vec<usize> {
        let (mut shares, mut time) = (vec![Share::default(); weights.len()], VirtualTime::default());
        let mut served = vec![0; weights.len()];
        for _ in 0..n {
            let next = (0..shares.len()).min_by_key(|i| shares[*i].start(time)).expect("some");
            shares[next].pay(&mut time, weights[next], 1);
            served[next] += 1;
        }
        served
    }

    #[test]
    fn should_serve_by_weight() {
        assert_eq!(serve(&[1, 2, 4], 700), [100, 200, 400]);
    }

    #[test]
    fn should_not_starve_the_least() {
        let (least, most) = (weight(0, 1), weight(100, MOST_URGENT));
        assert!(serve(&[least, most], 3 * 8192)[0] >= 2);
    }

    #[test]
    fn should_not_let_a_job_save_up() {
        let (mut idle, mut busy, mut time) = (Share::default(), Share::default(), VirtualTime::default());
        for _ in 0..1000 {
            busy.pay(&mut time, 1, 1);
        }
        idle.pay(&mut time, 1, 1);
        assert!(idle.start(time) + 2 * COST >= busy.start(time), "one round ahead at most");
        idle.pay(&mut time, 1, 1);
        assert!(idle.start(time) >= busy.start(time));
    }

    #[test]
    fn should_press_as_the_deadline_comes_near() {
        let minute = Duration::from_secs(60);
        let at = |now| urgency(at_s(now), Some(at_s(6000)), 10, minute);
        assert_eq!([at(0), at(5400), at(5800), at(5999), at(6000), at(9000)], [1, 1, 3, 8, 8, 8]);
        assert_eq!(urgency(at_s(0), None, 1_000_000, minute), 1);
        assert_eq!(urgency(at_s(0), Some(at_s(1)), 0, minute), 1, "nothing is left to do");
    }

    #[test]
    fn should_double_the_share_with_ten_steps_of_priority() {
        assert_eq!([weight(0, 1), weight(50, 1), weight(60, 1), weight(100, 1)], [1, 32, 64, 1024]);
    }
}
