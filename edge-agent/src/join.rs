//! `aimass-agent join`: from a token to an identity.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aimass_net::enrol::{self, JoinError};
use aimass_net::identity::{Enrolment, IdentityError, IdentityFolder};
use aimass_net::{ConnectError, NetError};
use aimass_protocol::limits::MAX_TOKEN_CHARS;
use aimass_protocol::token::{JoinToken, ParseTokenError, Role};
use zeroize::Zeroizing;

use crate::exit::ExitKind;
use crate::platform::{NoRandomness, now_s, system_rng, wall};
use crate::state::{StateError, StateFolder};

/// The variable that may hold the token, so that it shows in no list of processes.
pub const TOKEN_VARIABLE: &str = "AIMASS_JOIN_TOKEN";

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinCommandError {
    /// No token.
    #[error(
        "no token: give it as an argument, in a file with --token-file FILE (- is standard input), or in the variable {TOKEN_VARIABLE}"
    )]
    NoToken,
    /// A token file that can't be read.
    #[error("the token file {}: {source}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a token.
    #[error(transparent)]
    Parse(#[from] ParseTokenError),
    /// A token for something else.
    #[error("this token is for the role {role}, not for an agent; ask for one with `aimass token create --role agent`")]
    Role {
        /// The token's role.
        role: Role,
    },
    /// A token that is over.
    #[error("this token expired; ask for a new one with `aimass token create`")]
    Expired,
    /// The device has joined already.
    #[error("{} holds the identity of agent {agent} already; give --data-dir another folder, or remove its identity folder to join anew", dir.display())]
    AlreadyJoined {
        /// The folder.
        dir: PathBuf,
        /// The agent's id.
        agent: String,
    },
    /// The authority.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The identity folder.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The operating system.
    #[error("can't start: {0}")]
    System(#[from] io::Error),
}

impl JoinCommandError {
    /// The exit code that belongs to it.
    pub fn exit_kind(&self) -> ExitKind {
        match self {
            Self::NoToken | Self::TokenFile { .. } | Self::Parse(_) | Self::Role { .. } | Self::AlreadyJoined { .. } => ExitKind::Usage,
            Self::Expired => ExitKind::Refused,
            Self::Join(e) => exit_kind_of_join(e),
            Self::Identity(_) | Self::State(_) | Self::Randomness(_) | Self::System(_) => ExitKind::Failure,
        }
    }
}

fn exit_kind_of_join(error: &JoinError) -> ExitKind {
    match error {
        JoinError::Connect(ConnectError::Local { .. }) | JoinError::Clock { .. } => ExitKind::Failure,
        JoinError::Connect(_) | JoinError::Net(NetError::Broken { .. } | NetError::Stalled { .. }) => ExitKind::Unreachable,
        _ => ExitKind::Refused,
    }
}

/// The token's text from where it was given: an argument, a file, or else the environment.
///
/// # Errors
/// [`JoinCommandError::NoToken`], [`JoinCommandError::TokenFile`].
pub fn token_text(argument: Option<&str>, file: Option<&Path>, variable: Option<String>) -> Result<Zeroizing<String>, JoinCommandError> {
    let text = match (argument, file, variable) {
        (Some(text), _, _) => Zeroizing::new(text.to_owned()),
        (None, Some(path), _) => read_token(path).map_err(|source| JoinCommandError::TokenFile {
            path: path.to_owned(),
            source,
        })?,
        (None, None, Some(text)) => Zeroizing::new(text),
        (None, None, None) => return Err(JoinCommandError::NoToken),
    };
    if text.trim().is_empty() {
        Err(JoinCommandError::NoToken)
    } else {
        Ok(text)
    }
}

fn read_token(path: &Path) -> io::Result<Zeroizing<String>> {
    let limit = u64::try_from(2 * MAX_TOKEN_CHARS).unwrap_or(u64::MAX);
    let mut text = Zeroizing::new(String::new());
    if path == Path::new("-") {
        io::stdin().take(limit).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(path)?.take(limit).read_to_string(&mut text)?;
    }
    Ok(text)
}

/// Uses a token. The key is made here and stays here. After a lost reply the same token works again.
///
/// # Errors
/// [`JoinCommandError`]; the folder holds a key then, and no identity.
pub fn join(state: &StateFolder, text: &str) -> Result<Enrolment, JoinCommandError> {
    let token: JoinToken = text.parse()?;
    if token.role != Role::Agent {
        return Err(JoinCommandError::Role { role: token.role });
    }
    if token.expires_at < wall() {
        return Err(JoinCommandError::Expired);
    }
    let _lock = state.open()?;
    let mut folder = IdentityFolder::open_or_create(&state.identity_dir(), &mut system_rng()?)?;
    if let Some(enrolment) = folder.enrolment() {
        let agent = enrolment.membership().id.to_string();
        return Err(JoinCommandError::AlreadyJoined {
            dir: state.data_dir().to_owned(),
            agent,
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let enrolment = runtime.block_on(enrol::join(&token, folder.key(), now_s()))?;
    folder.save(enrolment.clone())?;
    Ok(enrolment)
}

#[cfg(test)]
mod tests {
    use aimass_protocol::token::TokenSecret;
    use aimass_protocol::{Digest, TenantId, Timestamp};

    use super::*;

    fn token(role: Role, expires_at: Timestamp) -> String {
        let token = JoinToken {
            authority: "127.0.0.1:1".to_owned(),
            server: "127.0.0.1:2".to_owned(),
            root_spki: Digest::from_bytes([0; 32]),
            tenant: TenantId::default(),
            role,
            expires_at,
            secret: TokenSecret::from_bytes([7; TokenSecret::LEN]),
        };
        token.to_text().expect("a token encodes").to_string()
    }

    #[test]
    fn an_argument_comes_before_a_file_and_a_file_before_the_environment() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("token");
        std::fs::write(&path, "from file\n").expect("writes");
        let text = |a, f, v: Option<&str>| token_text(a, f, v.map(str::to_owned)).map(|t| t.trim().to_owned()).ok();
        assert_eq!(text(Some("argument"), Some(&path), Some("variable")).as_deref(), Some("argument"));
        assert_eq!(text(None, Some(&path), Some("variable")).as_deref(), Some("from file"));
        assert_eq!(text(None, None, Some("variable")).as_deref(), Some("variable"));
        assert!(matches!(token_text(None, None, None), Err(JoinCommandError::NoToken)));
        assert!(matches!(
            token_text(None, None, Some(String::new())),
            Err(JoinCommandError::NoToken)
        ));
        let missing = token_text(None, Some(Path::new("no/such/file")), None).expect_err("no file");
        assert_eq!(missing.exit_kind(), ExitKind::Usage);
    }

    #[test]
    fn a_token_that_can_not_work_makes_nothing() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let state = StateFolder::new(dir.path().join("agent"));
        let far = Timestamp::from_ms(u64::MAX);
        let cases = [
            ("not a token".to_owned(), ExitKind::Usage),
            (token(Role::Server, far), ExitKind::Usage),
            (token(Role::Agent, Timestamp::from_ms(1)), ExitKind::Refused),
        ];
        for (text, kind) in cases {
            let error = join(&state, &text).expect_err("must be refused");
            assert_eq!(error.exit_kind(), kind, "{error}");
            assert!(!error.to_string().contains(&hex::encode([7; 32])));
        }
        assert!(!state.data_dir().exists());
    }

    #[test]
    fn an_authority_that_does_not_answer_is_said_so() {
        let error = JoinCommandError::Join(JoinError::Connect(ConnectError::Unreachable {
            addr: "127.0.0.1:1".to_owned(),
        }));
        assert_eq!(error.exit_kind(), ExitKind::Unreachable);
    }
}
