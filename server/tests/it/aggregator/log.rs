//! The log of models over the wire and over the operator's API, and after restarts.

use aimass_crypto::log::{Checkpoint, Hash, Tree, leaf_hash, verify_consistency, verify_inclusion};
use aimass_crypto::sign::PublicKey;
use aimass_federation::agent::log::{KnownLog, LogError, verify_base};
use aimass_protocol::log::{LogEntry, LogEvent, SurvivorOpening};
use aimass_protocol::message::agent::{CheckInReply, OutcomeReply, Task};
use aimass_protocol::{ContributionId, Digest, TenantId, codec};
use aimass_server::store::{Batch, Database, Format, Key, LogRecord, Table};
use serde_json::{Value, json};

use super::deployment::{Deployment, Server, small_model};
use super::device::Device;

/// What an agent makes of the task's proof.
fn verified(device: &Device, task: &Task, known: &KnownLog) -> Result<(KnownLog, LogEntry, u64), LogError> {
    let server = device.connection.peer_public_key().expect("the server shows a certificate");
    let proof = task.log.as_ref().ok_or(LogError::Missing)?;
    verify_base(known, &server, &TenantId::default(), task.job, task.base, proof)
}

/// Checks in as an agent that saw this much of the log.
async fn task(device: &Device, known: &KnownLog) -> Task {
    for _ in 0..500 {
        match device.check_in_having_seen(known.size).await.expect("an answer") {
            CheckInReply::Task(task) => return task,
            CheckInReply::ComeBack(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
    panic!("no work");
}

async fn get(server: &Server, path: &str) -> Value {
    server.api.ok("GET", path, Value::Null).await
}

fn hash(value: &Value) -> Hash {
    *value
        .as_str()
        .and_then(|text| text.parse::<Digest>().ok())
        .expect("a digest")
        .as_bytes()
}

fn hashes(value: &Value) -> Vec<Hash> {
    value.as_array().expect("a list").iter().map(hash).collect()
}

/// Every entry of the log as the API gives it, and the checkpoint, which has to be over them.
async fn log(server: &Server) -> (Vec<Vec<u8>>, Checkpoint) {
    let head = get(server, "/v1/log/checkpoint").await;
    let key = PublicKey::from_hex(head["public_key"].as_str().expect("a key")).expect("a key");
    let checkpoint = head["checkpoint"].as_str().expect("a note");
    let checkpoint = Checkpoint::open(checkpoint.as_bytes(), "aimass/default", &key).expect("a good checkpoint");
    let mut entries: Vec<Vec<u8>> = Vec::new();
    while (entries.len() as u64) < checkpoint.size {
        let page = get(server, &format!("/v1/log/entries?from={}&limit=2", entries.len())).await;
        let page = page["entries"].as_array().expect("a list");
        assert!((1..=2).contains(&page.len()));
        entries.extend(page.iter().map(|entry| hex::decode(entry.as_str().expect("text")).expect("hex")));
    }
    let mut tree = Tree::new();
    for entry in &entries {
        tree.append(leaf_hash(entry));
    }
    assert_eq!(tree.root(), checkpoint.root);
    (entries, checkpoint)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_and_auditors_see_every_model_in_a_log_that_only_grows() {
    let deployment = Deployment::start().await;
    let mut server = deployment.server().await;
    assert_eq!(log(&server).await.1.size, 0);
    let job = deployment.submit(&server, &small_model(), "rounds = 5\nmin = 2").await;
    let mut a = Device::join(&deployment, server.ready.quic_address, 1).await;
    let mut b = Device::join(&deployment, server.ready.quic_address, 2).await;
    let mut known = KnownLog::default();
    let mut models = Vec::new();
    for round in 1..=3_u8 {
        for (device, id) in [(&mut a, 10), (&mut b, 20)] {
            device.contribution = ContributionId::from_bytes([id + round; 16]);
        }
        let task = task(&a, &known).await;
        let (grown, entry, index) = verified(&a, &task, &known).expect("the base is in the log");
        assert_eq!((grown.size, index), (u64::from(round), u64::from(round) - 1));
        assert_eq!(matches!(entry.event, LogEvent::Base { .. }), round == 1);
        // The same proof is none for who saw another log, or for another base.
        let mut other = task.clone();
        other.base = Digest::from_bytes([9; 32]);
        assert_eq!(
            verified(&a, &other, &known).expect_err("not this one"),
            LogError::OtherEntry { what: "model" }
        );
        let forked = KnownLog {
            size: grown.size,
            root: Digest::from_bytes([9; 32]),
        };
        assert!(matches!(verified(&a, &task, &forked), Err(LogError::Forked { .. })));
        known = grown;
        models.push(task.base);
        let ((descriptor, outcome), _) = tokio::join!(a.round(&[1.0; 15]), b.round(&[1.0; 15]));
        assert!(matches!(outcome, OutcomeReply::Included { .. }), "{outcome:?}");
        server.finished(&job, round.into()).await;

        let (entries, checkpoint) = log(&server).await;
        assert_eq!(checkpoint.size, u64::from(round) + 1);
        let entry: LogEntry = codec::decode(entries.last().expect("some")).expect("an entry");
        let LogEvent::Round(logged) = entry.event else {
            panic!("{entry:?}")
        };
        assert_eq!((logged.before, logged.cohort), (task.base, descriptor.cohort));
        assert_eq!(
            (logged.round, logged.members, logged.survivors, logged.draws),
            (round.into(), 2, 2, 0)
        );
        if round == 2 {
            server.stop().await;
            server = deployment.server().await;
            a.reconnect(Some(server.ready.quic_address)).await;
            b.reconnect(Some(server.ready.quic_address)).await;
            assert_eq!(log(&server).await.1, checkpoint, "the same after a restart");
        }
    }

    // An agent that saw more than there is notices by the size.
    let more = KnownLog { size: 9, ..known };
    let task = task(&a, &more).await;
    assert_eq!(
        verified(&a, &task, &more).expect_err("shrunk"),
        LogError::Shrunk { seen: 9, shown: 4 }
    );

    // Proofs for auditors.
    let (entries, checkpoint) = log(&server).await;
    for (index, model) in (0..).zip(&models) {
        let proof = get(&server, &format!("/v1/log/proof?model={}", model.to_hex())).await;
        assert_eq!(proof["index"], json!(index));
        let entry = hex::decode(proof["entry"].as_str().expect("text")).expect("hex");
        assert_eq!(entry, entries[usize::try_from(index).expect("small")]);
        verify_inclusion(&leaf_hash(&entry), index, 4, &hashes(&proof["inclusion"]), &checkpoint.root).expect("it is in the log");
        assert_eq!(get(&server, &format!("/v1/log/proof?index={index}")).await, proof);
    }
    let grew = get(&server, "/v1/log/consistency?from=2").await;
    let (from, to) = (&grew["from"], &grew["to"]);
    assert_eq!((&from["size"], &to["size"]), (&json!(2), &json!(4)));
    verify_consistency(2, &hash(&from["root"]), 4, &checkpoint.root, &hashes(&grew["consistency"])).expect("it only grew");
    for (path, status) in [
        ("/v1/log/proof?index=4", 404),
        (&format!("/v1/log/proof?model={}", "9".repeat(64)), 404),
        ("/v1/log/proof", 400),
        ("/v1/log/consistency?from=5", 400),
        ("/v1/log/consistency?from=3&to=2", 400),
    ] {
        let (found, answer) = server.api.ask("GET", path, &Value::Null).await;
        assert_eq!(found, status, "{path}: {answer}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survivors_are_kept_apart_and_can_be_forgotten() {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let job = deployment.submit(&server, &small_model(), "rounds = 1\nmin = 2").await;
    let a = Device::join(&deployment, server.ready.quic_address, 1).await;
    let b = Device::join(&deployment, server.ready.quic_address, 2).await;
    tokio::join!(a.round(&[1.0; 15]), b.round(&[1.0; 15]));
    server.finished(&job, 1).await;
    let (entries, before) = log(&server).await;
    let entry: LogEntry = codec::decode(&entries[1]).expect("an entry");
    let LogEvent::Round(round) = entry.event else { panic!("{entry:?}") };

    // The openings hash into the logged root; without them nobody knows whom the leaves stand for.
    let root_of = |survivors: &Value| {
        let mut tree = Tree::new();
        for survivor in survivors["survivors"].as_array().expect("a list") {
            let leaf = hash(&survivor["leaf"]);
            if !survivor["opening"].is_null() {
                let opening: SurvivorOpening = serde_json::from_value(survivor["opening"].clone()).expect("an opening");
                assert_eq!(leaf_hash(&opening.to_bytes()), leaf);
            }
            tree.append(leaf);
        }
        Digest::from_bytes(tree.root())
    };
    let survivors = get(&server, "/v1/log/entries/1/survivors").await;
    assert_eq!(root_of(&survivors), round.survivors_root);
    let forget = format!("/v1/log/forget/{}", a.id().to_hex());
    let forgotten = server.api.ok("POST", &forget, json!({})).await;
    assert_eq!(forgotten["forgotten"], 1);
    let survivors = get(&server, "/v1/log/entries/1/survivors").await;
    assert!(!survivors.to_string().contains(&a.id().to_hex()));
    assert!(survivors.to_string().contains(&b.id().to_hex()));
    assert_eq!(root_of(&survivors), round.survivors_root);
    assert_eq!(log(&server).await.1, before, "the log stays");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_in_a_round_is_forgotten_after_the_time_that_is_set() {
    let deployment = Deployment::start().await;
    let server = deployment
        .server_with(aimass_server::aggregator::Config {
            keep_survivors_days: 0,
            ..deployment.config()
        })
        .await;
    let job = deployment.submit(&server, &small_model(), "rounds = 1\nmin = 1").await;
    let device = Device::join(&deployment, server.ready.quic_address, 1).await;
    device.round(&[1.0; 15]).await;
    server.finished(&job, 1).await;
    // Nobody waits for it.
    for _ in 0..500 {
        let survivors = get(&server, "/v1/log/entries/1/survivors").await;
        assert_eq!(survivors["survivors"].as_array().map(Vec::len), Some(1), "the hash stays");
        if survivors["survivors"][0]["opening"].is_null() {
            return server.stop().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("it is told still");
}

/// A data folder from before there was a log: agents train from nothing that is not in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_from_before_the_log_is_logged_at_the_next_start() {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let job = deployment.submit(&server, &small_model(), "rounds = 3\nmin = 2").await;
    let mut a = Device::join(&deployment, server.ready.quic_address, 1).await;
    let b = Device::join(&deployment, server.ready.quic_address, 2).await;
    tokio::join!(a.round(&[1.0; 15]), b.round(&[1.0; 15]));
    server.finished(&job, 1).await;
    let before = log(&server).await.1;
    server.stop().await;

    let format = Format {
        name: "aggregator",
        version: 3,
        reads: 2,
    };
    let raw = Database::open(&deployment.config().data_dir.join("store"), format).expect("opens");
    let entries: Table<LogRecord> = raw.table("log").expect("a table");
    let mut batch = Batch::default();
    for key in entries.keys(&Key::tenant(&TenantId::default())).expect("read") {
        batch.remove(&entries, &key);
    }
    raw.commit(batch).expect("written");
    drop((raw, entries));

    let server = deployment.server().await;
    assert_eq!(log(&server).await.1.size, 1);
    a.reconnect(Some(server.ready.quic_address)).await;
    a.contribution = ContributionId::from_bytes([11; 16]);
    let nothing = KnownLog::default();
    let given = task(&a, &nothing).await;
    let (_, entry, _) = verified(&a, &given, &nothing).expect("the base is in the log");
    assert_eq!(entry.event, LogEvent::Base { model: given.base });
    // Who saw the log that is gone does not follow.
    let seen = KnownLog {
        size: before.size,
        root: Digest::from_bytes(before.root),
    };
    let given = task(&a, &seen).await;
    assert_eq!(
        verified(&a, &given, &seen).expect_err("shrunk"),
        LogError::Shrunk { seen: 2, shown: 1 }
    );
    server.stop().await;
}
