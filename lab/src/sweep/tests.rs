use super::*;
use crate::record::{Reached, RoundRow, Summary};
use crate::report::{Input, RunFolder, State};

fn axis(text: &str) -> Axis {
    text.parse().expect("an axis")
}

fn seeds(text: &str) -> Seeds {
    text.parse().expect("seeds")
}

fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn values_part_at_commas_outside_of_quotes_and_brackets() {
    assert_eq!(axis("train.lr=0.05, 0.1").values, ["0.05", "0.1"]);
    assert_eq!(axis("data.inputs=[\"a\",\"b\"],[\"c\"]").values, ["[\"a\",\"b\"]", "[\"c\"]"]);
    assert_eq!(axis("job.name=\"a,b\",c").values, ["\"a,b\"", "c"]);
    assert_eq!(axis("train.heads.0.weight=1,2").key, "train.heads.0.weight");
}

#[test]
fn what_is_no_axis_is_refused_with_its_name() {
    let refused = |text: &str| text.parse::<Axis>().expect_err("no axis").to_string();
    for text in ["train.lr", "lr=1", "=1", "train..lr=1", "train.l r=1", ""] {
        assert!(
            refused(text).starts_with(&format!("--sweep {text}: write a key of the job file")),
            "{text}"
        );
    }
    for text in ["train.lr=", "train.lr=0.1,,0.2", "train.lr=[1,2"] {
        assert!(refused(text).contains("is no value"), "{text}");
    }
    assert_eq!(
        refused("train.lr=0.1,0.10"),
        "--sweep train.lr=0.10: given twice: name each key and each of its values once"
    );
    assert!(refused("job.seed=1,2").contains("seeds are for --seeds"));
}

#[test]
fn seeds_are_ranges_or_lists() {
    assert_eq!(seeds("1..5").as_slice(), [1, 2, 3, 4]);
    assert_eq!(seeds("1..=5").as_slice(), [1, 2, 3, 4, 5]);
    assert_eq!(seeds("7, 1,2").as_slice(), [7, 1, 2]);
    assert_eq!(seeds("18446744073709551615").as_slice(), [u64::MAX]);
    for text in ["", "5..1", "3..3", "1,1", "a", "1..", "-1..3", "0..=18446744073709551615"] {
        assert!(matches!(text.parse::<Seeds>(), Err(SweepError::Seeds(_))), "{text}");
    }
    assert_eq!("0..18446744073709551615".parse::<Seeds>(), Err(SweepError::TooMany));
}

#[test]
fn the_grid_has_a_fixed_order_and_a_bound() {
    let runs = grid(&[axis("update.bits=8,16"), axis("train.lr=0.05,0.1")], &seeds("1,2")).expect("eight runs");
    let names: Vec<String> = runs.iter().map(Setting::folder_name).collect();
    let wanted = [
        "train.lr=0.05,update.bits=8,seed=1",
        "train.lr=0.05,update.bits=8,seed=2",
        "train.lr=0.1,update.bits=8,seed=1",
        "train.lr=0.1,update.bits=8,seed=2",
        "train.lr=0.05,update.bits=16,seed=1",
        "train.lr=0.05,update.bits=16,seed=2",
        "train.lr=0.1,update.bits=16,seed=1",
        "train.lr=0.1,update.bits=16,seed=2",
    ];
    assert_eq!(names, wanted);
    assert_eq!(grid(&[], &seeds("3")).expect("one run")[0].folder_name(), "seed=3");
    assert_eq!(
        grid(&[axis("a.b=1"), axis("a.b=2")], &seeds("1")),
        Err(SweepError::Twice("a.b".to_owned()))
    );
    assert_eq!(
        grid(&[axis("a.b=1,2")], &seeds("0..5000")).expect("as many as may be").len(),
        MAX_RUNS
    );
    assert_eq!(grid(&[axis("a.b=1,2")], &seeds("0..5001")), Err(SweepError::TooMany));
}

#[test]
fn folder_names_are_safe_bounded_and_distinct() {
    let name = |value: &str| {
        Setting {
            fields: fields(&[("model.path", value)]),
            seed: u64::MAX,
        }
        .folder_name()
    };
    let long = "x".repeat(500);
    let (other, nested) = (format!("{long}y"), format!("[{}]", "\"ä\",".repeat(90)));
    let values = [
        "../../etc/passwd",
        "..\\..",
        "a b",
        "a_b",
        "A_B",
        "ü",
        "con",
        "a:b",
        "a\nb",
        &long,
        &other,
        &nested,
    ];
    let names: BTreeSet<String> = values.iter().map(|value| name(value).to_lowercase()).collect();
    assert_eq!(names.len(), values.len(), "two settings never share a folder");
    for name in &names {
        assert!(name.len() <= MAX_NAME, "{name}");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "._=,-+~".contains(c)), "{name}");
        assert!(name.ends_with(",seed=18446744073709551615"), "{name}");
    }
    assert_eq!(name("a_b"), "model.path=a_b,seed=18446744073709551615");
}

const JOB: &str = "# A job.\n[job]\nname = \"digits\"  # its name\n\n[train]\nlr = 0.1 # tuned\nepochs = 1\nschedule = { name = \"step\", every = 3 }\n\n\
    [[train.heads]]\nweight = 1.0\n\n[[train.heads]]\nweight = 2.0\n\n[round]\nmax_time = \"10m\"\n";

fn known() -> Vec<String> {
    [
        "train.lr",
        "train.batch",
        "train.heads.weight",
        "train.schedule.gamma",
        "update.bits",
        "round.max_time",
        "job.name",
    ]
    .map(str::to_owned)
    .into()
}

#[test]
fn setting_fields_keeps_the_rest_of_the_text() {
    let set = |pairs: &[(&str, &str)]| apply(JOB, &fields(pairs), &known()).expect("known keys");
    assert_eq!(set(&[]), JOB);
    assert_eq!(set(&[("train.lr", "0.05")]), JOB.replace("0.1 # tuned", "0.05 # tuned"));
    assert_eq!(set(&[("train.lr", "1")]), JOB.replace("0.1 # tuned", "1.0 # tuned"));
    assert_eq!(set(&[("round.max_time", "20m")]), JOB.replace("10m", "20m"));
    assert_eq!(set(&[("job.name", "5")]), JOB.replace("\"digits\"  #", "\"5\"  #"));
    assert_eq!(set(&[("train.epochs", "5")]), JOB.replace("epochs = 1", "epochs = 5"));
    assert_eq!(set(&[("train.heads.1.weight", "0.5")]), JOB.replace("weight = 2.0", "weight = 0.5"));
    assert_eq!(
        set(&[("train.batch", "64")]),
        JOB.replace("every = 3 }\n", "every = 3 }\nbatch = 64\n")
    );
    assert_eq!(
        set(&[("train.schedule.gamma", "0.5")]),
        JOB.replace("every = 3 }", "every = 3 , gamma = 0.5 }")
    );
    assert_eq!(set(&[("update.bits", "8")]), format!("{JOB}\n[update]\nbits = 8\n"));
}

#[test]
fn what_is_set_is_what_the_job_file_says() {
    let known: Vec<String> = aimass_protocol::job::job_file_keys().collect();
    let text = include_str!("../../../protocol/testdata/job.example.toml");
    let set = [
        ("train.lr", "0.05"),
        ("train.clip_norm", "1"),
        ("strategy.server_lr", "1"),
        ("update.bits", "8"),
        ("round.max_time", "20m"),
        ("round.mode", "semi_sync"),
    ];
    let text = apply(text, &fields(&set), &known).expect("known keys");
    let job = aimass_protocol::job::JobFile::parse(&text).expect("it is a job file still");
    let seen = format!("{job:?}");
    for wanted in [
        "lr: 0.05",
        "server_lr: 1.0",
        "bits: 8",
        "max_time: 1200s",
        "mode: SemiSync",
        "clip_norm: Some(1.0)",
    ] {
        assert!(seen.contains(wanted), "{wanted} is not in {seen}");
    }
}

#[test]
fn keys_that_job_files_do_not_have_are_refused_by_name() {
    let refused = |key: &str| apply(JOB, &fields(&[(key, "1")]), &known()).expect_err("unknown").to_string();
    assert_eq!(
        refused("train.ll"),
        "--sweep train.ll: the job file has no such key: did you mean train.lr?"
    );
    assert_eq!(refused("weather.rain"), "--sweep weather.rain: the job file has no such key");
    assert!(refused("train.heads.2.weight").contains("train.heads.2 is no section of this job file"));
    assert!(refused("train.lr.0.x").contains("no such key"));
    let error = apply("a = [", &fields(&[]), &[]).expect_err("no TOML").to_string();
    assert!(error.starts_with("the job file is no TOML: "), "{error}");
}

#[test]
fn a_sweep_is_resumed_and_combined() {
    let dir = tempfile::tempdir().expect("a folder");
    let settings = grid(&[axis("train.lr=0.05,0.1")], &seeds("1..4")).expect("six runs");
    let names: Vec<String> = settings.iter().map(Setting::folder_name).collect();
    let none = BTreeMap::new();
    let claim = |setting: &Setting| {
        let job = apply(JOB, &setting.fields, &known()).expect("known keys");
        let options = fields(&[("seed", &setting.seed.to_string())]);
        let input = Input {
            job: job.as_bytes(),
            population: None,
            options: &options,
        };
        RunFolder::claim(&dir.path().join(setting.folder_name()), &input).expect("a run's folder")
    };
    for setting in &settings[..5] {
        let (folder, _) = claim(setting);
        let mut log = folder.log(0).expect("a log");
        log.push(&RoundRow {
            round: 1,
            test_accuracy: Some(0.5),
            ..RoundRow::default()
        })
        .expect("written");
        let met = Reached {
            accuracy: 0.5,
            round: 1,
            virtual_seconds: 2.5,
            bytes_up: 7,
        };
        let summary = Summary {
            fields: setting.fields.clone(),
            seed: setting.seed,
            test_accuracy: Some(0.5),
            end: "all rounds, as asked".to_owned(),
            reached: if setting.seed == 1 { vec![met] } else { Vec::new() },
            ..Summary::default()
        };
        folder.finish(&summary).expect("written");
    }
    let states: Vec<State> = settings.iter().map(|setting| claim(setting).1).collect();
    assert_eq!(
        states,
        [State::Whole, State::Whole, State::Whole, State::Whole, State::Whole, State::New]
    );
    let combined = combine(dir.path(), "digits", Some(JOB), None, &names).expect("combined");
    assert_eq!(combined, Combined { runs: 5, missing: 1 });
    let table = std::fs::read_to_string(dir.path().join("runs.csv")).expect("a table");
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("folder,train.lr,seed,end,") && lines[0].ends_with(",rounds_to_0.5,virtual_seconds_to_0.5,bytes_up_to_0.5")
    );
    assert!(
        lines[1].starts_with("\"train.lr=0.05,seed=1\",0.05,1,\"all rounds, as asked\","),
        "{}",
        lines[1]
    );
    assert!(lines[1].ends_with(",1,2.5,7") && lines[2].ends_with(",,,") && lines.len() == 6);
    let page = std::fs::read(dir.path().join("report.html")).expect("a report");
    combine(dir.path(), "digits", Some(JOB), None, &names).expect("combined again");
    assert_eq!(
        page,
        std::fs::read(dir.path().join("report.html")).expect("a report"),
        "the same bytes"
    );
    // Other input in one of the folders is refused before it is touched.
    let input = Input {
        job: b"other",
        population: None,
        options: &none,
    };
    assert!(RunFolder::look(&dir.path().join(&names[0]), &input).is_err());
}
