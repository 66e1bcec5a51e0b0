//! Rounds whose inputs are masked, with the real machines of the agents.

mod restart;
mod spent;
mod table;
mod world;

use aimass_protocol::message::secagg::{Consent, ConsentReply, Reveal, Shares, SurvivorsReply, UnmaskReply};
use aimass_protocol::{Digest, SignatureBytes};

use self::world::World;
use super::*;

fn is_refused(reply: &AgentReply, code: ErrorCode) -> bool {
    matches!(reply, AgentReply::Refused { refusal, .. } if refusal.code == code)
}

#[test]
fn should_publish_the_sum_of_masked_inputs() {
    for n in [3, 5, 12] {
        let (mut world, agents) = World::joined(n);
        let opened = world.opened.clone().expect("durable before shares are handed out");
        assert_eq!(opened.members.len(), usize::from(n));
        world.all(&agents, World::upload);
        world.finish(&agents);
        assert!(
            agents
                .iter()
                .all(|agent| *world.last(*agent) == AgentReply::Unmask(UnmaskReply::Taken))
        );
        let published = world.step(Event::Published {
            job: job(1),
            round: 1,
            base: model(101),
            base_bytes: 1000,
            accuracy: None,
        });
        assert_eq!(world.phase(), PhaseName::Gathering, "{published:?}");
    }
}

#[test]
fn should_go_on_without_those_who_drop_out_at_any_step() {
    // Who is missing from which step on: adverts, shares, uploads, survivors, consents, unmask shares.
    for missing_from in 0..6 {
        let mut world = World::drawn(10);
        let all = world.agents();
        let stayed = &all[2..];
        let who = |step: usize| if missing_from <= step { stayed } else { &all[..] };
        let wait_for = |world: &mut World, step: usize| {
            if who(step).len() < all.len() {
                world.wait(31);
            }
        };
        world.all(who(0), World::advert);
        wait_for(&mut world, 0);
        world.all(who(0), World::reveal);
        world.all(who(1), World::shares);
        wait_for(&mut world, 1);
        assert_eq!(world.phase(), PhaseName::Collecting, "missing from step {missing_from}");
        world.all(who(2), World::upload);
        if world.phase() == PhaseName::Collecting {
            world.wait(61);
        }
        assert_eq!(world.phase(), PhaseName::Unmasking, "missing from step {missing_from}");
        world.all(who(3), World::ask_survivors);
        world.all(who(4), World::consent);
        world.wait(31);
        world.all(who(5), World::unmask);
        world.wait(31);
        assert_eq!(world.phase(), PhaseName::Publishing, "missing from step {missing_from}");
        assert_eq!(world.unmasked(), world.expected(who(2)), "missing from step {missing_from}");
    }
}

#[test]
fn should_draw_again_without_who_keeps_its_part_back_and_give_up_after_three_draws() {
    let mut world = World::drawn(8);
    let mut agents = world.agents();
    for draw in 1..=3u8 {
        world.all(&agents, World::advert);
        let silent = agents.remove(0);
        world.all(&agents, World::reveal);
        assert_eq!(world.phase(), PhaseName::Joining);
        world.wait(31);
        if draw < 3 {
            assert!(
                agents
                    .iter()
                    .all(|agent| matches!(world.last(*agent), AgentReply::DrawAgain(call) if call.draw == draw + 1))
            );
            assert!(!matches!(world.last(silent), AgentReply::DrawAgain(_)));
        }
    }
    assert_eq!(world.phase(), PhaseName::Gathering);
    assert!(
        agents.iter().all(|agent| is_refused(world.last(*agent), ErrorCode::CohortUnknown)),
        "they offer again"
    );
    // And can be a cohort anew.
    world.all(&agents, World::offer);
    world.wait(61);
    assert_eq!(world.phase(), PhaseName::Joining);
}

#[test]
fn should_abandon_a_sum_that_too_few_can_unmask_and_reveal_nothing() {
    // Five in a complete graph: four shares are needed.
    let (mut world, agents) = World::joined(5);
    world.all(&agents[..3], World::upload);
    let effects = world.wait(61);
    assert_eq!(world.phase(), PhaseName::Gathering);
    assert!(effects.contains(&Effect::DropSum { cohort: world.cohort }));
    world.all(&agents[..3], World::ask_survivors);
    assert!(
        agents[..3]
            .iter()
            .all(|agent| *world.last(*agent) == AgentReply::Survivors(SurvivorsReply::NotIncluded))
    );
    assert_eq!(world.unmasking, None);
}

#[test]
fn should_abandon_the_sum_at_once_when_too_many_have_lost_their_keys() {
    let (mut world, agents) = World::joined(5);
    world.all(&agents, World::upload);
    world.all(&agents, World::ask_survivors);
    world.all(&agents[..3], World::consent);
    for agent in &agents[3..] {
        let query = OutcomeQuery {
            job: job(1),
            cohort: world.cohort,
            contribution: world.members[agent].contribution,
        };
        world.step(Event::Outcome { agent: *agent, query });
    }
    assert_eq!(
        world.phase(),
        PhaseName::Gathering,
        "two were started anew: three shares are left, four are needed"
    );
    assert!(
        agents[..3]
            .iter()
            .all(|agent| *world.last(*agent) == AgentReply::Consent(ConsentReply::NotIncluded))
    );
    assert!(
        agents[3..]
            .iter()
            .all(|agent| *world.last(*agent) == AgentReply::Outcome(OutcomeReply::NotIncluded))
    );
}

#[test]
fn should_wait_long_for_a_survivor_once_others_have_revealed_their_shares() {
    let (mut world, agents) = World::joined(3);
    world.all(&agents, World::upload);
    world.all(&agents, World::ask_survivors);
    world.all(&agents, World::consent);
    world.all(&agents[..2], World::unmask);
    world.wait(240);
    assert_eq!(
        world.phase(),
        PhaseName::Unmasking,
        "what two have revealed is spent, whatever becomes of it"
    );
    world.unmask(agents[2]);
    assert_eq!(world.phase(), PhaseName::Publishing);
}

#[test]
fn should_give_up_a_sum_whose_survivors_could_not_be_stored() {
    let (mut world, agents) = World::joined(3);
    world.all(&agents, World::upload);
    let cohort = world.cohort;
    let reason = "disk full".to_owned();
    let effects = world.step(Event::SealFailed { cohort, reason });
    assert!(effects.contains(&Effect::DropSum { cohort }));
    assert_eq!(world.phase(), PhaseName::Gathering);
    world.all(&agents, World::ask_survivors);
    for agent in &agents {
        assert_eq!(*world.last(*agent), AgentReply::Survivors(SurvivorsReply::NotIncluded));
    }
}

#[test]
fn should_drop_an_agent_that_breaks_the_protocol_and_go_on() {
    let mut world = World::drawn(8);
    let agents = world.agents();
    world.all(&agents, World::advert);
    world.all(&agents[1..], World::reveal);
    // A nonce that is not the one that it committed to.
    let reveal = Reveal {
        cohort: world.cohort,
        draw: 1,
        nonce: Digest::from_bytes([1; 32]),
    };
    world.secure(agents[0], SecureStep::Reveal(reveal));
    assert!(is_refused(world.last(agents[0]), ErrorCode::SecAgg), "{:?}", world.last(agents[0]));
    world.wait(1);
    let rest = &agents[1..];
    assert!(
        rest.iter().all(|agent| matches!(world.last(*agent), AgentReply::DrawAgain(_))),
        "at once"
    );
    world.all(rest, World::advert);
    world.all(rest, World::reveal);
    // Shares whose signatures are another's.
    world.all(&rest[1..], World::shares);
    let forged = Shares {
        cohort: world.cohort,
        shares: Vec::new(),
    };
    world.deal(rest[0], &forged);
    assert!(is_refused(world.last(rest[0]), ErrorCode::SecAgg));
    world.wait(1);
    assert_eq!(world.phase(), PhaseName::Collecting);
    let rest = &rest[1..];
    world.all(rest, World::upload);
    world.all(rest, World::ask_survivors);
    // A signature under nothing, and shares that are none: neither counts.
    let consent = Consent {
        cohort: world.cohort,
        signature: SignatureBytes::from_bytes([0; 64]),
    };
    world.secure(rest[0], SecureStep::Consent(consent));
    assert!(is_refused(world.last(rest[0]), ErrorCode::SecAgg));
    world.all(&rest[1..], World::consent);
    world.wait(31);
    world.all(&rest[1..], World::unmask);
    world.wait(31);
    assert_eq!(world.phase(), PhaseName::Publishing);
    assert_eq!(world.unmasked(), world.expected(rest), "its input stays in the sum");
}

#[test]
fn should_answer_a_repeated_step_as_before() {
    let mut world = World::drawn(5);
    let agents = world.agents();
    let one = agents[0];
    world.offer(one);
    assert!(matches!(world.last(one), AgentReply::Draw(_)), "it did not hear the first call");
    world.all(&agents, World::advert);
    let repeat = |world: &mut World, step: fn(&mut World, AgentId), before: &AgentReply| {
        let told = world.told.get_mut(&one).expect("told");
        told.push(before.clone());
        step(world, one);
        world.last(one).clone()
    };
    let call = world.told[&one]
        .iter()
        .find(|reply| matches!(reply, AgentReply::Draw(_)))
        .expect("called")
        .clone();
    let roster = world.last(one).clone();
    assert_eq!(repeat(&mut world, World::advert, &call), roster);
    world.all(&agents, World::reveal);
    let opening = world.last(one).clone();
    assert_eq!(repeat(&mut world, World::reveal, &roster), opening);
    world.all(&agents, World::shares);
    let shares = world.last(one).clone();
    assert_eq!(repeat(&mut world, World::shares, &opening), shares);
    world.all(&agents, World::upload);
    world.finish(&agents);
}

#[test]
fn should_unmask_a_sum_of_all_that_the_floor_asks_for_without_one_that_lost_its_keys() {
    // Six, all of whom the job wants in its sum: five can unmask it.
    let (mut world, agents) = World::joined_with(6, |spec| {
        spec.file.round.min = 6;
        spec.file.aggregation.floor = 6;
    });
    world.all(&agents, World::upload);
    world.all(&agents[1..], World::ask_survivors);
    world.all(&agents[1..], World::consent);
    let query = OutcomeQuery {
        job: job(1),
        cohort: world.cohort,
        contribution: world.members[&agents[0]].contribution,
    };
    world.step(Event::Outcome { agent: agents[0], query });
    world.all(&agents[1..], World::unmask);
    assert_eq!(world.phase(), PhaseName::Publishing);
    assert_eq!(world.unmasked(), world.expected(&agents));
}

#[test]
fn should_let_go_of_a_member_that_lost_its_keys_before_its_upload() {
    let (mut world, agents) = World::joined(6);
    world.offer(agents[0]);
    world.all(&agents[1..], World::upload);
    assert_eq!(world.phase(), PhaseName::Unmasking, "nobody waits for it");
    assert_eq!(
        world.bench.coordinator.job(job(1)).expect("there").ready,
        1,
        "it waits for the next cohort"
    );
    world.finish(&agents[1..]);
}
