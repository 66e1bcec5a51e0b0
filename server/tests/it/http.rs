//! The loopback HTTP API as the command uses it, by hand: one request a connection.

use std::path::{Path, PathBuf};

use aimass_server::loopback::{ADDRESS_FILE, ApiAddress, TOKEN_FILE};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An API, found by its data folder.
pub(crate) struct Api {
    dir: PathBuf,
}

impl Api {
    /// The API of the service that runs on `data_dir`.
    pub(crate) fn of(data_dir: &Path) -> Self {
        Self { dir: data_dir.to_owned() }
    }

    /// Sends `body` with `method` to `path`; the answer's status and JSON.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let address: ApiAddress =
            serde_json::from_slice(&std::fs::read(self.dir.join(ADDRESS_FILE)).expect("api.json")).expect("an address");
        let token = std::fs::read_to_string(self.dir.join(TOKEN_FILE)).expect("api.token");
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(address.address).await.expect("the API listens");
        stream.write_all(request.as_bytes()).await.expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        (status, serde_json::from_str(body).expect("JSON"))
    }

    /// The answer to a request that must succeed.
    pub(crate) async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, path, &body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }
}
