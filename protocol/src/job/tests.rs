use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

mod analytics;
mod calibration;
mod compress;
mod distil;
mod release;

const EXAMPLE: &str = include_str!("../../testdata/job.example.toml");

const SMALL: &str = r#"[job]
name = "digits"
kind = "train"
purpose = "learn to read digits"

[model]
path = "model.onnx"

[data]
contract = "digits"
target = "label"

[train]
lr = 0.1

[round]
rounds = 10
min = 3
"#;

/// What the defaults of the documentation make of [`SMALL`].
fn small() -> JobFile {
    use crate::descriptor::{CodecName, CodecParams, MaskSuite, Profile};
    JobFile {
        job: JobSection {
            name: "digits".into(),
            kind: JobKind::Train,
            seed: 0,
            purpose: "learn to read digits".into(),
            priority: 50,
            tags: vec![],
            device_classes: vec![],
            require: None,
            deadline: None,
        },
        model: ModelSection {
            path: "model.onnx".into(),
            trainable: vec![],
        },
        data: DataSection {
            contract: "digits".into(),
            inputs: vec![],
            target: "label".into(),
        },
        train: TrainSection::sgd(0.1),
        strategy: StrategySection {
            name: StrategyName::FedAvg,
            server_lr: 1.0,
            fusion: None,
        },
        round: RoundSection {
            mode: RoundMode::Sync,
            rounds: 10,
            min: 3,
            target: 3,
            max: 3,
            max_time: Duration::from_secs(600),
            max_staleness: 0,
        },
        aggregation: AggregationSection {
            mode: AggregationMode::Secure,
            floor: 3,
            profile: Profile::Hardened,
            suite: MaskSuite::Aes256Ctr,
        },
        update: CodecParams {
            codec: CodecName::Fixed,
            bits: 24,
            clip: 10.0,
            weight_cap: 4096,
        },
        evaluate: None,
        compress: None,
        analyze: None,
        release: None,
        calibration: None,
    }
}

#[test]
fn a_small_file_gets_the_defaults() {
    assert_eq!(JobFile::parse(SMALL), Ok(small()));
}

#[test]
fn the_example_parses_to_the_same() {
    assert_eq!(JobFile::parse(EXAMPLE), Ok(small()));
}

/// The example's commented keys show the defaults, but for `[evaluate]` and `[compress]`, which are not there by default.
#[test]
fn the_example_with_every_key_in_force_parses_to_the_same() {
    let in_force = uncommented(EXAMPLE);
    let mut expected = small();
    expected.evaluate = Some(EvaluateSection {
        data: Some("test.csv".into()),
        on_devices: Some(0.2),
        target_accuracy: Some(0.95),
    });
    expected.compress = Some(CompressSection {
        distil: None,
        channels: Some(0.25),
        prune: Some(0.8),
        quantize: Some(QuantizeSection::Static {
            aware: false,
            activations: ActivationsName::U8,
            calibration: CalibrationName::MinMax,
            rows: 512,
        }),
        keep: vec![],
        store: StoreName::Compact,
        epochs: 1,
        lr: Some(0.01),
        max_drop: Some(1.0),
    });
    assert_eq!(JobFile::parse(&in_force), Ok(expected));
}

#[test]
fn evaluation_is_on_the_servers_data_on_the_devices_or_on_both() {
    let parsed = |lines: &str| JobFile::parse(&SMALL.replace("[train]", &format!("[evaluate]\n{lines}\n[train]")));
    assert_eq!(small().on_devices(), None);
    for (lines, data, on_devices) in [
        ("data = \"t.csv\"", Some("t.csv"), None),
        ("on_devices = 0.5", None, Some(0.5)),
        ("data = \"t.csv\"\non_devices = 0.25", Some("t.csv"), Some(0.25)),
    ] {
        let file = parsed(lines).expect(lines);
        assert_eq!(file.on_devices(), on_devices, "{lines}");
        assert_eq!(file.evaluate.and_then(|section| section.data).as_deref(), data, "{lines}");
    }
}

/// Takes the `# ` off lines that hold a commented key or section.
fn uncommented(text: &str) -> String {
    let is_code = |rest: &str| rest.starts_with('[') || rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    text.lines().fold(String::new(), |mut out, line| {
        let rest = line.strip_prefix("# ").filter(|rest| is_code(rest)).unwrap_or(line);
        out.push_str(rest);
        out.push('\n');
        out
    })
}

/// Keys beside `[train]` that the example explains and does not put in force: nothing stands for their absence, or they belong to another choice.
const WITHOUT_A_DEFAULT: &[&str] = &[
    "job.require",
    "job.deadline",
    "round.max_staleness",
    "compress.block",
    "compress.distil",
    "strategy.groups",
    "strategy.temperature",
    "strategy.lr",
    "strategy.epochs",
    "strategy.batch",
    "strategy.data",
    "strategy.digest",
    "strategy.size_bytes",
];

/// As a key of a section, or as one that belongs to another choice than the example's.
#[test]
fn every_key_of_the_schema_is_in_the_example() {
    let (_, source) = JobFile::parse_with_source(&uncommented(EXAMPLE)).expect("the example parses");
    for key in schema::job_file_keys().filter(|key| {
        !["analyze", "release", "gate", "calibration"]
            .iter()
            .any(|other| key.starts_with(other))
    }) {
        let (section, name) = key.rsplit_once('.').expect("a section and a key");
        let explained = EXAMPLE.lines().any(|line| {
            let text = line.trim_start_matches(['#', ' ']);
            text.starts_with(&format!("{name} = ")) || text.starts_with(&format!("[{key}]")) || text.starts_with(&format!("[[{key}]]"))
        });
        assert!(
            source.where_is(&key).is_some()
                || (explained
                    && (section.starts_with("train") || section == "compress.distil" || WITHOUT_A_DEFAULT.contains(&key.as_str()))),
            "{key} is not in job.example.toml"
        );
    }
}

fn with_train(keys: &str) -> Result<TrainSection, JobFileError> {
    JobFile::parse(&SMALL.replacen("lr = 0.1", &format!("lr = 0.1\n{keys}"), 1)).map(|file| file.train)
}

#[test]
fn every_loss_has_its_options() {
    let loss = |keys: &str| match &with_train(keys).expect(keys).heads[..] {
        [head] => head.loss.clone(),
        heads => panic!("{} heads", heads.len()),
    };
    assert_eq!(
        loss("label_smoothing = 0.1\nclass_weights = [1, 2.5]\nignore_index = -100\nclass_axis = \"second\""),
        LossSection::CrossEntropy {
            label_smoothing: 0.1,
            class_weights: Some(vec![1.0, 2.5]),
            ignore_index: Some(-100),
            class_axis: ClassAxisName::Second,
        }
    );
    let binary = |pos_weight| LossSection::BinaryCrossEntropy { pos_weight };
    assert_eq!(loss("loss = \"binary_cross_entropy\""), binary(None));
    assert_eq!(loss("loss = \"binary_cross_entropy\"\npos_weight = [3]"), binary(Some(vec![3.0])));
    assert_eq!(loss("loss = \"mse\""), LossSection::Mse);
    assert_eq!(loss("loss = \"mae\""), LossSection::Mae);
    assert_eq!(loss("loss = \"huber\""), LossSection::Huber { delta: 1.0 });
    assert_eq!(
        loss("loss = \"contrastive\"\ntemperature = 0.5"),
        LossSection::Contrastive { temperature: 0.5 }
    );
    assert_eq!(loss("loss = \"pairwise\""), LossSection::Pairwise { margin: 1.0 });
}

#[test]
fn every_optimizer_has_its_options() {
    let train = |keys: &str| with_train(keys).expect(keys);
    let adam = OptimizerSection::Adam {
        beta1: 0.8,
        beta2: 0.999,
        epsilon: 1e-8,
    };
    assert_eq!(train("optimizer = \"adam\"\nbeta1 = 0.8").optimizer, adam);
    assert_eq!(train("optimizer = \"adam\"").weight_decay, 0.0);
    assert_eq!(train("optimizer = \"adamw\"").weight_decay, 0.01);
    assert_eq!(train("optimizer = \"adamw\"\nweight_decay = 0").weight_decay, 0.0);
    assert_eq!(
        train("optimizer = \"momentum\"").optimizer,
        OptimizerSection::Momentum { momentum: 0.9 }
    );
    let nesterov = train("optimizer = \"nesterov\"\nmomentum = 0.5\nclip_norm = 2");
    assert_eq!(
        (nesterov.optimizer, nesterov.clip_norm),
        (OptimizerSection::Nesterov { momentum: 0.5 }, Some(2.0))
    );
    let rms = OptimizerSection::RmsProp {
        alpha: 0.99,
        epsilon: 1e-6,
        momentum: 0.0,
    };
    assert_eq!(train("optimizer = \"rmsprop\"\nepsilon = 1e-6").optimizer, rms);
    let fall = Fall {
        warmup: 10,
        steps: None,
        floor: 0.1,
    };
    assert_eq!(
        train("schedule = { name = \"cosine\", warmup = 10, floor = 0.1 }").schedule,
        ScheduleSection::Cosine(fall)
    );
    let steps = Fall {
        warmup: 0,
        steps: Some(99),
        floor: 0.0,
    };
    assert_eq!(
        train("schedule.name = \"linear\"\nschedule.steps = 99").schedule,
        ScheduleSection::Linear(steps)
    );
    assert_eq!(
        train("schedule = { name = \"step\", every = 5 }").schedule,
        ScheduleSection::Step { every: 5, gamma: 0.1 }
    );
    assert_eq!(train("batch_norm = \"batch\"").batch_norm, Some(BatchNormName::Batch));
    assert_eq!(train("metrics = [\"top3\", \"auc\"]").metrics, ["top3", "auc"]);
}

#[test]
fn adapters_and_several_heads_are_read() {
    let file = |keys: &str| JobFile::parse(&SMALL.replacen("lr = 0.1", &format!("lr = 0.1\n{keys}"), 1)).expect(keys);
    let lora = file("lora = { rank = 4 }").train.lora.expect("adapters");
    assert_eq!((lora.alpha, lora.targets.len()), (4.0, 0));
    let two = "[[train.heads]]\noutput = \"a\"\n[[train.heads]]\noutput = \"b\"\ntarget = \"t\"\nloss = \"mse\"\nweight = 0.5";
    let heads = file(two).train.heads;
    assert_eq!(heads[0].output.as_deref(), Some("a"));
    assert_eq!(
        heads[1],
        HeadSection {
            output: Some("b".into()),
            target: Some("t".into()),
            loss: LossSection::Mse,
            weight: 0.5
        }
    );
}

#[test]
fn rounds_wait_or_stop_or_do_neither() {
    let round = |keys: &str| JobFile::parse(&SMALL.replacen("min = 3", &format!("min = 3\n{keys}"), 1)).expect(keys);
    let read = |file: &JobFile| (file.round.mode, file.round.max_staleness, file.strategy.name);
    assert_eq!(read(&round("mode = \"sync\"")), (RoundMode::Sync, 0, StrategyName::FedAvg));
    assert_eq!(read(&round("mode = \"semi_sync\"")), (RoundMode::SemiSync, 0, StrategyName::FedAvg));
    assert_eq!(read(&round("mode = \"async\"")), (RoundMode::Async, 10, StrategyName::FedBuff));
    assert_eq!(
        read(&round("mode = \"async\"\nmax_staleness = 31\n[strategy]\nname = \"fedbuff\"")),
        (RoundMode::Async, 31, StrategyName::FedBuff)
    );
    assert_eq!(read(&round("mode = \"async\"\nmax_staleness = 0")).1, 0);
}

#[test]
fn a_job_says_for_which_devices_and_until_when() {
    let job = |keys: &str| {
        let text = SMALL.replacen("kind = \"train\"", &format!("kind = \"train\"\n{keys}"), 1);
        JobFile::parse(&text).expect(keys).job
    };
    assert_eq!(
        job("device_class = [\"gateway\", \"a phone\"]").device_classes,
        ["gateway", "a phone"]
    );
    let asked = job("require = 'memory >= 2GiB and cores >= 4'").require.expect("a requirement");
    assert_eq!(asked.to_string(), "memory >= 2GiB and cores >= 4");
    let in_lines = job("require = \"\"\"\nmemory >= 2GiB\nor tag(\"eu\")\"\"\"")
        .require
        .expect("a requirement");
    assert_eq!(in_lines.to_string(), "memory >= 2GiB or tag(\"eu\")");
    let deadline = Some(Timestamp::from_ms(1_796_112_000_000));
    assert_eq!(job("deadline = 2026-12-01T08:00:00Z").deadline, deadline);
    assert_eq!(job("deadline = 2026-12-01 09:00:00+01:00").deadline, deadline);
}

/// Every way to be wrong, as an edit of [`SMALL`]: `from` becomes `to`.
const WRONG: &[(&str, &str)] = &[
    // no TOML
    ("lr = 0.1", "lr = "),
    ("lr = 0.1", "lr 0.1"),
    ("name = \"digits\"", "name = digits"),
    ("[train]", "[train"),
    ("min = 3", "min = 3\nmin = 4"),
    ("lr = 0.1", "lr = 0.1.2"),
    // unknown
    ("lr = 0.1", "lr = 0.1\nbacth = 8"),
    ("lr = 0.1", "lr = 0.1\nwheels = 8"),
    ("lr = 0.1", "lr = 0.1\nrounds = 8"),
    ("[train]", "[trian]"),
    ("[train]", "[kitchen]"),
    ("[job]", "seed = 3\n[job]"),
    ("[job]", "colour = 3\n[job]"),
    ("[job]", "train = 3\n[job]"),
    ("[train]", "[[train]]"),
    // later
    ("[train]", "[privacy]\nmechanism = \"central\"\n[train]"),
    ("target = \"label\"", "target = \"label\"\nsteps = []"),
    ("lr = 0.1", "lr = 0.1\nproximal = 0.1"),
    ("lr = 0.1", "lr = 0.1\noptimizer = \"adagrad\""),
    ("lr = 0.1", "lr = 0.1\nloss = \"triplet\""),
    // of another choice
    ("lr = 0.1", "lr = 0.1\nmomentum = 0.9"),
    ("lr = 0.1", "lr = 0.1\nloss = \"mse\"\nlabel_smoothing = 0.1"),
    ("lr = 0.1", "lr = 0.1\noptimizer = \"adam\"\nmomentum = 0.9"),
    ("lr = 0.1", "lr = 0.1\nschedule = { name = \"step\", every = 5, warmup = 5 }"),
    ("lr = 0.1", "lr = 0.1\nloss = \"mse\"\n[[train.heads]]\nloss = \"mae\""),
    // tables
    ("lr = 0.1", "lr = 0.1\nschedule = \"cosine\""),
    ("lr = 0.1", "lr = 0.1\nschedule = { name = \"cosine\", warmups = 5 }"),
    ("lr = 0.1", "lr = 0.1\nschedule = { warmup = 5 }"),
    ("lr = 0.1", "lr = 0.1\nschedule = { name = \"linear\", warmup = 5, steps = 5 }"),
    ("lr = 0.1", "lr = 0.1\nschedule = { name = \"step\" }"),
    ("lr = 0.1", "lr = 0.1\nwarmup = 5"),
    ("lr = 0.1", "lr = 0.1\nlora = 8"),
    ("lr = 0.1", "lr = 0.1\nlora = { alpha = 2.0 }"),
    ("lr = 0.1", "lr = 0.1\nlora = { rank = 0 }"),
    ("lr = 0.1", "lr = 0.1\nlora = { rank = 2, targets = [\"[\"] }"),
    ("lr = 0.1", "lr = 0.1\nheads = []"),
    ("lr = 0.1", "lr = 0.1\nheads = [3]"),
    ("lr = 0.1", "lr = 0.1\nheads = { output = \"a\" }"),
    (
        "lr = 0.1",
        "lr = 0.1\n[[train.heads]]\noutput = \"a\"\n[[train.heads]]\nlos = \"mse\"",
    ),
    (
        "lr = 0.1",
        "lr = 0.1\n[[train.heads]]\noutput = \"a\"\n[[train.heads]]\nweight = -1",
    ),
    ("lr = 0.1", "lr = 0.1\n[[train.heads]]\noutput = \" \""),
    ("min = 3", "min = 3\nmode = \"asynch\""),
    ("min = 3", "min = 3\nmode = \"async\"\nmax_staleness = 32"),
    ("min = 3", "min = 3\nmax_staleness = 1"),
    ("min = 3", "min = 3\nmode = \"semi_sync\"\nmax_staleness = 0"),
    ("[train]", "[strategy]\nname = \"fedbuff\"\n[train]"),
    ("min = 3", "min = 3\nmode = \"async\"\n[strategy]\nname = \"fedavg\""),
    ("min = 3", "min = 2"),
    ("min = 3", "min = 3\ntarget = 2000"),
    ("min = 3", "min = 3\n[aggregation]\nmode = \"secure\"\nfloor = 2"),
    ("min = 3", "min = 3\n[aggregation]\nmode = \"plain\"\nprofile = \"hardened\""),
    ("min = 3", "min = 3\n[aggregation]\nsuite = \"aes\""),
    ("[train]", "[strategy]\nname = \"krum\"\n[train]"),
    ("[train]", "[update]\ncodec = \"topk\"\n[train]"),
    ("[train]", "[strategy]\nname = \"fedprox\"\n[train]"),
    ("kind = \"train\"", "kind = \"search\""),
    // missing
    ("lr = 0.1", ""),
    ("[train]\nlr = 0.1", ""),
    ("name = \"digits\"\n", ""),
    ("purpose = \"learn to read digits\"", ""),
    ("path = \"model.onnx\"", ""),
    ("target = \"label\"", ""),
    ("rounds = 10", ""),
    ("min = 3", ""),
    ("[train]", "[evaluate]\ntarget_accuracy = 0.9\n[train]"),
    // wrong type
    ("lr = 0.1", "lr = \"0.1\""),
    ("rounds = 10", "rounds = 10.0"),
    ("rounds = 10", "rounds = \"10\""),
    ("name = \"digits\"", "name = 7"),
    ("path = \"model.onnx\"", "path = \"model.onnx\"\ntrainable = \"head\""),
    ("path = \"model.onnx\"", "path = \"model.onnx\"\ntrainable = [\"a\", 3]"),
    ("min = 3", "min = 3\nmax_time = 90"),
    ("min = 3", "min = 1979-05-27"),
    // impossible
    ("lr = 0.1", "lr = 0"),
    ("lr = 0.1", "lr = -0.1"),
    ("lr = 0.1", "lr = nan"),
    ("lr = 0.1", "lr = inf"),
    ("lr = 0.1", "lr = 1e300"),
    ("lr = 0.1", "lr = 1e-300"),
    ("lr = 0.1", "lr = 0.1\nbatch = 0"),
    ("lr = 0.1", "lr = 0.1\nlabel_smoothing = 1.5"),
    ("lr = 0.1", "lr = 0.1\nlabel_smoothing = nan"),
    ("lr = 0.1", "lr = 0.1\nclass_weights = [1.0, -1.0]"),
    ("lr = 0.1", "lr = 0.1\nclass_weights = [1.0, \"a\"]"),
    ("lr = 0.1", "lr = 0.1\nclass_weights = []"),
    ("lr = 0.1", "lr = 0.1\nclass_weights = [0, 0]"),
    ("lr = 0.1", "lr = 0.1\nignore_index = 0.5"),
    ("lr = 0.1", "lr = 0.1\nignore_index = 99999999999999999999"),
    ("lr = 0.1", "lr = 0.1\nclass_axis = \"first\""),
    ("lr = 0.1", "lr = 0.1\nloss = \"huber\"\ndelta = 0"),
    ("lr = 0.1", "lr = 0.1\noptimizer = \"momentum\"\nmomentum = 1.0"),
    ("lr = 0.1", "lr = 0.1\noptimizer = \"nesterov\"\nmomentum = 0"),
    ("lr = 0.1", "lr = 0.1\nweight_decay = -0.1"),
    ("lr = 0.1", "lr = 0.1\nclip_norm = 0"),
    ("lr = 0.1", "lr = 0.1\nbatch_norm = \"frozen\""),
    ("lr = 0.1", "lr = 0.1\nmetrics = [\"f1\"]"),
    ("lr = 0.1", "lr = 0.1\nmetrics = [\"top05\"]"),
    ("lr = 0.1", "lr = 0.1\nmetrics = [\"acuracy\"]"),
    ("lr = 0.1", "lr = 0.1\nepochs = -1"),
    ("lr = 0.1", "lr = 0.1\nloss = \"cross_entrpy\""),
    ("lr = 0.1", "lr = 0.1\nloss = \"magic\""),
    ("lr = 0.1", "lr = 0.1\noptimizer = \"magic\""),
    ("rounds = 10", "rounds = 0"),
    ("rounds = 10", "rounds = 99999999999999999999"),
    ("min = 3", "min = 0"),
    ("min = 3", "min = 3\ntarget = 2"),
    ("min = 3", "min = 3\nmax = 2"),
    ("min = 3", "min = 3\ntarget = 5\nmax = 4"),
    ("min = 3", "min = 3\nmax_time = \"soon\""),
    ("min = 3", "min = 3\nmax_time = \"0s\""),
    ("min = 3", "min = 3\nmax_time = \"-5m\""),
    ("min = 3", "min = 3\nmax_time = \"99999999999999999999h\""),
    ("min = 3", "min = 3\n[aggregation]\nmode = \"plain\"\nfloor = 4"),
    ("min = 3", "min = 3\n[aggregation]\nmode = \"plain\"\nfloor = 0"),
    ("min = 3", "min = 3\n[aggregation]\nmode = \"plian\""),
    ("[train]", "[update]\nbits = 1\n[train]"),
    ("[train]", "[update]\nbits = 33\n[train]"),
    ("[train]", "[update]\nclip = 0.0\n[train]"),
    ("[train]", "[update]\nclip = -1.0\n[train]"),
    ("[train]", "[update]\nweight_cap = 0\n[train]"),
    ("[train]", "[strategy]\nserver_lr = 0.0\n[train]"),
    ("[train]", "[evaluate]\ndata = \"t.csv\"\ntarget_accuracy = 1.5\n[train]"),
    ("[train]", "[evaluate]\ndata = \"t.csv\"\ntarget_accuracy = 0\n[train]"),
    ("[train]", "[evaluate]\ndata = \"t.csv\"\ntarget_accuracy = nan\n[train]"),
    ("[train]", "[evaluate]\non_devices = 0\n[train]"),
    ("[train]", "[evaluate]\non_devices = 0.6\n[train]"),
    ("[train]", "[evaluate]\non_devices = nan\n[train]"),
    ("[train]", "[evaluate]\non_devices = true\n[train]"),
    ("[train]", "[evaluate]\ndata = 3\non_devices = 0.2\n[train]"),
    ("path = \"model.onnx\"", "path = \"/etc/model.onnx\""),
    ("path = \"model.onnx\"", "path = \"../model.onnx\""),
    ("path = \"model.onnx\"", "path = \"a/../../model.onnx\""),
    ("path = \"model.onnx\"", "path = 'C:\\model.onnx'"),
    ("path = \"model.onnx\"", "path = 'a\\model.onnx'"),
    ("path = \"model.onnx\"", "path = \"models/\""),
    ("path = \"model.onnx\"", "path = \"\""),
    ("path = \"model.onnx\"", "path = \"a\\u0000b\""),
    ("path = \"model.onnx\"", "path = \"model.onnx\"\ntrainable = [\"head.*\", \"[\"]"),
    ("contract = \"digits\"", "contract = \"my digits\""),
    ("target = \"label\"", "target = \"label\"\ninputs = [\"a\", \"label\"]"),
    ("target = \"label\"", "target = \"label\"\ninputs = [\"a\", \"a\"]"),
    ("target = \"label\"", "target = \" \""),
    ("name = \"digits\"", "name = \"digits/2\""),
    ("name = \"digits\"", "name = \"\""),
    ("kind = \"train\"", "kind = \"train\"\npriority = 101"),
    ("kind = \"train\"", "kind = \"train\"\nseed = -1"),
    ("kind = \"train\"", "kind = \"train\"\ntags = [\"a b\"]"),
    ("kind = \"train\"", "kind = \"tain\""),
    ("kind = \"train\"", "kind = \"train\"\ndevice_class = \"gateway\""),
    ("kind = \"train\"", "kind = \"train\"\ndevice_class = [\"\"]"),
    ("kind = \"train\"", "kind = \"train\"\ndevice_class = [\"a\", \"a\"]"),
    (
        "kind = \"train\"",
        "kind = \"train\"\ndevice_class = [\"0123456789012345678901234567890123456789012345678901234567890123x\"]",
    ),
    ("kind = \"train\"", "kind = \"train\"\nrequire = 'cores >= four'"),
    ("kind = \"train\"", "kind = \"train\"\nrequire = ''"),
    ("kind = \"train\"", "kind = \"train\"\nrequire = [\"cores >= 4\"]"),
    ("kind = \"train\"", "kind = \"train\"\ndeadline = 2026-12-01T08:00:00"),
    ("kind = \"train\"", "kind = \"train\"\ndeadline = 2026-12-01"),
    ("kind = \"train\"", "kind = \"train\"\ndeadline = 08:00:00"),
    ("kind = \"train\"", "kind = \"train\"\ndeadline = \"2026-12-01T08:00:00Z\""),
    ("kind = \"train\"", "kind = \"train\"\ndeadline = 1969-12-31T23:59:59Z"),
    ("kind = \"train\"", "kind = \"train\"\ndeadline = 2026-02-29T08:00:00Z"),
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

#[test]
fn an_empty_file_is_refused_at_its_first_line() {
    let error = JobFile::parse("").expect_err("nothing is no job");
    assert_eq!((error.line, error.column, error.field.as_str()), (1, 1, "job"));
}

#[test]
fn a_file_over_the_limit_is_refused_before_it_is_parsed() {
    let text = format!("{SMALL}# {}", "x".repeat(crate::limits::MAX_JOB_FILE_BYTES));
    assert!(JobFile::parse(&text).expect_err("too long").problem.contains("too long"));
}

#[test]
fn deep_nesting_is_refused_without_a_crash() {
    for opening in ["[", "{a=", "[[", "a."] {
        let text = format!(
            "{SMALL}x = {}",
            opening.repeat(crate::limits::MAX_JOB_FILE_BYTES / opening.len() - SMALL.len())
        );
        JobFile::parse(&text).expect_err("nested too deep");
        JobFile::parse(&opening.repeat(20_000)).expect_err("nested too deep");
    }
}

#[test]
fn a_later_error_points_to_the_line() {
    let text = SMALL.replace("target = \"label\"", "inputs = [\"p0\",\n  \"p1\"]\ntarget = \"label\"");
    let (_, source) = JobFile::parse_with_source(&text).expect("the file is right");
    assert_eq!(source.where_is("data"), Some((9, 2)));
    assert_eq!(source.where_is("data.inputs"), Some((11, 10)));
    assert_eq!(source.where_is("data.inputs[1]"), Some((12, 3)));
    assert_eq!(source.where_is("data.colour"), None);
    let error = source.error_at("data.inputs", "2 columns, but the model takes 64", "list 64 columns");
    assert_eq!(
        error.to_string(),
        "line 11, column 10: data.inputs: 2 columns, but the model takes 64; list 64 columns"
    );
    // A key that the file leaves to its default: its section. A section that is not there: the end.
    assert_eq!(source.error_at("train.batch", "p", "f").line, 15);
    assert_eq!(source.error_at("evaluate.data", "p", "f").line, text.lines().count() + 1);
}

#[test]
fn columns_count_characters_and_lines_may_end_in_crlf() {
    let text = SMALL
        .replace("purpose = \"learn to read digits\"", "purpose = \"äöü\"")
        .replace('\n', "\r\n");
    let (file, source) = JobFile::parse_with_source(&text).expect("the file is right");
    assert_eq!(file.job.purpose, "äöü");
    assert_eq!(source.where_is("train.lr"), Some((14, 6)));
    let wrong = text.replace("purpose = \"äöü\"", "purpose = \"äöü\" x");
    let error = JobFile::parse(&wrong).expect_err("an x too many");
    assert_eq!((error.line, error.column), (4, 17));
}

#[test]
fn dotted_keys_and_inline_tables_are_sections_too() {
    let text = SMALL.replace("[train]\nlr = 0.1\n", "");
    assert_eq!(JobFile::parse(&format!("train.lr = 0.1\n{text}")), Ok(small()));
    assert_eq!(JobFile::parse(&format!("train = {{ lr = 1e-1 }}\n{text}")), Ok(small()));
}

#[test]
fn durations_are_seconds_minutes_hours() {
    for (text, seconds) in [("90s", 90), ("5m", 300), ("2h", 7200), ("168h", 604_800)] {
        let file = JobFile::parse(&SMALL.replace("min = 3", &format!("min = 3\nmax_time = \"{text}\""))).expect("a time");
        assert_eq!(file.round.max_time, Duration::from_secs(seconds));
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        crate::fuzz::job_file(&text);
    }

    #[test]
    fn toml_like_text_never_panics(text in "(\\[[a-z]{1,5}\\]\n|[a-z_]{1,6} = (\"[^\"]{0,6}\"|-?[0-9]{1,3}(\\.[0-9])?|\\[\"a\"\\])\n|.){0,12}") {
        crate::fuzz::job_file(&text);
    }

    #[test]
    fn a_damaged_example_never_panics(at in 0..SMALL.len(), len in 0_usize..20, with in ".{0,4}") {
        let text: String = SMALL.chars().take(at).chain(with.chars()).chain(SMALL.chars().skip(at + len)).collect();
        crate::fuzz::job_file(&text);
    }
}
