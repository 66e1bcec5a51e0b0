//! Steps of secure aggregation, by what phase the cohort's job is in.

use aimass_protocol::message::secagg::{ConsentReply, SurvivorsReply, UnmaskReply};
use aimass_protocol::{AgentId, Digest};

use super::entry::{Entry, Phase};
use super::job::Context;
use super::secure::{self, given_up, id, too_late};
use super::{AgentReply, Coordinator, SecureStep};
use crate::RequestKind;

impl Coordinator {
    pub(super) fn secure_step<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, step: SecureStep) {
        let cohort = step.cohort();
        // One request of a kind is open at a time: this one replaces one about another cohort.
        for other in self.jobs.values_mut().filter(|other| !other.has_cohort(cohort)) {
            other.asks_elsewhere(agent, step.kind());
        }
        if let Some(entry) = self.with_cohort(cohort) {
            return entry.secure_step(cx, agent, step);
        }
        // The cohort is over. What went into a model asks for its outcome, what did not may be offered again.
        if let SecureStep::Survivors(query) = &step
            && self.jobs.values().any(|entry| entry.job.included(query.contribution).is_some())
        {
            return too_late(cx, agent, RequestKind::Survivors);
        }
        match step {
            SecureStep::Survivors(_) => cx.reply(agent, AgentReply::Survivors(SurvivorsReply::NotIncluded)),
            SecureStep::Unmask(_) => too_late(cx, agent, step.kind()),
            // Whose input is in a model all the same hears so when it offers it again.
            step => given_up(cx, agent, step.kind()),
        }
    }
}

impl Entry {
    fn secure_step<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, step: SecureStep) {
        let kind = step.kind();
        match (&mut self.phase, step) {
            (Phase::Joining(phase), SecureStep::Advert { advert, key }) => phase.advert(&mut self.job, cx, agent, *advert, key),
            (Phase::Joining(phase), SecureStep::Reveal(reveal)) => phase.reveal(&mut self.job, cx, agent, reveal),
            (Phase::Joining(phase), SecureStep::Shares(shares)) => phase.shares(&mut self.job, cx, agent, &shares),
            (Phase::Collecting(phase), SecureStep::Shares(_)) => match &phase.cohort.secure {
                // The answer was lost.
                Some(secure) if phase.cohort.get(agent).is_some_and(|m| m.is_live()) && secure.has_shares_for(agent) => {
                    cx.reply(agent, secure::shares_for(&secure.server, agent, phase.cohort.id()));
                }
                _ => given_up(cx, agent, kind),
            },
            (Phase::Collecting(phase), SecureStep::Survivors(query)) => phase.cohort.survivors_asked(cx, agent, query.contribution),
            (Phase::Collecting(phase), SecureStep::Consent(consent)) => phase.cohort.consented(cx, agent, consent.signature),
            (Phase::Collecting(phase), SecureStep::Unmask(unmask)) => phase.cohort.unmask_shares(cx, agent, &unmask),
            (Phase::Unmasking(phase), SecureStep::Survivors(query)) => phase.cohort.survivors_asked(cx, agent, query.contribution),
            (Phase::Unmasking(phase), SecureStep::Consent(consent)) => phase.cohort.consented(cx, agent, consent.signature),
            (Phase::Unmasking(phase), SecureStep::Unmask(unmask)) => {
                phase.cohort.unmask_shares(cx, agent, &unmask);
                phase.more_shares();
            }
            (Phase::Publishing(phase), SecureStep::Unmask(_)) if phase.cohort.get(agent).is_some_and(|m| m.is_whole()) => {
                cx.reply(agent, AgentReply::Unmask(UnmaskReply::Taken));
            }
            (Phase::Publishing(phase), SecureStep::Survivors(_) | SecureStep::Consent(_))
                if phase.cohort.get(agent).is_some_and(|m| m.is_whole()) =>
            {
                too_late(cx, agent, kind);
            }
            (_, SecureStep::Survivors(_)) => cx.reply(agent, AgentReply::Survivors(SurvivorsReply::NotIncluded)),
            (_, SecureStep::Consent(_)) => cx.reply(agent, AgentReply::Consent(ConsentReply::NotIncluded)),
            (_, SecureStep::Unmask(_)) => cx.reply(agent, AgentReply::Unmask(UnmaskReply::Abandoned)),
            _ => given_up(cx, agent, kind),
        }
    }

    pub(super) fn described<R>(&mut self, cx: &mut Context<'_, R>, digest: Digest) {
        if let Phase::Joining(phase) = &mut self.phase {
            phase.described(cx, digest);
        }
    }
}

impl secure::Secure {
    /// Whether what was dealt to the agent is still known: a restarted server has forgotten it.
    fn has_shares_for(&self, agent: AgentId) -> bool {
        !self.server.shares_for(&id(agent)).is_empty()
    }
}
