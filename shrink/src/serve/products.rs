//! Integer products: MatMulInteger, ConvInteger, and those of QLinearMatMul and QLinearConv.

use aimass_onnx::proto::{AttributeProto, DataType, NodeProto};

use super::ServeError;
use super::activations::not_integers;
use super::params::Params;
use super::sums::{Channels, Factors, Sum};
use super::writer::{Writer, Zero};
use crate::parts::{IntType, Ints, giving, with};

/// One side of a product: its integers and where its scale and zero point are.
struct Side<'a> {
    name: &'a str,
    zero_point: Option<&'a str>,
}

impl Writer<'_> {
    pub(super) fn matmul_integer(&mut self, node: &NodeProto) -> Result<(), ServeError> {
        let (a, b) = sides(node, [0, 1], [2, 3])?;
        let sum = self.product(node, "MatMul", &a, &b, Channels::Last, None)?;
        self.give_sum(node, sum);
        Ok(())
    }

    pub(super) fn conv_integer(&mut self, node: &NodeProto) -> Result<(), ServeError> {
        let (x, w) = sides(node, [0, 1], [2, 3])?;
        let sum = self.product(node, "Conv", &x, &w, Channels::First, None)?;
        self.give_sum(node, sum);
        Ok(())
    }

    pub(super) fn qlinear_matmul(&mut self, node: &NodeProto) -> Result<(), ServeError> {
        let sum = self.product_of(node, "MatMul", Channels::Last, None)?;
        self.requantize(node, sum, 0, [1, 4, 6])
    }

    pub(super) fn qlinear_conv(&mut self, node: &NodeProto) -> Result<(), ServeError> {
        let sum = self.product_of(node, "Conv", Channels::First, node.input_name(8))?;
        let name = node.input_name(3).unwrap_or_default();
        let weight = self
            .constants
            .ints(name)
            .ok_or_else(|| ServeError::computed(node, "weight", name))?;
        let spatial = weight.shape.len().saturating_sub(2);
        self.requantize(node, sum, spatial, [1, 4, 6])
    }

    /// The product of inputs 0 and 3, with zero points 2 and 5.
    pub(super) fn product_of(&mut self, node: &NodeProto, op: &str, channels: Channels, bias: Option<&str>) -> Result<Sum, ServeError> {
        let (a, b) = sides(node, [0, 3], [2, 5])?;
        self.product(node, op, &a, &b, channels, bias)
    }

    /// A sum times both scales, as float32.
    pub(super) fn scaled_sum(&mut self, node: &NodeProto, sum: Sum, [a, b]: [usize; 2]) -> Result<(), ServeError> {
        let (a_scale, ..) = Params::of_tensor(node, a, a + 1, &self.constants)?;
        let weights = Params::read(node, b, b + 1, &self.constants)?;
        let factors: Vec<f32> = weights.scales.iter().map(|scale| a_scale * scale).collect();
        let shape = if factors.len() == 1 { Vec::new() } else { vec![factors.len()] };
        let output = &node.output[0];
        let value = self.narrowed(output, sum);
        let factor = self.float(&format!("{output}/factor"), &shape, &factors);
        self.give("Mul", &[&value, &factor], output);
        Ok(())
    }

    fn narrowed(&mut self, output: &str, sum: Sum) -> String {
        match sum.narrow {
            true => sum.name,
            false => self.cast(&sum.name, DataType::Float, &format!("{output}/narrow")),
        }
    }

    /// The sum's float value, exact: float32, or float64 where float32 has not enough digits.
    fn product(
        &mut self,
        node: &NodeProto,
        op: &str,
        a: &Side<'_>,
        b: &Side<'_>,
        channels: Channels,
        bias: Option<&str>,
    ) -> Result<Sum, ServeError> {
        let zero_a = self.zero(node, a)?;
        let kind_a = self.twin(a.name).kind;
        self.check_kind(node, a)?;
        self.check_kind(node, b)?;
        let left = self.less(a.name, &zero_a);
        let reach = reach(kind_a, &zero_a);
        let Some(ints) = self.constants.ints(b.name) else {
            if let Some(tensor) = self.constants.tensor(b.name) {
                return Err(not_integers(node, &tensor));
            }
            let zero = self.zero(node, b)?;
            let right = self.less(b.name, &zero);
            return match bias {
                None => Ok(self.wide_product(node, op, &left, &right)),
                Some(_) => Err(ServeError::computed(node, "weight", b.name)),
            };
        };
        let weight = Ints {
            values: self.centred(node, &ints, b, channels)?,
            ..ints
        };
        let bias = bias
            .map(|name| self.bias(node, name, channels.strides(&weight.shape).0))
            .transpose()?;
        let factors = Factors {
            left: &left,
            reach,
            weight: &weight,
            channels,
            bias: bias.as_deref(),
        };
        self.exact_product(node, op, &factors)
    }

    /// A bias in steps of the sum.
    fn bias(&self, node: &NodeProto, name: &str, channels: usize) -> Result<Vec<i32>, ServeError> {
        let ints = self.constants.ints(name).ok_or_else(|| ServeError::computed(node, "bias", name))?;
        if ints.kind != IntType::I32 || ints.shape.len() != 1 {
            return Err(ServeError::parameter(node, "its bias is not int32 with one axis"));
        }
        if ints.values.len() != channels {
            let problem = format!("its bias has {} values, not one an output channel", ints.values.len());
            return Err(ServeError::parameter(node, problem));
        }
        Ok(ints.values)
    }

    /// Gives a sum as int32; a Cast to float32 behind it takes the float.
    fn give_sum(&mut self, node: &NodeProto, sum: Sum) {
        let output = &node.output[0];
        let cast = giving("Cast", &[&sum.name], output, &mut self.names);
        let cast = with(cast, vec![AttributeProto::int("to", DataType::Int32 as i64)]);
        self.nodes.push(cast);
        self.sums.insert(output.clone(), sum.name);
    }

    /// `saturate(round_half_to_even(sum * (a_scale * b_scale / y_scale)) + y_zero_point)`, the factor in float32, multiplied in this order.
    ///
    /// # Source
    /// onnxruntime's `QLinearConv` and `QLinearMatMul` (`core/providers/cpu/quantization`), `MlasRequantizeOutput`.
    pub(super) fn requantize(&mut self, node: &NodeProto, sum: Sum, spatial: usize, [a, b, y]: [usize; 3]) -> Result<(), ServeError> {
        let (a_scale, ..) = Params::of_tensor(node, a, a + 1, &self.constants)?;
        let weights = Params::read(node, b, b + 1, &self.constants)?;
        let (y_scale, zero, kind) = Params::of_tensor(node, y, y + 1, &self.constants)?;
        let factors: Vec<f32> = weights.scales.iter().map(|scale| a_scale * scale / y_scale).collect();
        if factors.iter().any(|factor| !factor.is_finite()) {
            return Err(ServeError::parameter(
                node,
                "its scales are so far apart that their quotient is infinite",
            ));
        }
        let shape: Vec<usize> = match factors.len() {
            1 => Vec::new(),
            n => [n].into_iter().chain(vec![1; spatial]).collect(),
        };
        let output = &node.output[0];
        let value = self.narrowed(output, sum);
        let factor = self.float(&format!("{output}/factor"), &shape, &factors);
        let scaled = self.emit("Mul", &[&value, &factor], &format!("{output}/scaled"));
        let steps = self.emit("Round", &[&scaled], &format!("{output}/round"));
        let (low, high) = kind.range();
        let centred = self.clip(&steps, (low - zero) as f32, (high - zero) as f32, output);
        self.integer(output, centred, zero, kind);
        Ok(())
    }

    /// A side's zero point, which is one for the whole tensor.
    fn zero(&self, node: &NodeProto, side: &Side<'_>) -> Result<Zero, ServeError> {
        let Some(name) = side.zero_point else { return Ok(Zero::Known(0)) };
        if let Some(computed) = self.computed.get(name) {
            return Ok(Zero::Computed(computed.clone()));
        }
        let ints = self.constants.ints(name).ok_or_else(|| match self.constants.tensor(name) {
            Some(tensor) => not_integers(node, &tensor),
            None => ServeError::computed(node, "zero point", name),
        })?;
        match ints.values[..] {
            [zero] => Ok(Zero::Known(zero)),
            _ => Err(ServeError::parameter(
                node,
                format!("{} zero points where it takes one", ints.values.len()),
            )),
        }
    }

    /// That integers and zero point have the same type, one of 8 bits.
    fn check_kind(&self, node: &NodeProto, side: &Side<'_>) -> Result<(), ServeError> {
        let known = self.twins.get(side.name).and_then(|twin| twin.kind);
        let kind = known.or_else(|| self.constants.ints(side.name).map(|ints| ints.kind));
        let zero = side.zero_point.and_then(|name| match self.computed.contains_key(name) {
            true => Some(IntType::U8),
            false => self.constants.ints(name).map(|ints| ints.kind),
        });
        if let (Some(kind), Some(zero)) = (kind, zero)
            && kind != zero
        {
            return Err(ServeError::parameter(
                node,
                format!("a zero point is {}, what it belongs to {}", zero.name(), kind.name()),
            ));
        }
        match kind.or(zero) {
            Some(IntType::U8 | IntType::I8) | None => Ok(()),
            Some(kind) => Err(ServeError::unsupported(
                node,
                format!("it multiplies {}; quantize to int8 or uint8", kind.name()),
            )),
        }
    }

    /// A weight less its zero point, or its zero points a channel.
    fn centred(&self, node: &NodeProto, ints: &Ints, side: &Side<'_>, channels: Channels) -> Result<Vec<i32>, ServeError> {
        let (n, inner) = channels.strides(&ints.shape);
        let zeros = match side.zero_point {
            None => vec![0],
            Some(name) => {
                self.constants
                    .ints(name)
                    .ok_or_else(|| ServeError::computed(node, "zero point", name))?
                    .values
            }
        };
        if zeros.len() != 1 && zeros.len() != n {
            return Err(ServeError::parameter(node, format!("{} zero points for {n} channels", zeros.len())));
        }
        let zero = |at: usize| zeros[if zeros.len() == 1 { 0 } else { at / inner % n }];
        Ok(ints.values.iter().enumerate().map(|(at, value)| value - zero(at)).collect())
    }
}

fn sides<'n>(node: &'n NodeProto, values: [usize; 2], zero_points: [usize; 2]) -> Result<(Side<'n>, Side<'n>), ServeError> {
    let side = |at: usize| {
        let name = node
            .input_name(values[at])
            .ok_or_else(|| ServeError::parameter(node, "an input is missing"))?;
        Ok::<_, ServeError>(Side {
            name,
            zero_point: node.input_name(zero_points[at]),
        })
    };
    Ok((side(0)?, side(1)?))
}

/// Largest magnitude of an integer less its zero point.
fn reach(kind: Option<IntType>, zero: &Zero) -> i64 {
    let (low, high) = kind.map_or((-128, 255), IntType::range);
    match zero {
        Zero::Known(zero) => (i64::from(high) - i64::from(*zero)).max(i64::from(*zero) - i64::from(low)),
        Zero::Computed(_) => 255,
    }
}
