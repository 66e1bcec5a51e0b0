//! Models that agents have spent.

use super::super::*;
use super::world::World;
use crate::fixtures::fusing;

fn spent() -> CheckIn {
    CheckIn {
        spent: vec![Held {
            job: job(1),
            base: model(100),
        }],
        ..check_in()
    }
}

fn come(bench: &mut Bench, agents: &[AgentId], check_in: &CheckIn) -> Vec<Effect> {
    let check_ins = agents.iter().flat_map(|agent| {
        bench.step(Event::CheckIn {
            agent: *agent,
            check_in: check_in.clone(),
        })
    });
    check_ins.collect()
}

fn ended(bench: &Bench) -> Option<JobEnd> {
    bench.coordinator.job(job(1)).expect("it is there").ended
}

/// Three members of whom two revealed their shares: the sum stays masked, and both have spent their contributions.
fn given_up() -> (Bench, Vec<AgentId>) {
    let (mut world, agents) = World::joined(3);
    world.all(&agents, World::upload);
    world.all(&agents, World::ask_survivors);
    world.all(&agents, World::consent);
    world.all(&agents[..2], World::unmask);
    world.wait(31);
    world.wait(300);
    assert_eq!(world.phase(), PhaseName::Gathering);
    (world.bench, agents)
}

#[test]
fn should_not_offer_a_model_that_an_agent_has_spent() {
    let mut bench = Bench::new();
    bench.step(Event::AddJob(Box::new(World::spec(3))));
    let mut asked = check_in();
    asked.spent = vec![Held {
        job: job(1),
        base: model(100),
    }];
    let reply = bench.reply(Event::CheckIn {
        agent: agent(1),
        check_in: asked,
    });
    let AgentReply::ComeBack(come_back) = reply else {
        panic!("no work for it: {reply:?}")
    };
    assert!(come_back.reason.contains("next round"), "{}", come_back.reason);
}

#[test]
fn should_end_a_job_whose_agents_have_spent_its_model() {
    let (mut bench, agents) = given_up();
    // All three agreed to the survivors, and marked what they gave as spent.
    for _ in 0..5 {
        come(&mut bench, &agents, &spent());
        assert_eq!(ended(&bench), None, "somebody else may come yet");
        bench.tick_after(60);
    }
    let Some(JobEnd::Failed { reason }) = ended(&bench) else {
        panic!("it waits for ever: {:?}", bench.coordinator.job(job(1)));
    };
    for part in ["3 agents have spent", "a round of 3", "aimass job pull", "job.seed"] {
        assert!(reason.contains(part), "{part:?} is missing in {reason}");
    }
    assert_eq!(bench.coordinator.poll_timeout(), None);
}

#[test]
fn should_say_at_which_time_it_would_end() {
    let (mut bench, agents) = given_up();
    come(&mut bench, &agents, &spent());
    let since = bench.now;
    bench.tick_after(61);
    assert_eq!(bench.coordinator.poll_timeout(), Some(since.after(Duration::from_secs(300))));
    bench.tick_after(238);
    assert_eq!(ended(&bench), None);
    let effects = bench.tick_after(1);
    assert!(
        matches!(
            effects[..],
            [Effect::JobEnded {
                end: JobEnd::Failed { .. },
                ..
            }]
        ),
        "{effects:?}"
    );
}

/// Two that have spent the model would not have made a round: the job lacks agents, as any that waits for more.
#[test]
fn should_wait_on_when_too_few_have_spent_the_model() {
    let (mut bench, agents) = given_up();
    for _ in 0..10 {
        come(&mut bench, &agents[..2], &spent());
        bench.tick_after(60);
    }
    assert_eq!(ended(&bench), None);
}

#[test]
fn should_go_on_with_agents_that_come_later() {
    let (mut bench, agents) = given_up();
    come(&mut bench, &agents, &spent());
    bench.tick_after(290);
    come(&mut bench, &[agent(21), agent(22), agent(23)], &check_in());
    for _ in 0..10 {
        come(&mut bench, &agents, &spent());
        bench.tick_after(60);
    }
    assert_eq!(ended(&bench), None, "there are three others: they may be at work for another job");
    for n in 21..=23 {
        bench.ready(n);
    }
    assert_eq!(bench.phase(), PhaseName::Joining);
}

/// Two jobs that can't be filled would hand the others to and fro for ever.
#[test]
fn should_end_although_others_come_if_they_are_too_few() {
    let (mut bench, agents) = given_up();
    bench.step(Event::Gone { agent: agents[0] });
    for _ in 0..5 {
        come(&mut bench, &agents[1..], &spent());
        come(&mut bench, &[agent(21)], &check_in());
        assert_eq!(ended(&bench), None, "who was here a moment ago may be back");
        bench.tick_after(60);
    }
    assert!(matches!(ended(&bench), Some(JobEnd::Failed { .. })));
    // Who declines, or was revoked, can't be counted on.
    let (mut bench, agents) = given_up();
    come(&mut bench, &[agent(21), agent(22), agent(23)], &check_in());
    let declined = CheckIn {
        declined: vec![job(1)],
        ..check_in()
    };
    for _ in 0..6 {
        come(&mut bench, &agents, &spent());
        come(&mut bench, &[agent(21)], &declined);
        bench.step(Event::Revoked { agent: agent(22) });
        bench.tick_after(60);
    }
    assert!(matches!(ended(&bench), Some(JobEnd::Failed { .. })));
}

/// Every secure round spends its base. That is over with the next model.
#[test]
fn should_not_end_over_a_model_that_was_published_on() {
    let (mut world, agents) = World::joined(3);
    world.all(&agents, World::upload);
    world.finish(&agents);
    come(&mut world.bench, &agents, &spent());
    world.bench.publish(1, 101);
    for _ in 0..10 {
        come(&mut world.bench, &agents, &spent());
        world.bench.tick_after(60);
    }
    assert_eq!(ended(&world.bench), None);
}

fn published(world: &mut World, round: u32, base: u8) -> Vec<Effect> {
    world.step(Event::Published {
        job: job(1),
        round,
        base: model(base),
        base_bytes: 1000,
        accuracy: None,
    })
}

#[test]
fn should_go_on_from_the_same_model_within_a_block_and_know_who_has_given_to_it() {
    let (mut world, agents) = World::joined_with(3, |spec| fusing(&mut spec.file));
    world.all(&agents, World::upload);
    world.finish(&agents);
    published(&mut world, 1, 100);
    assert_eq!((world.phase(), ended(&world.bench)), (PhaseName::Gathering, None));
    let view = world.bench.coordinator.job(job(1)).expect("it is there");
    assert_eq!((view.round, view.base), (1, model(100)));
    let told = come(&mut world.bench, &agents, &spent());
    let come_backs = told.iter().filter(|effect| {
        matches!(
            effect,
            Effect::Reply {
                reply: AgentReply::ComeBack(_),
                ..
            }
        )
    });
    assert_eq!(come_backs.count(), 3, "each is in one group: {told:?}");
    // Who has not given yet trains from the very same model.
    let told = come(&mut world.bench, &[agent(21)], &check_in());
    assert!(
        matches!(&told[..], [Effect::Reply { reply: AgentReply::Task { base, round: 2, .. }, .. }] if *base == model(100)),
        "{told:?}"
    );
}

#[test]
fn should_end_a_job_whose_groups_are_fused_to_the_model_that_they_began_with() {
    let (mut world, agents) = World::joined_with(3, |spec| {
        fusing(&mut spec.file);
        spec.next_round = 2;
    });
    world.all(&agents, World::upload);
    world.finish(&agents);
    published(&mut world, 2, 100);
    assert!(matches!(ended(&world.bench), Some(JobEnd::Failed { reason }) if reason.contains("gave back the model")));
}

#[test]
fn should_name_the_groups_where_agents_run_out_within_a_block() {
    let (mut world, agents) = World::joined_with(3, |spec| fusing(&mut spec.file));
    world.all(&agents, World::upload);
    world.finish(&agents);
    published(&mut world, 1, 100);
    for _ in 0..6 {
        come(&mut world.bench, &agents, &spent());
        world.bench.tick_after(60);
    }
    let Some(JobEnd::Failed { reason }) = ended(&world.bench) else {
        panic!("it waits for ever: {:?}", world.bench.coordinator.job(job(1)));
    };
    for part in ["an earlier group of the 2", "a round of 3", "6 agents at least"] {
        assert!(reason.contains(part), "{part:?} is missing in {reason}");
    }
}
