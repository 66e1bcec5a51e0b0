//! Products that keep a tile of rows and registers in accumulators.
//!
//! The loops must stay unrolled: `objdump -d --no-show-raw-insn` of the example `recurrent_rates` shows, with AVX-512 and ten rows,
//! runs of 10 broadcasts and 20 `vfmadd231ps` on `zmm` registers with no store between them.

use std::sync::atomic::{Ordering, compiler_fence};

use super::SLOTS;
use super::layout::TURNED;
use crate::buffer::Buffer;
use crate::isa::Kernel;
use crate::vector::Vector;

/// Most rows of a tile of `registers` columns: accumulators, a register for each column and one for the row's value fit.
pub(super) const fn most_rows<V: Vector>(registers: usize) -> usize {
    match (V::REGISTERS >= 32, registers) {
        (true, 0..=2) => 12,
        (true, _) => 8,
        // One more of each would do, but not for the compiler.
        (false, 0..=2) => 5,
        (false, _) => 3,
    }
}

/// `total` rows in as few parts of at most `most` as there can be, as even as they can be: `(first, rows)`.
#[inline(always)]
pub(super) fn parts(total: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = total.div_ceil(most);
    (0..count).map(move |i| {
        let first = total * i / count;
        (first, total * (i + 1) / count - first)
    })
}

/// `$call` with the constant `$name` of rows.
macro_rules! by_rows {
    ($v:ty, $registers:expr, $rows:expr, $name:ident => $call:expr) => {
        by_rows!(@ $v, $registers, $rows, $name, $call, 1 2 3 4 5 6 7 8 9 10 11 12)
    };
    (@ $v:ty, $registers:expr, $rows:expr, $name:ident, $call:expr, $($n:literal)*) => {
        match $rows {
            $($n if $n <= most_rows::<$v>($registers) => {
                const $name: usize = $n;
                $call
            })*
            rows => unreachable!("{rows} rows"),
        }
    };
}
pub(super) use by_rows;

/// Values that will be read soon and are brought to the second cache a few lines at a time, while products keep the processor busy.
/// They are pieces of `len` values, `stride` apart.
pub(super) struct Near {
    piece: *const f32,
    stride: isize,
    len: usize,
    pieces: usize,
    /// Where in the piece it is.
    at: usize,
    /// Lines a call.
    each: usize,
}

impl Near {
    /// All in `calls` calls of [`Self::bring`]. Any address will do: none is read.
    pub(super) fn new(piece: *const f32, stride: isize, len: usize, pieces: usize, calls: usize) -> Self {
        let each = (pieces * len.div_ceil(Buffer::LINE)).div_ceil(calls.max(1));
        Self {
            piece,
            stride,
            len,
            pieces,
            at: 0,
            each,
        }
    }

    #[inline(always)]
    pub(super) unsafe fn bring<V: Vector>(&mut self) {
        for _ in 0..self.each {
            if self.pieces == 0 {
                return;
            }
            V::prefetch_second(self.piece.wrapping_add(self.at));
            self.at += Buffer::LINE;
            if self.at >= self.len {
                self.at = 0;
                self.pieces -= 1;
                self.piece = self.piece.wrapping_offset(self.stride);
            }
        }
    }
}

/// One value of each row, `row` apart, times a register of each column.
#[inline(always)]
unsafe fn once<V: Vector, const M: usize, const N: usize>(acc: &mut [[V; N]; M], a: *const f32, row: usize, b: *const f32) {
    // Or else the values of several columns are loaded first, and spilled.
    compiler_fence(Ordering::SeqCst);
    let mut columns = [V::splat(0.0); N];
    for n in 0..N {
        columns[n] = V::load(b.add(n * V::LANES));
    }
    for m in 0..M {
        let value = V::splat(*a.add(m * row));
        for n in 0..N {
            acc[m][n] = columns[n].fma(value, acc[m][n]);
        }
    }
}

/// `acc += a b`, with `k` columns of `a` in runs of a register's lanes, which begin `run` apart; rows are `row` apart.
#[inline(always)]
unsafe fn runs<V: Vector, const M: usize, const N: usize>(
    acc: &mut [[V; N]; M],
    mut a: *const f32,
    row: usize,
    run: usize,
    k: usize,
    mut b: *const f32,
) {
    for _ in 0..k / V::LANES {
        for _ in 0..V::LANES / 4 {
            for u in 0..4 {
                once(acc, a.add(u), row, b.add(u * N * V::LANES));
            }
            a = a.wrapping_add(4);
            b = b.wrapping_add(4 * N * V::LANES);
        }
        a = a.wrapping_add(run - V::LANES);
    }
    for i in 0..k % V::LANES {
        once(acc, a.add(i), row, b.add(i * N * V::LANES));
    }
}

#[inline(always)]
unsafe fn loaded<V: Vector, const M: usize, const N: usize>(from: *const f32, row: usize) -> [[V; N]; M] {
    let mut acc = [[V::splat(0.0); N]; M];
    for m in 0..M {
        for n in 0..N {
            acc[m][n] = V::load(from.add(m * row + n * V::LANES));
        }
    }
    acc
}

#[inline(always)]
unsafe fn stored<V: Vector, const M: usize, const N: usize>(acc: [[V; N]; M], to: *mut f32, row: usize) {
    for m in 0..M {
        for n in 0..N {
            acc[m][n].store(to.add(m * row + n * V::LANES));
        }
    }
}

/// Rows to be multiplied, in runs that begin `run` apart, one register after the other, and the `k` rows of weights to multiply them by.
#[derive(Clone, Copy)]
pub(super) struct Factors {
    pub(super) a: *const f32,
    pub(super) run: usize,
    pub(super) k: usize,
    pub(super) b: *const f32,
}

/// Gates of `count` rows: `to = from + a b`, summed up over all factors. A kernel of its own, so that it is compiled once. Rows of `from`
/// are `from_row` apart, those of `to` `SLOTS` registers.
pub(super) struct Gates<'a, const N: usize> {
    pub(super) factors: &'a [Factors],
    pub(super) count: usize,
    pub(super) from: *const f32,
    pub(super) from_row: usize,
    pub(super) to: *mut f32,
    pub(super) near: &'a mut Near,
}

impl<const N: usize> Kernel for Gates<'_, N> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for (first, m) in parts(self.count, most_rows::<V>(N)) {
            self.near.bring::<V>();
            let from = self.from.add(first * self.from_row);
            let to = self.to.add(first * SLOTS * V::LANES);
            by_rows!(V, N, m, M => gates::<V, M, N>(self.factors, first, from, self.from_row, to));
        }
    }
}

/// One tile of [`Gates`], from row `first` on.
#[inline(always)]
unsafe fn gates<V: Vector, const M: usize, const N: usize>(
    factors: &[Factors],
    first: usize,
    from: *const f32,
    from_row: usize,
    to: *mut f32,
) {
    let mut acc = loaded::<V, M, N>(from, from_row);
    for &Factors { a, run, k, b } in factors {
        runs(&mut acc, a.add(first * V::LANES), V::LANES, run, k, b);
    }
    stored(acc, to, SLOTS * V::LANES);
}

/// Back through the weights: `c += a b`, where a row of `a` is, for each of `blocks` blocks `block` apart, `gates` registers.
#[inline(always)]
pub(super) unsafe fn back<V: Vector, const M: usize>(
    mut a: *const f32,
    block: usize,
    blocks: usize,
    gates: usize,
    mut b: *const f32,
    c: *mut f32,
    c_row: usize,
) {
    let mut acc = loaded::<V, M, TURNED>(c, c_row);
    for _ in 0..blocks {
        runs(&mut acc, a, SLOTS * V::LANES, V::LANES, gates * V::LANES, b);
        a = a.wrapping_add(block);
        b = b.wrapping_add(gates * V::LANES * TURNED * V::LANES);
    }
    stored(acc, c, c_row);
}

/// Gradient by the weights: `target += alpha * a^T b` for `rows` rows of `M` values of `a`, one after the other, and of gates' gradients,
/// `SLOTS` registers apart.
#[inline(always)]
pub(super) unsafe fn gradient<V: Vector, const M: usize, const N: usize>(
    mut a: *const f32,
    rows: usize,
    mut b: *const f32,
    target: *mut f32,
    alpha: V,
) {
    let mut acc = [[V::splat(0.0); N]; M];
    for i in 0..M * N {
        V::prefetch(target.add(i * V::LANES));
    }
    for _ in 0..rows {
        once(&mut acc, a, 1, b);
        a = a.wrapping_add(M);
        b = b.wrapping_add(SLOTS * V::LANES);
    }
    for m in 0..M {
        for n in 0..N {
            let place = target.add((m * N + n) * V::LANES);
            acc[m][n].fma(alpha, V::load(place)).store(place);
        }
    }
}
