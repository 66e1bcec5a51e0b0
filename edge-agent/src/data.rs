//! Which data this device holds, by the name of its contract. Files are read when a job needs them, and not kept in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aimass_learning::DataError;
use aimass_learning::data::{Limits, describe};
use aimass_protocol::limits::{MAX_DATA_OFFERS, MAX_TAG_BYTES};
use tracing::warn;

/// The contract of data that is registered without a name.
pub const DEFAULT_CONTRACT: &str = "default";

/// Data that can't be registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Not a contract's name.
    #[error("{name:?} is not the name of a data contract: use 1 to {MAX_TAG_BYTES} of a-z, A-Z, 0-9, '-', '_' and '.'")]
    Name {
        /// What was given.
        name: String,
    },
    /// Two files for one contract.
    #[error("data contract {name:?} is given twice ({} and {}); join the files, or name one of them otherwise", first.display(), second.display())]
    Twice {
        /// The contract.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Too many.
    #[error("{count} data contracts are over the limit of {MAX_DATA_OFFERS}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A file that does not parse.
    #[error(transparent)]
    File(#[from] DataError),
}

/// Data files by contract.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DataRegistry {
    files: BTreeMap<String, PathBuf>,
}

impl DataRegistry {
    /// From `FILE` (the contract "default") and `contract=FILE`. A path that holds a `=` is given as `default=PATH`.
    ///
    /// # Errors
    /// [`RegistryError`]; files are not looked at yet.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, RegistryError> {
        let mut registry = Self::default();
        for entry in entries {
            match entry.split_once('=') {
                Some((name, path)) => registry.add(name, Path::new(path))?,
                None => registry.add(DEFAULT_CONTRACT, Path::new(entry))?,
            }
        }
        Ok(registry)
    }

    fn add(&mut self, name: &str, path: &Path) -> Result<(), RegistryError> {
        let good =
            (1..=MAX_TAG_BYTES).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if !good {
            return Err(RegistryError::Name {
                name: name.chars().take(80).collect(),
            });
        }
        if let Some(first) = self.files.insert(name.to_owned(), path.to_owned()) {
            return Err(RegistryError::Twice {
                name: name.to_owned(),
                first,
                second: path.to_owned(),
            });
        }
        if self.files.len() > MAX_DATA_OFFERS {
            return Err(RegistryError::TooMany { count: self.files.len() });
        }
        Ok(())
    }

    /// Names of the contracts in order.
    pub fn contracts(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    /// The file of a contract.
    pub fn file(&self, contract: &str) -> Option<&Path> {
        self.files.get(contract).map(PathBuf::as_path)
    }

    /// Contracts and their files in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.files.iter().map(|(name, path)| (name.as_str(), path.as_path()))
    }

    /// Reads every file to its end, so that a bad one is found before anything else happens. What holds gaps is no bad one: jobs can count it.
    ///
    /// # Errors
    /// [`RegistryError::File`] with file, line and column.
    pub fn check(&self) -> Result<(), RegistryError> {
        for (contract, path) in self.iter() {
            let found = describe(path, &Limits::default())?;
            if found.gaps > 0 {
                warn!(
                    "{contract}: {found} in {}; jobs that count take them as missing, jobs that train are declined",
                    path.display()
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_name_is_the_default_contract() {
        let registry = DataRegistry::parse(["rows.csv", "weather=dir/w.csv.gz", "other=a=b.csv"]).expect("parses");
        assert_eq!(registry.contracts(), ["default", "other", "weather"]);
        assert_eq!(registry.file("weather"), Some(Path::new("dir/w.csv.gz")));
        assert_eq!(registry.file("other"), Some(Path::new("a=b.csv")));
        assert_eq!(registry.file("unknown"), None);
    }

    #[test]
    fn a_contract_has_one_file_and_a_plain_name() {
        assert!(matches!(DataRegistry::parse(["a.csv", "b.csv"]), Err(RegistryError::Twice { .. })));
        assert!(matches!(DataRegistry::parse(["a/b=c.csv"]), Err(RegistryError::Name { .. })));
        assert!(matches!(DataRegistry::parse(["=c.csv"]), Err(RegistryError::Name { .. })));
        let many: Vec<String> = (0..=MAX_DATA_OFFERS).map(|i| format!("c{i}=f.csv")).collect();
        assert!(matches!(
            DataRegistry::parse(many.iter().map(String::as_str)),
            Err(RegistryError::TooMany { .. })
        ));
    }
}
