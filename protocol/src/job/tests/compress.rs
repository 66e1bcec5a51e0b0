//! `[compress]`: what it may say.

use super::*;

const DATA: &str = "[evaluate]\ndata = \"test.csv\"\n";

fn with(evaluate: &str, keys: &str) -> Result<CompressSection, JobFileError> {
    let text = format!("{SMALL}{evaluate}[compress]\n{keys}\n");
    JobFile::parse(&text).map(|file| file.compress.expect("the section"))
}

fn read(keys: &str) -> CompressSection {
    with(DATA, keys).expect(keys)
}

#[test]
fn should_fill_in_what_is_not_said() {
    let section = read("quantize = \"static\"");
    let quantize = QuantizeSection::Static {
        aware: false,
        activations: ActivationsName::U8,
        calibration: CalibrationName::MinMax,
        rows: 512,
    };
    assert_eq!(
        (section.quantize, section.store, section.epochs, section.lr),
        (Some(quantize), StoreName::Dense, 1, None)
    );
    assert_eq!((section.channels, section.prune, section.max_drop), (None, None, None));
    assert_eq!(read("prune = 0.5").store, StoreName::Compact, "zeros are there to be left out");
    assert_eq!(read("prune = 0.5\nstore = \"dense\"").store, StoreName::Dense);
    assert_eq!(read("quantize = \"4bit\"").quantize, Some(QuantizeSection::FourBit { block: 64 }));
    assert_eq!(with("", "quantize = \"dynamic\"").expect("needs no data").epochs, 0);
    assert_eq!(JobFile::parse(SMALL).expect("right").compress, None);
}

#[test]
fn should_say_in_a_line_how_a_model_was_made() {
    let all = "channels = 0.25\nprune = 0.8\nquantize = \"aware\"\nactivations = \"i8\"\ncalibration = \"mse\"\ncalibration_rows = 64\nkeep = [\"head.*\"]\n\
               store = \"standard\"\nepochs = 3\nlr = 0.01\nmax_drop = 1.5";
    let section = read(all);
    assert_eq!((section.prune, section.max_drop), (Some(0.8), Some(1.5)), "of 64 bits");
    assert_eq!(
        section.to_string(),
        "channels = 0.25, prune = 0.8, quantize = \"aware\", activations = \"i8\", calibration = \"mse\", calibration_rows = 64, \
         keep = [\"head.*\"], store = \"standard\", epochs = 3, lr = 0.01"
    );
    assert_eq!(
        with("", "quantize = \"4bit\"\nblock = 16").expect("right").to_string(),
        "quantize = \"4bit\", block = 16, epochs = 0"
    );
}

#[test]
fn should_refuse_what_can_not_be_with_key_and_fix() {
    let wrong: &[(&str, &str, &str, &str, &str)] = &[
        (
            DATA,
            "",
            "compress.quantize",
            "nothing is asked for",
            "name distil, channels, prune, quantize or store",
        ),
        (
            DATA,
            "epochs = 2",
            "compress.quantize",
            "nothing is asked for",
            "remove the section",
        ),
        (DATA, "prune = 1", "compress.prune", "1 is out of range", "nothing would be left"),
        (DATA, "prune = 0.0", "compress.prune", "0 is out of range", "above 0 and below 1"),
        (DATA, "channels = 1.5", "compress.channels", "out of range", "above 0 and below 1"),
        (DATA, "channels = nan", "compress.channels", "out of range", "finite"),
        (DATA, "prune = \"half\"", "compress.prune", "has to be a number", "prune = 0.8"),
        (DATA, "quantize = \"int8\"", "compress.quantize", "does not exist", "\"static\""),
        (
            DATA,
            "quantize = \"statik\"",
            "compress.quantize",
            "does not exist",
            "did you mean \"static\"?",
        ),
        (
            DATA,
            "quantize = \"4bit\"\nblock = 48",
            "compress.block",
            "48 is not possible",
            "16, 32, 64 or 128",
        ),
        (DATA, "quantize = \"dynamic\"\nblock = 64", "compress.block", "4 bits", "\"4bit\""),
        (
            DATA,
            "quantize = \"dynamic\"\nactivations = \"i8\"",
            "compress.activations",
            "ranges",
            "\"static\"",
        ),
        (
            DATA,
            "prune = 0.5\ncalibration = \"mse\"",
            "compress.calibration",
            "ranges",
            "remove it",
        ),
        (
            DATA,
            "quantize = \"static\"\ncalibration_rows = 0",
            "compress.calibration_rows",
            "not possible",
            "from 1",
        ),
        (
            DATA,
            "quantize = \"static\"\nkeep = [\"[\"]",
            "compress.keep[0]",
            "is no glob",
            "names of weights",
        ),
        (
            DATA,
            "prune = 0.5\nstore = \"zip\"",
            "compress.store",
            "does not exist",
            "\"compact\"",
        ),
        (DATA, "prune = 0.5\nepochs = 1001", "compress.epochs", "out of range", "0 to 1000"),
        (
            DATA,
            "prune = 0.5\nepochs = 0\nlr = 0.1",
            "compress.lr",
            "there is none",
            "raise epochs",
        ),
        (DATA, "prune = 0.5\nlr = 0", "compress.lr", "not possible", "above 0"),
        (DATA, "prune = 0.5\nmax_drop = -1", "compress.max_drop", "out of range", "0 or more"),
        (DATA, "prune = 0.5\nmax_drop = inf", "compress.max_drop", "out of range", "finite"),
        (
            DATA,
            "prune = 0.5\nteacher = \"large.onnx\"",
            "compress.teacher",
            "unknown key",
            "move it to [train.distil]",
        ),
        (
            DATA,
            "prune = 0.5\nsparsity = 0.5",
            "compress.sparsity",
            "unknown key",
            "[compress] has distil, channels",
        ),
        (
            "",
            "quantize = \"static\"",
            "compress.quantize",
            "the job gives it none",
            "add [evaluate]",
        ),
        (
            "",
            "quantize = \"aware\"",
            "compress.quantize",
            "the job gives it none",
            "data = \"test.csv\"",
        ),
        (
            "[evaluate]\non_devices = 0.2\n",
            "quantize = \"static\"",
            "compress.quantize",
            "the server has",
            "[evaluate]",
        ),
        ("", "prune = 0.5\nepochs = 1", "compress.epochs", "trains on", "remove epochs"),
        (
            "",
            "prune = 0.5\nmax_drop = 1",
            "compress.max_drop",
            "measured on",
            "remove max_drop",
        ),
    ];
    for (evaluate, keys, field, problem, fix) in wrong {
        let error = with(evaluate, keys).expect_err(keys);
        assert_eq!(error.field, *field, "{keys}: {error}");
        assert!(error.problem.contains(problem) && error.fix.contains(fix), "{keys}: {error}");
        assert!(error.line > SMALL.lines().count(), "{keys}: {error}");
    }
}

#[test]
fn should_be_of_training_jobs_alone() {
    for example in [
        include_str!("../../../testdata/release.example.toml"),
        include_str!("../../../testdata/analytics.example.toml"),
    ] {
        let error = JobFile::parse(&format!("{example}\n[compress]\nquantize = \"dynamic\"\n")).expect_err("no model is trained");
        assert_eq!(error.field, "compress");
    }
}
