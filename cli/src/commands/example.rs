//! `aimass example`: files to start from.

use aimass_edge_agent::exit::ExitKind;
use anyhow::Result;
use serde_json::json;

use crate::args::ExampleArgs;
use crate::example::{self, ExampleOptions};
use crate::output::Output;

pub(crate) fn run(args: &ExampleArgs, out: &Output) -> Result<ExitKind> {
    let options = ExampleOptions {
        agents: args.agents,
        rounds: args.rounds,
        seed: args.seed,
        plain: args.plain,
    };
    let written = example::write(&args.output, options)?;
    let shown = json!({ "job": written.job, "model": written.model, "test": written.test, "agents": written.agents, "agent_rows": written.agent_rows });
    out.result(&shown, || {
        let mut text = format!(
            "{} (job file)\n{} (initial model)\n{} (held-out rows for the aggregator)",
            written.job.display(),
            written.model.display(),
            written.test.display()
        );
        for (path, rows) in written.agents.iter().zip(&written.agent_rows) {
            text.push_str(&format!("\n{} ({rows} rows for one agent)", path.display()));
        }
        text
    });
    Ok(ExitKind::Ok)
}
