//! How long it can be told who was in a round. The openings of survivors are forgotten after a time; the log and its hashes stay as they are.

use std::time::Duration;

use aimass_protocol::Timestamp;

/// How long openings are kept, as settings name it.
pub(crate) fn kept_for(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 24 * 3600)
}

/// Up to which entry of the log openings are to be forgotten: the index after the last one that is old enough. `entries` are indices and times of those that
/// still have openings, ascending. An entry is at least as old as each that comes after it, whatever the clock said when it was written.
pub(crate) fn due(entries: impl DoubleEndedIterator<Item = (u64, Timestamp)>, now: Timestamp, keep: Duration) -> Option<u64> {
    let is_old = |&(_, at): &(u64, Timestamp)| at.after(keep) <= now;
    entries.rev().find(is_old).map(|(index, _)| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3600 * 1000;

    fn due_of(days: &[u64], now: u64, keep: u32) -> Option<u64> {
        let entries = (10..).step_by(2).zip(days.iter().map(|day| Timestamp::from_ms(day * DAY_MS)));
        let entries: Vec<_> = entries.collect();
        due(entries.into_iter(), Timestamp::from_ms(now * DAY_MS), kept_for(keep))
    }

    #[test]
    fn what_is_old_enough_is_forgotten() {
        let days = [1, 2, 3, 50, 90];
        assert_eq!(due_of(&[], 1000, 90), None);
        assert_eq!(due_of(&days, 90, 90), None);
        assert_eq!(due_of(&days, 91, 90), Some(11), "the day itself counts");
        assert_eq!(due_of(&days, 93, 90), Some(15));
        assert_eq!(due_of(&days, 1000, 90), Some(19));
        assert_eq!(due_of(&days, 90, 0), Some(19), "at once");
        assert_eq!(due_of(&days, 1000, u32::MAX), None);
    }

    #[test]
    fn a_clock_that_was_wrong_keeps_nothing_for_ever() {
        // One entry was written in a year that has not come yet; the one after it is old enough.
        assert_eq!(due_of(&[1, 9_000, 2], 100, 90), Some(15));
        assert_eq!(due_of(&[1, 9_000], 100, 90), Some(11));
    }
}
