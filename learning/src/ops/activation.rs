//! Functions of one tensor, element by element, and PRelu.
//!
//! They are put together such that their gradients stay finite where one side of a kink overflows: the exponential of Elu, for
//! instance, is only ever taken of what is not positive.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, TensorMetadata, get_or_init_device_settings};

use super::{Kernel, dims};
use crate::program::{NodeView, Planned, Problem, broadcast, refuse};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Activation {
    /// `alpha x + beta`
    Affine(f32, f32),
    /// Clevert et al. 2016 and, with a factor for the whole, Klambauer et al. 2017: `gamma (x or alpha (e^x - 1))`.
    Elu {
        alpha: f32,
        gamma: f32,
    },
    /// Barron 2017: `max(0, x) + min(0, alpha (e^(x / alpha) - 1))`
    Celu(f32),
    Erf,
    Exp,
    Gelu,
    /// Hendrycks and Gimpel 2016, the tanh approximation.
    GeluTanh,
    /// `min(max(alpha x + beta, 0), 1)`
    HardSigmoid(f32, f32),
    HardSwish,
    LeakyRelu(f32),
    Log,
    Mish,
    Neg,
    Relu,
    /// `alpha tanh(beta x)`
    ScaledTanh(f32, f32),
    /// 0 from `-threshold` to `threshold`, else moved towards 0 by `bias`.
    Shrink {
        threshold: f32,
        bias: f32,
    },
    Sigmoid,
    Softplus,
    Softsign,
    Sqrt,
    /// `x sigmoid(alpha x)`
    Swish(f32),
    Tanh,
    /// `x` where it is more than the threshold, else 0.
    ThresholdedRelu(f32),
}

pub(super) fn activation(node: &NodeView<'_>) -> Result<Planned, Problem> {
    let x = node.tensor(0)?;
    let float = |name: &str, default: f32| node.float(name).unwrap_or(default);
    let known: &[&str] = match node.op() {
        "Celu" | "Elu" | "LeakyRelu" | "Swish" | "ThresholdedRelu" => &["alpha"],
        "Gelu" => &["approximate"],
        "HardSigmoid" => &["alpha", "beta"],
        "Selu" => &["alpha", "gamma"],
        "Shrink" => &["bias", "lambd"],
        _ => &[],
    };
    node.knows(known)?;
    let op = match node.op() {
        "Celu" => Activation::Celu(float("alpha", 1.0)),
        "Elu" => Activation::Elu {
            alpha: float("alpha", 1.0),
            gamma: 1.0,
        },
        "Erf" => Activation::Erf,
        "Exp" => Activation::Exp,
        "Gelu" => match node.text("approximate", "none").as_str() {
            "none" => Activation::Gelu,
            "tanh" => Activation::GeluTanh,
            other => return Err(refuse(format!("its `approximate` is `{other}`"), "use none or tanh")),
        },
        "HardSigmoid" => Activation::HardSigmoid(float("alpha", 0.2), float("beta", 0.5)),
        "HardSwish" => Activation::HardSwish,
        "LeakyRelu" => Activation::LeakyRelu(float("alpha", 0.01)),
        "Log" => Activation::Log,
        "Mish" => Activation::Mish,
        "Neg" => Activation::Neg,
        "Relu" => Activation::Relu,
        "Selu" => Activation::Elu {
            alpha: float("alpha", 1.673_263_2),
            gamma: float("gamma", 1.050_701),
        },
        "Shrink" => Activation::Shrink {
            threshold: float("lambd", 0.5),
            bias: float("bias", 0.0),
        },
        "Sigmoid" => Activation::Sigmoid,
        "Softplus" => Activation::Softplus,
        "Softsign" => Activation::Softsign,
        "Sqrt" => Activation::Sqrt,
        "Swish" => Activation::Swish(float("alpha", 1.0)),
        "Tanh" => Activation::Tanh,
        "ThresholdedRelu" => Activation::ThresholdedRelu(float("alpha", 1.0)),
        other => return Err(refuse(format!("`{other}` is no activation"), "report this as a defect")),
    };
    if op == Activation::Celu(0.0) {
        return Err(refuse("its `alpha` is 0", "use another"));
    }
    Planned::run(Kernel::Activation(op), &[x], x.shape.clone())
}

impl Activation {
    pub(super) fn run<B: Backend>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        match self {
            Self::Affine(alpha, beta) => B::float_add_scalar(B::float_mul_scalar(x, alpha.into()), beta.into()),
            Self::Elu { alpha, gamma } => {
                let y = exponential::<B>(x, alpha, 1.0);
                if gamma == 1.0 { y } else { B::float_mul_scalar(y, gamma.into()) }
            }
            Self::Celu(alpha) => exponential::<B>(x, alpha, 1.0 / alpha),
            Self::Erf => B::float_erf(x),
            Self::Exp => B::float_exp(x),
            Self::Gelu => B::gelu(x),
            Self::GeluTanh => gelu_tanh::<B>(x),
            Self::HardSigmoid(alpha, beta) => {
                let line = Self::Affine(alpha, beta).run::<B>(x);
                B::float_clamp(line, 0.0f32.into(), 1.0f32.into())
            }
            Self::HardSwish => B::float_mul(x.clone(), Self::HardSigmoid(1.0 / 6.0, 0.5).run::<B>(x)),
            Self::LeakyRelu(alpha) => B::leaky_relu(x, alpha.into()),
            Self::Log => B::float_log(x),
            Self::Mish => B::float_mul(x.clone(), B::float_tanh(Self::Softplus.run::<B>(x))),
            Self::Neg => B::float_neg(x),
            Self::Relu => B::relu(x),
            Self::ScaledTanh(alpha, beta) => B::float_mul_scalar(B::float_tanh(B::float_mul_scalar(x, beta.into())), alpha.into()),
            Self::Shrink { threshold, bias } => {
                let bool_dtype = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
                let above = B::float_greater_elem(x.clone(), threshold.into(), bool_dtype);
                let below = B::float_lower_elem(x.clone(), (-threshold).into(), bool_dtype);
                let none = B::float_mul_scalar(x.clone(), 0.0f32.into());
                let y = B::float_mask_where(none, above, B::float_sub_scalar(x.clone(), bias.into()));
                B::float_mask_where(y, below, B::float_add_scalar(x, bias.into()))
            }
            Self::Sigmoid => B::sigmoid(x),
            // log(1 + e^x) without overflow.
            Self::Softplus => B::float_neg(B::log_sigmoid(B::float_neg(x))),
            Self::Softsign => B::float_div(x.clone(), B::float_add_scalar(B::float_abs(x), 1.0f32.into())),
            Self::Sqrt => B::float_sqrt(x),
            Self::Swish(alpha) => {
                let gate = if alpha == 1.0 {
                    x.clone()
                } else {
                    B::float_mul_scalar(x.clone(), alpha.into())
                };
                B::float_mul(x, B::sigmoid(gate))
            }
            Self::Tanh => B::float_tanh(x),
            Self::ThresholdedRelu(threshold) => {
                let bool_dtype = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
                let below = B::float_lower_equal_elem(x.clone(), threshold.into(), bool_dtype);
                B::float_mask_fill(x, below, 0.0f32.into())
            }
        }
    }
}

/// `x` where it is positive, else `alpha (e^(rate x) - 1)`.
fn exponential<B: Backend>(x: FloatTensor<B>, alpha: f32, rate: f32) -> FloatTensor<B> {
    let positive = B::relu(x.clone());
    let mut negative = B::float_sub(x, positive.clone());
    if rate != 1.0 {
        negative = B::float_mul_scalar(negative, rate.into());
    }
    let curve = B::float_add_scalar(B::float_exp(negative), (-1.0f32).into());
    let curve = if alpha == 1.0 {
        curve
    } else {
        B::float_mul_scalar(curve, alpha.into())
    };
    B::float_add(positive, curve)
}

/// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
fn gelu_tanh<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let cube = B::float_mul(B::float_mul(x.clone(), x.clone()), x.clone());
    let inner = B::float_add(x.clone(), B::float_mul_scalar(cube, 0.044_715f32.into()));
    let scale = (2.0 / std::f64::consts::PI).sqrt();
    let gate = B::float_add_scalar(B::float_tanh(B::float_mul_scalar(inner, scale.into())), 1.0f32.into());
    B::float_mul_scalar(B::float_mul(x, gate), 0.5f32.into())
}

/// A slope for what is negative, which trains (He et al. 2015).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PRelu {
    /// The slope's shape, with as many dimensions as the input's.
    pub(crate) slope: Vec<usize>,
}

pub(super) fn prelu(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let (x, slope) = (node.tensor(0)?, node.tensor(1)?);
    if broadcast(&slope.shape, &x.shape).is_none_or(|shape| shape != x.shape) {
        return Err(refuse(
            format!("its slope of shape {:?} does not broadcast to {:?}", slope.shape, x.shape),
            "correct the shape of the slope",
        ));
    }
    let raised = std::iter::repeat_n(1, x.rank() - slope.rank()).chain(slope.shape.iter().copied());
    let kernel = PRelu { slope: raised.collect() };
    Planned::run(Kernel::PRelu(kernel), &[x, slope], x.shape.clone())
}

impl PRelu {
    pub(super) fn run<B: Backend>(&self, x: FloatTensor<B>, slope: FloatTensor<B>) -> FloatTensor<B> {
        B::prelu(x, B::float_reshape(slope, dims(&self.slope)))
    }
}
