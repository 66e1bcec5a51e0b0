//! Gelu with the gradient written out: backends without one of their own differentiate its tanh approximation instead, which is
//! off by up to a thousandth.

use std::any::TypeId;

use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn_backend::Backend;
use burn_backend::tensor::FloatTensor;

use crate::executor::Cpu;

#[derive(Debug)]
struct Gelu;

impl<B: Backend> Backward<B, 1> for Gelu {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let x = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| by_input::<B>(x, gradient));
    }
}

/// `x Phi(x)`, where Phi is the distribution function of the normal distribution (Hendrycks and Gimpel 2016).
pub(super) fn run_tracked<B: Backend>(x: FloatTensor<Autodiff<B>>) -> FloatTensor<Autodiff<B>> {
    let node = x.node();
    let x = x.into_primitive();
    match Backward::<B, 1>::prepare::<NoCheckpointing>(Gelu, [node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish(x.clone(), B::gelu(x)),
        OpsKind::UnTracked(prep) => prep.finish(B::gelu(x)),
    }
}

/// `gradient (Phi(x) + x phi(x))`
fn by_input<B: Backend>(x: FloatTensor<B>, gradient: FloatTensor<B>) -> FloatTensor<B> {
    if TypeId::of::<B>() == TypeId::of::<Cpu>() {
        // The CPU's own is this in one pass.
        return B::gelu_backward(x, gradient);
    }
    let scaled = |tensor: FloatTensor<B>, by: f64| B::float_mul_scalar(tensor, (by as f32).into());
    let erf = B::float_erf(scaled(x.clone(), std::f64::consts::FRAC_1_SQRT_2));
    let area = scaled(B::float_add_scalar(erf, 1.0f32.into()), 0.5);
    let square = B::float_mul(x.clone(), x.clone());
    let density = scaled(
        B::float_exp(scaled(square, -0.5)),
        0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2,
    );
    B::float_mul(gradient, B::float_add(area, B::float_mul(x, density)))
}
