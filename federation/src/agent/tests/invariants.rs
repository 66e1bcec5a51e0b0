//! What holds for an agent with masks whatever its server does: honest steps, refusals, kills, lost connections, replayed and misdirected answers in
//! any order.

use std::collections::{BTreeMap, BTreeSet};

use aimass_protocol::message::secagg::{ConsentReply, SurvivorsReply, Unmask, UnmaskReply};
use aimass_protocol::{CohortId, ContributionId};
use proptest::prelude::*;
use serde_bytes::ByteBuf;

use super::fleet::{Fleet, config};
use super::*;

#[derive(Debug, Clone)]
enum Op {
    Honest,
    Kill,
    LoseConnection,
    Wait,
    Refuse(ErrorCode),
    NotIncluded,
    /// An answer that it was given before, this many ago.
    Replay(usize),
    /// The answer to another agent.
    Misdirect,
    /// Survivors of the server's choice.
    Survivors(u8),
    LoseResidues,
}

fn op() -> impl Strategy<Value = Op> {
    let code = prop::sample::select(ErrorCode::all().collect::<Vec<_>>());
    prop_oneof![
        40 => Just(Op::Honest),
        2 => Just(Op::Kill),
        2 => Just(Op::LoseConnection),
        1 => Just(Op::Wait),
        2 => code.prop_map(Op::Refuse),
        1 => Just(Op::NotIncluded),
        1 => (1..12_usize).prop_map(Op::Replay),
        1 => Just(Op::Misdirect),
        1 => any::<u8>().prop_map(Op::Survivors),
        1 => Just(Op::LoseResidues),
    ]
}

/// The first agent of a fleet, and what has been seen of it.
struct Watched {
    fleet: Fleet,
    told: Vec<Event>,
    models: u8,
    cohorts: u64,
    /// The unmask shares that were released, by cohort.
    released: BTreeMap<CohortId, Unmask>,
    /// Contributions that were spent.
    spent: BTreeSet<ContributionId>,
    /// Models that a contribution was spent on.
    spent_on: BTreeSet<aimass_protocol::Digest>,
    /// Cohorts whose server was caught.
    left: BTreeSet<CohortId>,
}

impl Watched {
    fn tell(&mut self, event: Event) -> Result<(), TestCaseError> {
        self.told.push(event.clone());
        let now = self.fleet.now;
        let effects = self.fleet.agents[0].step(now, event);
        let agent = &self.fleet.agents[0];
        let at_disk = &agent.disk;
        prop_assert_eq!(at_disk, &agent.session.snapshot(), "what decides is on disk");
        let persisted = effects.iter().position(|effect| *effect == Effect::Persist);
        for (at, effect) in effects.iter().enumerate() {
            match effect {
                Effect::Unmask(unmask) => {
                    let Some(Contribution {
                        id,
                        base,
                        stage: Stage::Spent { descriptor },
                        ..
                    }) = &at_disk.held
                    else {
                        return Err(TestCaseError::fail("shares leave only what is spent on disk"));
                    };
                    prop_assert!(persisted.is_none_or(|before| before < at));
                    prop_assert_eq!(descriptor.cohort, unmask.cohort);
                    prop_assert!(!self.left.contains(&unmask.cohort), "its server was caught");
                    let first = self.released.entry(unmask.cohort).or_insert_with(|| unmask.clone());
                    prop_assert_eq!(&*first, unmask, "one share of each member for ever");
                    self.spent.insert(*id);
                    self.spent_on.insert(*base);
                }
                Effect::Consent(consent) => prop_assert!(!self.left.contains(&consent.cohort), "its server was caught"),
                Effect::DealShares(shares) => prop_assert!(!self.left.contains(&shares.cohort), "its server was caught"),
                Effect::Offer(ready) => {
                    prop_assert!(!self.spent.contains(&ready.contribution), "what is spent is offered never again");
                    prop_assert!(!self.spent_on.contains(&ready.base));
                }
                Effect::Train { base, .. } => prop_assert!(!self.spent_on.contains(base)),
                Effect::Encode { descriptor, masks, .. } => {
                    prop_assert!(masks.is_some() && descriptor.secagg.is_some(), "nothing is encoded without masks");
                }
                Effect::Upload { contribution, .. } => prop_assert!(!self.spent.contains(contribution)),
                Effect::Report(report) => self.left.extend(report.cohort),
                _ => {}
            }
        }
        Ok(())
    }

    /// The first agent goes on as honestly as its state allows; others are found for it where it needs them.
    fn honest(&mut self) -> Result<(), TestCaseError> {
        let activity = self.fleet.agents[0].session.activity();
        let (cohort, contribution) = (self.fleet.cohort, self.fleet.agents[0].contribution);
        match activity {
            Activity::Idle => self.tick(),
            Activity::CheckingIn => {
                self.models += 1;
                self.fleet.publish(self.models);
                self.fleet.agents[0].contribution = super::contribution(self.models);
                let task = self.fleet.task(self.models, self.fleet.agents[0].disk.log.size);
                self.tell(task)
            }
            Activity::Fetching => {
                let base = self.fleet.agents[0].disk.task.as_ref().expect("a task").base;
                self.tell(Event::Fetched { base })
            }
            Activity::Training => {
                let (job, base) = (job(1), self.fleet.agents[0].disk.task.as_ref().expect("a task").base);
                self.tell(Event::Trained { job, base, contribution })
            }
            Activity::Offering => {
                self.cohorts += 1;
                self.fleet.renew_others(self.models, self.cohorts);
                self.answer()
            }
            Activity::Uploading => {
                let cohort = self.fleet.agents[0]
                    .disk
                    .held
                    .as_ref()
                    .and_then(|held| held.stage.descriptor())
                    .map(|d| d.cohort);
                let others = self.fleet.agents[1].session.activity();
                if others == activity {
                    self.answer()
                } else {
                    self.tell(Event::Accepted {
                        contribution,
                        cohort: cohort.unwrap_or(self.fleet.cohort),
                    })
                }
            }
            Activity::AwaitingOutcome => self.tell(Event::Outcome {
                contribution,
                reply: OutcomeReply::Included { round: 1, model: model(1) },
            }),
            _ if self.fleet.agents[1].session.activity() == activity => self.answer(),
            Activity::Encoding => self.tell(Event::Encoded { contribution, cohort }),
            _ => self.refuse(ErrorCode::CohortUnknown),
        }
    }

    fn answer(&mut self) -> Result<(), TestCaseError> {
        let mut answers = self.fleet.answers();
        let own = answers.remove(&0);
        self.fleet.deliver(answers);
        match own {
            Some(own) => self.tell(own),
            None => self.refuse(ErrorCode::CohortUnknown),
        }
    }

    fn tick(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..3 {
            if let Some(at) = self.fleet.agents[0].session.poll_timeout() {
                self.fleet.now = self.fleet.now.max(at);
            }
            self.tell(Event::Tick)?;
            self.tell(Event::Connected)?;
        }
        Ok(())
    }

    fn refuse(&mut self, code: ErrorCode) -> Result<(), TestCaseError> {
        let request = match self.fleet.agents[0].session.activity() {
            Activity::CheckingIn | Activity::Idle | Activity::Training | Activity::Encoding => RequestKind::CheckIn,
            Activity::Fetching => RequestKind::Fetch,
            Activity::Offering => RequestKind::Ready,
            Activity::Advertising => RequestKind::Advert,
            Activity::Revealing => RequestKind::Reveal,
            Activity::Sharing => RequestKind::Shares,
            Activity::Uploading => RequestKind::Upload,
            Activity::AwaitingSurvivors => RequestKind::Survivors,
            Activity::Consenting => RequestKind::Consent,
            Activity::Unmasking => RequestKind::Unmask,
            Activity::AwaitingOutcome => RequestKind::Outcome,
        };
        self.tell(refused(request, code))?;
        self.tick()
    }

    fn not_included(&mut self) -> Result<(), TestCaseError> {
        let (cohort, contribution) = (self.fleet.cohort, self.fleet.agents[0].contribution);
        let reply = OutcomeReply::NotIncluded;
        self.tell(Event::Outcome { contribution, reply })?;
        let reply = SurvivorsReply::NotIncluded;
        self.tell(Event::Survivors { cohort, reply })?;
        let reply = ConsentReply::NotIncluded;
        self.tell(Event::Agreed { cohort, reply })?;
        let reply = UnmaskReply::Abandoned;
        self.tell(Event::Unmasked { cohort, reply })
    }

    fn act(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Honest => self.honest(),
            Op::Kill => {
                self.fleet.agents[0].restart(&config());
                self.tick()
            }
            Op::LoseConnection => {
                let reason = "reset".to_owned();
                self.tell(Event::Disconnected { reason })?;
                self.tick()
            }
            Op::Wait => self.tick(),
            Op::Refuse(code) => self.refuse(code),
            Op::NotIncluded => self.not_included(),
            Op::Replay(ago) => {
                let old = self.told.len().checked_sub(ago).and_then(|at| self.told.get(at).cloned());
                old.map_or(Ok(()), |event| self.tell(event))
            }
            Op::Misdirect => {
                let [own, other] = [0, 1].map(|place| self.fleet.agents[place].session.activity());
                let is_in_cohort = !matches!(own, Activity::Idle | Activity::CheckingIn | Activity::Offering);
                if own != other || !is_in_cohort {
                    return Ok(());
                }
                let mut answers = self.fleet.answers();
                answers.remove(&1).map_or(Ok(()), |event| self.tell(event))
            }
            Op::Survivors(set) => {
                let (cohort, reply) = (self.fleet.cohort, SurvivorsReply::Set(ByteBuf::from(vec![set & 7])));
                self.tell(Event::Survivors { cohort, reply })
            }
            Op::LoseResidues => {
                let (cohort, contribution) = (self.fleet.cohort, self.fleet.agents[0].contribution);
                self.tell(Event::ResiduesLost { contribution, cohort })
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn should_reveal_nothing_it_should_not_whatever_comes(ops in prop::collection::vec(op(), 1..80)) {
        let mut watched = Watched {
            fleet: Fleet::new(3),
            told: Vec::new(),
            models: 100,
            cohorts: 0,
            released: BTreeMap::new(),
            spent: BTreeSet::new(),
            spent_on: BTreeSet::new(),
            left: BTreeSet::new(),
        };
        for op in ops {
            watched.act(op)?;
        }
    }
}
