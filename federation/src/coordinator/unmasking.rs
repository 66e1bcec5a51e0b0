//! Unmasking: the survivors agree that they are the survivors, then reveal the shares that take the masks off their sum. Nothing goes into it any more.

use std::collections::BTreeSet;

use aimass_crypto::secagg::MemberId;
use aimass_protocol::message::agent::OutcomeReply;
use aimass_protocol::message::secagg::{SurvivorsReply, Unmask, UnmaskReply};
use aimass_protocol::{AgentId, ContributionId, SignatureBytes, Timestamp};
use serde_bytes::ByteBuf;

use super::cohort::{Cohort, Progress};
use super::entry::Phase;
use super::gathering::Gathering;
use super::job::{Context, Job};
use super::publishing::Publishing;
use super::secure::{self, STEP_PATIENCE, Secure, at_fault, given_up, id, too_late};
use super::{AgentReply, Effect, UnmaskingRecord};
use crate::RequestKind;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unmasking {
    pub(super) cohort: Cohort,
    /// The sum is given up then.
    until: Timestamp,
    /// Whether members were told who agreed.
    agreed: bool,
    /// Whether those who still could reveal shares were waited for, and were too few.
    falls_short: bool,
}

impl Cohort {
    /// An agent asks whose inputs are summed, before or after that is settled.
    pub(super) fn survivors_asked<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, contribution: ContributionId) {
        const REQUEST: RequestKind = RequestKind::Survivors;
        let member = self.member(agent, contribution);
        let Some(secure) = &mut self.secure else {
            return given_up(cx, agent, REQUEST);
        };
        match (member.map(|m| m.progress()), secure.server.bitmap()) {
            (Some(Progress::Added), Some(set)) => {
                let set = ByteBuf::from(set.as_bytes().to_vec());
                secure.waits.heard(agent);
                cx.reply(agent, AgentReply::Survivors(SurvivorsReply::Set(set)));
            }
            (None | Some(Progress::Dropped(_)), _) => cx.reply(agent, AgentReply::Survivors(SurvivorsReply::NotIncluded)),
            _ => secure.asks(agent, REQUEST),
        }
    }

    /// A survivor signs the set.
    pub(super) fn consented<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, signature: SignatureBytes) {
        const REQUEST: RequestKind = RequestKind::Consent;
        let Some(secure) = &mut self.secure else {
            return given_up(cx, agent, REQUEST);
        };
        match secure.server.consent(id(agent), *signature.as_bytes()) {
            Ok(()) => secure.asks(agent, REQUEST),
            Err(fault) => at_fault(cx, agent, REQUEST, &fault),
        }
    }

    /// A survivor reveals its shares.
    pub(super) fn unmask_shares<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, unmask: &Unmask) {
        const REQUEST: RequestKind = RequestKind::Unmask;
        let Some(secure) = &mut self.secure else {
            return given_up(cx, agent, REQUEST);
        };
        let shares: Vec<_> = unmask
            .shares
            .iter()
            .map(|share| (id(share.agent), *share.share.as_bytes()))
            .collect();
        let consent = secure.server.consent(id(agent), *unmask.consent.as_bytes());
        match consent.and_then(|()| secure.server.unmask(id(agent), &shares)) {
            Ok(()) => secure.asks(agent, REQUEST),
            Err(fault) => at_fault(cx, agent, REQUEST, &fault),
        }
    }

    /// The members whose inputs are in the sum.
    fn survivor_ids(&self) -> BTreeSet<MemberId> {
        self.survivors().into_iter().map(|(agent, _)| id(agent)).collect()
    }

    /// Whether the sum of what is in it could be unmasked; always where there are no masks.
    pub(super) fn is_unmaskable(&self) -> bool {
        self.secure
            .as_ref()
            .is_none_or(|secure| secure.server.can_unmask(&self.survivor_ids()))
    }
}

impl Unmasking {
    /// A sum that is sealed; `again` if a killed server was at it before. `None` if its members can't be its survivors: the record of the cohort is wrong.
    pub(super) fn begin<R>(mut cohort: Cohort, job: &Job, cx: &mut Context<'_, R>, again: bool) -> Option<Self> {
        let survivors = cohort.survivor_ids();
        let secure = cohort.secure.as_mut()?;
        let set = secure.server.seal(&survivors).ok()?;
        let set = ByteBuf::from(set.as_bytes().to_vec());
        secure.waits.begin(cx.now);
        for agent in secure.take_asking(RequestKind::Survivors) {
            let reply = if survivors.contains(&id(agent)) {
                SurvivorsReply::Set(set.clone())
            } else {
                SurvivorsReply::NotIncluded
            };
            cx.reply(agent, AgentReply::Survivors(reply));
        }
        Some(Self {
            cohort,
            until: cx.now.after(if again {
                job.long_patience()
            } else {
                job.max_time().max(2 * STEP_PATIENCE)
            }),
            agreed: false,
            falls_short: false,
        })
    }

    /// A member asks for the outcome without having revealed anything: it was started anew, and its keys are gone.
    pub(super) fn outcome_asked(&mut self, agent: AgentId) {
        if let Some(secure) = &mut self.cohort.secure
            && secure.server.missing_unmasks().contains(&id(agent))
        {
            secure.stop_asking(agent);
            secure.lost_keys(agent);
        }
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        let secure = self.cohort.secure.as_ref()?;
        let due = match (self.agreed, self.falls_short) {
            (false, _) => secure.waits.due(&secure.server.missing_consents()),
            (true, false) => secure.waits.due(&secure.server.missing_unmasks()),
            (true, true) => self.until,
        };
        Some(due.min(self.until))
    }

    pub(super) fn advance<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>) -> Option<Phase> {
        let secure = self.cohort.secure.as_mut()?;
        if !self.agreed && secure.waits.due(&secure.server.missing_consents()) <= cx.now {
            self.agreed = true;
            self.until = cx.now.after(job.long_patience());
            secure.waits.begin(cx.now);
        }
        if self.agreed {
            tell_agreements(secure, cx);
            let missing = secure.server.missing_unmasks();
            if missing.is_empty() || !self.falls_short && secure.waits.due(&missing) <= cx.now {
                if secure.server.is_unmaskable() {
                    return self.unmask(job, cx);
                }
                self.falls_short = true;
            }
        }
        if cx.now >= self.until || self.is_hopeless() {
            job.trouble = Some(
                "too many agents left while their sum was being unmasked: it stays masked for ever, and those who had revealed their shares can't contribute \
                 to this model again"
                    .to_owned(),
            );
            return Some(self.give_up(cx));
        }
        None
    }

    /// Shares came: there may be enough now.
    pub(super) fn more_shares(&mut self) {
        self.falls_short = false;
    }

    /// Whether so many have lost their keys that the masks will never come off.
    fn is_hopeless(&mut self) -> bool {
        let survivors = self.cohort.survivor_ids();
        self.cohort
            .secure
            .as_mut()
            .is_some_and(|secure| secure.has_lost_more() && !secure.is_possible(&survivors))
    }

    fn unmask<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>) -> Option<Phase> {
        let secure = self.cohort.secure.as_mut()?;
        let unmasking = secure.server.unmasking()?;
        cx.out.push(Effect::Unmask {
            cohort: self.cohort.terms.cohort,
            unmasking: UnmaskingRecord::of(&unmasking),
        });
        answer_unmasked(secure, cx);
        Some(Phase::Publishing(Publishing::begin(self.cohort.clone(), job, cx)))
    }

    /// The sum stays masked. Who has revealed a share has spent its contribution; the others may offer theirs again.
    pub(super) fn give_up<R>(&mut self, cx: &mut Context<'_, R>) -> Phase {
        self.drop_sum(cx);
        Phase::Gathering(Gathering::default())
    }

    pub(super) fn drop_sum<R>(&mut self, cx: &mut Context<'_, R>) {
        cx.out.push(Effect::DropSum { cohort: self.cohort.id() });
        if let Some(secure) = &mut self.cohort.secure {
            secure.give_up(cx);
        }
        self.cohort.answer(cx, OutcomeReply::NotIncluded);
    }

    pub(super) fn revoked<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId) {
        let asked = self.cohort.secure.as_mut().and_then(|secure| {
            // What it has revealed counts.
            if secure.server.missing_unmasks().contains(&id(agent)) {
                secure.lost_keys(agent);
            }
            secure.stop_asking(agent)
        });
        let outcome = self.cohort.stop_asking(agent).then_some(RequestKind::Outcome);
        for request in asked.into_iter().chain(outcome) {
            cx.refuse(agent, request, aimass_protocol::ErrorCode::Revoked, super::REVOKED);
        }
    }
}

/// Tells each member that has enough of its neighbours' signatures which those are.
fn tell_agreements<R>(secure: &mut Secure, cx: &mut Context<'_, R>) {
    for agent in secure.take_asking(RequestKind::Consent) {
        if secure.server.has_consents(&id(agent)) {
            cx.reply(agent, secure::agreements(&secure.server, agent));
        } else {
            secure.asks(agent, RequestKind::Consent);
        }
    }
}

/// Tells all who wait that the masks come off.
pub(super) fn answer_unmasked<R>(secure: &mut Secure, cx: &mut Context<'_, R>) {
    for agent in secure.take_asking(RequestKind::Unmask) {
        cx.reply(agent, AgentReply::Unmask(UnmaskReply::Taken));
    }
    // They have revealed nothing, and need not: the outcome says what became of their inputs.
    for request in [RequestKind::Survivors, RequestKind::Consent] {
        for agent in secure.take_asking(request) {
            too_late(cx, agent, request);
        }
    }
}
