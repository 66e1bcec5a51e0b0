use std::ops::ControlFlow;

use aimass_onnx::build::mlp;
use serde_json::Value;

use super::*;
use crate::data::Source;
use crate::testing::{clouds, config, layout};
use crate::training::{Training, check_data, evaluate_on};
use crate::{BinaryCrossEntropy, Dataset, Distillation, OptimizerConfig, TrainConfig};

fn heads(alpha: f32) -> Vec<Head> {
    vec![
        Loss::Distillation(Distillation {
            temperature: 2.0,
            alpha,
            hard: Box::new(Loss::cross_entropy()),
        })
        .into(),
    ]
}

fn trained(model: &Model, data: &dyn Source, heads: Vec<Head>, epochs: u32) -> Model {
    let config = TrainConfig {
        heads,
        epochs,
        batch: 8,
        optimizer: OptimizerConfig::sgd(0.2),
        ..config(Loss::cross_entropy())
    };
    let layout = layout(model);
    let update = crate::train(model, &layout, data, &config, &mut |_| ControlFlow::Continue(())).expect("trains");
    let base = model.weights(&layout).expect("weights");
    let weights: Vec<f32> = base.iter().zip(&update.delta).map(|(w, d)| w + d).collect();
    model.with_weights(&layout, &weights).expect("fits")
}

fn accuracy(model: &Model, data: &Dataset) -> f64 {
    let found = evaluate_on(model, data, &[Loss::cross_entropy().into()], &[]).expect("evaluates");
    found.accuracy.expect("classes")
}

#[test]
fn should_teach_a_smaller_student_what_targets_do_not_say() {
    let (data, held_out) = (clouds(120, 6, 4, 2), clouds(120, 6, 4, 2));
    let teacher = trained(&mlp(&[6, 32, 32, 4], 1), &data, vec![Loss::cross_entropy().into()], 20);
    assert!(accuracy(&teacher, &held_out) > 0.95);
    // All targets say class 0: only the teacher knows better.
    let blind = Dataset::new(data.features().to_vec(), vec![0.0; 120], 6).expect("rows");
    let student = mlp(&[6, 8, 4], 5);
    let before = accuracy(&student, &held_out);
    let taught = Taught::new(&blind, &Teacher::new(teacher), &student, &heads(1.0)).expect("fits");
    let after = accuracy(&trained(&student, &taught, heads(1.0), 20), &held_out);
    assert!(before < 0.7 && after > 0.9, "{before} -> {after}");
}

#[test]
fn should_answer_alike_ahead_and_batch_by_batch_and_end_with_the_same_bytes_when_resumed() {
    let data = clouds(30, 6, 3, 2);
    let (teacher, student) = (Teacher::new(mlp(&[6, 16, 3], 1)), mlp(&[6, 4, 3], 2));
    let live = Taught::new(&data, &teacher, &student, &heads(0.5)).expect("fits");
    let ahead = Taught::new(&data, &teacher, &student, &heads(0.5))
        .expect("fits")
        .answered(1 << 20, &mut |_, _| true)
        .expect("answers");
    let rows = [3, 29, 0, 0, 17];
    let (a, b) = (live.batch(&rows).expect("a batch"), ahead.batch(&rows).expect("a batch"));
    assert_eq!(a.targets.len(), 2);
    assert_eq!(a.targets[0], b.targets[0]);
    let floats = |batch: &Batch| batch.targets[1].as_floats().expect("floats").to_vec();
    assert_eq!(crate::testing::apart(&floats(&a), &floats(&b), 1e-6), None);
    let (plain, _) = crate::predict(&mlp(&[6, 16, 3], 1), &data.features()[3 * 6..4 * 6], 6).expect("predicts");
    assert_eq!(crate::testing::apart(&plain, &floats(&a)[..3], 1e-6), None);
    let print = |source: &dyn Source| {
        let mut bytes = Vec::new();
        source.fingerprint(&mut |some| bytes.extend_from_slice(some)).expect("in memory");
        bytes
    };
    assert_eq!(print(&live), print(&ahead));
    assert_ne!(print(&live), print(&data));
    let other = Taught::new(&data, &Teacher::new(mlp(&[6, 16, 3], 9)), &student, &heads(0.5)).expect("fits");
    assert_ne!(print(&live), print(&other), "another teacher is other data");
    let stopped = Taught::new(&data, &teacher, &student, &heads(0.5))
        .expect("fits")
        .answered(1 << 20, &mut |step, steps| step + 1 < steps);
    assert!(matches!(stopped, Err(TrainError::Stopped { .. })), "before the last batch");
    let small = Taught::new(&data, &teacher, &student, &heads(0.5))
        .expect("fits")
        .answered(100, &mut |_, _| true);
    assert!(small.expect_err("30 rows of 3").to_string().contains("answers to all 30 rows"));

    let config = TrainConfig {
        heads: heads(0.5),
        epochs: 2,
        ..config(Loss::cross_entropy())
    };
    let layout = layout(&student);
    let new = || Training::new(&student, &layout, &live, &config).expect("fits");
    let mut whole = new();
    while whole.step().expect("steps").is_some() {}
    let identity = crate::checkpoint::Identity {
        recipe: [0; 32],
        model: [0; 32],
        data: [0; 32],
    };
    let mut first = new();
    for _ in 0..5 {
        first.step().expect("steps");
    }
    let kept = first.checkpoint(identity).expect("finite");
    let mut second = new();
    second.resume(&kept).expect("fits");
    while second.step().expect("steps").is_some() {}
    assert_eq!(second.weights().expect("finite"), whole.weights().expect("finite"));
}

#[test]
fn should_refuse_students_that_do_not_match_before_anything_runs() {
    let data = clouds(12, 6, 3, 2);
    let student = mlp(&[6, 4, 3], 2);
    let refused =
        |teacher: Teacher, student: &Model, heads: &[Head]| Taught::new(&data, &teacher, student, heads).expect_err("refused").to_string();
    let said = refused(Teacher::new(mlp(&[6, 8, 5], 1)), &student, &heads(0.5));
    assert!(
        said.contains("[3, 3]") && said.contains("[3, 5]") && said.contains("student's output `"),
        "{said}"
    );
    let said = refused(Teacher::new(mlp(&[7, 8, 3], 1)), &student, &heads(0.5));
    assert!(said.contains("takes 7 features"), "{said}");
    let said = refused(Teacher::new(mlp(&[6, 3], 1)), &student, &[Loss::cross_entropy().into()]);
    assert!(said.contains("no head learns from the teacher"), "{said}");
    let said = refused(
        Teacher::new(mlp(&[6, 3], 1)).with_outputs(vec!["gone".to_owned()]),
        &student,
        &heads(0.5),
    );
    assert!(said.contains("no output `gone`"), "{said}");
    let two = Teacher::ensemble(vec![mlp(&[6, 3], 1), mlp(&[6, 4], 1)], Ensemble::Logits).expect("two");
    let said = refused(two, &student, &heads(0.5));
    assert!(said.contains("teacher 2"), "{said}");
    assert!(Teacher::ensemble(Vec::new(), Ensemble::Logits).is_err());
    // Without a teacher such a loss does not train.
    let layout = layout(&student);
    let said = check_data(&student, &layout, &data, &heads(0.5))
        .expect_err("no teacher")
        .to_string();
    assert!(said.contains("learn from a teacher"), "{said}");
}

#[test]
fn should_make_one_answer_of_several_as_pytorch_does() {
    let all: Value = serde_json::from_str(include_str!("../../testdata/distillation.json")).expect("valid JSON");
    let numbers = |value: &Value| -> Vec<f32> {
        let list = value.as_array().expect("a list").iter();
        list.map(|v| v.as_f64().expect("a number") as f32).collect()
    };
    let mut run = 0;
    for case in all.as_array().expect("a list").iter().filter(|case| case.get("ensemble").is_some()) {
        let shape: Vec<usize> = numbers(&case["shape"]).into_iter().map(|n| n as usize).collect();
        let ensemble = if case["ensemble"] == "logits" {
            Ensemble::Logits
        } else {
            Ensemble::Probabilities
        };
        let loss = match case["loss"].as_str().expect("a loss") {
            "cross_entropy" => Loss::cross_entropy(),
            "binary_cross_entropy" => Loss::BinaryCrossEntropy(BinaryCrossEntropy::default()),
            _ => Loss::Mse,
        };
        let temperature = case["temperature"].as_f64().expect("a number");
        let lesson = Lesson {
            loss: loss.clone(),
            temperature,
        };
        let teachers = case["teachers"].as_array().expect("a list").iter();
        let teachers: Vec<Array> = teachers
            .map(|v| Array::floats(shape.clone(), numbers(v)).expect("a shape"))
            .collect();
        let one = lesson.together(&teachers.iter().collect::<Vec<_>>(), ensemble).expect("one");
        let logits = one.as_floats().expect("floats");
        let soft: Vec<f32> = match loss {
            Loss::CrossEntropy(_) => logits
                .chunks(shape[1])
                .flat_map(|row| {
                    let mut logs = vec![0.0; row.len()];
                    log_softmax(row.iter().copied(), temperature, &mut logs);
                    logs.into_iter().map(|log| log.exp() as f32)
                })
                .collect(),
            Loss::BinaryCrossEntropy(_) => logits
                .iter()
                .map(|&z| (1.0 / (1.0 + (-f64::from(z) / temperature).exp())) as f32)
                .collect(),
            _ => logits.to_vec(),
        };
        assert_eq!(
            crate::testing::apart(&numbers(&case["soft"]), &soft, 1e-6),
            None,
            "{}",
            case["name"]
        );
        run += 1;
    }
    assert_eq!(run, 6);
}
