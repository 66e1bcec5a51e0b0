use std::collections::BTreeMap;

use aimass_onnx::Model;
use serde_json::Value;

use super::*;
use crate::parts::{floats, node};
use crate::quantize::tests::model_of;

#[expect(clippy::disallowed_methods, reason = "the crate is pure, its tests read the committed vectors")]
fn file(name: &str) -> Vec<u8> {
    let path = format!("{}/../onnx/testdata/quant/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn vectors(kind: &str) -> BTreeMap<String, Value> {
    let all: Value = serde_json::from_slice(&file("vectors.json")).expect("JSON");
    let cases = all[kind].as_object().expect("cases by name");
    cases.iter().map(|(name, case)| (name.clone(), case.clone())).collect()
}

/// What a file is refused with; by the reader, or here.
fn refusal(bytes: &[u8]) -> Option<String> {
    match Model::from_bytes(bytes) {
        Err(e) => Some(e.to_string()),
        Ok(model) => ready(&model).err().map(|e| e.to_string()),
    }
}

#[test]
fn should_refuse_every_bad_vector_for_what_is_wrong_with_it() {
    let cases = vectors("bad");
    assert!(cases.len() >= 50, "{} cases", cases.len());
    for (name, case) in cases {
        let part = case["refusal"].as_str().expect("a text");
        match refusal(&file(&format!("bad/{name}.onnx"))) {
            Some(said) => assert!(said.contains(part), "{name}: {said:?} lacks {part:?}"),
            None => panic!("{name} is not refused"),
        }
    }
}

#[test]
fn should_leave_no_operator_of_quantized_graphs() {
    let cases = vectors("good");
    assert!(cases.len() >= 80, "{} cases", cases.len());
    for name in cases.keys() {
        let model = Model::from_bytes(&file(&format!("good/{name}.onnx"))).expect("it reads");
        let served = ready(&model).unwrap_or_else(|e| panic!("{name}: {e}"));
        let left: Vec<String> = served
            .graph()
            .node
            .iter()
            .filter(|node| is_quantized(node))
            .map(NodeProto::label)
            .collect();
        assert!(left.is_empty(), "{name}: {left:?}");
        let names = |values: &[aimass_onnx::ValueInfo]| values.iter().map(|value| value.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(served.inputs()), names(model.inputs()), "{name}");
        assert_eq!(names(served.outputs()), names(model.outputs()), "{name}");
    }
}

/// No byte of a file makes it panic, and what is accepted is still served as plain operators.
#[test]
fn should_stand_every_changed_byte() {
    for name in [
        "conv_u8_per_channel",
        "nbits_32_zero_points",
        "dq_i4_blocks",
        "matmul_integer_columns",
        "qlinear_conv",
        "dynamic_values",
    ] {
        let bytes = file(&format!("good/{name}.onnx"));
        let step = (bytes.len() / 400).max(1);
        for at in (0..bytes.len()).step_by(step) {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                if let Ok(served) = Model::from_bytes(&changed)
                    .map_err(ServeError::from)
                    .and_then(|model| ready(&model))
                {
                    assert!(!served.graph().node.iter().any(is_quantized), "{name} at {at}");
                }
            }
        }
    }
}

#[test]
fn should_return_a_float_model_as_it_is() {
    let model = model_of(
        17,
        &[None, Some(2)],
        vec![node("MatMul", &["x", "w"], "y")],
        vec![floats("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0])],
    );
    assert_eq!(ready(&model).expect("nothing to do").as_bytes(), model.as_bytes());
}

#[test]
fn should_fold_dequantized_weights_into_floats() {
    let model = Model::from_bytes(&file("good/embedding_table.onnx")).expect("it reads");
    let served = ready(&model).expect("it is sound");
    assert_eq!(served.graph().node.len(), 1);
    let table = served.initializers().next().and_then(|tensor| tensor.to_f32()).expect("floats");
    let ints = crate::parts::Ints::of(&model.initializer("t").expect("the table")).expect("integers");
    // (q - 4) * 0.02
    for (float, int) in table.iter().zip(ints.values) {
        assert_eq!(*float, (int - 4) as f32 * 0.02);
    }
}
