//! Messages of secure aggregation.

use aimass_protocol::descriptor::{MaskSuite, Profile, SecAggParams};
use aimass_protocol::limits::{MAX_DRAWS, MAX_LOG_SIZE};
use aimass_protocol::message::Reply;
use aimass_protocol::message::agent::{AgentRequest, SignedDescriptor};
use aimass_protocol::message::secagg::{
    Advert, Agreement, Consent, ConsentReply, DrawCall, NeighbourAdvert, Opening, Reveal, RevealReply, Roster, RosterEntry, SealedShare,
    ShareBytes, Shares, SharesReply, SurvivorsQuery, SurvivorsReply, Unmask, UnmaskReply, UnmaskShare,
};
use aimass_protocol::{AgentId, Digest};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use serde_bytes::ByteBuf;

use super::{blob, bytes_of, reply};

pub(super) fn secagg_params() -> impl Strategy<Value = SecAggParams> {
    let suite = prop_oneof![Just(MaskSuite::ChaCha20), Just(MaskSuite::Aes256Ctr)];
    let profile = prop_oneof![Just(Profile::Standard), Just(Profile::Hardened)];
    let numbers = (2..=23_u32).prop_flat_map(|degree| (Just(degree), 2..=degree + 1));
    (suite, profile, numbers, 1..=3_u8, bytes_of(), bytes_of()).prop_map(
        |(suite, profile, (degree, threshold), draw, roster, graph_seed)| SecAggParams {
            suite,
            profile,
            degree,
            threshold,
            draw,
            roster,
            graph_seed,
        },
    )
}

pub(super) fn draw_call() -> impl Strategy<Value = DrawCall> {
    (bytes_of(), 1..=MAX_DRAWS).prop_map(|(cohort, draw)| DrawCall { cohort, draw })
}

fn advert() -> impl Strategy<Value = Advert> {
    let keys = (bytes_of(), bytes_of(), bytes_of(), bytes_of());
    (bytes_of(), 1..=MAX_DRAWS, keys, blob(4096), bytes_of(), 0..=MAX_LOG_SIZE).prop_map(
        |(cohort, draw, (mask_key, seal_key, self_commitment, draw_commitment), certificate, signature, log_size)| Advert {
            cohort,
            draw,
            mask_key,
            seal_key,
            self_commitment,
            draw_commitment,
            certificate,
            signature,
            log_size,
        },
    )
}

fn neighbour() -> impl Strategy<Value = NeighbourAdvert> {
    (bytes_of(), advert()).prop_map(|(agent, advert)| NeighbourAdvert {
        agent,
        mask_key: advert.mask_key,
        seal_key: advert.seal_key,
        self_commitment: advert.self_commitment,
        draw_commitment: advert.draw_commitment,
        certificate: advert.certificate,
        signature: advert.signature,
    })
}

/// One of these for each of a few agents, none twice.
fn of_each<T: std::fmt::Debug, S: Strategy<Value = T>>(one: impl Fn(AgentId) -> S) -> impl Strategy<Value = Vec<T>> {
    btree_set(bytes_of::<AgentId, 16>(), 0..5).prop_flat_map(move |agents| agents.into_iter().map(&one).collect::<Vec<_>>())
}

fn sealed_shares() -> impl Strategy<Value = Vec<SealedShare>> {
    of_each(|agent| {
        (vec(any::<u8>(), SealedShare::SEALED_BYTES), bytes_of()).prop_map(move |(sealed, signature)| SealedShare {
            agent,
            sealed: ByteBuf::from(sealed),
            signature,
        })
    })
}

fn unmask() -> impl Strategy<Value = Unmask> {
    let shares = of_each(|agent| {
        any::<[u8; 32]>().prop_map(move |share| UnmaskShare {
            agent,
            share: ShareBytes::from_bytes(share),
        })
    });
    (bytes_of(), bytes_of(), shares).prop_map(|(cohort, consent, shares)| Unmask { cohort, consent, shares })
}

pub(super) fn request() -> impl Strategy<Value = AgentRequest> {
    prop_oneof![
        advert().prop_map(AgentRequest::Advert),
        (bytes_of(), 1..=MAX_DRAWS, bytes_of()).prop_map(|(cohort, draw, nonce)| AgentRequest::Reveal(Reveal { cohort, draw, nonce })),
        (bytes_of(), sealed_shares()).prop_map(|(cohort, shares)| AgentRequest::Shares(Shares { cohort, shares })),
        (bytes_of(), bytes_of(), bytes_of()).prop_map(|(job, cohort, contribution)| AgentRequest::Survivors(SurvivorsQuery {
            job,
            cohort,
            contribution
        })),
        (bytes_of(), bytes_of()).prop_map(|(cohort, signature)| AgentRequest::Consent(Consent { cohort, signature })),
        unmask().prop_map(AgentRequest::Unmask),
    ]
}

pub(crate) fn roster() -> impl Strategy<Value = Reply<Roster>> {
    let members = btree_set(bytes_of::<AgentId, 16>(), 3..40).prop_flat_map(|agents| {
        let entry = |agent| bytes_of::<Digest, 32>().prop_map(move |draw_commitment| RosterEntry { agent, draw_commitment });
        agents.into_iter().map(entry).collect::<Vec<_>>()
    });
    reply(members.prop_map(|members| Roster { members }))
}

pub(crate) fn reveal_reply() -> impl Strategy<Value = Reply<RevealReply>> {
    let descriptor = (blob(4096), bytes_of()).prop_map(|(descriptor, signature)| SignedDescriptor { descriptor, signature });
    let opening = (descriptor, vec(bytes_of(), 3..20), vec(neighbour(), 0..5), vec(bytes_of(), 0..=64)).prop_map(
        |(descriptor, nonces, neighbours, log_consistency)| Opening {
            descriptor,
            nonces,
            neighbours,
            log_consistency,
        },
    );
    reply(prop_oneof![
        opening.prop_map(RevealReply::Opening),
        draw_call().prop_map(RevealReply::DrawAgain)
    ])
}

pub(crate) fn shares_reply() -> impl Strategy<Value = Reply<SharesReply>> {
    reply(sealed_shares().prop_map(|shares| SharesReply { shares }))
}

pub(crate) fn survivors_reply() -> impl Strategy<Value = Reply<SurvivorsReply>> {
    reply(prop_oneof![
        blob(128).prop_map(SurvivorsReply::Set),
        Just(SurvivorsReply::NotIncluded)
    ])
}

pub(crate) fn consent_reply() -> impl Strategy<Value = Reply<ConsentReply>> {
    let agreed = of_each(|agent| bytes_of().prop_map(move |signature| Agreement { agent, signature }));
    reply(prop_oneof![agreed.prop_map(ConsentReply::Agreed), Just(ConsentReply::NotIncluded)])
}

pub(crate) fn unmask_reply() -> impl Strategy<Value = Reply<UnmaskReply>> {
    reply(prop_oneof![Just(UnmaskReply::Taken), Just(UnmaskReply::Abandoned)])
}
