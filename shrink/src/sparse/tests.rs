use aimass_onnx::build::{InitialWeights, McMahanCnn, mlp};
use aimass_onnx::{ElementType, TrainableRules};
use proptest::prelude::*;

use super::*;
use crate::prune::{Masks, PruneRules, Sparsity};

const FORMATS: [Format; 2] = [Format::Standard, Format::Compact];

fn pruned(model: &Model, share: f64) -> Model {
    let sparsity = Sparsity::new(share).expect("a share");
    let masks = Masks::by_magnitude(model, &PruneRules::default(), sparsity).expect("prunes");
    masks.apply(model).expect("its own masks")
}

fn small() -> Model {
    pruned(&mlp(&[40, 30, 20, 2], 3), 0.9)
}

/// A model with one more initializer, of any type.
fn with_tensor(element: DataType, dims: &[i64], raw: Vec<u8>) -> Model {
    let mut proto = small().proto().clone();
    proto.graph.as_mut().expect("there").initializer.push(TensorProto {
        name: "more".into(),
        dims: dims.to_vec(),
        data_type: element as i32,
        raw_data: raw.into(),
        ..TensorProto::default()
    });
    Model::from_proto(proto).expect("sound")
}

#[test]
fn should_be_five_times_smaller_on_disk_at_90_percent() {
    let model = McMahanCnn.build(InitialWeights::default()).expect("builds");
    let model = pruned(&model, 0.9);
    for (format, least) in [(Format::Standard, 7.4), (Format::Compact, 8.2)] {
        let packed = pack(&model, format).expect("packs");
        let ratio = packed.bytes_before as f64 / packed.bytes_after as f64;
        assert!(ratio >= least, "{format:?}: {ratio}");
        assert_eq!(packed.bytes_after, packed.model.as_bytes().len());
        let expanded = unpacked(packed.model.as_bytes()).expect("its own");
        assert!(expanded.proto() == model.proto());
    }
}

#[test]
fn should_give_back_the_same_model() {
    let model = small();
    for format in FORMATS {
        let packed = pack(&model, format).expect("packs");
        assert_eq!(packed.tensors, ["fc1.weight", "fc2.weight"], "{format:?}");
        assert!(is_packed(&packed.model) && packed.bytes_after < packed.bytes_before);
        assert_eq!(expanded_bytes(&packed.model), Ok(4 * (40 * 30 + 30 * 20)));
        let expanded = expand(&packed.model).expect("its own");
        assert!(expanded.proto() == model.proto(), "{format:?}");
        let layout = |model: &Model| model.layout(&TrainableRules::default()).map(|layout| layout.canonical_bytes());
        assert_eq!(layout(&expanded), layout(&model));
    }
}

#[test]
fn should_leave_what_is_not_packed() {
    let model = mlp(&[40, 30, 10], 3);
    let packed = pack(&model, Format::Compact).expect("nothing to do");
    assert!(packed.tensors.is_empty() && packed.model.as_bytes() == model.as_bytes());
    assert!(expand(&model).expect("nothing to do").as_bytes() == model.as_bytes());
    assert!(unpacked(model.as_bytes()).is_ok());
    assert!(matches!(unpacked(b"no model"), Err(SparseError::Read(_))));
}

#[test]
fn should_refuse_to_pack_twice() {
    for format in FORMATS {
        let packed = pack(&small(), format).expect("packs").model;
        assert!(matches!(pack(&packed, format), Err(SparseError::Packed)));
    }
}

#[test]
fn should_say_what_is_too_old_for_the_standard_format() {
    let mut proto = small().proto().clone();
    proto.opset_import[0].version = 10;
    let old = Model::from_proto(proto).expect("sound");
    assert!(matches!(
        pack(&old, Format::Standard),
        Err(SparseError::Opset { found: 10, oldest: 11 })
    ));
    assert_eq!(pack(&old, Format::Compact).expect("packs").tensors.len(), 2);
    let mut proto = small().proto().clone();
    proto.ir_version = 3;
    let old = Model::from_proto(proto).expect("sound");
    assert!(matches!(
        pack(&old, Format::Standard),
        Err(SparseError::IrVersion { found: 3, oldest: 4 })
    ));
}

#[test]
fn should_keep_negative_zeros_and_nans_to_the_bit() {
    let mut values = vec![0.0f32; 4096];
    values[7] = -0.0;
    values[100] = f32::from_bits(0x7fc0_1234);
    values[4095] = f32::MIN_POSITIVE / 2.0;
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let model = with_tensor(DataType::Float, &[64, 64], raw);
    for format in FORMATS {
        let packed = pack(&model, format).expect("packs");
        assert!(packed.tensors.contains(&"more".to_owned()));
        assert!(unpacked(packed.model.as_bytes()).expect("its own").proto() == model.proto());
    }
}

#[test]
fn should_pack_quantized_weights_around_their_zero_point() {
    for (element, zero, width) in [
        (DataType::Uint8, 128u8, 1),
        (DataType::Int8, 0, 1),
        (DataType::Float16, 0, 2),
        (DataType::Int64, 0, 8),
    ] {
        let mut raw = vec![zero; 8000];
        raw.iter_mut().step_by(80).for_each(|byte| *byte = 77);
        let model = with_tensor(element, &[8000 / width, 1], raw);
        for format in FORMATS {
            let packed = pack(&model, format).expect("packs");
            assert!(packed.tensors.contains(&"more".to_owned()), "{element:?} {format:?}");
            assert!(unpacked(packed.model.as_bytes()).expect("its own").proto() == model.proto());
        }
    }
}

#[test]
fn should_stay_within_the_ratio_where_nearly_everything_is_zero() {
    // No value at all, and one: gaps alone would expand a thousandfold.
    for at in [None, Some(99_999)] {
        let mut raw = vec![0u8; 400_000];
        at.into_iter().for_each(|at: usize| raw[4 * at] = 1);
        let model = with_tensor(DataType::Float, &[100_000], raw);
        for format in FORMATS {
            let packed = pack(&model, format).expect("packs");
            assert!(packed.bytes_before > 4 * packed.bytes_after && packed.bytes_after > 400_000 / MAX_RATIO);
            assert!(unpacked(packed.model.as_bytes()).expect("its own").proto() == model.proto());
        }
    }
}

#[test]
fn should_leave_defaults_of_inputs_alone() {
    let mut proto = small().proto().clone();
    let graph = proto.graph.as_mut().expect("there");
    graph.input.push(aimass_onnx::proto::ValueInfoProto {
        name: "fc1.weight".into(),
        ..Default::default()
    });
    let model = Model::from_proto(proto).expect("sound");
    for format in FORMATS {
        assert_eq!(pack(&model, format).expect("packs").tensors, ["fc2.weight"]);
    }
}

/// A compact file whose tensor `fc1.weight` has another code or entry.
fn hostile(entry: Option<&str>, code: impl FnOnce(&mut Vec<u8>)) -> Result<Model, SparseError> {
    let mut proto = pack(&small(), Format::Compact).expect("packs").model.proto().clone();
    if let Some(entry) = entry {
        proto.metadata_props[0].value = entry.to_owned();
    }
    let tensor = &mut proto.graph.as_mut().expect("there").initializer[0];
    let mut raw = tensor.raw_data.to_vec();
    code(&mut raw);
    tensor.dims = vec![raw.len() as i64];
    tensor.raw_data = raw.into();
    unpacked(Model::from_proto(proto).expect("still a model").as_bytes())
}

#[test]
fn should_refuse_codes_that_do_not_fit() {
    assert!(hostile(None, |_| ()).is_ok());
    let refused = |wrong: &str, code: fn(&mut Vec<u8>)| {
        let error = hostile(None, code).map(|_| ()).expect_err(wrong).to_string();
        assert!(error.contains("\"fc1.weight\"") && error.contains(wrong), "{error}");
    };
    refused("another version", |code| code[0] = 2);
    refused("not known", |code| code[1] = 9);
    refused("positions", |code| code[2] = 200);
    refused("positions", |code| code.push(0));
    refused("positions", |code| _ = code.pop());
    refused("cut off", |code| code.truncate(14));
    refused("cut off", |code| code.truncate(2));
    refused("more values than elements", |code| code[7..15].fill(0xff));
    refused("cut off", |code| code[7..15].copy_from_slice(&1200u64.to_le_bytes()));
    // Fewer values: the rest of the code is left over.
    refused("positions", |code| code[7] -= 1);
    // A mask whose length is another one.
    refused("mask", |code| code[1..3].fill(0));
}

#[test]
fn should_refuse_entries_that_do_not_fit() {
    for entry in [
        "",
        "compact",
        "zip type=1 dims=30x40",
        "compact type=8 dims=30x40",
        "compact type=22 dims=30x40",
        "compact type=1 dims=-30x40",
        "compact type=1 dims=30x40x",
        "compact type=1 dims=30x40 more",
        "compact type=1 dims=4294967295x4294967295x4294967295",
    ] {
        let refused = hostile(Some(entry), |_| ()).map(|_| ());
        assert!(matches!(refused, Err(SparseError::Damaged { .. })), "{entry:?}: {refused:?}");
    }
    // Its shape is another one: less, a little more, far more, and more than any model has.
    for (entry, bomb) in [
        ("compact type=1 dims=3", false),
        ("compact type=1 dims=300x4000", true),
        ("compact type=1 dims=100000000", true),
        ("standard type=1 dims=30x40", false),
    ] {
        let refused = hostile(Some(entry), |_| ()).map(|_| ()).expect_err("refused").to_string();
        assert_eq!(refused.contains("out of proportion"), bomb, "{refused}");
    }
    let limit = SparseError::TooLarge {
        limit_bytes: MAX_MODEL_BYTES,
    };
    assert_eq!(hostile(Some("compact type=1 dims=4000000000"), |_| ()).map(|_| ()), Err(limit));
    assert!(matches!(
        hostile(Some("compact type=1 dims="), |_| ()),
        Err(SparseError::Damaged { .. })
    ));
}

#[test]
fn should_refuse_a_standard_file_that_was_changed() {
    let packed = pack(&small(), Format::Standard).expect("packs").model;
    let changed = |change: &dyn Fn(&mut GraphProto)| {
        let mut proto = packed.proto().clone();
        change(proto.graph.as_mut().expect("there"));
        let model = Model::from_proto(proto).expect("still a model");
        expand(&model).map(|_| ())
    };
    assert_eq!(changed(&|_| ()), Ok(()));
    let damaged = |found: Result<(), SparseError>| matches!(found, Err(SparseError::Damaged { .. }));
    let tensor = |graph: &mut GraphProto, name: &str, change: fn(&mut TensorProto)| {
        change(graph.initializer.iter_mut().find(|t| t.name == name).expect("there"));
    };
    let mask = "aimass.sparse/fc1.weight/mask";
    // A bit more than there are values.
    assert!(damaged(changed(
        &|graph| tensor(graph, mask, |t| t.raw_data = vec![0xff; 150].into())
    )));
    assert!(damaged(changed(
        &|graph| tensor(graph, mask, |t| (t.dims, t.raw_data) = (vec![1], vec![0].into()))
    )));
    // Nodes that compute something else than what the reader expands.
    assert!(damaged(changed(&|graph| graph.node[3].op_type = "Add".into())));
    assert!(damaged(changed(
        &|graph| tensor(graph, "aimass.sparse/two", |t| t.raw_data = vec![3, 0, 0, 0].into())
    )));
    // An entry without values.
    let mut proto = packed.proto().clone();
    proto.metadata_props.push(StringStringEntryProto {
        key: format!("{KEY}fc9"),
        value: "compact type=1 dims=3".into(),
    });
    assert!(damaged(expand(&Model::from_proto(proto.clone()).expect("sound")).map(|_| ())));
    let entry = proto.metadata_props[0].clone();
    proto.metadata_props[2] = entry;
    assert!(damaged(expand(&Model::from_proto(proto).expect("sound")).map(|_| ())));
}

#[test]
fn should_code_places_in_the_documented_bytes() {
    // Gaps 2, 0, 9 with k = 1: 1 0 0 | 0 0 | 1111 0 1, from the lowest bit on.
    assert_eq!(positions::rice(&[2, 3, 13], 1), [0b1110_0001, 0b0000_0101]);
    assert_eq!(positions::mask(&[2, 3, 13], 14), [0b0000_1100, 0b0010_0000]);
    let mut raw = vec![0u8; 1024];
    raw[8..12].copy_from_slice(&1.5f32.to_le_bytes());
    raw[52..56].copy_from_slice(&(-2.0f32).to_le_bytes());
    let tensor = TensorProto {
        dims: vec![256],
        data_type: DataType::Float as i32,
        raw_data: raw.into(),
        ..TensorProto::default()
    };
    let coded = Dense::of(&tensor).and_then(|dense| dense.coded()).expect("small");
    let mut expected = vec![1, 1, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
    expected.extend(1.5f32.to_le_bytes());
    expected.extend((-2.0f32).to_le_bytes());
    // Gaps 2 and 10 with k = 2: 0 01 | 110 01, the low bits from the lowest on.
    expected.push(0b1001_1100);
    assert_eq!(coded, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn should_expand_to_what_was_packed(
        values in proptest::collection::vec(prop_oneof![9 => Just(0.0f32), 1 => any::<f32>()], 900),
        rows in prop::sample::select(vec![1usize, 4, 9, 30, 100, 225]),
    ) {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let model = with_tensor(DataType::Float, &[rows as i64, (900 / rows) as i64], raw);
        for format in FORMATS {
            let packed = pack(&model, format).expect("packs");
            let expanded = unpacked(packed.model.as_bytes()).expect("its own");
            prop_assert!(expanded.proto() == model.proto());
            let bits = |model: &Model| model.initializer("more").and_then(|t| t.to_f32()).map(|v| v.into_iter().map(f32::to_bits).collect::<Vec<_>>());
            prop_assert_eq!(bits(&expanded), bits(&model));
        }
    }

    #[test]
    fn should_give_places_back(places in proptest::collection::btree_set(0u32..5000, 0..300), k in 0u8..14) {
        let places: Vec<u32> = places.into_iter().collect();
        let mut found = Vec::new();
        let code = positions::rice(&places, k);
        prop_assert_eq!(positions::from_rice(&code, k, places.len(), 5000, |place| found.push(place as u32)), Some(()));
        prop_assert_eq!(&found, &places);
        let bits = places.iter().zip([0].into_iter().chain(places.iter().map(|p| p + 1))).map(|(p, from)| u64::from((p - from) >> k) + 1 + u64::from(k));
        prop_assert_eq!(code.len() as u64, bits.sum::<u64>().div_ceil(8));
        let (best, least) = positions::best(&places);
        prop_assert_eq!(positions::rice(&places, best).len() as u64, least.div_ceil(8));
        prop_assert!(positions::rice(&places, best).len() <= code.len());
        let mask = positions::mask(&places, 5000);
        prop_assert!(positions::from_mask(&mask, 5000).expect("sound").eq(places.iter().map(|&p| p as usize)));
    }

    #[test]
    fn should_never_panic_on_changed_files(
        format in prop::sample::select(FORMATS.to_vec()),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = pack(&small(), format).expect("packs").model.as_bytes().to_vec();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(model) = unpacked(&bytes) {
            prop_assert!(!is_packed(&model));
            prop_assert!(model.initializers().all(|t| t.element != ElementType::F32 || t.to_f32().is_some()));
        }
    }

    #[test]
    fn should_never_panic_on_any_code(code in proptest::collection::vec(any::<u8>(), 0..200), n in 0usize..3000, width in prop::sample::select(vec![1usize, 2, 4, 8])) {
        let mut code = code;
        if let [version, kind, k, ..] = &mut code[..] {
            (*version, *kind, *k) = (1, *kind % 3, *k % 40);
        }
        if let Ok(bytes) = code::decoded(&code, n, width) {
            prop_assert_eq!(bytes.len(), n * width);
        }
    }
}
