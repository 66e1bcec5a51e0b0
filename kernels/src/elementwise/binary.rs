//! Functions of two tensors with numpy's broadcasting.

use crate::isa::{Isa, Kernel, dispatch};
use crate::nest::{Nest, Place};
use crate::permute::sum_to;
use crate::stretch::{first, put, take};
use crate::vector::Vector;

/// A function of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
    /// The larger; `b` where they are equal or one is NaN, in the gradient too.
    Max,
    /// The smaller, likewise.
    Min,
    /// `a`, below 0 times `b` (He et al. 2015).
    PRelu,
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// `a`
    First,
    /// `b`
    Second,
}

impl Binary {
    /// Whether its gradients read neither operand.
    pub fn is_linear(self) -> bool {
        matches!(self, Self::Add | Self::Sub)
    }
}

/// `y = f(a, b)`, of tensors that broadcast to the shape of `y`.
///
/// # Panics
/// On slices that don't hold the shapes, or shapes that don't broadcast; so does [`binary_gradient`].
pub fn binary(isa: Isa, f: Binary, [a, b]: [&[f32]; 2], [a_shape, b_shape]: [&[usize]; 2], y: &mut [f32], shape: &[usize]) {
    let places = [
        Place::broadcast(a_shape, shape),
        Place::broadcast(b_shape, shape),
        Place::whole(shape),
    ];
    let nest = Nest::new(shape, places.each_ref(), [a.len(), b.len(), y.len()]);
    if nest.is_empty {
        return;
    }
    let forward = Forward {
        f,
        nest,
        a: a.as_ptr(),
        b: b.as_ptr(),
        y: y.as_mut_ptr(),
    };
    // SAFETY: the nest stays within all slices, which it has checked.
    unsafe { dispatch(isa, forward) };
}

/// The gradient by the operand `of`, summed over the axes that it was broadcast over: `target` has its shape, and is added to where
/// `adds`, else overwritten. `dy` has the shape `shape`. Operands may be empty where the function [is linear](Binary::is_linear).
pub fn binary_gradient(
    isa: Isa,
    f: Binary,
    of: Operand,
    dy: &[f32],
    [a, b]: [&[f32]; 2],
    [a_shape, b_shape]: [&[usize]; 2],
    shape: &[usize],
    target: &mut [f32],
    adds: bool,
) {
    let target_shape = match of {
        Operand::First => a_shape,
        Operand::Second => b_shape,
    };
    if f.is_linear() {
        if !adds {
            target.fill(0.0);
        }
        let sign = if (f, of) == (Binary::Sub, Operand::Second) { -1.0 } else { 1.0 };
        return sum_to(isa, sign, dy, shape, target, target_shape);
    }
    let places = [
        Place::whole(shape),
        Place::broadcast(a_shape, shape),
        Place::broadcast(b_shape, shape),
        Place::broadcast(target_shape, shape),
    ];
    let nest = Nest::new(shape, places.each_ref(), [dy.len(), a.len(), b.len(), target.len()]);
    // One value alone is summed too.
    let sums = nest.rank == 0 || nest.find(|strides| strides[3] == 0).is_some();
    if !adds && (sums || nest.is_empty) {
        target.fill(0.0);
    }
    if nest.is_empty {
        return;
    }
    let backward = Backward {
        f,
        of,
        nest,
        dy: dy.as_ptr(),
        a: a.as_ptr(),
        b: b.as_ptr(),
        target: target.as_mut_ptr(),
        adds: adds || sums,
    };
    // SAFETY: the nest stays within all slices, which it has checked.
    unsafe { dispatch(isa, backward) };
}

/// A function of two registers. Marked `#[inline(always)]` wherever it is written.
trait Two: Copy {
    unsafe fn value<V: Vector>(a: V, b: V) -> V;
    /// The gradient by `a`.
    unsafe fn by_first<V: Vector>(dy: V, a: V, b: V) -> V;
    /// The gradient by `b`.
    unsafe fn by_second<V: Vector>(dy: V, a: V, b: V) -> V;
}

macro_rules! two {
    ($name:ident, |$a:ident, $b:ident| $value:expr, |$dy:ident| $by_first:expr, $by_second:expr) => {
        #[derive(Clone, Copy)]
        struct $name;

        impl Two for $name {
            #[inline(always)]
            unsafe fn value<V: Vector>($a: V, $b: V) -> V {
                $value
            }
            #[inline(always)]
            #[allow(unused_variables)]
            unsafe fn by_first<V: Vector>($dy: V, $a: V, $b: V) -> V {
                $by_first
            }
            #[inline(always)]
            #[allow(unused_variables)]
            unsafe fn by_second<V: Vector>($dy: V, $a: V, $b: V) -> V {
                $by_second
            }
        }
    };
}

two!(Add, |a, b| a.add(b), |dy| dy, dy);
two!(Sub, |a, b| a.sub(b), |dy| dy, V::splat(0.0).sub(dy));
two!(Mul, |a, b| a.mul(b), |dy| dy.mul(b), dy.mul(a));
two!(Div, |a, b| a.div(b), |dy| dy.div(b), V::splat(0.0).sub(dy.mul(a)).div(b.mul(b)));
two!(Max, |a, b| a.max(b), |dy| dy.keep(a.gt(b)), V::splat(0.0).select(a.gt(b), dy));
two!(Min, |a, b| a.min(b), |dy| dy.keep(b.gt(a)), V::splat(0.0).select(b.gt(a), dy));
two!(
    PRelu,
    |a, b| a.mul(b).select(V::splat(0.0).gt(a), a),
    |dy| dy.mul(b).select(V::splat(0.0).gt(a), dy),
    dy.mul(a).keep(V::splat(0.0).gt(a))
);

/// Calls `$call::<V, F>($argument)` for the function `$f`.
macro_rules! each {
    ($f:expr, $this:ident.$call:ident) => {
        match $f {
            Binary::Add => $this.$call::<V, Add>(),
            Binary::Sub => $this.$call::<V, Sub>(),
            Binary::Mul => $this.$call::<V, Mul>(),
            Binary::Div => $this.$call::<V, Div>(),
            Binary::Max => $this.$call::<V, Max>(),
            Binary::Min => $this.$call::<V, Min>(),
            Binary::PRelu => $this.$call::<V, PRelu>(),
        }
    };
}

/// One register of an operand that is either repeated or runs along.
#[inline(always)]
pub(super) unsafe fn operand<V: Vector>(x: *const f32, stride: isize, i: usize, n: usize) -> V {
    if stride == 0 { V::splat(*x) } else { take::<V>(x.add(i), n) }
}

struct Forward {
    f: Binary,
    nest: Nest<3>,
    a: *const f32,
    b: *const f32,
    y: *mut f32,
}

impl Kernel for Forward {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        each!(self.f, self.of);
    }
}

impl Forward {
    #[inline(always)]
    unsafe fn of<V: Vector, F: Two>(mut self) {
        // Along the last axis neighbours of `y` are neighbours, and so are those of operands that are not repeated.
        let (n, [a_stride, b_stride, _]) = self.nest.take(self.nest.rank.checked_sub(1));
        let mut walk = self.nest.walk();
        loop {
            let [a, b, y] = walk.offsets;
            let (a, b, y) = (self.a.offset(a), self.b.offset(b), self.y.offset(y));
            match (a_stride, b_stride) {
                (0, _) => Self::row::<V, F>(a, 0, b, b_stride, y, n),
                (_, 0) => Self::row::<V, F>(a, 1, b, 0, y, n),
                _ => Self::row::<V, F>(a, 1, b, 1, y, n),
            }
            if !walk.step() {
                return;
            }
        }
    }

    #[inline(always)]
    unsafe fn row<V: Vector, F: Two>(a: *const f32, a_stride: isize, b: *const f32, b_stride: isize, y: *mut f32, n: usize) {
        let mut i = 0;
        while i + V::LANES <= n {
            let (a, b) = (operand::<V>(a, a_stride, i, V::LANES), operand::<V>(b, b_stride, i, V::LANES));
            F::value(a, b).store(y.add(i));
            i += V::LANES;
        }
        if i < n {
            let (a, b) = (operand::<V>(a, a_stride, i, n - i), operand::<V>(b, b_stride, i, n - i));
            F::value(a, b).store_n(y.add(i), n - i);
        }
    }
}

struct Backward {
    f: Binary,
    of: Operand,
    nest: Nest<4>,
    dy: *const f32,
    a: *const f32,
    b: *const f32,
    target: *mut f32,
    adds: bool,
}

impl Kernel for Backward {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        each!(self.f, self.by);
    }
}

impl Backward {
    #[inline(always)]
    unsafe fn by<V: Vector, F: Two>(mut self) {
        let (n, [_, a_stride, b_stride, stride]) = self.nest.take(self.nest.rank.checked_sub(1));
        let mut walk = self.nest.walk();
        loop {
            let [dy, a, b, target] = walk.offsets;
            let (dy, a, b) = (self.dy.offset(dy), self.a.offset(a), self.b.offset(b));
            let target = self.target.offset(target);
            let mut sums = [V::splat(0.0); 2];
            let mut i = 0;
            while i < n {
                let m = V::LANES.min(n - i);
                if m == V::LANES {
                    let gradient = self.one::<V, F>(dy, [a, b], [a_stride, b_stride], i, V::LANES);
                    self.leave(gradient, target, stride, i, V::LANES, &mut sums);
                } else {
                    let gradient = self.one::<V, F>(dy, [a, b], [a_stride, b_stride], i, m);
                    self.leave(gradient, target, stride, i, m, &mut sums);
                }
                i += m;
            }
            if stride == 0 {
                *target += sums[0].add(sums[1]).sum();
            }
            if !walk.step() {
                return;
            }
        }
    }

    #[inline(always)]
    unsafe fn one<V: Vector, F: Two>(&self, dy: *const f32, of: [*const f32; 2], strides: [isize; 2], i: usize, n: usize) -> V {
        let (a, b) = (operand::<V>(of[0], strides[0], i, n), operand::<V>(of[1], strides[1], i, n));
        let dy = take::<V>(dy.add(i), n);
        match self.of {
            Operand::First => F::by_first(dy, a, b),
            Operand::Second => F::by_second(dy, a, b),
        }
    }

    /// Puts a register of gradients where it goes: into its own place, or onto the sums of the row.
    #[inline(always)]
    unsafe fn leave<V: Vector>(&self, gradient: V, target: *mut f32, stride: isize, i: usize, n: usize, sums: &mut [V; 2]) {
        if stride == 0 {
            // Turns round, so that the sums don't wait for each other.
            *sums = [sums[1], sums[0].add(first(gradient, n))];
        } else if self.adds {
            put(take::<V>(target.add(i), n).add(gradient), target.add(i), n);
        } else {
            put(gradient, target.add(i), n);
        }
    }
}
