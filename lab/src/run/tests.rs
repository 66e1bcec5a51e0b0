//! Runs with real training, on small data.

use std::fmt::Write as _;
use std::path::Path;

use aimass_onnx::build::mlp;
use aimass_sim::population::{Byzantine, ByzantineKind, Partition};

use super::*;

const JOB: &str = r#"
[job]
name = "rows"
kind = "train"
seed = 3
purpose = "test"

[model]
path = "model.onnx"

[data]
contract = "rows"
target = "label"

[train]
loss = "cross_entropy"
lr = 0.1
epochs = 2
batch = 8

[strategy]
name = "fedavg"

[round]
mode = "sync"
min = 4
target = 4
max = 4
rounds = 4
max_time = "10m"

[aggregation]
mode = "secure"
floor = 3

[update]
codec = "fixed"
bits = 16
clip = 5.0
weight_cap = 100
"#;

/// Two classes that a line parts, `user` being whose they are.
fn rows(n: usize, seed: u64) -> String {
    let mut chance = aimass_sim::Chance::new(seed, "rows");
    let mut text = String::from("user,a,b,c,label\n");
    for row in 0..n {
        let x: Vec<f64> = (0..3).map(|_| chance.below(2001) as f64 / 1000.0 - 1.0).collect();
        let label = u8::from(x[0] - 0.5 * x[1] + 0.2 * x[2] > 0.0);
        writeln!(text, "{},{},{},{},{label}", row % 12, x[0], x[1], x[2]).expect("writing to a string");
    }
    text
}

struct Place {
    dir: tempfile::TempDir,
    job: String,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("rows.csv"), rows(480, 1)).expect("writes");
        std::fs::write(dir.path().join("test.csv"), rows(200, 2)).expect("writes");
        Self {
            dir,
            job: JOB.replace("contract = \"rows\"", "contract = \"rows\"\ninputs = [\"a\", \"b\", \"c\"]"),
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn options(&self) -> Options {
        Options {
            clients: 12,
            cohort: None,
            rounds: None,
            seed: None,
            data: vec![self.path().join("rows.csv")],
            labels: None,
            evaluation: Some(self.path().join("test.csv")),
            evaluation_labels: None,
            evaluate_every: 1,
            no_train: None,
            selection: Selection::Uniform,
            without_masks: true,
            threads: 2,
            targets: vec![0.6],
        }
    }

    fn begin(&self, population: &Population, options: Options, recorded: Vec<RoundRow>) -> Result<Run, RunError> {
        let given = Given {
            job: JobFile::parse(&self.job).expect("a job"),
            model: mlp(&[3, 8, 2], 1),
            teacher: None,
            folder: self.path(),
            population: (population, self.path()),
            fields: BTreeMap::new(),
            recorded: (recorded, self.path().join("models")),
            began: Instant::now(),
        };
        Run::new(given, options)
    }

    fn run(&self, population: &Population, options: Options) -> (Vec<RoundRow>, Summary) {
        let mut run = self.begin(population, options, Vec::new()).expect("begins");
        run.all(|_| ControlFlow::Continue(())).expect("runs");
        let summary = run.summary();
        (
            run.rows().iter().map(RoundRow::without_wall_time).collect(),
            summary.without_wall_time(),
        )
    }
}

#[test]
fn a_run_learns_and_is_the_same_on_any_number_of_threads_and_under_masks() {
    let place = Place::new();
    let options = || Options {
        rounds: Some(12),
        ..place.options()
    };
    let population = Population::default();
    let (rows, summary) = place.run(&population, options());
    assert!(summary.test_accuracy.expect("measured") > 0.85, "{summary:?}");
    assert_eq!((rows.len(), summary.rounds, summary.contributions), (12, 12, 48));
    assert_eq!(summary.reached.len(), 1);
    for threads in [1, 5] {
        assert_eq!(
            place.run(&population, Options { threads, ..options() }),
            (rows.clone(), summary.clone()),
            "{threads} threads"
        );
    }
    let masked = Options {
        without_masks: false,
        ..options()
    };
    let (masked, of_masked) = place.run(&population, masked);
    let models = |rows: &[RoundRow]| rows.iter().map(|row| row.model.clone()).collect::<Vec<_>>();
    assert_eq!(models(&masked), models(&rows));
    assert_eq!((of_masked.aggregation.as_str(), of_masked.shortcuts.len()), ("secure", 0));
    assert_eq!((summary.aggregation.as_str(), summary.shortcuts.len()), ("plain", 1));
    let other = Options {
        seed: Some(4),
        ..options()
    };
    assert_ne!(models(&place.run(&population, other).0), models(&rows));
}

#[test]
fn a_run_that_was_interrupted_goes_on_to_the_same_bytes() {
    let place = Place::new();
    let population = Population::default();
    for mode in ["sync", "async"] {
        let mut place = Place { ..Place::new() };
        if mode == "async" {
            place.job = place
                .job
                .replace("\"fedavg\"", "\"fedbuff\"")
                .replace("mode = \"sync\"", "mode = \"async\"\nmax_staleness = 3")
                .replace("max = 4", "max = 8");
        }
        let options = || Options {
            rounds: Some(8),
            ..place.options()
        };
        let (whole, of_whole) = place.run(&population, options());
        for stop in [1, 5] {
            let mut run = place.begin(&population, options(), Vec::new()).expect("begins");
            run.all(|run| {
                if run.rows().len() == stop {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .expect("runs");
            assert_eq!(run.summary().end, "interrupted");
            let models = place.path().join("models");
            std::fs::create_dir_all(&models).expect("a folder");
            for (digest, model) in run.lab().models() {
                std::fs::write(models.join(format!("{}.onnx", digest.to_hex())), model.as_bytes()).expect("writes");
            }
            let mut again = place.begin(&population, options(), run.rows().to_vec()).expect("begins");
            again.all(|_| ControlFlow::Continue(())).expect("runs");
            let rows: Vec<_> = again.rows().iter().map(RoundRow::without_wall_time).collect();
            assert_eq!(
                (rows, again.summary().without_wall_time()),
                (whole.clone(), of_whole.clone()),
                "{mode}, {stop}"
            );
        }
    }
    drop(place);
}

#[test]
fn each_way_to_share_out_data_trains() {
    let place = Place::new();
    let dirichlet = Partition::Dirichlet { alpha: 0.5, min: 2 };
    let shards = Partition::Shards { per_client: 2 };
    let key = Partition::Key { column: "user".to_owned() };
    for partition in [Partition::Iid, dirichlet, shards, key] {
        let population = Population {
            partition: partition.clone(),
            ..Population::default()
        };
        let (rows, _) = place.run(&population, place.options());
        assert_eq!(rows.len(), 4, "{partition:?}");
    }
    let folder = place.path().join("clients");
    std::fs::create_dir(&folder).expect("a folder");
    for client in 0..12 {
        std::fs::write(folder.join(format!("{client:02}.csv")), self::rows(20 + client, client as u64)).expect("writes");
    }
    let population = Population {
        partition: Partition::Files,
        ..Population::default()
    };
    let options = Options {
        data: vec![folder],
        ..place.options()
    };
    assert_eq!(place.run(&population, options).0.len(), 4);
}

#[test]
fn attackers_do_harm_and_canaries_are_seen() {
    let place = Place::new();
    let options = || Options {
        rounds: Some(10),
        ..place.options()
    };
    let honest = place.run(&Population::default(), options()).1;
    let attacked = Population {
        byzantine: Some(Byzantine {
            share: 0.5,
            kind: ByzantineKind::Scale { factor: -20.0 },
        }),
        ..Population::default()
    };
    let attacked = place.run(&attacked, options()).1;
    assert!(
        attacked.test_accuracy.expect("measured") < honest.test_accuracy.expect("measured") - 0.1,
        "{attacked:?}"
    );
    assert!(honest.canary_cosine.is_none());
    let canaries = Population {
        canaries: 0.25,
        ..Population::default()
    };
    let cosine = place.run(&canaries, options()).1.canary_cosine.expect("there are canaries");
    // One of four unit vectors of the clip's length, over small updates of the others.
    assert!(cosine > 0.3, "{cosine}");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_runs() {
    let place = Place::new();
    let default = Population::default();
    let refused = |population: &Population, options: Options| match place.begin(population, options, Vec::new()) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    let nothing = Options {
        data: Vec::new(),
        ..place.options()
    };
    assert!(refused(&default, nothing).contains("--no-train"));
    let few = Options {
        clients: 3,
        ..place.options()
    };
    let text = refused(&default, few);
    assert!(text.contains("--cohort") && text.contains("--clients"), "{text}");
    let many = Options {
        clients: 1000,
        ..place.options()
    };
    let text = refused(&default, many);
    assert!(text.contains("reuse"), "{text}");
    let key = Population {
        partition: Partition::Key {
            column: "owner".to_owned(),
        },
        ..Population::default()
    };
    let text = refused(&key, place.options());
    assert!(text.contains("\"owner\"") && text.contains("user, a, b"), "{text}");
    let secure = Options {
        cohort: Some(2),
        without_masks: false,
        ..place.options()
    };
    let text = refused(&default, secure);
    assert!(text.contains("--without-masks"), "{text}");
}

#[test]
fn weights_that_are_not_finite_end_the_run_with_the_fix() {
    let mut place = Place::new();
    place.job = place.job.replace("lr = 0.1", "lr = 1e30");
    let mut run = place.begin(&Population::default(), place.options(), Vec::new()).expect("begins");
    let error = run.all(|_| ControlFlow::Continue(())).expect_err("diverges").to_string();
    assert!(error.contains("client"), "{error}");
}

#[test]
fn nothing_is_trained_where_that_is_asked_for() {
    let place = Place::new();
    let options = Options {
        data: Vec::new(),
        no_train: Some(600),
        clients: 1000,
        cohort: Some(100),
        targets: Vec::new(),
        ..place.options()
    };
    let (rows, summary) = place.run(&Population::default(), options);
    assert!(rows.iter().all(|row| row.contributions == 100 && row.train_loss.is_none()));
    assert!(summary.shortcuts.iter().any(|text| text.contains("nothing was trained")));
}

impl Place {
    /// A job whose rounds are fused in pairs, over rows without labels.
    fn fusing() -> Self {
        let mut place = Self::new();
        let public: String = rows(160, 7).lines().fold(String::new(), |text, line| {
            let fields: Vec<&str> = line.split(',').collect();
            text + &fields[1..4].join(",") + "\n"
        });
        std::fs::write(place.path().join("public.csv"), public).expect("writes");
        let fused = "name = \"feddf\"\ngroups = 2\ndata = \"public.csv\"\nlr = 0.01\nepochs = 4";
        place.job = place.job.replace("name = \"fedavg\"", fused);
        place
    }
}

#[test]
fn should_fuse_pairs_of_rounds_the_same_on_any_number_of_threads_and_under_masks() {
    let place = Place::fusing();
    let options = || Options {
        rounds: Some(8),
        ..place.options()
    };
    let population = Population::default();
    let (rows, summary) = place.run(&population, options());
    assert_eq!((rows.len(), summary.end.as_str()), (8, "finished"), "{summary:?}");
    for pair in rows.chunks(2) {
        assert!(
            pair[0].test_accuracy.is_none() && pair[1].test_accuracy.is_some(),
            "a pair is measured once"
        );
        assert_ne!(pair[0].model, pair[1].model, "and its second round makes the model");
    }
    for (before, after) in rows.chunks(2).zip(rows.chunks(2).skip(1)) {
        assert_eq!(before[1].model, after[0].model, "from which both of the next begin");
    }
    assert!(summary.test_accuracy.expect("measured") > 0.8, "{summary:?}");
    assert_eq!(place.run(&population, Options { threads: 1, ..options() }).0, rows);
    let masked = Options {
        without_masks: false,
        ..options()
    };
    let models = |rows: &[RoundRow]| rows.iter().map(|row| row.model.clone()).collect::<Vec<_>>();
    assert_eq!(models(&place.run(&population, masked).0), models(&rows));
}

#[test]
fn should_go_on_within_a_pair_that_was_not_fused_yet_to_the_same_bytes() {
    let place = Place::fusing();
    let population = Population::default();
    let options = || Options {
        rounds: Some(6),
        ..place.options()
    };
    let whole = place.run(&population, options()).0;
    for stop in [1, 2, 3] {
        let mut run = place.begin(&population, options(), Vec::new()).expect("begins");
        run.all(|run| match run.rows().len() == stop {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
        .expect("runs");
        let models = place.path().join("models");
        std::fs::create_dir_all(&models).expect("a folder");
        for (digest, model) in run.lab().models() {
            std::fs::write(models.join(format!("{}.onnx", digest.to_hex())), model.as_bytes()).expect("writes");
        }
        let mut again = place.begin(&population, options(), run.rows().to_vec()).expect("begins");
        again.all(|_| ControlFlow::Continue(())).expect("runs");
        let rows: Vec<_> = again.rows().iter().map(RoundRow::without_wall_time).collect();
        assert_eq!(rows, whole, "stopped after {stop}");
    }
}

#[test]
fn should_learn_from_a_teacher_and_refuse_what_can_not_be_fused_or_taught() {
    let mut place = Place::new();
    let plain = place.run(&Population::default(), place.options()).0;
    place.job = format!("{}\n[train.distil]\nteacher = \"teacher.onnx\"\n", place.job);
    let with = |teacher: Model| {
        let given = Given {
            job: JobFile::parse(&place.job).expect("a job"),
            model: mlp(&[3, 8, 2], 1),
            teacher: Some(teacher),
            folder: place.path(),
            population: (&Population::default(), place.path()),
            fields: BTreeMap::new(),
            recorded: (Vec::new(), place.path().join("models")),
            began: Instant::now(),
        };
        Run::new(given, place.options())
    };
    let mut run = with(mlp(&[3, 16, 2], 2)).expect("fits");
    run.all(|_| ControlFlow::Continue(())).expect("runs");
    assert_ne!(run.rows()[0].model, plain[0].model, "the teacher counts");
    let error = with(mlp(&[3, 16, 4], 2)).expect_err("another number of classes").to_string();
    assert!(error.contains("train.distil.teacher"), "{error}");

    let place = Place::fusing();
    let refused = |options: Options| {
        place
            .begin(&Population::default(), options, Vec::new())
            .expect_err("refused")
            .to_string()
    };
    let odd = Options {
        rounds: Some(5),
        ..place.options()
    };
    assert!(refused(odd).contains("strategy.groups"));
    std::fs::write(place.path().join("public.csv"), "a,b\n1,2\n").expect("writes");
    assert!(refused(place.options()).contains("strategy.data"));
}
