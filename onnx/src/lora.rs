//! Low-rank adapters: a weight `W` stays as it is, and a product of two small matrices beside it trains.
//!
//! [`add`] puts beside every use of a chosen matrix a second path through `A` and `B`, scaled by `alpha / rank`, and adds the two;
//! [`merge`] takes the paths out again and adds their product to the matrix. What neither understands stays byte for byte as it was, so
//! `merge(add(model))` is `model` as long as `B` is zero, and the file keeps its names, metadata and unknown fields in between.
//!
//! # Source
//! Hu et al. 2022, LoRA: Low-Rank Adaptation of Large Language Models (ICLR), section 4.1. There `W` is `[out, in]` and its update `B A`;
//! ONNX stores most matrices the other way round, and then so are the factors. `A` is the factor at the input's side, drawn at random;
//! `B` starts at zero, so an adapted model computes what it did before.
//!
//! # How an adapter is kept
//! For a weight `w`: the initializers `w.lora_A` and `w.lora_B`, and an entry `aimass.lora:w` of the model's metadata that holds rank,
//! alpha and the order of the factors. Added nodes are named `aimass.lora/...`; the value that the adapted node gave is called
//! `aimass.lora/base/...` now, and the sum has its old name.

mod edit;
mod error;
mod merge;
mod plan;

pub use error::LoraError;
pub use merge::merge;

use edit::Edit;
use globset::{Glob, GlobMatcher};
use plan::Adapted;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::error::shown;
use crate::{LayoutError, Model, ParamLayout, TrainableRules};

/// Globs for [`TrainableRules`] by which the adapters train and nothing else.
pub const TRAINABLE: [&str; 2] = ["!*", "*.lora_[AB]"];

/// Names of what is added start with this.
const PREFIX: &str = "aimass.lora/";
/// Names of the values that the adapted nodes give start with this.
const BASE: &str = "aimass.lora/base/";
/// Keys of the entries in the model's metadata start with this.
const KEY: &str = "aimass.lora:";
/// The oldest IR version in which an initializer need not be an input.
const OLDEST_IR: i64 = 4;
/// Most numbers in all factors together: as many as the largest model holds.
const MAX_FACTORS: usize = crate::MAX_MODEL_BYTES / 4;

/// Which weights get an adapter, and what it is like.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapters {
    /// Globs over the names of initializers, `*` matching any characters. None means every matrix that a MatMul or Gemm multiplies by;
    /// tables that a Gather reads have to be named. What is no matrix (biases, kernels) is passed over.
    pub targets: Vec<String>,
    /// Rank, at least 1.
    pub rank: usize,
    /// The product of the factors is multiplied by `alpha / rank`; above 0.
    pub alpha: f32,
    /// Seed of the first values of `A`: uniform in +-1 / sqrt(fan in), as the authors' program draws them; in
    /// +-1 for tables that a Gather reads.
    pub seed: u64,
}

/// Puts adapters beside the chosen weights.
///
/// # Errors
/// [`LoraError`], before anything is changed: a glob that matches no suitable weight, and a chosen weight that is also used in a way that
/// an adapter can't follow, by weight and node.
pub fn add(model: &Model, adapters: &Adapters) -> Result<Model, LoraError> {
    if adapters.rank == 0 {
        return Err(LoraError::Rank { rank: 0 });
    }
    if !adapters.alpha.is_finite() || adapters.alpha <= 0.0 {
        return Err(LoraError::Alpha {
            alpha: adapters.alpha.to_string(),
        });
    }
    if model.proto().ir_version < OLDEST_IR {
        return Err(LoraError::IrVersion {
            found: model.proto().ir_version,
            oldest: OLDEST_IR,
        });
    }
    let chosen = plan::choose(model, &globs(&adapters.targets)?)?;
    let mut rng = ChaCha8Rng::seed_from_u64(adapters.seed);
    let mut edit = Edit::default();
    let mut total = 0usize;
    for weight in &chosen {
        let too_large = || LoraError::Rank { rank: adapters.rank };
        let mut count = |side: usize| {
            let n = side.checked_mul(adapters.rank)?;
            total = total.checked_add(n).filter(|&total| total <= MAX_FACTORS)?;
            Some(n)
        };
        let (left, right) = (
            count(weight.rows).ok_or_else(too_large)?,
            count(weight.columns).ok_or_else(too_large)?,
        );
        let bound = 1.0 / (weight.fan_in.max(1) as f64).sqrt();
        let mut drawn = |n: usize| (0..n).map(|_| uniform(&mut rng, bound)).collect();
        let (left, right) = if weight.input_is_left {
            (drawn(left), vec![0.0; right])
        } else {
            (vec![0.0; left], drawn(right))
        };
        edit.adapt(weight, adapters, &left, &right);
    }
    Ok(Model::from_shared(edit.apply(model.as_bytes())?.into())?)
}

/// In `[-bound, bound)`, of 24 bits.
fn uniform(rng: &mut ChaCha8Rng, bound: f64) -> f32 {
    let unit = f64::from(rng.next_u32() >> 8) / f64::from(1 << 24);
    ((2.0 * unit - 1.0) * bound) as f32
}

/// Whether a model has adapters.
pub fn is_adapted(model: &Model) -> bool {
    model.proto().metadata_props.iter().any(|entry| entry.key.starts_with(KEY))
}

/// The layout in which the adapters of `model` train, and beside them what `more` globs name.
///
/// # Errors
/// [`LayoutError`], for a model without adapters as well.
pub fn layout(model: &Model, more: &[String]) -> Result<ParamLayout, LayoutError> {
    let globs: Vec<String> = TRAINABLE.iter().map(|&glob| glob.to_owned()).chain(more.iter().cloned()).collect();
    model.layout(&TrainableRules::new(&globs)?)
}

fn globs(targets: &[String]) -> Result<Vec<(String, GlobMatcher)>, LoraError> {
    let compiled = |text: &String| match Glob::new(text) {
        Ok(glob) => Ok((text.clone(), glob.compile_matcher())),
        Err(error) => Err(LoraError::Glob {
            glob: shown(text),
            reason: error.kind().to_string(),
        }),
    };
    targets.iter().map(compiled).collect()
}

/// Names of a weight's factors.
fn factor_names(weight: &str) -> (String, String) {
    (format!("{weight}.lora_A"), format!("{weight}.lora_B"))
}

impl Adapted<'_> {
    /// The names of the left and the right factor.
    fn factors(&self) -> (String, String) {
        let (a, b) = factor_names(self.name);
        if self.input_is_left { (a, b) } else { (b, a) }
    }
}

#[cfg(test)]
mod tests;
