//! QuantizeLinear and DequantizeLinear.

use aimass_onnx::proto::NodeProto;

use super::ServeError;
use super::params::Params;
use super::writer::{Writer, Zero};
use crate::parts::{IntType, Ints, shown};

impl Writer<'_> {
    /// `y = saturate(round_half_to_even(x / scale) + zero_point)`.
    pub(super) fn quantize(&mut self, node: &NodeProto) -> Result<(), ServeError> {
        let (x, y) = (first(node)?, &node.output[0]);
        let params = Params::read(node, 1, 2, &self.constants)?;
        let kind = output_kind(node, &params)?;
        if let Some(values) = self.constants.tensor(x) {
            return self.quantize_constant(node, &values, &params, kind);
        }
        if self.constants.is_constant(x) {
            return Err(ServeError::parameter(node, "it quantizes integers"));
        }
        let (low, high) = kind.range();
        let (low, high) = (low as f32, high as f32);
        let wide: Vec<f64> = params.scales.iter().map(|&scale| scale.into()).collect();
        if params.is_one() {
            let zero = params.zeros[0];
            let scale = self.double(&format!("{y}/scale"), &[], &wide);
            let steps = self.steps(x, &scale, y);
            let centred = self.clip(&steps, low - zero as f32, high - zero as f32, y);
            self.integer(y, centred, zero, kind);
            return Ok(());
        }
        let shape = self.along(node, x, &params)?;
        let scale = self.double(&format!("{y}/scale"), &shape, &wide);
        let steps = self.steps(x, &scale, y);
        let zeros: Vec<f32> = params.zeros.iter().map(|&zero| zero as f32).collect();
        let zeros = self.float(&format!("{y}/zero_point"), &shape, &zeros);
        let moved = self.emit("Add", &[&steps, &zeros], &format!("{y}/moved"));
        let whole = self.clip(&moved, low, high, y);
        self.integer(y, whole, 0, kind);
        Ok(())
    }

    /// Fake quantization of a weight, as quantization-aware training exports it.
    fn quantize_constant(
        &mut self,
        node: &NodeProto,
        tensor: &aimass_onnx::TensorRef<'_>,
        params: &Params,
        kind: IntType,
    ) -> Result<(), ServeError> {
        let Some(values) = tensor.to_f32() else {
            return Err(ServeError::unsupported(
                node,
                format!("it quantizes a constant of {}; use float32", tensor.element),
            ));
        };
        if let Some(at) = values.iter().position(|value| value.is_nan()) {
            return Err(ServeError::parameter(node, format!("value {at} of the weight is NaN")));
        }
        let places = Places::new(node, params, &tensor.shape)?;
        let (low, high) = kind.range();
        let level = |(at, value): (usize, &f32)| {
            let place = places.of(at);
            let level = f64::from((value / params.scales[place]).round_ties_even()) + f64::from(params.zeros[place]);
            level.clamp(low.into(), high.into()) as i32
        };
        let ints = Ints {
            kind,
            shape: tensor.shape.clone(),
            values: values.iter().enumerate().map(level).collect(),
        };
        let output = &node.output[0];
        self.constants.fold(output, ints.clone());
        self.tensors.push(crate::parts::integers(output, &ints.shape, kind, &ints.values));
        Ok(())
    }

    /// `y = (x - zero_point) * scale`.
    pub(super) fn dequantize(&mut self, node: &NodeProto) -> Result<(), ServeError> {
        let (x, y) = (first(node)?, &node.output[0]);
        check_output_type(node)?;
        if let Some(zero) = node.input_name(2).and_then(|name| self.computed.get(name)).cloned() {
            // What DynamicQuantizeLinear gives: scalars.
            let centred = self.less(x, &Zero::Computed(zero));
            self.give("Mul", &[&centred, &node.input[1]], y);
            return Ok(());
        }
        let params = Params::read(node, 1, 2, &self.constants)?;
        let constant = self.constants.ints(x);
        let known = constant
            .as_ref()
            .map(|ints| ints.kind)
            .or_else(|| self.twins.get(x).and_then(|twin| twin.kind));
        check_zero_point(node, &params, known)?;
        if let Some(ints) = constant {
            return self.dequantize_constant(node, &ints, &params);
        }
        if let Some(tensor) = self.constants.tensor(x) {
            return Err(not_integers(node, &tensor));
        }
        if params.is_one() {
            let centred = self.less(x, &Zero::Known(params.zeros[0]));
            let scale = self.float(&format!("{y}/scale"), &[], &params.scales);
            self.give("Mul", &[&centred, &scale], y);
            return Ok(());
        }
        let shape = self.along(node, x, &params)?;
        let whole = self.whole(x);
        let zeros: Vec<f32> = params.zeros.iter().map(|&zero| zero as f32).collect();
        let zeros = self.float(&format!("{y}/zero_point"), &shape, &zeros);
        let scale = self.float(&format!("{y}/scale"), &shape, &params.scales);
        let centred = self.emit("Sub", &[&whole, &zeros], &format!("{y}/centred"));
        self.give("Mul", &[&centred, &scale], y);
        Ok(())
    }

    fn dequantize_constant(&mut self, node: &NodeProto, ints: &Ints, params: &Params) -> Result<(), ServeError> {
        if ints.values.len().saturating_mul(4) > aimass_onnx::MAX_MODEL_BYTES {
            let reason = format!(
                "its float32 values would have more than {} bytes; split it",
                aimass_onnx::MAX_MODEL_BYTES
            );
            return Err(ServeError::unsupported(node, reason));
        }
        let places = Places::new(node, params, &ints.shape)?;
        let value = |(at, &level): (usize, &i32)| {
            let place = places.of(at);
            (i64::from(level) - i64::from(params.zeros[place])) as f32 * params.scales[place]
        };
        let values: Vec<f32> = ints.values.iter().enumerate().map(value).collect();
        self.tensors.push(crate::parts::floats(&node.output[0], &ints.shape, &values));
        Ok(())
    }

    /// The shape that lets parameters of an axis of `x` broadcast.
    fn along(&self, node: &NodeProto, x: &str, params: &Params) -> Result<Vec<usize>, ServeError> {
        if block_size(node)? > 0 || params.shape.len() > 1 {
            let reason = "it has a scale a block on a value that is no constant; quantize activations with one scale";
            return Err(ServeError::unsupported(node, reason));
        }
        let axis = node.attr_i("axis")?.unwrap_or(1);
        let after = match (axis, self.rank(x)) {
            (axis, _) if axis < 0 => usize::try_from(-1 - axis).ok(),
            (axis, Some(rank)) => usize::try_from(axis).ok().and_then(|axis| rank.checked_sub(axis + 1)),
            (_, None) => {
                let reason = format!(
                    "it has a scale an entry of axis {axis}, and the file does not say how many axes {:?} has; infer shapes",
                    shown(x)
                );
                return Err(ServeError::unsupported(node, reason));
            }
        };
        let after = after.filter(|&after| after < self.rank(x).unwrap_or(64));
        let after = after.ok_or_else(|| ServeError::parameter(node, format!("{:?} has no axis {axis}", shown(x))))?;
        Ok([params.scales.len()].into_iter().chain(vec![1; after]).collect())
    }
}

fn first(node: &NodeProto) -> Result<&str, ServeError> {
    node.input_name(0).ok_or_else(|| ServeError::parameter(node, "it has no input"))
}

fn block_size(node: &NodeProto) -> Result<i64, ServeError> {
    Ok(node.attr_i("block_size")?.unwrap_or(0))
}

pub(super) fn not_integers(node: &NodeProto, tensor: &aimass_onnx::TensorRef<'_>) -> ServeError {
    match IntType::from_number(tensor.proto.data_type) {
        Some(_) => ServeError::parameter(node, "a value of its weight is not in the range of its type"),
        None => ServeError::unsupported(node, format!("its weight is {}; quantize to int8 or uint8", tensor.element)),
    }
}

/// The type that a QuantizeLinear gives.
fn output_kind(node: &NodeProto, params: &Params) -> Result<IntType, ServeError> {
    let asked = match node.attr_i("output_dtype")? {
        None | Some(0) => None,
        Some(number) => {
            let kind = i32::try_from(number).ok().and_then(IntType::from_number);
            Some(kind.ok_or_else(|| ServeError::unsupported(node, format!("it gives element type {number}; quantize to int8 or uint8")))?)
        }
    };
    if let Some(1..) = node.attr_i("precision")?.filter(|&precision| precision != 1) {
        return Err(ServeError::unsupported(
            node,
            "it divides in another precision than float32; leave \"precision\" out",
        ));
    }
    if let (Some(asked), Some(kind)) = (asked, params.kind)
        && asked != kind
    {
        return Err(ServeError::parameter(
            node,
            format!("its zero point is {}, its output_dtype {}", kind.name(), asked.name()),
        ));
    }
    let kind = params.kind.or(asked).unwrap_or(IntType::U8);
    if kind == IntType::I32 {
        return Err(ServeError::parameter(node, "its zero point is int32, a type that it can't give"));
    }
    Ok(kind)
}

fn check_output_type(node: &NodeProto) -> Result<(), ServeError> {
    match node.attr_i("output_dtype")? {
        None | Some(0 | 1) => Ok(()),
        Some(number) => Err(ServeError::unsupported(
            node,
            format!("it gives element type {number}; leave output_dtype out, for float32"),
        )),
    }
}

fn check_zero_point(node: &NodeProto, params: &Params, known: Option<IntType>) -> Result<(), ServeError> {
    if let (Some(kind), Some(zero)) = (known, params.kind)
        && kind != zero
    {
        return Err(ServeError::parameter(
            node,
            format!("its zero point is {}, what it dequantizes {}", zero.name(), kind.name()),
        ));
    }
    let wide = params.kind.or(known) == Some(IntType::I32);
    if wide && params.zeros.iter().any(|&zero| zero != 0) {
        return Err(ServeError::parameter(node, "its int32 zero point is not 0"));
    }
    Ok(())
}

/// Which of the parameters belongs to an element of a constant.
enum Places {
    One,
    /// Length of the axis, elements inside it.
    Axis(usize, usize),
    /// The same, elements of the axis a block, blocks.
    Blocks(usize, usize, usize, usize),
}

impl Places {
    fn new(node: &NodeProto, params: &Params, shape: &[usize]) -> Result<Self, ServeError> {
        let wrong = |problem: String| ServeError::parameter(node, problem);
        let block = usize::try_from(block_size(node)?).map_err(|_| wrong("its block size is negative".to_owned()))?;
        if block == 0 && params.is_one() && (params.shape.is_empty() || node.attr("axis").is_none() || shape.is_empty()) {
            return Ok(Self::One);
        }
        let axis = node.attr_i("axis")?.unwrap_or(1);
        let place = usize::try_from(axis)
            .ok()
            .or_else(|| shape.len().checked_add_signed(isize::try_from(axis).ok()?));
        let Some(place) = place.filter(|&place| place < shape.len()) else {
            return match params.is_one() && block == 0 {
                // Of one scale the axis says nothing.
                true => Ok(Self::One),
                false => Err(wrong(format!("its axis is {axis}, its weight has {} axes", shape.len()))),
            };
        };
        let (length, inner) = (shape[place], shape[place + 1..].iter().product::<usize>());
        if block == 0 {
            return match (params.shape.len() <= 1 && params.scales.len() == length, params.is_one()) {
                (true, _) => Ok(Self::Axis(length.max(1), inner.max(1))),
                (false, true) => Ok(Self::One),
                (false, false) => Err(wrong(format!(
                    "{} scales for axis {place}, which has length {length}",
                    params.scales.len()
                ))),
            };
        }
        let blocks = length.div_ceil(block);
        let mut expected = shape.to_vec();
        expected[place] = blocks;
        if params.shape != expected {
            return Err(wrong(format!(
                "its scales have the shape {:?}, blocks of {block} ask for {expected:?}",
                params.shape
            )));
        }
        Ok(Self::Blocks(length.max(1), inner.max(1), block, blocks))
    }

    /// By the element's row-major position.
    fn of(&self, at: usize) -> usize {
        match *self {
            Self::One => 0,
            Self::Axis(length, inner) => at / inner % length,
            Self::Blocks(length, inner, block, blocks) => {
                (at / (inner * length) * blocks + at / inner % length / block) * inner + at % inner
            }
        }
    }
}
