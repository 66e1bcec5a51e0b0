//! What a server can do wrong towards an agent, and an agent towards a server.

use super::{MemberId, RosterError};

/// What a server (or a peer through it) did that an honest agent does not go on after. One variant is one kind of cheating.
///
/// A [`super::Client`] that has returned one has dropped its secrets, and returns the same one to whatever it is asked next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cheat {
    /// A step out of its order.
    #[error("{step} was asked for out of turn: this cohort is not run by the protocol")]
    OutOfTurn {
        /// Which.
        step: &'static str,
    },
    /// A roster that is none.
    #[error("the cohort's roster is malformed: {0}")]
    BadRoster(RosterError),
    /// The roster of another cohort or draw.
    #[error("the roster shown belongs to another cohort or draw: somebody replays old messages")]
    ForeignRoster,
    /// A roster without this agent.
    #[error("the roster shown does not hold this agent, so its upload could not be hidden among theirs")]
    NotInRoster,
    /// This agent with another commitment than its own.
    #[error("the roster shown holds another commitment than this agent's: somebody speaks in its name")]
    OtherCommitment,
    /// Fewer members than the agent asks for.
    #[error("the cohort has {members} members and must have at least {floor}: too few to hide among")]
    SmallRoster {
        /// How many.
        members: u32,
        /// How many there must be.
        floor: u32,
    },
    /// A second roster for the same draw.
    #[error("the server showed two rosters for one draw: it may be choosing this agent's neighbours")]
    TwoRosters,
    /// The descriptor is over another roster than the one that this agent revealed its nonce for.
    #[error("the descriptor names another roster than the one shown before: the server may be choosing this agent's neighbours")]
    OtherRoster,
    /// Not one nonce a member.
    #[error("{have} nonces were shown for {members} members: the graph can't be checked")]
    NonceCount {
        /// Nonces shown.
        have: usize,
        /// Members of the roster.
        members: u32,
    },
    /// A nonce that is not the committed one.
    #[error("the nonce shown for {} is not the one it committed to: the graph was not drawn by chance", hex::encode(.peer))]
    WrongNonce {
        /// Whose.
        peer: MemberId,
    },
    /// A graph seed that does not come from the nonces.
    #[error("the graph's seed is not the hash of the nonces: the graph was not drawn by chance")]
    WrongSeed,
    /// A graph that can't be, or a threshold that does not fit it.
    #[error("a graph of degree {degree} with threshold {threshold} among {members} members gives no protection")]
    BadTerms {
        /// Neighbours of each member.
        degree: u32,
        /// Shares that give a secret.
        threshold: u32,
        /// Members of the roster.
        members: u32,
    },
    /// A descriptor with a lower floor than this agent's.
    #[error("the descriptor allows a sum of {floor} contributions and this agent asks for at least {own}")]
    LowFloor {
        /// The descriptor's.
        floor: u32,
        /// This agent's.
        own: u32,
    },
    /// A second descriptor for the same cohort: another model, other terms.
    #[error("the server showed two descriptors for one cohort: different agents may have been given different models")]
    TwoDescriptors,
    /// The same descriptor with other nonces or neighbours.
    #[error("the server opened one cohort twice and differently: somebody is lying about this agent's neighbours")]
    TwoOpenings,
    /// A neighbour that the graph does not give.
    #[error("{} was shown as a neighbour and is none in the graph", hex::encode(.peer))]
    NotNeighbour {
        /// Who.
        peer: MemberId,
    },
    /// A neighbour that was not shown.
    #[error("the keys of {}, a neighbour in the graph, were not shown", hex::encode(.peer))]
    MissingNeighbour {
        /// Who.
        peer: MemberId,
    },
    /// An advert that its member did not sign, or the key of somebody else.
    #[error("the keys shown for {} are not signed by that agent: somebody speaks in its name", hex::encode(.peer))]
    ForgedAdvert {
        /// In whose name.
        peer: MemberId,
    },
    /// An advert for another cohort, another draw, or with another commitment than the roster's.
    #[error("the keys shown for {} were made for another cohort or draw: somebody replays old messages", hex::encode(.peer))]
    ReplayedAdvert {
        /// Whose.
        peer: MemberId,
    },
    /// A public key that gives everybody the same shared secret (RFC 7748, section 6.1).
    #[error("a key of {} is weak: a mask made with it hides nothing", hex::encode(.peer))]
    WeakKey {
        /// Whose.
        peer: MemberId,
    },
    /// The mask key of another neighbour, or this agent's: two masks with one key may cancel.
    #[error("{} shows a mask key of somebody else: masks made with it could cancel", hex::encode(.peer))]
    CopiedKey {
        /// Who shows it.
        peer: MemberId,
    },
    /// A share that is not for this agent.
    #[error("a share from {} for another agent was handed to this one", hex::encode(.peer))]
    SwappedShare {
        /// Its dealer.
        peer: MemberId,
    },
    /// A share that its dealer did not sign for this agent and this cohort.
    #[error("a share from {} is not signed by it for this agent and cohort: it was swapped, changed or replayed", hex::encode(.peer))]
    ForgedShare {
        /// In whose name.
        peer: MemberId,
    },
    /// Two shares of one dealer.
    #[error("two shares from {} were shown", hex::encode(.peer))]
    DoubleShare {
        /// Its dealer.
        peer: MemberId,
    },
    /// A second, different set of shares.
    #[error("the server showed two sets of shares for one cohort")]
    TwoShareSets,
    /// Fewer holders of this agent's secrets than the threshold.
    #[error("only {have} agents hold shares of this agent's secrets and {threshold} are needed: the cohort can't be finished")]
    FewHolders {
        /// How many.
        have: u32,
        /// How many are needed.
        threshold: u32,
    },
    /// A survivor set that is none.
    #[error("the set of survivors is malformed: it must have one bit for each of {members} members")]
    BadSurvivors {
        /// Members of the roster.
        members: u32,
    },
    /// A second survivor set.
    #[error("the server showed two sets of survivors for one cohort: with both it could unmask a single agent's upload")]
    TwoSurvivorSets,
    /// A survivor set without this agent.
    #[error("the set of survivors does not hold this agent, which was asked to unmask it all the same")]
    NotSurvivor,
    /// Fewer survivors than the floor.
    #[error("only {have} agents survived and at least {floor} must: too few to hide among")]
    FewSurvivors {
        /// How many.
        have: u32,
        /// How many there must be.
        floor: u32,
    },
    /// Fewer holders of this agent's secrets among the survivors than the threshold.
    #[error("only {have} holders of this agent's secrets survived and {threshold} are needed: the cohort can't be finished")]
    FewSurvivingHolders {
        /// How many.
        have: u32,
        /// How many are needed.
        threshold: u32,
    },
    /// A survivor that this agent was told had dropped out before it uploaded.
    #[error("{} is among the survivors, but its share was never shown: different agents were told different things", hex::encode(.peer))]
    UnknownSurvivor {
        /// Who.
        peer: MemberId,
    },
    /// A signature under the survivors that its member did not make, or of one who is no neighbour among them.
    #[error("the survivors are not signed by {}: somebody speaks in its name, or it was shown another set", hex::encode(.peer))]
    ForgedConsent {
        /// In whose name.
        peer: MemberId,
    },
    /// Fewer signatures under the survivors than the threshold.
    #[error("{have} of this agent's neighbours signed the survivors and {threshold} are needed: others may have been shown another set")]
    FewConsents {
        /// How many.
        have: u32,
        /// How many are needed.
        threshold: u32,
    },
}

impl From<RosterError> for Cheat {
    fn from(error: RosterError) -> Self {
        match error {
            RosterError::NonceCount { have, members } => Self::NonceCount { have, members },
            RosterError::WrongNonce { member } => Self::WrongNonce { peer: member },
            other => Self::BadRoster(other),
        }
    }
}

/// What an agent did wrong. Nothing has changed by it; the caller drops the agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Not of this cohort, or no more.
    #[error("it is no member of this cohort")]
    NotMember,
    /// Too early or too late.
    #[error("{step} came out of turn")]
    OutOfTurn {
        /// What came.
        step: &'static str,
    },
    /// Something else than what it sent before.
    #[error("{step} came twice, and differed")]
    Changed {
        /// What came.
        step: &'static str,
    },
    /// An advert for another cohort, draw or member.
    #[error("its advert is for another cohort, draw or member")]
    ForeignAdvert,
    /// An advert that it did not sign, or a key that is not its own.
    #[error("its advert is not signed by its own identity")]
    ForgedAdvert,
    /// A public key of low order.
    #[error("one of its public keys is weak")]
    WeakKey,
    /// A public key of another member.
    #[error("one of its public keys is also that of {}", hex::encode(.peer))]
    CopiedKey {
        /// Whose it is.
        peer: MemberId,
    },
    /// A nonce that is not the committed one.
    #[error("its nonce is not the one it committed to")]
    WrongNonce,
    /// A share that is not from it, for no neighbour, or twice for one.
    #[error("a share that it dealt is for {}, which is no neighbour or has one already, or is not from it", hex::encode(.peer))]
    StrayShare {
        /// For whom.
        peer: MemberId,
    },
    /// A neighbour without a share.
    #[error("it dealt no share for {}", hex::encode(.peer))]
    MissingShare {
        /// For whom.
        peer: MemberId,
    },
    /// A share that it did not sign.
    #[error("its share for {} is not signed by it", hex::encode(.peer))]
    ForgedShare {
        /// For whom.
        peer: MemberId,
    },
    /// Consent or shares of one who is not among the survivors.
    #[error("it is not among the survivors")]
    NotSurvivor,
    /// A signature under the survivors that does not hold.
    #[error("it did not sign the survivors of this cohort")]
    ForgedConsent,
    /// An unmask share of somebody whose shares it does not hold, or twice of one.
    #[error("it gave an unmask share of {}, which it does not hold, or gave before", hex::encode(.peer))]
    StrayUnmask {
        /// Whose.
        peer: MemberId,
    },
    /// An unmask share that is no scalar.
    #[error("its unmask share of {} is not a scalar", hex::encode(.peer))]
    BadUnmask {
        /// Whose.
        peer: MemberId,
    },
}

/// What a step that the server takes itself lacks. It has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// Too few members are left for the cohort to go on.
    #[error("{have} members are left and at least {need} are needed")]
    TooFew {
        /// How many.
        have: usize,
        /// How many there must be.
        need: usize,
    },
    /// More members than a roster may have.
    #[error("{have} members are there and at most {most} may be")]
    TooMany {
        /// How many.
        have: usize,
        /// How many there may be.
        most: usize,
    },
    /// Somebody did not reveal its nonce: draw again without them.
    #[error("{} members did not reveal their nonces", .members.len())]
    Unrevealed {
        /// Who.
        members: Vec<MemberId>,
    },
    /// Degree and threshold that do not fit the roster.
    #[error("degree {degree} and threshold {threshold} do not fit {members} members")]
    BadParams {
        /// Neighbours of each.
        degree: u32,
        /// Shares that give a secret.
        threshold: u32,
        /// Members of the roster.
        members: u32,
    },
    /// Survivors that did not deal and receive shares, or too few of somebody's holders.
    #[error("the survivors do not suffice to unmask their sum")]
    NotUnmaskable,
    /// Another set of survivors is sealed.
    #[error("another set of survivors is sealed already")]
    OtherSurvivors,
    /// A step before its turn, or after it.
    #[error("{step} is not the cohort's next step")]
    OutOfTurn {
        /// Which.
        step: &'static str,
    },
    /// A record that is no cohort's.
    #[error("the record of the cohort is damaged: {reason}")]
    BadRecord {
        /// What is wrong.
        reason: &'static str,
    },
}
