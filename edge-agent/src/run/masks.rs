//! The steps of a cohort with masks, as requests: each is answered when the other members have taken it too.

use aimass_federation::RequestKind;
use aimass_federation::agent::{Effect, Event};
use aimass_net::{Connection, NetError};
use aimass_protocol::CohortId;
use aimass_protocol::message::agent::AgentRequest;
use aimass_protocol::message::secagg::{
    Advert, Consent, Opening, Reveal, RevealReply, Roster, Shares, SharesReply, SurvivorsQuery, Unmask,
};

use super::requests::LONG_POLL;

/// What a member asks.
#[derive(Debug)]
pub enum MaskStep {
    /// See [`Effect::Advertise`].
    Advert(Advert),
    /// See [`Effect::Reveal`].
    Reveal(Reveal),
    /// See [`Effect::DealShares`].
    Shares(Shares),
    /// See [`Effect::AskSurvivors`].
    Survivors(SurvivorsQuery),
    /// See [`Effect::Consent`].
    Consent(Consent),
    /// See [`Effect::Unmask`].
    Unmask(Unmask),
}

/// What the server says.
#[derive(Debug)]
pub enum MaskAnswer {
    /// What the session is told.
    Told(Event),
    /// The draw is done: the session is told when the descriptor's signature has been verified.
    Opening {
        /// The cohort of the reveal.
        cohort: CohortId,
        /// The draw of the reveal.
        draw: u8,
        /// As received.
        opening: Box<Opening>,
    },
}

impl MaskStep {
    /// The step that an effect asks for; the effect itself if it asks for something else.
    ///
    /// # Errors
    /// The effect.
    #[expect(clippy::result_large_err, reason = "the effect is handed back as it came")]
    pub fn of(effect: Effect) -> Result<Self, Effect> {
        match effect {
            Effect::Advertise(advert) => Ok(Self::Advert(advert)),
            Effect::Reveal(reveal) => Ok(Self::Reveal(reveal)),
            Effect::DealShares(shares) => Ok(Self::Shares(shares)),
            Effect::AskSurvivors(query) => Ok(Self::Survivors(query)),
            Effect::Consent(consent) => Ok(Self::Consent(consent)),
            Effect::Unmask(unmask) => Ok(Self::Unmask(unmask)),
            other => Err(other),
        }
    }

    /// Which request it is.
    pub fn kind(&self) -> RequestKind {
        match self {
            Self::Advert(_) => RequestKind::Advert,
            Self::Reveal(_) => RequestKind::Reveal,
            Self::Shares(_) => RequestKind::Shares,
            Self::Survivors(_) => RequestKind::Survivors,
            Self::Consent(_) => RequestKind::Consent,
            Self::Unmask(_) => RequestKind::Unmask,
        }
    }

    /// Asks it.
    ///
    /// # Errors
    /// The refusal, or what broke.
    pub async fn ask(self, connection: &Connection) -> Result<MaskAnswer, NetError> {
        let told = match self {
            Self::Advert(advert) => {
                let (cohort, draw) = (advert.cohort, advert.draw);
                let (roster, _): (Roster, _) = aimass_net::request(connection, &AgentRequest::Advert(advert), LONG_POLL).await?;
                Event::Roster { cohort, draw, roster }
            }
            Self::Reveal(reveal) => {
                let (cohort, draw) = (reveal.cohort, reveal.draw);
                match aimass_net::request(connection, &AgentRequest::Reveal(reveal), LONG_POLL).await?.0 {
                    RevealReply::DrawAgain(call) => Event::DrawAgain { cohort, draw, call },
                    RevealReply::Opening(opening) => {
                        let opening = Box::new(opening);
                        return Ok(MaskAnswer::Opening { cohort, draw, opening });
                    }
                }
            }
            Self::Shares(shares) => {
                let cohort = shares.cohort;
                let (SharesReply { shares }, _) = aimass_net::request(connection, &AgentRequest::Shares(shares), LONG_POLL).await?;
                Event::SharesReceived { cohort, shares }
            }
            Self::Survivors(query) => Event::Survivors {
                cohort: query.cohort,
                reply: aimass_net::request(connection, &AgentRequest::Survivors(query), LONG_POLL).await?.0,
            },
            Self::Consent(consent) => Event::Agreed {
                cohort: consent.cohort,
                reply: aimass_net::request(connection, &AgentRequest::Consent(consent), LONG_POLL).await?.0,
            },
            Self::Unmask(unmask) => Event::Unmasked {
                cohort: unmask.cohort,
                reply: aimass_net::request(connection, &AgentRequest::Unmask(unmask), LONG_POLL).await?.0,
            },
        };
        Ok(MaskAnswer::Told(told))
    }
}
