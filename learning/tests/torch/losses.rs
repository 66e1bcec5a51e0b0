//! Heads and optimizers of a curve in this crate's terms.
//!
//! This crate's losses read one output. One over the pairs of two outputs is a few nodes more in the graph, which are added here: the
//! logits of InfoNCE are a product of the outputs; the contrastive loss of Hadsell et al. is half the squared error of each pair's
//! distance, or of what is missing of the margin, against 0.

use std::collections::BTreeMap;

use aimass_learning::{Array, CrossEntropy, Head, Huber, Loss, OptimizerConfig, Rule, Schedule, Values};
use aimass_onnx::proto::{
    AttributeProto, DataType, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, tensor_shape_proto,
    type_proto,
};

use crate::files::{Curve, HeadFile};

/// A loss without options.
pub(crate) fn plain(name: &str) -> Result<Loss, String> {
    match name {
        "cross_entropy" | "token_cross_entropy" => Ok(Loss::CrossEntropy(CrossEntropy::default())),
        "bce_logits" => Ok(Loss::BinaryCrossEntropy(aimass_learning::BinaryCrossEntropy::default())),
        "mse" => Ok(Loss::Mse),
        "mae" => Ok(Loss::Mae),
        "huber" => Ok(Loss::Huber(Huber::default())),
        other => Err(format!("no loss is `{other}`")),
    }
}

/// The head, and what it needs in the graph.
pub(crate) fn head(file: &HeadFile, model: &mut ModelProto) -> Result<Head, String> {
    let weight = file.weight.unwrap_or(1.0);
    let of_output = |output: &str, loss: Loss, weight: f32| Head {
        output: Some(output.to_owned()),
        loss,
        weight,
    };
    let other = || file.other.as_deref().ok_or("a loss over pairs names two outputs");
    match file.loss.as_str() {
        "info_nce" => {
            let temperature = file.temperature.ok_or("a temperature")?;
            let graph = model.graph.get_or_insert_default();
            graph.node.extend([
                node("Transpose", &[other()?], "pairs_t", vec![AttributeProto::int_list("perm", &[1, 0])]),
                node("MatMul", &[&file.output, "pairs_t"], "pairs_product", vec![]),
                number("pairs_temperature", temperature),
                node("Div", &["pairs_product", "pairs_temperature"], "pairs_logits", vec![]),
            ]);
            graph.output.push(value("pairs_logits", &["", ""]));
            Ok(of_output("pairs_logits", plain("cross_entropy")?, weight))
        }
        "contrastive" => {
            let margin = file.margin.ok_or("a margin")?;
            let graph = model.graph.get_or_insert_default();
            graph.node.extend([
                node("Sub", &[&file.output, other()?], "pairs_difference", vec![]),
                node("Mul", &["pairs_difference", "pairs_difference"], "pairs_square", vec![]),
                node("Constant", &[], "pairs_axis", vec![AttributeProto::int_list("value_ints", &[1])]),
                node(
                    "ReduceSum",
                    &["pairs_square", "pairs_axis"],
                    "pairs_sum",
                    vec![AttributeProto::int("keepdims", 0)],
                ),
                number("pairs_least", 1e-12),
                node("Add", &["pairs_sum", "pairs_least"], "pairs_above", vec![]),
                node("Sqrt", &["pairs_above"], "pairs_distance", vec![]),
                number("pairs_margin", margin),
                node("Sub", &["pairs_margin", "pairs_distance"], "pairs_beyond", vec![]),
                node("Relu", &["pairs_beyond"], "pairs_short", vec![]),
                number("pairs_one", 1.0),
                node("Sub", &["pairs_one", SAME], "pairs_differ", vec![]),
                node("Mul", &[SAME, "pairs_distance"], "pairs_a", vec![]),
                node("Mul", &["pairs_differ", "pairs_short"], "pairs_b", vec![]),
                node("Add", &["pairs_a", "pairs_b"], "pairs_error", vec![]),
            ]);
            graph.input.push(value(SAME, &["batch"]));
            graph.output.push(value("pairs_error", &["batch"]));
            Ok(of_output("pairs_error", Loss::Mse, 0.5 * weight))
        }
        _ => Ok(of_output(&file.output, options(file)?, weight)),
    }
}

/// The input that says which pairs are of one class.
const SAME: &str = "pairs_same";

fn options(file: &HeadFile) -> Result<Loss, String> {
    let mut loss = plain(&file.loss)?;
    match &mut loss {
        Loss::CrossEntropy(options) => {
            options.label_smoothing = file.label_smoothing.unwrap_or_default();
            options.class_weights.clone_from(&file.class_weights);
            options.ignore_index = file.ignore_index;
        }
        Loss::Huber(options) => options.delta = file.delta.unwrap_or(1.0),
        _ => {}
    }
    Ok(loss)
}

/// The head's targets, and what its nodes are fed.
pub(crate) fn targets(
    head: &HeadFile,
    targets: &BTreeMap<String, Array>,
    rows: usize,
    inputs: &mut BTreeMap<String, Array>,
) -> Result<Array, String> {
    let named = || {
        let name = head.target.as_deref().ok_or("a head without targets")?;
        targets
            .get(name)
            .cloned()
            .ok_or_else(|| format!("no targets `{name}` were recorded"))
    };
    match head.loss.as_str() {
        "info_nce" => Array::ints(vec![rows], (0..rows as i64).collect()).ok_or_else(|| "as many as rows".to_owned()),
        "contrastive" => {
            let same: Vec<f32> = match named()?.values() {
                Values::Ints(values) => values.iter().map(|&v| v as f32).collect(),
                Values::Floats(values) => values.clone(),
                Values::Bools(values) => values.iter().map(|&v| f32::from(u8::from(v))).collect(),
            };
            inputs.insert(SAME.to_owned(), Array::float_list(same));
            Ok(Array::float_list(vec![0.0; rows]))
        }
        _ => named(),
    }
}

/// The optimizer, with PyTorch's defaults.
pub(crate) fn optimizer(curve: &Curve) -> Result<OptimizerConfig, String> {
    let file = &curve.optimizer;
    let momentum = file.momentum.unwrap_or_default();
    let rule = match file.kind.as_str() {
        "sgd" => Rule::Sgd {
            momentum,
            nesterov: file.nesterov,
        },
        "adam" | "adamw" => {
            let [beta1, beta2] = file.betas.unwrap_or([0.9, 0.999]);
            Rule::Adam {
                beta1,
                beta2,
                epsilon: file.eps.unwrap_or(1e-8),
                decoupled: file.kind == "adamw",
            }
        }
        "rmsprop" if file.centered => return Err("RMSprop about the mean (centered) is not there".to_owned()),
        "rmsprop" => Rule::RmsProp {
            alpha: file.alpha.unwrap_or(0.99),
            epsilon: file.eps.unwrap_or(1e-8),
            momentum,
        },
        other => return Err(format!("no optimizer is `{other}`")),
    };
    Ok(OptimizerConfig {
        rule,
        lr: file.lr,
        weight_decay: file.weight_decay.unwrap_or_default(),
        proximal: 0.0,
        clip_norm: curve.clip_norm,
        schedule: schedule(curve)?,
    })
}

/// What the rates of the steps follow: they are constant, or fall by a factor every few steps.
fn schedule(curve: &Curve) -> Result<Schedule, String> {
    let lr = curve.optimizer.lr;
    let Some(factors) = &curve.lr_factors else {
        let constant = curve.rates.iter().all(|&rate| rate == lr);
        return if constant {
            Ok(Schedule::Constant)
        } else {
            Err("the rates follow no known schedule".to_owned())
        };
    };
    let every = factors.iter().take_while(|&&factor| factor == factors[0]).count();
    let gamma = factors.get(every).copied().unwrap_or(1.0);
    let follows = factors
        .iter()
        .enumerate()
        .all(|(i, &factor)| factor == gamma.powi((i / every) as i32));
    if !follows {
        return Err(format!("the factors {factors:?} are no step schedule"));
    }
    Ok(Schedule::Step {
        every: every as u64,
        gamma,
    })
}

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        name: output.to_owned(),
        input: inputs.iter().map(|&input| input.to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute,
        ..NodeProto::default()
    }
}

/// A constant scalar.
fn number(name: &str, number: f32) -> NodeProto {
    let tensor = TensorProto {
        data_type: DataType::Float as i32,
        float_data: vec![number],
        ..TensorProto::default()
    };
    node("Constant", &[], name, vec![AttributeProto::tensor("value", tensor)])
}

/// A float value with these symbols for axes; an axis without one is open.
fn value(name: &str, symbols: &[&str]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |symbol: &&str| Dimension {
        value: (!symbol.is_empty()).then(|| Value::DimParam((*symbol).to_owned())),
        ..Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(TensorShapeProto {
            dim: symbols.iter().map(dim).collect(),
        }),
    };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
