use super::*;
use crate::Model;
use crate::proto::StringStringEntryProto;
use crate::testing::{node, proto, tensor};

const WEIGHTS: [f32; 4] = [1.0, -2.0, 3.0, 0.5];

/// `y = (x w) + b`, where `w` has these entries instead of values.
fn model(entries: &[(&str, &str)]) -> Bytes {
    let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let w = TensorProto {
        raw_data: Bytes::new(),
        external_data: entries.iter().map(entry).collect(),
        data_location: DataLocation::External as i32,
        ..tensor("w", &[2, 2], &[])
    };
    let nodes = vec![node("MatMul", &["x", "w"], &["xw"]), node("Add", &["xw", "b"], &["y"])];
    let mut model = proto(nodes, vec![tensor("b", &[2], &[0.25, 0.75]), w]);
    model.producer_name = "an exporter".to_owned();
    let mut bytes = model.encode_to_vec();
    // A field that nobody knows.
    bytes.extend([0xfa, 0x7f, 3, b'a', b'b', b'c']);
    bytes.into()
}

/// Files with `before` bytes, the weights, and `after` bytes.
fn beside(name: &str, before: usize, after: usize) -> BTreeMap<String, Bytes> {
    let mut content = vec![0xff; before];
    content.extend(WEIGHTS.iter().flat_map(|w| w.to_le_bytes()));
    content.extend(vec![0xff; after]);
    BTreeMap::from([(name.to_owned(), content.into())])
}

#[test]
fn values_come_from_their_place_and_the_rest_stays() {
    for (entries, before, after) in [
        (&[("location", "m.onnx.data"), ("offset", "64"), ("length", "16")][..], 64, 9),
        (&[("location", "m.onnx.data"), ("length", "16")], 0, 9),
        (&[("location", "m.onnx.data"), ("offset", "4096"), ("checksum", "?")], 4096, 0),
        (&[("location", "m.onnx.data")], 0, 0),
    ] {
        let model = model(entries);
        assert!(matches!(Model::from_shared(model.clone()), Err(ReadError::ExternalData { .. })));
        assert_eq!(files(&model), Ok(BTreeSet::from(["m.onnx.data".to_owned()])));
        let whole = bring_in(model, &beside("m.onnx.data", before, after)).expect("fits");
        assert!(whole.ends_with(b"abc"), "an unknown field stays");
        assert_eq!(files(&whole), Ok(BTreeSet::new()));
        let read = Model::from_shared(whole.clone()).expect("one file");
        assert_eq!(read.proto().producer_name, "an exporter");
        let values = |name| read.initializer(name).expect("there").to_f32();
        assert_eq!(values("w").as_deref(), Some(&WEIGHTS[..]));
        assert_eq!(values("b").as_deref(), Some(&[0.25, 0.75][..]));
        assert_eq!(bring_in(whole.clone(), &BTreeMap::new()), Ok(whole), "what is one file stays");
    }
}

#[test]
fn places_outside_the_folder_are_refused() {
    let long = "a/".repeat(50) + "..";
    for location in [
        "",
        "..",
        "../w",
        "/etc/passwd",
        "a/../../w",
        "a//w",
        "./w",
        "a\\..\\w",
        "c:w",
        "a/",
        "w\0",
        &long,
    ] {
        let model = model(&[("location", location)]);
        let refused = |e| matches!(e, ReadError::ExternalPlace { tensor, .. } if tensor == "w");
        assert!(refused(files(&model).expect_err(location)), "{location:?}");
        assert!(
            refused(bring_in(model, &beside(location, 0, 0)).expect_err(location)),
            "{location:?}"
        );
    }
    assert!(matches!(files(&model(&[])), Err(ReadError::ExternalPlace { .. })));
    assert_eq!(
        files(&model(&[("location", "data/w.bin")])),
        Ok(BTreeSet::from(["data/w.bin".to_owned()]))
    );
}

#[test]
fn files_that_do_not_hold_the_values_are_refused() {
    let refused = |offset: &str, length: &str| {
        let model = model(&[("location", "w"), ("offset", offset), ("length", length)]);
        let error = bring_in(model, &beside("w", 8, 0)).expect_err(offset);
        assert!(
            matches!(&error, ReadError::ExternalRange { tensor, .. } if tensor == "w"),
            "{error}"
        );
        error.to_string()
    };
    for (offset, length) in [
        ("9", "16"),
        ("8", "17"),
        ("25", "0"),
        ("18446744073709551615", "1"),
        ("18446744073709551608", "16"),
        ("8", "18446744073709551615"),
    ] {
        assert!(refused(offset, length).contains("which ends before them"));
    }
    for (offset, length) in [("-1", "16"), ("8", "many"), ("", "16"), ("18446744073709551616", "16")] {
        assert!(refused(offset, length).contains("no number"));
    }
    let model_of_w = model(&[("location", "w")]);
    assert!(matches!(
        bring_in(model_of_w, &BTreeMap::new()),
        Err(ReadError::ExternalPlace { .. })
    ));
    // Too few bytes for the shape are found when the model is read.
    let short = bring_in(model(&[("location", "w"), ("length", "12")]), &beside("w", 0, 0)).expect("in the file");
    assert!(matches!(Model::from_shared(short), Err(ReadError::DataLength { .. })));
}

#[test]
fn many_tensors_of_one_range_do_not_grow_without_bound() {
    let big = BTreeMap::from([("w".to_owned(), Bytes::from(vec![0; 1 << 20]))]);
    let one = TensorProto {
        external_data: vec![StringStringEntryProto {
            key: "location".to_owned(),
            value: "w".to_owned(),
        }],
        data_location: DataLocation::External as i32,
        ..tensor("w", &[1 << 18], &[])
    };
    let tensors = (0..1100).map(|i| TensorProto {
        name: format!("w{i}"),
        ..one.clone()
    });
    let model: Bytes = proto(vec![node("Identity", &["x"], &["y"])], tensors.collect())
        .encode_to_vec()
        .into();
    assert!(matches!(bring_in(model, &big), Err(ReadError::TooLarge { .. })));
}
