//! A real authority on loopback, joined and asked by the real client side.

mod members;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aimass_crypto::cert;
use aimass_crypto::sign::SigningKey;
use aimass_net::enrol::{self, AUTHORITY, JoinError};
use aimass_net::identity::{Enrolment, IdentityFolder, Membership};
use aimass_net::{ClientEndpoint, ConnectError, NetError, Trust, request};
use aimass_protocol::frame::{ALPN_AGENT, ALPN_ENROL, ALPN_RENEW};
use aimass_protocol::message::agent::{AgentRequest, BundleQuery, BundleReply};
use aimass_protocol::token::{JoinToken, Role, TokenSecret};
use aimass_protocol::{AgentId, ErrorCode};
use aimass_server::authority::{AuthorityError, Config, Ready, StoreError, run};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::http::Api;

/// A running authority.
struct Authority {
    ready: Ready,
    api: Api,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), AuthorityError>>,
}

impl Authority {
    /// Starts it on `dir` and waits until it answers.
    async fn start(dir: &Path) -> Self {
        let config = Config {
            data_dir: dir.to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..Config::default()
        };
        let (say_ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(run(config, move |ready: &Ready| drop(say_ready.send(ready.clone())), async {
            let _ = stopped.await;
        }));
        let ready = is_ready.await.expect("it starts");
        Self {
            ready,
            api: Api::of(dir),
            stop,
            task,
        }
    }

    async fn stop(self) {
        self.stop.send(()).expect("it runs");
        self.task.await.expect("no panic").expect("an orderly end");
    }

    async fn token_for(&self, role: &str, tenant: &str, expires_s: u64) -> JoinToken {
        let ask = json!({ "role": role, "tenant": tenant, "server": "127.0.0.1:4433", "expires_s": expires_s });
        let answer = self.api.ok("POST", "/v1/tokens", ask).await;
        answer["token"].as_str().and_then(|text| text.parse().ok()).expect("a token")
    }

    async fn token(&self, role: &str) -> JoinToken {
        self.token_for(role, "default", 3600).await
    }

    /// A new member with a token of its own.
    async fn member(&self, role: &str, key: &SigningKey) -> Enrolment {
        enrol::join(&self.token(role).await, key, now_s()).await.expect("it joins")
    }

    async fn counter(&self, name: &str) -> u64 {
        self.api.ok("GET", "/v1/status", Value::Null).await["counters"][name]
            .as_u64()
            .unwrap_or(0)
    }
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("before the end of time")
}

fn key(seed: u64) -> SigningKey {
    SigningKey::generate(&mut ChaCha20Rng::seed_from_u64(seed))
}

fn id(key: &SigningKey) -> AgentId {
    AgentId::from_bytes(key.public().fingerprint())
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn refused(result: Result<Enrolment, JoinError>) -> ErrorCode {
    match result {
        Err(JoinError::Net(NetError::Refused(refusal))) => refusal.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn a_device_joins_and_its_folder_remembers() {
    let (dir, device) = (folder(), folder());
    let authority = Authority::start(dir.path()).await;
    let token = authority.token("agent").await;
    let mut folder = IdentityFolder::open_or_create(device.path(), &mut ChaCha20Rng::seed_from_u64(1)).expect("a new folder");
    let enrolment = enrol::join(&token, folder.key(), now_s()).await.expect("it joins");
    folder.save(enrolment.clone()).expect("it is stored");

    assert_eq!(enrolment.membership().id, id(folder.key()));
    assert_eq!(enrolment.membership().server, "127.0.0.1:4433");
    assert_eq!(enrolment.info().subject.role, "agent");
    assert_eq!(enrolment.info().not_after_s - enrolment.info().not_before_s, 32 * 24 * 3600);
    assert!(!enrolment.renew_due(now_s()));
    assert_eq!(IdentityFolder::open(device.path()).expect("it has joined").1, enrolment);

    let status = authority.api.ok("GET", "/v1/status", Value::Null).await;
    assert_eq!((&status["issued"], &status["bundle_version"]), (&json!(1), &json!(1)));
    assert_eq!(status["tokens"], json!({ "open": 0, "used": 1, "expired": 0 }));
    assert_eq!(status["root_spki"], json!(token.root_spki.to_hex()));
    assert_eq!(status["quic_address"], json!(authority.ready.quic_address));
    assert_eq!(status["counters"]["enrolled"], json!(1));
    authority.stop().await;
}

#[tokio::test]
async fn a_token_that_does_not_hold_is_refused_and_counted() {
    let dir = folder();
    let authority = Authority::start(dir.path()).await;
    let short = authority.token_for("agent", "default", 1).await;
    let token = authority.token("agent").await;

    let wrong = JoinToken {
        secret: TokenSecret::from_bytes([9; 32]),
        ..token.clone()
    };
    assert_eq!(refused(enrol::join(&wrong, &key(1), now_s()).await), ErrorCode::TokenUnknown);
    enrol::join(&token, &key(1), now_s()).await.expect("it joins");
    enrol::join(&token, &key(1), now_s()).await.expect("the same key may ask again");
    assert_eq!(refused(enrol::join(&token, &key(2), now_s()).await), ErrorCode::TokenUsed);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let error = enrol::join(&short, &key(3), now_s()).await.expect_err("its time is over");
    assert!(error.to_string().contains("aimass token create"), "{error}");
    assert_eq!(refused(Err(error)), ErrorCode::TokenExpired);
    for name in ["token_unknown", "token_used", "token_expired"] {
        assert_eq!(authority.counter(name).await, 1, "{name}");
    }
    assert_eq!(authority.counter("enrolled").await, 2);
    authority.stop().await;
}

#[tokio::test]
async fn of_many_that_race_for_a_token_one_wins() {
    let dir = folder();
    let authority = Authority::start(dir.path()).await;
    let token = authority.token("agent").await;
    let tasks: Vec<_> = (0..8)
        .map(|seed| {
            let token = token.clone();
            tokio::spawn(async move { enrol::join(&token, &key(seed), now_s()).await })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.expect("no panic") {
            Ok(_) => won += 1,
            Err(error) => assert_eq!(refused(Err(error)), ErrorCode::TokenUsed),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(authority.api.ok("GET", "/v1/status", Value::Null).await["issued"], json!(1));
    authority.stop().await;
}

#[tokio::test]
async fn a_token_of_another_authority_reveals_nothing_to_this_one() {
    let (ours, theirs) = (folder(), folder());
    let (one, two) = (Authority::start(ours.path()).await, Authority::start(theirs.path()).await);
    let token = JoinToken {
        authority: two.ready.public_address.clone(),
        ..one.token("agent").await
    };
    let error = enrol::join(&token, &key(1), now_s()).await.expect_err("its root is another");
    assert!(matches!(error, JoinError::Untrusted { .. }), "{error}");
    // It was refused before the secret was sent: nobody has asked.
    assert_eq!(two.counter("token_unknown").await, 0);
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_device_with_a_wrong_clock_is_told() {
    let dir = folder();
    let authority = Authority::start(dir.path()).await;
    let token = authority.token("agent").await;
    let error = enrol::join(&token, &key(1), now_s() - 90 * 24 * 3600)
        .await
        .expect_err("three months behind");
    assert!(matches!(error, JoinError::Clock { .. }), "{error}");
    enrol::join(&token, &key(1), now_s())
        .await
        .expect("the same token, with the clock set");
    authority.stop().await;
}

#[tokio::test]
async fn what_a_killed_authority_acknowledged_it_still_knows() {
    let dir = folder();
    let authority = Authority::start(dir.path()).await;
    let root = authority.ready.root_spki;
    let (used, unused) = (authority.token("agent").await, authority.token("agent").await);
    let agent = enrol::join(&used, &key(1), now_s()).await.expect("it joins");
    let owner = key(9).public().to_hex();
    authority
        .api
        .ok(
            "POST",
            "/v1/owners",
            json!({ "tenant": "default", "name": "Ada", "public_key": owner }),
        )
        .await;

    // No orderly end: the task is dropped wherever it stands.
    authority.task.abort();
    let _ = authority.task.await;
    let authority = start_again(dir.path()).await;
    assert!(!authority.ready.created);
    assert_eq!(authority.ready.root_spki, root);

    let here = |token: &JoinToken| JoinToken {
        authority: authority.ready.public_address.clone(),
        ..token.clone()
    };
    assert_eq!(refused(enrol::join(&here(&used), &key(2), now_s()).await), ErrorCode::TokenUsed);
    enrol::join(&here(&unused), &key(3), now_s())
        .await
        .expect("the other token still works");
    let membership = Membership {
        authority: authority.ready.public_address.clone(),
        ..agent.membership().clone()
    };
    let moved = Enrolment::new(membership, agent.certificate().to_vec(), agent.bundle().clone()).expect("the same member");
    let renewed = enrol::renew(&moved, &key(1)).await.expect("it is known");
    assert!(renewed.bundle().trusts_owner(&agent.membership().tenant, &key(9).public()));
    let bundle = authority.api.ok("GET", "/v1/bundle", Value::Null).await;
    assert_eq!((&bundle["version"], &bundle["owners"][0]["public_key"]), (&json!(2), &json!(owner)));
    authority.stop().await;
}

/// After an abort, tasks of the old one may hold the folder for a moment; a killed process holds nothing.
async fn start_again(dir: &Path) -> Authority {
    for _ in 0..100 {
        if std::fs::File::open(dir.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Authority::start(dir).await
}

#[tokio::test]
async fn it_does_not_start_where_it_can_not_run() {
    let dir = folder();
    let authority = Authority::start(dir.path()).await;
    let with = |change: fn(&mut Config)| {
        let mut config = Config {
            data_dir: dir.path().join("other"),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..Config::default()
        };
        change(&mut config);
        run(config, |_| {}, std::future::ready(()))
    };
    let same_folder = Config {
        data_dir: dir.path().to_owned(),
        ..Config::default()
    };
    let error = run(same_folder, |_| {}, std::future::ready(()))
        .await
        .expect_err("one process a folder");
    assert!(matches!(error, AuthorityError::Store(StoreError::Locked { .. })), "{error}");
    let error = with(|c| c.public_address = Some("authority".to_owned()))
        .await
        .expect_err("no port");
    assert!(matches!(error, AuthorityError::PublicAddress { .. }), "{error}");
    let error = with(|c| c.listen = SocketAddr::from(([0, 0, 0, 0], 0)))
        .await
        .expect_err("tokens could not say where it is");
    assert!(matches!(error, AuthorityError::NoPublicAddress { .. }), "{error}");
    let error = with(|c| c.api_listen = SocketAddr::from(([0, 0, 0, 0], 0)))
        .await
        .expect_err("not a loopback address");
    assert!(matches!(error, AuthorityError::Loopback(_)), "{error}");
    let taken = Config {
        data_dir: dir.path().join("other"),
        listen: authority.ready.quic_address,
        ..Config::default()
    };
    let error = run(taken, |_| {}, std::future::ready(())).await.expect_err("the port is taken");
    assert!(matches!(error, AuthorityError::Bind(_)), "{error}");
    authority.stop().await;
    with(|_| {}).await.expect("an orderly end at once");
}

#[tokio::test]
async fn requests_that_are_none_are_refused_and_counted() {
    let dir = folder();
    let authority = Authority::start(dir.path()).await;
    let trust = Trust::PinnedRoot(*authority.token("agent").await.root_spki.as_bytes());
    let (endpoint, name) = (ClientEndpoint::new().expect("a socket"), cert::dns_name(AUTHORITY, AUTHORITY));
    let address = &authority.ready.public_address;

    let connection = endpoint
        .connect(address, &name, ALPN_ENROL, None, &trust)
        .await
        .expect("no certificate is needed");
    let foreign = AgentRequest::Bundle(BundleQuery { have_version: 0 });
    let answer: Result<(BundleReply, _), _> = request(&connection, &foreign, Duration::from_secs(5)).await;
    assert!(matches!(answer, Err(NetError::Refused(refusal)) if refusal.code == ErrorCode::Malformed));
    assert_eq!(authority.counter("malformed").await, 1);

    // Without a certificate there is no renewal; in TLS 1.3 the client hears it with its first request.
    if let Ok(connection) = endpoint.connect(address, &name, ALPN_RENEW, None, &trust).await {
        let answer: Result<(BundleReply, _), _> = request(&connection, &foreign, Duration::from_secs(5)).await;
        assert!(answer.is_err());
    }
    assert_eq!(authority.counter("handshake_no_certificate").await, 1);

    let other_protocol = endpoint.connect(address, &name, ALPN_AGENT, None, &trust).await.err();
    assert!(matches!(other_protocol, Some(ConnectError::Version { .. })), "{other_protocol:?}");
    endpoint.close().await;
    authority.stop().await;
}

#[tokio::test]
async fn the_operator_sees_tokens_without_their_secrets() {
    let dir = folder();
    let authority = Authority::start(dir.path()).await;
    let token = authority.token_for("agent", "clinic", 3600).await;
    assert_eq!((token.role, token.tenant.as_str()), (Role::Agent, "clinic"));
    let list = authority.api.ok("GET", "/v1/tokens", Value::Null).await;
    let view = &list["tokens"][0];
    assert_eq!(
        (&view["state"], &view["tenant"], &view["role"]),
        (&json!("open"), &json!("clinic"), &json!("agent"))
    );
    assert_eq!(view["expires_at_ms"], json!(token.expires_at));
    assert!(!list.to_string().contains(&hex::encode(token.secret.as_bytes())));

    let id = view["id"].as_str().expect("an id");
    authority.api.ok("POST", &format!("/v1/tokens/{id}/revoke"), Value::Null).await;
    assert_eq!(refused(enrol::join(&token, &key(1), now_s()).await), ErrorCode::TokenUnknown);

    let cases = [
        (
            "POST",
            "/v1/tokens",
            json!({ "role": "agent", "server": "nowhere", "expires_s": 60 }),
            400,
            "bad_request",
        ),
        ("POST", "/v1/tokens", json!({ "role": "king", "expires_s": 60 }), 422, "bad_request"),
        ("POST", "/v1/tokens/ffff/revoke", Value::Null, 404, "token_unknown"),
        (
            "POST",
            "/v1/owners",
            json!({ "name": "Ada", "public_key": "12" }),
            400,
            "bad_request",
        ),
        (
            "DELETE",
            &format!("/v1/owners/{}", "0".repeat(64)),
            Value::Null,
            404,
            "owner_unknown",
        ),
        ("POST", "/v1/roots/12/retire", Value::Null, 404, "root_unknown"),
    ];
    for (method, path, body, status, code) in cases {
        let (got, answer) = authority.api.ask(method, path, &body).await;
        assert_eq!((got, &answer["code"]), (status, &json!(code)), "{method} {path}: {answer}");
    }
    authority.stop().await;
}
