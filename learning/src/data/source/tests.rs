use std::fmt::Write as _;

use super::super::npy::tests::{bytes_of, recorded};
use super::super::write_npy;
use super::*;
use crate::array::Values;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&n| n.to_owned()).collect()
}

fn wanted(inputs: &[&str], targets: &[&str], model_inputs: &[&str]) -> Wanted {
    Wanted {
        inputs: names(inputs),
        targets: names(targets),
        model_inputs: names(model_inputs),
        labels: None,
    }
}

/// Everything that can be streamed is.
fn streamed() -> Limits {
    Limits {
        resident_bytes: 0,
        ..Limits::default()
    }
}

fn fingerprint(source: &dyn Source) -> Vec<u8> {
    let mut bytes = Vec::new();
    source.fingerprint(&mut |piece| bytes.extend_from_slice(piece)).expect("readable");
    bytes
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).expect("writes");
        path
    }
}

#[test]
fn a_csv_gives_the_same_rows_in_memory_and_streamed() {
    let mut text = "a,label,b,other\n".to_owned();
    for i in 0..500 {
        // Rows of many lengths, some quoted, some with blanks or after an empty line.
        let blank = ["", " ", "\n"][i % 3];
        writeln!(text, "{blank}{},\"{}\", {}e{} ,{i}", i as f32 / 7.0, i % 4, i, i % 9).expect("memory");
    }
    text.pop();
    let files = Files::new();
    let path = files.write("rows.csv", text.as_bytes());
    for wanted in [
        wanted(&[], &["label", "other"], &["x"]),
        wanted(&["b", "a"], &["other"], &["x"]),
        wanted(&["b"], &["label", "label"], &["x"]),
    ] {
        let resident = open(&path, &wanted, &Limits::default()).expect("reads");
        let streamed = open(&path, &wanted, &streamed()).expect("reads");
        assert_eq!((resident.len(), streamed.len()), (500, 500));
        assert_eq!(resident.targets(), streamed.targets());
        for rows in [&[0][..], &[499], &[3, 3, 7, 499, 0, 250], &(0..500).collect::<Vec<_>>()] {
            assert_eq!(
                resident.batch(rows).expect("there"),
                streamed.batch(rows).expect("there"),
                "{rows:?}"
            );
        }
        let batch = streamed.batch(&[9]).expect("there");
        assert_eq!(batch.inputs[0].shape(), [1, batch.inputs[0].row_len()]);
    }
    let one = wanted(&[], &["label"], &["x"]);
    let before = fingerprint(&*open(&path, &one, &streamed()).expect("reads"));
    assert_eq!(before, fingerprint(&*open(&path, &one, &streamed()).expect("reads")));
    files.write("rows.csv", text.replace(",250", ",251").as_bytes());
    assert_ne!(before, fingerprint(&*open(&path, &one, &streamed()).expect("reads")));
}

#[test]
fn a_streamed_csv_is_refused_as_one_in_memory_is() {
    let files = Files::new();
    let one = wanted(&[], &["label"], &["x"]);
    for text in [
        "",
        "a,label\n",
        "a,label\n1,0\n2,x\n",
        "a,label\n1,0\n2\n",
        "a,b\n1,2\n",
        "label\n1\n",
        "a,label\nnan,1\n",
    ] {
        let path = files.write("rows.csv", text.as_bytes());
        let said = |limits: Limits| open(&path, &one, &limits).err().expect("refused").to_string();
        assert_eq!(said(Limits::default()), said(streamed()), "{text:?}");
    }
    // What changes under the reader is an error, not another row.
    let path = files.write("rows.csv", b"a,label\n1,0\n2,1\n");
    let source = open(&path, &one, &streamed()).expect("reads");
    std::fs::write(&path, b"a,label\nx,0\n2,1\n").expect("writes");
    let error = source.batch(&[0]).expect_err("changed").to_string();
    assert!(error.contains("was changed while it was in use"), "{error}");
    std::fs::write(&path, b"a,label\n").expect("writes");
    assert!(source.batch(&[1]).is_err());
}

#[test]
fn arrays_are_the_same_stored_deflated_and_streamed() {
    let files = Files::new();
    let wanted = wanted(&[], &["label", "score"], &["image", "tokens", "flag"]);
    let mut seen = Vec::new();
    for case in recorded("sets") {
        let path = files.write("set.npz", &bytes_of(&case));
        for limits in [Limits::default(), streamed()] {
            let source = open(&path, &wanted, &limits).expect("reads");
            assert_eq!(source.len(), 4);
            let batch = source.batch(&[3, 1]).expect("there");
            let image: Vec<i64> = (18..24).chain(6..12).map(|v| v * 10).collect();
            let expected = Batch {
                inputs: vec![
                    Array::ints(vec![2, 1, 2, 3], image).expect("filled"),
                    Array::ints(vec![2, 2], vec![6, 7, 2, 3]).expect("filled"),
                    Array::new(vec![2], Values::Bools(vec![true, false])).expect("filled"),
                ],
                targets: vec![
                    Array::ints(vec![2], vec![2, 0]).expect("filled"),
                    Array::floats(vec![2], vec![3.5, 1.5]).expect("filled"),
                ],
                weights: Some(vec![1.0, 2.0]),
                flat: true,
            };
            assert_eq!(batch, expected, "{}", case["name"]);
            assert_eq!(source.targets().expect("small")[0].as_ints(), Some(&[2, 0, 1, 2][..]));
            seen.push(fingerprint(&*source));
        }
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "the same data, wherever it lies");
}

#[test]
fn arrays_are_found_by_name_or_refused_by_name() {
    let files = Files::new();
    let cases = recorded("sets");
    let stored = files.write("set.npz", &bytes_of(&cases[0]));
    let read = |wanted: &Wanted, limits: Limits| open(&stored, wanted, &limits);
    // Fortran's order, and other names than the model's.
    let wide = read(&wanted(&["wide"], &["label"], &["x"]), Limits::default()).expect("reads");
    let batch = wide.batch(&[1]).expect("there");
    assert_eq!(batch.inputs[0].as_floats(), Some(&[0.75, 1.0, 1.25][..]));
    for (wanted, said) in [
        (
            wanted(&[], &["label"], &["x"]),
            "there is no array `x` for the model's input of this name; the file has image",
        ),
        (wanted(&["x"], &["label"], &["x"]), "there is no array `x` for the model's input;"),
        (wanted(&[], &["y"], &["image"]), "there is no array `y` for the target"),
        (wanted(&[], &["image"], &["image"]), "the target `image` is also an input"),
        (wanted(&[], &["short"], &["image"]), "has 4 rows (its first axis), `short` has 3"),
        (wanted(&[], &["number"], &["image"]), "is a single number"),
        (wanted(&["none"], &["none"], &["x"]), "is also an input"),
        (wanted(&["none"], &["label"], &["x"]), "has 0 rows (its first axis), `label` has 4"),
    ] {
        for limits in [Limits::default(), streamed()] {
            let error = read(&wanted, limits).err().expect("refused").to_string();
            assert!(error.contains(said), "expected `{said}`, got `{error}`");
        }
    }
    let error = read(&wanted(&["wide"], &["label"], &["x"]), streamed())
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("numpy.ascontiguousarray"), "{error}");
    let small = Limits {
        max_bytes: 100,
        ..Limits::default()
    };
    let error = read(&wanted(&[], &["label"], &["image"]), small)
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("more than 100 bytes"), "{error}");
}

#[test]
fn idx_files_find_their_labels() {
    let files = Files::new();
    let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2][..], &[0, 255, 51, 102]].concat();
    let labels = [&[0, 0, 8, 1, 0, 0, 0, 2][..], &[7, 3]].concat();
    let path = files.write("train-images-idx3-ubyte", &images);
    let plain = wanted(&[], &["label"], &["x"]);
    let error = open(&path, &plain, &Limits::default()).err().expect("no labels").to_string();
    assert!(error.contains("--labels"), "{error}");
    let other = files.write("other", &labels);
    files.write("train-labels-idx1-ubyte", &labels);
    let named = Wanted {
        labels: Some(other),
        ..plain.clone()
    };
    for wanted in [plain, named] {
        let source = open(&path, &wanted, &Limits::default()).expect("reads");
        assert_eq!(
            source.batch(&[1, 0]).expect("there"),
            Batch::rows(vec![0.2, 0.4, 0.0, 1.0], vec![3.0, 7.0]).expect("rows")
        );
        assert_eq!(source.targets(), Some(vec![Array::float_list(vec![7.0, 3.0])]));
    }
}

#[test]
fn the_kind_of_a_file_is_told_by_its_content() {
    let files = Files::new();
    let one = wanted(&[], &["label"], &["x"]);
    let said = |name: &str, content: &[u8]| {
        let path = files.write(name, content);
        open(&path, &one, &Limits::default())
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    };
    assert!(said("a.csv", b"\x93NUMPY\x01\0").contains("numpy.savez"));
    assert!(said("b.csv", b"PK\x03\x04").contains("not a whole zip archive"));
    assert!(said("c.npz", b"a,b\n1,2\n").contains("no column `label`"));
    assert!(said("d", b"").contains("the file is empty"));
    assert_eq!(said("e", b"a,label\n1,2\n"), "");
    assert!(
        open(files.0.path(), &one, &Limits::default())
            .err()
            .expect("a folder")
            .to_string()
            .contains("is a folder")
    );
}

#[test]
fn two_arrays_in_files_of_their_own_are_inputs_and_targets() {
    let files = Files::new();
    let save = |name: &str, shape: Vec<usize>, values: Values| {
        let path = files.0.path().join(name);
        write_npy(&path, &Array::new(shape, values).expect("fits")).expect("writes");
        path
    };
    let pixels: Vec<f32> = (0..5 * 4).map(|i| i as f32 / 3.0).collect();
    let x = save("x.npy", vec![5, 2, 2], Values::Floats(pixels.clone()));
    let y = save("y.npy", vec![5], Values::Ints(vec![3, 1, 4, 1, 5]));
    let with = |labels: Option<&PathBuf>, targets: &[&str]| Wanted {
        labels: labels.cloned(),
        ..wanted(&[], targets, &["image"])
    };
    let whole = open(&x, &with(Some(&y), &["label"]), &Limits::default()).expect("opens");
    let pieces = open(&x, &with(Some(&y), &["label"]), &streamed()).expect("opens");
    assert_eq!(fingerprint(&*whole), fingerprint(&*pieces));
    for source in [whole, pieces] {
        assert_eq!(source.len(), 5);
        let batch = source.batch(&[4, 0]).expect("there");
        assert_eq!(batch.inputs[0].shape(), [2, 2, 2]);
        assert_eq!(batch.inputs[0].as_floats().expect("floats")[..4], pixels[16..]);
        assert_eq!(batch.targets[0].values(), &Values::Ints(vec![5, 3]));
    }
    let said = |labels: Option<&PathBuf>, targets: &[&str], limits: &Limits| {
        open(&x, &with(labels, targets), limits).err().expect("refused").to_string()
    };
    assert!(said(None, &["label"], &Limits::default()).contains("--labels"));
    assert!(said(Some(&y), &["a", "b"], &Limits::default()).contains("several heads"));
    let short = save("short.npy", vec![4], Values::Ints(vec![3, 1, 4, 1]));
    assert!(said(Some(&short), &["label"], &Limits::default()).contains("every array needs one row an example"));
    let cut = files.write("cut.npy", &std::fs::read(&y).expect("reads")[..140]);
    for limits in [Limits::default(), streamed()] {
        assert!(said(Some(&cut), &["label"], &limits).contains("cut.npy"));
    }
}

/// `columns` of 3 values a row, and labels, packed as numpy.savez does.
fn stored(rows: usize) -> Vec<u8> {
    let header = |descr: &str, shape: &str| {
        let mut dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}").into_bytes();
        dict.resize(118 - 1, b' ');
        [&b"\x93NUMPY\x01\0\x76\0"[..], &dict, b"\n"].concat()
    };
    let x: Vec<u8> = (0..3 * rows).flat_map(|i| (i as f32 / 8.0).to_le_bytes()).collect();
    let y: Vec<u8> = (0..rows).map(|i| (i % 10) as u8).collect();
    let entries = [
        ("x.npy", [header("<f4", &format!("({rows}, 3)")), x].concat()),
        ("y.npy", [header("|u1", &format!("({rows},)")), y].concat()),
    ];
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in &entries {
        let (begin, len, crc) = (bytes.len() as u32, content.len() as u32, crc32fast::hash(content));
        let common = [
            &[0; 8][..],
            &crc.to_le_bytes(),
            &len.to_le_bytes(),
            &len.to_le_bytes(),
            &(name.len() as u16).to_le_bytes(),
            &[0; 2],
        ]
        .concat();
        bytes.extend_from_slice(&[b"PK\x03\x04\x14\0", &common[..], name.as_bytes(), content].concat());
        let place = [&[0; 10][..], &begin.to_le_bytes()].concat();
        directory.extend_from_slice(&[b"PK\x01\x02\x14\0\x14\0", &common[..], &place, name.as_bytes()].concat());
    }
    let (begin, len) = (bytes.len() as u32, directory.len() as u32);
    bytes.extend_from_slice(&directory);
    bytes.extend_from_slice(
        &[
            &b"PK\x05\x06\0\0\0\0\x02\0\x02\0"[..],
            &len.to_le_bytes(),
            &begin.to_le_bytes(),
            &[0; 2],
        ]
        .concat(),
    );
    bytes
}

#[test]
fn a_large_archive_is_read_in_pieces_or_row_by_row_alike() {
    // Arrays of several pieces, the last of them not whole.
    let rows = 20_001;
    let (files, wanted) = (Files::new(), wanted(&["x"], &["y"], &["x"]));
    let path = files.write("rows.npz", &stored(rows));
    let resident = open(&path, &wanted, &Limits::default()).expect("reads");
    let streamed = open(&path, &wanted, &streamed()).expect("reads");
    let all = super::super::read_npz(&path, &Limits::default()).expect("reads");
    assert_eq!(fingerprint(&*resident), fingerprint(&*streamed));
    assert_eq!(resident.targets(), streamed.targets());
    // Runs of rows, rows alone and twice, backwards, across the end of a piece.
    let orders = [
        (0..rows).collect::<Vec<_>>(),
        (0..rows).rev().step_by(97).collect(),
        vec![5, 6, 7, 7, 8, 3, 20_000, 0, 1],
        (5450..5470).collect(),
        vec![],
    ];
    for order in orders {
        let batch = streamed.batch(&order).expect("there");
        assert_eq!(batch, resident.batch(&order).expect("there"));
        assert_eq!(Some(&batch.inputs[0]), all["x"].select_rows(&order).as_ref());
    }
}

#[test]
fn a_damaged_archive_is_refused_before_a_row_of_it_is_used() {
    let (files, wanted) = (Files::new(), wanted(&["x"], &["y"], &["x"]));
    let good = stored(1000);
    let begin = good
        .windows(4)
        .position(|four| four == 0.125f32.to_le_bytes())
        .expect("the second value");
    let mut cases = Vec::new();
    // A value, and the header's shape: as many rows, more than there are, fewer.
    for (at, byte) in [(begin + 900, 0x55), (begin + 11_000, 0x55)] {
        let mut bytes = good.clone();
        bytes[at] ^= byte;
        cases.push((bytes, "`x.npy` is damaged"));
    }
    let text = |from: &str, to: &str| {
        let at = good
            .windows(from.len())
            .position(|window| window == from.as_bytes())
            .expect("there");
        [&good[..at], to.as_bytes(), &good[at + from.len()..]].concat()
    };
    for other in ["(2000, 3)", "(0900, 3)", "(1000; 3)", "(1000, 0)"] {
        cases.push((text("(1000, 3)", other), "`x.npy` is damaged"));
    }
    for (bytes, said) in cases {
        let path = files.write("rows.npz", &bytes);
        for limits in [Limits::default(), streamed()] {
            let error = open(&path, &wanted, &limits).err().expect("damaged").to_string();
            assert!(error.contains(said), "{error}");
        }
        let error = super::super::read_npz(&path, &Limits::default()).expect_err("damaged").to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn an_archive_that_is_cut_while_it_is_read_is_an_error() {
    let (files, wanted) = (Files::new(), wanted(&["x"], &["y"], &["x"]));
    let bytes = stored(1000);
    let path = files.write("rows.npz", &bytes);
    let source = open(&path, &wanted, &streamed()).expect("reads");
    assert!(source.batch(&[998, 999]).is_ok());
    // In the middle of the labels, which come last.
    let labels = bytes.windows(5).position(|name| name == b"y.npy").expect("an entry") + 5 + 128;
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(labels as u64 + 500))
        .expect("cut");
    assert!(source.batch(&[0, 1]).is_ok());
    assert!(matches!(source.batch(&[998, 999]), Err(DataError::Io { .. })));
    assert!(source.fingerprint(&mut |_| {}).is_err());
}

#[test]
fn should_read_arrays_that_nobody_names_a_target_of() {
    let rows = open_bytes("public.npz", &stored(4), &wanted(&["x"], &[], &["x"]), &Limits::default()).expect("rows to ask about");
    let batch = rows.batch(&[2, 0]).expect("there");
    assert_eq!((rows.len(), batch.inputs.len(), batch.targets.len()), (4, 1, 0));
    let nothing = open_bytes("public.npz", &stored(4), &wanted(&[], &["y"], &[]), &Limits::default());
    assert!(nothing.err().expect("no input").to_string().contains("name one"));
}
