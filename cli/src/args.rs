//! The command line of `aimass`.

mod authority;
mod log;
mod release;

use std::ffi::OsString;
use std::path::PathBuf;

use aimass_edge_agent::exit::ExitKind;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

pub(crate) use self::authority::{
    AuthorityArgs, AuthorityCommand, AuthorityRunArgs, OwnerArgs, OwnerCommand, TokenArgs, TokenCommand, TokenRole,
};
pub(crate) use self::log::{LogArgs, LogCommand, LogKeyArgs, LogProofCommand, LogVerifyArgs};
pub(crate) use self::release::{RegistryArgs, RegistryCommand, ReleaseArgs, ReleaseCommand};
use crate::commands::compare::CompareArgs;
use crate::commands::compress::CompressArgs;
use crate::commands::model::ModelArgs;
use crate::commands::sim::SimArgs;
use crate::commands::train::TrainArgs;

/// Federated and edge learning: an aggregator, an enrolment authority, agents, and the commands to run them.
#[derive(Debug, Parser)]
#[command(name = "aimass", version, propagate_version = true, after_help = ExitKind::HELP)]
pub(crate) struct Args {
    /// Print JSON for machines instead of text for people.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one federated job from nothing: an authority, an aggregator and agents as processes on this machine.
    Demo(DemoArgs),
    /// Run the aggregator: agents connect to it, jobs are submitted to it.
    Serve(ServeArgs),
    /// Run the enrolment authority, or manage its roots.
    Authority(Box<AuthorityArgs>),
    /// Invite agents and servers: one-time join tokens.
    Token(TokenArgs),
    /// Keys that sign jobs.
    Owner(OwnerArgs),
    /// Submit, watch and stop jobs; pull trained models.
    Job(JobArgs),
    /// Make models to start from, check models, run them.
    Model(ModelArgs),
    /// Train a job's model in one place, on local data: what federated runs are compared with.
    Train(TrainArgs),
    /// Make a trained model smaller: distil, prune, quantize; measured before and after.
    Compress(Box<CompressArgs>),
    /// Simulate a job over a fleet of clients, in virtual time.
    Sim(Box<SimArgs>),
    /// Show simulated runs side by side.
    Compare(CompareArgs),
    /// Release variants of a model: measured on canaries, promoted in stages, rolled back when a rule does not hold.
    Release(ReleaseArgs),
    /// The registry of models: versions, variants, aliases.
    Registry(RegistryArgs),
    /// List, accept and revoke agents.
    Agents(AgentsArgs),
    /// Export, verify and prove the log of models and rounds.
    Log(LogArgs),
    /// The device program: the same as `aimass-agent`.
    #[command(disable_help_flag = true)]
    Agent {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Secure aggregation: the parameters that a cohort needs.
    Secagg(SecaggArgs),
    /// Write an example job with data, ready to be run by hand.
    Example(ExampleArgs),
    /// Check this machine and the services that run on it; say what to do about what is wrong.
    Doctor(DoctorArgs),
    /// Show the settings of a service and where each value comes from.
    Config(ConfigArgs),
}

/// The folder of a running aggregator.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ServerDir {
    /// Folder of the aggregator.
    #[arg(long, value_name = "DIR", env = "AIMASS_SERVER_DATA_DIR", default_value = "aimass-server")]
    pub(crate) server_dir: PathBuf,
}

/// The folder of a running authority.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct AuthorityDir {
    /// Folder of the enrolment authority.
    #[arg(long, value_name = "DIR", env = "AIMASS_AUTHORITY_DATA_DIR", default_value = "aimass-authority")]
    pub(crate) authority_dir: PathBuf,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Updates are masked: the aggregator sees their sum, and no single one (docs/secure-aggregation.md).\n\n\
    Example:\n  aimass demo --agents 5 --rounds 30 --seed 1 --out my-run"
)]
pub(crate) struct DemoArgs {
    /// Agents to start, each a process with its own share of the data.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) agents: u32,
    /// Rounds to run.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rounds: u32,
    /// Seed of the split, the initial weights and the order of examples: the same seed gives the same model.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Without masks: updates are protected by TLS alone, the aggregator can read each of them.
    #[arg(long)]
    pub(crate) plain: bool,
    /// Folder of the run; must be new or empty. Default: `runs/demo-<time>`.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Settings come from flags, then AIMASS_SERVER_* variables, then the file of --config, then defaults; see\n\
    `aimass config show --of serve`. On its first start the aggregator needs a server token, from\n\
    `aimass token create --role server`, by --join-token-file or the variable AIMASS_JOIN_TOKEN."
)]
pub(crate) struct ServeArgs {
    /// Folder of the aggregator's state.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address for agents (QUIC over UDP), for instance 0.0.0.0:4433.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Loopback address of the API that this command speaks to.
    #[arg(long, value_name = "ADDR")]
    pub(crate) api_listen: Option<String>,
    /// File with the join token, needed on the first start; `-` reads it from standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) join_token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) program: ProgramArgs,
}

/// Arguments of every long-running program.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ProgramArgs {
    /// Settings file (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or a filter such as `info,aimass_server=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "AIMASS_LOG")]
    pub(crate) log: String,
    /// End when standard input closes, so that a parent leaves no process behind.
    #[arg(long, hide = true)]
    pub(crate) exit_with_parent: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct JobArgs {
    #[command(subcommand)]
    pub(crate) command: JobCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Check a job file, with its model, its evaluation data, its teacher, its student and its public data, without submitting anything.
    Check {
        /// The job file.
        file: PathBuf,
        /// Write the job file as it would be signed, with what follows from the model of a calibration job filled in.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Check, sign and submit a job. The teacher, the student and the public data that it may name are uploaded too; where the job file does not say their
    /// SHA-256 and size, what is signed does. What follows from the model of a calibration job is filled in.
    Submit {
        /// The job file.
        file: PathBuf,
        /// Private key of the job's owner, from `aimass owner create`.
        #[arg(long, value_name = "FILE", default_value = "owner.key", env = "AIMASS_OWNER_KEY")]
        owner_key: PathBuf,
        /// Tenant whose agents may run it.
        #[arg(long, default_value = "default")]
        tenant: String,
        #[command(flatten)]
        dir: ServerDir,
    },
    /// List all jobs.
    List(ServerDir),
    /// Show one job with its rounds; an analytics or calibration job with its latest report.
    Show {
        /// Id of the job, or its first digits (at least four).
        job: String,
        #[command(flatten)]
        dir: ServerDir,
    },
    /// Follow a job until it ends.
    Watch {
        /// Id of the job, or its first digits (at least four).
        job: String,
        #[command(flatten)]
        dir: ServerDir,
    },
    /// Stop a job; finished rounds and their models stay.
    Stop {
        /// Id of the job, or its first digits (at least four).
        job: String,
        #[command(flatten)]
        dir: ServerDir,
    },
    /// Write a job's model to a file, or an analytics job's report.
    Pull {
        /// Id of the job, or its first digits (at least four).
        job: String,
        /// Round whose model or report is wanted; default: the latest.
        #[arg(long)]
        round: Option<u32>,
        /// The smaller model that a job with [compress] ends with, instead of a round's.
        #[arg(long, conflicts_with = "round")]
        compressed: bool,
        /// The file to write; default: model.onnx, report.json, or compressed.onnx.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        dir: ServerDir,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AgentsArgs {
    #[command(subcommand)]
    pub(crate) command: AgentsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentsCommand {
    /// List the agents that ever connected.
    List(ServerDir),
    /// Accept an agent that waits for it, or undo its revocation.
    Accept {
        /// Id of the agent, or its first digits (at least four).
        agent: String,
        #[command(flatten)]
        dir: ServerDir,
    },
    /// Cut an agent off, within seconds and until it is accepted again.
    Revoke {
        /// Id of the agent, or its first digits (at least four).
        agent: String,
        #[command(flatten)]
        dir: ServerDir,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct SecaggArgs {
    #[command(subcommand)]
    pub(crate) command: SecaggCommand,
}

/// How bad the aggregator may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AdversaryModel {
    /// It keeps to the protocol, and looks at all that it and the cheating agents see.
    SemiHonest,
    /// It may also lie about who dropped out, to each agent something else.
    SemiMalicious,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecaggCommand {
    /// How many neighbours an agent of a cohort has (degree), and how many shares undo a mask (threshold).
    #[command(
        after_help = "The numbers are those of Bell, Bonawitz, Gascon, Lepoint and Raykova 2020, \"Secure Single-Server Aggregation\n\
        with (Poly)Logarithmic Overhead\": privacy fails with a chance of at most 2^-40, a round with one of at most 2^-20.\n\
        Cohorts of fewer than 32 agents use the complete graph, with a threshold of floor(2n/3) + 1.\n\n\
        Example:\n  aimass secagg params --clients 256 --adversarial 0.05 --dropout 0.3 --model semi-malicious"
    )]
    Params {
        /// Agents of the cohort, 3 to 1000000.
        #[arg(long, value_name = "N")]
        clients: u32,
        /// Share of the agents that may cheat together with the aggregator: 0.05 is 5 %.
        #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
        adversarial: f64,
        /// Share of the agents that may drop out within the round: 0.3 is 30 %.
        #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
        dropout: f64,
        /// How bad the aggregator may be.
        #[arg(long, value_enum, default_value_t = AdversaryModel::SemiMalicious)]
        model: AdversaryModel,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ExampleArgs {
    /// Folder to write to.
    #[arg(long, short, value_name = "DIR", default_value = "example")]
    pub(crate) output: PathBuf,
    /// Agents to split the data over.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) agents: u32,
    /// Rounds of the job.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rounds: u32,
    /// Seed of the split, the initial weights and the job.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Without masks: updates are protected by TLS alone, the aggregator can read each of them.
    #[arg(long)]
    pub(crate) plain: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) server: ServerDir,
    #[command(flatten)]
    pub(crate) authority: AuthorityDir,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    /// `aimass serve`
    Serve,
    /// `aimass authority`
    Authority,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Each setting, its value and its origin. (`aimass-agent config show` does the same for an agent.)
    Show {
        /// Which program's settings.
        #[arg(long, value_enum, default_value_t = Program::Serve)]
        of: Program,
        /// Settings file (TOML) to read.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_argument_has_help() {
        fn walk(command: &clap::Command) {
            assert!(
                command.get_about().is_some() || command.get_name() == "help",
                "{} has no help",
                command.get_name()
            );
            for arg in command
                .get_arguments()
                .filter(|a| command.get_name() != "agent" && !a.is_hide_set())
            {
                assert!(arg.get_help().is_some(), "{} of {} has no help", arg.get_id(), command.get_name());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Args::command());
    }
}
