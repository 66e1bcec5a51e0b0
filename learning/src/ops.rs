//! The ONNX ops that run here, a file a family. Each has a planner (node -> checked kernel with its shape) and a kernel (tensors ->
//! tensors, over any burn backend). Planners refuse what kernels can't do, so kernels don't fail.

pub(crate) mod activation;
pub(crate) mod batch_norm;
mod compare;
pub(crate) mod conv;
mod conv_transpose;
mod device;
pub(crate) mod dropout;
mod einsum;
pub(crate) mod elementwise;
mod fill;
pub(crate) mod gather;
mod gelu;
mod integer;
pub(crate) mod layer_norm;
pub(crate) mod linear;
mod lp_norm;
mod movement;
mod order;
pub(crate) mod picks;
pub(crate) mod places;
pub(crate) mod pool;
pub(crate) mod quantize;
pub(crate) mod recurrent;
pub(crate) mod reduce;
mod resize;
mod scatter;
mod scratch;
mod select;
mod shape;
pub(crate) mod shapes;
pub(crate) mod slice;
pub(crate) mod softmax;
mod space;
mod unary;
pub(crate) mod window;

use burn_autodiff::Autodiff;
use burn_backend::Backend;
use rand_chacha::ChaCha20Rng;

pub(crate) use device::{DeviceTensor, Operands, dims};

use crate::program::{NodeView, Planned, Problem, folding, host, refuse};

/// One kernel call with everything resolved but the tensors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kernel {
    Activation(activation::Activation),
    PRelu(activation::PRelu),
    Binary(elementwise::Binary),
    Scalar(elementwise::Scalar),
    Clip(elementwise::Clip),
    Gemm(linear::Gemm),
    MatMul(linear::MatMul),
    Conv(conv::Conv),
    ConvTranspose(conv_transpose::ConvTranspose),
    Pool(pool::Pool),
    Softmax(softmax::Softmax),
    BatchNorm(batch_norm::BatchNorm),
    Normalise(layer_norm::Normalise),
    Recurrent(Box<recurrent::Recurrent>),
    LpNorm(lp_norm::LpNorm),
    Lrn(lp_norm::Lrn),
    Reduce(reduce::Reduce),
    Dropout(dropout::Dropout),
    Unary(unary::Unary),
    Variadic(elementwise::Variadic),
    Compare(compare::Compare),
    Test(compare::Test),
    Where(select::Where),
    OneHot,
    Arg(order::Arg),
    TopK(order::TopK),
    CumSum(order::CumSum),
    Reshape(Vec<usize>),
    Permute(Vec<usize>),
    Shuffle(space::Shuffle),
    Expand(Vec<usize>),
    Pick(slice::Pick),
    Split(slice::Split),
    Pad(slice::Pad),
    Concat(usize),
    Gather(gather::Gather),
    Scatter(scatter::Scatter),
    Resize(resize::Resize),
    Einsum(Box<einsum::Einsum>),
    Quantize(quantize::Quantize),
    Dequantize,
    DynamicQuantize,
    IntegerProduct(Box<integer::IntegerProduct>),
    IntegerConv(Box<integer::IntegerConv>),
    /// Integers or booleans as floats.
    ToFloat,
    /// Floats or integers as booleans.
    IsNonZero,
    /// Floats or booleans as integers.
    ToInt,
}

type Planner = fn(&NodeView<'_>) -> Result<Planned, Problem>;

/// Every op, by name (besides `Constant`, which graphs resolve when they are read).
const TABLE: &[(&str, Planner)] = &[
    ("Abs", unary::unary),
    ("Acos", unary::unary),
    ("Acosh", unary::unary),
    ("Add", elementwise::binary),
    ("And", compare::compare),
    ("ArgMax", order::arg),
    ("ArgMin", order::arg),
    ("Asin", unary::unary),
    ("Asinh", unary::unary),
    ("Atan", unary::unary),
    ("Atanh", unary::unary),
    ("AveragePool", pool::pool),
    ("BatchNormalization", batch_norm::batch_norm),
    ("Cast", shape::cast),
    ("CastLike", shape::cast_like),
    ("Ceil", unary::unary),
    ("Celu", activation::activation),
    ("Clip", elementwise::clip),
    ("Compress", gather::compress),
    ("Concat", shape::concat),
    ("ConstantOfShape", fill::constant_of_shape),
    ("Conv", conv::conv),
    ("ConvInteger", integer::conv_integer),
    ("ConvTranspose", conv_transpose::conv_transpose),
    ("Cos", unary::unary),
    ("Cosh", unary::unary),
    ("CumSum", order::cumulative_sum),
    ("DepthToSpace", space::shuffle),
    ("DequantizeLinear", quantize::dequantize),
    ("Div", elementwise::binary),
    ("Dropout", dropout::dropout),
    ("DynamicQuantizeLinear", quantize::dynamic_quantize),
    ("Einsum", einsum::einsum),
    ("Elu", activation::activation),
    ("Equal", compare::compare),
    ("Erf", activation::activation),
    ("Exp", activation::activation),
    ("Expand", slice::expand),
    ("EyeLike", fill::eye_like),
    ("Flatten", shape::flatten),
    ("Floor", unary::unary),
    ("Gather", gather::gather),
    ("GatherElements", gather::gather_elements),
    ("GatherND", gather::gather_nd),
    ("Gelu", activation::activation),
    ("Gemm", linear::gemm),
    ("GlobalAveragePool", pool::global_average),
    ("GlobalLpPool", pool::global),
    ("GlobalMaxPool", pool::global),
    ("Greater", compare::compare),
    ("GreaterOrEqual", compare::compare),
    ("GroupNormalization", layer_norm::group_norm),
    ("GRU", recurrent::recurrent),
    ("Hardmax", softmax::softmax),
    ("HardSigmoid", activation::activation),
    ("HardSwish", activation::activation),
    ("Identity", shape::identity),
    ("InstanceNormalization", layer_norm::instance_norm),
    ("IsInf", compare::is_special),
    ("IsNaN", compare::is_special),
    ("LayerNormalization", layer_norm::layer_norm),
    ("LeakyRelu", activation::activation),
    ("Less", compare::compare),
    ("LessOrEqual", compare::compare),
    ("Log", activation::activation),
    ("LogSoftmax", softmax::softmax),
    ("LpNormalization", lp_norm::lp_norm),
    ("LpPool", pool::pool),
    ("LRN", lp_norm::lrn),
    ("LSTM", recurrent::recurrent),
    ("MatMul", linear::matmul),
    ("MatMulInteger", integer::matmul_integer),
    ("Max", elementwise::variadic),
    ("MaxPool", pool::pool),
    ("Mean", elementwise::variadic),
    ("Min", elementwise::variadic),
    ("Mish", activation::activation),
    ("Mod", elementwise::modulo),
    ("Mul", elementwise::binary),
    ("Neg", activation::activation),
    ("Not", compare::not),
    ("OneHot", select::one_hot),
    ("Or", compare::compare),
    ("Pad", slice::pad),
    ("Pow", elementwise::pow),
    ("PRelu", activation::prelu),
    ("QLinearConv", integer::qlinear_conv),
    ("QLinearMatMul", integer::qlinear_matmul),
    ("QuantizeLinear", quantize::quantize),
    ("Range", fill::range),
    ("Reciprocal", unary::unary),
    ("ReduceL1", reduce::reduce),
    ("ReduceL2", reduce::reduce),
    ("ReduceLogSum", reduce::reduce),
    ("ReduceLogSumExp", reduce::reduce),
    ("ReduceMax", reduce::reduce),
    ("ReduceMean", reduce::reduce),
    ("ReduceMin", reduce::reduce),
    ("ReduceProd", reduce::reduce),
    ("ReduceSum", reduce::reduce),
    ("ReduceSumSquare", reduce::reduce),
    ("Relu", activation::activation),
    ("Reshape", shape::reshape),
    ("Resize", resize::resize),
    ("RMSNormalization", layer_norm::layer_norm),
    ("RNN", recurrent::recurrent),
    ("Round", unary::unary),
    ("ScatterElements", scatter::scatter_elements),
    ("ScatterND", scatter::scatter_nd),
    ("Selu", activation::activation),
    ("Shape", shape::shape),
    ("Shrink", activation::activation),
    ("Sigmoid", activation::activation),
    ("Sign", unary::unary),
    ("Sin", unary::unary),
    ("Sinh", unary::unary),
    ("Size", fill::size),
    ("Slice", slice::slice),
    ("Softmax", softmax::softmax),
    ("Softplus", activation::activation),
    ("Softsign", activation::activation),
    ("SpaceToDepth", space::shuffle),
    ("Split", slice::split),
    ("Sqrt", activation::activation),
    ("Squeeze", shape::squeeze),
    ("Sub", elementwise::binary),
    ("Sum", elementwise::variadic),
    ("Swish", activation::activation),
    ("Tan", unary::unary),
    ("Tanh", activation::activation),
    ("ThresholdedRelu", activation::activation),
    ("Tile", slice::tile),
    ("TopK", order::top_k),
    ("Transpose", shape::transpose),
    ("Trilu", select::trilu),
    ("Unsqueeze", shape::unsqueeze),
    ("Upsample", resize::resize),
    ("Where", select::select),
    ("Xor", compare::compare),
];

pub(crate) fn supported() -> Vec<&'static str> {
    let mut names: Vec<_> = TABLE
        .iter()
        .map(|(name, _)| *name)
        .chain(host::names())
        .chain(["Constant"])
        .chain(folding::OF_MICROSOFT.iter().copied())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

pub(crate) fn is_supported(op: &str) -> bool {
    TABLE.iter().any(|(name, _)| *name == op) || host::names().any(|name| name == op)
}

/// Plans one node.
pub(crate) fn plan(node: &NodeView<'_>) -> Result<Planned, Problem> {
    match TABLE.iter().find(|(name, _)| *name == node.op()) {
        Some((_, planner)) => planner(node),
        None if host::names().any(|name| name == node.op()) => Err(refuse(
            "it is supported on integers and booleans that follow from the model's inputs and constants, not on floats",
            "compute it on integers, or leave it out",
        )),
        None => Err(refuse(
            "the op is not supported",
            format!("use the ops that are: {}", supported().join(", ")),
        )),
    }
}

impl Kernel {
    /// Whether it draws random numbers, so that two runs differ.
    pub(crate) fn draws_noise(&self) -> bool {
        matches!(self, Self::Dropout(_))
    }

    /// The same to be differentiated: ops whose gradients are written out bring them.
    pub(crate) fn run_tracked<B: Backend>(
        &self,
        mut operands: Operands<Autodiff<B>>,
        noise: &mut ChaCha20Rng,
    ) -> Vec<DeviceTensor<Autodiff<B>>> {
        match self {
            Self::Recurrent(op) => op.run_tracked::<B>(&mut operands).into_iter().map(DeviceTensor::Float).collect(),
            Self::Quantize(op) => vec![DeviceTensor::Float(op.run_tracked::<B>(&mut operands))],
            Self::Activation(activation::Activation::Gelu) => vec![DeviceTensor::Float(gelu::run_tracked::<B>(operands.next()))],
            _ => self.run::<Autodiff<B>>(operands, noise),
        }
    }

    /// Runs the kernel: one tensor for each output that its planner names. `noise` is drawn from by dropout alone.
    pub(crate) fn run<B: Backend>(&self, mut operands: Operands<B>, noise: &mut ChaCha20Rng) -> Vec<DeviceTensor<B>> {
        let o = &mut operands;
        let one = |tensor| vec![DeviceTensor::Float(tensor)];
        match self {
            Self::Activation(op) => one(op.run::<B>(o.next())),
            Self::PRelu(op) => one(op.run::<B>(o.next(), o.next())),
            Self::Binary(op) => one(op.run::<B>(o.next(), o.next_as_float())),
            Self::Scalar(op) => one(op.run::<B>(o.next())),
            Self::Clip(op) => one(op.run::<B>(o)),
            Self::Gemm(op) => one(op.run::<B>(o.next(), o.next(), o.optional())),
            Self::MatMul(op) => one(op.run::<B>(o.next(), o.next())),
            Self::Conv(op) => one(op.run::<B>(o.next(), o.next(), o.optional())),
            Self::ConvTranspose(op) => one(op.run::<B>(o.next(), o.next(), o.optional())),
            Self::Pool(op) => one(op.run::<B>(o.next())),
            Self::Softmax(op) => one(op.run::<B>(o.next())),
            Self::BatchNorm(op) => {
                let tensors = op.run::<B>([o.next(), o.next(), o.next(), o.next(), o.next()]);
                tensors.into_iter().map(DeviceTensor::Float).collect()
            }
            Self::Normalise(op) => {
                let tensors = op.run::<B>(o.next(), o.next(), o.optional());
                tensors.into_iter().map(DeviceTensor::Float).collect()
            }
            Self::Recurrent(op) => op.run::<B>(o).into_iter().map(DeviceTensor::Float).collect(),
            Self::LpNorm(op) => one(op.run::<B>(o.next())),
            Self::Lrn(op) => one(op.run::<B>(o.next())),
            Self::Reduce(op) => one(op.run::<B>(o.next())),
            Self::Dropout(op) => op.run::<B>(o.next(), noise),
            Self::Unary(op) => one(op.run::<B>(o.next())),
            Self::Variadic(op) => one(op.run::<B>(o.rest())),
            Self::Compare(op) => vec![DeviceTensor::Bool(op.run::<B>(o))],
            Self::Test(op) => vec![DeviceTensor::Bool(op.run::<B>(o.any()))],
            Self::Where(op) => vec![op.run::<B>(o)],
            Self::OneHot => one(select::run_one_hot::<B>(o.next_bool(), o.next())),
            Self::Arg(op) => vec![DeviceTensor::Int(op.run::<B>(o.next()))],
            Self::TopK(op) => op.run::<B>(o.next()),
            Self::CumSum(op) => one(op.run::<B>(o.next())),
            Self::Reshape(to) => vec![o.any().reshape(to)],
            Self::Permute(axes) => vec![o.any().permute(axes)],
            Self::Shuffle(op) => vec![op.run::<B>(o.any())],
            Self::Expand(to) => vec![o.any().expand(to)],
            Self::Pick(op) => vec![op.run::<B>(o)],
            Self::Split(op) => op.run::<B>(&o.any()),
            Self::Pad(op) => vec![op.run::<B>(o.any())],
            Self::Concat(axis) => vec![DeviceTensor::cat(o.all(), *axis)],
            Self::Gather(op) => vec![op.run::<B>(o.any(), o.next_int())],
            Self::Scatter(op) => one(op.run::<B>(o.next(), o.next_int(), o.next())),
            Self::Resize(op) => one(op.run::<B>(o)),
            Self::Einsum(op) => one(op.run::<B>(o.rest())),
            Self::Quantize(op) => one(op.run::<B>(o.next(), o.next(), o.next())),
            Self::Dequantize => one(quantize::run_dequantize::<B>(o)),
            Self::DynamicQuantize => quantize::run_dynamic::<B>(o.next()),
            Self::IntegerProduct(op) => vec![op.run::<B>(o)],
            Self::IntegerConv(op) => vec![op.run::<B>(o)],
            Self::ToFloat => one(o.next_as_float()),
            Self::IsNonZero => vec![DeviceTensor::Bool(device::is_non_zero::<B>(o.any()))],
            Self::ToInt => vec![DeviceTensor::Int(device::to_int::<B>(o.any()))],
        }
    }
}

#[cfg(test)]
mod tests;
