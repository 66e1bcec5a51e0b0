//! The log as agents see it, over restarts and writes that fail.

use std::path::Path;

use aimass_crypto::log::{node_hash, verify_consistency, verify_inclusion};
use aimass_federation::agent::log::{KnownLog, LogError, verify_base};
use aimass_protocol::CohortId;
use aimass_protocol::job::AggregationMode;
use aimass_protocol::log::RoundEntry;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::*;

fn key() -> Arc<SigningKey> {
    Arc::new(SigningKey::generate(&mut ChaCha20Rng::seed_from_u64(1)))
}

fn open(dir: &Path) -> (AggregatorStore, ModelLog) {
    let store = AggregatorStore::open(dir, TenantId::default()).expect("the store opens");
    let log = ModelLog::load(&store, TenantId::default(), key()).expect("the log is read");
    (store, log)
}

fn job(n: u8) -> JobId {
    JobId::from_bytes([n; 16])
}

fn model(n: u8) -> Digest {
    Digest::from_bytes([n; 32])
}

fn base(n: u8) -> LogEvent {
    LogEvent::Base { model: model(n) }
}

fn append(store: &AggregatorStore, log: &ModelLog, of: u8, event: LogEvent) -> u64 {
    log.append(job(of), event, Survivors::default(), |entry| store.add_to_log(entry))
        .expect("written")
}

/// What an agent makes of a task.
fn agent(log: &ModelLog, known: &KnownLog, of: u8, n: u8) -> Result<(KnownLog, u64), LogError> {
    let proof = log.base_proof(job(of), model(n), known.size).expect("the model is in the log");
    verify_base(known, &key().public(), &TenantId::default(), job(of), model(n), &proof).map(|(known, _, index)| (known, index))
}

#[test]
fn agents_follow_the_log_over_restarts() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut known = KnownLog::default();
    for n in 1..=20 {
        let (store, log) = open(dir.path());
        assert_eq!(log.head().size, u64::from(n) * 2 - 2);
        append(&store, &log, 1, base(n));
        append(&store, &log, 2, base(100 + n));
        let (grown, index) = agent(&log, &known, 1, n).expect("a good log");
        assert_eq!((grown.size, index), (u64::from(n) * 2, u64::from(n) * 2 - 2));
        assert_eq!(agent(&log, &grown, 1, n).expect("the same log").0, grown);
        known = grown;
    }
    let (_, log) = open(dir.path());
    assert_eq!(agent(&log, &known, 1, 20).expect("as before the restart").0, known);
}

#[test]
fn nothing_is_in_the_log_that_could_not_be_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, log) = open(dir.path());
    append(&store, &log, 1, base(1));
    let (known, _) = agent(&log, &KnownLog::default(), 1, 1).expect("a good log");
    let (head, checkpoint) = (log.head(), log.checkpoint());
    // The write reaches the store, but is not known to be on the disk.
    let failed = log.append(job(1), base(2), Survivors::default(), |entry| {
        store.add_to_log(entry)?;
        Err(std::io::Error::other("the flush failed").into())
    });
    assert!(failed.is_err());
    assert_eq!((log.head(), log.checkpoint()), (head, checkpoint));
    assert!(log.base_proof(job(1), model(2), 1).is_none() && !log.holds(job(1), model(2)));
    assert_eq!(append(&store, &log, 1, base(3)), 1, "it takes the place");
    let (known, _) = agent(&log, &known, 1, 3).expect("it grew by one");
    drop((store, log));
    let (_, log) = open(dir.path());
    assert_eq!(agent(&log, &known, 1, 3).expect("as before the restart").0, known);
}

#[test]
fn an_old_copy_of_the_store_is_noticed_by_agents() {
    let (dir, backup) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    for folder in [&dir, &backup] {
        let (store, log) = open(folder.path());
        append(&store, &log, 1, base(1));
    }
    // The same entries, but for the time that they were written at: another log.
    let (store, log) = open(dir.path());
    append(&store, &log, 1, base(2));
    let (known, _) = agent(&log, &KnownLog::default(), 1, 2).expect("a good log");
    let (old_store, old) = open(backup.path());
    assert_eq!(agent(&old, &known, 1, 1), Err(LogError::Shrunk { seen: 2, shown: 1 }));
    append(&old_store, &old, 1, base(9));
    assert!(matches!(agent(&old, &known, 1, 9), Err(LogError::Forked { size: 2, .. })));
    append(&old_store, &old, 1, base(10));
    assert!(matches!(
        agent(&old, &known, 1, 10),
        Err(LogError::Rewritten { seen: 2, shown: 3, .. })
    ));
}

#[test]
fn entries_of_many_threads_get_places_of_their_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, log) = open(dir.path());
    let mut places: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|of| {
                let (store, log) = (store.clone(), log.clone());
                scope.spawn(move || (0..10).map(|n| append(&store, &log, of, base(n))).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    places.sort_unstable();
    assert_eq!(places, (0..40).collect::<Vec<_>>());
    let head = log.head();
    drop((store, log));
    assert_eq!(open(dir.path()).1.head(), head);
}

#[test]
fn a_job_keeps_the_models_that_agents_may_still_train_from() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, log) = open(dir.path());
    let most = u8::try_from(RECENT_MODELS).expect("small");
    for n in 0..=most {
        append(&store, &log, 1, base(n));
    }
    for log in [log.clone(), ModelLog::load(&store, TenantId::default(), key()).expect("read")] {
        assert!(!log.holds(job(1), model(0)));
        assert!((1..=most).all(|n| log.holds(job(1), model(n))));
        assert!(!log.holds(job(2), model(1)), "another job's");
        log.forget(job(1));
        assert!(!log.holds(job(1), model(1)));
    }
}

#[test]
fn proofs_for_auditors_lead_to_the_checkpoint() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, log) = open(dir.path());
    for n in 0..9 {
        append(&store, &log, 1, base(n));
    }
    let entries = store.log_entries(0, 99).expect("read");
    let checkpoint = Checkpoint::open(&log.checkpoint(), "aimass/default", &key().public()).expect("a good checkpoint");
    let bytes = |list: &[Digest]| list.iter().map(|digest| *digest.as_bytes()).collect::<Vec<_>>();
    for (index, entry) in (0..).zip(&entries) {
        let proof = log.inclusion(index).expect("within the log");
        let held = verify_inclusion(&leaf_hash(entry), index, 9, &bytes(&proof.hashes), &checkpoint.root);
        assert_eq!(held, Ok(()));
    }
    assert!(log.inclusion(9).is_none());
    for old in 0..=9 {
        let (proof, root) = (log.consistency(old, 9).expect("within"), log.root_at(old).expect("within"));
        let held = verify_consistency(old, root.as_bytes(), 9, &checkpoint.root, &bytes(&proof));
        assert_eq!(held, Ok(()));
    }
    assert!(log.consistency(3, 10).is_none() && log.consistency(4, 3).is_none() && log.root_at(10).is_none());
}

#[test]
fn survivors_are_in_the_order_of_agents_with_a_salt_each() {
    let list: Vec<_> = [3, 1, 2]
        .iter()
        .map(|n| (AgentId::from_bytes([*n; 16]), ContributionId::from_bytes([9; 16])))
        .collect();
    let (survivors, again) = (Survivors::salted(&list).expect("random"), Survivors::salted(&list).expect("random"));
    let agents: Vec<u8> = survivors.0.iter().map(|(_, opening)| opening.agent.as_bytes()[0]).collect();
    assert_eq!(agents, [1, 2, 3]);
    assert_ne!(survivors.root(), again.root(), "nobody can guess who is behind a root");
    let leaves: Vec<Hash> = survivors.0.iter().map(|(_, opening)| leaf_hash(&opening.to_bytes())).collect();
    let root = node_hash(&node_hash(&leaves[0], &leaves[1]), &leaves[2]);
    assert_eq!(survivors.root(), Digest::from_bytes(root));
}

fn a_round(survivors: &Survivors) -> RoundEntry {
    RoundEntry {
        round: 1,
        model: model(2),
        before: model(1),
        cohort: CohortId::from_bytes([3; 16]),
        descriptor: model(4),
        mode: AggregationMode::Plain,
        members: 1,
        survivors: 1,
        survivors_root: survivors.root(),
        draws: 0,
    }
}

#[test]
fn who_was_in_a_round_is_forgotten_when_it_is_old() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let dir = tempfile::tempdir().expect("a folder");
    let list = [(AgentId::from_bytes([1; 16]), ContributionId::from_bytes([2; 16]))];
    let (store, log) = open(dir.path());
    append(&store, &log, 1, base(1));
    let mut places = Vec::new();
    for _ in 0..2 {
        let survivors = Survivors::salted(&list).expect("random");
        let event = LogEvent::Round(a_round(&survivors));
        places.push(
            log.append(job(1), event, survivors, |entry| store.add_to_log(entry))
                .expect("written"),
        );
    }
    let (written, head) = (now(), log.head());
    let forget = |store: &AggregatorStore, log: &ModelLog, days: u32| {
        log.forget_old_survivors(store, written.after(DAY * days), DAY * 90)
            .expect("written")
    };
    assert_eq!(forget(&store, &log, 89), 0);
    drop((store, log));
    let (store, log) = open(dir.path());
    assert_eq!(forget(&store, &log, 91), 2, "what was there before a restart counts");
    assert_eq!(forget(&store, &log, 91), 0);
    for index in places {
        assert!(store.survivors(index).expect("read").iter().all(|record| record.opening.is_none()));
    }
    assert_eq!(log.head(), head);
    drop((store, log));
    let (store, log) = open(dir.path());
    assert_eq!((forget(&store, &log, 91), log.head()), (0, head));
}

#[test]
fn a_round_is_logged_with_its_survivors() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, log) = open(dir.path());
    let list = [(AgentId::from_bytes([1; 16]), ContributionId::from_bytes([2; 16]))];
    let survivors = Survivors::salted(&list).expect("random");
    let root = survivors.root();
    let round = a_round(&survivors);
    let event = LogEvent::Round(round.clone());
    let index = log
        .append(job(1), event, survivors, |entry| store.add_to_log(entry))
        .expect("written");
    let entry: LogEntry = codec::decode(&store.log_entries(index, 1).expect("read")[0]).expect("an entry");
    assert_eq!((entry.job, entry.event), (job(1), LogEvent::Round(round)));
    let stored = store.survivors(index).expect("read");
    assert_eq!(Digest::from_bytes(leaf_hash(&stored[0].opening.expect("kept").to_bytes())), root);
    // Nobody takes part without members: no entry is made, and none of the disk's work done.
    let refused = log.append(
        job(1),
        LogEvent::Round(RoundEntry {
            members: 0,
            ..match entry_of(&store, index).event {
                LogEvent::Round(round) => round,
                other => panic!("{other:?}"),
            }
        }),
        Survivors::default(),
        |_| panic!("an entry against the rules was written"),
    );
    assert!(refused.is_err());
}

fn entry_of(store: &AggregatorStore, index: u64) -> LogEntry {
    codec::decode(&store.log_entries(index, 1).expect("read")[0]).expect("an entry")
}
