//! A server among agents, honest ones and others: what these do must harm nobody.

use std::collections::{BTreeMap, BTreeSet};

use super::{Dice, Event, events, flip, pick};
use crate::hash::sha256;
use crate::secagg::mask::{MaskStream, Sign, SignedMask, Suite};
use crate::secagg::params::{self, GraphParams};
use crate::secagg::share::survivors_bytes;
use crate::secagg::{Bitmap, Cheat, Client, Fault, MemberId, Opening, Roster, SealedShare, Server, StepError, Terms};
use crate::sign::{Context, SigningKey};

const COHORT: [u8; 16] = [2; 16];
const DESCRIPTOR: &[u8] = b"a descriptor";
const SUITE: Suite = Suite::Aes256Ctr;
const FLOOR: u32 = 3;
const DRAWS: u8 = 3;

/// Follows the events; whatever some agents do, what is wrong must change nothing, honest agents must have no reason to refuse, there
/// must be one set of survivors, and what is solved must be exact.
///
/// # Panics
/// When one of these does not hold.
pub fn server(bytes: &[u8]) {
    let Some((cohort, events)) = events(bytes) else { return };
    let mut run = Run::new(cohort % 2);
    for event in events {
        run.follow(event);
    }
    run.check_sum();
}

struct Agent {
    key: SigningKey,
    client: Client,
    /// It said something else than its client gave it to say, and was not caught at once.
    is_false: bool,
    masks: Vec<SignedMask>,
}

struct Run {
    dice: Dice,
    server: Server,
    draw: u8,
    is_complete: bool,
    terms: Option<Terms>,
    seed: [u8; 32],
    agents: BTreeMap<MemberId, Agent>,
    ids: Vec<MemberId>,
    left: BTreeSet<MemberId>,
    /// Who gave other unmask shares than its client did.
    liars: BTreeSet<MemberId>,
    u2: Option<BTreeSet<MemberId>>,
    survivors: Option<Bitmap>,
}

impl Run {
    /// 0: four agents, the complete graph; 1: six with four neighbours each.
    fn new(cohort: u8) -> Self {
        let mut dice = Dice::new(cohort);
        let agent = |_| {
            let key = SigningKey::generate(&mut dice);
            let id = key.public().fingerprint();
            let client = Client::new(COHORT, 1, id, &mut dice);
            (
                id,
                Agent {
                    key,
                    client,
                    is_false: false,
                    masks: Vec::new(),
                },
            )
        };
        let agents: BTreeMap<MemberId, Agent> = (0..if cohort == 0 { 4 } else { 6 }).map(agent).collect();
        Self {
            server: Server::new(COHORT, 1, agents.keys().copied()),
            dice,
            draw: 1,
            is_complete: cohort == 0,
            terms: None,
            seed: [0; 32],
            ids: agents.keys().copied().collect(),
            agents,
            left: BTreeSet::new(),
            liars: BTreeSet::new(),
            u2: None,
            survivors: None,
        }
    }

    fn follow(&mut self, event: Event) {
        let Some(id) = pick(&self.ids, event.a).copied() else { return };
        match event.what % 11 {
            0 => self.advert(id, event),
            1 => drop(self.server.close_adverts()),
            2 => self.reveal(id, event),
            3 => self.close_reveals(),
            4 => self.shares(id, event),
            5 => self.close_shares(),
            6 => self.seal(event),
            7 => self.consent(id, event),
            8 => self.unmask(id, event),
            9 => {
                self.server.leave(&id);
                self.left.insert(id);
            }
            _ => self.restart(),
        }
    }

    /// What is wrong changes nothing, and who has left is not heard.
    fn tell(&mut self, id: MemberId, call: impl FnOnce(&mut Server) -> Result<(), Fault>) -> bool {
        let before = format!("{:?}", self.server);
        match call(&mut self.server) {
            Ok(()) => {
                assert!(!self.left.contains(&id), "one who has left was heard");
                true
            }
            Err(fault) => {
                assert_eq!(before, format!("{:?}", self.server), "a fault changed something: {fault}");
                false
            }
        }
    }

    fn agent(&mut self, id: &MemberId) -> &mut Agent {
        self.agents.get_mut(id).expect("an agent of this cohort")
    }

    /// An honest agent has no reason to refuse.
    fn agrees<T>(&self, id: &MemberId, answer: Result<T, Cheat>) -> Option<T> {
        match answer {
            Ok(value) => Some(value),
            Err(cheat) => {
                assert!(self.agents[id].is_false, "an honest agent refused an honest server: {cheat}");
                None
            }
        }
    }

    fn advert(&mut self, id: MemberId, event: Event) {
        let copied = pick(&self.ids, event.b).map(|other| self.agents[other].client.advert());
        let agent = &self.agents[&id];
        let honest = agent.client.advert();
        let mut advert = honest.clone();
        match event.change % 10 {
            1 => flip(&mut advert.self_commitment, event.b),
            2 => flip(&mut advert.draw_commitment, event.b),
            3 => flip(&mut advert.seal_key, event.b),
            4 => flip(&mut advert.mask_key, event.b),
            5 => advert.draw = event.b,
            6 => flip(&mut advert.member, event.b),
            7 => advert.mask_key = [event.b; 32],
            8 => advert.mask_key = copied.map_or([0; 32], |copied| copied.mask_key),
            _ => {}
        }
        let mut signature = advert.sign(&agent.key);
        if event.change % 10 == 9 {
            flip(&mut signature, event.b);
        }
        let (identity, is_changed) = (agent.key.public(), advert != honest);
        if self.tell(id, |server| server.advert(id, advert, identity, signature)) && is_changed {
            self.agent(&id).is_false = true;
        }
    }

    fn reveal(&mut self, id: MemberId, event: Event) {
        let Some(roster) = self.server.roster().cloned() else {
            assert!(
                !self.tell(id, |server| server.reveal(id, [event.b; 32])),
                "a nonce before the roster"
            );
            return;
        };
        if roster.index_of(&id).is_none() {
            assert!(!self.tell(id, |server| server.reveal(id, [event.b; 32])), "a nonce of a stranger");
            return;
        }
        let answer = self.agent(&id).client.see_roster(roster, FLOOR);
        let Some(mut nonce) = self.agrees(&id, answer) else { return };
        if event.change % 4 == 1 {
            flip(&mut nonce, event.b);
            assert!(
                !self.tell(id, |server| server.reveal(id, nonce)),
                "another nonce than the committed one"
            );
        } else {
            self.tell(id, |server| server.reveal(id, nonce));
        }
    }

    fn close_reveals(&mut self) {
        let Some(n) = self.server.roster().map(Roster::len) else { return };
        let ring = GraphParams { degree: 4, threshold: 3 };
        let params = if self.is_complete || n < 6 { params::complete(n) } else { ring };
        match self.server.close_reveals(params) {
            Ok(seed) => {
                let terms = Terms {
                    suite: SUITE,
                    degree: params.degree,
                    threshold: params.threshold,
                    floor: FLOOR,
                };
                (self.seed, self.terms) = (seed, Some(terms));
                assert_eq!(self.server.describe(sha256(DESCRIPTOR), SUITE), Ok(()));
            }
            Err(StepError::Unrevealed { members }) if self.draw < DRAWS => {
                self.draw += 1;
                let out: BTreeSet<MemberId> = members.into_iter().chain(self.left.iter().copied()).collect();
                for (id, agent) in &mut self.agents {
                    agent.client = Client::new(COHORT, self.draw, *id, &mut self.dice);
                    agent.is_false = false;
                }
                let stay = self.agents.keys().filter(|id| !out.contains(*id)).copied();
                self.server = Server::new(COHORT, self.draw, stay);
            }
            Err(StepError::Unrevealed { .. }) => {}
            Err(error) => panic!("parameters that fit were refused: {error}"),
        }
    }

    /// Opens the cohort for an agent, which checks it.
    fn open(&mut self, id: &MemberId) -> Option<()> {
        let roster_digest = self.server.roster()?.digest();
        let shown = self.server.opening_for(id).into_iter();
        let opening = Opening {
            descriptor: DESCRIPTOR,
            roster_digest,
            graph_seed: self.seed,
            terms: self.terms?,
            nonces: self.server.nonces(),
            neighbours: shown
                .map(|(advert, signature)| (advert.clone(), self.agents[&advert.member].key.public(), signature))
                .collect(),
        };
        let answer = self.agent(id).client.open(&opening);
        self.agrees(id, answer)
    }

    fn shares(&mut self, id: MemberId, event: Event) {
        let is_drawn = self.terms.is_some() && self.u2.is_none();
        let is_member = self.server.roster().is_some_and(|roster| roster.index_of(&id).is_some());
        if !is_drawn || !is_member || self.open(&id).is_none() {
            return;
        }
        let agent = self.agents.get_mut(&id).expect("an agent of this cohort");
        let answer = agent.client.deal(&agent.key, &mut self.dice);
        let Some(honest) = self.agrees(&id, answer) else { return };
        let mut shares = honest.clone();
        self.change_shares(&id, &mut shares, event);
        let is_changed = shares != honest;
        if self.tell(id, |server| server.shares(server.check_shares(id, shares)?.verify()?)) && is_changed {
            self.agent(&id).is_false = true;
        }
    }

    fn change_shares(&self, id: &MemberId, shares: &mut Vec<SealedShare>, Event { change, b, .. }: Event) {
        let place = usize::from(b) % shares.len().max(1);
        let Some(share) = shares.get_mut(place) else { return };
        match change % 8 {
            1 => {
                flip(&mut share.sealed, b);
                let bytes = [&sha256(DESCRIPTOR)[..], &share.from, &share.to, &share.sealed].concat();
                share.signature = self.agents[id].key.sign(Context::Share, &bytes);
            }
            2 => flip(&mut share.sealed, b),
            3 => flip(&mut share.to, b),
            4 => flip(&mut share.from, b),
            5 => drop(shares.remove(place)),
            6 => {
                let twice = share.clone();
                shares.push(twice);
            }
            _ => {}
        }
    }

    fn close_shares(&mut self) {
        if let Ok(u2) = self.server.close_shares(FLOOR) {
            let before = self.u2.get_or_insert(u2.clone());
            assert_eq!(*before, u2, "the shares were closed twice and differently");
            assert!(self.server.can_unmask(&u2), "shares that can't be unmasked were closed");
        }
    }

    /// Those of U2 that the event names upload, and are sealed.
    fn seal(&mut self, event: Event) {
        let Some(u2) = self.u2.clone() else { return };
        let named = u2
            .into_iter()
            .zip(0..8)
            .filter(|(_, place)| event.b >> place & 1 == 0)
            .map(|(id, _)| id);
        let mut survivors = BTreeSet::new();
        for id in named.collect::<Vec<_>>() {
            let shares = self.server.shares_for(&id);
            let answer = self.agent(&id).client.receive(shares);
            if self.agrees(&id, answer).is_some() {
                let answer = self.agent(&id).client.masks();
                let masks = self.agrees(&id, answer).expect("it has received shares");
                self.agent(&id).masks = masks;
                survivors.insert(id);
            }
        }
        let can = self.server.can_unmask(&survivors);
        if let Ok(bitmap) = self.server.seal(&survivors) {
            assert!(can, "survivors were sealed that can't be unmasked");
            let before = self.survivors.get_or_insert(bitmap.clone());
            assert_eq!(*before, bitmap, "two sets of survivors were sealed");
        }
    }

    fn survives(&self, id: &MemberId) -> bool {
        let index = self.server.roster().and_then(|roster| roster.index_of(id));
        index.zip(self.survivors.as_ref()).is_some_and(|(index, set)| set.contains(index))
    }

    fn consent(&mut self, id: MemberId, event: Event) {
        let Some(bitmap) = self.survivors.clone() else { return };
        if !self.survives(&id) {
            let bytes = survivors_bytes(&sha256(DESCRIPTOR), bitmap.as_bytes());
            let signature = self.agents[&id].key.sign(Context::Survivors, &bytes);
            assert!(
                !self.tell(id, |server| server.consent(id, signature)),
                "one who has not survived consented"
            );
            return;
        }
        let agent = self.agents.get_mut(&id).expect("an agent of this cohort");
        let answer = agent.client.consent(bitmap.as_bytes(), &agent.key);
        let Some(mut signature) = self.agrees(&id, answer) else { return };
        let is_forged = event.change % 4 == 1;
        if is_forged {
            flip(&mut signature, event.b);
        }
        let is_taken = self.tell(id, |server| server.consent(id, signature));
        assert!(!is_forged || !is_taken, "a forged consent was taken");
    }

    fn unmask(&mut self, id: MemberId, event: Event) {
        if !self.survives(&id) || !self.server.has_consents(&id) || self.agents[&id].client.survivors().is_none() {
            return;
        }
        let consents = self.server.consents_for(&id);
        let answer = self.agent(&id).client.unmask(&consents);
        let Some(shares) = self.agrees(&id, answer) else { return };
        let honest: Vec<(MemberId, [u8; 32])> = shares.iter().map(|(peer, share)| (*peer, *share.as_bytes())).collect();
        let mut given = honest.clone();
        let place = usize::from(event.b) % given.len().max(1);
        if let Some(one) = given.get_mut(place) {
            match event.change % 6 {
                1 => flip(&mut one.1, event.b),
                2 => flip(&mut one.0, event.b),
                3 => one.1 = [0xff; 32],
                4 => given.push(honest[place]),
                5 => drop(given.remove(place)),
                _ => {}
            }
        }
        let is_changed = given != honest;
        if self.tell(id, |server| server.unmask(id, &given)) && is_changed {
            self.liars.insert(id);
        }
    }

    fn restart(&mut self) {
        let Some(record) = self.server.record() else { return };
        self.server = Server::restore(record.clone()).expect("a record that was made");
        assert_eq!(self.server.record(), Some(record), "a record changed by being restored");
        // Who leaves is the caller's to remember.
        for id in &self.left {
            self.server.leave(id);
        }
        assert_eq!(self.server.bitmap(), self.survivors.as_ref(), "survivors changed by a restart");
    }

    /// What is solved removes exactly the masks that survivors laid.
    fn check_sum(&self) {
        let Some(unmasking) = self.server.unmasking() else { return };
        let Ok(solved) = unmasking.solve() else {
            let all_honest = self.liars.is_empty() && self.agents.values().all(|agent| !agent.is_false);
            assert!(!(all_honest && self.server.is_unmaskable()), "an honest cohort can't be unmasked");
            return;
        };
        assert!(self.server.is_unmaskable(), "solved with too few shares");
        assert!(
            solved.liars.iter().all(|liar| self.liars.contains(liar)),
            "an honest agent was called a liar"
        );
        let survivors: Vec<&Agent> = self
            .agents
            .iter()
            .filter(|(id, _)| self.survives(id))
            .map(|(_, agent)| agent)
            .collect();
        if survivors.iter().all(|agent| !agent.is_false) {
            let laid = survivors.iter().flat_map(|agent| &agent.masks).chain(&solved.masks);
            assert_eq!(laid.map(word).fold(0, u64::wrapping_add), 0, "masks were left in the sum");
        }
    }
}

/// The first word of a mask's stream, with its sign.
fn word(mask: &SignedMask) -> u64 {
    let mut bytes = [0; 8];
    MaskStream::new(SUITE, &mask.key, 0).fill(&mut bytes);
    let word = u64::from_le_bytes(bytes);
    match mask.sign {
        Sign::Plus => word,
        Sign::Minus => word.wrapping_neg(),
    }
}
