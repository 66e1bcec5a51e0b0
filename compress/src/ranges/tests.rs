//! Ranges that were seen in parts, elsewhere.

use std::sync::Arc;

use aimass_analytics::calibration::{BinCounts, TensorReport};
use aimass_learning::data::Subset;
use aimass_learning::{Dataset, Loss};
use aimass_onnx::build::mlp;
use aimass_protocol::Digest;
use aimass_protocol::job::AggregationMode;
use aimass_shrink::quantize::{Activations, Method};
use proptest::prelude::*;

use super::*;
use crate::{Compressed, Data, Options, Quantize, compress};

const FEATURES: usize = 6;
const ROWS: usize = 90;

fn model() -> Model {
    mlp(&[FEATURES, 24, 3], 3)
}

fn rows() -> Arc<dyn Source> {
    let values = (0..ROWS * FEATURES).map(|at| (at as f32 * 0.37).sin() * 3.0 + (at % 11) as f32 * 0.2);
    let targets = (0..ROWS).map(|row| (row % 3) as f32).collect();
    Arc::new(Dataset::new(values.collect(), targets, FEATURES).expect("whole rows"))
}

fn heads() -> Vec<Head> {
    vec![Head::from(Loss::cross_entropy())]
}

fn go_on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn part(of: std::ops::Range<usize>) -> Subset {
    Subset::new(rows(), of.collect()).expect("some rows")
}

/// As two rounds make it of devices that hold these parts.
fn report(parts: &[Subset]) -> CalibrationReport {
    let watched = Watched::of(&model(), &[]).expect("can be quantized");
    let look = |open: Observed, part: &Subset| watched.look(open, part, &heads(), &mut go_on).expect("fits").expect("to the end");
    let grown: Vec<Observed> = parts.iter().map(|part| look(watched.open(), part)).collect();
    let exponent = |name: &String| grown.iter().map(|seen| seen.histograms()[name].exponent()).max().expect("a device");
    let exponents: Vec<i32> = watched.tensors().iter().map(exponent).collect();
    let counted: Vec<Observed> = parts
        .iter()
        .map(|part| look(watched.bounded(&exponents).expect("known"), part))
        .collect();
    let tensor = |(name, exponent): (&String, &i32)| TensorReport {
        name: name.clone(),
        exponent: Some(*exponent),
        needed: BTreeMap::new(),
        divided: 0,
        bins: Some(BinCounts {
            first: 0,
            counts: (0..BINS)
                .map(|bin| counted.iter().map(|seen| seen.histograms()[name].counts()[bin]).sum())
                .collect(),
        }),
    };
    CalibrationReport {
        format: "aimass-calibration/1".to_owned(),
        round: 2,
        mode: AggregationMode::Secure,
        model: Digest::from_bytes([0; 32]),
        agents: parts.len() as u32,
        rows: ROWS as u64,
        max_rows: ROWS as u32,
        bits: 24,
        tensors: watched.tensors().iter().zip(&exponents).map(tensor).collect(),
    }
}

fn with(method: Method) -> Options {
    Options {
        quantize: Some(Quantize::Static {
            method,
            activations: Activations::U8,
            aware: false,
            rows: 1,
            exclude: Vec::new(),
        }),
        ..Options::default()
    }
}

fn made(ranges: Observed, test: Option<Arc<dyn Source>>, method: Method) -> Result<Compressed, CompressError> {
    let data = Data {
        test,
        ranges: Some(Arc::new(ranges)),
        heads: heads(),
        ..Data::none()
    };
    compress(&model(), &data, &with(method), &mut |_| {})
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// However the rows lie on devices, the integer model is the same.
    #[test]
    fn should_make_the_same_model_however_rows_are_spread(first in 1..ROWS - 1, second in 1..ROWS) {
        let cut = first + 1 + second % (ROWS - first - 1).max(1);
        let cut = cut.min(ROWS - 1).max(first);
        let parts: Vec<Subset> = [0..first, first..cut, cut..ROWS].into_iter().filter(|part| !part.is_empty()).map(part).collect();
        let of = |report: &CalibrationReport| {
            let seen = observed(report).expect("histograms");
            made(seen, None, Method::MinMax).expect("quantizes").model.as_bytes().to_vec()
        };
        let (spread, together) = (report(&parts), report(&[part(0..ROWS)]));
        for (a, b) in spread.tensors.iter().zip(&together.tensors) {
            prop_assert_eq!((&a.name, a.exponent, a.total()), (&b.name, b.exponent, b.total()));
        }
        prop_assert_eq!(of(&spread), of(&together));
    }
}

#[test]
fn should_lie_within_a_bin_of_what_the_rows_themselves_give() {
    let seen = observed(&report(&[part(0..40), part(40..ROWS)])).expect("histograms");
    let watched = Watched::of(&model(), &[]).expect("can be quantized");
    let local = watched
        .look(watched.open(), &*rows(), &heads(), &mut go_on)
        .expect("fits")
        .expect("to the end");
    for (name, histogram) in local.histograms() {
        let (low, high) = histogram.extremes().expect("values");
        let (wide_low, wide_high) = seen.histograms()[name].extremes().expect("values");
        let bin = 2.0_f32.powi(histogram.exponent() - 10);
        assert!(
            wide_low <= low && low - wide_low <= bin && high <= wide_high && wide_high - high <= bin,
            "{name}"
        );
    }
    for method in [Method::MinMax, Method::Percentile(99.99), Method::Mse, Method::Entropy] {
        let done = made(seen.clone(), Some(rows()), method).expect("quantizes");
        assert!(done.parity.expect("compared").rows == ROWS, "{method:?}");
    }
}

#[test]
fn should_compare_trainer_and_tract_on_drawn_rows_without_data() {
    let done = made(observed(&report(&[part(0..ROWS)])).expect("histograms"), None, Method::MinMax).expect("quantizes");
    let found = done.parity.expect("compared");
    assert_eq!((found.rows, done.after.score), (Pattern::ROWS, None));
    assert!(found.max > 0.0 || found.mean >= 0.0);
    let ranges = observed(&report(&[part(0..ROWS)])).expect("histograms");
    let pattern = Pattern::within(&model(), &ranges).expect("reads").expect("floats of a known width");
    let (low, high) = ranges.histograms()[&model().inputs()[0].name].extremes().expect("values");
    let batch = pattern.batch(&[3, 4]).expect("rows");
    assert_eq!(batch.inputs[0].shape(), [2, FEATURES]);
    let values = batch.inputs[0].as_floats().expect("floats").to_vec();
    assert!(values.iter().all(|value| (low..=high).contains(value)));
    assert_eq!(
        pattern.batch(&[4]).expect("a row").inputs[0].as_floats().expect("floats"),
        &values[FEATURES..],
        "a row is what it is"
    );
}

#[test]
fn should_refuse_ranges_that_are_not_the_models_and_name_the_tensor() {
    let right = report(&[part(0..ROWS)]);
    let refused = |change: &dyn Fn(&mut CalibrationReport)| {
        let mut report = right.clone();
        change(&mut report);
        let made = observed(&report).and_then(|seen| made(seen, None, Method::MinMax));
        made.map(|done| done.steps).expect_err("refused").to_string()
    };
    let text = refused(&|report| report.tensors[1].name = "nowhere".to_owned());
    assert!(
        text.contains("nothing is known of it") && text.contains(&right.tensors[1].name),
        "{text}"
    );
    let text = refused(&|report| {
        let more = TensorReport {
            name: "nowhere".to_owned(),
            ..report.tensors[0].clone()
        };
        report.tensors.push(more);
    });
    assert!(text.contains("\"nowhere\" is no activation"), "{text}");
    let text = refused(&|report| report.tensors[0].bins.iter_mut().for_each(|bins| bins.counts.fill(0)));
    assert!(text.contains("holds no values"), "{text}");
    let text = refused(&|report| report.tensors[0].bins.iter_mut().for_each(|bins| bins.counts.fill(u64::MAX)));
    assert!(text.contains("more than 2^64"), "{text}");
    let text = refused(&|report| report.tensors[0].exponent = Some(300));
    assert!(text.contains("300"), "{text}");
    let text = refused(&|report| {
        report.round = 1;
        report.tensors[0].bins = None;
    });
    assert!(text.contains("round 1 holds no histograms"), "{text}");
    let watched = Watched::of(&model(), &[]).expect("can be quantized");
    assert!(watched.bounded(&[]).is_err() && watched.bounded(&vec![200; watched.tensors().len()]).is_err());
}

#[test]
fn should_stop_when_it_is_told_to_and_refuse_values_that_are_not_finite() {
    let watched = Watched::of(&model(), &[]).expect("can be quantized");
    let mut steps = Vec::new();
    let stopped = watched.look(watched.open(), &*rows(), &heads(), &mut |step, steps_in_all| {
        steps.push((step, steps_in_all));
        if step == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert!(stopped.expect("fits").is_none());
    assert_eq!(steps, [(1, 3), (2, 3)]);
    let huge = Dataset::new(vec![f32::MAX; 2 * FEATURES], vec![0.0, 1.0], FEATURES).expect("whole rows");
    let error = watched.look(watched.open(), &huge, &heads(), &mut go_on).expect_err("overflows");
    assert!(error.to_string().contains("NaN or infinite"), "{error}");
}

#[test]
fn should_spread_rows_evenly() {
    assert_eq!(spread(10, 20), (0..10).collect::<Vec<_>>());
    assert_eq!(spread(10, 4), [0, 2, 5, 7]);
    assert_eq!(spread(0, 4), Vec::<usize>::new());
}
