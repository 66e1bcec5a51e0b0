//! Products of matrices of any shape, through the `gemm` crate.

use std::ops::Range;

use super::Dense;
use crate::team::{cut, ranges};
use crate::{Isa, Team};

/// A matrix in a slice.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// The values; more may follow.
    pub values: &'a [f32],
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Distance of one row, and of one column, to the next.
    pub strides: [usize; 2],
}

/// A matrix that is written to.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    /// The values; more may follow.
    pub values: &'a mut [f32],
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Distance of one row, and of one column, to the next; no two places are one.
    pub strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// Row after row.
    pub fn rows(values: &'a [f32], shape: [usize; 2]) -> Self {
        Self {
            values,
            shape,
            strides: [shape[1], 1],
        }
    }

    /// Rows as columns.
    pub fn transposed(self) -> Self {
        Self {
            values: self.values,
            shape: [self.shape[1], self.shape[0]],
            strides: [self.strides[1], self.strides[0]],
        }
    }
}

impl<'a> MatrixMut<'a> {
    /// Row after row.
    pub fn rows(values: &'a mut [f32], shape: [usize; 2]) -> Self {
        Self {
            values,
            shape,
            strides: [shape[1], 1],
        }
    }
}

fn fits(len: usize, shape: [usize; 2], strides: [usize; 2]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let last = |i: usize| (shape[i] - 1).checked_mul(strides[i]);
    let end = last(0).and_then(|rows| rows.checked_add(last(1)?));
    end.is_some_and(|end| end < len && isize::try_from(end).is_ok())
}

/// `c = keep c + scale a b`. With `keep` 0 what was in `c` is not read.
///
/// # Panics
/// Where the shapes or the lengths of the slices do not fit, or places of `c` are one.
pub fn product(_isa: Isa, a: Matrix<'_>, b: Matrix<'_>, scale: f32, keep: f32, c: MatrixMut<'_>) {
    let [m, k] = a.shape;
    let n = b.shape[1];
    assert!(
        b.shape[0] == k && c.shape == [m, n],
        "the shapes {:?}, {:?} and {:?} fit",
        a.shape,
        b.shape,
        c.shape
    );
    assert!(fits(a.values.len(), a.shape, a.strides), "a lies within its slice");
    assert!(fits(b.values.len(), b.shape, b.strides), "b lies within its slice");
    assert!(fits(c.values.len(), c.shape, c.strides), "c lies within its slice");
    let [rows, columns] = c.strides;
    let apart = rows >= columns.saturating_mul(n.max(1)) || columns >= rows.saturating_mul(m.max(1));
    assert!(
        apart && (m < 2 || rows > 0) && (n < 2 || columns > 0),
        "every place of c is one of its own"
    );
    // SAFETY: every place that the shapes and strides reach lies within its slice (checked above), `c` is borrowed exclusively and its
    // places are different ones; strides fit isize because the places do.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.values.as_mut_ptr(),
            c.strides[1] as isize,
            c.strides[0] as isize,
            keep != 0.0,
            a.values.as_ptr(),
            a.strides[1] as isize,
            a.strides[0] as isize,
            b.values.as_ptr(),
            b.strides[1] as isize,
            b.strides[0] as isize,
            keep,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// The weights of a layer without their padding.
fn weights(layer: Dense, values: &[f32]) -> Matrix<'_> {
    Matrix {
        values,
        shape: [layer.inputs, layer.outputs],
        strides: [layer.stride(), 1],
    }
}

/// Fewest rows of a part of a product with so many columns; none where it is not cut. `gemm` sums in one order whatever the number of rows,
/// unless there are so few of them that it goes other ways.
fn fewest_rows(columns: usize) -> Option<usize> {
    match columns {
        0..=3 => None,
        4..=64 => Some(65),
        _ => Some(8),
    }
}

/// Into what parts `rows` rows of a product are cut.
fn cuts(team: &Team, layer: Dense, rows: usize, of_rows: usize, columns: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let most = fewest_rows(columns).map_or(1, |fewest| of_rows / fewest);
    ranges(of_rows, layer.parts(team, rows, most), 1)
}

pub(super) fn forward(team: &Team, isa: Isa, layer: Dense, rows: usize, x: &[f32], w: &[f32], bias: Option<&[f32]>, mut y: &mut [f32]) {
    let mut parts = Vec::new();
    for range in cuts(team, layer, rows, rows, layer.outputs) {
        parts.push((
            &x[range.start * layer.inputs..],
            range.len(),
            cut(&mut y, range.len() * layer.outputs),
        ));
    }
    team.each(parts, |(x, rows, y)| {
        let keep = if let Some(bias) = bias {
            y.chunks_exact_mut(layer.outputs).for_each(|row| row.copy_from_slice(bias));
            1.0
        } else {
            0.0
        };
        let x = Matrix::rows(x, [rows, layer.inputs]);
        product(isa, x, weights(layer, w), 1.0, keep, MatrixMut::rows(y, [rows, layer.outputs]));
        if layer.relu {
            // NaN stays.
            y.iter_mut().filter(|y| **y < 0.0).for_each(|y| *y = 0.0);
        }
    });
}

/// `dy`: the gradient by the output, through the ReLU, `[rows, outputs]`.
pub(super) fn backward(
    team: &Team,
    isa: Isa,
    layer: Dense,
    rows: usize,
    x: &[f32],
    w: Option<&[f32]>,
    dx: Option<&mut [f32]>,
    target: Option<&mut [f32]>,
    dy: &[f32],
    alpha: f32,
) {
    if let Some(mut dx) = dx {
        let w = w.or(target.as_deref()).unwrap_or_default();
        let w = weights(layer, w).transposed();
        let mut parts = Vec::new();
        for range in cuts(team, layer, rows, rows, layer.inputs) {
            parts.push((
                &dy[range.start * layer.outputs..],
                range.len(),
                cut(&mut dx, range.len() * layer.inputs),
            ));
        }
        team.each(parts, |(dy, rows, dx)| {
            let dy = Matrix::rows(dy, [rows, layer.outputs]);
            product(isa, dy, w, 1.0, 0.0, MatrixMut::rows(dx, [rows, layer.inputs]));
        });
    }
    let Some(mut target) = target else { return };
    let mut parts = Vec::new();
    for range in cuts(team, layer, rows, layer.inputs, layer.outputs) {
        parts.push((cut(&mut target, range.len() * layer.stride()), range));
    }
    team.each(parts, |(target, range)| {
        let x = Matrix {
            values: &x[range.start..],
            shape: [range.len(), rows],
            strides: [1, layer.inputs],
        };
        let target = MatrixMut {
            values: target,
            shape: [range.len(), layer.outputs],
            strides: [layer.stride(), 1],
        };
        product(isa, x, Matrix::rows(dy, [rows, layer.outputs]), alpha, 1.0, target);
    });
}
