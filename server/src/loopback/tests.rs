use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use aimass_protocol::ErrorCode;
use aimass_protocol::message::Refusal;

use super::*;

/// Sends one request by hand and returns its status and JSON body.
async fn ask(address: SocketAddr, request_line: &str, token: Option<&str>, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).await.expect("the API listens");
    let authorization = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    let head = format!(
        "{request_line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n{authorization}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("the request is sent");
    // A server may refuse before it has read all of a long body.
    let _ = stream.write_all(body.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).expect("an answer is text");
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").expect("a head and a body").1;
    (status, serde_json::from_str(body).expect("a JSON body"))
}

fn router() -> Router {
    Router::new()
        .route(
            "/v1/echo",
            post(|ApiJson(value): ApiJson<ApiAddress>| async move { axum::Json(value) }),
        )
        .route("/v1/wait", get(std::future::pending::<()>))
}

struct Running {
    dir: tempfile::TempDir,
    address: SocketAddr,
    token: String,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<io::Result<()>>,
}

async fn start() -> Running {
    let dir = tempfile::tempdir().expect("a folder");
    let api = bind(dir.path(), SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
    let address = api.address();
    let token = std::fs::read_to_string(dir.path().join(TOKEN_FILE)).expect("the token file");
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(api.serve(router(), async {
        let _ = stopped.await;
    }));
    Running {
        dir,
        address,
        token,
        stop,
        task,
    }
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).expect("the file").permissions().mode() & 0o777
}

#[tokio::test]
async fn a_request_needs_the_token() {
    let api = start().await;
    let wrong = "0".repeat(api.token.len());
    for token in [None, Some(""), Some(wrong.as_str()), Some(&api.token[1..])] {
        let (status, body) = ask(api.address, "GET /v1/anything", token, "").await;
        assert_eq!((status, &body["code"]), (401, &json!("unauthorized")));
        assert!(body["error"].as_str().is_some_and(|text| text.contains("api.token")), "{body}");
    }
    let (status, _) = ask(api.address, "GET /v1/anything", Some(&api.token), "").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn every_error_is_json_with_a_code() {
    let api = start().await;
    let token = Some(api.token.as_str());
    let long = format!("{{\"address\": \"{}\"}}", "1".repeat(MAX_BODY_BYTES));
    let cases = [
        ("GET /v1/nothing", "", 404, "not_found"),
        ("GET /v1/echo", "", 405, "method_not_allowed"),
        ("POST /v1/echo", "{\"address\": ", 400, "bad_request"),
        ("POST /v1/echo", "{\"address\": 5, \"pid\": 1}", 422, "bad_request"),
        (
            "POST /v1/echo",
            "{\"address\": \"127.0.0.1:1\", \"pid\": 1, \"more\": 1}",
            422,
            "bad_request",
        ),
        ("POST /v1/echo", long.as_str(), 413, "too_large"),
    ];
    for (line, body, status, code) in cases {
        let (got, answer) = ask(api.address, line, token, body).await;
        assert_eq!((got, &answer["code"]), (status, &json!(code)), "{line}");
        assert!(answer["error"].as_str().is_some_and(|text| !text.is_empty()), "{line}");
    }
    let (status, _) = ask(api.address, "POST /v1/echo", token, "{\"address\": \"127.0.0.1:1\", \"pid\": 1}").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn the_files_say_where_it_listens_and_end_with_it() {
    let api = start().await;
    let address_file = api.dir.path().join(ADDRESS_FILE);
    let said: ApiAddress = serde_json::from_slice(&std::fs::read(&address_file).expect("api.json")).expect("JSON");
    assert_eq!(
        said,
        ApiAddress {
            address: api.address,
            pid: std::process::id()
        }
    );
    assert_eq!(hex::decode(&api.token).map(|t| t.len()), Ok(32));
    #[cfg(unix)]
    assert_eq!(mode(&api.dir.path().join(TOKEN_FILE)), 0o600);

    api.stop.send(()).expect("it runs");
    api.task.await.expect("no panic").expect("no error");
    assert!(!address_file.exists());
}

#[tokio::test]
async fn a_long_poll_does_not_hold_the_end_up() {
    let api = start().await;
    let mut stream = TcpStream::connect(api.address).await.expect("the API listens");
    let head = format!(
        "GET /v1/wait HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        api.token
    );
    stream.write_all(head.as_bytes()).await.expect("the request is sent");
    tokio::time::sleep(Duration::from_millis(50)).await;
    api.stop.send(()).expect("it runs");
    tokio::time::timeout(3 * SHUTDOWN_GRACE, api.task)
        .await
        .expect("it ends soon")
        .expect("no panic")
        .expect("no error");
}

#[tokio::test]
async fn other_machines_and_taken_ports_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    assert!(matches!(bind(dir.path(), anywhere).await, Err(LoopbackError::NotLoopback { address }) if address == anywhere));
    let taken = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr().map(|a| (l, a)))
        .expect("a free port");
    assert!(matches!(bind(dir.path(), taken.1).await, Err(LoopbackError::InUse { address }) if address == taken.1));
    assert!(!dir.path().join(ADDRESS_FILE).exists());
}

#[test]
fn a_refusal_keeps_its_code() {
    for code in ErrorCode::all() {
        let error = ApiError::from(Refusal::new(code, "text"));
        assert_eq!(error.code(), code.name());
        assert!(error.status().is_client_error() || error.status().is_server_error());
    }
}
