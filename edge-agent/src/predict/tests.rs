use aimass_learning::Array;
use aimass_learning::data::{read_npy, write_npy};
use aimass_onnx::build::mlp;
use clap::Parser as _;

use super::*;
use crate::args::{Cli, Command};

struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("m.onnx"), mlp(&[2, 4, 3], 1).as_bytes()).expect("writes");
        std::fs::write(dir.path().join("rows.csv"), "a,b,label\n0.5,-1,0\n2,0.25,1\n").expect("writes");
        Self { dir }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn predict(&self, line: &str) -> Result<Prediction, PredictError> {
        let root = format!("{}/", self.dir.path().display());
        let line = format!("x predict --model @m.onnx {line}").replace('@', &root);
        let cli = Cli::try_parse_from(line.split(' ')).expect("parses");
        let Command::Predict(args) = cli.command else { panic!("predict") };
        predict(&args)
    }

    fn values(&self, line: &str) -> Vec<f64> {
        let json = self.predict(line).expect("predicts").json().expect("finite");
        serde_json::from_value(json["outputs"][0]["data"].clone()).expect("numbers")
    }
}

#[test]
fn should_give_the_same_for_every_kind_of_file() {
    let folder = Folder::new();
    let rows = vec![0.5, -1.0, 2.0, 0.25];
    let request = r#"{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[[0.5,-1],[2,0.25]]}]}"#;
    std::fs::write(folder.path("rows.json"), request).expect("writes");
    write_npy(&folder.path("rows.npy"), &Array::floats(vec![2, 2], rows).expect("fills")).expect("writes");
    let csv = folder.values("--input @rows.csv --columns a,b");
    assert_eq!(csv.len(), 6);
    assert_eq!(folder.values("--input @rows.json"), csv);
    assert_eq!(folder.values("--input @rows.npy --threads 2"), csv);
    // The other way round the features are others.
    assert_ne!(folder.values("--input @rows.csv --columns b,a"), csv);
}

#[test]
fn should_write_what_it_predicted() {
    let folder = Folder::new();
    let values = folder.values("--input @rows.csv --columns a,b -o @out.csv");
    let text = std::fs::read_to_string(folder.path("out.csv")).expect("written");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(lines[0].split(',').count(), 3);
    let first: f64 = lines[1].split(',').next().and_then(|v| v.parse().ok()).expect("a number");
    assert!((first - values[0]).abs() < 1e-6);
    folder.predict("--input @rows.csv --columns a,b -o @out.npy").expect("predicts");
    let array = read_npy(&folder.path("out.npy"), &aimass_learning::data::Limits::default()).expect("reads");
    assert_eq!(array.shape(), [2, 3]);
    folder.predict("--input @rows.csv --columns a,b -o @out.json").expect("predicts");
    assert!(folder.path("out.json").exists());
    let shown = folder.predict("--input @rows.csv --columns a,b").expect("predicts").to_string();
    assert!(shown.contains("FP32 [2, 3]"), "{shown}");
}

#[test]
fn should_cut_long_rows_into_windows() {
    let folder = Folder::new();
    write_npy(
        &folder.path("long.npy"),
        &Array::floats(vec![1, 4], vec![0.5, -1.0, 2.0, 0.25]).expect("fills"),
    )
    .expect("writes");
    let csv = folder.values("--input @rows.csv --columns a,b");
    assert_eq!(folder.values("--input @long.npy --window 2"), csv);
    let mean = folder.values("--input @long.npy --window 2 --merge mean");
    assert!((mean[0] - (csv[0] + csv[3]) / 2.0).abs() < 1e-6);
}

#[test]
fn should_say_what_does_not_fit() {
    let folder = Folder::new();
    std::fs::write(folder.path("gap.csv"), "a,b\n1,\n").expect("writes");
    std::fs::write(folder.path("bad.json"), "{").expect("writes");
    for (line, part, kind) in [
        ("--input @rows.csv", "--columns", ExitKind::BadData),
        ("--input @gap.csv", "row 1, column \"b\"", ExitKind::BadData),
        ("--input @none.csv", "none.csv", ExitKind::BadData),
        ("--input @m.onnx", ".npz, .npy, .csv", ExitKind::BadData),
        ("--input @bad.json", "protocol", ExitKind::BadData),
        ("--input @rows.csv --columns a,c", "c", ExitKind::BadData),
        (
            "--input @rows.csv --columns a,b -o @out.txt",
            ".json, .csv and .npy",
            ExitKind::Failure,
        ),
        (
            "--input @rows.csv --columns a,b --window 1 --merge most",
            "concat, mean or vote",
            ExitKind::Usage,
        ),
        ("--input @rows.csv --columns a,b --window 9", "only 2 long", ExitKind::BadData),
    ] {
        let error = folder.predict(line).expect_err(line);
        assert!(error.to_string().contains(part), "{line}: {error}");
        assert_eq!(error.exit_kind(), kind, "{line}: {error}");
    }
    std::fs::write(folder.path("m.onnx"), b"no model").expect("writes");
    assert_eq!(
        folder.predict("--input @rows.csv").expect_err("refused").exit_kind(),
        ExitKind::BadData
    );
}
