//! One value out for one value (or two) in: activations, sums, products.

mod binary;
mod maps;

pub use binary::{Binary, Operand, binary, binary_gradient};

use crate::isa::{Isa, Kernel, dispatch};
use crate::stretch::{Stretch, over, put, take};
use crate::vector::Vector;
use maps::Map;

/// A function of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Function {
    /// `|x|`; its gradient at 0 is 0.
    Abs,
    /// `alpha x + beta`
    Affine(f32, f32),
    /// `max(0, x) + min(0, alpha (e^(x / alpha) - 1))` (Barron 2017)
    Celu(f32),
    /// Between both; the gradient passes at the bounds.
    Clip(f32, f32),
    /// `c / x`
    DivInto(f32),
    /// `(saturate(round(x / scale) + zero) - zero) scale`, halves to the even neighbour; the gradient passes what is not saturated as it is
    /// (the straight-through estimator; Jacob et al. 2018, section 3). What is no number becomes the least.
    FakeQuantize {
        /// Above 0.
        scale: f32,
        /// A whole number between the other two.
        zero: f32,
        /// What is saturated to: whole numbers of magnitudes below 2^20.
        least: f32,
        /// See `least`.
        most: f32,
    },
    /// `gamma (x or alpha (e^x - 1))` (Clevert et al. 2016; with a factor for the whole Klambauer et al. 2017).
    Elu {
        /// Factor below 0.
        alpha: f32,
        /// Factor of the whole.
        gamma: f32,
    },
    /// The error function.
    Erf,
    /// `e^x`
    Exp,
    /// `x Phi(x)` (Hendrycks and Gimpel 2016)
    Gelu,
    /// Its tanh approximation.
    GeluTanh,
    /// `min(max(alpha x + beta, 0), 1)`
    HardSigmoid(f32, f32),
    /// `x` times [`Function::HardSigmoid`] with 1/6 and 1/2.
    HardSwish,
    /// `x`, below 0 times alpha.
    LeakyRelu(f32),
    /// The natural logarithm.
    Log,
    /// `x tanh(ln(1 + e^x))`
    Mish,
    /// `x^c`; exponents other than -1, -1/2, 1/2, 1, 2 and 3 one value at a time.
    Pow(f32),
    /// `max(0, x)`; NaN stays.
    Relu,
    /// `alpha tanh(beta x)`
    ScaledTanh(f32, f32),
    /// 0 from `-threshold` to `threshold`, else moved towards 0 by `bias`.
    Shrink {
        /// Where it begins.
        threshold: f32,
        /// How far.
        bias: f32,
    },
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `ln(1 + e^x)`
    Softplus,
    /// `x / (1 + |x|)`
    Softsign,
    /// The square root.
    Sqrt,
    /// `x sigmoid(alpha x)`
    Swish(f32),
    /// The hyperbolic tangent.
    Tanh,
    /// `x` where it is more than the threshold, else 0.
    ThresholdedRelu(f32),
}

/// What the gradient of a function is computed from, beside that by its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Nothing: it is a constant.
    Nothing,
    /// What went in.
    Input,
    /// What came out.
    Output,
}

/// Calls `$then` with the map of a function.
macro_rules! with_map {
    ($function:expr, $map:ident => $then:expr) => {
        match $function {
            Function::Abs => with_map!(@ maps::Abs, $map, $then),
            Function::Affine(alpha, beta) => with_map!(@ maps::Affine(alpha, beta), $map, $then),
            Function::Celu(alpha) => with_map!(@ maps::Exponential { above: 1.0, below: alpha, rate: 1.0 / alpha }, $map, $then),
            Function::Clip(least, most) => with_map!(@ maps::Clip(least, most), $map, $then),
            Function::DivInto(c) => with_map!(@ maps::DivInto(c), $map, $then),
            Function::Elu { alpha, gamma } => {
                with_map!(@ maps::Exponential { above: gamma, below: gamma * alpha, rate: 1.0 }, $map, $then)
            }
            Function::Erf => with_map!(@ maps::Erf, $map, $then),
            Function::Exp => with_map!(@ maps::Exp, $map, $then),
            Function::FakeQuantize { scale, zero, least, most } => {
                with_map!(@ maps::FakeQuantize { scale, zero, least, most }, $map, $then)
            }
            Function::Gelu => with_map!(@ maps::Gelu, $map, $then),
            Function::GeluTanh => with_map!(@ maps::GeluTanh, $map, $then),
            Function::HardSigmoid(alpha, beta) => with_map!(@ maps::HardSigmoid(alpha, beta), $map, $then),
            Function::HardSwish => with_map!(@ maps::HardSwish, $map, $then),
            Function::LeakyRelu(alpha) => with_map!(@ maps::LeakyRelu(alpha), $map, $then),
            Function::Log => with_map!(@ maps::Log, $map, $then),
            Function::Mish => with_map!(@ maps::Mish, $map, $then),
            Function::Pow(c) => with_map!(@ maps::Pow(c), $map, $then),
            Function::Relu => with_map!(@ maps::Relu, $map, $then),
            Function::ScaledTanh(alpha, beta) => with_map!(@ maps::ScaledTanh(alpha, beta), $map, $then),
            Function::Shrink { threshold, bias } => with_map!(@ maps::Shrink { threshold, bias }, $map, $then),
            Function::Sigmoid => with_map!(@ maps::Sigmoid, $map, $then),
            Function::Softplus => with_map!(@ maps::Softplus, $map, $then),
            Function::Softsign => with_map!(@ maps::Softsign, $map, $then),
            Function::Sqrt => with_map!(@ maps::Sqrt, $map, $then),
            Function::Swish(alpha) => with_map!(@ maps::Swish(alpha), $map, $then),
            Function::Tanh => with_map!(@ maps::Tanh, $map, $then),
            Function::ThresholdedRelu(threshold) => with_map!(@ maps::ThresholdedRelu(threshold), $map, $then),
        }
    };
    (@ $value:expr, $map:ident, $then:expr) => {{
        let $map = $value;
        $then
    }};
}

impl Function {
    /// What its gradient is computed from.
    pub fn reads(self) -> Reads {
        fn of<M: Map>(_: M) -> Reads {
            M::READS
        }
        with_map!(self, map => of(map))
    }

    /// `y = f(x)`
    ///
    /// # Panics
    /// On slices of different lengths; so do all functions here.
    pub fn forward(self, isa: Isa, x: &[f32], y: &mut [f32]) {
        assert_eq!(x.len(), y.len(), "input and output have different lengths");
        // SAFETY: both have as many values.
        unsafe { self.run_forward(isa, x.as_ptr(), y.as_mut_ptr(), x.len()) };
    }

    /// `dx = f'(x) dy`. `kept` is what [`Self::reads`] says; it may be empty where that is nothing.
    pub fn backward(self, isa: Isa, kept: &[f32], dy: &[f32], dx: &mut [f32]) {
        assert_eq!(dy.len(), dx.len(), "the gradients have different lengths");
        self.check_kept(kept, dy.len());
        // SAFETY: all that is read has as many values.
        unsafe { self.run_backward(isa, kept.as_ptr(), dy.as_ptr(), dx.as_mut_ptr(), dy.len()) };
    }

    fn check_kept(self, kept: &[f32], len: usize) {
        assert!(
            self.reads() == Reads::Nothing || kept.len() == len,
            "what was kept has another length than the gradient"
        );
    }

    unsafe fn run_forward(self, isa: Isa, x: *const f32, y: *mut f32, len: usize) {
        with_map!(self, map => dispatch(isa, Run(Value { map, x, y }, len)));
    }

    unsafe fn run_backward(self, isa: Isa, kept: *const f32, dy: *const f32, dx: *mut f32, len: usize) {
        with_map!(self, map => dispatch(isa, Run(Gradient { map, kept, dy, dx }, len)));
    }
}

struct Run<S>(S, usize);

impl<S: Stretch> Kernel for Run<S> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        over::<V>(self.1, self.0);
    }
}

#[derive(Clone, Copy)]
struct Value<M> {
    map: M,
    x: *const f32,
    y: *mut f32,
}

impl<M: Map> Stretch for Value<M> {
    #[inline(always)]
    unsafe fn at<V: Vector>(self, i: usize, n: usize) {
        put(self.map.value(take::<V>(self.x.add(i), n)), self.y.add(i), n);
    }
}

#[derive(Clone, Copy)]
struct Gradient<M> {
    map: M,
    kept: *const f32,
    dy: *const f32,
    dx: *mut f32,
}

impl<M: Map> Stretch for Gradient<M> {
    #[inline(always)]
    unsafe fn at<V: Vector>(self, i: usize, n: usize) {
        let kept = match M::READS {
            Reads::Nothing => V::splat(0.0),
            _ => take::<V>(self.kept.add(i), n),
        };
        put(self.map.gradient(kept, take::<V>(self.dy.add(i), n)), self.dx.add(i), n);
    }
}

#[cfg(test)]
mod tests;
