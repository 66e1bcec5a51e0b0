//! Which sections and keys a job file has, and what to say about any other.

use toml::de::{DeTable, DeValue};

use super::file::JobFileError;
use super::source::Locator;
use crate::limits::MAX_COLUMNS;

pub(super) const NOT_YET: &str = "is not available in this version";

struct SectionRule {
    name: &'static str,
    keys: &'static [&'static str],
    /// Keys of features that later versions have.
    later: &'static [&'static str],
}

const SECTIONS: &[SectionRule] = &[
    SectionRule {
        name: "job",
        keys: &[
            "name",
            "kind",
            "seed",
            "purpose",
            "priority",
            "tags",
            "device_class",
            "require",
            "deadline",
        ],
        later: &["population"],
    },
    SectionRule {
        name: "model",
        keys: &["path", "trainable"],
        later: &["buffers"],
    },
    SectionRule {
        name: "data",
        keys: &["contract", "inputs", "target"],
        later: &["steps"],
    },
    SectionRule {
        name: "train",
        keys: &[
            "loss",
            "label_smoothing",
            "class_weights",
            "ignore_index",
            "class_axis",
            "pos_weight",
            "delta",
            "temperature",
            "margin",
            "heads",
            "optimizer",
            "lr",
            "momentum",
            "beta1",
            "beta2",
            "alpha",
            "epsilon",
            "weight_decay",
            "clip_norm",
            "schedule",
            "epochs",
            "batch",
            "batch_norm",
            "lora",
            "distil",
            "metrics",
        ],
        later: &["proximal", "steps"],
    },
    SectionRule {
        name: "strategy",
        keys: &[
            "name",
            "server_lr",
            "groups",
            "temperature",
            "lr",
            "epochs",
            "batch",
            "data",
            "digest",
            "size_bytes",
        ],
        later: &["momentum", "beta1", "beta2", "tau", "mu"],
    },
    SectionRule {
        name: "round",
        keys: &["mode", "min", "target", "max", "rounds", "max_time", "max_staleness"],
        later: &[],
    },
    SectionRule {
        name: "aggregation",
        keys: &["mode", "floor", "profile", "suite"],
        later: &["threshold", "neighbours"],
    },
    SectionRule {
        name: "update",
        keys: &["codec", "bits", "clip", "weight_cap"],
        later: &["rotation", "sparsity", "rank"],
    },
    SectionRule {
        name: "evaluate",
        keys: &["data", "on_devices", "target_accuracy"],
        later: &["every"],
    },
    SectionRule {
        name: "compress",
        keys: &[
            "distil",
            "channels",
            "prune",
            "quantize",
            "activations",
            "calibration",
            "calibration_rows",
            "block",
            "keep",
            "store",
            "epochs",
            "lr",
            "max_drop",
        ],
        later: &[],
    },
    SectionRule {
        name: "calibration",
        keys: &["rows", "bits", "loss", "digest", "size_bytes", "tensors"],
        later: &[],
    },
    SectionRule {
        name: "analyze",
        keys: &["max_rows", "bits", "columns"],
        later: &[],
    },
    SectionRule {
        name: "release",
        keys: &[
            "model",
            "alias",
            "stages",
            "max_rows",
            "within",
            "tolerance",
            "self_test_rows",
            "variants",
            "champion",
        ],
        later: &[],
    },
    SectionRule {
        name: "gate",
        keys: &[
            "min_accuracy",
            "max_accuracy_drop",
            "max_latency_ms",
            "max_memory_mib",
            "max_failures",
            "min_canaries",
        ],
        later: &[],
    },
];

/// Tables within sections, by `section.key`; a list of tables has the rule of each.
const TABLES: &[SectionRule] = &[
    SectionRule {
        name: "train.heads",
        keys: &[
            "output",
            "target",
            "weight",
            "loss",
            "label_smoothing",
            "class_weights",
            "ignore_index",
            "class_axis",
            "pos_weight",
            "delta",
            "temperature",
            "margin",
        ],
        later: &[],
    },
    SectionRule {
        name: "train.schedule",
        keys: &["name", "every", "gamma", "warmup", "steps", "floor"],
        later: &[],
    },
    SectionRule {
        name: "train.lora",
        keys: &["rank", "alpha", "targets"],
        later: &[],
    },
    SectionRule {
        name: "train.distil",
        keys: &["teacher", "digest", "size_bytes", "temperature", "alpha"],
        later: &[],
    },
    SectionRule {
        name: "compress.distil",
        keys: &["student", "digest", "size_bytes", "temperature", "alpha", "epochs", "lr"],
        later: &[],
    },
    SectionRule {
        name: "analyze.columns",
        keys: &["names", "features", "feature", "low", "high", "bins", "classes"],
        later: &[],
    },
    SectionRule {
        name: "release.variants",
        keys: &[
            "name",
            "path",
            "digest",
            "size_bytes",
            "device_class",
            "memory_mib",
            "cores",
            "gpu",
            "recipe",
            "parent",
            "accuracy",
            "latency_us",
            "peak_memory_mib",
            "outputs",
        ],
        later: &[],
    },
    SectionRule {
        name: "release.champion",
        keys: &["digest", "size_bytes"],
        later: &[],
    },
];

const LATER_SECTIONS: &[&str] = &["privacy"];

/// Every key that a job file may have: `section.key`, and `section.key.key` of a table in a section or of each table of a list.
pub fn job_file_keys() -> impl Iterator<Item = String> {
    SECTIONS
        .iter()
        .chain(TABLES)
        .flat_map(|rule| rule.keys.iter().map(|key| format!("{}.{key}", rule.name)))
}

/// Refuses every section and key that is not in the schema, the first in the file first, and notes where the others stand.
pub(super) fn check(root: &DeTable<'_>, locator: &mut Locator<'_>) -> Result<(), JobFileError> {
    let mut entries: Vec<_> = root.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    for (name, value) in entries {
        let (text, span) = (name.get_ref().as_ref(), name.span());
        let Some(rule) = SECTIONS.iter().find(|rule| rule.name == text) else {
            return Err(unknown_section(text, value.get_ref(), &span, locator));
        };
        let DeValue::Table(table) = value.get_ref() else {
            let fix = format!("write [{text}] on a line of its own and its keys below");
            return Err(locator.error(&span, text, format!("has to be a section, not {}", type_name(value.get_ref())), fix));
        };
        locator.note(text.to_owned(), &span);
        check_keys(rule, rule.name, table, locator)?;
    }
    Ok(())
}

/// `place` is how errors name the table.
fn check_keys(rule: &SectionRule, place: &str, table: &DeTable<'_>, locator: &mut Locator<'_>) -> Result<(), JobFileError> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    for (name, value) in entries {
        let key = name.get_ref().as_ref();
        let field = format!("{place}.{}", shown(key));
        if rule.later.contains(&key) {
            return Err(locator.error(&name.span(), &field, NOT_YET, "remove it"));
        }
        if !rule.keys.contains(&key) {
            let fix = match (
                SECTIONS.iter().chain(TABLES).find(|other| other.keys.contains(&key)),
                nearest(key, rule.keys.iter().copied()),
            ) {
                (_, Some(near)) => format!("did you mean {near:?}?"),
                (Some(other), None) => format!("move it to [{}]", other.name),
                (None, None) => format!("[{}] has {}", rule.name, rule.keys.join(", ")),
            };
            return Err(locator.error(&name.span(), &field, "unknown key", fix));
        }
        let inner = format!("{}.{key}", rule.name);
        let inner = TABLES.iter().find(|rule| rule.name == inner);
        match value.get_ref() {
            // A list that is too long is refused by its reader; its entries need no places then.
            DeValue::Array(list) if list.len() <= MAX_COLUMNS => {
                for (at, entry) in list.iter().enumerate() {
                    let place = format!("{field}[{at}]");
                    locator.note(place.clone(), &entry.span());
                    if let (Some(rule), DeValue::Table(table)) = (inner, entry.get_ref()) {
                        check_keys(rule, &place, table, locator)?;
                    }
                }
            }
            DeValue::Table(table) => {
                if let Some(rule) = inner {
                    check_keys(rule, &field, table, locator)?;
                }
            }
            _ => {}
        }
        locator.note(field, &value.span());
    }
    Ok(())
}

fn unknown_section(text: &str, value: &DeValue<'_>, span: &std::ops::Range<usize>, locator: &Locator<'_>) -> JobFileError {
    let field = shown(text);
    if LATER_SECTIONS.contains(&text) {
        return locator.error(span, &field, format!("the section {NOT_YET}"), "remove it");
    }
    if !matches!(value, DeValue::Table(_)) {
        let fix = match SECTIONS.iter().find(|rule| rule.keys.contains(&text)) {
            Some(rule) => format!("move it to [{}]", rule.name),
            None => "put it into a section, or remove it".to_owned(),
        };
        return locator.error(span, &field, "a key outside of any section", fix);
    }
    let names = SECTIONS.iter().map(|rule| rule.name);
    let fix = match nearest(text, names.clone()) {
        Some(near) => format!("did you mean [{near}]?"),
        None => format!("a job file has [{}]", names.collect::<Vec<_>>().join("], [")),
    };
    locator.error(span, &field, "unknown section", fix)
}

/// The known word that `word` is a slip of, if any.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    known
        .map(|k| (strsim::osa_distance(&word, k), k))
        .min()
        .filter(|(distance, k)| *distance <= (k.len() / 3).max(1))
        .map(|(_, k)| k)
}

/// A word of the file as it is quoted in a message: one line, not long.
pub(super) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(80).is_some() {
        out.push_str("...");
    }
    out
}

pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
