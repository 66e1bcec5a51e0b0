//! The `aimass` command: the aggregator, the enrolment authority, the agent, the demo, and everything an operator asks of them.
//!
//! A library as well, so that the end-to-end tests and the benches start processes and speak to services as the command does.

pub mod api;
mod args;
mod bounded_file;
pub mod cluster;
mod commands;
mod config;
mod demo;
pub mod example;
pub mod fleet;
mod local_data;
mod logging;
mod model_file;
mod model_log;
mod output;
pub mod owner;
mod plot;
mod run_folder;

pub use commands::now;

use std::ffi::OsString;
use std::process::ExitCode;

use aimass_edge_agent::exit::ExitKind;
use clap::Parser;

use crate::args::{Args, Command};

/// Runs the command with `args` (the program's name first) and returns how it ended.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // `aimass agent ...` is the program `aimass-agent ...`: the same entry function, the same arguments.
    if args.get(1).is_some_and(|a| a == "agent") {
        let agent_args = std::iter::once(OsString::from("aimass agent")).chain(args.into_iter().skip(2));
        return aimass_edge_agent::main(agent_args);
    }
    let parsed = match Args::try_parse_from(&args) {
        Ok(parsed) => parsed,
        Err(error) => return ExitKind::of_command_line(&error).into(),
    };
    if matches!(parsed.command, Command::Serve(_)) {
        aimass_edge_agent::memory::restart_with(aimass_edge_agent::memory::SERVER);
    }
    let out = output::Output::new(parsed.json);
    let result = match parsed.command {
        Command::Demo(demo) => demo::run(&demo, &out),
        Command::Serve(serve) => commands::serve::run(&serve, &out),
        Command::Authority(authority) => commands::authority::run(&authority, &out),
        Command::Token(token) => commands::token::run(&token, &out),
        Command::Owner(owner) => commands::owner::run(&owner, &out),
        Command::Job(job) => commands::job::run(&job, &out),
        Command::Release(args) => commands::release::run(&args, &out),
        Command::Registry(args) => commands::registry::run(&args, &out),
        Command::Model(model) => commands::model::run(&model, &out),
        Command::Train(train) => commands::train::run(&train, &out),
        Command::Compress(compress) => commands::compress::run(&compress, &out),
        Command::Sim(sim) => commands::sim::run(&sim, &out),
        Command::Compare(compare) => commands::compare::run(&compare, &out),
        Command::Agents(agents) => commands::agents::run(&agents, &out),
        Command::Secagg(secagg) => commands::secagg::run(&secagg, &out),
        Command::Log(log) => commands::log::run(&log, &out),
        Command::Example(example) => commands::example::run(&example, &out),
        Command::Doctor(doctor) => commands::doctor::run(&doctor, &out),
        Command::Config(config) => commands::config::run(&config, &out),
        Command::Agent { .. } => Ok(ExitKind::Usage),
    };
    match result {
        Ok(kind) => kind.into(),
        Err(error) => out.fail(&error).into(),
    }
}
