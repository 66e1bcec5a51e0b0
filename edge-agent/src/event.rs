//! What an agent tells: with `--json` one object a line on stdout, for people a line each on stderr.

use std::io::Write as _;

use aimass_protocol::ErrorCode;
use serde::{Deserialize, Serialize};

/// Something that happened. Ids are whole hexadecimal texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum AgentEvent {
    /// The device has an identity now.
    Joined {
        /// Its tenant.
        tenant: String,
        /// Its id.
        agent: String,
        /// Where the aggregation server listens.
        server: String,
        /// Seconds until the certificate ends.
        certificate_s: i64,
    },
    /// The program runs and goes for work.
    Started {
        /// This agent.
        agent: String,
        /// The server.
        server: String,
        /// Contracts that there is data for.
        contracts: Vec<String>,
        /// Contributions held from before.
        held: usize,
    },
    /// A connection stands.
    Connected {
        /// To whom.
        server: String,
    },
    /// The connection is gone, or could not be made.
    Disconnected {
        /// Why.
        reason: String,
        /// Until the next try.
        retry_ms: u64,
    },
    /// Work was given.
    Task {
        /// The job.
        job: String,
        /// Its name.
        name: String,
        /// Round, counted from 1.
        round: u32,
        /// The base model.
        base: String,
    },
    /// The base model is here.
    Fetched {
        /// The base model.
        base: String,
        /// Bytes that travelled for it just now.
        bytes: u64,
    },
    /// Local training is over.
    Trained {
        /// The job.
        job: String,
        /// Round, counted from 1.
        round: u32,
        /// Examples in the data.
        examples: u64,
        /// Steps done.
        steps: u64,
        /// Mean loss over the last pass.
        train_loss: f32,
        /// Wall-clock time.
        seconds: f64,
    },
    /// What an analytics job asks for is counted.
    Counted {
        /// The job.
        job: String,
        /// Round, counted from 1.
        round: u32,
        /// Rows that were counted.
        rows: u64,
        /// Numbers that came of it.
        numbers: usize,
        /// Wall-clock time.
        seconds: f64,
    },
    /// A cohort took this agent in.
    Cohort {
        /// The job.
        job: String,
        /// Round, counted from 1.
        round: u32,
        /// The cohort.
        cohort: String,
        /// Agents in it.
        members: u32,
    },
    /// The whole update is with the server.
    Uploaded {
        /// The job.
        job: String,
        /// Round, counted from 1.
        round: u32,
        /// Bytes of the update.
        bytes: u64,
        /// Bytes that travelled for it just now: less after a resumed upload.
        sent_bytes: u64,
    },
    /// The contribution is part of a model.
    Included {
        /// The job.
        job: String,
        /// Round, counted from 1.
        round: u32,
        /// The model it went into.
        model: String,
    },
    /// The contribution was not summed; it is offered again.
    NotIncluded {
        /// The job.
        job: String,
    },
    /// The round came to nothing after its unmasking had begun; the contribution is dropped, because it may be in a sum.
    Abandoned {
        /// The job.
        job: String,
    },
    /// The server did what only a server does that breaks the protocol: nothing more is sent for the job.
    Report {
        /// The job.
        job: String,
        /// The cohort, if there was one.
        cohort: Option<String>,
        /// The request whose answer shows it.
        step: String,
        /// What was seen, and what it means.
        what: String,
    },
    /// The round went on without the contribution; it is dropped.
    Superseded {
        /// The job.
        job: String,
    },
    /// The server refused something.
    Refused {
        /// For machines.
        code: String,
        /// For people.
        text: String,
    },
    /// This agent declines a job: by its policy, for want of trust, or because data and job do not fit.
    Declined {
        /// The job.
        job: String,
        /// The rule or check.
        rule: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A new certificate.
    Renewed {
        /// Seconds until it ends.
        certificate_s: i64,
    },
    /// A newer trust bundle.
    Bundle {
        /// Its version.
        version: u64,
    },
    /// Models are served.
    Serving {
        /// Their names.
        models: Vec<String>,
        /// Where TCP connections come in.
        address: Option<String>,
        /// The Unix socket.
        unix: Option<String>,
    },
    /// The program ends.
    Stopped {
        /// Why.
        reason: String,
    },
}

impl AgentEvent {
    /// From a refusal.
    pub fn refused(code: ErrorCode, text: &str) -> Self {
        Self::Refused {
            code: code.name().to_owned(),
            text: text.to_owned(),
        }
    }

    /// The line for people.
    fn for_people(&self) -> String {
        match self {
            Self::Joined {
                tenant,
                agent,
                server,
                certificate_s,
            } => {
                format!(
                    "joined tenant {tenant} as agent {}; server {server}; certificate for {}",
                    short(agent),
                    span(*certificate_s)
                )
            }
            Self::Started {
                agent,
                server,
                contracts,
                held,
            } => {
                let data = if contracts.is_empty() {
                    "no data".to_owned()
                } else {
                    format!("data: {}", contracts.join(", "))
                };
                let held = if *held == 0 {
                    String::new()
                } else {
                    format!("; {held} contribution(s) held from before")
                };
                format!("agent {} for server {server}; {data}{held}", short(agent))
            }
            Self::Connected { server } => format!("connected to {server}"),
            Self::Disconnected { reason, retry_ms } => format!("{reason}; next try in {:.1} s", *retry_ms as f64 / 1000.0),
            Self::Task { name, round, base, .. } => format!("job {name}: round {round}, from model {}", short(base)),
            Self::Fetched { base, bytes } => format!("model {}: {bytes} bytes fetched", short(base)),
            Self::Trained {
                round,
                examples,
                steps,
                train_loss,
                seconds,
                ..
            } => {
                format!("round {round}: trained {steps} steps on {examples} examples in {seconds:.2} s, loss {train_loss:.4}")
            }
            Self::Counted {
                round,
                rows,
                numbers,
                seconds,
                ..
            } => format!("round {round}: {numbers} numbers counted over {rows} rows in {seconds:.2} s"),
            Self::Cohort {
                round, cohort, members, ..
            } => format!("round {round}: in cohort {} with {members} agents", short(cohort)),
            Self::Uploaded { round, bytes, .. } => format!("round {round}: {bytes} bytes uploaded"),
            Self::Included { round, model, .. } => format!("round {round}: included in model {}", short(model)),
            Self::NotIncluded { .. } => "the contribution was not included; it is offered again".to_owned(),
            Self::Abandoned { .. } => {
                "the round came to nothing after its unmasking had begun; the contribution is dropped, because it may be in a sum"
                    .to_owned()
            }
            Self::Report { job, step, what, .. } => format!(
                "the server breaks the protocol of job {}, as its answer to {step} shows: {what}; kept in reports.jsonl",
                short(job)
            ),
            Self::Superseded { .. } => "the round went on without the contribution; it is dropped".to_owned(),
            Self::Refused { code, text } => format!("refused: {text} ({code})"),
            Self::Declined { job, reason, .. } => format!("job {} declined: {reason}", short(job)),
            Self::Renewed { certificate_s } => format!("certificate renewed for {}", span(*certificate_s)),
            Self::Bundle { version } => format!("trust bundle is at version {version} now"),
            Self::Serving { models, address, unix } => {
                let tcp = address.iter().map(|address| format!("http://{address}"));
                let places: Vec<String> = tcp.chain(unix.iter().map(|path| format!("unix:{path}"))).collect();
                let models = if models.is_empty() {
                    "no model yet".to_owned()
                } else {
                    models.join(", ")
                };
                format!("serving {models} at {}", places.join(" and "))
            }
            Self::Stopped { reason } => format!("stopped: {reason}"),
        }
    }

    fn is_warning(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Declined { .. } | Self::Disconnected { .. })
    }
}

/// A number of seconds for people, in the largest unit of which there are two.
pub(crate) fn span(seconds: i64) -> String {
    const UNITS: [(i64, &str); 3] = [(24 * 3600, "days"), (3600, "hours"), (60, "minutes")];
    match UNITS.iter().find(|(unit_s, _)| seconds.saturating_abs() >= 2 * unit_s) {
        // To the nearest: what was issued a moment ago for 30 days holds for 30 days.
        Some((unit_s, name)) => format!("{:.0} {name}", seconds as f64 / *unit_s as f64),
        None => format!("{seconds} s"),
    }
}

fn short(hex: &str) -> &str {
    hex.get(..8).unwrap_or(hex)
}

/// Where events go.
#[derive(Debug, Clone, Copy)]
pub struct Reporter {
    json: bool,
}

impl Reporter {
    /// With `json` every event is a line on stdout too.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Tells of `event`.
    pub fn tell(&self, event: &AgentEvent) {
        let line = event.for_people();
        if matches!(event, AgentEvent::Report { .. }) {
            tracing::error!("{line}");
        } else if event.is_warning() {
            tracing::warn!("{line}");
        } else {
            tracing::info!("{line}");
        }
        if self.json
            && let Ok(line) = serde_json::to_string(event)
        {
            // A reader that went away is no reason to stop working.
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_names_its_event() {
        let event = AgentEvent::Included {
            job: "ab".repeat(16),
            round: 3,
            model: "cd".repeat(32),
        };
        let value = serde_json::to_value(&event).expect("serialises");
        assert_eq!((&value["event"], &value["round"]), (&"included".into(), &3.into()));
        assert_eq!(serde_json::from_value::<AgentEvent>(value).expect("reads"), event);
    }

    #[test]
    fn spans_read_well() {
        let shown = [30 * 86_400 - 1, 2 * 86_400, 86_400, 7199, 119, 0, -90 * 60, i64::MIN].map(span);
        assert_eq!(
            shown,
            [
                "30 days",
                "2 days",
                "24 hours",
                "120 minutes",
                "119 s",
                "0 s",
                "-90 minutes",
                "-106751991167301 days"
            ]
        );
    }

    #[test]
    fn people_see_short_ids_and_the_code() {
        let event = AgentEvent::refused(ErrorCode::Late, "the cohort's deadline is over");
        assert_eq!(event.for_people(), "refused: the cohort's deadline is over (late)");
        let event = AgentEvent::Task {
            job: "ab".repeat(16),
            name: "digits".into(),
            round: 1,
            base: "cd".repeat(32),
        };
        assert_eq!(event.for_people(), "job digits: round 1, from model cdcdcdcd");
    }
}
