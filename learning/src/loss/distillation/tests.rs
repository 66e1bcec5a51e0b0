use serde_json::Value;

use super::*;
use crate::{BinaryCrossEntropy, ClassAxis, CrossEntropy};

fn cases() -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../../../testdata/distillation.json")).expect("valid JSON");
    all.as_array().expect("a list").clone()
}

fn numbers(value: &Value) -> Vec<f32> {
    let list = value.as_array().expect("a list").iter();
    list.map(|v| v.as_f64().expect("a number") as f32).collect()
}

fn shape(value: &Value) -> Vec<usize> {
    numbers(value).into_iter().map(|n| n as usize).collect()
}

fn hard(case: &Value) -> Loss {
    match case["loss"].as_str().expect("a loss") {
        "cross_entropy" => Loss::CrossEntropy(CrossEntropy {
            ignore_index: case["ignore_index"].as_i64(),
            class_axis: if case["second"] == true {
                ClassAxis::Second
            } else {
                ClassAxis::Last
            },
            ..CrossEntropy::default()
        }),
        "binary_cross_entropy" => Loss::BinaryCrossEntropy(BinaryCrossEntropy::default()),
        _ => Loss::Mse,
    }
}

fn number(value: &Value) -> f32 {
    value.as_f64().expect("a number") as f32
}

fn distillation(temperature: f32, alpha: f32, hard: Loss) -> Loss {
    Loss::Distillation(Distillation {
        temperature,
        alpha,
        hard: Box::new(hard),
    })
}

#[test]
fn should_be_what_pytorch_computes_with_its_gradient() {
    let mut run = 0;
    for case in cases().into_iter().filter(|case| case.get("value").is_some()) {
        let name = case["name"].as_str().expect("a name");
        let loss = distillation(number(&case["temperature"]), number(&case["alpha"]), hard(&case));
        loss.check().expect("sound");
        let (output, of) = (numbers(&case["student"]), shape(&case["shape"]));
        let teacher = Array::floats(of.clone(), numbers(&case["teacher"])).expect("a shape");
        let targets = Array::floats(shape(&case["target_shape"]), numbers(&case["targets"])).expect("a shape");
        let weights = (!case["weights"].is_null()).then(|| numbers(&case["weights"]));
        let view = View {
            output: &output,
            shape: &of,
            targets: &targets,
            teacher: Some(&teacher),
            weights: weights.as_deref(),
        };
        for scale in [1.0, 0.5] {
            let mut gradient = vec![0.0; output.len()];
            let found = loss.of_batch(view, scale, Some(&mut gradient)).expect("a loss");
            let expected = case["value"].as_f64().expect("a value");
            assert!(
                (found.mean() - expected).abs() <= 1e-6 * expected.abs().max(1.0),
                "{name}: {} for {expected}",
                found.mean()
            );
            let slopes: Vec<f32> = numbers(&case["gradient"]).iter().map(|g| g * scale as f32).collect();
            assert_eq!(crate::testing::apart(&slopes, &gradient, 1e-6), None, "{name}");
            let alone = loss.of_batch(view, scale, None).expect("a loss");
            assert!((alone.mean() - found.mean()).abs() < 1e-6, "{name}");
        }
        run += 1;
    }
    assert_eq!(run, 8);
}

#[test]
fn should_measure_a_batch_without_a_teacher_by_the_loss_of_the_task() {
    let output = [1.0, -2.0, 0.5, 0.25];
    let targets = Array::float_list(vec![1.0, 0.0]);
    let view = View {
        output: &output,
        shape: &[2, 2],
        targets: &targets,
        teacher: None,
        weights: None,
    };
    let hard = Loss::cross_entropy();
    let ours = distillation(2.0, 0.75, hard.clone()).of_batch(view, 1.0, None).expect("a loss");
    assert_eq!(ours, hard.of_batch(view, 1.0, None).expect("a loss"));
}

#[test]
fn should_refuse_teachers_and_options_that_make_no_sense() {
    let refused = |loss: Loss| loss.check().expect_err("refused").to_string();
    for temperature in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(refused(distillation(temperature, 0.5, Loss::Mse)).contains("`temperature`"));
    }
    for alpha in [-0.1, 1.1, f32::NAN] {
        assert!(refused(distillation(1.0, alpha, Loss::Mse)).contains("`alpha`"));
    }
    let inner = distillation(1.0, 0.5, Loss::Mse);
    assert!(refused(distillation(1.0, 0.5, inner)).contains("a distillation loss can't be"));
    assert!(refused(distillation(1.0, 0.5, Loss::Pairwise(crate::Pairwise::default()))).contains("a pairwise loss"));

    let targets = Array::float_list(vec![1.0, 0.0]);
    let answer = |shape: &[usize], values: &[f32]| {
        let teacher = Array::floats(shape.to_vec(), values.to_vec()).expect("a shape");
        let view = View {
            output: &[1.0, -2.0, 0.5, 0.25],
            shape: &[2, 2],
            targets: &targets,
            teacher: Some(&teacher),
            weights: None,
        };
        let found = distillation(2.0, 0.5, Loss::cross_entropy()).of_batch(view, 1.0, None);
        found.map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(answer(&[2, 2], &[0.0; 4]), Ok(()));
    assert!(answer(&[2, 3], &[0.0; 6]).expect_err("3 classes").contains("[2, 3]"));
    assert!(
        answer(&[2, 2], &[0.0, 1.0, f32::NAN, 0.0])
            .expect_err("NaN")
            .contains("row 2 with NaN")
    );
}
