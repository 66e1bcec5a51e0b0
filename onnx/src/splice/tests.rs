use proptest::prelude::*;

use super::*;
use crate::testing::testdata;
use crate::wire::WireType;
use crate::{Model, ParamLayout, TrainableRules};

/// Fields that no ONNX message has, in all five wire types, each with a payload to be found again.
fn unknown_field(seed: u64) -> Vec<u8> {
    let number = 900 + seed % 1000;
    let mark = (seed | 1 << 63).to_le_bytes();
    let mut out = Vec::new();
    match seed % 5 {
        0 => {
            put_varint(number << 3, &mut out);
            put_varint(seed, &mut out);
        }
        1 => {
            put_varint(number << 3 | 1, &mut out);
            out.extend(mark);
        }
        2 => {
            put_varint(number << 3 | 2, &mut out);
            // A length that is longer than it need be: legal, and to be kept.
            out.extend([0x88, 0x80, 0x00]);
            out.extend(mark);
        }
        3 => {
            put_varint(number << 3 | 3, &mut out);
            put_varint(7 << 3 | 1, &mut out);
            out.extend(mark);
            put_varint(number << 3 | 4, &mut out);
        }
        _ => {
            put_varint(number << 3 | 5, &mut out);
            out.extend(&mark[4..]);
        }
    }
    out
}

/// Numbers of the fields that hold messages on the way to every tensor and node of a graph.
fn children(depth: usize) -> &'static [u64] {
    match depth {
        0 => &[GRAPH, 8],
        1 => &[INITIALIZER, 1, 11],
        _ => &[],
    }
}

/// Puts unknown fields between the fields of the message and of its children, and says which.
fn inject(bytes: &[u8], range: Range<usize>, depth: usize, seeds: &mut impl Iterator<Item = u64>, injected: &mut Vec<Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    for field in Fields::new(bytes, range) {
        let field = field.expect("well formed");
        if let Some(seed) = seeds.next().filter(|seed| seed % 3 == 0) {
            injected.push(unknown_field(seed));
            out.extend_from_slice(&unknown_field(seed));
        }
        if field.wire_type == WireType::Bytes && children(depth).contains(&field.number) {
            let child = inject(bytes, field.value.clone(), depth + 1, seeds, injected);
            put(&bytes[field.tag], &child, &mut out);
        } else {
            out.extend_from_slice(&bytes[field.whole()]);
        }
    }
    out
}

fn injected_file(name: &str, seed: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
    let original = testdata(name);
    let mut state = seed;
    let mut seeds = std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 20
    });
    let mut injected = Vec::new();
    let bytes = inject(&original, 0..original.len(), 0, &mut seeds, &mut injected);
    (bytes, injected)
}

fn read(bytes: &[u8]) -> (Model, ParamLayout) {
    let model = Model::from_bytes(bytes).expect("unknown fields don't matter");
    let layout = model.layout(&TrainableRules::default()).expect("weights");
    (model, layout)
}

/// The file with the value fields of its initializers taken out, and the lengths around them: what must not change.
fn skeleton(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    for field in Fields::new(bytes, 0..bytes.len()).map(|field| field.expect("well formed")) {
        if !field.is_bytes(GRAPH) {
            parts.push(bytes[field.whole()].to_vec());
            continue;
        }
        for field in Fields::new(bytes, field.value).map(|field| field.expect("well formed")) {
            if !field.is_bytes(INITIALIZER) {
                parts.push(bytes[field.whole()].to_vec());
                continue;
            }
            let fields = Fields::new(bytes, field.value).map(|field| field.expect("well formed"));
            parts.extend(
                fields
                    .filter(|field| !holds_values(field))
                    .map(|field| bytes[field.whole()].to_vec()),
            );
        }
    }
    parts
}

proptest! {
    #[test]
    fn equal_weights_of_a_raw_file_give_identical_bytes(seed: u64) {
        let (bytes, injected) = injected_file("mlp.onnx", seed);
        let (model, layout) = read(&bytes);
        let weights = model.weights(&layout).expect("its own layout");
        prop_assert!(!injected.is_empty());
        prop_assert!(model.with_weights(&layout, &weights).expect("its own layout").as_bytes() == bytes);
    }

    #[test]
    fn unknown_fields_survive_other_weights_wherever_they_are(seed: u64, raw: bool) {
        let (bytes, injected) = injected_file(if raw { "mlp.onnx" } else { "mixed.onnx" }, seed);
        let (model, layout) = read(&bytes);
        let weights: Vec<f32> = (0..layout.n_weights()).map(|i| i as f32 - 3.5).collect();
        let changed = model.with_weights(&layout, &weights).expect("its own layout");
        let out = changed.as_bytes();
        prop_assert_eq!(skeleton(out), skeleton(&bytes));
        for field in &injected {
            prop_assert!(out.windows(field.len()).any(|window| window == field), "{:?} is lost", field);
        }
        let again = Model::from_bytes(out).expect("still sound");
        prop_assert_eq!(again.weights(&layout), Ok(weights));
        prop_assert!(again.proto() == changed.proto());
        // From now on every weight is raw data, and writing it again changes nothing.
        let weights = changed.weights(&layout).expect("its own layout");
        prop_assert!(changed.with_weights(&layout, &weights).expect("its own layout").as_bytes() == out);
    }
}

#[test]
fn a_graph_in_two_pieces_is_one_graph() {
    let bytes = testdata("mixed.onnx");
    let mut split = Vec::new();
    for field in Fields::new(&bytes, 0..bytes.len()).map(|field| field.expect("well formed")) {
        if !field.is_bytes(GRAPH) {
            split.extend_from_slice(&bytes[field.whole()]);
            continue;
        }
        // Every initializer in a graph of its own.
        let mut rest = Vec::new();
        for inner in Fields::new(&bytes, field.value).map(|inner| inner.expect("well formed")) {
            match inner.is_bytes(INITIALIZER) {
                true => put(&bytes[field.tag.clone()], &bytes[inner.whole()], &mut split),
                false => rest.extend_from_slice(&bytes[inner.whole()]),
            }
        }
        put(&bytes[field.tag], &rest, &mut split);
    }
    let (model, layout) = read(&split);
    let weights: Vec<f32> = (0..layout.n_weights()).map(|i| i as f32).collect();
    let changed = model.with_weights(&layout, &weights).expect("its own layout");
    assert_eq!(read(changed.as_bytes()).0.weights(&layout), Ok(weights));
    assert_eq!(skeleton(changed.as_bytes()), skeleton(&split));
}

#[test]
fn values_become_raw_data_in_their_place() {
    // TensorProto: dims [1], data_type float, the values, name "w".
    let with = |values: &[u8]| [&[0x08, 1, 0x10, 1], values, &[0x42, 1, b'w']].concat();
    let typed = with(&[0x22, 4, 0, 0, 0x80, 0x3f]);
    let typed_one_by_one = with(&[0x25, 0, 0, 0x80, 0x3f]);
    let raw = with(&[0x4a, 4, 0, 0, 0x80, 0x3f]);
    let mut graph = Vec::new();
    for tensor in [&typed, &typed_one_by_one, &raw] {
        put(&[0x2a], tensor, &mut graph);
    }
    let mut file = vec![0x08, 8];
    put(&[0x3a], &graph, &mut file);

    let values: &[f32] = &[2.0];
    let spliced = splice(&file, &[Some(values); 3]).expect("well formed");
    let mut expected = Vec::new();
    for _ in 0..3 {
        put(&[0x2a], &with(&[0x4a, 4, 0, 0, 0, 0x40]), &mut expected);
    }
    assert_eq!(spliced.bytes[4..], expected);
    assert_eq!(spliced.raw_data, [Some(12..16), Some(27..31), Some(42..46)]);
    // Nothing to replace, nothing changed.
    assert_eq!(splice(&file, &[None; 3]).expect("well formed").bytes, file);
}
