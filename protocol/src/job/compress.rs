//! `[compress]`: the model that a training job ends with, made smaller by the server.

use std::fmt;

use super::distil::{self, StudentSection};
use super::file::{EvaluateSection, JobFileError};
use super::reader::Section;
use super::train::HeadSection;

/// `compress.calibration_rows` where the job says nothing.
const DEFAULT_ROWS: u32 = 512;
/// `compress.block` where the job says nothing.
const DEFAULT_BLOCK: u32 = 64;
/// `compress.epochs` where the job says nothing and there is data.
const DEFAULT_EPOCHS: u32 = 1;
/// Most passes over the data after a step.
const MAX_EPOCHS: u32 = 1000;

/// `[compress]`: what is done to the model of the last round. Steps run in this order: distil, channels, prune, quantize, store.
#[derive(Debug, Clone, PartialEq)]
pub struct CompressSection {
    /// A smaller model that learns from the last one and takes its place.
    pub distil: Option<StudentSection>,
    /// Share of the channels that go, above 0 and below 1.
    pub channels: Option<f64>,
    /// Share of the weights that become zero, above 0 and below 1.
    pub prune: Option<f64>,
    /// Integers for floats.
    pub quantize: Option<QuantizeSection>,
    /// Globs over names of weights, and for quantization of nodes, that stay as they are.
    pub keep: Vec<String>,
    /// How zeros are stored.
    pub store: StoreName,
    /// Passes over the data after each step; 0 without data.
    pub epochs: u32,
    /// Learning rate of these; `None`: a tenth of the job's.
    pub lr: Option<f32>,
    /// Most points (hundredths of accuracy or of explained variance; where there is neither, percent of the loss) that may be lost, 0 or more.
    pub max_drop: Option<f64>,
}

/// `compress.quantize` with its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantizeSection {
    /// 8 bits, weights by channel, activations by ranges that are seen in data.
    Static {
        /// Whether the model is trained with the rounding in it.
        aware: bool,
        /// Type of activations.
        activations: ActivationsName,
        /// How ranges follow from what is seen.
        calibration: CalibrationName,
        /// Rows that are looked at, at least 1.
        rows: u32,
    },
    /// Weights of 8 bits, a scale an output channel; activations stay floats.
    Weights,
    /// 8 bits, activations by their own range while they are computed.
    Dynamic,
    /// Weights of 4 bits.
    FourBit {
        /// Weights that share a scale: 16, 32, 64 or 128.
        block: u32,
    },
}

/// `compress.activations`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivationsName {
    /// Unsigned.
    U8,
    /// Signed.
    I8,
}

/// `compress.calibration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalibrationName {
    /// From the smallest to the largest value.
    MinMax,
    /// Without the outermost 0.01 %.
    Percentile,
    /// The range of least squared error.
    Mse,
    /// The range that loses least information.
    Entropy,
}

/// `compress.store`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreName {
    /// As any value.
    Dense,
    /// Sparse, by standard operators: any runtime reads it.
    Standard,
    /// Sparse and smallest; this project's programs read it.
    Compact,
}

const ACTIVATIONS: &[(&str, ActivationsName)] = &[("u8", ActivationsName::U8), ("i8", ActivationsName::I8)];
const CALIBRATIONS: &[(&str, CalibrationName)] = &[
    ("minmax", CalibrationName::MinMax),
    ("percentile", CalibrationName::Percentile),
    ("mse", CalibrationName::Mse),
    ("entropy", CalibrationName::Entropy),
];
const STORES: &[(&str, StoreName)] = &[
    ("dense", StoreName::Dense),
    ("standard", StoreName::Standard),
    ("compact", StoreName::Compact),
];

/// The values of `compress.quantize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Weights,
    Static,
    Aware,
    Dynamic,
    FourBit,
}

const KINDS: &[(&str, Kind)] = &[
    ("weights", Kind::Weights),
    ("static", Kind::Static),
    ("aware", Kind::Aware),
    ("dynamic", Kind::Dynamic),
    ("4bit", Kind::FourBit),
];

impl StoreName {
    /// Where nothing is said: sparse where weights are zero.
    pub fn default_for(prune: Option<f64>) -> Self {
        if prune.is_some() { Self::Compact } else { Self::Dense }
    }
}

fn name<T: Copy + PartialEq>(names: &[(&'static str, T)], of: T) -> &'static str {
    names.iter().find(|(_, value)| *value == of).map_or("", |(name, _)| name)
}

impl fmt::Display for CompressSection {
    /// The keys that say how a model was made, in a line: `prune = 0.8, quantize = "static", ...`. Those that do not matter are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.distil.as_ref().map(|distil| {
            let StudentSection {
                temperature,
                alpha,
                epochs,
                ..
            } = distil;
            let lr = distil.lr.map_or(String::new(), |lr| format!(", lr = {lr}"));
            format!("distil = {{ temperature = {temperature}, alpha = {alpha}, epochs = {epochs}{lr} }}")
        }));
        parts.extend(self.channels.map(|share| format!("channels = {share}")));
        parts.extend(self.prune.map(|share| format!("prune = {share}")));
        match self.quantize {
            None => {}
            Some(QuantizeSection::Static {
                aware,
                activations,
                calibration,
                rows,
            }) => {
                let kind = name(KINDS, if aware { Kind::Aware } else { Kind::Static });
                let (activations, calibration) = (name(ACTIVATIONS, activations), name(CALIBRATIONS, calibration));
                parts.push(format!(
                    "quantize = {kind:?}, activations = {activations:?}, calibration = {calibration:?}, calibration_rows = {rows}"
                ));
            }
            Some(QuantizeSection::Weights) => parts.push("quantize = \"weights\"".to_owned()),
            Some(QuantizeSection::Dynamic) => parts.push("quantize = \"dynamic\"".to_owned()),
            Some(QuantizeSection::FourBit { block }) => parts.push(format!("quantize = \"4bit\", block = {block}")),
        }
        if !self.keep.is_empty() {
            parts.push(format!("keep = {:?}", self.keep));
        }
        if self.store != StoreName::Dense {
            parts.push(format!("store = {:?}", name(STORES, self.store)));
        }
        parts.push(format!("epochs = {}", self.epochs));
        parts.extend(self.lr.map(|lr| format!("lr = {lr}")));
        f.write_str(&parts.join(", "))
    }
}

/// Reads the section of a training job; `evaluate` says whether the server has data.
pub(super) fn read(
    section: &Section<'_, '_>,
    evaluate: Option<&EvaluateSection>,
    heads: &[HeadSection],
) -> Result<CompressSection, JobFileError> {
    let has_data = evaluate.is_some_and(|section| section.data.is_some());
    let distil = distil::student(section, has_data, heads)?;
    let (channels, prune) = (share(section, "channels", "0.25")?, share(section, "prune", "0.8")?);
    let quantize = quantize(section, has_data)?;
    let store = section.choice("store", STORES, &[], Some(StoreName::default_for(prune)))?;
    if distil.is_none() && channels.is_none() && prune.is_none() && quantize.is_none() && store == StoreName::Dense {
        let fix = "name distil, channels, prune, quantize or store, or remove the section";
        return Err(section.refuse("quantize", "is missing, and so is every other step: nothing is asked for", fix));
    }
    let keep = keep(section)?;
    let epochs = section.integer32("epochs", 0, MAX_EPOCHS, Some(if has_data { DEFAULT_EPOCHS } else { 0 }), "1")?;
    if epochs > 0 && !has_data {
        return Err(no_data(section, "epochs", "trains on"));
    }
    if epochs == 0 && section.has("lr") {
        let fix = "remove it, or raise epochs";
        return Err(section.refuse("lr", "is of the training after each step, and there is none", fix));
    }
    let lr = section.has("lr").then(|| section.positive("lr", None, "0.001")).transpose()?;
    Ok(CompressSection {
        distil,
        channels,
        prune,
        quantize,
        keep,
        store,
        epochs,
        lr,
        max_drop: max_drop(section, has_data)?,
    })
}

/// Reads the section of a calibration job: static quantization by the ranges of `rows` rows of each agent, and nothing that trains or changes weights first,
/// as the ranges are those of the model as it is.
pub(super) fn read_calibrated(section: &Section<'_, '_>, has_data: bool, rows: u32) -> Result<CompressSection, JobFileError> {
    const OTHERS: [&str; 8] = ["distil", "channels", "prune", "block", "store", "epochs", "lr", "calibration_rows"];
    if let Some(key) = OTHERS.into_iter().find(|key| section.has(key)) {
        let (why, fix) = match key {
            "calibration_rows" => ("is of data that the server has", "write `rows` in [calibration]"),
            _ => (
                "would change what the ranges were seen of",
                "remove it; do it before, and calibrate what comes out",
            ),
        };
        return Err(section.refuse(key, why, fix));
    }
    if section.choice("quantize", KINDS, &[], None)? != Kind::Static {
        let fix = "write quantize = \"static\"; the others need no ranges, or training";
        return Err(section.refuse("quantize", "is not of calibration jobs, whose ranges are for \"static\"", fix));
    }
    Ok(CompressSection {
        distil: None,
        channels: None,
        prune: None,
        quantize: Some(with_ranges(section, false, rows)?),
        keep: keep(section)?,
        store: StoreName::Dense,
        epochs: 0,
        lr: None,
        max_drop: max_drop(section, has_data)?,
    })
}

fn keep(section: &Section<'_, '_>) -> Result<Vec<String>, JobFileError> {
    let keep = section.texts("keep", "[\"head.*\"]")?;
    for (at, glob) in keep.iter().enumerate() {
        globset::Glob::new(glob).map_err(|e| {
            let fix = "write names of weights or nodes with *, ? or [...]";
            section.refuse(&format!("keep[{at}]"), format!("is no glob: {}", e.kind()), fix)
        })?;
    }
    Ok(keep)
}

fn with_ranges(section: &Section<'_, '_>, aware: bool, rows: u32) -> Result<QuantizeSection, JobFileError> {
    Ok(QuantizeSection::Static {
        aware,
        activations: section.choice("activations", ACTIVATIONS, &[], Some(ActivationsName::U8))?,
        calibration: section.choice("calibration", CALIBRATIONS, &[], Some(CalibrationName::MinMax))?,
        rows,
    })
}

fn no_data(section: &Section<'_, '_>, key: &str, does: &str) -> JobFileError {
    let fix = format!("add [evaluate] with `data = \"test.csv\"`, or remove {key}");
    section.refuse(key, format!("{does} data that the server has, and the job gives it none"), fix)
}

fn share(section: &Section<'_, '_>, key: &str, example: &str) -> Result<Option<f64>, JobFileError> {
    if !section.has(key) {
        return Ok(None);
    }
    let share = section.real(key, example)?;
    if share > 0.0 && share < 1.0 {
        return Ok(Some(share));
    }
    let fix = format!("use a share above 0 and below 1, for instance {example}: of a share of 1 nothing would be left");
    Err(section.refuse(key, format!("{share} is out of range"), fix))
}

fn max_drop(section: &Section<'_, '_>, has_data: bool) -> Result<Option<f64>, JobFileError> {
    if !section.has("max_drop") {
        return Ok(None);
    }
    let points = section.real("max_drop", "1.0")?;
    if points < 0.0 {
        let fix = "use a number of points, 0 or more, for instance 1.0";
        return Err(section.refuse("max_drop", format!("{points} is out of range"), fix));
    }
    if !has_data {
        return Err(no_data(section, "max_drop", "is measured on"));
    }
    Ok(Some(points))
}

fn quantize(section: &Section<'_, '_>, has_data: bool) -> Result<Option<QuantizeSection>, JobFileError> {
    let kind = match section.has("quantize") {
        true => Some(section.choice("quantize", KINDS, &[], None)?),
        false => None,
    };
    let is_static = matches!(kind, Some(Kind::Static | Kind::Aware));
    let others = ["activations", "calibration", "calibration_rows"];
    if let Some(key) = others.into_iter().find(|key| !is_static && section.has(key)) {
        let fix = "remove it, or write quantize = \"static\" or \"aware\"";
        return Err(section.refuse(key, "is of ranges that are seen in data, and none are looked at", fix));
    }
    if section.has("block") && kind != Some(Kind::FourBit) {
        let fix = "remove it, or write quantize = \"4bit\"";
        return Err(section.refuse("block", "is of weights of 4 bits", fix));
    }
    Ok(match kind {
        None => None,
        Some(Kind::Static | Kind::Aware) if !has_data => return Err(no_data(section, "quantize", "looks for ranges in")),
        Some(kind @ (Kind::Static | Kind::Aware)) => {
            let rows = section.integer32("calibration_rows", 1, u32::MAX, Some(DEFAULT_ROWS), "512")?;
            Some(with_ranges(section, kind == Kind::Aware, rows)?)
        }
        Some(Kind::Weights) => Some(QuantizeSection::Weights),
        Some(Kind::Dynamic) => Some(QuantizeSection::Dynamic),
        Some(Kind::FourBit) => {
            let block = section.integer32("block", 1, u32::MAX, Some(DEFAULT_BLOCK), "64")?;
            if ![16, 32, 64, 128].contains(&block) {
                let problem = format!("{block} is not possible");
                return Err(section.refuse("block", problem, "use 16, 32, 64 or 128"));
            }
            Some(QuantizeSection::FourBit { block })
        }
    })
}
