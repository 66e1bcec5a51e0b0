//! One agent that a server tries to cheat, with all that an honest server would have sent it.

use std::fmt::Debug;

use aimass_crypto::secagg::params::GraphParams;
use aimass_crypto::secagg::{Cheat, Client, MemberId, Opening, Roster, SealedShare};
use aimass_crypto::sign::SigningKey;

use crate::cohort::{Agent, Cohort};

const SEED: u64 = 77;
const MEMBERS: u32 = 12;
pub(crate) const DEGREE: u32 = 6;
pub(crate) const THRESHOLD: u32 = 4;

/// The steps of an agent, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Roster,
    Open,
    Deal,
    Receive,
    Consent,
    Unmask,
}

const STEPS: [Step; 6] = [Step::Roster, Step::Open, Step::Deal, Step::Receive, Step::Consent, Step::Unmask];

/// An agent, and the same cohort run honestly to its end. Both are made from one seed, so what was sent there is valid here.
pub(crate) struct Victim {
    pub(crate) id: MemberId,
    pub(crate) client: Client,
    pub(crate) key: SigningKey,
    /// The honest run.
    pub(crate) world: Cohort,
    pub(crate) roster: Roster,
    pub(crate) opening: Opening<'static>,
    pub(crate) shares: Vec<SealedShare>,
    pub(crate) bitmap: Vec<u8>,
    pub(crate) consents: Vec<(MemberId, [u8; 64])>,
    /// A neighbour of the victim, the one that dropped out before it uploaded.
    pub(crate) gone: MemberId,
    /// Its neighbours, the one that is gone included.
    pub(crate) neighbours: Vec<MemberId>,
    /// Somebody who is no neighbour.
    pub(crate) stranger: MemberId,
}

impl Victim {
    /// An agent that has taken all steps before this one, with an honest server.
    pub(crate) fn before(step: Step) -> Self {
        let cohort = || {
            let mut cohort = Cohort::new(SEED, MEMBERS);
            cohort.params = GraphParams {
                degree: DEGREE,
                threshold: THRESHOLD,
            };
            cohort
        };
        let mut world = cohort();
        let id = world.id(5);
        world.run_to_shares();
        let neighbours: Vec<MemberId> = world.server.opening_for(&id).iter().map(|(advert, _)| advert.member).collect();
        let is_stranger = |other: &MemberId| *other != id && !neighbours.contains(other);
        let stranger = world.ids().into_iter().find(is_stranger).expect("six of twelve are neighbours");
        let gone = neighbours[2];
        let survivors = world.seal_without(&[gone]);
        world.consent(&survivors);

        let Agent { key, client, .. } = cohort().agents.remove(&id).expect("the same agents");
        let mut victim = Self {
            id,
            client,
            key,
            roster: world.roster(),
            opening: world.opening(&id),
            shares: world.server.shares_for(&id),
            bitmap: world.server.bitmap().expect("sealed").as_bytes().to_vec(),
            consents: world.server.consents_for(&id),
            gone,
            neighbours,
            stranger,
            world,
        };
        for earlier in STEPS.into_iter().filter(|earlier| *earlier < step) {
            victim.honest(earlier).expect("the server is honest");
        }
        victim
    }

    /// Takes a step with an honest server.
    pub(crate) fn honest(&mut self, step: Step) -> Result<(), Cheat> {
        match step {
            Step::Roster => self.client.see_roster(self.roster.clone(), 3).map(drop),
            Step::Open => self.client.open(&self.opening),
            Step::Deal => self.client.deal(&self.key, &mut self.world.rng).map(drop),
            Step::Receive => self.client.receive(self.shares.clone()).map(drop),
            Step::Consent => self.client.consent(&self.bitmap, &self.key).map(drop),
            Step::Unmask => self.client.unmask(&self.consents).map(drop),
        }
    }

    /// The agent saw through it; and from now on it does nothing more, not even what is honest.
    pub(crate) fn refuses<T: Debug>(&mut self, answer: &Result<T, Cheat>, expected: &Cheat) {
        assert_eq!(answer.as_ref().err(), Some(expected), "the agent did not see through it");
        for step in STEPS {
            assert_eq!(self.honest(step), Err(expected.clone()), "{step:?} after a cheat");
        }
        assert_eq!(self.client.masks().err().as_ref(), Some(expected));
        assert_eq!(self.client.refused(), Some(expected));
        assert_eq!(self.client.survivors(), None);
    }

    /// Another agent's identity.
    pub(crate) fn key_of(&self, id: &MemberId) -> &SigningKey {
        &self.world.agents[id].key
    }
}

#[test]
fn with_an_honest_server_the_victim_goes_to_the_end_and_answers_again() {
    let mut victim = Victim::before(Step::Unmask);
    let shares = victim.client.unmask(&victim.consents).expect("the server is honest");
    assert_eq!(shares.iter().map(|(peer, _)| *peer).collect::<Vec<_>>(), victim.neighbours);
    for step in STEPS {
        assert_eq!(victim.honest(step), Ok(()), "{step:?} again");
    }
    assert_eq!(victim.client.unmask(&victim.consents), Ok(shares));
}
