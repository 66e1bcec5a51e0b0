//! A server that cheats, alone or with some of its agents, gets nothing out of an honest one.

use aimass_crypto::secagg::{Advert, Bitmap, Cheat, Client, MemberId, Opening, Roster, RosterError};
use aimass_crypto::sign::{Context, PublicKey, SigningKey};

use crate::cohort::{COHORT, Cohort};
use crate::victim::{DEGREE, Step, THRESHOLD, Victim};

/// A case: what is done to the victim, and what it says.
fn tries(step: Step, cheat: impl FnOnce(&mut Victim) -> (Result<(), Cheat>, Cheat)) {
    let mut victim = Victim::before(step);
    let (answer, expected) = cheat(&mut victim);
    victim.refuses(&answer, &expected);
}

mod rosters {
    use super::*;

    fn shown(victim: &mut Victim, cohort: [u8; 16], draw: u8, members: &[(MemberId, [u8; 32])]) -> Result<(), Cheat> {
        let roster = Roster::new(cohort, draw, members.to_vec()).expect("it has the form of a roster");
        victim.client.see_roster(roster, 3).map(drop)
    }

    #[test]
    fn of_another_cohort_or_draw() {
        tries(Step::Roster, |victim| {
            let members = victim.roster.members().to_vec();
            (shown(victim, [8; 16], 1, &members), Cheat::ForeignRoster)
        });
        tries(Step::Roster, |victim| {
            let members = victim.roster.members().to_vec();
            (shown(victim, COHORT, 2, &members), Cheat::ForeignRoster)
        });
    }

    #[test]
    fn without_the_agent_or_with_another_commitment() {
        tries(Step::Roster, |victim| {
            let mut members = victim.roster.members().to_vec();
            members.retain(|(id, _)| *id != victim.id);
            (shown(victim, COHORT, 1, &members), Cheat::NotInRoster)
        });
        tries(Step::Roster, |victim| {
            let mut members = victim.roster.members().to_vec();
            members
                .iter_mut()
                .filter(|(id, _)| *id == victim.id)
                .for_each(|(_, commitment)| commitment[0] ^= 1);
            (shown(victim, COHORT, 1, &members), Cheat::OtherCommitment)
        });
    }

    #[test]
    fn below_the_floor() {
        tries(Step::Roster, |victim| {
            let answer = victim.client.see_roster(victim.roster.clone(), 13).map(drop);
            (answer, Cheat::SmallRoster { members: 12, floor: 13 })
        });
    }

    #[test]
    fn two_of_them() {
        for step in [Step::Open, Step::Deal, Step::Unmask] {
            tries(step, |victim| {
                let mut members = victim.roster.members().to_vec();
                members.retain(|(id, _)| *id != victim.gone);
                (shown(victim, COHORT, 1, &members), Cheat::TwoRosters)
            });
        }
    }

    #[test]
    fn with_a_member_twice_or_of_a_size_that_none_has() {
        let member = |id: u8| ([id; 16], [0; 32]);
        let new = |members: Vec<_>| Roster::new(COHORT, 1, members).map(|roster| roster.len());
        assert_eq!(new(vec![member(1), member(2), member(3)]), Ok(3));
        assert_eq!(
            new(vec![member(1), member(2), member(2)]),
            Err(RosterError::Order { member: [2; 16] })
        );
        assert_eq!(
            new(vec![member(1), member(3), member(2)]),
            Err(RosterError::Order { member: [2; 16] })
        );
        assert_eq!(new(vec![member(1), member(2)]), Err(RosterError::Size { members: 2 }));
        let many = (0..1025_u16).map(|id| {
            let mut member = ([0; 16], [0; 32]);
            member.0[..2].copy_from_slice(&id.to_be_bytes());
            member
        });
        assert_eq!(new(many.collect()), Err(RosterError::Size { members: 1025 }));
    }
}

mod openings {
    use super::*;

    fn opened(change: impl Fn(&mut Opening<'static>, &Victim), expected: impl Fn(&Victim) -> Cheat) {
        tries(Step::Open, |victim| {
            let mut opening = victim.opening.clone();
            change(&mut opening, victim);
            (victim.client.open(&opening), expected(victim))
        });
    }

    /// Changes the advert of a neighbour, which signs what it is made to say where `signs`.
    fn advertised(change: impl Fn(&mut Advert, &Victim), signs: bool, expected: impl Fn(MemberId) -> Cheat) {
        opened(
            |opening, victim| {
                let (advert, _, signature) = &mut opening.neighbours[3];
                change(advert, victim);
                if signs {
                    *signature = advert.sign(victim.key_of(&advert.member));
                }
            },
            |victim| expected(victim.neighbours[3]),
        );
    }

    #[test]
    fn over_another_roster() {
        opened(|opening, _| opening.roster_digest[0] ^= 1, |_| Cheat::OtherRoster);
    }

    #[test]
    fn with_a_nonce_that_is_not_the_committed_one() {
        opened(
            |opening, _| opening.nonces[0] = [1; 32],
            |victim| Cheat::WrongNonce { peer: victim.world.id(0) },
        );
        opened(
            |opening, _| opening.nonces.swap(0, 1),
            |victim| Cheat::WrongNonce { peer: victim.world.id(0) },
        );
        opened(
            |opening, _| opening.nonces.truncate(11),
            |_| Cheat::NonceCount { have: 11, members: 12 },
        );
    }

    #[test]
    fn with_a_seed_that_is_not_the_hash() {
        opened(|opening, _| opening.graph_seed[31] ^= 0x80, |_| Cheat::WrongSeed);
    }

    #[test]
    fn with_terms_that_give_no_protection() {
        let bad = |degree, threshold| {
            opened(
                |opening, _| (opening.terms.degree, opening.terms.threshold) = (degree, threshold),
                |_| Cheat::BadTerms {
                    degree,
                    threshold,
                    members: 12,
                },
            );
        };
        for (degree, threshold) in [
            (5, 4),
            (0, 0),
            (12, 4),
            (DEGREE, 0),
            (DEGREE, 1),
            (DEGREE, DEGREE + 1),
            (11, 8),
            (11, 13),
        ] {
            bad(degree, threshold);
        }
        opened(|opening, _| opening.terms.floor = 2, |_| Cheat::LowFloor { floor: 2, own: 3 });
    }

    #[test]
    fn with_neighbours_that_the_graph_does_not_give() {
        let advert_of = |victim: &Victim, id: &MemberId| -> (Advert, PublicKey, [u8; 64]) {
            let agent = &victim.world.agents[id];
            let advert = agent.client.advert();
            let signature = advert.sign(&agent.key);
            (advert, agent.key.public(), signature)
        };
        let stranger = |victim: &Victim| Cheat::NotNeighbour { peer: victim.stranger };
        opened(
            |opening, victim| opening.neighbours.push(advert_of(victim, &victim.stranger)),
            stranger,
        );
        opened(
            |opening, victim| opening.neighbours[0] = advert_of(victim, &victim.stranger),
            stranger,
        );
        opened(
            |opening, victim| opening.neighbours[0] = advert_of(victim, &victim.id),
            |victim| Cheat::NotNeighbour { peer: victim.id },
        );
        opened(
            |opening, _| opening.neighbours[1] = opening.neighbours[0].clone(),
            |victim| Cheat::NotNeighbour {
                peer: victim.neighbours[0],
            },
        );
        opened(
            |opening, _| opening.neighbours.truncate(5),
            |victim| Cheat::MissingNeighbour {
                peer: victim.neighbours[5],
            },
        );
    }

    /// The server puts keys of its own in a neighbour's place.
    #[test]
    fn with_a_forged_neighbour() {
        advertised(|advert, _| advert.mask_key[0] ^= 1, false, |peer| Cheat::ForgedAdvert { peer });
        advertised(|advert, _| advert.seal_key[0] ^= 1, false, |peer| Cheat::ForgedAdvert { peer });
        advertised(
            |advert, _| advert.self_commitment[0] ^= 1,
            false,
            |peer| Cheat::ForgedAdvert { peer },
        );
        // Signed by somebody else, whose key is shown with it.
        opened(
            |opening, victim| {
                let puppet = victim.key_of(&victim.stranger);
                let (advert, identity, signature) = &mut opening.neighbours[3];
                (*identity, *signature) = (puppet.public(), advert.sign(puppet));
            },
            |victim| Cheat::ForgedAdvert {
                peer: victim.neighbours[3],
            },
        );
        // Signed for another purpose.
        opened(
            |opening, victim| {
                let (advert, _, signature) = &mut opening.neighbours[3];
                *signature = victim.key_of(&advert.member).sign(Context::Share, &advert.signed_bytes());
            },
            |victim| Cheat::ForgedAdvert {
                peer: victim.neighbours[3],
            },
        );
    }

    /// Each of these adverts was really made and signed by the neighbour, but not for this roster.
    #[test]
    fn with_a_replayed_advert() {
        let replayed = |peer| Cheat::ReplayedAdvert { peer };
        advertised(|advert, _| advert.cohort[0] ^= 1, true, replayed);
        advertised(|advert, _| advert.draw = 2, true, replayed);
        advertised(|advert, _| advert.draw_commitment[0] ^= 1, true, replayed);
    }

    #[test]
    fn with_keys_that_are_weak_or_copied() {
        for weak in [[0; 32], std::array::from_fn(|i| u8::from(i == 0))] {
            advertised(|advert, _| advert.mask_key = weak, true, |peer| Cheat::WeakKey { peer });
            advertised(|advert, _| advert.seal_key = weak, true, |peer| Cheat::WeakKey { peer });
        }
        // Two masks with one key and opposite signs cancel, and leave an agent without its neighbour's protection.
        let copied = |peer| Cheat::CopiedKey { peer };
        advertised(
            |advert, victim| advert.mask_key = victim.opening.neighbours[0].0.mask_key,
            true,
            copied,
        );
        advertised(|advert, victim| advert.mask_key = victim.client.advert().mask_key, true, copied);
    }

    #[test]
    fn two_descriptors() {
        for step in [Step::Deal, Step::Receive, Step::Consent, Step::Unmask] {
            tries(step, |victim| {
                let opening = Opening {
                    descriptor: b"another model",
                    ..victim.opening.clone()
                };
                (victim.client.open(&opening), Cheat::TwoDescriptors)
            });
        }
        tries(Step::Receive, |victim| {
            let mut opening = victim.opening.clone();
            opening.terms.threshold -= 1;
            (victim.client.open(&opening), Cheat::TwoOpenings)
        });
    }
}

mod shares {
    use super::*;

    fn received(change: impl Fn(&mut Vec<aimass_crypto::secagg::SealedShare>, &Victim), expected: impl Fn(&Victim) -> Cheat) {
        tries(Step::Receive, |victim| {
            let mut shares = victim.shares.clone();
            change(&mut shares, victim);
            (victim.client.receive(shares).map(drop), expected(victim))
        });
    }

    /// A share that its dealer dealt for somebody else.
    #[test]
    fn for_another_recipient() {
        let for_another = |victim: &Victim| {
            let dealer = victim.neighbours[0];
            let dealt = victim.world.ids().into_iter().filter(|id| *id != victim.id);
            let mut dealt = dealt.flat_map(|id| victim.world.server.shares_for(&id));
            dealt.find(|share| share.from == dealer).expect("it has other neighbours")
        };
        let dealer = |victim: &Victim| victim.neighbours[0];
        received(
            |shares, victim| shares[0] = for_another(victim),
            |victim| Cheat::SwappedShare { peer: dealer(victim) },
        );
        received(
            |shares, victim| {
                shares[0] = for_another(victim);
                shares[0].to = victim.id;
            },
            |victim| Cheat::ForgedShare { peer: dealer(victim) },
        );
    }

    #[test]
    fn from_another_dealer() {
        received(
            |shares, _| (shares[0].sealed, shares[0].signature) = (shares[1].sealed, shares[1].signature),
            |victim| Cheat::ForgedShare {
                peer: victim.neighbours[0],
            },
        );
        received(
            |shares, victim| shares[0].from = victim.stranger,
            |victim| Cheat::NotNeighbour { peer: victim.stranger },
        );
        received(
            |shares, _| shares[1] = shares[0].clone(),
            |victim| Cheat::DoubleShare {
                peer: victim.neighbours[0],
            },
        );
    }

    #[test]
    fn changed_on_their_way() {
        received(
            |shares, _| shares[2].sealed[7] ^= 1,
            |victim| Cheat::ForgedShare {
                peer: victim.neighbours[2],
            },
        );
        received(
            |shares, _| shares[2].signature[7] ^= 1,
            |victim| Cheat::ForgedShare {
                peer: victim.neighbours[2],
            },
        );
    }

    /// The dealer was shown another model: it signs for another salt.
    #[test]
    fn from_one_who_was_shown_another_descriptor() {
        received(
            |shares, victim| {
                // The same cohort up to the opening, made from the same seed.
                let mut other = Cohort::new(77, 12);
                other.params = victim.world.params;
                let all = other.ids();
                other.advertise(&all);
                let params = other.params;
                other.draw(&all, |_, _| params).expect("all are there");
                let dealer = victim.neighbours[0];
                let opening = Opening {
                    descriptor: b"another model",
                    ..other.opening(&dealer)
                };
                other.agent(&dealer).client.open(&opening).expect("it knows no other");
                let dealt = other.deal_one(&dealer);
                shares[0] = dealt.into_iter().find(|share| share.to == victim.id).expect("they are neighbours");
            },
            |victim| Cheat::ForgedShare {
                peer: victim.neighbours[0],
            },
        );
    }

    #[test]
    fn of_fewer_holders_than_the_threshold() {
        received(
            |shares, _| shares.truncate(THRESHOLD as usize - 1),
            |_| Cheat::FewHolders {
                have: THRESHOLD - 1,
                threshold: THRESHOLD,
            },
        );
    }

    #[test]
    fn two_sets_of_them() {
        for step in [Step::Consent, Step::Unmask] {
            tries(step, |victim| {
                let fewer = victim.shares[..5].to_vec();
                (victim.client.receive(fewer).map(drop), Cheat::TwoShareSets)
            });
        }
    }

    /// What a neighbour does wrong harms the sum, if anything, and not the agent: it goes on, and has nothing to reveal of that one.
    #[test]
    fn that_can_not_be_opened_are_only_listed() {
        let mut victim = Victim::before(Step::Receive);
        let mut shares = victim.shares.clone();
        let dealer = victim.neighbours[1];
        let bad = &mut shares[1];
        bad.sealed[0] ^= 1;
        let salt = aimass_crypto::hash::sha256(victim.opening.descriptor);
        let signed = [&salt[..], &bad.from, &bad.to, &bad.sealed].concat();
        bad.signature = victim.key_of(&dealer).sign(Context::Share, &signed);
        let received = victim.client.receive(shares).expect("the server is honest");
        assert_eq!(received.unreadable, [dealer]);
        assert_eq!(victim.client.masks().expect("shares are received").len(), 7);
        victim.honest(Step::Consent).expect("the server is honest");
        let given = victim.client.unmask(&victim.consents).expect("the server is honest");
        assert_eq!(given.len(), 5);
        assert!(given.iter().all(|(peer, _)| *peer != dealer));
    }
}

mod survivors {
    use super::*;

    fn without(victim: &Victim, out: &[MemberId]) -> Vec<u8> {
        let members = victim.roster.members().iter().zip(0..);
        let left = members.filter(|((id, _), _)| !out.contains(id)).map(|(_, index)| index);
        Bitmap::from_indices(12, left).as_bytes().to_vec()
    }

    fn asked(bitmap: impl Fn(&Victim) -> Vec<u8>, expected: Cheat) {
        tries(Step::Consent, |victim| {
            let bitmap = bitmap(victim);
            (victim.client.consent(&bitmap, &victim.key).map(drop), expected)
        });
    }

    #[test]
    fn malformed() {
        for bytes in [&[0xff, 0x1f][..], &[0xff], &[], &[0xff, 0x0f, 0]] {
            asked(|_| bytes.to_vec(), Cheat::BadSurvivors { members: 12 });
        }
    }

    #[test]
    fn without_the_agent() {
        asked(|victim| without(victim, &[victim.id]), Cheat::NotSurvivor);
    }

    #[test]
    fn fewer_than_the_floor() {
        asked(
            |victim| {
                let mut out = victim.world.ids();
                out.remove(&victim.id);
                out.remove(&victim.neighbours[0]);
                without(victim, &out.into_iter().collect::<Vec<_>>())
            },
            Cheat::FewSurvivors { have: 2, floor: 3 },
        );
    }

    #[test]
    fn with_too_few_holders() {
        asked(
            |victim| without(victim, &victim.neighbours[..3]),
            Cheat::FewSurvivingHolders {
                have: 3,
                threshold: THRESHOLD,
            },
        );
    }

    /// A neighbour whose share was kept back: this agent has laid no mask with it.
    #[test]
    fn with_one_that_was_said_to_have_dropped_out() {
        tries(Step::Receive, |victim| {
            let peer = victim.neighbours[5];
            let shares: Vec<_> = victim.shares.iter().filter(|share| share.from != peer).cloned().collect();
            victim.client.receive(shares).expect("one may have dropped out");
            (
                victim.client.consent(&victim.bitmap, &victim.key).map(drop),
                Cheat::UnknownSurvivor { peer },
            )
        });
    }

    /// With both sets the server would get both secrets of the one in which they differ.
    #[test]
    fn two_sets_and_so_both_secrets_of_an_agent() {
        for step in [Step::Unmask, Step::Consent] {
            tries(step, |victim| {
                victim.honest(Step::Consent).expect("the first set is honest");
                let both = without(victim, &[victim.gone, victim.neighbours[0]]);
                (victim.client.consent(&both, &victim.key).map(drop), Cheat::TwoSurvivorSets)
            });
        }
        // After its shares were given, too.
        tries(Step::Unmask, |victim| {
            victim.honest(Step::Unmask).expect("the first set is honest");
            let none = without(victim, &[]);
            (victim.client.consent(&none, &victim.key).map(drop), Cheat::TwoSurvivorSets)
        });
    }

    #[test]
    fn signed_by_too_few() {
        tries(Step::Unmask, |victim| {
            let few = victim.consents[..THRESHOLD as usize - 1].to_vec();
            let expected = Cheat::FewConsents { have: 3, threshold: 4 };
            (victim.client.unmask(&few).map(drop), expected)
        });
    }

    fn signed(change: impl Fn(&mut Vec<(MemberId, [u8; 64])>, &Victim), peer: impl Fn(&Victim) -> MemberId) {
        tries(Step::Unmask, |victim| {
            let mut consents = victim.consents.clone();
            change(&mut consents, victim);
            let expected = Cheat::ForgedConsent { peer: peer(victim) };
            (victim.client.unmask(&consents).map(drop), expected)
        });
    }

    #[test]
    fn signed_by_somebody_else_or_not_at_all() {
        signed(|consents, _| consents[0].1[3] ^= 1, |victim| victim.consents[0].0);
        signed(|consents, _| consents[1].1 = consents[0].1, |victim| victim.consents[1].0);
        signed(|consents, _| consents[1] = consents[0], |victim| victim.consents[0].0);
        signed(|consents, victim| consents[0].0 = victim.stranger, |victim| victim.stranger);
        // One who is not among them.
        signed(
            |consents, victim| {
                let salt = aimass_crypto::hash::sha256(victim.opening.descriptor);
                let bytes = [&salt[..], &victim.bitmap].concat();
                consents.push((victim.gone, victim.key_of(&victim.gone).sign(Context::Survivors, &bytes)));
            },
            |victim| victim.gone,
        );
    }

    /// The neighbours were shown another set, and signed that.
    #[test]
    fn that_others_were_not_shown() {
        signed(
            |consents, victim| {
                let salt = aimass_crypto::hash::sha256(victim.opening.descriptor);
                let bytes = [&salt[..], &without(victim, &[])].concat();
                for (peer, signature) in consents {
                    *signature = victim.key_of(peer).sign(Context::Survivors, &bytes);
                }
            },
            |victim| victim.consents[0].0,
        );
    }
}

/// A step that is asked for before the ones that protect the agent.
#[test]
fn steps_out_of_turn() {
    let steps = [Step::Roster, Step::Open, Step::Deal, Step::Receive, Step::Consent, Step::Unmask];
    for (place, before) in steps.into_iter().enumerate() {
        for later in &steps[place + 1..] {
            let mut victim = Victim::before(before);
            let answer = victim.honest(*later);
            let cheat = answer.clone().expect_err("a step was left out");
            assert!(matches!(cheat, Cheat::OutOfTurn { .. }), "{later:?} before {before:?}: {cheat}");
            victim.refuses(&answer, &cheat);
        }
    }
    tries(Step::Receive, |victim| {
        let answer = victim.client.masks().map(drop);
        (answer, Cheat::OutOfTurn { step: "masking" })
    });
}

#[test]
fn a_client_says_nothing_secret() {
    let mut rng = Cohort::new(1, 3).rng;
    let client = Client::new(COHORT, 1, [5; 16], &mut rng);
    assert_eq!(
        format!("{client:?}"),
        "Client { member: \"05050505050505050505050505050505\", draw: 1, state: \"fresh\", .. }"
    );
}

#[test]
fn every_cheat_has_a_text_that_names_the_peer() {
    let key = SigningKey::generate(&mut Cohort::new(1, 3).rng);
    let peer = key.public().fingerprint();
    assert!(Cheat::ForgedAdvert { peer }.to_string().contains(&hex::encode(peer)));
    assert!(Cheat::TwoSurvivorSets.to_string().contains("two sets of survivors"));
}
