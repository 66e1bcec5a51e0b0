use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use aimass_federation::coordinator::JobEnd;
use aimass_protocol::log::SurvivorOpening;
use aimass_protocol::message::agent::Capabilities;
use aimass_protocol::{AgentId, ContributionId, Digest, JobId, Nonce, PublicKeyBytes, SignatureBytes, TenantId};
use proptest::prelude::*;

use super::*;

mod compression;
mod log;

fn open(dir: &Path) -> AggregatorStore {
    AggregatorStore::open(dir, TenantId::default()).expect("the store opens")
}

fn agent(n: u8) -> AgentRecord {
    AgentRecord {
        agent: AgentId::from_bytes([n; 16]),
        state: AgentState::Accepted,
        address: "127.0.0.1:5000".to_owned(),
        capabilities: Capabilities::default(),
        contracts: vec!["digits".to_owned()],
        first_seen_ms: 1,
        last_seen_ms: u64::from(n),
        tell_authority: None,
    }
}

fn job(n: u8) -> JobRecord {
    JobRecord {
        job: JobId::from_bytes([n; 16]),
        signed_job: "00ff".to_owned(),
        owner: PublicKeyBytes::from_bytes([1; 32]),
        signature: SignatureBytes::from_bytes([2; 64]),
        end: None,
        submitted_at_ms: 5,
        ended_at_ms: None,
    }
}

fn round(n: u32) -> RoundRecord {
    RoundRecord {
        job: JobId::from_bytes([7; 16]),
        round: n,
        base: Digest::from_bytes([1; 32]),
        model: Digest::from_bytes([2; 32]),
        model_bytes: 100,
        group: None,
        contributions: 2,
        weight: 64,
        train_loss: Some(0.5),
        clipped: 1,
        accuracy: Some(0.9),
        loss: None,
        device_accuracy: Some(0.25),
        device_loss: Some(1.5),
        device_examples: Some(12),
        parity: Some(ParityRecord {
            max: 1e-6,
            max_allowed: 1e-3,
            mean: 1e-7,
            mean_allowed: 1e-4,
            rows: 16,
        }),
        not_served: None,
        gave_up: None,
        bytes_up: 10,
        bytes_down: 20,
        seconds: 1.5,
        ended_at_ms: 9,
    }
}

#[test]
fn a_round_of_an_earlier_version_has_no_evaluation_on_devices() {
    let mut written = serde_json::to_value(round(1)).expect("JSON");
    let fields = written.as_object_mut().expect("an object");
    fields.retain(|name, _| !name.starts_with("device_") && !["gave_up", "parity", "not_served"].contains(&name.as_str()));
    assert_eq!(fields.len(), 15);
    let expected = RoundRecord {
        device_accuracy: None,
        device_loss: None,
        device_examples: None,
        gave_up: None,
        parity: None,
        ..round(1)
    };
    assert_eq!(serde_json::from_value::<RoundRecord>(written).expect("is read"), expected);
    assert_eq!(
        (round(1).reached(), expected.reached()),
        (Some(0.9), Some(0.9)),
        "held-out data comes first"
    );
    let without = RoundRecord {
        accuracy: None,
        ..round(1)
    };
    assert_eq!(
        (
            without.reached(),
            RoundRecord {
                accuracy: None,
                ..expected
            }
            .reached()
        ),
        (Some(0.25), None)
    );
}

fn member(n: u8) -> (AgentId, ContributionId) {
    (AgentId::from_bytes([n; 16]), ContributionId::from_bytes([n; 16]))
}

/// The entry of round n, at index n - 1, with two survivors.
fn log(n: u32) -> LogWrite {
    let opening = |who: u8| SurvivorOpening {
        agent: member(who).0,
        contribution: member(who).1,
        salt: Nonce::from_bytes([who; 16]),
    };
    LogWrite {
        index: u64::from(n) - 1,
        entry: format!("round {n}").into_bytes(),
        model: Some(Digest::from_bytes([u8::try_from(n % 5).expect("below 5"); 32])),
        survivors: vec![(Digest::from_bytes([1; 32]), opening(1)), (Digest::from_bytes([2; 32]), opening(2))],
    }
}

fn log_of(store: &AggregatorStore) -> Vec<String> {
    let mut entries = Vec::new();
    let read = store.each_log_entry(|index, bytes| {
        assert_eq!(index, entries.len() as u64);
        entries.push(String::from_utf8(bytes).expect("text"));
    });
    read.expect("read");
    entries
}

#[test]
fn everything_written_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut ended = job(7);
    ended.end = Some(JobEnd::Failed {
        reason: "no \"reason\"\n".to_owned(),
    });
    {
        let store = open(dir.path());
        store.put_agent(&agent(3)).expect("written");
        store.put_agent(&agent(1)).expect("written");
        store.put_job(&ended).expect("written");
        for n in 1..=3 {
            store
                .finish_round(&round(n), &[member(1), member(2)], 2, None, &log(n))
                .expect("written");
        }
    }
    let store = open(dir.path());
    assert_eq!(store.agents().expect("read"), [agent(1), agent(3)]);
    assert_eq!(store.jobs().expect("read"), [ended]);
    assert_eq!(store.rounds(job(7).job).expect("read"), [round(1), round(2), round(3)]);
    let both = vec![member(1).1, member(2).1];
    let remembered = BTreeMap::from([(2, both.clone()), (3, both)]);
    assert_eq!(
        store.included(job(7).job).expect("read"),
        remembered,
        "the round before the last two is forgotten"
    );
    assert!(store.rounds(job(8).job).expect("read").is_empty());
}

#[test]
fn one_tenant_does_not_see_another() {
    let dir = tempfile::tempdir().expect("a folder");
    open(dir.path()).put_agent(&agent(1)).expect("written");
    let other = AggregatorStore::open(dir.path(), "default-2".parse().expect("a tenant")).expect("opens");
    assert!(other.agents().expect("read").is_empty());
    other.put_agent(&agent(2)).expect("written");
    drop(other);
    assert_eq!(open(dir.path()).agents().expect("read"), [agent(1)]);
}

#[test]
fn a_second_process_is_told_that_the_folder_is_in_use() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = open(dir.path());
    let error = AggregatorStore::open(dir.path(), TenantId::default()).expect_err("locked");
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    drop(first);
    open(dir.path());
}

/// Two servers overlap while the old one ends; a child that is being started holds the lock of its parent for a moment.
#[test]
fn a_folder_that_another_process_is_about_to_leave_is_waited_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = open(dir.path());
    first.put_agent(&agent(1)).expect("written");
    let second = std::thread::scope(|scope| {
        let opening = scope.spawn(|| AggregatorStore::open(dir.path(), TenantId::default()));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!opening.is_finished(), "the folder is still in use");
        drop(first);
        opening.join().expect("no panic")
    });
    let second = second.expect("the folder is free");
    assert_eq!(second.agents().expect("read"), [agent(1)]);
}

#[test]
fn other_schemas_are_refused_before_anything_is_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let format = |version| Format {
        name: "aggregator",
        version,
        reads: version,
    };
    drop(Database::open(dir.path(), format(4)).expect("a newer program made it"));
    let error = AggregatorStore::open(dir.path(), TenantId::default()).expect_err("too new");
    assert!(matches!(error, StoreError::Newer { found: 4, known: 3, .. }), "{error}");
    assert!(error.to_string().contains("update the server"), "{error}");

    let error = Database::open(dir.path(), format(5)).expect_err("too old");
    assert!(matches!(error, StoreError::Older { found: 4, known: 5, .. }), "{error}");
    let error = Database::open(
        dir.path(),
        Format {
            name: "ledger",
            version: 4,
            reads: 4,
        },
    )
    .expect_err("somebody else's");
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
}

#[test]
fn a_foreign_database_is_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let foreign = sled::open(dir.path()).expect("opens");
    foreign.insert("k", "v").expect("written");
    foreign.flush().expect("flushed");
    drop(foreign);
    let error = AggregatorStore::open(dir.path(), TenantId::default()).expect_err("not ours");
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
}

#[test]
fn a_record_that_does_not_parse_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    store.put_agent(&agent(1)).expect("written");
    drop(store);
    let raw = Database::open(
        dir.path(),
        Format {
            name: "aggregator",
            version: 3,
            reads: 2,
        },
    )
    .expect("opens");
    let table: Table<serde_json::Value> = raw.table("agents").expect("a table");
    let key = Key::tenant(&TenantId::default()).bytes(&[1; 16]);
    table.put(&key, &serde_json::json!({"agent": "nobody"})).expect("written");
    drop((table, raw));
    let error = open(dir.path()).agents().expect_err("does not parse");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

/// Not a test by itself: the process that [`a_killed_process_loses_nothing_that_it_acknowledged`] kills.
#[test]
fn writer_to_be_killed() {
    let Some(dir) = std::env::var_os("AIMASS_TEST_STORE_TO_KILL") else {
        return;
    };
    let store = open(Path::new(&dir));
    let before = store.rounds(job(7).job).expect("read").last().map_or(0, |last| last.round);
    for n in before + 1.. {
        let who = u8::try_from(n % 250).expect("below 250");
        store.put_agent(&agent(who)).expect("written");
        store
            .finish_round(&round(n), &[member(1), member(2), member(3)], 10_000, None, &log(n))
            .expect("written");
        println!("acknowledged {n}");
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut acknowledged = 0;
    for kill in 1..=5 {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["store::tests::writer_to_be_killed", "--exact", "--nocapture", "--test-threads=1"])
            .env("AIMASS_TEST_STORE_TO_KILL", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut numbers = lines.filter_map(|line| line.ok()?.rsplit_once("acknowledged ")?.1.parse::<u32>().ok());
        acknowledged = numbers.nth(3 * kill).expect("the child writes");
        child.kill().expect("SIGKILL");
        // What it said before it died counts too.
        acknowledged = numbers.last().unwrap_or(acknowledged);
        child.wait().expect("dead");

        let store = open(dir.path());
        let rounds = store.rounds(job(7).job).expect("read");
        let numbers: Vec<_> = rounds.iter().map(|r| r.round).collect();
        let last = *numbers.last().expect("some");
        assert!(last >= acknowledged, "{acknowledged} was acknowledged, {last} is the last stored");
        assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
        let logged: Vec<_> = (1..=last).map(|n| format!("round {n}")).collect();
        assert_eq!(
            log_of(&store),
            logged,
            "a round and its entry in the log come together or not at all"
        );
        assert_eq!(store.survivors(u64::from(last) - 1).expect("read").len(), 2);
        // Round and contributions come together or not at all.
        let included = store.included(job(7).job).expect("read");
        assert!(included.keys().copied().eq(1..=last), "{:?}", included.keys());
        assert!(included.values().all(|members| members.len() == 3));
    }
    assert!(acknowledged > 20, "the child got somewhere");
}

/// Not a test by itself: runs under a limit on file sizes, see [`a_full_disk_is_an_error_and_loses_nothing`].
#[test]
fn writer_without_room() {
    let Some(dir) = std::env::var_os("AIMASS_TEST_STORE_WITHOUT_ROOM") else {
        return;
    };
    let store = open(Path::new(&dir));
    for n in 1..100_000 {
        match store.finish_round(&round(n), &[member(1)], 1_000_000, None, &log(n)) {
            Ok(()) => println!("acknowledged {n}"),
            Err(error) => {
                println!("refused: {error}");
                // As the server would end: not in order.
                std::process::exit(7);
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    // A limit on file sizes fails writes of one process, as a full disk fails those of all.
    let script = "trap '' XFSZ; ulimit -f 4000; exec \"$0\" store::tests::writer_without_room --exact --nocapture --test-threads=1";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().expect("this binary"))
        .env("AIMASS_TEST_STORE_WITHOUT_ROOM", dir.path())
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(7), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let acknowledged = said.lines().filter(|line| line.contains("acknowledged")).count();
    assert!(acknowledged > 10, "{said}");
    let rounds = open(dir.path()).rounds(job(7).job).expect("read");
    assert!(rounds.len() >= acknowledged, "{} of {acknowledged}", rounds.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// Whatever is written in whatever order, reopening shows the last write of each key.
    #[test]
    fn the_last_write_of_each_agent_survives(writes in prop::collection::vec((0u8..6, any::<u64>(), any::<bool>()), 1..40)) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut expected = BTreeMap::new();
        {
            let store = open(dir.path());
            for (n, seen, revoked) in writes {
                let state = if revoked { AgentState::Revoked } else { AgentState::Accepted };
                let record = AgentRecord { last_seen_ms: seen, state, ..agent(n) };
                store.put_agent(&record).expect("written");
                expected.insert(record.agent, record);
            }
        }
        let found = open(dir.path()).agents().expect("read");
        prop_assert_eq!(found, expected.into_values().collect::<Vec<_>>());
    }
}

#[test]
fn should_read_a_store_from_before_the_registry_and_keep_models_in_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let before = Format {
        name: "aggregator",
        version: 2,
        reads: 2,
    };
    drop(Database::open(dir.path(), before).expect("a program before"));
    let store = open(dir.path());
    assert_eq!(store.registry().expect("reads"), (Vec::new(), Vec::new()));
    let model = |name: &str, latest| ModelRecord {
        model: name.to_owned(),
        aliases: [("champion".to_owned(), latest)].into(),
        latest,
    };
    let version = |name: &str, version| VersionRecord {
        model: name.to_owned(),
        version,
        release: JobId::from_bytes([9; 16]),
        owner: PublicKeyBytes::from_bytes([1; 32]),
        state: VersionState::Measuring,
        round: 0,
        rounds: 2,
        report: Digest::from_bytes([2; 32]),
        reasons: Vec::new(),
        variants: Vec::new(),
        champion_before: None,
        submitted_at_ms: 1,
        decided_at_ms: None,
    };
    let change = |name: &str, n| RegistryChange {
        model: model(name, n),
        versions: vec![version(name, n)],
    };
    for (name, n) in [("digits", 1), ("digits-2", 1), ("digits", 2)] {
        store.put_registry(&change(name, n)).expect("written");
    }
    drop(store);
    let (models, versions) = open(dir.path()).registry().expect("reads");
    assert_eq!(models, [model("digits", 2), model("digits-2", 1)]);
    assert_eq!(
        versions,
        [version("digits", 1), version("digits", 2), version("digits-2", 1)],
        "in order"
    );
    // What goes back to the program before is refused by it.
    assert!(matches!(
        Database::open(dir.path(), before),
        Err(StoreError::Newer { found: 3, known: 2, .. })
    ));
}
