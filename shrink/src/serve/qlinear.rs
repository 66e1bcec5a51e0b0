//! Operators on quantized values of Microsoft's set, which onnxruntime's quantizer writes in its QOperator format.

use aimass_onnx::proto::NodeProto;

use super::ServeError;
use super::params::Params;
use super::sums::Channels;
use super::writer::{Writer, Zero};
use crate::parts::{IntType, node as plain};

/// A value with the inputs that hold its scale and zero point.
type Place = (usize, usize, usize);

impl Writer<'_> {
    /// By the definition: dequantize, compute in float32, quantize.
    pub(super) fn microsoft(&mut self, node: &NodeProto) -> Result<(), ServeError> {
        let (op, inputs, output): (&str, Vec<Place>, (usize, usize)) = match node.op_type.as_str() {
            "QLinearAdd" => ("Add", vec![(0, 1, 2), (3, 4, 5)], (6, 7)),
            "QLinearMul" => ("Mul", vec![(0, 1, 2), (3, 4, 5)], (6, 7)),
            "QLinearSigmoid" => ("Sigmoid", vec![(0, 1, 2)], (3, 4)),
            "QLinearLeakyRelu" => ("LeakyRelu", vec![(0, 1, 2)], (3, 4)),
            "QLinearAveragePool" => ("AveragePool", vec![(0, 1, 2)], (3, 4)),
            "QLinearGlobalAveragePool" => ("GlobalAveragePool", vec![(0, 1, 2)], (3, 4)),
            "QLinearSoftmax" => ("Softmax", vec![(0, 1, 2)], (3, 4)),
            "QLinearConcat" if node.input.len() >= 5 && node.input.len() % 3 == 2 => (
                "Concat",
                (2..node.input.len()).step_by(3).map(|at| (at, at + 1, at + 2)).collect(),
                (0, 1),
            ),
            "QGemm" => return self.qgemm(node),
            op => {
                let reason = format!("there is no exact way to compute {op} here; quantize in QDQ format (quant_format=QuantFormat.QDQ)");
                return Err(ServeError::unsupported(node, reason));
            }
        };
        if node.attr_i("channels_last")?.unwrap_or(0) != 0 {
            return Err(ServeError::unsupported(
                node,
                "its channels are last; export the model with channels first",
            ));
        }
        let name = &node.output[0];
        let inputs = inputs
            .into_iter()
            .map(|place| self.dequantized(node, place))
            .collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let float = self.names.fresh(&format!("{name}/float"));
        let mut computed = plain(op, &inputs, &float);
        computed.attribute = node
            .attribute
            .iter()
            .filter(|a| !["channels_last", "opset"].contains(&a.name.as_str()))
            .cloned()
            .collect();
        self.nodes.push(computed);
        let (scale, zero, kind) = Params::of_tensor(node, output.0, output.1, &self.constants)?;
        self.quantized(&float, name, scale, zero, kind);
        Ok(())
    }

    fn dequantized(&mut self, node: &NodeProto, (value, scale, zero): Place) -> Result<String, ServeError> {
        let name = node
            .input_name(value)
            .ok_or_else(|| ServeError::parameter(node, "an input is missing"))?;
        let (scale, zero, kind) = Params::of_tensor(node, scale, zero, &self.constants)?;
        if let Some(known) = self.twin(name).kind
            && known != kind
        {
            return Err(ServeError::parameter(
                node,
                format!("a zero point is {}, what it belongs to {}", kind.name(), known.name()),
            ));
        }
        let centred = self.less(name, &Zero::Known(zero));
        let scale = self.float(&format!("{name}/scale"), &[], &[scale]);
        Ok(self.emit("Mul", &[&centred, &scale], &format!("{name}/dequantized")))
    }

    fn quantized(&mut self, float: &str, output: &str, scale: f32, zero: i32, kind: IntType) {
        let (low, high) = kind.range();
        let scale = self.double(&format!("{output}/scale"), &[], &[scale.into()]);
        let steps = self.steps(float, &scale, output);
        let centred = self.clip(&steps, (low - zero) as f32, (high - zero) as f32, output);
        self.integer(output, centred, zero, kind);
    }

    /// `A * B + C` in integers, then as `requantize` has it, or times the scales as a float where it has no output scale.
    fn qgemm(&mut self, node: &NodeProto) -> Result<(), ServeError> {
        let alpha = node.attr_f("alpha")?.unwrap_or(1.0);
        if alpha != 1.0 || node.attr_i("transA")?.unwrap_or(0) != 0 {
            return Err(ServeError::unsupported(
                node,
                "its alpha is not 1 or its first input is transposed; quantize in QDQ format",
            ));
        }
        let channels = if node.attr_i("transB")?.unwrap_or(0) != 0 {
            Channels::First
        } else {
            Channels::Last
        };
        let sum = self.product_of(node, "Gemm", channels, node.input_name(6))?;
        if node.input_name(7).is_some() {
            return self.requantize(node, sum, 0, [1, 4, 7]);
        }
        self.scaled_sum(node, sum, [1, 4])
    }
}
