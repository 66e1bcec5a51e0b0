use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::secagg::vectors::{bytes32, int, list, parse};

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// A secret, and its shares at `xs`.
fn dealt(threshold: u32, xs: &[u32], rng: &mut ChaCha20Rng) -> (Secret, Vec<(u32, Share)>) {
    let secret = Secret::random(rng);
    let shares = split(&secret, threshold, xs, rng).expect("good places");
    (secret, xs.iter().copied().zip(shares).collect())
}

/// `count` different places out of 1..=1024, in no order.
fn places(count: usize, rng: &mut ChaCha20Rng) -> Vec<u32> {
    let mut all: Vec<u32> = (1..=1024).collect();
    for i in 0..count {
        let other = i + (rng.next_u32() as usize) % (all.len() - i);
        all.swap(i, other);
    }
    all.truncate(count);
    all
}

fn spoil(share: &mut Share, rng: &mut ChaCha20Rng) {
    share.0 += random_scalar(rng);
}

#[test]
fn golden_vectors() {
    let vectors = parse(include_str!("../../../testdata/secagg/shamir_v1.json"));
    let scalar = |value| Secret::from_bytes(&bytes32(value)).expect("less than l");
    let secret = scalar(&vectors["secret"]);
    let mut coefficients = vec![secret.0];
    coefficients.extend(list(&vectors["coef"]).iter().map(|c| scalar(c).0));
    let threshold = int(&vectors["t"]);
    assert_eq!(coefficients.len(), threshold as usize);
    for x in 1..=int(&vectors["n"]) {
        let share = Share(decode::evaluate(&coefficients, Scalar::from(x)));
        assert_eq!(share.as_bytes(), &bytes32(&vectors["shares"][x.to_string()]), "share {x}");
    }
    for subset in list(&vectors["reconstruct_from"]) {
        let shares: Vec<(u32, Share)> = list(subset)
            .iter()
            .map(int)
            .map(|x| {
                let share = Share::from_bytes(&bytes32(&vectors["shares"][x.to_string()]));
                (x, share.expect("less than l"))
            })
            .collect();
        assert_eq!(reconstruct(&shares, threshold), Ok(secret.clone()), "{subset}");
        assert_ne!(reconstruct(&shares[..2], threshold - 1), Ok(secret.clone()), "two of three");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_threshold_shares_give_the_secret_and_fewer_do_not(seed: u64, threshold in 1..20_u32, spare in 0..10_usize) {
        let mut rng = rng(seed);
        let xs = places(threshold as usize + spare, &mut rng);
        let (secret, mut shares) = dealt(threshold, &xs, &mut rng);
        shares.rotate_left(spare);
        prop_assert_eq!(reconstruct(&shares, threshold), Ok(secret.clone()));
        if threshold > 1 {
            prop_assert_ne!(reconstruct(&shares, threshold - 1), Ok(secret));
        }
    }

    #[test]
    fn as_many_liars_as_can_be_found_are_found(seed: u64, threshold in 1..20_u32, spare in 0..14_usize) {
        let mut rng = rng(seed);
        let xs = places(threshold as usize + spare, &mut rng);
        let (secret, mut shares) = dealt(threshold, &xs, &mut rng);
        let mut liars = Vec::new();
        // The first share lies, so that the quick way fails.
        for liar in (0..spare / 2).map(|i| i * 2) {
            spoil(&mut shares[liar].1, &mut rng);
            liars.push(shares[liar].0);
        }
        liars.sort_unstable();
        prop_assert_eq!(reconstruct_robust(&shares, threshold, |found| *found == secret), Ok((secret.clone(), liars)));
    }

    #[test]
    fn too_many_liars_get_nobody_named(seed: u64, threshold in 2..20_u32, spare in 0..14_usize) {
        let mut rng = rng(seed);
        let xs = places(threshold as usize + spare, &mut rng);
        let (secret, mut shares) = dealt(threshold, &xs, &mut rng);
        for (_, share) in shares.iter_mut().take(spare / 2 + 1) {
            spoil(share, &mut rng);
        }
        let outcome = reconstruct_robust(&shares, threshold, |found| *found == secret);
        let expected = match spare {
            // Without a share to spare, whatever the shares say is consistent.
            0 => Err(ShamirError::OtherSecret),
            // With one, the wrong one is left out.
            1 => Ok((secret, vec![])),
            _ => Err(ShamirError::Contradiction { have: shares.len(), correctable: spare / 2 }),
        };
        prop_assert_eq!(outcome, expected);
    }

    #[test]
    fn any_shares_at_all_give_an_answer(words: Vec<(u8, [u8; 32])>, threshold in 0..12_u32) {
        let shares: Vec<(u32, Share)> = words
            .iter()
            .filter_map(|(x, bytes)| Some((u32::from(*x), Share::from_bytes(bytes)?)))
            .collect();
        let _ = reconstruct_robust(&shares, threshold, |_| false).expect_err("nothing is right");
    }
}

#[test]
fn shares_of_zero_are_decoded() {
    let zero = Secret(Scalar::ZERO);
    let zeros: Vec<(u32, Share)> = (1..=9).map(|x| (x, Share(Scalar::ZERO))).collect();
    let mut shares = zeros.clone();
    shares[0].1 = Share(Scalar::ONE);
    shares[7].1 = Share(Scalar::ONE);
    assert_eq!(
        reconstruct_robust(&shares, 3, |secret| *secret == zero),
        Ok((zero.clone(), vec![1, 8]))
    );
    assert_eq!(decode::decode(&zeros, 3), Ok((zero, vec![])));
}

/// Whichever share is the wrong one of t + 1; with two wrong ones nothing helps.
#[test]
fn a_single_liar_without_shares_to_spare_is_got_around() {
    let mut rng = rng(8);
    for liar in 0..5 {
        let (secret, mut shares) = dealt(4, &[1, 2, 3, 4, 5], &mut rng);
        spoil(&mut shares[liar].1, &mut rng);
        assert_eq!(
            reconstruct_robust(&shares, 4, |found| *found == secret),
            Ok((secret.clone(), vec![]))
        );
        spoil(&mut shares[(liar + 1) % 5].1, &mut rng);
        assert_eq!(
            reconstruct_robust(&shares, 4, |found| *found == secret),
            Err(ShamirError::Contradiction { have: 5, correctable: 0 })
        );
    }
}

/// Two liars whose errors cancel at 0 leave the secret right. The polynomial through them is not, so judging by it would call honest
/// holders liars.
#[test]
fn a_right_secret_gets_nobody_named() {
    let mut rng = rng(5);
    let (secret, mut shares) = dealt(2, &[1, 2, 3, 4], &mut rng);
    // Lagrange at 0 for places 1 and 2: 2 y_1 - y_2.
    shares[0].1.0 += Scalar::ONE;
    shares[1].1.0 += Scalar::from(2_u32);
    assert_eq!(
        reconstruct_robust(&shares, 2, |found| *found == secret),
        Ok((secret.clone(), vec![]))
    );
}

#[test]
fn a_dealer_of_another_secret_is_told_from_lying_holders() {
    let mut rng = rng(6);
    let xs: Vec<u32> = (1..=7).collect();
    let (_, mut shares) = dealt(3, &xs, &mut rng);
    let committed = Secret::random(&mut rng);
    assert_eq!(
        reconstruct_robust(&shares, 3, |found| *found == committed),
        Err(ShamirError::OtherSecret)
    );
    spoil(&mut shares[1].1, &mut rng);
    assert_eq!(
        reconstruct_robust(&shares, 3, |found| *found == committed),
        Err(ShamirError::OtherSecret)
    );
}

#[test]
fn bad_places_and_thresholds_are_refused() {
    let mut rng = rng(7);
    let secret = Secret::random(&mut rng);
    for (threshold, xs, expected) in [
        (0, vec![1, 2], ShamirError::NoThreshold),
        (3, vec![1, 2], ShamirError::TooFew { have: 2, threshold: 3 }),
        (1, vec![], ShamirError::TooFew { have: 0, threshold: 1 }),
        (2, vec![4, 0], ShamirError::BadPlace { x: 0 }),
        (2, vec![4, 1, 4], ShamirError::BadPlace { x: 4 }),
    ] {
        assert_eq!(split(&secret, threshold, &xs, &mut rng), Err(expected.clone()));
        let shares: Vec<(u32, Share)> = xs.iter().map(|x| (*x, Share(Scalar::ONE))).collect();
        assert_eq!(reconstruct(&shares, threshold), Err(expected.clone()));
        assert_eq!(reconstruct_robust(&shares, threshold, |_| true), Err(expected));
    }
}

#[test]
fn only_scalars_below_l_are_taken() {
    // l itself (RFC 8032), and l - 1.
    let mut l = [0; 32];
    hex::decode_to_slice("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010", &mut l).expect("hexadecimal");
    assert_eq!(Secret::from_bytes(&l), None);
    assert_eq!(Share::from_bytes(&l), None);
    assert_eq!(Share::from_bytes(&[0xff; 32]), None);
    l[0] -= 1;
    assert_eq!(Secret::from_bytes(&l).map(|secret| *secret.as_bytes()), Some(l));
}

#[test]
fn debug_shows_no_secret() {
    let secret = Secret(Scalar::from(77_u32));
    assert_eq!(format!("{secret:?}"), "Secret(..)");
    assert_eq!(format!("{:?}", Share(Scalar::from(77_u32))), "Share(..)");
}
