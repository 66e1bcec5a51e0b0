//! A cohort: the agents whose updates go into one sum.

use std::collections::{BTreeMap, BTreeSet};

use aimass_protocol::message::agent::OutcomeReply;
use aimass_protocol::{AgentId, CohortId, ContributionId, ErrorCode, Timestamp};

use super::job::Context;
use super::patience::{History, Task};
use super::secure::Secure;
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
    progress: Progress,
    /// Whether it was told that its update is in the sum, in this life of the server or an earlier one.
    pub(super) acknowledged: bool,
    /// When it last got further.
    heard: Timestamp,
}

impl Member {
    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    /// Whether its contribution is in the sum or may still get there.
    pub(super) fn is_live(&self) -> bool {
        !matches!(self.progress, Progress::Dropped(_))
    }

    /// Whether all of its update arrived.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.progress, Progress::Adding | Progress::Added)
    }

    fn is_expected(&self) -> bool {
        matches!(self.progress, Progress::Invited | Progress::Uploading)
    }
}

/// How many members are how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// Invited or uploading.
    pub(super) expected: usize,
    pub(super) adding: usize,
    pub(super) added: usize,
}

impl Tally {
    fn of(&mut self, progress: Progress) -> Option<&mut usize> {
        match progress {
            Progress::Invited | Progress::Uploading => Some(&mut self.expected),
            Progress::Adding => Some(&mut self.adding),
            Progress::Added => Some(&mut self.added),
            Progress::Dropped(_) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cohort {
    pub(super) terms: CohortTerms,
    formed_at: Timestamp,
    members: BTreeMap<AgentId, Member>,
    tally: Tally,
    /// Members that wait for the outcome.
    asking: BTreeSet<AgentId>,
    /// Members whose open upload is one into another cohort: an answer about this one would be taken for its answer.
    uploads_elsewhere: BTreeSet<AgentId>,
    /// Where inputs are masked.
    pub(super) secure: Option<Secure>,
}

impl Cohort {
    pub(super) fn new(now: Timestamp, terms: CohortTerms, members: impl IntoIterator<Item = (AgentId, ContributionId)>) -> Self {
        let members: BTreeMap<_, _> = members
            .into_iter()
            .map(|(agent, contribution)| {
                (
                    agent,
                    Member {
                        contribution,
                        progress: Progress::Invited,
                        acknowledged: false,
                        heard: now,
                    },
                )
            })
            .collect();
        let tally = Tally {
            expected: members.len(),
            ..Tally::default()
        };
        Self {
            terms,
            formed_at: now,
            members,
            tally,
            asking: BTreeSet::new(),
            uploads_elsewhere: BTreeSet::new(),
            secure: None,
        }
    }

    /// The same, of masked inputs.
    pub(super) fn with_masks(self, secure: Secure) -> Self {
        Self {
            secure: Some(secure),
            ..self
        }
    }

    pub(super) fn id(&self) -> CohortId {
        self.terms.cohort
    }

    pub(super) fn members(&self) -> &BTreeMap<AgentId, Member> {
        &self.members
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    pub(super) fn get(&self, agent: AgentId) -> Option<Member> {
        self.members.get(&agent).copied()
    }

    /// The member with exactly this contribution.
    pub(super) fn member(&self, agent: AgentId, contribution: ContributionId) -> Option<Member> {
        self.get(agent).filter(|m| m.contribution == contribution)
    }

    /// Moves a member on (or back).
    pub(super) fn set(&mut self, now: Timestamp, agent: AgentId, progress: Progress) {
        let Some(member) = self.members.get_mut(&agent) else { return };
        if let Some(n) = self.tally.of(member.progress) {
            *n -= 1;
        }
        if let Some(n) = self.tally.of(progress) {
            *n += 1;
        }
        member.progress = progress;
        member.heard = now;
        member.acknowledged |= progress == Progress::Added;
    }

    /// A member whose update lies in the journal: it was told so, most likely.
    pub(super) fn restore(&mut self, now: Timestamp, agent: AgentId) {
        self.set(now, agent, Progress::Adding);
        if let Some(member) = self.members.get_mut(&agent) {
            member.acknowledged = true;
        }
    }

    /// More of a member's update arrived.
    pub(super) fn heard(&mut self, now: Timestamp, agent: AgentId) {
        if let Some(member) = self.members.get_mut(&agent) {
            member.heard = now;
        }
    }

    /// A member's whole update is here.
    pub(super) fn learn(&self, now: Timestamp, history: &mut History, agent: AgentId) {
        history.learn(agent, Task::Uploading, now.since(self.formed_at));
    }

    /// When the last of the members that are still expected has been silent for longer than it ever was; those that nothing is known of are waited for.
    pub(super) fn silent_at(&self, history: &History, until: Timestamp) -> Timestamp {
        let expected = self.members.iter().filter(|(_, m)| m.is_expected());
        expected
            .map(|(agent, m)| {
                history
                    .patience(*agent, Task::Uploading)
                    .map_or(until, |patience| m.heard.after(patience))
            })
            .max()
            .map_or(until, |at| at.min(until))
    }

    /// Whose contributions the sum holds.
    pub(super) fn survivors(&self) -> Vec<(AgentId, ContributionId)> {
        self.members
            .iter()
            .filter(|(_, m)| m.progress == Progress::Added)
            .map(|(agent, m)| (*agent, m.contribution))
            .collect()
    }

    /// Notes that a member waits for the outcome, or answers at once when it is known that its contribution is not counted here. True if it waits.
    pub(super) fn ask<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, contribution: ContributionId) -> bool {
        let waits = self.member(agent, contribution).is_some_and(|member| member.is_live());
        if waits {
            self.asking.insert(agent);
        } else {
            cx.reply(agent, AgentReply::Outcome(OutcomeReply::NotIncluded));
        }
        waits
    }

    /// The agent begins an upload into this cohort.
    pub(super) fn uploads_here(&mut self, agent: AgentId) {
        self.uploads_elsewhere.remove(&agent);
    }

    /// The agent (or a second device with its identity) begins an upload into another cohort, which closes the one into this.
    pub(super) fn uploads_elsewhere(&mut self, now: Timestamp, agent: AgentId) {
        if self.members.contains_key(&agent) {
            self.uploads_elsewhere.insert(agent);
            self.stop_upload(now, agent);
        }
    }

    /// Whether the agent's open upload, if it has one, is one into this cohort.
    pub(super) fn hears_of_upload(&self, agent: AgentId) -> bool {
        !self.uploads_elsewhere.contains(&agent)
    }

    pub(super) fn gone(&mut self, now: Timestamp, agent: AgentId) {
        self.asking.remove(&agent);
        if let Some(secure) = &mut self.secure {
            secure.gone(now, agent);
        }
        self.stop_upload(now, agent);
    }

    fn stop_upload(&mut self, now: Timestamp, agent: AgentId) {
        if self.get(agent).is_some_and(|m| m.progress == Progress::Uploading) {
            let heard = self.members.get(&agent).map_or(now, |m| m.heard);
            self.set(heard, agent, Progress::Invited);
        }
    }

    /// Whether the agent waited for the outcome; it no longer does.
    pub(super) fn stop_asking(&mut self, agent: AgentId) -> bool {
        self.asking.remove(&agent)
    }

    /// Takes no more input: members that did not get into the sum are dropped, those that are uploading or asking are told.
    pub(super) fn close<R>(&mut self, cx: &mut Context<'_, R>, text: &str) {
        let expected: Vec<_> = self
            .members
            .iter()
            .filter(|(_, m)| m.is_expected())
            .map(|(agent, m)| (*agent, m.progress))
            .collect();
        for (agent, progress) in expected {
            if progress == Progress::Uploading {
                cx.refuse(agent, RequestKind::Upload, ErrorCode::Late, text);
            }
            self.set(cx.now, agent, Progress::Dropped(ErrorCode::Late));
            if self.asking.remove(&agent) {
                cx.reply(agent, AgentReply::Outcome(OutcomeReply::NotIncluded));
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
