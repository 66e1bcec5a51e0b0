//! `aimass compress`: what it writes, that other programs run it, and what it refuses before anything is written.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use aimass_cli::example::{self, ExampleOptions};
use serde_json::Value;

use crate::support::{Deployment, aimass, json, refused, said, wait};

const DATA: [&str; 10] = [
    "--job",
    "data/job.toml",
    "--data",
    "data/agent-1.csv",
    "--data",
    "data/agent-2.csv",
    "--test",
    "data/test.csv",
    "--seed",
    "3",
];

/// A folder with the digits example and a model trained on it.
struct Digits {
    dir: tempfile::TempDir,
}

impl Digits {
    fn trained() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let options = ExampleOptions {
            agents: 2,
            rounds: 4,
            seed: 5,
            plain: true,
        };
        example::write(&dir.path().join("data"), options).expect("written");
        let digits = Self { dir };
        let data = ["--data", "data/agent-1.csv", "--data", "data/agent-2.csv"];
        let args = [&["--json", "train", "data/job.toml", "--backend", "cpu", "--out", "run"][..], &data].concat();
        json(&digits.run(&args));
        std::fs::copy(digits.path().join("run/model.onnx"), digits.path().join("model.onnx")).expect("copied");
        digits
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn run(&self, args: &[&str]) -> Output {
        aimass(self.path(), args)
    }

    /// Without latencies, which other tests at the same time would disturb.
    fn compress(&self, output: &str, more: &[&str]) -> Output {
        let fixed = ["--json", "compress", "model.onnx", "-o", output, "--without-cost"];
        self.run(&[&fixed[..], &DATA, more].concat())
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path().join(name)).expect("a file")
    }
}

fn accuracy(summary: &Value, when: &str) -> f64 {
    summary[when]["score"]["accuracy"].as_f64().expect("an accuracy")
}

#[test]
fn each_way_makes_a_smaller_file_that_is_about_as_good() {
    let digits = Digits::trained();
    let ways: [(&str, &[&str], f64); 7] = [
        ("weights", &["--quantize", "weights"], 2.5),
        ("int8", &["--quantize", "static"], 2.5),
        ("aware", &["--quantize", "aware", "--epochs", "2"], 2.5),
        ("dynamic", &["--quantize", "dynamic"], 2.5),
        ("4bit", &["--quantize", "4bit", "--block", "16"], 3.0),
        ("pruned", &["--prune", "0.8", "--epochs", "8"], 2.0),
        ("channels", &["--channels", "0.25", "--epochs", "8"], 1.2),
    ];
    for (name, options, smaller) in ways {
        let output = format!("{name}.onnx");
        let summary = json(&digits.compress(&output, options));
        let (before, after) = (accuracy(&summary, "before"), accuracy(&summary, "after"));
        assert!(before > 0.85, "{summary}");
        assert!(after > before - 0.03, "{name}: {summary}");
        let times = summary["times_smaller"].as_f64().expect("a number");
        assert!(times > smaller, "{name}: {times} times: {summary}");
        assert_eq!(
            summary["after"]["bytes"].as_u64(),
            Some(digits.bytes(&output).len() as u64),
            "{name}: of the file that is there"
        );
        assert!(summary["parity"]["rows"].as_u64().is_some_and(|rows| rows > 0), "{summary}");
    }
}

#[test]
fn a_combination_is_done_in_one_command_and_the_same_seed_gives_the_same_bytes() {
    let digits = Digits::trained();
    let all = ["--prune", "0.7", "--quantize", "aware", "--store", "compact", "--epochs", "3"];
    let first = json(&digits.compress("a.onnx", &all));
    let names: Vec<&str> = first["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter_map(|step| step["name"].as_str())
        .collect();
    assert_eq!(names, ["prune", "quantize", "store"]);
    assert!(accuracy(&first, "after") > accuracy(&first, "before") - 0.05, "{first}");
    json(&digits.compress("b.onnx", &all));
    assert_eq!(digits.bytes("a.onnx"), digits.bytes("b.onnx"));
    // Whoever reads a model of this project reads this one.
    let measured = json(&digits.run(&["--json", "model", "measure", "a.onnx", "--batch", "1", "--runs", "5"]));
    assert_eq!(measured["costs"][0]["runs"].as_u64(), Some(5));
    assert!(measured["costs"][0]["median_us"].as_f64().is_some_and(|us| us > 0.0));
}

#[test]
fn a_student_learns_from_a_teacher_that_is_larger() {
    let digits = Digits::trained();
    let small = [
        "--json",
        "model",
        "new",
        "mlp",
        "--sizes",
        "64,16,10",
        "--seed",
        "1",
        "-o",
        "student.onnx",
    ];
    assert!(digits.run(&small).status.success());
    let fixed = [
        "--json",
        "compress",
        "student.onnx",
        "-o",
        "taught.onnx",
        "--without-cost",
        "--teacher",
        "model.onnx",
    ];
    let summary = json(
        &digits.run(
            &[
                &fixed[..],
                &DATA,
                &["--alpha", "1", "--temperature", "2", "--epochs", "30", "--lr", "0.05"],
            ]
            .concat(),
        ),
    );
    assert!(accuracy(&summary, "before") < 0.4, "{summary}");
    assert!(accuracy(&summary, "after") > 0.8, "{summary}");

    let other = [
        "--json",
        "model",
        "new",
        "mlp",
        "--sizes",
        "64,16,12",
        "--seed",
        "1",
        "-o",
        "student.onnx",
        "--force",
    ];
    assert!(digits.run(&other).status.success());
    refused(
        &digits.run(&[&fixed[..], &DATA].concat()),
        5,
        &["the student's output", "12", "the teacher's output", "10"],
    );
}

#[test]
fn what_can_not_work_is_refused_by_name_and_nothing_is_written() {
    let digits = Digits::trained();
    let cases: [(&[&str], i32, &[&str]); 6] = [
        (&["--prune", "1"], 2, &["--prune", "above 0 and below 1"]),
        (&["--quantize", "4bit", "--block", "48"], 2, &["--block", "16, 32, 64 or 128"]),
        (&[], 2, &["nothing is asked for"]),
        (&["--quantize", "static", "--keep", "nowhere*"], 5, &["nowhere*"]),
        (&["--prune", "0.5", "--store", "standard", "--keep", "["], 5, &["["]),
        (
            &["--prune", "0.99", "--epochs", "0", "--max-drop", "0.5"],
            1,
            &["--max-drop 0.5", "nothing is written"],
        ),
    ];
    for (options, code, parts) in cases {
        refused(&digits.compress("out.onnx", options), code, parts);
        assert!(!digits.path().join("out.onnx").exists(), "{options:?}");
    }
    // Data of another width than the model's.
    std::fs::write(digits.path().join("narrow.csv"), "a,b,label\n1,2,0\n3,4,1\n").expect("written");
    let narrow = [
        "--json",
        "compress",
        "model.onnx",
        "-o",
        "out.onnx",
        "--quantize",
        "static",
        "--target",
        "label",
        "--data",
        "narrow.csv",
    ];
    refused(&digits.run(&narrow), 5, &["64"]);
    let without = digits.run(&["compress", "model.onnx", "-o", "out.onnx", "--quantize", "static"]);
    refused(&without, 2, &["name --data"]);
    assert!(said(&without).lines().count() < 6, "{}", said(&without));
    assert!(!digits.path().join("out.onnx").exists());
}

/// Starts a deployment whose job ends with this section.
fn with_section(rounds: u32, section: &str) -> (Deployment, String) {
    let deployment = Deployment::start(2, rounds);
    let text = std::fs::read_to_string(&deployment.example.job).expect("the job file");
    std::fs::write(&deployment.example.job, format!("{text}\n[compress]\n{section}\n")).expect("written");
    let id = deployment.submit();
    (deployment, id)
}

/// The job's last step, once it is over.
fn last_step(deployment: &Deployment, id: &str) -> Value {
    wait("the last step", Duration::from_secs(120), || {
        let state = deployment.job(id)["compressed"]["state"].clone();
        state == "done" || state == "failed"
    });
    deployment.job(id)["compressed"].clone()
}

fn pulled(deployment: &Deployment, id: &str) -> Vec<u8> {
    let args = [
        "--json",
        "job",
        "pull",
        id,
        "--compressed",
        "-o",
        "small.onnx",
        "--server-dir",
        "server",
    ];
    json(&aimass(deployment.dir.path(), &args));
    std::fs::read(deployment.dir.path().join("small.onnx")).expect("written")
}

#[test]
fn a_job_ends_with_a_smaller_model_that_is_measured_on_rows_it_was_not_tuned_on() {
    let (deployment, id) = with_section(4, "quantize = \"static\"\nmax_drop = 5.0");
    let watched = aimass(deployment.dir.path(), &["--json", "job", "watch", &id, "--server-dir", "server"]);
    let end = json(&watched);
    assert_eq!(
        (end["state"].as_str(), end["compressed"]["state"].as_str()),
        (Some("finished"), Some("done")),
        "{end}"
    );
    let (step, view) = (last_step(&deployment, &id), deployment.job(&id));
    assert_eq!((step["round"].as_u64(), &step["parent"]), (Some(4), &view["model"]), "{step}");
    let bytes = |when: &str| step["model"][when]["bytes"].as_u64().expect("a size");
    assert!(bytes("after") * 2 < bytes("before"), "{step}");
    assert!(step["model"]["rows"].as_u64().is_some_and(|rows| rows > 10), "{step}");
    assert!(
        step["model"]["parity"]["max"].as_f64().is_some() && step["model"]["points_lost"].as_f64().is_some_and(|lost| lost <= 5.0),
        "{step}"
    );

    let small = pulled(&deployment, &id);
    assert_eq!(small.len() as u64, bytes("after"));
    let measured = json(&aimass(
        deployment.dir.path(),
        &["--json", "model", "measure", "small.onnx", "--batch", "1", "--runs", "3"],
    ));
    assert!(measured["costs"][0]["median_us"].as_f64().is_some_and(|us| us > 0.0), "{measured}");
    let shown = said(&aimass(deployment.dir.path(), &["job", "show", &id, "--server-dir", "server"]));
    assert!(
        shown.contains("small  ") && shown.contains("rows that it was not tuned on"),
        "{shown}"
    );
    deployment.cluster.stop();
}

#[test]
fn a_server_that_is_killed_at_the_end_of_the_job_still_makes_the_same_smaller_model() {
    let section = "prune = 0.6\nquantize = \"aware\"\nepochs = 20";
    let run = |kill: bool| {
        let (mut deployment, id) = with_section(2, section);
        deployment.wait_round(&id, 2);
        if kill {
            deployment.cluster.kill_and_restart_server().expect("it comes up again");
        }
        assert_eq!(last_step(&deployment, &id)["state"], "done");
        let small = pulled(&deployment, &id);
        deployment.cluster.stop();
        small
    };
    assert_eq!(run(false), run(true), "same seed, same bytes, whatever happened on the way");
}

#[test]
fn a_smaller_model_that_lost_too_much_is_not_kept_and_the_last_rounds_stays() {
    let (deployment, id) = with_section(4, "prune = 0.99\nepochs = 0\nmax_drop = 0.5");
    let step = last_step(&deployment, &id);
    assert_eq!(step["state"], "failed", "{step}");
    assert!(
        step["reason"].as_str().is_some_and(|reason| reason.contains("max_drop = 0.5")),
        "{step}"
    );
    assert_eq!(deployment.job(&id)["state"], "finished");
    let pull = |more: &[&str]| {
        aimass(
            deployment.dir.path(),
            &[&["job", "pull", &id, "--server-dir", "server"], more].concat(),
        )
    };
    refused(&pull(&["--compressed"]), 1, &["no smaller model", "max_drop = 0.5"]);
    assert!(pull(&["-o", "last.onnx"]).status.success());
    deployment.cluster.stop();
}
