use serde_json::Value;

use super::*;
use crate::testing::Numbers;

fn numbers_of(value: &Value) -> Vec<f32> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_f64)
        .map(|v| v as f32)
        .collect()
}

fn shape_of(value: &Value) -> Vec<usize> {
    numbers_of(value).into_iter().map(|n| n as usize).collect()
}

fn loss_of(case: &Value) -> Loss {
    let options = &case["options"];
    let number = |key: &str| options[key].as_f64().map(|v| v as f32);
    let list = |key: &str| options.get(key).map(numbers_of);
    match case["loss"].as_str().expect("a loss") {
        "cross_entropy" => Loss::CrossEntropy(CrossEntropy {
            label_smoothing: number("label_smoothing").unwrap_or(0.0),
            class_weights: list("class_weights"),
            ignore_index: options["ignore_index"].as_i64(),
            class_axis: if options["class_axis"] == "second" {
                ClassAxis::Second
            } else {
                ClassAxis::Last
            },
        }),
        "binary_cross_entropy" => Loss::BinaryCrossEntropy(BinaryCrossEntropy {
            pos_weight: list("pos_weight"),
        }),
        "mse" => Loss::Mse,
        "mae" => Loss::Mae,
        "huber" => Loss::Huber(Huber {
            delta: number("delta").expect("a delta"),
        }),
        "contrastive" => Loss::Contrastive(Contrastive {
            temperature: number("temperature").expect("a temperature"),
        }),
        "pairwise" => Loss::Pairwise(Pairwise { margin: 1.5 }),
        other => panic!("{other} is no loss"),
    }
}

/// The mean loss and its gradient.
fn mean(loss: &Loss, shape: &[usize], output: &[f32], targets: &Array, weights: Option<&[f32]>, scale: f64) -> (f64, Vec<f32>) {
    let mut gradient = vec![0.0; output.len()];
    let view = View {
        output,
        shape,
        targets,
        teacher: None,
        weights,
    };
    let batch = loss.of_batch(view, scale, Some(&mut gradient)).expect("a loss");
    (batch.mean(), gradient)
}

/// One case of testdata/losses.json.
struct Case {
    name: String,
    loss: Loss,
    shape: Vec<usize>,
    output: Vec<f32>,
    targets: Array,
    weights: Option<Vec<f32>>,
    value: f64,
    gradient: Vec<f32>,
}

fn cases() -> Vec<Case> {
    let cases: Value = serde_json::from_str(include_str!("../../testdata/losses.json")).expect("valid JSON");
    let case = |case: &Value| Case {
        name: case["name"].as_str().expect("a name").to_owned(),
        loss: loss_of(case),
        shape: shape_of(&case["output_shape"]),
        output: numbers_of(&case["output"]),
        targets: Array::floats(shape_of(&case["targets_shape"]), numbers_of(&case["targets"])).expect("fits"),
        weights: case["weights"].is_array().then(|| numbers_of(&case["weights"])),
        value: case["value"].as_f64().expect("a number"),
        gradient: numbers_of(&case["gradient"]),
    };
    cases.as_array().expect("a list").iter().map(case).collect()
}

/// The loss alone, without a gradient.
fn evaluated(case: &Case) -> f64 {
    let view = View {
        output: &case.output,
        shape: &case.shape,
        targets: &case.targets,
        teacher: None,
        weights: case.weights.as_deref(),
    };
    case.loss.of_batch(view, 1.0, None).expect("a loss").mean()
}

#[test]
fn values_and_gradients_agree_with_pytorch() {
    for case in cases() {
        case.loss.check().expect("sound options");
        let n = case.loss.outputs(&case.shape, case.shape[0]).expect("a fitting shape");
        case.loss.check_targets(&case.targets, n).expect("fitting targets");
        let (trained, gradient) = mean(&case.loss, &case.shape, &case.output, &case.targets, case.weights.as_deref(), 1.0);
        let value = evaluated(&case);
        assert!(
            (trained - value).abs() <= 1e-6 * value.abs().max(1.0),
            "{}: {trained}, {value}",
            case.name
        );
        assert!(
            (value - case.value).abs() <= 1e-12 * case.value.abs().max(1.0),
            "{}: {value}, PyTorch {}",
            case.name,
            case.value
        );
        let largest = case.gradient.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        for (ours, theirs) in gradient.iter().zip(&case.gradient) {
            assert!((ours - theirs).abs() <= 1e-6 * largest, "{}: {ours}, PyTorch {theirs}", case.name);
        }
    }
}

/// Central differences of the value, which PyTorch had no part in.
#[test]
fn gradients_agree_with_finite_differences() {
    for case in cases() {
        let (_, gradient) = mean(&case.loss, &case.shape, &case.output, &case.targets, case.weights.as_deref(), 3.0);
        let largest = gradient.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        for at in 0..case.output.len() {
            let moved = |by: f32| {
                let mut output = case.output.clone();
                output[at] += by;
                let value = mean(&case.loss, &case.shape, &output, &case.targets, case.weights.as_deref(), 1.0).0;
                (f64::from(output[at]), value)
            };
            let ((above, up), (below, down)) = (moved(2e-3), moved(-2e-3));
            let slope = (3.0 * (up - down) / (above - below)) as f32;
            assert!(
                (slope - gradient[at]).abs() <= 2e-4 * largest.max(1e-3),
                "{} value {at}: {slope}, gradient {}",
                case.name,
                gradient[at]
            );
        }
    }
}

#[test]
fn every_loss_is_a_weighted_mean_of_what_counts() {
    // A row of weight 0 might as well not be there, and weights count by their proportions.
    let mut draw = Numbers::new(3);
    let (shape, labels) = ([6, 3], [0.0, 1.0, 1.0, 0.0, 1.0, 0.0]);
    let output: Vec<f32> = (0..18).map(|_| 2.0 * draw.next()).collect();
    let weights = [1.0, 0.5, 0.0, 2.0, 1.5, 0.0];
    let kept = [0, 1, 3, 4];
    let column = |loss: &Loss| -> (Vec<usize>, Vec<f32>, Vec<f32>) {
        match loss {
            Loss::CrossEntropy(_) => (shape.to_vec(), output.clone(), labels.to_vec()),
            _ => (vec![6, 1], output[..6].to_vec(), labels.to_vec()),
        }
    };
    for loss in [
        Loss::cross_entropy(),
        Loss::BinaryCrossEntropy(BinaryCrossEntropy::default()),
        Loss::Mse,
        Loss::Mae,
        Loss::Huber(Huber::default()),
    ] {
        let (shape, output, targets) = column(&loss);
        let per_row = shape[1];
        let (value, gradient) = mean(&loss, &shape, &output, &Array::float_list(targets.clone()), Some(&weights), 1.0);
        let doubled: Vec<f32> = weights.iter().map(|w| 2.0 * w).collect();
        let (same, _) = mean(&loss, &shape, &output, &Array::float_list(targets.clone()), Some(&doubled), 1.0);
        let fewer: Vec<f32> = kept.iter().flat_map(|&row| output[row * per_row..][..per_row].to_vec()).collect();
        let fewer_targets = Array::float_list(kept.iter().map(|&row| targets[row]).collect());
        let fewer_weights: Vec<f32> = kept.iter().map(|&row| weights[row]).collect();
        let (without, _) = mean(&loss, &[4, per_row], &fewer, &fewer_targets, Some(&fewer_weights), 1.0);
        assert!((value - same).abs() < 1e-12 && (value - without).abs() < 1e-12, "{loss:?}");
        assert!(gradient[2 * per_row..][..per_row].iter().all(|&g| g == 0.0), "{loss:?}");
    }
}

#[test]
fn cross_entropy_of_equal_logits_is_the_log_of_the_classes() {
    let targets = Array::float_list(vec![0.0, 3.0]);
    let (value, gradient) = mean(&Loss::cross_entropy(), &[2, 4], &[0.5; 8], &targets, None, 1.0);
    assert!((value - 4f64.ln()).abs() < 1e-12);
    assert_eq!(gradient, [-0.375, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, -0.375]);
}

#[test]
fn large_outputs_do_not_overflow() {
    let one = Array::float_list(vec![1.0]);
    let (value, _) = mean(&Loss::cross_entropy(), &[1, 2], &[1000.0, -1000.0], &one, None, 1.0);
    assert!((value - 2000.0).abs() < 1e-9, "{value}");
    let binary = Loss::BinaryCrossEntropy(BinaryCrossEntropy::default());
    assert_eq!(mean(&binary, &[1, 1], &[-2000.0], &one, None, 1.0), (2000.0, vec![-1.0]));
    let two = Array::float_list(vec![1.0, 1.0]);
    let (value, _) = mean(
        &Loss::Contrastive(Contrastive { temperature: 1e-3 }),
        &[2, 2],
        &[3e30, 0.0, 0.0, 3e30],
        &two,
        None,
        1.0,
    );
    assert!(value.abs() < 1e-9, "the only other row is the positive: {value}");
}

#[test]
fn what_is_not_finite_stays_visible() {
    let zero = Array::float_list(vec![0.0]);
    for outputs in [[f32::NAN, 0.0], [f32::INFINITY, 0.0], [f32::NEG_INFINITY, f32::NEG_INFINITY]] {
        let (value, _) = mean(&Loss::cross_entropy(), &[1, 2], &outputs, &zero, None, 1.0);
        assert!(!value.is_finite(), "{outputs:?}");
    }
    for loss in [
        Loss::Mse,
        Loss::Mae,
        Loss::Huber(Huber::default()),
        Loss::BinaryCrossEntropy(BinaryCrossEntropy::default()),
    ] {
        assert!(!mean(&loss, &[1, 1], &[f32::NAN], &zero, None, 1.0).0.is_finite(), "{loss:?}");
    }
    let same = Array::float_list(vec![0.0, 0.0]);
    for loss in [Loss::Contrastive(Contrastive::default()), Loss::Pairwise(Pairwise::default())] {
        assert!(!mean(&loss, &[2, 1], &[f32::NAN, 1.0], &same, None, 1.0).0.is_finite(), "{loss:?}");
    }
}

#[test]
fn embeddings_without_length_or_partner_do_not_break_the_loss() {
    let contrastive = Loss::Contrastive(Contrastive::default());
    let (value, gradient) = mean(&contrastive, &[2, 2], &[0.0; 4], &Array::float_list(vec![1.0, 1.0]), None, 1.0);
    assert!(value.is_finite() && gradient.iter().all(|g| g.is_finite()));
    let (value, gradient) = mean(&contrastive, &[2, 2], &[1.0; 4], &Array::float_list(vec![1.0, 2.0]), None, 1.0);
    assert_eq!((value, gradient), (0.0, vec![0.0; 4]), "no two rows of one label");
    let pairwise = Loss::Pairwise(Pairwise::default());
    let (value, gradient) = mean(&pairwise, &[2, 1], &[1.0; 2], &Array::float_list(vec![1.0, 2.0]), None, 1.0);
    assert_eq!((value, gradient), (0.5, vec![0.0; 2]), "equal embeddings of different labels");
}

fn refusal(loss: &Loss, shape: &[usize], targets: Array, weights: Option<&[f32]>) -> String {
    let output = vec![0.5; shape.iter().product()];
    let rows = shape[0];
    let result = loss.check().and_then(|()| loss.outputs(shape, rows)).and_then(|n| {
        loss.check_targets(&targets, n)?;
        let view = View {
            output: &output,
            shape,
            targets: &targets,
            teacher: None,
            weights,
        };
        loss.of_batch(view, 1.0, None).map(|_| ())
    });
    result.map_or_else(|e| e.to_string(), |()| "taken".to_owned())
}

#[test]
fn what_makes_no_sense_is_refused_by_row_with_the_fix() {
    let list = |values: &[f32]| Array::float_list(values.to_vec());
    let ints = |shape: &[usize], values: &[i64]| Array::ints(shape.to_vec(), values.to_vec()).expect("fits");
    let cross = |options: CrossEntropy| Loss::CrossEntropy(options);
    let plain = Loss::cross_entropy;
    let ignoring = cross(CrossEntropy {
        ignore_index: Some(-1),
        ..CrossEntropy::default()
    });
    let second = cross(CrossEntropy {
        class_axis: ClassAxis::Second,
        ..CrossEntropy::default()
    });
    let weighted = |weights: &[f32]| {
        cross(CrossEntropy {
            class_weights: Some(weights.to_vec()),
            ..CrossEntropy::default()
        })
    };
    let binary = |weights: Option<&[f32]>| {
        Loss::BinaryCrossEntropy(BinaryCrossEntropy {
            pos_weight: weights.map(<[f32]>::to_vec),
        })
    };
    for (said, expected) in [
        (
            refusal(&plain(), &[2, 3], list(&[0.0, 3.0]), None),
            "row 2 has the target 3, the model's classes are 0 to 2; number",
        ),
        (refusal(&plain(), &[1, 3], list(&[f32::NAN]), None), "row 1 has the target NaN"),
        (
            refusal(&plain(), &[2, 2, 3], ints(&[2, 2], &[0, 1, 2, -100]), None),
            "row 2, position 2 has the target -100",
        ),
        (
            refusal(&second, &[2, 3, 2], ints(&[2, 2], &[0, 1, 3, 0]), None),
            "row 2, position 1 has the target 3",
        ),
        (
            refusal(&plain(), &[2, 2, 3], ints(&[2, 3], &[0; 6]), None),
            "needs targets [2, 2], the data has [2, 3]",
        ),
        (
            refusal(&plain(), &[2, 2, 3], list(&[0.0, 1.0]), None),
            "needs targets [2, 2], the data has [2]",
        ),
        (refusal(&ignoring, &[2, 3], list(&[-1.0, -1.0]), None), "no row of the batch counts"),
        (
            refusal(&weighted(&[1.0, 0.0]), &[1, 2], list(&[1.0]), None),
            "no row of the batch counts",
        ),
        (
            refusal(&weighted(&[1.0, 0.0]), &[1, 3], list(&[1.0]), None),
            "`class_weights` has 2 numbers for 3 classes",
        ),
        (
            refusal(&weighted(&[1.0, -1.0]), &[1, 2], list(&[1.0]), None),
            "`class_weights` holds -1",
        ),
        (
            refusal(&plain(), &[2, 1], list(&[0.0, 0.0]), None),
            "needs logits [batch, classes] with 2 or more classes",
        ),
        (
            refusal(&binary(None), &[2, 1], list(&[0.0, 2.0]), None),
            "row 2 has the target 2, binary cross-entropy takes 0 to 1",
        ),
        (
            refusal(&binary(Some(&[1.0, 2.0])), &[2, 3], list(&[0.0, 1.0]), None),
            "`pos_weight` has 2 numbers for 3 labels",
        ),
        (
            refusal(&Loss::Mse, &[2, 3], list(&[0.0, 1.0]), None),
            "mse with one target needs an output [batch] or [batch, 1]",
        ),
        (
            refusal(&Loss::Mae, &[2, 1], list(&[0.0, f32::INFINITY]), None),
            "row 2 has the target inf, which is not finite",
        ),
        (
            refusal(&Loss::Mse, &[2, 1], list(&[0.0, 1.0]), Some(&[1.0, -1.0])),
            "row 2 weighs -1",
        ),
        (refusal(&Loss::Mse, &[2, 1], list(&[0.0, 1.0]), Some(&[0.0, 0.0])), "add up to 0"),
        (
            refusal(&Loss::Huber(Huber { delta: 0.0 }), &[1, 1], list(&[0.0]), None),
            "`delta` is 0; use a number above 0",
        ),
        (
            refusal(&Loss::Contrastive(Contrastive::default()), &[2, 2, 2], list(&[0.0, 1.0]), None),
            "needs embeddings [batch, d]",
        ),
        (
            refusal(&Loss::Contrastive(Contrastive::default()), &[5000, 1], list(&[0.0; 5000]), None),
            "use a `batch` of at most 4096",
        ),
    ] {
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
    }
}

#[test]
fn data_from_which_nothing_can_be_learnt_is_refused() {
    let ignoring = Loss::CrossEntropy(CrossEntropy {
        ignore_index: Some(0),
        ..CrossEntropy::default()
    });
    let contrastive = Loss::Contrastive(Contrastive::default());
    let list = |values: &[f32]| Array::float_list(values.to_vec());
    assert!(ignoring.check_data(&list(&[0.0, 0.0])).is_err() && ignoring.check_data(&list(&[0.0, 1.0])).is_ok());
    assert!(contrastive.check_data(&list(&[0.0, 1.0])).is_err() && contrastive.check_data(&list(&[2.0, 1.0, 2.0])).is_ok());
    assert!(Loss::Pairwise(Pairwise::default()).check_data(&list(&[0.0])).is_err());
}
