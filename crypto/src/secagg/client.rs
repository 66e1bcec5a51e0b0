//! An agent's side of one draw of a cohort.
//!
//! ```text
//! Client::new -> advert -> see_roster -> open -> deal -> receive -> masks -> consent -> unmask
//!                              |          |       |        |                   |         |
//!                              +----------+-------+--------+-------------------+---------+--> refused: secrets dropped, one Cheat for ever
//! ```
//!
//! # Source
//! Bonawitz et al. 2017, figure 4 (the rounds, with the consistency check of the active adversary); Bell et al. 2020, section 4 (the same
//! over a graph, against a semi-malicious server).

mod opening;
mod round;

use std::fmt;

use rand_core::CryptoRng;

pub use self::opening::{Opening, Terms};
pub use self::round::Received;
use self::round::Round;
use super::advert::draw_commitment;
use super::mask::{MaskSecret, PrivateKey, SelfSecret, SignedMask};
use super::roster::MIN_MEMBERS;
use super::shamir::Share;
use super::{Advert, Bitmap, Cheat, MemberId, Roster, SealedShare};
use crate::sign::SigningKey;

/// An agent in one draw of one cohort. A new draw is a new client: keys serve once.
///
/// Each step may be asked for again with the same answer, as after a broken connection. Everything else that is not the protocol is a
/// [`Cheat`]: the client drops its secrets and from then on only repeats it.
pub struct Client {
    advert: Advert,
    state: State,
}

/// How far it is.
enum State {
    /// Nobody has been shown.
    Fresh(Keys),
    /// The roster is shown; the nonce may be revealed.
    Pledged { keys: Keys, roster: Roster, floor: u32 },
    /// Descriptor, graph and neighbours are known.
    Open(Box<Round>),
    /// Somebody cheated.
    Refused(Cheat),
}

/// What a client makes for one draw.
struct Keys {
    mask: MaskSecret,
    own: SelfSecret,
    seal: PrivateKey,
    nonce: [u8; 32],
}

impl Client {
    /// Fresh keys for a draw of a cohort.
    pub fn new(cohort: [u8; 16], draw: u8, member: MemberId, rng: &mut impl CryptoRng) -> Self {
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        let keys = Keys {
            mask: MaskSecret::random(rng),
            own: SelfSecret::random(rng),
            seal: PrivateKey::random(rng),
            nonce,
        };
        let advert = Advert {
            cohort,
            draw,
            member,
            mask_key: keys.mask.private_key().public_key(),
            seal_key: keys.seal.public_key(),
            self_commitment: keys.own.commitment(),
            draw_commitment: draw_commitment(&nonce),
        };
        Self {
            advert,
            state: State::Fresh(keys),
        }
    }

    /// Its public half, to be signed by the agent's identity ([`Advert::sign`]).
    pub fn advert(&self) -> Advert {
        self.advert.clone()
    }

    /// Checks the roster against what this agent sent, and gives the nonce to reveal.
    ///
    /// `floor` is the fewest members, and later survivors, that the agent consents to; at least 3 in any case.
    ///
    /// # Errors
    /// [`Cheat::ForeignRoster`], [`Cheat::NotInRoster`], [`Cheat::OtherCommitment`], [`Cheat::SmallRoster`], [`Cheat::TwoRosters`].
    pub fn see_roster(&mut self, roster: Roster, floor: u32) -> Result<[u8; 32], Cheat> {
        let floor = floor.max(MIN_MEMBERS);
        self.step(|advert, state| match state {
            State::Fresh(keys) => {
                check_roster(advert, &roster, floor)?;
                let nonce = keys.nonce;
                Ok((State::Pledged { keys, roster, floor }, nonce))
            }
            State::Pledged { keys, roster: seen, floor } if seen == roster => {
                let nonce = keys.nonce;
                Ok((State::Pledged { keys, roster, floor }, nonce))
            }
            State::Open(round) if round.is_among(&roster) => {
                let nonce = round.nonce();
                Ok((State::Open(round), nonce))
            }
            _ => Err(Cheat::TwoRosters),
        })
    }

    /// Checks descriptor, nonces, graph and neighbours. Whether degree and threshold are enough for the agent's own assumptions is for
    /// the caller to check ([`super::params`]), as are the neighbours' certificates.
    ///
    /// # Errors
    /// [`Cheat::OtherRoster`], [`Cheat::NonceCount`], [`Cheat::WrongNonce`], [`Cheat::WrongSeed`], [`Cheat::LowFloor`],
    /// [`Cheat::BadTerms`]; of neighbours [`Cheat::NotNeighbour`], [`Cheat::MissingNeighbour`], [`Cheat::ReplayedAdvert`],
    /// [`Cheat::ForgedAdvert`], [`Cheat::CopiedKey`], [`Cheat::WeakKey`]; another one than before: [`Cheat::TwoDescriptors`],
    /// [`Cheat::TwoOpenings`]. Before the roster: [`Cheat::OutOfTurn`].
    pub fn open(&mut self, opening: &Opening<'_>) -> Result<(), Cheat> {
        self.step(|advert, state| match state {
            State::Pledged { keys, roster, floor } => {
                let round = opening::check(opening, advert, keys, roster, floor)?;
                Ok((State::Open(Box::new(round)), ()))
            }
            State::Open(round) => {
                round.check_same(opening)?;
                Ok((State::Open(round), ()))
            }
            _ => Err(Cheat::OutOfTurn { step: "the opening" }),
        })
    }

    /// Shares of both secrets, one for each neighbour, ascending. `key` is the agent's identity. The secrets themselves are dropped.
    ///
    /// # Errors
    /// [`Cheat::OutOfTurn`] before [`Self::open`].
    pub fn deal(&mut self, key: &SigningKey, rng: &mut impl CryptoRng) -> Result<Vec<SealedShare>, Cheat> {
        self.in_round("dealing shares", |round| Ok(round.deal(key, rng)))
    }

    /// Takes the neighbours' shares. From here on it is fixed with whom this agent shares masks.
    ///
    /// # Errors
    /// [`Cheat::SwappedShare`], [`Cheat::NotNeighbour`], [`Cheat::DoubleShare`], [`Cheat::ForgedShare`], [`Cheat::FewHolders`];
    /// [`Cheat::TwoShareSets`]; [`Cheat::OutOfTurn`] before [`Self::deal`].
    pub fn receive(&mut self, shares: Vec<SealedShare>) -> Result<Received, Cheat> {
        self.in_round("the neighbours' shares", |round| round.receive(shares))
    }

    /// The masks to lay over the agent's residues: its own, and one with each neighbour that it received a share from.
    ///
    /// # Errors
    /// [`Cheat::OutOfTurn`] before [`Self::receive`].
    pub fn masks(&mut self) -> Result<Vec<SignedMask>, Cheat> {
        self.in_round("masking", |round| round.masks())
    }

    /// Checks the survivors (a [`Bitmap`]'s bytes) and signs them; never a second set. `key` is the agent's identity.
    ///
    /// # Errors
    /// [`Cheat::BadSurvivors`], [`Cheat::NotSurvivor`], [`Cheat::FewSurvivors`], [`Cheat::UnknownSurvivor`],
    /// [`Cheat::FewSurvivingHolders`]; [`Cheat::TwoSurvivorSets`]; [`Cheat::OutOfTurn`] before [`Self::receive`].
    pub fn consent(&mut self, bitmap: &[u8], key: &SigningKey) -> Result<[u8; 64], Cheat> {
        self.in_round("consent to the survivors", |round| round.consent(bitmap, key))
    }

    /// Checks neighbours' signatures under the same survivors, and gives this agent's shares, ascending: of a neighbour's self secret
    /// where it survived, of its mask secret where it did not.
    ///
    /// The caller marks the contribution as spent, durably, before the answer leaves the device.
    ///
    /// # Errors
    /// [`Cheat::ForgedConsent`], [`Cheat::FewConsents`]; [`Cheat::OutOfTurn`] before [`Self::consent`].
    pub fn unmask(&mut self, consents: &[(MemberId, [u8; 64])]) -> Result<Vec<(MemberId, Share)>, Cheat> {
        self.in_round("unmasking", |round| round.unmask(consents))
    }

    /// The survivors that were consented to.
    pub fn survivors(&self) -> Option<&Bitmap> {
        match &self.state {
            State::Open(round) => round.survivors(),
            _ => None,
        }
    }

    /// Why it answers nothing any more.
    pub fn refused(&self) -> Option<&Cheat> {
        match &self.state {
            State::Refused(cheat) => Some(cheat),
            _ => None,
        }
    }

    /// One step: the state goes in whole and comes back, or is gone.
    fn step<T>(&mut self, step: impl FnOnce(&Advert, State) -> Result<(State, T), Cheat>) -> Result<T, Cheat> {
        let before = std::mem::replace(&mut self.state, State::Refused(Cheat::OutOfTurn { step: "a step" }));
        let after = match before {
            State::Refused(cheat) => Err(cheat),
            state => step(&self.advert, state),
        };
        match after {
            Ok((state, value)) => {
                self.state = state;
                Ok(value)
            }
            Err(cheat) => {
                self.state = State::Refused(cheat.clone());
                Err(cheat)
            }
        }
    }

    fn in_round<T>(&mut self, name: &'static str, step: impl FnOnce(&mut Round) -> Result<T, Cheat>) -> Result<T, Cheat> {
        self.step(|_, state| match state {
            State::Open(mut round) => {
                let value = step(&mut round)?;
                Ok((State::Open(round), value))
            }
            _ => Err(Cheat::OutOfTurn { step: name }),
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Fresh(_) => "fresh",
            State::Pledged { .. } => "pledged",
            State::Open(_) => "open",
            State::Refused(_) => "refused",
        };
        f.debug_struct("Client")
            .field("member", &hex::encode(self.advert.member))
            .field("draw", &self.advert.draw)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

fn check_roster(advert: &Advert, roster: &Roster, floor: u32) -> Result<(), Cheat> {
    if (roster.cohort(), roster.draw()) != (advert.cohort, advert.draw) {
        return Err(Cheat::ForeignRoster);
    }
    match roster.commitment(&advert.member) {
        None => return Err(Cheat::NotInRoster),
        Some(commitment) if commitment != advert.draw_commitment => return Err(Cheat::OtherCommitment),
        Some(_) => {}
    }
    if roster.len() < floor {
        return Err(Cheat::SmallRoster {
            members: roster.len(),
            floor,
        });
    }
    Ok(())
}
