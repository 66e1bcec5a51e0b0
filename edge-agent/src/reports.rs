//! `<data-dir>/reports.jsonl`: what servers did that only servers do which break the protocol, a line each, for people to look at and to keep.

use std::io;

use aimass_federation::agent::Report;
use aimass_protocol::PublicKeyBytes;
use aimass_protocol::{CohortId, JobId};
use serde::{Deserialize, Serialize};

use crate::state::{StateError, StateFolder};

/// Of more than this the oldest are dropped.
const MOST_REPORTS: usize = 100;

/// A [`Report`] as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// When, milliseconds since the epoch.
    pub at_ms: u64,
    /// The job.
    pub job: JobId,
    /// The cohort, if there was one.
    pub cohort: Option<CohortId>,
    /// The request whose answer shows it.
    pub step: String,
    /// What was seen, and what it means.
    pub what: String,
    /// The server's public key, which its signature is by.
    pub server: Option<PublicKeyBytes>,
    /// The cohort's descriptor as it was received, in hexadecimal digits.
    pub descriptor: Option<String>,
    /// The server's signature over it ("aimass descriptor v1"), in hexadecimal digits.
    pub signature: Option<String>,
}

impl Reported {
    /// At this time, about the server with this key.
    pub fn new(report: &Report, at_ms: u64, server: Option<PublicKeyBytes>) -> Self {
        let descriptor = report.descriptor.as_ref();
        Self {
            at_ms,
            job: report.job,
            cohort: report.cohort,
            step: report.step.name().to_owned(),
            what: report.what.clone(),
            server,
            descriptor: descriptor.map(|signed| hex::encode(&signed.descriptor)),
            signature: descriptor.map(|signed| hex::encode(signed.signature.as_bytes())),
        }
    }
}

/// Keeps one more. It is on the disk when this returns.
///
/// # Errors
/// [`StateError`].
pub fn keep(state: &StateFolder, report: &Reported) -> Result<(), StateError> {
    let before = state.load_reports()?.unwrap_or_default();
    // A line that can't be read is somebody's note: it stays until its turn comes.
    let mut lines: Vec<&str> = before.lines().filter(|line| !line.is_empty()).collect();
    let line = serde_json::to_string(report).map_err(io::Error::from)?;
    lines.push(&line);
    let text: String = lines[lines.len().saturating_sub(MOST_REPORTS)..]
        .iter()
        .map(|line| format!("{line}\n"))
        .collect();
    state.save_reports(&text)
}

/// All that are kept, the oldest first.
///
/// # Errors
/// [`StateError`].
pub fn load(state: &StateFolder) -> Result<Vec<Reported>, StateError> {
    let text = state.load_reports()?.unwrap_or_default();
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use aimass_federation::RequestKind;
    use aimass_protocol::SignatureBytes;
    use aimass_protocol::message::agent::SignedDescriptor;
    use serde_bytes::ByteBuf;

    use super::*;

    fn report(n: u64) -> Reported {
        let report = Report {
            job: JobId::from_bytes([1; 16]),
            cohort: Some(CohortId::from_bytes([2; 16])),
            step: RequestKind::Survivors,
            what: format!("two sets of survivors, {n}"),
            descriptor: Some(SignedDescriptor {
                descriptor: ByteBuf::from(vec![0xab, 0xcd]),
                signature: SignatureBytes::from_bytes([3; 64]),
            }),
        };
        Reported::new(&report, n, Some(PublicKeyBytes::from_bytes([4; 32])))
    }

    #[test]
    fn the_last_reports_are_kept_and_private() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let state = StateFolder::new(dir.path().join("agent"));
        assert_eq!(load(&state).expect("nothing"), []);
        let _lock = state.open().expect("opens");
        for n in 0..150 {
            keep(&state, &report(n)).expect("is kept");
        }
        let kept = load(&state).expect("reads");
        assert_eq!(kept, (50..150).map(report).collect::<Vec<_>>());
        assert_eq!((kept[0].step.as_str(), kept[0].descriptor.as_deref()), ("survivors", Some("abcd")));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(dir.path().join("agent/reports.jsonl"))
                .expect("is there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
