//! Each function over a register, and its gradient: here those of lines and roots.

use super::Reads;
use crate::vector::Vector;

mod curves;

pub(super) use curves::*;

/// A function over registers. Marked `#[inline(always)]` wherever it is written.
pub(super) trait Map: Copy {
    /// What [`Self::gradient`] is given.
    const READS: Reads;

    unsafe fn value<V: Vector>(self, x: V) -> V;

    /// The gradient by the input: that by the output, `dy`, times the slope.
    unsafe fn gradient<V: Vector>(self, kept: V, dy: V) -> V;
}

#[inline(always)]
unsafe fn splat<V: Vector>(x: f32) -> V {
    V::splat(x)
}

#[derive(Clone, Copy)]
pub(super) struct Abs;

impl Map for Abs {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        x.abs()
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        let zero = splat::<V>(0.0);
        let negative = zero.sub(dy).keep(zero.gt(x));
        dy.select(x.gt(zero), negative)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Affine(pub(super) f32, pub(super) f32);

impl Map for Affine {
    const READS: Reads = Reads::Nothing;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        x.mul(splat(self.0)).add(splat(self.1))
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, _: V, dy: V) -> V {
        dy.mul(splat(self.0))
    }
}

#[derive(Clone, Copy)]
pub(super) struct Clip(pub(super) f32, pub(super) f32);

impl Map for Clip {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        let (least, most) = (splat::<V>(self.0), splat::<V>(self.1));
        most.min(least.max(x))
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        let zero = splat::<V>(0.0);
        let dy = zero.select(splat::<V>(self.0).gt(x), dy);
        zero.select(x.gt(splat(self.1)), dy)
    }
}

#[derive(Clone, Copy)]
pub(super) struct DivInto(pub(super) f32);

impl Map for DivInto {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        splat::<V>(self.0).div(x)
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        dy.mul(splat(-self.0)).div(x.mul(x))
    }
}

#[derive(Clone, Copy)]
pub(super) struct FakeQuantize {
    pub(super) scale: f32,
    pub(super) zero: f32,
    pub(super) least: f32,
    pub(super) most: f32,
}

impl FakeQuantize {
    /// Before and after saturation.
    #[inline(always)]
    unsafe fn both<V: Vector>(self, x: V) -> (V, V) {
        // Registers round magnitudes below 2^22; whatever is further out is saturated.
        const FURTHEST: f32 = 2_097_152.0;
        let scaled = x.div(splat(self.scale)).max(splat(-FURTHEST)).min(splat(FURTHEST));
        let wide = scaled.round().add(splat(self.zero));
        (wide, wide.max(splat(self.least)).min(splat(self.most)))
    }
}

impl Map for FakeQuantize {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        self.both(x).1.sub(splat(self.zero)).mul(splat(self.scale))
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        let (wide, narrow) = self.both(x);
        dy.keep(wide.eq(narrow))
    }
}

#[derive(Clone, Copy)]
pub(super) struct HardSigmoid(pub(super) f32, pub(super) f32);

impl Map for HardSigmoid {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        Clip(0.0, 1.0).value(Affine(self.0, self.1).value(x))
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        Clip(0.0, 1.0).gradient(Affine(self.0, self.1).value(x), dy).mul(splat(self.0))
    }
}

#[derive(Clone, Copy)]
pub(super) struct HardSwish;

impl Map for HardSwish {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        x.mul(HARD.value(x))
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        HARD.gradient(x, dy.mul(x)).add(dy.mul(HARD.value(x)))
    }
}

#[derive(Clone, Copy)]
pub(super) struct LeakyRelu(pub(super) f32);

impl Map for LeakyRelu {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        x.mul(splat(self.0)).select(splat::<V>(0.0).gt(x), x)
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        dy.mul(splat(self.0)).select(splat::<V>(0.0).gt(x), dy)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Relu;

impl Map for Relu {
    const READS: Reads = Reads::Output;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        splat::<V>(0.0).max(x)
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, y: V, dy: V) -> V {
        // Nothing that came out is below zero; a gradient beside NaN stays.
        let zero = splat::<V>(0.0);
        zero.select(y.eq(zero), dy)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Shrink {
    pub(super) threshold: f32,
    pub(super) bias: f32,
}

impl Map for Shrink {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        let (threshold, bias) = (splat::<V>(self.threshold), splat::<V>(self.bias));
        let above = x.sub(bias).select(x.gt(threshold), x.mul(splat(0.0)));
        x.add(bias).select(splat::<V>(-self.threshold).gt(x), above)
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        let above = dy.keep(x.gt(splat(self.threshold)));
        dy.select(splat::<V>(-self.threshold).gt(x), above)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Softsign;

impl Map for Softsign {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        x.div(x.abs().add(splat(1.0)))
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        let below = x.abs().add(splat(1.0));
        dy.div(below.mul(below))
    }
}

#[derive(Clone, Copy)]
pub(super) struct Sqrt;

impl Map for Sqrt {
    const READS: Reads = Reads::Output;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        x.sqrt()
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, y: V, dy: V) -> V {
        dy.mul(splat(0.5)).div(y)
    }
}

#[derive(Clone, Copy)]
pub(super) struct ThresholdedRelu(pub(super) f32);

impl Map for ThresholdedRelu {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        x.keep(x.gt_or_nan(splat(self.0)))
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        dy.keep(x.gt_or_nan(splat(self.0)))
    }
}

#[derive(Clone, Copy)]
pub(super) struct Pow(pub(super) f32);

impl Map for Pow {
    const READS: Reads = Reads::Input;

    #[inline(always)]
    unsafe fn value<V: Vector>(self, x: V) -> V {
        power(x, self.0)
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, x: V, dy: V) -> V {
        dy.mul(splat(self.0)).mul(power(x, self.0 - 1.0))
    }
}

/// `x^c`
#[inline(always)]
unsafe fn power<V: Vector>(x: V, c: f32) -> V {
    let one = splat::<V>(1.0);
    if c == 0.0 {
        one
    } else if c == 1.0 {
        x
    } else if c == 2.0 {
        x.mul(x)
    } else if c == 3.0 {
        x.mul(x).mul(x)
    } else if c == 0.5 {
        x.sqrt()
    } else if c == -0.5 {
        one.div(x.sqrt())
    } else if c == -1.0 {
        one.div(x)
    } else if c == -1.5 {
        one.div(x.mul(x.sqrt()))
    } else if c == -2.0 {
        one.div(x.mul(x))
    } else {
        // Signs, zeros and infinities as they should be matter more than speed here.
        let mut lanes = [0.0f32; MOST_LANES];
        x.store(lanes.as_mut_ptr());
        for lane in lanes.iter_mut().take(V::LANES) {
            *lane = lane.powf(c);
        }
        V::load(lanes.as_ptr())
    }
}

/// Most lanes of a register.
const MOST_LANES: usize = 16;

/// The gate of HardSwish.
const HARD: HardSigmoid = HardSigmoid(1.0 / 6.0, 0.5);
