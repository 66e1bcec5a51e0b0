//! Operators without weights: elementwise ones, and those that move values around.

mod joins;
mod shapes;

use std::rc::Rc;

use aimass_onnx::proto::NodeProto;

use super::ChannelError;
use super::dims::{Channels, Element, Extent};
use super::walk::{Place, Role, Value, Walk};

/// Elements of an operator's axis list or shape that are read at most.
const MAX_AXES: usize = 64;

/// The axis that a possibly negative number means.
fn axis_of(number: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let axis = if number < 0 { number.checked_add(rank)? } else { number };
    (0..rank).contains(&axis).then_some(axis as usize)
}

impl<'m> Walk<'m> {
    /// What a node gives, by what it does with channels.
    pub(super) fn visit(&mut self, at: usize, node: &'m NodeProto) -> Result<Vec<Value>, ChannelError> {
        self.keep_within(node);
        let op = node.standard_op().unwrap_or_default();
        Ok(match op {
            "Constant" => self.constant_node(at, node)?,
            "Conv" => self.conv(at, node)?,
            "ConvTranspose" => self.conv_transpose(at, node)?,
            "Gemm" => self.gemm(node)?,
            "MatMul" => self.matmul(node)?,
            "LSTM" | "GRU" | "RNN" => self.recurrent(node)?,
            "BatchNormalization" | "InstanceNormalization" => self.norm(node),
            "MaxPool" | "AveragePool" | "LpPool" => self.pool(node, false)?,
            "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => self.pool(node, true)?,
            _ if is_elementwise(op) => self.elementwise(node)?,
            "Softmax" | "LogSoftmax" | "LayerNormalization" => self.normalized(node, op)?,
            "Concat" => self.concat(node)?,
            "Split" => self.split(at, node)?,
            "Slice" => self.slice(node)?,
            "Gather" => self.gather(node)?,
            "Shape" => self.shape(node)?,
            "Flatten" => self.flatten(node)?,
            "Reshape" => self.reshape(at, node)?,
            "Transpose" => self.transpose(node)?,
            "Squeeze" | "Unsqueeze" => self.squeeze(node, op == "Squeeze")?,
            "Pad" => self.pad(node)?,
            "Resize" | "Upsample" => self.resize(node, op)?,
            _ if op.starts_with("Reduce") => self.reduce(node)?,
            "Range" | "CumSum" | "Trilu" | "Expand" | "ConstantOfShape" => self.keep_known_rank(node, op),
            _ => self.keep(node),
        })
    }

    /// Operators whose channels stay, and whose number of axes is known all the same.
    fn keep_known_rank(&mut self, node: &NodeProto, op: &str) -> Vec<Value> {
        let rank = |index: usize| self.input(node, index)?.dims.map(|dims| dims.len());
        // As many axes as there are numbers in a shape.
        let numbers = |index: usize| match self.input(node, index)?.dims?[..] {
            [Extent::Known(length)] if length <= MAX_AXES => Some(length),
            _ => None,
        };
        let rank = match op {
            "Range" => Some(1),
            "Expand" => rank(0).zip(numbers(1)).map(|(own, wanted)| own.max(wanted)),
            "ConstantOfShape" => numbers(0),
            _ => rank(0),
        };
        match rank {
            Some(rank) => self.keep_rank(node, rank),
            None => self.keep(node),
        }
    }

    fn constant_node(&mut self, at: usize, node: &'m NodeProto) -> Result<Vec<Value>, ChannelError> {
        if let (Some(tensor), Some(output)) = (node.attr_t("value")?, node.output.first()) {
            self.constant(output, Place::Node(at), tensor);
            return Ok(vec![self.value(output)]);
        }
        let integers = match node.attr_i("value_int") {
            Ok(Some(number)) => Some((vec![number], 0)),
            _ => node.attr_ints("value_ints")?.map(|list| (list.to_vec(), 1)),
        };
        let dims = match &integers {
            Some((list, 1)) => Some(vec![Extent::Known(list.len())]),
            Some(_) => Some(Vec::new()),
            None if matches!(node.attr_f("value_float"), Ok(Some(_))) => Some(Vec::new()),
            None => None,
        };
        let shape = integers.filter(|(list, _)| list.len() <= MAX_AXES);
        Ok(vec![Value {
            dims,
            shape: shape.map(|(list, _)| list.into_iter().map(Element::Literal).collect()),
            ..Value::default()
        }])
    }

    /// Elementwise operators with any number of inputs that are broadcast.
    fn elementwise(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let inputs: Vec<Value> = (0..node.input.len()).filter_map(|index| self.input(node, index)).collect();
        if let ([only], "Identity" | "Cast") = (&inputs[..], node.op_type.as_str())
            && (node.op_type == "Identity" || only.param.is_none() || only.shape.is_some())
        {
            // A weight of another type is no weight that is sliced; a shape of another type is a shape.
            let mut value = only.clone();
            if node.op_type == "Cast" {
                value.param.iter().for_each(|_| self.pin(only));
                value.param = None;
            }
            return Ok(vec![value]);
        }
        let Some(rank) = inputs
            .iter()
            .map(|value| value.dims.as_ref().map(Vec::len))
            .collect::<Option<Vec<_>>>()
        else {
            return Ok(self.keep(node));
        };
        let out_rank = rank.iter().copied().max().unwrap_or(0);
        let mut dims = vec![Extent::Known(1); out_rank];
        for value in &inputs {
            let own = value.dims.as_deref().unwrap_or_default();
            for (dim, &extent) in dims[out_rank - own.len()..].iter_mut().zip(own) {
                *dim = match (*dim, extent) {
                    (Extent::Known(1), other) | (other, Extent::Known(1)) => other,
                    (one, other) if one == other => one,
                    // One of them may be 1; a known length above 1 wins.
                    (Extent::Known(n), Extent::Symbol(_)) | (Extent::Symbol(_), Extent::Known(n)) => Extent::Known(n),
                    _ => self.symbol(),
                };
            }
        }
        let channels = self.common(&inputs, out_rank);
        for value in &inputs {
            // A shape that is computed with is none that can be followed.
            if value.shape.is_some() || (channels.is_none() && value.param.is_some()) {
                self.pin(value);
            }
        }
        let value = Value {
            dims: Some(dims),
            channels,
            ..Value::default()
        };
        Ok(vec![value; node.output.len()])
    }

    /// The channels of values that are broadcast against each other.
    fn common(&mut self, inputs: &[Value], rank: usize) -> Option<Channels> {
        let aligned = |value: &Value| Some(value.channels.as_ref()?.axis + rank - value.dims.as_ref()?.len());
        let first = inputs.iter().find(|value| value.channels.is_some())?;
        let (axis, atoms) = (aligned(first)?, Rc::clone(&first.channels.as_ref()?.atoms));
        let mut follows = true;
        for value in inputs {
            let own = value.dims.as_ref().map_or(0, Vec::len);
            let length = (axis + own).checked_sub(rank).and_then(|at| value.dims.as_ref()?.get(at).copied());
            follows &= match (&value.channels, &value.param, length) {
                (Some(channels), _, _) => aligned(value) == Some(axis) && channels.atoms.len() == atoms.len(),
                // One value for all channels, or a parameter with one for each.
                (None, _, None | Some(Extent::Known(1))) => true,
                (None, Some(_), Some(Extent::Known(length))) => length == atoms.len(),
                _ => false,
            };
        }
        if !follows || atoms.len() < 2 {
            inputs.iter().for_each(|value| self.pin(value));
            return None;
        }
        for value in inputs {
            if let Some(channels) = &value.channels {
                self.atoms.tie_all(&atoms, &channels.atoms);
            } else if value.param.is_some() {
                let own = value.dims.as_ref().map_or(0, Vec::len);
                let at = (axis + own).checked_sub(rank);
                let has = at.and_then(|at| value.dims.as_ref()?.get(at).copied()) == Some(Extent::Known(atoms.len()));
                match at.filter(|_| has) {
                    Some(at) => _ = self.bind(value, &[(at, &atoms, Role::Follows)]),
                    None => _ = self.bind(value, &[]),
                }
            }
        }
        Some(Channels { axis, atoms })
    }

    /// Operators that normalize over some axes, which must not be those of channels.
    fn normalized(&mut self, node: &NodeProto, op: &str) -> Result<Vec<Value>, ChannelError> {
        let Some((x, rank)) = self.input(node, 0).and_then(|x| Some((x.clone(), x.dims?.len()))) else {
            return Ok(self.keep(node));
        };
        let old = op != "LayerNormalization" && self.opset < 13;
        let axis = axis_of(node.attr_i("axis")?.unwrap_or(if old { 1 } else { -1 }), rank);
        // From `axis` on for a layer norm and old softmaxes, that one alone for newer ones.
        let within = |c: usize| axis.is_none_or(|axis| if old || op == "LayerNormalization" { c >= axis } else { c == axis });
        let more = node.output.iter().skip(1).any(|output| !output.is_empty());
        if x.param.is_some() || more || x.channels.as_ref().is_some_and(|channels| within(channels.axis)) {
            return Ok(self.keep_rank(node, rank));
        }
        for index in 1..node.input.len() {
            if let Some(value) = self.input(node, index) {
                self.pin(&value);
            }
        }
        Ok(vec![Value { shape: None, ..x }])
    }

    /// Whether an input is a constant of the file itself, so that another one can take its place.
    fn constant_input(&self, node: &NodeProto, index: usize) -> bool {
        self.input(node, index).is_some_and(|value| value.param.is_some())
    }
}

/// The lengths that a Reshape gives, where its first axis stays as it is.
fn resolve(from: &[Extent], wanted: &[Element]) -> Option<Vec<Extent>> {
    let length = |at: usize, element: &Element| match element {
        Element::Literal(0) => from.get(at).copied().map(Some),
        Element::Literal(-1) => Some(None),
        Element::Literal(n) => usize::try_from(*n).ok().map(|n| Some(Extent::Known(n))),
        Element::Dim(extent) => Some(Some(*extent)),
        Element::Channels(atoms) => Some(Some(Extent::Known(atoms.len()))),
    };
    let mut out: Vec<Option<Extent>> = wanted.iter().enumerate().map(|(at, e)| length(at, e)).collect::<Option<_>>()?;
    let total = product(from[1..].iter())?;
    let open: Vec<usize> = (0..out.len()).filter(|&at| out[at].is_none()).collect();
    let rest = product(out.iter().skip(1).flatten())?;
    match open[..] {
        [] => {}
        [0] if rest == total => out[0] = Some(from[0]),
        [at] if at > 0 && rest > 0 && total.is_multiple_of(rest) => out[at] = Some(Extent::Known(total / rest)),
        _ => return None,
    }
    let out: Vec<Extent> = out.into_iter().collect::<Option<_>>()?;
    let same = product(out.iter().skip(1))? == total;
    (same && out.first() == from.first()).then_some(out)
}

/// The product of lengths that are all known.
fn product<'e>(mut extents: impl Iterator<Item = &'e Extent>) -> Option<usize> {
    extents.try_fold(1usize, |product, extent| product.checked_mul(extent.known()?))
}

/// Operators that compute each element of their outputs from the same place of their inputs, which are broadcast.
fn is_elementwise(op: &str) -> bool {
    matches!(
        op,
        "Identity"
            | "Cast"
            | "Dropout"
            | "Clip"
            | "Relu"
            | "LeakyRelu"
            | "PRelu"
            | "Elu"
            | "Selu"
            | "Celu"
            | "ThresholdedRelu"
            | "Gelu"
            | "Mish"
            | "Swish"
            | "Sigmoid"
            | "HardSigmoid"
            | "HardSwish"
            | "Tanh"
            | "Softplus"
            | "Softsign"
            | "Shrink"
            | "Erf"
            | "Exp"
            | "Log"
            | "Sqrt"
            | "Reciprocal"
            | "Neg"
            | "Abs"
            | "Sign"
            | "Floor"
            | "Ceil"
            | "Round"
            | "Sin"
            | "Cos"
            | "Tan"
            | "Asin"
            | "Acos"
            | "Atan"
            | "Sinh"
            | "Cosh"
            | "Asinh"
            | "Acosh"
            | "Atanh"
            | "Not"
            | "IsNaN"
            | "IsInf"
            | "Add"
            | "Sub"
            | "Mul"
            | "Div"
            | "Pow"
            | "Mod"
            | "Min"
            | "Max"
            | "Sum"
            | "Mean"
            | "Where"
            | "And"
            | "Or"
            | "Xor"
            | "Equal"
            | "Greater"
            | "GreaterOrEqual"
            | "Less"
            | "LessOrEqual"
    )
}
