//! `aimass release` and `aimass registry`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::ServerDir;

#[derive(Debug, ClapArgs)]
pub(crate) struct ReleaseArgs {
    #[command(subcommand)]
    pub(crate) command: ReleaseCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReleaseCommand {
    /// Begin a release file from what a job made: its last model and its smaller one, where it has one, with how they were made.
    New {
        /// Id of the job that trained, or its first digits (at least four).
        job: String,
        /// Name of the model in the registry.
        #[arg(long, value_name = "NAME")]
        model: String,
        /// The release file to write; the models are written beside it.
        #[arg(long, short, value_name = "FILE", default_value = "release.toml")]
        output: PathBuf,
        #[command(flatten)]
        dir: ServerDir,
    },
    /// Check a release file with its variants: digests, sizes, and that trainer and tract compute the same.
    Check {
        /// The release file.
        file: PathBuf,
        /// Write it with digests, sizes and outputs filled in, as it would be signed.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Check, fill in, sign and submit a release: it goes to its first canaries.
    Submit {
        /// The release file.
        file: PathBuf,
        /// Private key of the owner, from `aimass owner create`.
        #[arg(long, value_name = "FILE", default_value = "owner.key", env = "AIMASS_OWNER_KEY")]
        owner_key: PathBuf,
        /// Tenant whose agents it is for.
        #[arg(long, default_value = "default")]
        tenant: String,
        #[command(flatten)]
        dir: ServerDir,
    },
    /// Show how far a release is, and what its canaries measured.
    Status {
        /// Id of the release's job, or its first digits (at least four).
        release: String,
        #[command(flatten)]
        dir: ServerDir,
    },
    /// Take a release back: the champion before it is served again.
    Rollback {
        /// Id of the release's job, or its first digits (at least four).
        release: String,
        #[command(flatten)]
        dir: ServerDir,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RegistryArgs {
    #[command(subcommand)]
    pub(crate) command: RegistryCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// List the models with their aliases.
    List(ServerDir),
    /// Show a model with its versions, variants and measured figures.
    Show {
        /// Name of the model.
        model: String,
        #[command(flatten)]
        dir: ServerDir,
    },
    /// Set an alias (champion is what agents serve) to a version, or remove it.
    Alias {
        /// Name of the model.
        model: String,
        /// The alias.
        alias: String,
        /// The version; without it the alias is removed.
        version: Option<u32>,
        #[command(flatten)]
        dir: ServerDir,
    },
}
