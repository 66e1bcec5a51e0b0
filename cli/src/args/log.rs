//! `aimass log`: the command line of auditors.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::ServerDir;

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
