//! What a run follows from, and what its folder keeps of that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

const FORMAT: &str = "aimass-run/1";

/// Everything that a run follows from, besides the files that its job names.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The job file.
    pub job: &'a [u8],
    /// The population file.
    pub population: Option<&'a [u8]>,
    /// What was asked for besides: clients, cohort, rounds, seed, digests of the model and the data.
    pub options: &'a BTreeMap<String, String>,
}

/// `input.json`
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct InputRecord {
    format: String,
    job_sha256: String,
    population_sha256: Option<String>,
    options: BTreeMap<String, String>,
}

impl Input<'_> {
    pub(super) fn record(&self) -> InputRecord {
        let digest = |bytes: &[u8]| hex::encode(aimass_crypto::hash::sha256(bytes));
        InputRecord {
            format: FORMAT.to_owned(),
            job_sha256: digest(self.job),
            population_sha256: self.population.map(digest),
            options: self.options.clone(),
        }
    }
}

impl InputRecord {
    /// What is another one in `other`, for people.
    pub(super) fn difference(&self, other: &Self) -> String {
        let options = self.options.keys().chain(other.options.keys());
        let first = options.into_iter().find(|key| self.options.get(*key) != other.options.get(*key));
        if self.format != other.format {
            "written by another version".to_owned()
        } else if self.job_sha256 != other.job_sha256 {
            "of another job file".to_owned()
        } else if self.population_sha256 != other.population_sha256 {
            "of another population".to_owned()
        } else {
            match first {
                Some(key) => {
                    let shown = |record: &Self| record.options.get(key).map_or("nothing", String::as_str).to_owned();
                    format!("of other input ({key}: {}, not {})", shown(self), shown(other))
                }
                None => "the same".to_owned(),
            }
        }
    }
}
