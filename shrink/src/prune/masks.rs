//! Which weights of a model are kept.

use std::collections::BTreeMap;

use aimass_onnx::{Model, ParamKind, ParamLayout};

use super::{Mask, PruneError, PruneRules, Sparsity};
use crate::wiring::shown;

/// The masks of all pruned parameters of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masks {
    /// In the file's order.
    masks: Vec<(String, Mask)>,
}

/// How much of one parameter is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerCount {
    /// The parameter.
    pub name: String,
    /// Its elements.
    pub elements: usize,
    /// How many of them are pruned.
    pub pruned: usize,
}

impl Masks {
    /// Masks that keep everything that `rules` would prune: where a schedule starts.
    ///
    /// # Errors
    /// [`PruneError`] for globs that match nothing, and rules that leave nothing.
    pub fn dense(model: &Model, rules: &PruneRules) -> Result<Self, PruneError> {
        Self::keeping(model, rules, |_| true)
    }

    /// The weights of smallest magnitude go, by one threshold over all parameters together: `sparsity.count(n)` of their `n` elements
    /// exactly, among equal magnitudes those that come first in the file. The same model and rules give the same masks everywhere.
    ///
    /// # Errors
    /// As [`Self::dense`]; [`PruneError::NonFinite`] for a weight that has no magnitude.
    pub fn by_magnitude(model: &Model, rules: &PruneRules, sparsity: Sparsity) -> Result<Self, PruneError> {
        let mut masks = Self::dense(model, rules)?;
        masks.grow(model, sparsity)?;
        Ok(masks)
    }

    /// Masks of the zeros that a model has: those of a model that was pruned before.
    ///
    /// # Errors
    /// As [`Self::dense`].
    pub fn of_zeros(model: &Model, rules: &PruneRules) -> Result<Self, PruneError> {
        Self::keeping(model, rules, |value| value != 0.0)
    }

    fn keeping(model: &Model, rules: &PruneRules, keeps: impl Fn(f32) -> bool) -> Result<Self, PruneError> {
        let mask = |tensor: aimass_onnx::TensorRef<'_>| {
            let values = tensor.to_f32().unwrap_or_default();
            (tensor.proto.name.clone(), Mask::new(values.iter().map(|&value| keeps(value))))
        };
        Ok(Self {
            masks: rules.choose(model)?.into_iter().map(mask).collect(),
        })
    }

    /// Prunes more: of what is still kept the smallest magnitudes go, until `sparsity` is reached. What is pruned stays pruned, whatever
    /// its value is by now; a lower sparsity than the present one changes nothing.
    ///
    /// # Errors
    /// [`PruneError::OtherModel`]; [`PruneError::NonFinite`]. The masks are as before then.
    pub fn grow(&mut self, model: &Model, sparsity: Sparsity) -> Result<(), PruneError> {
        let values = |name: &str| model.initializer(name).and_then(|tensor| tensor.to_f32());
        let values: Vec<Option<Vec<f32>>> = self.masks.iter().map(|(name, _)| values(name)).collect();
        let slices: Vec<Option<&[f32]>> = values.iter().map(Option::as_deref).collect();
        self.grow_by(&slices, sparsity)
    }

    /// As [`Self::grow`], from a trainer's flat weights. Shape `[layout.n_weights()]`.
    ///
    /// # Errors
    /// [`PruneError::OtherModel`] also for a pruned parameter that does not train in this layout.
    pub fn grow_flat(&mut self, layout: &ParamLayout, weights: &[f32], sparsity: Sparsity) -> Result<(), PruneError> {
        let places = self.places(layout)?;
        let slices: Vec<Option<&[f32]>> = places.into_iter().map(|range| weights.get(range)).collect();
        self.grow_by(&slices, sparsity)
    }

    fn grow_by(&mut self, values: &[Option<&[f32]>], sparsity: Sparsity) -> Result<(), PruneError> {
        let mut magnitudes = Vec::with_capacity(self.kept());
        for ((name, mask), values) in self.masks.iter().zip(values) {
            let values = values
                .filter(|values| values.len() == mask.len())
                .ok_or_else(|| other_model(name, mask))?;
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(PruneError::NonFinite {
                    param: shown(name),
                    index,
                    value: values[index],
                });
            }
            magnitudes.extend(
                values
                    .iter()
                    .zip(mask.iter())
                    .filter(|&(_, keep)| keep)
                    .map(|(&value, _)| key(value)),
            );
        }
        let more = sparsity.count(self.elements()).saturating_sub(self.pruned());
        let Some(last) = more.checked_sub(1) else { return Ok(()) };
        let (below, &mut threshold, _) = magnitudes.select_nth_unstable(last);
        // What is below the threshold goes, and of what is equal to it as many as are missing.
        let mut equal = more - below.iter().filter(|&&key| key < threshold).count();
        for ((_, mask), values) in self.masks.iter_mut().zip(values) {
            let values = values.unwrap_or_default();
            let mut keeps = |keep: bool, value: f32| {
                let key = key(value);
                let tie = keep && key == threshold && equal > 0;
                equal -= usize::from(tie);
                keep && !tie && key >= threshold
            };
            *mask = Mask::new(mask.iter().zip(values).map(|(keep, &value)| keeps(keep, value)));
        }
        Ok(())
    }

    /// The model with zeros where weights are pruned, everything else byte for byte as it was.
    ///
    /// # Errors
    /// [`PruneError::OtherModel`].
    pub fn apply(&self, model: &Model) -> Result<Model, PruneError> {
        let known: BTreeMap<&str, &Mask> = self.iter().collect();
        let floats = model
            .initializers()
            .filter(|tensor| tensor.element == aimass_onnx::ElementType::F32);
        let kinds: Vec<ParamKind> = floats
            .map(|tensor| match known.contains_key(tensor.proto.name.as_str()) {
                true => ParamKind::Weight,
                false => ParamKind::Frozen,
            })
            .collect();
        // There are as many kinds as entries.
        let Some(layout) = ParamLayout::with_kinds(model, &kinds) else {
            return Ok(model.clone());
        };
        let mut weights = model.weights(&layout)?;
        self.zero(&layout, &mut weights)?;
        Ok(model.with_weights(&layout, &weights)?)
    }

    /// Zeroes what is pruned in a trainer's flat weights: to be called after each step of its optimizer. Shape `[layout.n_weights()]`.
    ///
    /// # Errors
    /// [`PruneError::OtherModel`] for a layout of another model, one in which a pruned parameter does not train, or fewer weights.
    pub fn zero(&self, layout: &ParamLayout, weights: &mut [f32]) -> Result<(), PruneError> {
        for ((name, mask), range) in self.masks.iter().zip(self.places(layout)?) {
            let weights = weights.get_mut(range).ok_or_else(|| other_model(name, mask))?;
            mask.zero(weights);
        }
        Ok(())
    }

    /// For each of a trainer's flat weights whether it is kept; weights without a mask are. Shape `[layout.n_weights()]`.
    ///
    /// # Errors
    /// As [`Self::zero`].
    pub fn flat(&self, layout: &ParamLayout) -> Result<Vec<bool>, PruneError> {
        let mut flat = vec![true; layout.n_weights()];
        for ((_, mask), range) in self.masks.iter().zip(self.places(layout)?) {
            let places = flat.get_mut(range).into_iter().flatten();
            places.zip(mask.iter()).for_each(|(place, keep)| *place = keep);
        }
        Ok(flat)
    }

    /// Where each mask's parameter lies in the flat weights.
    fn places(&self, layout: &ParamLayout) -> Result<Vec<std::ops::Range<usize>>, PruneError> {
        let trained = layout.params().iter().filter(|param| param.kind == ParamKind::Weight);
        let ranges: BTreeMap<&str, _> = trained.map(|param| (param.name.as_str(), param.range())).collect();
        let place = |(name, mask): &(String, Mask)| {
            let range = ranges.get(name.as_str()).filter(|range| range.len() == mask.len());
            range.cloned().ok_or_else(|| other_model(name, mask))
        };
        self.masks.iter().map(place).collect()
    }

    /// Which elements of a parameter are kept; `None` for one that is not pruned.
    pub fn keeps(&self, name: &str) -> Option<&Mask> {
        self.masks.iter().find(|(masked, _)| masked == name).map(|(_, mask)| mask)
    }

    /// The pruned parameters in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Mask)> {
        self.masks.iter().map(|(name, mask)| (name.as_str(), mask))
    }

    /// Elements of all pruned parameters.
    pub fn elements(&self) -> usize {
        self.masks.iter().map(|(_, mask)| mask.len()).sum()
    }

    fn kept(&self) -> usize {
        self.masks.iter().map(|(_, mask)| mask.kept()).sum()
    }

    /// How many of them are zero.
    pub fn pruned(&self) -> usize {
        self.elements() - self.kept()
    }

    /// The share of [`Self::elements`] that is pruned.
    pub fn sparsity(&self) -> f64 {
        self.pruned() as f64 / self.elements().max(1) as f64
    }

    /// Counts by parameter, in the file's order.
    pub fn layers(&self) -> Vec<LayerCount> {
        let count = |(name, mask): &(String, Mask)| LayerCount {
            name: name.clone(),
            elements: mask.len(),
            pruned: mask.pruned(),
        };
        self.masks.iter().map(count).collect()
    }
}

/// A finite value's magnitude as a number that is ordered alike.
fn key(value: f32) -> u32 {
    value.abs().to_bits()
}

fn other_model(param: &str, mask: &Mask) -> PruneError {
    PruneError::OtherModel {
        param: shown(param),
        expected: mask.len(),
    }
}
