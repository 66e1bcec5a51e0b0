//! Spreading wake-ups evenly, without a random generator: these draws need to be even, not secret.

use std::time::Duration;

/// SplitMix64's output function (Steele, Lea and Flood 2014): every bit of `x` changes about half of the result's.
pub(crate) fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A duration between half of `around` and one and a half times of it, the same one for the same `key`.
pub(crate) fn spread(around: Duration, key: u64) -> Duration {
    let ms = u64::try_from(around.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis((ms / 2).saturating_add(mix(key) % ms.saturating_add(1)))
}

/// A part of `of`, from nothing to all of it, the same one for the same `key`.
pub(crate) fn part(of: Duration, key: u64) -> Duration {
    let ms = u64::try_from(of.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(mix(key) % ms.saturating_add(1))
}
