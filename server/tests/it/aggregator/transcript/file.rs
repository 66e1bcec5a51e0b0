//! `protocol/testdata/v1/transcript.json`, which docs/protocol.md describes.

use aimass_crypto::sign::PublicKey;
use aimass_protocol::frame::{ALPN_ENROL, FrameHeader, FrameKind, HEADER_BYTES};
use aimass_protocol::message::Reply;
use aimass_protocol::message::agent::{
    AgentRequest, BundleReply, CheckInReply, FetchReply, OutcomeReply, ProgressReply, ReadyReply, ServeReply, UploadReply,
};
use aimass_protocol::message::authority::{CertificateReply, EnrolRequest};
use aimass_protocol::message::secagg::{ConsentReply, RevealReply, Roster, SharesReply, SurvivorsReply, UnmaskReply};
use aimass_protocol::{Checked, codec};
use aimass_relay::{End, Recorded, Turn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/testdata/v1/transcript.json");
const ABOUT: [&str; 3] = [
    "A session of the real agent program with the real authority and the real aggregator, recorded between them, after TLS; docs/protocol.md describes the file.",
    "Recorded by: AIMASS_RECORD_TRANSCRIPT=1 cargo test --release --workspace --test it transcript",
    "Nothing in here is secret: keys, join token, data and model were made by that test for this recording, and are used nowhere else.",
];
/// Equal bytes are counted instead of written from so many on.
const RUN_BYTES: usize = 64;

/// The file's content.
pub(super) struct Transcript(Json);

impl Transcript {
    /// `keys`: public keys by whose they are. `connections`: who serves, the protocol, and what was said.
    pub(super) fn new(keys: &[(&str, PublicKey)], connections: &[(&str, &[u8], Recorded)]) -> Self {
        let keys: serde_json::Map<String, Json> = keys
            .iter()
            .map(|(whose, key)| ((*whose).to_owned(), hex::encode(key.as_bytes()).into()))
            .collect();
        let connections: Vec<Json> = connections
            .iter()
            .map(|(server, alpn, recorded)| connection(server, alpn, recorded))
            .collect();
        Self(json!({ "about": ABOUT, "protocol": 1, "public_keys": keys, "connections": connections }))
    }

    pub(super) fn committed() -> Self {
        let text = std::fs::read_to_string(PATH).expect("a recording is committed");
        Self(serde_json::from_str(&text).expect("JSON"))
    }

    /// What each frame carries in the stream that was opened for this request, turn by turn.
    pub(super) fn exchange(&self, request: &str) -> Vec<Vec<Vec<u8>>> {
        let connections = self.0["connections"].as_array().expect("connections");
        let mut streams = connections
            .iter()
            .flat_map(|connection| connection["streams"].as_array().expect("streams"));
        let stream = streams.find(|stream| stream["turns"][0]["frames"][0] == format!("AgentRequest {request}"));
        let turns = stream.expect("it was asked")["turns"].as_array().expect("turns");
        let payloads = |turn: &Json| {
            let bytes = whole(turn["bytes"].as_array().expect("bytes"));
            frames(&bytes).into_iter().map(|(_, payload)| payload.to_vec()).collect()
        };
        turns.iter().map(payloads).collect()
    }

    pub(super) fn write(&self) {
        let text = serde_json::to_string_pretty(&self.0).expect("JSON") + "\n";
        std::fs::write(PATH, text).expect("the recording can be written");
    }

    /// All of it but the bytes, which certificates, ids and signatures make different each time.
    pub(super) fn shape(&self) -> Json {
        fn without_bytes(value: &Json) -> Json {
            match value {
                Json::Object(map) => map
                    .iter()
                    .filter(|(key, _)| *key != "bytes")
                    .map(|(key, value)| (key.clone(), without_bytes(value)))
                    .collect(),
                Json::Array(list) => list.iter().map(without_bytes).collect(),
                other => other.clone(),
            }
        }
        without_bytes(&self.0["connections"])
    }
}

fn connection(server: &str, alpn: &[u8], recorded: &Recorded) -> Json {
    assert_eq!(
        recorded.broken_streams, 0,
        "no stream is broken off in a session where nothing goes wrong"
    );
    let name = |end| if end == End::Client { "agent" } else { server };
    let streams: Vec<Json> = recorded
        .streams
        .iter()
        .map(|turns| {
            let request = Request::of(alpn, turns);
            let turns = turns
                .iter()
                .map(|turn| json!({ "from": name(turn.from), "frames": request.frames(turn), "bytes": shortened(&turn.bytes) }));
            json!({ "turns": turns.collect::<Vec<_>>() })
        })
        .collect();
    let closed = recorded.closed.as_ref().expect("it was closed");
    let closed = json!({ "by": name(closed.by), "code": closed.code, "reason": String::from_utf8_lossy(&closed.reason) });
    json!({ "alpn": String::from_utf8_lossy(alpn), "client": "agent", "server": server, "streams": streams, "closed": closed })
}

/// The names of the requests on `aimass/1` so far.
pub(super) fn requests(recorded: &Recorded) -> Vec<String> {
    let turns = recorded.streams.iter().filter(|turns| !turns.is_empty());
    turns
        .filter_map(|turns| match frames(&turns[0].bytes).first() {
            Some((FrameKind::Control, payload)) => codec::decode::<AgentRequest>(payload).ok().map(|request| choice(&request)),
            _ => None,
        })
        .collect()
}

/// Whether the newest request has its answer.
pub(super) fn is_answered(recorded: &Recorded) -> bool {
    let newest = recorded.streams.last().map(Vec::as_slice);
    matches!(newest, Some([_, answer]) if !frames(&answer.bytes).is_empty())
}

/// What a stream was opened for: it says how its answers are read.
#[expect(clippy::large_enum_variant, reason = "there are few")]
enum Request {
    Enrol,
    Agent(AgentRequest),
}

impl Request {
    fn of(alpn: &[u8], turns: &[Turn]) -> Self {
        let (_, payload) = frames(&turns.first().expect("somebody spoke").bytes)[0];
        if alpn == ALPN_ENROL {
            Self::Enrol
        } else {
            Self::Agent(codec::decode(payload).expect("a request"))
        }
    }

    /// Each frame by its type and choice, for instance `Reply<CheckInReply> Ok Task`.
    fn frames(&self, turn: &Turn) -> Vec<String> {
        let frames = frames(&turn.bytes);
        let whole: usize = frames.iter().map(|(_, payload)| HEADER_BYTES + payload.len()).sum();
        assert_eq!(whole, turn.bytes.len(), "a turn is made of whole frames");
        let named = frames.into_iter().map(|(kind, payload)| match kind {
            FrameKind::Chunk => "chunk".to_owned(),
            FrameKind::Control => self.message(turn.from, payload),
        });
        named.collect()
    }

    fn message(&self, from: End, payload: &[u8]) -> String {
        match (from, self) {
            (End::Client, Self::Enrol) => named::<EnrolRequest>("EnrolRequest", payload),
            (End::Client, Self::Agent(_)) => named::<AgentRequest>("AgentRequest", payload),
            (End::Server, Self::Enrol) => named::<Reply<CertificateReply>>("Reply<CertificateReply>", payload),
            (End::Server, Self::Agent(request)) => match request {
                AgentRequest::CheckIn(_) => named::<Reply<CheckInReply>>("Reply<CheckInReply>", payload),
                AgentRequest::Fetch(_) => named::<Reply<FetchReply>>("Reply<FetchReply>", payload),
                AgentRequest::Ready(_) => named::<Reply<ReadyReply>>("Reply<ReadyReply>", payload),
                AgentRequest::Upload(_) => named::<Reply<UploadReply>>("Reply<UploadReply>", payload),
                AgentRequest::Outcome(_) => named::<Reply<OutcomeReply>>("Reply<OutcomeReply>", payload),
                AgentRequest::Progress(_) => named::<Reply<ProgressReply>>("Reply<ProgressReply>", payload),
                AgentRequest::Bundle(_) => named::<Reply<BundleReply>>("Reply<BundleReply>", payload),
                AgentRequest::Serve(_) => named::<Reply<ServeReply>>("Reply<ServeReply>", payload),
                AgentRequest::Advert(_) => named::<Reply<Roster>>("Reply<Roster>", payload),
                AgentRequest::Reveal(_) => named::<Reply<RevealReply>>("Reply<RevealReply>", payload),
                AgentRequest::Shares(_) => named::<Reply<SharesReply>>("Reply<SharesReply>", payload),
                AgentRequest::Survivors(_) => named::<Reply<SurvivorsReply>>("Reply<SurvivorsReply>", payload),
                AgentRequest::Consent(_) => named::<Reply<ConsentReply>>("Reply<ConsentReply>", payload),
                AgentRequest::Unmask(_) => named::<Reply<UnmaskReply>>("Reply<UnmaskReply>", payload),
            },
        }
    }
}

fn named<T: DeserializeOwned + Serialize + Checked>(type_name: &str, payload: &[u8]) -> String {
    let message: T = codec::decode(payload).unwrap_or_else(|e| panic!("no {type_name}: {e}"));
    format!("{type_name} {}", choice(&message))
}

/// The choices that a message makes, outermost first: its keys and texts with a capital letter.
fn choice(message: &impl Serialize) -> String {
    let is_choice = |text: &str| text.starts_with(char::is_uppercase);
    let (mut at, mut names) = (&serde_json::to_value(message).expect("JSON"), Vec::new());
    loop {
        match at {
            Json::String(text) if is_choice(text) => names.push(text.as_str()),
            Json::Object(map) if map.len() == 1 => {
                if let Some((key, value)) = map.iter().find(|(key, _)| is_choice(key)) {
                    names.push(key);
                    at = value;
                    continue;
                }
            }
            _ => {}
        }
        return names.join(" ");
    }
}

/// The whole frames at the beginning of `bytes`.
fn frames(mut bytes: &[u8]) -> Vec<(FrameKind, &[u8])> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        let header = FrameHeader::from_bytes(*header).expect("a good header");
        let Some((payload, rest)) = rest.split_at_checked(header.len) else {
            break;
        };
        frames.push((header.kind, payload));
        bytes = rest;
    }
    frames
}

/// Hexadecimal text, with long runs of one byte as `{"byte", "count"}`.
fn shortened(bytes: &[u8]) -> Vec<Json> {
    let (mut parts, mut plain) = (Vec::new(), Vec::new());
    for run in bytes.chunk_by(|a, b| a == b) {
        if run.len() < RUN_BYTES {
            plain.extend_from_slice(run);
            continue;
        }
        if !plain.is_empty() {
            parts.push(json!(hex::encode(std::mem::take(&mut plain))));
        }
        parts.push(json!({ "byte": hex::encode(&run[..1]), "count": run.len() }));
    }
    if !plain.is_empty() {
        parts.push(json!(hex::encode(plain)));
    }
    parts
}

/// The bytes that [`shortened`] was given.
fn whole(parts: &[Json]) -> Vec<u8> {
    let part = |part: &Json| match part.as_str() {
        Some(plain) => hex::decode(plain).expect("hexadecimal text"),
        None => {
            let byte = hex::decode(part["byte"].as_str().expect("a byte")).expect("hexadecimal text");
            byte.repeat(part["count"].as_u64().and_then(|n| usize::try_from(n).ok()).expect("a count"))
        }
    };
    parts.iter().flat_map(part).collect()
}
