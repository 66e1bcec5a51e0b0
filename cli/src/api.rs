//! The command's side of the loopback APIs: finds a service by its folder and speaks HTTP to it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Longest JSON answer that is read, in bytes.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// Why a service could not be asked, or what it refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// Its folder shows no running service.
    #[error("no {what} runs in {folder}: start it with `{start}`, or name its folder with `{flag}`")]
    NotRunning {
        /// `aggregator` or `authority`.
        what: &'static str,
        /// The folder looked in.
        folder: PathBuf,
        /// The command that starts it.
        start: &'static str,
        /// The flag that names the folder.
        flag: &'static str,
    },
    /// The folder's files are there, but nobody listens.
    #[error("the {what} of {folder} does not answer at {address}: start it again with `{start}`")]
    Unreachable {
        /// `aggregator` or `authority`.
        what: &'static str,
        /// The folder looked in.
        folder: PathBuf,
        /// Where it should listen.
        address: String,
        /// The command that starts it.
        start: &'static str,
    },
    /// The service refused.
    #[error("{text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The service's word for it.
        code: String,
        /// What is wrong and what to do, in the service's words.
        text: String,
    },
    /// The service and this command do not understand each other.
    #[error("the {what} gave an answer that this command does not understand ({reason}): use the same version of both")]
    Answer {
        /// `aggregator` or `authority`.
        what: &'static str,
        /// What did not fit.
        reason: String,
    },
    /// A file of ours.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Which service a folder belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `aimass serve`.
    Aggregator,
    /// `aimass authority`.
    Authority,
}

impl Service {
    fn what(self) -> &'static str {
        match self {
            Self::Aggregator => "aggregator",
            Self::Authority => "authority",
        }
    }

    fn start(self) -> &'static str {
        match self {
            Self::Aggregator => "aimass serve",
            Self::Authority => "aimass authority run",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Aggregator => "--server-dir",
            Self::Authority => "--authority-dir",
        }
    }
}

/// A running service.
#[derive(Debug, Clone)]
pub struct Api {
    service: Service,
    folder: PathBuf,
    address: String,
    authorization: String,
    agent: ureq::Agent,
}

#[derive(Deserialize)]
struct ApiFile {
    address: String,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
    #[serde(default)]
    code: String,
}

impl Api {
    /// Finds the service that keeps its state in `folder`.
    ///
    /// # Errors
    /// [`ApiError::NotRunning`] when the folder names none.
    pub fn find(service: Service, folder: &Path) -> Result<Self, ApiError> {
        let not_running = || ApiError::NotRunning {
            what: service.what(),
            folder: folder.to_owned(),
            start: service.start(),
            flag: service.flag(),
        };
        let file = std::fs::read(folder.join("api.json")).map_err(|_| not_running())?;
        let file: ApiFile = serde_json::from_slice(&file).map_err(|_| not_running())?;
        let token_path = folder.join("api.token");
        let token = std::fs::read_to_string(&token_path).map_err(|source| ApiError::File { path: token_path, source })?;
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)))
            .proxy(None)
            .build()
            .into();
        Ok(Self {
            service,
            folder: folder.to_owned(),
            address: file.address,
            authorization: format!("Bearer {}", token.trim()),
            agent,
        })
    }

    /// `GET path`, answered in JSON.
    ///
    /// # Errors
    /// [`ApiError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let response = self.agent.get(self.url(path)).header("authorization", &self.authorization).call();
        self.json(self.checked(response)?)
    }

    /// `POST path` with a JSON body, answered in JSON.
    ///
    /// # Errors
    /// [`ApiError`].
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, ApiError> {
        let response = self
            .agent
            .post(self.url(path))
            .header("authorization", &self.authorization)
            .send_json(body);
        self.json(self.checked(response)?)
    }

    /// `DELETE path`, answered in JSON.
    ///
    /// # Errors
    /// [`ApiError`].
    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let response = self
            .agent
            .delete(self.url(path))
            .header("authorization", &self.authorization)
            .call();
        self.json(self.checked(response)?)
    }

    /// `PUT path` with raw bytes, answered in JSON.
    ///
    /// # Errors
    /// [`ApiError`].
    pub fn put_bytes<T: DeserializeOwned>(&self, path: &str, bytes: &[u8]) -> Result<T, ApiError> {
        let request = self.agent.put(self.url(path)).header("authorization", &self.authorization);
        let response = request.header("content-type", "application/octet-stream").send(bytes);
        self.json(self.checked(response)?)
    }

    /// `GET path`, answered in raw bytes, at most `limit` of them.
    ///
    /// # Errors
    /// [`ApiError`].
    pub fn get_bytes(&self, path: &str, limit: u64) -> Result<Vec<u8>, ApiError> {
        let response = self.agent.get(self.url(path)).header("authorization", &self.authorization).call();
        let response = self.checked(response)?;
        let mut bytes = Vec::new();
        let mut reader = response.into_body().into_reader().take(limit + 1);
        reader.read_to_end(&mut bytes).map_err(|e| self.answer(e.to_string()))?;
        if bytes.len() as u64 > limit {
            return Err(self.answer(format!("more than {limit} bytes")));
        }
        Ok(bytes)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn answer(&self, reason: String) -> ApiError {
        ApiError::Answer {
            what: self.service.what(),
            reason,
        }
    }

    fn checked(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<ureq::http::Response<ureq::Body>, ApiError> {
        let mut response = response.map_err(|_| ApiError::Unreachable {
            what: self.service.what(),
            folder: self.folder.clone(),
            address: self.address.clone(),
            start: self.service.start(),
        })?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(response);
        }
        let body = response.body_mut().with_config().limit(64 * 1024).read_json::<ErrorBody>();
        let body = body.unwrap_or_else(|_| ErrorBody {
            error: format!("the service answered with status {status}"),
            code: String::new(),
        });
        Err(ApiError::Refused {
            status,
            code: body.code,
            text: body.error,
        })
    }

    fn json<T: DeserializeOwned>(&self, mut response: ureq::http::Response<ureq::Body>) -> Result<T, ApiError> {
        response
            .body_mut()
            .with_config()
            .limit(MAX_JSON_BYTES)
            .read_json()
            .map_err(|e| self.answer(e.to_string()))
    }
}
