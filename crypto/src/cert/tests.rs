use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rcgen::{CustomExtension, Issuer, SanType};
use rustls_pki_types::CertificateDer;

use super::*;

const NOW_S: i64 = 1_800_000_000;
const DAY_S: i64 = 24 * 3600;

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn root(seed: u64) -> Root {
    Root::create("AI Mass root", NOW_S, &mut rng(seed))
}

fn key(seed: u64) -> SigningKey {
    SigningKey::generate(&mut rng(1000 + seed))
}

fn issue(root: &Root, role: &str, key: &SigningKey) -> Vec<u8> {
    root.issue("default", role, &key.public(), NOW_S, CERTIFICATE_LIFETIME, &mut rng(7))
        .expect("a certificate for good names")
}

#[test]
fn a_certificate_says_what_was_certified() {
    let (root, key) = (root(1), key(1));
    for role in ["agent", "server", "authority"] {
        let der = issue(&root, role, &key);
        let info = parse(&der).expect("our own certificate");
        assert_eq!(
            info.subject,
            Subject::new("default", role, key.public().fingerprint()).expect("a good subject")
        );
        assert_eq!(info.public_key, key.public());
        assert_eq!(info.not_before_s, NOW_S - 2 * DAY_S);
        assert_eq!(info.not_after_s, NOW_S + 30 * DAY_S);
        assert_eq!(verify_issued_by(&der, root.certificate_der()), Ok(()));
        assert!(der.len() <= 1024, "{} bytes", der.len());
    }
}

#[test]
fn only_servers_carry_a_dns_name_and_server_auth() {
    let (root, key) = (root(1), key(1));
    for (role, dns, server_auth, client_auth) in [
        ("agent", None, false, true),
        ("server", Some("server.default.aimass.internal"), true, true),
        ("authority", Some("authority.default.aimass.internal"), true, false),
    ] {
        let der = issue(&root, role, &key);
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).expect("our own certificate");
        let names = certificate.subject_alternative_name().expect("a readable SAN").expect("a SAN");
        let found = names.value.general_names.iter().find_map(|name| match name {
            x509_parser::extensions::GeneralName::DNSName(name) => Some(*name),
            _ => None,
        });
        assert_eq!(found, dns);
        let usage = certificate.extended_key_usage().expect("a readable EKU").expect("an EKU").value;
        assert_eq!(
            (usage.server_auth, usage.client_auth, usage.any),
            (server_auth, client_auth, false),
            "{role}"
        );
        assert!(!certificate.is_ca());
    }
}

#[test]
fn names_that_are_none_are_not_certified() {
    let (root, key) = (root(1), key(1));
    for (tenant, role) in [
        ("Default", "agent"),
        ("", "agent"),
        ("a/b", "agent"),
        ("default", "admin"),
        ("default", ""),
    ] {
        let made = root.issue(tenant, role, &key.public(), NOW_S, CERTIFICATE_LIFETIME, &mut rng(7));
        assert!(matches!(made, Err(CertError::Invalid { .. })), "{tenant:?} {role:?}");
    }
}

#[test]
fn everything_comes_from_the_passed_randomness_and_time() {
    assert_eq!(root(5).certificate_der(), root(5).certificate_der());
    assert_ne!(root(5).certificate_der(), root(6).certificate_der());
    assert_eq!(issue(&root(5), "agent", &key(1)), issue(&root(5), "agent", &key(1)));
    assert_eq!(signing_request(&key(1)), signing_request(&key(1)));
    // Times that no certificate can hold end at its limits.
    let root = Root::create("r", i64::MAX, &mut rng(1));
    assert_eq!(root_info(root.certificate_der()).expect("a root").not_after_s, 253_402_300_799);
}

#[test]
fn a_root_loads_with_its_own_key_only() {
    let made = root(1);
    let loaded = Root::load(
        SigningKey::from_pem(&made.key().to_pem()).expect("our own PEM"),
        made.certificate_der(),
    )
    .expect("the same root");
    assert_eq!(issue(&loaded, "agent", &key(1)), issue(&made, "agent", &key(1)));
    assert!(Root::load(key(1), made.certificate_der()).is_err());
    let leaf_key = key(2);
    let leaf = issue(&made, "server", &leaf_key);
    assert!(Root::load(leaf_key, &leaf).is_err(), "an end entity is no root");
    assert!(!format!("{made:?}").contains("seed"));
}

#[test]
fn roots_are_told_apart() {
    let (ours, other) = (root(1), root(2));
    let der = issue(&other, "agent", &key(1));
    assert!(verify_issued_by(&der, ours.certificate_der()).is_err(), "same name, other key");
    assert_eq!(root_public_key(ours.certificate_der()), Ok(ours.key().public()));
    assert!(root_public_key(&der).is_err());
    assert_ne!(spki_sha256(ours.certificate_der()), spki_sha256(other.certificate_der()));
    let info = root_info(ours.certificate_der()).expect("a root");
    assert_eq!(Ok(info.spki_sha256), spki_sha256(ours.certificate_der()));
    // SubjectPublicKeyInfo of Ed25519 (RFC 8410, section 4): a fixed prefix and the key.
    let spki = [
        &hex::decode("302a300506032b6570032100").expect("hex")[..],
        ours.key().public().as_bytes(),
    ]
    .concat();
    assert_eq!(info.spki_sha256, crate::hash::sha256(&spki));
}

#[test]
fn a_ca_that_did_not_sign_itself_is_no_root() {
    // Issued as a CA by another root: a CA, but not a self-signed one.
    let (root, key) = (root(1), key(1));
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[1]));
    let issuer = Issuer::from_ca_cert_der(&CertificateDer::from_slice(root.certificate_der()), root.key()).expect("the root");
    let der = params.signed_by(&key.public(), &issuer).expect("a certificate").der().to_vec();
    assert!(root_public_key(&der).is_err());
    assert!(verify_issued_by(&issue(&root, "agent", &key), &der).is_err());
}

#[test]
fn an_end_entity_that_signed_itself_is_no_root() {
    let key = key(1);
    let mut params = CertificateParams::default();
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[1]));
    let der = params.self_signed(&key).expect("a certificate").der().to_vec();
    assert!(root_public_key(&der).is_err());
    assert!(Root::load(key, &der).is_err());
}

/// A certificate by `root` over `key` with any names.
fn with_names(root: &Root, key: &SigningKey, names: Vec<SanType>, extra: Vec<CustomExtension>) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.custom_extensions = extra;
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[1]));
    let issuer = Issuer::from_ca_cert_der(&CertificateDer::from_slice(root.certificate_der()), root.key()).expect("the root");
    params.signed_by(&key.public(), &issuer).expect("a certificate").der().to_vec()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("an ASCII URI"))
}

#[test]
fn bad_subjects_are_refused() {
    let (root, key) = (root(1), key(1));
    let own = Subject::new("default", "agent", key.public().fingerprint())
        .expect("a good subject")
        .to_string();
    let other = Subject::new("default", "agent", [7; 16]).expect("a good subject").to_string();
    assert!(
        parse(&with_names(&root, &key, vec![uri(&own)], vec![])).is_ok(),
        "the rest of this test is about names"
    );
    // A second SAN extension that names somebody else: SEQUENCE { [6] uri }.
    let mut second = vec![
        0x30,
        u8::try_from(other.len() + 2).expect("short"),
        0x86,
        u8::try_from(other.len()).expect("short"),
    ];
    second.extend_from_slice(other.as_bytes());
    for (what, der) in [
        ("no SAN", with_names(&root, &key, vec![], vec![])),
        (
            "no URI",
            with_names(&root, &key, vec![SanType::DnsName("a.b".try_into().expect("a name"))], vec![]),
        ),
        ("two URIs", with_names(&root, &key, vec![uri(&own), uri(&own)], vec![])),
        (
            "two SANs",
            with_names(
                &root,
                &key,
                vec![uri(&own)],
                vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], second)],
            ),
        ),
        ("wrong id", with_names(&root, &key, vec![uri(&other)], vec![])),
        (
            "other scheme",
            with_names(&root, &key, vec![uri(&own.replace("aimass", "https"))], vec![]),
        ),
        (
            "unknown role",
            with_names(&root, &key, vec![uri(&own.replace("agent", "admin"))], vec![]),
        ),
    ] {
        assert!(matches!(parse(&der), Err(CertError::Invalid { .. })), "{what}");
    }
}

#[test]
fn keys_of_another_kind_are_refused() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a P-256 key");
    let params = CertificateParams::new(vec!["a.b".to_owned()]).expect("params");
    let request = params.serialize_request(&key).expect("a request").der().to_vec();
    assert!(verify_signing_request(&request).is_err());
    let certificate = params.self_signed(&key).expect("a certificate").der().to_vec();
    assert!(parse(&certificate).is_err());
    assert!(root_public_key(&certificate).is_err());
}

#[test]
fn a_signing_request_proves_the_key() {
    let (one, two) = (key(1), key(2));
    let request = signing_request(&one);
    assert_eq!(verify_signing_request(&request), Ok(one.public()));
    // The key swapped for another: the self-signature is then of the wrong key.
    let at = request
        .windows(32)
        .position(|w| w == one.public().as_bytes())
        .expect("the key is in the request");
    let mut foreign = request.clone();
    foreign[at..at + 32].copy_from_slice(two.public().as_bytes());
    assert!(verify_signing_request(&foreign).is_err());
    // A certificate is no request, and the other way round.
    assert!(verify_signing_request(root(1).certificate_der()).is_err());
    assert!(parse(&request).is_err());
    let trailing = [&request[..], &[0]].concat();
    assert!(verify_signing_request(&trailing).is_err());
}

#[test]
fn cut_and_padded_certificates_are_refused() {
    let root = root(1);
    let der = issue(&root, "agent", &key(1));
    for len in 0..der.len() {
        assert!(parse(&der[..len]).is_err(), "{len}");
    }
    let padded = [&der[..], &[0]].concat();
    assert!(parse(&padded).is_err());
    assert!(verify_issued_by(&padded, root.certificate_der()).is_err());
}

#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    let root = root(1);
    let der = issue(&root, "agent", &key(1));
    for bit in 0..8 * der.len() {
        let mut bad = der.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(verify_issued_by(&bad, root.certificate_der()).is_err(), "certificate, bit {bit}");
    }
    let request = signing_request(&key(1));
    for bit in 0..8 * request.len() {
        let mut bad = request.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(verify_signing_request(&bad).is_err(), "request, bit {bit}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(parse(&bytes).is_err());
        prop_assert!(root_public_key(&bytes).is_err());
        prop_assert!(verify_signing_request(&bytes).is_err());
        prop_assert!(spki_sha256(&bytes).is_err());
    }
}
