use std::ffi::OsString;
use std::path::Path;

use clap::{CommandFactory, Parser};

use super::*;
use crate::args::{Args, Command};
use crate::commands::model::{ModelArgs, ModelCommand};

/// What `aimass model new ARGS... -o OUTPUT` asks for.
fn parsed(args: &[&str], output: &Path) -> Result<NewArgs, String> {
    let line = ["aimass", "model", "new"].iter().chain(args).map(OsString::from);
    let line = line.chain(["-o".into(), output.into()]);
    match Args::try_parse_from(line).map_err(|error| error.to_string())?.command {
        Command::Model(ModelArgs {
            command: ModelCommand::New(new),
        }) => Ok(new),
        other => panic!("another command: {other:?}"),
    }
}

/// Runs `aimass model new ARGS... -o OUTPUT` and returns what it says with `--json`, or the error.
fn made(args: &[&str], output: &Path) -> Result<Value, String> {
    let new = parsed(args, output)?;
    run(&new, &Output::new(true)).map_err(|error| format!("{error:#}"))?;
    let model = Model::from_bytes(&std::fs::read(output).expect("written")).expect("a sound model");
    Ok(Report::new(&new, &model).expect("it trains").json())
}

fn kinds() -> Vec<String> {
    let mut command = Args::command();
    command.build();
    let new = command
        .find_subcommand("model")
        .and_then(|model| model.find_subcommand("new"))
        .expect("the command");
    let names = new.get_subcommands().map(|kind| kind.get_name().to_owned());
    names.filter(|name| name != "help").collect()
}

#[test]
fn every_kind_is_made_by_its_name_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let kinds = kinds();
    assert_eq!(kinds.len(), 18, "{kinds:?}");
    for kind in kinds {
        let path = dir.path().join(format!("{kind}.onnx"));
        let report = made(&[&kind], &path).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(report["kind"], kind.as_str());
        assert!(report["parameters"].as_u64() > Some(10), "{report}");
        let digest = hex::encode(sha256(&std::fs::read(&path).expect("written")));
        assert_eq!(report["sha256"], digest.as_str(), "{kind}");
    }
}

#[test]
fn options_and_seed_decide_the_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model.onnx");
    let seeded = |seed: &str| made(&["mlp", "--sizes", "64,64,10", "--seed", seed, "--force"], &path).expect("made");
    let report = seeded("1");
    // The same file as `aimass example` writes.
    let example = aimass_onnx::build::mlp(&[64, 64, 10], 1);
    assert_eq!(report["sha256"], hex::encode(sha256(example.as_bytes())).as_str());
    assert_eq!(
        report["inputs"],
        json!([{ "name": "x", "type": "float32", "shape": ["batch", 64] }])
    );
    assert_eq!(
        report["outputs"],
        json!([{ "name": "logits", "type": "float32", "shape": ["batch", 10] }])
    );
    assert_eq!(report["parameters"], 64 * 64 + 64 + 64 * 10 + 10);
    assert_ne!(report["sha256"], seeded("2")["sha256"]);
    let tokens = made(&["transformer-lm", "--vocabulary", "50", "--width", "32", "--force"], &path).expect("made");
    assert_eq!(
        tokens["inputs"],
        json!([{ "name": "tokens", "type": "int64", "shape": ["batch", "sequence"] }])
    );
    assert_eq!(tokens["outputs"][0]["shape"], json!(["batch", "sequence", 50]));
}

#[test]
fn a_file_is_overwritten_only_with_force() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model.onnx");
    std::fs::write(&path, "mine").expect("written");
    let error = made(&["linear"], &path).expect_err("it is there");
    assert!(
        error.ends_with("is there already; name another file, or overwrite it with --force"),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).expect("there"), b"mine");
    made(&["linear", "--force"], &path).expect("made");
    let lost = dir.path().join("no/such/folder/model.onnx");
    assert!(made(&["linear"], &lost).expect_err("no folder").contains("can't write"));
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("the folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn impossible_options_name_what_is_possible() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model.onnx");
    for (args, part) in [
        (&["mlp", "--sizes", "64"][..], "the number of sizes is 1; use 2 to 256"),
        (&["cnn", "--input", "28x28"], "for instance 3x32x32"),
        (&["cnn", "--input", "1x2x2"], "the image's height is 2; use 4 to 4096"),
        (&["resnet18", "--width=-1"], "--width"),
        (&["gru", "--init", "xavier"], "glorot-uniform"),
        (&["mlp", "--dropout", "nan"], "the dropout ratio is NaN"),
        (&["transformer", "--heads", "5"], "which 5 (the number of heads) does not divide"),
        (&["lstm-lm", "--hidden", "99999"], "more than 134217728 parameters"),
        (&["perceptron"], "perceptron"),
    ] {
        let error = made(args, &path).expect_err("impossible");
        assert!(error.contains(part), "{part:?} is missing in {error}");
        assert!(!path.exists(), "{args:?}");
    }
}

#[test]
fn people_read_sizes_and_shapes() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model.onnx");
    let new = parsed(&["resnet18"], &path).expect("a command");
    let model = new.kind.build(InitialWeights::seeded(1)).expect("made");
    let text = Report::new(&new, &model).expect("it trains").text();
    for part in [
        "parameters  11,173,962, 9,600 running statistics",
        "input       x float32 [batch, 3, 32, 32]",
        "output      logits float32 [batch, 10]",
        "size        44.7 MB",
        "SHA-256     ",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}
