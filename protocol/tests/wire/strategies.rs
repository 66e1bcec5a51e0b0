//! Arbitrary valid messages, for property tests.

use std::collections::BTreeSet;

use aimass_protocol::bundle::{RootSignature, SignedBundle, TrustBundle, TrustedOwner};
use aimass_protocol::descriptor::{CodecName, CodecParams, Descriptor};
use aimass_protocol::job::{AggregationMode, SignedJob};
use aimass_protocol::limits::{
    CHUNK_BYTES, MAX_BLOB_BYTES, MAX_CHUNKS, MAX_COME_BACK_MS, MAX_FINISH_WITHIN_MS, MAX_LOG_SIZE, MAX_SPREAD_MS,
};
use aimass_protocol::log::{AbandonedEntry, BaseProof, LogEntry, LogEvent, LogHead, RoundEntry};
use aimass_protocol::manifest::Manifest;
use aimass_protocol::message::agent::{
    AgentRequest, BundleQuery, BundleReply, Capabilities, CheckIn, CheckInReply, ComeBack, Fetch, FetchReply, Held, OutcomeQuery,
    OutcomeReply, Progress, ProgressReply, Ready, ReadyReply, ServeQuery, ServeReply, Serving, SignedDescriptor, SignedRelease, Task,
    Upload, UploadReply,
};
use aimass_protocol::message::authority::{CertificateReply, Enrol, EnrolRequest, Renew, RenewRequest, RevocationReply, SetRevoked};
use aimass_protocol::message::{Refusal, Reply};
use aimass_protocol::token::{JoinToken, Role, TokenSecret};
use aimass_protocol::{ErrorCode, TenantId, Timestamp};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use serde_bytes::ByteBuf;

use self::secagg::secagg_params;

pub(crate) mod secagg;

/// An id, key, signature or nonce: any bytes of its length.
fn bytes_of<T: From<[u8; N]> + std::fmt::Debug, const N: usize>() -> impl Strategy<Value = T> {
    vec(any::<u8>(), N).prop_map(|bytes| T::from(bytes.try_into().expect("as many as asked for")))
}

fn blob(max: usize) -> impl Strategy<Value = ByteBuf> {
    vec(any::<u8>(), 1..=max).prop_map(ByteBuf::from)
}

fn labels() -> impl Strategy<Value = Vec<String>> {
    btree_set("[a-zA-Z0-9._-]{1,64}", 0..5).prop_map(|set: BTreeSet<String>| set.into_iter().collect())
}

fn tenant() -> impl Strategy<Value = TenantId> {
    "[a-z]([a-z0-9-]{0,30}[a-z0-9])?".prop_map(|text| text.parse().expect("a tenant's name"))
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_ms)
}

fn line() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{0,16}"
}

fn manifest() -> impl Strategy<Value = Manifest> {
    (0..5 * CHUNK_BYTES as u64).prop_flat_map(|size| {
        let n_chunks = usize::try_from(size.div_ceil(CHUNK_BYTES as u64)).expect("a small number");
        (bytes_of(), vec(bytes_of(), n_chunks))
            .prop_map(move |(digest, chunks)| Manifest::new(digest, size, chunks).expect("the parts fit"))
    })
}

fn check_in() -> impl Strategy<Value = CheckIn> {
    let capabilities =
        (line(), any::<u32>(), any::<u64>(), line(), labels()).prop_map(|(agent_version, cores, memory_bytes, device_class, tags)| {
            Capabilities {
                agent_version,
                cores,
                memory_bytes,
                device_class,
                tags,
            }
        });
    let held = vec((bytes_of(), bytes_of()).prop_map(|(job, base)| Held { job, base }), 0..4);
    let declined = btree_set(bytes_of(), 0..4).prop_map(|set| set.into_iter().collect());
    let spent = vec((bytes_of(), bytes_of()).prop_map(|(job, base)| Held { job, base }), 0..4);
    (capabilities, labels(), declined, held, spent, 0..=MAX_LOG_SIZE).prop_map(
        |(capabilities, contracts, declined, held, spent, log_size)| CheckIn {
            capabilities,
            contracts,
            declined,
            held,
            spent,
            log_size,
        },
    )
}

pub(crate) fn agent_request() -> impl Strategy<Value = AgentRequest> {
    prop_oneof![
        check_in().prop_map(AgentRequest::CheckIn),
        (bytes_of(), 0..=MAX_CHUNKS).prop_map(|(digest, from_chunk)| AgentRequest::Fetch(Fetch { digest, from_chunk })),
        (bytes_of(), bytes_of(), bytes_of()).prop_map(|(job, base, contribution)| AgentRequest::Ready(Ready { job, base, contribution })),
        (bytes_of(), bytes_of(), manifest()).prop_map(|(cohort, contribution, manifest)| AgentRequest::Upload(Upload {
            cohort,
            contribution,
            manifest
        })),
        (bytes_of(), bytes_of(), bytes_of()).prop_map(|(job, cohort, contribution)| AgentRequest::Outcome(OutcomeQuery {
            job,
            cohort,
            contribution
        })),
        (bytes_of(), bytes_of(), 0..=100u8).prop_map(|(job, base, percent)| AgentRequest::Progress(Progress { job, base, percent })),
        any::<u64>().prop_map(|have_version| AgentRequest::Bundle(BundleQuery { have_version })),
        prop::collection::btree_map("[a-zA-Z0-9._-]{1,64}", bytes_of(), 0..4).prop_map(|have| {
            let have = have.into_iter().map(|(model, release)| Serving { model, release });
            AgentRequest::Serve(ServeQuery { have: have.collect() })
        }),
        secagg::request(),
    ]
}

/// A reply, or in one case of five a refusal.
fn reply<T: std::fmt::Debug>(ok: impl Strategy<Value = T>) -> impl Strategy<Value = Reply<T>> {
    let refusal = (any::<u16>(), any::<String>()).prop_map(|(code, text)| Refusal::new(ErrorCode::from(code), text));
    prop_oneof![4 => ok.prop_map(Reply::Ok), 1 => refusal.prop_map(Reply::Refused)]
}

pub(crate) fn check_in_reply() -> impl Strategy<Value = Reply<CheckInReply>> {
    let task = (
        bytes_of(),
        blob(2000),
        bytes_of(),
        bytes_of(),
        1..=u32::MAX,
        bytes_of(),
        1..=MAX_BLOB_BYTES,
        prop::option::of(1..=MAX_FINISH_WITHIN_MS),
        prop::option::of(base_proof()),
    )
        .prop_map(
            |(job, signed_job, owner, signature, round, base, base_bytes, finish_within_ms, log)| {
                CheckInReply::Task(Task {
                    job,
                    signed_job,
                    owner,
                    signature,
                    round,
                    base,
                    base_bytes,
                    finish_within_ms,
                    log: log.map(Box::new),
                })
            },
        );
    let come_back = (0..=MAX_COME_BACK_MS, line(), 0..=MAX_SPREAD_MS).prop_map(|(after_ms, reason, spread_ms)| {
        CheckInReply::ComeBack(ComeBack {
            after_ms,
            reason,
            spread_ms,
        })
    });
    reply(prop_oneof![task, come_back])
}

pub(crate) fn fetch_reply() -> impl Strategy<Value = Reply<FetchReply>> {
    reply(manifest().prop_map(|manifest| FetchReply { manifest }))
}

pub(crate) fn ready_reply() -> impl Strategy<Value = Reply<ReadyReply>> {
    let cohort =
        (blob(2000), bytes_of()).prop_map(|(descriptor, signature)| ReadyReply::Cohort(SignedDescriptor { descriptor, signature }));
    reply(prop_oneof![
        cohort,
        secagg::draw_call().prop_map(ReadyReply::Draw),
        Just(ReadyReply::Superseded)
    ])
}

pub(crate) fn upload_reply() -> impl Strategy<Value = Reply<UploadReply>> {
    let resume = (0..=MAX_CHUNKS).prop_map(|next_chunk| UploadReply::Resume { next_chunk });
    reply(prop_oneof![resume, Just(UploadReply::Accepted)])
}

pub(crate) fn outcome_reply() -> impl Strategy<Value = Reply<OutcomeReply>> {
    let included = (1..=u32::MAX, bytes_of()).prop_map(|(round, model)| OutcomeReply::Included { round, model });
    reply(prop_oneof![included, Just(OutcomeReply::NotIncluded)])
}

pub(crate) fn progress_reply() -> impl Strategy<Value = Reply<ProgressReply>> {
    reply(any::<bool>().prop_map(|wanted| ProgressReply { wanted }))
}

pub(crate) fn bundle_reply() -> impl Strategy<Value = Reply<BundleReply>> {
    reply(proptest::option::of(blob(2000)).prop_map(|bundle| BundleReply { bundle }))
}

pub(crate) fn serve_reply() -> impl Strategy<Value = Reply<ServeReply>> {
    let release = (bytes_of(), blob(2000), bytes_of(), bytes_of()).prop_map(|(job, signed_job, owner, signature)| {
        Box::new(SignedRelease {
            job,
            signed_job,
            owner,
            signature,
        })
    });
    reply(proptest::option::of(release).prop_map(|release| ServeReply { release }))
}

pub(crate) fn enrol_request() -> impl Strategy<Value = EnrolRequest> {
    (any::<[u8; 32]>(), blob(2000)).prop_map(|(secret, csr)| {
        EnrolRequest::Enrol(Enrol {
            secret: TokenSecret::from_bytes(secret),
            csr,
        })
    })
}

pub(crate) fn renew_request() -> impl Strategy<Value = RenewRequest> {
    prop_oneof![
        blob(2000).prop_map(|csr| RenewRequest::Renew(Renew { csr })),
        any::<u64>().prop_map(|have_version| RenewRequest::Bundle(BundleQuery { have_version })),
        (tenant(), bytes_of(), any::<bool>()).prop_map(|(tenant, agent, revoked)| RenewRequest::SetRevoked(SetRevoked {
            tenant,
            agent,
            revoked
        })),
    ]
}

pub(crate) fn revocation_reply() -> impl Strategy<Value = Reply<RevocationReply>> {
    reply(any::<bool>().prop_map(|revoked| RevocationReply { revoked }))
}

pub(crate) fn certificate_reply() -> impl Strategy<Value = Reply<CertificateReply>> {
    reply((blob(2000), blob(2000)).prop_map(|(certificate, bundle)| CertificateReply { certificate, bundle }))
}

pub(crate) fn signed_job() -> impl Strategy<Value = SignedJob> {
    (
        tenant(),
        ".{1,200}",
        bytes_of(),
        proptest::option::of(bytes_of()),
        time(),
        bytes_of(),
    )
        .prop_map(|(tenant, job_file, model, evaluation, signed_at, nonce)| {
            let job_file = ByteBuf::from(job_file.into_bytes());
            SignedJob {
                tenant,
                job_file,
                model,
                evaluation,
                signed_at,
                nonce,
            }
        })
}

pub(crate) fn descriptor() -> impl Strategy<Value = Descriptor> {
    let names = prop_oneof![Just(CodecName::Fixed), Just(CodecName::Exact)];
    let codec = (names, 2..=32_u8, 1e-30_f32..1e30, 1..=u32::MAX).prop_map(|(codec, bits, clip, weight_cap)| CodecParams {
        codec,
        bits,
        clip,
        weight_cap,
    });
    let secagg = proptest::option::of(secagg_params());
    let numbers = (1..=u32::MAX, 1..=65_536_u32).prop_flat_map(|(round, members)| (Just(round), Just(members), 1..=members));
    let bases = btree_set(bytes_of(), 1..4).prop_map(|set| set.into_iter().collect());
    (tenant(), bytes_of(), bytes_of(), bases, bytes_of(), codec, secagg, numbers, time()).prop_map(
        |(tenant, job, cohort, bases, layout_digest, codec, secagg, (round, members, floor), deadline)| Descriptor {
            version: Descriptor::VERSION,
            tenant,
            job,
            round,
            cohort,
            bases,
            layout_digest,
            codec,
            mode: match &secagg {
                Some(_) => AggregationMode::Secure,
                None => AggregationMode::Plain,
            },
            members: if secagg.is_some() { members % 1000 + 24 } else { members },
            floor: if secagg.is_some() { floor % 21 + 3 } else { floor },
            deadline,
            rotation: secagg.map(|params| params.roster),
            log: secagg.map(|params| LogHead {
                size: params.degree.into(),
                root: params.roster,
            }),
            secagg,
        },
    )
}

fn base_proof() -> impl Strategy<Value = BaseProof> {
    (
        blob(4096),
        blob(1024),
        0..MAX_LOG_SIZE,
        vec(bytes_of(), 0..=64),
        vec(bytes_of(), 0..=64),
    )
        .prop_map(|(checkpoint, entry, index, inclusion, consistency)| BaseProof {
            checkpoint,
            entry,
            index,
            inclusion,
            consistency,
        })
}

pub(crate) fn log_entry() -> impl Strategy<Value = LogEntry> {
    let mode = || prop_oneof![Just(AggregationMode::Plain), Just(AggregationMode::Secure)];
    let counts = || (1..=65_536_u32).prop_flat_map(|members| (Just(members), 1..=members));
    let round = (
        1..=u32::MAX,
        bytes_of(),
        bytes_of(),
        bytes_of(),
        bytes_of(),
        mode(),
        counts(),
        bytes_of(),
        0..=3_u8,
    )
        .prop_map(
            |(round, model, before, cohort, descriptor, mode, (members, survivors), survivors_root, draws)| {
                LogEvent::Round(RoundEntry {
                    round,
                    model,
                    before,
                    cohort,
                    descriptor,
                    mode,
                    members,
                    survivors,
                    survivors_root,
                    draws,
                })
            },
        );
    let descriptor = prop::option::of(bytes_of());
    let survivors_root = prop::option::of(bytes_of());
    let abandoned = (
        1..=u32::MAX,
        bytes_of(),
        bytes_of(),
        descriptor,
        mode(),
        counts(),
        survivors_root,
        0..=3_u8,
    )
        .prop_map(
            |(round, before, cohort, descriptor, mode, (members, survivors), survivors_root, draws)| {
                LogEvent::Abandoned(AbandonedEntry {
                    round,
                    before,
                    cohort,
                    descriptor,
                    mode,
                    members,
                    survivors: if survivors_root.is_some() { survivors } else { 0 },
                    survivors_root,
                    draws,
                })
            },
        );
    let event = prop_oneof![bytes_of().prop_map(|model| LogEvent::Base { model }), round, abandoned];
    (tenant(), bytes_of(), time(), event).prop_map(|(tenant, job, time, event)| LogEntry {
        version: LogEntry::VERSION,
        tenant,
        job,
        time,
        event,
    })
}

pub(crate) fn trust_bundle() -> impl Strategy<Value = TrustBundle> {
    let roots = btree_set(vec(any::<u8>(), 1..500), 1..4).prop_map(|set| set.into_iter().map(ByteBuf::from).collect());
    let owners = vec((tenant(), "[a-zA-Z0-9]([a-z ]{0,62}[a-z])?"), 0..4).prop_map(|names| {
        let owner = |(i, (tenant, name))| TrustedOwner {
            tenant,
            name,
            public_key: [u8::try_from(i).expect("few"); 32].into(),
        };
        names.into_iter().enumerate().map(owner).collect()
    });
    (1..=u64::MAX, time(), roots, owners).prop_map(|(version, issued_at, roots, owners)| TrustBundle {
        version,
        issued_at,
        roots,
        owners,
    })
}

pub(crate) fn signed_bundle() -> impl Strategy<Value = SignedBundle> {
    let signature = (bytes_of(), bytes_of()).prop_map(|(root, signature)| RootSignature { root, signature });
    (blob(2000), vec(signature, 1..4)).prop_map(|(bundle, signatures)| SignedBundle { bundle, signatures })
}

pub(crate) fn token() -> impl Strategy<Value = JoinToken> {
    let address = || "[a-z]{1,20}(\\.[a-z]{1,9})?:[1-9][0-9]{0,3}";
    let role = prop_oneof![Just(Role::Agent), Just(Role::Server), Just(Role::Authority)];
    (address(), address(), bytes_of(), tenant(), role, time(), any::<[u8; 32]>()).prop_map(
        |(authority, server, root_spki, tenant, role, expires_at, secret)| JoinToken {
            authority,
            server,
            root_spki,
            tenant,
            role,
            expires_at,
            secret: TokenSecret::from_bytes(secret),
        },
    )
}
