//! Ten steps of training against PyTorch's: the losses, the weights and running statistics afterwards, and the trained file.

use std::collections::BTreeMap;

use aimass_learning::{Array, Batch, BatchNorm, Engine, TrainConfig, Trainer, inspect};
use aimass_onnx::proto::ModelProto;
use aimass_onnx::{Model, ParamKind, ParamLayout, TrainableRules};

use crate::checks::{Check, float_distance, run};
use crate::files::{BatchNames, Curve, ModelFile};
use crate::losses;

/// Most that a loss may be apart from PyTorch's in f64, relative.
const LOSS: f64 = 2e-6;
/// Most that weights may be apart afterwards, relative to the largest, or to the norm.
const AFTER: f64 = 1e-5;
/// How far PyTorch in f32 is from itself in f64 says how sharply a curve can be followed: this often that is allowed on top.
const DRIFT: f64 = 4.0;

/// What a job for these files has to name in `[model] trainable`, by name.
///
/// `start` is a parameter that is expanded over the batch and joined to a sequence: no weight slot. The scale and shift of an
/// InstanceNormalization are constants where PyTorch's has none (`affine=False`), and the file does not tell them from weights.
const RULES: [(&str, &str); 8] = [
    ("shapes_dyn18", "start"),
    ("shapes_dyn21", "start"),
    ("shapes_ts13", "start"),
    ("shapes_unfolded_ts17", "start"),
    ("norms_dyn18", "!val_27"),
    ("norms_dyn18", "!val_31"),
    ("norms_dyn21", "!val_4"),
    ("norms_dyn21", "!val_8"),
];

pub(crate) fn check(file: &ModelFile) -> Vec<Check> {
    // As every model that comes in.
    let raw = file;
    let file = &raw.prepared();
    let key = |curve: &Curve| format!("curve/{}/{}", file.about.name, curve.name);
    let curves = file.about.curves.iter();
    let checked = |curve| {
        if !file.about.refused_ops.is_empty() {
            refused(raw)?;
        }
        follow(file, curve)
    };
    curves.map(|curve| run(key(curve), || checked(curve))).collect()
}

fn follow(file: &ModelFile, curve: &Curve) -> Result<String, String> {
    let mut globs: Vec<String> = RULES
        .iter()
        .filter(|(name, _)| *name == file.about.name)
        .map(|(_, glob)| (*glob).to_owned())
        .collect();
    globs.extend(curve.frozen.iter().map(|name| format!("!{name}")));
    let rules = TrainableRules::new(&globs).map_err(|e| e.to_string())?;
    let layout = file.model.layout(&rules).map_err(|e| e.to_string())?;
    trains_what_pytorch_trains(file, curve, &layout)?;
    let question = inspect::Question {
        batch: 4,
        dims: file.about.inference[0].sizes.clone(),
        moments: 0,
        gathered: false,
    };
    if let Some(obstacle) = inspect::inspect(&file.model, Ok(&layout), &question).obstacles.first() {
        return Err(format!("inspect says that it does not train: {obstacle:?}"));
    }

    let mut proto = without_dropout(&file.model);
    let heads = curve.heads.iter().map(|head| losses::head(head, &mut proto));
    let heads = heads.collect::<Result<Vec<_>, _>>()?;
    let model = Model::from_proto(proto).map_err(|e| e.to_string())?;
    let config = TrainConfig {
        heads,
        optimizer: losses::optimizer(curve)?,
        batch_norm: if curve.mode == "eval" {
            BatchNorm::Stored
        } else {
            BatchNorm::Batch
        },
        epochs: 1,
        batch: 1,
        seed: [0; 32],
    };
    let mut trainer = Trainer::new(&model, &layout, &config).map_err(|e| e.to_string())?;
    let order: Vec<String> = {
        let engine = Engine::new(&model).map_err(|e| e.to_string())?;
        engine.inputs().into_iter().map(str::to_owned).collect()
    };
    let mut losses = Vec::new();
    for step in 0..curve.rates.len() {
        let names = &file.about.batches[step % file.about.batches.len()];
        let report = trainer.step(batch(file, curve, names, &order)?).map_err(|e| e.to_string())?;
        losses.push(f64::from(report.loss));
    }
    let relative = |a: f64, b: f64| (a - b).abs() / b.abs();
    let pairs = |values: &[f64]| {
        values
            .iter()
            .zip(&curve.losses_f64)
            .map(|(&a, &b)| relative(a, b))
            .fold(0.0, f64::max)
    };
    let (apart, drift) = (pairs(&losses), pairs(&curve.losses));
    if apart.is_nan() || apart > LOSS + DRIFT * drift {
        let (ours, theirs) = (&losses, &curve.losses);
        return Err(format!("losses are {apart:.1e} apart: {ours:.5?}, PyTorch's {theirs:.5?}"));
    }
    let (weights, buffers) = (
        trainer.weights().map_err(|e| e.to_string())?,
        trainer.buffers().map_err(|e| e.to_string())?,
    );
    let after = parameters_apart(file, curve, &layout, &weights, &buffers)?;
    if after.1.is_nan() || after.1 > AFTER + DRIFT * drift {
        return Err(format!("`{}` ends {:.1e} apart", after.0, after.1));
    }
    file_holds(file, &layout, &weights, &buffers)?;
    Ok(format!("losses {apart:.1e} (PyTorch's own {drift:.1e}), weights {:.1e}", after.1))
}

/// Every parameter that PyTorch moves must be a weight. (More may be: what the loss does not depend on does not move.)
fn trains_what_pytorch_trains(file: &ModelFile, curve: &Curve, layout: &ParamLayout) -> Result<(), String> {
    let trains = |name: &String| layout.params().iter().any(|p| p.kind == ParamKind::Weight && p.name == *name);
    let missing: Vec<_> = file
        .about
        .parameters
        .iter()
        .filter(|name| !curve.frozen.contains(name) && !trains(name))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("{missing:?} are no weights here"))
    }
}

/// A file with ops that are refused, as it was exported: `inspect` must name each, and a trainer must not start.
fn refused(file: &ModelFile) -> Result<(), String> {
    let layout = file.model.layout(&TrainableRules::default()).map_err(|e| e.to_string())?;
    let question = inspect::Question {
        batch: 4,
        dims: BTreeMap::new(),
        moments: 0,
        gathered: false,
    };
    let found = inspect::inspect(&file.model, Ok(&layout), &question).obstacles;
    for op in &file.about.refused_ops {
        if !found.iter().any(|obstacle| obstacle.op.as_ref() == Some(op)) {
            return Err(format!("inspect does not name {op}: {found:?}"));
        }
    }
    let config = TrainConfig {
        heads: vec![losses::plain("cross_entropy")?.into()],
        optimizer: aimass_learning::OptimizerConfig::sgd(0.1),
        batch_norm: BatchNorm::Batch,
        epochs: 1,
        batch: 1,
        seed: [0; 32],
    };
    match Trainer::new(&file.model, &layout, &config) {
        Ok(_) => Err("it was not refused".to_owned()),
        Err(_) => Ok(()),
    }
}

/// PyTorch recorded the curves with dropout off.
fn without_dropout(model: &Model) -> ModelProto {
    let mut proto = model.proto().clone();
    for node in proto.graph.iter_mut().flat_map(|graph| &mut graph.node) {
        if node.op_type == "Dropout" {
            node.op_type = "Identity".to_owned();
            node.input.truncate(1);
            node.output.truncate(1);
            node.attribute.clear();
        }
    }
    proto
}

fn batch(file: &ModelFile, curve: &Curve, names: &BatchNames, order: &[String]) -> Result<Batch, String> {
    let mut inputs = file.arrays(&names.inputs)?;
    let targets = file.arrays(&names.targets)?;
    let rows = inputs.values().next().map_or(0, |array| array.shape()[0]);
    let weights = match (curve.sample_weight, targets.get("sample_weight")) {
        (true, Some(weights)) => Some(weights.as_floats().ok_or("sample weights are floats")?.to_vec()),
        _ => None,
    };
    let mut of_heads = Vec::new();
    for head in &curve.heads {
        of_heads.push(losses::targets(head, &targets, rows, &mut inputs)?);
    }
    let in_order = order
        .iter()
        .map(|name| inputs.remove(name).ok_or_else(|| format!("no input `{name}` was recorded")));
    Ok(Batch {
        inputs: in_order.collect::<Result<_, _>>()?,
        targets: of_heads,
        weights,
        flat: false,
    })
}

/// Sums, norms and the recorded arrays; what PyTorch did not change must be as it was. Gives the parameter that is furthest apart, and
/// how far.
fn parameters_apart(
    file: &ModelFile,
    curve: &Curve,
    layout: &ParamLayout,
    weights: &[f32],
    buffers: &[f32],
) -> Result<(String, f64), String> {
    let mut furthest = (String::new(), 0.0f64);
    let mut seen = 0;
    for param in layout.params() {
        let values = match param.kind {
            ParamKind::Weight => &weights[param.range()],
            ParamKind::Buffer => &buffers[param.range()],
            ParamKind::Frozen => continue,
        };
        let name = &param.name;
        let before = file.model.initializer(name).and_then(|tensor| tensor.to_f32());
        let before = before.ok_or_else(|| format!("`{name}` is not there"))?;
        // PyTorch's name of what the exporter had merged.
        let recorded = |name: &str| Some((curve.after.get(name)?, curve.after_arrays.get(name)));
        let Some((after, array)) = recorded(name).or_else(|| recorded(name.strip_suffix(".own")?)) else {
            let moved = float_distance(values, &before);
            if moved > 1e-6 {
                return Err(format!("`{name}` moved by {moved:.1e}, PyTorch's did not"));
            }
            continue;
        };
        seen += 1;
        let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
        let norm = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let scale = after.norm.max(f64::MIN_POSITIVE);
        // |sum a - sum b| <= sqrt(n) |a - b|.
        let by_sum = (sum - after.sum).abs() / ((values.len() as f64).sqrt() * scale);
        let by_norm = (norm - after.norm).abs() / scale;
        let by_array = match array {
            Some(at) => float_distance(values, file.array(at)?.as_floats().unwrap_or_default()),
            None => 0.0,
        };
        for apart in [by_sum, by_norm, by_array] {
            if apart.is_nan() || apart > furthest.1 {
                furthest = (name.clone(), apart);
            }
        }
    }
    if seen != curve.after.len() {
        return Err(format!(
            "PyTorch changed {} parameters, of which {seen} are weights or buffers here",
            curve.after.len()
        ));
    }
    Ok(furthest)
}

/// The trained values in the file: it reads, holds them, and every byte that is not theirs is as it was.
fn file_holds(file: &ModelFile, layout: &ParamLayout, weights: &[f32], buffers: &[f32]) -> Result<(), String> {
    let trained = file.model.with_weights(layout, weights).map_err(|e| e.to_string())?;
    let trained = trained.with_values(layout, ParamKind::Buffer, buffers).map_err(|e| e.to_string())?;
    let read = Model::from_bytes(trained.as_bytes()).map_err(|e| e.to_string())?;
    let back = read.weights(layout).and_then(|w| Ok((w, read.values(layout, ParamKind::Buffer)?)));
    let (w, b) = back.map_err(|e| e.to_string())?;
    let same = |a: &[f32], b: &[f32]| a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()));
    if !same(&w, weights) || !same(&b, buffers) {
        return Err("the trained file holds other values".to_owned());
    }
    let (before, after) = (masked(&file.model, layout), masked(&read, layout));
    if before != after {
        return Err("bytes besides the weights changed in the trained file".to_owned());
    }
    let mut engine = Engine::new(&read).map_err(|e| e.to_string())?;
    let inputs: BTreeMap<String, Array> = file.arrays(&file.about.inference[0].inputs)?;
    engine.run(inputs).map_err(|e| format!("the trained file does not run: {e}"))?;
    Ok(())
}

/// A file's bytes with those of its weights and buffers zeroed. Raw data lies in the file's own bytes.
fn masked(model: &Model, layout: &ParamLayout) -> Vec<u8> {
    let mut bytes = model.as_bytes().to_vec();
    let start = model.as_bytes().as_ptr() as usize;
    for param in layout.params().iter().filter(|param| param.kind != ParamKind::Frozen) {
        let raw = model
            .initializer(&param.name)
            .map(|tensor| tensor.proto.raw_data.clone())
            .unwrap_or_default();
        if let Some(range) = (raw.as_ptr() as usize)
            .checked_sub(start)
            .and_then(|at| bytes.get_mut(at..at + raw.len()))
        {
            range.fill(0);
        }
    }
    bytes
}
