use aimass_crypto::cert::dns_name;
use aimass_protocol::frame::ALPN_AGENT;
use aimass_protocol::message::Refusal;
use aimass_relay::flood::{Flood, Hellos};
use tokio::net::UdpSocket;

use super::*;
use crate::testing::{Deployment, SERVICES, SOON, accept_one, connect, loopback, message};
use crate::{ClientEndpoint, ConnectError, NetError, Trust};

#[tokio::test]
async fn a_port_in_use_is_named() {
    let d = Deployment::new(1);
    let server = d.serve();
    let again = ServerEndpoint::bind(server.local_addr(), &d.server(), &SERVICES, &d.roots(), Limits::default());
    let Err(error @ BindError::InUse { .. }) = again else {
        panic!("the port is in use")
    };
    assert!(error.to_string().contains("choose another"), "{error}");
    // TEST-NET-1 (RFC 5737) is nobody's address.
    let foreign = ServerEndpoint::bind(([192, 0, 2, 1], 0).into(), &d.server(), &SERVICES, &d.roots(), Limits::default());
    assert!(matches!(foreign, Err(BindError::Address { .. })));
}

#[tokio::test]
async fn addresses_that_lead_nowhere_are_named() {
    let d = Deployment::new(1);
    let client = ClientEndpoint::new().expect("a socket").patience(Duration::from_millis(300));
    let name = dns_name("default", "server");
    for bad in ["", "localhost", "127.0.0.1", "127.0.0.1:70000", "no such host:1"] {
        let failed = client.connect(bad, &name, ALPN_AGENT, Some(&d.agent()), &d.trust()).await;
        assert!(matches!(failed, Err(ConnectError::Address { .. })), "{bad:?}: {failed:?}");
    }
    let silent = UdpSocket::bind(loopback()).await.expect("a socket");
    let failed = connect(
        &client,
        silent.local_addr().expect("bound"),
        ALPN_AGENT,
        Some(&d.agent()),
        &d.trust(),
    )
    .await;
    assert!(matches!(failed, Err(ConnectError::Unreachable { .. })), "{failed:?}");
}

#[tokio::test]
async fn a_name_with_several_addresses_finds_the_one_that_answers() {
    let d = Deployment::new(1);
    let server = d.serve();
    let client = ClientEndpoint::new().expect("a socket");
    let accepting = accept_one(&server);
    // It may resolve to ::1 first, where nobody listens.
    let addr = format!("localhost:{}", server.local_addr().port());
    let near = client
        .connect(&addr, &dns_name("default", "server"), ALPN_AGENT, Some(&d.agent()), &d.trust())
        .await;
    assert!(near.is_ok(), "{near:?}");
    accepting.await.expect("no panic").expect("a trusted agent");
}

#[tokio::test]
async fn a_full_server_says_so() {
    let d = Deployment::new(1);
    let server = d.serve_as(
        &d.server(),
        Limits {
            max_connections: 0,
            ..Limits::default()
        },
    );
    let accepting = tokio::spawn({
        let server = server.clone();
        async move { server.accept().await.is_none() }
    });
    let client = ClientEndpoint::new().expect("a socket");
    let failed = connect(&client, server.local_addr(), ALPN_AGENT, Some(&d.agent()), &d.trust()).await;
    assert!(matches!(failed, Err(ConnectError::Busy { .. })), "{failed:?}");
    server.close(Duration::ZERO).await;
    assert!(accepting.await.expect("no panic"), "nobody was let in");
}

#[tokio::test]
async fn under_load_an_address_is_validated_first() {
    let d = Deployment::new(1);
    let server = d.serve_as(
        &d.server(),
        Limits {
            retry_above: 0,
            ..Limits::default()
        },
    );
    let accepting = accept_one(&server);
    let client = ClientEndpoint::new().expect("a socket");
    let near = connect(&client, server.local_addr(), ALPN_AGENT, Some(&d.agent()), &d.trust()).await;
    assert!(near.is_ok(), "{near:?}");
    accepting.await.expect("no panic").expect("a trusted agent");
    assert_eq!(server.shared.handshakes.len(), 0);
}

/// Forwards what clients send and swallows what they are answered.
async fn one_way(to: SocketAddr) -> SocketAddr {
    let socket = UdpSocket::bind(loopback()).await.expect("a socket");
    let addr = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut packet = vec![0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut packet).await {
            if from != to {
                // A lost packet changes nothing here.
                let _ = socket.send_to(&packet[..len], to).await;
            }
        }
    });
    addr
}

#[tokio::test]
async fn a_client_that_stops_in_its_handshake_holds_nobody_up() {
    let d = Deployment::new(1);
    let server = d.serve_as(
        &d.server(),
        Limits {
            handshake_timeout: Duration::from_millis(500),
            ..Limits::default()
        },
    );
    let (sender, mut outcomes) = tokio::sync::mpsc::unbounded_channel();
    let accepting = server.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move { sender.send(incoming.handshake().await) });
        }
    });
    let client = ClientEndpoint::new().expect("a socket").patience(Duration::from_millis(400));
    let relay = one_way(server.local_addr()).await;
    let (agent, trust) = (d.agent(), d.trust());
    let stalled = tokio::spawn(async move { connect(&client, relay, ALPN_AGENT, Some(&agent), &trust).await });
    sleep(Duration::from_millis(100)).await;
    let good = ClientEndpoint::new().expect("a socket");
    let near = connect(&good, server.local_addr(), ALPN_AGENT, Some(&d.agent()), &d.trust()).await;
    assert!(near.is_ok(), "{near:?}");
    assert!(outcomes.recv().await.expect("the good one").is_ok());
    let stalled = stalled.await.expect("no panic");
    assert!(matches!(stalled, Err(ConnectError::Unreachable { .. })), "{stalled:?}");
    let timed_out = timeout(SOON, outcomes.recv())
        .await
        .expect("a bounded time")
        .expect("the stalled one");
    let Err(error) = timed_out else {
        panic!("it never finished its handshake")
    };
    // Whichever comes first: our limit, or the client's word that it gave up.
    assert!(
        matches!(error, HandshakeError::TimedOut { .. } | HandshakeError::Broken { .. }),
        "{error:?}"
    );
    assert_eq!(server.shared.handshakes.len(), 0);
}

/// A request and its answer over a connection that stands.
async fn works(near: &Connection, far: &Connection) -> bool {
    let serving = far.clone();
    tokio::spawn(async move {
        if let Ok(Some((mut writer, mut reader))) = serving.accept().await {
            let asked: Refusal = reader.control().await.expect("a request");
            crate::reply(&mut writer, Ok(asked)).await.expect("sent");
        }
    });
    crate::request::<_, Refusal>(near, &message("still there?"), SOON).await.is_ok()
}

#[tokio::test]
async fn roots_are_replaced_without_a_break() {
    let (old, new) = (Deployment::new(1), Deployment::new(2));
    let both = [old.roots(), new.roots()].concat();
    let pair = old.pair().await;
    let (server, client) = (&pair.server, &pair.client);
    let handshake = async |agent: &Identity, trust: &Trust| -> Result<(), NetError> {
        let accepting = accept_one(server);
        let Ok(near) = connect(client, server.local_addr(), ALPN_AGENT, Some(agent), trust).await else {
            return Err(NetError::Broken {
                reason: "no connection".to_owned(),
            });
        };
        let Ok(far) = accepting.await.expect("no panic") else {
            return Err(near.closed().await);
        };
        assert!(works(&near, &far).await);
        Ok(())
    };
    assert!(
        handshake(&new.agent(), &old.trust()).await.is_err(),
        "the new root is not known yet"
    );
    // Rollover: both roots are trusted, first with the old certificate, then with the new one.
    server.reload(&old.server(), &both).expect("good roots");
    assert!(handshake(&old.agent(), &old.trust()).await.is_ok());
    assert!(handshake(&new.agent(), &Trust::Roots(both.clone())).await.is_ok());
    server.reload(&new.server(), &both).expect("good roots");
    assert!(
        handshake(&old.agent(), &old.trust()).await.is_err(),
        "its bundle is too old for the server's new certificate"
    );
    assert!(handshake(&old.agent(), &Trust::Roots(both)).await.is_ok());
    // The old root retires.
    server.reload(&new.server(), &new.roots()).expect("good roots");
    assert!(matches!(
        handshake(&old.agent(), &new.trust()).await,
        Err(NetError::CertificateRefused { .. })
    ));
    assert!(handshake(&new.agent(), &new.trust()).await.is_ok());
    assert!(works(&pair.near, &pair.far).await, "the first connection stands");
    // What can't be used changes nothing.
    assert!(server.reload(&new.server(), &[]).is_err());
    assert!(handshake(&new.agent(), &new.trust()).await.is_ok());
}

#[tokio::test]
async fn closing_lets_open_streams_end_and_refuses_newcomers() {
    let d = Deployment::new(1);
    let pair = d.pair().await;
    let (mut writer, mut reader) = pair.near.open().await.expect("open");
    writer.control(&message("slow request")).await.expect("sent");
    writer.finish();
    let (mut far_writer, far_reader) = pair.far.accept().await.expect("open").expect("a stream");
    tokio::spawn(async move {
        sleep(Duration::from_millis(300)).await;
        far_writer.control(&message("answered while closing")).await.expect("sent");
        far_writer.finish();
        drop((far_writer, far_reader));
    });
    let closing = tokio::spawn({
        let server = pair.server.clone();
        async move { server.close(SOON).await }
    });
    assert_eq!(
        reader.control::<Refusal>().await.expect("an answer"),
        message("answered while closing")
    );
    timeout(SOON / 2, closing)
        .await
        .expect("as soon as the stream was over")
        .expect("no panic");
    assert!(pair.server.accept().await.is_none());
    assert!(matches!(pair.near.closed().await, NetError::Broken { .. }), "in peace");
    let late = ClientEndpoint::new().expect("a socket").patience(Duration::from_millis(300));
    assert!(
        connect(&late, pair.server.local_addr(), ALPN_AGENT, Some(&d.agent()), &d.trust())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn names_of_failures_are_distinct() {
    let peer = loopback();
    let reason = String::new;
    let all = [
        HandshakeError::TimedOut { peer },
        HandshakeError::Version { peer },
        HandshakeError::NoCertificate { peer },
        HandshakeError::Expired { peer },
        HandshakeError::Certificate { peer, reason: reason() },
        HandshakeError::DistrustsUs { peer, reason: reason() },
        HandshakeError::Broken { peer, reason: reason() },
    ];
    let names: std::collections::BTreeSet<_> = all.iter().map(HandshakeError::name).collect();
    assert_eq!(names.len(), all.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_finish_keep_nobody_out() {
    const PLACES: usize = 8;
    let d = Deployment::new(1);
    let server = d.serve_as(
        &d.server(),
        Limits {
            max_handshakes: PLACES,
            retry_above: PLACES / 2,
            handshake_timeout: Duration::from_secs(60),
            ..Limits::default()
        },
    );
    let accepting = server.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some(incoming) = accepting.accept().await {
            held.push(tokio::spawn(incoming.handshake()));
        }
    });
    let target = server.local_addr();
    let places = server.clone();
    let flooded = tokio::task::spawn_blocking(move || {
        let mut flood = Flood::new(target, ALPN_AGENT, "server.default.aimass.internal").expect("sockets");
        let mut flooded = flood.run(Duration::from_millis(500), 4 * PLACES, Hellos::Made).expect("floods");
        // A busy machine takes longer to answer so many.
        for _ in 0..40 {
            if flooded.proven as usize >= PLACES && places.shared.handshakes.len() == PLACES {
                break;
            }
            flooded = flood.run(Duration::from_millis(500), 4 * PLACES, Hellos::Made).expect("floods");
        }
        flooded
    });
    let flooded = flooded.await.expect("no panic");
    assert!(flooded.proven as usize >= PLACES, "{flooded:?}");
    assert_eq!(server.shared.handshakes.len(), PLACES, "all places are taken for a minute");
    sleep(Duration::from_secs(1)).await;
    let client = ClientEndpoint::new().expect("a socket");
    let honest = connect(&client, target, ALPN_AGENT, Some(&d.agent()), &d.trust()).await;
    assert!(honest.is_ok(), "{honest:?}");
}

/// `cargo test --release -p aimass-net -- --ignored --nocapture handshakes`: mutual TLS, both ends in one process.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn handshakes() {
    let d = Deployment::new(1);
    let server = d.serve();
    let accepting = tokio::spawn({
        let server = server.clone();
        async move {
            let mut held = Vec::new();
            while let Some(incoming) = server.accept().await {
                held.push(tokio::spawn(incoming.handshake()));
            }
            held.len()
        }
    });
    let (client, agent, trust) = (ClientEndpoint::new().expect("a socket"), d.agent(), d.trust());
    let began = Instant::now();
    let mut standing = Vec::new();
    for _ in 0..500 {
        standing.push(
            connect(&client, server.local_addr(), ALPN_AGENT, Some(&agent), &trust)
                .await
                .expect("connected"),
        );
    }
    println!(
        "{:.2} ms a handshake, one after the other",
        began.elapsed().as_secs_f64() * 1e3 / 500.0
    );
    client.close().await;
    server.close(Duration::ZERO).await;
    assert_eq!(accepting.await.expect("no panic"), 500);
}
