//! Raises a graph's opset to the first with quantization per channel.

use aimass_onnx::Model;
use aimass_onnx::proto::ModelProto;

use super::QuantizeError;

/// The first with DequantizeLinear along an axis.
pub(super) const PER_CHANNEL: i64 = 13;
/// Initializers need not be inputs from here on, and opset 13 came with 7.
const IR: i64 = 7;
/// Operators that mean the same, with the same inputs and attributes, in all opsets from 9 to 13.
const SAME: [&str; 39] = [
    "Abs",
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "Div",
    "Elu",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "GRU",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Identity",
    "LSTM",
    "LeakyRelu",
    "Log",
    "MatMul",
    "MaxPool",
    "Mul",
    "PRelu",
    "Pow",
    "RNN",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Sqrt",
    "Sub",
    "Tanh",
    "Transpose",
];

/// The model's message with an opset of at least 13, and the IR version that goes with it.
///
/// # Errors
/// [`QuantizeError::Opset`] with a node that would mean something else.
pub(super) fn raised(model: &Model) -> Result<ModelProto, QuantizeError> {
    let mut proto = model.proto().clone();
    let found = model.opset();
    if found < PER_CHANNEL {
        let same = |op: Option<&str>| match op {
            Some("Slice") => found >= 10,
            Some("Clip" | "Pad" | "Round" | "ScatterElements") => found >= 11,
            Some(op) => found >= 9 && SAME.contains(&op),
            None => true,
        };
        if let Some(node) = model.graph().node.iter().find(|node| !same(node.standard_op())) {
            return Err(QuantizeError::Opset { found, node: node.label() });
        }
        let standard = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let import = proto.opset_import.iter_mut().find(|import| standard(&import.domain));
        import.into_iter().for_each(|import| import.version = PER_CHANNEL);
    }
    proto.ir_version = proto.ir_version.max(IR);
    Ok(proto)
}
