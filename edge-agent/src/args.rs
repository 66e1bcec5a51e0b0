//! The command line.

use std::path::PathBuf;

use aimass_learning::BackendChoice;
use clap::{Args, Parser, Subcommand};

use crate::exit::ExitKind;

const EXAMPLES: &str = "\
Examples:
  aimass-agent join --token-file token.txt
  aimass-agent run --data digits=rows.csv
  aimass-agent --json run --data rows.csv --once
  aimass-agent doctor";

const SETTINGS: &str = "\
Settings: a flag comes before a variable, a variable before the file, the file before the default.
  The file is --config FILE, else agent.toml in the agent's folder if there is one; agent.example.toml documents it.
  Variables are named after the file's keys, for instance AIMASS_AGENT_DATA_DIR or AIMASS_AGENT_POLICY_ALLOW_PLAIN.
  `aimass-agent config show` prints each value and where it comes from.";

/// The agent of AI Mass: joins a deployment, trains on this device's own data, sends updates and never data.
#[derive(Debug, Parser)]
#[command(name = "aimass-agent", version, propagate_version = true, after_help = help(), max_term_width = 120)]
pub(crate) struct Cli {
    /// The agent's folder: identity, state, models [default: ./aimass-agent]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// Settings file [default: agent.toml in the agent's folder, if there]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print results and events for machines: one JSON object a line on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to log on stderr: error, warn, info, debug, trace, or a filter such as info,aimass_net=debug [default: info]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    /// Log warnings and errors only, draw no progress
    #[arg(long, short, global = true, conflicts_with = "log")]
    pub(crate) quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

fn help() -> String {
    format!("{EXAMPLES}\n\n{SETTINGS}\n\n{}", ExitKind::HELP)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Join a deployment with a one-time token from `aimass token create`
    ///
    /// The device makes its own key, which never leaves it. The token pins the authority's root: nobody else can answer in its place.
    /// If the reply is lost, the same token works again for the same folder.
    #[command(after_help = "\
Examples:
  aimass-agent join aimass1.o2lhdXRo...
  aimass-agent join --token-file token.txt
  aimass token create --role agent | aimass-agent join --token-file -
  AIMASS_JOIN_TOKEN=aimass1.o2lhdXRo... aimass-agent join      # shows in no list of processes")]
    Join(JoinArgs),
    /// Ask for work, train on this device's data, and send updates, until stopped
    ///
    /// Nothing is lost when the process or the connection dies: started again it goes on where it was. Ctrl-c and SIGTERM stop it
    /// within 2 seconds.
    #[command(after_help = "\
Examples:
  aimass-agent run --data rows.csv                    # the data contract \"default\"
  aimass-agent run --data digits=rows.csv --data weather=w.csv.gz
  aimass-agent run --data rows.csv --allow-plain      # permits jobs that say so to have updates which the server can read")]
    Run(RunArgs),
    /// Check this device and say how to mend what is wrong
    ///
    /// Looks at the folder, the key, the certificate, the clock, the data files, and whether the server and the authority answer.
    /// Exits with 0 when an agent can run here, with 1 when something must be mended first.
    Doctor(DoctorArgs),
    /// Print who this device is, whether an agent runs, and what it holds
    Status,
    /// Look at the settings
    Config {
        /// What to do with them.
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print each value and where it comes from
    Show,
}

#[derive(Args)]
pub(crate) struct JoinArgs {
    /// The token; everybody on this machine can see arguments, so prefer the other ways
    #[arg(value_name = "TOKEN", conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// Read the token from a file; - is standard input [else the variable AIMASS_JOIN_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

impl std::fmt::Debug for JoinArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinArgs(token redacted)")
    }
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Data files and owner's rules.
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Free-form class of this device, for instance gateway
    #[arg(long, value_name = "CLASS")]
    pub(crate) device_class: Option<String>,
    /// A tag that jobs may ask for; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// What computes: cpu; wgpu, a GPU or no training; auto, whichever is there and faster [default: cpu]
    #[arg(long, value_name = "BACKEND")]
    pub(crate) backend: Option<BackendChoice>,
    /// Threads that train; 0 is one a core. The number does not change the result [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Decline jobs whose steps would take more memory than this, in MiB; 0 is no limit [default: 0]
    #[arg(long, value_name = "MIB")]
    pub(crate) memory_limit_mib: Option<u32>,
    /// Stop after one contribution was included in a model
    #[arg(long)]
    pub(crate) once: bool,
    /// Stop with exit code 4 when revoked, instead of asking again each minute
    #[arg(long)]
    pub(crate) exit_on_revoked: bool,
    /// Stop when standard input ends: whoever started the agent keeps a pipe open
    #[arg(long)]
    pub(crate) exit_with_parent: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Data files and owner's rules, as `run` takes them.
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    /// A data file for a data contract: CSV with a header (.csv or .csv.gz), NPZ, or IDX images beside their labels; may be given several times [contract: default]
    #[arg(long = "data", value_name = "[CONTRACT=]FILE")]
    pub(crate) data: Vec<String>,
    /// Permit jobs with plain aggregation as well: their updates are protected by TLS alone, the server can read each one [default: masked ones alone]
    #[arg(long)]
    pub(crate) allow_plain: bool,
    /// Fewest contributions that an update of this device may be summed with, its own included; masked ones are at least 3 [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) min_survivors: Option<u32>,
    /// A purpose that the data may be used for; may be given several times [default: any]
    #[arg(long = "purpose", value_name = "TEXT")]
    pub(crate) purposes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_behind_the_command() {
        for line in ["x --data-dir d --json run --data a.csv", "x run --data a.csv --json --data-dir d"] {
            let cli = Cli::try_parse_from(line.split(' ')).expect("parses");
            assert!(cli.json && cli.data_dir.as_deref() == Some("d"));
            assert!(matches!(cli.command, Command::Run(run) if run.device.data == ["a.csv"]));
        }
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for line in [
            "x",
            "x dance",
            "x run --data",
            "x join token --token-file f",
            "x -q --log info run",
            "x run --min-survivors many",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            assert!(error.use_stderr(), "{line}");
        }
    }

    #[test]
    fn help_lists_examples_settings_and_exit_codes() {
        let error = Cli::try_parse_from(["x", "--help"]).expect_err("help is printed");
        assert_eq!(error.kind(), ErrorKind::DisplayHelp);
        let text = error.to_string();
        for part in ["Examples:", "AIMASS_AGENT_", "Exit codes:", "130"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn a_token_shows_in_no_debug_output() {
        let cli = Cli::try_parse_from(["x", "join", "aimass1.secret"]).expect("parses");
        assert!(!format!("{cli:?}").contains("secret"));
    }
}
