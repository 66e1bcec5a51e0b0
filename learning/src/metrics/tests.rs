use serde_json::Value;

use super::*;
use crate::array::Array;
use crate::loss::View;
use crate::{BinaryCrossEntropy, CrossEntropy, Huber};

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

fn shape(value: &Value) -> Vec<usize> {
    numbers(value).into_iter().map(|n| n as usize).collect()
}

fn floats(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

/// Rows `from..to` of an array.
fn rows(shape: &[usize], values: &[f32], from: usize, to: usize) -> (Vec<usize>, Vec<f32>) {
    let per_row: usize = shape[1..].iter().product();
    let shape = std::iter::once(to - from).chain(shape[1..].iter().copied()).collect();
    (shape, values[from * per_row..to * per_row].to_vec())
}

#[test]
fn metrics_agree_with_scikit_learn() {
    let cases: Value = serde_json::from_str(include_str!("../../testdata/metrics.json")).expect("valid JSON");
    for case in cases.as_array().expect("a list") {
        let name = case["name"].as_str().expect("a name");
        let loss = match case["loss"].as_str().expect("a loss") {
            "cross_entropy" => Loss::cross_entropy(),
            "binary_cross_entropy" => Loss::BinaryCrossEntropy(BinaryCrossEntropy::default()),
            _ => Loss::Huber(Huber::default()),
        };
        let wanted: Vec<Metric> = case["values"]
            .as_object()
            .expect("an object")
            .keys()
            .map(|key| key.parse().expect("a metric"))
            .chain(case.get("confusion").map(|_| Metric::Confusion))
            .collect();
        let (output_shape, output) = (shape(&case["output_shape"]), floats(&numbers(&case["output"])));
        let (target_shape, targets) = (shape(&case["targets_shape"]), floats(&numbers(&case["targets"])));
        let weights = case["weights"].is_array().then(|| floats(&numbers(&case["weights"])));
        let mut scores = Scores::new(&loss, &wanted);
        // In batches of seven.
        let n = output_shape[0];
        for from in (0..n).step_by(7) {
            let to = (from + 7).min(n);
            let (shape, output) = rows(&output_shape, &output, from, to);
            let (target_shape, targets) = rows(&target_shape, &targets, from, to);
            scores
                .add(View {
                    output: &output,
                    shape: &shape,
                    targets: &Array::floats(target_shape, targets).expect("fits"),
                    teacher: None,
                    weights: weights.as_ref().map(|w| &w[from..to]),
                })
                .expect("adds up");
        }
        let found = scores.finish(0.0);
        for (key, expected) in case["values"].as_object().expect("an object") {
            let (value, expected) = (found.values[&key.parse().expect("a metric")], expected.as_f64().expect("a number"));
            assert!(
                (value - expected).abs() < 1e-6 * expected.abs().max(1.0),
                "{name} {key}: {value}, expected {expected}"
            );
        }
        for (class, expected) in found.classes.iter().zip(case["classes"].as_array().into_iter().flatten()) {
            for (value, expected) in [class.precision, class.recall, class.f1, class.support]
                .iter()
                .zip(numbers(expected))
            {
                assert!((value - expected).abs() < 1e-9, "{name}: {class:?}, expected {expected}");
            }
        }
        if let Some(confusion) = found.confusion {
            assert_eq!(confusion.cells, numbers(&case["confusion"]), "{name}");
        }
    }
}

fn scores(loss: &Loss, metrics: &[Metric], shape: &[usize], output: &[f32], targets: Array) -> HeadScores {
    let mut scores = Scores::new(loss, metrics);
    let view = View {
        output,
        shape,
        targets: &targets,
        teacher: None,
        weights: None,
    };
    scores.add(view).expect("adds up");
    scores.finish(0.0)
}

#[test]
fn what_is_ignored_does_not_count() {
    let loss = Loss::CrossEntropy(CrossEntropy {
        ignore_index: Some(-100),
        label_smoothing: 0.5,
        ..CrossEntropy::default()
    });
    // Two rows of two positions; the second position of the first row is right, its second row is left out.
    let output = [0.0, 0.0, 0.0, 3.0, 9.0, 0.0, 9.0, 0.0];
    let targets = Array::ints(vec![2, 2], vec![1, 1, -100, -100]).expect("fits");
    let found = scores(&loss, &[Metric::Perplexity], &[2, 2, 2], &output, targets);
    assert_eq!(found.values[&Metric::Accuracy], 0.5, "of equal logits the first counts");
    let nll = 0.5 * (2f64.ln() + (1.0 + (-3f64).exp()).ln());
    assert!((found.values[&Metric::Perplexity] - nll.exp()).abs() < 1e-9, "{found:?}");
}

#[test]
fn what_is_undefined_is_left_out() {
    let targets = Array::float_list(vec![1.0, 1.0]);
    let found = scores(&Loss::cross_entropy(), &[Metric::Auc], &[2, 2], &[0.0, 1.0, 2.0, 1.0], targets);
    assert!(
        !found.values.contains_key(&Metric::Auc),
        "one class alone has no ROC curve: {found:?}"
    );
    assert_eq!(found.values[&Metric::Accuracy], 0.5);
    let nan = Array::float_list(vec![0.0, 1.0]);
    let found = scores(&Loss::cross_entropy(), &[Metric::Auc], &[2, 2], &[f32::NAN, 1.0, 2.0, 1.0], nan);
    assert!(!found.values.contains_key(&Metric::Auc), "{found:?}");
    assert_eq!(found.values[&Metric::Accuracy], 0.0, "no number is right");
}

#[test]
fn what_would_take_too_much_memory_is_refused() {
    let targets = Array::float_list(vec![0.0]);
    let view = View {
        output: &vec![0.0; 1001],
        shape: &[1, 1001],
        targets: &targets,
        teacher: None,
        weights: None,
    };
    let error = Scores::new(&Loss::cross_entropy(), &[Metric::Confusion])
        .add(view)
        .expect_err("a million cells");
    assert!(
        error.to_string().contains("a confusion matrix of 1001 classes is too large"),
        "{error}"
    );
    let rows = MAX_SCORES / 1024 + 1;
    let targets = Array::float_list(vec![0.0; rows]);
    let view = View {
        output: &vec![0.0; rows * 1024],
        shape: &[rows, 1024],
        targets: &targets,
        teacher: None,
        weights: None,
    };
    let error = Scores::new(&Loss::cross_entropy(), &[Metric::Auc])
        .add(view)
        .expect_err("too many scores");
    assert!(error.to_string().contains("evaluate fewer rows"), "{error}");
}

#[test]
fn metrics_have_names() {
    for metric in [
        Metric::Accuracy,
        Metric::Top(5),
        Metric::F1(Average::Macro),
        Metric::F1(Average::Micro),
        Metric::F1(Average::Weighted),
        Metric::Auc,
        Metric::Mae,
        Metric::Rmse,
        Metric::Perplexity,
        Metric::Confusion,
    ] {
        assert_eq!(metric.to_string().parse(), Ok(metric));
    }
    for bad in ["top", "top0", "top05", "f1", "Accuracy", ""] {
        assert!(bad.parse::<Metric>().is_err(), "{bad}");
    }
}
