//! Cohorts with masks under an honest server: all goes well, agents are killed, connections break, cohorts fail.

use aimass_protocol::message::secagg::{ConsentReply, DrawCall, SurvivorsReply, UnmaskReply};

use super::fleet::{Agent, Fleet, NOW, config};
use super::*;

/// The steps of a cohort whose agents hold keys.
const WITH_KEYS: [Activity; 8] = [
    Activity::Advertising,
    Activity::Revealing,
    Activity::Sharing,
    Activity::Encoding,
    Activity::Uploading,
    Activity::AwaitingSurvivors,
    Activity::Consenting,
    Activity::Unmasking,
];

fn stage(agent: &Agent) -> Option<&Stage> {
    agent.disk.held.as_ref().map(|held| &held.stage)
}

fn is_spent(agent: &Agent) -> bool {
    matches!(stage(agent), Some(Stage::Spent { .. }))
}

#[test]
fn should_unmask_the_sum_and_nothing_else() {
    for n in [3, 4, 7] {
        let mut fleet = Fleet::new(n);
        while fleet.agents[0].session.activity() != Activity::CheckingIn {
            fleet.go_on();
        }
        assert_eq!(fleet.what_is_left_of_masks(), [0; 40], "{n} agents");
        for agent in &fleet.agents {
            assert!(agent.did.iter().any(|effect| matches!(effect, Effect::Included { .. })));
            assert_eq!((agent.disk.held.as_ref(), agent.reports().len()), (None, 0));
            assert_eq!(agent.disk.spent[&job(1)].base, model(100));
        }
    }
}

#[test]
fn should_unmask_the_sum_without_agents_that_dropped_out() {
    let mut fleet = Fleet::new(7);
    // One is gone after the shares, one after its upload: the first one's masks are taken off with its mask key.
    fleet.is_heard = |place, activity| match place {
        6 => !matches!(activity, Activity::Uploading),
        5 => !matches!(activity, Activity::Consenting),
        _ => true,
    };
    while fleet.agents[0].session.activity() != Activity::CheckingIn {
        fleet.go_on();
    }
    assert_eq!(fleet.what_is_left_of_masks(), [0; 40]);
    assert!(fleet.agents.iter().all(|agent| agent.reports().is_empty()));
    assert!(
        !is_spent(&fleet.agents[5]) && !is_spent(&fleet.agents[6]),
        "they have revealed nothing"
    );
}

#[test]
fn should_draw_again_with_new_keys_without_who_did_not_reveal() {
    let mut fleet = Fleet::new(4);
    fleet.is_heard = |place, activity| place != 3 || activity != Activity::Revealing;
    while fleet.agents[0].session.activity() != Activity::CheckingIn {
        fleet.go_on();
    }
    assert_eq!(fleet.draw, 2);
    assert_eq!(fleet.what_is_left_of_masks(), [0; 40]);
    let adverts = fleet.agents[0].did.iter().filter_map(|effect| match effect {
        Effect::Advertise(advert) => Some(advert),
        _ => None,
    });
    let [first, second] = &adverts.collect::<Vec<_>>()[..] else {
        panic!("two adverts");
    };
    assert_eq!((first.draw, second.draw), (1, 2));
    assert!(first.mask_key != second.mask_key && first.seal_key != second.seal_key && first.self_commitment != second.self_commitment);
}

#[test]
fn should_leave_a_cohort_that_is_drawn_too_often() {
    let mut fleet = Fleet::at(Activity::Revealing);
    for draw in 2..=4 {
        let again = Event::DrawAgain {
            cohort: cohort(1),
            draw: draw - 1,
            call: DrawCall { cohort: cohort(1), draw },
        };
        let agent = &mut fleet.agents[0];
        agent.step(NOW, again);
        if draw < 4 {
            assert_eq!(agent.session.activity(), Activity::Advertising);
            fleet.draw = draw;
            fleet.go_on_alone(draw);
        }
    }
    assert_eq!(fleet.agents[0].session.activity(), Activity::Offering);
    assert!(fleet.agents[0].reports().is_empty());
}

#[test]
fn should_say_the_same_again_after_a_lost_connection_and_when_forgotten() {
    for activity in WITH_KEYS {
        let mut fleet = Fleet::at(activity);
        let agent = &mut fleet.agents[0];
        if activity == Activity::Encoding {
            continue;
        }
        let asked = agent.did.last().expect("it asks").clone();
        let reason = "reset".to_owned();
        agent.step(NOW, Event::Disconnected { reason });
        let at = agent.session.poll_timeout().expect("it connects again");
        agent.step(at, Event::Tick);
        assert_eq!(agent.step(at, Event::Connected), std::slice::from_ref(&asked), "{activity:?}");
        if activity != Activity::Uploading {
            let later = agent.session.poll_timeout().expect("it asks again");
            assert_eq!(later.since(at), config().repeat_after);
            assert_eq!(agent.step(later, Event::Tick), [asked], "{activity:?}");
        }
    }
}

#[test]
fn should_go_on_after_a_kill_without_its_keys() {
    for activity in WITH_KEYS {
        let mut fleet = Fleet::at(activity);
        let agent = &mut fleet.agents[0];
        agent.restart(&config());
        let before = agent.did.len();
        agent.step(NOW, Event::Tick);
        agent.step(NOW, Event::Connected);
        let expected = match activity {
            Activity::Advertising | Activity::Revealing | Activity::Sharing | Activity::Encoding => Activity::Offering,
            Activity::Uploading => Activity::Uploading,
            _ => Activity::AwaitingOutcome,
        };
        assert_eq!(agent.session.activity(), expected, "{activity:?}");
        let unsent = agent.did[before..]
            .iter()
            .any(|effect| matches!(effect, Effect::DiscardUpload { .. }));
        assert_eq!(unsent, matches!(activity, Activity::Sharing | Activity::Encoding), "{activity:?}");
        if expected == Activity::Uploading {
            let (contribution, cohort) = (agent.contribution, cohort(1));
            agent.step(NOW, Event::Accepted { contribution, cohort });
            assert_eq!(agent.session.activity(), Activity::AwaitingOutcome, "it has nothing to reveal");
        }
        assert_eq!(is_spent(agent), activity == Activity::Unmasking);
    }
}

#[test]
fn should_keep_no_key_on_disk() {
    for activity in WITH_KEYS {
        let fleet = Fleet::at(activity);
        let json = serde_json::to_string(&fleet.agents[0].session.snapshot()).expect("a snapshot serialises");
        assert!(!json.contains("mask_key") && !json.contains("share"), "{json}");
        let debug = format!("{:?}", fleet.agents[0].session);
        for effect in &fleet.agents[0].did {
            if let Effect::Unmask(unmask) = effect {
                let hex: String = unmask.shares[0].share.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                assert!(!debug.contains(&hex));
            }
        }
    }
}

#[test]
fn should_offer_again_what_was_not_unmasked() {
    let cases = [
        (Activity::AwaitingSurvivors, {
            let reply = SurvivorsReply::NotIncluded;
            Event::Survivors { cohort: cohort(1), reply }
        }),
        (Activity::Consenting, {
            let reply = ConsentReply::NotIncluded;
            Event::Agreed { cohort: cohort(1), reply }
        }),
        (Activity::Advertising, refused(RequestKind::Advert, ErrorCode::CohortUnknown)),
        (Activity::Revealing, refused(RequestKind::Reveal, ErrorCode::Late)),
        (Activity::Sharing, refused(RequestKind::Shares, ErrorCode::CohortUnknown)),
        (Activity::Uploading, refused(RequestKind::Upload, ErrorCode::Late)),
        (
            Activity::AwaitingSurvivors,
            refused(RequestKind::Survivors, ErrorCode::CohortUnknown),
        ),
        (Activity::Consenting, refused(RequestKind::Consent, ErrorCode::CohortUnknown)),
    ];
    for (activity, event) in cases {
        let mut fleet = Fleet::at(activity);
        let agent = &mut fleet.agents[0];
        agent.step(NOW, event);
        assert_eq!(agent.session.activity(), Activity::Offering, "{activity:?}");
        assert_eq!((stage(agent), agent.disk.spent.len()), (Some(&Stage::Trained), 0));
        assert!(agent.reports().is_empty());
        let (contribution, call) = (
            agent.contribution,
            DrawCall {
                cohort: cohort(2),
                draw: 1,
            },
        );
        agent.step(NOW, Event::Draw { contribution, call });
        let keys = agent.did.iter().filter_map(|effect| match effect {
            Effect::Advertise(advert) => Some(advert.mask_key),
            _ => None,
        });
        let [.., before, now] = keys.collect::<Vec<_>>()[..] else {
            panic!("two adverts");
        };
        assert_ne!(before, now, "keys serve for one cohort");
    }
}

#[test]
fn should_mark_what_it_spends_before_it_reveals() {
    let mut fleet = Fleet::at(Activity::Consenting);
    let answers = fleet.answers();
    let effects = fleet.agents[0].step(NOW, answers[&0].clone());
    assert!(matches!(&effects[..], [Effect::Persist, Effect::Unmask(_)]), "{effects:?}");
    assert!(is_spent(&fleet.agents[0]));
    let spent = fleet.agents[0].disk.spent[&job(1)].clone();
    assert_eq!((spent.base, spent.log_index), (model(100), 1));
}

#[test]
fn should_never_offer_again_what_was_spent() {
    let abandoned = Event::Unmasked {
        cohort: cohort(1),
        reply: UnmaskReply::Abandoned,
    };
    let mut fleet = Fleet::at(Activity::Unmasking);
    fleet.agents[0].step(NOW, abandoned);
    let not_included = |agent: &Agent| Event::Outcome {
        contribution: agent.contribution,
        reply: OutcomeReply::NotIncluded,
    };
    let taken = Event::Unmasked {
        cohort: cohort(1),
        reply: UnmaskReply::Taken,
    };
    fleet.agents[1].step(NOW, taken);
    let event = not_included(&fleet.agents[1]);
    fleet.agents[1].step(NOW, event);
    // A killed one hears the same, and one whose cohort is forgotten.
    fleet.agents[2].restart(&config());
    fleet.agents[2].step(NOW, Event::Tick);
    fleet.agents[2].step(NOW, Event::Connected);
    fleet.agents[2].step(NOW, refused(RequestKind::Outcome, ErrorCode::CohortUnknown));
    for place in 0..3 {
        let agent = &mut fleet.agents[place];
        assert_eq!((agent.session.activity(), agent.disk.held.as_ref()), (Activity::CheckingIn, None));
        let contribution = agent.contribution;
        assert!(agent.did.contains(&Effect::Discard { contribution }));
        let Some(Effect::CheckIn(check_in)) = agent.did.last() else {
            panic!("it asks for work")
        };
        assert_eq!(check_in.spent.len(), 1);
        assert_eq!((check_in.spent[0].job, check_in.spent[0].base), (job(1), model(100)));
        // Nor does it train from that model once more, or from an older one of the job.
        for old in [100, 99] {
            let task = fleet.task(old, fleet.agents[place].disk.log.size);
            let agent = &mut fleet.agents[place];
            let effects = agent.step(fleet.now, task);
            assert!(matches!(&effects[..], [Effect::Sleep { .. }]), "{effects:?}");
            let at = agent.session.poll_timeout().expect("it comes back");
            fleet.now = fleet.now.max(at);
            agent.step(at, Event::Tick);
        }
    }
    fleet.publish(101);
    for place in 0..3 {
        fleet.agents[place].contribution = contribution(50 + u8::try_from(place).expect("small"));
        fleet.offer(place, 101);
    }
}

#[test]
fn should_wait_for_the_outcome_when_it_can_not_tell_whether_its_shares_arrived() {
    for code in [ErrorCode::CohortUnknown, ErrorCode::Late] {
        let mut fleet = Fleet::at(Activity::Unmasking);
        fleet.agents[0].step(NOW, refused(RequestKind::Unmask, code));
        assert_eq!(fleet.agents[0].session.activity(), Activity::AwaitingOutcome);
        assert!(is_spent(&fleet.agents[0]));
    }
}

#[test]
fn should_make_damaged_residues_again_only_with_its_keys() {
    let mut fleet = Fleet::at(Activity::Uploading);
    let lost = |agent: &Agent| Event::ResiduesLost {
        contribution: agent.contribution,
        cohort: cohort(1),
    };
    let encodes = |effect: &Effect| matches!(effect, Effect::Encode { .. });
    let first = fleet.agents[0]
        .did
        .iter()
        .find(|effect| encodes(effect))
        .expect("it encodes")
        .clone();
    let event = lost(&fleet.agents[0]);
    assert_eq!(fleet.agents[0].step(NOW, event), [first], "with the same masks");
    let agent = &mut fleet.agents[1];
    agent.restart(&config());
    agent.step(NOW, Event::Tick);
    agent.step(NOW, Event::Connected);
    let before = agent.did.len();
    let event = lost(agent);
    agent.step(NOW, event);
    assert_eq!(agent.session.activity(), Activity::Offering);
    assert!(
        !agent.did[before..].iter().any(encodes),
        "what is encoded without masks shows the update"
    );
}

#[test]
fn should_give_masks_exactly_where_the_cohort_is_secure() {
    let fleet = Fleet::at(Activity::Uploading);
    for effect in &fleet.agents[0].did {
        if let Effect::Encode { descriptor, masks, .. } = effect {
            let masks = masks.as_ref().expect("masks");
            assert_eq!(descriptor.mode, AggregationMode::Secure);
            assert_eq!(masks.signed().len(), 3, "its own and one with each neighbour");
            assert!(format!("{masks:?}").contains("redacted"));
        }
    }
}

#[test]
fn should_follow_a_log_that_grows_between_task_and_cohort() {
    let mut fleet = Fleet::new(3);
    fleet.publish(101);
    fleet.publish(102);
    while fleet.agents[0].session.activity() != Activity::Sharing {
        fleet.go_on();
    }
    assert_eq!(fleet.agents[0].disk.log.size, 4);
    assert_eq!(fleet.agents[0].disk.log.root, fleet.head().root);
}

#[test]
fn should_forget_the_oldest_spent_models_of_too_many_jobs() {
    use crate::agent::contribution::spend;
    use aimass_protocol::JobId;
    let mut spent = std::collections::BTreeMap::new();
    for n in 0..300_u64 {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        let job = JobId::from_bytes(id);
        spend(&mut spent, job, Spent::new(model(1), n));
        // An older model of the same job stays spent beside the newest.
        spend(&mut spent, job, Spent::new(model(2), 0));
        let known = &spent[&job];
        assert!(known.forbids(model(1), None) && known.forbids(model(2), Some(1000)) && !known.forbids(model(3), Some(1000)));
    }
    let kept: Vec<u64> = spent.values().map(|spent| spent.log_index).collect();
    assert_eq!(kept, (300 - 256..300).collect::<Vec<u64>>());
}

impl Fleet {
    /// Shows the first agent a roster of its own draw, as if the others had advertised anew as well.
    fn go_on_alone(&mut self, draw: u8) {
        let Some(Effect::Advertise(own)) = self.agents[0].did.last().cloned() else {
            panic!("it advertises");
        };
        let commitments = [(self.agents[0].identity.agent(), own.draw_commitment)].into_iter();
        let others = self.agents[1..].iter().map(|agent| (agent.identity.agent(), model(1)));
        let mut members: Vec<_> = commitments.chain(others).collect();
        members.sort_unstable();
        let members = members
            .into_iter()
            .map(|(agent, draw_commitment)| aimass_protocol::message::secagg::RosterEntry { agent, draw_commitment });
        let roster = aimass_protocol::message::secagg::Roster {
            members: members.collect(),
        };
        let cohort = self.cohort;
        self.agents[0].step(NOW, Event::Roster { cohort, draw, roster });
        assert_eq!(self.agents[0].session.activity(), Activity::Revealing);
    }
}
