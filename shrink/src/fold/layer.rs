//! A layer whose weights take in what follows it.

use aimass_onnx::proto::{DataType, NodeProto, TensorProto};

use super::Constants;
use super::affine::Affine;
use crate::wiring::Names;

/// A Conv, ConvTranspose or Gemm with constant weights.
pub(super) struct Layer {
    weight_name: String,
    bias_name: Option<String>,
    /// What the layer and all that it took in give.
    output: String,
    shape: Vec<usize>,
    weight: Vec<f32>,
    /// Scale of each channel's weights so far.
    scale: Vec<f64>,
    /// Shift of each channel so far, the bias in it. Shape `[channels]`.
    bias: Vec<f64>,
    /// The axis of the weight with the channels.
    axis: usize,
    groups: usize,
    /// Axes of the output.
    rank: usize,
}

impl Layer {
    /// `None` for other nodes, and layers whose weights are computed.
    pub(super) fn read(node: &NodeProto, constants: &Constants) -> Option<Self> {
        let op = node.standard_op()?;
        let (weight_name, bias_name) = (node.input_name(1)?, node.input_name(2));
        let is_conv = match op {
            "Conv" | "ConvTranspose" => true,
            "Gemm" => false,
            _ => return None,
        };
        // The first input is computed: with a constant one, it would be a weight.
        let shape = constants.shape(weight_name)?;
        let groups = match is_conv {
            true => usize::try_from(node.attr_i("group").ok()?.unwrap_or(1))
                .ok()
                .filter(|&groups| groups > 0)?,
            false => 1,
        };
        let (axis, rank) = match op {
            "Conv" => (0, shape.len()),
            "ConvTranspose" => (1, shape.len()),
            _ => (usize::from(node.attr_i("transB").ok()?.unwrap_or(0) == 0), 2),
        };
        let sound = if is_conv { shape.len() >= 3 } else { shape.len() == 2 };
        let channels = match op {
            "ConvTranspose" => shape.get(1)?.checked_mul(groups)?,
            _ => *shape.get(axis)?,
        };
        let fits = op != "ConvTranspose" || shape[0].is_multiple_of(groups);
        if !sound || !fits || channels == 0 {
            return None;
        }
        let mut layer = Self {
            weight_name: weight_name.to_owned(),
            bias_name: bias_name.map(str::to_owned),
            output: node.output.first()?.clone(),
            weight: constants.floats(weight_name)?.1,
            scale: vec![1.0; channels],
            bias: vec![0.0; channels],
            shape,
            axis,
            groups,
            rank,
        };
        if let Some(name) = bias_name {
            let (shape, values) = constants.floats(name)?;
            let values = if is_conv && shape.len() == 1 {
                values.iter().map(|&v| f64::from(v)).collect()
            } else {
                layer.by_channel(&shape, &values)?
            };
            let beta = if is_conv {
                1.0
            } else {
                f64::from(node.attr_f("beta").ok()?.unwrap_or(1.0))
            };
            layer.bias = values.into_iter().map(|value| beta * value).collect();
        }
        (layer.bias.len() == channels).then_some(layer)
    }

    pub(super) fn output(&self) -> &str {
        &self.output
    }

    pub(super) fn channels(&self) -> usize {
        self.scale.len()
    }

    /// A constant that is broadcast against the output as one value a channel; `None` where it is anything else, or makes the output
    /// larger.
    pub(super) fn by_channel(&self, shape: &[usize], values: &[f32]) -> Option<Vec<f64>> {
        let channels = self.channels();
        // Axis 1 of the output, counted from the end of the constant's shape.
        let at = (1 + shape.len()).checked_sub(self.rank);
        let one_elsewhere = shape.iter().enumerate().all(|(axis, &length)| length == 1 || Some(axis) == at);
        if shape.len() > self.rank || !one_elsewhere {
            return None;
        }
        match values {
            [value] => Some(vec![f64::from(*value); channels]),
            _ if values.len() == channels => Some(values.iter().map(|&value| f64::from(value)).collect()),
            _ => None,
        }
    }

    /// Takes in what follows; false, and nothing changes, where a weight would be no finite float32 any more.
    pub(super) fn take(&mut self, affine: &Affine, output: String) -> bool {
        let scale: Vec<f64> = self.scale.iter().zip(&affine.scale).map(|(a, b)| a * b).collect();
        let shifted = self.bias.iter().zip(affine.scale.iter().zip(&affine.shift));
        let bias: Vec<f64> = shifted.map(|(bias, (scale, shift))| bias * scale + shift).collect();
        let finite = |value: f64| (value as f32).is_finite();
        let weights = self.weight.iter().enumerate();
        let mut weights = weights.map(|(at, &weight)| f64::from(weight) * scale[self.channel(at)]);
        if !bias.iter().all(|&value| finite(value)) || !weights.all(finite) {
            return false;
        }
        (self.scale, self.bias, self.output) = (scale, bias, output);
        true
    }

    /// The channel of an element of the weight.
    fn channel(&self, at: usize) -> usize {
        let inner: usize = self.shape[self.axis + 1..].iter().product();
        let place = at / inner.max(1) % self.shape[self.axis];
        if self.groups == 1 || self.axis == 0 {
            return place;
        }
        // A ConvTranspose: [inputs, outputs of a group, ...].
        let input = at / (inner * self.shape[1]).max(1);
        input / (self.shape[0] / self.groups) * self.shape[1] + place
    }

    /// The node with its new weight and bias, under names of their own: others may use the old ones.
    pub(super) fn write(&self, node: &NodeProto, names: &mut Names) -> (NodeProto, [TensorProto; 2]) {
        let weight = self.weight.iter().enumerate();
        let weight: Vec<f32> = weight
            .map(|(at, &w)| (f64::from(w) * self.scale[self.channel(at)]) as f32)
            .collect();
        let bias: Vec<f32> = self.bias.iter().map(|&value| value as f32).collect();
        let weight_name = names.fresh(&format!("{}.folded", self.weight_name));
        let bias_name = match &self.bias_name {
            Some(name) => names.fresh(&format!("{name}.folded")),
            None => names.fresh(&format!("{}.bias.folded", self.weight_name)),
        };
        let mut node = node.clone();
        node.input.truncate(1);
        node.input.extend([weight_name.clone(), bias_name.clone()]);
        node.output = vec![self.output.clone()];
        // It is in the bias.
        node.attribute.retain(|attribute| attribute.name != "beta");
        let tensors = [
            tensor(weight_name, self.shape.clone(), &weight),
            tensor(bias_name, vec![bias.len()], &bias),
        ];
        (node, tensors)
    }
}

fn tensor(name: String, shape: Vec<usize>, values: &[f32]) -> TensorProto {
    TensorProto {
        name,
        dims: shape.iter().map(|&length| length as i64).collect(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}
