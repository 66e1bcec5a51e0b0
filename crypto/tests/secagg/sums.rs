//! The sum over the survivors is exact, whoever drops out and whenever; where too few are left there is none.

use std::collections::BTreeSet;

use aimass_crypto::secagg::mask::Suite;
use aimass_crypto::secagg::params::{self, GraphParams};
use aimass_crypto::secagg::{MemberId, Server, StepError};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use crate::cohort::Cohort;

/// How a random cohort ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With the exact sum.
    Summed,
    /// Too few were left at this step, and nothing could be solved.
    Abandoned(&'static str),
}

/// The complete graph, or any other that there is, with any threshold that fits.
fn any_params(rng: &mut ChaCha20Rng, n: u32) -> GraphParams {
    if n < 5 || rng.next_u32().is_multiple_of(3) {
        return params::complete(n);
    }
    let degree = 2 + 2 * (rng.next_u32() % ((n - 2) / 2));
    GraphParams {
        degree,
        threshold: 2 + rng.next_u32() % (degree - 1),
    }
}

fn run(seed: u64, n: u32, dropout: f64, suite: Suite, bits: u32) -> End {
    let mut cohort = Cohort::new(seed, n);
    (cohort.suite, cohort.bits) = (suite, bits);
    let mut present = cohort.ids();
    let mut draw = 1;
    loop {
        present = cohort.some_of(&present, dropout);
        cohort.advertise(&present);
        let advertised = present.clone();
        present = cohort.some_of(&present, dropout / 4.0);
        match cohort.draw(&present, any_params) {
            Ok(()) => break,
            Err(StepError::TooFew { .. }) => return End::Abandoned("adverts"),
            Err(StepError::Unrevealed { members }) => {
                assert_eq!(BTreeSet::from_iter(members), &advertised - &present);
                draw += 1;
                cohort.draw_again(draw, &present);
            }
            Err(other) => panic!("an honest cohort can't be drawn: {other}"),
        }
    }
    cohort.open(&present);
    present = cohort.some_of(&present, dropout);
    cohort.deal(&present);
    let Ok(u2) = cohort.server.close_shares(cohort.floor) else {
        return End::Abandoned("shares");
    };
    cohort.receive(&u2);
    restart(&mut cohort);
    let survivors = cohort.some_of(&u2, dropout);
    cohort.upload(&survivors);
    if !cohort.server.can_unmask(&survivors) {
        assert_eq!(cohort.server.seal(&survivors), Err(StepError::NotUnmaskable));
        return End::Abandoned("uploads");
    }
    cohort.server.seal(&survivors).expect("they can be unmasked");
    restart(&mut cohort);
    present = cohort.some_of(&survivors, dropout / 4.0);
    cohort.consent(&present);
    present = cohort.some_of(&present, dropout / 4.0);
    cohort.unmask(&present);
    finish(&cohort, &survivors)
}

fn finish(cohort: &Cohort, survivors: &BTreeSet<MemberId>) -> End {
    let unmasking = cohort.server.unmasking().expect("the survivors are sealed");
    match unmasking.solve() {
        Ok(solved) => {
            assert!(cohort.server.is_unmaskable(), "solved with fewer shares than the threshold");
            assert_eq!(cohort.unmasked(survivors, &solved), cohort.plain(survivors));
            assert!(solved.liars.is_empty());
            End::Summed
        }
        Err(error) => {
            assert!(!cohort.server.is_unmaskable(), "enough shares, and yet: {error}");
            End::Abandoned("unmasking")
        }
    }
}

fn restart(cohort: &mut Cohort) {
    let record = cohort.server.record().expect("the shares are closed");
    cohort.server = Server::restore(record.clone()).expect("a record that was made");
    assert_eq!(cohort.server.record(), Some(record));
}

fn suites() -> impl Strategy<Value = Suite> {
    prop_oneof![Just(Suite::ChaCha20), Just(Suite::Aes256Ctr)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_sum_over_the_survivors_is_exact(seed: u64, n in 3..=40_u32, dropout in 0.0..0.3, suite in suites(), bits in 1..=64_u32) {
        run(seed, n, dropout, suite, bits);
    }

    #[test]
    fn without_dropouts_there_is_always_a_sum(seed: u64, n in 3..=40_u32, suite in suites(), bits in 1..=64_u32) {
        prop_assert_eq!(run(seed, n, 0.0, suite, bits), End::Summed);
    }
}

/// The property above is worth something: its cohorts end in every way.
#[test]
fn random_cohorts_end_in_every_way() {
    let ends: Vec<End> = (0..120)
        .map(|seed| run(seed, 3 + (seed as u32 * 7) % 30, 0.02 * (seed % 12) as f64, Suite::ChaCha20, 20))
        .collect();
    for end in [
        End::Summed,
        End::Abandoned("shares"),
        End::Abandoned("uploads"),
        End::Abandoned("unmasking"),
    ] {
        assert!(ends.contains(&end), "no cohort ended with {end:?}");
    }
    let summed = ends.iter().filter(|end| **end == End::Summed).count();
    assert!((30..110).contains(&summed), "{summed} of 120 cohorts gave a sum");
}

#[test]
fn one_share_below_the_threshold_solves_nothing() {
    let mut cohort = Cohort::new(11, 9);
    let gone = cohort.id(4);
    let survivors = cohort.run_to_seal(&[gone]);
    cohort.consent(&survivors);
    // The threshold is 7 of 9, and 8 survived.
    let few: BTreeSet<MemberId> = survivors.iter().take(6).copied().collect();
    cohort.unmask(&few);
    assert!(!cohort.server.is_unmaskable());
    assert!(cohort.server.unmasking().expect("sealed").solve().is_err());
    let next: BTreeSet<MemberId> = survivors.iter().skip(6).take(1).copied().collect();
    cohort.unmask(&next);
    assert_eq!(finish(&cohort, &survivors), End::Summed);
}

/// Killed after the shares were closed and after the survivors were sealed; one member dealt nothing, another one did not upload.
#[test]
fn a_restarted_server_goes_on_to_the_same_sum() {
    let mut cohort = Cohort::new(14, 12);
    let all = cohort.ids();
    let (silent, gone) = (cohort.id(2), cohort.id(7));
    let params = GraphParams { degree: 8, threshold: 5 };
    cohort.advertise(&all);
    cohort.draw(&all, |_, _| params).expect("all are there");
    cohort.open(&all);
    let dealers: BTreeSet<MemberId> = all.into_iter().filter(|id| *id != silent).collect();
    cohort.deal(&dealers);
    assert_eq!(cohort.server.close_shares(3), Ok(dealers.clone()));
    restart(&mut cohort);
    assert_eq!(cohort.server.close_shares(3), Ok(dealers.clone()));
    cohort.receive(&dealers);
    let survivors: BTreeSet<MemberId> = dealers.into_iter().filter(|id| *id != gone).collect();
    cohort.upload(&survivors);
    cohort.server.seal(&survivors).expect("ten of twelve survived");
    restart(&mut cohort);
    cohort.consent(&survivors);
    cohort.unmask(&survivors);
    assert_eq!(finish(&cohort, &survivors), End::Summed);
}

/// Whoever is shown another model makes noise of the sum: `negative_tests` of the known-answer vectors.
#[test]
fn another_salt_gives_noise() {
    let mut cohort = Cohort::new(12, 5);
    let survivors = cohort.run_to_seal(&[]);
    cohort.consent(&survivors);
    cohort.unmask(&survivors);
    let mut unmasking = cohort.server.unmasking().expect("sealed");
    let solved = unmasking.solve().expect("all gave their shares");
    assert_eq!(cohort.unmasked(&survivors, &solved), cohort.plain(&survivors));
    unmasking.salt = [8; 32];
    let solved = unmasking.solve().expect("secrets do not hang on the salt");
    assert_ne!(cohort.unmasked(&survivors, &solved), cohort.plain(&survivors));
}

/// Wrong shares of up to (m - t) / 2 holders are corrected, and their holders named.
#[test]
fn liars_are_corrected_and_named() {
    let mut cohort = Cohort::new(13, 14);
    let gone = cohort.id(3);
    let survivors = cohort.run_to_seal(&[gone]);
    cohort.consent(&survivors);
    // 13 shares of each secret, 10 of them needed: one liar can be told.
    let liar = cohort.id(0);
    for id in &survivors {
        let consents = cohort.server.consents_for(id);
        let shares = cohort.agent(id).client.unmask(&consents).expect("the server is honest");
        let mut shares: Vec<_> = shares.iter().map(|(peer, share)| (*peer, *share.as_bytes())).collect();
        if *id == liar {
            shares.iter_mut().for_each(|(_, share)| share[0] ^= 1);
        }
        assert_eq!(cohort.server.unmask(*id, &shares), Ok(()));
    }
    let mut unmasking = cohort.server.unmasking().expect("sealed");
    let solved = unmasking.solve().expect("one liar of 13 is corrected");
    assert_eq!(solved.liars, [liar]);
    assert_eq!(cohort.unmasked(&survivors, &solved), cohort.plain(&survivors));

    // A second one is one too many: nobody is named, and there is no sum.
    for target in &mut unmasking.targets {
        let other = target.shares[5].2.clone();
        target.shares[1].2 = other;
    }
    assert_eq!(unmasking.solve().expect_err("two liars of 13").member, cohort.id(0));
}
