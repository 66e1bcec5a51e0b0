//! A device, step by step as the protocol says.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aimass_compression::{ClientUpdate, FixedCodec, FixedParams};
use aimass_crypto::cert::dns_name;
use aimass_crypto::hash::sha256;
use aimass_crypto::sign::{Context, SigningKey};
use aimass_net::identity::Enrolment;
use aimass_net::{ClientEndpoint, Connection, FrameReader, FrameWriter, Identity, NetError, Trust, blob, enrol, exchange, request};
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::frame::ALPN_AGENT;
use aimass_protocol::limits::CHUNK_BYTES;
use aimass_protocol::manifest::Manifest;
use aimass_protocol::message::Reply;
use aimass_protocol::message::agent::{
    AgentRequest, Capabilities, CheckIn, CheckInReply, Fetch, FetchReply, OutcomeQuery, OutcomeReply, Ready, ReadyReply, Task, Upload,
    UploadReply,
};
use aimass_protocol::{AgentId, Checked, CohortId, ContributionId, Digest, ErrorCode, codec};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde::de::DeserializeOwned;

use super::deployment::{Deployment, key};

/// How long a test waits for an answer that comes late.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Device {
    pub(super) key: SigningKey,
    pub(super) enrolment: Enrolment,
    pub(super) contribution: ContributionId,
    endpoint: ClientEndpoint,
    server: SocketAddr,
    pub(super) connection: Connection,
    seed: u8,
}

impl Device {
    /// Joins and connects.
    pub(super) async fn join(deployment: &Deployment, server: SocketAddr, seed: u8) -> Self {
        let key = key(seed.into());
        let token = deployment.token("agent", "default").await;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let enrolment = enrol::join(&token, &key, i64::try_from(since.as_secs()).expect("fits"))
            .await
            .expect("joins");
        let endpoint = ClientEndpoint::new().expect("a socket");
        let connection = connect(&endpoint, server, "default", &enrolment, &key).await;
        let contribution = ContributionId::from_bytes([seed; 16]);
        Self {
            key,
            enrolment,
            contribution,
            endpoint,
            server,
            connection,
            seed,
        }
    }

    pub(super) fn id(&self) -> AgentId {
        self.enrolment.membership().id
    }

    /// Connects anew, to the same server or, after a restart, another address.
    pub(super) async fn reconnect(&mut self, server: Option<SocketAddr>) {
        self.server = server.unwrap_or(self.server);
        self.connection = self.connect_to("default", self.server).await;
    }

    pub(super) async fn ask<R: DeserializeOwned + Checked>(&self, ask: &AgentRequest) -> Result<(R, FrameReader), NetError> {
        request(&self.connection, ask, PATIENCE).await
    }

    pub(super) async fn check_in(&self) -> Result<CheckInReply, NetError> {
        self.check_in_having_seen(0).await
    }

    /// Checks in as an agent that saw so many entries of the log.
    pub(super) async fn check_in_having_seen(&self, log_size: u64) -> Result<CheckInReply, NetError> {
        let capabilities = Capabilities {
            agent_version: "0.1.0".to_owned(),
            cores: 2,
            ..Capabilities::default()
        };
        let check_in = CheckIn {
            capabilities,
            contracts: vec!["digits".to_owned()],
            declined: Vec::new(),
            held: Vec::new(),
            spent: Vec::new(),
            log_size,
        };
        Ok(self.ask(&AgentRequest::CheckIn(check_in)).await?.0)
    }

    /// Checks in until there is work.
    pub(super) async fn task(&self) -> Task {
        for _ in 0..500 {
            match self.check_in().await.expect("an answer") {
                CheckInReply::Task(task) => return task,
                CheckInReply::ComeBack(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        panic!("no work");
    }

    pub(super) async fn fetch(&self, digest: Digest) -> Result<Vec<u8>, NetError> {
        let ask = AgentRequest::Fetch(Fetch { digest, from_chunk: 0 });
        let (FetchReply { manifest }, mut reader) = self.ask(&ask).await?;
        let mut whole = Vec::new();
        for index in 0..manifest.chunks().len() {
            whole.extend_from_slice(&reader.chunk(manifest.chunk_len(index)).await?);
        }
        reader.end().await?;
        assert_eq!(Digest::from_bytes(sha256(&whole)), digest);
        Ok(whole)
    }

    pub(super) async fn ready(&self, task: &Task) -> Result<ReadyReply, NetError> {
        let ready = Ready {
            job: task.job,
            base: task.base,
            contribution: self.contribution,
        };
        Ok(self.ask(&AgentRequest::Ready(ready)).await?.0)
    }

    /// Offers the contribution, and reads the descriptor that the server signed with the key of its certificate.
    pub(super) async fn cohort(&self, task: &Task) -> Descriptor {
        let ReadyReply::Cohort(signed) = self.ready(task).await.expect("a cohort") else {
            panic!("superseded")
        };
        let server = self.connection.peer_public_key().expect("the server shows a certificate");
        server
            .verify(Context::Descriptor, &signed.descriptor, signed.signature.as_bytes())
            .expect("signed by the server");
        codec::decode(&signed.descriptor).expect("a descriptor")
    }

    /// An update with this delta, encoded for the cohort.
    pub(super) fn encode(&self, descriptor: &Descriptor, delta: &[f32]) -> Vec<u8> {
        let codec = codec_of(descriptor, delta.len());
        let update = ClientUpdate {
            delta,
            examples: 4,
            staleness: 0,
            train_loss: 0.5,
            evaluation: None,
        };
        let mut rng = ChaCha20Rng::seed_from_u64(self.seed.into());
        codec.encode(update, &mut rng).expect("encodes").packed
    }

    /// Opens an upload; the answer says from which chunk on.
    pub(super) async fn begin(&self, cohort: CohortId, packed: &[u8]) -> Result<(u32, FrameWriter, FrameReader), NetError> {
        self.begin_with(cohort, manifest_of(packed)).await
    }

    /// The same with a manifest of one's own.
    pub(super) async fn begin_with(&self, cohort: CohortId, manifest: Manifest) -> Result<(u32, FrameWriter, FrameReader), NetError> {
        let ask = AgentRequest::Upload(Upload {
            cohort,
            contribution: self.contribution,
            manifest,
        });
        let (reply, writer, reader) = exchange(&self.connection, &ask, PATIENCE).await?;
        match reply {
            UploadReply::Resume { next_chunk } => Ok((next_chunk, writer, reader)),
            UploadReply::Accepted => Ok((u32::MAX, writer, reader)),
        }
    }

    /// Uploads all of it and waits until it is in the sum.
    pub(super) async fn upload(&self, cohort: CohortId, packed: &[u8]) -> Result<(), NetError> {
        let (next_chunk, writer, reader) = self.begin(cohort, packed).await?;
        if next_chunk == u32::MAX {
            return Ok(());
        }
        send(writer, reader, packed, next_chunk).await
    }

    pub(super) async fn outcome(&self, descriptor: &Descriptor) -> Result<OutcomeReply, NetError> {
        self.outcome_of(descriptor, self.contribution).await
    }

    /// Asks after an earlier contribution.
    pub(super) async fn outcome_of(&self, descriptor: &Descriptor, contribution: ContributionId) -> Result<OutcomeReply, NetError> {
        let query = OutcomeQuery {
            job: descriptor.job,
            cohort: descriptor.cohort,
            contribution,
        };
        Ok(self.ask(&AgentRequest::Outcome(query)).await?.0)
    }

    /// Connects to a server of another tenant.
    pub(super) async fn connect_to(&self, tenant: &str, server: SocketAddr) -> Connection {
        connect(&self.endpoint, server, tenant, &self.enrolment, &self.key).await
    }

    /// A whole round with a known delta: the descriptor and the outcome.
    pub(super) async fn round(&self, delta: &[f32]) -> (Descriptor, OutcomeReply) {
        let task = self.task().await;
        self.fetch(task.base).await.expect("the base model");
        let descriptor = self.cohort(&task).await;
        self.upload(descriptor.cohort, &self.encode(&descriptor, delta))
            .await
            .expect("accepted");
        let outcome = self.outcome(&descriptor).await.expect("an outcome");
        (descriptor, outcome)
    }
}

/// The codec that a descriptor asks for.
pub(super) fn codec_of(descriptor: &Descriptor, n_weights: usize) -> FixedCodec {
    let params = descriptor.codec;
    let (bits, clip, weight_cap) = (params.bits, params.clip, params.weight_cap);
    FixedCodec::new(FixedParams {
        n_weights,
        bits,
        clip,
        weight_cap,
        weight_scale: 1,
        members: descriptor.members,
        evaluation: false,
        rotation: descriptor.rotation.map(|seed| *seed.as_bytes()),
    })
    .expect("a plan")
}

pub(super) fn manifest_of(packed: &[u8]) -> Manifest {
    blob::update_manifest(packed).expect("a manifest")
}

/// Sends the chunks from `next_chunk` on and reads the verdict.
pub(super) async fn send(writer: FrameWriter, reader: FrameReader, packed: &[u8], next_chunk: u32) -> Result<(), NetError> {
    send_pieces(writer, reader, &packed.chunks(CHUNK_BYTES).collect::<Vec<_>>(), next_chunk).await
}

/// The same with chunks that are cut by hand.
pub(super) async fn send_pieces(
    mut writer: FrameWriter,
    mut reader: FrameReader,
    chunks: &[&[u8]],
    next_chunk: u32,
) -> Result<(), NetError> {
    for chunk in chunks.iter().skip(next_chunk as usize) {
        // A server that has heard enough says why in its reply.
        if writer.chunk(chunk.to_vec().into()).await.is_err() {
            break;
        }
    }
    writer.finish();
    match reader.control_within::<Reply<UploadReply>>(PATIENCE).await? {
        Reply::Ok(reply) => {
            assert_eq!(reply, UploadReply::Accepted);
            Ok(())
        }
        Reply::Refused(refusal) => Err(refusal.into()),
    }
}

async fn connect(endpoint: &ClientEndpoint, server: SocketAddr, tenant: &str, enrolment: &Enrolment, key: &SigningKey) -> Connection {
    let identity = Identity::new(vec![enrolment.certificate().to_vec()], key);
    let trust = Trust::Roots(enrolment.bundle().roots().map(<[u8]>::to_vec).collect());
    let name = dns_name(tenant, "server");
    endpoint
        .connect(&server.to_string(), &name, ALPN_AGENT, Some(&identity), &trust)
        .await
        .expect("connects")
}

/// The code of a refusal.
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, NetError>) -> ErrorCode {
    match result {
        Err(NetError::Refused(refusal)) => refusal.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}
