use std::time::Duration;

use aimass_protocol::descriptor::{CodecName, CodecParams, Descriptor, Profile};
use aimass_protocol::job::{AggregationMode, JobFile, RoundMode};
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::{ComeBack, OutcomeReply};
use aimass_protocol::{ErrorCode, TenantId, Timestamp};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::RequestKind;
use crate::fixtures::{agent, at_s, capabilities, cohort, contribution, identity, job, job_file, model, rng};

mod cheats;
mod document;
mod fleet;
mod invariants;
mod policy;
mod secure;
mod table;

pub(super) fn config() -> Config {
    let policy = Policy {
        allow_plain: true,
        min_survivors: 2,
        min_profile: Profile::Standard,
        purposes: vec!["research".to_owned()],
    };
    Config::new(policy, capabilities(), vec!["digits".to_owned()], Config::seed_of(agent(1)))
}

/// Fits [`job_file`], job 1 and model 100.
pub(super) fn descriptor() -> Descriptor {
    Descriptor {
        version: 1,
        tenant: TenantId::default(),
        job: job(1),
        round: 1,
        cohort: cohort(1),
        bases: vec![model(100)],
        layout_digest: model(200),
        codec: CodecParams {
            codec: CodecName::Fixed,
            bits: 16,
            clip: 1.0,
            weight_cap: 100,
        },
        mode: AggregationMode::Plain,
        members: 3,
        floor: 2,
        deadline: at_s(1060),
        rotation: None,
        log: None,
        secagg: None,
    }
}

type Edit<T> = fn(&mut T);

/// An agent whose server says what a test wants. What it is told is about plain jobs: [`fleet`] has the others.
struct Bench {
    session: Session,
    now: Timestamp,
    identity: Identity,
    rng: ChaCha8Rng,
}

impl Bench {
    fn resumed(config: Config, snapshot: Snapshot) -> Self {
        Self {
            session: Session::new(config, snapshot),
            now: at_s(1000),
            identity: identity(),
            rng: rng(7),
        }
    }

    /// Connected and asking for work.
    fn new() -> Self {
        let mut bench = Self::resumed(config(), Snapshot::default());
        assert_eq!(bench.step(Event::Tick), [Effect::Connect]);
        assert!(matches!(&bench.step(Event::Connected)[..], [Effect::CheckIn(_)]));
        bench
    }

    /// Just arrived at this activity, the regular way.
    fn at(activity: Activity) -> Self {
        let mut bench = Self::new();
        if activity == Activity::Idle {
            bench.step(Event::ComeBack(ComeBack {
                after_ms: 5000,
                reason: "no job is running".to_owned(),
                spread_ms: 0,
            }));
        }
        let way = [
            task(&|_| {}),
            Event::Fetched { base: model(100) },
            trained(),
            joined(&|_| {}),
            Event::Encoded {
                contribution: contribution(1),
                cohort: cohort(1),
            },
            Event::Accepted {
                contribution: contribution(1),
                cohort: cohort(1),
            },
        ];
        for event in way {
            if bench.session.activity() != activity {
                bench.step(event);
            }
        }
        assert_eq!(bench.session.activity(), activity);
        bench
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut out = Vec::new();
        let mut hands = Hands {
            rng: &mut self.rng,
            identity: &self.identity,
        };
        self.session.step(self.now, event, &mut hands, &mut out);
        out
    }

    fn tick_after(&mut self, seconds: u64) -> Vec<Effect> {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.step(Event::Tick)
    }

    /// Waits for the next timer.
    fn tick(&mut self) -> Vec<Effect> {
        self.now = self.session.poll_timeout().expect("there is a timer");
        self.step(Event::Tick)
    }

    fn declines(&mut self, event: Event) -> String {
        match self.step(event).first() {
            Some(Effect::Warn(Warning::Declined { reason, .. })) => reason.clone(),
            other => panic!("a decline expected, got {other:?}"),
        }
    }
}

fn task(edit: &dyn Fn(&mut JobFile)) -> Event {
    let mut file = job_file("digits");
    edit(&mut file);
    Event::Task {
        job: job(1),
        file: Box::new(file),
        round: 1,
        base: model(100),
        base_bytes: 1000,
        finish_within_ms: None,
        log: None,
        server: identity().key.public(),
    }
}

/// The same with an end.
fn hurried(within_ms: u64) -> Event {
    let mut event = task(&|_| {});
    if let Event::Task { finish_within_ms, .. } = &mut event {
        *finish_within_ms = Some(within_ms);
    }
    event
}

fn dropped() -> Effect {
    Effect::DropTask {
        job: job(1),
        base: model(100),
    }
}

fn trained() -> Event {
    Event::Trained {
        job: job(1),
        base: model(100),
        contribution: contribution(1),
    }
}

fn joined(edit: &dyn Fn(&mut Descriptor)) -> Event {
    let mut descriptor = descriptor();
    edit(&mut descriptor);
    Event::Cohort {
        contribution: contribution(1),
        descriptor: Box::new(descriptor),
    }
}

fn refused(request: RequestKind, code: ErrorCode) -> Event {
    Event::Refused {
        request,
        refusal: Refusal::new(code, "no"),
    }
}

fn outcome(reply: OutcomeReply) -> Event {
    Event::Outcome {
        contribution: contribution(1),
        reply,
    }
}

#[test]
fn should_decline_before_training_what_the_policy_forbids() {
    let cases: [(Edit<JobFile>, &str); 3] = [
        (|file| file.aggregation.mode = AggregationMode::Secure, "is in its log"),
        (|file| file.job.purpose = "adverts".to_owned(), "policy.purposes"),
        (|file| file.aggregation.floor = 1, "policy.min_survivors"),
    ];
    for (edit, part) in cases {
        let mut bench = Bench::new();
        let reason = bench.declines(task(&edit));
        assert!(reason.contains(part), "{reason}");
        assert_eq!(bench.session.activity(), Activity::CheckingIn);
    }
    let mut careful = Bench::resumed(
        Config {
            policy: Policy::default(),
            ..config()
        },
        Snapshot::default(),
    );
    careful.step(Event::Tick);
    careful.step(Event::Connected);
    let reason = careful.declines(task(&|_| {}));
    assert!(reason.contains("--allow-plain"), "plain is not allowed by default: {reason}");
}

#[test]
fn should_tell_the_server_what_it_declines_and_not_run_in_circles() {
    let mut bench = Bench::new();
    let effects = bench.step(task(&|file| file.job.purpose = "adverts".to_owned()));
    assert!(matches!(effects.last(), Some(Effect::CheckIn(check_in)) if check_in.declined == [job(1)]));
    assert!(matches!(&bench.step(task(&|_| {}))[..], [Effect::Sleep { .. }]), "it was told so");
}

#[test]
fn should_ask_again_for_a_job_that_failed_here_after_a_while() {
    let mut bench = Bench::at(Activity::Training);
    let effects = bench.step(Event::TrainFailed {
        job: job(1),
        reason: "no data".to_owned(),
    });
    assert!(matches!(effects.last(), Some(Effect::CheckIn(check_in)) if check_in.declined == [job(1)]));
    bench.step(Event::ComeBack(ComeBack {
        after_ms: 299_000,
        reason: String::new(),
        spread_ms: 0,
    }));
    assert!(matches!(&bench.tick_after(299)[..], [Effect::CheckIn(check_in)] if check_in.declined == [job(1)]));
    bench.step(Event::ComeBack(ComeBack {
        after_ms: 1000,
        reason: String::new(),
        spread_ms: 0,
    }));
    assert!(matches!(&bench.tick_after(1)[..], [Effect::CheckIn(check_in)] if check_in.declined.is_empty()));
}

#[test]
fn should_refuse_a_descriptor_that_gives_less_than_was_signed() {
    let cases: [(Edit<Descriptor>, &str); 12] = [
        (|d| d.version = 2, "version"),
        (|d| d.job = job(2), "another job"),
        (|d| d.bases = vec![model(9)], "another base"),
        (|d| d.bases.push(model(9)), "more base models"),
        (|d| d.bases.push(model(100)), "more base models"),
        (|d| d.mode = AggregationMode::Secure, "mode"),
        (|d| d.floor = 1, "min_survivors"),
        (|d| d.codec.clip = 1e9, "codec"),
        (|d| d.codec.weight_cap = 1, "codec"),
        (|d| d.members = 1, "members"),
        (|d| d.deadline = at_s(1), "passed"),
        (|d| d.deadline = at_s(1000 + 60 + 86_401), "past the round"),
    ];
    for (edit, part) in cases {
        let mut bench = Bench::at(Activity::Offering);
        if part == "passed" {
            bench.now = at_s(86_402);
        }
        let reason = bench.declines(joined(&edit));
        assert!(reason.contains(part), "{part}: {reason}");
        assert_eq!(bench.session.snapshot(), Snapshot::default(), "the contribution is of no use");
    }
    let mut strict = config();
    strict.policy.min_survivors = 1;
    let mut bench = Bench::resumed(strict, Bench::at(Activity::Offering).session.snapshot());
    bench.step(Event::Connected);
    let reason = bench.declines(joined(&|d| d.floor = 1));
    assert!(reason.contains("lower floor than the signed job"), "{reason}");
}

#[test]
fn should_join_an_asynchronous_cohort_with_a_base_that_is_stale_within_bounds() {
    let offering = |max_staleness| {
        let mut bench = Bench::new();
        bench.step(task(&|file| {
            file.round.mode = RoundMode::Async;
            file.round.max_staleness = max_staleness;
        }));
        bench.step(Event::Fetched { base: model(100) });
        bench.step(trained());
        bench
    };
    let bases = vec![model(102), model(101), model(100)];
    let mut bench = offering(2);
    let effects = bench.step(joined(&|d| d.bases.clone_from(&bases)));
    assert!(matches!(&effects[..], [Effect::Persist, Effect::Encode { .. }]), "{effects:?}");
    let reason = offering(1).declines(joined(&|d| d.bases.clone_from(&bases)));
    assert!(reason.contains("more base models"), "{reason}");
    let reason = offering(5).declines(joined(&|d| d.bases = vec![model(101), model(100), model(100)]));
    assert!(reason.contains("twice"), "{reason}");
    let reason = offering(5).declines(joined(&|d| d.bases = vec![model(101), model(102)]));
    assert!(reason.contains("another base"), "{reason}");
}

#[test]
fn should_go_on_after_a_kill_where_it_was() {
    let cases = [
        (Activity::CheckingIn, Activity::CheckingIn),
        (Activity::Fetching, Activity::Fetching),
        (Activity::Training, Activity::Training),
        (Activity::Offering, Activity::Offering),
        (Activity::Encoding, Activity::Encoding),
        (Activity::Uploading, Activity::Uploading),
        (Activity::AwaitingOutcome, Activity::AwaitingOutcome),
    ];
    for (before, after) in cases {
        let snapshot = Bench::at(before).session.snapshot();
        let json = serde_json::to_string(&snapshot).expect("a snapshot serialises");
        let restored: Snapshot = serde_json::from_str(&json).expect("and back");
        assert_eq!(restored, snapshot);
        let mut bench = Bench::resumed(config(), restored);
        assert_eq!(bench.session.activity(), after);
        let first = bench.step(Event::Tick);
        assert_eq!(first.first(), Some(&Effect::Connect));
        let asked: Vec<_> = first
            .into_iter()
            .skip(1)
            .chain(bench.step(Event::Connected))
            .map(|e| table::short(&e))
            .collect();
        let expected = match after {
            Activity::CheckingIn => "CheckIn declined [] held []",
            Activity::Fetching => "Fetch { job: JobId(01010101), base: Digest(64646464), base_bytes: 1000 }",
            Activity::Training => "Train { job: JobId(01010101), round: 1, base: Digest(64646464), finish_by: None }",
            Activity::Offering => "Offer(Ready { job: JobId(01010101), base: Digest(64646464), contribution: ContributionId(01010101) })",
            Activity::Encoding => "Encode ContributionId(01010101) for CohortId(01010101)",
            Activity::Uploading => "Upload { contribution: ContributionId(01010101), cohort: CohortId(01010101) }",
            _ => "AskOutcome(OutcomeQuery { job: JobId(01010101), cohort: CohortId(01010101), contribution: ContributionId(01010101) })",
        };
        assert_eq!(asked, [expected]);
    }
}

#[test]
fn should_drop_what_it_holds_when_the_policy_became_stricter() {
    let snapshot = Bench::at(Activity::Uploading).session.snapshot();
    let mut bench = Bench::resumed(
        Config {
            policy: Policy::default(),
            ..config()
        },
        snapshot,
    );
    let effects = bench.step(Event::Tick);
    assert!(
        effects.contains(&Effect::Discard {
            contribution: contribution(1)
        }),
        "{effects:?}"
    );
    assert!(!bench.step(Event::Connected).iter().any(|e| matches!(e, Effect::Upload { .. })));
}

#[test]
fn should_train_on_without_a_connection_and_offer_when_it_is_back() {
    let mut bench = Bench::at(Activity::Training);
    bench.step(Event::Disconnected {
        reason: "timeout".to_owned(),
    });
    assert_eq!(bench.step(trained()), [Effect::Persist, dropped()]);
    assert_eq!(bench.tick(), [Effect::Connect]);
    assert!(matches!(&bench.step(Event::Connected)[..], [Effect::Offer(_)]));
}

#[test]
fn should_reconnect_with_growing_pauses_until_something_works() {
    let mut bench = Bench::new();
    let mut pauses = Vec::new();
    for _ in 0..10 {
        bench.step(Event::Disconnected {
            reason: "refused".to_owned(),
        });
        let before = bench.now;
        assert_eq!(bench.tick(), [Effect::Connect]);
        pauses.push(bench.now.since(before));
    }
    assert!(
        pauses[0] <= Duration::from_secs(1) && pauses[9] >= Duration::from_secs(19),
        "{pauses:?}"
    );
    assert!(pauses.iter().all(|p| *p <= Duration::from_secs(60)), "{pauses:?}");
    bench.step(Event::Connected);
    bench.step(Event::ComeBack(ComeBack {
        after_ms: 1000,
        reason: String::new(),
        spread_ms: 0,
    }));
    bench.step(Event::Disconnected {
        reason: "reset".to_owned(),
    });
    let until = bench.session.poll_timeout().expect("it reconnects");
    assert!(until.since(bench.now) <= Duration::from_secs(1), "progress resets the pauses");
}

#[test]
fn should_ask_again_when_a_long_poll_is_forgotten() {
    for activity in [Activity::Offering, Activity::AwaitingOutcome] {
        let mut bench = Bench::at(activity);
        assert_eq!(bench.tick_after(119), []);
        assert_eq!(bench.tick_after(1).len(), 1);
        assert_eq!(bench.session.activity(), activity);
    }
}

#[test]
fn should_offer_again_what_was_not_included() {
    let mut bench = Bench::at(Activity::AwaitingOutcome);
    let effects = bench.step(outcome(OutcomeReply::NotIncluded));
    let unsent = Effect::DiscardUpload {
        contribution: contribution(1),
        cohort: cohort(1),
    };
    assert!(
        matches!(&effects[..], [Effect::Persist, discard, Effect::Offer(_)] if *discard == unsent),
        "{effects:?}"
    );
}

#[test]
fn should_keep_what_it_holds_while_it_is_revoked() {
    let mut bench = Bench::at(Activity::Offering);
    bench.step(refused(RequestKind::Ready, ErrorCode::Revoked));
    assert!(bench.session.snapshot().held.is_some());
    assert!(matches!(&bench.tick()[..], [Effect::Offer(_)]), "the operator may have undone it");
}

#[test]
fn should_not_be_sent_away_for_ever_nor_be_made_to_spin() {
    for (asked_ms, ms) in [(0, 50), (u64::MAX, 3_600_000)] {
        let mut bench = Bench::new();
        bench.step(Event::ComeBack(ComeBack {
            after_ms: asked_ms,
            reason: String::new(),
            spread_ms: 0,
        }));
        assert_eq!(bench.session.poll_timeout(), Some(bench.now.after(Duration::from_millis(ms))));
    }
}

#[test]
fn should_delete_a_contribution_that_comes_too_late() {
    let mut bench = Bench::at(Activity::Training);
    bench.step(Event::Invalid {
        job: job(1),
        reason: "the owner is unknown".to_owned(),
    });
    assert_eq!(
        bench.step(trained()),
        [Effect::Discard {
            contribution: contribution(1)
        }]
    );
}

#[test]
fn should_read_what_an_older_version_persisted() {
    let snapshot = Bench::at(Activity::Offering).session.snapshot();
    let mut json = serde_json::to_value(&snapshot).expect("a snapshot serialises");
    json.as_object_mut().expect("a map").remove("task");
    json["held"]["consent"].as_object_mut().expect("a map").remove("max_staleness");
    assert_eq!(serde_json::from_value::<Snapshot>(json).expect("and back"), snapshot);
}

#[test]
fn should_train_on_after_a_kill_without_asking_anybody() {
    let mut bench = Bench::resumed(config(), Bench::at(Activity::Training).session.snapshot());
    let effects = bench.step(Event::Tick);
    assert!(matches!(&effects[..], [Effect::Connect, Effect::Train { .. }]), "{effects:?}");
    bench.step(Event::Disconnected {
        reason: "no network".to_owned(),
    });
    assert_eq!(bench.step(trained()), [Effect::Persist, dropped()]);
    assert!(bench.session.snapshot().held.is_some());
}

#[test]
fn should_drop_the_task_at_hand_when_the_policy_became_stricter() {
    for activity in [Activity::Fetching, Activity::Training] {
        let policy = Policy::default();
        let mut bench = Bench::resumed(Config { policy, ..config() }, Bench::at(activity).session.snapshot());
        let effects = bench.step(Event::Tick);
        assert!(effects.contains(&dropped()), "{effects:?}");
        assert_eq!(bench.session.snapshot(), Snapshot::default());
        assert!(matches!(&bench.step(Event::Connected)[..], [Effect::CheckIn(check_in)] if check_in.declined == [job(1)]));
    }
}

#[test]
fn should_fetch_a_base_again_that_was_lost_on_disk() {
    let mut bench = Bench::at(Activity::Training);
    let effects = bench.step(Event::BaseLost { base: model(100) });
    assert!(matches!(&effects[..], [Effect::Persist, Effect::Fetch { .. }]), "{effects:?}");
    let effects = bench.step(Event::Fetched { base: model(100) });
    assert!(matches!(&effects[..], [Effect::Persist, Effect::Train { .. }]), "{effects:?}");
    assert_eq!(bench.step(Event::BaseLost { base: model(101) }), [], "of another task");
}

#[test]
fn should_fetch_a_base_that_is_lost_again_and_again_after_growing_pauses() {
    let mut bench = Bench::at(Activity::Training);
    let mut pauses = Vec::new();
    for loss in 0..20 {
        let lost_at = bench.now;
        let effects = bench.step(Event::BaseLost { base: model(100) });
        if loss > 0 {
            assert!(matches!(&effects[..], [Effect::Persist, Effect::Sleep { .. }]), "{effects:?}");
            assert!(matches!(&bench.tick()[..], [Effect::Fetch { .. }]));
            pauses.push(bench.now.since(lost_at));
        }
        bench.step(Event::Fetched { base: model(100) });
    }
    for (n, pause) in pauses.iter().enumerate() {
        let longest = Duration::from_secs(1 << n.min(6)).min(config().backoff_max);
        let within = longest / 3 - Duration::from_millis(1)..=longest;
        assert!(within.contains(pause), "pause {n}: {pauses:?}");
    }
    // What was trained ends it.
    bench.step(trained());
    bench.step(Event::Superseded {
        contribution: contribution(1),
    });
    bench.step(task(&|_| {}));
    bench.step(Event::Fetched { base: model(100) });
    let effects = bench.step(Event::BaseLost { base: model(100) });
    assert!(matches!(&effects[..], [Effect::Persist, Effect::Fetch { .. }]), "{effects:?}");
}

#[test]
fn should_keep_the_end_of_training_over_a_restart() {
    let mut bench = Bench::new();
    bench.step(hurried(90_000));
    bench.now = bench.now.after(Duration::from_secs(20));
    let finish_by = Some(at_s(1090));
    let effects = bench.step(Event::Fetched { base: model(100) });
    assert!(
        matches!(&effects[..], [Effect::Persist, Effect::Train { finish_by: by, .. }] if *by == finish_by),
        "fetching counts: {effects:?}"
    );

    let snapshot = bench.session.snapshot();
    let train = |now: u64| {
        let mut bench = Bench::resumed(config(), snapshot.clone());
        bench.now = at_s(now);
        let effects = bench.step(Event::Tick);
        let by = effects.iter().find_map(|effect| match effect {
            Effect::Train { finish_by, .. } => *finish_by,
            _ => None,
        });
        (by.expect("it trains on"), effects.contains(&Effect::Persist))
    };
    assert_eq!(train(1050), (at_s(1090), false));
    assert_eq!(train(5000), (at_s(1090), false), "it is over: a step, and that was it");
    assert_eq!(
        train(10),
        (at_s(100), true),
        "the clock went back: no more time than there was at first"
    );
}

#[test]
fn should_tell_progress_when_there_is_some_and_now_and_then() {
    let mut bench = Bench::at(Activity::Training);
    let mut told = Vec::new();
    for (after_s, percent) in [(0, 0), (4, 40), (1, 41), (1, 90), (4, 45), (5, 45), (5, 50), (60, 50), (0, 100)] {
        bench.now = bench.now.after(Duration::from_secs(after_s));
        let effects = bench.step(Event::Progressed { percent });
        told.extend(effects.into_iter().map(|effect| match effect {
            Effect::Progress(progress) => (bench.now.since(at_s(1000)).as_secs(), progress.percent),
            other => panic!("{other:?}"),
        }));
    }
    assert_eq!(told, [(5, 41), (15, 45), (20, 50), (80, 50)]);
    bench.step(Event::Disconnected {
        reason: "reset".to_owned(),
    });
    bench.now = bench.now.after(Duration::from_secs(60));
    let effects = bench.step(Event::Progressed { percent: 100 });
    assert!(
        !effects.iter().any(|e| matches!(e, Effect::Progress(_))),
        "there is nobody to tell: {effects:?}"
    );
    for event in [
        refused(RequestKind::Progress, ErrorCode::JobUnknown),
        Event::Failed {
            request: RequestKind::Progress,
            reason: "reset".to_owned(),
        },
    ] {
        let before = bench.session.snapshot();
        bench.step(event);
        assert_eq!(bench.session.snapshot(), before, "nothing depends on it");
        assert_eq!(bench.session.activity(), Activity::Training);
    }
}

#[test]
fn should_drop_work_that_nobody_wants_any_more() {
    let mut bench = Bench::at(Activity::Training);
    let unwanted = |base| Event::Unwanted { job: job(1), base };
    assert_eq!(bench.step(unwanted(model(99))), [], "an answer about other work");
    let effects = bench.step(unwanted(model(100)));
    assert!(
        matches!(&effects[..], [Effect::Persist, drop, Effect::CheckIn(_)] if *drop == dropped()),
        "{effects:?}"
    );
    assert_eq!(bench.session.snapshot(), Snapshot::default());
    assert_eq!(
        bench.step(trained()),
        [Effect::Discard {
            contribution: contribution(1)
        }],
        "it was done all the same"
    );
}

#[test]
fn should_spread_the_first_reconnect_after_a_lost_connection_as_the_server_asked() {
    let lose = |seed, spread_ms| {
        let mut bench = Bench::resumed(Config { seed, ..config() }, Snapshot::default());
        bench.step(Event::Tick);
        let mut pauses = Vec::new();
        for _ in 0..3 {
            bench.step(Event::Connected);
            bench.step(Event::ComeBack(ComeBack {
                // Over by the time it is connected again: it asks then, and is answered.
                after_ms: 50,
                reason: String::new(),
                spread_ms,
            }));
            bench.step(Event::Disconnected {
                reason: "the server restarts".to_owned(),
            });
            let at = bench.session.poll_timeout().unwrap_or(bench.now);
            pauses.push(at.since(bench.now));
            bench.now = at;
            bench.step(Event::Tick);
        }
        // The server is not back yet: from here on as always.
        bench.step(Event::Disconnected {
            reason: "refused".to_owned(),
        });
        let next = bench.session.poll_timeout().expect("a timer").since(bench.now);
        assert!(next <= Duration::from_secs(2), "{next:?}");
        pauses
    };
    let spread = Duration::from_secs(8);
    let all: Vec<Duration> = (0..200).flat_map(|seed| lose(seed, 8000)).collect();
    assert!(all.iter().all(|pause| *pause <= spread));
    for quarter in 0..4 {
        let within = spread / 4 * quarter..spread / 4 * (quarter + 1);
        let n = all.iter().filter(|pause| within.contains(*pause)).count();
        assert!((90..210).contains(&n), "{n} of 600 in quarter {quarter}");
    }
    assert!(lose(1, 0)[0] <= Duration::from_secs(1), "nothing was asked");
    assert_eq!(lose(1, 8000), lose(1, 8000));
}

#[test]
fn should_reconnect_with_growing_pauses_to_a_server_that_answers_nothing() {
    let mut bench = Bench::new();
    bench.step(Event::ComeBack(ComeBack {
        after_ms: 1000,
        reason: String::new(),
        spread_ms: 8,
    }));
    let mut pauses = Vec::new();
    for _ in 0..20 {
        bench.step(Event::Disconnected {
            reason: "closed".to_owned(),
        });
        let before = bench.now;
        assert_eq!(bench.tick(), [Effect::Connect]);
        pauses.push(bench.now.since(before));
        bench.step(Event::Connected);
    }
    assert!(pauses[0] <= Duration::from_secs(1), "{pauses:?}");
    for (n, pause) in pauses.iter().enumerate() {
        let longest = Duration::from_secs(1 << n.min(6)).min(config().backoff_max);
        assert!(*pause >= longest / 3 - Duration::from_millis(1), "pause {n}: {pauses:?}");
    }
}

#[test]
fn should_compare_deadlines_with_the_wall_clock_wherever_it_jumped() {
    // A device without a clock of its own: it starts in 1970, and learns the time after a while.
    let mut bench = Bench::at(Activity::Offering);
    let soon = |d: &mut Descriptor| d.deadline = at_s(1_800_000_060);
    let declined = Bench::at(Activity::Offering).declines(joined(&soon));
    assert!(declined.contains("past the round"), "{declined}");
    let timer = bench.session.poll_timeout();
    bench.session.set_wall_clock(bench.now, at_s(1_800_000_000));
    assert_eq!(bench.session.poll_timeout(), timer, "no timer moves");
    let effects = bench.step(joined(&soon));
    assert!(matches!(&effects[..], [Effect::Persist, Effect::Encode { .. }]), "{effects:?}");
}

#[test]
fn should_give_once_to_groups_that_begin_with_one_model_without_masks_too() {
    let fused: fn(&mut JobFile) = crate::fixtures::fusing;
    for (edit, again) in [(fused, false), (|_| {}, true)] {
        let mut bench = Bench::new();
        for event in [
            task(&edit),
            Event::Fetched { base: model(100) },
            trained(),
            joined(&|_| {}),
            Event::Encoded {
                contribution: contribution(1),
                cohort: cohort(1),
            },
            Event::Accepted {
                contribution: contribution(1),
                cohort: cohort(1),
            },
        ] {
            bench.step(event);
        }
        let effects = bench.step(outcome(OutcomeReply::Included {
            round: 1,
            model: model(100),
        }));
        let said = effects.iter().find_map(|effect| match effect {
            Effect::CheckIn(check_in) => Some(check_in.spent.iter().map(|held| held.base).collect::<Vec<_>>()),
            _ => None,
        });
        assert_eq!(said.expect("asks for work"), if again { Vec::new() } else { vec![model(100)] });
        let offered = bench.step(task(&edit));
        assert_eq!(
            offered.iter().any(|effect| matches!(effect, Effect::Fetch { .. })),
            again,
            "{offered:?}"
        );
        let mut restarted = Bench::resumed(config(), bench.session.snapshot());
        restarted.step(Event::Tick);
        restarted.step(Event::Connected);
        if !again {
            let offered = restarted.step(task(&edit));
            assert!(
                !offered.iter().any(|effect| matches!(effect, Effect::Fetch { .. })),
                "over a restart: {offered:?}"
            );
        }
    }
}
