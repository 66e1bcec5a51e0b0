//! Bytes that have to be refused, with the kind of refusal. Each is one step away from a good vector.

use std::sync::OnceLock;

use aimass_protocol::codec::{self, DecodeError};
use aimass_protocol::frame::{FrameError, FrameHeader};
use aimass_protocol::limits::{CHUNK_BYTES, MAX_CONTROL_BYTES, MAX_SIGNED_JOB_BYTES};
use aimass_protocol::message::Reply;
use aimass_protocol::message::agent::CheckInReply;
use aimass_protocol::token::JoinToken;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_cbor::Value as Cbor;
use serde_json::{Value as Json, json};

use crate::fixtures as fix;
use crate::golden::{messages, records};
use crate::testdata::{committed, list, recode, text, unhex};

mod secagg;

fn cbor_of(name: &str) -> Vec<u8> {
    let mut all = messages().into_iter().chain(records());
    all.find(|vector| vector.name == name)
        .unwrap_or_else(|| panic!("no vector {name}"))
        .cbor
}

/// The vector `name` with the value at `path` (map keys, list indices) replaced by what `change` makes of it.
fn changed(name: &str, path: &[&str], change: impl FnOnce(&mut Cbor)) -> Vec<u8> {
    let mut root: Cbor = serde_cbor::from_slice(&cbor_of(name)).expect("a good vector");
    let mut at = &mut root;
    for key in path {
        at = match at {
            Cbor::Map(map) => map
                .get_mut(&Cbor::Text((*key).to_owned()))
                .unwrap_or_else(|| panic!("no {key} in {name}")),
            Cbor::Array(list) => &mut list[key.parse::<usize>().expect("an index")],
            other => panic!("{key} of {other:?}"),
        };
    }
    change(at);
    serde_cbor::to_vec(&root).expect("CBOR")
}

fn set(name: &str, path: &[&str], value: impl Into<Cbor>) -> Vec<u8> {
    let value = value.into();
    changed(name, path, |at| *at = value)
}

fn entry(map: &mut Cbor, key: &str, value: impl Into<Cbor>) {
    let Cbor::Map(map) = map else { panic!("no map") };
    map.insert(Cbor::Text(key.to_owned()), value.into());
}

fn without(map: &mut Cbor, key: &str) {
    let Cbor::Map(map) = map else { panic!("no map") };
    map.remove(&Cbor::Text(key.to_owned())).unwrap_or_else(|| panic!("no {key}"));
}

fn texts(list: &[&str]) -> Cbor {
    Cbor::Array(list.iter().map(|text| Cbor::Text((*text).to_owned())).collect())
}

fn bad(name: &str, type_name: &str, error: &str, cbor: &[u8]) -> Json {
    json!({ "name": format!("bad_{name}"), "type": type_name, "error": error, "cbor": hex::encode(cbor) })
}

/// `unit` over and over: too long to be written out.
fn repeated(name: &str, error: &str, unit: &[u8], count: usize) -> Json {
    json!({ "name": format!("bad_{name}"), "type": "AgentRequest", "error": error, "repeat": hex::encode(unit), "count": count })
}

fn shapes() -> Vec<Json> {
    let check_in = cbor_of("check_in");
    let request = |name, cbor: &[u8]| bad(name, "AgentRequest", "malformed", cbor);
    let twice = [&[0xa2][..], &cbor_of("bundle")[1..], &cbor_of("bundle")[1..]].concat();
    let mut fields_twice = cbor_of("bundle");
    let at = fields_twice.iter().rposition(|byte| *byte == 0xa1).expect("the inner map");
    fields_twice[at] = 0xa2;
    let field = fields_twice[at + 1..].to_vec();
    fields_twice.extend(field);
    let huge = |head: u8| [&[0xa1, 0x67][..], b"CheckIn", &[head], &[0xff; 8]].concat();
    vec![
        request("empty", &[]),
        request("truncated", &check_in[..check_in.len() - 1]),
        request("trailing_byte", &[&check_in[..], &[0]].concat()),
        request("not_cbor", &[0xff]),
        request(
            "unknown_variant",
            &serde_cbor::to_vec(&Cbor::Map([(Cbor::Text("Reboot".into()), Cbor::Null)].into())).expect("CBOR"),
        ),
        request("two_variants", &twice),
        request("field_twice", &fields_twice),
        request(
            "unknown_field",
            &changed("bundle", &["Bundle"], |map| entry(map, "colour", Cbor::Integer(1))),
        ),
        request("missing_field", &changed("check_in", &["CheckIn"], |map| without(map, "held"))),
        request("field_by_number", &[&[0xa1, 0x66][..], b"Bundle", &[0xa1, 0x00, 0x01]].concat()),
        request("variant_in_array", &[&[0x82][..], &cbor_of("bundle")[1..]].concat()),
        request("wrong_type", &set("bundle", &["Bundle", "have_version"], Cbor::Text("1".into()))),
        request("negative", &set("bundle", &["Bundle", "have_version"], Cbor::Integer(-1))),
        request("text_not_utf8", &[&[0xa1, 0x66][..], b"Bundl\xff", &[0x00]].concat()),
        request("id_too_short", &set("ready", &["Ready", "job"], Cbor::Bytes(vec![1; 15]))),
        request("id_too_long", &set("ready", &["Ready", "job"], Cbor::Bytes(vec![1; 17]))),
        request("id_as_text", &set("ready", &["Ready", "job"], Cbor::Text("01".repeat(16)))),
        request(
            "manifest_without_its_chunk",
            &set("upload", &["Upload", "manifest", "chunks"], Cbor::Array(vec![])),
        ),
        request(
            "manifest_size_for_more_chunks",
            &set("upload", &["Upload", "manifest", "size_bytes"], Cbor::Integer(1 << 20)),
        ),
        request(
            "manifest_too_large",
            &set("upload", &["Upload", "manifest", "size_bytes"], Cbor::Integer((1 << 30) + 1)),
        ),
        request("array_of_2_64", &huge(0x9b)),
        request("map_of_2_64", &huge(0xbb)),
        request("bytes_of_2_64", &huge(0x5b)),
        request("text_of_2_64", &huge(0x7b)),
        repeated("nested_arrays", "malformed", &[0x81], MAX_CONTROL_BYTES),
        repeated("nested_maps", "malformed", &[0xa1, 0x61, 0x61], 80_000),
        repeated("nested_tags", "malformed", &[0xc6], MAX_CONTROL_BYTES),
        repeated("nested_indefinite_arrays", "malformed", &[0x9f], MAX_CONTROL_BYTES),
        repeated("over_the_limit", "too_long", &[0x00], MAX_CONTROL_BYTES + 1),
        bad(
            "unknown_field_in_a_variant",
            "Reply<UploadReply>",
            "malformed",
            &changed("upload_resume", &["Ok", "Resume"], |map| entry(map, "colour", Cbor::Integer(1))),
        ),
        bad(
            "tenant",
            "RenewRequest",
            "malformed",
            &set("set_revoked", &["SetRevoked", "tenant"], Cbor::Text("A/b".into())),
        ),
        bad(
            "secret_too_short",
            "EnrolRequest",
            "malformed",
            &set("enrol", &["Enrol", "secret"], Cbor::Bytes(vec![1; 31])),
        ),
        bad(
            "key_too_short",
            "Reply<CheckInReply>",
            "malformed",
            &set("check_in_task", &["Ok", "Task", "owner"], Cbor::Bytes(vec![1; 31])),
        ),
        bad(
            "signature_too_long",
            "Reply<CheckInReply>",
            "malformed",
            &set("check_in_task", &["Ok", "Task", "signature"], Cbor::Bytes(vec![1; 65])),
        ),
    ]
}

fn rules() -> Vec<Json> {
    let long = "x".repeat(65);
    let many: Vec<String> = (0..33).map(|i| format!("tag{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let ids = |n: u16| {
        Cbor::Array(
            (0..n)
                .map(|i| Cbor::Bytes([[0; 14].as_slice(), &i.to_be_bytes()].concat()))
                .collect(),
        )
    };
    let check_in = |name, path: &[&str], value: Cbor| {
        let path: Vec<&str> = ["CheckIn"].iter().chain(path).copied().collect();
        bad(name, "AgentRequest", "invalid", &set("check_in", &path, value))
    };
    let task = |name, field, value: Cbor| {
        bad(
            name,
            "Reply<CheckInReply>",
            "invalid",
            &set("check_in_task", &["Ok", "Task", field], value),
        )
    };
    let come_back = |name, field, value: Cbor| {
        bad(
            name,
            "Reply<CheckInReply>",
            "invalid",
            &set("check_in_come_back", &["Ok", "ComeBack", field], value),
        )
    };
    let proof = |name, field, value: Cbor| {
        let path = ["Ok", "Task", "log", field];
        bad(name, "Reply<CheckInReply>", "invalid", &set("check_in_task_logged", &path, value))
    };
    let entry = |name, of, path: &[&str], value: Cbor| bad(name, "LogEntry", "invalid", &set(of, path, value));
    let hashes = |n| Cbor::Array(vec![Cbor::Bytes(vec![7; 32]); n]);
    let hurried = |ms| set("check_in_task_hurried", &["Ok", "Task", "finish_within_ms"], Cbor::Integer(ms));
    let descriptor = |name, path: &[&str], value: Cbor| bad(name, "Descriptor", "invalid", &set("descriptor", path, value));
    let bundle = |name, field, value: Cbor| bad(name, "TrustBundle", "invalid", &set("trust_bundle", &[field], value));
    let root = Cbor::Bytes(vec![1; 8]);
    let owner = changed("trust_bundle", &["owners"], |owners| {
        let Cbor::Array(list) = owners else { panic!("no list") };
        list.push(list[0].clone());
    });
    vec![
        check_in("too_many_tags", &["capabilities", "tags"], texts(&many)),
        check_in("tag_twice", &["capabilities", "tags"], texts(&["a", "a"])),
        check_in("tag_empty", &["capabilities", "tags"], texts(&[""])),
        check_in("tag_with_a_line_break", &["capabilities", "tags"], texts(&["a\nb"])),
        check_in("tag_too_long", &["capabilities", "tags"], texts(&[&long])),
        check_in("version_too_long", &["capabilities", "agent_version"], Cbor::Text(long.clone())),
        check_in(
            "device_class_with_an_escape",
            &["capabilities", "device_class"],
            Cbor::Text("\u{1b}[2J".into()),
        ),
        check_in("contract_with_a_slash", &["contracts"], texts(&["../digits"])),
        check_in("too_many_declined", &["declined"], ids(1025)),
        check_in("declined_twice", &["declined"], Cbor::Array(vec![Cbor::Bytes(vec![1; 16]); 2])),
        bad(
            "too_many_held",
            "AgentRequest",
            "invalid",
            &changed("check_in", &["CheckIn", "held"], |held| {
                let Cbor::Array(list) = held else { panic!("no list") };
                *list = vec![list[0].clone(); 65];
            }),
        ),
        bad(
            "chunk_past_the_largest_blob",
            "AgentRequest",
            "invalid",
            &set("fetch", &["Fetch", "from_chunk"], Cbor::Integer(4097)),
        ),
        bad(
            "resume_past_the_largest_blob",
            "Reply<UploadReply>",
            "invalid",
            &set("upload_resume", &["Ok", "Resume", "next_chunk"], Cbor::Integer(4097)),
        ),
        proof("proof_of_too_many_hashes", "inclusion", hashes(65)),
        proof("consistency_of_too_many_hashes", "consistency", hashes(65)),
        proof("proof_beyond_the_largest_log", "index", Cbor::Integer(1 << 62)),
        proof("proof_without_checkpoint", "checkpoint", Cbor::Bytes(vec![])),
        proof("checkpoint_too_long", "checkpoint", Cbor::Bytes(vec![b'a'; 4097])),
        proof("log_entry_too_long", "entry", Cbor::Bytes(vec![0; 1025])),
        bad(
            "log_size_beyond_the_largest",
            "AgentRequest",
            "invalid",
            &set("check_in_log_seen", &["CheckIn", "log_size"], Cbor::Integer((1 << 62) + 1)),
        ),
        entry("log_entry_of_version_2", "log_base", &["version"], Cbor::Integer(2)),
        entry("log_round_zero", "log_round", &["event", "Round", "round"], Cbor::Integer(0)),
        entry(
            "log_round_without_members",
            "log_round",
            &["event", "Round", "members"],
            Cbor::Integer(0),
        ),
        entry(
            "log_round_without_survivors",
            "log_round",
            &["event", "Round", "survivors"],
            Cbor::Integer(0),
        ),
        entry(
            "log_round_of_strangers",
            "log_round",
            &["event", "Round", "survivors"],
            Cbor::Integer(4),
        ),
        entry(
            "log_round_of_four_draws",
            "log_round",
            &["event", "Round", "draws"],
            Cbor::Integer(4),
        ),
        entry(
            "log_abandoned_survivors_without_root",
            "log_abandoned",
            &["event", "Abandoned", "survivors"],
            Cbor::Integer(1),
        ),
        entry(
            "log_abandoned_root_without_survivors",
            "log_abandoned",
            &["event", "Abandoned", "survivors_root"],
            Cbor::Bytes(vec![7; 32]),
        ),
        task("round_zero", "round", Cbor::Integer(0)),
        task("base_without_bytes", "base_bytes", Cbor::Integer(0)),
        task("base_too_large", "base_bytes", Cbor::Integer((1 << 30) + 1)),
        task("job_empty", "signed_job", Cbor::Bytes(vec![])),
        come_back("come_back_in_a_million_years", "after_ms", Cbor::Integer(u64::MAX.into())),
        come_back("reason_with_an_escape", "reason", Cbor::Text("\u{1b}]0;x\u{7}".into())),
        bad(
            "spread_beyond_an_hour",
            "Reply<CheckInReply>",
            "invalid",
            &set(
                "check_in_come_back_spread",
                &["Ok", "ComeBack", "spread_ms"],
                Cbor::Integer(3_600_001),
            ),
        ),
        bad("no_time_to_train", "Reply<CheckInReply>", "invalid", &hurried(0)),
        bad(
            "time_to_train_beyond_a_round",
            "Reply<CheckInReply>",
            "invalid",
            &hurried(604_800_001),
        ),
        bad(
            "progress_beyond_the_end",
            "AgentRequest",
            "invalid",
            &set("progress", &["Progress", "percent"], Cbor::Integer(101)),
        ),
        bad(
            "refusal_too_long",
            "Reply<CheckInReply>",
            "invalid",
            &set("check_in_refused", &["Refused", "text"], Cbor::Text("x".repeat(1025))),
        ),
        bad(
            "descriptor_too_long",
            "Reply<ReadyReply>",
            "invalid",
            &set("ready_cohort", &["Ok", "Cohort", "descriptor"], Cbor::Bytes(vec![0; 4097])),
        ),
        descriptor("descriptor_of_version_2", &["version"], Cbor::Integer(2)),
        descriptor("descriptor_without_base", &["bases"], Cbor::Array(vec![])),
        descriptor("descriptor_floor_above_members", &["floor"], Cbor::Integer(4)),
        descriptor("descriptor_floor_zero", &["floor"], Cbor::Integer(0)),
        descriptor("descriptor_members_beyond_the_limit", &["members"], Cbor::Integer(65_537)),
        descriptor("clip_nan", &["codec", "clip"], Cbor::Float(f64::NAN)),
        descriptor("clip_infinite", &["codec", "clip"], Cbor::Float(f64::INFINITY)),
        descriptor("clip_beyond_32_bits", &["codec", "clip"], Cbor::Float(1e300)),
        descriptor("clip_zero", &["codec", "clip"], Cbor::Float(0.0)),
        descriptor("clip_negative", &["codec", "clip"], Cbor::Float(-1.0)),
        descriptor("bits_1", &["codec", "bits"], Cbor::Integer(1)),
        descriptor("bits_33", &["codec", "bits"], Cbor::Integer(33)),
        descriptor("weight_cap_zero", &["codec", "weight_cap"], Cbor::Integer(0)),
        bundle("bundle_version_zero", "version", Cbor::Integer(0)),
        bundle("bundle_without_root", "roots", Cbor::Array(vec![])),
        bundle("bundle_root_twice", "roots", Cbor::Array(vec![root.clone(), root])),
        bundle("bundle_root_too_long", "roots", Cbor::Array(vec![Cbor::Bytes(vec![0; 4097])])),
        bundle(
            "bundle_too_many_roots",
            "roots",
            Cbor::Array((0..17).map(|i| Cbor::Bytes(vec![i])).collect()),
        ),
        bad("bundle_owner_twice", "TrustBundle", "invalid", &owner),
        bad(
            "bundle_owner_without_name",
            "TrustBundle",
            "invalid",
            &set("trust_bundle", &["owners", "0", "name"], Cbor::Text(String::new())),
        ),
        bad(
            "bundle_unsigned",
            "SignedBundle",
            "invalid",
            &set("signed_bundle", &["signatures"], Cbor::Array(vec![])),
        ),
        bad(
            "certificate_too_long",
            "Reply<CertificateReply>",
            "invalid",
            &set("certificate", &["Ok", "certificate"], Cbor::Bytes(vec![0; 4097])),
        ),
        bad(
            "csr_empty",
            "EnrolRequest",
            "invalid",
            &set("enrol", &["Enrol", "csr"], Cbor::Bytes(vec![])),
        ),
        bad(
            "job_file_not_utf8",
            "SignedJob",
            "invalid",
            &set("signed_job", &["job_file"], Cbor::Bytes(vec![0xff])),
        ),
        bad(
            "token_without_server",
            "JoinToken",
            "invalid",
            &set("join_token", &["server"], Cbor::Text(String::new())),
        ),
    ]
}

fn headers() -> Vec<Json> {
    let header = |name: &str, error: &str, kind: u8, len: usize| {
        let len = u32::try_from(len).expect("a test's length").to_le_bytes();
        json!({ "name": format!("bad_{name}"), "error": error, "header": hex::encode([&[kind][..], &len].concat()) })
    };
    vec![
        header("kind_0", "unknown_kind", 0, 1),
        header("kind_3", "unknown_kind", 3, 1),
        header("kind_255", "unknown_kind", 255, 1),
        header("control_over_its_limit", "too_long", 1, MAX_CONTROL_BYTES + 1),
        header("chunk_over_its_limit", "too_long", 2, CHUNK_BYTES + 1),
        header("longest_length", "too_long", 1, u32::MAX as usize),
    ]
}

fn tokens() -> Vec<Json> {
    let good = fix::token().to_text().expect("a valid token");
    let body = good.strip_prefix("aimass1.").expect("the prefix");
    let of = |cbor: &[u8]| format!("aimass1.{}", URL_SAFE_NO_PAD.encode(cbor));
    let bad = |name: &str, text: String| json!({ "name": format!("bad_token_{name}"), "token": text });
    vec![
        bad("empty", String::new()),
        bad("prefix_alone", "aimass1.".into()),
        bad("of_another_version", format!("aimass2.{body}")),
        bad("without_prefix", body.into()),
        bad("cut_short", good[..good.len() - 4].into()),
        bad("with_a_character_changed_to_none_of_base64", good.replacen(&good[20..21], "!", 1)),
        bad("padded", format!("{good}=")),
        bad("with_more_bytes", of(&[cbor_of("join_token"), vec![0]].concat())),
        bad("with_a_short_secret", of(&set("join_token", &["secret"], Cbor::Bytes(vec![1; 31])))),
        bad("too_long", format!("{good}{}", "A".repeat(2048))),
    ]
}

/// Read, and when asked to written, once for all tests.
fn file() -> &'static Json {
    static FILE: OnceLock<Json> = OnceLock::new();
    FILE.get_or_init(|| {
        let cbor: Vec<Json> = shapes().into_iter().chain(rules()).chain(secagg::vectors()).collect();
        committed(
            "bad.json",
            &json!({ "protocol": 1, "cbor": cbor, "headers": headers(), "tokens": tokens() }),
        )
    })
}

#[test]
fn bad_messages_are_refused_for_their_reason() {
    for vector in list(file(), "cbor") {
        let bytes = match vector["repeat"].as_str() {
            Some(unit) => unhex(unit).repeat(usize::try_from(vector["count"].as_u64().expect("a count")).expect("a small count")),
            None => unhex(text(vector, "cbor")),
        };
        let name = text(vector, "name");
        let found = match recode(text(vector, "type"), &bytes) {
            Ok(_) => "taken",
            Err(DecodeError::TooLong { .. }) => "too_long",
            Err(DecodeError::Malformed { .. }) => "malformed",
            Err(DecodeError::Invalid(_)) => "invalid",
            Err(other) => panic!("{name}: {other}"),
        };
        assert_eq!(found, text(vector, "error"), "{name}");
    }
}

#[test]
fn bad_headers_are_refused_for_their_reason() {
    for vector in list(file(), "headers") {
        let header = unhex(text(vector, "header")).try_into().expect("five bytes");
        let found = match FrameHeader::from_bytes(header) {
            Ok(_) => "taken",
            Err(FrameError::UnknownKind { .. }) => "unknown_kind",
            Err(FrameError::TooLong { .. }) => "too_long",
            Err(other) => panic!("{other}"),
        };
        assert_eq!(found, text(vector, "error"), "{}", text(vector, "name"));
    }
}

#[test]
fn bad_tokens_are_refused() {
    for vector in list(file(), "tokens") {
        assert!(
            text(vector, "token").parse::<JoinToken>().is_err(),
            "{} was taken",
            text(vector, "name")
        );
    }
}

/// A peer's text does not reach our logs whole, nor with control characters.
#[test]
fn a_parsers_reason_is_short_and_plain() {
    let name = "\u{1b}[2J\n".repeat(10_000);
    let bytes = changed("check_in_come_back", &["Ok", "ComeBack"], |map| entry(map, &name, Cbor::Null));
    let reason = codec::decode::<Reply<CheckInReply>>(&bytes)
        .expect_err("an unknown field")
        .to_string();
    assert!(reason.len() < 1000 && !reason.chars().any(char::is_control), "{reason:?}");
}

#[test]
fn what_a_peer_would_refuse_is_not_sent() {
    let mut task = fix::task();
    task.signed_job = vec![0; MAX_SIGNED_JOB_BYTES + 1].into();
    let error = codec::encode(&CheckInReply::Task(task)).expect_err("too long a job");
    assert_eq!(
        error.to_string(),
        "refusing to send an invalid control message: signed_job: 66561 bytes, expected 1 to 66560"
    );
    let mut task = fix::task();
    task.round = 0;
    let error = codec::encode(&CheckInReply::Task(task)).expect_err("rounds are counted from 1");
    assert_eq!(
        error.to_string(),
        "refusing to send an invalid control message: round: 0 is not within 1 to 4294967295"
    );
}
