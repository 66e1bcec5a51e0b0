//! Whom a job's next round could be made of: agents that may contribute to its current model, and those that have spent it.

use std::collections::BTreeMap;

use aimass_protocol::{AgentId, Timestamp};

/// So many are remembered: more than fit a round.
const MOST: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Standing {
    has_spent: bool,
    /// Since when it has no connection.
    gone_since: Option<Timestamp>,
}

/// Agents by what they said when they checked in. One that works for another job is still there.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Known {
    agents: BTreeMap<AgentId, Standing>,
    /// Of those, how many have spent the current model: asked for in every step.
    spent: usize,
}

impl Known {
    /// An agent that the job is for checks in.
    pub(super) fn is_here(&mut self, agent: AgentId, has_spent: bool) {
        if self.agents.len() < MOST || self.agents.contains_key(&agent) {
            let standing = Standing {
                has_spent,
                gone_since: None,
            };
            let before = self.agents.insert(agent, standing);
            self.spent -= usize::from(before.is_some_and(|before| before.has_spent));
            self.spent += usize::from(has_spent);
        }
    }

    /// The agent gives nothing to the running round.
    pub(super) fn is_out(&mut self, agent: AgentId) {
        let before = self.agents.remove(&agent);
        self.spent -= usize::from(before.is_some_and(|before| before.has_spent));
    }

    /// Its connection closed.
    pub(super) fn gone(&mut self, now: Timestamp, agent: AgentId) {
        if let Some(standing) = self.agents.get_mut(&agent) {
            standing.gone_since.get_or_insert(now);
        }
    }

    /// Another model is the current one: nobody has spent it.
    pub(super) fn rebase(&mut self) {
        self.agents.values_mut().for_each(|standing| standing.has_spent = false);
        self.spent = 0;
    }

    /// Forgets who has been gone since `limit` or longer.
    pub(super) fn forget_gone(&mut self, limit: Timestamp) {
        self.agents
            .retain(|_, standing| standing.gone_since.is_none_or(|since| since > limit));
        self.spent = self.agents.values().filter(|standing| standing.has_spent).count();
    }

    /// Whether anybody has spent the current model.
    pub(super) fn is_spent(&self) -> bool {
        self.spent > 0
    }

    pub(super) fn contains(&self, agent: AgentId) -> bool {
        self.agents.contains_key(&agent)
    }

    /// How many may contribute to the current model, and how many have spent it.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.agents.len() - self.spent, self.spent)
    }
}
