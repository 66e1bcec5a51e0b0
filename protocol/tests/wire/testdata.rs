//! Reading and, when asked to, writing the files of `testdata/v1`; one decoder by the name of a type.

use std::path::PathBuf;

use aimass_protocol::bundle::{SignedBundle, TrustBundle};
use aimass_protocol::codec::{self, DecodeError};
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::job::SignedJob;
use aimass_protocol::log::LogEntry;
use aimass_protocol::message::Reply;
use aimass_protocol::message::agent::{
    AgentRequest, BundleReply, CheckInReply, FetchReply, OutcomeReply, ProgressReply, ReadyReply, ServeReply, UploadReply,
};
use aimass_protocol::message::authority::{CertificateReply, EnrolRequest, RenewRequest, RevocationReply};
use aimass_protocol::message::secagg::{ConsentReply, RevealReply, Roster, SharesReply, SurvivorsReply, UnmaskReply};
use aimass_protocol::token::JoinToken;
use serde_cbor::Value as Cbor;
use serde_json::Value as Json;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/v1").join(name)
}

#[expect(clippy::disallowed_methods, reason = "the crate is pure, its tests read and write their vectors")]
fn write(name: &str, text: &str) {
    std::fs::write(path(name), text).expect("testdata can be written");
}

/// The file as it is committed. With `AIMASS_REGENERATE=1` it is written from `expected` first; else it has to be equal.
pub(crate) fn committed(name: &str, expected: &Json) -> Json {
    if std::env::var_os("AIMASS_REGENERATE").is_some_and(|v| v == "1") {
        let text = serde_json::to_string_pretty(expected).expect("JSON") + "\n";
        write(name, &text);
    }
    let found = stored(name);
    if found != *expected {
        let differs = differing(&found, expected, String::new());
        panic!(
            "testdata/v1/{name} differs at {differs}: the wire format changed, or a fixture; see main.rs for how to write the file anew"
        );
    }
    found
}

/// The file as it is committed, whatever is in it.
pub(crate) fn stored(name: &str) -> Json {
    let text = std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("testdata/v1/{name}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("testdata/v1/{name}: {e}"))
}

fn differing(a: &Json, b: &Json, at: String) -> String {
    match (a, b) {
        (Json::Array(x), Json::Array(y)) if x.len() == y.len() => {
            let i = x.iter().zip(y).position(|(x, y)| x != y).unwrap_or(0);
            differing(&x[i], &y[i], format!("{at}[{i}]"))
        }
        (Json::Object(x), Json::Object(y)) if x.keys().eq(y.keys()) => {
            let key = x.keys().find(|key| x[*key] != y[*key]).cloned().unwrap_or_default();
            differing(&x[&key], &y[&key], format!("{at}.{key}"))
        }
        _ => at,
    }
}

pub(crate) fn text<'a>(value: &'a Json, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key:?} in {value}"))
}

pub(crate) fn list<'a>(value: &'a Json, key: &str) -> &'a [Json] {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key:?} in {value}"))
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap_or_else(|e| panic!("{e} in {text}"))
}

/// Decodes `bytes` as the type of that name and encodes the result again.
pub(crate) fn recode(type_name: &str, bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    macro_rules! recode {
        ($($name:literal => $type:ty),* $(,)?) => {
            match type_name {
                $($name => codec::decode::<$type>(bytes).map(|message| codec::encode(&message).expect("what was decoded encodes")),)*
                other => panic!("no type {other:?}"),
            }
        };
    }
    recode! {
        "AgentRequest" => AgentRequest,
        "Reply<CheckInReply>" => Reply<CheckInReply>,
        "Reply<FetchReply>" => Reply<FetchReply>,
        "Reply<ReadyReply>" => Reply<ReadyReply>,
        "Reply<UploadReply>" => Reply<UploadReply>,
        "Reply<OutcomeReply>" => Reply<OutcomeReply>,
        "Reply<BundleReply>" => Reply<BundleReply>,
        "Reply<ServeReply>" => Reply<ServeReply>,
        "Reply<ProgressReply>" => Reply<ProgressReply>,
        "EnrolRequest" => EnrolRequest,
        "RenewRequest" => RenewRequest,
        "Reply<RevocationReply>" => Reply<RevocationReply>,
        "Reply<CertificateReply>" => Reply<CertificateReply>,
        "SignedJob" => SignedJob,
        "Descriptor" => Descriptor,
        "TrustBundle" => TrustBundle,
        "SignedBundle" => SignedBundle,
        "JoinToken" => JoinToken,
        "LogEntry" => LogEntry,
        "Reply<Roster>" => Reply<Roster>,
        "Reply<RevealReply>" => Reply<RevealReply>,
        "Reply<SharesReply>" => Reply<SharesReply>,
        "Reply<SurvivorsReply>" => Reply<SurvivorsReply>,
        "Reply<ConsentReply>" => Reply<ConsentReply>,
        "Reply<UnmaskReply>" => Reply<UnmaskReply>,
    }
}

/// CBOR as JSON: byte strings as `h'...'`, like the diagnostic notation of RFC 8949, section 8. For people: the bytes are what counts.
pub(crate) fn described(cbor: &[u8]) -> Json {
    fn json(value: Cbor) -> Json {
        match value {
            Cbor::Null => Json::Null,
            Cbor::Bool(b) => b.into(),
            Cbor::Integer(n) => u64::try_from(n).map_or_else(|_| i64::try_from(n).expect("fits 64 bits").into(), Json::from),
            // As short as its 32 bits allow, so that it is read back as it was written.
            Cbor::Float(x) => (x as f32).to_string().parse::<f64>().expect("a number").into(),
            Cbor::Bytes(bytes) => format!("h'{}'", hex::encode(bytes)).into(),
            Cbor::Text(text) => text.into(),
            Cbor::Array(list) => list.into_iter().map(json).collect(),
            Cbor::Map(map) => map
                .into_iter()
                .map(|(k, v)| (json(k).as_str().expect("a text key").to_owned(), json(v)))
                .collect(),
            other => panic!("{other:?} is not used"),
        }
    }
    json(serde_cbor::from_slice(cbor).expect("CBOR"))
}
