//! Rounds whose inputs are masked, with the real machines of the agents.

use std::collections::BTreeMap;

use aimass_crypto::secagg::mask::{MaskStream, Sign, SignedMask, Suite};
use aimass_crypto::secagg::{Advert as Keys, Client, Opening, Roster as Members, SealedShare, Terms};
use aimass_crypto::sign::SigningKey;
use aimass_protocol::job::AggregationMode;
use aimass_protocol::message::secagg::{
    Advert, Agreement, Consent, ConsentReply, DrawCall, NeighbourAdvert, Reveal, Roster, Shares, SharesReply, SurvivorsQuery,
    SurvivorsReply, Unmask, UnmaskReply, UnmaskShare,
};
use aimass_protocol::message::secagg::{SealedShare as WireShare, ShareBytes};
use aimass_protocol::{Digest, SignatureBytes};
use serde_bytes::ByteBuf;

use super::*;

const VALUES: usize = 5;

struct Member {
    key: SigningKey,
    contribution: ContributionId,
    client: Option<Client>,
    draw: u8,
    nonce: Option<[u8; 32]>,
    input: [u32; VALUES],
    bitmap: Option<ByteBuf>,
    consent: Option<[u8; 64]>,
}

/// A coordinator with a secure job, and agents that follow the protocol.
struct World {
    bench: Bench,
    members: BTreeMap<AgentId, Member>,
    cohort: CohortId,
    terms: Option<CohortTerms>,
    opened: Option<OpenRound>,
    sum: [u32; VALUES],
    unmasking: Option<UnmaskingRecord>,
    /// What agents were told, by their latest request.
    told: BTreeMap<AgentId, Vec<AgentReply>>,
}

impl World {
    fn spec(n: u32) -> JobSpec {
        let mut spec = job_spec(1);
        spec.file.aggregation.mode = AggregationMode::Secure;
        spec.file.aggregation.floor = 3;
        spec.file.round.min = 3;
        spec.file.round.target = n;
        spec.file.round.max = n;
        spec
    }

    /// `n` agents are ready: they are called to draw.
    fn drawn(n: u8) -> Self {
        Self::drawn_with(n, |_| {})
    }

    fn drawn_with(n: u8, change: impl FnOnce(&mut JobSpec)) -> Self {
        let mut spec = Self::spec(n.into());
        change(&mut spec);
        let mut world = Self {
            bench: Bench::new(),
            members: BTreeMap::new(),
            cohort: cohort(0),
            terms: None,
            opened: None,
            sum: [0; VALUES],
            unmasking: None,
            told: BTreeMap::new(),
        };
        world.step(Event::AddJob(Box::new(spec)));
        let mut rng = rng(7);
        for i in 1..=n {
            let key = SigningKey::generate(&mut rng);
            let agent = AgentId::from_bytes(key.public().fingerprint());
            let member = Member {
                key,
                contribution: contribution(i),
                client: None,
                draw: 0,
                nonce: None,
                input: std::array::from_fn(|k| 1000 * u32::from(i) + k as u32),
                bitmap: None,
                consent: None,
            };
            world.members.insert(agent, member);
            world.offer(agent);
        }
        world
    }

    fn agents(&self) -> Vec<AgentId> {
        self.members.keys().copied().collect()
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.bench.step(event);
        self.follow(effects)
    }

    fn wait(&mut self, seconds: u64) -> Vec<Effect> {
        let effects = self.bench.tick_after(seconds);
        self.follow(effects)
    }

    /// Does what a driver does, and remembers what agents are told.
    fn follow(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        for effect in &effects {
            match effect {
                Effect::Describe(terms) => {
                    self.terms = Some(terms.clone());
                    let digest = Digest::from_bytes(aimass_crypto::hash::sha256(&self.descriptor()));
                    self.step(Event::Described {
                        cohort: terms.cohort,
                        digest,
                    });
                }
                Effect::OpenRound(open) => self.opened = Some(open.clone()),
                Effect::Unmask { unmasking, .. } => self.unmasking = Some(unmasking.clone()),
                Effect::Reply { agent, reply } => {
                    self.told.entry(*agent).or_default().push(reply.clone());
                }
                _ => {}
            }
        }
        effects
    }

    /// Stands for the descriptor's bytes.
    fn descriptor(&self) -> Vec<u8> {
        format!("{:?}", self.terms.as_ref().expect("described")).into_bytes()
    }

    fn last(&self, agent: AgentId) -> &AgentReply {
        self.told.get(&agent).and_then(|told| told.last()).expect("it was told something")
    }

    fn offer(&mut self, agent: AgentId) {
        let contribution = self.members[&agent].contribution;
        let ready = Ready {
            job: job(1),
            base: model(100),
            contribution,
        };
        self.step(Event::Ready { agent, ready });
    }

    fn advert(&mut self, agent: AgentId) {
        let (AgentReply::Draw(call) | AgentReply::DrawAgain(call)) = self.last(agent).clone() else {
            panic!("{agent} was not called to draw: {:?}", self.last(agent));
        };
        let DrawCall { cohort, draw } = call;
        self.cohort = cohort;
        let member = self.members.get_mut(&agent).expect("one of ours");
        if member.draw != draw {
            let id = agent.as_bytes().first_chunk::<8>().expect("16 bytes");
            let mut own = crate::fixtures::rng(u64::from_le_bytes(*id) ^ u64::from(draw));
            member.client = Some(Client::new(*cohort.as_bytes(), draw, *agent.as_bytes(), &mut own));
            member.draw = draw;
        }
        let keys = member.client.as_ref().expect("made").advert();
        let advert = Advert {
            cohort,
            draw,
            mask_key: keys.mask_key.into(),
            seal_key: keys.seal_key.into(),
            self_commitment: keys.self_commitment.into(),
            draw_commitment: keys.draw_commitment.into(),
            certificate: ByteBuf::from(agent.as_bytes().to_vec()),
            signature: keys.sign(&member.key).into(),
            log_size: 0,
        };
        let key = member.key.public();
        self.secure(
            agent,
            SecureStep::Advert {
                advert: Box::new(advert),
                key,
            },
        );
    }

    fn secure(&mut self, agent: AgentId, step: SecureStep) {
        self.step(Event::Secure { agent, step });
    }

    fn reveal(&mut self, agent: AgentId) {
        let AgentReply::Roster(Roster { members }) = self.last(agent).clone() else {
            panic!("{agent} has no roster: {:?}", self.last(agent));
        };
        let members = members
            .iter()
            .map(|m| (*m.agent.as_bytes(), *m.draw_commitment.as_bytes()))
            .collect();
        let member = self.members.get_mut(&agent).expect("one of ours");
        let roster = Members::new(*self.cohort.as_bytes(), member.draw, members).expect("a roster");
        let nonce = member.client.as_mut().expect("made").see_roster(roster, 3).expect("honest");
        member.nonce = Some(nonce);
        let (cohort, draw) = (self.cohort, member.draw);
        self.secure(
            agent,
            SecureStep::Reveal(Reveal {
                cohort,
                draw,
                nonce: nonce.into(),
            }),
        );
    }

    fn shares(&mut self, agent: AgentId) {
        let AgentReply::Opening { nonces, neighbours, .. } = self.last(agent).clone() else {
            panic!("{agent} has no opening: {:?}", self.last(agent));
        };
        let descriptor = self.descriptor();
        let params = self.terms.as_ref().and_then(|terms| terms.secagg).expect("drawn");
        let keys = |n: &NeighbourAdvert| {
            let keys = Keys {
                cohort: *self.cohort.as_bytes(),
                draw: params.draw,
                member: *n.agent.as_bytes(),
                mask_key: *n.mask_key.as_bytes(),
                seal_key: *n.seal_key.as_bytes(),
                self_commitment: *n.self_commitment.as_bytes(),
                draw_commitment: *n.draw_commitment.as_bytes(),
            };
            (keys, self.members[&n.agent].key.public(), *n.signature.as_bytes())
        };
        let opening = Opening {
            descriptor: &descriptor,
            roster_digest: *params.roster.as_bytes(),
            graph_seed: *params.graph_seed.as_bytes(),
            terms: Terms {
                suite: Suite::Aes256Ctr,
                degree: params.degree,
                threshold: params.threshold,
                floor: 3,
            },
            nonces: nonces.iter().map(|nonce| *nonce.as_bytes()).collect(),
            neighbours: neighbours.iter().map(keys).collect(),
        };
        let member = self.members.get_mut(&agent).expect("one of ours");
        let client = member.client.as_mut().expect("made");
        client.open(&opening).expect("honest");
        let dealt = client.deal(&member.key, &mut crate::fixtures::rng(9)).expect("opened");
        let shares = dealt.into_iter().map(|share| WireShare {
            agent: share.to.into(),
            sealed: ByteBuf::from(share.sealed.to_vec()),
            signature: share.signature.into(),
        });
        let shares = Shares {
            cohort: self.cohort,
            shares: shares.collect(),
        };
        self.secure(agent, SecureStep::Shares(shares));
    }

    fn upload(&mut self, agent: AgentId) {
        let AgentReply::Shares {
            reply: SharesReply { shares },
            ..
        } = self.last(agent).clone()
        else {
            panic!("{agent} has no shares: {:?}", self.last(agent));
        };
        let member = self.members.get_mut(&agent).expect("one of ours");
        let client = member.client.as_mut().expect("made");
        let received = shares.into_iter().map(|share| SealedShare {
            from: *share.agent.as_bytes(),
            to: *agent.as_bytes(),
            sealed: share.sealed.as_slice().try_into().expect("80 bytes"),
            signature: *share.signature.as_bytes(),
        });
        assert_eq!(
            client.receive(received.collect()).expect("honest").unreadable,
            Vec::<[u8; 16]>::new()
        );
        let masked = masked(member.input, &client.masks().expect("received"));
        let (cohort, contribution) = (self.cohort, member.contribution);
        self.step(Event::UploadBegun {
            agent,
            cohort,
            contribution,
        });
        let effects = self.step(Event::Received {
            agent,
            cohort,
            contribution,
        });
        assert!(
            effects.contains(&Effect::Add {
                cohort,
                agent,
                contribution
            }),
            "{effects:?}"
        );
        for (sum, value) in self.sum.iter_mut().zip(masked) {
            *sum = sum.wrapping_add(value);
        }
        self.step(Event::Added { agent, cohort });
    }

    fn ask_survivors(&mut self, agent: AgentId) {
        let query = SurvivorsQuery {
            job: job(1),
            cohort: self.cohort,
            contribution: self.members[&agent].contribution,
        };
        self.secure(agent, SecureStep::Survivors(query));
    }

    fn consent(&mut self, agent: AgentId) {
        let AgentReply::Survivors(SurvivorsReply::Set(bitmap)) = self.last(agent).clone() else {
            panic!("{agent} has no survivors: {:?}", self.last(agent));
        };
        let member = self.members.get_mut(&agent).expect("one of ours");
        let signature = member.client.as_mut().expect("made").consent(&bitmap, &member.key).expect("honest");
        member.bitmap = Some(bitmap);
        member.consent = Some(signature);
        let consent = Consent {
            cohort: self.cohort,
            signature: signature.into(),
        };
        self.secure(agent, SecureStep::Consent(consent));
    }

    fn unmask(&mut self, agent: AgentId) {
        let AgentReply::Consent(ConsentReply::Agreed(agreed)) = self.last(agent).clone() else {
            panic!("{agent} has no agreements: {:?}", self.last(agent));
        };
        let member = self.members.get_mut(&agent).expect("one of ours");
        let agreed: Vec<_> = agreed
            .iter()
            .map(|Agreement { agent, signature }| (*agent.as_bytes(), *signature.as_bytes()))
            .collect();
        let shares = member.client.as_mut().expect("made").unmask(&agreed).expect("honest");
        let shares = shares.into_iter().map(|(member, share)| UnmaskShare {
            agent: member.into(),
            share: ShareBytes::from_bytes(*share.as_bytes()),
        });
        let unmask = Unmask {
            cohort: self.cohort,
            consent: SignatureBytes::from_bytes(member.consent.expect("it agreed")),
            shares: shares.collect(),
        };
        self.secure(agent, SecureStep::Unmask(unmask));
    }

    /// The sum without its masks.
    fn unmasked(&self) -> [u32; VALUES] {
        let record = self.unmasking.as_ref().expect("unmasked");
        let json = serde_json::to_string(record).expect("it can be stored");
        let record: UnmaskingRecord = serde_json::from_str(&json).expect("and read again");
        let solved = record.to_unmasking().expect("valid shares").solve().expect("enough shares");
        assert_eq!(solved.liars, Vec::<[u8; 16]>::new());
        masked(self.sum, &solved.masks)
    }

    fn expected(&self, survivors: &[AgentId]) -> [u32; VALUES] {
        std::array::from_fn(|k| survivors.iter().map(|agent| self.members[agent].input[k]).sum())
    }

    fn all(&mut self, agents: &[AgentId], step: fn(&mut Self, AgentId)) {
        for agent in agents {
            step(self, *agent);
        }
    }

    fn phase(&self) -> PhaseName {
        self.bench.phase()
    }

    /// Until the inputs can come; those who leave do so before each of the steps.
    fn joined(n: u8) -> (Self, Vec<AgentId>) {
        Self::joined_with(n, |_| {})
    }

    fn joined_with(n: u8, change: impl FnOnce(&mut JobSpec)) -> (Self, Vec<AgentId>) {
        let mut world = Self::drawn_with(n, change);
        let agents = world.agents();
        assert_eq!(world.phase(), PhaseName::Joining);
        world.all(&agents, Self::advert);
        world.all(&agents, Self::reveal);
        world.all(&agents, Self::shares);
        assert_eq!(world.phase(), PhaseName::Collecting);
        (world, agents)
    }

    fn finish(&mut self, survivors: &[AgentId]) {
        self.all(survivors, Self::ask_survivors);
        assert_eq!(self.phase(), PhaseName::Unmasking);
        self.all(survivors, Self::consent);
        self.all(survivors, Self::unmask);
        assert_eq!(self.phase(), PhaseName::Publishing);
        assert_eq!(self.unmasked(), self.expected(survivors));
    }
}

/// A vector with masks over it, as `secagg_kat_v1` lays them.
fn masked(values: [u32; VALUES], masks: &[SignedMask]) -> [u32; VALUES] {
    let mut out = values;
    for signed in masks {
        let mut bytes = [0; 4 * VALUES];
        MaskStream::new(Suite::Aes256Ctr, &signed.key, 0).fill(&mut bytes);
        for (value, word) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
            let word = u32::from_le_bytes(*word);
            *value = match signed.sign {
                Sign::Plus => value.wrapping_add(word),
                Sign::Minus => value.wrapping_sub(word),
            };
        }
    }
    out
}

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
    world.secure(rest[0], SecureStep::Shares(forged));
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
