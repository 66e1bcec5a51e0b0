//! What the driver keeps on its disk of a cohort with masks, so that a killed server goes on.

use std::fmt;

use aimass_crypto::secagg::mask::Suite;
use aimass_crypto::secagg::shamir::Share;
use aimass_crypto::secagg::{MemberRecord, ServerRecord, Target, TargetSecret, Unmasking};
use aimass_protocol::descriptor::MaskSuite;
use aimass_protocol::message::secagg::ShareBytes;
use aimass_protocol::{AgentId, CohortId, Digest, PublicKeyBytes};
use serde::{Deserialize, Serialize};

use crate::masks;

/// Public data of a cohort's machine, from the moment that its members have dealt their shares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecAggRecord {
    cohort: CohortId,
    draw: u8,
    suite: MaskSuite,
    /// SHA-256 of the descriptor.
    salt: Digest,
    graph_seed: Digest,
    degree: u32,
    threshold: u32,
    floor: u32,
    members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    agent: AgentId,
    identity: PublicKeyBytes,
    mask_key: Digest,
    self_commitment: Digest,
    draw_commitment: Digest,
    dealt: bool,
}

impl SecAggRecord {
    /// SHA-256 of the descriptor that the members agreed to.
    pub fn descriptor_digest(&self) -> Digest {
        self.salt
    }

    /// Which draw it was, counted from 1.
    pub fn draw(&self) -> u8 {
        self.draw
    }

    /// Without the sealed shares: a member that has not had its own when the server is killed can't go on.
    pub(super) fn of(record: &ServerRecord) -> Self {
        let member = |member: &MemberRecord| Member {
            agent: AgentId::from_bytes(member.member),
            identity: PublicKeyBytes::from_bytes(member.identity),
            mask_key: Digest::from_bytes(member.mask_key),
            self_commitment: Digest::from_bytes(member.self_commitment),
            draw_commitment: Digest::from_bytes(member.draw_commitment),
            dealt: member.dealt,
        };
        Self {
            cohort: CohortId::from_bytes(record.cohort),
            draw: record.draw,
            suite: suite_of(record.suite),
            salt: Digest::from_bytes(record.salt),
            graph_seed: Digest::from_bytes(record.graph_seed),
            degree: record.degree,
            threshold: record.threshold,
            floor: record.floor,
            members: record.members.iter().map(member).collect(),
        }
    }

    pub(super) fn to_record(&self) -> ServerRecord {
        let member = |member: &Member| MemberRecord {
            member: *member.agent.as_bytes(),
            identity: *member.identity.as_bytes(),
            mask_key: *member.mask_key.as_bytes(),
            self_commitment: *member.self_commitment.as_bytes(),
            draw_commitment: *member.draw_commitment.as_bytes(),
            dealt: member.dealt,
        };
        ServerRecord {
            cohort: *self.cohort.as_bytes(),
            draw: self.draw,
            suite: masks::suite(self.suite) as u8,
            salt: *self.salt.as_bytes(),
            graph_seed: *self.graph_seed.as_bytes(),
            degree: self.degree,
            threshold: self.threshold,
            floor: self.floor,
            members: self.members.iter().map(member).collect(),
            shares: Vec::new(),
            survivors: None,
        }
    }
}

/// The shares that survivors revealed: what the masks are taken off with. With them and the disk alone, only the sum can be read.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnmaskingRecord {
    suite: MaskSuite,
    salt: Digest,
    threshold: u32,
    targets: Vec<TargetRecord>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetRecord {
    agent: AgentId,
    mask_key: Digest,
    /// Of a survivor's self mask.
    commitment: Option<Digest>,
    /// Neighbours among the survivors of one who dropped out, with their mask keys.
    survivors: Vec<(AgentId, Digest)>,
    /// Holder, its x, the share.
    shares: Vec<(AgentId, u32, ShareBytes)>,
}

impl UnmaskingRecord {
    pub(super) fn of(unmasking: &Unmasking) -> Self {
        let target = |target: &Target| {
            let (commitment, survivors) = match &target.secret {
                TargetSecret::SelfMask { commitment } => (Some(Digest::from_bytes(*commitment)), Vec::new()),
                TargetSecret::Pairwise { survivors } => (
                    None,
                    survivors
                        .iter()
                        .map(|(member, key)| (AgentId::from_bytes(*member), Digest::from_bytes(*key)))
                        .collect(),
                ),
            };
            let share =
                |(holder, x, share): &([u8; 16], u32, Share)| (AgentId::from_bytes(*holder), *x, ShareBytes::from_bytes(*share.as_bytes()));
            TargetRecord {
                agent: AgentId::from_bytes(target.member),
                mask_key: Digest::from_bytes(target.mask_key),
                commitment,
                survivors,
                shares: target.shares.iter().map(share).collect(),
            }
        };
        Self {
            suite: masks::wire_suite(unmasking.suite),
            salt: Digest::from_bytes(unmasking.salt),
            threshold: unmasking.threshold,
            targets: unmasking.targets.iter().map(target).collect(),
        }
    }

    /// What the masks are computed from; `None` where a share is none.
    pub fn to_unmasking(&self) -> Option<Unmasking> {
        let target = |target: &TargetRecord| {
            let secret = match target.commitment {
                Some(commitment) => TargetSecret::SelfMask {
                    commitment: *commitment.as_bytes(),
                },
                None => TargetSecret::Pairwise {
                    survivors: target
                        .survivors
                        .iter()
                        .map(|(agent, key)| (*agent.as_bytes(), *key.as_bytes()))
                        .collect(),
                },
            };
            let share =
                |(holder, x, share): &(AgentId, u32, ShareBytes)| Some((*holder.as_bytes(), *x, Share::from_bytes(share.as_bytes())?));
            Some(Target {
                member: *target.agent.as_bytes(),
                mask_key: *target.mask_key.as_bytes(),
                secret,
                shares: target.shares.iter().map(share).collect::<Option<_>>()?,
            })
        };
        Some(Unmasking {
            suite: masks::suite(self.suite),
            salt: *self.salt.as_bytes(),
            threshold: self.threshold,
            targets: self.targets.iter().map(target).collect::<Option<_>>()?,
        })
    }
}

impl fmt::Debug for UnmaskingRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnmaskingRecord")
            .field("targets", &self.targets.len())
            .finish_non_exhaustive()
    }
}

fn suite_of(number: u8) -> MaskSuite {
    if number == Suite::ChaCha20 as u8 {
        MaskSuite::ChaCha20
    } else {
        MaskSuite::Aes256Ctr
    }
}
