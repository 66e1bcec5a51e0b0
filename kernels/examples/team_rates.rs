//! What it takes to hand work to the other threads of a team: `cargo run --release -p aimass-kernels --example team_rates [threads]`.

use std::time::{Duration, Instant};

use aimass_kernels::Team;

/// Nanoseconds a call: the median and the least of several stretches.
fn nanoseconds(mut call: impl FnMut()) -> (f64, f64) {
    let mut found: Vec<f64> = (0..21)
        .map(|_| {
            let start = Instant::now();
            (0..1000).for_each(|_| call());
            start.elapsed().as_nanos() as f64 / 1000.0
        })
        .collect();
    found.sort_by(f64::total_cmp);
    (found[found.len() / 2], found[0])
}

fn main() {
    let threads = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(2);
    let team = Team::new(threads);
    let (median, least) = nanoseconds(|| team.run(threads, |_| {}));
    println!("{threads} threads, awake: {median:.0} ns a call in the median, {least:.0} at the least");
    let items = vec![0u8; threads];
    let (median, least) = nanoseconds(|| team.each(items.iter(), |_| {}));
    println!("{threads} threads, awake, a list of items: {median:.0} ns, {least:.0}");
    let mut total = Duration::ZERO;
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(3));
        let start = Instant::now();
        team.run(threads, |_| std::thread::sleep(Duration::from_micros(1)));
        total += start.elapsed();
    }
    println!(
        "{threads} threads, asleep: {} us a call, parts of 50 to 60 us among it",
        total.as_micros() / 50
    );
}
