use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::cert::Root;
use crate::sign::{Context, NoteText, PublicKey, SigningKey};

fn key(seed: u64) -> SigningKey {
    SigningKey::generate(&mut ChaCha20Rng::seed_from_u64(seed))
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        origin: "aimass/default".to_owned(),
        size: 8,
        root: hash(ROOTS[8]),
    }
}

fn signed() -> String {
    checkpoint().sign(&key(1)).expect("a good origin")
}

fn open(note: &[u8]) -> Result<Checkpoint, NoteError> {
    Checkpoint::open(note, "aimass/default", &key(1).public())
}

/// Signs any text the way a checkpoint is signed.
fn sign_text(text: &str) -> Vec<u8> {
    let signature = key(1).sign_note(NoteText::new(text.as_bytes()).expect("a note's text"));
    let stamp = [&key_id("aimass/default", &key(1).public())[..], &signature].concat();
    format!("{text}\n\u{2014} aimass/default {}\n", STANDARD.encode(stamp)).into_bytes()
}

/// The example of golang.org/x/mod/sumdb/note: key, text and signature.
#[test]
fn notes_are_signed_as_by_the_reference() {
    let secret = STANDARD.decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz").expect("base64");
    let pkcs8 = [&hex::decode("302e020100300506032b657004220420").expect("hex")[..], &secret[1..]].concat();
    let key = SigningKey::from_pkcs8_der(&pkcs8).expect("an Ed25519 key");
    assert_eq!(
        verifier_key("PeterNeumann", &key.public()),
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    );
    let (name, public) = parse_verifier_key(&verifier_key("PeterNeumann", &key.public())).expect("a verifier key");
    assert_eq!((name.as_str(), public), ("PeterNeumann", key.public()));
    for bad in [
        "",
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumenn+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+AhpcpcQcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ] {
        assert!(parse_verifier_key(bad).is_none(), "{bad:?}");
    }
    let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    let text = NoteText::new(text.as_bytes()).expect("a note's text");
    let stamp = [&key_id("PeterNeumann", &key.public())[..], &key.sign_note(text)].concat();
    assert_eq!(
        STANDARD.encode(stamp),
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    );
}

#[test]
fn a_signed_checkpoint_is_read_back() {
    let note = signed();
    let lines: Vec<&str> = note.split('\n').collect();
    assert_eq!(
        lines[..4],
        ["aimass/default", "8", "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=", ""]
    );
    assert!(lines[4].starts_with("\u{2014} aimass/default "));
    assert_eq!(lines[5..], [""]);
    assert_eq!(open(note.as_bytes()), Ok(checkpoint()));
}

#[test]
fn the_example_of_the_specification_is_read_up_to_its_signature() {
    let note = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";
    let opened = Checkpoint::open(note.as_bytes(), "example.com/behind-the-sofa", &key(1).public());
    assert_eq!(opened, Err(NoteError::OtherKey));
}

#[test]
fn each_changed_bit_is_noticed() {
    let note = signed().into_bytes();
    for bit in 0..8 * note.len() {
        let mut changed = note.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&changed).is_err(), "bit {bit} changed unnoticed");
    }
    for len in 0..note.len() {
        assert!(open(&note[..len]).is_err(), "cut to {len} unnoticed");
    }
}

#[test]
fn another_key_and_another_log_are_refused() {
    let note = checkpoint().sign(&key(2)).expect("a good origin");
    assert_eq!(open(note.as_bytes()), Err(NoteError::OtherKey));
    let opened = Checkpoint::open(signed().as_bytes(), "aimass/other", &key(1).public());
    assert!(matches!(opened, Err(NoteError::Origin { .. })), "{opened:?}");
    // A stranger's signature under our key's id.
    let (text, _) = note.split_once("\n\n").expect("a blank line");
    let text = format!("{text}\n");
    let forged = key(2).sign_note(NoteText::new(text.as_bytes()).expect("a note's text"));
    let stamp = [&key_id("aimass/default", &key(1).public())[..], &forged].concat();
    let note = format!("{text}\n\u{2014} aimass/default {}\n", STANDARD.encode(stamp));
    assert_eq!(open(note.as_bytes()), Err(NoteError::BadSignature));
}

#[test]
fn signatures_of_witnesses_are_skipped_and_ours_has_to_be_there_once() {
    let note = signed();
    let (_, ours) = note.split_once("\n\n").expect("a blank line");
    let witness = "\u{2014} witness.example/w1 AAAAAWFueXRoaW5n\n";
    assert_eq!(open(format!("{note}{witness}").as_bytes()), Ok(checkpoint()));
    let before = note.replace("\n\n", &format!("\n\n{witness}"));
    assert_eq!(open(before.as_bytes()), Ok(checkpoint()));
    let twice = open(format!("{note}{ours}").as_bytes());
    assert!(matches!(twice, Err(NoteError::Malformed { .. })), "{twice:?}");
    let many = open(format!("{note}{}", witness.repeat(16)).as_bytes());
    assert!(matches!(many, Err(NoteError::Malformed { .. })), "{many:?}");
    let long = open(format!("{note}{}", witness.repeat(200)).as_bytes());
    assert!(matches!(long, Err(NoteError::TooLong { .. })), "{long:?}");
}

#[test]
fn a_checkpoint_has_one_text() {
    let root = "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=";
    assert_eq!(open(&sign_text(&format!("aimass/default\n8\n{root}\n"))), Ok(checkpoint()));
    for text in [
        format!("aimass/default\n08\n{root}\n"),
        format!("aimass/default\n+8\n{root}\n"),
        format!("aimass/default\n-8\n{root}\n"),
        format!("aimass/default\n18446744073709551616\n{root}\n"),
        format!("aimass/default\n8 \n{root}\n"),
        format!("aimass/default\n\n{root}\n"),
        format!("aimass/default\n8\n{root}\nan extension\n"),
        format!("aimass/default\n8\n{}\n", root.trim_end_matches('=')),
        // Bits after the last byte.
        format!("aimass/default\n8\n{}\n", root.replace("g=", "h=")),
        "aimass/default\n8\nXcna\n".to_owned(),
        "aimass/default\n8\n".to_owned(),
        format!("\naimass/default\n8\n{root}\n"),
        format!("aimass/default \n8\n{root}\n"),
        format!("aimass+default\n8\n{root}\n"),
    ] {
        let opened = open(&sign_text(&text));
        assert!(matches!(opened, Err(NoteError::Malformed { .. })), "{text:?}: {opened:?}");
    }
}

#[test]
fn an_origin_has_to_be_a_name() {
    for origin in ["", "a b", "a+b", "a\nb", "a\0b"] {
        let bad = Checkpoint {
            origin: origin.to_owned(),
            ..checkpoint()
        };
        assert!(matches!(bad.sign(&key(1)), Err(NoteError::Malformed { .. })), "{origin:?}");
    }
}

/// What this key signs otherwise is no note's text, so no signature can be taken for another.
#[test]
fn what_is_signed_otherwise_is_no_note() {
    let key = key(1);
    for context in [Context::Job, Context::Descriptor, Context::Bundle] {
        let signed = [context.as_str().as_bytes(), b"\0text\n"].concat();
        assert!(NoteText::new(&signed).is_none());
        let note = NoteText::new(b"text\n").expect("a note's text");
        assert!(key.public().verify(context, b"text\n", &key.sign_note(note)).is_err());
        assert!(key.public().verify_note(note, &key.sign(context, b"text\n")).is_err());
    }
    // RFC 8446, section 4.4.3, with a transcript hash that is text.
    let tls = [&[0x20; 64][..], b"TLS 1.3, server CertificateVerify\0", &[b'a'; 31], b"\n"].concat();
    assert!(NoteText::new(&tls).is_none());
    for seed in 0..20 {
        let root = Root::create("a root", 1_700_000_000, &mut ChaCha20Rng::seed_from_u64(seed));
        assert!(root.certificate_der().contains(&2));
        assert!(NoteText::new(root.certificate_der()).is_none());
    }
    assert!(NoteText::new(b"no last newline").is_none());
    assert!(NoteText::new(b"").is_none());
    assert!(NoteText::new(b"\xff\n").is_none());
}

#[test]
fn arbitrary_bytes_are_no_checkpoint() {
    let public: PublicKey = key(1).public();
    proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "[a-z/]{0,9}\n[0-9]{0,3}\n[a-zA-Z=]{0,44}\n\n.{0,99}\n")| {
        prop_assert!(Checkpoint::open(&bytes, "aimass/default", &public).is_err());
        prop_assert!(Checkpoint::open(text.as_bytes(), "aimass/default", &public).is_err());
    });
}
