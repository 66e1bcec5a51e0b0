use proptest::prelude::*;

use crate::population::*;

const HOUR_MS: u64 = 3_600_000;

fn by_day(peak_hour: f64, at_peak: f64, at_trough: f64, mean_minutes: f64, zones: u32) -> Population {
    Population {
        availability: Availability::Diurnal {
            peak_hour,
            at_peak,
            at_trough,
            mean_minutes,
            zones,
        },
        ..Population::default()
    }
}

fn is_there(clients: &Clients, client: u32, at_ms: u64) -> bool {
    clients.window(client, at_ms).is_some_and(|window| window.from_ms == at_ms)
}

/// The share that is there, over the hours of a day.
fn shares(clients: &Clients, day: u64) -> Vec<f64> {
    let at_hour = |hour: u64| {
        let there = (0..clients.len() as u32).filter(|client| is_there(clients, *client, (day * 24 + hour) * HOUR_MS));
        there.count() as f64 / clients.len() as f64
    };
    (0..24).map(at_hour).collect()
}

/// Own arithmetic, so that a wrong curve shows.
fn expected(hour: f64, peak_hour: f64, at_peak: f64, at_trough: f64) -> f64 {
    let (mean, swing) = ((at_peak + at_trough) / 2.0, (at_peak - at_trough) / 2.0);
    mean + swing * ((hour - peak_hour) * 15.0).to_radians().cos()
}

#[test]
fn the_share_that_is_there_follows_the_day() {
    for (peak_hour, at_peak, at_trough, mean_minutes) in [(2.0, 0.4, 0.1, 45.0), (13.5, 0.9, 0.3, 20.0), (20.0, 0.05, 0.0, 90.0)] {
        let clients = by_day(peak_hour, at_peak, at_trough, mean_minutes, 1);
        let clients = clients.draw(10_000, 10, 11, None).expect("a population");
        for day in [0, 1, 400] {
            for (hour, share) in shares(&clients, day).into_iter().enumerate() {
                let expected = expected(hour as f64, peak_hour, at_peak, at_trough);
                // Four standard deviations of a count of 10,000, and a hundredth of the swing for the slots.
                let within = 4.0 * (expected * (1.0 - expected) / 10_000.0).sqrt() + 0.01 * (at_peak - at_trough);
                assert!(
                    (share - expected).abs() < within + 1e-3,
                    "day {day}, {hour} h: {share}, not {expected}"
                );
            }
        }
    }
}

#[test]
fn zones_spread_the_day() {
    let clients = by_day(12.0, 0.5, 0.1, 30.0, 24).draw(10_000, 10, 11, None).expect("a population");
    assert!(shares(&clients, 2).iter().all(|share| (share - 0.3).abs() < 0.03));
    let two = by_day(12.0, 0.8, 0.1, 30.0, 2).draw(10_000, 10, 11, None).expect("a population");
    for (hour, share) in shares(&two, 2).into_iter().enumerate() {
        // The second zone is an hour ahead.
        let zones = [0.0, 1.0].map(|ahead| expected(hour as f64 + ahead, 12.0, 0.8, 0.1));
        let expected = (zones[0] + zones[1]) / 2.0;
        assert!((share - expected).abs() < 0.03, "{hour} h: {share}, not {expected}");
    }
}

#[test]
fn windows_last_as_long_as_they_should_on_the_mean() {
    for (at_peak, at_trough, mean_minutes) in [(0.4, 0.1, 45.0), (0.9, 0.5, 20.0), (0.2, 0.2, 120.0)] {
        let population = by_day(3.0, at_peak, at_trough, mean_minutes, 1);
        let clients = population.draw(500, 10, 5, None).expect("a population");
        let (mut sum, mut count) = (0, 0_u64);
        for client in 0..500 {
            let mut at = 0;
            while let Some(window) = clients.window(client, at).filter(|window| window.from_ms < 10 * 24 * HOUR_MS) {
                // The first may have begun before.
                if window.from_ms > 0 {
                    sum += window.until_ms - window.from_ms;
                    count += 1;
                }
                at = window.until_ms;
            }
        }
        let mean = sum as f64 / count as f64 / 60_000.0;
        assert!((mean / mean_minutes - 1.0).abs() < 0.05, "{mean} minutes, not {mean_minutes}");
    }
}

#[test]
fn clients_differ_from_each_other_and_from_day_to_day() {
    let clients = by_day(3.0, 0.4, 0.1, 45.0, 1).draw(100, 10, 5, None).expect("a population");
    let first: std::collections::BTreeSet<u64> = (0..100)
        .filter_map(|client| Some(clients.window(client, HOUR_MS)?.until_ms))
        .collect();
    assert!(first.len() > 95, "{} ends among 100 clients", first.len());
    let day = 24 * HOUR_MS;
    let again = (0..100).filter(|client| {
        let tomorrow = clients.window(*client, HOUR_MS + day).map(|window| window.until_ms - day);
        clients.window(*client, HOUR_MS).map(|window| window.until_ms) == tomorrow
    });
    assert!(again.count() < 5);
}

proptest! {
    #[test]
    fn windows_never_overlap_and_go_on_for_ever(
        peak_hour in 0.0..24.0_f64, at_peak in 0.02..1.0_f64, trough in 0.0..1.0_f64, mean in 1.0..240.0_f64, zones in 1..25_u32,
        client in 0..50_u32, seed: u64, start in 0..(1_u64 << 45), within in 0.0..1.0_f64,
    ) {
        let clients = by_day(peak_hour, at_peak, at_peak * trough, mean, zones).draw(50, 1, seed, None).expect("a population");
        let mut at = start;
        for _ in 0..30 {
            let window = clients.window(client, at).expect("there is always a next one");
            prop_assert!(at <= window.from_ms && window.from_ms < window.until_ms, "{at}: {window:?}");
            // Asked for from within, it is the rest of the same; asked for from the time before, the same.
            let inside = window.from_ms + ((window.until_ms - window.from_ms - 1) as f64 * within) as u64;
            prop_assert_eq!(clients.window(client, inside), Some(Window { from_ms: inside, until_ms: window.until_ms }));
            let before = at + ((window.from_ms - at) as f64 * within) as u64;
            prop_assert_eq!(clients.window(client, before), Some(Window { from_ms: window.from_ms.max(before), ..window }));
            at = window.until_ms;
        }
    }

    #[test]
    fn any_moment_can_be_asked_for(at: u64, seed: u64) {
        for population in [by_day(0.0, 1.0, 1.0, 240.0, 24), by_day(24.0, 0.001, 0.0, 1.0, 1), Population::default()] {
            let clients = population.draw(50, 1, seed, None).expect("a population");
            if let Some(window) = clients.window(7, at) {
                prop_assert!(at <= window.from_ms && window.from_ms <= window.until_ms);
            }
        }
    }
}
