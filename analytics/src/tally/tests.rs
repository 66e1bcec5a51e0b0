use aimass_protocol::job::JobFile;

use super::*;

pub(crate) fn section(columns: &str) -> AnalyzeSection {
    let text = format!(
        "[job]\nname = \"a\"\nkind = \"analytics\"\npurpose = \"p\"\n[data]\ncontract = \"c\"\n[round]\nmin = 3\nmax = 1000\n{columns}"
    );
    JobFile::parse(&text).expect(&text).analyze.expect("an analytics job")
}

const COLUMNS: &str = r#"
[analyze]
max_rows = 100
bits = 4
[[analyze.columns]]
names = ["x"]
low = -1
high = 2
bins = 3
[[analyze.columns]]
names = ["v"]
feature = 1
low = 0
high = 15
[[analyze.columns]]
names = ["label"]
classes = 3
[[analyze.columns]]
names = ["v"]
feature = 0
classes = 2
"#;

/// The tally's numbers as they lie in the slots.
fn slots(tally: Tally) -> Vec<Vec<u64>> {
    let shape = tally.shape();
    let values = tally.into_values();
    assert_eq!(values.len(), shape.n_values());
    let mut rest = &values[..];
    let take = |slot: (&str, usize, u64)| {
        let (slot, more) = rest.split_at(slot.1);
        rest = more;
        slot.to_vec()
    };
    shape.slots().map(take).to_vec()
}

#[test]
fn each_number_is_where_its_slot_says() {
    let mut tally = Tally::new(&section(COLUMNS));
    assert_eq!(tally.names(), ["x", "v", "label"], "each column is read once");
    tally.check_widths(&[1, 2, 1]).expect("as the job says");
    // Two batches are as good as one.
    tally.add(
        4,
        &[
            vec![-1.0, 0.0, 2.0, 2.5],
            vec![0.0, 0.0, 1.0, 15.0, 2.0, 3.0, 0.5, 4.0],
            vec![0.0, 2.0, 2.0, 3.0],
        ],
    );
    tally.cap();
    tally.add(2, &[vec![-7.0, f64::NAN], vec![1.0, 16.0, 1.0, -1.0], vec![1.5, f64::INFINITY]]);
    assert_eq!(tally.rows(), 6);
    let [rows, capped, missing, below, above, sum, squares, bins, other, classes] = &slots(tally)[..] else {
        panic!("ten slots");
    };
    assert_eq!((&rows[..], &capped[..]), (&[6][..], &[1][..]));
    assert_eq!(*missing, [1, 0, 1, 0], "x, v[1], label, v[0]");
    assert_eq!(*below, [1, 1]);
    assert_eq!(*above, [1, 1]);
    // x: levels of -1, 0, 2, 2 (cut), -1 (cut); v[1]: 0, 15, 3, 4, 15 (cut), 0 (cut).
    assert_eq!(*sum, [5 + 15 + 15, 37]);
    assert_eq!(*squares, [25 + 225 + 225, 225 + 9 + 16 + 225]);
    assert_eq!(*bins, [1, 1, 1], "2 is in the last bin, what is beyond is in none");
    assert_eq!(*other, [2, 2], "label 3 and 1.5; v[0] 2 and 0.5");
    assert_eq!(*classes, [1, 0, 2, 1, 3]);
}

#[test]
fn hostile_values_are_counted_as_missing_or_beyond() {
    let text = "[[analyze.columns]]\nnames = [\"x\", \"y\"]\nlow = -1e-3\nhigh = 1e300\nbins = 7\n[[analyze.columns]]\nnames = [\"c\"]\nclasses = 2\n";
    let mut tally = Tally::new(&section(text));
    let bad = vec![
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        -0.0,
        5e-324,
        1e300,
    ];
    tally.add(bad.len(), &[bad.clone(), bad.iter().rev().copied().collect(), bad]);
    let found = slots(tally);
    assert_eq!(found[2], [3, 3, 3], "missing");
    assert_eq!((&found[3][..], &found[4][..]), (&[1, 1][..], &[1, 1][..]), "below and above");
    assert_eq!(found[7].iter().sum::<u64>(), 2 * (9 - 3 - 2), "bins");
    assert_eq!(
        (&found[8][..], &found[9][..]),
        (&[5][..], &[1, 0][..]),
        "-0 is class 0, nothing else is any"
    );
}

#[test]
fn columns_of_other_widths_are_refused_by_name() {
    let tally = Tally::new(&section(COLUMNS));
    let refused = |widths: &[usize]| tally.check_widths(widths).expect_err("refused").to_string();
    assert!(refused(&[2, 2, 1]).contains("`x` holds 2 values a row, and the job counts 1"));
    assert!(refused(&[1, 1, 1]).contains("`v` holds 1 values a row, and the job counts the one with index 1"));
    assert!(refused(&[1, 2]).contains("`label`"));
    let all = Tally::new(&section("[[analyze.columns]]\nnames = [\"v\"]\nfeatures = 3\nlow = 0\nhigh = 1\n"));
    all.check_widths(&[3]).expect("as the job says");
    assert!(all.check_widths(&[4]).is_err() && all.check_widths(&[2]).is_err());
}

#[test]
fn rows_are_sampled_at_even_distances() {
    let rows = |len, max| sampled(len, max).collect::<Vec<_>>();
    assert_eq!(rows(0, 5), [0; 0]);
    assert_eq!(rows(3, 5), [0, 1, 2]);
    assert_eq!(rows(5, 5), [0, 1, 2, 3, 4]);
    assert_eq!(rows(6, 5), [0, 1, 2, 3, 4]);
    assert_eq!(rows(10, 3), [0, 3, 6]);
    assert_eq!(rows(1000, 1), [0]);
    let many: Vec<_> = sampled(20_000_000, 999_999).collect();
    assert_eq!(many.len(), 999_999);
    assert!(many.is_sorted_by(|a, b| b - a == 20 || b - a == 21) && many[999_998] < 20_000_000);
}

#[test]
fn debug_shows_no_numbers() {
    let mut tally = Tally::new(&section(COLUMNS));
    tally.add(1, &[vec![0.0], vec![0.0, 7.0], vec![0.0]]);
    assert!(!format!("{tally:?}").contains("sums"));
}
