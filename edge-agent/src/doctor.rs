//! `aimass-agent doctor`: what would keep an agent from working here, and how to mend it.

mod checks;
mod remote;

use std::fmt;

use serde::Serialize;

use crate::config::AgentConfig;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nothing to do.
    Ok,
    /// Works, and somebody should know.
    Warn,
    /// An agent can't work here until this is mended.
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it went.
    pub health: Health,
    /// What was found.
    pub found: String,
    /// What to do about it, unless nothing is to be done.
    pub fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            health: Health::Ok,
            found: found.into(),
            fix: None,
        }
    }

    fn warn(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            name,
            health: Health::Warn,
            found: found.into(),
            fix: Some(fix.into()),
        }
    }

    fn fail(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            name,
            health: Health::Fail,
            found: found.into(),
            fix: Some(fix.into()),
        }
    }
}

/// All checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether an agent can work here.
    pub healthy: bool,
    /// In the order in which they build on each other.
    pub checks: Vec<Check>,
}

impl Report {
    fn new(checks: Vec<Check>) -> Self {
        Self {
            healthy: checks.iter().all(|c| c.health != Health::Fail),
            checks,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
        for check in &self.checks {
            let word = match check.health {
                Health::Ok => "ok",
                Health::Warn => "warn",
                Health::Fail => "FAIL",
            };
            writeln!(f, "{word:4}  {:width$}  {}", check.name, check.found)?;
            if let Some(fix) = &check.fix {
                writeln!(f, "      {:width$}  -> {fix}", "")?;
            }
        }
        let bad = self.checks.iter().filter(|c| c.health == Health::Fail).count();
        if self.healthy {
            write!(f, "an agent can work here")
        } else {
            write!(f, "{bad} thing(s) to mend before an agent can work here")
        }
    }
}

/// Checks this device. Changes nothing but a file that it makes and removes in the agent's folder.
pub fn examine(config: &AgentConfig) -> Report {
    let state = config.state();
    let mut checks = vec![checks::folder(&state), checks::disk(&state)];
    let (check, enrolment) = checks::identity(&state);
    checks.push(check);
    if let Some((folder, enrolment)) = enrolment {
        checks.push(checks::certificate(&enrolment));
        checks.push(checks::clock(&enrolment));
        checks.extend(remote::services(&folder, &enrolment));
    }
    checks.extend(checks::data(config));
    checks.push(checks::device(config));
    checks.push(checks::policy(config));
    checks.push(checks::held(&state));
    Report::new(checks)
}

#[cfg(test)]
mod tests;
