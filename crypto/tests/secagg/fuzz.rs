//! What the fuzz targets of `fuzz/` run, without a fuzzer: over all committed seeds, over changes of them, and over random events.
//!
//! `AIMASS_FUZZ_CASES` (how many sequences of either kind) and `AIMASS_FUZZ_SEED` make it longer or other.

use std::path::Path;

use aimass_crypto::secagg::fuzz;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

#[expect(clippy::disallowed_methods, reason = "a test reads the committed seeds")]
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(name);
    let files = std::fs::read_dir(folder).expect("the seeds are there");
    let mut seeds: Vec<Vec<u8>> = files
        .map(|file| std::fs::read(file.expect("a file").path()).expect("a readable file"))
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 4, "{} seeds", seeds.len());
    seeds
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the test says how long")]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Changes a seed event by event: another change, other numbers, an event twice, left out, or exchanged with another.
fn changed(rng: &mut ChaCha20Rng, seed: &[u8]) -> Vec<u8> {
    let (cohort, rest) = seed.split_first().expect("a seed is not empty");
    let mut events: Vec<[u8; 4]> = rest.as_chunks().0.to_vec();
    for _ in 0..1 + rng.next_u32() % 4 {
        let place = rng.next_u32() as usize % events.len().max(1);
        let other = rng.next_u32() as usize % events.len().max(1);
        let Some(event) = events.get_mut(place) else { break };
        match rng.next_u32() % 6 {
            0 | 1 => event[1] = rng.next_u32() as u8,
            2 => (event[2], event[3]) = (rng.next_u32() as u8, rng.next_u32() as u8),
            3 => drop(events.remove(place)),
            4 => events.insert(other, events[place]),
            _ => events.swap(place, other),
        }
    }
    std::iter::once(*cohort).chain(events.into_iter().flatten()).collect()
}

fn all(name: &str, target: fn(&[u8]), cases: u64) {
    let seeds = seeds(name);
    seeds.iter().for_each(|seed| target(seed));
    let first = number("AIMASS_FUZZ_SEED", 1);
    let cases = number("AIMASS_FUZZ_CASES", cases);
    for case in 0..cases {
        let mut rng = ChaCha20Rng::seed_from_u64(first.wrapping_add(case));
        let seed = &seeds[rng.next_u32() as usize % seeds.len()];
        let bytes = changed(&mut rng, seed);
        let outcome = std::panic::catch_unwind(|| target(&bytes));
        assert!(
            outcome.is_ok(),
            "{name}: AIMASS_FUZZ_SEED={} breaks it: {}",
            first.wrapping_add(case),
            hex::encode(&bytes)
        );
    }
}

#[test]
fn an_agent_keeps_its_promises_whatever_it_is_sent() {
    all("secagg_client", fuzz::client, 400);
}

#[test]
fn a_server_is_not_harmed_whatever_agents_do() {
    all("secagg_server", fuzz::server, 150);
}
