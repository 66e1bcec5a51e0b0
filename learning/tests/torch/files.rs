//! `testdata/torch` as types.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aimass_learning::Array;
use aimass_learning::data::{Limits, read_npz};
use aimass_onnx::Model;
use serde::Deserialize;

/// The folder.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/torch")
}

/// `NAME.json`; fields that only people read are left out.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Description {
    pub(crate) name: String,
    pub(crate) refused_ops: Vec<String>,
    pub(crate) inference: Vec<Inference>,
    #[serde(default)]
    pub(crate) batches: Vec<BatchNames>,
    #[serde(default)]
    pub(crate) parameters: Vec<String>,
    #[serde(default)]
    pub(crate) curves: Vec<Curve>,
}

/// Names of arrays by name of input or output, and what the dynamic dimensions are.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Inference {
    pub(crate) sizes: BTreeMap<String, usize>,
    pub(crate) inputs: BTreeMap<String, String>,
    pub(crate) outputs: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BatchNames {
    pub(crate) inputs: BTreeMap<String, String>,
    pub(crate) targets: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) heads: Vec<HeadFile>,
    pub(crate) optimizer: OptimizerFile,
    /// `train` or `eval`.
    pub(crate) mode: String,
    pub(crate) rates: Vec<f32>,
    pub(crate) lr_factors: Option<Vec<f32>>,
    pub(crate) clip_norm: Option<f32>,
    #[serde(default)]
    pub(crate) frozen: Vec<String>,
    #[serde(default)]
    pub(crate) sample_weight: bool,
    pub(crate) losses: Vec<f64>,
    pub(crate) losses_f64: Vec<f64>,
    pub(crate) after: BTreeMap<String, Summary>,
    pub(crate) after_arrays: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Summary {
    pub(crate) sum: f64,
    pub(crate) norm: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeadFile {
    pub(crate) loss: String,
    pub(crate) output: String,
    /// Losses over pairs compare two outputs.
    pub(crate) other: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) weight: Option<f32>,
    pub(crate) label_smoothing: Option<f32>,
    pub(crate) class_weights: Option<Vec<f32>>,
    pub(crate) ignore_index: Option<i64>,
    pub(crate) delta: Option<f32>,
    pub(crate) margin: Option<f32>,
    pub(crate) temperature: Option<f32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OptimizerFile {
    pub(crate) kind: String,
    pub(crate) lr: f32,
    pub(crate) weight_decay: Option<f32>,
    pub(crate) momentum: Option<f32>,
    #[serde(default)]
    pub(crate) nesterov: bool,
    pub(crate) betas: Option<[f32; 2]>,
    pub(crate) eps: Option<f32>,
    pub(crate) alpha: Option<f32>,
    #[serde(default)]
    pub(crate) centered: bool,
}

/// One model with everything that was recorded of it.
pub(crate) struct ModelFile {
    pub(crate) about: Description,
    pub(crate) model: Model,
    arrays: BTreeMap<String, Array>,
}

impl ModelFile {
    pub(crate) fn read(name: &str) -> Result<Self, String> {
        let path = |ending: &str| folder().join(format!("{name}.{ending}"));
        let text = std::fs::read(path("json")).map_err(|e| e.to_string())?;
        let bytes = std::fs::read(path("onnx")).map_err(|e| e.to_string())?;
        Ok(Self {
            about: serde_json::from_slice(&text).map_err(|e| format!("{name}.json: {e}"))?,
            model: Model::from_bytes(&bytes).map_err(|e| e.to_string())?,
            arrays: read_npz(&path("npz"), &Limits::default()).map_err(|e| e.to_string())?,
        })
    }

    /// The same with the model as models come in.
    pub(crate) fn prepared(&self) -> Self {
        Self {
            about: self.about.clone(),
            model: self.model.prepared().expect("it fits"),
            arrays: self.arrays.clone(),
        }
    }

    pub(crate) fn array(&self, name: &str) -> Result<Array, String> {
        let array = self.arrays.get(name).cloned();
        array.ok_or_else(|| format!("{}.npz has no `{name}`", self.about.name))
    }

    /// The arrays that stand for names in a list of the description.
    pub(crate) fn arrays(&self, names: &BTreeMap<String, String>) -> Result<BTreeMap<String, Array>, String> {
        names.iter().map(|(name, at)| Ok((name.clone(), self.array(at)?))).collect()
    }
}

/// Names of all models, in order.
pub(crate) fn names() -> Vec<String> {
    let files = std::fs::read_dir(folder()).expect("testdata/torch is there");
    let mut names: Vec<String> = files
        .filter_map(|file| Some(file.ok()?.file_name().to_str()?.strip_suffix(".onnx")?.to_owned()))
        .collect();
    names.sort_unstable();
    names
}
