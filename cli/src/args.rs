//! The command line of `aimass`.

use std::ffi::OsString;
use std::path::PathBuf;

use aimass_edge_agent::exit::ExitKind;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::commands::model::ModelArgs;
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
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Settings come from flags, then AIMASS_AUTHORITY_* variables, then the file of --config, then defaults; see\n\
    `aimass config show --of authority`.\n\
    Without a subcommand the authority runs; the first start makes its root key.\n\
    Keep its folder apart from the aggregator's: whoever holds it can admit devices."
)]
pub(crate) struct AuthorityArgs {
    #[command(subcommand)]
    pub(crate) command: Option<AuthorityCommand>,
    #[command(flatten)]
    pub(crate) run: AuthorityRunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuthorityCommand {
    /// Run the authority (the same as no subcommand).
    Run(AuthorityRunArgs),
    /// Show its roots, tokens and counters.
    Status(AuthorityDir),
    /// Make a new root that issues from now on; the old one stays trusted until it is retired.
    RotateRoot(AuthorityDir),
    /// Stop trusting an old root; agents that did not follow must join again.
    RetireRoot {
        /// SPKI hash of the root, as `status` shows it.
        spki: String,
        #[command(flatten)]
        dir: AuthorityDir,
    },
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct AuthorityRunArgs {
    /// Folder of the authority's keys and state.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address for enrolment (QUIC over UDP).
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Address that join tokens carry; default: the one it listens on.
    #[arg(long, value_name = "ADDR")]
    pub(crate) public_address: Option<String>,
    /// Loopback address of the API that this command speaks to.
    #[arg(long, value_name = "ADDR")]
    pub(crate) api_listen: Option<String>,
    /// How long an agent's certificate holds, in seconds; default: 30 days. It renews by itself.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) agent_certificate_s: Option<String>,
    /// How long a server's certificate holds, in seconds; default: 30 days. It renews by itself.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) server_certificate_s: Option<String>,
    #[command(flatten)]
    pub(crate) program: ProgramArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenRole {
    /// A device.
    Agent,
    /// An aggregator.
    Server,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a one-time token. It is a secret: whoever holds it can enrol until it is used or expires.
    #[command(after_help = "Example:\n  aimass token create --server aggregator.example:4433 --expires 24h")]
    Create {
        /// What its holder becomes.
        #[arg(long, value_enum, default_value_t = TokenRole::Agent)]
        role: TokenRole,
        /// Address of the aggregator that the agent will work for.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4433")]
        server: String,
        /// Tenant that the holder belongs to.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// How long it can be used, for instance 15m, 24h or 7d.
        #[arg(long, default_value = "24h", value_parser = duration)]
        expires: std::time::Duration,
        /// Write the token to this file (mode 0600) instead of printing it.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        dir: AuthorityDir,
    },
    /// List tokens (never their secrets).
    List(AuthorityDir),
    /// Make an unused token unusable.
    Revoke {
        /// Its id, as `list` shows it.
        id: String,
        #[command(flatten)]
        dir: AuthorityDir,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct OwnerArgs {
    #[command(subcommand)]
    pub(crate) command: OwnerCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OwnerCommand {
    /// Make a key that signs jobs, and have the authority tell every agent to trust it.
    Create {
        /// File of the private key (made with mode 0600).
        #[arg(long, value_name = "FILE", default_value = "owner.key")]
        key: PathBuf,
        /// Name for people.
        #[arg(long, default_value = "owner")]
        name: String,
        /// Tenant whose agents will trust it.
        #[arg(long, default_value = "default")]
        tenant: String,
        #[command(flatten)]
        dir: AuthorityDir,
    },
    /// List the trusted owners.
    List(AuthorityDir),
    /// Stop trusting an owner's key.
    Remove {
        /// The public key in hexadecimal, as `list` shows it.
        public_key: String,
        #[command(flatten)]
        dir: AuthorityDir,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct JobArgs {
    #[command(subcommand)]
    pub(crate) command: JobCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Check a job file, with its model and its evaluation data, without submitting anything.
    Check {
        /// The job file.
        file: PathBuf,
    },
    /// Check, sign and submit a job.
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
    /// Show one job with its rounds; an analytics job with its latest report.
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
        /// The file to write; default: model.onnx, or report.json.
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
#[command(
    after_help = "A server signs a log of every model that agents train from: append-only, so that nobody can be given another model unseen.\n\
    `docs/log.md` describes the log and how it is verified by hand.\n\n\
    An auditor, with the server's certificate from the operator:\n  \
    aimass log verify log.jsonl --certificate server.der --old last.checkpoint --save last.checkpoint"
)]
pub(crate) struct LogArgs {
    #[command(subcommand)]
    pub(crate) command: LogCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Write a running server's log, entries and signed checkpoint, to one file.
    Export {
        /// The file to write: a JSON object a line.
        #[arg(long, short, value_name = "FILE", default_value = "log.jsonl")]
        output: PathBuf,
        #[command(flatten)]
        dir: ServerDir,
    },
    /// Verify an exported log, or a running server's: every entry, the signature, and that it continues what it was.
    Verify(LogVerifyArgs),
    /// Prove to somebody that one model is in the log.
    Proof {
        #[command(subcommand)]
        command: LogProofCommand,
    },
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Works offline: nothing but the file and the key is looked at. Without a file the running server of --server-dir is verified,\n\
    with the certificate in its folder unless another one is given.\n\n\
    Refused, with exit code 5: an entry that was changed, added or left out; a signature by another key; a log that was rewritten,\n\
    forked or cut short since --old; a round that starts from a model which is not in the log."
)]
pub(crate) struct LogVerifyArgs {
    /// A log, from `aimass log export`.
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) key: LogKeyArgs,
    /// An earlier checkpoint that the log has to continue: a file of --save, an earlier export, or a proof. May be given several times.
    #[arg(long, value_name = "FILE")]
    pub(crate) old: Vec<PathBuf>,
    /// Write the verified checkpoint to this file, for --old the next time.
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Show every entry.
    #[arg(long)]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) dir: ServerDir,
}

/// Whose log it should be.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct LogKeyArgs {
    /// The server's public key: 64 hexadecimal digits, or the verifier key that `aimass log export` shows.
    #[arg(long, value_name = "KEY", conflicts_with = "certificate")]
    pub(crate) key: Option<String>,
    /// The server's certificate (DER): `identity/certificate.der` in its folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// Tenant whose log it is; default: the one that the certificate or verifier key names, or `default`.
    #[arg(long)]
    pub(crate) tenant: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogProofCommand {
    /// Write the proof that a model is in a running server's log.
    #[command(after_help = "Example:\n  aimass job pull 1f2e --output model.onnx\n  aimass log proof create --model model.onnx")]
    Create {
        /// The model: its SHA-256, or its file.
        #[arg(long, value_name = "SHA256|FILE", required_unless_present = "index")]
        model: Option<String>,
        /// An entry by its index instead, counted from 0.
        #[arg(long, conflicts_with = "model")]
        index: Option<u64>,
        /// The file to write, in the format c2sp.org/tlog-proof@v1.
        #[arg(long, short, value_name = "FILE", default_value = "model.proof")]
        output: PathBuf,
        #[command(flatten)]
        dir: ServerDir,
    },
    /// Check a proof, offline.
    #[command(after_help = "Example:\n  aimass log proof check model.proof --model model.onnx --certificate server.der")]
    Check {
        /// The proof.
        file: PathBuf,
        /// The model that it should be of: its SHA-256, or its file.
        #[arg(long, value_name = "SHA256|FILE")]
        model: Option<String>,
        #[command(flatten)]
        key: LogKeyArgs,
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

fn duration(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("{text:?} is not a duration: write a number and s, m, h or d, for instance 24h");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let count: u64 = text[..split].parse().map_err(|_| wrong())?;
    let unit_s = match &text[split..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    match count.checked_mul(unit_s) {
        Some(seconds) if (1..=365 * 86_400).contains(&seconds) => Ok(std::time::Duration::from_secs(seconds)),
        _ => Err(format!("{text:?} is out of range: use 1s to 365d")),
    }
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

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        assert_eq!(duration("15m").map(|d| d.as_secs()), Ok(900));
        assert_eq!(duration("7d").map(|d| d.as_secs()), Ok(604_800));
        for bad in ["", "h", "10", "10 h", "-1h", "0s", "366d", "99999999999999999999d", "1w"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
