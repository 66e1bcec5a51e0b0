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
