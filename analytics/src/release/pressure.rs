//! When an agent serves a smaller variant of its release, and when it goes back.

use serde::{Deserialize, Serialize};

/// Which variant is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// The one that is for the device.
    Fitting,
    /// The smallest of those that are.
    Small,
}

/// Decides with hysteresis: below `low_bytes` of free memory the small variant is wanted at once; the other one again once there were more than
/// `high_bytes` free for `calm_ms`. What the larger variant would take is to be part of `high_bytes`, or it would be under pressure as soon as it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pressure {
    low_bytes: u64,
    high_bytes: u64,
    calm_ms: u64,
    size: Size,
    calm_since_ms: Option<u64>,
}

impl Pressure {
    /// Of a device that is not under pressure. `high_bytes` below `low_bytes` counts as that.
    pub fn new(low_bytes: u64, high_bytes: u64, calm_ms: u64) -> Self {
        Self {
            low_bytes,
            high_bytes: high_bytes.max(low_bytes),
            calm_ms,
            size: Size::Fitting,
            calm_since_ms: None,
        }
    }

    /// Takes note of the free memory at a time that never goes back, and says which variant is wanted.
    pub fn see(&mut self, now_ms: u64, free_bytes: u64) -> Size {
        if free_bytes < self.low_bytes {
            self.size = Size::Small;
            self.calm_since_ms = None;
        } else if self.size == Size::Small && free_bytes > self.high_bytes {
            let since = *self.calm_since_ms.get_or_insert(now_ms);
            if now_ms.saturating_sub(since) >= self.calm_ms {
                self.size = Size::Fitting;
                self.calm_since_ms = None;
            }
        } else {
            self.calm_since_ms = None;
        }
        self.size
    }

    /// What is wanted now.
    pub fn size(&self) -> Size {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn should_switch_down_at_once_and_back_after_a_calm_time() {
        let mut pressure = Pressure::new(100, 200, 1000);
        let seen = |pressure: &mut Pressure, at, free| pressure.see(at, free);
        assert_eq!(seen(&mut pressure, 0, 150), Size::Fitting);
        assert_eq!(seen(&mut pressure, 1, 99), Size::Small);
        assert_eq!(seen(&mut pressure, 2, 250), Size::Small, "calm for no time");
        assert_eq!(seen(&mut pressure, 500, 150), Size::Small, "in between: not calm");
        assert_eq!(seen(&mut pressure, 600, 250), Size::Small);
        assert_eq!(seen(&mut pressure, 1599, 250), Size::Small);
        assert_eq!(seen(&mut pressure, 1600, 250), Size::Fitting);
        assert_eq!(
            seen(&mut pressure, 1601, 150),
            Size::Fitting,
            "what is free between the bounds changes nothing"
        );
    }

    proptest! {
        #[test]
        fn should_never_go_back_within_the_calm_time(frees in prop::collection::vec((1_u64..300, 0_u64..400), 1..200)) {
            let mut pressure = Pressure::new(100, 200, 1000);
            let (mut now, mut low_at) = (0, None);
            for (pause, free) in frees {
                now += pause;
                let before = pressure.size();
                let after = pressure.see(now, free);
                if free < 100 {
                    low_at = Some(now);
                    prop_assert_eq!(after, Size::Small);
                }
                if before == Size::Small && after == Size::Fitting {
                    prop_assert!(now - low_at.expect("it was low once") >= 1000 && free > 200);
                }
            }
        }
    }
}
