//! Seeds for the fuzz target `control_message`: every vector, and what fuzzing found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aimass_protocol::fuzz;

use crate::golden::{messages, records};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/control_message")
}

#[expect(clippy::disallowed_methods, reason = "the crate is pure, its tests read and write their seeds")]
fn write(name: &str, bytes: &[u8]) {
    std::fs::create_dir_all(folder()).expect("a folder for seeds");
    std::fs::write(folder().join(name), bytes).expect("seeds can be written");
}

#[expect(clippy::disallowed_methods, reason = "the crate is pure, its tests read and write their seeds")]
fn committed() -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder()).expect("fuzz/seeds/control_message");
    files
        .map(|file| {
            let path = file.expect("a file").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("a readable file"))
        })
        .collect()
}

/// With `AIMASS_REGENERATE=1` they are written first.
#[test]
fn every_vector_is_a_seed() {
    let vectors: Vec<_> = messages().into_iter().chain(records()).collect();
    if std::env::var_os("AIMASS_REGENERATE").is_some_and(|v| v == "1") {
        for vector in &vectors {
            write(&format!("{}.cbor", vector.name), &vector.cbor);
        }
    }
    let committed = committed();
    for vector in &vectors {
        let seed = committed.get(&format!("{}.cbor", vector.name));
        assert_eq!(seed, Some(&vector.cbor), "the seed {}", vector.name);
    }
}

#[test]
fn every_seed_is_endured() {
    let committed = committed();
    assert!(committed.len() >= 50, "{} seeds", committed.len());
    committed.values().for_each(|bytes| fuzz::control_message(bytes));
}
