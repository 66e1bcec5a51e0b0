//! Loops over the values of channels, in both layouts.

use std::ops::Range;

use crate::stretch::take;
use crate::vector::Vector;

/// What is done with one register of values. Marked `#[inline(always)]` wherever it is written.
pub(super) trait Work: Copy {
    /// Does it for the values from `i` to `i + n`, which share `parameters` or have one each.
    unsafe fn at<V: Vector>(self, parameters: [V; 4], i: usize, n: usize);
}

/// Two sums over values. Marked `#[inline(always)]` wherever it is written.
pub(super) trait Sums: Copy {
    /// Adds the values from `i` to `i + n`. Nothing but zero is added to other lanes, where values share their parameters.
    unsafe fn add<V: Vector>(self, parameters: [V; 4], i: usize, n: usize, sums: [V; 2]) -> [V; 2];
}

/// `[images, channels, positions]`, or `[images, positions, channels]`.
#[derive(Clone, Copy)]
pub(super) struct Channels {
    pub(super) images: usize,
    pub(super) channels: usize,
    pub(super) positions: usize,
}

/// Registers of values that are summed in single precision before their sum is added to the others.
const REGISTERS: usize = 64;

/// Rows that are summed in single precision before their sum is added to the others.
const ROWS: usize = 128;

/// Rows that are gone through at once, so that all of them stay near.
const STRETCH: usize = 1024;

impl Channels {
    /// Planes of one channel, channels first.
    #[inline(always)]
    pub(super) unsafe fn planes<V: Vector, W: Work>(self, channel: usize, parameters: [V; 4], work: W) {
        for image in 0..self.images {
            let start = (image * self.channels + channel) * self.positions;
            let mut at = 0;
            while at + V::LANES <= self.positions {
                work.at(parameters, start + at, V::LANES);
                at += V::LANES;
            }
            if at < self.positions {
                work.at(parameters, start + at, self.positions - at);
            }
        }
    }

    /// Sums over the planes of one channel, channels first.
    #[inline(always)]
    pub(super) unsafe fn plane_sums<V: Vector, S: Sums>(self, channel: usize, parameters: [V; 4], sums: S) -> [f64; 2] {
        let mut total = [0.0; 2];
        let mut all = [[V::splat(0.0); 2]; 4];
        let mut pending = 0;
        for image in 0..self.images {
            let start = (image * self.channels + channel) * self.positions;
            let mut at = 0;
            while at + 4 * V::LANES <= self.positions {
                for (j, some) in all.iter_mut().enumerate() {
                    *some = sums.add(parameters, start + at + j * V::LANES, V::LANES, *some);
                }
                at += 4 * V::LANES;
            }
            while at + V::LANES <= self.positions {
                all[0] = sums.add(parameters, start + at, V::LANES, all[0]);
                at += V::LANES;
            }
            if at < self.positions {
                all[1] = sums.add(parameters, start + at, self.positions - at, all[1]);
            }
            pending += self.positions.div_ceil(V::LANES);
            if pending >= REGISTERS || image + 1 == self.images {
                for (i, total) in total.iter_mut().enumerate() {
                    *total += f64::from(all[0][i].add(all[1][i]).add(all[2][i].add(all[3][i])).sum());
                }
                all = [[V::splat(0.0); 2]; 4];
                pending = 0;
            }
        }
        total
    }

    /// Every value, channels last. Parameters lie at `[channels]` each.
    #[inline(always)]
    pub(super) unsafe fn rows<V: Vector, W: Work>(self, parameters: [*const f32; 4], work: W) {
        let rows = self.images * self.positions;
        // The last stretch first: who summed over all of them has read it last. Row by row, with parameters loaded anew: going down
        // columns, loads would wait for stores 4 KiB before them.
        for stretch in (0..rows).step_by(STRETCH).rev() {
            for row in stretch..rows.min(stretch + STRETCH) {
                let start = row * self.channels;
                let mut channel = 0;
                while channel + V::LANES <= self.channels {
                    let own = load::<V>(parameters, channel, V::LANES);
                    work.at(own, start + channel, V::LANES);
                    channel += V::LANES;
                }
                if channel < self.channels {
                    let n = self.channels - channel;
                    let own = load::<V>(parameters, channel, n);
                    work.at(own, start + channel, n);
                }
            }
        }
    }

    /// Sums over every channel, channels last, written to `[channels]` each.
    #[inline(always)]
    pub(super) unsafe fn column_sums<V: Vector, S: Sums>(self, parameters: [*const f32; 4], to: [*mut f32; 2], sums: S) {
        for to in to {
            to.write_bytes(0, self.channels);
        }
        let all = self.images * self.positions;
        for first in (0..all).step_by(STRETCH) {
            let rows = first..all.min(first + STRETCH);
            let mut channel = 0;
            // Whole rows where that can be: neighbouring lines come fast. Sums that find no register stay in the first cache.
            while channel + 8 * V::LANES <= self.channels {
                self.tile::<V, S, 8>(rows.clone(), channel, V::LANES, parameters, to, sums);
                channel += 8 * V::LANES;
            }
            while channel + 4 * V::LANES <= self.channels {
                self.tile::<V, S, 4>(rows.clone(), channel, V::LANES, parameters, to, sums);
                channel += 4 * V::LANES;
            }
            while channel < self.channels {
                let n = V::LANES.min(self.channels - channel);
                self.tile::<V, S, 1>(rows.clone(), channel, n, parameters, to, sums);
                channel += n;
            }
        }
    }

    /// `N` registers of channels, `n` floats of each: what some rows add to the sums.
    #[inline(always)]
    unsafe fn tile<V: Vector, S: Sums, const N: usize>(
        self,
        rows: Range<usize>,
        channel: usize,
        n: usize,
        parameters: [*const f32; 4],
        to: [*mut f32; 2],
        sums: S,
    ) {
        let zero = V::splat(0.0);
        let mut own = [[zero; 4]; N];
        for j in 0..N {
            own[j] = load(parameters, channel + j * V::LANES, n);
        }
        // Each with what its rounding lost.
        let mut totals = [[[zero; 2]; 2]; N];
        for first in rows.clone().step_by(ROWS) {
            let mut some = [[zero; 2]; N];
            for row in first..rows.end.min(first + ROWS) {
                for j in 0..N {
                    let at = row * self.channels + channel + j * V::LANES;
                    some[j] = sums.add(own[j], at, n, some[j]);
                }
            }
            for j in 0..N {
                for i in 0..2 {
                    let [total, lost] = totals[j][i];
                    let sum = total.add(some[j][i]);
                    // Knuth's sum of two: what both lost together.
                    let part = sum.sub(total);
                    let error = total.sub(sum.sub(part)).add(some[j][i].sub(part));
                    totals[j][i] = [sum, lost.add(error)];
                }
            }
        }
        for (j, totals) in totals.iter().enumerate() {
            for i in 0..2 {
                let to = to[i].add(channel + j * V::LANES);
                V::load_n(to, n).add(totals[i][0].add(totals[i][1])).store_n(to, n);
            }
        }
    }
}

/// The parameters of `n` channels. No closure: one is not compiled with the instructions of `V` unless it happens to be inlined.
#[inline(always)]
unsafe fn load<V: Vector>([a, b, c, d]: [*const f32; 4], channel: usize, n: usize) -> [V; 4] {
    [
        take(a.add(channel), n),
        take(b.add(channel), n),
        take(c.add(channel), n),
        take(d.add(channel), n),
    ]
}
