//! Sessions of a job with masks, and their server. It is honest: a test that wants another one changes its answers on their way.

use std::collections::BTreeMap;
use std::sync::Arc;

use aimass_crypto::cert::{CERTIFICATE_LIFETIME, Root};
use aimass_crypto::hash::sha256;
use aimass_crypto::log::{Checkpoint, Tree, leaf_hash};
use aimass_crypto::secagg::mask::{MaskStream, Sign, SignedMask};
use aimass_crypto::secagg::{self, Server};
use aimass_crypto::sign::{Context, SigningKey};
use aimass_protocol::descriptor::{MaskSuite, Profile, SecAggParams};
use aimass_protocol::log::{BaseProof, LogEntry, LogEvent, LogHead};
use aimass_protocol::message::agent::SignedDescriptor;
use aimass_protocol::message::secagg::{
    Advert, Agreement, ConsentReply, DrawCall, NeighbourAdvert, Opening, Roster, RosterEntry, SealedShare, SurvivorsReply, Unmask,
    UnmaskReply,
};
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, SignatureBytes, codec};
use serde_bytes::ByteBuf;

use super::*;
use crate::agent::log::origin;
use crate::masks::graph_params;

/// When it is: certificates know only years after 1970.
pub(super) const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

/// An agent with its disk.
pub(super) struct Agent {
    pub(super) session: Session,
    pub(super) identity: Identity,
    pub(super) contribution: ContributionId,
    /// What was persisted last.
    pub(super) disk: Snapshot,
    /// All that it wanted done.
    pub(super) did: Vec<Effect>,
    rng: ChaCha8Rng,
}

impl Agent {
    pub(super) fn step(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        let mut out = Vec::new();
        let mut hands = Hands {
            rng: &mut self.rng,
            identity: &self.identity,
        };
        self.session.step(now, event, &mut hands, &mut out);
        if out.contains(&Effect::Persist) {
            self.disk = self.session.snapshot();
        }
        self.did.extend(out.iter().cloned());
        out
    }

    /// Its process dies and starts again.
    pub(super) fn restart(&mut self, config: &Config) {
        self.session = Session::new(config.clone(), self.disk.clone());
    }

    /// What it asked last.
    fn asks(&self) -> &Effect {
        let is_request = |effect: &&Effect| {
            !matches!(
                effect,
                Effect::Connect
                    | Effect::Persist
                    | Effect::DropTask { .. }
                    | Effect::Discard { .. }
                    | Effect::DiscardUpload { .. }
                    | Effect::Included { .. }
                    | Effect::Sleep { .. }
                    | Effect::Report(_)
                    | Effect::Warn(_)
            )
        };
        self.did.iter().rev().find(is_request).expect("it asks for something")
    }

    /// The reports of cheating that it made.
    pub(super) fn reports(&self) -> Vec<&Report> {
        let mut reports = Vec::new();
        for effect in &self.did {
            if let Effect::Report(report) = effect {
                reports.push(report);
            }
        }
        reports
    }

    /// Whether it let go of anything after this many effects that helps to unmask a sum.
    pub(super) fn revealed_after(&self, effects: usize) -> bool {
        let reveals = |effect: &Effect| {
            matches!(
                effect,
                Effect::Reveal(_) | Effect::DealShares(_) | Effect::Consent(_) | Effect::Unmask(_) | Effect::Upload { .. }
            )
        };
        self.did[effects..].iter().any(reveals)
    }
}

/// See the module. The first agents are the interesting ones.
pub(super) struct Fleet {
    pub(super) agents: Vec<Agent>,
    pub(super) root: Root,
    pub(super) server: SigningKey,
    pub(super) log: Tree,
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) now: Timestamp,
    pub(super) cohort: CohortId,
    pub(super) draw: u8,
    /// Changes a descriptor before it is signed, for the agent at this place.
    pub(super) describe: fn(usize, &mut Descriptor),
    /// Whether an agent is heard: it is not, from the step on that it misses.
    pub(super) is_heard: fn(usize, Activity) -> bool,
    machine: Server,
    adverts: BTreeMap<AgentId, Advert>,
    masks: BTreeMap<AgentId, Vec<SignedMask>>,
    uploaded: Vec<AgentId>,
}

pub(super) fn config() -> Config {
    Config {
        policy: Policy::default(),
        ..super::config()
    }
}

/// With masks, and what that needs.
pub(super) fn secure_file() -> JobFile {
    let mut file = job_file("secure digits");
    file.round = aimass_protocol::job::RoundSection {
        min: 3,
        target: 3,
        max: 10,
        ..file.round
    };
    file.aggregation.mode = AggregationMode::Secure;
    file.aggregation.floor = 3;
    file
}

impl Fleet {
    /// With `n` agents that have trained and offer what they have.
    pub(super) fn new(n: usize) -> Self {
        let rng = &mut rng(11);
        let root = Root::create("test root", 1_799_000_000, rng);
        let server = SigningKey::generate(rng);
        let mut fleet = Self {
            agents: Vec::new(),
            root,
            server,
            log: Tree::new(),
            entries: Vec::new(),
            now: NOW,
            cohort: cohort(1),
            draw: 1,
            describe: |_, _| {},
            is_heard: |_, _| true,
            machine: Server::new([0; 16], 1, []),
            adverts: BTreeMap::new(),
            masks: BTreeMap::new(),
            uploaded: Vec::new(),
        };
        fleet.publish(99);
        fleet.publish(100);
        for place in 0..n {
            let agent = fleet.agent(u64::try_from(place).expect("small"));
            fleet.agents.push(agent);
            fleet.offer(place, 100);
        }
        fleet
    }

    /// A fleet of three whose agents just arrived at this activity.
    pub(super) fn at(activity: Activity) -> Self {
        let mut fleet = Self::new(3);
        while fleet.agents[0].session.activity() != activity {
            fleet.go_on();
        }
        fleet
    }

    /// One more agent with a certificate, connected and asking for work.
    pub(super) fn agent(&self, seed: u64) -> Agent {
        let mut rng = rng(100 + seed);
        let key = SigningKey::generate(&mut rng);
        let tenant = TenantId::default();
        let issued = self.root.issue(
            tenant.as_str(),
            "agent",
            &key.public(),
            1_799_900_000,
            CERTIFICATE_LIFETIME,
            &mut rng,
        );
        let n = u8::try_from(seed % 200).expect("small") + 1;
        let mut agent = Agent {
            session: Session::new(config(), Snapshot::default()),
            identity: Identity {
                key: Arc::new(key),
                certificate: issued.expect("a certificate"),
                roots: vec![self.root.certificate_der().to_vec()],
                tenant,
            },
            contribution: contribution(n),
            disk: Snapshot::default(),
            did: Vec::new(),
            rng,
        };
        agent.step(self.now, Event::Tick);
        agent.step(self.now, Event::Connected);
        agent
    }

    /// A model of the job goes into the log.
    pub(super) fn publish(&mut self, n: u8) {
        let entry = LogEntry {
            version: LogEntry::VERSION,
            tenant: TenantId::default(),
            job: job(1),
            time: self.now,
            event: LogEvent::Base { model: model(n) },
        };
        let entry = codec::encode(&entry).expect("a good entry");
        self.log.append(leaf_hash(&entry));
        self.entries.push(entry);
    }

    pub(super) fn head(&self) -> LogHead {
        LogHead {
            size: self.log.size(),
            root: Digest::from_bytes(self.log.root()),
        }
    }

    fn growth_from(&self, size: u64) -> Vec<Digest> {
        let hashes = self.log.consistency(size, self.log.size()).unwrap_or_default();
        hashes.into_iter().map(Digest::from_bytes).collect()
    }

    /// The task to train from model `n`, as an agent is given it that knows `known` entries.
    pub(super) fn task(&self, n: u8, known: u64) -> Event {
        let index = self.entries.iter().position(|entry| {
            let entry: LogEntry = codec::decode(entry).expect("an entry");
            entry.model() == Some(model(n))
        });
        let (index, size) = (index.expect("it is in the log"), self.log.size());
        let inclusion = self.log.inclusion(index as u64, size).expect("within the log");
        let checkpoint = Checkpoint {
            origin: origin(&TenantId::default()),
            size,
            root: self.log.root(),
        };
        Event::Task {
            job: job(1),
            file: Box::new(secure_file()),
            round: 1,
            base: model(n),
            base_bytes: 1000,
            finish_within_ms: None,
            log: Some(Box::new(BaseProof {
                checkpoint: ByteBuf::from(checkpoint.sign(&self.server).expect("a good origin")),
                entry: ByteBuf::from(self.entries[index].clone()),
                index: index as u64,
                inclusion: inclusion.into_iter().map(Digest::from_bytes).collect(),
                consistency: self.growth_from(known),
            })),
            server: self.server.public(),
        }
    }

    /// Lets an agent that asks for work train from model `n`.
    pub(super) fn offer(&mut self, place: usize, n: u8) {
        let task = self.task(n, self.agents[place].disk.log.size);
        let (now, agent) = (self.now, &mut self.agents[place]);
        let contribution = agent.contribution;
        agent.step(now, task);
        agent.step(now, Event::Fetched { base: model(n) });
        agent.step(
            now,
            Event::Trained {
                job: job(1),
                base: model(n),
                contribution,
            },
        );
        assert_eq!(agent.session.activity(), Activity::Offering);
    }

    /// Other agents than the first one, for its next cohort.
    pub(super) fn renew_others(&mut self, model: u8, seed: u64) {
        self.cohort = cohort(u8::try_from(seed % 200).expect("small") + 10);
        self.draw = 1;
        self.adverts.clear();
        self.masks.clear();
        self.uploaded.clear();
        for place in 1..self.agents.len() {
            self.agents[place] = self.agent(100 + place as u64);
            self.offer(place, model);
        }
    }

    /// One honest step of all.
    pub(super) fn go_on(&mut self) {
        let answers = self.answers();
        self.deliver(answers);
    }

    /// Delivers an event to each agent that has one.
    pub(super) fn deliver(&mut self, events: BTreeMap<usize, Event>) {
        for (place, event) in events {
            self.agents[place].step(self.now, event);
        }
    }

    /// What an honest server says to what its agents have asked, for those that are heard.
    pub(super) fn answers(&mut self) -> BTreeMap<usize, Event> {
        let activity = self.agents[0].session.activity();
        let heard: Vec<usize> = (0..self.agents.len())
            .filter(|place| (self.is_heard)(*place, activity) && self.agents[*place].session.activity() == activity)
            .collect();
        let heard = self.take(heard);
        match activity {
            Activity::Advertising => {
                self.machine.close_adverts().expect("enough adverts");
                self.each(&heard, Self::roster)
            }
            Activity::Revealing => match self.machine.missing_reveals().is_empty() {
                true => self.openings(&heard),
                false => self.draw_again(&heard),
            },
            Activity::Sharing => {
                self.machine.close_shares(3).expect("enough shares");
                self.each(&heard, Self::shares)
            }
            Activity::AwaitingSurvivors => {
                let survivors = self.uploaded.iter().map(|agent| *agent.as_bytes()).collect();
                if !self.machine.can_unmask(&survivors) {
                    return self.each(&heard, Self::given_up);
                }
                self.machine.seal(&survivors).expect("good survivors");
                self.each(&heard, Self::survivors)
            }
            _ => self.each(&heard, Self::simple),
        }
    }

    fn each(&self, heard: &[usize], answer: impl Fn(&Self, usize) -> Event) -> BTreeMap<usize, Event> {
        heard.iter().map(|place| (*place, answer(self, *place))).collect()
    }

    /// Too few uploads are there.
    fn given_up(&self, _: usize) -> Event {
        Event::Survivors {
            cohort: self.cohort,
            reply: SurvivorsReply::NotIncluded,
        }
    }

    fn id(&self, place: usize) -> AgentId {
        self.agents[place].identity.agent()
    }

    /// Notes what agents have asked, and keeps those whose request an honest server takes.
    fn take(&mut self, mut heard: Vec<usize>) -> Vec<usize> {
        let asked: BTreeMap<usize, Effect> = heard.iter().map(|place| (*place, self.agents[*place].asks().clone())).collect();
        if matches!(asked.values().next(), Some(Effect::Offer(_))) {
            let members = heard.iter().map(|place| *self.id(*place).as_bytes());
            self.machine = Server::new(*self.cohort.as_bytes(), self.draw, members);
        }
        heard.retain(|place| self.takes(*place, &asked[place]).is_ok());
        heard
    }

    /// What the server makes of an agent's request.
    fn takes(&mut self, place: usize, asked: &Effect) -> Result<(), secagg::Fault> {
        let agent = self.id(place);
        let member = *agent.as_bytes();
        let key = self.agents[place].identity.key.public();
        match asked {
            Effect::Advertise(advert) => {
                let shown = self.advert(member, advert);
                self.machine.advert(member, shown, key, *advert.signature.as_bytes())?;
                self.adverts.insert(agent, advert.clone());
            }
            Effect::Reveal(reveal) => self.machine.reveal(member, *reveal.nonce.as_bytes())?,
            Effect::DealShares(shares) => {
                let shares = shares.shares.iter().map(|share| secagg::SealedShare {
                    from: member,
                    to: *share.agent.as_bytes(),
                    sealed: share.sealed.as_slice().try_into().expect("80 bytes"),
                    signature: *share.signature.as_bytes(),
                });
                let shares = self.machine.check_shares(member, shares.collect())?;
                self.machine.shares(shares.verify()?)?;
            }
            Effect::Encode { masks, .. } => {
                self.masks.insert(agent, masks.as_ref().expect("masks").signed().to_vec());
            }
            Effect::Upload { .. } if !self.uploaded.contains(&agent) => self.uploaded.push(agent),
            Effect::Consent(consent) => self.machine.consent(member, *consent.signature.as_bytes())?,
            Effect::Unmask(Unmask { shares, .. }) => {
                let shares: Vec<_> = shares
                    .iter()
                    .map(|share| (*share.agent.as_bytes(), *share.share.as_bytes()))
                    .collect();
                self.machine.unmask(member, &shares)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn advert(&self, member: [u8; 16], advert: &Advert) -> secagg::Advert {
        secagg::Advert {
            cohort: *advert.cohort.as_bytes(),
            draw: advert.draw,
            member,
            mask_key: *advert.mask_key.as_bytes(),
            seal_key: *advert.seal_key.as_bytes(),
            self_commitment: *advert.self_commitment.as_bytes(),
            draw_commitment: *advert.draw_commitment.as_bytes(),
        }
    }

    fn roster(&self, _: usize) -> Event {
        let roster = self.machine.roster().expect("it is closed");
        let entry = |(agent, commitment): &([u8; 16], [u8; 32])| RosterEntry {
            agent: AgentId::from_bytes(*agent),
            draw_commitment: Digest::from_bytes(*commitment),
        };
        Event::Roster {
            cohort: self.cohort,
            draw: self.draw,
            roster: Roster {
                members: roster.members().iter().map(entry).collect(),
            },
        }
    }

    fn openings(&mut self, heard: &[usize]) -> BTreeMap<usize, Event> {
        let roster = self.machine.roster().expect("it is closed").clone();
        let params = graph_params(roster.len(), Profile::Standard).expect("enough members");
        let seed = self.machine.close_reveals(params).expect("all have revealed");
        let terms = Descriptor {
            bases: vec![model(100)],
            cohort: self.cohort,
            mode: AggregationMode::Secure,
            members: roster.len(),
            floor: 3,
            deadline: self.now.after(Duration::from_secs(60)),
            log: Some(self.head()),
            secagg: Some(SecAggParams {
                suite: MaskSuite::Aes256Ctr,
                profile: Profile::Standard,
                degree: params.degree,
                threshold: params.threshold,
                draw: self.draw,
                roster: Digest::from_bytes(roster.digest()),
                graph_seed: Digest::from_bytes(seed),
            }),
            ..descriptor()
        };
        let honest = codec::encode(&terms).expect("a good descriptor");
        self.machine
            .describe(sha256(&honest), aimass_crypto::secagg::mask::Suite::Aes256Ctr)
            .expect("in turn");
        self.each(heard, |fleet, place| {
            let mut descriptor = terms.clone();
            (fleet.describe)(place, &mut descriptor);
            fleet.opening(place, descriptor)
        })
    }

    /// The opening of a descriptor, as an agent is shown it.
    pub(super) fn opening(&self, place: usize, descriptor: Descriptor) -> Event {
        // Of a descriptor that breaks the wire's own rules, what is left of it without them: it does not come so far.
        let bytes = codec::encode(&descriptor).unwrap_or_default();
        let neighbours = self.machine.opening_for(self.id(place).as_bytes()).into_iter().map(|(advert, _)| {
            let agent = AgentId::from_bytes(advert.member);
            let shown = &self.adverts[&agent];
            NeighbourAdvert {
                agent,
                mask_key: shown.mask_key,
                seal_key: shown.seal_key,
                self_commitment: shown.self_commitment,
                draw_commitment: shown.draw_commitment,
                certificate: shown.certificate.clone(),
                signature: shown.signature,
            }
        });
        Event::Opening {
            cohort: self.cohort,
            draw: self.draw,
            opening: Box::new(Opening {
                descriptor: SignedDescriptor {
                    signature: SignatureBytes::from_bytes(self.server.sign(Context::Descriptor, &bytes)),
                    descriptor: ByteBuf::from(bytes),
                },
                nonces: self.machine.nonces().into_iter().map(Digest::from_bytes).collect(),
                neighbours: neighbours.collect(),
                log_consistency: self.growth_from(self.adverts[&self.id(place)].log_size),
            }),
            descriptor: Box::new(descriptor),
        }
    }

    fn draw_again(&mut self, heard: &[usize]) -> BTreeMap<usize, Event> {
        let (cohort, draw) = (self.cohort, self.draw);
        self.draw += 1;
        let call = DrawCall { cohort, draw: self.draw };
        self.machine = Server::new(*cohort.as_bytes(), self.draw, heard.iter().map(|place| *self.id(*place).as_bytes()));
        self.each(heard, |_, _| Event::DrawAgain { cohort, draw, call })
    }

    fn shares(&self, place: usize) -> Event {
        let shares = self
            .machine
            .shares_for(self.id(place).as_bytes())
            .into_iter()
            .map(|share| SealedShare {
                agent: AgentId::from_bytes(share.from),
                sealed: ByteBuf::from(share.sealed),
                signature: SignatureBytes::from_bytes(share.signature),
            });
        Event::SharesReceived {
            cohort: self.cohort,
            shares: shares.collect(),
        }
    }

    fn survivors(&self, _: usize) -> Event {
        let bitmap = self.machine.bitmap().expect("it is sealed").as_bytes();
        Event::Survivors {
            cohort: self.cohort,
            reply: SurvivorsReply::Set(ByteBuf::from(bitmap)),
        }
    }

    fn simple(&self, place: usize) -> Event {
        let (cohort, contribution) = (self.cohort, self.agents[place].contribution);
        match self.agents[place].session.activity() {
            Activity::Offering => Event::Draw {
                contribution,
                call: DrawCall { cohort, draw: self.draw },
            },
            Activity::Encoding => Event::Encoded { contribution, cohort },
            Activity::Uploading => Event::Accepted { contribution, cohort },
            Activity::Consenting => {
                let agreements = self
                    .machine
                    .consents_for(self.id(place).as_bytes())
                    .into_iter()
                    .map(|(agent, signature)| Agreement {
                        agent: AgentId::from_bytes(agent),
                        signature: SignatureBytes::from_bytes(signature),
                    });
                Event::Agreed {
                    cohort,
                    reply: ConsentReply::Agreed(agreements.collect()),
                }
            }
            Activity::Unmasking => Event::Unmasked {
                cohort,
                reply: UnmaskReply::Taken,
            },
            Activity::AwaitingOutcome => Event::Outcome {
                contribution,
                reply: OutcomeReply::Included {
                    round: 1,
                    model: model(101),
                },
            },
            other => panic!("no agent should be {other:?}"),
        }
    }

    /// The sum of the survivors' masks and of those that the server takes off, in words: zeros if the sum is unmasked.
    pub(super) fn what_is_left_of_masks(&self) -> Vec<u32> {
        let solved = self
            .machine
            .unmasking()
            .expect("the survivors are known")
            .solve()
            .expect("enough shares");
        let laid = self.uploaded.iter().flat_map(|agent| &self.masks[agent]);
        let mut sum = vec![0_u32; 40];
        for mask in laid.chain(&solved.masks) {
            let mut bytes = [0; 160];
            MaskStream::new(secagg::mask::Suite::Aes256Ctr, &mask.key, 0).fill(&mut bytes);
            for (sum, word) in sum.iter_mut().zip(bytes.as_chunks::<4>().0) {
                let word = u32::from_le_bytes(*word);
                *sum = match mask.sign {
                    Sign::Plus => sum.wrapping_add(word),
                    Sign::Minus => sum.wrapping_sub(word),
                };
            }
        }
        sum
    }
}
