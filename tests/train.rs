//! `aimass train`: what a run leaves behind, what stops it, and that a run which was killed ends like one which was not.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aimass_cli::example::{self, Example, ExampleOptions};
use aimass_learning::Dataset;
use aimass_onnx::{Model, TrainableRules};
use serde_json::Value;

use crate::support::{PROGRAM, aimass, json, last_json, npz, refused, said, wait};

/// The digits example with all rows for training in three files.
struct Digits {
    dir: tempfile::TempDir,
    example: Example,
}

const DATA: [&str; 6] = [
    "--data",
    "data/agent-1.csv",
    "--data",
    "data/agent-2.csv",
    "--data",
    "data/agent-3.csv",
];

impl Digits {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let options = ExampleOptions {
            agents: 3,
            rounds: 2,
            seed: 5,
            plain: false,
        };
        let example = example::write(&dir.path().join("data"), options).expect("written");
        Self { dir, example }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A job beside the example's, changed.
    fn job(&self, name: &str, changes: &[(&str, &str)]) -> String {
        let mut text = std::fs::read_to_string(&self.example.job).expect("text");
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        std::fs::write(self.path("data").join(name), text).expect("written");
        format!("data/{name}")
    }

    fn train(&self, args: &[&str]) -> std::process::Output {
        aimass(self.dir.path(), &[&["train", "--backend", "cpu"], args].concat())
    }

    fn start(&self, args: &[&str]) -> Child {
        Command::new(PROGRAM)
            .args(["train", "--backend", "cpu"])
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the executable starts")
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The figures of a log that do not depend on the clock.
fn figures(path: &Path) -> Vec<Value> {
    let mut all = lines(path);
    for line in &mut all {
        let line = line.as_object_mut().expect("an object");
        line.remove("seconds");
        line.remove("examples_per_second");
    }
    all
}

fn weights(model: &[u8]) -> Vec<f32> {
    let model = Model::from_bytes(model).expect("a model");
    let layout = model.layout(&TrainableRules::default()).expect("something trains");
    model.weights(&layout).expect("weights")
}

#[test]
fn a_run_trains_and_leaves_model_figures_plots_and_a_checkpoint() {
    let digits = Digits::new();
    let output = digits.train(&[&["--json", "data/job.toml", "--epochs", "4", "--out", "run"], &DATA[..]].concat());
    let summary = json(&output);
    let printed: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    let (end, logged) = printed.split_last().expect("lines");
    assert_eq!(*end, summary);
    assert_eq!(logged, lines(&digits.path("run/metrics.jsonl")));
    for line in &printed {
        assert!(line["epoch"].is_u64() && line["step"].is_u64() && line["loss"].is_f64(), "{line}");
    }
    let epochs: Vec<&Value> = logged.iter().filter(|l| l["kind"] == "epoch").collect();
    assert_eq!(epochs.len(), 4);
    assert!(epochs[0]["loss"].as_f64() > epochs[3]["loss"].as_f64());
    assert_eq!(
        (summary["train_examples"].as_u64(), summary["validation_examples"].as_u64()),
        (Some(1437), Some(360))
    );
    assert_eq!(summary["step"], 4 * 144);
    assert!(summary["validation"]["accuracy"].as_f64() > Some(0.9), "{summary}");

    // The model is the one that was measured.
    let model = Model::from_bytes(&digits.bytes("run/model.onnx")).expect("a model");
    let test = Dataset::read_csv(&digits.example.test, &[], "label").expect("reads");
    let found = aimass_learning::evaluate(&model, &test, &aimass_learning::Loss::cross_entropy().into()).expect("evaluates");
    assert_eq!(Some(found.loss), summary["validation"]["loss"].as_f64());
    assert!(aimass(digits.dir.path(), &["model", "check", "run/model.onnx"]).status.success());
    for (plot, text) in [("loss.svg", "validation: "), ("metrics.svg", "accuracy: ")] {
        let svg = String::from_utf8(digits.bytes(&format!("run/{plot}"))).expect("text");
        assert!(svg.contains(text), "{plot}");
    }
    // Nothing temporary stays, and the same command gives the same bytes elsewhere.
    let mut names: Vec<String> = std::fs::read_dir(digits.path("run"))
        .expect("there")
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["checkpoint.bin", "loss.svg", "metrics.jsonl", "metrics.svg", "model.onnx"]);
    let again = digits.train(&[&["data/job.toml", "--epochs", "4", "--out", "again", "--threads", "1"], &DATA[..]].concat());
    assert!(again.status.success(), "{}", said(&again));
    assert_eq!(digits.bytes("run/model.onnx"), digits.bytes("again/model.onnx"));
    let other = digits.train(&[&["data/job.toml", "--epochs", "4", "--out", "other", "--seed", "6"], &DATA[..]].concat());
    assert!(other.status.success(), "{}", said(&other));
    assert_ne!(digits.bytes("run/model.onnx"), digits.bytes("other/model.onnx"));
}

#[test]
fn a_run_that_is_killed_anywhere_resumes_to_the_same_bytes() {
    let digits = Digits::new();
    // Everything that has a state: moments, a schedule, running statistics, dropout.
    let made = aimass(
        digits.dir.path(),
        &[
            "model",
            "new",
            "mlp",
            "--sizes",
            "64,24,10",
            "--batch-norm",
            "--dropout",
            "0.2",
            "-o",
            "data/bn.onnx",
        ],
    );
    assert!(made.status.success(), "{}", said(&made));
    let job = digits.job(
        "adam.toml",
        &[
            ("model.onnx", "bn.onnx"),
            (
                "optimizer = \"sgd\"",
                "optimizer = \"adamw\"\nclip_norm = 1.0\nschedule = { name = \"cosine\", warmup = 20 }",
            ),
            ("lr = 0.1", "lr = 0.01"),
        ],
    );
    let args = |out: &'static str| {
        [
            &[job.as_str(), "--epochs", "3", "--validation-share", "0.2", "--out", out],
            &DATA[..],
        ]
        .concat()
    };
    let whole = digits.train(&args("whole"));
    assert!(whole.status.success(), "{}", said(&whole));

    let folder = digits.path("killed");
    let metrics = folder.join("metrics.jsonl");
    let every_step = ["--checkpoint-every", "0"];
    // Killed again and again, each time a little later, at steps that the clock chooses.
    let mut child = digits.start(&[&args("killed")[..], &every_step].concat());
    let mut kills = 0;
    for lines_before in [1, 40, 90, 170, 250] {
        wait("lines in the log", Duration::from_secs(60), || {
            lines(&metrics).len() >= lines_before || child.try_wait().expect("its own child").is_some()
        });
        if child.try_wait().expect("its own child").is_some() {
            break;
        }
        child.kill().expect("it runs");
        child.wait().expect("its own child");
        kills += 1;
        assert!(!folder.join("model.onnx").exists());
        // What a crash leaves of a line that was being written.
        let mut text = std::fs::read_to_string(&metrics).expect("text");
        text.push_str("{\"kind\":\"ep");
        std::fs::write(&metrics, text).expect("written");
        child = digits.start(&[&args("killed")[..], &every_step, &["--resume"]].concat());
    }
    assert!(kills >= 2, "the run was too short to be killed");
    let ended = child.wait_with_output().expect("its own child");
    assert!(ended.status.success(), "{}", said(&ended));
    assert_eq!(digits.bytes("whole/model.onnx"), digits.bytes("killed/model.onnx"));
    assert_eq!(digits.bytes("whole/checkpoint.bin"), digits.bytes("killed/checkpoint.bin"));
    assert_eq!(figures(&digits.path("whole/metrics.jsonl")), figures(&metrics));
    // To resume what has ended changes nothing.
    let after = digits.train(&[&args("killed")[..], &["--resume"]].concat());
    assert!(after.status.success(), "{}", said(&after));
    assert_eq!(digits.bytes("whole/model.onnx"), digits.bytes("killed/model.onnx"));
}

#[test]
fn ctrl_c_keeps_a_checkpoint_and_says_how_to_go_on() {
    let digits = Digits::new();
    let args = |out: &'static str| [&["data/job.toml", "--epochs", "2000", "--out", out], &DATA[..]].concat();
    let child = digits.start(&args("run"));
    wait("an epoch", Duration::from_secs(60), || {
        lines(&digits.path("run/metrics.jsonl")).len() > 2
    });
    let interrupted = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("kill runs");
    assert!(interrupted.success());
    let output = child.wait_with_output().expect("its own child");
    refused(&output, 130, &["interrupted after step", "--resume --out run"]);
    assert!(!digits.path("run/model.onnx").exists());
    // It goes on from there; other passes are allowed where no schedule depends on them, but not fewer than were made.
    let line = lines(&digits.path("run/metrics.jsonl")).pop().expect("a line");
    let epochs = (line["epoch"].as_u64().expect("a number") + 1).to_string();
    let shorter = |out: &'static str| [&["data/job.toml", "--epochs", &epochs, "--out", out], &DATA[..]].concat();
    let resumed = digits.train(&[&shorter("run")[..], &["--resume"]].concat());
    assert!(resumed.status.success(), "{}", said(&resumed));
    let whole = digits.train(&shorter("whole"));
    assert!(whole.status.success(), "{}", said(&whole));
    assert_eq!(digits.bytes("run/model.onnx"), digits.bytes("whole/model.onnx"));
    let too_few = digits.train(&[&["data/job.toml", "--epochs", "1", "--out", "run", "--resume"], &DATA[..]].concat());
    refused(&too_few, 2, &["more than --epochs 1"]);
}

#[test]
fn a_checkpoint_of_something_else_is_refused_and_says_what_differs() {
    let digits = Digits::new();
    let base = ["--epochs", "1", "--out", "run"];
    let first = digits.train(&[&["data/job.toml"], &base[..], &DATA].concat());
    assert!(first.status.success(), "{}", said(&first));
    refused(
        &digits.train(&[&["data/job.toml"], &base[..], &DATA].concat()),
        2,
        &["run is not empty", "--out"],
    );
    let kept = digits.bytes("run/checkpoint.bin");
    let resume = |job: &str, more: &[&str]| digits.train(&[&[job], &base[..], more, &["--resume"]].concat());
    refused(&resume("data/job.toml", &DATA[..2]), 5, &["the data or its split differs"]);
    refused(
        &resume("data/job.toml", &[&DATA[..], &["--validation-share", "0.5"]].concat()),
        5,
        &["the data or its split differs"],
    );
    let faster = digits.job("faster.toml", &[("lr = 0.1", "lr = 0.2")]);
    refused(&resume(&faster, &DATA), 5, &["how it is trained"]);
    refused(
        &resume("data/job.toml", &[&DATA[..], &["--seed", "9"]].concat()),
        5,
        &["how it is trained"],
    );
    let made = aimass(
        digits.dir.path(),
        &[
            "model",
            "new",
            "mlp",
            "--sizes",
            "64,64,10",
            "--seed",
            "77",
            "-o",
            "data/other.onnx",
        ],
    );
    assert!(made.status.success(), "{}", said(&made));
    let other = digits.job("other.toml", &[("model.onnx", "other.onnx")]);
    refused(&resume(&other, &DATA), 5, &["the model differs"]);
    let mut damaged = kept.clone();
    damaged[300] ^= 1;
    std::fs::write(digits.path("run/checkpoint.bin"), damaged).expect("written");
    refused(&resume("data/job.toml", &DATA), 5, &["not a whole checkpoint", "its checksum"]);
    std::fs::remove_file(digits.path("run/checkpoint.bin")).expect("there");
    refused(
        &resume("data/job.toml", &DATA),
        2,
        &["no checkpoint to go on from", "without --resume"],
    );
    refused(&digits.train(&[&["data/job.toml", "--resume"], &DATA[..]].concat()), 2, &["--out"]);
}

#[test]
fn a_loss_that_is_not_finite_stops_names_the_batch_and_keeps_the_last_good_weights() {
    let digits = Digits::new();
    let job = digits.job("wild.toml", &[("lr = 0.1", "lr = 1e25")]);
    let output = digits.train(&[&[job.as_str(), "--json", "--out", "run"], &DATA[..]].concat());
    refused(
        &output,
        1,
        &[
            "the loss or its gradient became",
            "epoch 1, step 2, rows data/agent-",
            "the last good weights",
            "run/model.onnx",
        ],
    );
    assert_eq!(last_json(&output)["exit_code"], 1);
    let kept = digits.bytes("run/model.onnx");
    assert_eq!(
        weights(&kept),
        weights(&digits.bytes("data/model.onnx")),
        "those that the pass began with"
    );
    let test = Dataset::read_csv(&digits.example.test, &[], "label").expect("reads");
    let loss = aimass_learning::Loss::cross_entropy().into();
    let found = aimass_learning::evaluate(&Model::from_bytes(&kept).expect("a model"), &test, &loss).expect("evaluates");
    assert!(found.loss.is_finite());
}

#[test]
fn what_can_not_be_trained_is_refused_before_anything_is_written() {
    let digits = Digits::new();
    let run = |args: &[&str]| {
        let output = digits.train(&[args, &["--out", "run"]].concat());
        assert!(!digits.path("run/checkpoint.bin").exists(), "{}", said(&output));
        output
    };
    let data = ["--data", "data/agent-1.csv"];
    let with = |job: &str, more: &[&str]| run(&[&[job], &data[..], more].concat());
    std::fs::write(
        digits.path("labels.csv"),
        std::fs::read_to_string(&digits.example.test)
            .expect("text")
            .replace(",7\n", ",10\n"),
    )
    .expect("written");
    std::fs::write(digits.path("narrow.csv"), "a,label\n1,0\n").expect("written");
    std::fs::write(digits.path("array.npz"), b"PK\x05\x06").expect("written");
    refused(&run(&["data/job.toml"]), 2, &["--data"]);
    refused(&run(&["data/job.toml", "--data", "none.csv"]), 5, &["none.csv"]);
    refused(
        &run(&["data/job.toml", "--data", "labels.csv"]),
        5,
        &["has the target 10", "classes are 0 to 9"],
    );
    refused(
        &run(&["data/job.toml", "--data", "narrow.csv"]),
        5,
        &["takes 64 features a row, the data has 1"],
    );
    refused(
        &run(&["data/job.toml", "--data", "array.npz"]),
        5,
        &["array.npz", "not a whole zip archive"],
    );
    refused(&with("data/none.toml", &[]), 5, &["none.toml"]);
    refused(&with("data/job.toml", &["--validation-share", "1.0"]), 2, &["above 0 and below 1"]);
    refused(&with("data/job.toml", &["--validation-share", "0.000001"]), 2, &["leaves nothing"]);
    refused(
        &with("data/job.toml", &["--validation", "labels.csv"]),
        5,
        &["the data to measure on", "target 10"],
    );
    refused(
        &with("data/job.toml", &["--validation", "labels.csv", "--validation-share", "0.1"]),
        2,
        &["cannot be used with"],
    );
    refused(
        &with("data/job.toml", &["--labels", "a", "--labels", "b"]),
        2,
        &["2 --labels for 1 --data"],
    );
    let lost = digits.job("lost.toml", &[("test.csv", "lost.csv")]);
    refused(&with(&lost, &[]), 5, &["lost.csv"]);
    let typo = digits.job("typo.toml", &[("lr = 0.1", "rate = 0.1")]);
    refused(&with(&typo, &[]), 5, &["rate", "line"]);
    let mae = digits.job("mae.toml", &[("lr = 0.1", "lr = 0.1\nmetrics = [\"mae\"]")]);
    refused(&with(&mae, &[]), 5, &["mae"]);
}

#[test]
fn arrays_and_images_train_like_the_same_rows_in_a_csv() {
    let digits = Digits::new();
    let rows = Dataset::read_csv(&digits.example.agents[0], &[], "label").expect("reads");
    let n = rows.len();
    let labels: Vec<u8> = rows.targets().iter().map(|&t| t as u8).collect();
    let features: Vec<u8> = rows.features().iter().flat_map(|v| v.to_le_bytes()).collect();
    let arrays = npz(&[
        ("pixels", "<f4", &format!("{n}, 1, 8, 8"), features),
        ("label", "|u1", &format!("{n},"), labels.clone()),
    ]);
    std::fs::write(digits.path("rows.npz"), arrays).expect("written");
    let args = |data: &'static str, out: &'static str| ["data/job.toml", "--epochs", "2", "--data", data, "--out", out];
    for (data, out) in [("data/agent-1.csv", "csv"), ("rows.npz", "npz")] {
        let output = digits.train(&args(data, out));
        assert!(output.status.success(), "{}", said(&output));
    }
    assert_eq!(digits.bytes("csv/model.onnx"), digits.bytes("npz/model.onnx"));

    // Images of bytes: pixels 0 to 255 become 0 to 1.
    let pixels: Vec<u8> = rows.features().iter().map(|v| (v * 255.0).round() as u8).collect();
    let size = u32::try_from(n).expect("small").to_be_bytes();
    let images = [&[0, 0, 8, 3][..], &size, &[0, 0, 0, 8, 0, 0, 0, 8], &pixels].concat();
    std::fs::write(digits.path("images-idx3"), images).expect("written");
    std::fs::write(digits.path("labels-idx1"), [&[0, 0, 8, 1][..], &size, &labels].concat()).expect("written");
    let output = digits.train(&[&args("images-idx3", "idx")[..], &["--json"]].concat());
    let summary = json(&output);
    assert_eq!(summary["train_examples"].as_u64(), Some(n as u64));
    assert!(summary["validation"]["accuracy"].as_f64() > Some(0.5), "{summary}");
}

#[test]
fn adapters_are_merged_and_every_metric_is_reported() {
    let digits = Digits::new();
    let job = digits.job(
        "lora.toml",
        &[
            (
                "optimizer = \"sgd\"",
                "optimizer = \"adam\"\nlora = { rank = 4 }\nmetrics = [\"top3\", \"f1_macro\", \"auc\", \"perplexity\", \"confusion\"]",
            ),
            ("lr = 0.1", "lr = 0.02"),
        ],
    );
    let output = digits.train(&[&["--json", &job, "--epochs", "3", "--out", "run"], &DATA[..]].concat());
    let validation = json(&output)["validation"].clone();
    for metric in ["loss", "accuracy", "top3", "f1_macro", "auc", "perplexity"] {
        assert!(validation[metric].is_f64(), "{metric}: {validation}");
    }
    assert!(validation["accuracy"].as_f64() > Some(0.5), "{validation}");
    let confusion = validation["confusion"].as_array().expect("a matrix");
    let cells = confusion.iter().flat_map(|row| row.as_array().expect("a row"));
    assert_eq!(
        (confusion.len(), cells.map(|c| c.as_f64().expect("a number")).sum::<f64>()),
        (10, 360.0)
    );
    assert!(digits.path("run/perplexity.svg").exists());
    // The model has the names that it had, and other matrices.
    let (before, after) = (digits.bytes("data/model.onnx"), digits.bytes("run/model.onnx"));
    let names = |bytes: &[u8]| -> Vec<String> {
        let model = Model::from_bytes(bytes).expect("a model");
        model.initializers().map(|t| t.proto.name.clone()).collect()
    };
    assert_eq!(names(&before), names(&after));
    assert_ne!(weights(&before), weights(&after));
}
