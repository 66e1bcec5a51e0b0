//! One fixed deployment: keys from fixed seeds, real digests and signatures, stand-ins for certificates and model bytes.

use aimass_protocol::bundle::{RootSignature, SignedBundle, TrustBundle, TrustedOwner};
use aimass_protocol::descriptor::{CodecName, CodecParams, Descriptor};
use aimass_protocol::job::{AggregationMode, SignedJob};
use aimass_protocol::log::{AbandonedEntry, BaseProof, LogEntry, LogEvent, RoundEntry};
use aimass_protocol::manifest::Manifest;
use aimass_protocol::message::agent::{
    Capabilities, CheckIn, Fetch, Held, OutcomeQuery, Progress, Ready, ServeQuery, ServeReply, Serving, SignedDescriptor, SignedRelease,
    Task, Upload,
};
use aimass_protocol::message::authority::{CertificateReply, Enrol};
use aimass_protocol::token::{JoinToken, Role, TokenSecret};
use aimass_protocol::{
    AgentId, CohortId, ContributionId, Digest, JobId, Nonce, PublicKeyBytes, SignatureBytes, TenantId, Timestamp, codec, limits,
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_bytes::ByteBuf;

pub(crate) mod secagg;

/// A copy of the example as it was when the vectors were recorded: it never changes, the example may.
pub(crate) const JOB_FILE: &str = include_str!("../../testdata/v1/job.toml");
/// Stands for an ONNX file: the protocol does not look inside.
pub(crate) const MODEL: &[u8] = b"stands for model.onnx";
/// Stands for the bit-packed residues of an update.
pub(crate) const UPDATE: &[u8] = b"stands for packed residues";

pub(crate) const OWNER: u8 = 1;
pub(crate) const SERVER: u8 = 2;
pub(crate) const ROOT: u8 = 3;
pub(crate) const AGENT: u8 = 4;

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    Digest::from_bytes(digest.as_ref().try_into().expect("32 bytes"))
}

fn first_half(digest: Digest) -> [u8; 16] {
    *digest.as_bytes().first_chunk().expect("32 bytes have a first half")
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("any 32 bytes are a seed")
}

pub(crate) fn public_key(seed: u8) -> PublicKeyBytes {
    PublicKeyBytes::from_bytes(pair(seed).public_key().as_ref().try_into().expect("32 bytes"))
}

/// Signs `context || 0x00 || message`.
pub(crate) fn sign(seed: u8, context: &str, message: &[u8]) -> SignatureBytes {
    let signed = [context.as_bytes(), &[0], message].concat();
    SignatureBytes::from_bytes(pair(seed).sign(&signed).as_ref().try_into().expect("64 bytes"))
}

pub(crate) fn agent_id() -> AgentId {
    AgentId::from_bytes(first_half(sha256(public_key(AGENT).as_bytes())))
}

pub(crate) fn tenant() -> TenantId {
    TenantId::default()
}

pub(crate) fn time(seconds: u64) -> Timestamp {
    Timestamp::from_ms((1_700_000_000 + seconds) * 1000)
}

pub(crate) fn manifest(blob: &[u8]) -> Manifest {
    let chunks = blob.chunks(limits::CHUNK_BYTES).map(sha256).collect();
    Manifest::new(sha256(blob), blob.len() as u64, chunks).expect("a small blob")
}

/// An update goes by the digest of its chunks' digests.
pub(crate) fn update_manifest(update: &[u8]) -> Manifest {
    let chunks: Vec<Digest> = update.chunks(limits::CHUNK_BYTES).map(sha256).collect();
    let digests: Vec<u8> = chunks.iter().flat_map(|digest| *digest.as_bytes()).collect();
    Manifest::new(sha256(&digests), update.len() as u64, chunks).expect("a small update")
}

pub(crate) fn signed_job() -> SignedJob {
    SignedJob {
        tenant: tenant(),
        job_file: ByteBuf::from(JOB_FILE),
        model: sha256(MODEL),
        evaluation: Some(sha256(b"stands for test.csv")),
        signed_at: time(0),
        nonce: Nonce::from_bytes(*b"a job's own id.."),
    }
}

fn signed_job_bytes() -> Vec<u8> {
    codec::encode(&signed_job()).expect("a valid job")
}

pub(crate) fn job() -> JobId {
    JobId::from_bytes(first_half(sha256(&signed_job_bytes())))
}

pub(crate) fn base() -> Digest {
    sha256(MODEL)
}

pub(crate) fn cohort() -> CohortId {
    CohortId::from_bytes(*b"a cohort's id...")
}

pub(crate) fn contribution() -> ContributionId {
    ContributionId::from_bytes(*b"a contribution's")
}

pub(crate) fn bundle() -> TrustBundle {
    TrustBundle {
        version: 2,
        issued_at: time(1),
        roots: vec![ByteBuf::from(*b"stands for a root certificate")],
        owners: vec![TrustedOwner {
            tenant: tenant(),
            name: "research".into(),
            public_key: public_key(OWNER),
        }],
    }
}

pub(crate) fn signed_bundle() -> SignedBundle {
    let bundle = codec::encode(&bundle()).expect("a valid bundle");
    let signature = sign(ROOT, "aimass bundle v1", &bundle);
    SignedBundle {
        bundle: ByteBuf::from(bundle),
        signatures: vec![RootSignature {
            root: public_key(ROOT),
            signature,
        }],
    }
}

pub(crate) fn signed_bundle_bytes() -> ByteBuf {
    ByteBuf::from(codec::encode(&signed_bundle()).expect("a valid bundle"))
}

pub(crate) fn secret() -> TokenSecret {
    TokenSecret::from_bytes(*b"not a secret: it is a test value")
}

pub(crate) fn token() -> JoinToken {
    JoinToken {
        authority: "authority.example:7701".into(),
        server: "[2001:db8::7]:7700".into(),
        root_spki: sha256(b"stands for a root's SubjectPublicKeyInfo"),
        tenant: tenant(),
        role: Role::Agent,
        expires_at: time(86_400),
        secret: secret(),
    }
}

pub(crate) fn descriptor() -> Descriptor {
    Descriptor {
        version: Descriptor::VERSION,
        tenant: tenant(),
        job: job(),
        round: 1,
        cohort: cohort(),
        bases: vec![base()],
        layout_digest: sha256(b"stands for a layout's canonical bytes"),
        codec: CodecParams {
            codec: CodecName::Fixed,
            bits: 24,
            clip: 10.1,
            weight_cap: 4096,
        },
        mode: AggregationMode::Plain,
        members: 3,
        floor: 3,
        deadline: time(600),
        rotation: None,
        log: None,
        secagg: None,
    }
}

pub(crate) fn signed_descriptor() -> SignedDescriptor {
    let descriptor = codec::encode(&descriptor()).expect("a valid descriptor");
    let signature = sign(SERVER, "aimass descriptor v1", &descriptor);
    SignedDescriptor {
        descriptor: ByteBuf::from(descriptor),
        signature,
    }
}

pub(crate) fn enrol() -> Enrol {
    Enrol {
        secret: secret(),
        csr: ByteBuf::from(*b"stands for a signing request"),
    }
}

pub(crate) fn certificate() -> CertificateReply {
    CertificateReply {
        certificate: ByteBuf::from(*b"stands for a certificate"),
        bundle: signed_bundle_bytes(),
    }
}

pub(crate) fn check_in() -> CheckIn {
    CheckIn {
        capabilities: Capabilities {
            agent_version: "0.1.0".into(),
            cores: 4,
            memory_bytes: 2 << 30,
            device_class: "gateway".into(),
            tags: vec!["hall-7".into()],
        },
        contracts: vec!["digits".into()],
        declined: vec![JobId::from_bytes([9; 16])],
        held: vec![Held { job: job(), base: base() }],
        spent: vec![],
        log_size: 0,
    }
}

pub(crate) fn task() -> Task {
    let signed_job = signed_job_bytes();
    Task {
        job: job(),
        owner: public_key(OWNER),
        signature: sign(OWNER, "aimass job v1", &signed_job),
        signed_job: ByteBuf::from(signed_job),
        round: 1,
        base: base(),
        base_bytes: MODEL.len() as u64,
        finish_within_ms: None,
        log: None,
    }
}

pub(crate) fn log_entry(event: LogEvent) -> LogEntry {
    LogEntry {
        version: LogEntry::VERSION,
        tenant: tenant(),
        job: job(),
        time: time(60),
        event,
    }
}

pub(crate) fn log_base() -> LogEntry {
    log_entry(LogEvent::Base { model: base() })
}

pub(crate) fn log_round() -> LogEntry {
    log_entry(LogEvent::Round(RoundEntry {
        round: 1,
        model: sha256(b"the next model"),
        before: base(),
        cohort: descriptor().cohort,
        descriptor: sha256(&signed_descriptor().descriptor),
        mode: AggregationMode::Secure,
        members: 3,
        survivors: 3,
        survivors_root: sha256(b"stands for a root"),
        draws: 1,
    }))
}

pub(crate) fn log_abandoned() -> LogEntry {
    log_entry(LogEvent::Abandoned(AbandonedEntry {
        round: 2,
        before: sha256(b"the next model"),
        cohort: descriptor().cohort,
        descriptor: None,
        mode: AggregationMode::Secure,
        members: 3,
        survivors: 0,
        survivors_root: None,
        draws: 3,
    }))
}

/// The base as the first of two entries.
pub(crate) fn base_proof() -> BaseProof {
    let note =
        "aimass/default\n2\nEgtE4Nxjq1RZkWCGLLgpQWZX8vQ7pFWIdG9lVmDQ1kE=\n\n\u{2014} aimass/default c3RhbmRzIGZvciBhIHNpZ25hdHVyZQ==\n";
    BaseProof {
        checkpoint: ByteBuf::from(note.as_bytes()),
        entry: ByteBuf::from(codec::encode(&log_base()).expect("a valid entry")),
        index: 0,
        inclusion: vec![sha256(b"stands for a hash")],
        consistency: vec![],
    }
}

pub(crate) fn progress() -> Progress {
    Progress {
        job: job(),
        base: base(),
        percent: 40,
    }
}

pub(crate) fn fetch() -> Fetch {
    Fetch {
        digest: base(),
        from_chunk: 0,
    }
}

pub(crate) fn serve() -> ServeQuery {
    ServeQuery {
        have: vec![Serving {
            model: "digits".to_owned(),
            release: job(),
        }],
    }
}

pub(crate) fn serve_reply() -> ServeReply {
    let Task {
        job,
        signed_job,
        owner,
        signature,
        ..
    } = task();
    ServeReply {
        release: Some(Box::new(SignedRelease {
            job,
            signed_job,
            owner,
            signature,
        })),
    }
}

pub(crate) fn ready() -> Ready {
    Ready {
        job: job(),
        base: base(),
        contribution: contribution(),
    }
}

pub(crate) fn upload() -> Upload {
    Upload {
        cohort: cohort(),
        contribution: contribution(),
        manifest: update_manifest(UPDATE),
    }
}

pub(crate) fn outcome_query() -> OutcomeQuery {
    OutcomeQuery {
        job: job(),
        cohort: cohort(),
        contribution: contribution(),
    }
}
