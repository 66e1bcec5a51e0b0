//! Deployments for tests: a root, identities of any role and age, endpoints on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aimass_crypto::cert::{CERTIFICATE_LIFETIME, RENEWAL_GRACE, Root, dns_name};
use aimass_crypto::sign::SigningKey;
use aimass_protocol::ErrorCode;
use aimass_protocol::frame::{ALPN_AGENT, ALPN_ENROL, ALPN_RENEW};
use aimass_protocol::message::Refusal;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{ClientAuth, ClientEndpoint, ConnectError, Connection, HandshakeError, Identity, Limits, ServerEndpoint, Trust};

pub(crate) const DAY: i64 = 24 * 3600;
/// Nothing that a test waits for takes so long.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// What the aggregator and the authority serve between them.
pub(crate) const SERVICES: [(&[u8], ClientAuth); 3] = [
    (ALPN_AGENT, ClientAuth::Required { allow_expired: None }),
    (ALPN_ENROL, ClientAuth::None),
    (
        ALPN_RENEW,
        ClientAuth::Required {
            allow_expired: Some(RENEWAL_GRACE),
        },
    ),
];

pub(crate) struct Deployment {
    pub(crate) root: Root,
}

impl Deployment {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            root: Root::create("AI Mass root", now_s(), &mut ChaCha20Rng::seed_from_u64(seed)),
        }
    }

    pub(crate) fn roots(&self) -> Vec<Vec<u8>> {
        vec![self.root.certificate_der().to_vec()]
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::Roots(self.roots())
    }

    /// An identity whose certificate was issued `age_s` ago for 30 days.
    pub(crate) fn aged(&self, tenant: &str, role: &str, seed: u64, age_s: i64) -> Identity {
        let rng = &mut ChaCha20Rng::seed_from_u64(seed);
        let key = SigningKey::generate(rng);
        let issued = self
            .root
            .issue(tenant, role, &key.public(), now_s() - age_s, CERTIFICATE_LIFETIME, rng);
        // The root goes along, as the authority sends it.
        Identity::new(vec![issued.expect("good names"), self.root.certificate_der().to_vec()], &key)
    }

    pub(crate) fn server(&self) -> Identity {
        self.aged("default", "server", 1, 0)
    }

    pub(crate) fn agent(&self) -> Identity {
        self.aged("default", "agent", 2, 0)
    }

    pub(crate) fn serve(&self) -> ServerEndpoint {
        self.serve_as(&self.server(), Limits::default())
    }

    pub(crate) fn serve_as(&self, identity: &Identity, limits: Limits) -> ServerEndpoint {
        ServerEndpoint::bind(loopback(), identity, &SERVICES, &self.roots(), limits).expect("a free port")
    }

    /// The agent's and the server's ends of one connection.
    pub(crate) async fn pair(&self) -> Pair {
        let (server, client) = (self.serve(), ClientEndpoint::new().expect("a socket"));
        let accepting = accept_one(&server);
        let near = connect(&client, server.local_addr(), ALPN_AGENT, Some(&self.agent()), &self.trust())
            .await
            .expect("a trusted server");
        let far = accepting.await.expect("no panic").expect("a trusted agent");
        Pair { near, far, client, server }
    }
}

pub(crate) struct Pair {
    pub(crate) near: Connection,
    pub(crate) far: Connection,
    pub(crate) client: ClientEndpoint,
    pub(crate) server: ServerEndpoint,
}

pub(crate) fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(now.as_secs()).expect("a clock before the end of time")
}

pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// The next handshake that the server sees.
pub(crate) fn accept_one(server: &ServerEndpoint) -> JoinHandle<Result<Connection, HandshakeError>> {
    let server = server.clone();
    tokio::spawn(async move { server.accept().await.expect("an open endpoint").handshake().await })
}

pub(crate) async fn connect(
    client: &ClientEndpoint,
    addr: SocketAddr,
    alpn: &[u8],
    identity: Option<&Identity>,
    trust: &Trust,
) -> Result<Connection, ConnectError> {
    let connecting = async {
        client
            .connect(&addr.to_string(), &dns_name("default", "server"), alpn, identity, trust)
            .await
    };
    timeout(SOON, connecting).await.expect("an answer in time")
}

/// A small message.
pub(crate) fn message(text: &str) -> Refusal {
    Refusal::new(ErrorCode::Unavailable, text)
}

pub(crate) fn random_bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ChaCha20Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}
