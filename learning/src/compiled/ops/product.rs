//! Products of matrices that a run makes: attention, and weights that several nodes read.

use std::ops::Range;

use aimass_kernels::Team;
use aimass_kernels::dense::{Matrix, MatrixMut, product};
use aimass_kernels::team::{cut, ranges};

use super::{Backward, Forward, Needs, Operation};

/// `[.., m, k]` times `[.., k, n]`, over batches that may be broadcast.
#[derive(Debug)]
pub(in super::super) struct BatchedProduct {
    pub(in super::super) m: usize,
    pub(in super::super) k: usize,
    pub(in super::super) n: usize,
    /// Which matrix of the left and of the right side each product takes.
    pub(in super::super) pairs: Vec<(usize, usize)>,
    /// Whether no matrix of each side is taken twice.
    once: [bool; 2],
}

impl BatchedProduct {
    /// Of batch shapes of one rank.
    pub(in super::super) fn new([m, k, n]: [usize; 3], a: &[usize], b: &[usize]) -> Self {
        let lengths: Vec<usize> = a.iter().zip(b).map(|(&a, &b)| a.max(b)).collect();
        let place = |shape: &[usize], index: &[usize]| {
            let each = shape.iter().zip(index);
            each.fold(0, |at, (&length, &i)| at * length + if length == 1 { 0 } else { i })
        };
        let mut index = vec![0; lengths.len()];
        let mut pairs = Vec::new();
        for _ in 0..lengths.iter().product() {
            pairs.push((place(a, &index), place(b, &index)));
            for (i, length) in index.iter_mut().zip(&lengths).rev() {
                *i += 1;
                if *i < *length {
                    break;
                }
                *i = 0;
            }
        }
        let once = [a, b].map(|shape| shape.iter().product::<usize>() == pairs.len());
        Self { m, k, n, pairs, once }
    }
}

impl BatchedProduct {
    /// Calls `work` for some of the pairs, with their matrices of `len` values, of which each has one of its own.
    fn in_parts(&self, team: &Team, mut to: &mut [f32], len: usize, work: impl Fn(Range<usize>, &mut [f32]) + Sync) {
        let pairs = self.pairs.len();
        let parts = team.parts(2 * pairs * self.m * self.k * self.n, pairs);
        let parts: Vec<_> = ranges(pairs, parts, 1)
            .map(|range| (cut(&mut to, range.len() * len), range))
            .collect();
        team.each(parts, |(to, pairs)| work(pairs, to));
    }

    /// The same for a gradient by a side, with its first matrix, and what stays of it when a product is added: all, from zeros on, where
    /// there are several, and then one thread adds them.
    fn gather(&self, team: &Team, side: usize, to: &mut [f32], len: usize, work: impl Fn(Range<usize>, usize, f32, &mut [f32]) + Sync) {
        if self.once[side] {
            return self.in_parts(team, to, len, |pairs, to| work(pairs.clone(), pairs.start, 0.0, to));
        }
        to.fill(0.0);
        work(0..self.pairs.len(), 0, 1.0, to);
    }
}

impl Operation for BatchedProduct {
    fn needs(&self, _threads: usize) -> Needs {
        Needs {
            reads_inputs: vec![0, 1],
            ..Needs::default()
        }
    }

    fn plan_bytes(&self) -> usize {
        size_of_val(&self.pairs[..])
    }

    fn forward(&self, io: Forward<'_>) {
        let Self { m, k, n, .. } = *self;
        let (a, b) = (io.input(0), io.input(1));
        let [y, ..] = io.outputs;
        self.in_parts(io.team, y, m * n, |pairs, y| {
            for (y, &(i, j)) in y.chunks_exact_mut(m * n).zip(&self.pairs[pairs]) {
                let a = Matrix::rows(&a[i * m * k..][..m * k], [m, k]);
                let b = Matrix::rows(&b[j * k * n..][..k * n], [k, n]);
                product(io.isa, a, b, 1.0, 0.0, MatrixMut::rows(y, [m, n]));
            }
        });
    }

    fn backward(&self, mut io: Backward<'_>) {
        let Self { m, k, n, .. } = *self;
        let (a, b, dy) = (io.input(0), io.input(1), io.by_output(0));
        let each = |pairs: Range<usize>| {
            dy[pairs.start * m * n..pairs.end * m * n]
                .chunks_exact(m * n)
                .zip(&self.pairs[pairs])
        };
        if let Some(da) = io.by_inputs[0].take() {
            self.gather(io.team, 0, da, m * k, |pairs, first, keep, da| {
                for (dy, &(i, j)) in each(pairs) {
                    let b = Matrix::rows(&b[j * k * n..][..k * n], [k, n]).transposed();
                    let da = MatrixMut::rows(&mut da[(i - first) * m * k..][..m * k], [m, k]);
                    product(io.isa, Matrix::rows(dy, [m, n]), b, 1.0, keep, da);
                }
            });
        }
        if let Some(db) = io.by_inputs[1].take() {
            self.gather(io.team, 1, db, k * n, |pairs, first, keep, db| {
                for (dy, &(i, j)) in each(pairs) {
                    let a = Matrix::rows(&a[i * m * k..][..m * k], [m, k]).transposed();
                    let db = MatrixMut::rows(&mut db[(j - first) * k * n..][..k * n], [k, n]);
                    product(io.isa, a, Matrix::rows(dy, [m, n]), 1.0, keep, db);
                }
            });
        }
    }
}
