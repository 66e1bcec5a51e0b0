//! One vector for each message and record: bytes that every later build of this version has to read and write.

use std::fmt::Debug;

use aimass_protocol::frame::{FrameHeader, FrameKind};
use aimass_protocol::job::JobFile;
use aimass_protocol::message::agent::{
    AgentRequest, BundleQuery, BundleReply, CheckIn, CheckInReply, ComeBack, FetchReply, OutcomeReply, ProgressReply, ReadyReply,
    ServeReply, Task, UploadReply,
};
use aimass_protocol::message::authority::{EnrolRequest, Renew, RenewRequest, RevocationReply, SetRevoked};
use aimass_protocol::message::{Refusal, Reply};
use aimass_protocol::token::JoinToken;
use aimass_protocol::{AgentId, Checked, Digest, ErrorCode, TenantId, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;
use serde_json::{Value as Json, json};

use crate::fixtures as fix;
use crate::testdata::{committed, described, list, recode, text, unhex};

mod secagg;

/// Panics unless the bytes are those of one certain value.
type Check = Box<dyn Fn(&[u8])>;

pub(crate) struct Vector {
    pub(crate) name: &'static str,
    pub(crate) type_name: &'static str,
    pub(crate) cbor: Vec<u8>,
    reads_as_the_fixture: Check,
}

fn vector<T>(name: &'static str, type_name: &'static str, message: T) -> Vector
where
    T: Serialize + DeserializeOwned + Checked + PartialEq + Debug + 'static,
{
    let cbor = codec::encode(&message).expect("a valid fixture");
    let reads_as_the_fixture = Box::new(move |bytes: &[u8]| assert_eq!(codec::decode::<T>(bytes).expect(name), message, "{name}"));
    Vector {
        name,
        type_name,
        cbor,
        reads_as_the_fixture,
    }
}

/// Everything that travels in a control frame.
pub(crate) fn messages() -> Vec<Vector> {
    let mut all = without_masks();
    all.extend(secagg::messages());
    all
}

fn without_masks() -> Vec<Vector> {
    let resume = UploadReply::Resume { next_chunk: 2 };
    let included = OutcomeReply::Included {
        round: 1,
        model: fix::sha256(b"the next model"),
    };
    let come_back = ComeBack {
        after_ms: 15_000,
        reason: "no job for your data now".into(),
        spread_ms: 0,
    };
    let spread = ComeBack {
        spread_ms: 8000,
        ..come_back.clone()
    };
    let hurried = Task {
        finish_within_ms: Some(90_000),
        ..fix::task()
    };
    let logged = Task {
        log: Some(Box::new(fix::base_proof())),
        ..fix::task()
    };
    let saw_the_log = CheckIn {
        log_size: 2,
        ..fix::check_in()
    };
    let refused: Reply<CheckInReply> = Reply::Refused(Refusal::new(ErrorCode::Pending, "wait until the operator accepts this agent"));
    let newer: Reply<CheckInReply> = Reply::Refused(Refusal::new(ErrorCode::from(999), "a code of a newer version"));
    let revoke = SetRevoked {
        tenant: TenantId::default(),
        agent: fix::agent_id(),
        revoked: true,
    };
    let some_bundle = BundleReply {
        bundle: Some(fix::signed_bundle_bytes()),
    };
    let renew = Renew {
        csr: ByteBuf::from(*b"stands for a signing request"),
    };
    vec![
        vector("check_in", "AgentRequest", AgentRequest::CheckIn(fix::check_in())),
        vector("check_in_log_seen", "AgentRequest", AgentRequest::CheckIn(saw_the_log)),
        vector("check_in_task_logged", "Reply<CheckInReply>", Reply::Ok(CheckInReply::Task(logged))),
        vector("fetch", "AgentRequest", AgentRequest::Fetch(fix::fetch())),
        vector("ready", "AgentRequest", AgentRequest::Ready(fix::ready())),
        vector("upload", "AgentRequest", AgentRequest::Upload(fix::upload())),
        vector("outcome", "AgentRequest", AgentRequest::Outcome(fix::outcome_query())),
        vector("bundle", "AgentRequest", AgentRequest::Bundle(BundleQuery { have_version: 1 })),
        vector("progress", "AgentRequest", AgentRequest::Progress(fix::progress())),
        vector(
            "check_in_task_hurried",
            "Reply<CheckInReply>",
            Reply::Ok(CheckInReply::Task(hurried)),
        ),
        vector(
            "check_in_come_back_spread",
            "Reply<CheckInReply>",
            Reply::Ok(CheckInReply::ComeBack(spread)),
        ),
        vector("progress_reply", "Reply<ProgressReply>", Reply::Ok(ProgressReply { wanted: true })),
        vector("check_in_task", "Reply<CheckInReply>", Reply::Ok(CheckInReply::Task(fix::task()))),
        vector(
            "check_in_come_back",
            "Reply<CheckInReply>",
            Reply::Ok(CheckInReply::ComeBack(come_back)),
        ),
        vector("check_in_refused", "Reply<CheckInReply>", refused),
        vector("check_in_refused_by_an_unknown_code", "Reply<CheckInReply>", newer),
        vector(
            "fetch_reply",
            "Reply<FetchReply>",
            Reply::Ok(FetchReply {
                manifest: fix::manifest(fix::MODEL),
            }),
        ),
        vector(
            "fetch_reply_empty_blob",
            "Reply<FetchReply>",
            Reply::Ok(FetchReply {
                manifest: fix::manifest(b""),
            }),
        ),
        vector(
            "ready_cohort",
            "Reply<ReadyReply>",
            Reply::Ok(ReadyReply::Cohort(fix::signed_descriptor())),
        ),
        vector("ready_superseded", "Reply<ReadyReply>", Reply::Ok(ReadyReply::Superseded)),
        vector("upload_resume", "Reply<UploadReply>", Reply::Ok(resume)),
        vector("upload_accepted", "Reply<UploadReply>", Reply::Ok(UploadReply::Accepted)),
        vector("outcome_included", "Reply<OutcomeReply>", Reply::Ok(included)),
        vector("outcome_not_included", "Reply<OutcomeReply>", Reply::Ok(OutcomeReply::NotIncluded)),
        vector("bundle_reply", "Reply<BundleReply>", Reply::Ok(some_bundle)),
        vector("bundle_reply_none", "Reply<BundleReply>", Reply::Ok(BundleReply { bundle: None })),
        vector("serve", "AgentRequest", AgentRequest::Serve(fix::serve())),
        vector("serve_reply", "Reply<ServeReply>", Reply::Ok(fix::serve_reply())),
        vector("serve_reply_none", "Reply<ServeReply>", Reply::Ok(ServeReply { release: None })),
        vector("enrol", "EnrolRequest", EnrolRequest::Enrol(fix::enrol())),
        vector("certificate", "Reply<CertificateReply>", Reply::Ok(fix::certificate())),
        vector("renew", "RenewRequest", RenewRequest::Renew(renew)),
        vector(
            "renew_bundle",
            "RenewRequest",
            RenewRequest::Bundle(BundleQuery { have_version: 0 }),
        ),
        vector("set_revoked", "RenewRequest", RenewRequest::SetRevoked(revoke)),
        vector("revocation", "Reply<RevocationReply>", Reply::Ok(RevocationReply { revoked: true })),
    ]
}

/// Everything that is signed, hashed or handed over, and travels inside of something else.
pub(crate) fn records() -> Vec<Vector> {
    vec![
        vector("signed_job", "SignedJob", fix::signed_job()),
        vector("descriptor", "Descriptor", fix::descriptor()),
        vector("trust_bundle", "TrustBundle", fix::bundle()),
        vector("signed_bundle", "SignedBundle", fix::signed_bundle()),
        vector("join_token", "JoinToken", fix::token()),
        vector("log_base", "LogEntry", fix::log_base()),
        vector("log_round", "LogEntry", fix::log_round()),
        vector("log_abandoned", "LogEntry", fix::log_abandoned()),
        vector("descriptor_secure", "Descriptor", fix::secagg::secure_descriptor()),
    ]
}

fn holds(file: &Json, vectors: &[Vector]) {
    for (stored, vector) in list(file, "vectors").iter().zip(vectors) {
        let cbor = unhex(text(stored, "cbor"));
        (vector.reads_as_the_fixture)(&cbor);
        assert_eq!(
            recode(text(stored, "type"), &cbor).expect(vector.name),
            cbor,
            "{} is written differently",
            vector.name
        );
        assert_eq!(described(&cbor), stored["message"], "{} is described differently", vector.name);
    }
}

#[test]
fn messages_are_read_and_written_as_recorded() {
    let vectors = messages();
    let expected = vectors.iter().map(|v| {
        let header = FrameHeader::new(FrameKind::Control, v.cbor.len()).expect("within the limit").to_bytes();
        json!({ "name": v.name, "type": v.type_name, "header": hex::encode(header), "cbor": hex::encode(&v.cbor), "message": described(&v.cbor) })
    });
    let file = committed("messages.json", &json!({ "protocol": 1, "vectors": expected.collect::<Vec<_>>() }));
    holds(&file, &vectors);
    for stored in list(&file, "vectors") {
        let header = unhex(text(stored, "header")).try_into().expect("five bytes");
        let header = FrameHeader::from_bytes(header).expect("a good header");
        assert_eq!(header.expect(FrameKind::Control), Ok(text(stored, "cbor").len() / 2));
    }
}

#[test]
fn records_are_read_and_written_as_recorded() {
    let vectors = records();
    let expected = vectors
        .iter()
        .map(|v| json!({ "name": v.name, "type": v.type_name, "cbor": hex::encode(&v.cbor), "message": described(&v.cbor) }));
    let file = committed("records.json", &json!({ "protocol": 1, "vectors": expected.collect::<Vec<_>>() }));
    holds(&file, &vectors);
}

#[test]
fn ids_and_texts_are_as_recorded() {
    let key = fix::public_key(fix::AGENT);
    let expected = json!({
        "protocol": 1,
        "agent_seed": hex::encode([fix::AGENT; 32]),
        "agent_public_key": key.to_hex(),
        "agent_id": fix::agent_id().to_hex(),
        "agent_id_shown": fix::agent_id().to_string(),
        "signed_job_sha256": fix::sha256(&fix::task().signed_job).to_hex(),
        "job_id": fix::job().to_hex(),
        "owner_public_key": fix::public_key(fix::OWNER).to_hex(),
        "job_signature": fix::task().signature.to_hex(),
        "job_file": fix::JOB_FILE,
        "join_token": fix::token().to_text().expect("a valid token"),
    });
    let file = committed("texts.json", &expected);
    assert_eq!(text(&file, "agent_id").parse::<AgentId>().expect("an id"), fix::agent_id());
    assert!(
        text(&file, "signed_job_sha256")
            .parse::<Digest>()
            .expect("a digest")
            .to_hex()
            .starts_with(text(&file, "job_id"))
    );
    assert_eq!(text(&file, "join_token").parse::<JoinToken>().expect("a token"), fix::token());
    JobFile::parse(text(&file, "job_file")).expect("a job file");
}

/// The same check that an agent makes, with nothing but the recorded bytes.
#[test]
fn recorded_signatures_hold() {
    use ring::signature::{ED25519, UnparsedPublicKey};
    let task = fix::task();
    let signed = [b"aimass job v1\0", task.signed_job.as_slice()].concat();
    UnparsedPublicKey::new(&ED25519, task.owner)
        .verify(&signed, task.signature.as_bytes())
        .expect("the job's signature");
    let bundle = fix::signed_bundle();
    let signed = [b"aimass bundle v1\0", bundle.bundle.as_slice()].concat();
    let by = &bundle.signatures[0];
    UnparsedPublicKey::new(&ED25519, by.root)
        .verify(&signed, by.signature.as_bytes())
        .expect("the bundle's signature");
    let descriptor = fix::signed_descriptor();
    let signed = [b"aimass descriptor v1\0", descriptor.descriptor.as_slice()].concat();
    let server = fix::public_key(fix::SERVER);
    UnparsedPublicKey::new(&ED25519, server)
        .verify(&signed, descriptor.signature.as_bytes())
        .expect("the descriptor's signature");
}
