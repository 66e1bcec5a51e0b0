//! A disk that fails, at every call in turn: the agent says so, and once it is started again its work counts, once.

use std::process::{Command, Stdio};

use super::*;

const CALL: &str = "AIMASS_TEST_FAILING_DISK_CALL";

/// Not a test by itself: one agent whose n-th call to the disk fails, in a process of its own.
#[test]
fn agent_whose_disk_fails() {
    let Some(n) = std::env::var(CALL).ok().and_then(|n| n.parse().ok()) else {
        return;
    };
    let device = device(true, Faults::default());
    aimass_net::disk::fail_call(n);
    let first = run_to_end(&device);
    aimass_net::disk::fail_call(0);
    if let Err(error) = &first {
        assert!(error.to_string().contains("no space left"), "it says why: {error}");
        // Whoever looks after the device starts it again. It may have known already that its work was counted.
        if !device.script.seen().included || held(&device).is_some() {
            assert_eq!(run_to_end(&device).expect("the disk is good again"), ExitKind::Ok);
        }
    }
    let seen = device.script.seen();
    assert!(seen.included && held(&device).is_none());
    let different: std::collections::BTreeSet<_> = seen.offered.iter().collect();
    println!("call {n}: ended {}, offered {}", first.is_err(), different.len());
}

#[test]
fn whichever_call_to_the_disk_fails_the_work_counts() {
    let step = if std::env::var_os("AIMASS_TEST_ALL_DISK_CALLS").is_some() {
        1
    } else {
        4
    };
    let calls: Vec<u64> = (1..=200).step_by(step).collect();
    let mut ended = 0;
    for batch in calls.chunks(4) {
        let children: Vec<_> = batch.iter().map(|n| (n, start(*n))).collect();
        for (n, child) in children {
            let output = child.wait_with_output().expect("it ends");
            let said = String::from_utf8_lossy(&output.stdout);
            let why = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "call {n} failed, and then:\n{said}\n{why}");
            ended += usize::from(said.contains("ended true"));
        }
    }
    assert!(ended > 0, "some calls are of those that end the agent");
}

fn start(n: u64) -> std::process::Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args([
            "run::tests::disk::agent_whose_disk_fails",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CALL, n.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts")
}
