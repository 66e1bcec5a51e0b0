//! Holds published models against what agents were told.

use aimass_cli::api::Api;
use aimass_protocol::limits::MAX_BLOB_BYTES;
use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use crate::{Oracle, Swarm};

/// What an audit found. Only `lost`, `doubled` and `unheard` are faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Audit {
    /// Rounds that were published.
    pub rounds: u32,
    /// Contributions that are in a published model.
    pub counted: u64,
    /// Contributions that were accepted for a published round.
    pub accepted: u64,
    /// Of those, in no model.
    pub lost: u64,
    /// Counts beyond the first of a contribution, and contributions that were included in two rounds.
    pub doubled: u64,
    /// Contributions in a model whose agents were not told so.
    pub unheard: u64,
    /// How often an accepted contribution was not included at first and had to be offered again.
    pub thrown_back: u64,
}

impl Audit {
    /// Whether everything that was accepted is in exactly one model.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.unheard == 0
    }

    /// Audits all published rounds of `job`. The agents should have come to rest: what they were not told yet is `unheard`.
    ///
    /// # Errors
    /// When a model is missing, or is not a whole number of contributions away from its base.
    pub fn of(api: &Api, job: &str, oracle: &Oracle, swarm: &Swarm) -> Result<Self> {
        let view: Value = api.get(&format!("/v1/jobs/{job}"))?;
        let history = view["history"].as_array().context("the job has no history")?;
        let model = |round: usize| api.get_bytes(&format!("/v1/jobs/{job}/model?round={round}"), MAX_BLOB_BYTES);
        let mut audit = Self {
            rounds: u32::try_from(history.len())?,
            ..Self::default()
        };
        let mut counted: Vec<Vec<u32>> = Vec::with_capacity(history.len());
        let mut base = model(0)?;
        for (round, number) in history.iter().zip(1..) {
            let contributions = round["contributions"].as_u64().context("a round without contributions")?;
            let next = model(number)?;
            let counts = oracle
                .counts(&base, &next, u32::try_from(contributions)?, swarm.len())
                .with_context(|| format!("round {number}"))?;
            audit.counted += counts.iter().map(|&count| u64::from(count.min(1))).sum::<u64>();
            audit.doubled += counts.iter().map(|&count| u64::from(count.saturating_sub(1))).sum::<u64>();
            counted.push(counts);
            base = next;
        }
        for index in 0..swarm.len() {
            audit.agent(index, &counted, swarm);
        }
        Ok(audit)
    }

    fn agent(&mut self, index: usize, counted: &[Vec<u32>], swarm: &Swarm) {
        let passages = swarm.tally().passages(index);
        let in_round = |round: u32| counted.get(round as usize - 1).is_some_and(|counts| counts[index] > 0);
        for passage in &passages {
            self.thrown_back += u64::from(passage.thrown_back);
            self.doubled += u64::from(passage.included_again);
            if passage.round <= self.rounds {
                self.accepted += 1;
                self.lost += u64::from(!passage.included.is_some_and(in_round));
            }
        }
        for round in (1..=self.rounds).filter(|&round| in_round(round)) {
            self.unheard += u64::from(!passages.iter().any(|passage| passage.included == Some(round)));
        }
    }
}
