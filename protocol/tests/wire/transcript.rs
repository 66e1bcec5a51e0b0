//! The recorded session: what each receiver checks, with nothing but the recorded bytes, and the same bytes damaged.
//!
//! `server/tests/it` records it, from the real agent and the real services; nothing in here writes the file.

mod receiver;

use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::frame::{ALPN_AGENT, ALPN_ENROL, FrameKind, HEADER_BYTES};
use aimass_protocol::limits::CHUNK_BYTES;
use aimass_protocol::manifest::Manifest;
use aimass_protocol::message::Reply;
use aimass_protocol::message::agent::{
    AgentRequest, CheckInReply, FetchReply, OutcomeReply, ReadyReply, SignedDescriptor, Task, UploadReply,
};
use aimass_protocol::message::authority::CertificateReply;
use aimass_protocol::{Checked, CohortId, ContributionId, ErrorCode, codec, fuzz};
use serde::de::DeserializeOwned;

use self::receiver::{Keys, Stream, Turn, frames, names, receive};
use crate::testdata::{list, recode, stored, text, unhex};

/// What the file holds, its bytes written out.
struct Recording {
    keys: Keys,
    connections: Vec<Connection>,
}

struct Connection {
    alpn: String,
    server: String,
    streams: Vec<Stream>,
    closed_by: String,
    close_code: u64,
}

impl Recording {
    fn read() -> Self {
        let file = stored("transcript.json");
        assert_eq!(file["protocol"], 1);
        let key = |whose: &str| unhex(text(&file["public_keys"], whose));
        let keys = Keys {
            agent: key("agent"),
            server: key("server"),
            owner: key("owner"),
            root: key("root"),
        };
        let connections = list(&file, "connections").iter().map(|connection| Connection {
            alpn: text(connection, "alpn").to_owned(),
            server: text(connection, "server").to_owned(),
            streams: list(connection, "streams").iter().map(Stream::read).collect(),
            closed_by: text(&connection["closed"], "by").to_owned(),
            close_code: connection["closed"]["code"].as_u64().expect("a code"),
        });
        Self {
            keys,
            connections: connections.collect(),
        }
    }

    fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.connections.iter().flat_map(|connection| &connection.streams)
    }
}

/// Every check that a receiver makes passes, and every message is written as it was read.
#[test]
fn the_recorded_session_passes_every_check() {
    let recording = Recording::read();
    for stream in recording.streams() {
        receive(stream, &recording.keys).unwrap_or_else(|e| panic!("{}: {e}", stream.name()));
    }
}

/// The words beside the bytes are what the bytes say.
#[test]
fn the_recorded_frames_are_what_they_are_called() {
    for stream in Recording::read().streams() {
        for turn in &stream.turns {
            let found: Vec<String> = frames(&turn.bytes)
                .expect("whole frames")
                .iter()
                .zip(&turn.names)
                .map(|(frame, name)| names(frame, name))
                .collect();
            assert_eq!(found, turn.names, "{}", stream.name());
        }
    }
}

/// The messages that the story below follows, in their order.
struct Story {
    task: Task,
    fetched: FetchReply,
    signed: SignedDescriptor,
    descriptor: Descriptor,
}

impl Recording {
    fn story(&self) -> Story {
        let reply = |i: usize| self.connections[1].streams[i].turns[1].payloads().remove(0);
        let Ok(CheckInReply::Task(task)) = ok(&reply(0)) else {
            panic!("the first check-in brings a task")
        };
        let Ok(ReadyReply::Cohort(signed)) = ok(&reply(3)) else {
            panic!("there is a cohort")
        };
        Story {
            task,
            fetched: ok(&reply(2)).expect("the model's manifest"),
            descriptor: codec::decode(&signed.descriptor).expect("a descriptor"),
            signed,
        }
    }
}

fn ok<T: DeserializeOwned + Checked>(payload: &[u8]) -> Result<T, codec::DecodeError> {
    codec::decode(payload).map(|reply| match reply {
        Reply::Ok(reply) => reply,
        Reply::Refused(refusal) => panic!("{refusal}"),
    })
}

/// One device's whole way: it joins, is given work, does it, hears that it counted, and is revoked in the end.
#[test]
fn the_recorded_session_is_one_round_from_joining_to_revocation() {
    let recording = Recording::read();
    let [joining, working] = recording.connections.as_slice() else {
        panic!("two connections")
    };
    assert_eq!((joining.alpn.as_bytes(), joining.server.as_str()), (ALPN_ENROL, "authority"));
    assert_eq!((joining.closed_by.as_str(), joining.close_code), ("agent", 0), "a close in peace");
    assert_eq!((working.alpn.as_bytes(), working.server.as_str()), (ALPN_AGENT, "server"));
    let revoked = u64::from(ErrorCode::Revoked.as_u16());
    assert_eq!((working.closed_by.as_str(), working.close_code), ("server", revoked));

    let requests: Vec<AgentRequest> = working
        .streams
        .iter()
        .map(|stream| codec::decode(&stream.turns[0].payloads()[0]).expect("a request"))
        .collect();
    let [
        AgentRequest::CheckIn(first),
        AgentRequest::Bundle(_),
        AgentRequest::Fetch(fetch),
        AgentRequest::Ready(ready),
        AgentRequest::Upload(upload),
        AgentRequest::Outcome(outcome),
        AgentRequest::CheckIn(last),
    ] = requests.as_slice()
    else {
        panic!("{requests:?}")
    };
    let Story {
        task, fetched, descriptor, ..
    } = recording.story();
    assert!(
        first.held.is_empty() && last.held.is_empty(),
        "what was included is not held any more"
    );
    assert_eq!((fetch.digest, fetch.from_chunk), (task.base, 0));
    assert_eq!(fetched.manifest.size_bytes(), task.base_bytes);
    let lengths: Vec<usize> = working.streams[2].turns[1].payloads()[1..].iter().map(Vec::len).collect();
    assert!(
        lengths.len() > 1 && lengths[0] == CHUNK_BYTES,
        "the model should be of several chunks, it is of {lengths:?}"
    );
    assert_eq!((ready.job, ready.base), (task.job, task.base));
    assert_eq!(
        (descriptor.job, descriptor.round, &descriptor.bases),
        (task.job, 1, &vec![task.base])
    );
    let same = |cohort: CohortId, contribution: ContributionId| (cohort, contribution) == (descriptor.cohort, ready.contribution);
    assert!(same(upload.cohort, upload.contribution) && same(outcome.cohort, outcome.contribution));
    let answer = |i: usize, turn: usize| working.streams[i].turns[turn].payloads().remove(0);
    assert_eq!(
        ok::<UploadReply>(&answer(4, 1)).expect("an answer"),
        UploadReply::Resume { next_chunk: 0 }
    );
    assert_eq!(ok::<UploadReply>(&answer(4, 3)).expect("a verdict"), UploadReply::Accepted);
    let included = ok::<OutcomeReply>(&answer(5, 1)).expect("an outcome");
    assert!(matches!(included, OutcomeReply::Included { round: 1, model } if model != task.base));
    let last = ok::<CheckInReply>(&answer(6, 1)).expect("an answer");
    assert!(matches!(last, CheckInReply::ComeBack(_)), "the job has ended: {last:?}");
}

/// A copy of the stream with one turn's bytes changed.
fn damaged(stream: &Stream, turn: usize, change: impl FnOnce(&mut Vec<u8>)) -> Stream {
    let mut damaged = stream.clone();
    change(&mut damaged.turns[turn].bytes);
    damaged
}

/// The positions of a turn that are worth a try each: all of them, but only the ends and the middle of a chunk.
fn positions(turn: &Turn) -> Vec<usize> {
    let (mut positions, mut at) = (Vec::new(), 0);
    for (kind, payload) in frames(&turn.bytes).expect("whole frames") {
        let (first, end) = (at + HEADER_BYTES, at + HEADER_BYTES + payload.len());
        positions.extend(at..first);
        match kind {
            FrameKind::Control => positions.extend(first..end),
            FrameKind::Chunk => positions.extend([first, first.midpoint(end), end - 1]),
        }
        at = end;
    }
    positions
}

#[test]
fn a_stream_that_is_cut_short_is_refused_wherever_it_is_cut() {
    let Recording { keys, connections } = Recording::read();
    for stream in connections.iter().flat_map(|connection| &connection.streams) {
        for (i, turn) in stream.turns.iter().enumerate() {
            for at in positions(turn) {
                let cut = damaged(stream, i, |bytes| bytes.truncate(at));
                assert!(
                    receive(&cut, &keys).is_err(),
                    "{}: taken when cut at {at} of turn {i}",
                    stream.name()
                );
            }
            let longer = damaged(stream, i, |bytes| bytes.push(0));
            assert!(
                receive(&longer, &keys).is_err(),
                "{}: taken with a byte after turn {i}",
                stream.name()
            );
        }
    }
}

#[test]
fn a_flipped_bit_in_a_header_or_a_chunk_is_refused() {
    let Recording { keys, connections } = Recording::read();
    for stream in connections.iter().flat_map(|connection| &connection.streams) {
        for (i, turn) in stream.turns.iter().enumerate() {
            let mut begins = 0;
            for (kind, payload) in frames(&turn.bytes).expect("whole frames") {
                let header = begins..begins + HEADER_BYTES;
                let end = header.end + payload.len();
                let of_the_chunk = [header.end, end - 1].map(|at| at..at + 1);
                let ranges = std::iter::once(header).chain(of_the_chunk.into_iter().filter(|_| kind == FrameKind::Chunk));
                for (at, bit) in ranges.flatten().flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                    let flipped = damaged(stream, i, |bytes| bytes[at] ^= 1 << bit);
                    assert!(
                        receive(&flipped, &keys).is_err(),
                        "{}: taken with bit {bit} of byte {at} of turn {i} flipped",
                        stream.name()
                    );
                }
                begins = end;
            }
        }
    }
}

/// Job, model, update, descriptor and bundle hold for what was signed or hashed, and for nothing else.
#[test]
fn a_flipped_bit_in_what_is_signed_or_hashed_is_refused() {
    let recording = Recording::read();
    let Story { task, fetched, signed, .. } = recording.story();
    let CertificateReply { bundle, .. } = ok(&recording.connections[0].streams[0].turns[1].payloads()[0]).expect("a certificate");
    let Ok(AgentRequest::Upload(upload)) = codec::decode(&recording.connections[1].streams[4].turns[0].payloads()[0]) else {
        panic!("an upload")
    };
    let digests = |manifest: &Manifest| -> Vec<Vec<u8>> {
        let digests = std::iter::once(manifest.digest()).chain(manifest.chunks().iter().copied());
        digests.map(|digest| digest.as_bytes().to_vec()).collect()
    };
    let signed_job = vec![
        task.signed_job.to_vec(),
        task.owner.as_bytes().to_vec(),
        task.signature.as_bytes().to_vec(),
    ];
    let signed_descriptor = vec![signed.descriptor.to_vec(), signed.signature.as_bytes().to_vec()];
    // Connection, stream, turn, and what is protected in there.
    let protected: [(usize, usize, usize, Vec<Vec<u8>>); 5] = [
        (0, 0, 1, vec![bundle.into_vec()]),
        (1, 0, 1, signed_job),
        (1, 2, 1, digests(&fetched.manifest)),
        (1, 3, 1, signed_descriptor),
        (1, 4, 0, digests(&upload.manifest)),
    ];
    for (connection, stream, turn, parts) in protected {
        let stream = &recording.connections[connection].streams[stream];
        for part in parts {
            let bytes = &stream.turns[turn].bytes;
            let begin = bytes.windows(part.len()).position(|window| window == part).expect("it is in there");
            for at in begin..begin + part.len() {
                let flipped = damaged(stream, turn, |bytes| bytes[at] ^= 1 << (at % 8));
                assert!(
                    receive(&flipped, &recording.keys).is_err(),
                    "{}: taken with a flipped bit in byte {at}",
                    stream.name()
                );
            }
        }
    }
}

/// Elsewhere a flipped bit may make another message, which only TLS can tell from the right one. It never makes the same message, but for one
/// spelling that a reader forgives: the name of a field or choice as a byte string.
#[test]
fn no_damaged_message_is_read_as_the_right_one() {
    let (text_head, byte_string_head) = (3, 2);
    for stream in Recording::read().streams() {
        for turn in &stream.turns {
            for ((kind, payload), name) in frames(&turn.bytes).expect("whole frames").into_iter().zip(&turn.names) {
                if kind == FrameKind::Chunk {
                    continue;
                }
                let type_name = name.split(' ').next().expect("a type");
                for (at, bit) in (0..payload.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                    let mut flipped = payload.to_vec();
                    flipped[at] ^= 1 << bit;
                    fuzz::control_message(&flipped);
                    let is_forgiven = (payload[at] >> 5, flipped[at] >> 5) == (text_head, byte_string_head);
                    let read = recode(type_name, &flipped).ok().filter(|_| !is_forgiven);
                    assert_ne!(read.as_deref(), Some(payload), "{}: bit {bit} of byte {at}", stream.name());
                }
            }
        }
    }
}

/// The file can be given to anybody: it says so, and no private key is in it. (The token's secret is, and was used up at once.)
#[test]
fn the_recording_holds_no_private_key_and_says_so() {
    let about = stored("transcript.json")["about"].to_string();
    assert!(about.contains("Nothing in here is secret"), "{about}");
    // An Ed25519 key in PKCS#8: its algorithm, then an octet string (in a certificate a bit string follows).
    let private_key = unhex("300506032b657004");
    for turn in Recording::read().streams().flat_map(|stream| &stream.turns) {
        assert!(!turn.bytes.windows(private_key.len()).any(|window| window == private_key));
    }
}
