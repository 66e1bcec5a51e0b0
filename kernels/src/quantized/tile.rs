//! The loops of a product: some places and some panels of outputs at once, and what becomes of their sums.

use super::dot::Dot;
use super::{PANEL, Places, Rescale, To, Weights};

/// Most places of a tile.
const PLACES: usize = 6;

/// A product.
#[derive(Clone, Copy)]
pub(super) struct Tiles<'a> {
    pub(super) weights: &'a Weights,
    /// Of the runs, from a place.
    pub(super) offsets: &'a [usize],
    pub(super) rescale: &'a Rescale,
    pub(super) places: Places,
    pub(super) x: *const u8,
}

/// What becomes of sixteen sums.
trait Store {
    /// Writes the results of `n` outputs to place `at` on.
    ///
    /// # Safety
    /// `n` values from `at` on are there.
    unsafe fn store(&mut self, at: usize, n: usize, results: [f32; PANEL]);
}

struct Bytes {
    y: *mut u8,
    zero: f32,
    least: f32,
    most: f32,
}

impl Store for Bytes {
    #[inline(always)]
    unsafe fn store(&mut self, at: usize, n: usize, results: [f32; PANEL]) {
        let mut bytes = [0u8; PANEL];
        for i in 0..PANEL {
            // Bounds are whole: to keep within them first changes nothing, and the integer fits. Scales and sums are finite.
            let kept = results[i].max(self.least).min(self.most);
            let rounded = kept.round_ties_even() + self.zero;
            bytes[i] = rounded.to_int_unchecked::<i32>() as u8;
        }
        let to = self.y.add(at);
        if n == PANEL {
            to.cast::<[u8; PANEL]>().write_unaligned(bytes);
        } else {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, n);
        }
    }
}

struct Floats {
    y: *mut f32,
    relu: bool,
}

impl Store for Floats {
    #[inline(always)]
    unsafe fn store(&mut self, at: usize, n: usize, mut results: [f32; PANEL]) {
        if self.relu {
            for result in &mut results {
                *result = result.max(0.0);
            }
        }
        std::ptr::copy_nonoverlapping(results.as_ptr(), self.y.add(at), n);
    }
}

impl Tiles<'_> {
    /// All of them.
    ///
    /// # Safety
    /// What is reached from `x` is there, and what is reached in `to`.
    #[inline(always)]
    pub(super) unsafe fn run<D: Dot>(self, to: To<'_>) {
        match to {
            To::Bytes { y, zero, least, most } => {
                let zero = f32::from(zero);
                self.rows::<D>(&mut Bytes {
                    y: y.as_mut_ptr(),
                    zero,
                    least: f32::from(least) - zero,
                    most: f32::from(most) - zero,
                });
            }
            To::Floats { y, relu } => self.rows::<D>(&mut Floats { y: y.as_mut_ptr(), relu }),
        }
    }

    #[inline(always)]
    unsafe fn rows<D: Dot>(self, store: &mut impl Store) {
        let panels = self.weights.outputs.div_ceil(PANEL);
        let mut panel = 0;
        while panel < panels {
            let n = match panels - panel {
                n if n >= 4 && D::PANELS >= 4 => 4,
                n if n >= 2 && D::PANELS >= 2 => 2,
                _ => 1,
            };
            for row in 0..self.places.count[0] {
                match n {
                    4 => self.columns::<D, 4>(row, panel, store),
                    2 => self.columns::<D, 2>(row, panel, store),
                    _ => self.columns::<D, 1>(row, panel, store),
                }
            }
            panel += n;
        }
    }

    /// A row, in tiles of about the same width.
    #[inline(always)]
    unsafe fn columns<D: Dot, const V: usize>(self, row: usize, panel: usize, store: &mut impl Store) {
        let columns = self.places.count[1];
        let tiles = columns.div_ceil(PLACES);
        let mut column = 0;
        for tile in 0..tiles {
            let n = columns * (tile + 1) / tiles - column;
            let place = (row, column);
            match n {
                1 => self.tile::<D, V, 1>(place, panel, store),
                2 => self.tile::<D, V, 2>(place, panel, store),
                3 => self.tile::<D, V, 3>(place, panel, store),
                4 => self.tile::<D, V, 4>(place, panel, store),
                5 => self.tile::<D, V, 5>(place, panel, store),
                _ => self.tile::<D, V, 6>(place, panel, store),
            }
            column += n;
        }
    }

    #[inline(always)]
    unsafe fn tile<D: Dot, const V: usize, const P: usize>(self, (row, column): (usize, usize), panel: usize, store: &mut impl Store) {
        let Places { x, y, .. } = self.places;
        let from = self.x.add(row * x[0] + column * x[1]);
        let panel_len = self.offsets.len() * self.weights.run * PANEL;
        let mut weights = self.weights.packed.as_ptr().add(panel * panel_len);
        let mut sums = [[D::zero(); V]; P];
        let steps = self.weights.run / 4;
        let stride = x[1];
        // No calls in here that may stay calls, such as those of arrays' `map`: sums would leave their registers.
        for &offset in self.offsets {
            let mut bytes = from.add(offset);
            for _ in 0..steps {
                let mut four: [D::Weights; V] = [D::weights(weights); V];
                for v in 1..V {
                    four[v] = D::weights(weights.add(v * panel_len));
                }
                for p in 0..P {
                    let four_bytes = bytes.wrapping_add(p.wrapping_mul(stride));
                    for v in 0..V {
                        sums[p][v] = sums[p][v].add(four_bytes, four[v]);
                    }
                }
                bytes = bytes.add(4);
                weights = weights.add(4 * PANEL);
            }
        }
        // By places that are known when it is compiled; the loop behind may stay one.
        let mut whole = [[[0; PANEL]; V]; P];
        for p in 0..P {
            for v in 0..V {
                whole[p][v] = sums[p][v].store();
            }
        }
        for p in 0..P {
            for v in 0..V {
                let first = (panel + v) * PANEL;
                let results = self.rescaled(whole[p][v], first);
                let n = PANEL.min(self.weights.outputs - first);
                store.store(row * y[0] + (column + p) * y[1] + first, n, results);
            }
        }
    }

    /// `(sum + bias) * scale + add`, each step rounded to float32.
    #[inline(always)]
    unsafe fn rescaled(self, sums: [i32; PANEL], first: usize) -> [f32; PANEL] {
        let bias = self.rescale.bias.as_ptr().add(first).cast::<[i32; PANEL]>().read_unaligned();
        let scale = self.rescale.scale.as_ptr().add(first).cast::<[f32; PANEL]>().read_unaligned();
        let add = self.rescale.add.as_ptr().add(first).cast::<[f32; PANEL]>().read_unaligned();
        let mut results = [0.0; PANEL];
        for i in 0..PANEL {
            results[i] = sums[i].wrapping_add(bias[i]) as f32 * scale[i] + add[i];
        }
        results
    }
}
