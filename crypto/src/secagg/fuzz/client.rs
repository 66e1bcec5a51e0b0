//! An agent among puppets: all of its peers sign whatever the fuzzer wants.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::{Dice, Event, events, flip, pick};
use crate::hash::sha256;
use crate::secagg::mask::{MaskSecret, PrivateKey, SelfSecret, SignedMask, Suite};
use crate::secagg::params::{self, GraphParams};
use crate::secagg::shamir::{Secret, Share};
use crate::secagg::share::{SealKeys, SharePair, survivors_bytes};
use crate::secagg::{Advert, Bitmap, Cheat, Client, MemberId, Opening, Roster, SealedShare, Terms, draw_commitment};
use crate::sign::{Context, PublicKey, SigningKey};

const COHORT: [u8; 16] = [1; 16];
const DESCRIPTOR: &[u8] = b"a descriptor";
const FLOOR: u32 = 3;

/// One of the agent's peers, with all of its secrets.
struct Puppet {
    key: SigningKey,
    advert: Advert,
    nonce: [u8; 32],
    seal: PrivateKey,
    /// What it deals to the agent.
    shares: SharePair,
}

/// A cohort of puppets around one agent, and what an honest server would show it.
struct World {
    seed: u8,
    key: SigningKey,
    puppets: Vec<Puppet>,
    roster: Roster,
    opening: Opening<'static>,
    salt: [u8; 32],
    /// The agent's neighbours, as places in `puppets`.
    neighbours: Vec<usize>,
    is_own_holder: bool,
    sealed: Vec<SealedShare>,
}

/// Follows the events; whatever they are, the agent must not sign two sets of survivors, nor reveal both secrets of one agent, nor
/// anything without enough signatures, nor anything after it has refused.
///
/// # Panics
/// When it does.
pub fn client(bytes: &[u8]) {
    let Some((cohort, events)) = events(bytes) else { return };
    let world = world(cohort);
    let mut run = Run::new(world);
    for event in events {
        run.follow(event);
    }
}

/// An agent while it is asked, and all that it ever said.
struct Run {
    world: &'static World,
    client: Client,
    dice: Dice,
    refused: Option<Cheat>,
    rosters: BTreeSet<[u8; 32]>,
    masks: Option<Vec<SignedMask>>,
    /// The survivors that it signed.
    signed: Option<Vec<u8>>,
    /// Peers whose shares it received and could open.
    readable: BTreeSet<MemberId>,
    revealed: Option<Vec<(MemberId, Share)>>,
}

impl Run {
    fn new(world: &'static World) -> Self {
        let mut dice = Dice::new(world.seed);
        let key = SigningKey::generate(&mut dice);
        let client = Client::new(COHORT, 1, key.public().fingerprint(), &mut dice);
        Self {
            world,
            client,
            dice,
            refused: None,
            rosters: BTreeSet::new(),
            masks: None,
            signed: None,
            readable: BTreeSet::new(),
            revealed: None,
        }
    }

    fn follow(&mut self, event: Event) {
        match event.what % 7 {
            0 => self.roster(event),
            1 => {
                let opening = self.world.changed_opening(event);
                let answer = self.client.open(&opening);
                self.heard(answer);
            }
            2 => {
                let answer = self.client.deal(&self.world.key, &mut self.dice);
                if let Some(dealt) = self.heard(answer) {
                    assert_eq!(dealt.len(), self.world.neighbours.len(), "one share for each neighbour");
                }
            }
            3 => self.receive(event),
            4 => {
                let answer = self.client.masks();
                if let Some(masks) = self.heard(answer) {
                    let before = self.masks.get_or_insert(masks.clone());
                    assert_eq!(*before, masks, "an agent masked twice and differently");
                }
            }
            5 => self.consent(event),
            _ => self.unmask(event),
        }
    }

    /// After one refusal there is nothing but that.
    fn heard<T>(&mut self, answer: Result<T, Cheat>) -> Option<T> {
        if let Some(refused) = &self.refused {
            assert_eq!(answer.as_ref().err(), Some(refused), "an agent went on after it had refused");
        }
        match answer {
            Ok(value) => Some(value),
            Err(cheat) => {
                self.refused = Some(cheat);
                None
            }
        }
    }

    fn roster(&mut self, event: Event) {
        let Some(roster) = self.world.changed_roster(event) else { return };
        let digest = roster.digest();
        let answer = self.client.see_roster(roster, FLOOR);
        if self.heard(answer).is_some() {
            self.rosters.insert(digest);
            assert_eq!(self.rosters.len(), 1, "an agent revealed its nonce for two rosters");
        }
    }

    fn receive(&mut self, event: Event) {
        let shares = self.world.changed_shares(event);
        let dealers: BTreeSet<MemberId> = shares.iter().map(|share| share.from).collect();
        let answer = self.client.receive(shares);
        if let Some(received) = self.heard(answer) {
            let unreadable = BTreeSet::from_iter(received.unreadable);
            self.readable = &dealers - &unreadable;
        }
    }

    fn consent(&mut self, event: Event) {
        let bitmap = match event.change % 3 {
            0 => self.world.all().as_bytes().to_vec(),
            1 => vec![event.a],
            _ => vec![event.a, event.b],
        };
        let answer = self.client.consent(&bitmap, &self.world.key);
        if self.heard(answer).is_some() {
            let before = self.signed.get_or_insert(bitmap.clone());
            assert_eq!(*before, bitmap, "an agent signed two sets of survivors");
            let set = Bitmap::from_bytes(self.world.roster.len(), &bitmap);
            assert!(set.is_some_and(|set| set.count() >= FLOOR), "an agent signed too few survivors");
        }
    }

    fn unmask(&mut self, event: Event) {
        let shown = self.signed.clone().unwrap_or_else(|| self.world.all().as_bytes().to_vec());
        let (consents, valid) = self.world.consents(event, &shown);
        let answer = self.client.unmask(&consents);
        let Some(shares) = self.heard(answer) else { return };
        let signed = self.signed.as_ref().expect("an agent revealed shares without survivors");
        let holders = valid + u32::from(self.world.is_own_holder);
        assert!(
            holders >= self.world.opening.terms.threshold,
            "an agent revealed shares without enough signatures"
        );
        let set = Bitmap::from_bytes(self.world.roster.len(), signed).expect("it was signed");
        let mut seen = BTreeSet::new();
        for (peer, share) in &shares {
            assert!(seen.insert(peer), "an agent revealed two shares of one agent");
            self.check_share(&set, peer, share);
        }
        let before = self.revealed.get_or_insert(shares.clone());
        assert_eq!(*before, shares, "an agent revealed more than once, and differently");
    }

    /// It is of the one secret that these survivors allow.
    fn check_share(&self, survivors: &Bitmap, peer: &MemberId, share: &Share) {
        let Some(puppet) = self.world.puppets.iter().find(|puppet| puppet.advert.member == *peer) else {
            assert!(self.world.is_own_holder && *peer == self.world.own(), "a share of a stranger");
            return;
        };
        let index = self.world.roster.index_of(peer).expect("a member");
        let allowed = if survivors.contains(index) {
            &puppet.shares.own
        } else {
            &puppet.shares.mask
        };
        assert_eq!(
            share.as_bytes(),
            allowed.as_bytes(),
            "an agent revealed what these survivors do not allow"
        );
        assert!(self.readable.contains(peer), "a share of one who dealt none");
    }
}

fn world(cohort: u8) -> &'static World {
    static WORLDS: [OnceLock<World>; 2] = [OnceLock::new(), OnceLock::new()];
    let seed = cohort % 2;
    WORLDS[usize::from(seed)].get_or_init(|| World::new(seed))
}

impl World {
    /// 0: the complete graph of 5; 1: a ring of 8 with 4 neighbours each.
    fn new(seed: u8) -> Self {
        let GraphParams { degree, threshold } = if seed == 0 {
            params::complete(5)
        } else {
            GraphParams { degree: 4, threshold: 3 }
        };
        let members = if seed == 0 { 5 } else { 8 };
        let mut dice = Dice::new(seed);
        let key = SigningKey::generate(&mut dice);
        let own = key.public().fingerprint();
        let client = Client::new(COHORT, 1, own, &mut dice);
        let own_nonce = {
            let mut again = Dice::new(seed);
            SigningKey::generate(&mut again);
            let mut nonce = [0; 32];
            rand_core::Rng::fill_bytes(&mut again, &mut nonce);
            nonce
        };
        let mut puppets: Vec<Puppet> = (1..members).map(|_| Puppet::new(&mut dice)).collect();
        puppets.sort_unstable_by_key(|puppet| puppet.advert.member);
        let mut all: Vec<(Advert, [u8; 32])> = puppets.iter().map(|puppet| (puppet.advert.clone(), puppet.nonce)).collect();
        all.push((client.advert(), own_nonce));
        all.sort_unstable_by_key(|(advert, _)| advert.member);
        let listed = all.iter().map(|(advert, _)| (advert.member, advert.draw_commitment)).collect();
        let roster = Roster::new(COHORT, 1, listed).expect("a roster");
        let nonces: Vec<[u8; 32]> = all.iter().map(|(_, nonce)| *nonce).collect();
        let graph_seed = roster.graph_seed(&nonces).expect("the nonces are theirs");
        let graph = roster.graph(graph_seed, GraphParams { degree, threshold }).expect("they fit");
        let around = roster.at(&graph.neighbours(roster.index_of(&own).expect("it is a member")));
        let neighbours: Vec<usize> = (0..puppets.len())
            .filter(|place| around.contains(&puppets[*place].advert.member))
            .collect();
        let salt = sha256(DESCRIPTOR);
        let opening = Opening {
            descriptor: DESCRIPTOR,
            roster_digest: roster.digest(),
            graph_seed,
            terms: Terms {
                suite: Suite::ChaCha20,
                degree,
                threshold,
                floor: FLOOR,
            },
            nonces,
            neighbours: neighbours.iter().map(|place| puppets[*place].shown()).collect(),
        };
        let seal = |place: &usize| puppets[*place].deal(&client.advert(), salt);
        let sealed = neighbours.iter().map(seal).collect();
        Self {
            seed,
            key,
            roster,
            opening,
            salt,
            neighbours,
            is_own_holder: graph.is_complete(),
            sealed,
            puppets,
        }
    }

    fn own(&self) -> MemberId {
        self.key.public().fingerprint()
    }

    fn all(&self) -> Bitmap {
        Bitmap::from_indices(self.roster.len(), 0..self.roster.len())
    }

    fn neighbour(&self, number: u8) -> &Puppet {
        &self.puppets[self.neighbours[usize::from(number) % self.neighbours.len()]]
    }

    fn changed_roster(&self, event: Event) -> Option<Roster> {
        let mut members = self.roster.members().to_vec();
        let (mut cohort, mut draw) = (COHORT, 1);
        let place = usize::from(event.a) % members.len();
        match event.change % 6 {
            1 => drop(members.remove(place)),
            2 => flip(&mut members[place].1, event.b),
            3 => draw = event.a,
            4 => flip(&mut cohort, event.a),
            5 => members.insert(place, members[usize::from(event.b) % members.len()]),
            _ => {}
        }
        Roster::new(cohort, draw, members).ok()
    }

    fn changed_opening(&self, event: Event) -> Opening<'static> {
        let mut opening = self.opening.clone();
        let Event { change, a, b, .. } = event;
        let place = usize::from(a) % opening.neighbours.len();
        let copied = opening.neighbours[usize::from(b) % opening.neighbours.len()].clone();
        let shown = &mut opening.neighbours[place];
        match change % 15 {
            1 => opening.descriptor = b"another descriptor",
            2 => flip(&mut opening.graph_seed, a),
            3 => {
                let nonce = usize::from(a) % opening.nonces.len();
                flip(&mut opening.nonces[nonce], b);
            }
            4 => (opening.terms.degree, opening.terms.threshold) = (a.into(), b.into()),
            5 => opening.terms.floor = a.into(),
            6 => drop(opening.neighbours.remove(place)),
            7 => *shown = copied,
            8 => flip(&mut shown.0.mask_key, b),
            9 => {
                flip(&mut shown.0.seal_key, b);
                shown.2 = shown.0.sign(&self.neighbour(a).key);
            }
            10 => {
                flip(&mut shown.0.self_commitment, b);
                shown.2 = shown.0.sign(&self.neighbour(a).key);
            }
            11 => flip(&mut shown.2, b),
            12 => shown.1 = copied.1,
            13 => {
                shown.0.mask_key = if b.is_multiple_of(2) { copied.0.mask_key } else { [b / 2; 32] };
                shown.2 = shown.0.sign(&self.neighbour(a).key);
            }
            14 => drop(opening.nonces.pop()),
            _ => {}
        }
        opening
    }

    fn changed_shares(&self, event: Event) -> Vec<SealedShare> {
        let mut shares = self.sealed.clone();
        let Event { change, a, b, .. } = event;
        let place = usize::from(a) % shares.len();
        match change % 8 {
            1 => {
                let mut bits = (0..8).map(|bit| a >> bit & 1 == 1);
                shares.retain(|_| bits.next().unwrap_or(true));
            }
            2 => {
                flip(&mut shares[place].sealed, b);
                let bytes = [&self.salt[..], &shares[place].from, &shares[place].to, &shares[place].sealed].concat();
                shares[place].signature = self.neighbour(a).key.sign(Context::Share, &bytes);
            }
            3 => flip(&mut shares[place].sealed, b),
            4 => flip(&mut shares[place].to, b),
            5 => shares[place].from = self.puppets[usize::from(b) % self.puppets.len()].advert.member,
            6 => shares.push(shares[place].clone()),
            7 => flip(&mut shares[place].signature, b),
            _ => {}
        }
        shares
    }

    /// Signatures of puppets under survivors, and how many neighbours among them signed `shown` validly.
    fn consents(&self, event: Event, shown: &[u8]) -> (Vec<(MemberId, [u8; 64])>, u32) {
        let Event { change, a, b, .. } = event;
        let other = [b];
        let bitmap = if change % 5 == 2 { &other[..] } else { shown };
        let set = Bitmap::from_bytes(self.roster.len(), bitmap);
        let survives = |puppet: &&Puppet| {
            let index = self.roster.index_of(&puppet.advert.member);
            index.zip(set.as_ref()).is_none_or(|(index, set)| set.contains(index))
        };
        let around = self.neighbours.iter().map(|place| &self.puppets[*place]).filter(survives);
        let signs = |(place, _): &(usize, &Puppet)| change % 5 != 1 || a >> (place % 8) & 1 == 1;
        let signed = survivors_bytes(&self.salt, bitmap);
        let sign = |puppet: &Puppet| (puppet.advert.member, puppet.key.sign(Context::Survivors, &signed));
        let mut consents: Vec<_> = around.enumerate().filter(signs).map(|(_, puppet)| sign(puppet)).collect();
        let mut valid = if bitmap == shown { consents.len() as u32 } else { 0 };
        match change % 5 {
            3 => {
                if let Some(last) = consents.last_mut() {
                    flip(&mut last.1, b);
                    valid -= 1;
                }
            }
            4 => consents.extend(pick(&consents.clone(), a)),
            _ => {}
        }
        (consents, valid)
    }
}

impl Puppet {
    fn new(dice: &mut Dice) -> Self {
        let key = SigningKey::generate(dice);
        let mut nonce = [0; 32];
        rand_core::Rng::fill_bytes(dice, &mut nonce);
        let mask = MaskSecret::random(dice);
        let seal = PrivateKey::random(dice);
        let mut share = || Share::from_bytes(Secret::random(dice).as_bytes()).expect("a scalar");
        let shares = SharePair {
            mask: share(),
            own: share(),
        };
        let advert = Advert {
            cohort: COHORT,
            draw: 1,
            member: key.public().fingerprint(),
            mask_key: mask.private_key().public_key(),
            seal_key: seal.public_key(),
            self_commitment: SelfSecret::random(dice).commitment(),
            draw_commitment: draw_commitment(&nonce),
        };
        Self {
            key,
            advert,
            nonce,
            seal,
            shares,
        }
    }

    fn shown(&self) -> (Advert, PublicKey, [u8; 64]) {
        (self.advert.clone(), self.key.public(), self.advert.sign(&self.key))
    }

    fn deal(&self, to: &Advert, salt: [u8; 32]) -> SealedShare {
        let keys = SealKeys::agree(&self.seal, self.advert.member, to.member, &to.seal_key, salt).expect("no weak key");
        keys.seal(&self.shares, &self.key)
    }
}
