//! How weights lie: as the forward pass reads them, one panel of output channels after the other.
//!
//! A group's weights are `[panel][kernel row][kernel column][input channel][panel's channels]`; panels are [`WIDTH`] vectors wide, the
//! last one perhaps narrower, and zero behind the last channel. Depthwise: `[kernel row][kernel column][channels]`, whole vectors.

use super::Conv;
use super::image::Transpose;
use super::tile::WIDTH;
use crate::Team;
use crate::isa::dispatch;
use crate::team::{cut, ranges};

/// Some output channels (or, backward, input channels) that are computed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Panel {
    pub(super) first: usize,
    pub(super) channels: usize,
    /// Vectors, and floats in them.
    pub(super) vectors: usize,
    pub(super) width: usize,
    /// Channels in the last vector.
    pub(super) last: usize,
}

/// All panels of so many channels.
pub(super) fn panels(channels: usize, lanes: usize) -> Vec<Panel> {
    (0..channels)
        .step_by(WIDTH * lanes)
        .map(|first| {
            let channels = (channels - first).min(WIDTH * lanes);
            let vectors = channels.div_ceil(lanes);
            Panel {
                first,
                channels,
                vectors,
                width: vectors * lanes,
                last: channels - (vectors - 1) * lanes,
            }
        })
        .collect()
}

impl Conv {
    /// Floats of the weights: those of the graph, and zeros behind the last channel of each group.
    pub fn weights_len(&self) -> usize {
        if self.is_depthwise() {
            return self.taps() * self.depthwise_step();
        }
        self.shape.groups * self.group_len()
    }

    pub(super) fn depthwise_step(&self) -> usize {
        self.shape.groups.next_multiple_of(self.isa.lanes())
    }

    /// Floats of one group's weights.
    pub(super) fn group_len(&self) -> usize {
        self.taps() * self.channels_in * self.channels_out.next_multiple_of(self.isa.lanes())
    }

    /// Where the weight of an output channel, a channel of its group and a tap stands.
    fn place(&self, channel: usize, of_group: usize, tap: usize) -> usize {
        if self.is_depthwise() {
            return tap * self.depthwise_step() + channel;
        }
        let (group, c) = (channel / self.channels_out, channel % self.channels_out);
        let panel = self.panels[c / self.panels[0].width];
        let row = tap * self.channels_in + of_group;
        group * self.group_len() + panel.first * self.taps() * self.channels_in + row * panel.width + c - panel.first
    }

    /// The index in the graph's weights beside the place here, for each.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let (of_group, taps) = (self.channels_in, self.taps());
        (0..self.shape.channels_out * of_group * taps).map(move |i| {
            let (channel, rest) = (i / (of_group * taps), i % (of_group * taps));
            (i, self.place(channel, rest / taps, rest % taps))
        })
    }

    /// Writes the graph's weights, `[channels_out, channels_in / groups, kernel rows, kernel columns]`, as the kernels want them.
    pub fn lay_out(&self, onnx: &[f32], to: &mut [f32]) {
        self.check_weights(to);
        assert_eq!(
            onnx.len(),
            self.shape.channels_out * self.channels_in * self.taps(),
            "weights of the graph"
        );
        to.fill(0.0);
        for (i, place) in self.places() {
            to[place] = onnx[i];
        }
    }

    /// The way back: weights, or what has their layout (gradients, an optimizer's state), as the graph has them.
    pub fn read_out(&self, from: &[f32], onnx: &mut [f32]) {
        self.check_weights(from);
        assert_eq!(
            onnx.len(),
            self.shape.channels_out * self.channels_in * self.taps(),
            "weights of the graph"
        );
        for (i, place) in self.places() {
            onnx[i] = from[place];
        }
    }

    pub(super) fn check_weights(&self, weights: &[f32]) {
        assert_eq!(weights.len(), self.weights_len(), "weights");
    }

    /// Floats of turned weights: groups of `[panel of input channels][tap][output channel][panel's channels]`.
    pub(super) fn turned_len(&self) -> usize {
        self.shape.groups * self.turned_group_len()
    }

    pub(super) fn turned_group_len(&self) -> usize {
        self.taps() * self.channels_out * self.channels_in.next_multiple_of(self.isa.lanes())
    }

    /// Turns weights; taps come the other way round where another convolution goes on from here.
    pub(super) fn turn(&self, team: &Team, weights: &[f32], mut to: &mut [f32]) {
        let taps = self.taps();
        let turned_tap = |tap: usize| if self.turned.is_some() { taps - 1 - tap } else { tap };
        if self.is_depthwise() {
            if self.turned.is_some() {
                let step = self.depthwise_step();
                for tap in 0..taps {
                    to[turned_tap(tap) * step..][..step].copy_from_slice(&weights[tap * step..][..step]);
                }
            }
            return;
        }
        self.check_weights(weights);
        let in_panels = panels(self.channels_in, self.isa.lanes());
        let mut parts = Vec::new();
        for group in 0..self.shape.groups {
            let weights = &weights[group * self.group_len()..][..self.group_len()];
            let most = if self.shape.groups > 1 { 1 } else { in_panels.len() };
            for range in ranges(in_panels.len(), team.parts_of_values(weights.len(), most), 1) {
                let some = &in_panels[range];
                let width: usize = some.iter().map(|panel| panel.width).sum();
                parts.push((weights, some, cut(&mut to, width * taps * self.channels_out)));
            }
        }
        team.each(parts, |(weights, some, to)| {
            if !self.channels_in.is_multiple_of(self.isa.lanes()) {
                to.fill(0.0);
            }
            // In the order in which weights stand.
            for out in &self.panels {
                for tap in 0..taps {
                    for panel in some {
                        let row = out.first * taps * self.channels_in + (tap * self.channels_in + panel.first) * out.width;
                        let column = (panel.first - some[0].first) * taps * self.channels_out
                            + (turned_tap(tap) * self.channels_out + out.first) * panel.width;
                        let transpose = Transpose {
                            from: weights[row..].as_ptr(),
                            from_step: out.width,
                            rows: panel.channels,
                            columns: out.channels,
                            to: to[column..].as_mut_ptr(),
                            to_step: panel.width,
                        };
                        // SAFETY: weights have their length, and of the panels' place as much was taken.
                        unsafe { dispatch(self.isa, transpose) };
                    }
                }
            }
        });
    }
}
