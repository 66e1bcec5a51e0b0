use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::sign::SigningKey;

fn key() -> SigningKey {
    SigningKey::generate(&mut ChaCha20Rng::seed_from_u64(1))
}

fn file() -> ProofFile {
    let tree = reference_tree();
    let checkpoint = Checkpoint {
        origin: "aimass/default".to_owned(),
        size: 8,
        root: tree.root(),
    };
    ProofFile {
        entry: vec![0x20, 0x21],
        index: 3,
        inclusion: tree.inclusion(3, 8).expect("within the tree"),
        checkpoint: checkpoint.sign(&key()).expect("a good origin"),
    }
}

fn holds(text: &str) -> bool {
    ProofFile::parse(text).is_ok_and(|file| file.verify("aimass/default", &key().public()).is_ok())
}

#[test]
fn a_proof_file_is_read_back_and_holds() {
    let text = file().to_text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["c2sp.org/tlog-proof@v1", "extra ICE=", "index 3"]);
    assert_eq!((lines[6], lines[7], lines[8]), ("", "aimass/default", "8"));
    assert_eq!(ProofFile::parse(&text), Ok(file()));
    assert!(holds(&text));
}

#[test]
fn a_changed_bit_anywhere_is_noticed() {
    let text = file().to_text();
    for bit in 0..8 * text.len() {
        let mut changed = text.clone().into_bytes();
        changed[bit / 8] ^= 1 << (bit % 8);
        if let Ok(changed) = String::from_utf8(changed) {
            assert!(!holds(&changed), "bit {bit} changed unnoticed");
        }
    }
    for len in (0..text.len()).filter(|len| text.is_char_boundary(*len)) {
        assert!(!holds(&text[..len]), "cut to {len} unnoticed");
    }
    assert!(!holds(&format!("{text}\n")));
}

#[test]
fn another_entry_index_or_key_is_refused() {
    let moved = ProofFile { index: 2, ..file() };
    let origin = "aimass/default";
    assert_eq!(moved.verify(origin, &key().public()), Err(ProofError::Root.into()));
    let other = ProofFile {
        entry: b"another".to_vec(),
        ..file()
    };
    assert_eq!(other.verify(origin, &key().public()), Err(ProofError::Root.into()));
    let stranger = SigningKey::generate(&mut ChaCha20Rng::seed_from_u64(2)).public();
    assert_eq!(file().verify(origin, &stranger), Err(NoteError::OtherKey.into()));
}

#[test]
fn a_proof_file_has_one_text() {
    let text = file().to_text();
    for changed in [
        text.replace("index 3", "index 03"),
        text.replace("index 3", "index +3"),
        text.replace("@v1", "@v2"),
        text.replace("extra ICE=", "extra ICE"),
        text.replace("extra ICE=\n", ""),
        text.replace("index 3\n", "index 3\nAAAA\n"),
        text.replace("index 3\n", &format!("index 3\n{}", "A\n".repeat(20_000))),
    ] {
        let parsed = ProofFile::parse(&changed);
        assert!(matches!(parsed, Err(ProofFileError::Malformed { .. })), "{parsed:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_text_is_no_proof(text in "(c2sp.org/tlog-proof@v1\n)?(extra [A-Za-z=]{0,8}\n)?(index [0-9]{1,3}\n)?[A-Za-z=\n]{0,200}") {
        prop_assert!(!holds(&text));
    }
}
