//! Which weights are pruned: they are 0, and training keeps them so.

use std::collections::BTreeMap;

use aimass_onnx::{ParamKind, ParamLayout};

use crate::TrainError;

/// A bit for each weight of a layout, in its order: whether it is kept. The others are exactly 0, after every step and whatever the optimizer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    kept: Vec<bool>,
}

impl Mask {
    /// `kept` holds for some weights by name whether each value is kept; weights that are not named are kept whole.
    ///
    /// # Errors
    /// [`TrainError::Config`] for a name that no weight of the layout has, and for another number of bits than it has values.
    pub fn new(layout: &ParamLayout, kept: &BTreeMap<String, Vec<bool>>) -> Result<Self, TrainError> {
        let wrong = |reason: String| TrainError::Config { reason };
        let mut all = vec![true; layout.n_weights()];
        for (name, bits) in kept {
            let weight = layout.params().iter().find(|p| p.name == *name && p.kind == ParamKind::Weight);
            let weight = weight.ok_or_else(|| {
                wrong(format!(
                    "the mask names `{name}`, which is no weight that trains; leave it out, or name it in [model] trainable"
                ))
            })?;
            if bits.len() != weight.n_elements() {
                return Err(wrong(format!(
                    "the mask of `{name}` has {} bits for {} values; make one a value",
                    bits.len(),
                    weight.n_elements()
                )));
            }
            all[weight.range()].copy_from_slice(bits);
        }
        Ok(Self { kept: all })
    }

    /// Whether each weight is kept, in the layout's order.
    pub fn from_kept(kept: Vec<bool>) -> Self {
        Self { kept }
    }

    /// That keeps what is not 0: of weights `[layout.n_weights()]` that were pruned before.
    pub fn of_weights(weights: &[f32]) -> Self {
        Self {
            kept: weights.iter().map(|&w| w != 0.0).collect(),
        }
    }

    /// Weights that it is for.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether it is for a model without weights.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether each weight is kept.
    pub fn kept(&self) -> &[bool] {
        &self.kept
    }

    /// Weights that are pruned.
    pub fn pruned(&self) -> usize {
        self.kept.iter().filter(|kept| !**kept).count()
    }

    /// Makes 0 what is pruned, of one vector as long as the weights.
    pub fn apply(&self, flat: &mut [f32]) {
        for (value, kept) in flat.iter_mut().zip(&self.kept) {
            if !kept {
                *value = 0.0;
            }
        }
    }

    pub(crate) fn check(&self, n_weights: usize) -> Result<(), TrainError> {
        if self.kept.len() == n_weights {
            return Ok(());
        }
        Err(TrainError::Data {
            reason: format!(
                "a mask of {} bits for a model of {n_weights} weights; it is of another model",
                self.kept.len()
            ),
        })
    }

    /// Eight a byte, from its lowest bit on; the last byte is filled with zeros.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| bits.iter().enumerate().fold(0, |byte, (i, &bit)| byte | u8::from(bit) << i);
        self.kept.chunks(8).map(byte).collect()
    }

    /// Of `n` weights; `None` for another number of bytes, and for bits behind the last that are not 0.
    pub(crate) fn from_bytes(bytes: &[u8], n: usize) -> Option<Self> {
        if bytes.len() != n.div_ceil(8) {
            return None;
        }
        let mut kept: Vec<bool> = bytes.iter().flat_map(|byte| (0..8).map(move |i| byte >> i & 1 == 1)).collect();
        let none = kept.drain(n..).all(|bit| !bit);
        none.then_some(Self { kept })
    }

    /// As floats, 1 for what is kept.
    pub(crate) fn to_floats(&self) -> Vec<f32> {
        self.kept.iter().map(|&kept| f32::from(u8::from(kept))).collect()
    }
}

#[cfg(test)]
mod tests;
