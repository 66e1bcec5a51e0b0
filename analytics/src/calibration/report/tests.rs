//! What comes of sums.

use proptest::prelude::*;

use super::super::shape::CalibrationShape;
use super::super::shape::tests::example;
use super::super::{counts, exponents};
use super::*;

fn sum_of(round: u32, agents: &[Vec<u64>]) -> Accumulator {
    let shape = CalibrationShape::of(&example(), round);
    let codec = shape.codec(agents.len() as u32).expect("a plan");
    let mut sum = Accumulator::new(codec.plan());
    for values in agents {
        sum.add(&shape.encode(&codec, values).expect("fits")).expect("fits the plan");
    }
    sum
}

fn empty() -> CalibrationReport {
    CalibrationReport::empty(&example(), AggregationMode::Secure)
}

fn first(agents: &[[i32; 2]]) -> CalibrationReport {
    let shape = CalibrationShape::of(&example(), 1);
    let agents: Vec<Vec<u64>> = agents
        .iter()
        .map(|found| exponents(shape, 5, found).expect("known exponents"))
        .collect();
    CalibrationReport::of_sum(&example(), &empty(), &sum_of(1, &agents)).expect("honest numbers")
}

fn second(before: &CalibrationReport, agents: &[[Vec<u64>; 2]]) -> Result<CalibrationReport, ReportError> {
    let shape = CalibrationShape::of(&example(), 2);
    let agents: Vec<Vec<u64>> = agents
        .iter()
        .map(|found| counts(shape, 5, found.iter().map(Vec::as_slice)).expect("bins"))
        .collect();
    CalibrationReport::of_sum(&example(), before, &sum_of(2, &agents))
}

/// Counts with these bins filled.
fn filled(bins: &[(usize, u64)]) -> Vec<u64> {
    let mut counts = vec![0; CALIBRATION_BINS];
    bins.iter().for_each(|&(bin, count)| counts[bin] += count);
    counts
}

#[test]
fn should_take_the_largest_exponent_and_then_the_histograms_over_it() {
    let report = first(&[[0, -3], [2, -24], [1, -3]]);
    assert_eq!((report.round, report.agents, report.rows), (1, 3, 15));
    assert_eq!(report.tensors[0].exponent, Some(2));
    assert_eq!(report.tensors[1].needed, BTreeMap::from([(-24, 1), (-3, 2)]));
    let agents = [
        [filled(&[(1024, 3), (1030, 1)]), filled(&[(1024, 9)])],
        [filled(&[(1000, 2)]), filled(&[(1023, 1)])],
        [filled(&[(1030, 5)]), filled(&[(1024, 1)])],
    ];
    let report = second(&report, &agents).expect("honest numbers");
    let tensor = &report.tensors[0];
    assert_eq!((report.round, tensor.exponent, tensor.total()), (2, Some(2), 11));
    let bins = tensor.bins.as_ref().expect("a histogram");
    assert_eq!((bins.first, bins.counts.len(), bins.counts[30], bins.counts[24]), (1000, 31, 6, 3));
    assert_eq!(tensor.range(), Some((-24.0 / 256.0, 7.0 / 256.0)), "4 / 1024 a bin");
    assert_eq!(report.tensors[1].counts(), Some(filled(&[(1023, 1), (1024, 10)])));
    let bytes = report.to_bytes();
    assert_eq!(CalibrationReport::parse(&bytes), Ok(report.clone()));
    assert_eq!(CalibrationReport::parse(&bytes).expect("parses").to_bytes(), bytes);
}

#[test]
fn should_stand_on_the_report_of_the_round_before_alone() {
    let of_first = first(&[[0, 0]]);
    let agents = [[filled(&[(1, 1)]), filled(&[(1, 1)])]];
    let refused = |before: &CalibrationReport| match second(before, &agents) {
        Err(ReportError::Malformed { reason }) => reason,
        other => panic!("{other:?}"),
    };
    let of_second = second(&of_first, &agents).expect("right");
    assert!(
        refused(&of_second).contains("it is of round 2, and round 3"),
        "there is no third round"
    );
    let mut other = of_first.clone();
    other.tensors[1].name = "other".to_owned();
    assert!(refused(&other).contains("other tensors"));
    let mut other = of_first.clone();
    other.model = Digest::from_bytes([1; 32]);
    assert!(refused(&other).contains("another model"));
    for exponent in [None, Some(129), Some(-25)] {
        let mut other = of_first.clone();
        other.tensors[0].exponent = exponent;
        assert!(refused(&other).contains("no exponent"));
    }
    assert_eq!(empty().check_before(&example(), 1), Ok(Vec::new()));
    assert!(empty().check_before(&example(), 0).is_err());
    assert_eq!(of_first.check_before(&example(), 2), Ok(vec![0, 0]));
}

#[test]
fn should_refuse_sums_that_no_agents_make() {
    let shape = CalibrationShape::of(&example(), 1);
    let honest = exponents(shape, 5, &[0, 0]).expect("known exponents");
    let contradiction =
        |values: Vec<u64>| CalibrationReport::of_sum(&example(), &empty(), &sum_of(1, &[honest.clone(), values])).expect_err("wrong");
    let mut twice = honest.clone();
    twice[1] = 1;
    let text = contradiction(twice).to_string();
    assert!(text.contains("the tensor \"input\""), "{text}");
    let mut none = honest.clone();
    none[0] = 0;
    none[1 + 24] = 0;
    assert!(matches!(contradiction(none), ReportError::Contradiction { .. }));
    let nothing = [[filled(&[]), filled(&[(1, 1)])]];
    assert!(
        matches!(second(&first(&[[0, 0]]), &nothing), Err(ReportError::Contradiction { .. })),
        "a histogram of nothing"
    );
}

#[test]
fn should_refuse_bytes_that_are_no_report() {
    let good = first(&[[0, 0]]);
    let text = String::from_utf8(good.to_bytes()).expect("JSON");
    let with_bins = |bins: &str| text.replacen("\"exponent\":0", &format!("\"exponent\":0,\"bins\":{bins}"), 1);
    assert!(CalibrationReport::parse(with_bins("{\"first\":2047,\"counts\":[1]}").as_bytes()).is_ok());
    let wrong = [
        with_bins("{\"first\":2047,\"counts\":[1,1]}"),
        with_bins("{\"first\":18446744073709551615,\"counts\":[1]}"),
        with_bins("{\"first\":0,\"counts\":[-1]}"),
        text.replace("aimass-calibration/1", "aimass-analytics/1"),
        text.replace("\"rows\"", "\"lines\""),
        String::new(),
    ];
    for wrong in wrong {
        assert!(
            matches!(CalibrationReport::parse(wrong.as_bytes()), Err(ReportError::Malformed { .. })),
            "{wrong}"
        );
    }
    let long = vec![b' '; MAX_REPORT_BYTES as usize + 1];
    assert!(CalibrationReport::parse(&long).is_err());
}

#[test]
fn should_stay_below_the_limit_of_reports() {
    let mut report = second(&first(&[[0, 0]]), &[[filled(&[(1, 1)]), filled(&[(1, 1)])]]).expect("right");
    // 2^32 of each of 65,536 agents, in every bin of every tensor, with the longest names.
    let full = TensorReport {
        name: "\u{1}".repeat(MAX_COLUMN_BYTES),
        exponent: Some(-24),
        needed: BTreeMap::new(),
        divided: 65_536,
        bins: Some(BinCounts {
            first: 0,
            counts: vec![1 << 48; CALIBRATION_BINS],
        }),
    };
    report.tensors = vec![full; MAX_CALIBRATION_TENSORS];
    let len = report.to_bytes().len() as u64;
    assert!(len < MAX_REPORT_BYTES, "{len}");
}

proptest! {
    /// Whoever has which values: the sum of the agents' histograms is the histogram of all of them.
    #[test]
    fn should_sum_to_the_histogram_of_all_values(agents in prop::collection::vec(prop::collection::vec(0..CALIBRATION_BINS, 1..40), 1..6)) {
        let of = |bins: &[usize]| filled(&bins.iter().map(|&bin| (bin, 1)).collect::<Vec<_>>());
        let counted: Vec<[Vec<u64>; 2]> = agents.iter().map(|bins| [of(bins), of(&bins[..1])]).collect();
        let report = second(&first(&vec![[0, 0]; agents.len()]), &counted).expect("honest numbers");
        prop_assert_eq!(report.tensors[0].counts().expect("a histogram"), of(&agents.concat()));
        let firsts: Vec<usize> = agents.iter().map(|bins| bins[0]).collect();
        prop_assert_eq!(report.tensors[1].counts().expect("a histogram"), of(&firsts));
        let parsed = CalibrationReport::parse(&report.to_bytes());
        prop_assert_eq!(parsed, Ok(report));
    }
}
