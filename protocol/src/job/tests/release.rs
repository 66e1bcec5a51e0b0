//! Releases: what they may say, and how large their rounds are.

use super::*;
use crate::descriptor::CodecName;

const EXAMPLE: &str = include_str!("../../../testdata/release.example.toml");

fn release(text: &str) -> ReleaseSection {
    let file = JobFile::parse(text).expect(text);
    file.release.expect("a release has the section")
}

#[test]
fn should_read_the_example_and_take_stages_for_rounds() {
    let file = JobFile::parse(EXAMPLE).expect("the example");
    assert_eq!((file.job.kind, file.round.rounds, file.round.max), (JobKind::Release, 3, 256));
    assert_eq!((file.on_devices(), file.train.epochs, file.train.heads.len()), (Some(0.2), 0, 1));
    assert_eq!((file.update.codec, file.update.weight_cap), (CodecName::Exact, 10_000));
    assert!(!file.trains() && file.aggregation.mode == AggregationMode::Secure);
    let release = file.release.expect("the section");
    assert_eq!(release.stages, [Stage::Devices(5), Stage::Percent(25), Stage::Percent(100)]);
    let shown: Vec<String> = release.stages.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["5", "25%", "all"]);
    assert!(release.promotes && release.within.is_none());
    let of_numbers = JobFile::parse(&EXAMPLE.replace("# within = 0.1", "within = 0.1")).expect("right");
    assert_eq!(of_numbers.release.expect("the section").within, Some(0.1));
    assert_eq!((release.tolerance, release.self_test_rows, release.variants.len()), (1e-3, 4, 2));
    assert_eq!(release.variants[0].fits.memory_mib, 2048);
    assert_eq!(release.variants[1].parent, Some(release.variants[0].digest));
    assert_eq!((release.gate.max_failures, release.gate.min_canaries), (0.0, 3));
}

#[test]
fn should_explain_every_key_in_the_example() {
    for key in schema::job_file_keys().filter(|key| key.starts_with("release") || key.starts_with("gate")) {
        let name = key.rsplit('.').next().expect("a key");
        let explained = EXAMPLE.lines().any(|line| {
            let text = line.trim_start_matches(['#', ' ']);
            text.starts_with(&format!("{name} = ")) || text.starts_with(&format!("[{key}]")) || text.starts_with(&format!("[[{key}]]"))
        });
        assert!(explained, "{key} is not in release.example.toml");
    }
}

#[test]
fn should_grow_with_the_stages_within_the_bounds_of_the_round() {
    let file = JobFile::parse(&EXAMPLE.replace("# max = 256 ", "max = 20 ")).expect("right");
    let sizes = |devices| [0, 1, 2, 3, 9].map(|round| file.size_of(round, devices).target);
    assert_eq!(sizes(40), [5, 5, 10, 20, 20], "25 % of 40, and all but no more than max");
    assert_eq!(sizes(13), [5, 5, 4, 13, 13], "rounded up");
    assert_eq!(sizes(0), [5, 5, 3, 3, 3], "never below min");
    assert_eq!(sizes(u32::MAX), [5, 5, 20, 20, 20]);
    let size = file.size_of(2, 40);
    assert_eq!((size.min, size.max), (3, 10));
    let training = JobFile::parse(SMALL).expect("a job that trains");
    let RoundSection { min, target, max, .. } = training.round;
    assert_eq!(training.size_of(7, 1000), RoundSize { min, target, max });
}

const WRONG: &[(&str, &str)] = &[
    ("model = \"digits\"", "model = \"my digits\""),
    ("model = \"digits\"", "model = \"..\""),
    ("[release]\nmodel = \"digits\"", "[release]"),
    ("# alias = \"champion\"  ", "alias = \"best\"  "),
    ("stages = [\"5\", \"25%\", \"all\"]", "stages = []"),
    ("stages = [\"5\", \"25%\", \"all\"]", ""),
    ("\"25%\"", "\"0%\""),
    ("\"25%\"", "\"101%\""),
    ("\"25%\"", "\"a few\""),
    ("\"25%\"", "\"4\""),
    ("\"all\"", "\"7\""),
    ("\"all\"", "\"25%\""),
    ("\"5\"", "\"2\""),
    ("\"5\"", "\"257\""),
    ("# within = 0.1", "within = 0"),
    ("# within = 0.1", "within = \"near\""),
    ("# tolerance = 0.001", "tolerance = 0"),
    ("# tolerance = 0.001", "tolerance = 1.5"),
    ("# self_test_rows = 4", "self_test_rows = 3"),
    ("# self_test_rows = 4", "self_test_rows = 17"),
    ("name = \"int8\"", "name = \"full\""),
    ("name = \"int8\"", "name = \"int 8\""),
    ("path = \"digits-int8.onnx\"", "path = \"/digits-int8.onnx\""),
    ("60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752", "60303ae2"),
    (
        "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ),
    (
        "digest = \"60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752\"\n",
        "",
    ),
    ("size_bytes = 9102", "size_bytes = 0"),
    ("size_bytes = 9102\n", ""),
    ("outputs = [0.5, -1.0, 0.25, 2.0]  ", "outputs = [0.5, nan, 0.25, 2.0]  "),
    ("outputs = [0.5, -1.0, 0.25, 2.0]  ", "outputs = [0.5, -1.0, 0.25]  "),
    ("outputs = [0.5, -1.0, 0.25, 2.0]  ", ""),
    ("gpu = false", "gpu = \"no\""),
    ("accuracy = 0.97", "accuracy = 97"),
    ("min_accuracy = 0.9 ", "min_accuracy = 90 "),
    ("max_latency_ms = 50.0", "max_latency_ms = 0"),
    ("max_memory_mib = 256", "max_memory_mib = 0"),
    ("# max_failures = 0.0", "max_failures = 2"),
    ("min_canaries = 3", "min_canaries = 0"),
    ("[release.champion]", "[release.championn]"),
    (
        "[release.champion]                   # what is served now; filled in from the registry where the gate compares with it\n\
         digest = \"486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7\"\nsize_bytes = 30111\n",
        "",
    ),
    ("min_accuracy = 0.9 ", "min_acuracy = 0.9 "),
    ("[gate]", "[model]\npath = \"m.onnx\"\n[gate]"),
    ("[gate]", "[train]\nlr = 0.1\n[gate]"),
    ("kind = \"release\"", "kind = \"train\""),
    ("kind = \"release\"", "kind = \"analytics\""),
    ("on_devices = 0.2", "on_devices = 0.9"),
    ("on_devices = 0.2", "data = \"test.csv\""),
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
fn should_refuse_a_gate_without_rules_and_more_than_the_limits() {
    let gate = EXAMPLE.find("[gate]").expect("a gate");
    let round = EXAMPLE.find("[round]").expect("a round");
    let open = [&EXAMPLE[..gate], &EXAMPLE[round..]].concat();
    let error = JobFile::parse(&open).expect_err("any release would pass");
    assert!(error.problem.contains("any release would pass"), "{error}");
    let variant = |n: usize| {
        format!("[[release.variants]]\nname = \"v{n}\"\npath = \"v\"\ndigest = \"{n:064x}\"\nsize_bytes = 1\noutputs = [1, 2, 3, 4]\n")
    };
    let with = |n: usize| EXAMPLE.replacen("[gate]", &format!("{}[gate]", (0..n).map(variant).collect::<String>()), 1);
    assert_eq!(release(&with(14)).variants.len(), 16);
    let error = JobFile::parse(&with(15)).expect_err("17 variants");
    assert_eq!(error.field, "release.variants");
    let long = EXAMPLE.replacen("[0.5, -1.0, 0.25, 2.0]", &format!("[{}]", "1, ".repeat(1028)), 1);
    assert!(JobFile::parse(&long).expect_err("too many").problem.contains("too many"));
}
