//! `aimass secagg`: what secure aggregation demands.

#[cfg(test)]
mod tests;

use aimass_crypto::secagg::params::{ETA, GraphParams, Model, SIGMA, for_cohort, share_of};
use aimass_edge_agent::exit::ExitKind;
use anyhow::Result;
use serde_json::{Value, json};

use crate::args::{AdversaryModel, SecaggArgs, SecaggCommand};
use crate::output::{Failure, Output, table};

pub(crate) fn run(args: &SecaggArgs, out: &Output) -> Result<ExitKind> {
    let SecaggCommand::Params {
        clients,
        adversarial,
        dropout,
        model,
    } = args.command;
    let cohort = Cohort::new(clients, adversarial, dropout, model)?;
    out.result(&cohort.json(), || cohort.text());
    Ok(ExitKind::Ok)
}

/// A cohort, what it is to endure, and what it needs for that.
struct Cohort {
    clients: u32,
    adversarial: f64,
    dropout: f64,
    model: AdversaryModel,
    params: GraphParams,
}

impl Cohort {
    fn new(clients: u32, adversarial: f64, dropout: f64, model: AdversaryModel) -> Result<Self, Failure> {
        let params = for_cohort(clients, adversarial, dropout, model.into());
        Ok(Self {
            clients,
            adversarial,
            dropout,
            model,
            params: params.map_err(|error| Failure::new(ExitKind::Usage, error.to_string()))?,
        })
    }

    fn is_complete(&self) -> bool {
        self.params.degree == self.clients - 1
    }

    /// Cheats with which privacy holds. The complete graph's threshold is fixed, whatever is expected.
    fn cheats(&self) -> u32 {
        let GraphParams { threshold, .. } = self.params;
        match self.model {
            _ if !self.is_complete() => share_of(self.clients, self.adversarial),
            AdversaryModel::SemiHonest => threshold - 1,
            AdversaryModel::SemiMalicious => 2 * threshold - self.clients - 1,
        }
    }

    /// Drop-outs with which a sum still comes out; fixed in the complete graph too.
    fn drop_outs(&self) -> u32 {
        if self.is_complete() {
            self.clients - self.params.threshold
        } else {
            share_of(self.clients, self.dropout)
        }
    }

    fn json(&self) -> Value {
        json!({
            "clients": self.clients,
            "adversarial": self.adversarial,
            "dropout": self.dropout,
            "model": model_name(self.model),
            "degree": self.params.degree,
            "threshold": self.params.threshold,
            "graph": if self.is_complete() { "complete" } else { "harary" },
            "cheats_endured": self.cheats(),
            "dropouts_endured": self.drop_outs(),
            "sigma": SIGMA,
            "eta": ETA,
        })
    }

    fn text(&self) -> String {
        let Self { clients, params, .. } = self;
        let GraphParams { degree, threshold } = params;
        let row = |name: &str, value: String, meaning: String| vec![name.to_owned(), value, meaning];
        let (graph, holders) = if self.is_complete() {
            ("complete", "every agent, itself too,")
        } else {
            ("harary", "each of its neighbours")
        };
        let model = match self.model {
            AdversaryModel::SemiHonest => "with an aggregator that keeps to the protocol",
            AdversaryModel::SemiMalicious => "with an aggregator that lies about who dropped out",
        };
        let rows = [
            row("clients", clients.to_string(), "agents of the cohort".into()),
            row("graph", graph.into(), format!("{holders} holds a share of an agent's secrets")),
            row("degree", degree.to_string(), "neighbours that an agent shares a mask with".into()),
            row(
                "threshold",
                threshold.to_string(),
                "shares that undo a mask; fewer say nothing".into(),
            ),
            row(
                "cheats",
                self.cheats().to_string(),
                format!("agents that may cheat together {model}"),
            ),
            row(
                "drop-outs",
                self.drop_outs().to_string(),
                "agents that may drop out, and the sum still comes out".into(),
            ),
        ];
        let mut text = table(&["NAME", "VALUE", "MEANING"], &rows);
        if !self.is_complete() {
            text.push_str(&format!(
                "\n\nWith no more than these, privacy fails with a chance of at most 2^-{SIGMA}, and a round with one of at most 2^-{ETA}."
            ));
        }
        let expected = share_of(self.clients, self.dropout);
        if expected > self.drop_outs() {
            text.push_str(&format!(
                "\n\nYou expect up to {expected} drop-outs, and with more than {} the round is lost: use a larger cohort, or make drop-outs rarer.",
                self.drop_outs()
            ));
        }
        text
    }
}

impl From<AdversaryModel> for Model {
    fn from(model: AdversaryModel) -> Self {
        match model {
            AdversaryModel::SemiHonest => Self::SemiHonest,
            AdversaryModel::SemiMalicious => Self::SemiMalicious,
        }
    }
}

fn model_name(model: AdversaryModel) -> &'static str {
    match model {
        AdversaryModel::SemiHonest => "semi-honest",
        AdversaryModel::SemiMalicious => "semi-malicious",
    }
}
