//! The ONNX ops that run here, a file a family. Each has a planner (node -> checked kernel with its shape) and a kernel (tensors ->
//! tensor, over any burn backend). Planners refuse what kernels can't do, so kernels don't fail.

mod activation;
mod conv;
mod elementwise;
mod linear;
mod norm;
mod pool;
mod reduce;
mod shape;
mod window;

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Shape};
use rand_chacha::ChaCha20Rng;

use crate::program::{NodeView, Planned, Problem, refuse};

/// One kernel call with everything resolved but the tensors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kernel {
    Activation(activation::Activation),
    Binary(elementwise::Binary),
    Scalar(elementwise::Scalar),
    Clip(elementwise::Clip),
    Gemm(linear::Gemm),
    MatMul(linear::MatMul),
    Conv(conv::Conv),
    Pool(pool::Pool),
    Softmax(norm::Softmax),
    BatchNorm(norm::BatchNorm),
    Reduce(reduce::Reduce),
    Dropout(activation::Dropout),
    Reshape(Vec<usize>),
    Permute(Vec<usize>),
    Concat(usize),
}

type Planner = fn(&NodeView<'_>) -> Result<Planned, Problem>;

/// Every op, by name (besides `Constant`, which graphs resolve when they are read).
const TABLE: &[(&str, Planner)] = &[
    ("Add", elementwise::binary),
    ("AveragePool", pool::pool),
    ("BatchNormalization", norm::batch_norm),
    ("Cast", shape::cast),
    ("Clip", elementwise::clip),
    ("Concat", shape::concat),
    ("Conv", conv::conv),
    ("Div", elementwise::binary),
    ("Dropout", activation::dropout),
    ("Erf", activation::activation),
    ("Exp", activation::activation),
    ("Flatten", shape::flatten),
    ("Gather", shape::gather),
    ("Gelu", activation::activation),
    ("Gemm", linear::gemm),
    ("GlobalAveragePool", pool::global_average),
    ("Identity", shape::identity),
    ("LeakyRelu", activation::activation),
    ("Log", activation::activation),
    ("LogSoftmax", norm::softmax),
    ("MatMul", linear::matmul),
    ("MaxPool", pool::pool),
    ("Mul", elementwise::binary),
    ("Neg", activation::activation),
    ("Pow", elementwise::pow),
    ("ReduceMean", reduce::reduce),
    ("ReduceSum", reduce::reduce),
    ("Relu", activation::activation),
    ("Reshape", shape::reshape),
    ("Shape", shape::shape),
    ("Sigmoid", activation::activation),
    ("Softmax", norm::softmax),
    ("Sqrt", activation::activation),
    ("Squeeze", shape::squeeze),
    ("Sub", elementwise::binary),
    ("Tanh", activation::activation),
    ("Transpose", shape::transpose),
    ("Unsqueeze", shape::unsqueeze),
];

pub(crate) fn supported() -> Vec<&'static str> {
    TABLE.iter().map(|(name, _)| *name).chain(["Constant"]).collect()
}

pub(crate) fn is_supported(op: &str) -> bool {
    TABLE.iter().any(|(name, _)| *name == op)
}

/// Plans one node.
pub(crate) fn plan(node: &NodeView<'_>) -> Result<Planned, Problem> {
    match TABLE.iter().find(|(name, _)| *name == node.op()) {
        Some((_, planner)) => planner(node),
        None => Err(refuse(
            "the op is not supported",
            format!("use the ops that are: {}", supported().join(", ")),
        )),
    }
}

/// A kernel's operands, in the order its planner named them.
pub(crate) struct Operands<B: Backend>(std::vec::IntoIter<FloatTensor<B>>);

impl<B: Backend> Operands<B> {
    pub(crate) fn new(tensors: Vec<FloatTensor<B>>) -> Self {
        Self(tensors.into_iter())
    }
    /// The next operand, for one that the planner has always given.
    fn next(&mut self) -> FloatTensor<B> {
        self.0.next().expect("the planner names every operand that its kernel takes")
    }
    fn optional(&mut self) -> Option<FloatTensor<B>> {
        self.0.next()
    }
}

impl Kernel {
    /// Runs the kernel. `noise` is drawn from by dropout alone.
    pub(crate) fn run<B: Backend>(&self, mut operands: Operands<B>, noise: &mut ChaCha20Rng) -> FloatTensor<B> {
        match self {
            Self::Activation(op) => op.run::<B>(operands.next()),
            Self::Binary(op) => op.run::<B>(operands.next(), operands.next()),
            Self::Scalar(op) => op.run::<B>(operands.next()),
            Self::Clip(op) => op.run::<B>(operands.next()),
            Self::Gemm(op) => op.run::<B>(operands.next(), operands.next(), operands.optional()),
            Self::MatMul(op) => op.run::<B>(operands.next(), operands.next()),
            Self::Conv(op) => op.run::<B>(operands.next(), operands.next(), operands.optional()),
            Self::Pool(op) => op.run::<B>(operands.next()),
            Self::Softmax(op) => op.run::<B>(operands.next()),
            Self::BatchNorm(op) => op.run::<B>([operands.next(), operands.next(), operands.next(), operands.next(), operands.next()]),
            Self::Reduce(op) => op.run::<B>(operands.next()),
            Self::Dropout(op) => op.run::<B>(operands.next(), noise),
            Self::Reshape(shape) => B::float_reshape(operands.next(), Shape::from(shape.clone())),
            Self::Permute(axes) => B::float_permute(operands.next(), axes),
            Self::Concat(axis) => B::float_cat(operands.0.collect(), *axis),
        }
    }
}

#[cfg(test)]
mod tests;
