//! A server that is killed while a round with masks runs.

use super::super::*;
use super::world::World;

/// A server that was killed, with what its driver kept.
fn restarted(world: &World, survivors: Option<&[AgentId]>, unmasking: Option<UnmaskingRecord>, durable: &[AgentId]) -> Bench {
    let of = |agent: &AgentId| (*agent, world.members[agent].contribution);
    let json = serde_json::to_string(&OpenRound {
        survivors: survivors.map(|all| all.iter().map(of).collect()),
        unmasking,
        ..world.opened.clone().expect("durable")
    });
    let open: OpenRound = serde_json::from_str(&json.expect("it can be stored")).expect("and read again");
    let mut bench = Bench::new();
    bench.now = world.bench.now;
    let spec = JobSpec {
        open: Some(RestoredRound {
            open,
            durable: durable.iter().map(of).collect(),
        }),
        ..World::spec(world.members.len() as u32)
    };
    bench.step(Event::AddJob(Box::new(spec)));
    for agent in durable {
        bench.step(Event::Added {
            agent: *agent,
            cohort: world.cohort,
        });
    }
    bench
}

#[test]
fn should_go_on_after_a_kill_between_any_two_steps() {
    // In the midst of the uploads.
    let (mut world, agents) = World::joined(6);
    world.all(&agents[..3], World::upload);
    world.bench = restarted(&world, None, None, &agents[..3]);
    assert_eq!(world.phase(), PhaseName::Collecting);
    world.all(&agents[3..], World::upload);
    world.finish(&agents);

    // When the survivors are sealed, some have signed and some have revealed.
    let (mut world, agents) = World::joined(6);
    world.all(&agents, World::upload);
    world.all(&agents, World::ask_survivors);
    world.all(&agents, World::consent);
    world.all(&agents[..2], World::unmask);
    world.bench = restarted(&world, Some(&agents), None, &agents);
    assert_eq!(world.phase(), PhaseName::Unmasking);
    assert_eq!(world.unmasking, None);
    for agent in &agents {
        world
            .told
            .get_mut(agent)
            .expect("told")
            .retain(|reply| matches!(reply, AgentReply::Consent(_)));
    }
    world.all(&agents, World::unmask);
    assert_eq!(world.phase(), PhaseName::Publishing);
    assert_eq!(world.unmasked(), world.expected(&agents));

    // When the masks are known.
    let bench = restarted(&world, Some(&agents), world.unmasking.clone(), &agents);
    assert_eq!(bench.phase(), PhaseName::Publishing);
}

#[test]
fn should_never_take_another_set_of_survivors_after_a_kill() {
    let (mut world, agents) = World::joined(6);
    world.all(&agents, World::upload);
    world.all(&agents, World::ask_survivors);
    let first = world.last(agents[0]).clone();
    // One of the sealed inputs could not be read again: the sum is lost, not another one made.
    let bench = restarted(&world, Some(&agents), None, &agents[1..]);
    assert_ne!(bench.phase(), PhaseName::Unmasking);
    world.bench = restarted(&world, Some(&agents), None, &agents);
    world.ask_survivors(agents[0]);
    assert_eq!(*world.last(agents[0]), first);
}

#[test]
fn should_try_again_to_read_what_a_sealed_sum_is_made_of() {
    let (mut world, agents) = World::joined(6);
    world.all(&agents, World::upload);
    world.all(&agents, World::ask_survivors);
    world.all(&agents, World::consent);
    world.all(&agents[..2], World::unmask);
    let of = |agent: &AgentId| (*agent, world.members[agent].contribution);
    let open = OpenRound {
        survivors: Some(agents.iter().map(of).collect()),
        ..world.opened.clone().expect("durable")
    };
    let durable = agents.iter().map(of).collect();
    let mut bench = Bench::new();
    bench.now = world.bench.now;
    bench.step(Event::AddJob(Box::new(JobSpec {
        open: Some(RestoredRound { open, durable }),
        ..World::spec(6)
    })));
    let cohort = world.cohort;
    for agent in &agents[1..] {
        bench.step(Event::Added { agent: *agent, cohort });
    }
    let failed = Event::AddFailed {
        agent: agents[0],
        cohort,
        code: ErrorCode::Unavailable,
    };
    for _ in 0..3 {
        assert_eq!(bench.step(failed.clone()), [], "it is not given up");
        let effects = bench.tick_after(40);
        assert!(
            matches!(effects[..], [Effect::Add { agent, .. }] if agent == agents[0]),
            "{effects:?}"
        );
    }
    bench.step(Event::Added { agent: agents[0], cohort });
    assert_eq!(bench.phase(), PhaseName::Unmasking);
}
