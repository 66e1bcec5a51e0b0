//! `docs/protocol.md` and the code say the same.

use aimass_protocol::frame::{ALPN_AGENT, ALPN_ENROL, ALPN_RENEW};
use aimass_protocol::{ErrorCode, limits};

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("docs/protocol.md: {e}"))
}

/// The cells of every table row below the heading, without the head of the table.
fn rows(document: &str, heading: &str) -> Vec<Vec<String>> {
    let below = document
        .split_once(heading)
        .unwrap_or_else(|| panic!("no {heading:?} in docs/protocol.md"))
        .1;
    let table = below
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    table
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().trim_matches('`').to_owned())
                .collect()
        })
        .collect()
}

#[test]
fn the_table_of_error_codes_is_the_codes() {
    let written = rows(&document(), "\n## Error codes\n");
    let found: Vec<[&str; 3]> = written
        .iter()
        .map(|row| [row[0].as_str(), row[1].as_str(), row[2].as_str()])
        .collect();
    let codes: Vec<[String; 3]> = ErrorCode::all()
        .map(|code| {
            [
                code.as_u16().to_string(),
                code.name().to_owned(),
                if code.is_retryable() { "yes" } else { "no" }.to_owned(),
            ]
        })
        .collect();
    assert_eq!(found, codes);
}

#[test]
fn the_table_of_limits_is_the_limits() {
    macro_rules! limits {
        ($($name:ident)*) => { vec![$((stringify!($name), u64::try_from(limits::$name).expect("fits")),)*] };
    }
    let expected = limits![
        MAX_CONTROL_BYTES CHUNK_BYTES MAX_BLOB_BYTES MAX_CHUNKS MAX_JOB_FILE_BYTES MAX_SIGNED_JOB_BYTES MAX_DESCRIPTOR_BYTES
        MAX_ERROR_TEXT_BYTES MAX_TAGS MAX_TAG_BYTES MAX_DATA_OFFERS MAX_DECLINED MAX_HELD MAX_COME_BACK_MS MAX_FINISH_WITHIN_MS MAX_SPREAD_MS
        MAX_BASES MAX_MEMBERS MIN_CODEC_BITS MAX_CODEC_BITS MAX_BUNDLE_ROOTS MAX_BUNDLE_ENTRIES MAX_BUNDLE_SIGNATURES MAX_BUNDLE_BYTES MAX_CERTIFICATE_BYTES
        MAX_ADDRESS_BYTES MAX_TOKEN_CHARS MAX_LOG_SIZE MAX_LOG_ENTRY_BYTES MAX_CHECKPOINT_BYTES MAX_PROOF_HASHES MAX_DRAWS
        MAX_SPENT MIN_SECURE_MEMBERS MAX_SECURE_MEMBERS MAX_NEIGHBOURS
    ];
    let document = document();
    let written = rows(&document, "\n## Limits\n");
    let found: Vec<(&str, u64)> = written
        .iter()
        .map(|row| (row[0].as_str(), row[1].replace(',', "").parse().expect("a number")))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn the_application_protocols_are_named() {
    let document = document();
    for alpn in [ALPN_AGENT, ALPN_ENROL, ALPN_RENEW] {
        let alpn = std::str::from_utf8(alpn).expect("an ALPN is ASCII");
        assert!(document.contains(&format!("`{alpn}`")), "{alpn} is not in docs/protocol.md");
    }
}

/// Every field and choice of every message stands in the document, by its name on the wire.
#[test]
fn every_field_is_named() {
    let document = document();
    for vector in crate::golden::messages().iter().chain(&crate::golden::records()) {
        named(&crate::testdata::described(&vector.cbor), &document);
    }
}

fn named(value: &serde_json::Value, document: &str) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                let is_there = [format!("`{key}`"), format!("\"{key}\"")]
                    .iter()
                    .any(|quoted| document.contains(quoted));
                assert!(is_there, "`{key}` is not in docs/protocol.md");
                named(value, document);
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| named(value, document)),
        _ => {}
    }
}
