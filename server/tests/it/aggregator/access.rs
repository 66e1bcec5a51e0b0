//! Who gets in, who is cut off, and what the server does when it can't start.

use std::time::{Duration, Instant};

use aimass_net::enrol::{self, RenewError};
use aimass_net::{BindError, NetError};
use aimass_protocol::message::agent::{AgentRequest, BundleQuery, BundleReply};
use aimass_protocol::{ErrorCode, TenantId};
use aimass_server::aggregator::{Config, ServeError};
use aimass_server::store::{Database, Format, StoreError};
use serde_json::{Value, json};

use super::deployment::{Deployment, Server, small_model};
use super::device::{Device, refused};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_device_is_cut_off_at_once_and_can_be_let_in_again() {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    deployment.submit(&server, &small_model(), "rounds = 1\nmin = 2").await;
    let mut device = Device::join(&deployment, server.ready.quic_address, 1).await;
    let task = device.task().await;
    let id = device.id().to_hex();

    // It waits for a cohort when the operator strikes.
    let waiting = device.ready(&task);
    let revoking = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = Instant::now();
        let view = server.api.ok("POST", &format!("/v1/agents/{}/revoke", &id[..8]), Value::Null).await;
        assert_eq!(view["state"], "revoked");
        began
    };
    let (answer, began) = tokio::join!(waiting, revoking);
    assert_eq!(refused(answer), ErrorCode::Revoked);
    let why = tokio::time::timeout(Duration::from_secs(5), device.connection.closed())
        .await
        .expect("cut off");
    assert!(
        matches!(&why, NetError::Refused(refusal) if refusal.code == ErrorCode::Revoked),
        "{why}"
    );
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());

    device.reconnect(None).await;
    assert_eq!(refused(device.check_in().await), ErrorCode::Revoked);
    // The authority is told, so a new certificate is no way around it.
    let renewed = until(async || enrol::renew(&device.enrolment, &device.key).await.err()).await;
    assert!(matches!(renewed, RenewError::Revoked { .. }), "{renewed}");

    let view = server.api.ok("POST", &format!("/v1/agents/{id}/accept"), Value::Null).await;
    assert_eq!(view["state"], "accepted");
    device.reconnect(None).await;
    device.check_in().await.expect("let in again");
    until(async || enrol::renew(&device.enrolment, &device.key).await.ok()).await;
    server.stop().await;
}

/// Waits until there is something.
async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it did not come to pass");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_device_waits_for_the_operator_where_the_server_asks() {
    let deployment = Deployment::start().await;
    let server = deployment.server_that_asks().await;
    let device = Device::join(&deployment, server.ready.quic_address, 1).await;
    assert_eq!(refused(device.check_in().await), ErrorCode::Pending);
    let agents = server.api.ok("GET", "/v1/agents", Value::Null).await;
    let agent = &agents["agents"][0];
    assert_eq!(
        (&agent["agent"], &agent["state"], &agent["online"]),
        (&json!(device.id().to_hex()), &json!("pending"), &json!(true))
    );
    server
        .api
        .ok("POST", &format!("/v1/agents/{}/accept", device.id().to_hex()), Value::Null)
        .await;
    device.check_in().await.expect("on the same connection");
    let agents = server.api.ok("GET", "/v1/agents", Value::Null).await;
    assert_eq!(agents["agents"][0]["contracts"], json!(["digits"]));
    assert_eq!(server.counter("refused_pending").await, 1);

    for (path, status) in [("abc", 400), ("ffffffff", 404)] {
        assert_eq!(
            server.api.ask("POST", &format!("/v1/agents/{path}/accept"), &Value::Null).await.0,
            status,
            "{path}"
        );
    }
    server.stop().await;
    // The operator's word outlives the process.
    let server = deployment.server_that_asks().await;
    let agents = server.api.ok("GET", "/v1/agents", Value::Null).await;
    assert_eq!(
        (&agents["agents"][0]["state"], &agents["agents"][0]["online"]),
        (&json!("accepted"), &json!(false))
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_gets_the_newest_bundle_from_the_server() {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let device = Device::join(&deployment, server.ready.quic_address, 1).await;
    let held = device.enrolment.bundle();
    let ask = |have_version| AgentRequest::Bundle(BundleQuery { have_version });
    let (reply, _): (BundleReply, _) = device.ask(&ask(0)).await.expect("an answer");
    assert_eq!(reply.bundle.expect("a newer one"), held.as_bytes());
    let (reply, _): (BundleReply, _) = device.ask(&ask(held.version())).await.expect("an answer");
    assert_eq!(reply.bundle, None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_at_the_start_is_said() {
    let deployment = Deployment::start().await;
    let config = deployment.config();
    let error = |config: Config, token| async move { Server::start(config, token).await.err().expect("does not start") };

    let not_joined = error(config.clone(), None).await;
    assert!(
        matches!(not_joined, ServeError::Identity(_)) && not_joined.to_string().contains("token"),
        "{not_joined}"
    );
    let token = deployment.token("agent", "default").await;
    assert!(matches!(error(config.clone(), Some(token)).await, ServeError::TokenRole { .. }));

    let server = deployment.server().await;
    let locked = error(config.clone(), None).await;
    assert!(matches!(locked, ServeError::Store(StoreError::Locked { .. })), "{locked}");
    let elsewhere = Config {
        data_dir: deployment.dir.path().join("other"),
        listen: server.ready.quic_address,
        ..config.clone()
    };
    let in_use = error(elsewhere, Some(deployment.token("server", "default").await)).await;
    assert!(matches!(in_use, ServeError::Bind(BindError::InUse { .. })), "{in_use}");
    server.stop().await;

    let tenant: TenantId = "acme".parse().expect("a tenant");
    let other_tenant = error(Config { tenant, ..config.clone() }, None).await;
    assert!(matches!(other_tenant, ServeError::Tenant { .. }), "{other_tenant}");

    let store = config.data_dir.join("store");
    std::fs::remove_dir_all(&store).expect("removed");
    drop(
        Database::open(
            &store,
            Format {
                name: "aggregator",
                version: 99,
                reads: 99,
            },
        )
        .expect("a newer program made it"),
    );
    let newer = error(config, None).await;
    assert!(matches!(newer, ServeError::Store(StoreError::Newer { found: 99, .. })), "{newer}");
    assert!(newer.to_string().contains("update the server"), "{newer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_of_another_tenant_is_turned_away() {
    let deployment = Deployment::start().await;
    let tenant: TenantId = "acme".parse().expect("a tenant");
    let ours = deployment.server().await;
    let theirs = deployment
        .server_with(Config {
            tenant,
            data_dir: deployment.dir.path().join("acme"),
            ..deployment.config()
        })
        .await;
    let device = Device::join(&deployment, ours.ready.quic_address, 1).await;
    device.check_in().await.expect("at home");
    // Their server's name is another one, so an honest device does not even get there; a dishonest one does not look.
    let stranger = device.connect_to("acme", theirs.ready.quic_address).await;
    let why = stranger.closed().await;
    assert!(
        matches!(&why, NetError::Refused(refusal) if refusal.code == ErrorCode::Forbidden),
        "{why}"
    );
    assert_eq!(theirs.counter("connections_refused").await, 1);
    assert_eq!(theirs.api.ok("GET", "/v1/agents", Value::Null).await["agents"], json!([]));
    tokio::join!(ours.stop(), theirs.stop());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_has_no_more_devices_than_its_quota() {
    let deployment = Deployment::start().await;
    let server = deployment
        .server_with(Config {
            max_agents: 2,
            ..deployment.config()
        })
        .await;
    let address = server.ready.quic_address;
    let mut first = Device::join(&deployment, address, 1).await;
    Device::join(&deployment, address, 2).await.check_in().await.expect("there is room");
    let third = Device::join(&deployment, address, 3).await;
    let why = third.connection.closed().await;
    assert!(
        matches!(&why, NetError::Refused(refusal) if refusal.code == ErrorCode::Forbidden && refusal.text.contains("max_agents")),
        "{why}"
    );
    first.reconnect(None).await;
    first.check_in().await.expect("who is registered stays so");
    assert_eq!(server.counter("connections_refused").await, 1);
    server.stop().await;
}
