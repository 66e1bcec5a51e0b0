//! Random signs and the Walsh-Hadamard transform over sqrt(b), in place.
//!
//! The transform has log2(b) steps. A step takes values `half` apart, a and b with a first, and puts a + b and a - b in their places; `half` is
//! 1, 2, 4 and so on. This order is fixed, so that all bits are. How many steps are made while values are in registers is not.

use crate::isa::{Isa, Kernel, dispatch};
use crate::vector::Vector;

/// Turns the sign of value j where bit j mod 32 of word j / 32 of `signs` is set, then transforms.
///
/// # Panics
/// Unless the block has a power of two of values, and `signs` a bit for each.
pub fn rotate(isa: Isa, block: &mut [f32], signs: &[u32]) {
    check(block, signs);
    // SAFETY: a block of a power of two of values, with a sign for each.
    unsafe { dispatch(isa, Transform { block, signs, back: false }) }
}

/// Transforms, then turns the signs.
///
/// # Panics
/// As [`rotate`].
pub fn rotate_back(isa: Isa, block: &mut [f32], signs: &[u32]) {
    check(block, signs);
    // SAFETY: a block of a power of two of values, with a sign for each.
    unsafe { dispatch(isa, Transform { block, signs, back: true }) }
}

#[track_caller]
fn check(block: &[f32], signs: &[u32]) {
    assert!(block.len().is_power_of_two(), "a block has a power of two of values");
    assert_eq!(signs.len(), block.len().div_ceil(32), "there is a sign for each value");
}

struct Transform<'a> {
    block: &'a mut [f32],
    signs: &'a [u32],
    back: bool,
}

impl Kernel for Transform<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { block, signs, back } = self;
        let n = block.len();
        let factor = (n as f32).sqrt().recip();
        if n < V::LANES {
            return by_value(block, signs, back, factor);
        }
        let x = block.as_mut_ptr();
        let work = Pass { x, n, factor };
        let front = if back { None } else { Some(signs) };
        let many = V::REGISTERS >= 32;
        let mut half = match n / V::LANES {
            16.. if many => work.first::<V, 16>(front),
            8.. => work.first::<V, 8>(front),
            _ => work.first::<V, 1>(front),
        };
        while half < n {
            half *= match n / half {
                16.. if many => work.step::<V, 16>(half),
                8.. => work.step::<V, 8>(half),
                4.. => work.step::<V, 4>(half),
                _ => work.step::<V, 2>(half),
            };
        }
        if back {
            for i in (0..n).step_by(V::LANES) {
                V::load(x.add(i)).negate(signs[i / 32] >> (i % 32)).store(x.add(i));
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Pass {
    x: *mut f32,
    n: usize,
    factor: f32,
}

impl Pass {
    /// The steps within `R` registers that follow each other; `n` is a multiple of theirs. Returns the values that are done together.
    #[inline(always)]
    unsafe fn first<V: Vector, const R: usize>(self, signs: Option<&[u32]>) -> usize {
        let done = R * V::LANES;
        let last = done == self.n;
        for start in (0..self.n).step_by(done) {
            let mut all = [V::splat(0.0); R];
            for r in 0..R {
                let i = start + r * V::LANES;
                let mut x = V::load(self.x.add(i));
                if let Some(signs) = signs {
                    x = x.negate(*signs.get_unchecked(i / 32) >> (i % 32));
                }
                x = x.butterfly::<1>().butterfly::<2>();
                if V::LANES > 4 {
                    x = x.butterfly::<4>();
                }
                if V::LANES > 8 {
                    x = x.butterfly::<8>();
                }
                all[r] = x;
            }
            steps(&mut all);
            for r in 0..R {
                self.put(all[r], start + r * V::LANES, last);
            }
        }
        done
    }

    /// The steps between `R` values that are `half` apart, from `half` values that are done together. Returns `R`.
    #[inline(always)]
    unsafe fn step<V: Vector, const R: usize>(self, half: usize) -> usize {
        let last = R * half == self.n;
        for start in (0..self.n).step_by(R * half) {
            for i in (start..start + half).step_by(V::LANES) {
                let mut all = [V::splat(0.0); R];
                for r in 0..R {
                    all[r] = V::load(self.x.add(i + r * half));
                }
                steps(&mut all);
                for r in 0..R {
                    self.put(all[r], i + r * half, last);
                }
            }
        }
        R
    }

    #[inline(always)]
    unsafe fn put<V: Vector>(self, x: V, i: usize, last: bool) {
        let x = if last { x.mul(V::splat(self.factor)) } else { x };
        x.store(self.x.add(i));
    }
}

/// The steps between registers.
#[inline(always)]
unsafe fn steps<V: Vector, const R: usize>(x: &mut [V; R]) {
    one_step::<V, R, 1>(x);
    one_step::<V, R, 2>(x);
    one_step::<V, R, 4>(x);
    one_step::<V, R, 8>(x);
}

#[inline(always)]
unsafe fn one_step<V: Vector, const R: usize, const HALF: usize>(x: &mut [V; R]) {
    if HALF >= R {
        return;
    }
    for i in 0..R {
        if i & HALF == 0 {
            (x[i], x[i + HALF]) = (x[i].add(x[i + HALF]), x[i].sub(x[i + HALF]));
        }
    }
}

/// A block that is shorter than a register.
fn by_value(block: &mut [f32], signs: &[u32], back: bool, factor: f32) {
    let turn = |block: &mut [f32]| {
        for (i, value) in block.iter_mut().enumerate() {
            *value = f32::from_bits(value.to_bits() ^ (signs[i / 32] >> (i % 32) & 1) << 31);
        }
    };
    if !back {
        turn(block);
    }
    let mut half = 1;
    while half < block.len() {
        for i in 0..block.len() {
            if i & half == 0 {
                (block[i], block[i + half]) = (block[i] + block[i + half], block[i] - block[i + half]);
            }
        }
        half *= 2;
    }
    for value in block.iter_mut() {
        *value *= factor;
    }
    if back {
        turn(block);
    }
}
