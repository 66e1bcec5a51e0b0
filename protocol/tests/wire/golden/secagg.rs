//! The vectors of secure aggregation.

use aimass_protocol::message::Reply;
use aimass_protocol::message::agent::{AgentRequest, CheckIn, Held, ReadyReply};
use aimass_protocol::message::secagg::{ConsentReply, DrawCall, RevealReply, SharesReply, SurvivorsReply, UnmaskReply};
use serde_bytes::ByteBuf;

use super::{Vector, vector};
use crate::fixtures as fix;
use crate::fixtures::secagg as masks;

pub(super) fn messages() -> Vec<Vector> {
    let spent = CheckIn {
        spent: vec![Held {
            job: fix::job(),
            base: fix::base(),
        }],
        held: vec![],
        ..fix::check_in()
    };
    let again = DrawCall {
        draw: 2,
        ..masks::draw_call()
    };
    let set = SurvivorsReply::Set(ByteBuf::from(masks::SURVIVORS));
    let agreed = ConsentReply::Agreed(masks::agreements());
    let received = SharesReply {
        shares: masks::received_shares(),
    };
    vec![
        vector("check_in_spent", "AgentRequest", AgentRequest::CheckIn(spent)),
        vector("ready_draw", "Reply<ReadyReply>", Reply::Ok(ReadyReply::Draw(masks::draw_call()))),
        vector("advert", "AgentRequest", AgentRequest::Advert(masks::advert(fix::AGENT))),
        vector("roster", "Reply<Roster>", Reply::Ok(masks::roster())),
        vector("reveal", "AgentRequest", AgentRequest::Reveal(masks::reveal())),
        vector(
            "reveal_opening",
            "Reply<RevealReply>",
            Reply::Ok(RevealReply::Opening(masks::opening())),
        ),
        vector("reveal_draw_again", "Reply<RevealReply>", Reply::Ok(RevealReply::DrawAgain(again))),
        vector("shares", "AgentRequest", AgentRequest::Shares(masks::shares())),
        vector("shares_reply", "Reply<SharesReply>", Reply::Ok(received)),
        vector("survivors", "AgentRequest", AgentRequest::Survivors(masks::survivors_query())),
        vector("survivors_set", "Reply<SurvivorsReply>", Reply::Ok(set)),
        vector(
            "survivors_not_included",
            "Reply<SurvivorsReply>",
            Reply::Ok(SurvivorsReply::NotIncluded),
        ),
        vector("consent", "AgentRequest", AgentRequest::Consent(masks::consent())),
        vector("consent_agreed", "Reply<ConsentReply>", Reply::Ok(agreed)),
        vector("consent_not_included", "Reply<ConsentReply>", Reply::Ok(ConsentReply::NotIncluded)),
        vector("unmask", "AgentRequest", AgentRequest::Unmask(masks::unmask())),
        vector("unmask_taken", "Reply<UnmaskReply>", Reply::Ok(UnmaskReply::Taken)),
        vector("unmask_abandoned", "Reply<UnmaskReply>", Reply::Ok(UnmaskReply::Abandoned)),
    ]
}

/// What members sign in a cohort, over the bytes that `docs/secure-aggregation.md` names.
#[test]
fn signatures_of_a_cohort_hold() {
    use ring::signature::{ED25519, UnparsedPublicKey};
    let all = masks::signatures();
    assert_eq!(all.len(), 8, "three adverts, three consents, two shares");
    for (signed, signature, signer) in all {
        let key = UnparsedPublicKey::new(&ED25519, fix::public_key(signer));
        key.verify(&signed, signature.as_bytes()).expect("a signature of the fixture");
    }
}
