//! What computes a served model.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What computes a model, or how that is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Both are tried when the model is loaded: the plan where its outputs are tract's within the tolerance and it is faster, else tract.
    #[default]
    Auto,
    /// tract.
    Tract,
    /// The trainer's plan for the CPU. A model that it does not compute as tract does is not served by it.
    Plan,
}

impl Engine {
    /// As settings and figures name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tract => "tract",
            Self::Plan => "plan",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not an engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no engine: use auto, tract or plan")]
pub struct UnknownEngine {
    /// What was given.
    pub found: String,
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        [Self::Auto, Self::Tract, Self::Plan]
            .into_iter()
            .find(|engine| engine.name() == text)
            .ok_or_else(|| UnknownEngine {
                found: text.chars().take(40).collect(),
            })
    }
}
