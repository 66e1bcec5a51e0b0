//! `y = x w + b` for few rows.

use std::ops::Range;

use super::Dense;
use crate::isa::{Kernel, dispatch};
use crate::team::{Apart, ranges};
use crate::vector::Vector;
use crate::{Isa, Team};

/// Weights of more bytes than this do not stay in the second-level cache from row group to row group.
const CACHED_BYTES: usize = 1 << 20;
/// Rows of larger weights that are gone through at once.
const BLOCK: usize = 56;
/// Rows of weights that are asked for ahead.
const AHEAD: usize = 8;

struct Forward<'a> {
    layer: Dense,
    rows: usize,
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    y: *mut f32,
    /// Those that are computed.
    columns: Range<usize>,
    /// Rows in groups; in a group the values of one input beside each other.
    transposed: &'a [f32],
}

/// Checked by the caller: all lengths, at least one row.
pub(super) fn forward(
    team: &Team,
    isa: Isa,
    layer: Dense,
    rows: usize,
    x: &[f32],
    weights: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let inputs = layer.inputs;
    let transposed: &[f32] = if rows == 1 {
        x
    } else {
        let mut at = 0;
        for group in groups(rows, most_rows(isa.registers())) {
            let first = at / inputs;
            let kernel = Transpose {
                x: &x[first * inputs..][..group * inputs],
                group,
                inputs,
                to: &mut scratch[at..at + group * inputs],
            };
            // SAFETY: both hold `group * inputs` values.
            unsafe { dispatch(isa, kernel) };
            at += group * inputs;
        }
        scratch
    };
    // SAFETY: each part writes columns of its own.
    let y = unsafe { Apart::new(y.as_mut_ptr()) };
    let parts = layer.parts(team, rows, team.threads());
    team.each(ranges(layer.outputs, parts, wide(rows) * isa.lanes()), |columns| {
        let kernel = Forward {
            layer,
            rows,
            weights,
            bias,
            y: y.get(),
            columns,
            transposed,
        };
        // SAFETY: the lengths are as `run` reads and writes them: the caller checked them.
        unsafe { dispatch(isa, kernel) };
    });
}

/// Registers that a tile is wide.
fn wide(rows: usize) -> usize {
    if rows == 1 { 8 } else { 2 }
}

/// `[group, inputs]` to `[inputs, group]`.
struct Transpose<'a> {
    x: &'a [f32],
    group: usize,
    inputs: usize,
    to: &'a mut [f32],
}

impl Kernel for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let mut row = 0;
        while row < self.group {
            let rows = V::LANES.min(self.group - row);
            let mut column = 0;
            while column < self.inputs {
                let columns = V::LANES.min(self.inputs - column);
                let from = self.x.as_ptr().add(row * self.inputs + column);
                let to = self.to.as_mut_ptr().add(column * self.group + row);
                V::transpose(from, self.inputs, rows, columns, to, self.group);
                column += V::LANES;
            }
            row += V::LANES;
        }
    }
}

/// As few groups of at most `most` rows as can be, as even as can be.
pub(super) fn groups(rows: usize, most: usize) -> impl Iterator<Item = usize> {
    let n = rows.div_ceil(most).max(1);
    (0..n).map(move |i| rows / n + usize::from(i < rows % n))
}

/// Rows of a tile two registers wide.
fn most_rows(registers: usize) -> usize {
    if registers == 32 { 12 } else { 6 }
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (inputs, outputs, stride) = (self.layer.inputs, self.layer.outputs, self.layer.stride());
        let most = most_rows(V::REGISTERS);
        let block = if inputs * stride * 4 > CACHED_BYTES { BLOCK } else { inputs };
        let ahead = if block == inputs { AHEAD } else { block };
        let zeros = [0.0f32; 16 * 8];
        let mut from = 0;
        while from < inputs {
            let depth = block.min(inputs - from);
            let (first, last) = (from == 0, from + depth == inputs);
            let mut column = self.columns.start;
            while column < self.columns.end {
                let wide = wide(self.rows);
                let left = (self.columns.end - column).div_ceil(V::LANES);
                let registers = if left >= wide { wide } else { 1 };
                let columns = (registers * V::LANES).min(self.columns.end - column);
                let mut row = 0;
                for group in groups(self.rows, most) {
                    let tile = Tile {
                        depth,
                        x: self.transposed.as_ptr().add(row * inputs + from * group),
                        weights: self.weights.as_ptr().add(from * stride + column),
                        stride,
                        y: self.y.add(row * outputs + column),
                        outputs,
                        columns,
                        start: match (first, self.bias) {
                            (false, _) => None,
                            (true, Some(bias)) => Some((bias.as_ptr().add(column), columns)),
                            (true, None) => Some((zeros.as_ptr(), columns)),
                        },
                        relu: self.layer.relu && last,
                        ahead,
                    };
                    match registers {
                        8 => tile.run::<V, 1, 8>(),
                        2 => tile.of_rows::<V, 2>(group),
                        _ => tile.of_rows::<V, 1>(group),
                    }
                    row += group;
                }
                column += columns;
            }
            from += depth;
        }
    }
}

/// Some rows by some registers of columns.
struct Tile {
    depth: usize,
    /// `[depth, rows]`
    x: *const f32,
    /// `[depth, stride]`
    weights: *const f32,
    stride: usize,
    y: *mut f32,
    outputs: usize,
    /// Columns that count.
    columns: usize,
    /// What the sums begin with, and how many of it there are; what is in `y` where absent.
    start: Option<(*const f32, usize)>,
    relu: bool,
    /// Rows of weights that are asked for ahead.
    ahead: usize,
}

impl Tile {
    #[inline(always)]
    unsafe fn of_rows<V: Vector, const N: usize>(self, rows: usize) {
        match rows {
            1 => self.run::<V, 1, N>(),
            2 => self.run::<V, 2, N>(),
            3 => self.run::<V, 3, N>(),
            4 => self.run::<V, 4, N>(),
            5 => self.run::<V, 5, N>(),
            6 => self.run::<V, 6, N>(),
            7 if V::REGISTERS == 32 => self.run::<V, 7, N>(),
            8 if V::REGISTERS == 32 => self.run::<V, 8, N>(),
            9 if V::REGISTERS == 32 => self.run::<V, 9, N>(),
            10 if V::REGISTERS == 32 => self.run::<V, 10, N>(),
            11 if V::REGISTERS == 32 => self.run::<V, 11, N>(),
            12 if V::REGISTERS == 32 => self.run::<V, 12, N>(),
            rows => unreachable!("a tile of {rows} rows with {} registers", V::REGISTERS),
        }
    }

    /// `M` rows, `N` registers of columns.
    #[inline(always)]
    unsafe fn run<V: Vector, const M: usize, const N: usize>(self) {
        let valid = |j: usize| self.columns.saturating_sub(j * V::LANES).min(V::LANES);
        let whole = self.columns == N * V::LANES;
        let mut sums = [[V::splat(0.0); N]; M];
        for (i, row) in sums.iter_mut().enumerate() {
            for (j, sum) in row.iter_mut().enumerate() {
                *sum = match self.start {
                    Some((from, _)) => V::load_n(from.add(j * V::LANES), valid(j)),
                    None => V::load_n(self.y.add(i * self.outputs + j * V::LANES), valid(j)),
                };
            }
        }
        let (mut x, mut weights) = (self.x, self.weights);
        for _ in 0..self.depth {
            let mut w = [V::splat(0.0); N];
            for (j, w) in w.iter_mut().enumerate() {
                *w = V::load(weights.add(j * V::LANES));
                V::prefetch(weights.wrapping_add(self.ahead * self.stride + j * V::LANES));
            }
            for (i, row) in sums.iter_mut().enumerate() {
                let v = V::splat(*x.add(i));
                for (sum, w) in row.iter_mut().zip(w) {
                    *sum = v.fma(w, *sum);
                }
            }
            weights = weights.add(self.stride);
            x = x.add(M);
        }
        for (i, row) in sums.into_iter().enumerate() {
            for (j, sum) in row.into_iter().enumerate() {
                // NaN stays.
                let sum = if self.relu { V::splat(0.0).max(sum) } else { sum };
                let to = self.y.add(i * self.outputs + j * V::LANES);
                if whole {
                    sum.store(to);
                } else {
                    sum.store_n(to, valid(j));
                }
            }
        }
    }
}
