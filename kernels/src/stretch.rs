//! Loops over a stretch of floats, register by register, with what is left behind the last whole one.

use crate::vector::Vector;

/// What is done with one register of a stretch. Marked `#[inline(always)]` wherever it is written.
pub(crate) trait Stretch: Copy {
    /// Does it for the floats from `i` to `i + n`; `n` is `V::LANES` but for the last.
    ///
    /// # Safety
    /// As for [`Vector`], and what the work itself asks for.
    unsafe fn at<V: Vector>(self, i: usize, n: usize);
}

/// Does `work` for the floats from 0 to `n`.
///
/// # Safety
/// As for [`Stretch::at`].
#[inline(always)]
pub(crate) unsafe fn over<V: Vector>(n: usize, work: impl Stretch) {
    let mut i = 0;
    while i + V::LANES <= n {
        work.at::<V>(i, V::LANES);
        i += V::LANES;
    }
    if i < n {
        work.at::<V>(i, n - i);
    }
}

/// The first `n` floats, zero behind them; without a mask where `n` is known to be all.
#[inline(always)]
pub(crate) unsafe fn take<V: Vector>(from: *const f32, n: usize) -> V {
    if n == V::LANES { V::load(from) } else { V::load_n(from, n) }
}

/// Writes the first `n`; without a mask where `n` is known to be all.
#[inline(always)]
pub(crate) unsafe fn put<V: Vector>(x: V, to: *mut f32, n: usize) {
    if n == V::LANES { x.store(to) } else { x.store_n(to, n) }
}

/// The number of each lane.
static LANE: [f32; 16] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// The first `n` lanes, zero in the others.
#[inline(always)]
pub(crate) unsafe fn first<V: Vector>(x: V, n: usize) -> V {
    if n == V::LANES {
        return x;
    }
    x.keep(V::splat(n as f32).gt(V::load(LANE.as_ptr())))
}

/// The first `n` lanes, `fill` in the others.
#[inline(always)]
pub(crate) unsafe fn first_or<V: Vector>(x: V, n: usize, fill: f32) -> V {
    if n == V::LANES {
        return x;
    }
    x.select(V::splat(n as f32).gt(V::load(LANE.as_ptr())), V::splat(fill))
}
