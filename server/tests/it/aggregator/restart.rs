//! A server that ends, in order or killed, and comes back.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aimass_protocol::descriptor::MaskSuite;
use aimass_protocol::limits::CHUNK_BYTES;
use aimass_protocol::message::agent::OutcomeReply;
use aimass_protocol::{Digest, ErrorCode, TenantId};
use aimass_server::aggregator::{Config, Ready, run};
use aimass_server::store::{Database, Format, Key, Table};
use serde_json::{Value, json};

use super::deployment::{Deployment, Server, raw, small_model};
use super::device::{Device, refused, send};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_the_middle_of_a_round_loses_no_finished_round() {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let job = deployment.submit(&server, &small_model(), "rounds = 3\nmin = 2").await;
    let mut a = Device::join(&deployment, server.ready.quic_address, 1).await;
    let mut b = Device::join(&deployment, server.ready.quic_address, 2).await;
    let ((first, outcome), _) = tokio::join!(a.round(&[1.0; 15]), b.round(&[1.0; 15]));
    assert!(matches!(outcome, OutcomeReply::Included { round: 1, .. }));
    let before = server.finished(&job, 1).await;

    // One of two updates of the second round is in the sum.
    a.contribution = aimass_protocol::ContributionId::from_bytes([11; 16]);
    b.contribution = aimass_protocol::ContributionId::from_bytes([12; 16]);
    let task = a.task().await;
    b.task().await;
    let (descriptor, _) = tokio::join!(a.cohort(&task), b.cohort(&task));
    a.upload(descriptor.cohort, &a.encode(&descriptor, &[1.0; 15]))
        .await
        .expect("accepted");
    server.stop().await;

    let server = deployment.server().await;
    let view = server.job(&job).await;
    assert_eq!(
        (&view["state"], &view["round"], &view["model"]),
        (&json!("running"), &json!(1), &before["model"])
    );
    assert_eq!(view["history"], before["history"]);
    assert_eq!(
        server.api.ok("GET", "/v1/agents", Value::Null).await["agents"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    a.reconnect(Some(server.ready.quic_address)).await;
    b.reconnect(Some(server.ready.quic_address)).await;

    // Finished rounds are remembered, and the one that was open goes on: what was acknowledged is in its sum.
    let old = a.outcome_of(&first, aimass_protocol::ContributionId::from_bytes([1; 16])).await;
    assert_eq!(old.expect("an outcome"), outcome);
    server.until(&job, "received", 1).await;
    assert_eq!(server.job(&job).await["phase"], "collecting");
    // Its own update again, and another one under the same name.
    let packed = a.encode(&descriptor, &[1.0; 15]);
    a.upload(descriptor.cohort, &packed).await.expect("it is in the sum already");
    assert_eq!(
        refused(a.upload(descriptor.cohort, &a.encode(&descriptor, &[2.0; 15])).await),
        ErrorCode::Duplicate
    );
    b.upload(descriptor.cohort, &b.encode(&descriptor, &[1.0; 15]))
        .await
        .expect("accepted");
    for device in [&a, &b] {
        let outcome = device.outcome(&descriptor).await.expect("an outcome");
        assert!(matches!(outcome, OutcomeReply::Included { round: 2, .. }), "{outcome:?}");
    }
    let view = server.finished(&job, 2).await;
    assert_eq!(view["history"][0]["contributions"], 2);
    server.stop().await;
}

/// What can't be taken up again is given up on the disk as well: the next start would find it once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_round_whose_record_is_damaged_is_dropped_for_good() {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let job = deployment.submit(&server, &small_model(), "rounds = 1\nmin = 1").await;
    let device = Device::join(&deployment, server.ready.quic_address, 1).await;
    let task = device.task().await;
    device.cohort(&task).await;
    server.stop().await;

    let store = deployment.config().data_dir.join("store");
    let open_rounds = || -> (Database, Table<Value>) {
        let format = Format {
            name: "aggregator",
            version: 3,
            reads: 2,
        };
        let raw = Database::open(&store, format).expect("opens");
        let table = raw.table("open_rounds").expect("a table");
        (raw, table)
    };
    let (raw, table) = open_rounds();
    let keys = table.keys(&Key::tenant(&TenantId::default())).expect("read");
    let [key] = &keys[..] else { panic!("{} open rounds", keys.len()) };
    let mut record = table.get(key).expect("read").expect("it is open");
    let nothing = Digest::from_bytes([0; 32]);
    record["secagg"] = json!({
        "cohort": record["terms"]["cohort"], "draw": 1, "suite": MaskSuite::Aes256Ctr, "salt": nothing, "graph_seed": nothing,
        "degree": 2, "threshold": 3, "floor": 3, "members": [],
    });
    table.put(key, &record).expect("written");
    drop((raw, table));

    let server = deployment.server().await;
    let trouble = server.job(&job).await["trouble"].to_string();
    assert!(trouble.contains("could not be taken up again"), "{trouble}");
    server.stop().await;
    let (_raw, table) = open_rounds();
    assert!(table.keys(&Key::tenant(&TenantId::default())).expect("read").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_goes_on_in_the_middle_of_an_upload() {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let model = aimass_onnx::build::mlp(&[784, 300, 10], 7);
    let job = deployment.submit(&server, &model, "rounds = 1\nmin = 1").await;
    let mut device = Device::join(&deployment, server.ready.quic_address, 1).await;
    let dir = server.dir.clone();
    Server::stop(server).await;

    let (process, address) = start(&dir);
    device.reconnect(Some(address)).await;
    let task = device.task().await;
    let descriptor = device.cohort(&task).await;
    let packed = device.encode(&descriptor, &vec![0.001; 784 * 300 + 300 + 300 * 10 + 10]);
    let (_, mut writer, _reader) = device.begin(descriptor.cohort, &packed).await.expect("allowed");
    writer.chunk(packed[..CHUNK_BYTES].to_vec().into()).await.expect("sent");
    let file = dir.join("journal").join(descriptor.cohort.to_hex()).join(device.id().to_hex());
    while !std::fs::metadata(&file).is_ok_and(|meta| meta.len() == CHUNK_BYTES as u64) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(process);

    let server = deployment.server().await;
    assert_eq!(server.job(&job).await["phase"], "collecting");
    device.reconnect(Some(server.ready.quic_address)).await;
    let (next_chunk, writer, reader) = device.begin(descriptor.cohort, &packed).await.expect("the cohort goes on");
    assert_eq!(next_chunk, 1, "the first chunk was journalled");
    send(writer, reader, &packed, next_chunk).await.expect("accepted");
    server.finished(&job, 1).await;
    server.journal_is_empty().await;
    server.stop().await;
}

/// Not a test by itself: the server that [`a_killed_server_knows_what_it_acknowledged`] kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_to_be_killed() {
    let Some(dir) = std::env::var_os("AIMASS_TEST_SERVER_TO_KILL") else {
        return;
    };
    if let Some(n) = std::env::var("AIMASS_TEST_FAILING_DISK_CALL").ok().and_then(|n| n.parse().ok()) {
        aimass_net::disk::fail_call(n);
    }
    let config = Config {
        data_dir: dir.into(),
        listen: ([127, 0, 0, 1], 0).into(),
        ..Config::default()
    };
    run(
        config,
        None,
        |ready: &Ready| println!("ready {}", ready.quic_address),
        std::future::pending(),
    )
    .await
    .expect("runs");
}

/// A server in a process of its own, killed when it is dropped.
pub(super) struct Killed(Child);

impl Killed {
    /// Whether it ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path) -> (Killed, std::net::SocketAddr) {
    start_failing(dir, 0).expect("it is ready")
}

/// The same, in a process whose n-th call to the disk fails; `None` if that was before it could be reached.
pub(super) fn start_failing(dir: &Path, n: u64) -> Option<(Killed, std::net::SocketAddr)> {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args([
            "aggregator::restart::server_to_be_killed",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("AIMASS_TEST_SERVER_TO_KILL", dir)
        .env("AIMASS_TEST_FAILING_DISK_CALL", n.to_string())
        .stdout(Stdio::piped())
        .stderr(if std::env::var_os("AIMASS_TEST_SHOW_SERVER").is_some() {
            Stdio::inherit()
        } else {
            Stdio::null()
        })
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let address = lines.find_map(|line| line.ok()?.rsplit_once("ready ")?.1.parse().ok());
    let process = Killed(child);
    Some((process, address?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_knows_what_it_acknowledged() {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let job = deployment.submit(&server, &small_model(), "rounds = 100\nmin = 1").await;
    let mut device = Device::join(&deployment, server.ready.quic_address, 1).await;
    let dir = server.dir.clone();
    Server::stop(server).await;

    let mut rounds = 0;
    let (mut last_model, mut second) = (None, None);
    for life in 1..=4u8 {
        let (process, address) = start(&dir);
        device.reconnect(Some(address)).await;
        for turn in 0..life {
            device.contribution = aimass_protocol::ContributionId::from_bytes([16 * life + turn; 16]);
            let (descriptor, outcome) = device.round(&[0.25; 15]).await;
            rounds += 1;
            let OutcomeReply::Included { round, model } = outcome else {
                panic!("not included")
            };
            assert_eq!(round, rounds, "every round that was acknowledged counts");
            assert!(
                last_model.is_none_or(|last| descriptor.bases == [last]),
                "and its model is the next one's base"
            );
            last_model = Some(model);
            if round == 2 {
                second = Some((descriptor, device.contribution, outcome));
            }
        }
        // Killed with an update in an open sum.
        device.contribution = aimass_protocol::ContributionId::from_bytes([255 - life; 16]);
        let task = device.task().await;
        let descriptor = device.cohort(&task).await;
        device
            .begin(descriptor.cohort, &device.encode(&descriptor, &[0.25; 15]))
            .await
            .expect("allowed");
        drop(process);
    }
    let server = deployment.server().await;
    let view = server.job(&job).await;
    assert_eq!(
        (view["round"].as_u64(), view["history"].as_array().map(Vec::len)),
        (Some(10), Some(10))
    );
    let (status, model) = raw(&dir, "GET", &format!("/v1/jobs/{job}/model"), b"").await;
    assert_eq!(status, 200);
    let digest = aimass_protocol::Digest::from_bytes(aimass_crypto::hash::sha256(&model));
    assert_eq!(Some(digest), last_model);
    // A device that was away learns what became of its work.
    let (descriptor, contribution, outcome) = second.expect("it was long ago");
    device.reconnect(Some(server.ready.quic_address)).await;
    assert_eq!(device.outcome_of(&descriptor, contribution).await.expect("an answer"), outcome);
    server.stop().await;
}
