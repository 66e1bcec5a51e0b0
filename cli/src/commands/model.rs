//! `aimass model`: model files.

mod check;
pub(crate) mod measure;
mod new;
mod run;

use aimass_edge_agent::exit::ExitKind;
use anyhow::Result;
use clap::{Args as ClapArgs, Subcommand};

use crate::output::Output;

#[derive(Debug, ClapArgs)]
pub(crate) struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Say whether a model trains here, why not, and what a step asks for.
    Check(check::CheckArgs),
    /// Compute a model's outputs for given inputs.
    Run(run::RunArgs),
    /// Measure latency and memory, as devices run it.
    Measure(measure::MeasureArgs),
    /// Make a model from nothing, with seeded first weights: the same options and seed give the same bytes.
    New(new::NewArgs),
}

pub(crate) fn run(args: &ModelArgs, out: &Output) -> Result<ExitKind> {
    match &args.command {
        ModelCommand::Check(check) => check::run(check, out),
        ModelCommand::Run(args) => run::run(args, out),
        ModelCommand::Measure(args) => measure::run(args, out),
        ModelCommand::New(new) => new::run(new, out),
    }
}
