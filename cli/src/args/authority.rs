//! `aimass authority`, `token` and `owner`: the command line of the enrolment authority.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::{AuthorityDir, ProgramArgs};

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
    use super::*;

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        assert_eq!(duration("15m").map(|d| d.as_secs()), Ok(900));
        assert_eq!(duration("7d").map(|d| d.as_secs()), Ok(604_800));
        for bad in ["", "h", "10", "10 h", "-1h", "0s", "366d", "99999999999999999999d", "1w"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
