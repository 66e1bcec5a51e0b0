//! The README's first command.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{PROGRAM, aimass, json, refused, wait};

fn run(dir: &Path, out: &str, rounds: &str) -> Value {
    json(&aimass(
        dir,
        &["demo", "--json", "--agents", "3", "--rounds", rounds, "--seed", "5", "--out", out],
    ))
}

#[test]
fn the_same_seed_gives_the_same_model_and_everything_promised_is_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = run(dir.path(), "a", "6");
    let second = run(dir.path(), "b", "6");
    assert_eq!(first["model_sha256"], second["model_sha256"], "same seed, same bytes");
    assert_ne!(
        run(dir.path(), "c", "5")["model_sha256"],
        first["model_sha256"],
        "a round less is another model"
    );

    assert!(first["test_accuracy"].as_f64().expect("a number") > 0.85, "{first}");
    assert_eq!(first["rounds"], 6);
    assert!(first["seconds"].as_f64().expect("a number") > 0.0);
    assert!(
        first["parity_max_abs"].as_f64().expect("a number") < 1e-3,
        "trainer and tract agree: {first}"
    );
    // 3 agents x 6 rounds x 4,810 weights at 26 bits up, at 32 bits down.
    assert!(first["bytes_up"].as_u64().expect("a number") > 3 * 6 * 4810 * 26 / 8, "{first}");
    assert!(first["bytes_down"].as_u64().expect("a number") > 3 * 6 * 4810 * 4, "{first}");
    let out = dir.path().join("a");
    let lines = std::fs::read_to_string(out.join("metrics.jsonl")).expect("figures");
    assert_eq!(lines.lines().count(), 6);
    assert!(std::fs::read_to_string(out.join("accuracy.svg")).expect("a plot").contains("<svg"));
    let model = std::fs::read(out.join("model.onnx")).expect("a model");
    aimass_onnx::Model::from_bytes(&model).expect("the model is valid");

    refused(&aimass(dir.path(), &["demo", "--out", "a"]), 2, &["a is not empty", "--out"]);
}

/// A demo in `dir` with three agents that has finished a round or two and would go on for long. Its folder's path is on every command line.
fn running_demo(dir: &Path) -> Child {
    let out = dir.join("run");
    let demo = Command::new(PROGRAM)
        .args(["demo", "--json", "--agents", "3", "--rounds", "10000", "--out"])
        .arg(&out)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the demo starts");
    let metrics = out.join("metrics.jsonl");
    wait("two rounds", Duration::from_secs(60), || {
        std::fs::read_to_string(&metrics).is_ok_and(|t| t.lines().count() >= 2)
    });
    demo
}

#[test]
fn ctrl_c_leaves_no_process_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut demo = running_demo(dir.path());
    let marker = dir.path().display().to_string();
    assert!(processes_with(&marker) >= 5, "authority, aggregator and three agents run");
    let interrupted = Command::new("kill")
        .args(["-INT", &demo.id().to_string()])
        .status()
        .expect("kill runs");
    assert!(interrupted.success());
    let mut status = None;
    wait("the demo ends", Duration::from_secs(15), || {
        status = demo.try_wait().expect("can be asked");
        status.is_some()
    });
    assert_eq!(status.and_then(|s| s.code()), Some(130));
    wait("its processes end", Duration::from_secs(10), || processes_with(&marker) == 0);
}

#[test]
fn a_killed_demo_leaves_no_process_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut demo = running_demo(dir.path());
    demo.kill().expect("it runs");
    demo.wait().expect("it ended");
    let marker = dir.path().display().to_string();
    wait("its processes end", Duration::from_secs(10), || processes_with(&marker) == 0);
}

/// Processes whose command line or working folder holds `marker`.
fn processes_with(marker: &str) -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let own = std::process::id().to_string();
    entries
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().chars().all(|c| c.is_ascii_digit()) && e.file_name() != own.as_str())
        .filter(|e| {
            let line = std::fs::read(e.path().join("cmdline")).unwrap_or_default();
            let folder = std::fs::read_link(e.path().join("cwd")).unwrap_or_default();
            // A process that has ended but is not reaped has no command line.
            !line.is_empty() && (String::from_utf8_lossy(&line).contains(marker) || folder.to_string_lossy().starts_with(marker))
        })
        .count()
}
