//! The checks see what they are for, and shrinking finds what matters.

use super::*;

/// The first seed whose plan makes a wrong driver fail, shrunk.
fn caught(sabotage: Sabotage) -> (u64, Shrunk) {
    let run = |scenario: &Scenario, plan: &FaultPlan| Simulation::new(scenario, plan).sabotage(sabotage).run();
    for seed in 0..200 {
        let scenario = Scenario::generate(seed, Mode::Sync);
        let plan = FaultPlan::generate(&scenario);
        let first = run(&scenario, &plan);
        if let Some(shrunk) = shrink(&scenario, &plan, &first, run) {
            let again = run(&shrunk.scenario, &shrunk.plan);
            assert_eq!(again.violation, Some(shrunk.violation.clone()), "a shrunk run repeats");
            return (seed, shrunk);
        }
    }
    panic!("{} was never caught", sabotage.name());
}

#[test]
fn should_catch_a_server_that_adds_twice_without_any_fault() {
    let (seed, shrunk) = caught(Sabotage::AddsTwice);
    assert!(
        matches!(shrunk.violation, Violation::CountedTwice { .. }),
        "seed {seed}: {}",
        shrunk.violation
    );
    assert_eq!(shrunk.plan.faults, [], "seed {seed}: it needs no fault");
}

#[test]
fn should_catch_a_server_that_forgets_what_it_acknowledged() {
    let (seed, shrunk) = caught(Sabotage::ForgetsAdditions);
    assert!(
        matches!(shrunk.violation, Violation::AcceptedLost { .. }),
        "seed {seed}: {}",
        shrunk.violation
    );
    assert_few_with_a_kill(seed, &shrunk);
}

#[test]
fn should_catch_a_server_that_announces_what_it_has_not_stored() {
    let (seed, shrunk) = caught(Sabotage::ForgetsRounds);
    assert_few_with_a_kill(seed, &shrunk);
}

#[test]
fn should_catch_a_server_that_forgets_its_open_rounds() {
    let (seed, shrunk) = caught(Sabotage::ForgetsOpenRounds);
    assert!(
        matches!(shrunk.violation, Violation::PhaseLost { .. }),
        "seed {seed}: {}",
        shrunk.violation
    );
    assert_few_with_a_kill(seed, &shrunk);
}

#[test]
fn should_catch_a_server_that_forgets_whom_it_called_survivors() {
    let (seed, shrunk) = caught(Sabotage::ForgetsSurvivors);
    assert_few_with_a_kill(seed, &shrunk);
}

#[test]
fn should_catch_a_server_that_tells_two_sets_of_survivors_without_any_fault() {
    let (seed, shrunk) = caught(Sabotage::TellsTwoSets);
    assert!(
        matches!(shrunk.violation, Violation::Secret { .. }),
        "seed {seed}: {}",
        shrunk.violation
    );
    assert_eq!(shrunk.plan.faults, [], "seed {seed}: it needs no fault");
}

#[test]
fn should_catch_a_device_that_forgets_what_it_has_spent() {
    let (seed, shrunk) = caught(Sabotage::ForgetsSpent);
    let is_secret = matches!(shrunk.violation, Violation::Secret { .. } | Violation::Device { .. });
    assert!(is_secret, "seed {seed}: {}", shrunk.violation);
}

/// A restart shows what was not durable; little else should be left.
fn assert_few_with_a_kill(seed: u64, shrunk: &Shrunk) {
    let faults = &shrunk.plan.faults;
    assert!(faults.len() <= 8, "seed {seed}: {} faults are left: {faults:?}", faults.len());
    let kills = |fault: &Fault| {
        matches!(
            fault,
            Fault::KillServer { .. } | Fault::KillServerIn { .. } | Fault::ServerClock { .. }
        )
    };
    assert!(faults.iter().any(|(_, fault)| kills(fault)), "seed {seed}: {faults:?}");
}

#[test]
fn should_shrink_to_the_faults_that_matter() {
    let scenario = Scenario::generate(7, Mode::Sync);
    let leave = |at_ms| Fault::Leave { agent: 0, at_ms };
    let plan = FaultPlan::of((0..100).map(leave), 1000);
    let run = |_: &Scenario, plan: &FaultPlan| {
        let places = plan.places();
        let fails = places.contains(&17) && places.contains(&63);
        Ending {
            violation: fails.then_some(Violation::Dead),
            report: Report::default(),
            applied: places,
            trace: Vec::new(),
        }
    };
    let shrunk = shrink(&scenario, &plan, &run(&scenario, &plan), run).expect("it fails");
    assert_eq!(shrunk.plan.places(), [17, 63]);
    assert!(shrunk.runs < 100, "{}", shrunk.runs);
}

#[test]
fn should_call_a_panic_a_violation() {
    struct Panics;
    impl Workload for Panics {
        fn n_weights(&self) -> usize {
            1
        }
        fn train(&mut self, _: &Training<'_>, _: &mut rand_chacha::ChaCha8Rng) -> Trained {
            panic!("no training today")
        }
        fn step(
            &mut self,
            _: &Step<'_>,
            _: &aimass_compression::FixedCodec,
            _: &aimass_compression::Accumulator,
        ) -> Result<Stepped, String> {
            Err("nothing was trained".to_owned())
        }
    }
    let scenario = Scenario::generate(1, Mode::Sync);
    let ending = Simulation::new(&scenario, &FaultPlan::none()).workload(Panics).run();
    let message = "no training today".to_owned();
    assert_eq!(ending.violation, Some(Violation::Panic { message }));
}

#[test]
fn should_keep_the_state_of_a_long_job_small() {
    let round = rounds(RoundMode::Sync, 300, (2, 3, 4));
    let scenario = Scenario {
        seed: 1,
        jobs: vec![job_spec(1, job_file("long", round))],
        agents: vec![AgentPlan::default(); 6],
    };
    let report = hold(1, Mode::Sync, &scenario, &FaultPlan::none());
    assert_eq!(report.rounds.len(), 300);
    assert!(report.largest_state_bytes < 40_000, "{}", report.largest_state_bytes);
}
