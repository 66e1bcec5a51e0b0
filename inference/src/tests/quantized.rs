//! Quantized graphs come out as onnxruntime has them, or are refused by name. The vectors are in `onnx/testdata/quant`; `make.py` there
//! makes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aimass_learning::{Array, Runner, Values};
use aimass_onnx::Model;
use aimass_shrink::serve;
use serde_json::Value;

use crate as infer;

/// Most that floats may be apart, as a share of the larger of 1 and the value: sums of float32 in another order.
const CLOSE: f64 = 1e-5;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../onnx/testdata/quant")
}

fn vectors(kind: &str) -> BTreeMap<String, Value> {
    let bytes = std::fs::read(folder().join("vectors.json")).expect("the vectors are there");
    let all: Value = serde_json::from_slice(&bytes).expect("JSON");
    let cases = all[kind].as_object().expect("cases by name");
    cases.iter().map(|(name, case)| (name.clone(), case.clone())).collect()
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn array(recorded: &Value) -> Array {
    let shape = recorded["shape"].as_array().expect("a shape").iter();
    let shape: Vec<usize> = shape.map(|length| length.as_u64().expect("a length") as usize).collect();
    let values = recorded["values"].as_array().expect("values").iter();
    let values = match recorded["type"].as_str().expect("a type") {
        "float32" => Values::Floats(values.map(|v| v.as_f64().expect("a float") as f32).collect()),
        _ => Values::Ints(values.map(|v| v.as_i64().expect("an integer")).collect()),
    };
    Array::new(shape, values).expect("as many values as the shape asks for")
}

/// How far the served model is from the record: floats as a share of the larger of 1 and the value; integers must be equal.
fn apart(case: &Value, model: &Model) -> Result<f64, String> {
    let inputs = case["inputs"].as_object().expect("inputs by name");
    let inputs = inputs.iter().map(|(name, recorded)| (name.clone(), array(recorded))).collect();
    let found = infer::run(model.as_bytes(), inputs).map_err(|e| e.to_string())?;
    distance(case, found)
}

fn distance(case: &Value, found: impl IntoIterator<Item = (String, Array)>) -> Result<f64, String> {
    let mut furthest = 0.0f64;
    for (name, found) in found {
        let recorded = array(&case["outputs"][&name]);
        if found.shape() != recorded.shape() {
            return Err(format!("`{name}` has the shape {:?}, not {:?}", found.shape(), recorded.shape()));
        }
        match (found.values(), recorded.values()) {
            (Values::Floats(found), Values::Floats(recorded)) => {
                for (&a, &b) in found.iter().zip(recorded) {
                    let distance = (f64::from(a) - f64::from(b)).abs() / f64::from(b).abs().max(1.0);
                    // What is not a number is nowhere near.
                    furthest = furthest.max(if distance.is_finite() { distance } else { f64::INFINITY });
                }
            }
            (found, recorded) if found == recorded => {}
            _ => return Err(format!("`{name}`: integers differ")),
        }
    }
    Ok(furthest)
}

#[test]
fn should_compute_what_onnxruntime_computes() {
    let cases = vectors("good");
    let (mut wrong, mut exact) = (Vec::new(), 0);
    for (name, case) in &cases {
        let model = Model::from_bytes(&file(&format!("good/{name}.onnx"))).expect("it reads");
        let served = serve::ready(&model).map_err(|e| e.to_string());
        match served.and_then(|served| apart(case, &served)) {
            Ok(0.0) => exact += 1,
            Ok(furthest) if furthest <= CLOSE => println!("{name}: {furthest:.1e}"),
            Ok(furthest) => wrong.push(format!("{name}: {furthest:.1e} apart")),
            Err(why) => wrong.push(format!("{name}: {why}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(exact >= 75, "{exact} of {} are exact", cases.len());
}

/// The plan for the CPU, where it takes the graph: as far apart as tract may be; what it does not take is tract's.
#[test]
fn should_compute_the_same_by_the_plan() {
    let (mut wrong, mut exact, mut ran) = (Vec::new(), 0, 0);
    for (name, case) in &vectors("good") {
        let model = Model::from_bytes(&file(&format!("good/{name}.onnx"))).expect("it reads");
        let Ok(runner) = Runner::new(&model) else { continue };
        let inputs: Vec<Array> = runner.inputs().iter().map(|name| array(&case["inputs"][*name])).collect();
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|input| input.shape().to_vec()).collect();
        let Ok(plan) = runner.prepare(&shapes) else { continue };
        let Ok(found) = plan.run(inputs, 1) else { continue };
        ran += 1;
        let names = model.outputs().iter().map(|output| output.name.clone());
        match distance(case, names.zip(found)) {
            Ok(0.0) => exact += 1,
            Ok(furthest) if furthest <= CLOSE => {}
            Ok(furthest) => wrong.push(format!("{name}: {furthest:.1e} apart")),
            Err(why) => wrong.push(format!("{name}: {why}")),
        }
    }
    println!("{exact} of {ran} are exact");
    assert!(wrong.is_empty(), "{} of {ran} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(ran >= 30 && exact * 10 >= ran * 9, "{exact} of {ran} are exact");
}

#[test]
fn should_refuse_what_is_wrong() {
    for (name, case) in vectors("bad") {
        let refused = match Model::from_bytes(&file(&format!("bad/{name}.onnx"))) {
            Err(e) => e.to_string(),
            Ok(model) => serve::ready(&model).map(|_| ()).expect_err(&name).to_string(),
        };
        let part = case["refusal"].as_str().expect("a text");
        assert!(refused.contains(part), "{name}: {refused:?} lacks {part:?}");
    }
}
