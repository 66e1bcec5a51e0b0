//! The command line.

use std::path::PathBuf;

use aimass_inference::Engine;
use aimass_learning::BackendChoice;
use clap::{Args, Parser, Subcommand};

use crate::exit::ExitKind;

const EXAMPLES: &str = "\
Examples:
  aimass-agent join --token-file token.txt
  aimass-agent run --data digits=rows.csv
  aimass-agent --json run --data rows.csv --once
  aimass-agent predict --model digits.onnx --input rows.csv
  aimass-agent serve --model digits=digits.onnx
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
    /// Run a model over a file of inputs
    ///
    /// Inputs are arrays (.npz with an array named like each input, .npy), a table (.csv, all columns or those of --columns), or a request of the Open
    /// Inference Protocol (.json). Prints a table, or the protocol's response with --json.
    #[command(after_help = "\
Examples:
  aimass-agent predict --model digits.onnx --input rows.csv --columns p0,p1,p2 -o predicted.csv
  aimass-agent --json predict --model digits.onnx --input batch.npz
  aimass-agent predict --model ecg.onnx --input night.npy --window 512 --stride 256 --axis 2 --merge mean")]
    Predict(PredictArgs),
    /// Serve models over HTTP on this device: the Open Inference Protocol (v2), batches, windows, hot swap
    ///
    /// A file that changes is loaded, warmed and swapped in without a dropped request; one that is bad changes nothing. `run` serves as well, while it
    /// trains, what [serve] of agent.toml names. docs/serving.md has requests to try.
    #[command(after_help = "\
Examples:
  aimass-agent serve --model digits=digits.onnx
  aimass-agent serve --model digits=models/ --unix /run/user/1000/aimass.sock --listen none
  curl -s localhost:8000/v2/models/digits")]
    Serve(ServeArgs),
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
pub(crate) struct PredictArgs {
    /// The model
    #[arg(long, value_name = "FILE.onnx")]
    pub(crate) model: PathBuf,
    /// The inputs: .npz, .npy, .csv, .csv.gz or .json
    #[arg(long, value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Columns of a CSV that feed the model, in this order, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,
    /// Write the result to a file: .json (all outputs), .csv or .npy (the only output)
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Cut a long input into windows of so many steps, computed in parallel
    #[arg(long, value_name = "STEPS")]
    pub(crate) window: Option<usize>,
    /// Steps from one window's begin to the next one's [default: the window]
    #[arg(long, value_name = "STEPS", requires = "window")]
    pub(crate) stride: Option<usize>,
    /// The axis that is cut, counted from 0
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) axis: usize,
    /// What becomes of the windows' outputs: concat, mean or vote
    #[arg(long, value_name = "HOW", default_value = "concat")]
    pub(crate) merge: String,
    /// Outputs have a value a step: merge what windows say of the same step
    #[arg(long, requires = "window")]
    pub(crate) per_step: bool,
    /// The input that is cut, for a model with several
    #[arg(long, value_name = "NAME", requires = "window")]
    pub(crate) window_input: Option<String>,
    /// What computes: tract; plan, the trainer's plan for the CPU; auto, the plan where its outputs are tract's and it is faster
    #[arg(long, value_name = "ENGINE", default_value_t)]
    pub(crate) engine: Engine,
    /// Threads that compute; 0 is one a core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    /// Refuse a model that would take more memory than this, by estimate, in MiB; 0 is no limit
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    pub(crate) memory_limit_mib: u32,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A model: its name, and its file or a folder whose newest .onnx file is taken; may be given several times
    #[arg(long = "model", value_name = "NAME=FILE")]
    pub(crate) models: Vec<String>,
    /// Where to listen; none switches TCP off [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,
    /// A Unix socket to listen on as well; only this user can connect
    #[arg(long, value_name = "PATH")]
    pub(crate) unix: Option<PathBuf>,
    /// Permit an address that other machines can reach, without encryption and without a password
    #[arg(long)]
    pub(crate) insecure_listen: bool,
    /// What computes: tract; plan, the trainer's plan for the CPU; auto, the plan where its outputs are tract's and it is faster [default: auto]
    #[arg(long, value_name = "ENGINE")]
    pub(crate) engine: Option<Engine>,
    /// Threads that compute [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Load no model that would take all of them over this, by estimate, in MiB; 0 is no limit [default: 0]
    #[arg(long, value_name = "MIB")]
    pub(crate) memory_limit_mib: Option<u32>,
    /// Most rows of waiting requests that are computed at once [default: 16]
    #[arg(long, value_name = "ROWS")]
    pub(crate) max_batch: Option<usize>,
    /// How long a request waits for others to be computed with, in milliseconds [default: 0]
    #[arg(long, value_name = "MS")]
    pub(crate) batch_delay_ms: Option<u64>,
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
