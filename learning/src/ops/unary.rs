//! Elementary functions of one tensor, element by element. Those that networks are made of are in `activation`.

use burn_backend::Backend;
use burn_backend::tensor::FloatTensor;

use super::Kernel;
use crate::program::{NodeView, Planned, Problem, refuse};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unary {
    Abs,
    Sign,
    Floor,
    Ceil,
    /// Halves to the even neighbour.
    Round,
    Reciprocal,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
}

pub(super) fn unary(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let x = node.tensor(0)?;
    let op = match node.op() {
        "Abs" => Unary::Abs,
        "Sign" => Unary::Sign,
        "Floor" => Unary::Floor,
        "Ceil" => Unary::Ceil,
        "Round" => Unary::Round,
        "Reciprocal" => Unary::Reciprocal,
        "Sin" => Unary::Sin,
        "Cos" => Unary::Cos,
        "Tan" => Unary::Tan,
        "Asin" => Unary::Asin,
        "Acos" => Unary::Acos,
        "Atan" => Unary::Atan,
        "Sinh" => Unary::Sinh,
        "Cosh" => Unary::Cosh,
        "Asinh" => Unary::Asinh,
        "Acosh" => Unary::Acosh,
        "Atanh" => Unary::Atanh,
        other => return Err(refuse(format!("`{other}` is no function of one tensor"), "report this as a defect")),
    };
    Planned::run(Kernel::Unary(op), &[x], x.shape.clone())
}

impl Unary {
    pub(super) fn run<B: Backend>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        match self {
            Self::Abs => B::float_abs(x),
            Self::Sign => B::float_sign(x),
            Self::Floor => B::float_floor(x),
            Self::Ceil => B::float_ceil(x),
            Self::Round => B::float_round(x),
            Self::Reciprocal => B::float_recip(x),
            Self::Sin => B::float_sin(x),
            Self::Cos => B::float_cos(x),
            Self::Tan => B::float_tan(x),
            Self::Asin => B::float_asin(x),
            Self::Acos => B::float_acos(x),
            Self::Atan => B::float_atan(x),
            Self::Sinh => B::float_sinh(x),
            Self::Cosh => B::float_cosh(x),
            Self::Asinh => B::float_asinh(x),
            Self::Acosh => B::float_acosh(x),
            Self::Atanh => B::float_atanh(x),
        }
    }
}
