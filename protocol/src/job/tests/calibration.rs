//! Calibration jobs: what they may say.

use super::*;
use crate::descriptor::CodecName;
use crate::limits::MAX_CALIBRATION_TENSORS;

const EXAMPLE: &str = include_str!("../../../testdata/calibration.example.toml");

#[test]
fn should_read_the_example_and_have_two_rounds() {
    let file = JobFile::parse(EXAMPLE).expect("the example");
    assert_eq!(
        (file.job.kind, file.round.rounds, file.round.mode),
        (JobKind::Calibration, 2, RoundMode::Sync)
    );
    assert_eq!((file.model.path.as_str(), file.train.epochs), ("digits.onnx", 0));
    assert_eq!(
        (file.update.codec, file.update.bits, file.update.weight_cap),
        (CodecName::Exact, 24, 512)
    );
    assert!(!file.trains() && file.aggregation.mode == AggregationMode::Secure);
    let quantize = file.compress.and_then(|section| section.quantize);
    assert!(
        matches!(
            quantize,
            Some(QuantizeSection::Static {
                aware: false,
                rows: 512,
                ..
            })
        ),
        "{quantize:?}"
    );
    let calibration = file.calibration.expect("the section");
    assert_eq!(
        (calibration.rows, calibration.bits, calibration.top_count()),
        (512, 24, (1 << 24) - 1)
    );
    assert_eq!(calibration.tensors, ["input", "/fc1/Relu_output_0"]);
}

#[test]
fn should_explain_every_key_in_the_example() {
    for key in schema::job_file_keys().filter(|key| key.starts_with("calibration")) {
        let name = key.rsplit('.').next().expect("a key");
        let explained = EXAMPLE
            .lines()
            .any(|line| line.trim_start_matches(['#', ' ']).starts_with(&format!("{name} = ")));
        assert!(explained, "{key} is not in calibration.example.toml");
    }
}

#[test]
fn should_do_without_a_last_step() {
    let (from, to) = (
        EXAMPLE.find("\n[evaluate]").expect("there"),
        EXAMPLE.find("\n[round]").expect("there"),
    );
    let text = [&EXAMPLE[..from], &EXAMPLE[to..]].concat();
    let file = JobFile::parse(&text).expect("the report alone");
    assert!(file.compress.is_none() && file.evaluate.is_none());
}

#[test]
fn should_take_as_many_tensors_as_fit_and_not_one_more() {
    let with = |n: usize| {
        let names: Vec<String> = (0..n).map(|at| format!("\"t{at}\"")).collect();
        JobFile::parse(&EXAMPLE.replace("\"input\", \"/fc1/Relu_output_0\"", &names.join(", ")))
    };
    assert!(with(MAX_CALIBRATION_TENSORS).is_ok());
    let error = with(MAX_CALIBRATION_TENSORS + 1).expect_err("one more");
    assert!(error.field == "calibration.tensors" && error.fix.contains("keep"), "{error}");
}

const WRONG: &[(&str, &str)] = &[
    ("# rows = 512", "rows = 0"),
    ("# rows = 512", "rows = 20000000"),
    ("# bits = 24", "bits = 3"),
    ("# bits = 24", "bits = 33"),
    ("# loss = \"cross_entropy\"", "loss = \"hinge\""),
    ("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "9f86d081"),
    (
        "digest = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"\n",
        "",
    ),
    ("size_bytes = 31254", "size_bytes = 0"),
    ("size_bytes = 31254\n", ""),
    ("[\"input\", \"/fc1/Relu_output_0\"]", "[]"),
    ("[\"input\", \"/fc1/Relu_output_0\"]", "[\"input\", \"input\"]"),
    ("[\"input\", \"/fc1/Relu_output_0\"]", "[\"in\\nput\"]"),
    ("tensors = [", "tensor = ["),
    ("path = \"digits.onnx\"", "path = \"digits.onnx\"\ntrainable = [\"w\"]"),
    ("path = \"digits.onnx\"", ""),
    ("data = \"test.csv\"", "on_devices = 0.2"),
    ("data = \"test.csv\"", "data = \"test.csv\"\ntarget_accuracy = 0.9"),
    ("[evaluate]\ndata = \"test.csv\" ", "# "),
    ("quantize = \"static\"", "quantize = \"aware\""),
    ("quantize = \"static\"", "quantize = \"dynamic\""),
    ("quantize = \"static\"", ""),
    ("quantize = \"static\"", "quantize = \"static\"\nprune = 0.5"),
    ("quantize = \"static\"", "quantize = \"static\"\nepochs = 1"),
    ("quantize = \"static\"", "quantize = \"static\"\ncalibration_rows = 100"),
    ("# keep = []", "keep = [\"[\"]"),
    ("[round]", "[train]\nlr = 0.1\n[round]"),
    ("[round]", "[update]\nbits = 8\n[round]"),
    ("[round]", "[release]\nmodel = \"digits\"\n[round]"),
    ("kind = \"calibration\"", "kind = \"train\""),
    ("kind = \"calibration\"", "kind = \"analytics\""),
    ("kind = \"calibration\"", "kind = \"release\""),
    ("kind = \"calibration\"", "kind = \"calibrate\""),
    ("min = 3  ", "min = 3\nrounds = 2  "),
    ("min = 3  ", "min = 3\nmode = \"async\"  "),
    ("min = 3  ", "min = 2  "),
];

#[test]
fn should_refuse_with_place_problem_and_fix() {
    let mut report = String::new();
    for (from, to) in WRONG {
        assert!(EXAMPLE.contains(from), "{from:?} is not in the file");
        match JobFile::parse(&EXAMPLE.replacen(from, to, 1)) {
            Ok(_) => writeln!(report, "{from:?} -> {to:?}\n  TAKEN").expect("a string takes text"),
            Err(error) => writeln!(report, "{from:?} -> {to:?}\n  {error}").expect("a string takes text"),
        }
    }
    assert!(!report.contains("TAKEN"), "taken though it is wrong:\n{report}");
    insta::assert_snapshot!("refusals", report);
}

#[test]
fn should_measure_by_the_loss_that_is_named() {
    let file = JobFile::parse(&EXAMPLE.replace("# loss = \"cross_entropy\"", "loss = \"mse\"")).expect("right");
    assert_eq!(file.train.heads[0].loss, LossSection::Mse);
}
