//! Shapes, as far as they are known without running a model.

use std::rc::Rc;

use super::atoms::Atom;

/// Length of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Known(usize),
    /// Not known, but the same wherever this number stands.
    Symbol(u32),
}

impl Extent {
    pub(super) fn known(self) -> Option<usize> {
        match self {
            Self::Known(length) => Some(length),
            Self::Symbol(_) => None,
        }
    }
}

/// The axis of a value along which channels lie, and which channel at each place.
#[derive(Debug, Clone)]
pub(super) struct Channels {
    pub(super) axis: usize,
    pub(super) atoms: Rc<[Atom]>,
}

/// One number of a shape that is computed in the graph.
#[derive(Debug, Clone)]
pub(super) enum Element {
    Literal(i64),
    Dim(Extent),
    /// The length of an axis of channels.
    Channels(Rc<[Atom]>),
}

/// Where the channels of a value `from` (axis `c`) lie after it was given the shape `to`, whose first axis is the same: the axis, and how
/// often each place repeats around (outer) and within (inner) the channels. `None` where they do not stay together.
pub(super) fn regrouped(from: &[usize], c: usize, to: &[usize]) -> Option<(usize, usize, usize)> {
    let product = |lengths: &[usize]| lengths.iter().try_fold(1usize, |p, &length| p.checked_mul(length));
    let (before, channels, after) = (product(&from[..c])?, from[c], product(&from[c + 1..])?);
    if product(from)? != product(to)? || product(from)? == 0 {
        return None;
    }
    (0..to.len()).find_map(|axis| {
        let (outer, inner) = (product(&to[..axis])?, product(&to[axis + 1..])?);
        let fits = before.is_multiple_of(outer) && after.is_multiple_of(inner);
        let (outer, inner) = (before / outer, after / inner);
        let same = outer.checked_mul(channels)?.checked_mul(inner)? == to[axis];
        (fits && same).then_some((axis, outer, inner))
    })
}

/// Length of what a window that slides gives; `None` where it does not fit.
pub(super) fn slid(length: usize, window: Window, ceil: bool) -> Option<usize> {
    let reach = window.kernel.checked_sub(1)?.checked_mul(window.dilation)?.checked_add(1)?;
    let free = length.checked_add(window.pads)?.checked_sub(reach)?;
    if window.stride == 0 {
        return None;
    }
    // With rounding up, whether the last window may start within the padding differs between versions.
    match free % window.stride {
        0 => Some(free / window.stride + 1),
        _ if !ceil => Some(free / window.stride + 1),
        _ => None,
    }
}

/// A window along one axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    /// At both ends together.
    pub(super) pads: usize,
}
