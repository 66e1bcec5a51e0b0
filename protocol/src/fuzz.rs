//! Entry points for fuzzers: bytes into every decoder. Each function panics when a property is broken, and only then.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bundle::{SignedBundle, TrustBundle};
use crate::check::Checked;
use crate::codec;
use crate::descriptor::Descriptor;
use crate::frame::{FrameHeader, HEADER_BYTES};
use crate::job::{JobFile, Requirement, SignedJob};
use crate::limits::MAX_REQUIREMENT_BYTES;
use crate::log::LogEntry;
use crate::message::Reply;
use crate::message::agent::{
    AgentRequest, BundleReply, Capabilities, CheckInReply, FetchReply, OutcomeReply, ProgressReply, ReadyReply, ServeReply, UploadReply,
};
use crate::message::authority::{CertificateReply, EnrolRequest, RenewRequest, RevocationReply};
use crate::message::secagg::{ConsentReply, RevealReply, Roster, SharesReply, SurvivorsReply, UnmaskReply};
use crate::token::JoinToken;

/// Decodes `bytes` as every control message and record. What decodes must encode, and decode to itself again.
///
/// # Panics
/// When it does not.
pub fn control_message(bytes: &[u8]) {
    stable::<AgentRequest>(bytes);
    stable::<Reply<CheckInReply>>(bytes);
    stable::<Reply<FetchReply>>(bytes);
    stable::<Reply<ReadyReply>>(bytes);
    stable::<Reply<UploadReply>>(bytes);
    stable::<Reply<OutcomeReply>>(bytes);
    stable::<Reply<BundleReply>>(bytes);
    stable::<Reply<ServeReply>>(bytes);
    stable::<Reply<ProgressReply>>(bytes);
    stable::<Reply<Roster>>(bytes);
    stable::<Reply<RevealReply>>(bytes);
    stable::<Reply<SharesReply>>(bytes);
    stable::<Reply<SurvivorsReply>>(bytes);
    stable::<Reply<ConsentReply>>(bytes);
    stable::<Reply<UnmaskReply>>(bytes);
    stable::<EnrolRequest>(bytes);
    stable::<RenewRequest>(bytes);
    stable::<Reply<RevocationReply>>(bytes);
    stable::<Reply<CertificateReply>>(bytes);
    stable::<SignedJob>(bytes);
    stable::<Descriptor>(bytes);
    stable::<TrustBundle>(bytes);
    stable::<SignedBundle>(bytes);
    stable::<JoinToken>(bytes);
    stable::<LogEntry>(bytes);
}

/// Reads a frame header. What is accepted is within its limit and writes the same bytes.
///
/// # Panics
/// When it does not.
pub fn frame_header(bytes: &[u8]) {
    let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else { return };
    if let Ok(header) = FrameHeader::from_bytes(*bytes) {
        assert!(header.len <= header.kind.limit(), "a header over its limit was accepted");
        assert_eq!(header.to_bytes(), *bytes, "a header does not write what it was read from");
    }
}

/// Parses a job file; a refusal points into the text.
///
/// # Panics
/// When it points elsewhere.
pub fn job_file(text: &str) {
    if let Err(error) = JobFile::parse(text) {
        let lines = text.split('\n').count();
        assert!(
            (1..=lines).contains(&error.line) && error.column >= 1,
            "a refusal points outside of the text: {error}"
        );
        assert!(
            !error.problem.is_empty() && !error.fix.is_empty(),
            "a refusal without problem or fix: {error}"
        );
    }
}

/// Parses a requirement. What parses is written as what parses to the same, and is answered for any device; a refusal points into the text.
///
/// # Panics
/// When it is not.
pub fn requirement(text: &str) {
    match Requirement::parse(text) {
        Ok(requirement) => {
            requirement.holds(&Capabilities::default());
            let written = requirement.to_string();
            if written.len() <= MAX_REQUIREMENT_BYTES {
                assert_eq!(
                    Requirement::parse(&written),
                    Ok(requirement),
                    "a requirement changed by being written"
                );
            }
        }
        Err(error) => assert!(
            (1..=text.chars().count() + 1).contains(&error.at) && !error.problem.is_empty() && !error.fix.is_empty(),
            "a refusal without its place, problem or fix: {error}"
        ),
    }
}

/// Parses a join token. What parses has a text that parses to itself.
///
/// # Panics
/// When it has not.
pub fn token(text: &str) {
    if let Ok(token) = text.parse::<JoinToken>() {
        let Ok(again) = token.to_text() else {
            panic!("a token that was read can't be written")
        };
        assert_eq!(again.parse(), Ok(token), "a token changed by being written");
    }
}

fn stable<T: DeserializeOwned + Serialize + Checked + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(message) = codec::decode::<T>(bytes) else { return };
    let encoded = match codec::encode(&message) {
        Ok(encoded) => encoded,
        Err(error) => panic!("what was decoded can't be encoded: {error}"),
    };
    match codec::decode::<T>(&encoded) {
        Ok(again) => assert_eq!(again, message, "a message changed by being written"),
        Err(error) => panic!("what was encoded can't be decoded: {error}"),
    }
}
