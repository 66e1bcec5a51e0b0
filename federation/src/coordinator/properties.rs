//! Whatever agents send, in whatever order: invariants after each step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aimass_protocol::message::agent::{Held, OutcomeQuery, OutcomeReply, Ready};
use aimass_protocol::{AgentId, CohortId, ContributionId, ErrorCode, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::fixtures::{agent, at_s, check_in, cohort, contribution, job, job_spec, model, rng};

/// What agents and driver may do. Cohorts are picked from those that exist, the last first, or made up.
#[derive(Debug, Clone)]
enum Op {
    CheckIn {
        agent: u8,
        held: Option<u8>,
    },
    Ready {
        agent: u8,
        job: u8,
        base: Option<u8>,
        contribution: u8,
    },
    Begin {
        agent: u8,
        cohort: usize,
        contribution: u8,
    },
    Receive {
        agent: u8,
        cohort: usize,
        contribution: u8,
    },
    /// A whole honest upload of whatever the agent has in the cohort.
    Upload {
        agent: u8,
        cohort: usize,
    },
    /// The driver finishes its oldest addition, well or not.
    Finish {
        fails: Option<ErrorCode>,
    },
    /// A report that nobody asked for.
    Stray {
        agent: u8,
        cohort: usize,
        fails: bool,
    },
    Ask {
        agent: u8,
        job: u8,
        cohort: usize,
        contribution: u8,
    },
    Gone {
        agent: u8,
    },
    Revoked {
        agent: u8,
    },
    Publish {
        job: u8,
        round: Option<u8>,
        fails: bool,
        same_model: bool,
    },
    Stop {
        job: u8,
    },
    Pass {
        ms: u64,
    },
    Back {
        ms: u64,
    },
    NextTimer,
}

fn op() -> impl Strategy<Value = Op> {
    let agent = || 0..6u8;
    let job = || prop_oneof![20 => 1..=2u8, 1 => Just(9u8)];
    let cohort = || prop_oneof![8 => 0..2usize, 1 => 2..9usize];
    let name = || 0..60u8;
    // Mostly its own, sometimes any.
    let own = || (0..6u8, prop_oneof![15 => 0..8u8, 1 => 10..60u8]).prop_map(|(agent, n)| (agent, (10 * agent + n) % 60));
    let code = prop_oneof![Just(ErrorCode::Unavailable), Just(ErrorCode::UpdateValue)];
    prop_oneof![
        4 => (agent(), prop::option::of(100..104u8)).prop_map(|(agent, held)| Op::CheckIn { agent, held }),
        20 => (own(), job(), prop::option::weighted(0.1, 99..104u8)).prop_map(|((agent, contribution), job, base)| Op::Ready { agent, job, base, contribution }),
        3 => (agent(), cohort(), name()).prop_map(|(agent, cohort, contribution)| Op::Begin { agent, cohort, contribution }),
        3 => (agent(), cohort(), name()).prop_map(|(agent, cohort, contribution)| Op::Receive { agent, cohort, contribution }),
        24 => (agent(), cohort()).prop_map(|(agent, cohort)| Op::Upload { agent, cohort }),
        20 => prop::option::weighted(0.1, code).prop_map(|fails| Op::Finish { fails }),
        1 => (agent(), cohort(), any::<bool>()).prop_map(|(agent, cohort, fails)| Op::Stray { agent, cohort, fails }),
        4 => (agent(), job(), cohort(), name())
            .prop_map(|(agent, job, cohort, contribution)| Op::Ask { agent, job, cohort, contribution }),
        2 => agent().prop_map(|agent| Op::Gone { agent }),
        1 => (0..20u8).prop_map(|agent| Op::Revoked { agent }),
        6 => (job(), prop::option::weighted(0.1, 0..5u8), prop::bool::weighted(0.2), any::<bool>())
            .prop_map(|(job, round, fails, same_model)| Op::Publish { job, round, fails, same_model }),
        1 => (1..=40u8).prop_map(|job| Op::Stop { job }),
        5 => (0..20_000u64).prop_map(|ms| Op::Pass { ms }),
        1 => (0..70_000u64).prop_map(|ms| Op::Back { ms }),
        3 => Just(Op::NextTimer),
    ]
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Sum {
    job: Option<JobId>,
    members: BTreeMap<AgentId, ContributionId>,
    /// Additions asked for and not yet reported.
    adding: BTreeSet<AgentId>,
    added: BTreeMap<AgentId, ContributionId>,
    sealed: Option<Vec<(AgentId, ContributionId)>>,
    aggregated: bool,
    dropped: bool,
}

/// What the coordinator has said so far, as a driver would know it.
struct Model {
    coordinator: Coordinator,
    rng: rand_chacha::ChaCha8Rng,
    now: Timestamp,
    latest: Timestamp,
    cohorts: Vec<CohortId>,
    sums: BTreeMap<CohortId, Sum>,
    additions: Vec<(CohortId, AgentId)>,
    aggregating: BTreeMap<JobId, (u32, CohortId)>,
    published: BTreeMap<(JobId, ContributionId), (u32, aimass_protocol::Digest)>,
    ended: BTreeSet<JobId>,
    rounds_published: u32,
}

impl Model {
    fn new() -> Self {
        let mut model = Self {
            coordinator: Coordinator::new(Config {
                remembered_rounds: 64,
                ..Config::default()
            }),
            rng: rng(3),
            now: at_s(1000),
            latest: at_s(1000),
            cohorts: Vec::new(),
            sums: BTreeMap::new(),
            additions: Vec::new(),
            aggregating: BTreeMap::new(),
            published: BTreeMap::new(),
            ended: BTreeSet::new(),
            rounds_published: 0,
        };
        for n in 1..=2 {
            model.step(Event::AddJob(Box::new(job_spec(n))));
        }
        model
    }

    fn pick(&self, back: usize) -> CohortId {
        let index = self.cohorts.len().checked_sub(back + 1);
        index.and_then(|i| self.cohorts.get(i)).copied().unwrap_or(cohort(200))
    }

    fn base(&self, job: JobId) -> aimass_protocol::Digest {
        self.coordinator.job(job).map_or(model(99), |view| view.base)
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::CheckIn { agent: a, held } => {
                let mut check_in = check_in();
                check_in.held.extend(held.map(|base| Held {
                    job: job(1),
                    base: model(base),
                }));
                self.step(Event::CheckIn { agent: agent(a), check_in });
            }
            Op::Ready {
                agent: a,
                job: j,
                base,
                contribution: c,
            } => {
                let base = base.map_or_else(|| self.base(job(j)), model);
                self.step(Event::Ready {
                    agent: agent(a),
                    ready: Ready {
                        job: job(j),
                        base,
                        contribution: contribution(c),
                    },
                });
            }
            Op::Begin {
                agent: a,
                cohort,
                contribution: c,
            } => {
                self.step(Event::UploadBegun {
                    agent: agent(a),
                    cohort: self.pick(cohort),
                    contribution: contribution(c),
                });
            }
            Op::Receive {
                agent: a,
                cohort,
                contribution: c,
            } => {
                self.step(Event::Received {
                    agent: agent(a),
                    cohort: self.pick(cohort),
                    contribution: contribution(c),
                });
            }
            Op::Upload { agent: a, cohort } => {
                let (agent, cohort) = (agent(a), self.pick(cohort));
                if let Some(contribution) = self.sums.get(&cohort).and_then(|sum| sum.members.get(&agent)).copied() {
                    self.step(Event::UploadBegun {
                        agent,
                        cohort,
                        contribution,
                    });
                    self.step(Event::Received {
                        agent,
                        cohort,
                        contribution,
                    });
                }
            }
            Op::Finish { fails } => {
                if self.additions.is_empty() {
                    return;
                }
                let (cohort, agent) = self.additions.remove(0);
                let sum = self.sums.get_mut(&cohort).expect("asked for");
                assert!(sum.adding.remove(&agent));
                match fails {
                    Some(code) => self.step(Event::AddFailed { agent, cohort, code }),
                    None => {
                        let contribution = sum.members[&agent];
                        assert_eq!(sum.added.insert(agent, contribution), None, "an agent is in a sum once");
                        self.step(Event::Added { agent, cohort })
                    }
                };
            }
            Op::Stray { agent: a, cohort, fails } => {
                let (agent, cohort) = (agent(a), self.pick(cohort));
                if self.additions.contains(&(cohort, agent)) {
                    return;
                }
                self.absorb(Event::Tick);
                let before = self.settled();
                let effects = self.step(match fails {
                    true => Event::AddFailed {
                        agent,
                        cohort,
                        code: ErrorCode::UpdateValue,
                    },
                    false => Event::Added { agent, cohort },
                });
                assert!(!effects.is_empty() || before == self.settled(), "a stray report changes nothing");
            }
            Op::Ask {
                agent: a,
                job: j,
                cohort,
                contribution: c,
            } => {
                let query = OutcomeQuery {
                    job: job(j),
                    cohort: self.pick(cohort),
                    contribution: contribution(c),
                };
                self.step(Event::Outcome { agent: agent(a), query });
            }
            Op::Gone { agent: a } => drop(self.step(Event::Gone { agent: agent(a) })),
            Op::Revoked { agent: a } => drop(self.step(Event::Revoked { agent: agent(a) })),
            Op::Publish {
                job: j,
                round,
                fails,
                same_model,
            } => self.publish(job(j), round.map(u32::from), fails, same_model),
            Op::Stop { job: j } => drop(self.step(Event::StopJob { job: job(j) })),
            Op::Pass { ms } => {
                self.now = self.now.after(Duration::from_millis(ms));
                self.step(Event::Tick);
            }
            Op::Back { ms } => {
                self.now = self.now.before(Duration::from_millis(ms));
                self.step(Event::Tick);
            }
            Op::NextTimer => {
                if let Some(at) = self.coordinator.poll_timeout() {
                    self.now = at;
                    self.step(Event::Tick);
                }
            }
        }
    }

    fn publish(&mut self, job: JobId, round: Option<u32>, fails: bool, same_model: bool) {
        let Some((right, cohort)) = self.aggregating.get(&job).copied() else {
            self.absorb(Event::Tick);
            let before = self.settled();
            let base = model(7);
            let effects = self.step(Event::Published {
                job,
                round: round.unwrap_or(1),
                base,
                base_bytes: 1,
                accuracy: None,
            });
            assert!(
                !effects.is_empty() || before == self.settled(),
                "what was not asked for is not published"
            );
            return;
        };
        let round = round.unwrap_or(right);
        let before = self.coordinator.job(job).map_or(0, |view| view.round);
        if fails {
            if round == right {
                self.aggregating.remove(&job);
            }
            self.step(Event::PublishFailed {
                job,
                round,
                retry: same_model,
                blame: Vec::new(),
                reason: "disk full".to_owned(),
            });
            return;
        }
        let base = if same_model {
            self.base(job)
        } else {
            model(100 + u8::try_from(round).expect("small"))
        };
        if round == right {
            self.aggregating.remove(&job);
            self.rounds_published += 1;
            for contribution in self.sums[&cohort].added.values() {
                let before = self.published.insert((job, *contribution), (round, base));
                assert_eq!(before, None, "a contribution is in one published sum at most");
            }
        }
        self.step(Event::Published {
            job,
            round,
            base,
            base_bytes: 1,
            accuracy: None,
        });
        let after = self.coordinator.job(job).map_or(0, |view| view.round);
        assert_eq!(after - before, u32::from(round == right));
    }

    /// The state without the clock.
    fn settled(&self) -> Coordinator {
        Coordinator {
            now: Timestamp::default(),
            ..self.coordinator.clone()
        }
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        self.latest = self.latest.max(self.now);
        let by_peer = matches!(
            event,
            Event::CheckIn { .. } | Event::Ready { .. } | Event::UploadBegun { .. } | Event::Received { .. } | Event::Outcome { .. }
        );
        // So that only the event can change anything.
        self.absorb(Event::Tick);
        let before = self.settled();
        let effects = self.absorb(event);
        let refused = matches!(
            &effects[..],
            [Effect::Reply {
                reply: AgentReply::Refused { .. },
                ..
            }]
        );
        if by_peer && refused {
            assert!(before == self.settled(), "a refused request changes nothing");
        }
        effects
    }

    fn absorb(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.coordinator.step(self.now, event, &mut self.rng, &mut effects);
        if let Some(at) = self.coordinator.poll_timeout() {
            assert!(at > self.latest, "a timer lies in the future, else its driver spins");
        }
        for effect in &effects {
            self.check(effect);
        }
        effects
    }

    fn check(&mut self, effect: &Effect) {
        match effect {
            Effect::Describe(_) | Effect::ForgetCohort { .. } | Effect::Unmask { .. } => unreachable!("these jobs are plain"),
            Effect::OpenRound(open) => {
                let terms = &open.terms;
                assert!((2..=4).contains(&terms.members), "min to max members");
                assert_eq!(open.members.len(), terms.members as usize);
                assert!(!self.ended.contains(&terms.job));
                let sum = Sum {
                    job: Some(terms.job),
                    ..Sum::default()
                };
                assert_eq!(self.sums.insert(terms.cohort, sum), None, "cohort ids are new");
                self.cohorts.push(terms.cohort);
            }
            Effect::Seal { cohort, survivors } => {
                let sum = self.sums.get_mut(cohort).expect("opened before");
                assert!(
                    !sum.dropped && !sum.aggregated && sum.sealed.is_none() && sum.adding.is_empty(),
                    "settled"
                );
                sum.sealed = Some(survivors.clone());
            }
            Effect::Reply {
                agent,
                reply: AgentReply::Cohort(terms),
            } => {
                // The name is what the agent is a member with; the coordinator's own state tells it, checked against the sums below.
                let entry = &self.coordinator.jobs[&terms.job];
                let member = match &entry.phase {
                    super::entry::Phase::Collecting(phase) => phase.cohort.get(*agent),
                    super::entry::Phase::Publishing(phase) => phase.cohort.get(*agent),
                    _ => None,
                };
                let contribution = member.expect("who is told of a cohort is in it").contribution;
                let sum = self.sums.get_mut(&terms.cohort).expect("opened before");
                assert!(!sum.members.iter().any(|(a, c)| a != agent && *c == contribution), "one owner");
                assert_eq!(*sum.members.entry(*agent).or_insert(contribution), contribution);
                assert!(sum.members.len() <= terms.members as usize);
            }
            Effect::Reply {
                agent: _,
                reply: AgentReply::Outcome(OutcomeReply::Included { round, model }),
            } => {
                assert!(
                    self.published.values().any(|truth| truth == &(*round, *model)),
                    "included means published"
                );
            }
            Effect::Reply { .. } => {}
            Effect::Add {
                cohort,
                agent,
                contribution,
            } => {
                let sum = self.sums.get_mut(cohort).expect("opened before");
                assert!(!sum.dropped && !sum.aggregated, "the sum is open");
                assert_eq!(sum.members.get(agent), Some(contribution), "members only");
                assert!(!sum.added.contains_key(agent) && sum.adding.insert(*agent), "once");
                let job = sum.job.expect("set");
                assert!(
                    !self.published.contains_key(&(job, *contribution)),
                    "never what is in a published sum"
                );
                self.additions.push((*cohort, *agent));
            }
            Effect::Aggregate {
                job,
                cohort,
                round,
                survivors,
                ..
            } => {
                let sum = self.sums.get_mut(cohort).expect("opened before");
                assert!(!sum.dropped && sum.adding.is_empty(), "settled");
                assert_eq!(sum.sealed.as_ref(), Some(survivors), "sealed before, and what is sealed");
                sum.aggregated = true;
                assert!(survivors.len() >= 2, "never below min or floor");
                assert_eq!(
                    survivors.iter().copied().collect::<BTreeMap<_, _>>(),
                    sum.added,
                    "the survivors are exactly what is in the sum"
                );
                assert_eq!(self.aggregating.insert(*job, (*round, *cohort)), None, "one round at a time");
            }
            Effect::DropSum { cohort } => {
                let sum = self.sums.get_mut(cohort).expect("opened before");
                assert!(!sum.dropped, "dropped once");
                sum.dropped = true;
            }
            Effect::JobEnded { job, .. } => assert!(self.ended.insert(*job), "a job ends once"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn should_keep_the_invariants_whatever_comes(ops in prop::collection::vec(op(), 1..300)) {
        let mut model = Model::new();
        for op in ops {
            model.run(op);
        }
    }
}

/// The generator reaches what it is there for.
#[test]
fn should_reach_published_rounds_by_random_events() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let ops = prop::collection::vec(op(), 300);
    let published: u32 = (0..50)
        .map(|_| {
            let mut model = Model::new();
            let ops = ops.new_tree(&mut runner).expect("nothing is filtered").current();
            ops.into_iter().for_each(|op| model.run(op));
            model.rounds_published
        })
        .sum();
    assert!(published >= 50, "only {published} rounds in 50 runs");
}
