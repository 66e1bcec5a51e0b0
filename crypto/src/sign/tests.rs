use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;

fn key(seed: u64) -> SigningKey {
    SigningKey::generate(&mut ChaCha20Rng::seed_from_u64(seed))
}

fn from_seed_hex(seed: &str) -> SigningKey {
    let der = [&PKCS8_PREFIX[..], &hex::decode(seed).expect("hex of the vector")].concat();
    SigningKey::from_pkcs8_der(&der).expect("a seed of 32 bytes")
}

/// RFC 8032, section 7.1, tests 1 to 3.
#[test]
fn golden_vectors() {
    for (seed, public, message, signature) in [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ] {
        let key = from_seed_hex(seed);
        let message = hex::decode(message).expect("hex of the vector");
        assert_eq!(key.public().to_hex(), public);
        assert_eq!(hex::encode(key.sign_raw(&message)), signature);
    }
}

#[test]
fn a_signature_for_one_purpose_is_none_for_another() {
    let key = key(1);
    let signature = key.sign(Context::Job, b"message");
    assert_eq!(key.public().verify(Context::Job, b"message", &signature), Ok(()));
    for context in [Context::Descriptor, Context::Bundle] {
        assert_eq!(key.public().verify(context, b"message", &signature), Err(SignError::BadSignature));
    }
    // Moving a byte from the message into the context gives other signed bytes.
    assert_eq!(
        key.public().verify_raw(b"aimass job v1message", &signature),
        Err(SignError::BadSignature)
    );
    assert_eq!(key.public().verify_raw(b"aimass job v1\0message", &signature), Ok(()));
}

#[test]
fn another_key_or_a_cut_signature_is_refused() {
    let signature = key(1).sign(Context::Job, b"message");
    assert_eq!(
        key(2).public().verify(Context::Job, b"message", &signature),
        Err(SignError::BadSignature)
    );
    for len in [0, 1, 63] {
        assert_eq!(
            key(1).public().verify(Context::Job, b"message", &signature[..len]),
            Err(SignError::BadSignature)
        );
    }
}

#[test]
fn debug_shows_no_secret() {
    let key = key(3);
    let text = format!("{key:?}");
    assert!(!text.contains(&hex::encode(&key.seed[..4])), "{text}");
    assert!(text.contains(&key.public().to_hex()[..8]), "{text}");
}

#[test]
fn pem_that_is_no_key_is_refused() {
    let pem = key(4).to_pem();
    let middle = pem.len() / 2;
    for bad in [
        "",
        "hello",
        &pem[..middle],
        &pem.replace("PRIVATE", "PUBLIC"),
        &pem.replace("MC4C", "MC8C"),
    ] {
        assert!(matches!(SigningKey::from_pem(bad), Err(SignError::BadKey { .. })), "{bad}");
    }
    let mut der = key(4).to_pkcs8_der();
    der.push(0);
    assert!(SigningKey::from_pkcs8_der(&der).is_err());
    der.truncate(47);
    assert!(SigningKey::from_pkcs8_der(&der).is_err());
    assert!(PublicKey::from_bytes(&[0; 31]).is_err());
    assert!(PublicKey::from_hex("zz").is_err());
}

/// Written by OpenSSL 3 (`openssl genpkey -algorithm ed25519`): the format is the ordinary one.
#[test]
fn reads_what_openssl_writes() {
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    // RFC 8410, section 10.3 and 10.1: the same example key and its public half.
    let key = SigningKey::from_pem(pem).expect("the example of RFC 8410");
    assert_eq!(
        key.public().to_hex(),
        "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
    );
    assert_eq!(*key.to_pem(), pem);
}

proptest! {
    #[test]
    fn pem_and_hex_round_trip(seed: u64) {
        let key = key(seed);
        let again = SigningKey::from_pem(&key.to_pem()).expect("our own PEM");
        prop_assert_eq!(again.public(), key.public());
        prop_assert_eq!(PublicKey::from_hex(&key.public().to_hex()), Ok(key.public()));
        prop_assert_eq!(PublicKey::from_bytes(key.public().as_bytes()), Ok(key.public()));
    }

    #[test]
    fn any_flipped_bit_is_noticed(seed: u64, message in proptest::collection::vec(any::<u8>(), 1..100), bit in 0..512_usize) {
        let key = key(seed);
        let signature = key.sign(Context::Bundle, &message);
        let mut bad = signature;
        bad[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(key.public().verify(Context::Bundle, &message, &bad).is_err());
        let mut other = message.clone();
        let at = bit % (8 * message.len());
        other[at / 8] ^= 1 << (at % 8);
        prop_assert!(key.public().verify(Context::Bundle, &other, &signature).is_err());
        prop_assert!(key.public().verify(Context::Bundle, &message, &signature).is_ok());
    }
}
