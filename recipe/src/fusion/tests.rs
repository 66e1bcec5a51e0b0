use aimass_learning::training::evaluate_on;
use aimass_learning::{Dataset, Loss};
use aimass_onnx::TrainableRules;
use aimass_onnx::build::mlp;

use super::*;

const JOB: &str = "[job]\nname = \"digits\"\nkind = \"train\"\npurpose = \"recognise digits\"\nseed = 4\n[model]\npath = \"model.onnx\"\n\
                   [data]\ncontract = \"default\"\ntarget = \"label\"\n[round]\nrounds = 2\nmin = 3\n[train]\nlr = 0.1\nbatch = 8\n\
                   [strategy]\nname = \"feddf\"\ndata = \"public.csv\"\n";
const BASE: Digest = Digest::from_bytes([7; 32]);
const ONE: NonZeroUsize = NonZeroUsize::MIN;

fn job(keys: &str) -> JobFile {
    JobFile::parse(&format!("{JOB}{keys}\n")).expect(keys)
}

/// 60 rows of 2 values around three corners.
fn rows() -> Dataset {
    let corner = |class: usize| [[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]][class];
    let noise = |i: usize| ((i * 37 % 17) as f32 - 8.0) / 20.0;
    let features = (0..60).flat_map(|i| [corner(i % 3)[0] + noise(i), corner(i % 3)[1] + noise(i + 5)]);
    Dataset::new(features.collect(), (0..60).map(|i| (i % 3) as f32).collect(), 2).expect("whole rows")
}

/// Weights of `base` after passes over the rows of some classes alone: what a group of agents that have no others would send.
fn trained_on(base: &Model, layout: &ParamLayout, classes: &[usize]) -> Vec<f32> {
    let some: Vec<usize> = (0..60).filter(|i| classes.contains(&(i % 3))).collect();
    let some = rows().select(&some).expect("there");
    let config = TrainConfig {
        heads: vec![Loss::cross_entropy().into()],
        optimizer: OptimizerConfig::sgd(0.3),
        batch_norm: BatchNorm::Stored,
        epochs: 60,
        batch: 8,
        seed: [1; 32],
    };
    let mut training = Training::new(base, layout, &some, &config).expect("fits");
    while training.step().expect("trains").is_some() {}
    training.weights().expect("there").weights
}

fn setup() -> (Model, ParamLayout, Vec<f32>, Vec<f32>) {
    let base = mlp(&[2, 16, 3], 1);
    let layout = base.layout(&TrainableRules::default()).expect("a layout");
    let (a, b) = (trained_on(&base, &layout, &[0, 1]), trained_on(&base, &layout, &[2]));
    (base, layout, a, b)
}

fn groups<'a>(a: &'a [f32], b: &'a [f32], examples: u64) -> [Group<'a>; 2] {
    [Group { weights: a, examples: 40 }, Group { weights: b, examples }]
}

#[test]
fn should_fuse_groups_that_know_other_classes_into_one_that_answers_as_their_mean() {
    let (base, layout, a, b) = setup();
    let file = job("epochs = 40\nlr = 0.01");
    let fused = fuse((&base, BASE), &layout, &groups(&a, &b, 20), &rows(), &file, ONE).expect("fuses");
    let heads = taught_alone(file.strategy.fusion.as_ref().expect("fuses"), &file);
    let teachers = [&a, &b].map(|weights| base.with_weights(&layout, weights).expect("fits"));
    let teachers = Teacher::ensemble(teachers.to_vec(), Ensemble::Logits).expect("two");
    let data = rows();
    // Evaluation leaves teachers out: the loss of a step without learning says how far two models are apart.
    let apart = |weights: &[f32]| {
        let student = base.with_weights(&layout, weights).expect("fits");
        let rows = aimass_learning::Taught::new(&data, &teachers, &student, &heads).expect("fits");
        let config = TrainConfig {
            optimizer: OptimizerConfig::sgd(1e-20),
            ..config(file.strategy.fusion.as_ref().expect("fuses"), &file, 60, [0; 32])
        };
        let mut training = Training::new(
            &student,
            &layout,
            &rows,
            &TrainConfig {
                batch: 60,
                epochs: 1,
                ..config
            },
        )
        .expect("fits");
        training.step().expect("steps").expect("one").loss
    };
    let start = mean(&groups(&a, &b, 20), &layout, file.strategy.fusion.as_ref().expect("fuses")).expect("two");
    let (before, after) = (apart(&start), apart(&fused));
    assert!(after < before / 4.0, "{before} > {after}");
    let accuracy = |weights: &[f32]| {
        let model = base.with_weights(&layout, weights).expect("fits");
        evaluate_on(&model, &data, &[Loss::cross_entropy().into()], &[])
            .expect("fits")
            .accuracy
            .expect("classes")
    };
    assert!(accuracy(&fused) >= accuracy(&a).max(accuracy(&b)), "{:?}", accuracy(&fused));
}

#[test]
fn should_give_the_same_bytes_on_any_number_of_threads_and_others_for_another_base_or_seed() {
    let (base, layout, a, b) = setup();
    let file = job("epochs = 2");
    let fused = |digest, file: &JobFile, threads: usize| {
        let threads = NonZeroUsize::new(threads).expect("some");
        fuse((&base, digest), &layout, &groups(&a, &b, 20), &rows(), file, threads).expect("fuses")
    };
    let first = fused(BASE, &file, 1);
    assert_eq!(first, fused(BASE, &file, 2));
    assert_ne!(first, fused(Digest::from_bytes([8; 32]), &file, 1));
    let mut other = file.clone();
    other.job.seed = 5;
    assert_ne!(first, fused(BASE, &other, 1));
}

#[test]
fn should_begin_with_the_mean_weighted_by_examples_and_need_no_targets() {
    let (base, layout, a, b) = setup();
    let fusion = job("").strategy.fusion.expect("fuses");
    let start = mean(&groups(&a, &b, 120), &layout, &fusion).expect("two");
    for ((mean, a), b) in start.iter().zip(&a).zip(&b) {
        assert!((mean - (0.25 * a + 0.75 * b)).abs() < 1e-6);
    }
    let text = (0..8).fold("x,y\n".to_owned(), |text, i| format!("{text}{}.5,{i}\n", i % 3));
    let wanted = Wanted {
        inputs: Vec::new(),
        targets: vec!["label".to_owned()],
        model_inputs: vec!["x".to_owned()],
        labels: None,
    };
    let open_text = |text: &str| {
        open(&wanted, |wanted| {
            aimass_learning::data::open_bytes("public.csv", text.as_bytes(), wanted, &aimass_learning::data::Limits::default())
        })
    };
    let unlabelled = open_text(&text).expect("rows without targets will do");
    check(&base, &job(""), &*unlabelled).expect("goes with the model");
    fuse((&base, BASE), &layout, &groups(&a, &b, 20), &*unlabelled, &job(""), ONE).expect("fuses");
    let wide = open_text("x,y,z\n1,2,3\n").expect("rows");
    check(&base, &job(""), &*wide).expect_err("another width than the model's");
    let error = open_text("x,y\n1,maybe\n").err().expect("no number").to_string();
    assert!(error.contains("label") || error.contains("maybe"), "{error}");
}

#[test]
fn should_refuse_groups_that_are_not_those_of_the_job() {
    let (base, layout, a, b) = setup();
    let refused = |groups: &[Group<'_>]| {
        let error = fuse((&base, BASE), &layout, groups, &rows(), &job(""), ONE);
        error.expect_err("refused").to_string()
    };
    assert!(refused(&groups(&a, &b, 20)[..1]).contains("1 averages"));
    assert!(refused(&groups(&a, &b[1..], 20)).contains("1 averages"));
    assert!(refused(&[Group { weights: &a, examples: 0 }; 2]).contains("no examples"));
    let nan = vec![f32::NAN; a.len()];
    refused(&groups(&a, &nan, 20));
}
