//! Settings of the services: flags over environment over file over defaults.

use std::path::Path;

use aimass_edge_agent::exit::ExitKind;
use aimass_settings::{Layers, Resolved};
use anyhow::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::output::Failure;

/// Prefix of the aggregator's environment variables.
pub(crate) const SERVER_PREFIX: &str = "AIMASS_SERVER_";
/// Prefix of the authority's environment variables.
pub(crate) const AUTHORITY_PREFIX: &str = "AIMASS_AUTHORITY_";

/// A flag that was given: its key among the settings, its name, its value.
pub(crate) type Flag<'a> = (&'a str, &'a str, Option<String>);

/// Resolves the settings of one program.
///
/// # Errors
/// A file, variable or flag that can't be used, by name and with the fix.
pub(crate) fn resolve<T>(prefix: &str, file: Option<&Path>, flags: &[Flag<'_>]) -> Result<Resolved<T>>
where
    T: Default + Serialize + DeserializeOwned,
{
    let usage = |e: &dyn std::fmt::Display| Failure::new(ExitKind::Usage, e.to_string());
    let mut layers = Layers::new(&T::default()).map_err(|e| usage(&e))?;
    if let Some(path) = file {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| usage(&format!("can't read the settings file {name}: {e}")))?;
        layers = layers.file(&name, &text).map_err(|e| usage(&e))?;
    }
    // A variable that is not text can't be one of ours.
    let variables = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    layers = layers.environment(prefix, variables).map_err(|e| usage(&e))?;
    for (key, name, value) in flags {
        if let Some(value) = value {
            layers = layers.flag(key, name, value).map_err(|e| usage(&e))?;
        }
    }
    Ok(layers.resolve().map_err(|e| usage(&e))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings from a text alone.
    fn read<T: Default + Serialize + DeserializeOwned>(text: &str) -> Resolved<T> {
        Layers::new(&T::default())
            .and_then(|layers| layers.file("example", text))
            .and_then(Layers::resolve)
            .expect("the example parses")
    }

    /// The example documents every setting, and what it gives are the defaults. `unset`: those without a default, shown in a comment.
    fn is_complete_and_true<T>(text: &str, unset: &[&str])
    where
        T: Default + Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let resolved = read::<T>(text);
        assert_eq!(resolved.value, T::default());
        let shown: String = text
            .lines()
            .map(|line| {
                match line
                    .strip_prefix("# ")
                    .filter(|rest| unset.iter().any(|key| rest.starts_with(&format!("{key} ="))))
                {
                    Some(setting) => format!("{setting}\n"),
                    None => format!("{line}\n"),
                }
            })
            .collect();
        for setting in read::<T>(&shown).origins {
            assert!(
                setting.origin.to_string().starts_with("example"),
                "{} is not in the example",
                setting.key
            );
            let is_default = resolved
                .origins
                .iter()
                .any(|s| s.key == setting.key && s.origin.to_string() == "default");
            assert_eq!(is_default, unset.contains(&setting.key.as_str()), "{}", setting.key);
        }
    }

    #[test]
    fn the_example_files_are_complete_and_true() {
        is_complete_and_true::<aimass_server::aggregator::Config>(include_str!("../../server/serve.example.toml"), &[]);
        is_complete_and_true::<aimass_server::authority::Config>(include_str!("../../server/authority.example.toml"), &["public_address"]);
    }

    #[test]
    fn an_impossible_lifetime_is_refused_with_its_line() {
        let error = Layers::new(&aimass_server::authority::Config::default())
            .and_then(|layers| layers.file("authority.toml", "\nagent_certificate_s = 5\n"))
            .and_then(Layers::resolve::<aimass_server::authority::Config>)
            .map(|_| ())
            .expect_err("5 s is too short")
            .to_string();
        for part in ["authority.toml", "line 2", "agent_certificate_s", "5 s", "10"] {
            assert!(error.contains(part), "{part:?} is missing in {error}");
        }
    }
}
