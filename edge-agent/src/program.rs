//! From a command line to an exit code.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command, ConfigCommand, JoinArgs, RunArgs};
use crate::config::{self, AgentConfig, ConfigError};
use crate::data::RegistryError;
use crate::event::{AgentEvent, Reporter};
use crate::exit::ExitKind;
use crate::join::{self, JoinCommandError};
use crate::platform::now_s;
use crate::predict::{self, PredictError};
use crate::run::{self, RunError, RunOptions};
use crate::serve::{self, ServingError};
use crate::status::{Status, StatusError};
use crate::{doctor, memory};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("--log {filter:?} does not parse ({reason}): use error, warn, info, debug or trace")]
    Log { filter: String, reason: String },
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Join(#[from] JoinCommandError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error(transparent)]
    Predict(#[from] PredictError),
    #[error(transparent)]
    Serving(#[from] ServingError),
}

impl CommandError {
    fn exit_kind(&self) -> ExitKind {
        match self {
            Self::Config(_) | Self::Log { .. } => ExitKind::Usage,
            Self::Registry(RegistryError::File(_)) => ExitKind::BadData,
            Self::Registry(_) => ExitKind::Usage,
            Self::Join(e) => e.exit_kind(),
            Self::Run(e) => e.exit_kind(),
            Self::Status(_) => ExitKind::Failure,
            Self::Predict(e) => e.exit_kind(),
            Self::Serving(e) => e.exit_kind(),
        }
    }
}

/// Runs the agent program with `args` (the program's name first) and returns how it ended.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return ExitKind::of_command_line(&error).into(),
    };
    if matches!(cli.command, Command::Run(_) | Command::Serve(_)) {
        memory::restart_with(memory::AGENT);
    }
    match execute(&cli) {
        Ok(kind) => kind.into(),
        Err(error) => {
            let kind = error.exit_kind();
            if cli.json {
                print_line(&serde_json::json!({ "event": "error", "error": error.to_string(), "exit_code": kind.code() }).to_string());
            }
            let _ = writeln!(std::io::stderr(), "error: {error}");
            kind.into()
        }
    }
}

fn execute(cli: &Cli) -> Result<ExitKind, CommandError> {
    let resolved = config::resolve(
        cli,
        std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?))),
    )?;
    let config = &resolved.value;
    start_log(&config.log.level)?;
    let reporter = Reporter::new(cli.json);
    match &cli.command {
        Command::Join(args) => join_deployment(args, config, reporter),
        Command::Run(args) => Ok(run::run(run_options(args, cli, config, reporter)?)?),
        Command::Doctor(_) => {
            let report = doctor::examine(config);
            print_result(cli.json, &report);
            Ok(if report.healthy { ExitKind::Ok } else { ExitKind::Failure })
        }
        Command::Status => {
            print_result(cli.json, &Status::read(&config.state())?);
            Ok(ExitKind::Ok)
        }
        Command::Predict(args) => {
            let prediction = predict::predict(args)?;
            let text = match cli.json {
                true => prediction.json()?.to_string(),
                false => prediction.to_string(),
            };
            print_line(text.trim_end());
            Ok(ExitKind::Ok)
        }
        Command::Serve(args) => Ok(serve::run(&config.serve, reporter, args.exit_with_parent)?),
        Command::Config {
            command: ConfigCommand::Show,
        } => {
            print_line(if cli.json { resolved.json().to_string() } else { resolved.table() }.trim_end());
            Ok(ExitKind::Ok)
        }
    }
}

fn join_deployment(args: &JoinArgs, config: &AgentConfig, reporter: Reporter) -> Result<ExitKind, CommandError> {
    let variable = std::env::var(join::TOKEN_VARIABLE).ok();
    let token = join::token_text(args.token.as_deref(), args.token_file.as_deref(), variable)?;
    let enrolment = join::join(&config.state(), &token)?;
    let member = enrolment.membership();
    reporter.tell(&AgentEvent::Joined {
        tenant: member.tenant.to_string(),
        agent: member.id.to_hex(),
        server: member.server.clone(),
        certificate_s: enrolment.info().not_after_s - now_s(),
    });
    Ok(ExitKind::Ok)
}

fn run_options(args: &RunArgs, cli: &Cli, config: &AgentConfig, reporter: Reporter) -> Result<RunOptions, CommandError> {
    Ok(RunOptions {
        state: config.state(),
        bundle_refresh: config.bundle_refresh(),
        policy: config.policy(),
        data: config.registry()?,
        backend: config.backend(),
        device_class: config.device.class.clone(),
        tags: config.device.tags.clone(),
        models: config.models.clone(),
        reporter,
        show_progress: !cli.json && !cli.quiet && std::io::stderr().is_terminal(),
        once: args.once,
        exit_on_revoked: args.exit_on_revoked,
        exit_with_parent: args.exit_with_parent,
        serve: config.serve.clone(),
    })
}

fn start_log(filter: &str) -> Result<(), CommandError> {
    let parsed = EnvFilter::try_new(filter).map_err(|e| CommandError::Log {
        filter: filter.to_owned(),
        reason: e.to_string(),
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_target(false)
        .with_writer(std::io::stderr);
    // A second start in one process keeps the first: only tests do that.
    let _ = builder.with_ansi(std::io::stderr().is_terminal()).try_init();
    Ok(())
}

/// A result: for machines on one line, or for people.
fn print_result<T: serde::Serialize + std::fmt::Display>(json: bool, result: &T) {
    match serde_json::to_string(result) {
        Ok(line) if json => print_line(&line),
        _ => print_line(result.to_string().trim_end()),
    }
}

/// A reader that went away is no reason to fail.
fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests;
