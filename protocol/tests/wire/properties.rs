//! decode after encode is the identity; arbitrary and damaged bytes are refused without a crash.

use std::fmt::Debug;

use aimass_protocol::frame::{FrameHeader, FrameKind};
use aimass_protocol::{Checked, codec, fuzz};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::golden::{messages, records};
use crate::strategies as any_of;

fn survives<T: Serialize + DeserializeOwned + Checked + PartialEq + Debug>(message: &T) {
    let bytes = codec::encode(message).expect("a valid message");
    assert_eq!(&codec::decode::<T>(&bytes).expect("what was encoded"), message);
    let header = FrameHeader::new(FrameKind::Control, bytes.len()).expect("within the limit");
    assert_eq!(FrameHeader::from_bytes(header.to_bytes()), Ok(header));
    assert!(
        codec::decode::<T>(&bytes[..bytes.len() - 1]).is_err(),
        "a truncated message was taken"
    );
    assert!(
        codec::decode::<T>(&[bytes.as_slice(), &[0xf6]].concat()).is_err(),
        "a trailing byte was taken"
    );
}

proptest! {
    #[test]
    fn agent_requests_survive(message in any_of::agent_request()) {
        survives(&message);
    }

    #[test]
    fn check_in_replies_survive(message in any_of::check_in_reply()) {
        survives(&message);
    }

    #[test]
    fn fetch_replies_survive(message in any_of::fetch_reply()) {
        survives(&message);
    }

    #[test]
    fn ready_replies_survive(message in any_of::ready_reply()) {
        survives(&message);
    }

    #[test]
    fn upload_replies_survive(message in any_of::upload_reply()) {
        survives(&message);
    }

    #[test]
    fn outcome_replies_survive(message in any_of::outcome_reply()) {
        survives(&message);
    }

    #[test]
    fn progress_replies_survive(message in any_of::progress_reply()) {
        survives(&message);
    }

    #[test]
    fn log_entries_survive(message in any_of::log_entry()) {
        survives(&message);
    }

    #[test]
    fn replies_of_secure_aggregation_survive(
        roster in any_of::secagg::roster(),
        reveal in any_of::secagg::reveal_reply(),
        shares in any_of::secagg::shares_reply(),
        survivors in any_of::secagg::survivors_reply(),
        consent in any_of::secagg::consent_reply(),
        unmask in any_of::secagg::unmask_reply(),
    ) {
        survives(&roster);
        survives(&reveal);
        survives(&shares);
        survives(&survivors);
        survives(&consent);
        survives(&unmask);
    }

    #[test]
    fn bundle_replies_survive(message in any_of::bundle_reply()) {
        survives(&message);
    }

    #[test]
    fn serve_replies_survive(message in any_of::serve_reply()) {
        survives(&message);
    }

    #[test]
    fn messages_of_the_authority_survive(
        enrol in any_of::enrol_request(),
        renew in any_of::renew_request(),
        revocation in any_of::revocation_reply(),
        certificate in any_of::certificate_reply(),
    ) {
        survives(&enrol);
        survives(&renew);
        survives(&revocation);
        survives(&certificate);
    }

    #[test]
    fn records_survive(
        job in any_of::signed_job(),
        descriptor in any_of::descriptor(),
        bundle in any_of::trust_bundle(),
        signed in any_of::signed_bundle(),
    ) {
        survives(&job);
        survives(&descriptor);
        survives(&bundle);
        survives(&signed);
    }

    #[test]
    fn tokens_survive(token in any_of::token()) {
        survives(&token);
        fuzz::token(&token.to_text().expect("a valid token"));
    }

    #[test]
    fn headers_are_read_as_they_are_written(chunk in any::<bool>(), len in 0_usize..600_000) {
        let kind = if chunk { FrameKind::Chunk } else { FrameKind::Control };
        match FrameHeader::new(kind, len) {
            Ok(header) => assert_eq!(FrameHeader::from_bytes(header.to_bytes()), Ok(header)),
            Err(_) => assert!(len > kind.limit()),
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_crash(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz::control_message(&bytes);
        fuzz::frame_header(&bytes);
        fuzz::token(&String::from_utf8_lossy(&bytes));
    }

    /// One vector with a few bytes replaced, cut or doubled.
    #[test]
    fn damaged_vectors_are_no_crash(
        which in any::<prop::sample::Index>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
    ) {
        let vectors: Vec<Vec<u8>> = messages().into_iter().chain(records()).map(|vector| vector.cbor).collect();
        let mut bytes = which.get(&vectors).clone();
        for (at, byte, how) in damage {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, byte),
            }
        }
        fuzz::control_message(&bytes);
    }
}
