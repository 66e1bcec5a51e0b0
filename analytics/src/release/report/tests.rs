use aimass_compression::Accumulator;
use proptest::prelude::*;

use super::*;
use crate::release::shape::tests::example;
use crate::release::{Failure, Measured};

fn measured(variant: usize) -> Measured {
    Measured {
        variant: Some(variant),
        failure: None,
        rows: 100,
        correct: 95,
        compared: 100,
        champion_correct: 95,
        latencies_ns: vec![1_000_000; 20],
        memory_bytes: Some(10 << 20),
    }
}

/// The report of a round in which these agents took part.
fn report(release: &ReleaseSection, round: u32, agents: &[Measured]) -> Result<ReleaseReport, ReportError> {
    let shape = ReleaseShape::of(release);
    let codec = shape.codec(agents.len() as u32).expect("a plan");
    let mut sum = Accumulator::new(codec.plan());
    for agent in agents {
        let packed = shape.encode(&codec, &agent.values(shape)).expect("fits");
        sum.add(&packed).expect("adds");
    }
    ReleaseReport::of_sum(release, AggregationMode::Secure, round, &sum)
}

fn rules_of(report: &ReleaseReport) -> Vec<&str> {
    report.broken.iter().map(|broken| &broken.rule[..]).collect()
}

#[test]
fn should_say_what_all_agents_measured_together() {
    let release = example();
    let agents = [
        measured(0),
        Measured {
            correct: 85,
            latencies_ns: vec![3_000_000; 2],
            memory_bytes: None,
            ..measured(0)
        },
        measured(1),
        Measured::failed(1, Failure::Operator),
        Measured::unfit(),
    ];
    let report = report(&release, 1, &agents).expect("a report");
    assert_eq!((report.agents, report.unfit, &report.stage[..]), (5, 1, "5"));
    let [full, int8] = &report.variants[..] else {
        panic!("two variants")
    };
    assert_eq!((full.devices, full.failed(), full.rows, full.correct), (2, 0, 200, 180));
    assert_eq!((full.accuracy, full.champion_accuracy), (Some(0.9), Some(0.95)));
    assert_eq!(full.latency.iter().sum::<u64>(), 22);
    let (p50, p95) = (full.latency_p50_ms.expect("runs"), full.latency_p95_ms.expect("runs"));
    assert!((1.0..1.19).contains(&p50) && (3.0..3.57).contains(&p95), "{p50} {p95}");
    let most = full.memory_max_bytes.expect("one says so");
    assert!((10 << 20..12 << 20).contains(&most), "{most}");
    assert_eq!((int8.devices, int8.failed()), (2, 1));
    assert_eq!(int8.failures.get("operator"), Some(&1));
    assert_eq!(report.decision, Decision::RolledBack);
    assert_eq!(rules_of(&report), ["max_accuracy_drop", "max_failures"]);
    assert_eq!(ReleaseReport::parse(&report.to_bytes()).expect("reads"), report);
}

#[test]
fn should_go_on_stage_by_stage_while_all_rules_hold() {
    let mut release = example();
    let agents = [measured(0), measured(0), measured(1)];
    let decided = |release: &ReleaseSection, round| report(release, round, &agents).expect("a report").decision;
    assert_eq!(
        [1, 2, 3].map(|round| decided(&release, round)),
        [Decision::NextStage, Decision::NextStage, Decision::Promoted]
    );
    release.promotes = false;
    assert_eq!(decided(&release, 3), Decision::Measured);
}

#[test]
fn should_name_each_rule_that_does_not_hold() {
    let release = example();
    let with = |change: fn(&mut Measured)| {
        let agents = [0, 1, 1].map(|variant| {
            let mut measured = measured(variant);
            if variant == 0 {
                change(&mut measured);
            }
            measured
        });
        let report = report(&release, 3, &agents).expect("a report");
        let rules: Vec<String> = rules_of(&report).into_iter().map(str::to_owned).collect();
        assert_eq!(report.decision == Decision::RolledBack, !rules.is_empty());
        assert!(
            report
                .broken
                .iter()
                .all(|broken| broken.variant.as_deref() == Some("full") || broken.rule == "min_canaries")
        );
        rules
    };
    assert_eq!(with(|_| ()), [""; 0]);
    assert_eq!(with(|m| (m.correct, m.champion_correct) = (89, 89)), ["min_accuracy"]);
    assert_eq!(
        with(|m| (m.correct, m.champion_correct) = (90, 90)),
        [""; 0],
        "0.9 is enough for 0.9"
    );
    assert_eq!(with(|m| m.champion_correct = 97), ["max_accuracy_drop"]);
    assert_eq!(with(|m| m.compared = 0), ["max_accuracy_drop"], "nothing to compare it with");
    assert_eq!(with(|m| m.latencies_ns = vec![80_000_000; 4]), ["max_latency_ms"]);
    assert_eq!(with(|m| m.latencies_ns.clear()), ["max_latency_ms"]);
    assert_eq!(
        with(|m| m.latencies_ns = [vec![1_000; 60], vec![80_000_000; 3]].concat()),
        [""; 0],
        "5 of 100 may take longer"
    );
    assert_eq!(with(|m| m.memory_bytes = Some(300 << 20)), ["max_memory_mib"]);
    assert_eq!(with(|m| m.memory_bytes = None), ["max_memory_mib"], "nobody knows");
    assert_eq!(with(|m| *m = Measured::failed(0, Failure::Hash)), ["min_canaries", "max_failures"]);
    assert_eq!(with(|m| *m = Measured::unfit()), ["min_canaries"]);
}

#[test]
fn should_let_as_many_fail_as_the_gate_permits() {
    let mut release = example();
    release.gate.max_failures = 0.25;
    let agents = |failing: usize| {
        let good = std::iter::repeat_n(measured(1), 8 - failing);
        let failed = std::iter::repeat_n(Measured::failed(1, Failure::SelfTest), failing);
        good.chain(failed).collect::<Vec<_>>()
    };
    assert_eq!(report(&release, 1, &agents(2)).expect("a report").decision, Decision::NextStage);
    let over = report(&release, 1, &agents(3)).expect("a report");
    assert_eq!(rules_of(&over), ["max_failures"]);
    assert_eq!(
        over.broken[0].to_string(),
        "variant int8: max_failures is 0.25, and 0.375000 was measured"
    );
}

#[test]
fn should_refuse_sums_that_no_agents_make() {
    let release = example();
    let shape = ReleaseShape::of(&release);
    let codec = shape.codec(2).expect("a plan");
    let sum_of = |values: &[u64]| {
        let mut sum = Accumulator::new(codec.plan());
        sum.add(&shape.encode(&codec, values).expect("fits")).expect("adds");
        ReleaseReport::of_sum(&release, AggregationMode::Plain, 1, &sum)
    };
    let good = measured(0).values(shape);
    sum_of(&good).expect("one agent");
    // Slots: unfit 1, devices 2, failures 14, rows 2, correct 2, compared 2, champion 2, latency 160, memory 160.
    for (at, value, what) in [
        (0, 1, "two answers of one agent"),
        (1, 0, "no device"),
        (2, 1, "two variants of one agent"),
        (3, 1, "it failed and was measured"),
        (17, 94, "more right than there are"),
        (21, 101, "more compared than there are"),
        (23, 101, "the champion was more often right than asked"),
        (18, 1, "rows of a variant that nobody has"),
    ] {
        let mut values = good.clone();
        values[at] = value;
        assert!(matches!(sum_of(&values), Err(ReportError::Contradiction { .. })), "{what}");
    }
}

#[test]
fn should_start_from_a_report_that_follows_from_the_file() {
    let release = example();
    let empty = ReleaseReport::empty(&release, AggregationMode::Secure);
    assert_eq!((empty.round, empty.agents, empty.decision), (0, 0, Decision::Started));
    assert_eq!(empty.to_bytes(), ReleaseReport::empty(&release, AggregationMode::Secure).to_bytes());
    assert_ne!(empty.to_bytes(), ReleaseReport::empty(&release, AggregationMode::Plain).to_bytes());
    assert_eq!(ReleaseReport::parse(&empty.to_bytes()).expect("reads"), empty);
    for wrong in ["", "{}", "[]", "null"] {
        ReleaseReport::parse(wrong.as_bytes()).expect_err(wrong);
    }
    let other = String::from_utf8(empty.to_bytes())
        .expect("text")
        .replace("aimass-release/1", "aimass-release/2");
    ReleaseReport::parse(other.as_bytes()).expect_err("another format");
}

proptest! {
    /// The gate goes by the sum alone: whoever comes first, and whatever they measured, it is one decision, and it says why.
    #[test]
    fn should_decide_the_same_in_any_order(
        mut agents in prop::collection::vec((0_usize..3, any::<bool>(), 0_u64..200, 0_u64..200, 0_u64..100_000_000), 1..12),
        round in 1_u32..4,
    ) {
        let release = example();
        let of = |agents: &[(usize, bool, u64, u64, u64)]| {
            let agents: Vec<_> = agents.iter().map(|&(variant, fails, rows, correct, ns)| Measured {
                variant: Some(variant),
                failure: fails.then_some(Failure::Load),
                rows,
                correct,
                compared: rows,
                champion_correct: rows,
                latencies_ns: vec![ns; 3],
                memory_bytes: Some(ns),
            }).collect();
            report(&release, round, &agents)
        };
        let first = of(&agents).expect("honest agents contradict nothing");
        agents.reverse();
        prop_assert_eq!(&of(&agents).expect("the same"), &first);
        prop_assert_eq!(first.decision == Decision::RolledBack, !first.broken.is_empty());
    }
}
