//! Many runs of one job: every combination of some of its values, each with every seed.

mod combined;
mod fields;

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

pub use combined::{Combined, combine, runs_csv};
pub use fields::apply;

/// Most runs of a sweep.
pub const MAX_RUNS: usize = 10_000;
/// Longest name of a run's folder, bytes.
const MAX_NAME: usize = 120;

/// Why a sweep is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// `--sweep` without a key and values.
    #[error("--sweep {0}: write a key of the job file and its values, for instance train.lr=0.05,0.1")]
    NoAxis(String),
    /// A value that is none.
    #[error("--sweep {key}: {value:?} is no value: write a number, true, false, text, or a list in brackets")]
    NoValue {
        /// The key.
        key: String,
        /// What stands there.
        value: String,
    },
    /// A value twice, or a key twice.
    #[error("--sweep {0}: given twice: name each key and each of its values once")]
    Twice(String),
    /// `--seeds` that can't be read.
    #[error("--seeds {0}: write a range without its end (1..6), with it (1..=5), or a list (1,2,7), each seed once")]
    Seeds(String),
    /// The seed as an axis.
    #[error("--sweep job.seed: seeds are for --seeds, so that runs of one setting are taken together")]
    SeedIsNoAxis,
    /// More runs than [`MAX_RUNS`].
    #[error("this sweep has more than {MAX_RUNS} runs: name fewer values or seeds")]
    TooMany,
    /// A key that is not in the job file and that job files don't have.
    #[error("--sweep {key}: the job file has no such key{}", hint.as_ref().map(|hint| format!(": did you mean {hint}?")).unwrap_or_default())]
    UnknownKey {
        /// The key.
        key: String,
        /// One that is much like it.
        hint: Option<String>,
    },
    /// A key below something that is no section, or beyond a list's end.
    #[error("--sweep {key}: {at} is no section of this job file: write the section into it first")]
    NoSection {
        /// The key.
        key: String,
        /// Its part that fails.
        at: String,
    },
    /// The job file is no TOML.
    #[error("the job file is no TOML: {0}")]
    Toml(String),
}

/// A key of the job file and what it is set to; `--sweep train.lr=0.05,0.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// `section.key`; tables of a list by their place from 0: `train.heads.0.weight`.
    pub key: String,
    /// As they were written.
    pub values: Vec<String>,
}

impl FromStr for Axis {
    type Err = SweepError;

    /// Commas within quotes and brackets part no values.
    fn from_str(text: &str) -> Result<Self, SweepError> {
        let (key, values) = text.split_once('=').ok_or_else(|| SweepError::NoAxis(text.to_owned()))?;
        let key = key.trim();
        let is_bare = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !key.contains('.') || !key.split('.').all(is_bare) {
            return Err(SweepError::NoAxis(text.to_owned()));
        }
        if key == "job.seed" {
            return Err(SweepError::SeedIsNoAxis);
        }
        let values = split(values);
        let mut seen = BTreeSet::new();
        for value in &values {
            let read = fields::value(key, value)?;
            // 0.1 and 0.10 are one value.
            if !seen.insert(fields::canonical(&read)) {
                return Err(SweepError::Twice(format!("{key}={value}")));
            }
        }
        Ok(Self {
            key: key.to_owned(),
            values,
        })
    }
}

/// Parts at commas outside of quotes and brackets, without the space around them.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut quote, mut depth) = (vec![String::new()], None, 0u32);
    for c in text.chars() {
        match (c, quote) {
            (',', None) if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            ('"' | '\'', None) => quote = Some(c),
            (_, Some(q)) if c == q => quote = None,
            ('[' | '{', None) => depth += 1,
            (']' | '}', None) => depth = depth.saturating_sub(1),
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

/// The seeds of a sweep; `--seeds 1..6`, `--seeds 1..=5` or `--seeds 1,2,7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeds(Vec<u64>);

impl Seeds {
    /// A single one.
    pub fn one(seed: u64) -> Self {
        Self(vec![seed])
    }

    /// In the order that they were given in.
    pub fn as_slice(&self) -> &[u64] {
        &self.0
    }
}

impl FromStr for Seeds {
    type Err = SweepError;

    fn from_str(text: &str) -> Result<Self, SweepError> {
        let refused = || SweepError::Seeds(text.to_owned());
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| refused());
        let seeds: Vec<u64> = if let Some((from, to)) = text.split_once("..") {
            let (from, to) = match to.strip_prefix('=') {
                Some(last) => (number(from)?, number(last)?.checked_add(1).ok_or_else(refused)?),
                None => (number(from)?, number(to)?),
            };
            if to.saturating_sub(from) > MAX_RUNS as u64 {
                return Err(SweepError::TooMany);
            }
            (from..to).collect()
        } else {
            text.split(',').map(number).collect::<Result<_, _>>()?
        };
        let distinct: BTreeSet<u64> = seeds.iter().copied().collect();
        if seeds.is_empty() || distinct.len() != seeds.len() {
            return Err(refused());
        }
        Ok(Self(seeds))
    }
}

/// One run of a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// What is set, by key of the job file.
    pub fields: BTreeMap<String, String>,
    /// Its seed.
    pub seed: u64,
}

/// Every run of a sweep, in a fixed order: the first axis changes slowest, then the next, the seed fastest. Without axes there is a run for
/// each seed.
///
/// # Errors
/// [`SweepError::TooMany`], or [`SweepError::Twice`] where a key has two axes.
pub fn grid(axes: &[Axis], seeds: &Seeds) -> Result<Vec<Setting>, SweepError> {
    let mut keys = BTreeSet::new();
    let mut runs = seeds.0.len();
    for axis in axes {
        if !keys.insert(&axis.key) {
            return Err(SweepError::Twice(axis.key.clone()));
        }
        runs = runs.saturating_mul(axis.values.len());
    }
    if runs > MAX_RUNS {
        return Err(SweepError::TooMany);
    }
    let mut settings = vec![BTreeMap::new()];
    for axis in axes {
        settings = settings
            .iter()
            .flat_map(|fields| {
                axis.values.iter().map(|value| {
                    let mut fields = fields.clone();
                    fields.insert(axis.key.clone(), value.clone());
                    fields
                })
            })
            .collect();
    }
    let with_seeds = |fields: BTreeMap<String, String>| {
        seeds.0.iter().map(move |&seed| Setting {
            fields: fields.clone(),
            seed,
        })
    };
    Ok(settings.into_iter().flat_map(with_seeds).collect())
}

impl Setting {
    /// The name of the run's folder: `train.lr=0.1,update.bits=8,seed=3`. At most 120 bytes of what every file system takes; where that is
    /// not the whole setting, eight digits of its SHA-256 tell it from others.
    pub fn folder_name(&self) -> String {
        let mut whole: String = self.fields.iter().map(|(key, value)| format!("{key}={value},")).collect();
        let seed = format!("seed={}", self.seed);
        // Windows and macOS take upper and lower case for the same.
        let safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._=,-+".contains(c);
        if whole.chars().all(safe) && whole.len() + seed.len() <= MAX_NAME {
            return whole + &seed;
        }
        let digest = hex::encode(aimass_crypto::hash::sha256(whole.as_bytes()));
        whole = whole.chars().map(|c| if safe(c) { c } else { '_' }).collect();
        let end = format!("~{},{seed}", &digest[..8]);
        whole.truncate(MAX_NAME - end.len());
        whole.trim_end_matches(',').to_owned() + &end
    }
}

#[cfg(test)]
mod tests;
