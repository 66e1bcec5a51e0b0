//! Ranges of activations that many devices saw together: what each of them looks at, and what becomes of their sum.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use aimass_analytics::calibration::CalibrationReport;
use aimass_inference::Both;
use aimass_learning::data::Source;
use aimass_learning::{Array, Batch, DataError, Engine, Head};
use aimass_onnx::{Dim, ElementType, Model};
use aimass_protocol::limits::{CALIBRATION_BINS, CALIBRATION_EXPONENTS};
use aimass_shrink::fold;
use aimass_shrink::quantize::{self, BINS, Histogram, MAX_EXPONENT, MIN_EXPONENT, Observed};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::CompressError;
use crate::quantize::{BATCH, look};

// What is sent are these histograms.
const _: () = assert!(BINS == CALIBRATION_BINS && MIN_EXPONENT == CALIBRATION_EXPONENTS.0 && MAX_EXPONENT == CALIBRATION_EXPONENTS.1);

/// A model as its quantization finds it, and the activations that have to be looked at.
#[derive(Debug, Clone)]
pub struct Watched {
    folded: Model,
    tensors: Vec<String>,
}

impl Watched {
    /// `keep` are globs over names of nodes or weights that stay in floats.
    ///
    /// # Errors
    /// [`CompressError::Fold`]; [`CompressError::Quantize`] for a model of which nothing can be quantized, and globs that are wrong.
    pub fn of(model: &Model, keep: &[String]) -> Result<Self, CompressError> {
        let (folded, _) = fold::fold(model)?;
        let options = quantize::Options {
            exclude: keep.to_vec(),
            ..quantize::Options::default()
        };
        let (_, tensors) = quantize::observe(&folded, &options)?;
        Ok(Self { folded, tensors })
    }

    /// Names of the activations, each once, in order.
    pub fn tensors(&self) -> &[String] {
        &self.tensors
    }

    /// Histograms that grow as far as values need it: the exponents of [`Observed::histograms`] say which range holds them.
    pub fn open(&self) -> Observed {
        Observed::new(&self.tensors)
    }

    /// Histograms with these exponents, in the order of the tensors: what lies beyond counts as outermost. Those of several devices add up by their counts.
    ///
    /// # Errors
    /// [`CompressError::Ranges`] for an exponent that no histogram has, and for another number of them.
    pub fn bounded(&self, exponents: &[i32]) -> Result<Observed, CompressError> {
        let wrong = |tensor: &str, problem: String| CompressError::Ranges {
            tensor: tensor.to_owned(),
            problem,
        };
        if let Some(tensor) = self.tensors.get(exponents.len()) {
            return Err(wrong(tensor, "has no exponent".to_owned()));
        }
        let pairs = self.tensors.iter().zip(exponents);
        let histograms = pairs.map(|(name, exponent)| match Histogram::bounded(*exponent) {
            Ok(histogram) => Ok((name.clone(), histogram)),
            Err(e) => Err(wrong(name, format!("can't have that exponent: {e}"))),
        });
        Ok(Observed::from_histograms(histograms.collect::<Result<_, _>>()?))
    }

    /// The exponent of each histogram, in the order of the tensors.
    pub fn exponents(&self, seen: &Observed) -> Vec<i32> {
        self.histograms(seen).map(Histogram::exponent).collect()
    }

    /// The counts of each histogram, in the order of the tensors.
    pub fn counts<'a>(&'a self, seen: &'a Observed) -> impl Iterator<Item = &'a [u64]> {
        self.histograms(seen).map(Histogram::counts)
    }

    fn histograms<'a>(&'a self, seen: &'a Observed) -> impl Iterator<Item = &'a Histogram> {
        self.tensors.iter().filter_map(|name| seen.histograms().get(name))
    }

    /// Runs the model on all rows of `data` and counts what the activations hold. `each` hears of every batch (its number, counted from 1, and how many there
    /// are) and says whether to go on. `None` when it was broken off.
    ///
    /// # Errors
    /// [`CompressError::Calibration`] for rows that the model can't take, [`CompressError::Quantize`] for values that are not finite.
    pub fn look(
        &self,
        mut observed: Observed,
        data: &dyn Source,
        heads: &[Head],
        each: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Option<Observed>, CompressError> {
        let (mut step, steps) = (0, data.len().div_ceil(BATCH) as u64);
        let mut broken = false;
        look(&self.folded, &self.tensors, &mut observed, data, heads, &mut || {
            step += 1;
            let wish = each(step, steps);
            broken |= wish.is_break();
            wish
        })?;
        Ok((!broken).then_some(observed))
    }
}

/// Rows spread evenly over `len` of them: all, or so many.
pub fn spread(len: usize, rows: usize) -> Vec<usize> {
    let n = rows.min(len);
    (0..n).map(|i| (i as u128 * len as u128 / n.max(1) as u128) as usize).collect()
}

/// What all agents of a calibration saw: the histograms of its last round.
///
/// # Errors
/// [`CompressError::NoHistograms`] for the report of another round, [`CompressError::Ranges`] for counts that are no histogram.
pub fn observed(report: &CalibrationReport) -> Result<Observed, CompressError> {
    let mut histograms = BTreeMap::new();
    for tensor in &report.tensors {
        let none = || CompressError::NoHistograms { round: report.round };
        let (counts, exponent) = (tensor.counts().ok_or_else(none)?, tensor.exponent.ok_or_else(none)?);
        let histogram = Histogram::from_counts(exponent, &counts).map_err(|e| CompressError::Ranges {
            tensor: tensor.name.clone(),
            problem: format!("has no histogram: {e}"),
        })?;
        histograms.insert(tensor.name.clone(), histogram);
    }
    Ok(Observed::from_histograms(histograms))
}

/// Whether `ranges` are those of exactly these tensors, with values in each.
pub(crate) fn check(ranges: &Observed, tensors: &[String]) -> Result<(), CompressError> {
    let wrong = |tensor: &str, problem: &str| {
        Err(CompressError::Ranges {
            tensor: tensor.to_owned(),
            problem: problem.to_owned(),
        })
    };
    for tensor in tensors {
        match ranges.histograms().get(tensor) {
            None => return wrong(tensor, "is an activation of the model, and nothing is known of it"),
            Some(histogram) if histogram.total() == 0 => return wrong(tensor, "holds no values"),
            Some(_) => {}
        }
    }
    match ranges.histograms().keys().find(|name| !tensors.contains(name)) {
        Some(tensor) => wrong(tensor, "is no activation of the model that is rounded"),
        None => Ok(()),
    }
}

/// Whether devices can run the model at all.
///
/// # Errors
/// [`CompressError::Load`], with the operator that tract can't run.
pub fn check_served(model: &Model) -> Result<(), CompressError> {
    Ok(Both::load(model).map(drop)?)
}

/// Rows within the ranges of a model's inputs, for comparing two ways to compute where there is no data.
pub(crate) struct Pattern {
    /// Of each input: values a row, and the range they are drawn from.
    inputs: Vec<(usize, f32, f32)>,
}

impl Pattern {
    const ROWS: usize = 64;

    /// `None` where rows can't be drawn: for inputs that are not float32, or whose size is not known.
    pub(crate) fn within(model: &Model, ranges: &Observed) -> Result<Option<Self>, CompressError> {
        let engine = Engine::new(model).map_err(CompressError::Calibration)?;
        let mut inputs = Vec::new();
        for name in engine.inputs() {
            let input = model.inputs().iter().find(|input| input.name == name);
            let Some(input) = input.filter(|input| input.element == ElementType::F32) else {
                return Ok(None);
            };
            let dims = input.dims.iter().flatten().skip(1);
            let mut width = dims.map(|dim| match dim {
                Dim::Fixed(n) => Some(*n),
                _ => None,
            });
            let width = width.try_fold(1_usize, |product, dim| product.checked_mul(dim?));
            let Some(width) = width.filter(|width| input.dims.is_some() && *width <= 1 << 24) else {
                return Ok(None);
            };
            let (low, high) = ranges.histograms().get(name).and_then(Histogram::extremes).unwrap_or((-1.0, 1.0));
            inputs.push((width, low, high));
        }
        Ok(Some(Self { inputs }))
    }
}

impl Source for Pattern {
    fn len(&self) -> usize {
        Self::ROWS
    }

    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError> {
        let value = |rng: &mut ChaCha20Rng, low: f32, high: f32| {
            let share = f64::from(rng.next_u32()) / f64::from(u32::MAX);
            (f64::from(low) + (f64::from(high) - f64::from(low)) * share) as f32
        };
        let inputs = self.inputs.iter().enumerate().map(|(input, &(width, low, high))| {
            let values = rows.iter().flat_map(|row| {
                let mut rng = ChaCha20Rng::seed_from_u64(((input as u64) << 32) | *row as u64);
                (0..width).map(|_| value(&mut rng, low, high)).collect::<Vec<_>>()
            });
            Array::floats(vec![rows.len(), width], values.collect()).unwrap_or_else(|| Array::float_list(Vec::new()))
        });
        Ok(Batch {
            inputs: inputs.collect(),
            targets: Vec::new(),
            weights: None,
            flat: true,
        })
    }

    fn targets(&self) -> Option<Vec<Array>> {
        Some(Vec::new())
    }

    fn fingerprint(&self, _feed: &mut dyn FnMut(&[u8])) -> Result<(), DataError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
