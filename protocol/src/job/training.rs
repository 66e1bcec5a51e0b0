//! Reads `[train]`.

use super::distil;
use super::file::JobFileError;
use super::reader::Section;
use super::schema;
use super::train::{
    BatchNormName, ClassAxisName, Fall, HeadSection, LoraSection, LossSection, METRICS, OptimizerSection, ScheduleSection, TrainSection,
};
use crate::limits::MAX_COLUMN_BYTES;

/// Most heads of a job.
const MAX_HEADS: usize = 64;
/// Largest rank of an adapter.
const MAX_RANK: u32 = 4096;
/// Most steps that a schedule speaks of.
const MAX_STEPS: u64 = 1 << 40;

type Read<T> = Result<T, JobFileError>;
type Part<'a, 't> = Section<'a, 't>;

/// Options that belong to some of the choices of another key, and to which.
struct Options {
    /// The key that chooses.
    of: &'static str,
    keys: &'static [(&'static str, &'static [&'static str])],
}

const LOSS_OPTIONS: Options = Options {
    of: "loss",
    keys: &[
        ("label_smoothing", &["cross_entropy"]),
        ("class_weights", &["cross_entropy"]),
        ("ignore_index", &["cross_entropy"]),
        ("class_axis", &["cross_entropy"]),
        ("pos_weight", &["binary_cross_entropy"]),
        ("delta", &["huber"]),
        ("temperature", &["contrastive"]),
        ("margin", &["pairwise"]),
    ],
};

const OPTIMIZER_OPTIONS: Options = Options {
    of: "optimizer",
    keys: &[
        ("momentum", &["momentum", "nesterov", "rmsprop"]),
        ("beta1", &["adam", "adamw"]),
        ("beta2", &["adam", "adamw"]),
        ("alpha", &["rmsprop"]),
        ("epsilon", &["adam", "adamw", "rmsprop"]),
    ],
};

const SCHEDULE_OPTIONS: Options = Options {
    of: "name",
    keys: &[
        ("every", &["step"]),
        ("gamma", &["step"]),
        ("warmup", &["cosine", "linear"]),
        ("steps", &["cosine", "linear"]),
        ("floor", &["cosine", "linear"]),
    ],
};

impl Options {
    /// Refuses options that are there but do not belong to `chosen`: they would be ignored.
    fn check(&self, section: &Part<'_, '_>, chosen: &str) -> Read<()> {
        for (key, owners) in self.keys {
            if section.has(key) && !owners.contains(&chosen) {
                let problem = format!("does not belong to {} = {chosen:?}", self.of);
                let owners = owners.iter().map(|owner| format!("{owner:?}")).collect::<Vec<_>>().join(" or ");
                return Err(section.refuse(key, problem, format!("remove it, or use {} = {owners}", self.of)));
            }
        }
        Ok(())
    }
}

pub(super) fn read(section: &Part<'_, '_>) -> Read<TrainSection> {
    let heads = heads(section)?;
    let distil = distil::teacher(section, &heads)?;
    let optimizer = optimizer(section)?;
    let default_decay = if matches!(optimizer, OptimizerSection::AdamW { .. }) {
        0.01
    } else {
        0.0
    };
    Ok(TrainSection {
        heads,
        optimizer,
        lr: section.positive("lr", None, "0.1")?,
        weight_decay: section
            .number("weight_decay", |v| v >= 0.0, "a number from 0 on", "0.01")?
            .unwrap_or(default_decay),
        clip_norm: optional_positive(section, "clip_norm", "1.0")?,
        schedule: schedule(section)?,
        epochs: section.integer32("epochs", 0, 100_000, Some(1), "1")?,
        batch: section.integer32("batch", 1, 1 << 20, Some(32), "32")?,
        batch_norm: section.choice(
            "batch_norm",
            &[("batch", Some(BatchNormName::Batch)), ("stored", Some(BatchNormName::Stored))],
            &[],
            Some(None),
        )?,
        lora: lora(section)?,
        distil,
        metrics: metrics(section)?,
    })
}

fn optional_positive(section: &Part<'_, '_>, key: &str, example: &str) -> Read<Option<f32>> {
    section.has(key).then(|| section.positive(key, None, example)).transpose()
}

fn heads(section: &Part<'_, '_>) -> Read<Vec<HeadSection>> {
    let tables = section.tables("heads", MAX_HEADS)?;
    if tables.is_empty() {
        return Ok(vec![HeadSection {
            loss: loss(section)?,
            ..HeadSection::default()
        }]);
    }
    let of_head = |key: &&str| section.has(key);
    if let Some(key) = std::iter::once("loss")
        .chain(LOSS_OPTIONS.keys.iter().map(|(key, _)| *key))
        .find(|key| of_head(key))
    {
        return Err(section.refuse(key, "stands beside [[train.heads]]", "move it into the heads that it is for"));
    }
    tables.iter().map(head).collect()
}

fn head(section: &Part<'_, '_>) -> Read<HeadSection> {
    let name = |key: &str, example: &str| -> Read<Option<String>> {
        let Some(text) = section.optional_text(key, example)? else {
            return Ok(None);
        };
        section.one_line(key, text, MAX_COLUMN_BYTES)?;
        Ok(Some(text.to_owned()))
    };
    Ok(HeadSection {
        output: name("output", "\"logits\"")?,
        target: name("target", "\"label\"")?,
        loss: loss(section)?,
        weight: section.number("weight", |v| v >= 0.0, "a number from 0 on", "0.5")?.unwrap_or(1.0),
    })
}

fn loss(section: &Part<'_, '_>) -> Read<LossSection> {
    const NAMES: [(&str, &str); 7] = [
        ("cross_entropy", "cross_entropy"),
        ("binary_cross_entropy", "binary_cross_entropy"),
        ("mse", "mse"),
        ("mae", "mae"),
        ("huber", "huber"),
        ("contrastive", "contrastive"),
        ("pairwise", "pairwise"),
    ];
    let name = section.choice("loss", &NAMES, &["ctc", "triplet", "dice", "focal"], Some("cross_entropy"))?;
    LOSS_OPTIONS.check(section, name)?;
    Ok(match name {
        "binary_cross_entropy" => LossSection::BinaryCrossEntropy {
            pos_weight: section.weights("pos_weight", "[3.0]")?,
        },
        "mse" => LossSection::Mse,
        "mae" => LossSection::Mae,
        "huber" => LossSection::Huber {
            delta: section.positive("delta", Some(1.0), "1.0")?,
        },
        "contrastive" => LossSection::Contrastive {
            temperature: section.positive("temperature", Some(0.1), "0.1")?,
        },
        "pairwise" => LossSection::Pairwise {
            margin: section.positive("margin", Some(1.0), "1.0")?,
        },
        _ => cross_entropy(section)?,
    })
}

fn cross_entropy(section: &Part<'_, '_>) -> Read<LossSection> {
    let smoothing = section.number("label_smoothing", |v| (0.0..=1.0).contains(&v), "a number from 0 to 1", "0.1")?;
    let class_weights = section.weights("class_weights", "[1.0, 2.5]")?;
    if class_weights.as_ref().is_some_and(|weights| weights.iter().all(|&w| w == 0.0)) {
        return Err(section.refuse("class_weights", "weigh every class 0", "weigh a class above 0, or remove it"));
    }
    let axes = [("last", ClassAxisName::Last), ("second", ClassAxisName::Second)];
    Ok(LossSection::CrossEntropy {
        label_smoothing: smoothing.unwrap_or(0.0),
        class_weights,
        ignore_index: section.signed("ignore_index", "-100")?,
        class_axis: section.choice("class_axis", &axes, &[], Some(ClassAxisName::Last))?,
    })
}

fn optimizer(section: &Part<'_, '_>) -> Read<OptimizerSection> {
    const NAMES: [(&str, &str); 6] = [
        ("sgd", "sgd"),
        ("momentum", "momentum"),
        ("nesterov", "nesterov"),
        ("adam", "adam"),
        ("adamw", "adamw"),
        ("rmsprop", "rmsprop"),
    ];
    let name = section.choice("optimizer", &NAMES, &["adagrad", "lion", "lamb"], Some("sgd"))?;
    OPTIMIZER_OPTIONS.check(section, name)?;
    let share = |key: &str, default: f32| -> Read<f32> {
        let value = section.number(key, |v| (0.0..1.0).contains(&v), "a number from 0 to less than 1", "0.9")?;
        Ok(value.unwrap_or(default))
    };
    let epsilon = || section.positive("epsilon", Some(1e-8), "1e-8");
    // Without momentum both are plain descent, which has a name of its own.
    let momentum = || match share("momentum", 0.9)? {
        0.0 => Err(section.refuse("momentum", "0 is none", "use a number above 0, or optimizer = \"sgd\"")),
        momentum => Ok(momentum),
    };
    Ok(match name {
        "momentum" => OptimizerSection::Momentum { momentum: momentum()? },
        "nesterov" => OptimizerSection::Nesterov { momentum: momentum()? },
        "adam" => OptimizerSection::Adam {
            beta1: share("beta1", 0.9)?,
            beta2: share("beta2", 0.999)?,
            epsilon: epsilon()?,
        },
        "adamw" => OptimizerSection::AdamW {
            beta1: share("beta1", 0.9)?,
            beta2: share("beta2", 0.999)?,
            epsilon: epsilon()?,
        },
        "rmsprop" => OptimizerSection::RmsProp {
            alpha: share("alpha", 0.99)?,
            epsilon: epsilon()?,
            momentum: share("momentum", 0.0)?,
        },
        _ => OptimizerSection::Sgd,
    })
}

fn schedule(train: &Part<'_, '_>) -> Read<ScheduleSection> {
    const NAMES: [(&str, &str); 4] = [
        ("constant", "constant"),
        ("step", "step"),
        ("cosine", "cosine"),
        ("linear", "linear"),
    ];
    let Some(section) = train.table("schedule", "{ name = \"cosine\", warmup = 100 }")? else {
        return Ok(ScheduleSection::Constant);
    };
    let name = section.choice("name", &NAMES, &["plateau", "cyclic", "restarts"], None)?;
    SCHEDULE_OPTIONS.check(&section, name)?;
    let fall = || {
        let warmup = section.integer("warmup", 0, MAX_STEPS, Some(0), "100")?;
        let steps = section
            .has("steps")
            .then(|| section.integer("steps", 1, MAX_STEPS, None, "1000"))
            .transpose()?;
        if steps.is_some_and(|steps| steps <= warmup) {
            return Err(section.refuse(
                "steps",
                format!("are not more than warmup = {warmup}"),
                "use more steps, or remove it",
            ));
        }
        let floor = section.number("floor", |v| (0.0..=1.0).contains(&v), "a number from 0 to 1", "0.1")?;
        Ok(Fall {
            warmup,
            steps,
            floor: floor.unwrap_or(0.0),
        })
    };
    Ok(match name {
        "step" => ScheduleSection::Step {
            every: section.integer("every", 1, MAX_STEPS, None, "1000")?,
            gamma: section.number("gamma", |v| v >= 0.0, "a number from 0 on", "0.5")?.unwrap_or(0.1),
        },
        "cosine" => ScheduleSection::Cosine(fall()?),
        "linear" => ScheduleSection::Linear(fall()?),
        _ => ScheduleSection::Constant,
    })
}

fn lora(train: &Part<'_, '_>) -> Read<Option<LoraSection>> {
    let Some(section) = train.table("lora", "{ rank = 8 }")? else {
        return Ok(None);
    };
    let rank = section.integer32("rank", 1, MAX_RANK, None, "8")?;
    let targets = section.texts("targets", "[\"*.attention.*\"]")?;
    for (at, glob) in targets.iter().enumerate() {
        globset::Glob::new(glob).map_err(|e| {
            let fix = "write names of weights with *, ? or [...]";
            section.refuse(&format!("targets[{at}]"), format!("is no glob: {}", e.kind()), fix)
        })?;
    }
    Ok(Some(LoraSection {
        rank,
        alpha: section.positive("alpha", Some(rank as f32), "16.0")?,
        targets,
    }))
}

fn metrics(section: &Part<'_, '_>) -> Read<Vec<String>> {
    let metrics = section.texts("metrics", "[\"accuracy\", \"f1_macro\"]")?;
    for (at, name) in metrics.iter().enumerate() {
        let top = name
            .strip_prefix("top")
            .filter(|digits| !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()));
        if METRICS.contains(&name.as_str()) || top.is_some_and(|digits| digits.parse::<u32>().is_ok()) {
            continue;
        }
        let fix = match schema::nearest(name, METRICS.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("use {}", METRICS.join(", ")),
        };
        return Err(section.refuse(&format!("metrics[{at}]"), format!("{:?} is no metric", schema::shown(name)), fix));
    }
    Ok(metrics)
}
