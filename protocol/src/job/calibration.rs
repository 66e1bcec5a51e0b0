//! `[calibration]`: ranges of a model's activations, from the agents' data.

use std::collections::BTreeSet;

use super::compress;
use super::file::{DataSection, EvaluateSection, JobFile, JobFileError, JobSection, StrategyName, StrategySection};
use super::reader::Section;
use super::schema::shown;
use super::sections::{aggregation, contract, model, round, target_and_inputs};
use super::train::{HeadSection, LossSection, TrainSection};
use crate::Digest;
use crate::descriptor::{CodecName, CodecParams};
use crate::limits::{MAX_CALIBRATION_TENSORS, MAX_COLUMN_BYTES};

/// What fills in what nobody writes by hand.
const SUBMIT: &str = "aimass job submit";
/// `calibration.rows` where the job says nothing.
const DEFAULT_ROWS: u32 = 512;
/// Most rows of an agent.
const MAX_ROWS: u32 = 1 << 24;
/// `calibration.bits` where the job says nothing.
const DEFAULT_BITS: u8 = 24;
const MIN_BITS: u8 = 4;
const MAX_BITS: u8 = 32;

/// `[calibration]`: which activations of which model are looked at, on how many rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalibrationSection {
    /// SHA-256 of the model's file.
    pub digest: Digest,
    /// Its size in bytes, at least 1.
    pub size_bytes: u64,
    /// Most rows of an agent that are looked at, at least 1.
    pub rows: u32,
    /// Bits of an agent's count of a bin, 4 to 32: larger counts are divided.
    pub bits: u8,
    /// Names of the activations, of the model as its quantization finds it; 1 to [`MAX_CALIBRATION_TENSORS`], each once.
    pub tensors: Vec<String>,
}

impl CalibrationSection {
    /// Rounds of every calibration job: exponents, then histograms.
    pub const ROUNDS: u32 = 2;

    /// The largest count of an agent.
    pub fn top_count(&self) -> u64 {
        (1 << self.bits.min(MAX_BITS)) - 1
    }

    /// What stands for it in a cohort's descriptor: whole numbers.
    pub fn codec(&self) -> CodecParams {
        CodecParams {
            codec: CodecName::Exact,
            bits: self.bits,
            clip: 1.0,
            weight_cap: self.rows,
        }
    }
}

/// Sections that a calibration job can't have, and why.
pub(super) const OTHERS: &[(&str, &str)] = &[
    ("train", "nothing is trained"),
    ("strategy", "the sums are the result, no step is taken with them"),
    ("update", "its numbers are whole, and their width follows from [calibration]"),
    ("analyze", "it looks at activations and counts nothing else"),
    ("release", "what it makes is released afterwards"),
    ("gate", "what it makes is released afterwards"),
];

const LOSSES: &[(&str, LossSection)] = &[
    ("cross_entropy", LossSection::cross_entropy()),
    ("binary_cross_entropy", LossSection::BinaryCrossEntropy { pos_weight: None }),
    ("mse", LossSection::Mse),
    ("mae", LossSection::Mae),
];

/// Reads a calibration job, whose `[job]` is read.
pub(super) fn job<'a, 't: 'a>(
    job: JobSection,
    section: impl Fn(&str) -> Section<'a, 't>,
    has: impl Fn(&str) -> bool,
) -> Result<JobFile, JobFileError> {
    let (data, rounds, models) = (section("data"), section("round"), section("model"));
    if models.has("trainable") {
        return Err(models.refuse("trainable", "is of jobs that train", "remove it"));
    }
    let model = model(&models)?;
    let contract = contract(&data)?;
    let (inputs, target) = target_and_inputs(&data)?;
    if rounds.has("rounds") {
        let fix = "remove it: there are two, one for exponents and one for histograms";
        return Err(rounds.refuse("rounds", "follows from the kind", fix));
    }
    let mut round = round(&rounds, job.kind)?;
    round.rounds = CalibrationSection::ROUNDS;
    let aggregation = aggregation(&section("aggregation"), &round)?;
    let looked = section("calibration");
    let calibration = read(&looked)?;
    let evaluate = has("evaluate").then(|| evaluate(&section("evaluate"))).transpose()?;
    if evaluate.is_some() && !has("compress") {
        let fix = "add [compress] with `quantize = \"static\"`, or remove the section";
        return Err(section("evaluate").refuse("data", "measures the model that [compress] makes, and there is none", fix));
    }
    if evaluate.is_none() && looked.has("loss") {
        let fix = "add [evaluate] with `data = \"test.csv\"`, or remove it";
        return Err(looked.refuse("loss", "is of what [evaluate] measures, and there is none", fix));
    }
    let compress = has("compress")
        .then(|| compress::read_calibrated(&section("compress"), evaluate.is_some(), calibration.rows))
        .transpose()?;
    Ok(JobFile {
        job,
        model,
        data: DataSection { contract, inputs, target },
        train: measured_by(&looked)?,
        strategy: StrategySection {
            name: StrategyName::FedAvg,
            server_lr: 1.0,
            fusion: None,
        },
        round,
        aggregation,
        update: calibration.codec(),
        evaluate,
        compress,
        analyze: None,
        release: None,
        calibration: Some(calibration),
    })
}

/// What the model's outputs are for: it tells what accuracy means.
fn measured_by(section: &Section<'_, '_>) -> Result<TrainSection, JobFileError> {
    let names: Vec<(&str, usize)> = LOSSES.iter().enumerate().map(|(at, (name, _))| (*name, at)).collect();
    let at = section.choice("loss", &names, &[], Some(0))?;
    let head = HeadSection {
        loss: LOSSES.get(at).map_or(LossSection::cross_entropy(), |(_, loss)| loss.clone()),
        ..HeadSection::default()
    };
    Ok(TrainSection {
        heads: vec![head],
        ..TrainSection::measured()
    })
}

fn evaluate(section: &Section<'_, '_>) -> Result<EvaluateSection, JobFileError> {
    if let Some(key) = ["on_devices", "target_accuracy"].into_iter().find(|key| section.has(key)) {
        let fix = "remove it: what [compress] makes is measured on `data`, which the server keeps; a release measures on devices";
        return Err(section.refuse(key, "is of jobs whose rounds are evaluated", fix));
    }
    Ok(EvaluateSection {
        data: Some(section.path("data", "\"test.csv\"")?),
        on_devices: None,
        target_accuracy: None,
    })
}

fn read(section: &Section<'_, '_>) -> Result<CalibrationSection, JobFileError> {
    let rows = section.integer32("rows", 1, MAX_ROWS, Some(DEFAULT_ROWS), "512")?;
    let bits = section.integer("bits", MIN_BITS.into(), MAX_BITS.into(), Some(DEFAULT_BITS.into()), "24")?;
    Ok(CalibrationSection {
        digest: section.digest("digest", SUBMIT)?,
        size_bytes: section.size(SUBMIT)?,
        rows,
        bits: u8::try_from(bits).unwrap_or(MAX_BITS),
        tensors: tensors(section)?,
    })
}

fn tensors(section: &Section<'_, '_>) -> Result<Vec<String>, JobFileError> {
    if !section.has("tensors") {
        return Err(section.unfilled("tensors", SUBMIT));
    }
    let names = section.texts("tensors", "[\"input\"]")?;
    if names.is_empty() || names.len() > MAX_CALIBRATION_TENSORS {
        let problem = format!("{} tensors are not possible", names.len());
        let fix =
            format!("look at 1 to {MAX_CALIBRATION_TENSORS}: keep nodes in floats with `keep` in [compress], or quantize on public data");
        return Err(section.refuse("tensors", problem, fix));
    }
    let mut seen = BTreeSet::new();
    for (at, name) in names.iter().enumerate() {
        let key = format!("tensors[{at}]");
        section.one_line(&key, name, MAX_COLUMN_BYTES)?;
        if !seen.insert(name) {
            return Err(section.refuse(&key, format!("{:?} is there twice", shown(name)), "remove one of the two"));
        }
    }
    Ok(names)
}
