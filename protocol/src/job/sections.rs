//! From the text of a job file to its types, section by section.

use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::file::{
    AggregationMode, AggregationSection, DataSection, EvaluateSection, JobFile, JobFileError, ModelSection, RoundMode, RoundSection,
    StrategyName, StrategySection,
};
use super::reader::Section;
use super::schema;
use super::source::{JobSource, Locator};
use super::{about, training};
use crate::check::is_label;
use crate::descriptor::{CodecName, CodecParams};
use crate::limits::{
    MAX_CODEC_BITS, MAX_COLUMN_BYTES, MAX_JOB_FILE_BYTES, MAX_MEMBERS, MAX_ROUND_SECONDS, MAX_STALENESS, MAX_TAG_BYTES, MIN_CODEC_BITS,
};

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

    let job = about::read(&section("job"))?;
    let model = model(&section("model"))?;
    let data = data(&section("data"))?;
    let train = training::read(&section("train"))?;
    let round = round(&section("round"))?;
    let strategy = strategy(&section("strategy"), round.mode)?;
    let aggregation = aggregation(&section("aggregation"), &round)?;
    let update = update(&section("update"))?;
    let has_evaluation = matches!(root.get_ref().get("evaluate").map(toml::Spanned::get_ref), Some(DeValue::Table(_)));
    let evaluate = if has_evaluation {
        Some(evaluate(&section("evaluate"))?)
    } else {
        None
    };
    Ok((
        JobFile {
            job,
            model,
            data,
            train,
            strategy,
            round,
            aggregation,
            update,
            evaluate,
        },
        source,
    ))
}

pub(super) fn label_fix() -> String {
    format!("use 1 to {MAX_TAG_BYTES} of a-z, A-Z, 0-9, '-', '_' and '.'")
}

fn model(section: &Section<'_, '_>) -> Result<ModelSection, JobFileError> {
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

fn data(section: &Section<'_, '_>) -> Result<DataSection, JobFileError> {
    let contract = section.text("contract", "\"digits\"")?;
    if !is_label(contract) {
        return Err(section.refuse(
            "contract",
            format!("{:?} is no contract's name", schema::shown(contract)),
            label_fix(),
        ));
    }
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
    Ok(DataSection {
        contract: contract.to_owned(),
        inputs,
        target: target.to_owned(),
    })
}

fn strategy(section: &Section<'_, '_>, mode: RoundMode) -> Result<StrategySection, JobFileError> {
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
    let names = [("fedavg", StrategyName::FedAvg), ("fedbuff", StrategyName::FedBuff)];
    let (default, other) = match mode {
        RoundMode::Async => (StrategyName::FedBuff, "asynchronous rounds take the strategy \"fedbuff\""),
        RoundMode::Sync | RoundMode::SemiSync => (StrategyName::FedAvg, "\"fedbuff\" is the strategy of asynchronous rounds"),
    };
    let name = section.choice("name", &names, &later, Some(default))?;
    if name != default {
        return Err(section.refuse("name", other, "change it, or change mode in [round]"));
    }
    Ok(StrategySection {
        name,
        server_lr: section.positive("server_lr", Some(1.0), "1.0")?,
    })
}

fn round(section: &Section<'_, '_>) -> Result<RoundSection, JobFileError> {
    let modes = [
        ("sync", RoundMode::Sync),
        ("semi_sync", RoundMode::SemiSync),
        ("async", RoundMode::Async),
    ];
    let mode = section.choice("mode", &modes, &[], Some(RoundMode::Sync))?;
    let min = section.integer32("min", 1, MAX_MEMBERS, None, "3")?;
    let target = section.integer32("target", 1, MAX_MEMBERS, Some(min), "5")?;
    if target < min {
        return Err(section.refuse("target", format!("{target} is below min = {min}"), "use min <= target <= max"));
    }
    let max = section.integer32("max", 1, MAX_MEMBERS, Some(target), "8")?;
    if max < target {
        return Err(section.refuse("max", format!("{max} is below target = {target}"), "use min <= target <= max"));
    }
    let rounds = section.integer32("rounds", 1, 1_000_000, None, "10")?;
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

fn aggregation(section: &Section<'_, '_>, round: &RoundSection) -> Result<AggregationSection, JobFileError> {
    let fix = "write mode = \"plain\" in [aggregation]: the server could then read single updates, which TLS alone protects";
    let modes = [("plain", AggregationMode::Plain), ("secure", AggregationMode::Secure)];
    let none = section.table.is_none_or(|table| !table.contains_key("mode"));
    if none {
        return Err(section.refuse("mode", "the mode has to be named, because nothing insecure is a default", fix));
    }
    let mode = section.choice("mode", &modes, &[], None)?;
    if mode == AggregationMode::Secure {
        return Err(section.refuse("mode", format!("\"secure\" {}", schema::NOT_YET), fix));
    }
    let floor = section.integer32("floor", 1, MAX_MEMBERS, Some(round.min), "3")?;
    if floor > round.min {
        let problem = format!("{floor} is above round.min = {}", round.min);
        return Err(section.refuse(
            "floor",
            problem,
            "lower the floor or raise round.min: a round of min contributions could never be summed",
        ));
    }
    Ok(AggregationSection { mode, floor })
}

fn update(section: &Section<'_, '_>) -> Result<CodecParams, JobFileError> {
    let later = ["qsgd", "terngrad", "topk", "powersgd", "eden", "sign"];
    let codec = section.choice("codec", &[("fixed", CodecName::Fixed)], &later, Some(CodecName::Fixed))?;
    let bits = section.integer("bits", MIN_CODEC_BITS.into(), MAX_CODEC_BITS.into(), Some(24), "24")?;
    Ok(CodecParams {
        codec,
        bits: u8::try_from(bits).unwrap_or(MAX_CODEC_BITS),
        clip: section.positive("clip", Some(10.0), "10.0")?,
        weight_cap: section.integer32("weight_cap", 1, u32::MAX, Some(4096), "4096")?,
    })
}

fn evaluate(section: &Section<'_, '_>) -> Result<EvaluateSection, JobFileError> {
    Ok(EvaluateSection {
        data: section.path("data", "\"test.csv\"")?,
        target_accuracy: section.fraction("target_accuracy", "0.95")?,
    })
}
