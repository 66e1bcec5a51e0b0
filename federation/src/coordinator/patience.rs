//! How long a device usually takes, learned from what it did before.

use std::collections::BTreeMap;
use std::time::Duration;

use aimass_protocol::AgentId;

/// Devices whose past is kept for a job; of further ones nothing is learned.
const MAX_DEVICES: usize = 1 << 18;
/// A device that is always equally fast is still given this much on top.
const LEAST_SLACK: Duration = Duration::from_secs(2);

/// A smoothed time with its mean deviation (RFC 6298, section 2, with its gains of 1/8 and 1/4), in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Estimate {
    smoothed: u64,
    deviation: u64,
}

impl Estimate {
    fn first(ms: u64) -> Self {
        Self {
            smoothed: ms,
            deviation: ms / 2,
        }
    }

    fn next(self, ms: u64) -> Self {
        Self {
            smoothed: self.smoothed - self.smoothed / 8 + ms / 8,
            deviation: self.deviation - self.deviation / 4 + self.smoothed.abs_diff(ms) / 4,
        }
    }

    fn patience(self) -> Duration {
        let slack = Duration::from_millis(self.deviation.saturating_mul(4));
        Duration::from_millis(self.smoothed).saturating_add(slack.max(LEAST_SLACK))
    }
}

/// What a device does that takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// From being given work to offering what came of it.
    Training,
    /// From being told of a cohort to the last byte of the update.
    Uploading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Past {
    training: Option<Estimate>,
    uploading: Option<Estimate>,
}

impl Past {
    fn of(&mut self, task: Task) -> &mut Option<Estimate> {
        match task {
            Task::Training => &mut self.training,
            Task::Uploading => &mut self.uploading,
        }
    }
}

/// The past of a job's devices.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct History {
    devices: BTreeMap<AgentId, Past>,
}

impl History {
    /// Learns from a task that is done.
    pub(super) fn learn(&mut self, agent: AgentId, task: Task, took: Duration) {
        if !self.devices.contains_key(&agent) && self.devices.len() >= MAX_DEVICES {
            return;
        }
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX / 16).min(u64::MAX / 16);
        let estimate = self.devices.entry(agent).or_default().of(task);
        *estimate = Some(estimate.map_or_else(|| Estimate::first(ms), |past| past.next(ms)));
    }

    /// After which time something is wrong with a device that is at this task; `None` while nothing is known of it.
    pub(super) fn patience(&self, agent: AgentId, task: Task) -> Option<Duration> {
        let mut past = self.devices.get(&agent).copied()?;
        past.of(task).map(Estimate::patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::agent;

    fn after(samples_s: &[u64]) -> Duration {
        let mut history = History::default();
        for s in samples_s {
            history.learn(agent(1), Task::Training, Duration::from_secs(*s));
        }
        assert_eq!(history.patience(agent(1), Task::Uploading), None, "tasks are apart");
        history.patience(agent(1), Task::Training).expect("learned")
    }

    #[test]
    fn should_be_three_times_the_first_time() {
        assert_eq!(after(&[10]), Duration::from_secs(30));
    }

    #[test]
    fn should_come_close_to_what_a_steady_device_takes() {
        let steady = after(&[10; 50]);
        assert!(steady > Duration::from_secs(11) && steady <= Duration::from_secs(13), "{steady:?}");
    }

    #[test]
    fn should_give_an_unsteady_device_more() {
        let unsteady = after(&[5, 15, 5, 15, 5, 15, 5, 15]);
        assert!(unsteady > Duration::from_secs(20), "{unsteady:?}");
    }

    #[test]
    fn should_follow_a_device_that_slows_down() {
        let samples: Vec<u64> = [vec![10; 20], vec![40; 20]].concat();
        let slowed = after(&samples);
        assert!(slowed > Duration::from_secs(40) && slowed < Duration::from_secs(70), "{slowed:?}");
    }

    #[test]
    fn should_survive_absurd_times() {
        assert!(after(&[u64::MAX / 2, 0, u64::MAX]) > Duration::ZERO);
    }

    #[test]
    fn should_know_nothing_of_a_stranger() {
        assert_eq!(History::default().patience(agent(1), Task::Training), None);
    }
}
