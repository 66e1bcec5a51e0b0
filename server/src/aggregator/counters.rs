//! What happened, counted since the start: for `status`, and as Prometheus text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use aimass_protocol::ErrorCode;

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident => $name:literal, $help:literal;)+) => {
        /// Something that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Counter {
            $($(#[$doc])* $variant,)+
        }

        const NAMED: &[(Counter, &str, &str)] = &[$((Counter::$variant, $name, $help),)+];
    };
}

counters! {
    /// A handshake that succeeded.
    Connections => "connections", "Connections made.";
    /// A handshake that failed: no or a bad certificate, another protocol version.
    HandshakesFailed => "handshakes_failed", "Handshakes that failed.";
    /// A connection that was closed for its certificate's role, tenant or the operator's will.
    ConnectionsRefused => "connections_refused", "Connections closed because of role, tenant or revocation.";
    /// A request that was read.
    Requests => "requests", "Requests read.";
    /// A stream that broke off.
    StreamsBroken => "streams_broken", "Streams that broke off.";
    /// A task handed out.
    Tasks => "tasks", "Tasks handed out.";
    /// An upload that was continued in the middle.
    UploadsResumed => "uploads_resumed", "Uploads continued in the middle.";
    /// A contribution added to a sum.
    ContributionsAdded => "contributions_added", "Contributions added to a sum.";
    /// A round that made a model.
    RoundsFinished => "rounds_finished", "Rounds that made a model.";
    /// A round whose model could not be made or stored.
    RoundsFailed => "rounds_failed", "Rounds whose model could not be made or stored.";
    /// A job that was submitted.
    JobsSubmitted => "jobs_submitted", "Jobs taken.";
    /// A job that was refused.
    JobsRefused => "jobs_refused", "Jobs refused.";
    /// Payload bytes from agents.
    BytesUp => "bytes_up", "Payload bytes received from agents.";
    /// Payload bytes to agents.
    BytesDown => "bytes_down", "Payload bytes sent to agents.";
}

/// The counters of one server.
#[derive(Debug)]
pub(crate) struct Counters {
    named: Vec<AtomicU64>,
    refusals: BTreeMap<&'static str, AtomicU64>,
    /// By reason, as the transport names them; few.
    handshakes: Mutex<BTreeMap<&'static str, u64>>,
}

impl Default for Counters {
    fn default() -> Self {
        let refusals = ErrorCode::all()
            .map(ErrorCode::name)
            .chain(["other"])
            .map(|name| (name, AtomicU64::new(0)))
            .collect();
        Self {
            named: NAMED.iter().map(|_| AtomicU64::new(0)).collect(),
            refusals,
            handshakes: Mutex::default(),
        }
    }
}

impl Counters {
    /// Counts one.
    pub(crate) fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts `n`.
    pub(crate) fn add(&self, counter: Counter, n: u64) {
        self.named[counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// Counts a refusal by its code.
    pub(crate) fn refused(&self, code: ErrorCode) {
        if let Some(counter) = self.refusals.get(code.name()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a failed handshake by its reason, besides [`Counter::HandshakesFailed`].
    pub(crate) fn handshake_failed(&self, reason: &'static str) {
        *self
            .handshakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(reason)
            .or_default() += 1;
    }

    fn handshakes(&self) -> BTreeMap<&'static str, u64> {
        self.handshakes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Name and value of every counter; refusals as `refused_<code>`.
    pub(crate) fn snapshot(&self) -> BTreeMap<String, u64> {
        let named = NAMED.iter().map(|&(counter, name, _)| (name.to_owned(), self.get(counter)));
        let refusals = self
            .refusals
            .iter()
            .map(|(code, n)| (format!("refused_{code}"), n.load(Ordering::Relaxed)));
        let handshakes = self.handshakes().into_iter().map(|(reason, n)| (reason.to_owned(), n));
        named.chain(refusals).chain(handshakes).collect()
    }

    fn get(&self, counter: Counter) -> u64 {
        self.named[counter as usize].load(Ordering::Relaxed)
    }

    /// Prometheus text exposition format 0.0.4 of all counters and of `gauges` (name, help, value).
    pub(crate) fn prometheus(&self, gauges: &[(&str, &str, u64)]) -> String {
        let mut text = String::new();
        // Writing to a String can't fail.
        for &(counter, name, help) in NAMED {
            let _ = writeln!(
                text,
                "# HELP aimass_{name}_total {help}\n# TYPE aimass_{name}_total counter\naimass_{name}_total {}",
                self.get(counter)
            );
        }
        let _ = writeln!(
            text,
            "# HELP aimass_refused_total Requests refused, by code.\n# TYPE aimass_refused_total counter"
        );
        for (code, n) in &self.refusals {
            let _ = writeln!(text, "aimass_refused_total{{code=\"{code}\"}} {}", n.load(Ordering::Relaxed));
        }
        let _ = writeln!(
            text,
            "# HELP aimass_handshake_failures_total Handshakes that failed, by reason.\n# TYPE aimass_handshake_failures_total counter"
        );
        for (reason, n) in self.handshakes() {
            let _ = writeln!(text, "aimass_handshake_failures_total{{reason=\"{reason}\"}} {n}");
        }
        for (name, help, value) in gauges {
            let _ = writeln!(
                text,
                "# HELP aimass_{name} {help}\n# TYPE aimass_{name} gauge\naimass_{name} {value}"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_place() {
        for (at, &(counter, name, _)) in NAMED.iter().enumerate() {
            assert_eq!(counter as usize, at, "{name}");
        }
    }

    #[test]
    fn refusals_are_counted_by_code_unknown_ones_together() {
        let counters = Counters::default();
        counters.refused(ErrorCode::Late);
        counters.refused(ErrorCode::Other(999));
        counters.refused(ErrorCode::Other(1000));
        let all = counters.snapshot();
        assert_eq!((all["refused_late"], all["refused_other"], all["refused_revoked"]), (1, 2, 0));
    }

    #[test]
    fn prometheus_text_declares_each_family_once() {
        let counters = Counters::default();
        counters.add(Counter::BytesUp, 7);
        let text = counters.prometheus(&[("agents_online", "Agents connected.", 3)]);
        assert!(
            text.contains("\naimass_bytes_up_total 7\n") && text.contains("\naimass_agents_online 3\n"),
            "{text}"
        );
        let mut families: Vec<_> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
        let declared = families.len();
        families.sort_unstable();
        families.dedup();
        assert_eq!(families.len(), declared);
    }
}
