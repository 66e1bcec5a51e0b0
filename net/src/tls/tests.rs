use aimass_crypto::cert::{dns_name, spki_sha256};
use aimass_protocol::ErrorCode;
use aimass_protocol::frame::{ALPN_AGENT, ALPN_ENROL, ALPN_RENEW};
use aimass_protocol::message::Refusal;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::UnixTime;
use tokio::time::timeout;

use super::server::verification_time;
use super::*;
use crate::testing::{DAY, Deployment, SERVICES, SOON, accept_one, connect, loopback, message, now_s};
use crate::{BindError, ClientEndpoint, ConnectError, Connection, HandshakeError, Limits, NetError, ServerEndpoint, request, transport};

/// How a connection attempt looks from both ends; the client's includes its first request, which tells it what the server thinks of its certificate.
async fn attempt(
    server: &ServerEndpoint,
    alpn: &[u8],
    identity: Option<&Identity>,
    trust: &Trust,
) -> (Result<Result<(), NetError>, ConnectError>, Result<Connection, HandshakeError>) {
    let client = ClientEndpoint::new().expect("a socket");
    let accepting = accept_one(server);
    let near = match connect(&client, server.local_addr(), alpn, identity, trust).await {
        Ok(connection) => Ok(timeout(SOON, first_request(&connection)).await.expect("an answer in time")),
        Err(e) => Err(e),
    };
    (near, timeout(SOON, accepting).await.expect("an end in time").expect("no panic"))
}

/// A first request, up to the server's word on the connection: "pending" is what [`admitted`] says to whom it lets in.
async fn first_request(connection: &Connection) -> Result<(), NetError> {
    match request::<_, Refusal>(connection, &message("hello"), SOON).await {
        Err(NetError::Refused(refusal)) if refusal.code == ErrorCode::Pending => Ok(()),
        other => other.map(|_| ()),
    }
}

/// The server's end of a connection whose client it lets in.
async fn admitted(server: &ServerEndpoint, alpn: &[u8], identity: Option<&Identity>, trust: &Trust) -> Connection {
    let client = ClientEndpoint::new().expect("a socket");
    let accepting = accept_one(server);
    let near = connect(&client, server.local_addr(), alpn, identity, trust)
        .await
        .expect("a trusted server");
    let far = timeout(SOON, accepting)
        .await
        .expect("an end in time")
        .expect("no panic")
        .expect("a trusted client");
    far.close(ErrorCode::Pending, "wait");
    assert!(first_request(&near).await.is_ok());
    far
}

#[tokio::test]
async fn each_end_knows_whom_it_speaks_to() {
    let d = Deployment::new(1);
    let pair = d.pair().await;
    let (server, agent) = (
        pair.near.peer().expect("the server's certificate"),
        pair.far.peer().expect("the agent's certificate"),
    );
    assert!(server.subject.is_server());
    assert!(agent.subject.is_agent());
    assert_eq!(pair.far.peer_public_key(), Some(d.agent().public));
    assert_eq!(pair.far.peer_certificates()[0], d.agent().chain[0]);
    assert_eq!((pair.near.alpn(), pair.far.alpn()), (ALPN_AGENT, ALPN_AGENT));
    assert_eq!(pair.near.remote_address(), pair.server.local_addr());
}

#[tokio::test]
async fn a_server_of_another_root_is_untrusted() {
    let (ours, theirs) = (Deployment::new(1), Deployment::new(2));
    let (near, far) = attempt(&theirs.serve(), ALPN_AGENT, Some(&ours.agent()), &ours.trust()).await;
    assert!(matches!(near, Err(ConnectError::Untrusted { .. })), "{near:?}");
    assert!(matches!(far, Err(HandshakeError::DistrustsUs { .. })), "{far:?}");
}

#[tokio::test]
async fn a_client_of_another_root_is_refused() {
    let (ours, theirs) = (Deployment::new(1), Deployment::new(2));
    let (near, far) = attempt(&theirs.serve(), ALPN_AGENT, Some(&ours.agent()), &theirs.trust()).await;
    assert!(
        matches!(near, Ok(Err(NetError::CertificateRefused { expired: false, .. }))),
        "{near:?}"
    );
    assert!(matches!(far, Err(HandshakeError::Certificate { .. })), "{far:?}");
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let d = Deployment::new(1);
    for alpn in [ALPN_AGENT, ALPN_RENEW] {
        let (near, far) = attempt(&d.serve(), alpn, None, &d.trust()).await;
        assert!(
            matches!(near, Ok(Err(NetError::CertificateRefused { expired: false, .. }))),
            "{near:?}"
        );
        assert!(matches!(far, Err(HandshakeError::NoCertificate { .. })), "{far:?}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_good_for_renewal_only() {
    let d = Deployment::new(1);
    let server = d.serve();
    let expired = d.aged("default", "agent", 2, 40 * DAY);
    let (near, far) = attempt(&server, ALPN_AGENT, Some(&expired), &d.trust()).await;
    assert!(
        matches!(near, Ok(Err(NetError::CertificateRefused { expired: true, .. }))),
        "{near:?}"
    );
    assert!(matches!(far, Err(HandshakeError::Expired { .. })), "{far:?}");
    let far = admitted(&server, ALPN_RENEW, Some(&expired), &d.trust()).await;
    assert_eq!(far.peer_public_key(), Some(expired.public));
    // 30 days of life and 90 of grace are over; or it is of another root, which grace does not help.
    for bad in [
        d.aged("default", "agent", 2, 125 * DAY),
        Deployment::new(2).aged("default", "agent", 2, 40 * DAY),
    ] {
        let (near, far) = attempt(&server, ALPN_RENEW, Some(&bad), &d.trust()).await;
        assert!(matches!(near, Ok(Err(NetError::CertificateRefused { .. }))), "{near:?}");
        assert!(
            matches!(far, Err(HandshakeError::Expired { .. } | HandshakeError::Certificate { .. })),
            "{far:?}"
        );
    }
}

#[test]
fn grace_ends_to_the_second() {
    let at = |now: u64, grace: Option<u64>| {
        verification_time(
            UnixTime::since_unix_epoch(Duration::from_secs(now)),
            1000,
            grace.map(Duration::from_secs),
        )
        .as_secs()
    };
    assert_eq!(
        [at(999, Some(10)), at(1000, Some(10)), at(1001, Some(10)), at(1010, Some(10))],
        [999, 1000, 1000, 1000]
    );
    assert_eq!([at(1011, Some(10)), at(1001, None), at(1001, Some(0))], [1011, 1001, 1001]);
}

#[tokio::test]
async fn a_certificate_from_the_future_is_refused() {
    let d = Deployment::new(1);
    // Issued three days ahead: the 48 hours of backdating do not reach.
    for alpn in [ALPN_AGENT, ALPN_RENEW] {
        let (near, _) = attempt(&d.serve(), alpn, Some(&d.aged("default", "agent", 2, -3 * DAY)), &d.trust()).await;
        assert!(matches!(near, Ok(Err(NetError::CertificateRefused { .. }))), "{near:?}");
    }
}

#[tokio::test]
async fn only_a_server_of_the_tenant_is_a_server() {
    let d = Deployment::new(1);
    for (what, identity) in [
        ("an agent", d.agent()),
        ("another tenant's server", d.aged("other", "server", 3, 0)),
        ("the authority", d.aged("authority", "authority", 3, 0)),
        ("an expired server", d.aged("default", "server", 3, 31 * DAY)),
    ] {
        let server = d.serve_as(&identity, Limits::default());
        let (near, far) = attempt(&server, ALPN_AGENT, Some(&d.agent()), &d.trust()).await;
        assert!(matches!(near, Err(ConnectError::Untrusted { .. })), "{what}: {near:?}");
        assert!(far.is_err(), "{what}");
    }
}

#[tokio::test]
async fn the_authority_is_no_client() {
    let d = Deployment::new(1);
    let (near, far) = attempt(&d.serve(), ALPN_AGENT, Some(&d.aged("authority", "authority", 3, 0)), &d.trust()).await;
    assert!(matches!(near, Ok(Err(NetError::CertificateRefused { .. }))), "{near:?}");
    assert!(matches!(far, Err(HandshakeError::Certificate { .. })), "{far:?}");
}

#[tokio::test]
async fn an_unknown_protocol_is_a_version_error() {
    let d = Deployment::new(1);
    let (near, far) = attempt(&d.serve(), b"aimass/99", Some(&d.agent()), &d.trust()).await;
    assert!(matches!(near, Err(ConnectError::Version { .. })), "{near:?}");
    assert!(matches!(far, Err(HandshakeError::Version { .. })), "{far:?}");
}

/// Several protocols at once: the chosen one's demands hold, not those of the laxest.
#[tokio::test]
async fn offering_the_lax_protocol_too_does_not_help() {
    let d = Deployment::new(1);
    let server = d.serve();
    for offered in [[ALPN_ENROL, ALPN_AGENT], [ALPN_AGENT, ALPN_ENROL]] {
        for identity in [None, Some(d.aged("default", "agent", 2, 40 * DAY))] {
            let accepting = accept_one(&server);
            let mut tls = client_config(ALPN_AGENT, identity.as_ref(), &d.trust()).expect("a good identity");
            tls.alpn_protocols = offered.iter().map(|alpn| alpn.to_vec()).collect();
            let tls = Arc::new(QuicClientConfig::try_from(tls).expect("TLS 1.3"));
            let client = transport::client_endpoint(transport::bind(loopback()).expect("a socket")).expect("a runtime");
            let name = dns_name("default", "server");
            let connecting = client
                .connect_with(quinn::ClientConfig::new(tls), server.local_addr(), &name)
                .expect("an address");
            let near = connecting.await.expect("the server's side is good");
            let far = timeout(SOON, accepting).await.expect("an end in time").expect("no panic");
            assert!(
                matches!(far, Err(HandshakeError::NoCertificate { .. } | HandshakeError::Expired { .. })),
                "{far:?}"
            );
            timeout(SOON, near.closed()).await.expect("the client is told");
        }
    }
}

#[test]
fn a_session_admits_nobody_before_a_protocol_is_chosen() {
    let d = Deployment::new(1);
    let services: Arc<[_]> = SERVICES.iter().map(|(alpn, auth)| (alpn.to_vec(), *auth)).collect();
    let tls = Arc::new(ServerTls::new(&d.server(), services, &d.roots()).expect("a good identity"));
    let (session, config) = tls.session().expect("TLS 1.3");
    for (alpn, _) in SERVICES {
        assert!(!session.admits(alpn, true) && !session.admits(alpn, false));
    }
    assert_eq!(
        (config.send_tls13_tickets, config.max_early_data_size),
        (0, 0),
        "no ticket gets around the verification"
    );
}

#[tokio::test]
async fn joining_asks_for_no_certificate_and_pins_the_root() {
    let d = Deployment::new(1);
    let pin = Trust::PinnedRoot(spki_sha256(d.root.certificate_der()).expect("a root"));
    let server = d.serve();
    assert!(admitted(&server, ALPN_ENROL, None, &pin).await.peer().is_none());
    // A certificate that nobody asked for is not shown.
    assert!(admitted(&server, ALPN_ENROL, Some(&d.agent()), &pin).await.peer().is_none());
}

#[tokio::test]
async fn a_pin_skips_no_check() {
    let (d, other) = (Deployment::new(1), Deployment::new(2));
    let pin = Trust::PinnedRoot(spki_sha256(d.root.certificate_der()).expect("a root"));
    let with_chain = |identity: Identity, root: &Deployment| Identity {
        chain: vec![identity.chain[0].clone(), root.root.certificate_der().to_vec()],
        ..identity
    };
    for (what, identity) in [
        ("another root", other.server()),
        ("the pinned root beside a leaf of another", with_chain(other.server(), &d)),
        (
            "no root sent",
            Identity {
                chain: vec![d.server().chain[0].clone()],
                ..d.server()
            },
        ),
        ("an expired leaf", d.aged("default", "server", 1, 31 * DAY)),
        ("an agent", d.agent()),
        ("another tenant", d.aged("other", "server", 1, 0)),
    ] {
        let server = d.serve_as(&identity, Limits::default());
        let (near, _) = attempt(&server, ALPN_ENROL, None, &pin).await;
        assert!(matches!(near, Err(ConnectError::Untrusted { .. })), "{what}: {near:?}");
    }
}

#[tokio::test]
async fn a_pinned_root_must_hold_still() {
    let rng = &mut <rand_chacha::ChaCha20Rng as rand_core::SeedableRng>::seed_from_u64(1);
    let old = Deployment {
        root: aimass_crypto::cert::Root::create("old", now_s() - 21 * 365 * DAY, rng),
    };
    let pin = Trust::PinnedRoot(spki_sha256(old.root.certificate_der()).expect("a root"));
    let (near, _) = attempt(&old.serve(), ALPN_ENROL, None, &pin).await;
    assert!(matches!(near, Err(ConnectError::Untrusted { .. })), "{near:?}");
}

#[tokio::test]
async fn an_optional_certificate_is_verified_when_it_is_shown() {
    let (d, other) = (Deployment::new(1), Deployment::new(2));
    let services: [(&[u8], ClientAuth); 1] = [(ALPN_AGENT, ClientAuth::Optional { allow_expired: None })];
    let server = ServerEndpoint::bind(loopback(), &d.server(), &services, &d.roots(), Limits::default()).expect("a free port");
    assert!(admitted(&server, ALPN_AGENT, None, &d.trust()).await.peer().is_none());
    assert!(admitted(&server, ALPN_AGENT, Some(&d.agent()), &d.trust()).await.peer().is_some());
    let (near, far) = attempt(&server, ALPN_AGENT, Some(&other.agent()), &d.trust()).await;
    assert!(matches!(near, Ok(Err(NetError::CertificateRefused { .. }))), "{near:?}");
    assert!(far.is_err());
}

#[tokio::test]
async fn identities_and_roots_that_can_not_be_used_are_named() {
    let d = Deployment::new(1);
    let bind = |identity: &Identity, roots: &[Vec<u8>]| {
        ServerEndpoint::bind(loopback(), identity, &[(ALPN_AGENT, ClientAuth::None)], roots, Limits::default()).err()
    };
    let (server, agent) = (d.server(), d.agent());
    let mixed = Identity {
        chain: server.chain.clone(),
        ..agent
    };
    assert!(matches!(bind(&mixed, &d.roots()), Some(BindError::Tls(TlsError::Identity { .. }))));
    assert!(matches!(
        bind(
            &Identity {
                chain: vec![],
                ..server.clone()
            },
            &d.roots()
        ),
        Some(BindError::Tls(TlsError::Identity { .. }))
    ));
    assert!(matches!(bind(&server, &[]), Some(BindError::Tls(TlsError::Trust { .. }))));
    assert!(matches!(
        bind(&server, &[server.chain[0].clone()]),
        Some(BindError::Tls(TlsError::Trust { .. }))
    ));
    let client = ClientEndpoint::new().expect("a socket");
    let failed = client
        .connect("127.0.0.1:9", &dns_name("default", "server"), ALPN_AGENT, Some(&mixed), &d.trust())
        .await;
    assert!(matches!(failed, Err(ConnectError::Local { .. })), "{failed:?}");
    assert!(!format!("{mixed:?}").contains("pkcs8"));
}
