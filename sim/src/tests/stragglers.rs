//! Sixteen agents, some 2 and 4 times slower: how long each round mode takes to the same accuracy.
//!
//! An easy problem, which one synchronous round solves: what is compared is how long the slowest are waited for. Harder ones are for a bench, where the
//! buffer's size and the server's rate are chosen for the data.

use super::*;

const TARGET: f32 = 0.9;

fn minutes_to_target(seed: u64, round: RoundSection) -> f64 {
    let mut file = job_file("stragglers", round);
    file.train.lr = 0.05;
    file.train.epochs = 2;
    file.update.clip = 4.0;
    file.update.weight_cap = 600;
    if let Some(evaluate) = &mut file.evaluate {
        evaluate.target_accuracy = Some(TARGET);
    }
    let slowness = [1, 1, 2, 4];
    let scenario = Scenario {
        seed,
        jobs: vec![job_spec(1, file)],
        agents: (0..16)
            .map(|n| AgentPlan {
                slowness: slowness[n % 4],
                ..AgentPlan::default()
            })
            .collect(),
    };
    // 300 points twice at 0.2 s: two minutes on a fast device, eight on the slowest.
    let workload = Regression::new(seed, 16, 300, 50, 200);
    let ending = Simulation::new(&scenario, &FaultPlan::none()).workload(workload).run();
    assert_eq!(ending.violation, None, "seed {seed}");
    let reached_ms = ending.report.reached_ms(scenario.jobs[0].id, TARGET);
    reached_ms.unwrap_or_else(|| panic!("seed {seed}: the target was never reached")) as f64 / 60_000.0
}

#[test]
fn should_reach_the_same_accuracy_sooner_when_nobody_waits_for_the_slowest() {
    let hour = Duration::from_secs(3600);
    let of = |mode, target| RoundSection {
        max_time: hour,
        ..rounds(mode, 400, (4, target, 16))
    };
    for seed in 0..3 {
        let sync = minutes_to_target(seed, of(RoundMode::Sync, 16));
        let asynchronous = minutes_to_target(seed, of(RoundMode::Async, 4));
        println!("seed {seed}: synchronous {sync:.1} min, asynchronous {asynchronous:.1} min");
        assert!(asynchronous < sync, "seed {seed}: {asynchronous} against {sync} minutes");
    }
}
