//! A session of the real agent program with the real services, recorded on the way: join, one round, and the end by revocation.
//!
//! The recording of protocol version 1 is `protocol/testdata/v1/transcript.json`; the tests of `protocol/` read every byte of it. Here a live
//! session is held against it: the same requests, answers and frames in the same order. With `AIMASS_RECORD_TRANSCRIPT=1` it is written anew:
//! `AIMASS_RECORD_TRANSCRIPT=1 cargo test --release --workspace --test it transcript`.

mod file;

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aimass_crypto::cert::{self, CERTIFICATE_LIFETIME, Root, dns_name};
use aimass_crypto::sign::{PublicKey, SigningKey};
use aimass_edge_agent::data::DataRegistry;
use aimass_edge_agent::event::Reporter;
use aimass_edge_agent::run::{RunError, RunOptions, run};
use aimass_edge_agent::state::StateFolder;
use aimass_federation::agent::Policy;
use aimass_learning::BackendConfig;
use aimass_net::blob;
use aimass_net::enrol::AUTHORITY;
use aimass_net::identity::{IdentityFolder, read_key};
use aimass_onnx::{Model, TrainableRules, build};
use aimass_protocol::codec;
use aimass_protocol::frame::{ALPN_AGENT, ALPN_ENROL};
use aimass_protocol::message::Reply;
use aimass_protocol::message::agent::{AgentRequest, FetchReply, Upload};
use aimass_relay::{Certified, Config, Recorded, Relay};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde_json::Value;

use self::file::Transcript;
use super::deployment::{Deployment, Server, job_file};

/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Seeds of keys, so that a new recording differs from the old one as little as it can.
const SERVER: u64 = 2001;
const AGENT: u64 = 2002;
const TOWARDS_AGENT: u64 = 2003;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_session_is_as_the_recorded_one() {
    let live = session().await;
    if std::env::var_os("AIMASS_RECORD_TRANSCRIPT").is_some_and(|v| v == "1") {
        live.write();
    }
    assert_eq!(
        live.shape(),
        Transcript::committed().shape(),
        "what agents and services say is not what was recorded; if version 1 is released, a change of the wire needs a new version: docs/protocol.md, \"Versions\""
    );
}

/// The names of model and update are hashes that the protocol's types do not check.
#[test]
fn recorded_blobs_are_named_as_they_are_today() {
    let committed = Transcript::committed();
    let fetch = committed.exchange("Fetch");
    let (reply, chunks) = fetch[1].split_first().expect("a reply");
    let Reply::Ok(FetchReply { manifest }) = codec::decode(reply).expect("a manifest") else {
        panic!("refused")
    };
    assert_eq!(blob::manifest_of(&mut chunks.concat().as_slice()).expect("a model"), manifest);

    let [ask, _, chunks, _] = committed.exchange("Upload").try_into().expect("four turns");
    let AgentRequest::Upload(Upload { manifest, .. }) = codec::decode(&ask[0]).expect("a request") else {
        panic!("no upload")
    };
    assert_eq!(blob::update_manifest(&chunks.concat()).expect("an update"), manifest);
}

/// From joining to revocation, with a relay in front of each of the two services.
async fn session() -> Transcript {
    let deployment = Deployment::start().await;
    let identity = deployment.config().data_dir.join("identity");
    IdentityFolder::open_or_create(&identity, &mut ChaCha20Rng::seed_from_u64(SERVER)).expect("a key");
    let server = deployment.server().await;
    let (server_identity, server_key, roots) = member(&server.dir.join("identity"));
    submit(&deployment, &server).await;

    // The agent joins through a relay that shows a certificate of the authority's kind.
    let state = StateFolder::new(deployment.dir.path().join("agent"));
    IdentityFolder::open_or_create(&state.identity_dir(), &mut ChaCha20Rng::seed_from_u64(AGENT)).expect("a key");
    let (to_authority, to_server) = (socket(), socket());
    let mut token = deployment.token("agent", "default").await;
    let authority = std::mem::replace(&mut token.authority, address(&to_authority).to_string());
    token.server = address(&to_server).to_string();
    let enrolment = Config {
        alpn: ALPN_ENROL.to_vec(),
        roots: roots.clone(),
        as_server: another_authority(&deployment.dir.path().join("authority")),
        as_client: None,
        server: authority.parse().expect("an address"),
        server_name: dns_name(AUTHORITY, AUTHORITY),
    };
    let enrolment = Relay::start(to_authority, &enrolment).expect("a relay");
    let (text, folder) = (token.to_text().expect("a token"), state.clone());
    tokio::task::spawn_blocking(move || aimass_edge_agent::join::join(&folder, &text))
        .await
        .expect("no panic")
        .expect("joins");

    let (agent_identity, agent_key, _) = member(&state.identity_dir());
    let work = Config {
        alpn: ALPN_AGENT.to_vec(),
        roots,
        as_server: server_identity,
        as_client: Some(agent_identity),
        server: server.ready.quic_address,
        server_name: dns_name("default", "server"),
    };
    let work = Relay::start(to_server, &work).expect("a relay");
    let ended = work_until_revoked(&deployment, &server, state, &work, &agent_key).await;
    assert!(matches!(ended, RunError::Revoked { .. }), "{ended}");

    let keys = [
        ("agent", agent_key),
        ("server", server_key),
        ("owner", deployment.owner.public()),
        ("root", root(&deployment.dir.path().join("authority")).key().public()),
    ];
    let enrolment = until(&enrolment, |recorded| recorded.closed.is_some()).await;
    let work = until(&work, |recorded| recorded.closed.is_some()).await;
    server.stop().await;
    Transcript::new(&keys, &[("authority", ALPN_ENROL, enrolment), ("server", ALPN_AGENT, work)])
}

/// Runs the agent program. Once it has checked in after its round, the operator revokes it, which ends it.
async fn work_until_revoked(deployment: &Deployment, server: &Server, state: StateFolder, relay: &Relay, agent: &PublicKey) -> RunError {
    let rows = deployment.dir.path().join("rows.csv");
    std::fs::write(&rows, "a,b,label\n0,1,0\n1,0,1\n1,1,2\n").expect("written");
    let options = RunOptions {
        state,
        bundle_refresh: Duration::from_secs(600),
        policy: Policy {
            allow_plain: true,
            ..Policy::default()
        },
        data: DataRegistry::parse([format!("digits={}", rows.display()).as_str()]).expect("a contract"),
        backend: BackendConfig::cpu(),
        device_class: "test".to_owned(),
        tags: vec!["recorded".to_owned()],
        models: aimass_edge_agent::config::ModelsConfig {
            keep: false,
            ..Default::default()
        },
        reporter: Reporter::new(false),
        show_progress: false,
        once: false,
        exit_on_revoked: true,
        exit_with_parent: false,
        serve: aimass_edge_agent::config::ServeConfig::default(),
    };
    let agent_program = tokio::task::spawn_blocking(move || run(options));
    until(relay, |recorded| {
        let check_ins = file::requests(recorded).iter().filter(|request| *request == "CheckIn").count();
        check_ins == 2 && file::is_answered(recorded)
    })
    .await;
    let id = hex::encode(agent.fingerprint());
    server.api.ok("POST", &format!("/v1/agents/{id}/revoke"), Value::Null).await;
    tokio::time::timeout(PATIENCE, agent_program)
        .await
        .expect("a revoked agent ends")
        .expect("no panic")
        .expect_err("revoked")
}

/// Waits until the relay's one connection is as wanted.
async fn until(relay: &Relay, wanted: impl Fn(&Recorded) -> bool) -> Recorded {
    let looking = async {
        loop {
            if let [recorded] = relay.recorded().as_slice()
                && wanted(recorded)
            {
                return recorded.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| {
        panic!(
            "it did not come to pass: {:?}",
            relay.recorded().iter().map(file::requests).collect::<Vec<_>>()
        )
    })
}

/// Three chunks of zeros but for the last layer, which alone trains: the recording stays short.
async fn submit(deployment: &Deployment, server: &Server) {
    let model = build::mlp(&[2, 30_000, 2, 3], 7);
    let layout = model.layout(&TrainableRules::default()).expect("a layout");
    let mut weights = model.weights(&layout).expect("weights");
    let last_layer = 2 * 3 + 3;
    let rest = weights.len() - last_layer;
    weights[..rest].fill(0.0);
    let model: Model = model.with_weights(&layout, &weights).expect("a model");
    let digest = server.put(model.as_bytes()).await;
    let trainable = "path = \"model.onnx\"\ntrainable = [\"!fc1.*\", \"!fc2.*\"]";
    let file = job_file("rounds = 1\nmin = 1").replace("path = \"model.onnx\"", trainable);
    let (_, body) = deployment.signed(&file, digest, None, 1);
    server.api.ok("POST", "/v1/jobs", body).await;
}

/// The identity in a folder, its public key, and the roots that it trusts.
fn member(folder: &Path) -> (Certified, PublicKey, Vec<Vec<u8>>) {
    let (folder, enrolment) = IdentityFolder::open(folder).expect("it has joined");
    let certified = certified(vec![enrolment.certificate().to_vec()], folder.key());
    (
        certified,
        folder.key().public(),
        enrolment.bundle().roots().map(<[u8]>::to_vec).collect(),
    )
}

/// The authority keeps the key of its own certificate in memory; its root can issue another one.
fn another_authority(dir: &Path) -> Certified {
    let rng = &mut ChaCha20Rng::seed_from_u64(TOWARDS_AGENT);
    let (root, key) = (root(dir), SigningKey::generate(rng));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let now_s = i64::try_from(now.as_secs()).expect("fits");
    let leaf = root
        .issue(AUTHORITY, AUTHORITY, &key.public(), now_s, CERTIFICATE_LIFETIME, rng)
        .expect("a certificate");
    certified(vec![leaf, root.certificate_der().to_vec()], &key)
}

fn root(authority: &Path) -> Root {
    let mut files = std::fs::read_dir(authority.join("roots")).expect("its roots");
    let certificate = files.find_map(|file| {
        file.ok()
            .map(|f| f.path())
            .filter(|path| path.extension().is_some_and(|e| e == "der"))
    });
    let certificate = certificate.expect("a root");
    let der = std::fs::read(&certificate).expect("readable");
    cert::root_public_key(&der).expect("a root's certificate");
    Root::load(read_key(&certificate.with_extension("pem")).expect("its key"), &der).expect("a root")
}

fn certified(chain: Vec<Vec<u8>>, key: &SigningKey) -> Certified {
    Certified {
        chain,
        key_pkcs8: key.to_pkcs8_der().to_vec(),
    }
}

fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").expect("a free port")
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("bound")
}
