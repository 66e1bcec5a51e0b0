//! Functions of exponentials.

use super::{Map, Reads, splat};
use crate::math::{erf, exp, ln, sigmoid, tanh};
use crate::vector::Vector;

/// `above * x` where it is positive, else `below (e^(rate x) - 1)`. The exponential is only ever taken of what is not positive.
#[derive(Clone, Copy)]
pub(in super::super) struct Exponential {
    pub(in super::super) above: f32,
    pub(in super::super) below: f32,
    pub(in super::super) rate: f32,
}

impl Map for Exponential {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        let zero = splat::<V>(0.0);
        let curve = exp(zero.min(x).mul(splat(self.rate))).sub(splat(1.0)).mul(splat(self.below));
        x.mul(splat(self.above)).select(x.gt(zero), curve)
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        let zero = splat::<V>(0.0);
        let slope = exp(zero.min(x).mul(splat(self.rate))).mul(splat(self.below * self.rate));
        dy.mul(splat::<V>(self.above).select(x.gt(zero), slope))
    }
}

#[derive(Clone, Copy)]
pub(in super::super) struct Erf;

impl Map for Erf {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        erf(x)
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        dy.mul(splat(std::f32::consts::FRAC_2_SQRT_PI))
            .mul(exp(splat::<V>(0.0).sub(x.mul(x))))
    }
}

#[derive(Clone, Copy)]
pub(in super::super) struct Exp;

impl Map for Exp {
    const READS: Reads = Reads::Output;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        exp(x)
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, y: V, dy: V) -> V {
        dy.mul(y)
    }
}

#[derive(Clone, Copy)]
pub(in super::super) struct Gelu;

impl Map for Gelu {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        x.mul(area(x))
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        let density = exp(x.mul(x).mul(splat(-0.5))).mul(splat(DENSITY));
        dy.mul(x.fma(density, area(x)))
    }
}

#[derive(Clone, Copy)]
pub(in super::super) struct GeluTanh;

impl Map for GeluTanh {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        // (1 + tanh(u)) / 2 is the sigmoid of 2 u, which loses nothing where tanh is near -1.
        x.mul(sigmoid(twice_inner(x)))
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        let gate = sigmoid(twice_inner(x));
        let slope = x.mul(x).fma(splat(6.0 * CUBE * ROOT), splat(2.0 * ROOT));
        let rest = splat::<V>(1.0).sub(gate);
        dy.mul(gate).mul(x.mul(slope).fma(rest, splat(1.0)))
    }
}

#[derive(Clone, Copy)]
pub(in super::super) struct Log;

impl Map for Log {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        ln(x)
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        dy.div(x)
    }
}

#[derive(Clone, Copy)]
pub(in super::super) struct Mish;

impl Map for Mish {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        x.mul(tanh(Softplus.value(x)))
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        let gate = tanh(Softplus.value(x));
        let slope = splat::<V>(1.0).sub(gate.mul(gate)).mul(sigmoid(x));
        dy.mul(x.fma(slope, gate))
    }
}

#[derive(Clone, Copy)]
pub(in super::super) struct ScaledTanh(pub(in super::super) f32, pub(in super::super) f32);

impl Map for ScaledTanh {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        tanh(x.mul(splat(self.1))).mul(splat(self.0))
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        let y = tanh(x.mul(splat(self.1)));
        dy.mul(splat(self.0 * self.1)).mul(splat::<V>(1.0).sub(y.mul(y)))
    }
}

#[derive(Clone, Copy)]
pub(in super::super) struct Sigmoid;

impl Map for Sigmoid {
    const READS: Reads = Reads::Output;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        sigmoid(x)
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, y: V, dy: V) -> V {
        dy.mul(y).mul(splat::<V>(1.0).sub(y))
    }
}

#[derive(Clone, Copy)]
pub(in super::super) struct Softplus;

impl Map for Softplus {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        // max(x, 0) + ln(1 + e^-|x|); what 1 + e^-|x| was rounded by is put right by the quotient.
        let (zero, one) = (splat::<V>(0.0), splat::<V>(1.0));
        let tail = exp(zero.sub(x.abs()));
        let sum = tail.add(one);
        let whole = sum.sub(one);
        let log = tail.select(whole.eq(zero), ln(sum).mul(tail).div(whole));
        zero.max(x).add(log)
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        dy.mul(sigmoid(x))
    }
}

#[derive(Clone, Copy)]
pub(in super::super) struct Swish(pub(in super::super) f32);

impl Map for Swish {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        x.mul(sigmoid(x.mul(splat(self.0))))
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        let scaled = x.mul(splat(self.0));
        let gate = sigmoid(scaled);
        dy.mul(scaled.mul(gate).fma(splat::<V>(1.0).sub(gate), gate))
    }
}

#[derive(Clone, Copy)]
pub(in super::super) struct Tanh;

impl Map for Tanh {
    const READS: Reads = Reads::Output;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        tanh(x)
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, y: V, dy: V) -> V {
        dy.mul(splat::<V>(1.0).sub(y.mul(y)))
    }
}

/// The density of the normal distribution at 0: 1 / sqrt(2 pi).
const DENSITY: f32 = 0.398_942_3;

/// Its distribution function.
#[inline(always)]
unsafe fn area<V: Vector>(x: V) -> V {
    let half = splat::<V>(0.5);
    erf(x.mul(splat(std::f32::consts::FRAC_1_SQRT_2))).fma(half, half)
}

/// sqrt(2 / pi)
const ROOT: f32 = 0.797_884_6;
const CUBE: f32 = 0.044_715;

/// `2 sqrt(2 / pi) (x + 0.044715 x^3)`
#[inline(always)]
unsafe fn twice_inner<V: Vector>(x: V) -> V {
    x.mul(x.mul(x).fma(splat(2.0 * CUBE * ROOT), splat(2.0 * ROOT)))
}
