use proptest::prelude::*;

use super::*;
use crate::build::mlp;
use crate::testing::{model, node, proto, tensor, testdata, value};

const GOOD: [&str; 2] = ["mlp.onnx", "mixed.onnx"];

fn layout(model: &Model) -> ParamLayout {
    model.layout(&TrainableRules::default()).expect("weights")
}

#[test]
fn the_mlp_has_the_bytes_that_it_always_had() {
    assert!(
        mlp(&[4, 3, 2], 1).as_bytes() == testdata("mlp.onnx"),
        "the same seed no longer gives the same model"
    );
}

#[test]
fn a_file_of_the_onnx_package_is_read() {
    let model = Model::from_bytes(&testdata("mixed.onnx")).expect("sound");
    assert_eq!(model.opset(), 17);
    assert_eq!(model.proto().producer_name, "onnx-helper");
    // `gain` is an initializer too, so it need not be fed.
    let dims = Some(vec![Dim::Symbol("batch".into()), Dim::Fixed(1), Dim::Fixed(4), Dim::Fixed(4)]);
    assert_eq!(
        model.inputs(),
        [ValueInfo {
            name: "x".into(),
            element: ElementType::F32,
            dims
        }]
    );
    assert_eq!(model.outputs()[0].name, "y");
    assert_eq!(model.initializer("shape").and_then(|t| t.to_i64()), Some(vec![0, -1]));
    assert_eq!(model.initializer("gain").and_then(|t| t.to_f32()), Some(vec![0.5]));
    assert_eq!(model.initializer("conv.weight").map(|t| t.shape), Some(vec![2, 1, 3, 3]));
    assert!(model.initializer("conv").is_none());
    assert_eq!(model.initializers().count(), 10);
}

#[test]
fn bad_files_are_refused_for_what_is_wrong_with_them() {
    let text = |name: &str| name.to_owned();
    for (file, expected) in [
        (
            "bad_cycle.onnx",
            ReadError::Cycle {
                node: text("Add \"first\""),
                input: text("b"),
            },
        ),
        (
            "bad_order.onnx",
            ReadError::OutOfOrder {
                node: text("Relu \"late\""),
                input: text("a"),
            },
        ),
        (
            "bad_dangling.onnx",
            ReadError::Dangling {
                node: text("MatMul \"mm\""),
                input: text("v"),
            },
        ),
        (
            "bad_twice.onnx",
            ReadError::DuplicateName {
                name: text("y"),
                by: text("Relu \"two\""),
            },
        ),
        (
            "bad_negative_dim.onnx",
            ReadError::NegativeDim {
                name: text("w"),
                axis: 1,
                length: -2,
            },
        ),
        (
            "bad_short_data.onnx",
            ReadError::DataLength {
                tensor: text("w"),
                expected: 16,
                found: 15,
                unit: "bytes",
            },
        ),
        ("bad_overflow.onnx", ReadError::TooManyElements { tensor: text("w") }),
        ("bad_external.onnx", ReadError::ExternalData { tensor: text("w") }),
        (
            "bad_ir.onnx",
            ReadError::IrVersion {
                found: 99,
                oldest: OLDEST_IR,
                newest: NEWEST_IR,
            },
        ),
        (
            "bad_opset.onnx",
            ReadError::Opset {
                found: 6,
                oldest: OLDEST_OPSET,
                newest: NEWEST_OPSET,
            },
        ),
    ] {
        assert_eq!(Model::from_bytes(&testdata(file)).map(|_| ()), Err(expected), "{file}");
    }
    let truncated = Model::from_bytes(&testdata("bad_truncated.onnx"));
    assert!(matches!(
        truncated,
        Err(ReadError::Malformed {
            what: "a field that reaches beyond its message",
            ..
        })
    ));
    assert!(matches!(
        Model::from_bytes(&testdata("bad_deep.onnx")),
        Err(ReadError::TooDeep { limit: 64, .. })
    ));
    assert!(matches!(
        Model::from_bytes(b"PK\x03\x04 no model"),
        Err(ReadError::Malformed { .. } | ReadError::Decode { .. })
    ));
    assert_eq!(
        Model::from_bytes(&[]).map(|_| ()),
        Err(ReadError::Malformed {
            offset: 0,
            what: "the file is empty"
        })
    );
}

#[test]
fn versions_and_graph_are_needed() {
    let sound = || proto(vec![node("Relu", &["x"], &["y"])], vec![]);
    let refused = |proto| Model::from_proto(proto).map(|_| ()).expect_err("refused");
    assert_eq!(
        refused(proto::ModelProto {
            opset_import: vec![],
            ..sound()
        }),
        ReadError::NoOpset
    );
    assert_eq!(refused(proto::ModelProto { graph: None, ..sound() }), ReadError::NoGraph);
    assert!(matches!(
        refused(proto::ModelProto { ir_version: 2, ..sound() }),
        ReadError::IrVersion { found: 2, .. }
    ));
}

#[test]
fn inputs_are_tensors_and_agree_with_their_defaults() {
    let with_input = |input| {
        let mut proto = proto(vec![node("MatMul", &["x", "w"], &["y"])], vec![tensor("w", &[2, 2], &[0.0; 4])]);
        proto.graph.as_mut().expect("there").input.push(input);
        Model::from_proto(proto).map(|model| model.inputs().len())
    };
    assert_eq!(with_input(value("w", &[Some(2), None])), Ok(1));
    for dims in [&[Some(2), Some(3)][..], &[Some(4)]] {
        assert_eq!(with_input(value("w", dims)), Err(ReadError::DefaultMismatch { input: "w".into() }));
    }
    assert_eq!(
        with_input(value("z", &[Some(-1)])),
        Err(ReadError::NegativeDim {
            name: "z".into(),
            axis: 0,
            length: -1
        })
    );
    let untyped = proto::ValueInfoProto {
        name: "z".into(),
        ..Default::default()
    };
    assert_eq!(with_input(untyped), Err(ReadError::InputType { input: "z".into() }));
}

#[test]
fn long_names_are_shortened_in_errors_and_weights_are_not_in_debug() {
    let name = "n".repeat(100_000);
    let error = Model::from_proto(proto(vec![node("Relu", &[&name], &["y"])], vec![]))
        .map(|_| ())
        .expect_err("dangling");
    assert!(error.to_string().len() < 300);
    let model = model(vec![node("MatMul", &["x", "w"], &["y"])], vec![tensor("w", &[2, 2], &[1234.5; 4])]);
    let debug = format!("{model:?} {:?}", model.proto());
    assert!(!debug.contains("1234.5") && !debug.contains("\\0\\0"), "{debug}");
}

#[test]
fn weights_are_replaced_by_layout() {
    for name in GOOD {
        let model = Model::from_bytes(&testdata(name)).expect("sound");
        let layout = layout(&model);
        let weights: Vec<f32> = (0..layout.n_weights()).map(|i| i as f32).collect();
        let changed = model.with_weights(&layout, &weights).expect("fits");
        assert_eq!(changed.weights(&layout), Ok(weights.clone()));
        // What the file's bytes say and what the protobuf view says are the same.
        let again = Model::from_bytes(changed.as_bytes()).expect("still sound");
        assert_eq!(again.weights(&layout), Ok(weights));
        assert!(again.proto() == changed.proto());
        assert_eq!(again.layout(&TrainableRules::default()), Ok(layout.clone()));
        // The model that it came from is as it was, and so is everything that is no weight.
        assert!(model.as_bytes() == testdata(name));
        for kind in [ParamKind::Buffer, ParamKind::Frozen] {
            assert_eq!(changed.values(&layout, kind), model.values(&layout, kind));
        }
        assert_eq!(
            changed.initializer("shape").and_then(|t| t.to_i64()),
            model.initializer("shape").and_then(|t| t.to_i64())
        );
    }
}

#[test]
fn buffers_are_replaced_apart_from_weights() {
    let model = Model::from_bytes(&testdata("mixed.onnx")).expect("sound");
    let layout = layout(&model);
    let changed = model.with_values(&layout, ParamKind::Buffer, &[1.0, 2.0, 3.0, 4.0]).expect("fits");
    assert_eq!(changed.initializer("bn.mean").and_then(|t| t.to_f32()), Some(vec![1.0, 2.0]));
    assert_eq!(changed.values(&layout, ParamKind::Buffer), Ok(vec![1.0, 2.0, 3.0, 4.0]));
    assert_eq!(changed.weights(&layout), model.weights(&layout));
}

#[test]
fn weights_of_another_length_or_model_are_refused() {
    let model = mlp(&[4, 3, 2], 1);
    let own = layout(&model);
    let length = |found| Err(LayoutError::Length { expected: 23, found });
    for found in [0, 22, 24] {
        assert_eq!(model.with_weights(&own, &vec![0.0; found]).map(|_| ()), length(found));
    }
    let other = layout(&mlp(&[4, 4, 2], 1));
    let refused = LayoutError::OtherModel {
        param: "fc1.weight".into(),
    };
    assert_eq!(model.weights(&other), Err(refused.clone()));
    assert_eq!(model.with_weights(&other, &[0.0; 30]).map(|_| ()), Err(refused));
}

/// Whatever was read, using it must not panic.
fn use_all_of_it(model: &Model) {
    for tensor in model.initializers() {
        let _ = (tensor.to_f32(), tensor.to_i64(), tensor.to_bool());
    }
    if let Ok(layout) = model.layout(&TrainableRules::default()) {
        let weights = model.weights(&layout).expect("its own layout");
        let same = model.with_weights(&layout, &weights).expect("its own layout");
        let bits = |weights: Vec<f32>| weights.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(same.weights(&layout).map(bits), Ok(bits(weights)));
        assert!(Model::from_bytes(same.as_bytes()).is_ok());
    }
}

#[test]
fn every_truncation_is_refused_or_sound() {
    for name in GOOD {
        let bytes = testdata(name);
        for end in 0..bytes.len() {
            if let Ok(model) = Model::from_bytes(&bytes[..end]) {
                use_all_of_it(&model);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn mutations_never_panic(
        file in 0..GOOD.len(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        paste in any::<prop::sample::Index>(),
        len in 0usize..40,
    ) {
        let mut bytes = testdata(GOOD[file]);
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let cut = cut.index(bytes.len());
        let piece = bytes[cut..(cut + len).min(bytes.len())].to_vec();
        let paste = paste.index(bytes.len());
        bytes.splice(paste..paste, piece);
        if let Ok(model) = Model::from_bytes(&bytes) {
            use_all_of_it(&model);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(model) = Model::from_bytes(&bytes) {
            use_all_of_it(&model);
        }
    }
}
