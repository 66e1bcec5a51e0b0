//! From the text of a job file to its types, section by section.

use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::file::{
    AggregationMode, AggregationSection, DataSection, EvaluateSection, JobFile, JobFileError, JobKind, JobSection, ModelSection, RoundMode,
    RoundSection, StrategyName, StrategySection,
};
use super::reader::Section;
use super::schema;
use super::source::{JobSource, Locator};
use super::train::HeadSection;
use super::{about, analyze, calibration, compress, fusion, release, training};
use crate::check::is_label;
use crate::descriptor::{CodecName, CodecParams, MaskSuite, Profile};
use crate::limits::{
    self, MAX_CODEC_BITS, MAX_COLUMN_BYTES, MAX_JOB_FILE_BYTES, MAX_MEMBERS, MAX_ROUND_SECONDS, MAX_STALENESS, MAX_TAG_BYTES,
    MIN_CODEC_BITS,
};

const MIN_SECURE_MEMBERS: u32 = limits::MIN_SECURE_MEMBERS as u32;
const MAX_SECURE_MEMBERS: u32 = limits::MAX_SECURE_MEMBERS as u32;

/// Strategies that look at single updates.
const PER_CLIENT: &[&str] = &[
    "krum",
    "multi_krum",
    "bulyan",
    "median",
    "trimmed_mean",
    "geometric_median",
    "centered_clipping",
    "fltrust",
];
/// Codecs whose updates have no slots in common, or a scale each.
const UNSUMMABLE: &[&str] = &["topk", "randk_local", "eden", "drive", "terngrad", "qsgd"];

/// Most of an agent's rows that are held back from training.
const MAX_HELD_BACK: f32 = 0.5;

/// `round.max_staleness` where the job says nothing.
const DEFAULT_STALENESS: u32 = 10;

pub(super) fn parse(text: &str) -> Result<(JobFile, JobSource), JobFileError> {
    let mut locator = Locator::new(text);
    if text.len() > MAX_JOB_FILE_BYTES {
        let problem = format!("a job file of {} bytes is too long", text.len());
        return Err(locator.error(
            &(MAX_JOB_FILE_BYTES..text.len()),
            "job file",
            problem,
            format!("use at most {MAX_JOB_FILE_BYTES} bytes"),
        ));
    }
    let root = DeTable::parse(text).map_err(|e| {
        let problem = if e.message().is_empty() {
            "invalid TOML".to_owned()
        } else {
            schema::shown(e.message())
        };
        let span = e.span().unwrap_or(text.len()..text.len());
        let fix = match e.message() {
            m if m.starts_with("duplicate key") => "remove one of the two",
            _ => "write `key = value` under a [section], texts in double quotes",
        };
        locator.error(&span, "syntax", problem, fix)
    })?;
    schema::check(root.get_ref(), &mut locator)?;
    let source = locator.finish();
    let section = |name: &str| Section {
        name: name.to_owned(),
        table: root.get_ref().get(name).and_then(|v| v.get_ref().as_table()),
        source: &source,
    };

    let has = |name: &str| matches!(root.get_ref().get(name).map(toml::Spanned::get_ref), Some(DeValue::Table(_)));
    let job = about::read(&section("job"))?;
    let file = match job.kind {
        JobKind::Train if has("analyze") => {
            let fix = "remove it, or write kind = \"analytics\" in [job]";
            return Err(source.error_at("analyze", "is of analytics jobs, and this one trains", fix));
        }
        JobKind::Train => {
            if let Some(name) = ["release", "gate"].into_iter().find(|name| has(name)) {
                let fix = "remove it, or write kind = \"release\" in [job]";
                return Err(source.error_at(name, "is of releases, and this job trains", fix));
            }
            if has("calibration") {
                let fix = "remove it, or write kind = \"calibration\" in [job]";
                return Err(source.error_at("calibration", "is of calibration jobs, and this one trains", fix));
            }
            training_job(job, section, has)?
        }
        JobKind::Release => {
            if let Some((name, why)) = release::OTHERS.iter().find(|(name, _)| has(name)) {
                let fix = "remove the section, or change kind in [job]";
                return Err(source.error_at(name, format!("is not of releases: {why}"), fix));
            }
            release::job(job, section)?
        }
        JobKind::Calibration => {
            if let Some((name, why)) = calibration::OTHERS.iter().find(|(name, _)| has(name)) {
                let fix = "remove the section, or change kind in [job]";
                return Err(source.error_at(name, format!("is not of calibration jobs: {why}"), fix));
            }
            calibration::job(job, section, has)?
        }
        JobKind::Analytics => {
            if let Some((name, why)) = analyze::OTHERS.iter().find(|(name, _)| has(name)) {
                let fix = "remove the section, or write kind = \"train\" in [job]";
                return Err(source.error_at(name, format!("is not of analytics jobs: {why}"), fix));
            }
            analyze::job(job, section)?
        }
    };
    Ok((file, source))
}

fn training_job<'a, 't: 'a>(
    job: JobSection,
    section: impl Fn(&str) -> Section<'a, 't>,
    has: impl Fn(&str) -> bool,
) -> Result<JobFile, JobFileError> {
    let model = model(&section("model"))?;
    let data = data(&section("data"))?;
    let train = training::read(&section("train"))?;
    let round = round(&section("round"), job.kind)?;
    let strategy = strategy(&section("strategy"), &round, &train.heads)?;
    let aggregation = aggregation(&section("aggregation"), &round)?;
    let update = update(&section("update"))?;
    let evaluate = has("evaluate").then(|| evaluate(&section("evaluate"))).transpose()?;
    let compress = has("compress")
        .then(|| compress::read(&section("compress"), evaluate.as_ref(), &train.heads))
        .transpose()?;
    Ok(JobFile {
        job,
        model,
        data,
        train,
        strategy,
        round,
        aggregation,
        update,
        evaluate,
        compress,
        analyze: None,
        release: None,
        calibration: None,
    })
}

pub(super) fn label_fix() -> String {
    format!("use 1 to {MAX_TAG_BYTES} of a-z, A-Z, 0-9, '-', '_' and '.'")
}

pub(super) fn model(section: &Section<'_, '_>) -> Result<ModelSection, JobFileError> {
    let path = section.path("path", "\"model.onnx\"")?;
    let trainable = section.texts("trainable", "[\"head.*\"]")?;
    for (at, glob) in trainable.iter().enumerate() {
        globset::Glob::new(glob.strip_prefix('!').unwrap_or(glob)).map_err(|e| {
            let fix = "write names of initializers with *, ? or [...], a leading ! to freeze";
            section.refuse(&format!("trainable[{at}]"), format!("is no glob: {}", e.kind()), fix)
        })?;
    }
    Ok(ModelSection { path, trainable })
}

pub(super) fn contract(section: &Section<'_, '_>) -> Result<String, JobFileError> {
    let contract = section.text("contract", "\"digits\"")?;
    if !is_label(contract) {
        return Err(section.refuse(
            "contract",
            format!("{:?} is no contract's name", schema::shown(contract)),
            label_fix(),
        ));
    }
    Ok(contract.to_owned())
}

fn data(section: &Section<'_, '_>) -> Result<DataSection, JobFileError> {
    let contract = contract(section)?;
    let (inputs, target) = target_and_inputs(section)?;
    Ok(DataSection { contract, inputs, target })
}

/// What feeds the model, and what it is to predict.
pub(super) fn target_and_inputs(section: &Section<'_, '_>) -> Result<(Vec<String>, String), JobFileError> {
    let inputs = section.texts("inputs", "[\"p0\", \"p1\"]")?;
    let target = section.text("target", "\"label\"")?;
    section.one_line("target", target, MAX_COLUMN_BYTES)?;
    if let Some(at) = inputs.iter().position(|input| input == target) {
        return Err(section.refuse(
            &format!("inputs[{at}]"),
            "is the target as well",
            "remove it: the model would be given the answer",
        ));
    }
    Ok((inputs, target.to_owned()))
}

fn strategy(section: &Section<'_, '_>, round: &RoundSection, heads: &[HeadSection]) -> Result<StrategySection, JobFileError> {
    let later = [
        "fedavgm",
        "fedprox",
        "fedadam",
        "fedyogi",
        "fedadagrad",
        "fednova",
        "scaffold",
        "qffl",
        "fedper",
        "ditto",
        "ifca",
    ];
    let names = [
        ("fedavg", StrategyName::FedAvg),
        ("fedbuff", StrategyName::FedBuff),
        ("feddf", StrategyName::FedDf),
    ];
    let (default, other) = match round.mode {
        RoundMode::Async => (StrategyName::FedBuff, "asynchronous rounds take the strategy \"fedbuff\""),
        RoundMode::Sync | RoundMode::SemiSync => (StrategyName::FedAvg, "\"fedbuff\" is the strategy of asynchronous rounds"),
    };
    refuse_per_client(
        section,
        "name",
        PER_CLIENT,
        "compares single updates, and the server sees their sum alone",
        &format!("use {:?} with a small update.clip, which bounds what one agent can do", names[0].0),
    )?;
    let name = section.choice("name", &names, &later, Some(default))?;
    let fuses = name == StrategyName::FedDf && default == StrategyName::FedAvg;
    if name != default && !fuses {
        return Err(section.refuse("name", other, "change it, or change mode in [round]"));
    }
    if let Some(key) = fusion::KEYS.iter().find(|key| !fuses && section.has(key)) {
        let fix = "remove it, or write name = \"feddf\"";
        return Err(section.refuse(key, "is of the fusion of groups", fix));
    }
    Ok(StrategySection {
        name,
        fusion: fuses.then(|| fusion::read(section, round.rounds, heads)).transpose()?,
        server_lr: section.positive("server_lr", Some(1.0), "1.0")?,
    })
}

pub(super) fn round(section: &Section<'_, '_>, kind: JobKind) -> Result<RoundSection, JobFileError> {
    let modes = [
        ("sync", RoundMode::Sync),
        ("semi_sync", RoundMode::SemiSync),
        ("async", RoundMode::Async),
    ];
    let mode = section.choice("mode", &modes, &[], Some(RoundMode::Sync))?;
    if kind == JobKind::Analytics && mode != RoundMode::Sync {
        let fix = "remove it: each agent counts its rows once a round";
        return Err(section.refuse("mode", "is about training, and an analytics job trains nothing", fix));
    }
    if kind == JobKind::Release && mode != RoundMode::Sync {
        let fix = "remove it: each agent of a stage measures once";
        return Err(section.refuse("mode", "is about training, and a release trains nothing", fix));
    }
    if kind == JobKind::Calibration && mode != RoundMode::Sync {
        let fix = "remove it: each agent looks at its rows once a round";
        return Err(section.refuse("mode", "is about training, and a calibration job trains nothing", fix));
    }
    let default_rounds = (kind != JobKind::Train).then_some(1);
    let min = section.integer32("min", 1, MAX_MEMBERS, None, "3")?;
    let target = section.integer32("target", 1, MAX_MEMBERS, Some(min), "5")?;
    if target < min {
        return Err(section.refuse("target", format!("{target} is below min = {min}"), "use min <= target <= max"));
    }
    let max = section.integer32("max", 1, MAX_MEMBERS, Some(target), "8")?;
    if max < target {
        return Err(section.refuse("max", format!("{max} is below target = {target}"), "use min <= target <= max"));
    }
    let rounds = section.integer32("rounds", 1, 1_000_000, default_rounds, "10")?;
    let max_time = section.duration("max_time", MAX_ROUND_SECONDS, Duration::from_secs(600))?;
    let max_staleness = match mode {
        RoundMode::Async => section.integer32("max_staleness", 0, MAX_STALENESS, Some(DEFAULT_STALENESS), "10")?,
        RoundMode::Sync | RoundMode::SemiSync if section.has("max_staleness") => {
            let fix = "remove it, or write mode = \"async\"";
            return Err(section.refuse("max_staleness", "only asynchronous rounds have stale contributions", fix));
        }
        RoundMode::Sync | RoundMode::SemiSync => 0,
    };
    Ok(RoundSection {
        mode,
        rounds,
        min,
        target,
        max,
        max_time,
        max_staleness,
    })
}

pub(super) fn aggregation(section: &Section<'_, '_>, round: &RoundSection) -> Result<AggregationSection, JobFileError> {
    let modes = [("secure", AggregationMode::Secure), ("plain", AggregationMode::Plain)];
    let mode = section.choice("mode", &modes, &[], Some(AggregationMode::Secure))?;
    let profiles = [("standard", Profile::Standard), ("hardened", Profile::Hardened)];
    let suites = [("aes-256-ctr", MaskSuite::Aes256Ctr), ("chacha20", MaskSuite::ChaCha20)];
    if mode == AggregationMode::Plain
        && let Some(key) = ["profile", "suite"].into_iter().find(|key| section.has(key))
    {
        let fix = "remove it, or write mode = \"secure\"";
        return Err(section.refuse(key, "is about masks, and plain aggregation has none", fix));
    }
    let profile = section.choice("profile", &profiles, &[], Some(Profile::Hardened))?;
    let suite = section.choice("suite", &suites, &[], Some(MaskSuite::Aes256Ctr))?;
    let least = match mode {
        AggregationMode::Plain => 1,
        AggregationMode::Secure => MIN_SECURE_MEMBERS,
    };
    if round.min < least {
        let problem = format!(
            "is secure (the default), which needs round.min of at least {least}: of two updates, each agent could tell the other's"
        );
        return Err(section.refuse(
            "mode",
            problem,
            "raise round.min, or write mode = \"plain\", where the server could read each update",
        ));
    }
    if mode == AggregationMode::Secure && round.max > MAX_SECURE_MEMBERS {
        let problem = format!(
            "is secure (the default), which takes at most {MAX_SECURE_MEMBERS} agents a round; round.max is {}",
            round.max
        );
        return Err(section.refuse("mode", problem, format!("lower round.max to {MAX_SECURE_MEMBERS}")));
    }
    let floor = section.integer32("floor", least, MAX_MEMBERS, Some(round.min), "3")?;
    if floor > round.min {
        let problem = format!("{floor} is above round.min = {}", round.min);
        return Err(section.refuse(
            "floor",
            problem,
            "lower the floor or raise round.min: a round of min contributions could never be summed",
        ));
    }
    Ok(AggregationSection {
        mode,
        floor,
        profile,
        suite,
    })
}

/// Refuses what can't be a sum of bounded slots.
fn refuse_per_client(section: &Section<'_, '_>, key: &str, names: &[&str], why: &str, nearest: &str) -> Result<(), JobFileError> {
    match section.optional_text(key, "\"fixed\"")? {
        Some(name) if names.contains(&name) => {
            Err(section.refuse(key, format!("{name:?} can't be a sum of bounded slots: it {why}"), nearest))
        }
        _ => Ok(()),
    }
}

fn update(section: &Section<'_, '_>) -> Result<CodecParams, JobFileError> {
    let later = ["powersgd", "sign"];
    refuse_per_client(
        section,
        "codec",
        UNSUMMABLE,
        "gives each update its own coordinates or scale, so that sums of them mean nothing",
        "use \"fixed\" with fewer bits, for instance bits = 8: all agents share its slots and scale",
    )?;
    let codec = section.choice("codec", &[("fixed", CodecName::Fixed)], &later, Some(CodecName::Fixed))?;
    let bits = section.integer("bits", MIN_CODEC_BITS.into(), MAX_CODEC_BITS.into(), Some(24), "24")?;
    Ok(CodecParams {
        codec,
        bits: u8::try_from(bits).unwrap_or(MAX_CODEC_BITS),
        clip: section.positive("clip", Some(10.0), "10.0")?,
        weight_cap: section.integer32("weight_cap", 1, u32::MAX, Some(4096), "4096")?,
    })
}

pub(super) fn evaluate(section: &Section<'_, '_>) -> Result<EvaluateSection, JobFileError> {
    let on_devices = section.number(
        "on_devices",
        |share| share > 0.0 && share <= MAX_HELD_BACK,
        "a share of each agent's rows above 0 and up to 0.5",
        "0.2",
    )?;
    if on_devices.is_none() && !section.has("data") {
        let fix = "add `data = \"test.csv\"` for data that the server keeps, or `on_devices = 0.2` for a share of each agent's rows";
        return Err(section.refuse("data", "is missing, and so is on_devices: there is nothing to evaluate on", fix));
    }
    let data = section.has("data").then(|| section.path("data", "\"test.csv\"")).transpose()?;
    Ok(EvaluateSection {
        data,
        on_devices,
        target_accuracy: section.fraction("target_accuracy", "0.95")?,
    })
}
