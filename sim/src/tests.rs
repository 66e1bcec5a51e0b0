//! Rounds under seeded faults, and proof that the checks see what is wrong.

mod checks;
mod fairness;
mod faults;
mod stragglers;

use std::collections::BTreeMap;
use std::time::Duration;

use aimass_federation::coordinator::PhaseName;
use aimass_protocol::job::{AggregationMode, RoundMode, RoundSection};

use super::*;

const SEEDS: u64 = 200;

const PHASES: [PhaseName; 5] = [
    PhaseName::Gathering,
    PhaseName::Joining,
    PhaseName::Collecting,
    PhaseName::Unmasking,
    PhaseName::Publishing,
];

/// Whether some job of this seed's scenario has masks.
fn is_secure(seed: u64) -> bool {
    let jobs = Scenario::generate(seed, Mode::of_seed(seed)).jobs;
    jobs.iter().any(|spec| spec.file.aggregation.mode == AggregationMode::Secure)
}

/// Runs a seed's plan; a violation ends the test, with the command that repeats it.
fn survive(seed: u64, mode: Mode) -> Report {
    let scenario = Scenario::generate(seed, mode);
    let plan = FaultPlan::generate(&scenario);
    hold(seed, mode, &scenario, &plan)
}

fn hold(seed: u64, mode: Mode, scenario: &Scenario, plan: &FaultPlan) -> Report {
    let ending = Simulation::new(scenario, plan).run();
    if let Some(violation) = ending.violation {
        let mode = mode.name();
        panic!("seed {seed}: {violation}; repeat with: cargo run --release --bin aimass-sim -- --seed {seed} --mode {mode}");
    }
    ending.report
}

fn survive_many(mode: Mode) {
    let mut kills: BTreeMap<PhaseName, u32> = BTreeMap::new();
    let (mut told, mut agent_kills, mut faults) = (0, 0, BTreeMap::new());
    for seed in 0..SEEDS {
        let report = survive(seed, mode);
        told += report.told_included;
        agent_kills += report.agent_kills;
        for (phase, n) in report.server_kills {
            *kills.entry(phase).or_insert(0) += n;
        }
        for (kind, n) in report.faults {
            *faults.entry(kind).or_insert(0) += n;
        }
    }
    // The faults really happened, and so did the work.
    assert!(told > 1000, "only {told} contributions were reported as included");
    assert!(agent_kills > 100, "only {agent_kills} agents were killed");
    for phase in PHASES {
        assert!(
            kills.get(&phase).is_some_and(|n| *n >= 20),
            "too few server kills in {phase:?}: {kills:?}"
        );
    }
    assert!(faults.len() >= 20, "some kinds of fault never happened: {faults:?}");
}

#[test]
fn should_survive_faults_in_synchronous_rounds() {
    survive_many(Mode::Sync);
}

#[test]
fn should_survive_faults_in_semi_synchronous_rounds() {
    survive_many(Mode::SemiSync);
}

#[test]
fn should_survive_faults_in_asynchronous_rounds() {
    survive_many(Mode::Async);
}

#[test]
fn should_survive_faults_with_jobs_of_all_modes() {
    survive_many(Mode::Mixed);
}

#[test]
fn should_finish_quickly_without_faults() {
    for seed in 0..40 {
        let mode = Mode::of_seed(seed);
        let report = hold(seed, mode, &Scenario::generate(seed, mode), &FaultPlan::none());
        assert!(report.ended_ms < 900_000, "seed {seed}: took until {} ms", report.ended_ms);
    }
}

#[test]
fn should_go_on_after_a_kill_in_each_phase_after_each_effect() {
    for phase in PHASES {
        let mut kills = 0;
        for seed in (0..).filter(|seed| is_secure(*seed)).take(30) {
            let mode = Mode::of_seed(seed);
            let scenario = Scenario::generate(seed, mode);
            let kill = Fault::KillServerIn {
                phase,
                step: seed % 6,
                effect: usize::try_from(seed % 5).expect("small"),
                down_ms: 500 + 100 * seed,
            };
            let report = hold(seed, mode, &scenario, &FaultPlan::of([kill], 600_000));
            kills += report.server_kills.get(&phase).copied().unwrap_or(0);
        }
        assert!(kills >= 25, "{phase:?}: {kills}");
    }
}

#[test]
fn should_go_on_without_half_of_the_agents() {
    let (mut starved, mut jobs) = (0, 0);
    for (seed, percent) in (0..30).zip([10, 30, 50].into_iter().cycle()) {
        let mode = Mode::of_seed(seed);
        let mut scenario = Scenario::generate(seed, mode);
        let n = 2 * scenario.need() + 2;
        scenario.agents = vec![AgentPlan::default(); n];
        let leave = |agent| Fault::Leave {
            agent,
            at_ms: 2_000 + 1_000 * (seed + agent as u64),
        };
        let report = hold(seed, mode, &scenario, &FaultPlan::of((0..n * percent / 100).map(leave), 60_000));
        // Who leaves while a sum is unmasked may leave too few behind who have not spent the model.
        assert_eq!(report.ends.len() + report.starved, scenario.jobs.len(), "seed {seed}");
        starved += report.starved;
        jobs += scenario.jobs.len();
    }
    assert!(3 * starved <= jobs, "{starved} of {jobs} jobs have too few agents left");
}

#[test]
fn should_do_the_same_with_the_same_seed() {
    let trace = |seed| {
        let scenario = Scenario::generate(seed, Mode::of_seed(seed));
        let plan = FaultPlan::generate(&scenario);
        Simulation::new(&scenario, &plan).traced(true).run().trace
    };
    for seed in 0..8 {
        let first = trace(seed);
        assert!(first.len() > 100, "a run worth comparing");
        assert_eq!(first, trace(seed), "seed {seed}");
    }
    assert_ne!(trace(0), trace(4), "the seed matters");
}

/// Rounds of these sizes, each as long as a minute.
fn rounds(mode: RoundMode, rounds: u32, (min, target, max): (u32, u32, u32)) -> RoundSection {
    RoundSection {
        mode,
        rounds,
        min,
        target,
        max,
        max_time: Duration::from_secs(60),
        max_staleness: if mode == RoundMode::Async { 4 } else { 0 },
    }
}
