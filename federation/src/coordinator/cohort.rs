//! A cohort: the agents whose updates go into one sum.

use std::collections::{BTreeMap, BTreeSet};

use aimass_protocol::message::agent::OutcomeReply;
use aimass_protocol::{AgentId, CohortId, ContributionId, ErrorCode};

use super::job::Context;
use super::{AgentReply, CohortTerms};
use crate::RequestKind;

/// How far a member got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Was told of the cohort.
    Invited,
    /// Was allowed to upload.
    Uploading,
    /// Its upload is whole, and on its way into the sum.
    Adding,
    /// In the sum.
    Added,
    /// Not in the sum, and will not be.
    Dropped(ErrorCode),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) contribution: ContributionId,
    pub(super) progress: Progress,
}

impl Member {
    /// Whether its contribution is in the sum or may still get there.
    pub(super) fn is_live(&self) -> bool {
        !matches!(self.progress, Progress::Dropped(_))
    }

    /// Whether all of its update arrived.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.progress, Progress::Adding | Progress::Added)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cohort {
    pub(super) terms: CohortTerms,
    pub(super) members: BTreeMap<AgentId, Member>,
    /// Members that wait for the outcome.
    asking: BTreeSet<AgentId>,
}

impl Cohort {
    pub(super) fn new(terms: CohortTerms, members: BTreeMap<AgentId, ContributionId>) -> Self {
        let members = members
            .into_iter()
            .map(|(agent, contribution)| {
                (
                    agent,
                    Member {
                        contribution,
                        progress: Progress::Invited,
                    },
                )
            })
            .collect();
        Self {
            terms,
            members,
            asking: BTreeSet::new(),
        }
    }

    pub(super) fn id(&self) -> CohortId {
        self.terms.cohort
    }

    /// The member with exactly this contribution.
    pub(super) fn member(&mut self, agent: AgentId, contribution: ContributionId) -> Option<&mut Member> {
        self.members.get_mut(&agent).filter(|m| m.contribution == contribution)
    }

    /// Members for which `which` holds.
    pub(super) fn count(&self, which: impl Fn(Progress) -> bool) -> usize {
        self.members.values().filter(|m| which(m.progress)).count()
    }

    /// Whose contributions the sum holds.
    pub(super) fn survivors(&self) -> Vec<(AgentId, ContributionId)> {
        self.members
            .iter()
            .filter(|(_, m)| m.progress == Progress::Added)
            .map(|(agent, m)| (*agent, m.contribution))
            .collect()
    }

    /// Notes that a member waits for the outcome, or answers at once when it is known that its contribution is not counted here.
    pub(super) fn ask<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, contribution: ContributionId) {
        match self.member(agent, contribution) {
            Some(member) if member.is_live() => {
                self.asking.insert(agent);
            }
            _ => cx.reply(agent, AgentReply::Outcome(OutcomeReply::NotIncluded)),
        }
    }

    pub(super) fn gone(&mut self, agent: AgentId) {
        self.asking.remove(&agent);
        if let Some(member) = self.members.get_mut(&agent)
            && member.progress == Progress::Uploading
        {
            member.progress = Progress::Invited;
        }
    }

    /// Whether the agent waited for the outcome; it no longer does.
    pub(super) fn stop_asking(&mut self, agent: AgentId) -> bool {
        self.asking.remove(&agent)
    }

    /// Takes no more input: members that did not get into the sum are dropped, those that are uploading or asking are told.
    pub(super) fn close<R>(&mut self, cx: &mut Context<'_, R>, text: &str) {
        for (agent, member) in &mut self.members {
            if !matches!(member.progress, Progress::Invited | Progress::Uploading) {
                continue;
            }
            if member.progress == Progress::Uploading {
                cx.refuse(*agent, RequestKind::Upload, ErrorCode::Late, text);
            }
            member.progress = Progress::Dropped(ErrorCode::Late);
            if self.asking.remove(agent) {
                cx.reply(*agent, AgentReply::Outcome(OutcomeReply::NotIncluded));
            }
        }
    }

    /// Answers everybody who still waits for the outcome.
    pub(super) fn answer<R>(&mut self, cx: &mut Context<'_, R>, reply: OutcomeReply) {
        for agent in std::mem::take(&mut self.asking) {
            cx.reply(agent, AgentReply::Outcome(reply));
        }
    }
}
