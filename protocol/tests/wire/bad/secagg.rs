//! Bad messages of secure aggregation.

use serde_cbor::Value as Cbor;
use serde_json::Value as Json;

use super::{bad, changed, entry, set, without};

fn list(value: &mut Cbor) -> &mut Vec<Cbor> {
    let Cbor::Array(list) = value else { panic!("no list") };
    list
}

/// The list at `path`, with its first entry `count` times.
fn of_first(name: &str, path: &[&str], count: usize) -> Vec<u8> {
    changed(name, path, |at| {
        let first = list(at)[0].clone();
        *at = Cbor::Array(vec![first; count]);
    })
}

/// The list at `path` with `count` entries, each with another `agent`.
fn of_many(name: &str, path: &[&str], count: u16) -> Vec<u8> {
    changed(name, path, |at| {
        let first = list(at)[0].clone();
        let one = |i: u16| {
            let mut one = first.clone();
            entry(&mut one, "agent", Cbor::Bytes([[0; 14].as_slice(), &i.to_be_bytes()].concat()));
            one
        };
        *at = Cbor::Array((0..count).map(one).collect());
    })
}

pub(super) fn vectors() -> Vec<Json> {
    let request = |name, cbor: &[u8]| bad(name, "AgentRequest", "invalid", cbor);
    let malformed = |name, type_name, cbor: &[u8]| bad(name, type_name, "malformed", cbor);
    let roster = |name, cbor: &[u8]| bad(name, "Reply<Roster>", "invalid", cbor);
    let opening = |name, cbor: &[u8]| bad(name, "Reply<RevealReply>", "invalid", cbor);
    let survivors = |name, value| {
        bad(
            name,
            "Reply<SurvivorsReply>",
            "invalid",
            &set("survivors_set", &["Ok", "Set"], value),
        )
    };
    let secure = |name, path: &[&str], value: Cbor| bad(name, "Descriptor", "invalid", &set("descriptor_secure", path, value));
    let params = |name, field, value: i128| secure(name, &["secagg", field], Cbor::Integer(value));
    let hashes = |n| Cbor::Array(vec![Cbor::Bytes(vec![7; 32]); n]);
    let backwards = changed("roster", &["Ok", "members"], |at| list(at).reverse());
    let no_secagg = changed("descriptor_secure", &[], |map| without(map, "secagg"));
    let no_log_size = changed("advert", &["Advert"], |map| entry(map, "log_size", Cbor::Text("2".into())));
    vec![
        request("too_many_spent", &of_first("check_in_spent", &["CheckIn", "spent"], 257)),
        bad(
            "draw_zero",
            "Reply<ReadyReply>",
            "invalid",
            &set("ready_draw", &["Ok", "Draw", "draw"], Cbor::Integer(0)),
        ),
        bad(
            "draw_four",
            "Reply<RevealReply>",
            "invalid",
            &set("reveal_draw_again", &["Ok", "DrawAgain", "draw"], Cbor::Integer(4)),
        ),
        request("advert_of_draw_four", &set("advert", &["Advert", "draw"], Cbor::Integer(4))),
        request(
            "advert_without_certificate",
            &set("advert", &["Advert", "certificate"], Cbor::Bytes(vec![])),
        ),
        request(
            "advert_certificate_too_long",
            &set("advert", &["Advert", "certificate"], Cbor::Bytes(vec![0; 4097])),
        ),
        malformed(
            "advert_mask_key_too_short",
            "AgentRequest",
            &set("advert", &["Advert", "mask_key"], Cbor::Bytes(vec![1; 31])),
        ),
        malformed(
            "advert_signature_too_short",
            "AgentRequest",
            &set("advert", &["Advert", "signature"], Cbor::Bytes(vec![1; 63])),
        ),
        malformed("advert_log_size_as_text", "AgentRequest", &no_log_size),
        request(
            "advert_of_a_log_beyond_the_largest",
            &set("advert", &["Advert", "log_size"], Cbor::Integer((1 << 62) + 1)),
        ),
        malformed(
            "advert_without_seal_key",
            "AgentRequest",
            &changed("advert", &["Advert"], |map| without(map, "seal_key")),
        ),
        malformed(
            "advert_names_a_member",
            "AgentRequest",
            &changed("advert", &["Advert"], |map| entry(map, "member", Cbor::Bytes(vec![1; 16]))),
        ),
        roster(
            "roster_of_two",
            &changed("roster", &["Ok", "members"], |at| {
                list(at).pop();
            }),
        ),
        roster("roster_of_1025", &of_many("roster", &["Ok", "members"], 1025)),
        roster("roster_out_of_order", &backwards),
        roster("roster_member_twice", &of_first("roster", &["Ok", "members"], 3)),
        malformed(
            "roster_commitment_too_long",
            "Reply<Roster>",
            &set("roster", &["Ok", "members", "0", "draw_commitment"], Cbor::Bytes(vec![1; 33])),
        ),
        request("reveal_of_draw_zero", &set("reveal", &["Reveal", "draw"], Cbor::Integer(0))),
        opening(
            "opening_descriptor_empty",
            &set(
                "reveal_opening",
                &["Ok", "Opening", "descriptor", "descriptor"],
                Cbor::Bytes(vec![]),
            ),
        ),
        opening(
            "opening_descriptor_too_long",
            &set(
                "reveal_opening",
                &["Ok", "Opening", "descriptor", "descriptor"],
                Cbor::Bytes(vec![0; 4097]),
            ),
        ),
        opening(
            "opening_of_two_nonces",
            &set("reveal_opening", &["Ok", "Opening", "nonces"], hashes(2)),
        ),
        opening(
            "opening_of_1025_nonces",
            &set("reveal_opening", &["Ok", "Opening", "nonces"], hashes(1025)),
        ),
        opening(
            "opening_of_301_neighbours",
            &of_many("reveal_opening", &["Ok", "Opening", "neighbours"], 301),
        ),
        opening(
            "opening_neighbour_without_certificate",
            &set(
                "reveal_opening",
                &["Ok", "Opening", "neighbours", "0", "certificate"],
                Cbor::Bytes(vec![]),
            ),
        ),
        opening(
            "opening_consistency_of_too_many_hashes",
            &set("reveal_opening", &["Ok", "Opening", "log_consistency"], hashes(65)),
        ),
        request(
            "share_too_short",
            &set("shares", &["Shares", "shares", "0", "sealed"], Cbor::Bytes(vec![1; 79])),
        ),
        request(
            "share_too_long",
            &set("shares", &["Shares", "shares", "0", "sealed"], Cbor::Bytes(vec![1; 81])),
        ),
        request("two_shares_for_one", &of_first("shares", &["Shares", "shares"], 2)),
        request("shares_for_301", &of_many("shares", &["Shares", "shares"], 301)),
        bad(
            "two_shares_of_one",
            "Reply<SharesReply>",
            "invalid",
            &of_first("shares_reply", &["Ok", "shares"], 2),
        ),
        survivors("survivors_empty", Cbor::Bytes(vec![])),
        survivors("survivors_of_129_bytes", Cbor::Bytes(vec![0xff; 129])),
        bad(
            "agreement_twice",
            "Reply<ConsentReply>",
            "invalid",
            &of_first("consent_agreed", &["Ok", "Agreed"], 2),
        ),
        bad(
            "agreements_of_301",
            "Reply<ConsentReply>",
            "invalid",
            &of_many("consent_agreed", &["Ok", "Agreed"], 301),
        ),
        request("both_secrets_of_one", &of_first("unmask", &["Unmask", "shares"], 2)),
        request("unmask_of_302", &of_many("unmask", &["Unmask", "shares"], 302)),
        malformed(
            "unmask_share_too_short",
            "AgentRequest",
            &set("unmask", &["Unmask", "shares", "0", "share"], Cbor::Bytes(vec![1; 31])),
        ),
        malformed(
            "unmask_without_consent",
            "AgentRequest",
            &changed("unmask", &["Unmask"], |map| without(map, "consent")),
        ),
        bad("descriptor_secure_without_masks", "Descriptor", "invalid", &no_secagg),
        secure("descriptor_plain_with_masks", &["mode"], Cbor::Text("plain".into())),
        secure("descriptor_secure_of_two", &["members"], Cbor::Integer(2)),
        secure("descriptor_secure_of_1025", &["members"], Cbor::Integer(1025)),
        secure("descriptor_secure_floor_of_two", &["floor"], Cbor::Integer(2)),
        secure(
            "descriptor_of_a_log_beyond_the_largest",
            &["log", "size"],
            Cbor::Integer((1 << 62) + 1),
        ),
        params("degree_of_all_members", "degree", 3),
        params("degree_one", "degree", 1),
        params("threshold_one", "threshold", 1),
        params("threshold_above_all_holders", "threshold", 4),
        params("descriptor_draw_zero", "draw", 0),
        bad(
            "unknown_suite",
            "Descriptor",
            "malformed",
            &set("descriptor_secure", &["secagg", "suite"], Cbor::Text("none".into())),
        ),
        bad(
            "unknown_profile",
            "Descriptor",
            "malformed",
            &set("descriptor_secure", &["secagg", "profile"], Cbor::Text("trusted".into())),
        ),
    ]
}
