//! Functions of one tensor, element by element, and dropout.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, TensorData, TensorMetadata};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use super::Kernel;
use crate::program::{Ints, Mode, NodeView, Planned, Problem, Value, refuse};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Activation {
    Relu,
    LeakyRelu(f32),
    Sigmoid,
    Tanh,
    Exp,
    Log,
    Sqrt,
    Erf,
    Gelu,
    /// Hendrycks and Gimpel 2016, the tanh approximation.
    GeluTanh,
    Neg,
}

pub(super) fn activation(node: &NodeView<'_>) -> Result<Planned, Problem> {
    if let (Some(Value::Ints(ints)), "Neg") = (node.input(0), node.op()) {
        return Planned::ints(ints.negated()?);
    }
    let x = node.tensor(0)?;
    let op = match node.op() {
        "LeakyRelu" => {
            node.knows(&["alpha"])?;
            Activation::LeakyRelu(node.float("alpha").unwrap_or(0.01))
        }
        "Gelu" => {
            node.knows(&["approximate"])?;
            match node.text("approximate", "none").as_str() {
                "none" => Activation::Gelu,
                "tanh" => Activation::GeluTanh,
                other => return Err(refuse(format!("its `approximate` is `{other}`"), "use none or tanh")),
            }
        }
        plain => {
            node.knows(&[])?;
            match plain {
                "Relu" => Activation::Relu,
                "Sigmoid" => Activation::Sigmoid,
                "Tanh" => Activation::Tanh,
                "Exp" => Activation::Exp,
                "Log" => Activation::Log,
                "Sqrt" => Activation::Sqrt,
                "Erf" => Activation::Erf,
                "Neg" => Activation::Neg,
                other => return Err(refuse(format!("`{other}` is no activation"), "report this as a defect")),
            }
        }
    };
    Planned::run(Kernel::Activation(op), &[x], x.shape.clone())
}

impl Activation {
    pub(super) fn run<B: Backend>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        match self {
            Self::Relu => B::relu(x),
            Self::LeakyRelu(alpha) => B::leaky_relu(x, alpha.into()),
            Self::Sigmoid => B::sigmoid(x),
            Self::Tanh => B::float_tanh(x),
            Self::Exp => B::float_exp(x),
            Self::Log => B::float_log(x),
            Self::Sqrt => B::float_sqrt(x),
            Self::Erf => B::float_erf(x),
            Self::Gelu => B::gelu(x),
            Self::GeluTanh => gelu_tanh::<B>(x),
            Self::Neg => B::float_neg(x),
        }
    }
}

/// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
fn gelu_tanh<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let cube = B::float_mul(B::float_mul(x.clone(), x.clone()), x.clone());
    let inner = B::float_add(x.clone(), B::float_mul_scalar(cube, 0.044_715f32.into()));
    let scale = (2.0 / std::f64::consts::PI).sqrt();
    let gate = B::float_add_scalar(B::float_tanh(B::float_mul_scalar(inner, scale.into())), 1.0f32.into());
    B::float_mul_scalar(B::float_mul(x, gate), 0.5f32.into())
}

/// Inverted dropout: what stays is divided by the share that stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dropout {
    /// Share that is dropped, 0 to less than 1.
    ratio: f32,
}

/// Applies while training where the file says so: `training_mode` true (opset 12 and later), always in older opsets.
pub(super) fn dropout(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["ratio", "seed", "is_test", "consumed_inputs"])?;
    let x = node.tensor(0)?;
    let on_in_file = if node.opset >= 12 {
        node.optional_ints(2)?.and_then(Ints::scalar).unwrap_or(0) != 0
    } else {
        !node.flag("is_test")
    };
    let ratio = match node.optional_tensor(1)? {
        None => node.float("ratio").unwrap_or(0.5),
        Some(tensor) => tensor
            .scalar()
            .ok_or_else(|| refuse("its ratio is not a constant", "make it one number"))?,
    };
    if !(0.0..1.0).contains(&ratio) {
        return Err(refuse(format!("its ratio is {ratio}"), "use a ratio from 0 to less than 1"));
    }
    if node.mode == Mode::Inference || !on_in_file || ratio == 0.0 {
        return Ok(Planned::Value(Value::Tensor(x.clone())));
    }
    Planned::run(Kernel::Dropout(Dropout { ratio }), &[x], x.shape.clone())
}

impl Dropout {
    pub(super) fn run<B: Backend>(self, x: FloatTensor<B>, noise: &mut ChaCha20Rng) -> FloatTensor<B> {
        let shape = x.shape();
        let dropped_below = (f64::from(self.ratio) * f64::from(u32::MAX)) as u32;
        let scale = 1.0 / (1.0 - self.ratio);
        let mask: Vec<f32> = (0..shape.num_elements())
            .map(|_| if noise.next_u32() < dropped_below { 0.0 } else { scale })
            .collect();
        let mask = B::float_from_data(TensorData::new(mask, shape), &x.device());
        B::float_mul(x, mask)
    }
}
