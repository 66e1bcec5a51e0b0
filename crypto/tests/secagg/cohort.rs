//! A whole cohort in memory: one server, its agents, vectors of plain residues.

use std::collections::{BTreeMap, BTreeSet};

use aimass_crypto::hash::sha256;
use aimass_crypto::secagg::mask::{MaskStream, Sign, SignedMask, Suite};
use aimass_crypto::secagg::params::{self, GraphParams};
use aimass_crypto::secagg::{Cheat, Client, Fault, MemberId, Opening, Roster, SealedShare, Server, Solved, StepError, Terms};
use aimass_crypto::sign::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

pub(crate) const COHORT: [u8; 16] = [7; 16];
pub(crate) const DESCRIPTOR: &[u8] = b"the descriptor of a cohort, as received";

/// A server takes what a member dealt.
pub(crate) fn take_shares(server: &mut Server, id: MemberId, shares: Vec<SealedShare>) -> Result<(), Fault> {
    server.shares(server.check_shares(id, shares)?.verify()?)
}

/// An agent with its identity, and what it wants to add.
pub(crate) struct Agent {
    pub(crate) key: SigningKey,
    pub(crate) client: Client,
    pub(crate) x: Vec<u64>,
    pub(crate) y: Option<Vec<u64>>,
}

/// All of them.
pub(crate) struct Cohort {
    pub(crate) rng: ChaCha20Rng,
    pub(crate) server: Server,
    pub(crate) agents: BTreeMap<MemberId, Agent>,
    pub(crate) suite: Suite,
    pub(crate) floor: u32,
    /// Bits of a slot's residue.
    pub(crate) bits: u32,
    pub(crate) params: GraphParams,
    seed: [u8; 32],
}

impl Cohort {
    /// `n` agents in the first draw of a cohort, the complete graph planned.
    pub(crate) fn new(seed: u64, n: u32) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let agents = (0..n).map(|_| {
            let key = SigningKey::generate(&mut rng);
            let id = key.public().fingerprint();
            let client = Client::new(COHORT, 1, id, &mut rng);
            let x = (0..5).map(|_| rng.next_u64()).collect();
            (id, Agent { key, client, x, y: None })
        });
        let agents: BTreeMap<MemberId, Agent> = agents.collect();
        let server = Server::new(COHORT, 1, agents.keys().copied());
        Self {
            rng,
            server,
            agents,
            suite: Suite::Aes256Ctr,
            floor: 3,
            bits: 19,
            params: params::complete(n),
            seed: [0; 32],
        }
    }

    pub(crate) fn ids(&self) -> BTreeSet<MemberId> {
        self.agents.keys().copied().collect()
    }

    pub(crate) fn id(&self, place: usize) -> MemberId {
        *self.agents.keys().nth(place).expect("a place in the cohort")
    }

    pub(crate) fn agent(&mut self, id: &MemberId) -> &mut Agent {
        self.agents.get_mut(id).expect("an agent of this cohort")
    }

    /// Each of `ids` but with the probability `dropout`.
    pub(crate) fn some_of(&mut self, ids: &BTreeSet<MemberId>, dropout: f64) -> BTreeSet<MemberId> {
        let stays = |_: &&MemberId| f64::from(self.rng.next_u32()) / f64::from(u32::MAX) >= dropout;
        ids.iter().filter(stays).copied().collect()
    }

    pub(crate) fn advertise(&mut self, who: &BTreeSet<MemberId>) {
        for id in who {
            let agent = &self.agents[id];
            let advert = agent.client.advert();
            let signature = advert.sign(&agent.key);
            assert_eq!(self.server.advert(*id, advert, agent.key.public(), signature), Ok(()));
        }
    }

    /// A new draw: new keys for everybody, a new server.
    pub(crate) fn draw_again(&mut self, draw: u8, who: &BTreeSet<MemberId>) {
        for (id, agent) in &mut self.agents {
            agent.client = Client::new(COHORT, draw, *id, &mut self.rng);
        }
        self.server = Server::new(COHORT, draw, who.iter().copied());
    }

    /// Roster, nonces, graph. `params` is asked for once the number of members is known.
    pub(crate) fn draw(
        &mut self,
        who: &BTreeSet<MemberId>,
        params: impl FnOnce(&mut ChaCha20Rng, u32) -> GraphParams,
    ) -> Result<(), StepError> {
        let roster = self.server.close_adverts()?;
        for id in who {
            let floor = self.floor;
            let nonce = self
                .agent(id)
                .client
                .see_roster(roster.clone(), floor)
                .expect("the server is honest");
            assert_eq!(self.server.reveal(*id, nonce), Ok(()));
        }
        self.params = params(&mut self.rng, roster.len());
        self.seed = self.server.close_reveals(self.params)?;
        self.server.describe(sha256(DESCRIPTOR), self.suite)
    }

    pub(crate) fn roster(&self) -> Roster {
        self.server.roster().expect("the adverts are closed").clone()
    }

    /// What the honest server shows an agent.
    pub(crate) fn opening(&self, id: &MemberId) -> Opening<'static> {
        let neighbours = self.server.opening_for(id).into_iter();
        Opening {
            descriptor: DESCRIPTOR,
            roster_digest: self.roster().digest(),
            graph_seed: self.seed,
            terms: Terms {
                suite: self.suite,
                degree: self.params.degree,
                threshold: self.params.threshold,
                floor: self.floor,
            },
            nonces: self.server.nonces(),
            neighbours: neighbours
                .map(|(advert, signature)| (advert.clone(), self.agents[&advert.member].key.public(), signature))
                .collect(),
        }
    }

    pub(crate) fn open(&mut self, who: &BTreeSet<MemberId>) {
        for id in who {
            let opening = self.opening(id);
            assert_eq!(self.agent(id).client.open(&opening), Ok(()));
        }
    }

    pub(crate) fn deal_one(&mut self, id: &MemberId) -> Vec<SealedShare> {
        let agent = self.agents.get_mut(id).expect("an agent of this cohort");
        agent.client.deal(&agent.key, &mut self.rng).expect("the server is honest")
    }

    pub(crate) fn deal(&mut self, who: &BTreeSet<MemberId>) {
        for id in who {
            let shares = self.deal_one(id);
            assert_eq!(take_shares(&mut self.server, *id, shares), Ok(()));
        }
    }

    pub(crate) fn receive(&mut self, who: &BTreeSet<MemberId>) {
        for id in who {
            let shares = self.server.shares_for(id);
            let received = self.agent(id).client.receive(shares).expect("the server is honest");
            assert!(received.unreadable.is_empty());
        }
    }

    /// Masks the vectors.
    pub(crate) fn upload(&mut self, who: &BTreeSet<MemberId>) {
        let (suite, bits) = (self.suite, self.bits);
        for id in who {
            let agent = self.agent(id);
            let mut y = agent.x.clone();
            let masks = agent.client.masks().expect("shares are received");
            masks.iter().for_each(|mask| lay(suite, bits, mask, &mut y));
            agent.y = Some(y);
        }
    }

    pub(crate) fn consent_one(&mut self, id: &MemberId) -> Result<[u8; 64], Cheat> {
        let bitmap = self.server.bitmap().expect("the survivors are sealed").as_bytes().to_vec();
        let agent = self.agent(id);
        agent.client.consent(&bitmap, &agent.key)
    }

    pub(crate) fn consent(&mut self, who: &BTreeSet<MemberId>) {
        for id in who {
            let signature = self.consent_one(id).expect("the server is honest");
            assert_eq!(self.server.consent(*id, signature), Ok(()));
        }
    }

    /// Those of `who` whose holders consented give their shares.
    pub(crate) fn unmask(&mut self, who: &BTreeSet<MemberId>) {
        for id in who.iter().filter(|id| self.server.has_consents(id)).copied().collect::<Vec<_>>() {
            let consents = self.server.consents_for(&id);
            let shares = self.agent(&id).client.unmask(&consents).expect("the server is honest");
            let shares: Vec<_> = shares.iter().map(|(peer, share)| (*peer, *share.as_bytes())).collect();
            assert_eq!(self.server.unmask(id, &shares), Ok(()));
        }
    }

    /// Everything from the start until each agent has its shares; nobody drops out.
    pub(crate) fn run_to_shares(&mut self) {
        let all = self.ids();
        let params = self.params;
        self.advertise(&all);
        self.draw(&all, |_, _| params).expect("all are there");
        self.open(&all);
        self.deal(&all);
        self.server.close_shares(self.floor).expect("all are there");
        self.receive(&all);
    }

    /// Everything from the start to the survivors' sealing; `gone` drop out before they upload.
    pub(crate) fn run_to_seal(&mut self, gone: &[MemberId]) -> BTreeSet<MemberId> {
        self.run_to_shares();
        self.seal_without(gone)
    }

    pub(crate) fn seal_without(&mut self, gone: &[MemberId]) -> BTreeSet<MemberId> {
        let survivors: BTreeSet<MemberId> = self.ids().into_iter().filter(|id| !gone.contains(id)).collect();
        self.upload(&survivors);
        self.server.seal(&survivors).expect("enough survived");
        survivors
    }

    /// What the masks leave of the survivors' sum.
    pub(crate) fn unmasked(&self, survivors: &BTreeSet<MemberId>, solved: &Solved) -> Vec<u64> {
        let uploads = survivors.iter().map(|id| self.agents[id].y.as_ref().expect("a survivor uploaded"));
        let mut sum = total(uploads, self.bits);
        solved.masks.iter().for_each(|mask| lay(self.suite, self.bits, mask, &mut sum));
        sum
    }

    /// What it should be.
    pub(crate) fn plain(&self, survivors: &BTreeSet<MemberId>) -> Vec<u64> {
        total(survivors.iter().map(|id| &self.agents[id].x), self.bits)
    }
}

fn total<'a>(vectors: impl Iterator<Item = &'a Vec<u64>>, bits: u32) -> Vec<u64> {
    let mut sum = vec![0_u64; 5];
    for vector in vectors {
        sum.iter_mut().zip(vector).for_each(|(s, v)| *s = modulo(s.wrapping_add(*v), bits));
    }
    sum
}

/// Lays one mask over residues of `bits` bits: the stream is read as residues packed one after the other, lowest bit first.
pub(crate) fn lay(suite: Suite, bits: u32, mask: &SignedMask, residues: &mut [u64]) {
    let mut bytes = vec![0; (residues.len() * bits as usize).div_ceil(8)];
    MaskStream::new(suite, &mask.key, 0).fill(&mut bytes);
    for (slot, residue) in residues.iter_mut().enumerate() {
        let bit_at = |i: usize| u64::from(bytes[i / 8] >> (i % 8) & 1);
        let word: u64 = (0..bits as usize).map(|bit| bit_at(slot * bits as usize + bit) << bit).sum();
        let laid = match mask.sign {
            Sign::Plus => residue.wrapping_add(word),
            Sign::Minus => residue.wrapping_sub(word),
        };
        *residue = modulo(laid, bits);
    }
}

fn modulo(value: u64, bits: u32) -> u64 {
    if bits == 64 { value } else { value & ((1 << bits) - 1) }
}
