//! A disk that fails, at every call in turn: nothing is lost, nothing counts twice, and the job is done in the end.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use aimass_net::NetError;
use aimass_onnx::Model;
use aimass_protocol::ContributionId;
use aimass_protocol::message::agent::{
    AgentRequest, Capabilities, CheckIn, CheckInReply, Held, OutcomeQuery, OutcomeReply, Ready, ReadyReply,
};
use serde_json::Value;

use super::deployment::{Deployment, Server, raw, small_model};
use super::device::Device;
use super::restart::start_failing;

const ROUNDS: u32 = 2;
const DEVICES: u8 = 2;
/// How long the devices of one server may take; they need a second where nothing fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The calls that fail: each fourth of 1 to 200, or what `AIMASS_TEST_DISK_CALLS` says: "all", or one of them.
fn calls() -> Vec<u64> {
    let wish = std::env::var("AIMASS_TEST_DISK_CALLS").unwrap_or_default();
    match wish.parse() {
        Ok(n) => vec![n],
        Err(_) => (1..=200).step_by(if wish == "all" { 1 } else { 4 }).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_call_to_the_disk_fails_each_contribution_counts_once() {
    let calls = calls();
    let (mut failed_at_start, mut ran) = (0, 0);
    // A few at a time: most of it is waiting.
    for batch in calls.chunks(8) {
        let runs = batch.iter().map(|n| tokio::spawn(run(*n)));
        for (n, run) in batch.iter().zip(runs.collect::<Vec<_>>()) {
            match run.await.unwrap_or_else(|e| panic!("call {n} failed, and then: {e}")) {
                true => ran += 1,
                false => failed_at_start += 1,
            }
        }
    }
    println!("{failed_at_start} servers did not start, {ran} ran");
    assert!(
        calls.len() < 50 || failed_at_start > 0 && ran > 2 * failed_at_start,
        "{failed_at_start} servers did not start, {ran} ran"
    );
}

/// A job on a server whose n-th call to the disk fails. Says whether the server came as far as to be reached.
async fn run(n: u64) -> bool {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let job = deployment
        .submit(
            &server,
            &small_model(),
            &format!("rounds = {ROUNDS}\nmin = {DEVICES}\nmax_time = \"20s\""),
        )
        .await;
    let mut devices = Vec::new();
    for seed in 1..=DEVICES {
        devices.push(Device::join(&deployment, server.ready.quic_address, seed).await);
    }
    let dir = server.dir.clone();
    Server::stop(server).await;

    let started = start_failing(&dir, n);
    let could_start = started.is_some();
    // Whoever operates it starts it again.
    let (mut process, address) = started
        .or_else(|| start_failing(&dir, 0))
        .expect("it starts when the disk is good again");
    let work = devices
        .into_iter()
        .zip(0..)
        .map(|(device, index)| tokio::spawn(all_rounds(device, index, address)));
    for task in work.collect::<Vec<_>>() {
        let done = tokio::time::timeout(PATIENCE, task).await;
        done.unwrap_or_else(|_| panic!("the round is stuck")).expect("no panic");
    }
    assert!(!process.has_ended(), "a server that runs does not end over a failing disk");
    check(&dir, &job).await;
    could_start
}

/// Does what a device does for all rounds: each contribution is offered until it is known to be included.
async fn all_rounds(mut device: Device, index: usize, address: SocketAddr) {
    device.reconnect(Some(address)).await;
    for round in 1..=ROUNDS {
        device.contribution = ContributionId::from_bytes([u8::try_from(round).expect("few") * 16 + u8::try_from(index).expect("few"); 16]);
        let mut held = None;
        loop {
            match attempt(&device, index, &mut held).await {
                Ok(Some(included)) => {
                    assert_eq!(included, round, "one contribution a round");
                    break;
                }
                Ok(None) => {}
                Err(error) => {
                    if let NetError::Refused(refusal) = &error {
                        assert!(!refusal.text.is_empty(), "a refusal says why");
                    }
                    device.reconnect(None).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One try to get the device's contribution into a round: which one it went into.
async fn attempt(device: &Device, index: usize, held: &mut Option<Held>) -> Result<Option<u32>, NetError> {
    let CheckInReply::Task(task) = device.ask(&AgentRequest::CheckIn(check_in(held.clone()))).await?.0 else {
        return Ok(None);
    };
    *held = Some(Held {
        job: task.job,
        base: task.base,
    });
    let ready = Ready {
        job: task.job,
        base: task.base,
        contribution: device.contribution,
    };
    let ReadyReply::Cohort(signed) = device.ask(&AgentRequest::Ready(ready)).await?.0 else {
        panic!("its base is the current one, so it is not superseded")
    };
    let descriptor = aimass_protocol::codec::decode(&signed.descriptor).expect("a descriptor");
    let mut delta = [0.0; 15];
    delta[index] = 1.0;
    let packed = device.encode(&descriptor, &delta);
    let query = OutcomeQuery {
        job: descriptor.job,
        cohort: descriptor.cohort,
        contribution: device.contribution,
    };
    loop {
        match device.upload(descriptor.cohort, &packed).await {
            Ok(()) => break,
            Err(NetError::Refused(refusal)) if refusal.code.is_retryable() => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(error),
        }
    }
    match device.ask(&AgentRequest::Outcome(query)).await?.0 {
        OutcomeReply::Included { round, .. } => Ok(Some(round)),
        OutcomeReply::NotIncluded => Ok(None),
    }
}

fn check_in(held: Option<Held>) -> CheckIn {
    CheckIn {
        capabilities: Capabilities {
            agent_version: "0.1.0".to_owned(),
            ..Capabilities::default()
        },
        contracts: vec!["digits".to_owned()],
        declined: Vec::new(),
        held: held.into_iter().collect(),
        spent: Vec::new(),
        log_size: 0,
    }
}

/// Every round holds each device's unit vector once.
async fn check(dir: &Path, job: &str) {
    let (_, view) = raw(dir, "GET", &format!("/v1/jobs/{job}"), b"").await;
    let view: Value = serde_json::from_slice(&view).expect("JSON");
    assert_eq!(view["round"], ROUNDS, "{view}");
    let (_, model) = raw(dir, "GET", &format!("/v1/jobs/{job}/model"), b"").await;
    let (before, after) = (weights(small_model().as_bytes()), weights(&model));
    for (i, (before, after)) in before.iter().zip(&after).enumerate() {
        let expected = if i < usize::from(DEVICES) {
            f64::from(ROUNDS) / f64::from(DEVICES)
        } else {
            0.0
        };
        let found = f64::from(after - before);
        assert!((found - expected).abs() < 1e-4, "weight {i}: {found}, not {expected}");
    }
}

fn weights(model: &[u8]) -> Vec<f32> {
    let model = Model::from_bytes(model).expect("a model");
    let layout = model.layout(&aimass_onnx::TrainableRules::default()).expect("a layout");
    model.weights(&layout).expect("weights")
}
