//! How the weights lie.
//!
//! A direction is a sequence of blocks, each with all that leads to the gates of as many hidden units as a register has lanes: the
//! weights of the input, of the hidden state, and both biases. Both matrices are cut into tiles of as many registers as the product's
//! accumulators are wide (2 of an LSTM's four gates, all 3 of a GRU's): `[tile][k][registers][lanes]`. Lanes beyond the hidden size are
//! zero, as are the gradients that they get.

use super::{Cell, Recurrent, check};
use crate::vector::Vector;

/// Registers that a tile is wide in the products with turned weights.
pub(super) const TURNED: usize = 2;

impl Recurrent {
    /// Registers that a tile is wide.
    fn tile(&self) -> usize {
        match self.shape.cell {
            Cell::Lstm => 2,
            Cell::Gru => 3,
        }
    }

    /// Values of a block's parts: weights of the input, of the hidden state, and each bias.
    pub(super) fn block_parts(&self) -> [usize; 4] {
        let columns = self.gates() * self.isa.lanes();
        [self.shape.input * columns, self.shape.hidden * columns, columns, columns]
    }

    pub(super) fn block_len(&self) -> usize {
        self.block_parts().iter().sum()
    }

    /// Values of the weights in this layout.
    pub fn weights_len(&self) -> usize {
        self.directions() * self.blocks() * self.block_len()
    }

    /// Values of one direction's turned weights with `width` columns.
    pub(super) fn turned_len(&self, width: usize) -> usize {
        let panel = TURNED * self.isa.lanes();
        width.div_ceil(panel) * panel * self.blocks() * self.gates() * self.isa.lanes()
    }

    /// Which gate of ONNX is gate `g` of the input's product and of the hidden state's.
    fn onnx_gates(&self, g: usize) -> [usize; 2] {
        match self.shape.cell {
            Cell::Lstm => [g, g],
            Cell::Gru => [[2, 0, 1][g], g],
        }
    }

    /// Shows `pair` every index of W, R and B and its place in this layout.
    fn each_pair(&self, mut pair: impl FnMut(usize, usize, usize)) {
        let (lanes, hidden, gates) = (self.isa.lanes(), self.shape.hidden, self.gates());
        let (tile, parts) = (self.tile(), self.block_parts());
        for d in 0..self.directions() {
            for unit in 0..hidden {
                let (j, lane) = (unit / lanes, unit % lanes);
                for g in 0..gates {
                    let mut part = (d * self.blocks() + j) * self.block_len();
                    for (which, k) in [self.shape.input, hidden].into_iter().enumerate() {
                        let row = (d * gates + self.onnx_gates(g)[which]) * hidden + unit;
                        let at = part + (g / tile * k * tile + g % tile) * lanes + lane;
                        for i in 0..k {
                            pair(which, row * k + i, at + i * tile * lanes);
                        }
                        part += parts[which];
                    }
                    for (which, gate) in self.onnx_gates(g).into_iter().enumerate() {
                        let from = ((2 * d + which) * gates + gate) * hidden + unit;
                        pair(2, from, part + g * lanes + lane);
                        part += parts[2];
                    }
                }
            }
        }
    }

    fn check_onnx(&self, w: usize, r: usize, b: Option<usize>) {
        let rows = self.directions() * self.gates() * self.shape.hidden;
        check("W", w, rows * self.shape.input);
        check("R", r, rows * self.shape.hidden);
        assert!(b.is_some() == self.shape.bias, "a bias is there, or is not, as the shape says");
        b.iter().for_each(|&len| check("B", len, 2 * rows));
    }

    /// Lays out W `[d, gates * hidden, input]`, R `[d, gates * hidden, hidden]` and B `[d, 2 * gates * hidden]`, as ONNX has them.
    pub fn lay_out(&self, w: &[f32], r: &[f32], b: Option<&[f32]>, weights: &mut [f32]) {
        self.check_onnx(w.len(), r.len(), b.map(<[f32]>::len));
        check("weights", weights.len(), self.weights_len());
        weights.fill(0.0);
        let from = [w, r, b.unwrap_or(&[])];
        self.each_pair(|which, i, at| {
            if let Some(&value) = from[which].get(i) {
                weights[at] = value;
            }
        });
    }

    /// The opposite, of weights or of their gradients.
    pub fn read_out(&self, weights: &[f32], w: &mut [f32], r: &mut [f32], b: Option<&mut [f32]>) {
        self.check_onnx(w.len(), r.len(), b.as_ref().map(|b| b.len()));
        check("weights", weights.len(), self.weights_len());
        let to = [w, r, b.unwrap_or(&mut [])];
        self.each_pair(|which, i, at| {
            if let Some(value) = to[which].get_mut(i) {
                *value = weights[at];
            }
        });
    }

    /// Turns one direction's weights of the input (`which` 0) or the hidden state (1): `[panel of columns][block, gate, lane][column]`.
    ///
    /// # Safety
    /// `turned` is good for [`Self::turned_len`] values.
    #[inline(always)]
    pub(super) unsafe fn turn<V: Vector>(&self, which: usize, weights: &[f32], turned: *mut f32) {
        let (gates, tile, parts) = (self.gates(), self.tile(), self.block_parts());
        let (width, panel) = ([self.shape.input, self.shape.hidden][which], TURNED * V::LANES);
        let rows = self.blocks() * gates * V::LANES;
        if width % panel != 0 {
            std::ptr::write_bytes(turned.add(width / panel * rows * panel), 0, rows * panel);
        }
        for j in 0..self.blocks() {
            let block = &weights[j * self.block_len() + [0, parts[0]][which]..][..parts[which]];
            for g in 0..gates {
                let from = block.as_ptr().add((g / tile * width * tile + g % tile) * V::LANES);
                let to = turned.add((j * gates + g) * V::LANES * panel);
                for k in (0..width).step_by(V::LANES) {
                    let to = to.add(k / panel * rows * panel + k % panel);
                    let columns = V::LANES.min(width - k);
                    V::transpose(from.add(k * tile * V::LANES), tile * V::LANES, columns, V::LANES, to, panel);
                }
            }
        }
    }
}
