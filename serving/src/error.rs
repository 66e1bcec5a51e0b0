//! What a client is told, and why a model is not served.

use aimass_inference::{LoadError, OverBudget, RunError};

/// Why a request has no answer; each has its HTTP status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// 400: the request is wrong; the text names the field and the fix.
    #[error("{0}")]
    BadRequest(String),
    /// 404: no such model, version or path.
    #[error("{0}")]
    NotFound(String),
    /// 405: another method.
    #[error("{0}")]
    Method(String),
    /// 408: the body did not come in time.
    #[error("the request's body did not come within {seconds} s")]
    SlowBody {
        /// How long it was waited for.
        seconds: u64,
    },
    /// 413: larger than allowed.
    #[error("the request is larger than {limit} bytes, the limit: send fewer rows at once, or raise the limit (max_request_mib)")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// 503: too much waits already.
    #[error("{what}; try again in {retry_s} s")]
    Busy {
        /// What is full.
        what: String,
        /// When to try again.
        retry_s: u32,
    },
    /// 504: not computed in time.
    #[error("not computed within {seconds} s; send fewer rows at once, or raise the limit")]
    Late {
        /// The limit.
        seconds: u64,
    },
    /// 500: the model or tract is to blame.
    #[error("{0}")]
    Internal(String),
}

impl From<RunError> for ServeError {
    fn from(error: RunError) -> Self {
        if error.is_input() {
            Self::BadRequest(error.to_string())
        } else {
            Self::Internal(error.to_string())
        }
    }
}

impl From<OverBudget> for ServeError {
    fn from(_: OverBudget) -> Self {
        Self::Busy {
            what: "requests that are being read take all the memory they may".to_owned(),
            retry_s: 1,
        }
    }
}

/// Why a model is not loaded, swapped or unloaded. What was served before is served as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Not a name.
    #[error("{name:?} is not a name for a model or a version: use 1 to 80 of a-z, A-Z, 0-9, '-', '_' and '.'")]
    Name {
        /// What was given.
        name: String,
    },
    /// There is one already.
    #[error("model {model:?} has a version {version:?} already: choose another version, or unload it first")]
    Exists {
        /// The model.
        model: String,
        /// The version.
        version: String,
    },
    /// There is none.
    #[error("there is no model {model:?} with a version {version:?} here")]
    Unknown {
        /// The model.
        model: String,
        /// The version.
        version: String,
    },
    /// Too many.
    #[error("{limit} models and versions are loaded, the limit: unload one first")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// It can't be loaded.
    #[error("model {model:?}, version {version:?}: {source}")]
    Load {
        /// The model.
        model: String,
        /// The version.
        version: String,
        /// Why.
        source: Box<LoadError>,
    },
    /// It runs, but not as it should.
    #[error("model {model:?}, version {version:?} failed its self-test: {reason}")]
    SelfTest {
        /// The model.
        model: String,
        /// The version.
        version: String,
        /// What is wrong.
        reason: String,
    },
    /// Its clients would break.
    #[error(
        "model {model:?}, version {version:?} has other inputs or outputs than the version in service ({difference}): serve it under another name"
    )]
    Interface {
        /// The model.
        model: String,
        /// The version.
        version: String,
        /// What differs.
        difference: String,
    },
    /// A thread could not be started.
    #[error("can't start a thread: {0}")]
    Thread(#[source] std::io::Error),
}
