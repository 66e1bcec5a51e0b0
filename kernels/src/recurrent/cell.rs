//! The gates of one row and block, and their gradients.

use super::SLOTS;
use crate::math::{clamp, reduced, sigmoid, tanh};
use crate::vector::Vector;

/// A cell whose products are tiles of `N` registers.
pub(super) trait Gates<const N: usize> {
    /// Tiles of a block.
    const TILES: usize;
    /// First register that the hidden state adds to; the input adds to those from the first on.
    const RECURRENT: usize;
    const HAS_CELL: bool;

    /// From the sums in `gates` (registers, one after the other) and the states before to those after; leaves what [`Self::gradient`]
    /// reads. The state of the cell is nothing where there is none.
    ///
    /// # Safety
    /// `gates` is good for `SLOTS` registers.
    unsafe fn step<V: Vector>(gates: *mut f32, hidden: V, cell: V) -> (V, V);

    /// Gradients by the sums, by the hidden state before but for what went through its product, and by the cell's state before.
    /// `hidden` and `cell`: states before; `after`: the cell's after.
    ///
    /// # Safety
    /// As above.
    unsafe fn gradient<V: Vector>(gates: *const f32, hidden: V, cell: V, after: V, by_hidden: V, by_cell: V) -> ([V; SLOTS], V, V);
}

pub(super) struct Lstm;
pub(super) struct Gru;

/// The registers of a row and block.
#[inline(always)]
pub(super) unsafe fn all<V: Vector>(gates: *const f32) -> [V; SLOTS] {
    // No closure for each of them: it would be a call, and compiled without the instructions.
    let mut found = [V::splat(0.0); SLOTS];
    for g in 0..SLOTS {
        found[g] = V::load(gates.add(g * V::LANES));
    }
    found
}

/// `y (1 - y)`
#[inline(always)]
unsafe fn sigmoid_slope<V: Vector>(y: V) -> V {
    y.sub(y.mul(y))
}

/// `1 - y^2`
#[inline(always)]
unsafe fn tanh_slope<V: Vector>(y: V) -> V {
    V::splat(1.0).sub(y.mul(y))
}

/// The sigmoid of three sums and the hyperbolic tangent of the last, with one division. Beyond 20 (10 of the last) they are taken for
/// reached: gates are 2e-9 at least.
#[inline(always)]
unsafe fn lstm_gates<V: Vector>([i, o, f, g]: [V; SLOTS]) -> [V; SLOTS] {
    #[inline(always)]
    unsafe fn denominator<V: Vector>(x: V) -> V {
        let (p, power) = reduced(clamp(V::splat(0.0).sub(x), -20.0, 20.0));
        p.fma(power, power).add(V::splat(1.0))
    }
    let (i, o, f) = (denominator(i), denominator(o), denominator(f));
    let (p, power) = reduced(clamp(g.add(g), -20.0, 20.0));
    let over = p.fma(power, power.sub(V::splat(1.0)));
    let under = over.add(V::splat(2.0));
    // At most e^80.
    let (first, last) = (i.mul(o), f.mul(under));
    let inverse = V::splat(1.0).div(first.mul(last));
    let (by_first, by_last) = (inverse.mul(last), inverse.mul(first));
    [by_first.mul(o), by_first.mul(i), by_last.mul(under), by_last.mul(f).mul(over)]
}

impl Gates<2> for Lstm {
    const TILES: usize = 2;
    const RECURRENT: usize = 0;
    const HAS_CELL: bool = true;

    #[inline(always)]
    unsafe fn step<V: Vector>(gates: *mut f32, _: V, cell: V) -> (V, V) {
        let [i, o, f, g] = lstm_gates(all::<V>(gates));
        i.store(gates);
        o.store(gates.add(V::LANES));
        f.store(gates.add(2 * V::LANES));
        g.store(gates.add(3 * V::LANES));
        let cell = f.fma(cell, i.mul(g));
        (o.mul(tanh(cell)), cell)
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(gates: *const f32, _: V, cell: V, after: V, by_hidden: V, by_cell: V) -> ([V; SLOTS], V, V) {
        let [i, o, f, g] = all::<V>(gates);
        let squashed = tanh(after);
        let by_cell = by_hidden.mul(o).fma(tanh_slope(squashed), by_cell);
        let by_sums = [
            by_cell.mul(g).mul(sigmoid_slope(i)),
            by_hidden.mul(squashed).mul(sigmoid_slope(o)),
            by_cell.mul(cell).mul(sigmoid_slope(f)),
            by_cell.mul(i).mul(tanh_slope(g)),
        ];
        (by_sums, V::splat(0.0), by_cell.mul(f))
    }
}

impl Gates<3> for Gru {
    const TILES: usize = 1;
    const RECURRENT: usize = 1;
    const HAS_CELL: bool = false;

    #[inline(always)]
    unsafe fn step<V: Vector>(gates: *mut f32, hidden: V, cell: V) -> (V, V) {
        let [n, z, r, q] = all::<V>(gates);
        let (z, r) = (sigmoid(z), sigmoid(r));
        let n = tanh(r.fma(q, n));
        n.store(gates);
        z.store(gates.add(V::LANES));
        r.store(gates.add(2 * V::LANES));
        (z.fma(hidden.sub(n), n), cell)
    }

    #[inline(always)]
    unsafe fn gradient<V: Vector>(gates: *const f32, hidden: V, _: V, _: V, by_hidden: V, by_cell: V) -> ([V; SLOTS], V, V) {
        let [n, z, r, q] = all::<V>(gates);
        let by_n = by_hidden.mul(V::splat(1.0).sub(z)).mul(tanh_slope(n));
        let by_sums = [
            by_n,
            by_hidden.mul(hidden.sub(n)).mul(sigmoid_slope(z)),
            by_n.mul(q).mul(sigmoid_slope(r)),
            by_n.mul(r),
        ];
        (by_sums, by_hidden.mul(z), by_cell)
    }
}
