//! Parts are done once, by whoever comes.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn every_part_is_done_once() {
    for threads in [1, 2, 3, 5] {
        let team = Team::new(threads);
        assert_eq!(team.threads(), threads, "the system gives so many threads");
        for round in 0..2000 {
            let parts = round % 9;
            let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
            team.run(parts, |i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(
                counts.iter().all(|n| n.load(Ordering::Relaxed) == 1),
                "{threads} threads, {parts} parts"
            );
        }
    }
}

#[test]
fn threads_that_sleep_are_woken() {
    let team = Team::new(3);
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let (sum, mut values) = (AtomicUsize::new(0), vec![1; 100]);
        team.each(values.chunks_mut(7), |values| {
            sum.fetch_add(values.iter().sum(), Ordering::Relaxed);
            values.fill(2);
        });
        assert_eq!(sum.into_inner(), 100);
        assert!(values.iter().all(|&v| v == 2));
    }
}

#[test]
fn who_panics_does_not_keep_the_others_waiting() {
    let team = Team::new(3);
    for _ in 0..50 {
        let done = AtomicUsize::new(0);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            team.run(6, |i| {
                assert!(i != 2, "wanted");
                done.fetch_add(1, Ordering::Relaxed);
            });
        }));
        assert!(panicked.is_err());
        team.run(4, |_| {
            done.fetch_add(100, Ordering::Relaxed);
        });
        assert!(done.into_inner() >= 400);
    }
}

#[test]
fn what_a_part_starts_runs_alone() {
    thread_local!(static TEAM: Team = Team::new(2));
    let count = AtomicUsize::new(0);
    TEAM.with(|team| {
        team.run(4, |_| {
            TEAM.with(|team| {
                team.run(3, |_| {
                    count.fetch_add(1, Ordering::Relaxed);
                });
            });
        });
    });
    assert_eq!(count.into_inner(), 12);
}

#[test]
fn ranges_hold_everything_once() {
    for n in [0, 1, 15, 16, 17, 100] {
        for parts in 1..6 {
            for unit in [1, 8, 16] {
                let mut at = 0;
                for range in ranges(n, parts, unit) {
                    assert_eq!(range.start, at);
                    assert!(range.start % unit == 0 && !range.is_empty());
                    at = range.end;
                }
                assert_eq!(at, n);
            }
        }
    }
}

#[test]
fn work_that_is_little_stays_with_one() {
    let team = Team::new(3);
    assert_eq!(team.parts(FEWEST_OPERATIONS - 1, 9), 1);
    assert_eq!(team.parts(2 * FEWEST_OPERATIONS, 9), 2);
    assert_eq!(team.parts(100 * FEWEST_OPERATIONS, 9), 3);
    assert_eq!(team.parts(100 * FEWEST_OPERATIONS, 2), 2);
}
