//! The simulator, beside the real processes that it stands for.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{PROGRAM, aimass, refused, said, wait};

/// Each file is a client's.
const FILES: &str = "[partition]\nkind = \"files\"\n";

fn lines(text: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(text);
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

/// An example job, its clients' files in a folder of their own.
fn example(dir: &Path, agents: u32, rounds: u32) -> (String, String) {
    let (agents, rounds) = (agents.to_string(), rounds.to_string());
    let written = aimass(
        dir,
        &["example", "--agents", &agents, "--rounds", &rounds, "--seed", "9", "-o", "job"],
    );
    assert!(written.status.success(), "{}", said(&written));
    (sort_out(&dir.join("job")), "job/job.toml".to_owned())
}

/// Moves the files of single agents into `clients/`.
fn sort_out(folder: &Path) -> String {
    let clients = folder.join("clients");
    std::fs::create_dir(&clients).expect("a folder");
    for entry in folder.read_dir().expect("a folder").flatten() {
        let name = entry.file_name().into_string().expect("a name");
        if name.starts_with("agent-") && name.ends_with(".csv") {
            std::fs::rename(entry.path(), clients.join(name)).expect("moves");
        }
    }
    clients.to_str().expect("a path").to_owned()
}

#[test]
fn a_simulated_fleet_makes_the_same_model_as_real_processes_to_the_last_byte() {
    let dir = tempfile::tempdir().expect("a folder");
    let demo = ["--json", "demo", "--agents", "4", "--rounds", "2", "--seed", "9", "--out", "real"];
    let real = aimass(dir.path(), &demo);
    assert!(real.status.success(), "{}", said(&real));
    let real = lines(&real.stdout).pop().expect("a summary");
    std::fs::write(dir.path().join("files.toml"), FILES).expect("writes");
    let clients = sort_out(&dir.path().join("real/data"));
    for more in [&["--without-masks"][..], &[]] {
        let fixed = [
            "--json",
            "sim",
            "real/data/job.toml",
            "--clients",
            "4",
            "--data",
            &clients,
            "--population",
            "files.toml",
        ];
        let simulated = aimass(dir.path(), &[&fixed[..], more].concat());
        assert!(simulated.status.success(), "{}", said(&simulated));
        let rounds = lines(&simulated.stdout);
        let (summary, last) = (&rounds[2], &rounds[1]);
        assert_eq!(summary["model"], real["model_sha256"], "{summary}");
        assert_eq!(last["test_accuracy"], real["test_accuracy"]);
        for key in ["round", "test_accuracy", "seconds", "virtual_seconds", "bytes_up"] {
            assert!(last[key].is_number(), "{key}: {last}");
        }
    }
}

#[test]
fn a_run_that_is_killed_goes_on_to_the_same_bytes_and_its_folder_is_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let (clients, job) = example(dir.path(), 12, 400);
    std::fs::write(dir.path().join("files.toml"), FILES).expect("writes");
    let run = |out: &str| {
        let args = [
            "--json",
            "sim",
            &job,
            "--data",
            &clients,
            "--population",
            "files.toml",
            "--clients",
            "12",
            "--cohort",
            "4",
        ];
        let args: Vec<String> = args
            .iter()
            .chain(&["--without-masks", "-o", out])
            .map(|arg| (*arg).to_owned())
            .collect();
        args
    };
    let text = |args: Vec<String>| aimass(dir.path(), &args.iter().map(String::as_str).collect::<Vec<_>>());
    let whole = lines(&text(run("whole")).stdout).pop().expect("a summary");
    assert_eq!((whole["rounds"].as_u64(), whole["end"].as_str()), (Some(400), Some("finished")));

    let rounds = dir.path().join("killed/rounds.jsonl");
    let mut killed = Command::new(PROGRAM)
        .args(run("killed"))
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    wait("some rounds", Duration::from_secs(60), || {
        std::fs::read_to_string(&rounds).is_ok_and(|text| text.lines().count() > 20)
    });
    killed.kill().expect("dies");
    killed.wait().expect("is dead");
    let again = lines(&text(run("killed")).stdout).pop().expect("a summary");
    assert_eq!(again["model"], whole["model"]);
    for file in [
        "rounds.csv",
        "rounds.parquet",
        "report.html",
        "model.onnx",
        "summary.json",
        "job.toml",
    ] {
        assert!(dir.path().join("killed").join(file).is_file(), "{file}");
    }
    // Another run does not go over it.
    let mut other = run("killed");
    other.extend(["--seed".to_owned(), "5".to_owned()]);
    refused(&text(other), 1, &["holds a run of other input (", "name another folder"]);
}

#[test]
fn a_sweep_runs_each_setting_once_and_says_what_is_wrong_before_the_first() {
    let dir = tempfile::tempdir().expect("a folder");
    let (clients, job) = example(dir.path(), 4, 2);
    std::fs::write(dir.path().join("files.toml"), FILES).expect("writes");
    let sweep = |what: &str| {
        let fixed = [
            "--json",
            "sim",
            &job,
            "--data",
            &clients,
            "--population",
            "files.toml",
            "--clients",
            "4",
        ];
        aimass(
            dir.path(),
            &[&fixed[..], &["--sweep", what, "--seeds", "1,2", "-o", "sweep"]].concat(),
        )
    };
    refused(&sweep("train.lrr=1"), 5, &["train.lrr", "train.lr"]);
    assert!(!said(&sweep("train.lrr=1")).contains("--sweep: --sweep"));
    let two = aimass(dir.path(), &["sim", &job, "--data", &clients, "more.csv"]);
    refused(&two, 2, &["more.csv: there is one job file", "write --data before each file"]);
    assert!(!dir.path().join("sweep").exists());
    let done = sweep("train.lr=0.05,0.1");
    assert!(done.status.success(), "{}", said(&done));
    let done = lines(&done.stdout).pop().expect("a summary");
    assert_eq!((done["runs"].as_u64(), done["missing"].as_u64()), (Some(4), Some(0)), "{done}");
    let table = std::fs::read_to_string(dir.path().join("sweep/runs.csv")).expect("a table");
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(dir.path().join("sweep/train.lr=0.05,seed=2/summary.json").is_file());
    assert!(dir.path().join("sweep/report.html").is_file());
}

#[test]
fn a_run_whose_rows_nobody_reads_any_more_ends_without_a_panic() {
    let dir = tempfile::tempdir().expect("a folder");
    let (clients, job) = example(dir.path(), 4, 10_000);
    std::fs::write(dir.path().join("files.toml"), FILES).expect("writes");
    let args = [
        "--json",
        "sim",
        &job,
        "--data",
        &clients,
        "--population",
        "files.toml",
        "--clients",
        "4",
    ];
    let mut run = Command::new(PROGRAM)
        .args(args)
        .arg("--without-masks")
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut first = String::new();
    let mut rows = BufReader::new(run.stdout.take().expect("piped"));
    rows.read_line(&mut first).expect("a row");
    assert!(first.contains("\"round\":1"), "{first}");
    drop(rows);
    let ended = run.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!said.contains("panicked"), "{said}");
    assert!(said.contains("interrupted after round"), "{said}");
}
