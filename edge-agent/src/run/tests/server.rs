//! A server with a script: it speaks the real protocol over real QUIC, and fails where a test wants it to.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use aimass_crypto::cert::{CERTIFICATE_LIFETIME, Root};
use aimass_crypto::hash::sha256;
use aimass_crypto::log::{Checkpoint, leaf_hash};
use aimass_crypto::sign::{Context, SigningKey};
use aimass_federation::agent::log::origin;
use aimass_net::blob::{manifest_of, send_chunks, verified_prefix};
use aimass_net::{ClientAuth, Connection, FrameReader, FrameWriter, Identity, Limits, NetError, ServerEndpoint, reply};
use aimass_onnx::{Model, TrainableRules};
use aimass_protocol::codec::encode;
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::frame::ALPN_AGENT;
use aimass_protocol::log::{BaseProof, LogEntry, LogEvent};
use aimass_protocol::manifest::Manifest;
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::{
    AgentRequest, BundleReply, CheckIn, CheckInReply, ComeBack, FetchReply, OutcomeReply, ProgressReply, ReadyReply, ServeReply,
    SignedDescriptor, Task, UploadReply,
};
use aimass_protocol::{CohortId, ContributionId, Digest, ErrorCode, SignatureBytes, TenantId};
use serde_bytes::ByteBuf;

use crate::fixture::job_file;
use crate::platform::{now, now_s, system_rng};

/// Where the server fails, each time once.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Break the connection after so many chunks of the model.
    pub(super) cut_fetch_after: Option<usize>,
    /// Close the connection with this after so many chunks of the update.
    pub(super) cut_upload_after: Option<(usize, ErrorCode)>,
    /// Say once that a contribution was not included.
    pub(super) lose_cohort: bool,
    /// Close the connection with this, so long after all of the model was sent.
    pub(super) cut_after_fetch: Option<(Duration, ErrorCode)>,
    /// Say once that the work can't be used any more.
    pub(super) unwanted: bool,
    /// Refuse check-ins with this.
    pub(super) refuse_check_ins: Option<ErrorCode>,
}

/// What the server saw.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) check_ins: Vec<CheckIn>,
    pub(super) fetched_from: Vec<u32>,
    /// What else was asked for.
    pub(super) others_fetched: Vec<Digest>,
    /// What was said of training.
    pub(super) progress: Vec<u8>,
    pub(super) offered: Vec<ContributionId>,
    /// Where each upload went on, and its manifest.
    pub(super) uploads: Vec<(u32, Manifest)>,
    /// The bytes of the update of the cohort at hand.
    pub(super) update: Vec<u8>,
    pub(super) bundle_queries: usize,
    cohorts: u8,
    pub(super) included: bool,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let uploads: Vec<_> = self.uploads.iter().map(|u| u.0).collect();
        f.debug_struct("Seen")
            .field("check_ins", &self.check_ins.len())
            .field("fetched_from", &self.fetched_from)
            .field("progress", &self.progress)
            .field("offered", &self.offered)
            .field("uploads", &uploads)
            .finish_non_exhaustive()
    }
}

pub(super) struct Script {
    pub(super) task: Task,
    pub(super) model: Vec<u8>,
    /// What is sent for other digests, whether it has them or not.
    pub(super) others: Mutex<BTreeMap<Digest, Vec<u8>>>,
    pub(super) faults: Mutex<Faults>,
    pub(super) seen: Mutex<Seen>,
    key: SigningKey,
    entry: OnceLock<Vec<u8>>,
}

impl Script {
    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the server on a thread of its own; it ends with the process.
pub(super) fn start(root: &Root, task: Task, model: Vec<u8>, faults: Faults) -> (SocketAddr, Arc<Script>) {
    let mut rng = system_rng().expect("randomness");
    let key = SigningKey::generate(&mut rng);
    let certificate = root
        .issue(
            TenantId::default().as_str(),
            "server",
            &key.public(),
            now_s(),
            CERTIFICATE_LIFETIME,
            &mut rng,
        )
        .expect("a certificate");
    let identity = Identity::new(vec![certificate], &key);
    let roots = vec![root.certificate_der().to_vec()];
    let script = Arc::new(Script {
        task,
        model,
        others: Mutex::default(),
        faults: Mutex::new(faults),
        seen: Mutex::default(),
        key,
        entry: OnceLock::new(),
    });
    let (sender, receiver) = std::sync::mpsc::channel();
    let served = Arc::clone(&script);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async move {
            let services = [(ALPN_AGENT, ClientAuth::Required { allow_expired: None })];
            let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let endpoint = ServerEndpoint::bind(anywhere, &identity, &services, &roots, Limits::default()).expect("binds");
            sender.send(endpoint.local_addr()).expect("the test waits");
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(serve(incoming.handshake().await.expect("an agent of ours"), Arc::clone(&served)));
            }
        });
    });
    (receiver.recv().expect("the server listens"), script)
}

async fn serve(connection: Connection, script: Arc<Script>) {
    while let Ok(Some((writer, reader))) = connection.accept().await {
        let (connection, script) = (connection.clone(), Arc::clone(&script));
        tokio::spawn(async move {
            // A fault breaks the stream, which is what it is for.
            let _ = answer(&connection, &script, writer, reader).await;
        });
    }
}

/// Sends these bytes under that name, whatever their digest is.
async fn send_as(writer: &mut FrameWriter, named: Digest, bytes: &[u8], from_chunk: u32) -> Result<(), NetError> {
    let honest = manifest_of(&mut &bytes[..]).expect("a blob");
    let manifest = Manifest::new(named, honest.size_bytes(), honest.chunks().to_vec()).expect("as many chunks");
    let reply_with = FetchReply {
        manifest: manifest.clone(),
    };
    reply(writer, Ok(reply_with)).await?;
    send_chunks(writer, &file_of(bytes), &manifest, from_chunk).await
}

async fn answer(connection: &Connection, script: &Script, mut writer: FrameWriter, mut reader: FrameReader) -> Result<(), NetError> {
    match reader.control::<AgentRequest>().await? {
        AgentRequest::CheckIn(check_in) => {
            let result = on_check_in(script, check_in);
            reply(&mut writer, result).await
        }
        AgentRequest::Fetch(fetch) => {
            let other = script
                .others
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&fetch.digest)
                .cloned();
            if let Some(bytes) = other {
                script.seen().others_fetched.push(fetch.digest);
                return send_as(&mut writer, fetch.digest, &bytes, fetch.from_chunk).await;
            }
            let manifest = manifest_of(&mut script.model.as_slice()).expect("a blob");
            script.seen().fetched_from.push(fetch.from_chunk);
            reply(
                &mut writer,
                Ok(FetchReply {
                    manifest: manifest.clone(),
                }),
            )
            .await?;
            let file = file_of(&script.model);
            let cut = script.faults().cut_fetch_after.take();
            let Some(chunks) = cut else {
                send_chunks(&mut writer, &file, &manifest, fetch.from_chunk).await?;
                let cut = script.faults().cut_after_fetch.take();
                if let Some((after, code)) = cut {
                    tokio::time::sleep(after).await;
                    connection.close(code, "the server says so");
                }
                return Ok(());
            };
            let part: Vec<u8> = script.model.iter().copied().take(manifest.chunk_len(0) * chunks).collect();
            for chunk in part.chunks(manifest.chunk_len(0)) {
                writer.chunk(bytes_of(chunk)).await?;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            connection.close(ErrorCode::Unavailable, "the server restarts");
            Ok(())
        }
        AgentRequest::Ready(ready) => {
            script.seen().offered.push(ready.contribution);
            reply(&mut writer, Ok(ReadyReply::Cohort(cohort(script)))).await
        }
        AgentRequest::Upload(upload) => on_upload(connection, script, upload.manifest, writer, reader).await,
        AgentRequest::Outcome(_) => {
            let outcome = if std::mem::take(&mut script.faults().lose_cohort) {
                script.seen().update.clear();
                OutcomeReply::NotIncluded
            } else {
                script.seen().included = true;
                OutcomeReply::Included {
                    round: 1,
                    model: Digest::from_bytes([9; 32]),
                }
            };
            reply(&mut writer, Ok(outcome)).await
        }
        // It has plain cohorts alone.
        AgentRequest::Advert(_)
        | AgentRequest::Reveal(_)
        | AgentRequest::Shares(_)
        | AgentRequest::Survivors(_)
        | AgentRequest::Consent(_)
        | AgentRequest::Unmask(_) => {
            let refused: Result<OutcomeReply, Refusal> = Err(Refusal::new(ErrorCode::CohortUnknown, "there are no masks here"));
            reply(&mut writer, refused).await
        }
        AgentRequest::Progress(progress) => {
            script.seen().progress.push(progress.percent);
            let wanted = !std::mem::take(&mut script.faults().unwanted);
            reply(&mut writer, Ok(ProgressReply { wanted })).await
        }
        AgentRequest::Serve(_) => reply(&mut writer, Ok(ServeReply { release: None })).await,
        AgentRequest::Bundle(_) => {
            script.seen().bundle_queries += 1;
            reply(&mut writer, Ok(BundleReply { bundle: None })).await
        }
    }
}

fn on_check_in(script: &Script, check_in: CheckIn) -> Result<CheckInReply, Refusal> {
    if let Some(code) = script.faults().refuse_check_ins {
        return Err(Refusal::new(code, "not now"));
    }
    let declined = check_in.declined.contains(&script.task.job);
    let mut seen = script.seen();
    seen.check_ins.push(check_in);
    if declined || seen.included {
        return Ok(CheckInReply::ComeBack(ComeBack {
            after_ms: 60_000,
            reason: "no work".to_owned(),
            spread_ms: 0,
        }));
    }
    Ok(CheckInReply::Task(Task {
        log: Some(Box::new(logged(script))),
        ..script.task.clone()
    }))
}

/// The proof that the job's model is in the log, which it is alone in.
fn logged(script: &Script) -> BaseProof {
    let entry = encode(&LogEntry {
        version: LogEntry::VERSION,
        tenant: TenantId::default(),
        job: script.task.job,
        time: now(),
        event: LogEvent::Base { model: script.task.base },
    })
    .expect("encodes");
    // The same entry each time: the log does not change.
    let entry = script.entry.get_or_init(|| entry).clone();
    let checkpoint = Checkpoint {
        origin: origin(&TenantId::default()),
        size: 1,
        root: leaf_hash(&entry),
    };
    BaseProof {
        checkpoint: ByteBuf::from(checkpoint.sign(&script.key).expect("a good origin")),
        entry: ByteBuf::from(entry),
        index: 0,
        inclusion: Vec::new(),
        consistency: Vec::new(),
    }
}

fn cohort(script: &Script) -> SignedDescriptor {
    let model = Model::from_bytes(&script.model).expect("a model");
    let layout = model.layout(&TrainableRules::default()).expect("trainable");
    let file = job_file();
    let mut seen = script.seen();
    seen.cohorts += 1;
    let descriptor = Descriptor {
        version: 1,
        tenant: TenantId::default(),
        job: script.task.job,
        round: 1,
        cohort: CohortId::from_bytes([seen.cohorts; 16]),
        bases: vec![script.task.base],
        layout_digest: Digest::from_bytes(sha256(&layout.canonical_bytes())),
        codec: file.update,
        mode: file.aggregation.mode,
        members: 2,
        floor: 2,
        deadline: now().after(Duration::from_secs(60)),
        rotation: None,
        log: None,
        secagg: None,
    };
    let descriptor = encode(&descriptor).expect("encodes");
    let signature = SignatureBytes::from_bytes(script.key.sign(Context::Descriptor, &descriptor));
    SignedDescriptor {
        descriptor: ByteBuf::from(descriptor),
        signature,
    }
}

async fn on_upload(
    connection: &Connection,
    script: &Script,
    manifest: Manifest,
    mut writer: FrameWriter,
    mut reader: FrameReader,
) -> Result<(), NetError> {
    let held = file_of(&script.seen().update);
    let next_chunk = verified_prefix(&held, &manifest).expect("reads");
    script.seen().uploads.push((next_chunk, manifest.clone()));
    reply(&mut writer, Ok(UploadReply::Resume { next_chunk })).await?;
    let cut = script.faults().cut_upload_after.take();
    for index in next_chunk as usize..manifest.chunks().len() {
        if let Some((after, code)) = cut
            && index == after
        {
            connection.close(code, "the server says so");
            return Ok(());
        }
        let chunk = reader.chunk(manifest.chunk_len(index)).await?;
        assert_eq!(Digest::from_bytes(sha256(&chunk)), manifest.chunks()[index]);
        script.seen().update.extend_from_slice(&chunk);
    }
    reply(&mut writer, Ok(UploadReply::Accepted)).await?;
    writer.delivered().await
}

fn file_of(bytes: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("writes");
    file
}

fn bytes_of(chunk: &[u8]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(chunk)
}
