//! Steps of secure aggregation, by what phase the cohort's job is in.

use aimass_crypto::secagg::{Fault, UnverifiedShares};
use aimass_protocol::message::secagg::{ConsentReply, Shares, SurvivorsReply, UnmaskReply};
use aimass_protocol::{AgentId, CohortId, Digest, JobId};

use super::entry::{Entry, Phase};
use super::job::Context;
use super::secure::{self, given_up, id, too_late};
use super::{AgentReply, Coordinator, SecureStep};
use crate::RequestKind;

/// An agent's sealed shares on their way to a [`SecureStep`]: their signatures are still to be verified.
#[derive(Debug)]
pub struct SharesCheck {
    cohort: CohortId,
    dealt: Option<Result<UnverifiedShares, Fault>>,
}

impl SharesCheck {
    /// Whether there is nothing to verify.
    pub fn is_settled(&self) -> bool {
        !matches!(self.dealt, Some(Ok(_)))
    }

    /// Verifies the signatures, hundreds of them in a large cohort: not for the task that steps the coordinator.
    pub fn verify(self) -> SecureStep {
        SecureStep::Shares {
            cohort: self.cohort,
            dealt: self.dealt.map(|dealt| dealt.and_then(UnverifiedShares::verify)),
        }
    }
}

impl Coordinator {
    /// Looks at an agent's sealed shares, but for their signatures. What [`SharesCheck::verify`] makes of it is the step to take.
    pub fn check_shares(&self, agent: AgentId, shares: &Shares) -> SharesCheck {
        let cohort = shares.cohort;
        let dealt = self.jobs.values().find_map(|entry| match &entry.phase {
            Phase::Joining(phase) if phase.cohort() == cohort => phase.check_shares(agent, shares),
            _ => None,
        });
        SharesCheck { cohort, dealt }
    }

    /// The job that a cohort works for.
    pub fn job_of(&self, cohort: CohortId) -> Option<JobId> {
        let entry = self.jobs.values().find(|entry| entry.has_cohort(cohort))?;
        Some(entry.job.id)
    }

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
            (Phase::Joining(phase), SecureStep::Shares { dealt, .. }) => phase.shares(&mut self.job, cx, agent, dealt),
            (Phase::Collecting(phase), SecureStep::Shares { .. }) => match &phase.cohort.secure {
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
