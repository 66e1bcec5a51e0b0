//! Nodes that scale and shift each channel by constants.

use aimass_onnx::proto::NodeProto;

use super::Constants;
use super::layer::Layer;

/// `y = scale x + shift` for each channel. Shapes `[channels]`.
pub(super) struct Affine {
    pub(super) scale: Vec<f64>,
    pub(super) shift: Vec<f64>,
}

/// What a node does to a layer's output, where that is to scale and shift each channel by finite constants.
pub(super) fn of(node: &NodeProto, layer: &Layer, constants: &Constants) -> Option<Affine> {
    let affine = match node.standard_op()? {
        "BatchNormalization" => norm(node, layer, constants)?,
        op @ ("Add" | "Sub" | "Mul" | "Div") => elementwise(node, op, layer, constants)?,
        _ => return None,
    };
    let finite = affine.scale.iter().chain(&affine.shift).all(|value| value.is_finite());
    finite.then_some(affine)
}

fn norm(node: &NodeProto, layer: &Layer, constants: &Constants) -> Option<Affine> {
    let training = node.attr_i("training_mode").ok()?.unwrap_or(0) != 0;
    let one_output = node.output.iter().skip(1).all(String::is_empty);
    if training || !one_output || node.input_name(0)? != layer.output() {
        return None;
    }
    let epsilon = f64::from(node.attr_f("epsilon").ok()?.unwrap_or(1e-5));
    let part = |index: usize| {
        let (_, values) = constants.floats(node.input_name(index)?)?;
        (values.len() == layer.channels()).then_some(values)
    };
    let (gamma, beta, mean, variance) = (part(1)?, part(2)?, part(3)?, part(4)?);
    let mut affine = Affine {
        scale: Vec::new(),
        shift: Vec::new(),
    };
    for (((gamma, beta), mean), variance) in gamma.into_iter().zip(beta).zip(mean).zip(variance) {
        let scale = f64::from(gamma) / (f64::from(variance) + epsilon).sqrt();
        affine.scale.push(scale);
        affine.shift.push(f64::from(beta) - f64::from(mean) * scale);
    }
    Some(affine)
}

fn elementwise(node: &NodeProto, op: &str, layer: &Layer, constants: &Constants) -> Option<Affine> {
    let (first, second) = (node.input_name(0)?, node.input_name(1)?);
    let layer_is_first = first == layer.output();
    let (shape, values) = constants.floats(if layer_is_first { second } else { first })?;
    let values = layer.by_channel(&shape, &values)?;
    let all = |value: f64| vec![value; layer.channels()];
    let (scale, shift) = match (op, layer_is_first) {
        ("Add", _) => (all(1.0), values),
        ("Sub", true) => (all(1.0), values.into_iter().map(|value| -value).collect()),
        ("Sub", false) => (all(-1.0), values),
        ("Mul", _) => (values, all(0.0)),
        ("Div", true) => (values.into_iter().map(|value| 1.0 / value).collect(), all(0.0)),
        _ => return None,
    };
    Some(Affine { scale, shift })
}
