//! Analytics jobs: what they may say, and what of training they may not.

use super::*;
use crate::descriptor::CodecName;
use crate::limits::{MAX_ANALYZE_FEATURES, MAX_ANALYZE_VALUES};

const EXAMPLE: &str = include_str!("../../../testdata/analytics.example.toml");

const SMALL: &str = r#"[job]
name = "ages"
kind = "analytics"
purpose = "plan a study"

[data]
contract = "people"

[[analyze.columns]]
names = ["age"]
low = 0
high = 120

[round]
min = 3
"#;

fn analyze(text: &str) -> AnalyzeSection {
    let file = JobFile::parse(text).expect(text);
    file.analyze.expect("an analytics job has the section")
}

#[test]
fn a_small_file_gets_the_defaults_and_nothing_of_training() {
    let file = JobFile::parse(SMALL).expect("it is right");
    assert_eq!(
        (file.job.kind, file.round.rounds, file.round.mode),
        (JobKind::Analytics, 1, RoundMode::Sync)
    );
    assert_eq!(file.aggregation.mode, AggregationMode::Secure);
    assert_eq!((file.train.epochs, file.train.heads.len()), (0, 0));
    assert_eq!((file.model.path.as_str(), file.data.target.as_str()), ("", ""));
    assert_eq!((file.evaluate, file.data.inputs.len()), (None, 0));
    let analyze = file.analyze.expect("the section");
    assert_eq!((analyze.max_rows, analyze.bits), (1_000_000, 16));
    let range = Measure::Range {
        low: 0.0,
        high: 120.0,
        bins: 0,
    };
    assert_eq!(
        analyze.columns,
        [AnalyzeColumns {
            names: vec!["age".to_owned()],
            features: Features::All(1),
            measure: range
        }]
    );
    let codec = file.update;
    assert_eq!(
        (codec.codec, codec.bits, codec.clip, codec.weight_cap),
        (CodecName::Exact, 16, 1.0, 1_000_000)
    );
}

#[test]
fn the_example_has_every_key_and_features_come_in_order() {
    let file = analyze(EXAMPLE);
    assert_eq!((file.max_rows, file.bits), (1_000_000, 16), "the commented keys show the defaults");
    let features: Vec<_> = file.features().collect();
    assert_eq!(features.len(), 2 + 64 + 1);
    let named: Vec<_> = [0, 1, 2, 65, 66].map(|i| (features[i].name, features[i].index)).to_vec();
    assert_eq!(
        named,
        [
            ("age", None),
            ("height", None),
            ("pixels", Some(0)),
            ("pixels", Some(63)),
            ("label", None)
        ]
    );
    assert_eq!(features[66].measure, Measure::Classes { classes: 10 });
    for key in schema::job_file_keys().filter(|key| key.starts_with("analyze")) {
        let name = key.rsplit('.').next().expect("a key");
        let explained = EXAMPLE.lines().any(|line| {
            let text = line.trim_start_matches(['#', ' ']);
            text.starts_with(&format!("{name} = ")) || text.starts_with(&format!("[[{key}]]"))
        });
        assert!(explained, "{key} is not in analytics.example.toml");
    }
}

#[test]
fn one_feature_of_an_array_can_be_counted_and_several_apart() {
    let two = SMALL.replace("low = 0", "feature = 7\nlow = 0");
    let two = two.replace(
        "[round]",
        "[[analyze.columns]]\nnames = [\"age\"]\nfeature = 0\nclasses = 2\n\n[round]",
    );
    let found: Vec<_> = analyze(&two).features().map(|feature| feature.index).collect();
    assert_eq!(found, [Some(7), Some(0)]);
}

#[test]
fn as_much_as_fits_is_taken_and_one_more_is_not() {
    let features = |n: u32| SMALL.replace("low = 0", &format!("features = {n}\nlow = 0"));
    assert_eq!(
        analyze(&features(MAX_ANALYZE_FEATURES)).features().count(),
        MAX_ANALYZE_FEATURES as usize
    );
    let bins = MAX_ANALYZE_VALUES as u32 / 64 - 5;
    let wide = |bins: u32| features(64).replace("high = 120", &format!("high = 120\nbins = {bins}"));
    analyze(&wide(bins));
    let error = JobFile::parse(&wide(bins + 1)).expect_err("too many");
    assert!(error.problem.contains("too many"), "{error}");
    // 2^63 is the width of a sum: (2^16 - 1)^2 * rows * agents.
    let rows = (1_u64 << 63) / (65_535 * 65_535 * 3);
    let rows_of = |rows: u64| SMALL.replace("[[analyze", &format!("[analyze]\nmax_rows = {rows}\n[[analyze"));
    analyze(&rows_of(rows));
    let error = JobFile::parse(&rows_of(rows + 1)).expect_err("too wide");
    assert!(error.problem.contains("63 bits"), "{error}");
}

/// What is changed in [`SMALL`], each of which has to be refused.
const WRONG: &[(&str, &str)] = &[
    ("[[analyze.columns]]\nnames = [\"age\"]\nlow = 0\nhigh = 120\n", ""),
    ("[[analyze.columns]]", "[analyze]\ncolumns = []\n[analyse]"),
    (
        "[[analyze.columns]]\nnames = [\"age\"]\nlow = 0\nhigh = 120\n",
        "[analyze]\ncolumns = []\n",
    ),
    ("[[analyze.columns]]", "[analyze.columns]"),
    ("[[analyze.columns]]", "[analyze]\nmax_rows = 0\n[[analyze.columns]]"),
    ("[[analyze.columns]]", "[analyze]\nmax_rows = 4294967296\n[[analyze.columns]]"),
    ("[[analyze.columns]]", "[analyze]\nmax_rows = 4000000000\n[[analyze.columns]]"),
    ("[[analyze.columns]]", "[analyze]\nbits = 3\n[[analyze.columns]]"),
    ("[[analyze.columns]]", "[analyze]\nbits = 25\n[[analyze.columns]]"),
    ("[[analyze.columns]]", "[analyze]\nbins = 4\n[[analyze.columns]]"),
    ("names = [\"age\"]\n", ""),
    ("names = [\"age\"]", "names = []"),
    ("names = [\"age\"]", "names = \"age\""),
    ("names = [\"age\"]", "names = [\"\"]"),
    ("names = [\"age\"]", "names = [\"age\", \"age\"]"),
    ("names = [\"age\"]", "name = \"age\""),
    ("names = [\"age\"]", "names = [\"age\"]\nfeatures = 0"),
    ("names = [\"age\"]", "names = [\"age\"]\nfeatures = 4097"),
    ("names = [\"age\"]", "names = [\"age\", \"b\"]\nfeatures = 4096"),
    ("names = [\"age\"]", "names = [\"age\"]\nfeatures = 64\nbins = 4096"),
    ("names = [\"age\"]", "names = [\"age\"]\nfeatures = 2\nfeature = 1"),
    ("low = 0\n", ""),
    ("high = 120\n", ""),
    ("low = 0", "low = 120"),
    ("low = 0", "low = 121"),
    ("low = 0", "low = nan"),
    ("low = 0", "low = -inf"),
    ("low = 0", "low = \"0\""),
    ("low = 0", "low = 1e999"),
    ("low = 0\nhigh = 120", "low = -1e308\nhigh = 1e308"),
    ("low = 0\nhigh = 120", "low = 0\nhigh = 1e-320"),
    ("high = 120", "high = 120\nbins = 0"),
    ("high = 120", "high = 120\nbins = 4097"),
    ("high = 120", "high = 120\nbins = 2.5"),
    ("high = 120", "high = 120\nclasses = 3"),
    ("low = 0\nhigh = 120", "classes = 0"),
    ("low = 0\nhigh = 120", "classes = 4097"),
    ("[round]", "[[analyze.columns]]\nnames = [\"b\", \"age\"]\nclasses = 2\n[round]"),
    (
        "[round]",
        "[[analyze.columns]]\nnames = [\"age\"]\nfeature = 2\nclasses = 2\n[round]",
    ),
    ("contract = \"people\"", "contract = \"people\"\ntarget = \"age\""),
    ("contract = \"people\"", "contract = \"people\"\ninputs = [\"age\"]"),
    ("[round]", "[model]\npath = \"m.onnx\"\n[round]"),
    ("[round]", "[train]\nlr = 0.1\n[round]"),
    ("[round]", "[strategy]\nname = \"fedavg\"\n[round]"),
    ("[round]", "[update]\nbits = 8\n[round]"),
    ("[round]", "[evaluate]\non_devices = 0.2\n[round]"),
    ("[round]", "[privacy]\nclip = 1.0\n[round]"),
    ("min = 3", "min = 3\nrounds = 0"),
    ("min = 3", "min = 3\nmode = \"async\""),
    ("min = 3", "min = 3\nmode = \"semi_sync\""),
    ("min = 3", "min = 3\nmax_staleness = 2"),
    ("min = 3", "min = 2"),
    ("kind = \"analytics\"", "kind = \"analytic\""),
    ("kind = \"analytics\"", "kind = \"train\""),
];

#[test]
fn every_refusal_has_its_place_problem_and_fix() {
    let mut report = String::new();
    for (from, to) in WRONG {
        assert!(SMALL.contains(from), "{from:?} is not in the file");
        let text = SMALL.replacen(from, to, 1);
        match JobFile::parse(&text) {
            Ok(_) => writeln!(report, "{from:?} -> {to:?}\n  TAKEN").expect("a string takes text"),
            Err(error) => writeln!(report, "{from:?} -> {to:?}\n  {error}").expect("a string takes text"),
        }
    }
    assert!(!report.contains("TAKEN"), "taken though it is wrong:\n{report}");
    insta::assert_snapshot!("refusals", report);
}

proptest! {
    #[test]
    fn a_damaged_file_never_panics(at in 0..SMALL.len(), len in 0_usize..20, with in ".{0,4}") {
        let text: String = SMALL.chars().take(at).chain(with.chars()).chain(SMALL.chars().skip(at + len)).collect();
        crate::fuzz::job_file(&text);
    }
}
