//! Calibration between real processes: ranges of activations from the agents' rows, summed under masks, and the integer model that they give.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aimass_analytics::calibration::CalibrationReport;
use aimass_cli::cluster::ClusterSettings;
use aimass_cli::example::Example;
use aimass_compress::{Data, Options, Quantize, Watched, compress, spread};
use aimass_learning::data::{Joined, Limits, Source, Subset, Wanted, open};
use aimass_onnx::Model;
use aimass_shrink::quantize::{Activations, Histogram, Method, Observed};
use serde_json::Value;

use crate::support::{Deployment, aimass, json, refused, said, wait};

/// Agents with the digits; one more holds something else.
const AGENTS: usize = 3;
/// Rows of an agent that are looked at: fewer than it has.
const ROWS: usize = 150;

fn files(example: &Example) -> Vec<PathBuf> {
    let mut files = example.agents.clone();
    let last = files.last().expect("one too many");
    std::fs::write(last, "a,b,label\n1,2,0\n3,4,1\n5,6,1\n").expect("written");
    files.rotate_right(1);
    files
}

/// Four agents, of which the first one's columns are others, and a trained model in the folder.
fn deployed() -> Deployment {
    let deployment = Deployment::start_on(AGENTS as u32 + 1, 4, ClusterSettings::default(), files);
    let dir = deployment.dir.path();
    let args = [
        "--json",
        "train",
        "data/job.toml",
        "--backend",
        "cpu",
        "--out",
        "run",
        "--data",
        "data/agent-1.csv",
    ];
    json(&aimass(dir, &args));
    std::fs::copy(dir.join("run/model.onnx"), dir.join("model.onnx")).expect("copied");
    deployment
}

/// A job file in the folder; `more` goes to the end of it.
fn job(dir: &Path, name: &str, more: &str) -> PathBuf {
    let text = format!(
        "[job]\nname = \"{name}\"\nkind = \"calibration\"\npurpose = \"recognise handwritten digits\"\n[model]\npath = \"model.onnx\"\n\
         [data]\ncontract = \"optical-digits\"\ntarget = \"label\"\n[calibration]\nrows = {ROWS}\n[evaluate]\ndata = \"data/test.csv\"\n\
         [compress]\nquantize = \"static\"\nmax_drop = 5.0\n[round]\nmin = 3\nmax = 4\n{more}"
    );
    let path = dir.join(format!("{name}.toml"));
    std::fs::write(&path, text).expect("written");
    path
}

fn ended(deployment: &Deployment, id: &str) -> Value {
    wait("the last step", Duration::from_secs(120), || {
        let view = deployment.job(id);
        assert_ne!(view["state"], "failed", "{view:#}");
        view["compressed"]["state"] == "done" || view["compressed"]["state"] == "failed"
    });
    deployment.job(id)
}

fn pulled(deployment: &Deployment, id: &str, file: &str, more: &[&str]) -> Vec<u8> {
    let args = [&["job", "pull", id, "-o", file, "--server-dir", "server"], more].concat();
    let output = aimass(deployment.dir.path(), &args);
    assert!(output.status.success(), "{}", said(&output));
    std::fs::read(deployment.dir.path().join(file)).expect("written")
}

/// The rows of an agent that are looked at.
fn rows(path: &Path, model: &Model) -> Subset {
    let wanted = Wanted {
        inputs: Vec::new(),
        targets: vec!["label".to_owned()],
        model_inputs: vec![model.inputs()[0].name.clone()],
        labels: None,
    };
    let all: Arc<dyn Source> = open(path, &wanted, &Limits::default()).expect("opens").into();
    let chosen = spread(all.len(), ROWS);
    assert!(chosen.len() < all.len(), "a cap that does nothing");
    Subset::new(all, chosen).expect("some")
}

/// What one device would find on all rows together, with the exponents of the report.
fn locally(deployment: &Deployment, model: &Model, report: &CalibrationReport) -> Observed {
    let watched = Watched::of(model, &[]).expect("can be quantized");
    let exponents: Vec<i32> = report.tensors.iter().map(|tensor| tensor.exponent.expect("known")).collect();
    let parts = deployment.example.agents[..AGENTS].iter();
    let parts = parts.map(|path| Box::new(rows(path, model)) as Box<dyn Source>);
    let all = Joined::new(parts.collect());
    let counted = watched.look(watched.bounded(&exponents).expect("known"), &all, &[], &mut |_, _| {
        ControlFlow::Continue(())
    });
    let counted = counted.expect("fits").expect("to the end");
    let of_counts = |(name, histogram): (&String, &Histogram)| {
        let whole = Histogram::from_counts(histogram.exponent(), histogram.counts()).expect("a histogram");
        (name.clone(), whole)
    };
    Observed::from_histograms(counted.histograms().iter().map(of_counts).collect())
}

fn quantized(model: &Model, ranges: Observed) -> Vec<u8> {
    let data = Data {
        ranges: Some(Arc::new(ranges)),
        ..Data::none()
    };
    let options = Options {
        quantize: Some(Quantize::Static {
            method: Method::MinMax,
            activations: Activations::U8,
            aware: false,
            rows: ROWS,
            exclude: Vec::new(),
        }),
        ..Options::default()
    };
    let done = compress(model, &data, &options, &mut |_| {}).expect("quantizes");
    done.model.as_bytes().to_vec()
}

#[test]
fn should_make_the_integer_model_that_all_rows_in_one_place_would_give() {
    let mut deployment = deployed();
    let dir = deployment.dir.path().to_owned();
    let id = deployment.submit_file(&job(&dir, "ranges", ""));
    deployment.wait_round(&id, 1);
    deployment.cluster.kill_and_restart_server().expect("starts again");
    let view = ended(&deployment, &id);
    assert_eq!(
        (view["kind"].as_str(), view["state"].as_str()),
        (Some("calibration"), Some("finished")),
        "{view:#}"
    );
    let step = &view["compressed"];
    assert_eq!(step["state"], "done", "{view:#}");
    assert_eq!(
        (&step["ranges"], step["model"]["rows"].as_u64()),
        (&view["model"], Some(360)),
        "{view:#}"
    );
    assert!(
        step["model"]["parity"]["max"].is_f64() && step["model"]["points_lost"].as_f64().is_some_and(|lost| lost <= 5.0),
        "{step:#}"
    );
    for round in view["history"].as_array().expect("rounds") {
        assert_eq!(
            (round["contributions"].as_u64(), round["weight"].as_u64()),
            (Some(3), Some((AGENTS * ROWS) as u64)),
            "{round}"
        );
    }

    let first = CalibrationReport::parse(&pulled(&deployment, &id, "first.json", &["--round", "1"])).expect("a report");
    assert_eq!((first.round, first.agents), (1, 3));
    let bytes = pulled(&deployment, &id, "report.json", &[]);
    let report = CalibrationReport::parse(&bytes).expect("a report");
    let model = Model::from_bytes(&std::fs::read(dir.join("model.onnx")).expect("read")).expect("a model");
    let local = locally(&deployment, &model, &report);
    assert_eq!(local.histograms().len(), report.tensors.len());
    for tensor in &report.tensors {
        let histogram = &local.histograms()[&tensor.name];
        assert_eq!(tensor.total(), histogram.total(), "{}", tensor.name);
        assert_eq!(
            tensor.range().map(|(low, high)| (low as f32, high as f32)),
            histogram.extremes(),
            "{}",
            tensor.name
        );
    }
    let small = pulled(&deployment, &id, "small.onnx", &["--compressed"]);
    assert!(small.len() * 2 < model.as_bytes().len());
    assert!(small == quantized(&model, local), "as from all rows in one place");

    let by_hand = [
        "compress",
        "model.onnx",
        "-o",
        "hand.onnx",
        "--quantize",
        "static",
        "--without-cost",
        "--ranges",
    ];
    let made = aimass(&dir, &[&by_hand[..], &["report.json"]].concat());
    assert!(made.status.success(), "{}", said(&made));
    assert!(small == std::fs::read(dir.join("hand.onnx")).expect("written"), "as by the command");
    refused(
        &aimass(&dir, &[&by_hand[..], &["first.json"]].concat()),
        5,
        &["first.json", "round 1 holds no histograms"],
    );
    std::fs::copy(&deployment.example.model, dir.join("other.onnx")).expect("copied");
    let other = [
        "compress",
        "other.onnx",
        "-o",
        "x.onnx",
        "--quantize",
        "static",
        "--ranges",
        "report.json",
    ];
    refused(
        &aimass(&dir, &other),
        5,
        &["report.json: these are the ranges of the model", "calibrate this model"],
    );
    let text = String::from_utf8(bytes).expect("JSON");
    let renamed = text.replace(&format!("\"name\":\"{}\"", report.tensors[0].name), "\"name\":\"nowhere\"");
    std::fs::write(dir.join("renamed.json"), renamed).expect("written");
    let wrong = aimass(&dir, &[&by_hand[..], &["renamed.json"]].concat());
    refused(&wrong, 5, &["the ranges do not fit the model", &report.tensors[0].name]);

    let shown = said(&aimass(&dir, &["job", "show", &id, "--server-dir", "server"]));
    let head = format!("report of round 2: {} rows of 3 agents, a sum under masks", report.rows);
    for part in [&head[..], "TENSOR", &report.tensors[0].name, "small  "] {
        assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
    }
    let shown = json(&aimass(&dir, &["--json", "job", "show", &id, "--server-dir", "server"]));
    assert_eq!(shown["report"]["tensors"].as_array().map(Vec::len), Some(report.tensors.len()));
    let log = std::fs::read_to_string(dir.join("logs/agent-1.log")).expect("a log");
    // It may have asked when the round had all that it takes; three contributions are counted either way.
    let asked = log.contains("job ranges");
    assert!(
        !asked || (log.contains("64") && log.contains("nothing is counted of this device's rows")),
        "{log}"
    );

    // Without masks: the same numbers, and the same model.
    let plain = deployment.submit_file(&job(&dir, "plain", "[aggregation]\nmode = \"plain\"\n"));
    ended(&deployment, &plain);
    let bytes = pulled(&deployment, &plain, "plain.json", &[]);
    assert_eq!(String::from_utf8(bytes).expect("JSON"), text.replace("\"secure\"", "\"plain\""));
    assert!(small == pulled(&deployment, &plain, "plain.onnx", &["--compressed"]));
    deployment.cluster.check().expect("all processes live");
    deployment.cluster.stop();
}

#[test]
fn should_be_checked_and_filled_in_before_anybody_sees_it() {
    let deployment = Deployment::start_on(1, 1, ClusterSettings::default(), |_| Vec::new());
    let dir = deployment.dir.path();
    std::fs::copy(&deployment.example.model, dir.join("model.onnx")).expect("copied");
    let path = job(dir, "job", "");
    let text = std::fs::read_to_string(&path).expect("read");
    let check = |text: &str| {
        std::fs::write(&path, text).expect("written");
        aimass(dir, &["--json", "job", "check", "job.toml", "--output", "filled.toml"])
    };
    let good = json(&check(&text));
    let tensors = good["tensors"].as_u64().expect("a number");
    assert_eq!(good["numbers"].as_u64(), Some(1 + tensors + tensors * 2048), "{good}");
    let filled = std::fs::read_to_string(dir.join("filled.toml")).expect("filled in");
    assert!(filled.contains("digest = ") && filled.contains("tensors = ["), "{filled}");
    assert!(check(&filled).status.success(), "what is filled in is right");
    for (wrong, part) in [
        (
            filled.replace("size_bytes = ", "size_bytes = 1"),
            "calibration.size_bytes: does not fit the model",
        ),
        (
            filled.replace("tensors = [", "tensors = [\"more\", "),
            "calibration.tensors: does not fit the model",
        ),
        (text.replace("model.onnx", "none.onnx"), "model.path"),
        (text.replace("data/test.csv", "data/none.csv"), "evaluate.data"),
        (
            text.replace("quantize = \"static\"", "quantize = \"static\"\nkeep = [\"*\"]"),
            "model.path: no node",
        ),
        (text.replace("rows = 150", "rows = 0"), "calibration.rows"),
        (
            text.replace("quantize = \"static\"", "quantize = \"static\"\nprune = 0.5"),
            "compress.prune",
        ),
        (
            text.replace("kind = \"calibration\"", "kind = \"train\""),
            "calibration: is of calibration jobs",
        ),
    ] {
        refused(&check(&wrong), 5, &["job.toml", part]);
    }
    std::fs::write(&path, &filled).expect("written");
    refused(&aimass(dir, &["train", "job.toml", "--data", "data/test.csv"]), 5, &["job.kind"]);
    refused(&aimass(dir, &["release", "check", "job.toml"]), 5, &["this is no release"]);
    // The model is one that the server was never given, or that has other activations.
    let submit = |text: &str, model: &[u8]| {
        let file = aimass_protocol::job::JobFile::parse(text).expect("right by itself");
        let calibration = file.calibration.as_ref().expect("a calibration");
        let beginning = CalibrationReport::empty(calibration, file.aggregation.mode).to_bytes();
        let _: Value = deployment.cluster.server().put_bytes("/v1/blobs", model).expect("stored");
        deployment.cluster.submit(text, &beginning)
    };
    let bytes = std::fs::read(&deployment.example.model).expect("read");
    let alone = filled
        .replace("[evaluate]\ndata = \"data/test.csv\"", "")
        .replace("max_drop = 5.0", "");
    let error = submit(&alone, b"another file").expect_err("not there").to_string();
    assert!(
        error.contains("calibration.digest") && error.contains("is not stored here"),
        "{error}"
    );
    let error = submit(&alone.replace("tensors = [", "tensors = [\"more\", "), &bytes)
        .expect_err("others")
        .to_string();
    assert!(error.contains("calibration.tensors") && error.contains("activations"), "{error}");
    submit(&alone, &bytes).expect("taken");
    deployment.cluster.stop();
}
