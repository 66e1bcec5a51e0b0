//! Secure aggregation between real processes: the sum is exact, and nothing that is killed makes it another one.

use std::path::Path;
use std::time::Duration;

use aimass_cli::cluster::ClusterSettings;
use aimass_swarm::{Audit, Rig, RigSettings, Settings};

use crate::support::{PROGRAM, aimass, json, said};

const AGENTS: usize = 6;
const WEIGHTS: usize = 20_000;
const SEED: u64 = 5_051;
const LONG: Duration = Duration::from_secs(60);

/// Agents one a host, in rounds that need all of them; the first is done. Of six in a complete graph five unmask a sum.
fn rig() -> (Rig, tempfile::TempDir) {
    println!("seed {SEED}");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let cluster = Rig::services(Path::new(PROGRAM), dir.path(), ClusterSettings::default()).expect("the services start");
    let settings = RigSettings {
        agents: AGENTS,
        swarm: Settings {
            hosts: AGENTS,
            training: (Duration::from_millis(20), Duration::from_millis(60)),
            keep_alive: Duration::from_millis(250),
            backoff_first: Duration::from_millis(100),
            seed: SEED,
            ..Settings::default()
        },
        ..RigSettings::default()
    };
    let rig = Rig::in_rounds(cluster, settings, WEIGHTS, LONG).expect("the first round");
    (rig, dir)
}

fn check(mut rig: Rig) -> Audit {
    rig.stop_job().expect("the job stops");
    let audit = rig.audit(LONG).expect("models of whole counts");
    assert!(audit.is_clean(), "{audit:?}");
    assert_eq!(audit.counted, AGENTS as u64 * u64::from(audit.rounds), "{audit:?}");
    rig.stop();
    audit
}

#[test]
fn a_plain_and_a_secure_run_of_one_job_make_the_same_bytes() {
    let dir = tempfile::tempdir().expect("a folder");
    let run = |out: &str, more: &[&str]| {
        let fixed = ["--json", "demo", "--agents", "4", "--rounds", "2", "--seed", "9", "--out", out];
        let output = aimass(dir.path(), &[&fixed[..], more].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let summary = text.lines().last().expect("a summary");
        serde_json::from_str::<serde_json::Value>(summary).expect("JSON")
    };
    let secure = run("secure", &[]);
    let plain = run("plain", &["--plain"]);
    assert_eq!(
        (secure["aggregation"].as_str(), plain["aggregation"].as_str()),
        (Some("secure"), Some("plain"))
    );
    assert_eq!(secure["model_sha256"], plain["model_sha256"]);
    for (run, says) in [("secure", false), ("plain", true)] {
        for log in ["server.log", "agent-1.log"] {
            let path = dir.path().join(run).join("logs").join(log);
            let text = std::fs::read_to_string(&path).expect("a log");
            assert_eq!(text.to_lowercase().contains("plain"), says, "{}: {text}", path.display());
        }
    }
}

#[test]
fn a_killed_aggregator_unmasks_each_sum_once_whatever_step_it_was_at() {
    const PHASES: [&str; 5] = ["gathering", "joining", "collecting", "unmasking", "publishing"];
    let (mut rig, _dir) = rig();
    for phase in PHASES {
        let Ok(round) = rig.wait_phase(phase, 2, LONG) else {
            panic!("{phase} is not seen");
        };
        rig.cluster.kill_and_restart_server().expect("it comes up again");
        rig.wait_round(round + 2, LONG).expect("the rounds go on");
    }
    check(rig);
}

#[test]
fn an_agent_that_is_killed_at_any_time_costs_no_round() {
    let (mut rig, _dir) = rig();
    for (victim, pause_ms) in [5, 40, 80, 120, 160, 200].into_iter().enumerate() {
        let round = rig.job().expect("a job")["round"].as_u64().expect("a number");
        std::thread::sleep(Duration::from_millis(pause_ms));
        rig.swarm.kill(victim).expect("there is such a host");
        rig.swarm.revive(victim).expect("it starts again");
        rig.wait_round(round + 2, LONG).expect("the rounds go on");
    }
    check(rig);
}

/// Kills half of the agents whenever a round is in `phase`, until the log tells of a cohort that was given up with so many survivors.
fn break_up(rig: &mut Rig, dir: &Path, phase: &str, survivors: usize) {
    const TRIES: u32 = 40;
    let told = format!("{survivors} of {AGENTS}, ");
    for _ in 0..TRIES {
        let round = rig.wait_phase(phase, 2, LONG).expect("the phase is seen");
        for host in 0..AGENTS / 2 {
            rig.swarm.kill(host).expect("there is such a host");
        }
        for host in 0..AGENTS / 2 {
            rig.swarm.revive(host).expect("it starts again");
        }
        let is_told = || {
            json(&aimass(dir, &["--json", "log", "export", "--server-dir", "server"]));
            let certificate = "server/identity/certificate.der";
            let list = said(&aimass(
                dir,
                &["log", "verify", "log.jsonl", "--certificate", certificate, "--list"],
            ));
            list.lines().any(|line| line.contains("given up") && line.contains(&told))
        };
        rig.wait_until("the round goes on or is given up", LONG, |rig| {
            Ok(rig.job()?["round"].as_u64() > Some(round) || is_told())
        })
        .expect("one of them");
        if is_told() {
            return;
        }
    }
    panic!("no cohort was given up in {TRIES} tries while {phase}");
}

#[test]
fn a_cohort_that_is_broken_up_is_given_up_and_logged() {
    let (mut rig, dir) = rig();
    // Nothing of it was on the disk yet, but its members had drawn. Others are a cohort then, with those who came back.
    break_up(&mut rig, dir.path(), "joining", 0);
    let round = rig.job().expect("a job")["round"].as_u64().expect("a number");
    rig.wait_round(round + 2, LONG).expect("the rounds go on");
    // Its survivors were settled: that is told whatever becomes of the sum.
    break_up(&mut rig, dir.path(), "unmasking", AGENTS);
    check(rig);
}

#[test]
fn the_theory_is_at_hand() {
    let dir = tempfile::tempdir().expect("a folder");
    let args = [
        "--json",
        "secagg",
        "params",
        "--clients",
        "256",
        "--adversarial",
        "0.05",
        "--dropout",
        "0.3",
        "--model",
    ];
    for (model, degree, threshold) in [("semi-honest", 42, 13), ("semi-malicious", 134, 74)] {
        let shown = json(&aimass(dir.path(), &[&args[..], &[model]].concat()));
        assert_eq!(
            (shown["degree"].as_u64(), shown["threshold"].as_u64()),
            (Some(degree), Some(threshold))
        );
    }
}
