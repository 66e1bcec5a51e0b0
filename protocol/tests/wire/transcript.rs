//! A whole session as frames in both directions: join, check in, fetch, get ready, upload, hear the outcome.

use aimass_protocol::frame::{ALPN_AGENT, ALPN_ENROL, FrameHeader, FrameKind, HEADER_BYTES};
use aimass_protocol::message::Reply;
use aimass_protocol::message::agent::{AgentRequest, CheckInReply, FetchReply, OutcomeReply, ReadyReply, UploadReply};
use aimass_protocol::message::authority::EnrolRequest;
use aimass_protocol::{Checked, codec};
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::fixtures as fix;
use crate::testdata::{committed, described, list, recode, text, unhex};

fn control<T: Serialize + Checked>(from: &str, type_name: &str, message: &T) -> Json {
    let cbor = codec::encode(message).expect("a valid fixture");
    let header = FrameHeader::new(FrameKind::Control, cbor.len())
        .expect("within the limit")
        .to_bytes();
    let frame = [header.as_slice(), &cbor].concat();
    json!({ "from": from, "type": type_name, "frame": hex::encode(frame), "message": described(&cbor) })
}

fn chunk(from: &str, bytes: &[u8]) -> Json {
    let header = FrameHeader::new(FrameKind::Chunk, bytes.len())
        .expect("within the limit")
        .to_bytes();
    json!({ "from": from, "type": "chunk", "frame": hex::encode([header.as_slice(), bytes].concat()), "sha256": fix::sha256(bytes).to_hex() })
}

fn stream(name: &str, frames: Vec<Json>) -> Json {
    json!({ "stream": name, "frames": frames })
}

fn request(request: &AgentRequest) -> Json {
    control("agent", "AgentRequest", request)
}

fn session() -> Json {
    let included = OutcomeReply::Included {
        round: 1,
        model: fix::sha256(b"the next model"),
    };
    let join = vec![stream(
        "enrol",
        vec![
            control("agent", "EnrolRequest", &EnrolRequest::Enrol(fix::enrol())),
            control("authority", "Reply<CertificateReply>", &Reply::Ok(fix::certificate())),
        ],
    )];
    let round = vec![
        stream(
            "check in",
            vec![
                request(&AgentRequest::CheckIn(fix::check_in())),
                control("server", "Reply<CheckInReply>", &Reply::Ok(CheckInReply::Task(fix::task()))),
            ],
        ),
        stream(
            "fetch",
            vec![
                request(&AgentRequest::Fetch(fix::fetch())),
                control(
                    "server",
                    "Reply<FetchReply>",
                    &Reply::Ok(FetchReply {
                        manifest: fix::manifest(fix::MODEL),
                    }),
                ),
                chunk("server", fix::MODEL),
            ],
        ),
        stream(
            "ready",
            vec![
                request(&AgentRequest::Ready(fix::ready())),
                control(
                    "server",
                    "Reply<ReadyReply>",
                    &Reply::Ok(ReadyReply::Cohort(fix::signed_descriptor())),
                ),
            ],
        ),
        stream(
            "upload",
            vec![
                request(&AgentRequest::Upload(fix::upload())),
                control("server", "Reply<UploadReply>", &Reply::Ok(UploadReply::Resume { next_chunk: 0 })),
                chunk("agent", fix::UPDATE),
                control("server", "Reply<UploadReply>", &Reply::Ok(UploadReply::Accepted)),
            ],
        ),
        stream(
            "upload again, because the answer was lost",
            vec![
                request(&AgentRequest::Upload(fix::upload())),
                control("server", "Reply<UploadReply>", &Reply::Ok(UploadReply::Accepted)),
            ],
        ),
        stream(
            "outcome",
            vec![
                request(&AgentRequest::Outcome(fix::outcome_query())),
                control("server", "Reply<OutcomeReply>", &Reply::Ok(included)),
            ],
        ),
    ];
    let alpn = |alpn: &[u8]| String::from_utf8(alpn.to_vec()).expect("an ALPN is ASCII");
    json!({
        "protocol": 1,
        "connections": [
            { "alpn": alpn(ALPN_ENROL), "client": "agent", "server": "authority", "streams": join },
            { "alpn": alpn(ALPN_AGENT), "client": "agent", "server": "server", "streams": round },
        ],
    })
}

#[test]
fn the_recorded_session_walks_through_frames_and_codec() {
    let file = committed("transcript.json", &session());
    let mut frames = 0;
    for stream in list(&file, "connections").iter().flat_map(|connection| list(connection, "streams")) {
        let mut manifest = None;
        for frame in list(stream, "frames") {
            frames += 1;
            let bytes = unhex(text(frame, "frame"));
            let (header, payload) = bytes.split_first_chunk::<HEADER_BYTES>().expect("a header");
            let header = FrameHeader::from_bytes(*header).expect("a good header");
            assert_eq!(header.len, payload.len());
            if text(frame, "type") == "chunk" {
                assert_eq!(header.kind, FrameKind::Chunk);
                assert_eq!(fix::sha256(payload).to_hex(), text(frame, "sha256"));
                assert_eq!(
                    manifest,
                    Some(fix::manifest(payload)),
                    "the chunk is not of the blob that was announced"
                );
            } else {
                assert_eq!(header.kind, FrameKind::Control);
                assert_eq!(recode(text(frame, "type"), payload).expect("a message"), payload);
                manifest = announced(payload).or(manifest);
            }
        }
    }
    assert_eq!(frames, 2 + 2 + 3 + 2 + 4 + 2 + 2);
}

fn announced(payload: &[u8]) -> Option<aimass_protocol::manifest::Manifest> {
    match (codec::decode::<AgentRequest>(payload), codec::decode::<Reply<FetchReply>>(payload)) {
        (Ok(AgentRequest::Upload(upload)), _) => Some(upload.manifest),
        (_, Ok(Reply::Ok(reply))) => Some(reply.manifest),
        _ => None,
    }
}
