//! Clients that come and go with the day.
//!
//! A client's time is cut into slots. In each it is there or not, by a draw of its own against the day's curve at the middle of the slot; slots
//! in a row make a window. Where a share `p` of the clients is there, slots are `mean * (1 - p)` long: a run of slots is then `1 / (1 - p)` of
//! them on the mean, and a window `mean`. Slots follow from a table of one day, and clients are offset against each other, so that nothing is
//! stored a client, and any moment can be asked for.

use super::clients::{PHASE, THERE, Window, mixed_share};

const DAY_MINUTES: usize = 1440;
/// Of a day's slots, to look minutes up by.
const PARTS: usize = 2048;
const DAY_MS: u64 = 86_400_000;
const ZONE_MS: u64 = 3_600_000;
/// No slot is shorter than this share of the mean window: where nearly all are there, windows are longer than the mean.
const LEAST_SLOT: f64 = 0.02;
/// A window that goes on for more slots is cut; the next begins at its end.
const MOST_SLOTS: u64 = 4096;
/// Some 35,000 years: beyond that there is nobody.
const END_MS: u64 = 1 << 50;

/// The curve of a day, and how its time is cut into slots.
#[derive(Debug)]
pub(super) struct Days {
    peak_minute: f64,
    at_peak: f64,
    at_trough: f64,
    zones: u32,
    /// At each minute of the day, slots since midnight; one more at the end.
    slots: Vec<f64>,
    /// In which minute each of so many equal parts of a day's slots begins: where to look in `slots`.
    minutes: Vec<usize>,
    /// The share of a zone's clients that is there, at the middle of each minute.
    shares: Vec<f64>,
}

impl Days {
    pub(super) fn new(peak_hour: f64, at_peak: f64, at_trough: f64, mean_minutes: f64, zones: u32) -> Self {
        let mut days = Self {
            peak_minute: peak_hour * 60.0,
            at_peak,
            at_trough,
            zones: zones.max(1),
            slots: vec![0.0],
            minutes: Vec::new(),
            shares: Vec::new(),
        };
        let mut sum = 0.0;
        for minute in 0..DAY_MINUTES {
            let there = days.share(minute as f64 + 0.5);
            sum += 1.0 / (mean_minutes * (1.0 - there).max(LEAST_SLOT));
            days.slots.push(sum);
            days.shares.push(there);
        }
        let begins_in = |part: usize| {
            let before = part as f64 / PARTS as f64 * sum;
            days.slots.partition_point(|slots| *slots <= before).clamp(1, DAY_MINUTES) - 1
        };
        days.minutes = (0..=PARTS).map(begins_in).collect();
        days
    }

    /// The share of a zone's clients that is there at its local minute.
    fn share(&self, minute: f64) -> f64 {
        let angle = (minute - self.peak_minute) / DAY_MINUTES as f64 * std::f64::consts::TAU;
        self.at_trough + (self.at_peak - self.at_trough) * (1.0 + angle.cos()) / 2.0
    }

    /// The share of all clients that is there at a moment.
    pub(super) fn share_at(&self, at_ms: u64) -> f64 {
        let in_zone = |zone: u32| self.share(((at_ms + u64::from(zone) * ZONE_MS) % DAY_MS) as f64 / 60_000.0);
        (0..self.zones).map(in_zone).sum::<f64>() / f64::from(self.zones)
    }

    /// The largest share that is there at once.
    pub(super) fn most(&self) -> f64 {
        (0..DAY_MINUTES as u64)
            .map(|minute| self.share_at(minute * 60_000))
            .fold(0.0, f64::max)
    }

    fn slots_a_day(&self) -> f64 {
        self.slots[DAY_MINUTES]
    }

    /// Slots since the beginning of time.
    fn slots_until(&self, local_ms: u64) -> f64 {
        let minute = (local_ms % DAY_MS) as f64 / 60_000.0;
        let at = (minute as usize).min(DAY_MINUTES - 1);
        let (before, after) = (self.slots[at], self.slots[at + 1]);
        (local_ms / DAY_MS) as f64 * self.slots_a_day() + before + (after - before) * (minute - at as f64)
    }

    /// Day and minute of the local moment after so many slots: never falls where `slots` grows.
    fn day_and_minute(&self, slots: f64) -> (f64, f64) {
        let total = self.slots_a_day();
        let day = (slots / total).floor().max(0.0);
        let rest = (slots - day * total).clamp(0.0, total);
        let mut at = self.minutes[(rest / total * PARTS as f64) as usize];
        // By rounding the part may be the one after.
        while at > 0 && self.slots[at] > rest {
            at -= 1;
        }
        while at + 1 < DAY_MINUTES && self.slots[at + 1] <= rest {
            at += 1;
        }
        let (before, after) = (self.slots[at], self.slots[at + 1]);
        (day, at as f64 + (rest - before) / (after - before))
    }

    fn moment_of(&self, slots: f64) -> u64 {
        let (day, minute) = self.day_and_minute(slots);
        day as u64 * DAY_MS + (minute * 60_000.0) as u64
    }

    /// As [`Clients::window`](super::Clients::window).
    pub(super) fn window(&self, seed: u64, client: u32, at_ms: u64) -> Option<Window> {
        if at_ms >= END_MS {
            return None;
        }
        let ahead = u64::from(client % self.zones) * ZONE_MS;
        let phase = mixed_share(seed, PHASE, client, 0);
        let begin = |slot: u64| self.moment_of(slot as f64 - phase);
        let is_there = |slot: u64| {
            let (_, middle) = self.day_and_minute(slot as f64 - phase + 0.5);
            mixed_share(seed, THERE, client, slot) < self.shares[(middle as usize).min(DAY_MINUTES - 1)]
        };
        let local = at_ms + ahead;
        let mut slot = (self.slots_until(local) + phase) as u64;
        // By rounding it may be the one before or after.
        while slot > 0 && begin(slot) > local {
            slot -= 1;
        }
        while begin(slot + 1) <= local {
            slot += 1;
        }
        while !is_there(slot) {
            slot += 1;
        }
        // Cut at whole multiples, so that any moment of a window gives the same end.
        let from = begin(slot).max(local);
        slot += 1;
        while !slot.is_multiple_of(MOST_SLOTS) && is_there(slot) {
            slot += 1;
        }
        Some(Window {
            from_ms: from - ahead,
            until_ms: begin(slot) - ahead,
        })
    }
}
