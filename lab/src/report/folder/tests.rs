use std::collections::BTreeMap;

use super::super::tests::rows;
use super::*;

fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn input<'a>(job: &'a str, options: &'a BTreeMap<String, String>) -> Input<'a> {
    Input {
        job: job.as_bytes(),
        population: Some(b"[data]\n"),
        options,
    }
}

#[test]
fn a_run_is_new_then_begun_then_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let (path, none) = (dir.path().join("a/b"), BTreeMap::new());
    let (folder, state) = RunFolder::claim(&path, &input("x = 1", &none)).expect("a new folder");
    assert_eq!(state, State::New);
    let mut log = folder.log(0).expect("a log");
    for row in rows(4) {
        log.push(&row).expect("written");
    }
    let (folder, state) = RunFolder::claim(&path, &input("x = 1", &none)).expect("the same run");
    assert_eq!(state, State::Begun);
    assert_eq!(folder.rounds().expect("whole lines"), rows(4));
    let summary = Summary {
        job: "digits".to_owned(),
        rounds: 4,
        ..Summary::default()
    };
    folder.finish(&summary).expect("written");
    let (folder, state) = RunFolder::claim(&path, &input("x = 1", &none)).expect("the same run");
    assert_eq!((state, folder.summary().expect("a summary")), (State::Whole, Some(summary)));
    let mut names: Vec<String> = path
        .read_dir()
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let wanted = [
        EVENTS_FILE,
        "input.json",
        "job.toml",
        "population.toml",
        "report.html",
        "rounds.csv",
        "rounds.jsonl",
        "rounds.parquet",
        "summary.json",
    ];
    assert_eq!(names, wanted);
    assert_eq!(std::fs::read(path.join("job.toml")).expect("a copy"), b"x = 1");
    // Going on takes the mark away that it is whole, and what is on record of later rounds.
    let mut log = folder.log(2).expect("a log");
    assert_eq!((folder.summary().expect("none"), folder.rounds().expect("two")), (None, rows(2)));
    log.push(&rows(3)[2]).expect("written");
    assert_eq!(folder.rounds().expect("three"), rows(3));
}

/// A row of which each figure has 17 digits.
#[test]
fn figures_are_read_back_to_the_last_bit() {
    let dir = tempfile::tempdir().expect("a folder");
    let none = BTreeMap::new();
    let (folder, _) = RunFolder::claim(dir.path(), &input("", &none)).expect("an empty folder");
    let mut written = rows(1000);
    let mut state = 1u64;
    for row in &mut written {
        let mut draw = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / 3.0e14
        };
        (row.seconds, row.energy_j, row.mean_staleness) = (draw(), draw() * 1e9, draw() * 1e-9);
        (row.test_loss, row.train_loss, row.test_accuracy) = (Some(draw()), Some(draw()), Some(draw()));
    }
    let mut log = folder.log(0).expect("a log");
    for row in &written {
        log.push(row).expect("written");
    }
    assert_eq!(folder.rounds().expect("whole lines"), written);
    let path = dir.path().join(ROUNDS);
    let text = std::fs::read(&path).expect("there");
    folder.log(1000).expect("goes on");
    assert!(
        std::fs::read(&path).expect("there") == text,
        "who goes on changes nothing of what is on record"
    );
}

#[test]
fn a_torn_last_line_is_dropped_and_a_broken_one_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let none = BTreeMap::new();
    let (folder, _) = RunFolder::claim(dir.path(), &input("", &none)).expect("an empty folder");
    let whole: String = rows(3).iter().map(line_of).collect();
    let path = dir.path().join(ROUNDS);
    for cut in (0..=whole.len()).rev().step_by(13).chain([1, 0]).chain(whole.find('\n')) {
        std::fs::write(&path, &whole.as_bytes()[..cut]).expect("written");
        let lines = whole[..cut].matches('\n').count();
        assert_eq!(folder.rounds().expect("torn lines are no error"), rows(3)[..lines]);
    }
    std::fs::write(&path, whole.replace("\"round\":2", "\"round\":two")).expect("written");
    let error = folder.rounds().expect_err("a broken line").to_string();
    assert!(
        error.contains("rounds.jsonl: line 2: ") && error.contains("run it again"),
        "{error}"
    );
    std::fs::write(&path, whole.replace("\"round\":2", "\"round\":1")).expect("written");
    assert!(
        folder
            .rounds()
            .expect_err("twice")
            .to_string()
            .contains("line 2: the rounds are not in order")
    );
    std::fs::write(&path, "x".repeat(MAX_LINE as usize + 1)).expect("written");
    assert!(folder.rounds().expect_err("too long").to_string().contains("too long"));
    folder.log(0).expect("what is broken can be begun anew");
    assert_eq!(folder.rounds().expect("none"), []);
}

#[test]
fn a_folder_of_other_input_is_refused_with_the_difference() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("run");
    let ten = options(&[("rounds", "10"), ("clients", "100")]);
    RunFolder::claim(&path, &input("a", &ten)).expect("a new folder");
    let refused = |input: &Input<'_>| RunFolder::claim(&path, input).expect_err("other input").to_string();
    assert!(refused(&input("b", &ten)).ends_with("holds a run of another job file: name another folder, or delete this one"));
    let twenty = options(&[("rounds", "20"), ("clients", "100")]);
    assert!(refused(&input("a", &twenty)).contains("holds a run of other input (rounds: 10, not 20)"));
    let alone = Input {
        population: None,
        ..input("a", &ten)
    };
    assert!(refused(&alone).contains("of another population"));
    std::fs::write(dir.path().join("letter.txt"), "dear").expect("written");
    let error = RunFolder::claim(dir.path(), &input("a", &ten))
        .expect_err("other files")
        .to_string();
    assert!(error.contains("holds files that are of no run"), "{error}");
    assert!(RunFolder::open(dir.path()).is_err() && RunFolder::open(&path).is_ok());
}

#[test]
fn a_folder_that_was_cut_off_before_its_digest_is_made_again() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in [JOB, POPULATION, "input.json.new", "job.toml.new"] {
        std::fs::write(dir.path().join(name), "torn").expect("written");
    }
    let none = BTreeMap::new();
    let alone = Input {
        population: None,
        ..input("a", &none)
    };
    let (folder, state) = RunFolder::claim(dir.path(), &alone).expect("made again");
    assert_eq!((state, folder.inputs().expect("read")), (State::New, (Some("a".to_owned()), None)));
}

#[test]
fn the_same_rounds_give_the_same_files_whatever_the_wall_time_of_events() {
    let dir = tempfile::tempdir().expect("a folder");
    let none = BTreeMap::new();
    let summary = Summary {
        job: "digits".to_owned(),
        rounds: 4,
        ..Summary::default()
    };
    let write = |name: &str| {
        let (folder, _) = RunFolder::claim(&dir.path().join(name), &input("a", &none)).expect("a folder");
        let mut log = folder.log(0).expect("a log");
        rows(4).iter().for_each(|row| log.push(row).expect("written"));
        folder.finish(&summary).expect("written");
        folder
    };
    let (a, b) = (write("a"), write("b"));
    for file in [
        "rounds.jsonl",
        "rounds.csv",
        "rounds.parquet",
        EVENTS_FILE,
        "report.html",
        "summary.json",
        "input.json",
    ] {
        let read = |folder: &RunFolder| std::fs::read(folder.path().join(file)).expect("it is there");
        assert!(read(&a) == read(&b), "{file}");
    }
}
