//! The driver against a scripted server over real QUIC, on real files.

mod disk;
mod server;
mod teacher;

use std::sync::Arc;

use aimass_crypto::cert::{CERTIFICATE_LIFETIME, Root};
use aimass_crypto::hash::sha256;
use aimass_federation::agent::{Snapshot, Stage};
use aimass_net::enrol::Bundle;
use aimass_net::identity::{Enrolment, Membership};
use aimass_onnx::build::mlp;
use aimass_protocol::bundle::TrustBundle;
use aimass_protocol::manifest::Manifest;
use aimass_protocol::message::agent::Task;
use aimass_protocol::token::Role;
use aimass_protocol::{AgentId, Digest, ErrorCode, TenantId};
use serde_bytes::ByteBuf;

use self::server::{Faults, Script};
use super::*;
use crate::fixture::{JOB_FILE, key, owner_entry, signed_job, task_of};
use crate::platform::{now, now_s, system_rng};
use crate::reports;

struct Device {
    _dir: tempfile::TempDir,
    options: RunOptions,
    script: Arc<Script>,
}

/// An agent that has joined, with data, and a server that has a job for it. Model and update are several chunks long.
fn device(owner_is_trusted: bool, faults: Faults) -> Device {
    device_for(JOB_FILE, None, owner_is_trusted, faults)
}

/// The same for a job whose training would take hours.
fn busy_device(finish_within_ms: Option<u64>, faults: Faults) -> Device {
    device_for(&JOB_FILE.replace("epochs = 1", "epochs = 100000"), finish_within_ms, true, faults)
}

fn device_for(job_file: &str, finish_within_ms: Option<u64>, owner_is_trusted: bool, faults: Faults) -> Device {
    let mut rng = system_rng().expect("randomness");
    let root = Root::create("test root", now_s(), &mut rng);
    let model = mlp(&[2, 60_000, 2], 1);
    let base = Digest::from_bytes(sha256(model.as_bytes()));
    let owner = key(1);
    let mut task: Task = task_of(&owner, signed_job(job_file));
    task.finish_within_ms = finish_within_ms;
    task.base = base;
    task.base_bytes = model.as_bytes().len() as u64;
    let (addr, script) = server::start(&root, task, model.as_bytes().to_vec(), faults);

    let dir = tempfile::tempdir().expect("a temporary folder");
    let state = StateFolder::new(dir.path().join("agent"));
    let mut folder = IdentityFolder::open_or_create(&state.identity_dir(), &mut rng).expect("makes a key");
    let public = folder.key().public();
    let tenant = TenantId::default();
    let certificate = root
        .issue(tenant.as_str(), "agent", &public, now_s(), CERTIFICATE_LIFETIME, &mut rng)
        .expect("a certificate");
    let content = TrustBundle {
        version: 1,
        issued_at: now(),
        roots: vec![ByteBuf::from(root.certificate_der().to_vec())],
        owners: if owner_is_trusted { vec![owner_entry(&owner)] } else { Vec::new() },
    };
    let membership = Membership {
        tenant,
        role: Role::Agent,
        id: AgentId::from_bytes(public.fingerprint()),
        // Nobody answers there.
        authority: "127.0.0.1:9".to_owned(),
        server: addr.to_string(),
    };
    let bundle = Bundle::sign(&content, [root.key()]).expect("a bundle");
    folder
        .save(Enrolment::new(membership, certificate, bundle).expect("fits"))
        .expect("writes");

    let rows = dir.path().join("rows.csv");
    let lines: String = (0..20).map(|i| format!("0.00{},0.00{},{}\n", i % 7, i % 3, i % 2)).collect();
    std::fs::write(&rows, format!("x,y,label\n{lines}")).expect("writes");
    let options = RunOptions {
        state,
        bundle_refresh: Duration::from_secs(600),
        policy: Policy {
            allow_plain: true,
            ..Policy::default()
        },
        data: DataRegistry::parse([rows.display().to_string().as_str()]).expect("a contract"),
        backend: BackendConfig::cpu(),
        device_class: String::new(),
        tags: Vec::new(),
        models: crate::config::ModelsConfig::default(),
        reporter: Reporter::new(false),
        show_progress: false,
        once: true,
        exit_on_revoked: true,
        exit_with_parent: false,
        serve: crate::config::ServeConfig::default(),
    };
    Device {
        _dir: dir,
        options,
        script,
    }
}

/// Runs to the end, or fails the test with what the server saw.
fn run_to_end(device: &Device) -> Result<ExitKind, RunError> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let options = device.options.clone();
    std::thread::spawn(move || sender.send(run(options)));
    receiver
        .recv_timeout(PATIENCE)
        .unwrap_or_else(|e| panic!("{e}: {:?}", device.script.seen()))
}

const PATIENCE: Duration = Duration::from_secs(30);

fn held(device: &Device) -> Option<Stage> {
    let snapshot: Option<Snapshot> = device.options.state.load_session().expect("reads");
    snapshot.and_then(|s| s.held).map(|c| c.stage)
}

fn manifest_of(update: &[u8]) -> Manifest {
    aimass_net::blob::update_manifest(update).expect("short enough")
}

#[test]
fn a_contribution_goes_all_the_way() {
    let device = device(true, Faults::default());
    assert_eq!(run_to_end(&device).expect("runs"), ExitKind::Ok);
    let seen = device.script.seen();
    let (_, manifest) = &seen.uploads[0];
    assert!(manifest.chunks().len() >= 3, "the test needs several chunks");
    assert_eq!(*manifest, manifest_of(&seen.update));
    assert!(held(&device).is_none());
    assert!(device.options.state.contributions().expect("lists").is_empty());
}

#[test]
fn a_broken_download_goes_on_where_it_was() {
    let device = device(
        true,
        Faults {
            cut_fetch_after: Some(2),
            ..Faults::default()
        },
    );
    assert_eq!(run_to_end(&device).expect("runs"), ExitKind::Ok);
    assert_eq!(device.script.seen().fetched_from, [0, 2]);
}

#[test]
fn a_broken_upload_goes_on_where_it_was() {
    let cut_upload_after = Some((1, ErrorCode::Unavailable));
    let device = device(
        true,
        Faults {
            cut_upload_after,
            ..Faults::default()
        },
    );
    assert_eq!(run_to_end(&device).expect("runs"), ExitKind::Ok);
    let seen = device.script.seen();
    assert_eq!(seen.uploads.iter().map(|u| u.0).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(seen.offered.len(), 1, "it is not offered again");
    assert_eq!(seen.uploads[0].1, manifest_of(&seen.update));
}

/// The process ends in the middle of the upload; the next one sends the rest of the very same bytes.
#[test]
fn another_process_finishes_the_upload() {
    let cut_upload_after = Some((1, ErrorCode::Revoked));
    let device = device(
        true,
        Faults {
            cut_upload_after,
            ..Faults::default()
        },
    );
    let error = run_to_end(&device).expect_err("is revoked");
    assert_eq!(error.exit_kind(), ExitKind::Refused, "{error}");
    assert!(matches!(held(&device), Some(Stage::Sent { accepted: false, .. })));

    assert_eq!(run_to_end(&device).expect("runs"), ExitKind::Ok);
    let seen = device.script.seen();
    assert_eq!(seen.uploads.iter().map(|u| u.0).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(seen.uploads[0].1, seen.uploads[1].1);
    assert_eq!(seen.fetched_from, [0], "nothing is trained twice");
    assert_eq!(seen.uploads[0].1, manifest_of(&seen.update));
}

#[test]
fn a_contribution_of_a_lost_cohort_is_offered_again() {
    let device = device(
        true,
        Faults {
            lose_cohort: true,
            ..Faults::default()
        },
    );
    assert_eq!(run_to_end(&device).expect("runs"), ExitKind::Ok);
    let seen = device.script.seen();
    assert_eq!(seen.offered.len(), 2);
    assert_eq!(seen.offered[0], seen.offered[1]);
    assert_eq!(seen.fetched_from, [0], "nothing is trained twice");
}

#[test]
fn a_revoked_agent_stops_when_that_was_asked_for() {
    let device = device(
        true,
        Faults {
            refuse_check_ins: Some(ErrorCode::Revoked),
            ..Faults::default()
        },
    );
    let error = run_to_end(&device).expect_err("is revoked");
    assert!(matches!(error, RunError::Revoked { .. }), "{error}");
    assert_eq!(error.exit_kind(), ExitKind::Refused);
}

/// Runs until the server has seen what `done` looks for.
fn run_until(device: &Device, done: impl Fn(&server::Seen) -> bool) {
    let (options, script) = (device.options.clone(), Arc::clone(&device.script));
    let running = std::thread::spawn(move || run(options));
    let deadline = Instant::now() + PATIENCE;
    while !done(&script.seen()) {
        assert!(Instant::now() < deadline, "the server waits in vain: {:?}", script.seen());
        assert!(!running.is_finished(), "the agent ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The agent goes on until the process ends; nothing more is asked of it.
}

#[test]
fn a_job_that_the_policy_forbids_is_declined() {
    let mut device = device(true, Faults::default());
    device.options.policy.allow_plain = false;
    let job = device.script.task.job;
    run_until(&device, |seen| seen.check_ins.iter().any(|c| c.declined == [job]));
    assert!(device.script.seen().fetched_from.is_empty(), "nothing of it is fetched");
}

#[test]
fn a_server_that_smuggles_plain_mode_in_is_reported_and_gets_nothing() {
    let secure = JOB_FILE.replace("mode = \"plain\"\nfloor = 2", "floor = 3");
    let secure = secure.replace("min = 2\ntarget = 2", "min = 3\ntarget = 3");
    let device = device_for(&secure, None, true, Faults::default());
    let job = device.script.task.job;
    run_until(&device, |seen| seen.check_ins.iter().any(|c| c.declined == [job]));
    let seen = device.script.seen();
    assert_eq!(
        (seen.offered.len(), seen.uploads.len()),
        (1, 0),
        "it has trained, and nothing left the device"
    );
    assert!(device.options.state.contributions().expect("lists").is_empty());
    let reports = reports::load(&device.options.state).expect("reads");
    let [report] = &reports[..] else {
        panic!("one report: {reports:?}")
    };
    assert!(report.job == job && report.step == "ready" && report.server.is_some(), "{report:?}");
    assert!(report.what.contains("plain mode smuggled in"), "{report:?}");
    let status = crate::status::Status::read(&device.options.state).expect("reads");
    assert!(status.to_string().contains("breaks the protocol"), "{status}");
}

#[test]
fn a_job_of_an_unknown_owner_is_declined_after_asking_for_a_newer_bundle() {
    let device = device(false, Faults::default());
    let job = device.script.task.job;
    run_until(&device, |seen| seen.check_ins.iter().any(|c| c.declined == [job]));
    let seen = device.script.seen();
    assert!(seen.bundle_queries >= 1 && seen.fetched_from.is_empty());
}

#[test]
fn a_connected_agent_asks_for_a_newer_bundle_now_and_then() {
    let mut device = device(true, Faults::default());
    // Nothing else happens on the connection: the only job is declined.
    device.options.policy.allow_plain = false;
    device.options.bundle_refresh = Duration::from_millis(100);
    run_until(&device, |seen| seen.bundle_queries >= 4);
}

#[test]
fn bad_data_is_found_before_anything_else() {
    let mut device = device(true, Faults::default());
    device.options.data = DataRegistry::parse(["no/such/file.csv"]).expect("a contract");
    let error = run_to_end(&device).expect_err("there is no such file");
    assert_eq!(error.exit_kind(), ExitKind::BadData);
    assert!(device.script.seen().check_ins.is_empty());
}

#[test]
fn training_stops_in_time_and_what_was_done_counts() {
    let device = busy_device(Some(1500), Faults::default());
    assert_eq!(run_to_end(&device).expect("runs"), ExitKind::Ok);
    let seen = device.script.seen();
    assert_eq!((seen.check_ins.len(), seen.offered.len()), (1, 1));
}

/// The process ends in the middle of training. The next one goes on without asking anybody, and in no more time than there was at first.
#[test]
fn another_process_goes_on_with_the_training() {
    let cut_after_fetch = Some((Duration::from_millis(700), ErrorCode::Revoked));
    let device = busy_device(
        Some(6000),
        Faults {
            cut_after_fetch,
            ..Faults::default()
        },
    );
    let error = run_to_end(&device).expect_err("is revoked");
    assert_eq!(error.exit_kind(), ExitKind::Refused, "{error}");
    let state = &device.options.state;
    let snapshot: Snapshot = state.load_session().expect("reads").expect("is there");
    let limit = snapshot.task.expect("the task is kept").limit.expect("a limit");
    assert!(state.checkpoint_path().exists() && state.load_task().expect("reads").is_some());

    assert_eq!(run_to_end(&device).expect("runs"), ExitKind::Ok);
    assert!(now() >= limit.finish_by);
    let seen = device.script.seen();
    assert_eq!(
        (seen.check_ins.len(), &seen.fetched_from[..], seen.offered.len()),
        (1, &[0][..], 1),
        "it asked for nothing again"
    );
    assert!(!state.checkpoint_path().exists() && state.load_task().expect("reads").is_none());
}

/// What is on disk is verified again: with a signature that is not the owner's the task is left, and the agent asks for work.
#[test]
fn a_task_whose_signature_was_changed_on_disk_is_not_taken_up_again() {
    let cut_after_fetch = Some((Duration::from_millis(700), ErrorCode::Revoked));
    let device = busy_device(
        Some(3000),
        Faults {
            cut_after_fetch,
            ..Faults::default()
        },
    );
    run_to_end(&device).expect_err("is revoked");
    let state = &device.options.state;
    let mut task = state.load_task().expect("reads").expect("is there");
    task.signature = aimass_protocol::SignatureBytes::from_bytes([7; 64]);
    state.save_task(&task).expect("writes");
    assert_eq!(run_to_end(&device).expect("runs"), ExitKind::Ok);
    assert_eq!(device.script.seen().check_ins.len(), 2, "it asks for work");
}

#[test]
fn progress_is_told_and_work_that_nobody_wants_is_dropped() {
    let device = busy_device(
        None,
        Faults {
            unwanted: true,
            ..Faults::default()
        },
    );
    run_until(&device, |seen| seen.check_ins.len() >= 2);
    let seen = device.script.seen();
    assert_eq!(seen.progress.len(), 1, "told once: {:?}", seen.progress);
    assert!(seen.check_ins[1].held.is_empty() && seen.check_ins[1].declined.is_empty());
    assert!(seen.offered.is_empty());
}
