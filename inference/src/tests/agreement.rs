//! tract and the trainer compute the same, before and after training: over everything that PyTorch exported for the tests of the
//! learning crate, and every architecture that `aimass model new` makes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aimass_learning::data::{Limits, read_npz};
use aimass_learning::{Array, Batch, BatchNorm, Engine, Head, Loss, OptimizerConfig, TrainConfig, Trainer, Values};
use aimass_onnx::build::{
    Autoencoder, Cell, Cnn, Conv1d, Gcn, InitialWeights, LeNet, LinearRegression, LogisticRegression, McMahanCnn, Mlp, MobileNetV2,
    Recommender, RecurrentClassifier, RecurrentLm, ResNet18, TransformerClassifier, TransformerLm,
};
use aimass_onnx::{Dim, ElementType, Model, ParamKind, TrainableRules};
use serde_json::Value;

use crate as infer;

/// Most that outputs may be apart, as max |a - b| / max |b|.
const SHALLOW: f64 = 1e-5;
const DEEP: f64 = 1e-4;
/// Of more than ten layers with weights, by the beginnings of their names.
const DEEP_ONES: [&str; 6] = ["causal_lm", "encoder", "mobilenet", "resnet18", "torch_encoder", "transformer"];
/// What tract does not run, and a part of what it says.
const REFUSED: &[(&str, &str)] = &[
    ("activations_dyn18", "Celu"),
    ("activations_dyn20", "Celu"),
    ("activations_ts13", "Celu"),
    ("activations_ts18", "Celu"),
    ("bigru_lengths_ts16", "Non constant seq_len is not supported"),
    ("bilstm_lengths_ts17", "Non constant seq_len is not supported"),
    ("lstm_lengths_ts13", "Non constant seq_len is not supported"),
    // Exported in training mode: the batch's statistics as outputs, dropout on.
    ("cnn_bn_training_ts17", "BatchNorm: Wrong number of outputs"),
    ("encoder_training_ts17", "Dropout in training mode"),
    ("mlp_training_dyn18", "Dropout in training mode"),
    ("mlp_training_ts14", "BatchNorm: Wrong number of outputs"),
];
const STEPS: usize = 3;

type Inputs = BTreeMap<String, Array>;

/// A model and batches to run it on; the last is the one that it trains on too.
struct Case {
    name: String,
    model: Model,
    batches: Vec<Inputs>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../learning/testdata/torch")
}

/// Every file that PyTorch exported, with the inputs that were recorded.
fn exported() -> Vec<Case> {
    let files = std::fs::read_dir(folder()).expect("the recorded files are there");
    let mut names: Vec<String> = files
        .filter_map(|file| Some(file.ok()?.file_name().to_str()?.strip_suffix(".onnx")?.to_owned()))
        .collect();
    names.sort_unstable();
    names.into_iter().map(recorded).collect()
}

fn recorded(name: String) -> Case {
    let path = |ending: &str| folder().join(format!("{name}.{ending}"));
    let bytes = std::fs::read(path("onnx")).expect("the model is there");
    let about: Value = serde_json::from_slice(&std::fs::read(path("json")).expect("the description is there")).expect("it is JSON");
    let arrays = read_npz(&path("npz"), &Limits::default()).expect("the arrays are there");
    let named = |names: &Value| -> Inputs {
        let names = names.as_object().expect("names by input");
        let array = |at: &Value| arrays[at.as_str().expect("a name of an array")].clone();
        names.iter().map(|(name, at)| (name.clone(), array(at))).collect()
    };
    let runs = about["inference"].as_array().expect("runs").iter().rev();
    Case {
        model: Model::from_bytes(&bytes).and_then(|model| model.prepared()).expect("it reads"),
        batches: runs.map(|run| named(&run["inputs"])).collect(),
        name,
    }
}

/// Every architecture by default.
fn built() -> Vec<Case> {
    let weights = InitialWeights::seeded(3);
    let models = [
        ("linear", LinearRegression::default().build(weights)),
        ("logistic", LogisticRegression::default().build(weights)),
        ("mlp", Mlp::default().build(weights)),
        ("cnn", Cnn::default().build(weights)),
        ("cnn-mcmahan", McMahanCnn.build(weights)),
        ("lenet", LeNet::default().build(weights)),
        ("resnet18", ResNet18::default().build(weights)),
        ("mobilenetv2", MobileNetV2::default().build(weights)),
        ("conv1d", Conv1d::default().build(weights)),
        ("autoencoder", Autoencoder::default().build(weights)),
        ("lstm-lm", RecurrentLm::new(Cell::Lstm).build(weights)),
        ("gru-lm", RecurrentLm::new(Cell::Gru).build(weights)),
        ("lstm", RecurrentClassifier::new(Cell::Lstm).build(weights)),
        ("gru", RecurrentClassifier::new(Cell::Gru).build(weights)),
        ("transformer", TransformerClassifier::default().build(weights)),
        ("transformer-lm", TransformerLm::default().build(weights)),
        ("recommender", Recommender::default().build(weights)),
        ("gcn", Gcn::default().build(weights)),
    ];
    models
        .into_iter()
        .map(|(name, model)| {
            let model = model.expect("defaults are sound");
            Case {
                name: name.to_owned(),
                batches: vec![made_up(&model, 1, 5), made_up(&model, 3, 8)],
                model,
            }
        })
        .collect()
}

/// A fixed, uneven pattern for every input.
fn made_up(model: &Model, batch: usize, other: usize) -> Inputs {
    let array = |dims: &[Dim], element: ElementType| {
        let length = |dim: &Dim| match dim {
            Dim::Fixed(n) => *n,
            Dim::Symbol(name) if name == "batch" => batch,
            Dim::Symbol(_) | Dim::Unknown => other,
        };
        let shape: Vec<usize> = dims.iter().map(length).collect();
        let n: usize = shape.iter().product();
        let values = match element {
            // Positive, as the weights of edges are.
            ElementType::F32 => Values::Floats((0..n).map(|i| 1.1 + (i as f32 * 0.37).sin()).collect()),
            _ => Values::Ints((0..n as i64).map(|i| i * 7 % 5).collect()),
        };
        Array::new(shape, values).expect("as many values as the shape asks for")
    };
    let inputs = model.inputs().iter();
    inputs
        .map(|input| {
            (
                input.name.clone(),
                array(input.dims.as_deref().expect("shapes are said"), input.element),
            )
        })
        .collect()
}

/// max |a - b| / max |b| over the floats; anything else must be equal.
fn apart(a: &Array, b: &Array) -> Result<f64, String> {
    if a.shape() != b.shape() {
        return Err(format!("tract gives the shape {:?}, the trainer {:?}", a.shape(), b.shape()));
    }
    let (Values::Floats(a), Values::Floats(b)) = (a.values(), b.values()) else {
        return if a.values() == b.values() {
            Ok(0.0)
        } else {
            Err("integers or booleans differ".to_owned())
        };
    };
    if a.iter().chain(b).any(|v| !v.is_finite()) {
        return Err("an output is not finite".to_owned());
    }
    let largest = b.iter().fold(0.0f64, |m, &v| m.max(f64::from(v).abs()));
    let furthest = a
        .iter()
        .zip(b)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs())
        .fold(0.0, f64::max);
    Ok(if furthest == 0.0 { 0.0 } else { furthest / largest })
}

/// Why a check failed: tract has no answer, or another one.
enum Failure {
    Refused(String),
    Differs(String),
}

fn compare(model: &Model, batches: &[Inputs]) -> Result<f64, Failure> {
    let differs = Failure::Differs;
    let mut engine = Engine::new(model).map_err(|e| differs(e.to_string()))?;
    let mut furthest = 0.0f64;
    for inputs in batches {
        let needed = engine.inputs();
        let own: Inputs = inputs
            .iter()
            .filter(|(name, _)| needed.contains(&name.as_str()))
            .map(|(n, a)| (n.clone(), a.clone()))
            .collect();
        let trainer = engine.run(own).map_err(|e| differs(e.to_string()))?;
        let tract = infer::run(model.as_bytes(), inputs.clone()).map_err(|e| Failure::Refused(e.to_string()))?;
        for ((name, tract), trainer) in tract.iter().zip(&trainer) {
            let found = apart(tract, trainer).map_err(|e| differs(format!("`{name}`: {e}")))?;
            furthest = furthest.max(found);
        }
    }
    Ok(furthest)
}

/// The model after a few steps towards a fixed pattern.
fn trained(model: &Model, inputs: &Inputs) -> Result<Model, String> {
    let said = |e: &dyn std::fmt::Display| e.to_string();
    let layout = model.layout(&TrainableRules::default()).map_err(|e| said(&e))?;
    let mut engine = Engine::new(model).map_err(|e| said(&e))?;
    let order: Vec<String> = engine.inputs().into_iter().map(str::to_owned).collect();
    let named: Inputs = order.iter().map(|name| (name.clone(), inputs[name].clone())).collect();
    let outputs = engine.run(named).map_err(|e| said(&e))?;
    let (mut heads, mut targets) = (Vec::new(), Vec::new());
    for (name, output) in engine.outputs().into_iter().zip(&outputs) {
        let Values::Floats(values) = output.values() else { continue };
        heads.push(Head {
            output: Some(name.to_owned()),
            loss: Loss::Mse,
            weight: 1.0,
        });
        let pattern = (0..values.len()).map(|i| (i as f32 * 0.61).cos()).collect();
        targets.push(Array::floats(output.shape().to_vec(), pattern).ok_or("as many values as the shape asks for")?);
    }
    let config = TrainConfig {
        heads,
        optimizer: OptimizerConfig::sgd(0.01),
        batch_norm: BatchNorm::Batch,
        epochs: 1,
        batch: 1,
        seed: [7; 32],
    };
    let mut trainer = Trainer::new(model, &layout, &config).map_err(|e| said(&e))?;
    for _ in 0..STEPS {
        let batch = Batch {
            inputs: order.iter().map(|name| inputs[name].clone()).collect(),
            targets: targets.clone(),
            weights: None,
            flat: false,
        };
        trainer.step(batch).map_err(|e| said(&e))?;
    }
    let (weights, buffers) = (trainer.weights().map_err(|e| said(&e))?, trainer.buffers().map_err(|e| said(&e))?);
    if weights == model.weights(&layout).map_err(|e| said(&e))? {
        return Err("training moved nothing".to_owned());
    }
    let trained = model.with_weights(&layout, &weights).map_err(|e| said(&e))?;
    let trained = trained.with_values(&layout, ParamKind::Buffer, &buffers).map_err(|e| said(&e))?;
    // As the next program reads it.
    Model::from_bytes(trained.as_bytes()).map_err(|e| said(&e))
}

fn check(case: &Case) -> Result<String, Failure> {
    let limit = if DEEP_ONES.iter().any(|name| case.name.starts_with(name)) {
        DEEP
    } else {
        SHALLOW
    };
    let before = compare(&case.model, &case.batches)?;
    let model = trained(&case.model, &case.batches[case.batches.len() - 1]).map_err(|e| Failure::Differs(format!("training: {e}")))?;
    let after = compare(&model, &case.batches)?;
    if before > limit || after > limit {
        return Err(Failure::Differs(format!(
            "{before:.1e} apart, {after:.1e} after training, where {limit:.0e} is allowed"
        )));
    }
    Ok(format!("{before:.1e}, after training {after:.1e}"))
}

fn judge(cases: &[Case]) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases {
        let listed = REFUSED.iter().find(|(name, _)| *name == case.name);
        match (check(case), listed) {
            (Ok(found), None) => println!("ok      {:32} {found}", case.name),
            (Err(Failure::Refused(why)), Some((_, part))) if why.contains(part) => println!("refused {:32} {why}", case.name),
            (Ok(_), Some(_)) => wrong.push(format!("{}: tract runs it now; take it off the list", case.name)),
            (Err(Failure::Refused(why)), _) => wrong.push(format!("{}: tract refuses: {why}", case.name)),
            (Err(Failure::Differs(why)), _) => wrong.push(format!("{}: {why}", case.name)),
        }
    }
    wrong
}

#[test]
fn models_that_pytorch_exported() {
    let cases = exported();
    let mut wrong = judge(&cases);
    let unknown = REFUSED.iter().filter(|(name, _)| !cases.iter().any(|case| case.name == *name));
    wrong.extend(unknown.map(|(name, _)| format!("{name} is no model; take it off the list")));
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn models_that_are_built_here() {
    let wrong = judge(&built());
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
