//! Agents that follow the protocol with their real machines, beside a coordinator whose driver does what it is asked to.

use std::collections::BTreeMap;

use aimass_crypto::secagg::mask::{MaskStream, Sign, SignedMask, Suite};
use aimass_crypto::secagg::{Advert as Keys, Client, Opening, Roster as Members, SealedShare, Terms};
use aimass_crypto::sign::SigningKey;
use aimass_protocol::job::AggregationMode;
use aimass_protocol::message::secagg::{
    Advert, Agreement, Consent, ConsentReply, DrawCall, NeighbourAdvert, Reveal, Roster, Shares, SharesReply, SurvivorsQuery,
    SurvivorsReply, Unmask, UnmaskShare,
};
use aimass_protocol::message::secagg::{SealedShare as WireShare, ShareBytes};
use aimass_protocol::{Digest, SignatureBytes};
use serde_bytes::ByteBuf;

use super::super::*;

pub(super) const VALUES: usize = 5;

pub(super) struct Member {
    pub(super) key: SigningKey,
    pub(super) contribution: ContributionId,
    pub(super) client: Option<Client>,
    pub(super) draw: u8,
    pub(super) nonce: Option<[u8; 32]>,
    pub(super) input: [u32; VALUES],
    pub(super) bitmap: Option<ByteBuf>,
    pub(super) consent: Option<[u8; 64]>,
}

/// A coordinator with a secure job, and agents that follow the protocol.
pub(super) struct World {
    pub(super) bench: Bench,
    pub(super) members: BTreeMap<AgentId, Member>,
    pub(super) cohort: CohortId,
    pub(super) terms: Option<CohortTerms>,
    pub(super) opened: Option<OpenRound>,
    pub(super) sum: [u32; VALUES],
    pub(super) unmasking: Option<UnmaskingRecord>,
    /// What agents were told, by their latest request.
    pub(super) told: BTreeMap<AgentId, Vec<AgentReply>>,
}

impl World {
    pub(super) fn spec(n: u32) -> JobSpec {
        let mut spec = job_spec(1);
        spec.file.aggregation.mode = AggregationMode::Secure;
        spec.file.aggregation.floor = 3;
        spec.file.round.min = 3;
        spec.file.round.target = n;
        spec.file.round.max = n;
        spec
    }

    /// `n` agents are ready: they are called to draw.
    pub(super) fn drawn(n: u8) -> Self {
        Self::drawn_with(n, |_| {})
    }

    pub(super) fn drawn_with(n: u8, change: impl FnOnce(&mut JobSpec)) -> Self {
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

    pub(super) fn agents(&self) -> Vec<AgentId> {
        self.members.keys().copied().collect()
    }

    pub(super) fn step(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.bench.step(event);
        self.follow(effects)
    }

    pub(super) fn wait(&mut self, seconds: u64) -> Vec<Effect> {
        let effects = self.bench.tick_after(seconds);
        self.follow(effects)
    }

    /// Does what a driver does, and remembers what agents are told.
    pub(super) fn follow(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
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
    pub(super) fn descriptor(&self) -> Vec<u8> {
        format!("{:?}", self.terms.as_ref().expect("described")).into_bytes()
    }

    pub(super) fn last(&self, agent: AgentId) -> &AgentReply {
        self.told.get(&agent).and_then(|told| told.last()).expect("it was told something")
    }

    pub(super) fn offer(&mut self, agent: AgentId) {
        let contribution = self.members[&agent].contribution;
        let ready = Ready {
            job: job(1),
            base: model(100),
            contribution,
        };
        self.step(Event::Ready { agent, ready });
    }

    pub(super) fn advert(&mut self, agent: AgentId) {
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

    pub(super) fn secure(&mut self, agent: AgentId, step: SecureStep) {
        self.step(Event::Secure { agent, step });
    }

    pub(super) fn reveal(&mut self, agent: AgentId) {
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

    pub(super) fn shares(&mut self, agent: AgentId) {
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
        self.deal(agent, &shares);
    }

    /// As a driver does it.
    pub(super) fn deal(&mut self, agent: AgentId, shares: &Shares) {
        let step = self.bench.coordinator.check_shares(agent, shares).verify();
        self.secure(agent, step);
    }

    pub(super) fn upload(&mut self, agent: AgentId) {
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

    pub(super) fn ask_survivors(&mut self, agent: AgentId) {
        let query = SurvivorsQuery {
            job: job(1),
            cohort: self.cohort,
            contribution: self.members[&agent].contribution,
        };
        self.secure(agent, SecureStep::Survivors(query));
    }

    pub(super) fn consent(&mut self, agent: AgentId) {
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

    pub(super) fn unmask(&mut self, agent: AgentId) {
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
    pub(super) fn unmasked(&self) -> [u32; VALUES] {
        let record = self.unmasking.as_ref().expect("unmasked");
        let json = serde_json::to_string(record).expect("it can be stored");
        let record: UnmaskingRecord = serde_json::from_str(&json).expect("and read again");
        let solved = record.to_unmasking().expect("valid shares").solve().expect("enough shares");
        assert_eq!(solved.liars, Vec::<[u8; 16]>::new());
        masked(self.sum, &solved.masks)
    }

    pub(super) fn expected(&self, survivors: &[AgentId]) -> [u32; VALUES] {
        std::array::from_fn(|k| survivors.iter().map(|agent| self.members[agent].input[k]).sum())
    }

    pub(super) fn all(&mut self, agents: &[AgentId], step: fn(&mut Self, AgentId)) {
        for agent in agents {
            step(self, *agent);
        }
    }

    pub(super) fn phase(&self) -> PhaseName {
        self.bench.phase()
    }

    /// Until the inputs can come; those who leave do so before each of the steps.
    pub(super) fn joined(n: u8) -> (Self, Vec<AgentId>) {
        Self::joined_with(n, |_| {})
    }

    pub(super) fn joined_with(n: u8, change: impl FnOnce(&mut JobSpec)) -> (Self, Vec<AgentId>) {
        let mut world = Self::drawn_with(n, change);
        let agents = world.agents();
        assert_eq!(world.phase(), PhaseName::Joining);
        world.all(&agents, Self::advert);
        world.all(&agents, Self::reveal);
        world.all(&agents, Self::shares);
        assert_eq!(world.phase(), PhaseName::Collecting);
        (world, agents)
    }

    pub(super) fn finish(&mut self, survivors: &[AgentId]) {
        self.all(survivors, Self::ask_survivors);
        assert_eq!(self.phase(), PhaseName::Unmasking);
        self.all(survivors, Self::consent);
        self.all(survivors, Self::unmask);
        assert_eq!(self.phase(), PhaseName::Publishing);
        assert_eq!(self.unmasked(), self.expected(survivors));
    }
}

/// A vector with masks over it, as `secagg_kat_v1` lays them.
pub(super) fn masked(values: [u32; VALUES], masks: &[SignedMask]) -> [u32; VALUES] {
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
