//! Softmax and its logarithm.

use crate::isa::{Isa, Kernel, dispatch};
use crate::math::{exp, ln};
use crate::stretch::{first_or, put, take};
use crate::vector::Vector;

/// Softmax, or its logarithm, over the middle axis of `[outer, len, inner]`. A row that is -inf throughout, or has NaN, becomes NaN.
#[derive(Debug, Clone, Copy)]
pub struct Softmax {
    isa: Isa,
    outer: usize,
    len: usize,
    inner: usize,
    log: bool,
}

impl Softmax {
    /// `log`: the logarithm of the softmax.
    pub fn new(isa: Isa, [outer, len, inner]: [usize; 3], log: bool) -> Self {
        crate::elements(&[outer, len, inner]);
        Self {
            isa,
            outer,
            len,
            inner,
            log,
        }
    }

    fn check(&self, lens: [usize; 2]) {
        let len = self.outer * self.len * self.inner;
        assert!(lens == [len; 2], "a slice has another length than the shape");
    }

    /// `y` becomes the softmax of `x`.
    ///
    /// # Panics
    /// On slices of other lengths; so do all functions here.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) {
        self.check([x.len(), y.len()]);
        // SAFETY: both have the length of the shape.
        unsafe { dispatch(self.isa, Forward(self, x.as_ptr(), y.as_mut_ptr())) };
    }

    /// `dx` becomes the gradient by the input; `y` is what came out.
    pub fn backward(&self, y: &[f32], dy: &[f32], dx: &mut [f32]) {
        self.check([y.len(), dx.len()]);
        self.check([dy.len(), dx.len()]);
        // SAFETY: all have the length of the shape.
        unsafe { dispatch(self.isa, Backward(self, y.as_ptr(), dy.as_ptr(), dx.as_mut_ptr())) };
    }
}

/// The largest of a row. NaN is passed over.
#[inline(always)]
pub(super) unsafe fn largest<V: Vector>(x: *const f32, n: usize) -> f32 {
    let mut most = [V::splat(f32::NEG_INFINITY); 2];
    let mut i = 0;
    while i + 2 * V::LANES <= n {
        most[0] = V::load(x.add(i)).max(most[0]);
        most[1] = V::load(x.add(i + V::LANES)).max(most[1]);
        i += 2 * V::LANES;
    }
    while i < n {
        let m = V::LANES.min(n - i);
        most[0] = first_or(V::load_n(x.add(i), m), m, f32::NEG_INFINITY).max(most[0]);
        i += m;
    }
    most[0].max(most[1]).largest()
}

struct Forward<'a>(&'a Softmax, *const f32, *mut f32);

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self(softmax, x, y) = self;
        let (len, inner) = (softmax.len, softmax.inner);
        for outer in 0..softmax.outer {
            let start = outer * len * inner;
            let (x, y) = (x.add(start), y.add(start));
            if inner == 1 {
                row::<V>(x, y, len, softmax.log);
                continue;
            }
            let mut at = 0;
            while at < inner {
                let n = V::LANES.min(inner - at);
                columns::<V>(x.add(at), y.add(at), len, inner, n, softmax.log);
                at += n;
            }
        }
    }
}

#[inline(always)]
unsafe fn row<V: Vector>(x: *const f32, y: *mut f32, n: usize, log: bool) {
    let most = V::splat(largest::<V>(x, n));
    let mut total = V::splat(0.0);
    let mut i = 0;
    while i + V::LANES <= n {
        let e = exp(V::load(x.add(i)).sub(most));
        total = total.add(e);
        if !log {
            e.store(y.add(i));
        }
        i += V::LANES;
    }
    if i < n {
        let e = exp(first_or(V::load_n(x.add(i), n - i).sub(most), n - i, f32::NEG_INFINITY));
        total = total.add(e);
        if !log {
            e.store_n(y.add(i), n - i);
        }
    }
    let total = V::splat(total.sum());
    let scale = if log { most.add(ln(total)) } else { V::splat(1.0).div(total) };
    let mut i = 0;
    while i < n {
        let m = V::LANES.min(n - i);
        if log {
            put(V::load_n(x.add(i), m).sub(scale), y.add(i), m);
        } else {
            put(take::<V>(y.add(i), m).mul(scale), y.add(i), m);
        }
        i += m;
    }
}

/// `n` neighbouring columns, whose values are `stride` apart.
#[inline(always)]
unsafe fn columns<V: Vector>(x: *const f32, y: *mut f32, len: usize, stride: usize, n: usize, log: bool) {
    let mut most = V::splat(f32::NEG_INFINITY);
    for i in 0..len {
        most = take::<V>(x.add(i * stride), n).max(most);
    }
    let mut total = V::splat(0.0);
    for i in 0..len {
        let e = exp(take::<V>(x.add(i * stride), n).sub(most));
        total = total.add(e);
        if !log {
            put(e, y.add(i * stride), n);
        }
    }
    let scale = if log { most.add(ln(total)) } else { V::splat(1.0).div(total) };
    for i in 0..len {
        let (x, y) = (x.add(i * stride), y.add(i * stride));
        let value = if log {
            take::<V>(x, n).sub(scale)
        } else {
            take::<V>(y, n).mul(scale)
        };
        put(value, y, n);
    }
}

struct Backward<'a>(&'a Softmax, *const f32, *const f32, *mut f32);

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self(softmax, y, dy, dx) = self;
        let (len, inner, log) = (softmax.len, softmax.inner, softmax.log);
        for outer in 0..softmax.outer {
            let start = outer * len * inner;
            let (y, dy, dx) = (y.add(start), dy.add(start), dx.add(start));
            if inner == 1 {
                let mut sum = V::splat(0.0);
                let mut i = 0;
                while i < len {
                    let m = V::LANES.min(len - i);
                    sum = summand::<V>(y.add(i), dy.add(i), m, log).add(sum);
                    i += m;
                }
                let sum = V::splat(sum.sum());
                let mut i = 0;
                while i < len {
                    let m = V::LANES.min(len - i);
                    put(gradient::<V>(y.add(i), dy.add(i), m, sum, log), dx.add(i), m);
                    i += m;
                }
                continue;
            }
            let mut at = 0;
            while at < inner {
                let m = V::LANES.min(inner - at);
                let mut sum = V::splat(0.0);
                for i in 0..len {
                    let place = at + i * inner;
                    sum = summand::<V>(y.add(place), dy.add(place), m, log).add(sum);
                }
                for i in 0..len {
                    let place = at + i * inner;
                    put(gradient::<V>(y.add(place), dy.add(place), m, sum, log), dx.add(place), m);
                }
                at += m;
            }
        }
    }
}

/// What is summed over a row: `dy y`, or `dy` for the logarithm.
#[inline(always)]
unsafe fn summand<V: Vector>(y: *const f32, dy: *const f32, n: usize, log: bool) -> V {
    let dy = take::<V>(dy, n);
    if log { dy } else { dy.mul(take(y, n)) }
}

/// `y (dy - sum)`, or `dy - e^y sum` for the logarithm.
#[inline(always)]
unsafe fn gradient<V: Vector>(y: *const f32, dy: *const f32, n: usize, sum: V, log: bool) -> V {
    let (y, dy) = (take::<V>(y, n), take::<V>(dy, n));
    if log { dy.sub(exp(y).mul(sum)) } else { y.mul(dy.sub(sum)) }
}
