//! Logs of the long-running programs, to standard error.

use std::io::IsTerminal;

use aimass_edge_agent::exit::ExitKind;
use anyhow::Result;
use tracing_subscriber::EnvFilter;

use crate::output::Failure;

/// Starts logging with `filter`; JSON lines when machines read them.
///
/// # Errors
/// A filter that does not parse.
pub(crate) fn start(filter: &str, json: bool) -> Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|e| {
        Failure::new(
            ExitKind::Usage,
            format!("--log {filter:?} does not parse ({e}): use error, warn, info, debug or trace"),
        )
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process keeps the first: only tests do that.
    let _ = if json {
        builder.json().try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    Ok(())
}
