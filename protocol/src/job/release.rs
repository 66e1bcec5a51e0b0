//! `[release]` and `[gate]`: variants of a model that are measured on devices, stage by stage, before they are promoted.

pub(super) mod variant;

use super::file::{DataSection, JobFile, JobFileError, JobSection, ModelSection, RoundSection, StrategyName, StrategySection};
use super::reader::Section;
use super::schema::shown;
use super::sections::{aggregation, contract, evaluate, round, target_and_inputs};
use super::train::TrainSection;
use crate::Digest;
use crate::check::is_label;
use crate::descriptor::{CodecName, CodecParams};
use crate::limits::{MAX_RELEASE_STAGES, MAX_SELF_TEST_ROWS, MAX_TAG_BYTES};

pub use variant::{FitsSection, MeasuredSection, VariantSection};

/// What fills in what nobody writes by hand.
const SUBMIT: &str = "aimass release submit";
/// `release.max_rows` where the file says nothing.
const DEFAULT_MAX_ROWS: u32 = 10_000;
/// `release.tolerance` where the file says nothing.
const DEFAULT_TOLERANCE: f32 = 1e-3;
/// `release.self_test_rows` where the file says nothing.
const DEFAULT_SELF_TEST_ROWS: u32 = 4;

/// `[release]`: which variants of which model are measured, where, and against what.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleaseSection {
    /// Name of the model in the registry: a label.
    pub model: String,
    /// Whether the release becomes the champion after its last stage; otherwise it stays the candidate.
    pub promotes: bool,
    /// How many agents measure it in each round; a round a stage, at least one.
    pub stages: Vec<Stage>,
    /// Most rows of an agent that count, at least 1.
    pub max_rows: u32,
    /// A row counts as right when the root of the mean squared difference of output and target is at most this; `None`: when the largest of the outputs is that of
    /// the row's class.
    pub within: Option<f32>,
    /// How far an output of a self-test may lie from the one that is expected, as a share of its row's largest magnitude.
    pub tolerance: f32,
    /// Rows of a self-test, which follow from the job's seed.
    pub self_test_rows: u32,
    /// In order of preference: a device takes the first that it fits. At least one, no name and no digest twice.
    pub variants: Vec<VariantSection>,
    /// What it is compared with on the same rows.
    pub champion: Option<ChampionSection>,
    /// When it goes on to the next stage.
    pub gate: GateSection,
}

/// How many agents measure a release in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// So many, at least 1.
    Devices(u32),
    /// This percentage of the agents that the job is for, 1 to 100.
    Percent(u32),
}

impl std::fmt::Display for Stage {
    /// As in the file.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Devices(n) => write!(f, "{n}"),
            Self::Percent(100) => f.write_str("all"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// `[release.champion]`: the model that is served now, one file of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChampionSection {
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// `[gate]`: what the sum of a stage has to show. Each variant that was measured has to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateSection {
    /// Least share of right answers, 0 to 1.
    pub min_accuracy: Option<f32>,
    /// Most that the share of right answers may lie below the champion's on the same rows, 0 to 1.
    pub max_accuracy_drop: Option<f32>,
    /// Most milliseconds that 95 of 100 runs on one row take.
    pub max_latency_ms: Option<f32>,
    /// Most MiB that a device needs to load and run it.
    pub max_memory_mib: Option<u32>,
    /// Largest share of the devices on which a variant may fail, 0 to 1.
    pub max_failures: f32,
    /// Fewest devices that have to measure it without failing.
    pub min_canaries: u32,
}

impl ReleaseSection {
    /// What stands for it in a cohort's descriptor: whole numbers.
    pub fn codec(&self) -> CodecParams {
        CodecParams {
            codec: CodecName::Exact,
            bits: 16,
            clip: 1.0,
            weight_cap: self.max_rows,
        }
    }
}

/// Sections that a release can't have, and why.
pub(super) const OTHERS: &[(&str, &str)] = &[
    ("model", "its models are [[release.variants]]"),
    ("train", "nothing is trained"),
    ("strategy", "the sums are the result, no step is taken with them"),
    ("update", "its numbers are whole, and their width follows from [release]"),
    (
        "compress",
        "its variants are made before it: by a job that ends with [compress], or by `aimass compress`",
    ),
    ("analyze", "it measures variants and counts nothing else"),
    ("calibration", "its variants are quantized before it"),
];

/// Reads a release, whose `[job]` is read.
pub(super) fn job<'a, 't: 'a>(job: JobSection, section: impl Fn(&str) -> Section<'a, 't>) -> Result<JobFile, JobFileError> {
    let (data, rounds) = (section("data"), section("round"));
    let contract = contract(&data)?;
    let (inputs, target) = target_and_inputs(&data)?;
    if let Some(key) = ["rounds", "target"].into_iter().find(|key| rounds.has(key)) {
        return Err(rounds.refuse(key, "follows from release.stages, a round a stage", "remove it"));
    }
    let measured = section("evaluate");
    if let Some(key) = ["data", "target_accuracy"].into_iter().find(|key| measured.has(key)) {
        let fix = "remove it: a release is measured on devices, and [gate] says what it has to reach";
        return Err(measured.refuse(key, "is of jobs that train", fix));
    }
    let evaluate = evaluate(&measured)?;
    let mut round = round(&rounds, job.kind)?;
    if !rounds.has("max") {
        round.max = round.max.max(DEFAULT_MAX_AGENTS);
    }
    let release = read(&section("release"), &section("gate"), &round)?;
    round.rounds = u32::try_from(release.stages.len()).unwrap_or(u32::MAX);
    let aggregation = aggregation(&section("aggregation"), &round)?;
    Ok(JobFile {
        job,
        model: ModelSection {
            path: String::new(),
            trainable: Vec::new(),
        },
        data: DataSection { contract, inputs, target },
        train: TrainSection::measured(),
        strategy: StrategySection {
            name: StrategyName::FedAvg,
            server_lr: 1.0,
            fusion: None,
        },
        round,
        aggregation,
        update: release.codec(),
        evaluate: Some(evaluate),
        compress: None,
        analyze: None,
        release: Some(release),
        calibration: None,
    })
}

/// `round.max` of a release that says nothing.
const DEFAULT_MAX_AGENTS: u32 = 256;

fn read(section: &Section<'_, '_>, gate: &Section<'_, '_>, round: &RoundSection) -> Result<ReleaseSection, JobFileError> {
    let model = section.text("model", "\"digits\"")?;
    // It names a folder on devices.
    if !is_label(model) || model.starts_with('.') {
        let fix = format!("use 1 to {MAX_TAG_BYTES} of a-z, A-Z, 0-9, '-', '_' and '.', and no '.' at the beginning");
        return Err(section.refuse("model", format!("{:?} is no model's name", shown(model)), fix));
    }
    let aliases = [("champion", true), ("candidate", false)];
    let promotes = section.choice("alias", &aliases, &[], Some(true))?;
    let stages = stages(section, round)?;
    let self_test_rows = section.integer32("self_test_rows", 1, MAX_SELF_TEST_ROWS, Some(DEFAULT_SELF_TEST_ROWS), "4")?;
    let tolerance = section.positive("tolerance", Some(DEFAULT_TOLERANCE), "0.001")?;
    if tolerance > 1.0 {
        let fix = "use a share of the largest output of a row, above 0 and up to 1, for instance 0.001";
        return Err(section.refuse("tolerance", format!("{tolerance} would let any output pass"), fix));
    }
    let champion = match section.table("champion", "{ digest = \"...\", size_bytes = 1 }")? {
        None => None,
        Some(champion) => Some(ChampionSection {
            digest: champion.digest("digest", SUBMIT)?,
            size_bytes: champion.size(SUBMIT)?,
        }),
    };
    Ok(ReleaseSection {
        model: model.to_owned(),
        promotes,
        stages,
        max_rows: section.integer32("max_rows", 1, 100_000_000, Some(DEFAULT_MAX_ROWS), "10000")?,
        within: match section.has("within") {
            true => Some(section.positive("within", None, "0.1")?),
            false => None,
        },
        tolerance,
        self_test_rows,
        variants: variant::all(section, self_test_rows)?,
        gate: read_gate(gate, champion.is_some(), round)?,
        champion,
    })
}

fn stages(section: &Section<'_, '_>, round: &RoundSection) -> Result<Vec<Stage>, JobFileError> {
    let example = "[\"5\", \"25%\", \"all\"]";
    let texts = section.texts("stages", example)?;
    if texts.is_empty() || texts.len() > MAX_RELEASE_STAGES {
        let problem = if texts.is_empty() {
            "names no stage"
        } else {
            "has too many stages"
        };
        let fix = format!("write 1 to {MAX_RELEASE_STAGES} stages, for instance `stages = {example}`");
        return Err(section.refuse("stages", problem, fix));
    }
    let mut stages = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        let key = format!("stages[{at}]");
        let number = |digits: &str| digits.trim().parse::<u32>().ok();
        let stage = match text.trim() {
            "all" => Some(Stage::Percent(100)),
            text => match text.strip_suffix('%') {
                Some(digits) => number(digits).filter(|n| (1..=100).contains(n)).map(Stage::Percent),
                None => number(text).filter(|n| *n > 0).map(Stage::Devices),
            },
        };
        let Some(stage) = stage else {
            let fix = "write a number of devices (\"5\"), a percentage of the agents (\"25%\") or \"all\"";
            return Err(section.refuse(&key, format!("{:?} is no stage", shown(text)), fix));
        };
        if let Stage::Devices(n) = stage
            && !(round.min..=round.max).contains(&n)
        {
            let problem = format!(
                "{n} devices are not between round.min = {} and round.max = {}",
                round.min, round.max
            );
            return Err(section.refuse(&key, problem, "change the stage, or [round]"));
        }
        let grows = match (stages.last(), stage) {
            (Some(Stage::Devices(before)), Stage::Devices(now)) | (Some(Stage::Percent(before)), Stage::Percent(now)) => *before < now,
            (Some(Stage::Percent(_)), Stage::Devices(_)) => false,
            _ => true,
        };
        if !grows {
            let fix = "write devices first and percentages after them, each stage with more than the one before";
            return Err(section.refuse(&key, format!("{:?} does not come after the stage before it", shown(text)), fix));
        }
        stages.push(stage);
    }
    Ok(stages)
}

fn read_gate(gate: &Section<'_, '_>, has_champion: bool, round: &RoundSection) -> Result<GateSection, JobFileError> {
    let share = |key: &str, example: &str| gate.number(key, |n| (0.0..=1.0).contains(&n), "a share from 0 to 1", example);
    let max_accuracy_drop = share("max_accuracy_drop", "0.01")?;
    if max_accuracy_drop.is_some() && !has_champion {
        let fix = "add [release.champion] with digest and size_bytes of the model that is served now (`aimass release submit` does so where the \
                   registry has a champion), or use min_accuracy";
        return Err(gate.refuse("max_accuracy_drop", "has nothing to be compared with", fix));
    }
    let min_accuracy = share("min_accuracy", "0.9")?;
    let max_latency_ms = match gate.has("max_latency_ms") {
        true => Some(gate.positive("max_latency_ms", None, "50.0")?),
        false => None,
    };
    let max_memory_mib = match gate.has("max_memory_mib") {
        true => Some(gate.integer32("max_memory_mib", 1, 1 << 24, None, "256")?),
        false => None,
    };
    if min_accuracy.is_none() && max_accuracy_drop.is_none() && max_latency_ms.is_none() && max_memory_mib.is_none() {
        let fix =
            "add [gate] with `min_accuracy = 0.9`, `max_accuracy_drop = 0.01`, `max_latency_ms = 50.0` or `max_memory_mib = 256` below it";
        return Err(gate.refuse(
            "min_accuracy",
            "is missing, and so is every other rule: any release would pass",
            fix,
        ));
    }
    Ok(GateSection {
        min_accuracy,
        max_accuracy_drop,
        max_latency_ms,
        max_memory_mib,
        max_failures: share("max_failures", "0.05")?.unwrap_or(0.0),
        min_canaries: gate.integer32("min_canaries", 1, round.max, Some(round.min), "5")?,
    })
}
