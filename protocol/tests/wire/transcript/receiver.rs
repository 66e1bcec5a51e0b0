//! Reads a recorded stream as its receivers do, and refuses what they refuse.

use aimass_protocol::bundle::{SignedBundle, TrustBundle};
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::frame::{FrameHeader, FrameKind, HEADER_BYTES};
use aimass_protocol::job::SignedJob;
use aimass_protocol::manifest::Manifest;
use aimass_protocol::message::Reply;
use aimass_protocol::message::agent::{AgentRequest, BundleReply, CheckInReply, FetchReply, ReadyReply, Task, UploadReply};
use aimass_protocol::message::authority::CertificateReply;
use aimass_protocol::{Checked, Digest, codec};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::fixtures::sha256;
use crate::testdata::{described, list, recode, text, unhex};

/// The public keys of those who take part.
pub(super) struct Keys {
    pub(super) agent: Vec<u8>,
    pub(super) server: Vec<u8>,
    pub(super) owner: Vec<u8>,
    pub(super) root: Vec<u8>,
}

/// What one end sent before the other one spoke again.
#[derive(Clone)]
pub(super) struct Turn {
    pub(super) from: String,
    pub(super) names: Vec<String>,
    pub(super) bytes: Vec<u8>,
}

#[derive(Clone)]
pub(super) struct Stream {
    pub(super) turns: Vec<Turn>,
}

/// Why a receiver refuses.
type Refused = String;

impl Stream {
    pub(super) fn read(stream: &Json) -> Self {
        let turns = list(stream, "turns").iter().map(|turn| Turn {
            from: text(turn, "from").to_owned(),
            names: list(turn, "frames")
                .iter()
                .map(|name| name.as_str().expect("a name").to_owned())
                .collect(),
            bytes: list(turn, "bytes").iter().flat_map(part).collect(),
        });
        Self { turns: turns.collect() }
    }

    /// What it was opened for.
    pub(super) fn name(&self) -> &str {
        &self.turns[0].names[0]
    }
}

impl Turn {
    /// What its frames carry.
    pub(super) fn payloads(&self) -> Vec<Vec<u8>> {
        let frames = frames(&self.bytes).expect("whole frames");
        frames.into_iter().map(|(_, payload)| payload.to_vec()).collect()
    }
}

/// Hexadecimal text, or one byte many times.
fn part(part: &Json) -> Vec<u8> {
    match part.as_str() {
        Some(plain) => unhex(plain),
        None => unhex(text(part, "byte")).repeat(part["count"].as_u64().and_then(|n| usize::try_from(n).ok()).expect("a count")),
    }
}

/// One whole frame after the other.
pub(super) fn frames(mut bytes: &[u8]) -> Result<Vec<(FrameKind, &[u8])>, Refused> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (header, rest) = bytes
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or("it ends in the middle of a header")?;
        let header = FrameHeader::from_bytes(*header).map_err(|e| e.to_string())?;
        let (payload, rest) = rest.split_at_checked(header.len).ok_or("it ends in the middle of a frame")?;
        frames.push((header.kind, payload));
        bytes = rest;
    }
    Ok(frames)
}

/// What a frame's name should be: `name`'s type, and the choices that the message makes.
pub(super) fn names((kind, payload): &(FrameKind, &[u8]), name: &str) -> String {
    if *kind == FrameKind::Chunk {
        return "chunk".to_owned();
    }
    let is_choice = |text: &str| text.starts_with(char::is_uppercase);
    let mut found = name.split(' ').next().expect("a type").to_owned();
    let mut at = described(payload);
    loop {
        let (choice, inside) = match at {
            Json::String(text) => (text, Json::Null),
            Json::Object(map) if map.len() == 1 => map.into_iter().next().expect("one entry"),
            _ => return found,
        };
        if !is_choice(&choice) {
            return found;
        }
        found = format!("{found} {choice}");
        at = inside;
    }
}

/// Follows a stream from its request to its end.
pub(super) fn receive(stream: &Stream, keys: &Keys) -> Result<(), Refused> {
    let mut by_turns = stream.turns.iter().zip([true, false].into_iter().cycle());
    if !by_turns.all(|(turn, is_agents)| (turn.from == "agent") == is_agents) {
        return Err("the agent asks, the other end answers".to_owned());
    }
    let turns = stream.turns.iter().map(|turn| frames(&turn.bytes)).collect::<Result<Vec<_>, _>>()?;
    let turns: Vec<&[(FrameKind, &[u8])]> = turns.iter().map(Vec::as_slice).collect();
    let Some([first]) = turns.first() else {
        return Err("a request is one frame".to_owned());
    };
    if stream.name().starts_with("EnrolRequest") {
        control("EnrolRequest", first)?;
        let [_, [reply]] = turns[..] else {
            return Err("one request, one reply".to_owned());
        };
        return enrolled(&answer("Reply<CertificateReply>", reply)?, keys);
    }
    match message::<AgentRequest>("AgentRequest", first)? {
        AgentRequest::Fetch(fetch) => {
            let [_, [reply, chunks @ ..]] = turns[..] else {
                return Err("one reply, then chunks".to_owned());
            };
            let FetchReply { manifest } = answer("Reply<FetchReply>", reply)?;
            if manifest.digest() != fetch.digest {
                return Err("another blob than was asked for".to_owned());
            }
            let whole = blob(&manifest, fetch.from_chunk, chunks)?;
            named(&manifest, sha256(&whole))
        }
        AgentRequest::Upload(upload) => {
            let [_, [resume], chunks, [accepted]] = turns[..] else {
                return Err("where from, chunks, a verdict".to_owned());
            };
            let UploadReply::Resume { next_chunk } = answer("Reply<UploadReply>", resume)? else {
                return Err("accepted before it was sent".to_owned());
            };
            blob(&upload.manifest, next_chunk, chunks)?;
            let digests: Vec<u8> = upload.manifest.chunks().iter().flat_map(|digest| *digest.as_bytes()).collect();
            named(&upload.manifest, sha256(&digests))?;
            match answer("Reply<UploadReply>", accepted)? {
                UploadReply::Accepted => Ok(()),
                UploadReply::Resume { .. } => Err("asked for once more".to_owned()),
            }
        }
        request => {
            let [_, [reply]] = turns[..] else {
                return Err("one request, one reply".to_owned());
            };
            match request {
                AgentRequest::CheckIn(_) => match answer("Reply<CheckInReply>", reply)? {
                    CheckInReply::Task(task) => tasked(&task, keys),
                    CheckInReply::ComeBack(_) => Ok(()),
                },
                AgentRequest::Ready(_) => match answer("Reply<ReadyReply>", reply)? {
                    ReadyReply::Cohort(signed) => {
                        verify(
                            &keys.server,
                            "aimass descriptor v1",
                            &signed.descriptor,
                            signed.signature.as_bytes(),
                        )?;
                        record::<Descriptor>(&signed.descriptor).map(|_| ())
                    }
                    ReadyReply::Superseded | ReadyReply::Draw(_) => Ok(()),
                },
                AgentRequest::Bundle(_) => match answer("Reply<BundleReply>", reply)? {
                    BundleReply { bundle: Some(bundle) } => bundled(&bundle, keys).map(|_| ()),
                    BundleReply { bundle: None } => Ok(()),
                },
                _ => control("Reply<OutcomeReply>", reply),
            }
        }
    }
}

/// A control frame whose message is written as it was read.
fn control(type_name: &str, (kind, payload): &(FrameKind, &[u8])) -> Result<(), Refused> {
    if *kind != FrameKind::Control {
        return Err(format!("a chunk where {type_name} belongs"));
    }
    let again = recode(type_name, payload).map_err(|e| e.to_string())?;
    if again == *payload {
        Ok(())
    } else {
        Err(format!("{type_name} is written in another way"))
    }
}

fn message<T: DeserializeOwned + Checked>(type_name: &str, frame: &(FrameKind, &[u8])) -> Result<T, Refused> {
    control(type_name, frame)?;
    codec::decode(frame.1).map_err(|e| e.to_string())
}

fn answer<T: DeserializeOwned + Checked>(type_name: &str, frame: &(FrameKind, &[u8])) -> Result<T, Refused> {
    match message::<Reply<T>>(type_name, frame)? {
        Reply::Ok(reply) => Ok(reply),
        Reply::Refused(refusal) => Err(refusal.to_string()),
    }
}

/// A document inside of a message.
fn record<T: DeserializeOwned + Serialize + Checked>(bytes: &[u8]) -> Result<T, Refused> {
    let record = codec::decode(bytes).map_err(|e| e.to_string())?;
    let again = codec::encode(&record).map_err(|e| e.to_string())?;
    if again == bytes {
        Ok(record)
    } else {
        Err("a record is written in another way".to_owned())
    }
}

fn verify(key: &[u8], context: &str, document: &[u8], signature: &[u8]) -> Result<(), Refused> {
    let signed = [context.as_bytes(), &[0], document].concat();
    UnparsedPublicKey::new(&ED25519, key)
        .verify(&signed, signature)
        .map_err(|_| format!("the signature of {context:?} does not hold"))
}

fn holds(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

/// The bytes of the chunks from `from_chunk` on, which in this session is always the first.
fn blob(manifest: &Manifest, from_chunk: u32, chunks: &[(FrameKind, &[u8])]) -> Result<Vec<u8>, Refused> {
    let digests = manifest.chunks();
    if from_chunk != 0 || chunks.len() != digests.len() {
        return Err(format!(
            "{} chunks from {from_chunk} on make no blob of {}",
            chunks.len(),
            digests.len()
        ));
    }
    let mut whole = Vec::new();
    for (i, ((kind, chunk), digest)) in chunks.iter().zip(digests).enumerate() {
        if *kind != FrameKind::Chunk || chunk.len() != manifest.chunk_len(i) || sha256(chunk) != *digest {
            return Err(format!("chunk {i} is not the announced one"));
        }
        whole.extend_from_slice(chunk);
    }
    Ok(whole)
}

/// A model goes by the digest of its bytes, an update by that of its chunks' digests.
fn named(manifest: &Manifest, name: Digest) -> Result<(), Refused> {
    if manifest.digest() == name {
        Ok(())
    } else {
        Err("the whole is not the announced one".to_owned())
    }
}

fn tasked(task: &Task, keys: &Keys) -> Result<(), Refused> {
    if sha256(&task.signed_job).as_bytes()[..16] != task.job.as_bytes()[..] {
        return Err("the job's id is not that of its bytes".to_owned());
    }
    if task.owner.as_bytes()[..] != keys.owner[..] {
        return Err("a stranger's job".to_owned());
    }
    verify(&keys.owner, "aimass job v1", &task.signed_job, task.signature.as_bytes())?;
    let job: SignedJob = record(&task.signed_job)?;
    if job.model == task.base {
        Ok(())
    } else {
        Err("the first round begins with another model".to_owned())
    }
}

fn bundled(bytes: &[u8], keys: &Keys) -> Result<TrustBundle, Refused> {
    let signed: SignedBundle = record(bytes)?;
    let [by] = signed.signatures.as_slice() else {
        return Err("there is one root".to_owned());
    };
    if by.root.as_bytes()[..] != keys.root[..] {
        return Err("signed by another root".to_owned());
    }
    verify(&keys.root, "aimass bundle v1", &signed.bundle, by.signature.as_bytes())?;
    let bundle: TrustBundle = record(&signed.bundle)?;
    let is_owner = bundle.owners.iter().any(|owner| owner.public_key.as_bytes()[..] == keys.owner[..]);
    if is_owner && holds(&bundle.roots[0], &keys.root) {
        Ok(bundle)
    } else {
        Err("the bundle is of other keys".to_owned())
    }
}

/// A certificate of the agent's key and of its id, and a bundle.
fn enrolled(reply: &CertificateReply, keys: &Keys) -> Result<(), Refused> {
    let id = hex::encode(&sha256(&keys.agent).as_bytes()[..16]);
    let subject = format!("aimass://default/agent/{id}");
    if holds(&reply.certificate, &keys.agent) && holds(&reply.certificate, subject.as_bytes()) {
        bundled(&reply.bundle, keys).map(|_| ())
    } else {
        Err("a certificate of another agent".to_owned())
    }
}
