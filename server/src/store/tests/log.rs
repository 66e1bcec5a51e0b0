use super::*;

#[test]
fn the_log_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().expect("a folder");
    {
        let store = open(dir.path());
        store.add_job(&job(7), &log(1)).expect("written");
        store.finish_round(&round(1), &[member(1)], 9, None, &log(2)).expect("written");
        store.add_to_log(&log(3)).expect("written");
        store.abandon_open_round(job(7).job, &log(4)).expect("written");
    }
    let store = open(dir.path());
    assert_eq!(log_of(&store), ["round 1", "round 2", "round 3", "round 4"]);
    assert_eq!(store.jobs().expect("read"), [job(7)]);
    let page = |from, limit| store.log_entries(from, limit).expect("read");
    assert_eq!(page(1, 2), [b"round 2", b"round 3"]);
    assert_eq!(page(3, 9), [b"round 4"]);
    assert!(page(4, 9).is_empty() && page(u64::MAX, 9).is_empty() && page(0, 0).is_empty());
    let other = "default-2".parse().expect("a tenant");
    drop(store);
    let other = AggregatorStore::open(dir.path(), other).expect("opens");
    assert!(log_of(&other).is_empty(), "another tenant's log");
    assert!(other.log_entries(0, 9).expect("read").is_empty());
}

#[test]
fn a_model_is_found_at_all_its_places() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    for n in 1..=11 {
        store.add_to_log(&log(n)).expect("written");
    }
    let at = |n| store.logged(Digest::from_bytes([n; 32])).expect("read");
    assert_eq!(at(1), [0, 5, 10]);
    assert_eq!(at(0), [4, 9]);
    assert!(at(9).is_empty());
}

#[test]
fn an_entry_that_is_missing_is_noticed() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    store.add_to_log(&log(1)).expect("written");
    store.add_to_log(&log(3)).expect("written");
    let error = store.each_log_entry(|_, _| ()).expect_err("entry 1 is missing");
    assert!(
        matches!(&error, StoreError::Corrupt { reason, .. } if reason == "entry 1 is missing"),
        "{error}"
    );
}

#[test]
fn a_survivor_is_forgotten_and_the_log_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    for n in 1..=3 {
        store.finish_round(&round(n), &[], 9, None, &log(n)).expect("written");
    }
    assert_eq!(store.forget_survivor(member(1).0).expect("written"), 3);
    assert_eq!(store.forget_survivor(member(1).0).expect("nothing left"), 0);
    drop(store);
    let store = open(dir.path());
    for n in 0..3 {
        let survivors = store.survivors(n).expect("read");
        assert_eq!(survivors.len(), 2);
        assert_eq!((survivors[0].leaf, survivors[0].opening), (Digest::from_bytes([1; 32]), None));
        assert_eq!(survivors[1].opening.map(|opening| opening.agent), Some(member(2).0));
    }
    assert_eq!(log_of(&store), ["round 1", "round 2", "round 3"]);
}

#[test]
fn openings_of_old_entries_are_forgotten_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    for n in 1..=4 {
        store.add_to_log(&log(n)).expect("written");
    }
    let told = |store: &AggregatorStore| -> Vec<usize> {
        let told = |n| {
            store
                .survivors(n)
                .expect("read")
                .iter()
                .filter(|record| record.opening.is_some())
                .count()
        };
        (0..4).map(told).collect()
    };
    let all = told(&store);
    assert!(all.iter().all(|n| *n > 0), "{all:?}");
    assert_eq!(store.forget_survivors_below(3).expect("written"), all[..3].iter().sum::<usize>());
    assert_eq!(
        (store.forgotten_survivors().expect("read"), told(&store)),
        (3, vec![0, 0, 0, all[3]])
    );
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.forgotten_survivors().expect("read"), 3);
    assert_eq!(store.forget_survivors_below(3).expect("nothing to do"), 0);
    assert_eq!(store.forget_survivors_below(4).expect("written"), all[3]);
    assert!(store.survivors(0).expect("read").len() == all[0], "the hashes stay");
}

/// An entry that could not be flushed is overwritten by the next one, with all that belongs to it.
#[test]
fn an_entry_takes_the_place_of_one_that_was_never_in_the_log() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    store.add_to_log(&log(1)).expect("written");
    let mut other = log(1);
    other.survivors.truncate(1);
    store.add_to_log(&other).expect("written");
    assert_eq!(log_of(&store), ["round 1"]);
    assert_eq!(store.survivors(0).expect("read").len(), 1);
}

#[test]
fn a_folder_from_before_the_log_is_taken_over() {
    let dir = tempfile::tempdir().expect("a folder");
    let format = Format {
        name: "aggregator",
        version: 1,
        reads: 1,
    };
    let old = Database::open(dir.path(), format).expect("as the program before made it");
    let jobs: Table<JobRecord> = old.table("jobs").expect("a table");
    jobs.put(&Key::tenant(&TenantId::default()).bytes(job(7).job.as_bytes()), &job(7))
        .expect("written");
    drop((jobs, old));
    let store = open(dir.path());
    assert_eq!(store.jobs().expect("read"), [job(7)]);
    assert!(log_of(&store).is_empty());
    drop(store);
    let error = Database::open(dir.path(), format).expect_err("the program before does not write a log");
    assert!(matches!(error, StoreError::Newer { found: 3, known: 1, .. }), "{error}");
}
