//! The layers that architectures are made of, named and shaped as PyTorch's.

use super::builder::Builder;
use super::error::BuildError;
use super::init::{Scheme, Then, Weight};
use crate::proto::AttributeProto;

/// A nonlinearity between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Activation {
    /// max(x, 0).
    #[default]
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// x times the normal distribution's cumulative function, by Erf. Hendrycks and Gimpel 2016, Gaussian Error Linear Units.
    Gelu,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Relu, Self::Tanh, Self::Gelu];

    /// Its name in settings, for instance `relu`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Tanh => "tanh",
            Self::Gelu => "gelu",
        }
    }

    /// What a layer before it should know.
    pub(super) fn then(self) -> Then {
        match self {
            Self::Relu | Self::Gelu => Then::Rectifier,
            Self::Tanh => Then::Other,
        }
    }
}

/// A convolution over one or two axes, the same along each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conv<'a> {
    pub(super) name: &'a str,
    /// In, out.
    pub(super) channels: (usize, usize),
    pub(super) kernel: &'a [usize],
    pub(super) stride: usize,
    pub(super) pad: usize,
    pub(super) groups: usize,
    pub(super) bias: bool,
    pub(super) scheme: Scheme,
    pub(super) then: Then,
}

impl<'a> Conv<'a> {
    /// With bias, stride 1 and pads that keep the size; before a ReLU.
    pub(super) fn same(name: &'a str, channels: (usize, usize), kernel: &'a [usize]) -> Self {
        Self {
            name,
            channels,
            kernel,
            stride: 1,
            pad: kernel[0] / 2,
            groups: 1,
            bias: true,
            scheme: Scheme::HeUniform,
            then: Then::Rectifier,
        }
    }

    fn shape(&self) -> Vec<usize> {
        let (channels_in, channels_out) = self.channels;
        let mut shape = vec![channels_out, channels_in / self.groups];
        shape.extend(self.kernel);
        shape
    }

    fn attributes(&self) -> Vec<AttributeProto> {
        let mut attributes = window(self.kernel);
        attributes.push(int_list("pads", &vec![self.pad; 2 * self.kernel.len()]));
        attributes.push(int_list("strides", &vec![self.stride; self.kernel.len()]));
        if self.groups != 1 {
            attributes.push(AttributeProto::int("group", self.groups as i64));
        }
        attributes
    }
}

impl Builder {
    /// Gemm: `[batch, n_in]` to `[batch, n_out]`; the weight is `[n_out, n_in]`, PyTorch's order.
    pub(super) fn linear(&mut self, name: &str, input: &str, (n_in, n_out): (usize, usize), then: Then) -> Result<String, BuildError> {
        let (weight, bias) = names(name);
        self.weight(&Weight {
            name: &weight,
            shape: &[n_out, n_in],
            stacked: 1,
            rows: n_out,
            fan_in: n_in,
            fan_out: n_out,
            then,
            default: then.scheme(),
        })?;
        self.filled(&bias, &[n_out], 0.0)?;
        Ok(self.node("Gemm", name, &[input, &weight, &bias], vec![AttributeProto::int("transB", 1)]))
    }

    /// MatMul and Add over the last axis, for inputs of any rank; the weight is `[n_in, n_out]`, as exporters store it.
    pub(super) fn dense(&mut self, name: &str, input: &str, size: (usize, usize), then: Then) -> Result<String, BuildError> {
        let product = self.product(name, input, size, then)?;
        let bias = format!("{name}.bias");
        self.filled(&bias, &[size.1], 0.0)?;
        Ok(self.node("Add", name, &[&product, &bias], vec![]))
    }

    /// A dense layer's MatMul alone.
    pub(super) fn product(&mut self, name: &str, input: &str, (n_in, n_out): (usize, usize), then: Then) -> Result<String, BuildError> {
        let weight = format!("{name}.weight");
        self.weight(&Weight {
            name: &weight,
            shape: &[n_in, n_out],
            stacked: 1,
            rows: n_in,
            fan_in: n_in,
            fan_out: n_out,
            then,
            default: then.scheme(),
        })?;
        Ok(self.node("MatMul", &format!("{name}.matmul"), &[input, &weight], vec![]))
    }

    /// `[batch, channels in, ...]` to `[batch, channels out, ...]`; the weight is `[out, in / groups, kernel...]`.
    pub(super) fn conv(&mut self, conv: &Conv<'_>, input: &str) -> Result<String, BuildError> {
        let (weight, bias) = names(conv.name);
        let shape = conv.shape();
        let taps: usize = conv.kernel.iter().product();
        self.weight(&Weight {
            name: &weight,
            shape: &shape,
            stacked: 1,
            rows: shape[0],
            fan_in: shape[1] * taps,
            fan_out: shape[0] / conv.groups * taps,
            then: conv.then,
            default: conv.scheme,
        })?;
        let mut inputs = vec![input, &weight];
        if conv.bias {
            self.filled(&bias, &shape[..1], 0.0)?;
            inputs.push(&bias);
        }
        Ok(self.node("Conv", conv.name, &inputs, conv.attributes()))
    }

    /// Twice the height and width, by a transposed 3x3 convolution; the weight is `[in, out, 3, 3]`.
    pub(super) fn upsample(&mut self, name: &str, input: &str, channels: (usize, usize), then: Then) -> Result<String, BuildError> {
        let (weight, bias) = names(name);
        let (channels_in, channels_out) = channels;
        self.weight(&Weight {
            name: &weight,
            shape: &[channels_in, channels_out, 3, 3],
            stacked: 1,
            rows: channels_in,
            // Of the 9 taps, 9 / 4 reach an output on average.
            fan_in: (channels_in * 9).div_ceil(4),
            fan_out: channels_out * 9,
            then,
            default: then.scheme(),
        })?;
        self.filled(&bias, &[channels_out], 0.0)?;
        let mut attributes = window(&[3, 3]);
        attributes.push(AttributeProto::int_list("pads", &[1, 1, 1, 1]));
        attributes.push(AttributeProto::int_list("strides", &[2, 2]));
        attributes.push(AttributeProto::int_list("output_padding", &[1, 1]));
        Ok(self.node("ConvTranspose", name, &[input, &weight, &bias], attributes))
    }

    /// Over axis 1, with PyTorch's constants: epsilon 1e-5, and 0.9 of the old running statistics kept.
    pub(super) fn batch_norm(&mut self, name: &str, input: &str, channels: usize) -> Result<String, BuildError> {
        self.batch_norm_scaled(name, input, channels, 1.0)
    }

    /// A batch norm whose scale is `scale` at first.
    pub(super) fn batch_norm_scaled(&mut self, name: &str, input: &str, channels: usize, scale: f32) -> Result<String, BuildError> {
        let parts = ["weight", "bias", "running_mean", "running_var"].map(|part| format!("{name}.{part}"));
        for (part, value) in parts.iter().zip([scale, 0.0, 0.0, 1.0]) {
            self.filled(part, &[channels], value)?;
        }
        let [weight, bias, mean, variance] = &parts;
        let attributes = vec![AttributeProto::float("epsilon", 1e-5), AttributeProto::float("momentum", 0.9)];
        Ok(self.node("BatchNormalization", name, &[input, weight, bias, mean, variance], attributes))
    }

    /// Over the last axis, of length `width`.
    pub(super) fn layer_norm(&mut self, name: &str, input: &str, width: usize) -> Result<String, BuildError> {
        let (weight, bias) = names(name);
        self.filled(&weight, &[width], 1.0)?;
        self.filled(&bias, &[width], 0.0)?;
        let attributes = vec![AttributeProto::int("axis", -1), AttributeProto::float("epsilon", 1e-5)];
        Ok(self.node("LayerNormalization", name, &[input, &weight, &bias], attributes))
    }

    /// Rows of the table `NAME.weight` `[rows, width]`, normal with `deviation`, by integer `indices`.
    pub(super) fn embedding(
        &mut self,
        name: &str,
        indices: &str,
        (rows, width): (usize, usize),
        deviation: f64,
    ) -> Result<String, BuildError> {
        let table = format!("{name}.weight");
        self.table(&table, &[rows, width], deviation)?;
        Ok(self.node("Gather", name, &[&table, indices], vec![]))
    }

    pub(super) fn activation(&mut self, activation: Activation, name: &str, input: &str) -> String {
        match activation {
            Activation::Relu => self.node("Relu", name, &[input], vec![]),
            Activation::Tanh => self.node("Tanh", name, &[input], vec![]),
            Activation::Gelu => self.gelu(name, input),
        }
    }

    /// As PyTorch exports it before opset 20: x (1 + erf(x / sqrt 2)) / 2.
    fn gelu(&mut self, name: &str, input: &str) -> String {
        let [root, one, half] =
            [("gelu.sqrt2", std::f32::consts::SQRT_2), ("gelu.one", 1.0), ("gelu.half", 0.5)].map(|(name, value)| self.scalar(name, value));
        let scaled = self.node("Div", &format!("{name}.div"), &[input, &root], vec![]);
        let erf = self.node("Erf", &format!("{name}.erf"), &[&scaled], vec![]);
        let gate = self.node("Add", &format!("{name}.add"), &[&erf, &one], vec![]);
        let gated = self.node("Mul", &format!("{name}.mul"), &[input, &gate], vec![]);
        self.node("Mul", name, &[&gated, &half], vec![])
    }

    /// Nothing when `ratio` is 0. The file says no `training_mode`, so that every runtime infers without dropping anything; the trainer
    /// drops `ratio` of the values, as it takes batch statistics in batch norms.
    pub(super) fn dropout(&mut self, name: &str, input: &str, ratio: f64) -> String {
        if ratio == 0.0 {
            return input.to_owned();
        }
        let ratio = self.scalar(&format!("{name}.ratio"), ratio as f32);
        self.node("Dropout", name, &[input, &ratio], vec![])
    }

    /// Halves each of `n_axes` axes.
    pub(super) fn pool(&mut self, op: &str, name: &str, input: &str, n_axes: usize) -> String {
        let two = vec![2; n_axes];
        self.node(op, name, &[input], vec![int_list("kernel_shape", &two), int_list("strides", &two)])
    }

    /// `[batch, ...]` to `[batch, the product of the rest]`.
    pub(super) fn flatten(&mut self, name: &str, input: &str) -> String {
        self.node("Flatten", name, &[input], vec![AttributeProto::int("axis", 1)])
    }

    /// `[batch, channels, ...]` to `[batch, channels]`: the mean of the rest.
    pub(super) fn global_average(&mut self, input: &str) -> String {
        let pooled = self.node("GlobalAveragePool", "pool", &[input], vec![]);
        self.flatten("flatten", &pooled)
    }

    /// 0, 1, ... up to the length of `value`'s axis 1.
    pub(super) fn positions(&mut self, name: &str, value: &str) -> String {
        let shape = self.node("Shape", &format!("{name}.shape"), &[value], vec![]);
        let [zero, one] = [("zero", 0), ("one", 1)].map(|(name, value)| self.integer(name, value));
        let axis = vec![AttributeProto::int("axis", 0)];
        let length = self.node("Gather", &format!("{name}.length"), &[&shape, &one], axis);
        self.node("Range", &format!("{name}.positions"), &[&zero, &length, &one], vec![])
    }

    /// A list as a column and as a row: compared with each other, they give a square.
    pub(super) fn grid(&mut self, name: &str, list: &str) -> (String, String) {
        let [row_axis, column_axis] = [("axis1", 1), ("axis0", 0)].map(|(name, axis)| self.integers(name, &[axis]));
        let column = self.node("Unsqueeze", &format!("{name}.rows"), &[list, &row_axis], vec![]);
        let row = self.node("Unsqueeze", &format!("{name}.columns"), &[list, &column_axis], vec![]);
        (column, row)
    }

    pub(super) fn transpose(&mut self, name: &str, input: &str, order: &[i64]) -> String {
        self.node("Transpose", name, &[input], vec![AttributeProto::int_list("perm", order)])
    }

    /// 0 in `shape` keeps that axis, -1 takes what is left.
    pub(super) fn reshape(&mut self, name: &str, input: &str, shape: &[i64]) -> String {
        let shape = self.integers(&format!("{name}.shape"), shape);
        self.node("Reshape", name, &[input, &shape], vec![])
    }
}

/// The names of a layer's weight and bias.
fn names(layer: &str) -> (String, String) {
    (format!("{layer}.weight"), format!("{layer}.bias"))
}

fn window(kernel: &[usize]) -> Vec<AttributeProto> {
    vec![int_list("kernel_shape", kernel)]
}

fn int_list(name: &str, values: &[usize]) -> AttributeProto {
    let values: Vec<i64> = values.iter().map(|&value| value as i64).collect();
    AttributeProto::int_list(name, &values)
}
