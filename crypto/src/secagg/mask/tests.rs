use aes::cipher::BlockCipherEncrypt;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::hash::sha256;
use crate::secagg::vectors::{bytes, bytes32, int, list, parse};

const SUITES: [Suite; 2] = [Suite::ChaCha20, Suite::Aes256Ctr];

fn start<const N: usize>(suite: Suite, key: [u8; 32], sum: u32) -> [u8; N] {
    let mut out = [0xa5; N];
    MaskStream::new(suite, &MaskKey(key), sum).fill(&mut out);
    out
}

/// The cohort of `masks_v1`: five members, vectors of eight 32-bit slots, ChaCha20.
struct Cohort {
    keys: Vec<PrivateKey>,
    seeds: Vec<SelfSeed>,
    salt: Vec<u8>,
}

impl Cohort {
    fn of_the_vectors() -> Self {
        let secret = |kind: &str, i: u32| sha256(format!("fl-secagg-kat-v1/{kind}/{i}").as_bytes());
        Self {
            keys: (1..=5).map(|i| PrivateKey::from_bytes(&secret("sk", i))).collect(),
            seeds: (1..=5).map(|i| SelfSeed(secret("b", i))).collect(),
            salt: salt("model-7"),
        }
    }

    fn member(i: usize) -> MemberId {
        [[0; 15].as_slice(), &[i as u8]].concat().try_into().expect("16 bytes")
    }

    fn self_mask(&self, i: usize) -> SignedMask {
        let key = self_key(&self.seeds[i - 1], &self.keys[i - 1].public_key(), &self.salt);
        SignedMask { sign: Sign::Plus, key }
    }

    fn pair_mask(&self, i: usize, j: usize, salt: &[u8]) -> SignedMask {
        SignedMask {
            sign: Sign::of_pair(&Self::member(i), &Self::member(j)),
            key: pair_key(&self.keys[i - 1], &self.keys[j - 1].public_key(), salt).expect("a good key"),
        }
    }

    /// What member i uploads.
    fn upload(&self, i: usize, salt: &[u8]) -> [u32; 8] {
        let mut slots = std::array::from_fn(|k| (1000 * i + k) as u32);
        let self_mask = self_key(&self.seeds[i - 1], &self.keys[i - 1].public_key(), salt);
        apply(
            &mut slots,
            &SignedMask {
                sign: Sign::Plus,
                key: self_mask,
            },
        );
        for j in (1..=5).filter(|j| *j != i) {
            apply(&mut slots, &self.pair_mask(i, j, salt));
        }
        slots
    }

    /// The sum of the survivors' uploads, without their self masks and the pairwise masks with member 4, who dropped out.
    fn unmasked(&self, uploads: &[(usize, [u32; 8])]) -> [u32; 8] {
        let mut sum = [0_u32; 8];
        for (i, upload) in uploads {
            for (slot, value) in sum.iter_mut().zip(upload) {
                *slot = slot.wrapping_add(*value);
            }
            for mask in [self.self_mask(*i), self.pair_mask(*i, 4, &self.salt)] {
                let sign = mask.sign.flipped();
                apply(&mut sum, &SignedMask { sign, ..mask });
            }
        }
        sum
    }
}

fn salt(model: &str) -> Vec<u8> {
    [sha256(b"round-7"), sha256(model.as_bytes())].concat()
}

fn apply(slots: &mut [u32; 8], mask: &SignedMask) {
    let mut stream = [0; 32];
    MaskStream::new(Suite::ChaCha20, &mask.key, 0).fill(&mut stream);
    for (slot, word) in slots.iter_mut().zip(stream.as_chunks::<4>().0) {
        let word = u32::from_le_bytes(*word);
        *slot = match mask.sign {
            Sign::Plus => slot.wrapping_add(word),
            Sign::Minus => slot.wrapping_sub(word),
        };
    }
}

fn slots(value: &serde_json::Value) -> [u32; 8] {
    let slots: Vec<u32> = list(value).iter().map(int).collect();
    slots.try_into().expect("eight slots")
}

#[test]
fn golden_vectors() {
    let vectors = parse(include_str!("../../../testdata/secagg/masks_v1.json"));
    let cohort = Cohort::of_the_vectors();
    for (i, key) in cohort.keys.iter().enumerate() {
        assert_eq!(key.public_key(), bytes32(&vectors["pk"][(i + 1).to_string()]), "pk {}", i + 1);
    }
    for (i, j, name) in [(1, 2, "pair_key_1_2"), (4, 5, "pair_key_4_5")] {
        for (own, peer) in [(i, j), (j, i)] {
            assert_eq!(
                cohort.pair_mask(own, peer, &cohort.salt).key.0,
                bytes32(&vectors[name]),
                "{name} by {own}"
            );
        }
    }
    assert_eq!(cohort.self_mask(1).key.0, bytes32(&vectors["self_key_1"]));
    for i in 1..=5 {
        assert_eq!(cohort.upload(i, &cohort.salt), slots(&vectors["y"][i.to_string()]), "y {i}");
    }
    let survivors: Vec<usize> = list(&vectors["survivors"]).iter().map(|i| int(i) as usize).collect();
    let uploads: Vec<(usize, [u32; 8])> = survivors.iter().map(|&i| (i, cohort.upload(i, &cohort.salt))).collect();
    assert_eq!(cohort.unmasked(&uploads), slots(&vectors["unmasked_sum"]));
}

/// The vectors' first negative test: an agent that was shown another model masks with another salt, and the sum is noise.
#[test]
fn an_agent_with_another_salt_spoils_the_sum() {
    let vectors = parse(include_str!("../../../testdata/secagg/masks_v1.json"));
    let cohort = Cohort::of_the_vectors();
    let uploads: Vec<(usize, [u32; 8])> = [1, 2, 3, 5]
        .into_iter()
        .map(|i| (i, cohort.upload(i, &salt(if i == 2 { "model-8" } else { "model-7" }))))
        .collect();
    let (sum, right) = (cohort.unmasked(&uploads), slots(&vectors["unmasked_sum"]));
    assert!(sum.iter().zip(&right).all(|(got, right)| got != right), "{sum:?}");
}

#[test]
fn golden_keys_and_streams() {
    let vectors = parse(include_str!("../../../testdata/secagg/keys_v1.json"));
    let salt = bytes(&vectors["salt"]);
    let mut keys = Vec::new();
    for member in list(&vectors["members"]) {
        let secret = |name: &str| Secret::from_bytes(&bytes32(&member[name])).expect("less than l");
        let mask = MaskSecret::new(secret("mask_secret"));
        let own = SelfSecret::new(secret("self_secret"));
        let key = mask.private_key();
        assert_eq!(key.secret.to_bytes(), bytes32(&member["mask_private_key"]));
        assert_eq!(key.public_key(), bytes32(&member["mask_key"]));
        assert_eq!(own.seed().0, bytes32(&member["self_seed"]));
        assert_eq!(own.commitment(), bytes32(&member["self_commitment"]));
        keys.push((key, own.seed()));
    }
    let (first, second) = (&keys[0], &keys[1]);
    let own = self_key(&first.1, &first.0.public_key(), &salt);
    assert_eq!(own.0, bytes32(&vectors["self_key_of_first"]));
    let pair = pair_key(&first.0, &second.0.public_key(), &salt).expect("a good key");
    assert_eq!(pair.0, bytes32(&vectors["pair_key"]));
    for row in list(&vectors["streams"]) {
        let suite = u8::try_from(int(&row["suite"])).ok().and_then(Suite::from_number).expect("a suite");
        let mut stream = MaskStream::new(suite, &pair, int(&row["sum"]));
        for (offset, name) in [(0, "start"), (100_003, "at_100003")] {
            let mut got = [0; 40];
            stream.seek(offset);
            stream.fill(&mut got);
            assert_eq!(got.to_vec(), bytes(&row[name]), "{suite:?}, sum {}, {name}", row["sum"]);
        }
    }
}

/// RFC 8439, appendix A.1, test vectors 1 and 2: the first two blocks.
#[test]
fn chacha20_is_that_of_the_rfc() {
    let expected = "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7\
                    da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586\
                    9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed\
                    29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f";
    assert_eq!(hex::encode(start::<128>(Suite::ChaCha20, [0; 32], 0)), expected);
}

/// AES-256 under a zero key of the counters 0, 1 and 2: H, the tag of test case 13 and the ciphertext of test case 14 in "The
/// Galois/Counter Mode of Operation (GCM)", McGrew and Viega 2005, appendix B.
#[test]
fn aes_is_that_of_the_gcm_test_cases() {
    let expected = "dc95c078a2408989ad48a21492842087530f8afbc74536b9a963b4f1c4cb738bcea7403d4d606b6e074ec5d3baf39d18";
    assert_eq!(hex::encode(start::<48>(Suite::Aes256Ctr, [0; 32], 0)), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn streams_agree_with_their_definition(key: [u8; 32], sum: u32, block in 0..1_u64 << 31) {
        // AES block by block; ChaCha20 as another crate counts it, whose counter of 64 bits has the sum's index in its upper half.
        let mut counter = [0; 16];
        counter[..4].copy_from_slice(&sum.to_le_bytes());
        counter[8..].copy_from_slice(&block.to_be_bytes());
        let mut expected = counter.into();
        <aes::Aes256 as aes::cipher::KeyInit>::new(&key.into()).encrypt_block(&mut expected);
        let mut stream = MaskStream::new(Suite::Aes256Ctr, &MaskKey(key), sum);
        let mut got = [0; 16];
        stream.seek(block * 16);
        stream.fill(&mut got);
        prop_assert_eq!(got.as_slice(), expected.as_slice());

        let mut rng = ChaCha20Rng::from_seed(key);
        rng.set_word_pos((u128::from(sum) << 36) + u128::from(block) * 16);
        let (mut expected, mut got) = ([0; 64], [0; 64]);
        rng.fill_bytes(&mut expected);
        let mut stream = MaskStream::new(Suite::ChaCha20, &MaskKey(key), sum);
        stream.seek(block * 64);
        stream.fill(&mut got);
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn a_stream_is_the_same_in_pieces(key: [u8; 32], sum: u32, pieces in proptest::collection::vec(0..300_usize, 0..20), back in 0..2000_u64) {
        for suite in SUITES {
            let len = pieces.iter().sum();
            let mut whole = vec![0; len];
            MaskStream::new(suite, &MaskKey(key), sum).fill(&mut whole);
            let mut stream = MaskStream::new(suite, &MaskKey(key), sum);
            let mut read = Vec::new();
            for piece in &pieces {
                let mut part = vec![0xff; *piece];
                stream.fill(&mut part);
                read.extend(part);
            }
            prop_assert_eq!(&read, &whole);
            let back = back.min(len as u64);
            stream.seek(back);
            let mut rest = vec![0; len - back as usize];
            stream.fill(&mut rest);
            prop_assert_eq!(&rest, &whole[back as usize..]);
        }
    }

    #[test]
    fn both_ends_agree_on_a_key_that_hangs_on_everything(a: [u8; 32], b: [u8; 32], c: [u8; 32], salt: Vec<u8>) {
        let [a, b, c] = [a, b, c].map(|seed| PrivateKey::from_bytes(&seed));
        prop_assume!(a.public_key() != b.public_key() && b.public_key() != c.public_key());
        let key = pair_key(&a, &b.public_key(), &salt).expect("a good key");
        prop_assert_eq!(pair_key(&b, &a.public_key(), &salt), Some(key.clone()));
        prop_assert_ne!(pair_key(&a, &c.public_key(), &salt), Some(key.clone()));
        let other_salt = [salt, vec![1]].concat();
        prop_assert_ne!(pair_key(&a, &b.public_key(), &other_salt), Some(key));
    }
}

#[test]
fn a_stream_ends_at_128_gib_and_says_so() {
    for suite in SUITES {
        let mut stream = MaskStream::new(suite, &MaskKey([1; 32]), 0);
        stream.seek(stream::END - 3);
        stream.fill(&mut [0; 3]);
        stream.seek(stream::END);
        stream.fill(&mut []);
        let beyond = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stream.fill(&mut [0; 1])));
        assert!(beyond.is_err(), "{suite:?}");
    }
}

/// RFC 7748's warning: points of low order give everybody the secret 0. The orders 1, 2, 4 and 8.
#[test]
fn keys_of_low_order_give_no_pair_key() {
    let own = PrivateKey::random(&mut ChaCha20Rng::seed_from_u64(3));
    for low in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        let mut key = [0; 32];
        hex::decode_to_slice(low, &mut key).expect("hexadecimal");
        assert_eq!(pair_key(&own, &key, b"salt"), None, "{low}");
    }
}

#[test]
fn the_smaller_id_adds() {
    let (small, great) = ([1; 16], [2; 16]);
    assert_eq!(Sign::of_pair(&small, &great), Sign::Plus);
    assert_eq!(Sign::of_pair(&great, &small), Sign::Minus);
    assert_eq!(Sign::Plus.flipped(), Sign::Minus);
    assert_eq!(Sign::Minus.flipped(), Sign::Plus);
}

#[test]
fn suites_have_numbers() {
    for number in 0..=u8::MAX {
        let suite = Suite::from_number(number);
        assert_eq!(suite.map(Suite::number), matches!(number, 1 | 2).then_some(number));
    }
}

#[test]
fn debug_shows_no_secret() {
    let rng = &mut ChaCha20Rng::seed_from_u64(4);
    let key = PrivateKey::random(rng);
    let text = format!(
        "{key:?} {:?} {:?} {:?} {:?} {:?}",
        MaskSecret::random(rng),
        SelfSecret::random(rng),
        SelfSeed([7; 32]),
        MaskKey([7; 32]),
        MaskStream::new(Suite::ChaCha20, &MaskKey([7; 32]), 0)
    );
    let public = hex::encode(key.public_key());
    assert_eq!(
        text,
        format!(
            "PrivateKey {{ public: \"{public}\", .. }} MaskSecret(Secret(..)) SelfSecret(Secret(..)) SelfSeed(..) MaskKey(..) MaskStream {{ next: 0, .. }}"
        )
    );
}
