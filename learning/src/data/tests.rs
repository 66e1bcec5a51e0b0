use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&n| n.to_owned()).collect()
}

fn read(text: &[u8], inputs: &[&str]) -> Result<Dataset, DataError> {
    Dataset::from_csv_bytes("some.csv", text, &names(inputs), "label")
}

#[test]
fn a_csv_is_read_packed_or_not() {
    let text = b"a,label, b\n1,0,2.5\n-3e2,1,4\r\n";
    let data = read(text, &[]).expect("reads");
    assert_eq!(
        (data.features(), data.targets(), data.n_features(), data.len()),
        (&[1.0, 2.5, -300.0, 4.0][..], &[0.0, 1.0][..], 2, 2)
    );
    assert_eq!(read(&gz(text), &[]).expect("reads gzip"), data);
    assert_eq!(read(text, &["b"]).expect("reads").features(), [2.5, 4.0]);
    assert_eq!(read(text, &["b", "a"]).expect("reads").features(), [2.5, 1.0, 4.0, -300.0]);
    assert_eq!(
        read(b"\xef\xbb\xbfa,label\n1,0\n", &["a"])
            .expect("a byte order mark is skipped")
            .len(),
        1
    );
}

#[test]
fn bad_csvs_say_file_line_column_and_what_to_do() {
    for (text, inputs, said) in [
        (
            &b"a,label\n1,0\n2,x\n"[..],
            &[][..],
            "some.csv:3:2: `label` is `x`, which is not a number",
        ),
        (
            b"a,label\n1,0\nnan,1\n",
            &[],
            "some.csv:3:1: `a` is `nan`, which is not a finite 32-bit number",
        ),
        (b"a,label\ninf,0\n", &[], "some.csv:2:1: `a` is `inf`"),
        (b"a,label\n1e99,0\n", &[], "some.csv:2:1: `a` is `1e99`, which is not a finite"),
        (b"a,label\n,0\n", &[], "some.csv:2:1: `a` is empty"),
        (b"a,label\n1,0\n1,0,3\n", &[], "some.csv:3:0: 3 fields where the header has 2"),
        (b"a,label\n1\n", &[], "some.csv:2:0: 1 fields where the header has 2"),
        (b"a,b\n1,0\n", &[], "some.csv:1:0: there is no column `label`; the file has a, b"),
        (
            b"a,label\n1,0\n",
            &["c"],
            "some.csv:1:0: there is no column `c`; the file has a, label",
        ),
        (b"a,label\n1,0\n", &["label"], "some.csv:1:2: the target `label` is also an input"),
        (b"label\n0\n", &[], "there is no column beside the target"),
        (b"a,a,label\n1,1,0\n", &[], "some.csv:1:2: the column `a` is there twice"),
        (b"", &[], "some.csv:1:0: the file is empty"),
        (b"a,label\n", &[], "some.csv:2:0: there are no rows below the header"),
        (b"a,label\n1,0\n\xff\xfe,0\n", &[], "some.csv:3:1: not valid UTF-8"),
    ] {
        let error = read(text, inputs).expect_err("must be refused").to_string();
        assert!(error.starts_with(said) || error.contains(said), "expected `{said}`, got `{error}`");
    }
}

#[test]
fn a_damaged_gzip_is_an_error() {
    let mut packed = gz(b"a,label\n1,0\n");
    packed.truncate(packed.len() - 6);
    assert!(matches!(read(&packed, &[]), Err(DataError::Io { .. })));
}

#[test]
fn limits_hold_for_the_unpacked_content_too() {
    let mut text = b"a,label\n".to_vec();
    text.extend(std::iter::repeat_n(&b"1,0\n"[..], 10_000).flatten());
    let packed = gz(&text);
    assert!(packed.len() < 1000);
    let within =
        |limits: Limits| csv::parse("some.csv", &packed[..], csv::Fields::whole(&[], &names(&["label"])), &limits).map(|d| d.len());
    assert_eq!(within(Limits::default()).expect("within the limits"), 10_000);
    let error = |limits: Limits| within(limits).expect_err("past a limit").to_string();
    assert!(
        error(Limits {
            max_bytes: 2000,
            ..Limits::default()
        })
        .contains("more than 2000 bytes")
    );
    assert!(
        error(Limits {
            max_rows: 100,
            ..Limits::default()
        })
        .starts_with("some.csv:102:0: more than 100 rows")
    );
    assert!(
        error(Limits {
            max_columns: 1,
            ..Limits::default()
        })
        .contains("2 columns, the limit is 1")
    );
}

#[test]
fn what_is_written_is_read_back_to_the_bit() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("data.csv");
    let data = Dataset::new(vec![0.1, -1e-30, 3.4e38, 1.0 / 3.0], vec![0.0, 7.0], 2).expect("whole rows");
    data.write_csv(&path, &names(&["p", "q, quoted \"name\""]), "label")
        .expect("writes");
    assert_eq!(Dataset::read_csv(&path, &[], "label").expect("reads"), data);
    assert!(
        data.write_csv(&path, &names(&["p"]), "label")
            .expect_err("one name")
            .to_string()
            .contains("1 column names for 2 features")
    );
    assert!(
        data.write_csv(&path, &names(&["p", "label"]), "label")
            .expect_err("twice")
            .to_string()
            .contains("both a feature and the target")
    );
    let missing = Dataset::read_csv(&dir.path().join("none.csv"), &[], "label")
        .expect_err("no such file")
        .to_string();
    assert!(missing.contains("none.csv"), "{missing}");
    assert!(
        Dataset::read_csv(dir.path(), &[], "label")
            .expect_err("a folder")
            .to_string()
            .contains("is a folder")
    );
}

#[test]
fn a_dataset_holds_whole_rows() {
    assert!(Dataset::new(vec![1.0; 5], vec![0.0; 2], 2).is_none());
    assert!(Dataset::new(vec![], vec![], 0).is_none());
    let data = Dataset::new(vec![1.0, 2.0, 3.0, 4.0], vec![0.0, 1.0], 2).expect("whole rows");
    assert_eq!(data.select(&[1, 1]).expect("there").features(), [3.0, 4.0, 3.0, 4.0]);
    assert!(data.select(&[2]).is_none());
}

#[test]
fn the_fingerprint_tells_data_apart() {
    let data = |f: [f32; 4], n| {
        Dataset::new(f.to_vec(), vec![0.0; 4 / n], n)
            .expect("whole rows")
            .fingerprint_bytes()
    };
    let base = data([1.0, 2.0, 3.0, 4.0], 2);
    assert_eq!(base, data([1.0, 2.0, 3.0, 4.0], 2));
    assert_ne!(base, data([1.0, 2.0, 4.0, 3.0], 2));
    assert_ne!(base, data([1.0, 2.0, 3.0, 4.0], 4));
    assert!(base.starts_with(b"aimass/dataset/1\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\0\x80\x3f"));
}

fn idx(kind: u8, sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, kind, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|s| s.to_be_bytes()));
    bytes.extend(values);
    bytes
}

#[test]
fn idx_files_are_read_and_bad_ones_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let read = |images: &[u8], labels: &[u8]| {
        let (a, b) = (dir.path().join("images"), dir.path().join("labels"));
        std::fs::write(&a, images).expect("writes");
        std::fs::write(&b, labels).expect("writes");
        Dataset::read_idx(
            &a,
            &b,
            &Limits {
                max_bytes: 1 << 20,
                ..Limits::default()
            },
        )
    };
    let images = idx(8, &[2, 2, 1], &[0, 255, 51, 102]);
    let labels = idx(8, &[2], &[7, 3]);
    let data = read(&images, &labels).expect("reads");
    assert_eq!(
        (data.features(), data.targets(), data.n_features()),
        (&[0.0, 1.0, 0.2, 0.4][..], &[7.0, 3.0][..], 2)
    );
    assert_eq!(read(&gz(&images), &gz(&labels)).expect("reads gzip"), data);
    for (images, labels, said) in [
        (
            images[..images.len() - 1].to_vec(),
            labels.clone(),
            "asks for 4 values, there are 3",
        ),
        (
            [&images[..], &[0]].concat(),
            labels.clone(),
            "asks for 4 values, there are more than 4",
        ),
        (images[..6].to_vec(), labels.clone(), "ends inside its header"),
        (
            idx(8, &[u32::MAX, u32::MAX, u32::MAX], &[]),
            labels.clone(),
            "4294967295 rows, the limit",
        ),
        (idx(8, &[2, u32::MAX, u32::MAX], &[]), labels.clone(), "the limit is 1048576"),
        (idx(8, &[0, u32::MAX, u32::MAX, u32::MAX], &[]), idx(8, &[0], &[]), "no images"),
        (idx(13, &[2, 2], &[0; 4]), labels.clone(), "type 0x0d"),
        (b"PK\x03\x04zip".to_vec(), labels.clone(), "not an IDX header"),
        (images.clone(), idx(8, &[3], &[0; 3]), "3 labels for 2 images"),
        (images.clone(), images.clone(), "are the two files swapped?"),
        (labels.clone(), labels.clone(), "are the two files swapped?"),
    ] {
        let error = read(&images, &labels).expect_err("must be refused").to_string();
        assert!(error.contains(said), "expected `{said}`, got `{error}`");
    }
}

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

#[test]
fn a_split_is_seeded_and_loses_nothing() {
    let (test, train) = split(10, 0.3, &mut rng(1));
    assert_eq!((test.len(), train.len()), (3, 7));
    let mut all = [test.clone(), train].concat();
    all.sort_unstable();
    assert_eq!(all, (0..10).collect::<Vec<_>>());
    assert_eq!(split(10, 0.3, &mut rng(1)).0, test);
    assert_ne!(split(100, 0.3, &mut rng(1)).0, split(100, 0.3, &mut rng(2)).0);
    assert_eq!(split(3, 2.0, &mut rng(1)).0.len(), 3);
}

#[test]
fn a_stratified_split_keeps_the_shares_of_classes() {
    let labels: Vec<f32> = (0..1000).map(|i| if i % 10 == 0 { 1.0 } else { 0.0 }).chain([2.0, 3.0]).collect();
    let (first, rest) = split_stratified(&labels, 0.2, &mut rng(1));
    assert_eq!((first.len(), rest.len()), (200, 802));
    assert_eq!(first.iter().filter(|&&r| labels[r] == 1.0).count(), 20);
    assert!(rest.contains(&1000) && rest.contains(&1001), "a class of one row trains");
    let mut all = [first.clone(), rest].concat();
    all.sort_unstable();
    assert_eq!(all, (0..1002).collect::<Vec<_>>());
    assert_eq!(split_stratified(&labels, 0.2, &mut rng(1)).0, first);
    assert_ne!(split_stratified(&labels, 0.2, &mut rng(2)).0, first);
    assert!(split_stratified(&[], 0.2, &mut rng(1)).1.is_empty());
}

#[test]
fn dirichlet_gives_every_row_to_one_client_and_every_client_some() {
    let labels: Vec<f32> = (0..1437).map(|i| (i % 10) as f32).collect();
    for (alpha, seed) in [(0.5, 1), (0.5, 2), (1e-3, 3), (1e-9, 4), (1e6, 5)] {
        let parts = partition_dirichlet(&labels, 5, alpha, &mut rng(seed)).expect("shares out");
        let mut all = parts.concat();
        all.sort_unstable();
        assert_eq!(all, (0..1437).collect::<Vec<_>>(), "alpha {alpha}");
        assert!(
            parts.iter().all(|p| p.len() >= 4 && p.is_sorted()),
            "alpha {alpha}: {:?}",
            parts.iter().map(Vec::len).collect::<Vec<_>>()
        );
        assert_eq!(parts, partition_dirichlet(&labels, 5, alpha, &mut rng(seed)).expect("shares out"));
    }
}

#[test]
fn a_small_alpha_is_uneven_and_a_large_one_even() {
    let labels: Vec<f32> = (0..1000).map(|i| (i % 10) as f32).collect();
    // Share of a client's rows that its most frequent class has, averaged: 0.1 when even, towards 1 when each sees one class.
    let skew = |alpha: f64| {
        let parts = partition_dirichlet(&labels, 10, alpha, &mut rng(7)).expect("shares out");
        let largest = |part: &Vec<usize>| {
            (0..10)
                .map(|c| part.iter().filter(|&&r| labels[r] == c as f32).count())
                .max()
                .unwrap_or(0)
        };
        parts.iter().map(|p| largest(p) as f64 / p.len() as f64).sum::<f64>() / 10.0
    };
    assert!(skew(1e4) < 0.12, "{}", skew(1e4));
    assert!(skew(0.5) > 0.25, "{}", skew(0.5));
    assert!(skew(0.05) > skew(0.5));
}

#[test]
fn what_can_not_be_shared_out_is_refused() {
    let labels = [0.0; 19];
    let error = |labels: &[f32], clients, alpha| partition_dirichlet(labels, clients, alpha, &mut rng(1)).expect_err("refused");
    assert_eq!(error(&labels, 0, 0.5), PartitionError::NoClients);
    assert_eq!(
        error(&labels, 5, 0.5),
        PartitionError::TooFewRows {
            rows: 19,
            clients: 5,
            least: 4
        }
    );
    for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(error(&labels, 2, alpha), PartitionError::Alpha { .. }), "{alpha}");
    }
    assert_eq!(error(&[0.0, 1.0, 0.5, 1.0], 1, 0.5), PartitionError::Label { row: 2, target: 0.5 });
}
