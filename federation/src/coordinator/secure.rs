//! What a cohort with masks has besides its members: the server's side of secure aggregation, and who waits for its next step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aimass_crypto::secagg::{self, MemberId, SealedShare, Server};
use aimass_protocol::message::secagg as wire;
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, ErrorCode, SignatureBytes, Timestamp};
use serde_bytes::ByteBuf;

use super::job::Context;
use super::{AgentReply, SecAggRecord};
use crate::RequestKind;

/// How long a step waits for a member that has a connection and says nothing.
pub(super) const STEP_PATIENCE: Duration = Duration::from_secs(30);
/// How long it waits for one that has none.
const GONE_GRACE: Duration = Duration::from_secs(3);

/// Whom a step waits for, and until when.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Waits {
    until: Timestamp,
    /// Members without a connection, and since when.
    gone: BTreeMap<AgentId, Timestamp>,
}

impl Waits {
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.until = now.after(STEP_PATIENCE);
    }

    pub(super) fn heard(&mut self, agent: AgentId) {
        self.gone.remove(&agent);
    }

    pub(super) fn gone(&mut self, now: Timestamp, agent: AgentId) {
        self.gone.insert(agent, now);
    }

    pub(super) fn is_gone(&self, agent: AgentId) -> bool {
        self.gone.contains_key(&agent)
    }

    /// It will not come back to this cohort.
    pub(super) fn lost(&mut self, agent: AgentId) {
        self.gone.insert(agent, Timestamp::default());
    }

    /// When the step goes on without those who are missing; at once if nobody is.
    pub(super) fn due(&self, missing: &[MemberId]) -> Timestamp {
        let due = missing.iter().map(|member| match self.gone.get(&AgentId::from_bytes(*member)) {
            Some(since) => since.after(GONE_GRACE).min(self.until),
            None => self.until,
        });
        due.max().unwrap_or_default()
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Secure {
    pub(super) server: Server,
    /// Members that wait for an answer to this; one request each.
    asking: BTreeMap<AgentId, RequestKind>,
    /// Members whose keys are gone: they can't take part in the unmasking.
    keyless: BTreeSet<AgentId>,
    /// Whether that was looked at since the last one.
    has_news: bool,
    pub(super) waits: Waits,
}

impl Secure {
    pub(super) fn new(server: Server) -> Self {
        Self {
            server,
            asking: BTreeMap::new(),
            keyless: BTreeSet::new(),
            has_news: false,
            waits: Waits::default(),
        }
    }

    /// After a restart.
    ///
    /// # Errors
    /// What is wrong with the record, for people.
    pub(super) fn restore(record: &SecAggRecord, survivors: Option<&[(AgentId, ContributionId)]>) -> Result<Self, String> {
        let mut server = Server::restore(record.to_record()).map_err(|error| error.to_string())?;
        if let Some(survivors) = survivors {
            let survivors = survivors.iter().map(|(agent, _)| id(*agent)).collect();
            server.seal(&survivors).map_err(|error| error.to_string())?;
        }
        Ok(Self::new(server))
    }

    /// The member waits for an answer.
    pub(super) fn asks(&mut self, agent: AgentId, request: RequestKind) {
        self.waits.heard(agent);
        self.asking.insert(agent, request);
    }

    /// Those who wait for an answer to `request`; they are not waiting any more.
    pub(super) fn take_asking(&mut self, request: RequestKind) -> Vec<AgentId> {
        self.asking
            .extract_if(.., |_, asked| *asked == request)
            .map(|(agent, _)| agent)
            .collect()
    }

    pub(super) fn is_asking(&self, agent: AgentId, request: RequestKind) -> bool {
        self.asking.get(&agent) == Some(&request)
    }

    /// Forgets that the member waits; says for what it did.
    pub(super) fn stop_asking(&mut self, agent: AgentId) -> Option<RequestKind> {
        self.asking.remove(&agent)
    }

    pub(super) fn gone(&mut self, now: Timestamp, agent: AgentId) {
        self.asking.remove(&agent);
        self.waits.gone(now, agent);
    }

    /// The member was started anew.
    pub(super) fn lost_keys(&mut self, agent: AgentId) {
        self.has_news |= self.keyless.insert(agent);
        self.waits.lost(agent);
    }

    /// Whether more members have lost their keys since this was asked last.
    pub(super) fn has_lost_more(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Whether the survivors without those whose keys are gone could still unmask their sum.
    pub(super) fn is_possible(&self, survivors: &BTreeSet<MemberId>) -> bool {
        let able: BTreeSet<MemberId> = survivors
            .iter()
            .filter(|member| !self.keyless.contains(&AgentId::from_bytes(**member)))
            .copied()
            .collect();
        self.server.can_reveal(&able)
    }

    /// Tells all who wait that the cohort is given up. What they have not revealed stays hidden.
    pub(super) fn give_up<R>(&mut self, cx: &mut Context<'_, R>) {
        for (agent, request) in std::mem::take(&mut self.asking) {
            let reply = match request {
                RequestKind::Survivors => AgentReply::Survivors(wire::SurvivorsReply::NotIncluded),
                RequestKind::Consent => AgentReply::Consent(wire::ConsentReply::NotIncluded),
                RequestKind::Unmask => AgentReply::Unmask(wire::UnmaskReply::Abandoned),
                request => {
                    given_up(cx, agent, request);
                    continue;
                }
            };
            cx.reply(agent, reply);
        }
    }
}

pub(super) fn given_up<R>(cx: &mut Context<'_, R>, agent: AgentId, request: RequestKind) {
    let text = "the cohort is over or does not hold this agent; offer the contribution again";
    cx.refuse(agent, request, ErrorCode::CohortUnknown, text);
}

/// The step is over, or the member is in no need of it: its outcome is what it should ask for.
pub(super) fn too_late<R>(cx: &mut Context<'_, R>, agent: AgentId, request: RequestKind) {
    let text = "the cohort went on without this step of the agent; ask for the outcome";
    cx.refuse(agent, request, ErrorCode::Late, text);
}

/// The agent broke the protocol.
pub(super) fn at_fault<R>(cx: &mut Context<'_, R>, agent: AgentId, request: RequestKind, fault: &secagg::Fault) {
    let text = format!("secure aggregation: {fault}; check that agent and server run the same version");
    cx.refuse(agent, request, ErrorCode::SecAgg, text);
}

pub(super) fn id(agent: AgentId) -> MemberId {
    *agent.as_bytes()
}

/// An advert as the machines know it.
pub(super) fn advert(agent: AgentId, advert: &wire::Advert) -> secagg::Advert {
    secagg::Advert {
        cohort: *advert.cohort.as_bytes(),
        draw: advert.draw,
        member: id(agent),
        mask_key: *advert.mask_key.as_bytes(),
        seal_key: *advert.seal_key.as_bytes(),
        self_commitment: *advert.self_commitment.as_bytes(),
        draw_commitment: *advert.draw_commitment.as_bytes(),
    }
}

/// An advert as a neighbour gets it.
pub(super) fn neighbour(agent: AgentId, advert: &wire::Advert) -> wire::NeighbourAdvert {
    wire::NeighbourAdvert {
        agent,
        mask_key: advert.mask_key,
        seal_key: advert.seal_key,
        self_commitment: advert.self_commitment,
        draw_commitment: advert.draw_commitment,
        certificate: advert.certificate.clone(),
        signature: advert.signature,
    }
}

/// What a member dealt, as the machines know it; `None` where a sealed share has another length.
pub(super) fn dealt(from: AgentId, shares: &wire::Shares) -> Option<Vec<SealedShare>> {
    let share = |share: &wire::SealedShare| {
        Some(SealedShare {
            from: id(from),
            to: id(share.agent),
            sealed: share.sealed.as_slice().try_into().ok()?,
            signature: *share.signature.as_bytes(),
        })
    };
    shares.shares.iter().map(share).collect()
}

/// What was dealt to a member, as it travels.
pub(super) fn shares_for(server: &Server, agent: AgentId, cohort: CohortId) -> AgentReply {
    let shares = server.shares_for(&id(agent)).into_iter().map(|share| wire::SealedShare {
        agent: AgentId::from_bytes(share.from),
        sealed: ByteBuf::from(share.sealed.to_vec()),
        signature: SignatureBytes::from_bytes(share.signature),
    });
    AgentReply::Shares {
        cohort,
        reply: wire::SharesReply { shares: shares.collect() },
    }
}

/// Neighbours' signatures, as they travel.
pub(super) fn agreements(server: &Server, agent: AgentId) -> AgentReply {
    let signatures = server.consents_for(&id(agent)).into_iter();
    let signatures = signatures.map(|(member, signature)| wire::Agreement {
        agent: AgentId::from_bytes(member),
        signature: SignatureBytes::from_bytes(signature),
    });
    AgentReply::Consent(wire::ConsentReply::Agreed(signatures.collect()))
}

/// A digest as it travels.
pub(super) fn digest(bytes: [u8; 32]) -> Digest {
    Digest::from_bytes(bytes)
}
