//! Which sections and keys a population file has, and what to say about any other.

use toml::de::{DeTable, DeValue};

use super::MAX_CLASSES;
use super::error::PopulationError;
use super::reader::{Locator, shown};

/// Keys before the first section.
const TOP: &[&str] = &["clock_skew_s", "canaries"];

const SECTIONS: &[(&str, &[&str])] = &[
    ("partition", &["kind", "alpha", "min", "per_client", "column", "reuse", "parts"]),
    (
        "devices",
        &[
            "name",
            "share",
            "gflops",
            "cores",
            "memory_mib",
            "battery_wh",
            "train_watts",
            "spread",
        ],
    ),
    (
        "links",
        &["name", "share", "down_mbps", "up_mbps", "latency_ms", "loss", "joules_per_mib"],
    ),
    (
        "availability",
        &["kind", "peak_hour", "at_peak", "at_trough", "mean_minutes", "zones", "file"],
    ),
    ("dropout", &["training", "upload", "back_after_s"]),
    ("byzantine", &["share", "kind", "factor", "sigma"]),
];

/// Every key of every section.
#[cfg(test)]
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    TOP.iter().chain(SECTIONS.iter().flat_map(|(_, keys)| *keys)).copied()
}

/// Refuses what no population has, and notes where everything stands.
pub(super) fn check(root: &DeTable<'_>, locator: &mut Locator<'_>) -> Result<(), PopulationError> {
    for (key, value) in root {
        let name: &str = key.get_ref();
        let span = value.span();
        let Some((section, keys)) = SECTIONS.iter().find(|(section, _)| *section == name) else {
            if TOP.contains(&name) {
                locator.note(name.to_owned(), &span);
                continue;
            }
            return Err(unknown_top(name, &key.span(), locator));
        };
        locator.note(name.to_owned(), &span);
        match value.get_ref() {
            DeValue::Table(table) => check_keys(section, section, keys, table, locator)?,
            // A list that is too long is refused by its reader.
            DeValue::Array(list) => {
                for (at, entry) in list.iter().enumerate().take(MAX_CLASSES) {
                    let field = format!("{section}[{at}]");
                    locator.note(field.clone(), &entry.span());
                    if let DeValue::Table(table) = entry.get_ref() {
                        check_keys(section, &field, keys, table, locator)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_keys(section: &str, name: &str, keys: &[&str], table: &DeTable<'_>, locator: &mut Locator<'_>) -> Result<(), PopulationError> {
    for (key, value) in table {
        let word: &str = key.get_ref();
        let field = format!("{name}.{}", shown(word));
        if !keys.contains(&word) {
            let elsewhere = SECTIONS.iter().find(|(_, keys)| keys.contains(&word));
            let fix = if TOP.contains(&word) {
                "move it above the first section".to_owned()
            } else if let Some(near) = nearest(word, keys.iter().copied()) {
                format!("did you mean {near:?}?")
            } else if let Some((other, _)) = elsewhere {
                format!("move it to [{other}]")
            } else {
                format!("[{section}] has {}", keys.join(", "))
            };
            return Err(locator.error(&key.span(), &field, "unknown key", fix));
        }
        locator.note(field, &value.span());
    }
    Ok(())
}

fn unknown_top(name: &str, span: &std::ops::Range<usize>, locator: &Locator<'_>) -> PopulationError {
    let known = || SECTIONS.iter().map(|(section, _)| *section).chain(TOP.iter().copied());
    let fix = if let Some((section, _)) = SECTIONS.iter().find(|(_, keys)| keys.contains(&name)) {
        format!("move it to [{section}]")
    } else if let Some(near) = nearest(name, known()) {
        format!("did you mean {near:?}?")
    } else {
        format!("a population has {}", known().collect::<Vec<_>>().join(", "))
    };
    locator.error(span, &shown(name), "unknown section or key", fix)
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
