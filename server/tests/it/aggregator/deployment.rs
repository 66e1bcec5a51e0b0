//! An authority, an aggregator and a job owner.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aimass_crypto::sign::{Context, SigningKey};
use aimass_onnx::{Model, build};
use aimass_protocol::job::SignedJob;
use aimass_protocol::token::JoinToken;
use aimass_protocol::{Digest, Nonce, TenantId, Timestamp, codec};
use aimass_server::aggregator::{Accept, Config, Ready, ServeError};
use aimass_server::loopback::{ADDRESS_FILE, ApiAddress, TOKEN_FILE};
use aimass_server::{aggregator, authority};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde_bytes::ByteBuf;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::http::Api;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

pub(super) fn key(seed: u64) -> SigningKey {
    SigningKey::generate(&mut ChaCha20Rng::seed_from_u64(seed))
}

/// Everything but devices, in folders that go away with it.
pub(super) struct Deployment {
    pub(super) dir: TempDir,
    pub(super) owner: SigningKey,
    pub(super) authority: Api,
    _stop_authority: oneshot::Sender<()>,
}

impl Deployment {
    /// Starts an authority that knows the job owner.
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let config = authority::Config {
            data_dir: dir.path().join("authority"),
            listen: LOOPBACK,
            ..authority::Config::default()
        };
        let api = Api::of(&config.data_dir);
        let (say_ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(authority::run(
            config,
            move |_: &authority::Ready| {
                let _ = say_ready.send(());
            },
            async {
                let _ = stopped.await;
            },
        ));
        is_ready.await.expect("the authority starts");
        let deployment = Self {
            dir,
            owner: key(1000),
            authority: api,
            _stop_authority: stop,
        };
        deployment.register(&deployment.owner).await;
        deployment
    }

    pub(super) async fn register(&self, owner: &SigningKey) {
        let public_key = hex::encode(owner.public().as_bytes());
        self.authority
            .ok(
                "POST",
                "/v1/owners",
                json!({ "tenant": "default", "name": "Ada", "public_key": public_key }),
            )
            .await;
    }

    pub(super) async fn token(&self, role: &str, tenant: &str) -> JoinToken {
        let ask = json!({ "role": role, "tenant": tenant, "server": "127.0.0.1:4433", "expires_s": 3600 });
        let answer = self.authority.ok("POST", "/v1/tokens", ask).await;
        answer["token"].as_str().and_then(|text| text.parse().ok()).expect("a token")
    }

    pub(super) fn config(&self) -> Config {
        Config {
            data_dir: self.dir.path().join("server"),
            listen: LOOPBACK,
            ..Config::default()
        }
    }

    /// Starts an aggregator, with a token for the first start.
    pub(super) async fn server(&self) -> Server {
        self.server_with(self.config()).await
    }

    pub(super) async fn server_with(&self, config: Config) -> Server {
        let joined = config.data_dir.join("identity/enrolment.json").exists();
        let token = if joined {
            None
        } else {
            Some(self.token("server", config.tenant.as_str()).await)
        };
        Server::start(config, token).await.expect("the aggregator starts")
    }

    pub(super) async fn server_that_asks(&self) -> Server {
        self.server_with(Config {
            accept: Accept::Manual,
            ..self.config()
        })
        .await
    }

    /// A job's signed bytes and the body that submits them.
    pub(super) fn signed(&self, file: &str, model: Digest, evaluation: Option<Digest>, nonce: u8) -> (Vec<u8>, Value) {
        let job = SignedJob {
            tenant: TenantId::default(),
            job_file: ByteBuf::from(file.as_bytes().to_vec()),
            model,
            evaluation,
            signed_at: Timestamp::from_ms(1),
            nonce: Nonce::from_bytes([nonce; 16]),
        };
        let bytes = codec::encode(&job).expect("encodes");
        let body = signed_by(&self.owner, &bytes);
        (bytes, body)
    }

    /// Uploads a model and submits a job of `rounds` rounds on it.
    pub(super) async fn submit(&self, server: &Server, model: &Model, round: &str) -> String {
        let digest = server.put(model.as_bytes()).await;
        let (_, body) = self.signed(&job_file(round), digest, None, 1);
        let answer = server.api.ok("POST", "/v1/jobs", body).await;
        answer["job"].as_str().expect("an id").to_owned()
    }
}

pub(super) fn signed_by(owner: &SigningKey, bytes: &[u8]) -> Value {
    json!({
        "signed_job": hex::encode(bytes),
        "owner": hex::encode(owner.public().as_bytes()),
        "signature": hex::encode(owner.sign(Context::Job, bytes)),
    })
}

/// A job file with these lines in its `[round]` section.
pub(super) fn job_file(round: &str) -> String {
    format!(
        r#"[job]
name = "test"
kind = "train"
purpose = "tests"

[model]
path = "model.onnx"

[data]
contract = "digits"
target = "label"

[train]
lr = 0.1

[round]
{round}

[aggregation]
mode = "plain"
floor = 1

[update]
weight_cap = 8
"#
    )
}

/// Four inputs, three classes: 15 weights.
pub(super) fn small_model() -> Model {
    build::mlp(&[4, 3], 7)
}

/// A running aggregator.
pub(super) struct Server {
    pub(super) dir: PathBuf,
    pub(super) ready: Ready,
    pub(super) api: Api,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    pub(super) async fn start(config: Config, token: Option<JoinToken>) -> Result<Self, ServeError> {
        let dir = config.data_dir.clone();
        let (say_ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(aggregator::run(
            config,
            token,
            move |ready: &Ready| {
                let _ = say_ready.send(*ready);
            },
            async {
                let _ = stopped.await;
            },
        ));
        match is_ready.await {
            Ok(ready) => Ok(Self {
                api: Api::of(&dir),
                dir,
                ready,
                stop,
                task,
            }),
            Err(_) => Err(task.await.expect("no panic").expect_err("not ready, so it failed")),
        }
    }

    pub(super) async fn stop(self) {
        self.stop.send(()).expect("it runs");
        let ended = tokio::time::timeout(Duration::from_secs(2), self.task)
            .await
            .expect("within two seconds");
        ended.expect("no panic").expect("an orderly end");
    }

    /// Any request; the answer's status and body.
    pub(super) async fn raw(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        raw(&self.dir, method, path, body).await
    }

    pub(super) async fn put(&self, blob: &[u8]) -> Digest {
        let (status, answer) = self.raw("PUT", "/v1/blobs", blob).await;
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!(status, 200, "{answer}");
        answer["digest"].as_str().and_then(|d| d.parse().ok()).expect("a digest")
    }

    pub(super) async fn job(&self, job: &str) -> Value {
        self.api.ok("GET", &format!("/v1/jobs/{job}"), Value::Null).await
    }

    /// Waits until `round` is finished.
    pub(super) async fn finished(&self, job: &str, round: u32) -> Value {
        let path = format!("/v1/jobs/{job}/watch?after={}&wait_ms=20000", round - 1);
        let view = self.api.ok("GET", &path, Value::Null).await;
        assert!(
            view["round"].as_u64() >= Some(round.into()),
            "round {round} is not finished: {view}"
        );
        view
    }

    /// Waits until a field of the job is `value`.
    pub(super) async fn until(&self, job: &str, field: &str, value: impl Into<Value>) {
        let value = value.into();
        for _ in 0..500 {
            if self.job(job).await[field] == value {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{field} did not become {value}: {}", self.job(job).await);
    }

    /// Waits until no update lies in the journal.
    pub(super) async fn journal_is_empty(&self) {
        for _ in 0..250 {
            if std::fs::read_dir(self.dir.join("journal")).expect("a folder").next().is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("something stays in the journal");
    }

    pub(super) async fn counter(&self, name: &str) -> u64 {
        let status = self.api.ok("GET", "/v1/status", Value::Null).await;
        status["counters"][name]
            .as_u64()
            .unwrap_or_else(|| panic!("no counter {name}: {status}"))
    }

    /// Waits until a counter is `n`.
    pub(super) async fn counts(&self, name: &str, n: u64) {
        for _ in 0..250 {
            if self.counter(name).await == n {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{name} did not become {n}: {}", self.counter(name).await);
    }
}

/// Sends a request to the API of the service on `dir`.
pub(super) async fn raw(dir: &Path, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let address: ApiAddress = serde_json::from_slice(&std::fs::read(dir.join(ADDRESS_FILE)).expect("api.json")).expect("an address");
    let token = std::fs::read_to_string(dir.join(TOKEN_FILE)).expect("api.token");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address.address).await.expect("the API listens");
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(body).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    let status = String::from_utf8_lossy(&answer[..end])
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .expect("a status");
    (status, answer.split_off(end))
}
