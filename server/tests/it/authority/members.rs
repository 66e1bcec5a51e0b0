//! Members: renewal, revocation, expiry, and following the roots.

use aimass_crypto::cert::{CERTIFICATE_LIFETIME, RENEWAL_GRACE, Root};
use aimass_net::enrol::RenewError;
use aimass_net::identity::read_key;

use super::*;

/// The issuing root, read from the authority's folder.
fn root(dir: &Path, ready: &Ready) -> Root {
    let path = dir.join("roots").join(ready.root_spki.to_hex());
    let der = std::fs::read(path.with_extension("der")).expect("the root's certificate");
    Root::load(read_key(&path.with_extension("pem")).expect("the root's key"), &der).expect("they belong together")
}

/// `of` with a certificate that expired `ago` before now.
fn expired(of: &Enrolment, root: &Root, key: &SigningKey, ago: Duration) -> Enrolment {
    let end_s = now_s() - i64::try_from(ago.as_secs()).expect("a few months");
    let issued_s = end_s - i64::try_from(CERTIFICATE_LIFETIME.as_secs()).expect("30 days");
    let Membership { tenant, role, .. } = of.membership();
    let certificate = root
        .issue(
            tenant.as_str(),
            &role.to_string(),
            &key.public(),
            issued_s,
            CERTIFICATE_LIFETIME,
            &mut ChaCha20Rng::seed_from_u64(0),
        )
        .expect("a certificate");
    Enrolment::new(of.membership().clone(), certificate, of.bundle().clone()).expect("it is the member's")
}

#[tokio::test]
async fn a_member_renews_until_it_is_revoked_and_again_when_it_is_not() {
    let dir = folder();
    let authority = Authority::start(dir.path()).await;
    let agent = authority.member("agent", &key(1)).await;
    let server = authority.member("server", &key(2)).await;
    let renewed = enrol::renew(&agent, &key(1)).await.expect("it renews");
    assert_eq!(renewed.membership(), agent.membership());
    assert_ne!(renewed.certificate(), agent.certificate());
    enrol::renew(&server, &key(2)).await.expect("a server renews as well");

    for _ in 0..2 {
        assert!(
            enrol::set_revoked(&server, &key(2), id(&key(1)), true)
                .await
                .expect("its server may")
        );
    }
    let error = enrol::renew(&renewed, &key(1)).await.expect_err("it was revoked");
    assert!(matches!(error, RenewError::Revoked { .. }), "{error}");
    assert!(matches!(
        enrol::fetch_bundle(&agent, &key(1)).await,
        Err(RenewError::Revoked { .. })
    ));
    assert_eq!(authority.counter("revoked").await, 2);

    assert!(
        !enrol::set_revoked(&server, &key(2), id(&key(1)), false)
            .await
            .expect("its server may")
    );
    enrol::renew(&renewed, &key(1)).await.expect("it was accepted again");
    authority.stop().await;
}

#[tokio::test]
async fn only_a_server_of_the_tenant_may_revoke() {
    let dir = folder();
    let authority = Authority::start(dir.path()).await;
    let agent = authority.member("agent", &key(1)).await;
    let foreign_token = authority.token_for("server", "other", 3600).await;
    let foreign = enrol::join(&foreign_token, &key(2), now_s()).await.expect("it joins");
    let error = enrol::set_revoked(&agent, &key(1), id(&key(1)), true)
        .await
        .expect_err("an agent may not");
    assert!(
        matches!(&error, RenewError::Net(NetError::Refused(refusal)) if refusal.code == ErrorCode::Forbidden),
        "{error}"
    );
    // A foreign server can name its own tenant only, where this agent is not.
    enrol::set_revoked(&foreign, &key(2), id(&key(1)), true)
        .await
        .expect("in its own tenant it may");
    enrol::renew(&agent, &key(1))
        .await
        .expect("the agent of the other tenant is not concerned");
    assert_eq!(authority.counter("forbidden").await, 1);
    authority.stop().await;
}

#[tokio::test]
async fn an_expired_certificate_renews_within_the_grace_only() {
    let dir = folder();
    let authority = Authority::start(dir.path()).await;
    let agent = authority.member("agent", &key(1)).await;
    let root = root(dir.path(), &authority.ready);

    let late = expired(&agent, &root, &key(1), RENEWAL_GRACE - Duration::from_secs(60));
    assert!(late.expired(now_s()) && !late.beyond_renewal(now_s()));
    let renewed = enrol::renew(&late, &key(1)).await.expect("89 days late");
    assert!(!renewed.expired(now_s()));

    let too_late = expired(&agent, &root, &key(1), RENEWAL_GRACE + Duration::from_secs(60));
    assert!(too_late.beyond_renewal(now_s()));
    let error = enrol::renew(&too_late, &key(1)).await.expect_err("91 days late");
    assert!(matches!(error, RenewError::TooLate), "{error:?}");

    let server = authority.member("server", &key(2)).await;
    let late_server = expired(&server, &root, &key(2), Duration::from_secs(60));
    let error = enrol::set_revoked(&late_server, &key(2), id(&key(1)), true)
        .await
        .expect_err("an expired server may only renew");
    assert!(
        matches!(&error, RenewError::Net(NetError::Refused(refusal)) if refusal.code == ErrorCode::Forbidden),
        "{error}"
    );
    authority.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_root_is_worth_nothing() {
    let dir = folder();
    let authority = Authority::start(dir.path()).await;
    let agent = authority.member("agent", &key(1)).await;
    let foreign = Root::create("AI Mass root 1", now_s(), &mut ChaCha20Rng::seed_from_u64(77));
    let forged = expired(&agent, &foreign, &key(1), Duration::ZERO);
    assert!(forged.check_issuer().is_err());
    let error = enrol::renew(&forged, &key(1)).await.expect_err("nobody knows this root");
    assert!(matches!(error, RenewError::Net(_) | RenewError::Connect(_)), "{error:?}");
    assert!(!error.is_retryable(), "{error:?}");
    assert_eq!(authority.counter("handshake_untrusted").await, 1);
    authority.stop().await;
}

#[tokio::test]
async fn an_agent_with_an_old_bundle_follows_a_rotation() {
    let dir = folder();
    let authority = Authority::start(dir.path()).await;
    let agent = authority.member("agent", &key(1)).await;
    let old = authority.ready.root_spki.to_hex();

    let rotated = authority.api.ok("POST", "/v1/roots/rotate", Value::Null).await;
    assert_eq!(rotated["bundle_version"], json!(2));
    let (status, refusal) = authority
        .api
        .ask(
            "POST",
            &format!("/v1/roots/{}/retire", rotated["root_spki"].as_str().expect("a hash")),
            &Value::Null,
        )
        .await;
    assert_eq!((status, &refusal["code"]), (409, &json!("root_issuing")));

    // Both sides still know the old root, so the agent hears of the new one and gets a certificate from it.
    let bundle = enrol::fetch_bundle(&agent, &key(1))
        .await
        .expect("it asks")
        .expect("a newer bundle");
    assert_eq!((bundle.version(), bundle.roots().count()), (2, 2));
    let renewed = enrol::renew(&agent, &key(1)).await.expect("it renews");
    assert!(!renewed.renew_due(now_s()), "the new root has issued it");
    assert!(enrol::fetch_bundle(&renewed, &key(1)).await.expect("it asks").is_none());
    // One with the new root's certificate renews as well, and one can join.
    enrol::renew(&renewed, &key(1)).await.expect("it renews again");
    let second = authority.member("agent", &key(2)).await;

    authority.api.ok("POST", &format!("/v1/roots/{old}/retire"), Value::Null).await;
    let error = enrol::renew(&agent, &key(1)).await.expect_err("it was away for too long");
    assert!(matches!(error, RenewError::Untrusted { .. }), "{error:?}");
    let latest = enrol::renew(&second, &key(2)).await.expect("it followed in time");
    assert_eq!((latest.bundle().version(), latest.bundle().roots().count()), (3, 1));
    authority.member("agent", &key(3)).await;
    authority.stop().await;
}
