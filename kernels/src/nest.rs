//! Nested loops over axes: what strided copies, broadcasts and reductions share.

use std::fmt;

/// Most axes of a tensor.
pub const MAX_RANK: usize = 8;

/// Where the elements of a tensor lie in a slice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Of the element whose indices are all 0.
    offset: usize,
    /// Floats between neighbours along each axis.
    strides: [isize; MAX_RANK],
    rank: usize,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} + {:?}", self.offset, &self.strides[..self.rank])
    }
}

impl Place {
    /// A tensor of `shape`, row-major, from the start of its slice.
    pub fn whole(shape: &[usize]) -> Self {
        check_rank(shape);
        let mut strides = [0; MAX_RANK];
        let mut stride = 1;
        for (at, &length) in shape.iter().enumerate().rev() {
            strides[at] = stride as isize;
            stride *= length.max(1);
        }
        Self {
            offset: 0,
            strides,
            rank: shape.len(),
        }
    }

    /// The part of a row-major tensor of shape `of` that begins at `starts` and takes every `steps`th element of each axis, backwards
    /// where a step is negative.
    pub fn part(of: &[usize], starts: &[usize], steps: &[isize]) -> Self {
        let mut place = Self::whole(of);
        assert!(
            starts.len() == of.len() && steps.len() == of.len(),
            "there is no start and step for each axis"
        );
        for at in 0..of.len() {
            place.offset += starts[at] * place.strides[at] as usize;
            place.strides[at] *= steps[at];
        }
        place
    }

    /// A row-major tensor of shape `from` seen as one of shape `to`, by the rules of numpy: axes of length 1, and those that `from` lacks
    /// in front, are repeated.
    pub fn broadcast(from: &[usize], to: &[usize]) -> Self {
        check_rank(to);
        let missing = to.len().checked_sub(from.len());
        let missing = missing.unwrap_or_else(|| panic!("{from:?} has more axes than {to:?}, which it is broadcast to"));
        let own = Self::whole(from);
        let mut strides = [0; MAX_RANK];
        for (at, &length) in from.iter().enumerate() {
            let wanted = to[missing + at];
            assert!(length == wanted || length == 1, "{from:?} does not broadcast to {to:?}");
            strides[missing + at] = if length == wanted { own.strides[at] } else { 0 };
        }
        Self {
            offset: 0,
            strides,
            rank: to.len(),
        }
    }

    /// With the axes in another order: axis `i` is what `axes[i]` was.
    pub fn permuted(mut self, axes: &[usize]) -> Self {
        let strides = self.strides;
        assert_eq!(axes.len(), self.rank, "the order names another number of axes");
        for (at, &axis) in axes.iter().enumerate() {
            assert!(
                axis < self.rank && !axes[..at].contains(&axis),
                "{axes:?} is no order of {} axes",
                self.rank
            );
            self.strides[at] = strides[axis];
        }
        self
    }
}

fn check_rank(shape: &[usize]) {
    assert!(shape.len() <= MAX_RANK, "{shape:?} has more than {MAX_RANK} axes");
}

/// Loops over `N` operands at once. Axes of length 1 are left out, and neighbours merged where every operand runs through both as
/// through one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nest<const N: usize> {
    pub(crate) rank: usize,
    pub(crate) lengths: [usize; MAX_RANK],
    /// By axis, then operand.
    pub(crate) strides: [[isize; N]; MAX_RANK],
    pub(crate) offsets: [isize; N],
    pub(crate) is_empty: bool,
}

impl<const N: usize> Nest<N> {
    /// Panics unless every element of operand `i` is within `lens[i]`.
    pub(crate) fn new(shape: &[usize], places: [&Place; N], lens: [usize; N]) -> Self {
        check_rank(shape);
        assert!(
            places.iter().all(|p| p.rank == shape.len()),
            "a tensor has another rank than {shape:?}"
        );
        let mut nest = Self {
            rank: 0,
            lengths: [0; MAX_RANK],
            strides: [[0; N]; MAX_RANK],
            offsets: places.map(|p| p.offset as isize),
            is_empty: shape.contains(&0),
        };
        if nest.is_empty {
            return nest;
        }
        for (place, len) in places.iter().zip(lens) {
            let reach = |sign: i128| -> i128 {
                let steps = shape.iter().zip(place.strides);
                steps.map(|(&n, stride)| (stride as i128 * sign).max(0) * (n as i128 - 1)).sum()
            };
            let (first, last) = (place.offset as i128 - reach(-1), place.offset as i128 + reach(1));
            assert!(
                first >= 0 && last < len as i128,
                "a tensor of {shape:?} at {place:?} reaches beyond its slice of {len}"
            );
        }
        for (axis, &length) in shape.iter().enumerate().filter(|(_, n)| **n > 1) {
            let strides = places.map(|p| p.strides[axis]);
            let merges = nest.rank > 0 && (0..N).all(|i| nest.strides[nest.rank - 1][i] == strides[i] * length as isize);
            if merges {
                nest.lengths[nest.rank - 1] *= length;
                nest.strides[nest.rank - 1] = strides;
            } else {
                nest.lengths[nest.rank] = length;
                nest.strides[nest.rank] = strides;
                nest.rank += 1;
            }
        }
        nest
    }

    /// Takes an axis out of the loops: its length and strides. One of length 1 where there is none.
    pub(crate) fn take(&mut self, axis: Option<usize>) -> (usize, [isize; N]) {
        let Some(axis) = axis.filter(|&a| a < self.rank) else {
            return (1, [0; N]);
        };
        let taken = (self.lengths[axis], self.strides[axis]);
        for at in axis + 1..self.rank {
            self.lengths[at - 1] = self.lengths[at];
            self.strides[at - 1] = self.strides[at];
        }
        self.rank -= 1;
        taken
    }

    /// The last axis with such strides.
    pub(crate) fn find(&self, wanted: impl Fn([isize; N]) -> bool) -> Option<usize> {
        (0..self.rank).rev().find(|&axis| wanted(self.strides[axis]))
    }

    /// A walk over all axes that are left.
    pub(crate) fn walk(&self) -> Walk<'_, N> {
        Walk {
            nest: self,
            at: [0; MAX_RANK],
            offsets: self.offsets,
        }
    }
}

/// An index that counts through a nest.
pub(crate) struct Walk<'a, const N: usize> {
    nest: &'a Nest<N>,
    at: [usize; MAX_RANK],
    /// Where each operand is.
    pub(crate) offsets: [isize; N],
}

impl<const N: usize> Walk<'_, N> {
    /// Goes on; false behind the last.
    #[inline(always)]
    pub(crate) fn step(&mut self) -> bool {
        let mut axis = self.nest.rank;
        while axis > 0 {
            axis -= 1;
            self.at[axis] += 1;
            let strides = &self.nest.strides[axis];
            if self.at[axis] < self.nest.lengths[axis] {
                for i in 0..N {
                    self.offsets[i] += strides[i];
                }
                return true;
            }
            self.at[axis] = 0;
            for i in 0..N {
                self.offsets[i] -= strides[i] * (self.nest.lengths[axis] as isize - 1);
            }
        }
        false
    }
}
