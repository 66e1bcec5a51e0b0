//! The checks see what they are for, and shrinking finds what matters.

use super::*;

/// Of the first `n` seeds whose plans make a wrong driver fail in this way, shrunk, the one with the fewest faults: what is left depends on luck where a
/// kill has to come at one moment.
fn caught(sabotage: Sabotage, n: usize, is: impl Fn(&Violation) -> bool) -> (u64, Shrunk) {
    let run = |scenario: &Scenario, plan: &FaultPlan| Simulation::new(scenario, plan).sabotage(sabotage).run();
    let shrunk = (0..200).filter_map(|seed| {
        let scenario = Scenario::generate(seed, Mode::Sync);
        let plan = FaultPlan::generate(&scenario);
        let first = run(&scenario, &plan);
        first.violation.as_ref().filter(|violation| is(violation))?;
        let shrunk = shrink(&scenario, &plan, &first, run)?;
        let again = run(&shrunk.scenario, &shrunk.plan);
        assert_eq!(again.violation, Some(shrunk.violation.clone()), "seed {seed}: a shrunk run repeats");
        Some((seed, shrunk))
    });
    let fewest = shrunk.take(n).min_by_key(|(_, shrunk)| shrunk.plan.faults.len());
    fewest.unwrap_or_else(|| panic!("{} was never caught", sabotage.name()))
}

#[test]
fn should_catch_a_server_that_adds_twice_without_any_fault() {
    let (seed, shrunk) = caught(Sabotage::AddsTwice, 1, |v| matches!(v, Violation::CountedTwice { .. }));
    assert_eq!(shrunk.plan.faults, [], "seed {seed}: it needs no fault");
}

#[test]
fn should_catch_a_server_that_forgets_what_it_acknowledged() {
    let (seed, shrunk) = caught(Sabotage::ForgetsAdditions, 1, |v| matches!(v, Violation::AcceptedLost { .. }));
    assert_few_with_a_kill(seed, &shrunk);
}

#[test]
fn should_catch_a_server_that_announces_what_it_has_not_stored() {
    let (seed, shrunk) = caught(Sabotage::ForgetsRounds, 1, |_| true);
    assert_few_with_a_kill(seed, &shrunk);
}

#[test]
fn should_catch_a_server_that_forgets_its_open_rounds() {
    let (seed, shrunk) = caught(Sabotage::ForgetsOpenRounds, 1, |v| matches!(v, Violation::PhaseLost { .. }));
    assert_few_with_a_kill(seed, &shrunk);
}

#[test]
fn should_catch_a_server_that_forgets_whom_it_called_survivors() {
    let (seed, shrunk) = caught(Sabotage::ForgetsSurvivors, 3, |_| true);
    assert_few_with_a_kill(seed, &shrunk);
}

#[test]
fn should_catch_a_server_that_tells_two_sets_of_survivors_without_any_fault() {
    let (seed, shrunk) = caught(Sabotage::TellsTwoSets, 1, |v| matches!(v, Violation::Secret { .. }));
    assert_eq!(shrunk.plan.faults, [], "seed {seed}: it needs no fault");
}

#[test]
fn should_catch_a_device_that_forgets_what_it_has_spent() {
    caught(Sabotage::ForgetsSpent, 1, |v| {
        matches!(v, Violation::Secret { .. } | Violation::Device { .. })
    });
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
