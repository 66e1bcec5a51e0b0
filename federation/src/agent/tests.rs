use std::time::Duration;

use aimass_protocol::descriptor::{CodecName, CodecParams, Descriptor};
use aimass_protocol::job::{AggregationMode, JobFile};
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::{ComeBack, OutcomeReply};
use aimass_protocol::{ErrorCode, TenantId, Timestamp};

use super::*;
use crate::RequestKind;
use crate::fixtures::{agent, at_s, capabilities, cohort, contribution, job, job_file, model};

mod table;

pub(super) fn config() -> Config {
    let policy = Policy {
        allow_plain: true,
        min_survivors: 2,
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
    }
}

type Edit<T> = fn(&mut T);

#[derive(Clone)]
struct Bench {
    session: Session,
    now: Timestamp,
}

impl Bench {
    fn resumed(config: Config, snapshot: Snapshot) -> Self {
        Self {
            session: Session::new(config, snapshot),
            now: at_s(1000),
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
        self.session.step(self.now, event, &mut out);
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
        (
            |file| file.aggregation.mode = AggregationMode::Secure,
            "not available in this version",
        ),
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
    let cases: [(Edit<Descriptor>, &str); 11] = [
        (|d| d.version = 2, "version"),
        (|d| d.job = job(2), "another job"),
        (|d| d.bases = vec![model(9)], "another base"),
        (|d| d.bases.push(model(9)), "another base"),
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
fn should_go_on_after_a_kill_where_it_was() {
    let cases = [
        (Activity::Training, Activity::CheckingIn),
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
    assert_eq!(bench.step(trained()), [Effect::Persist]);
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
