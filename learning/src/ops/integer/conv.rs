//! ConvInteger and QLinearConv.

use burn_backend::Backend;

use super::super::conv::{self, Conv};
use super::super::select::source;
use super::super::{DeviceTensor, Kernel, Operands, dims};
use super::{
    EXACT, Requantize, SUMMED, added, both, bytes, centred, check_sums, list_of, named, part, planned, requantized, stretches, zero,
};
use crate::program::{Element, NodeView, Planned, Problem, Source, refuse};

/// A convolution in integers. Operands: x, weights, the zero points that are there, a bias, and those of [`Requantize`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IntegerConv {
    conv: Conv,
    x: Vec<usize>,
    weights: Vec<usize>,
    zeros: [Option<Vec<usize>>; 2],
    bias: bool,
    requantize: Option<Requantize>,
}

/// The convolution over the tensors at two inputs, with their zero points at two others; and the shape of the result.
fn convolution(
    node: &NodeView<'_>,
    [x, w]: [usize; 2],
    zeros: [usize; 2],
    bias: Option<(usize, &[i64])>,
) -> Result<(IntegerConv, Vec<Source>, Vec<usize>), Problem> {
    let (x, w) = (bytes(node, x)?, bytes(node, w)?);
    let (conv, shape) = conv::planned(node, x, w)?;
    let window: usize = w.shape[2..].iter().product();
    if window > EXACT {
        return Err(refuse(
            format!("its window of {:?} has {window} places", &w.shape[2..]),
            format!("sums are exact for at most {EXACT}; use a smaller window"),
        ));
    }
    let largest = bias.and_then(|(_, values)| values.iter().map(|v| v.saturating_abs()).max());
    check_sums(w.shape[1..].iter().product(), largest.unwrap_or(0))?;
    let found = [zero(node, zeros[0], x, &x.shape, 0)?, zero(node, zeros[1], w, &w.shape, 0)?];
    if found[0]
        .as_ref()
        .is_some_and(|(value, _)| value.shape().iter().product::<usize>() != 1)
    {
        return Err(refuse(
            format!("its zero point (input {}) is not one number", zeros[0]),
            "store one for the whole input",
        ));
    }
    let mut inputs = vec![x.into(), w.into()];
    let zeros = both(found, &mut inputs);
    if let Some((i, _)) = bias {
        inputs.push(source(node.required(i)?));
    }
    let kernel = IntegerConv {
        conv,
        x: x.shape.clone(),
        weights: w.shape.clone(),
        zeros,
        bias: bias.is_some(),
        requantize: None,
    };
    Ok((kernel, inputs, shape))
}

const CONV: &[&str] = &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];

pub(in super::super) fn conv_integer(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(CONV)?;
    let (kernel, inputs, shape) = convolution(node, [0, 1], [2, 3], None)?;
    planned(Kernel::IntegerConv(Box::new(kernel)), inputs, Element::Int, shape)
}

pub(in super::super) fn qlinear_conv(node: &NodeView<'_>) -> Result<Planned, Problem> {
    const BIAS: usize = 8;
    node.knows(CONV)?;
    [2, 5].into_iter().try_for_each(|i| node.required(i).map(|_| ()))?;
    let bias = match node.input(BIAS) {
        None => None,
        Some(_) => Some((BIAS, node.known(BIAS)?)),
    };
    let (mut kernel, mut inputs, shape) = convolution(node, [0, 3], [2, 5], bias.map(|(i, (_, values))| (i, values)))?;
    let features = kernel.weights[0];
    if let Some((_, (found, _))) = bias
        && found != [features]
    {
        return Err(refuse(
            format!("its bias has the shape {found:?}, {features} features need [{features}]"),
            "correct the shape",
        ));
    }
    let x = list_of(node, named(1, "input's "), 1)?;
    let w = list_of(node, named(4, "weights' "), features)?;
    let mut multipliers = vec![1; kernel.x.len()];
    multipliers[1] = w.len();
    let (requantize, to) = requantized(node, (&x, &w), named(6, "output's "), multipliers, &mut inputs)?;
    kernel.requantize = Some(requantize);
    planned(Kernel::IntegerConv(Box::new(kernel)), inputs, Element::Quantized(to), shape)
}

impl IntegerConv {
    pub(in super::super) fn run<B: Backend>(&self, operands: &mut Operands<B>) -> DeviceTensor<B> {
        let (x, w) = (operands.next(), operands.next());
        let x = centred::<B>(x, &self.x, self.zeros[0].as_ref(), operands);
        let w = centred::<B>(w, &self.weights, self.zeros[1].as_ref(), operands);
        let (groups, per_group) = (self.conv.groups, self.weights[1]);
        let window: usize = self.weights[2..].iter().product();
        // By channels of every group.
        let grouped: Vec<usize> = [self.x[0], groups, per_group]
            .into_iter()
            .chain(self.x[2..].iter().copied())
            .collect();
        let x = B::float_reshape(x, dims(&grouped));
        let mut sum = None;
        for range in stretches(per_group, EXACT / window.max(1)) {
            let mut shape = self.x.clone();
            shape[1] = groups * range.len();
            let some = B::float_reshape(part::<B>(&x, &grouped, 2, &range), dims(&shape));
            let weights = part::<B>(&w, &self.weights, 1, &range);
            sum = added::<B>(sum, self.conv.run::<B>(some, weights, None));
        }
        let mut sum = sum.expect(SUMMED);
        if self.bias {
            let mut shape = vec![1; self.x.len()];
            shape[1] = self.weights[0];
            sum = B::int_add(sum, B::int_reshape(operands.next_int(), dims(&shape)));
        }
        match self.requantize {
            Some(requantize) => DeviceTensor::Float(requantize.run::<B>(sum, operands)),
            None => DeviceTensor::Int(sum),
        }
    }
}
