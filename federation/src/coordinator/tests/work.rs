//! Who is offered what.

use aimass_protocol::job::Requirement;

use super::*;

fn come_back(reply: AgentReply) -> ComeBack {
    match reply {
        AgentReply::ComeBack(come_back) => come_back,
        other => panic!("no work expected, got {other:?}"),
    }
}

fn task(reply: &AgentReply) -> Option<u8> {
    match reply {
        AgentReply::Task { job, .. } => Some(job.as_bytes()[0]),
        _ => None,
    }
}

#[test]
fn should_fill_one_round_after_the_other_the_highest_priority_first_then_the_smallest_id() {
    let mut bench = Bench::new();
    for (n, priority) in [(1, 50), (2, 70), (3, 70)] {
        let mut spec = job_spec(n);
        spec.file.job.priority = priority;
        spec.file.round.max = 3;
        bench.step(Event::AddJob(Box::new(spec)));
    }
    let served: Vec<_> = (1..=9).map(|n| task(&bench.check_in(n))).collect();
    let expected = [2, 2, 2, 3, 3, 3, 1, 1, 1].map(Some);
    assert_eq!(served, expected);
    assert!(come_back(bench.check_in(10)).reason.contains("all the agents that it takes"));
}

#[test]
fn should_offer_only_what_fits_and_say_why_nothing_does() {
    let mut bench = Bench::new();
    assert_eq!(come_back(bench.check_in(1)).reason, "no job is running");
    let mut spec = job_spec(1);
    spec.file.job.tags = vec!["eu".to_owned(), "gpu".to_owned()];
    bench.step(Event::AddJob(Box::new(spec)));

    let mut ask = |edit: &dyn Fn(&mut CheckIn)| {
        let mut check_in = check_in();
        edit(&mut check_in);
        bench.reply(Event::CheckIn { agent: agent(1), check_in })
    };
    assert!(come_back(ask(&|c| c.contracts.clear())).reason.contains("digits"));
    assert!(come_back(ask(&|_| {})).reason.contains("tags"));
    let gpu = |c: &mut CheckIn| c.capabilities.tags.push("gpu".to_owned());
    assert!(
        come_back(ask(&|c| {
            gpu(c);
            c.declined.push(job(1));
        }))
        .reason
        .contains("declines")
    );
    assert_eq!(task(&ask(&gpu)), Some(1));
}

#[test]
fn should_offer_a_job_only_to_the_devices_that_it_is_for() {
    let mut bench = Bench::new();
    let mut spec = job_spec(1);
    spec.file.job.device_classes = vec!["gateway".to_owned(), "phone".to_owned()];
    spec.file.job.require = Some(Requirement::parse("cores >= 4 or tag(\"fast\")").expect("a requirement"));
    bench.step(Event::AddJob(Box::new(spec)));

    let mut ask = |class: &str, cores: u32, tag: Option<&str>| {
        let mut check_in = check_in();
        check_in.capabilities.device_class = class.to_owned();
        check_in.capabilities.cores = cores;
        check_in.capabilities.tags.extend(tag.map(str::to_owned));
        bench.reply(Event::CheckIn { agent: agent(1), check_in })
    };
    let reason = come_back(ask("watch", 4, None)).reason;
    assert!(reason.contains("\"gateway\", \"phone\""), "{reason}");
    let reason = come_back(ask("phone", 2, None)).reason;
    assert!(reason.contains("requires cores >= 4 or tag(\"fast\")"), "{reason}");
    assert_eq!(task(&ask("phone", 2, Some("fast"))), Some(1));
    assert_eq!(task(&ask("gateway", 4, None)), Some(1));
}

#[test]
fn should_seat_max_agents_and_give_the_seats_of_silent_ones_to_others() {
    let mut bench = Bench::with_job();
    for n in 1..=4 {
        assert_eq!(task(&bench.check_in(n)), Some(1));
    }
    assert_eq!(task(&bench.check_in(5)), None);
    assert_eq!(task(&bench.check_in(4)), Some(1), "asking again keeps the seat");

    bench.step(Event::Gone { agent: agent(1) });
    bench.tick_after(29);
    assert_eq!(task(&bench.check_in(5)), None, "agent 1 may come back");
    bench.tick_after(1);
    assert_eq!(task(&bench.check_in(5)), Some(1));
    assert_eq!(task(&bench.check_in(1)), None, "its seat is taken");

    bench.tick_after(30);
    assert_eq!(
        task(&bench.check_in(1)),
        Some(1),
        "agents 2 to 4 took seats a minute ago and said nothing since"
    );
}

#[test]
fn should_keep_the_seat_of_an_agent_that_came_back_in_time() {
    let mut bench = Bench::with_job();
    for n in 1..=4 {
        bench.check_in(n);
    }
    bench.step(Event::Gone { agent: agent(1) });
    bench.tick_after(20);
    bench.check_in(1);
    bench.tick_after(20);
    assert_eq!(task(&bench.check_in(5)), None);
}

#[test]
fn should_let_through_who_holds_a_contribution_for_the_base_whatever_the_seats_and_the_phase() {
    let mut bench = Bench::with_job();
    for n in 1..=4 {
        bench.check_in(n);
    }
    let with = |base| {
        let mut check_in = check_in();
        check_in.held.push(Held { job: job(1), base });
        Event::CheckIn { agent: agent(9), check_in }
    };
    assert_eq!(task(&bench.reply(with(model(100)))), Some(1));
    assert_eq!(task(&bench.reply(with(model(99)))), None, "that base is not the current one");
    bench.gather(3);
    assert_eq!(bench.phase(), PhaseName::Collecting);
    assert_eq!(task(&bench.reply(with(model(100)))), Some(1));
    assert!(
        come_back(bench.check_in(8)).reason.contains("being summed"),
        "to train now would be for nothing"
    );
}

#[test]
fn should_spread_the_idle_and_slow_them_down_in_a_crowd() {
    let mut bench = Bench::new();
    let delays: Vec<_> = (1..=50).map(|n| come_back(bench.check_in(n)).after_ms).collect();
    assert!(
        delays.iter().all(|ms| (1000..=3000).contains(ms)),
        "half to one and a half times of 2 s: {delays:?}"
    );
    let mut distinct = delays.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(distinct.len() > 40, "{delays:?}");

    let mut crowd = Bench::new();
    let config = Config {
        check_ins_per_s: 1,
        ..Config::default()
    };
    crowd.coordinator = Coordinator::new(config);
    let last = (1..=100).map(|n| come_back(crowd.check_in(n)).after_ms).last();
    assert!(
        last >= Some(50_000),
        "100 agents at 1 a second stay away for 100 s on average: {last:?}"
    );
}

#[test]
fn should_refuse_a_check_in_over_the_limits() {
    let mut bench = Bench::with_job();
    let before = bench.coordinator.clone();
    for edit in [
        (|c: &mut CheckIn| c.capabilities.tags = vec!["t".to_owned(); 33]) as fn(&mut CheckIn),
        |c| c.contracts = vec!["t".to_owned(); 33],
        |c| c.contracts = vec!["t".repeat(65)],
    ] {
        let mut check_in = check_in();
        edit(&mut check_in);
        assert_eq!(bench.refusal(Event::CheckIn { agent: agent(1), check_in }), ErrorCode::TooLarge);
    }
    assert!(before == bench.coordinator, "nothing changed");
}

#[test]
fn should_end_a_job_that_can_never_have_a_round() {
    let mut spec = job_spec(1);
    spec.file.aggregation.floor = 5;
    let effects = Bench::new().step(Event::AddJob(Box::new(spec)));
    assert!(
        matches!(&effects[..], [Effect::JobEnded { end: JobEnd::Failed { reason }, .. }] if reason.contains("round.max")),
        "{effects:?}"
    );
}
