//! Each fault does what it says.

use super::*;

/// One plain job of many rounds, and six agents that are alike.
fn scenario(n_rounds: u32) -> Scenario {
    Scenario {
        seed: 5,
        jobs: vec![job_spec(1, job_file("job", rounds(RoundMode::Sync, n_rounds, (2, 3, 4))))],
        agents: vec![AgentPlan::default(); 6],
    }
}

/// Virtual seconds at which a line of the trace has these words.
fn seconds(trace: &[String], words: &str) -> Vec<f64> {
    let lines = trace.iter().filter(|line| line.contains(words));
    lines
        .map(|line| {
            line.split_whitespace()
                .next()
                .and_then(|at| at.parse().ok())
                .expect("a line begins with its time")
        })
        .collect()
}

fn traced(scenario: &Scenario, plan: &FaultPlan) -> (Report, Vec<String>) {
    let ending = Simulation::new(scenario, plan).traced(true).run();
    assert_eq!(ending.violation, None, "{}", ending.trace.join("\n"));
    (ending.report, ending.trace)
}

fn partition(blocks: Blocks, for_ms: u64) -> FaultPlan {
    let fault = Fault::Partition {
        at_ms: 10_000,
        for_ms,
        agents: u64::MAX,
        blocks,
    };
    FaultPlan::of([fault], 600_000)
}

#[test]
fn should_let_nothing_pass_in_a_partition_of_both_directions() {
    for blocks in [Blocks::Both, Blocks::Requests] {
        let (report, trace) = traced(&scenario(30), &partition(blocks, 60_000));
        let during = |at: &&f64| (11.0..70.0).contains(*at);
        let asked = seconds(&trace, " asks: ");
        assert_eq!(asked.iter().filter(during).count(), 0, "{blocks:?}");
        assert!(asked.iter().any(|at| *at > 70.0), "{blocks:?}: they ask when it is over");
        assert_eq!(seconds(&trace, "is cut"), [], "{blocks:?}: connections outlast a minute");
        assert_eq!(report.rounds.len(), 30, "{blocks:?}");
    }
}

#[test]
fn should_hear_requests_whose_replies_do_not_pass() {
    let (report, trace) = traced(&scenario(30), &partition(Blocks::Replies, 60_000));
    let asked = seconds(&trace, " asks: ");
    assert!(asked.iter().any(|at| (11.0..70.0).contains(at)), "{asked:?}");
    assert!(report.unanswered > 0, "who waits for an answer in vain asks again");
    assert_eq!(report.rounds.len(), 30);
}

#[test]
fn should_give_connections_up_in_a_long_partition() {
    for blocks in [Blocks::Both, Blocks::Requests, Blocks::Replies] {
        let (report, trace) = traced(&scenario(30), &partition(blocks, 300_000));
        let cuts = seconds(&trace, "is cut");
        assert!(
            cuts.len() >= 6 && cuts.iter().all(|at| (130.0..131.0).contains(at)),
            "{blocks:?}: {cuts:?}"
        );
        assert_eq!(report.rounds.len(), 30, "{blocks:?}");
    }
}

#[test]
fn should_take_longer_with_slow_disks() {
    let scenario = scenario(10);
    let slow = |agent| Fault::SlowDisk {
        agent,
        at_ms: 0,
        for_ms: 3_600_000,
        factor: 50,
    };
    let last_round = |plan: &FaultPlan| traced(&scenario, plan).0.rounds.last().expect("rounds were made").at_ms;
    let quick = last_round(&FaultPlan::none());
    let server = last_round(&FaultPlan::of([slow(None)], 3_600_000));
    let agents = last_round(&FaultPlan::of((0..6).map(|agent| slow(Some(agent))), 3_600_000));
    // A round waits for the slowest of many additions, and for what is published.
    assert!(server > 2 * quick, "{quick} and {server} ms");
    // Each of them writes a few times a round, a second each.
    assert!(agents > quick + 10_000, "{quick} and {agents} ms");
}

#[test]
fn should_answer_nobody_while_the_server_writes() {
    let slow = Fault::SlowDisk {
        agent: None,
        at_ms: 0,
        for_ms: 600_000,
        factor: 100,
    };
    let (_, trace) = traced(&scenario(10), &FaultPlan::of([slow], 600_000));
    let opened = seconds(&trace, "server OpenRound");
    assert!(!opened.is_empty());
    let asked = seconds(&trace, " asks: ");
    // A write takes 0.1 to 4 s.
    for at in opened.into_iter().filter(|at| *at < 600.0) {
        assert!(!asked.iter().any(|asks| *asks > at && *asks < at + 0.1), "asked just after {at}");
    }
}

#[test]
fn should_heal_when_the_faults_end() {
    let day_ms = 24 * 3_600_000;
    let faults = [
        Fault::KillServer {
            step: 12,
            effect: 1,
            down_ms: day_ms,
        },
        Fault::KillAgent {
            agent: 2,
            step: 5,
            effect: 0,
            down_ms: day_ms,
        },
        Fault::AllGone {
            at_ms: 50_000,
            for_ms: day_ms,
        },
        Fault::Partition {
            at_ms: 1_000,
            for_ms: day_ms,
            agents: 0b11,
            blocks: Blocks::Both,
        },
        Fault::Revoke {
            agent: 0,
            at_ms: 1_000,
            for_ms: Some(day_ms),
        },
    ];
    let (report, _) = traced(&scenario(30), &FaultPlan::of(faults, 60_000));
    assert_eq!(report.faults.len(), 5, "{:?}", report.faults);
    assert_eq!(report.rounds.len(), 30);
    assert!(report.ended_ms < 1_200_000, "{} ms", report.ended_ms);
}
