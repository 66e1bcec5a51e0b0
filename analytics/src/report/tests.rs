use aimass_compression::SlotCodec;
use proptest::prelude::*;

use super::*;
use crate::tally::tests::section;
use crate::{Shape, Tally};

const COLUMNS: &str = r#"
[analyze]
max_rows = 200
bits = 12
[[analyze.columns]]
names = ["x"]
low = -2
high = 6
bins = 16
[[analyze.columns]]
names = ["label"]
classes = 4
"#;

fn tally(analyze: &AnalyzeSection, rows: &[(f64, f64)]) -> Vec<u64> {
    let mut tally = Tally::new(analyze);
    let (x, label): (Vec<f64>, Vec<f64>) = rows.iter().copied().unzip();
    tally.add(rows.len(), &[x, label]);
    tally.into_values()
}

fn sum_of(codec: &SlotCodec, shape: Shape, agents: &[Vec<u64>]) -> Accumulator {
    let mut sum = codec.accumulator();
    for values in agents {
        let packed = shape.encode(codec, values).expect("of this shape");
        sum.add(&packed).expect("an honest agent's");
    }
    sum
}

fn report(agents: &[&[(f64, f64)]]) -> Report {
    let analyze = section(COLUMNS);
    let shape = Shape::of(&analyze);
    let codec = shape.codec(agents.len() as u32).expect("a plan");
    let counted: Vec<_> = agents.iter().map(|rows| tally(&analyze, rows)).collect();
    Report::of_sum(&analyze, AggregationMode::Secure, 1, &sum_of(&codec, shape, &counted)).expect("honest")
}

#[test]
fn quartiles_are_interpolated_and_stay_within_the_range() {
    // 16 bins of half a unit: ten values in each of four bins.
    let rows: Vec<(f64, f64)> = [0.1, 0.6, 1.1, 1.6].iter().flat_map(|&x| vec![(x, 0.0); 10]).collect();
    let range = report(&[&rows]).features[0].range.clone().expect("numbers");
    assert_eq!(range.quartiles, Some([0.5, 1.0, 1.5]));
    let rows: Vec<(f64, f64)> = [-9.0, -8.0, 1.1, 9.0].iter().flat_map(|&x| vec![(x, 0.0); 10]).collect();
    let range = report(&[&rows]).features[0].range.clone().expect("numbers");
    assert_eq!(range.quartiles, Some([-2.0, -2.0, 1.5]));
    let range = report(&[&[(9.0, 0.0)]]).features[0].range.clone().expect("numbers");
    assert_eq!(range.quartiles, Some([6.0; 3]));
    let range = report(&[&[(f64::NAN, 0.0)]]).features[0].range.clone().expect("numbers");
    assert_eq!((range.quartiles, range.mean, range.sd), (None, None, None));
}

#[test]
fn a_report_comes_back_as_it_was_and_nothing_else_is_one() {
    let made = report(&[&[(0.1, 1.0), (f64::NAN, 7.0)], &[(5.0, 1.0)]]);
    let bytes = made.to_bytes();
    assert_eq!(Report::parse(&bytes), Ok(made.clone()));
    assert_eq!(
        bytes,
        report(&[&[(5.0, 1.0)], &[(f64::NAN, 7.0), (0.1, 1.0)]]).to_bytes(),
        "in any order"
    );
    let text = String::from_utf8(bytes.clone()).expect("JSON");
    for bad in [
        String::new(),
        text[..text.len() / 2].to_owned(),
        text.replace("analytics/1", "analytics/2"),
        text.replace("\"agents\": 2", "\"agents\": -2"),
        text.replace("\"agents\": 2", "\"agents\": 2, \"more\": 1"),
        format!("{text}x"),
    ] {
        assert!(matches!(Report::parse(bad.as_bytes()), Err(ReportError::Malformed { .. })), "{bad}");
    }
    let long = [&bytes[..], &vec![b' '; MAX_REPORT_BYTES as usize]].concat();
    assert!(Report::parse(&long).is_err());
    let analyze = section(COLUMNS);
    let empty = Report::empty(&analyze, AggregationMode::Plain);
    assert_eq!((empty.round, empty.agents, empty.rows, empty.features.len()), (0, 0, 0, 2));
    assert_eq!(Report::parse(&empty.to_bytes()), Ok(empty));
}

#[test]
fn the_longest_report_is_below_the_limit() {
    use aimass_protocol::limits::{MAX_ANALYZE_FEATURES, MAX_ANALYZE_VALUES};
    let bins = MAX_ANALYZE_VALUES as u32 / MAX_ANALYZE_FEATURES - 5;
    let entry = format!(
        "[[analyze.columns]]\nnames = ['{}']\nfeatures = {MAX_ANALYZE_FEATURES}\nlow = -1.2345678901234567e-300\nhigh = 1.2345678901234567e+300\nbins = {bins}\n",
        "\"".repeat(256)
    );
    let analyze = section(&entry);
    let sums = Shape::of(&analyze).slots().map(|(_, len, _)| vec![(1 << 63) / 8192; len]);
    let bytes = Report::of(&analyze, AggregationMode::Secure, (u32::MAX, u32::MAX), sums).to_bytes();
    assert!((bytes.len() as u64) < MAX_REPORT_BYTES, "{}", bytes.len());
}

#[test]
fn numbers_that_no_rows_make_are_no_report() {
    let analyze = section(COLUMNS);
    let shape = Shape::of(&analyze);
    let codec = shape.codec(2).expect("a plan");
    let honest = [tally(&analyze, &[(1.0, 1.0), (7.0, 9.0)]), tally(&analyze, &[(f64::NAN, 2.0)])];
    let check = |agents: &[Vec<u64>]| Report::of_sum(&analyze, AggregationMode::Plain, 1, &sum_of(&codec, shape, agents));
    check(&honest).expect("honest");
    let places = shape.slots().map(|(name, len, _)| vec![name; len]).concat();
    let mut refused = std::collections::BTreeSet::new();
    for (at, place) in places.iter().enumerate() {
        for change in [0, 200] {
            let mut agents = honest.clone();
            if agents[0][at] == change || (*place == "capped" && change > 1) {
                continue;
            }
            agents[0][at] = change;
            if check(&agents).is_err() {
                refused.insert(*place);
            }
        }
    }
    let expected = ["above", "below", "bins", "classes", "missing", "other", "rows", "squares", "sum"];
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn squares_are_at_least_those_of_equal_levels() {
    let of = |sum, squares| {
        let feature = report(&[&[(1.0, 0.0), (2.0, 0.0)]]).features.remove(0);
        let range = feature.range.expect("numbers");
        RangeCounts { sum, squares, ..range }.is_possible(2, 4095)
    };
    assert!(of(10, 50), "5 and 5");
    assert!(!of(10, 49), "(5 + 5)^2 / 2 is more");
    assert!(!of(8191, 8191 * 8191), "two levels of at most 4095 make no 8191");
}

/// The value as it counts: within the range.
fn cut(x: f64) -> f64 {
    x.clamp(-2.0, 6.0)
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => -3.0..7.0f64,
        1 => prop_oneof![Just(-2.0), Just(6.0), Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(1e300), Just(-1e300)],
    ]
}

proptest! {
    #[test]
    fn the_sum_of_what_agents_count_is_what_one_would_count_of_all_rows(
        agents in proptest::collection::vec(proptest::collection::vec((value(), -1.0..6.0f64), 1..30), 1..8),
    ) {
        let agents: Vec<Vec<(f64, f64)>> =
            agents.into_iter().map(|rows| rows.into_iter().map(|(x, label)| (x, label.floor())).collect()).collect();
        let parts: Vec<&[(f64, f64)]> = agents.iter().map(Vec::as_slice).collect();
        let found = report(&parts);
        let all: Vec<(f64, f64)> = agents.concat();
        prop_assert_eq!((found.agents as usize, found.rows as usize, found.capped_agents), (agents.len(), all.len(), 0));

        let there: Vec<f64> = all.iter().map(|row| row.0).filter(|x| x.is_finite()).collect();
        let (feature, range) = (&found.features[0], found.features[0].range.as_ref().expect("numbers"));
        prop_assert_eq!((feature.count, feature.missing), (there.len() as u64, (all.len() - there.len()) as u64));
        prop_assert_eq!(range.below, there.iter().filter(|x| **x < -2.0).count() as u64);
        prop_assert_eq!(range.above, there.iter().filter(|x| **x > 6.0).count() as u64);
        for (at, &bin) in range.bins.iter().enumerate() {
            let (from, to) = (-2.0 + at as f64 * 0.5, -1.5 + at as f64 * 0.5);
            let within = |x: f64| from <= x && (x < to || (at == 15 && x == 6.0));
            prop_assert_eq!(bin, there.iter().filter(|x| within(**x)).count() as u64, "bin {}", at);
        }
        prop_assert!((range.error - 8.0 / 4095.0 / 2.0).abs() < 1e-12);
        if there.is_empty() {
            prop_assert_eq!((range.mean, range.sd), (None, None));
        } else {
            let n = there.len() as f64;
            let mean = there.iter().map(|x| cut(*x)).sum::<f64>() / n;
            let sd = (there.iter().map(|x| (cut(*x) - mean).powi(2)).sum::<f64>() / n).sqrt();
            let off = (range.mean.expect("values") - mean).abs().max((range.sd.expect("values") - sd).abs());
            prop_assert!(off <= range.error * (1.0 + 1e-9), "{} is more than {}", off, range.error);
        }
        let classes = found.features[1].classes.as_ref().expect("classes");
        for (class, &count) in classes.counts.iter().enumerate() {
            prop_assert_eq!(count, all.iter().filter(|row| row.1 == class as f64).count() as u64);
        }
        prop_assert_eq!(classes.other, all.iter().filter(|row| !(0.0..4.0).contains(&row.1)).count() as u64);
        // One agent with all rows counts the same.
        let one = report(&[&all]);
        prop_assert_eq!(&one.features, &found.features);
    }

    #[test]
    fn bytes_of_anything_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Report::parse(&bytes);
    }
}
