//! Coordinator and sessions together, over a network and processes that fail, in virtual time.
//!
//! The oracle: each contribution is its own unit vector, so that a 2 in a published sum proves that something was counted twice and a 0 that something
//! was lost that the server claims to hold.

mod device;
mod faults;
mod server;
mod world;

use crate::coordinator::PhaseName;
use crate::fixtures::at_s;

use self::faults::Faults;
use self::world::World;

const SEEDS: u64 = 300;

fn run(seed: u64, faults: Faults) -> World {
    // A failing assertion below is then preceded by the seed, even from deep inside.
    let shown = PrintOnPanic(seed);
    let mut world = World::new(seed, faults);
    world.run(at_s(12 * 3600));
    world.assert_all_finished();
    drop(shown);
    world
}

struct PrintOnPanic(u64);

impl Drop for PrintOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("simulation failed with seed {}", self.0);
        }
    }
}

#[test]
fn should_finish_all_jobs_and_count_each_contribution_once_whatever_fails() {
    let (mut told, mut stopped) = (0, 0);
    let mut kills = std::collections::BTreeMap::new();
    for seed in 0..SEEDS {
        let world = run(seed, Faults::heavy());
        stopped += world.stopped();
        told += world.included_told();
        for (phase, n) in world.server_kills() {
            *kills.entry(format!("{phase:?}")).or_insert(0) += n;
        }
    }
    // The faults really happened, and so did the work.
    assert!(told > 10 * SEEDS, "only {told} contributions were reported as included");
    assert!(stopped > 10, "only {stopped} jobs were stopped");
    for phase in ["Gathering", "Collecting", "Publishing"] {
        assert!(
            kills.get(phase).is_some_and(|n| *n >= 5),
            "too few server kills in {phase}: {kills:?}"
        );
    }
}

#[test]
fn should_finish_quickly_without_faults() {
    for seed in 0..20 {
        let world = run(seed, Faults::none());
        assert!(world.now() < at_s(600), "seed {seed}: took until {}", world.now());
        assert_eq!(world.refusals(), 0, "seed {seed}: nothing is refused when nothing fails");
    }
}

#[test]
fn should_survive_a_killed_server_in_each_phase() {
    for phase in [PhaseName::Gathering, PhaseName::Collecting, PhaseName::Publishing] {
        for seed in 0..20 {
            let world = run(
                seed,
                Faults {
                    kill_server_in: Some(phase),
                    ..Faults::none()
                },
            );
            assert_eq!(world.server_kills().get(&phase), Some(&1), "seed {seed}");
        }
    }
}

#[test]
fn should_survive_a_server_killed_between_storing_a_round_and_publishing_it() {
    for seed in 0..20 {
        let world = run(
            seed,
            Faults {
                kill_server_after_store: true,
                ..Faults::none()
            },
        );
        assert!(world.kills_after_store() > 0, "seed {seed}");
    }
}

#[test]
fn should_do_the_same_with_the_same_seed() {
    let trace = |seed| {
        let mut world = World::new(seed, Faults::heavy());
        world.record();
        world.run(at_s(12 * 3600));
        world.into_trace()
    };
    for seed in 0..5 {
        let first = trace(seed);
        assert!(first.len() > 100, "a run worth comparing");
        assert_eq!(first, trace(seed), "seed {seed}");
    }
    assert_ne!(trace(0), trace(1), "the seed matters");
}
