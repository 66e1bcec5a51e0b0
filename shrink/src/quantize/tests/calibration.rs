//! Histograms, ranges, scales.

use super::*;
use crate::parts::IntType;
use crate::quantize::range::{Params, Range};
use crate::quantize::weights::quantized;

fn of(values: &[f32]) -> Histogram {
    let mut histogram = Histogram::new();
    histogram.add(values).expect("finite values");
    histogram
}

fn finite() -> impl Strategy<Value = f32> {
    prop_oneof![
        -3.0f32..3.0,
        any::<f32>().prop_filter("finite", |v| v.is_finite()),
        (-30i32..130).prop_map(|e| (f64::from(e).exp2().min(f32::MAX.into())) as f32),
        (-30i32..130).prop_map(|e| -(f64::from(e).exp2().min(f32::MAX.into())) as f32),
        Just(0.0),
    ]
}

/// As QuantizeLinear and DequantizeLinear have it, to float32 precision.
fn there_and_back(x: f32, params: Params, kind: IntType) -> (i32, f32) {
    let level = quantized(&[x], &[], None, &[params.scale], &[params.zero_point], kind)[0];
    (level, (level - params.zero_point) as f32 * params.scale)
}

proptest! {
    #[test]
    fn should_add_up_exactly_in_any_order(values in prop::collection::vec(finite(), 0..60), cut in 0usize..60, turn in 0usize..60) {
        let all = of(&values);
        let (a, b) = values.split_at(cut.min(values.len()));
        let (mut left, mut right) = (of(a), of(b));
        left.merge(&of(b));
        right.merge(&of(a));
        prop_assert_eq!(&left, &all);
        prop_assert_eq!(&right, &all);
        let mut turned = values.clone();
        turned.rotate_left(turn % values.len().max(1));
        let mut one_by_one = Histogram::new();
        for value in &turned {
            one_by_one.add(&[*value]).expect("finite");
        }
        prop_assert_eq!(&one_by_one, &all);
        prop_assert_eq!(all.total(), values.len() as u64);
    }

    #[test]
    fn should_hold_every_value_in_its_bin(values in prop::collection::vec(finite(), 1..30)) {
        let histogram = of(&values);
        for value in values {
            let value = f64::from(value);
            let bin = (0..BINS).find(|&bin| histogram.edge(bin) <= value && value < histogram.edge(bin + 1));
            prop_assert!(bin.is_some_and(|bin| histogram.counts()[bin] > 0), "{value} in ±2^{}", histogram.exponent());
        }
    }

    #[test]
    fn should_sum_bounded_histograms_by_their_counts(a in prop::collection::vec(-5.0f32..5.0, 1..40), b in prop::collection::vec(-5.0f32..5.0, 1..40)) {
        let counted = |values: &[f32]| {
            let mut histogram = Histogram::bounded(1).expect("an exponent in range");
            histogram.add(values).expect("finite");
            histogram
        };
        let (mut first, second) = (counted(&a), counted(&b));
        let sum: Vec<u64> = first.counts().iter().zip(second.counts()).map(|(a, b)| a + b).collect();
        first.merge(&second);
        prop_assert_eq!(first.counts(), &sum[..]);
        prop_assert_eq!(first.exponent(), 1);
        let total = Histogram::from_counts(1, &sum).expect("a sum of counts");
        prop_assert_eq!(total.total(), (a.len() + b.len()) as u64);
        let (low, high) = total.extremes().expect("not empty");
        prop_assert!(low >= -2.0 && high <= 2.0 && low < high);
    }

    #[test]
    fn should_be_off_by_half_a_step_at_most(low in -8.0f32..0.5, high in 0.0f32..8.0, at in 0.0f32..1.0, other in 0.0f32..1.0, signed in any::<bool>()) {
        let (low, high) = (low.min(0.0), high.max(low.max(0.0)));
        let (activations, kind) = if signed { (Activations::I8, IntType::I8) } else { (Activations::U8, IntType::U8) };
        let params = Range { low, high }.params(activations);
        prop_assert!(params.scale.is_finite() && params.scale > 0.0);
        let value = |at: f32| low + (high - low) * at;
        let (x, z) = (value(at), value(other));
        let ((level_x, back_x), (level_z, _)) = (there_and_back(x, params, kind), there_and_back(z, params, kind));
        // The zero point is rounded too, so an end of the range may saturate half a step early.
        let reach = if at > 0.01 && at < 0.99 { 0.5001 } else { 1.0001 };
        prop_assert!((x - back_x).abs() <= reach * params.scale, "{x} became {back_x}, step {}", params.scale);
        prop_assert!((x <= z) == (level_x <= level_z) || level_x == level_z, "not monotone");
        prop_assert_eq!(there_and_back(0.0, params, kind).1, 0.0);
    }

    #[test]
    fn should_find_a_range_within_all_values(values in prop::collection::vec(-50.0f32..50.0, 1..200), percent in 50.1f64..100.0) {
        let histogram = of(&values);
        let all = histogram.range(Method::MinMax, Activations::U8).expect("not empty");
        for method in [Method::Percentile(percent), Method::Mse, Method::Entropy] {
            for activations in [Activations::U8, Activations::I8] {
                let range = histogram.range(method, activations).expect("not empty");
                prop_assert!(range.low >= all.low && range.high <= all.high && range.low <= 0.0 && range.high >= 0.0, "{method:?} {range:?} of {all:?}");
            }
        }
    }
}

#[test]
fn should_refuse_values_that_are_not_finite() {
    let mut histogram = of(&[1.0]);
    for (values, index) in [
        (&[0.0, f32::NAN][..], 1),
        (&[f32::INFINITY], 0),
        (&[1.0, 2.0, f32::NEG_INFINITY], 2),
    ] {
        assert_eq!(histogram.add(values), Err(NonFinite { index }));
    }
    assert_eq!(histogram, of(&[1.0]), "nothing was counted");
    let mut observed = Observed::new(&["a".to_owned()]);
    assert_eq!(
        observed.add("a", &[f32::NAN]),
        Err(QuantizeError::NonFinite {
            tensor: "a".to_owned(),
            index: 0
        })
    );
    assert_eq!(observed.add("b", &[1.0]), Err(QuantizeError::Unknown { tensor: "b".to_owned() }));
    assert!(observed.merge(&Observed::new(&["c".to_owned()])).is_err());
}

#[test]
fn should_refuse_counts_that_are_no_histogram() {
    assert_eq!(Histogram::from_counts(3, &[0; 7]), Err(HistogramError::Bins { found: 7 }));
    assert_eq!(Histogram::bounded(129), Err(HistogramError::Exponent { exponent: 129 }));
    assert_eq!(Histogram::bounded(i32::MIN), Err(HistogramError::Exponent { exponent: i32::MIN }));
    let mut counts = vec![0; BINS];
    (counts[0], counts[1]) = (u64::MAX, 1);
    assert_eq!(Histogram::from_counts(3, &counts), Err(HistogramError::Overflow));
    let empty = Histogram::from_counts(3, &vec![0; BINS]).expect("an empty one");
    assert_eq!(empty.range(Method::MinMax, Activations::U8), None);
}

#[test]
fn should_clip_what_lies_far_out() {
    // A bell and one value far out: all methods but MinMax leave that out.
    let mut values: Vec<f32> = (0..40_000)
        .map(|i| ((i as f32 * 0.7).sin() + (i as f32 * 0.31).sin() + (i as f32 * 0.113).sin()) / 3.0)
        .collect();
    values.push(60.0);
    let histogram = of(&values);
    let high = |method| histogram.range(method, Activations::U8).expect("not empty").high;
    assert_eq!(high(Method::MinMax), 60.0);
    for method in [Method::Percentile(99.9), Method::Entropy] {
        assert!(high(method) < 8.0, "{method:?}: {}", high(method));
    }
    // The square of one value far out weighs as much as many small errors do: it is cut, but not off.
    let error = |method| {
        let params = histogram.range(method, Activations::U8).expect("not empty").params(Activations::U8);
        let back = |&x: &f32| f64::from(there_and_back(x, params, IntType::U8).1 - x);
        values.iter().map(|x| back(x) * back(x)).sum::<f64>()
    };
    assert!(high(Method::Mse) < 60.0 && high(Method::Mse) > 8.0);
    for method in [Method::MinMax, Method::Percentile(99.9), Method::Entropy] {
        assert!(error(Method::Mse) < error(method), "{method:?}");
    }
}

#[test]
fn should_quantize_as_numpy_does() {
    // np.clip(np.rint(np.float32(x) / np.float32(0.1)) + 128, 0, 255)
    let x = [-20.0f32, -0.25, -0.05, 0.05, 0.15, 0.25, 0.35, 12.71, 13.0];
    let levels = quantized(&x, &[9], None, &[0.1], &[128], IntType::U8);
    assert_eq!(levels, [0, 126, 128, 128, 130, 130, 132, 255, 255]);
    // Along axis 1 of [2, 2]: scales 1 and 0.5.
    let levels = quantized(&[1.4, 1.4, -200.0, 200.0], &[2, 2], Some(1), &[1.0, 0.5], &[0, 0], IntType::I8);
    assert_eq!(levels, [1, 3, -128, 127]);
}

#[test]
fn should_refuse_a_percentile_that_is_none() {
    let model = small_cnn(17);
    for percent in [50.0, 100.1, f64::NAN] {
        let options = Options {
            method: Method::Percentile(percent),
            ..Options::default()
        };
        assert!(matches!(observe(&model, &options), Err(QuantizeError::Option { .. })), "{percent}");
    }
}
