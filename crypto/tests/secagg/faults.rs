//! What an agent does wrong is named, changes nothing, and harms nobody else.

use std::collections::BTreeSet;

use aimass_crypto::secagg::params::GraphParams;
use aimass_crypto::secagg::{Advert, Client, Fault, MemberId, SealedShare, Server, StepError};
use aimass_crypto::sign::{Context, SigningKey};

use crate::cohort::{COHORT, Cohort, take_shares};

/// Unmask shares, as they are sent.
type Given = Vec<(MemberId, [u8; 32])>;

/// The fault is seen, and the server is as it was before.
fn is_fault(server: &mut Server, call: impl FnOnce(&mut Server) -> Result<(), Fault>, expected: &Fault) {
    let before = format!("{server:?}");
    assert_eq!(call(server), Err(expected.clone()));
    assert_eq!(format!("{server:?}"), before, "{expected} changed something");
}

fn harary(seed: u64) -> Cohort {
    let mut cohort = Cohort::new(seed, 12);
    cohort.params = GraphParams { degree: 6, threshold: 4 };
    cohort
}

fn without(ids: BTreeSet<MemberId>, out: MemberId) -> BTreeSet<MemberId> {
    ids.into_iter().filter(|id| *id != out).collect()
}

/// Runs what is left of a cohort whose adverts are in, and checks its sum.
fn ends_well(cohort: &mut Cohort, who: &BTreeSet<MemberId>) {
    let params = cohort.params;
    cohort.draw(who, |_, _| params).expect("enough are there");
    cohort.open(who);
    cohort.deal(who);
    sums_up(cohort);
}

fn sums_up(cohort: &mut Cohort) {
    let u2 = cohort.server.close_shares(cohort.floor).expect("enough are there");
    cohort.receive(&u2);
    cohort.upload(&u2);
    cohort.server.seal(&u2).expect("enough are there");
    cohort.consent(&u2);
    cohort.unmask(&u2);
    unmasks(cohort, &u2);
}

fn unmasks(cohort: &Cohort, survivors: &BTreeSet<MemberId>) {
    let solved = cohort.server.unmasking().expect("sealed").solve().expect("enough shares");
    assert_eq!(cohort.unmasked(survivors, &solved), cohort.plain(survivors));
}

#[test]
fn adverts() {
    let mut cohort = harary(21);
    let (bad, other) = (cohort.id(3), cohort.id(0));
    let rest = without(cohort.ids(), bad);
    cohort.advertise(&rest);
    let key = &cohort.agents[&bad].key;
    let advert = cohort.agents[&bad].client.advert();
    let copied = cohort.agents[&other].client.advert();
    let server = &mut cohort.server;
    let mut tries = |change: &dyn Fn(&mut Advert), signer: &SigningKey, expected: Fault| {
        let mut advert = advert.clone();
        change(&mut advert);
        let signature = advert.sign(signer);
        is_fault(server, |server| server.advert(bad, advert, signer.public(), signature), &expected);
    };
    tries(&|advert| advert.cohort[0] ^= 1, key, Fault::ForeignAdvert);
    tries(&|advert| advert.draw = 2, key, Fault::ForeignAdvert);
    tries(&|advert| advert.member = other, key, Fault::ForeignAdvert);
    tries(&|_| {}, &cohort.agents[&other].key, Fault::ForgedAdvert);
    tries(&|advert| advert.mask_key = [0; 32], key, Fault::WeakKey);
    tries(&|advert| advert.seal_key = [0; 32], key, Fault::WeakKey);
    tries(&|advert| advert.mask_key = copied.mask_key, key, Fault::CopiedKey { peer: other });
    tries(&|advert| advert.seal_key = copied.mask_key, key, Fault::CopiedKey { peer: other });

    let signature = advert.sign(key);
    let identity = key.public();
    is_fault(
        server,
        |server| server.advert([9; 16], advert.clone(), identity, signature),
        &Fault::NotMember,
    );
    assert_eq!(server.missing_adverts(), [bad]);
    assert_eq!(server.advert(bad, advert.clone(), identity, signature), Ok(()));
    assert_eq!(server.advert(bad, advert.clone(), identity, signature), Ok(()), "the same again");
    let second = Client::new(COHORT, 1, bad, &mut cohort.rng).advert();
    let second_signature = second.sign(key);
    let changed = Fault::Changed { step: "its advert" };
    is_fault(server, |server| server.advert(bad, second, identity, second_signature), &changed);

    // It is dropped for it; the others have their sum.
    server.leave(&bad);
    is_fault(
        server,
        |server| server.advert(bad, advert.clone(), identity, signature),
        &Fault::NotMember,
    );
    ends_well(&mut cohort, &rest);
}

#[test]
fn an_advert_too_late() {
    let mut cohort = harary(22);
    let late = cohort.id(3);
    let rest = without(cohort.ids(), late);
    cohort.advertise(&rest);
    cohort.server.close_adverts().expect("enough are there");
    let key = &cohort.agents[&late].key;
    let advert = cohort.agents[&late].client.advert();
    let signature = advert.sign(key);
    let fault = Fault::OutOfTurn { step: "its advert" };
    is_fault(
        &mut cohort.server,
        |server| server.advert(late, advert, key.public(), signature),
        &fault,
    );
    ends_well(&mut cohort, &rest);
}

#[test]
fn nonces() {
    let mut cohort = harary(23);
    let all = cohort.ids();
    let (bad, rest) = (cohort.id(3), without(all.clone(), cohort.id(3)));
    let early = Fault::OutOfTurn { step: "its nonce" };
    is_fault(&mut cohort.server, |server| server.reveal(bad, [0; 32]), &Fault::NotMember);
    cohort.advertise(&all);
    is_fault(&mut cohort.server, |server| server.reveal(bad, [0; 32]), &early);
    let params = cohort.params;
    let unrevealed = StepError::Unrevealed { members: vec![bad] };
    assert_eq!(cohort.draw(&rest, |_, _| params), Err(unrevealed));
    is_fault(&mut cohort.server, |server| server.reveal(bad, [0; 32]), &Fault::WrongNonce);
    is_fault(&mut cohort.server, |server| server.reveal([9; 16], [0; 32]), &Fault::NotMember);
    assert_eq!(cohort.server.missing_reveals(), [bad]);

    // The draw is made again without it.
    cohort.server.leave(&bad);
    assert!(cohort.server.missing_reveals().is_empty());
    cohort.draw_again(2, &rest);
    cohort.advertise(&rest);
    ends_well(&mut cohort, &rest);
}

#[test]
fn dealt_shares() {
    let mut cohort = harary(24);
    let all = cohort.ids();
    let (bad, rest) = (cohort.id(3), without(all.clone(), cohort.id(3)));
    cohort.advertise(&all);
    let params = cohort.params;
    cohort.draw(&all, |_, _| params).expect("all are there");
    cohort.open(&all);
    cohort.deal(&rest);
    let dealt = cohort.deal_one(&bad);
    let peer = dealt[1].to;
    let stranger = *rest
        .iter()
        .find(|id| dealt.iter().all(|share| share.to != **id))
        .expect("six of twelve are neighbours");
    let server = &mut cohort.server;
    let mut tries = |change: &dyn Fn(&mut Vec<aimass_crypto::secagg::SealedShare>), expected: Fault| {
        let mut shares = dealt.clone();
        change(&mut shares);
        is_fault(server, |server| take_shares(server, bad, shares), &expected);
    };
    tries(&|shares| shares.retain(|share| share.to != peer), Fault::MissingShare { peer });
    tries(&|shares| shares.push(shares[1].clone()), Fault::StrayShare { peer });
    tries(&|shares| shares[1].to = stranger, Fault::StrayShare { peer: stranger });
    tries(&|shares| shares[1].to = bad, Fault::StrayShare { peer: bad });
    tries(&|shares| shares[1].from = stranger, Fault::StrayShare { peer });
    tries(&|shares| shares[1].sealed[0] ^= 1, Fault::ForgedShare { peer });
    tries(&|shares| shares[1].signature[0] ^= 1, Fault::ForgedShare { peer });
    is_fault(server, |server| take_shares(server, [9; 16], dealt.clone()), &Fault::NotMember);
    assert_eq!(server.missing_shares(), [bad]);
    assert_eq!(take_shares(server, bad, dealt.clone()), Ok(()));
    let mut other_order = dealt.clone();
    other_order.reverse();
    assert_eq!(take_shares(server, bad, other_order), Ok(()), "the same again");
    let mut other = dealt.clone();
    other[0].signature[0] ^= 1;
    is_fault(
        server,
        |server| take_shares(server, bad, other),
        &Fault::Changed { step: "its shares" },
    );

    // It is dropped for it.
    server.leave(&bad);
    sums_up(&mut cohort);
    let fault = Fault::NotMember;
    is_fault(&mut cohort.server, |server| take_shares(server, bad, dealt.clone()), &fault);
}

/// Shares are verified away from the server's state: what was verified against something else is no good here.
#[test]
fn shares_that_were_verified_for_another_cohort() {
    let joined = |seed, salt| {
        let mut cohort = Cohort::new(seed, 5);
        let all = cohort.ids();
        cohort.advertise(&all);
        let roster = cohort.server.close_adverts().expect("all are there");
        for id in &all {
            let nonce = cohort.agent(id).client.see_roster(roster.clone(), 3).expect("honest");
            assert_eq!(cohort.server.reveal(*id, nonce), Ok(()));
        }
        let params = cohort.params;
        cohort.server.close_reveals(params).expect("all revealed");
        cohort.server.describe(salt, cohort.suite).expect("drawn");
        cohort
    };
    let (here, mut there) = (joined(26, [1; 32]), joined(26, [2; 32]));
    let (dealer, rest) = (here.id(0), without(here.ids(), here.id(0)));
    // The same agents and keys: signed for the descriptor of the one cohort alone.
    let sealed = rest.iter().map(|to| {
        let sealed = [9; 80];
        let signed = [&[1; 32][..], &dealer, to, &sealed].concat();
        SealedShare {
            from: dealer,
            to: *to,
            sealed,
            signature: here.agents[&dealer].key.sign(Context::Share, &signed),
        }
    });
    let sealed: Vec<SealedShare> = sealed.collect();
    let verified = here.server.check_shares(dealer, sealed).expect("for each neighbour");
    let verified = verified.verify().expect("it signed them");
    let peer = *rest.first().expect("four neighbours");
    is_fault(
        &mut there.server,
        |server| server.shares(verified.clone()),
        &Fault::ForgedShare { peer },
    );
    let mut here = here;
    assert_eq!(here.server.shares(verified.clone()), Ok(()));
    assert_eq!(here.server.shares(verified.clone()), Ok(()), "the same again");
    here.server.leave(&dealer);
    is_fault(&mut here.server, |server| server.shares(verified), &Fault::NotMember);
}

/// Who has too few holders left can't be unmasked if it drops out, so it is out before anything is masked.
#[test]
fn who_has_too_few_holders_is_left_out() {
    let mut cohort = harary(25);
    let all = cohort.ids();
    cohort.advertise(&all);
    let params = cohort.params;
    cohort.draw(&all, |_, _| params).expect("all are there");
    cohort.open(&all);
    let lonely = cohort.id(0);
    let neighbours: BTreeSet<MemberId> = cohort.server.opening_for(&lonely).iter().map(|(advert, _)| advert.member).collect();
    let silent: BTreeSet<MemberId> = neighbours.into_iter().take(3).collect();
    cohort.deal(&(&all - &silent));
    let u2 = cohort.server.close_shares(3);
    // Three of its six neighbours are left, and the threshold is four; its own leaving may take others with it.
    match u2 {
        Ok(u2) => {
            assert!(!u2.contains(&lonely));
            assert!(cohort.server.shares_for(&lonely).is_empty());
            assert!(cohort.server.can_unmask(&u2));
        }
        Err(error) => assert!(matches!(error, StepError::TooFew { need: 3, .. }), "{error}"),
    }
}

#[test]
fn consents_and_unmask_shares() {
    let mut cohort = harary(26);
    cohort.run_to_shares();
    let (bad, gone) = (cohort.id(3), cohort.id(4));
    let early = [
        Fault::OutOfTurn { step: "its consent" },
        Fault::OutOfTurn { step: "its unmask shares" },
    ];
    is_fault(&mut cohort.server, |server| server.consent(bad, [0; 64]), &early[0]);
    is_fault(&mut cohort.server, |server| server.unmask(bad, &[]), &early[1]);
    let survivors = cohort.seal_without(&[gone]);
    let rest = without(survivors.clone(), bad);
    let signature = cohort.consent_one(&bad).expect("the server is honest");
    let server = &mut cohort.server;
    is_fault(server, |server| server.consent(bad, [0; 64]), &Fault::ForgedConsent);
    let other = *rest.first().expect("there are others");
    is_fault(server, |server| server.consent(other, signature), &Fault::ForgedConsent);
    is_fault(server, |server| server.consent(gone, signature), &Fault::NotSurvivor);
    is_fault(server, |server| server.consent([9; 16], signature), &Fault::NotMember);
    assert_eq!(server.missing_consents().len(), 11);
    assert_eq!(server.consent(bad, signature), Ok(()));
    assert_eq!(server.consent(bad, signature), Ok(()), "the same again");
    cohort.consent(&rest);
    cohort.unmask(&rest);

    let consents = cohort.server.consents_for(&bad);
    let shares = cohort.agent(&bad).client.unmask(&consents).expect("the server is honest");
    let shares: Given = shares.iter().map(|(peer, share)| (*peer, *share.as_bytes())).collect();
    let peer = shares[0].0;
    let stranger = *rest
        .iter()
        .find(|id| shares.iter().all(|(peer, _)| peer != *id))
        .expect("six of twelve are neighbours");
    let server = &mut cohort.server;
    let mut tries = |change: &dyn Fn(&mut Given), expected: Fault| {
        let mut shares = shares.clone();
        change(&mut shares);
        is_fault(server, |server| server.unmask(bad, &shares), &expected);
    };
    tries(&|shares| shares.push(shares[0]), Fault::StrayUnmask { peer });
    tries(&|shares| shares[1].0 = stranger, Fault::StrayUnmask { peer: stranger });
    tries(&|shares| shares[1].0 = bad, Fault::StrayUnmask { peer: bad });
    tries(&|shares| shares[0].1 = [0xff; 32], Fault::BadUnmask { peer });
    is_fault(server, |server| server.unmask(gone, &shares), &Fault::NotSurvivor);
    is_fault(server, |server| server.unmask([9; 16], &shares), &Fault::NotMember);
    assert_eq!(server.missing_unmasks(), [bad]);
    assert_eq!(server.unmask(bad, &shares), Ok(()));
    assert_eq!(server.unmask(bad, &shares), Ok(()), "the same again");
    let changed = Fault::Changed { step: "its unmask shares" };
    is_fault(server, |server| server.unmask(bad, &shares[1..]), &changed);
    unmasks(&cohort, &survivors);
}

#[test]
fn the_survivors_are_sealed_once() {
    let mut cohort = harary(27);
    let all = cohort.ids();
    assert_eq!(cohort.server.seal(&all), Err(StepError::OutOfTurn { step: "sealing" }));
    cohort.run_to_shares();
    let few: BTreeSet<MemberId> = all.iter().take(3).copied().collect();
    assert!(!cohort.server.can_unmask(&few));
    assert_eq!(cohort.server.seal(&few), Err(StepError::NotUnmaskable));
    let mut foreign = all.clone();
    foreign.insert([9; 16]);
    assert_eq!(cohort.server.seal(&foreign), Err(StepError::NotUnmaskable));
    let bitmap = cohort.server.seal(&all).expect("all survived");
    assert_eq!(bitmap.count(), 12);
    assert_eq!(cohort.server.seal(&all), Ok(bitmap));
    let fewer: BTreeSet<MemberId> = all.iter().skip(1).copied().collect();
    assert_eq!(cohort.server.seal(&fewer), Err(StepError::OtherSurvivors));
    let record = cohort.server.record().expect("the shares are closed");
    let mut server = Server::restore(record).expect("a record that was made");
    assert_eq!(server.seal(&fewer), Err(StepError::OtherSurvivors), "not after a restart either");
}

#[test]
fn fewer_survivors_than_the_floor_are_not_sealed() {
    let mut cohort = harary(30);
    cohort.floor = 12;
    cohort.run_to_shares();
    let one_gone = without(cohort.ids(), cohort.id(3));
    assert!(
        !cohort.server.can_unmask(&one_gone),
        "the threshold would allow it, the floor does not"
    );
    assert_eq!(cohort.server.seal(&one_gone), Err(StepError::NotUnmaskable));
    assert!(cohort.server.can_unmask(&cohort.ids()));
}

#[test]
fn steps_of_the_server_out_of_turn_and_bad_parameters() {
    let mut cohort = harary(28);
    let all = cohort.ids();
    assert_eq!(cohort.server.close_adverts(), Err(StepError::TooFew { have: 0, need: 3 }));
    assert!(matches!(
        cohort.server.close_reveals(cohort.params),
        Err(StepError::OutOfTurn { .. })
    ));
    assert!(matches!(cohort.server.close_shares(3), Err(StepError::OutOfTurn { .. })));
    assert_eq!(cohort.server.record(), None);
    assert!(cohort.server.unmasking().is_none());
    cohort.advertise(&all);
    let odd = GraphParams { degree: 5, threshold: 4 };
    let bad = StepError::BadParams {
        degree: 5,
        threshold: 4,
        members: 12,
    };
    assert_eq!(cohort.draw(&all, |_, _| odd), Err(bad));
    assert!(matches!(
        cohort.server.describe([0; 32], cohort.suite),
        Err(StepError::OutOfTurn { .. })
    ));
    cohort.params = GraphParams { degree: 6, threshold: 4 };
    ends_well(&mut cohort, &all);
    assert_eq!(
        cohort
            .server
            .describe(aimass_crypto::hash::sha256(crate::cohort::DESCRIPTOR), cohort.suite),
        Ok(())
    );
    assert!(matches!(
        cohort.server.describe([0; 32], cohort.suite),
        Err(StepError::OutOfTurn { .. })
    ));
}

#[test]
fn damaged_records_are_refused() {
    let mut cohort = harary(29);
    cohort.run_to_seal(&[]);
    let record = cohort.server.record().expect("the shares are closed");
    let damaged = |change: &dyn Fn(&mut aimass_crypto::secagg::ServerRecord)| {
        let mut record = record.clone();
        change(&mut record);
        let error = Server::restore(record).expect_err("it is damaged");
        assert!(matches!(error, StepError::BadRecord { .. }), "{error}");
    };
    damaged(&|record| record.suite = 9);
    damaged(&|record| record.members.swap(0, 1));
    damaged(&|record| record.degree = 7);
    damaged(&|record| record.shares[0].to = record.shares[0].from);
    damaged(&|record| record.members[0].dealt = false);
    damaged(&|record| record.survivors = Some(vec![0xff]));
    damaged(&|record| record.survivors = Some(vec![3, 0]));
    // Shares may be left out.
    let slim = aimass_crypto::secagg::ServerRecord {
        shares: Vec::new(),
        ..record
    };
    let server = Server::restore(slim).expect("shares are not needed by who has theirs");
    assert!(server.shares_for(&cohort.id(0)).is_empty());
}
