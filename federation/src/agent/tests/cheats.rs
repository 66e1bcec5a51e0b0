//! Servers that cheat, and what an honest agent does about it: it drops its keys, reveals nothing more, and says so.

use std::collections::BTreeMap;

use aimass_crypto::cert::{CERTIFICATE_LIFETIME, Root};
use aimass_crypto::log::Tree;
use aimass_crypto::sign::{Context, SigningKey};
use aimass_protocol::SignatureBytes;
use aimass_protocol::descriptor::{MaskSuite, Profile};
use aimass_protocol::message::secagg::{ConsentReply, DrawCall, Opening, Roster, SealedShare, SurvivorsReply, UnmaskReply};
use serde_bytes::ByteBuf;

use super::fleet::{Agent, Fleet, NOW, config, secure_file};
use super::*;

/// The agent at `place` is told this and refuses: a report, the job declined until a restart, nothing left, nothing revealed.
fn refuses(fleet: &mut Fleet, place: usize, event: Event) -> String {
    let agent = &mut fleet.agents[place];
    let before = agent.did.len();
    let effects = agent.step(NOW, event);
    let [Effect::Report(report), Effect::Warn(Warning::Declined { reason, .. }), ..] = &effects[..] else {
        panic!("a report and a warning expected: {effects:?}");
    };
    assert!(reason.starts_with(&report.what), "{reason}");
    assert_eq!(report.job, job(1));
    let what = report.what.clone();
    has_left(agent, before);
    // Whatever the server says now, it helps nothing: another try at the same cohort, its next steps, the same work again.
    let (contribution, now) = (agent.contribution, fleet.now);
    for event in [
        Event::Draw {
            contribution,
            call: DrawCall {
                cohort: cohort(2),
                draw: 1,
            },
        },
        Event::Survivors {
            cohort: cohort(1),
            reply: SurvivorsReply::Set(ByteBuf::from(vec![0xff])),
        },
        Event::Agreed {
            cohort: cohort(1),
            reply: ConsentReply::Agreed(Vec::new()),
        },
        Event::Unmasked {
            cohort: cohort(1),
            reply: UnmaskReply::Taken,
        },
    ] {
        fleet.agents[place].step(now, event);
    }
    let task = fleet.task(100, fleet.agents[place].disk.log.size);
    let agent = &mut fleet.agents[place];
    let again = agent.step(now, task);
    assert!(matches!(&again[..], [Effect::Sleep { .. }]), "the job is declined: {again:?}");
    has_left(agent, before);
    what
}

fn has_left(agent: &Agent, before: usize) {
    assert!(!agent.revealed_after(before), "{:?}", &agent.did[before..]);
    let held = agent.session.snapshot().held;
    assert_eq!((held, &agent.disk.held), (None, &None));
    let contribution = agent.contribution;
    assert!(agent.did[before..].contains(&Effect::Discard { contribution }));
    assert!(format!("{:?}", agent.session).contains("cohort: None"), "its keys are gone");
}

/// Steps up to `activity`, then a changed answer for the first agent.
fn after(activity: Activity, change: impl FnOnce(&mut Fleet, Event) -> Event) -> String {
    let mut fleet = Fleet::at(activity);
    let honest = fleet.answers().remove(&0).expect("an answer");
    let event = change(&mut fleet, honest);
    refuses(&mut fleet, 0, event)
}

fn with_roster(event: Event, change: impl FnOnce(&mut Roster)) -> Event {
    let Event::Roster { cohort, draw, mut roster } = event else {
        panic!("a roster expected, not {event:?}");
    };
    change(&mut roster);
    Event::Roster { cohort, draw, roster }
}

fn with_opening(event: Event, change: impl FnOnce(&mut Opening, &mut Descriptor)) -> Event {
    let Event::Opening {
        cohort,
        draw,
        mut opening,
        mut descriptor,
    } = event
    else {
        panic!("an opening expected, not {event:?}");
    };
    change(&mut opening, &mut descriptor);
    Event::Opening {
        cohort,
        draw,
        opening,
        descriptor,
    }
}

/// What an agent says to a descriptor that is changed, and signed, like this.
fn says_to(change: fn(&mut Descriptor)) -> String {
    after(Activity::Revealing, |fleet, honest| {
        let Event::Opening { mut descriptor, .. } = honest else {
            panic!("an opening expected");
        };
        change(&mut descriptor);
        fleet.opening(0, *descriptor)
    })
}

#[test]
fn should_refuse_a_roster_that_could_hide_nothing() {
    let without_it = after(Activity::Advertising, |fleet, honest| {
        let own = fleet.agents[0].identity.agent();
        let other = fleet.agent(9).identity.agent();
        with_roster(honest, |roster| {
            for member in &mut roster.members {
                if member.agent == own {
                    member.agent = other;
                }
            }
            roster.members.sort_unstable_by_key(|member| member.agent);
        })
    });
    assert!(without_it.contains("does not hold this agent"), "{without_it}");
    let too_few = after(Activity::Advertising, |_, honest| {
        with_roster(honest, |roster| roster.members.truncate(2))
    });
    assert!(too_few.contains("3 to 1024 members"), "{too_few}");
    let twice = after(Activity::Advertising, |_, honest| {
        with_roster(honest, |roster| roster.members[1] = roster.members[0])
    });
    assert!(twice.contains("ascending"), "{twice}");
    let other = after(Activity::Advertising, |_, honest| {
        with_roster(honest, |roster| {
            for member in &mut roster.members {
                member.draw_commitment = model(1);
            }
        })
    });
    assert!(other.contains("another commitment"), "{other}");
}

#[test]
fn should_refuse_a_cohort_below_the_floor_of_its_own_policy() {
    let mut fleet = Fleet::new(3);
    let mut strict = config();
    strict.policy.min_survivors = 3;
    fleet.agents[0].restart(&strict);
    let agent = &mut fleet.agents[0];
    agent.step(NOW, Event::Tick);
    agent.step(NOW, Event::Connected);
    while fleet.agents[0].session.activity() != Activity::Revealing {
        fleet.go_on();
    }
    let Some(Event::Opening { mut descriptor, .. }) = fleet.answers().remove(&0) else {
        panic!("an opening expected");
    };
    descriptor.floor = 2;
    let event = fleet.opening(0, *descriptor);
    let what = refuses(&mut fleet, 0, event);
    assert!(what.contains("policy.min_survivors is 3"), "{what}");
}

#[test]
fn should_refuse_terms_that_are_weaker_than_what_was_signed() {
    let cases: [(Edit<Descriptor>, &str); 15] = [
        (|d| d.floor = 2, "lower floor"),
        (|d| d.job = job(2), "another job"),
        (|d| d.bases = vec![model(9)], "another base"),
        (|d| d.codec.clip = 1e9, "codec"),
        (
            |d| {
                let masks = d.secagg.as_mut().expect("masks");
                (d.members, masks.degree, masks.threshold) = (4, 3, 3);
            },
            "another number of members",
        ),
        (|d| d.cohort = cohort(2), "another cohort"),
        (|d| d.log = None, "no log"),
        (|d| d.secagg.as_mut().expect("masks").suite = MaskSuite::ChaCha20, "mask suite"),
        (|d| d.secagg.as_mut().expect("masks").threshold = 2, "weaker than its profile"),
        (|d| d.secagg.as_mut().expect("masks").degree = 1, "weaker than its profile"),
        (|d| d.secagg.as_mut().expect("masks").draw = 2, "another draw"),
        (|d| d.secagg.as_mut().expect("masks").roster = model(1), "another roster"),
        (|d| d.secagg.as_mut().expect("masks").graph_seed = model(1), "by chance"),
        (|d| d.secagg = None, "plain mode smuggled in"),
        (|d| (d.mode, d.secagg) = (AggregationMode::Plain, None), "plain mode smuggled in"),
    ];
    for (change, part) in cases {
        let what = says_to(change);
        assert!(what.contains(part), "{part}: {what}");
    }
}

#[test]
fn should_refuse_a_weaker_profile_and_a_threshold_below_it() {
    let policy = Policy::default();
    let consent = Consent {
        profile: Profile::Hardened,
        ..Consent::of(&secure_file())
    };
    let held = Contribution {
        id: contribution(1),
        job: job(1),
        base: model(100),
        log_index: Some(1),
        consent,
        stage: Stage::Trained,
    };
    let with = |members, profile, degree, threshold| {
        let Event::Opening { descriptor, .. } = Fleet::at(Activity::Revealing).answers().remove(&0).expect("an answer") else {
            panic!("an opening expected");
        };
        let masks = descriptor.secagg.map(|masks| aimass_protocol::descriptor::SecAggParams {
            profile,
            degree,
            threshold,
            ..masks
        });
        let descriptor = Descriptor {
            members,
            secagg: masks,
            ..*descriptor
        };
        policy.check_cohort(NOW, &held, &descriptor)
    };
    // Bell et al. 2020: 26 and 6 against a server that keeps to the protocol, 66 and 36 against one that may not.
    with(100, Profile::Hardened, 66, 36).expect("as the theory has it");
    with(100, Profile::Hardened, 99, 67).expect("the complete graph");
    for (profile, degree, threshold, part) in [
        (Profile::Standard, 26, 6, "weaker profile"),
        (Profile::Hardened, 26, 6, "weaker than its profile"),
        (Profile::Hardened, 66, 35, "weaker than its profile"),
        (Profile::Hardened, 64, 36, "weaker than its profile"),
        // More neighbours, of whom fewer have to agree.
        (Profile::Hardened, 99, 36, "weaker than its profile"),
    ] {
        let error = with(100, profile, degree, threshold).expect_err(part);
        assert!(error.to_string().contains(part), "{degree}, {threshold}: {error}");
    }
}

#[test]
fn should_refuse_a_plain_cohort_for_a_job_with_masks() {
    for place in 0..2 {
        let mut fleet = Fleet::new(3);
        if place == 1 {
            // Not even where the owner allows plain jobs.
            let mut lax = config();
            lax.policy.allow_plain = true;
            fleet.agents[1].restart(&lax);
            fleet.agents[1].step(NOW, Event::Tick);
            fleet.agents[1].step(NOW, Event::Connected);
        }
        let event = Event::Cohort {
            contribution: fleet.agents[place].contribution,
            descriptor: Box::new(descriptor()),
        };
        let what = refuses(&mut fleet, place, event);
        assert!(what.contains("plain mode smuggled in"), "{what}");
        assert_eq!(fleet.agents[place].reports()[0].cohort, Some(cohort(1)));
    }
}

#[test]
fn should_not_show_keys_for_a_plain_job() {
    let mut bench = Bench::at(Activity::Offering);
    let reason = bench.declines(Event::Draw {
        contribution: contribution(1),
        call: DrawCall {
            cohort: cohort(1),
            draw: 1,
        },
    });
    assert!(reason.contains("the signed job has none"), "{reason}");
}

#[test]
fn should_refuse_neighbours_that_nobody_vouches_for() {
    let certificate = |fleet: &Fleet, root: &Root, tenant: &str, role: &str| {
        let key = fleet.agents[1].identity.key.public();
        let issued = root.issue(tenant, role, &key, 1_799_900_000, CERTIFICATE_LIFETIME, &mut rng(5));
        ByteBuf::from(issued.expect("a certificate"))
    };
    type Certificate = fn(&Fleet, &dyn Fn(&Fleet, &Root, &str, &str) -> ByteBuf) -> ByteBuf;
    let cases: [(Certificate, &str); 6] = [
        (|_, _| ByteBuf::from(vec![1, 2, 3]), "no certificate"),
        (
            |fleet, certificate| certificate(fleet, &Root::create("test root", 1_799_000_000, &mut rng(77)), "default", "agent"),
            "no root of the trust bundle",
        ),
        (
            |fleet, certificate| certificate(fleet, &fleet.root, "default", "server"),
            "no agent of tenant default",
        ),
        (
            |fleet, certificate| certificate(fleet, &fleet.root, "other", "agent"),
            "no agent of tenant default",
        ),
        (
            |fleet, _| ByteBuf::from(fleet.agents[2].identity.certificate.clone()),
            "of another agent",
        ),
        (
            |fleet, _| {
                let key = fleet.agents[1].identity.key.public();
                let issued = fleet
                    .root
                    .issue("default", "agent", &key, 1_700_000_000, CERTIFICATE_LIFETIME, &mut rng(5));
                ByteBuf::from(issued.expect("a certificate"))
            },
            "ended more than a day ago",
        ),
    ];
    for (forged, part) in cases {
        let what = after(Activity::Revealing, |fleet, honest| {
            let shown = forged(fleet, &certificate);
            let puppet = fleet.agents[1].identity.agent();
            with_opening(honest, |opening, _| {
                let neighbour = opening.neighbours.iter_mut().find(|shown| shown.agent == puppet);
                neighbour.expect("a neighbour").certificate = shown;
            })
        });
        assert!(what.contains(part), "{part}: {what}");
    }
}

#[test]
fn should_refuse_forged_replayed_and_missing_adverts() {
    let mallory = SigningKey::generate(&mut rng(66));
    type Forge = fn(&mut Opening, &SigningKey);
    let cases: [(Forge, &str); 5] = [
        // Signed by another key.
        (
            |opening, mallory| {
                let shown = &mut opening.neighbours[0];
                shown.signature = SignatureBytes::from_bytes(mallory.sign(Context::Advert, b"whatever"));
            },
            "not signed by that agent",
        ),
        // Another key under the same signature: the man in the middle.
        (|opening, _| opening.neighbours[0].mask_key = model(1), "not signed by that agent"),
        (
            |opening, _| opening.neighbours[0].draw_commitment = model(1),
            "another cohort or draw",
        ),
        (|opening, _| drop(opening.neighbours.pop()), "were not shown"),
        (|opening, _| opening.nonces[1] = model(1), "not the one"),
    ];
    for (forge, part) in cases {
        let what = after(Activity::Revealing, |_, honest| {
            with_opening(honest, |opening, _| forge(opening, &mallory))
        });
        assert!(what.contains(part), "{part}: {what}");
    }
    // An advert that was good for another cohort.
    let mut old = Fleet::new(3);
    old.cohort = cohort(9);
    while old.agents[0].session.activity() != Activity::Revealing {
        old.go_on();
    }
    let Some(Event::Opening { opening: old, .. }) = old.answers().remove(&0) else {
        panic!("an opening expected");
    };
    let what = after(Activity::Revealing, |_, honest| {
        with_opening(honest, |opening, _| opening.neighbours[0] = old.neighbours[0].clone())
    });
    assert!(what.contains("another cohort or draw") || what.contains("not signed"), "{what}");
}

#[test]
fn should_refuse_swapped_doubled_and_changed_shares() {
    let cases: [(Edit<Vec<SealedShare>>, &str); 5] = [
        (
            |shares| {
                let other = shares[1].sealed.clone();
                shares[0].sealed = other;
            },
            "swapped, changed or replayed",
        ),
        (|shares| shares[0].sealed[3] ^= 1, "swapped, changed or replayed"),
        (|shares| shares.push(shares[0].clone()), "two shares"),
        (|shares| shares[0].agent = shares[1].agent, "swapped, changed or replayed"),
        (|shares| drop(shares.pop()), "hold shares of this agent's secrets"),
    ];
    for (change, part) in cases {
        let what = after(Activity::Sharing, |_, honest| {
            let Event::SharesReceived { cohort, mut shares } = honest else {
                panic!("shares expected");
            };
            change(&mut shares);
            Event::SharesReceived { cohort, shares }
        });
        assert!(what.contains(part), "{part}: {what}");
    }
    // A share that was dealt to another agent.
    let mut fleet = Fleet::at(Activity::Sharing);
    let mut answers = fleet.answers();
    let of = |event: Option<Event>| match event {
        Some(Event::SharesReceived { shares, .. }) => shares,
        other => panic!("shares expected: {other:?}"),
    };
    let (mut own, others) = (of(answers.remove(&0)), of(answers.remove(&1)));
    let dealer = fleet.agents[2].identity.agent();
    let strange = others.iter().find(|share| share.agent == dealer).expect("a share").clone();
    for share in &mut own {
        if share.agent == dealer {
            *share = strange.clone();
        }
    }
    let event = Event::SharesReceived {
        cohort: cohort(1),
        shares: own,
    };
    let what = refuses(&mut fleet, 0, event);
    assert!(what.contains("swapped"), "{what}");
}

#[test]
fn should_notice_that_others_were_shown_another_model() {
    // Two descriptors, each honestly signed, over the same roster and graph: the first agent stands on another base than the others.
    let mut fleet = Fleet::at(Activity::Revealing);
    fleet.describe = |place, descriptor| {
        if place == 1 {
            descriptor.deadline = descriptor.deadline.after(Duration::from_secs(1));
        }
    };
    let answers = fleet.answers();
    fleet.deliver(answers);
    let dealt = |agent: &Agent| match agent.did.last() {
        Some(Effect::DealShares(shares)) => shares.clone(),
        other => panic!("shares expected: {other:?}"),
    };
    // Its salt is another one: what the other dealt is signed for a cohort that it does not know.
    let own = fleet.agents[0].identity.agent();
    let mut shares = Vec::new();
    for place in [1, 2] {
        let dealt = dealt(&fleet.agents[place]);
        let mut share = dealt.shares.into_iter().find(|share| share.agent == own).expect("a share");
        share.agent = fleet.agents[place].identity.agent();
        shares.push(share);
    }
    let event = Event::SharesReceived { cohort: cohort(1), shares };
    let what = refuses(&mut fleet, 0, event);
    assert!(what.contains("not signed by it for this agent and cohort"), "{what}");
    let report = fleet.agents[0].reports()[0].clone();
    assert!(report.descriptor.is_some(), "the server can't deny what it signed");
}

#[test]
fn should_unmask_nothing_for_two_sets_of_survivors() {
    // One agent is shown another set than its neighbours: their signatures do not fit.
    let mut fleet = Fleet::new(5);
    while fleet.agents[0].session.activity() != Activity::AwaitingSurvivors {
        fleet.go_on();
    }
    let mut answers = fleet.answers();
    let set = |members: u8| Event::Survivors {
        cohort: cohort(1),
        reply: SurvivorsReply::Set(ByteBuf::from(vec![members])),
    };
    let first = fleet.agents[0].identity.agent();
    let mut order: Vec<_> = fleet.agents.iter().map(|agent| agent.identity.agent()).collect();
    order.sort_unstable();
    let last_other = (0..5).rev().find(|index| order[*index] != first).expect("another one");
    answers.insert(0, set(0b1_1111 & !(1 << last_other)));
    fleet.deliver(answers);
    let signed = |agent: &Agent| match agent.did.last() {
        Some(Effect::Consent(consent)) => aimass_protocol::message::secagg::Agreement {
            agent: agent.identity.agent(),
            signature: consent.signature,
        },
        other => panic!("a consent expected: {other:?}"),
    };
    let others: Vec<_> = fleet.agents[1..].iter().map(signed).collect();
    let event = |agreements| Event::Agreed {
        cohort: cohort(1),
        reply: ConsentReply::Agreed(agreements),
    };
    let own = signed(&fleet.agents[0]);
    let what = refuses(&mut fleet, 0, event(others.clone()));
    assert!(what.contains("shown another set"), "{what}");
    // And to the others that one's signature does not fit.
    let mut for_second: Vec<_> = others[1..].to_vec();
    for_second.push(own);
    let what = refuses(&mut fleet, 1, event(for_second));
    assert!(what.contains("shown another set"), "{what}");
    // With too few signatures nothing is unmasked either.
    let what = refuses(&mut fleet, 2, event(vec![others[2]]));
    assert!(what.contains("are needed"), "{what}");
}

#[test]
fn should_refuse_a_second_set_of_survivors_even_after_it_has_consented_or_revealed() {
    for activity in [Activity::Consenting, Activity::Unmasking] {
        let mut fleet = Fleet::new(5);
        while fleet.agents[0].session.activity() != activity {
            fleet.go_on();
        }
        let same = Event::Survivors {
            cohort: cohort(1),
            reply: SurvivorsReply::Set(ByteBuf::from(vec![0b1_1111])),
        };
        assert_eq!(fleet.agents[0].step(NOW, same), [], "the same set again");
        let spent = fleet.agents[0].disk.spent.len();
        let event = Event::Survivors {
            cohort: cohort(1),
            reply: SurvivorsReply::Set(ByteBuf::from(vec![0b0_1111])),
        };
        // Both secrets of the agent that is in one set and not in the other would be asked for.
        let what = refuses(&mut fleet, 0, event);
        assert!(what.contains("two sets of survivors"), "{what}");
        assert_eq!(fleet.agents[0].disk.spent.len(), spent, "what is spent stays spent");
    }
}

#[test]
fn should_refuse_survivors_that_can_not_be() {
    for (set, part) in [
        (vec![0b1_0111], "5 members"),
        (vec![0b111, 0], "one bit for each"),
        (Vec::new(), "one bit for each"),
        (vec![0b1111_1111], "one bit for each"),
    ] {
        let what = after(Activity::AwaitingSurvivors, |_, _| Event::Survivors {
            cohort: cohort(1),
            reply: SurvivorsReply::Set(ByteBuf::from(set)),
        });
        assert!(what.contains(part) || what.contains("one bit for each"), "{what}");
    }
    let mut fleet = Fleet::new(5);
    while fleet.agents[0].session.activity() != Activity::AwaitingSurvivors {
        fleet.go_on();
    }
    let mut order: Vec<_> = fleet.agents.iter().map(|agent| agent.identity.agent()).collect();
    order.sort_unstable();
    let own = order
        .iter()
        .position(|agent| *agent == fleet.agents[0].identity.agent())
        .expect("a member");
    let event = |set: u8| Event::Survivors {
        cohort: cohort(1),
        reply: SurvivorsReply::Set(ByteBuf::from(vec![set])),
    };
    let what = refuses(&mut fleet, 0, event(0b1_1111 & !(1 << own)));
    assert!(what.contains("does not hold this agent"), "{what}");
    let mut fleet = Fleet::new(5);
    while fleet.agents[0].session.activity() != Activity::AwaitingSurvivors {
        fleet.go_on();
    }
    let alone = (1 << own) | (1 << ((own + 1) % 5));
    let what = refuses(&mut fleet, 0, event(alone));
    assert!(what.contains("only 2 agents survived"), "{what}");
}

#[test]
fn should_not_run_an_abandoned_round_again() {
    // The server says that a round came to nothing after shares were released, and runs it again without one agent: the difference of the two sums
    // would be that agent's update.
    let mut fleet = Fleet::new(5);
    while fleet.agents[0].session.activity() != Activity::Unmasking {
        fleet.go_on();
    }
    for place in 0..5 {
        let abandoned = Event::Unmasked {
            cohort: cohort(1),
            reply: UnmaskReply::Abandoned,
        };
        fleet.agents[place].step(NOW, abandoned);
    }
    for place in 0..4 {
        let before = fleet.agents[place].did.len();
        let contribution = fleet.agents[place].contribution;
        let call = DrawCall {
            cohort: cohort(2),
            draw: 1,
        };
        fleet.agents[place].step(NOW, Event::Draw { contribution, call });
        let task = fleet.task(100, fleet.agents[place].disk.log.size);
        fleet.agents[place].step(NOW, task);
        let agent = &fleet.agents[place];
        assert!(!agent.revealed_after(before));
        let goes_on = |effect: &Effect| matches!(effect, Effect::Fetch { .. } | Effect::Offer(_) | Effect::Advertise(_));
        assert!(!agent.did[before..].iter().any(goes_on), "{:?}", &agent.did[before..]);
        assert_eq!(agent.disk.held, None);
    }
}

#[test]
fn should_refuse_a_log_that_is_rewritten_cut_short_or_not_there() {
    let declines = |fleet: &mut Fleet, task: Event| {
        let agent = &mut fleet.agents[0];
        let before = agent.did.len();
        let effects = agent.step(NOW, task);
        let Some(reason) = effects.iter().find_map(|effect| match effect {
            Effect::Warn(Warning::Declined { reason, .. }) => Some(reason.clone()),
            _ => None,
        }) else {
            panic!("a decline expected: {effects:?}");
        };
        assert!(!agent.did[before..].iter().any(|effect| matches!(effect, Effect::Fetch { .. })));
        (reason, agent.reports().len())
    };
    let asking = || {
        let mut fleet = Fleet::new(3);
        while fleet.agents[0].session.activity() != Activity::CheckingIn {
            fleet.go_on();
        }
        fleet.publish(101);
        fleet
    };
    // Another history of the same length.
    let mut fleet = asking();
    fleet.log = Tree::new();
    fleet.entries.clear();
    for n in [55, 100, 101] {
        fleet.publish(n);
    }
    let task = fleet.task(101, 2);
    let (reason, reports) = declines(&mut fleet, task);
    assert!(reason.contains("rewrote its log") && reports == 1, "{reason}");
    // Entries are gone.
    let mut fleet = asking();
    fleet.log = Tree::new();
    fleet.entries.clear();
    fleet.publish(101);
    let task = fleet.task(101, 0);
    let (reason, reports) = declines(&mut fleet, task);
    assert!(reason.contains("cut short") && reports == 1, "{reason}");
    // No proof: an older server, which serves no secure job.
    let mut fleet = asking();
    let mut task = fleet.task(101, 2);
    if let Event::Task { log, .. } = &mut task {
        *log = None;
    }
    let (reason, reports) = declines(&mut fleet, task);
    assert!(reason.contains("in its log") && reports == 0, "{reason}");
    // A log of its own for a cohort.
    let what = after(Activity::Revealing, |fleet, honest| {
        let Event::Opening { mut descriptor, .. } = honest else {
            panic!("an opening expected");
        };
        descriptor.log.as_mut().expect("a log").root = model(1);
        fleet.opening(0, *descriptor)
    });
    assert!(what.contains("two logs"), "{what}");
}

#[test]
fn should_report_a_descriptor_that_the_driver_refused() {
    let mut fleet = Fleet::at(Activity::Revealing);
    let invalid = Event::Invalid {
        job: job(1),
        reason: "the cohort descriptor is not signed by the server of this connection".to_owned(),
    };
    let what = refuses(&mut fleet, 0, invalid);
    assert!(what.contains("not signed"), "{what}");
}

#[test]
fn should_take_a_wrong_clock_for_no_attack() {
    let mut fleet = Fleet::at(Activity::Revealing);
    let answers: BTreeMap<usize, Event> = fleet.answers();
    let agent = &mut fleet.agents[0];
    agent.session.set_wall_clock(NOW, at_s(1000));
    let effects = agent.step(NOW, answers[&0].clone());
    assert!(matches!(effects.first(), Some(Effect::Warn(Warning::Declined { reason, .. })) if reason.contains("clocks")));
    assert!(agent.reports().is_empty());
}
