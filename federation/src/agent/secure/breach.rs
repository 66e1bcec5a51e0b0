//! What may be wrong with an opening, beyond what the crypto crate's client sees.

use aimass_crypto::cert;
use aimass_crypto::secagg::{self, Cheat, Terms};
use aimass_crypto::sign::PublicKey;
use aimass_protocol::descriptor::{Descriptor, SecAggParams};
use aimass_protocol::message::secagg::{NeighbourAdvert, Opening};
use aimass_protocol::{AgentId, Timestamp};

use crate::agent::Identity;
use crate::agent::log::LogError;
use crate::agent::policy::PolicyError;

/// How far a certificate may have ended: clocks differ, and it may have ended during the round.
const CERTIFICATE_TOLERANCE_S: i64 = 24 * 3600;

/// An opening that is not gone on with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Breach {
    /// The protocol.
    #[error(transparent)]
    Cheat(#[from] Cheat),
    /// What the owner signed, and what this device's owner allows.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The descriptor of another cohort.
    #[error("the server shows the descriptor of another cohort than the one whose draw this was")]
    OtherCohort,
    /// Another draw, or another number of members than the roster's.
    #[error("the server's descriptor is of another draw, or names another number of members than the roster that was shown before")]
    OtherDraw,
    /// A neighbour that nobody vouches for.
    #[error(
        "neighbour {agent} shows no certificate of a trusted root ({reason}): it may be a puppet of the server, whose masks hide nothing"
    )]
    Puppet {
        /// Who it is said to be.
        agent: AgentId,
        /// What is wrong with its certificate.
        reason: String,
    },
}

/// An opening as the crypto crate's client takes it, neighbours' certificates checked.
pub(super) fn check_opening<'a>(
    opening: &'a Opening,
    descriptor: &Descriptor,
    masks: &SecAggParams,
    identity: &Identity,
    date: Timestamp,
) -> Result<secagg::Opening<'a>, Breach> {
    let neighbours = opening.neighbours.iter().map(|shown| {
        let key = certified(shown, identity, date).map_err(|reason| Breach::Puppet {
            agent: shown.agent,
            reason,
        })?;
        let advert = secagg::Advert {
            cohort: *descriptor.cohort.as_bytes(),
            draw: masks.draw,
            member: *shown.agent.as_bytes(),
            mask_key: *shown.mask_key.as_bytes(),
            seal_key: *shown.seal_key.as_bytes(),
            self_commitment: *shown.self_commitment.as_bytes(),
            draw_commitment: *shown.draw_commitment.as_bytes(),
        };
        Ok((advert, key, *shown.signature.as_bytes()))
    });
    Ok(secagg::Opening {
        descriptor: &opening.descriptor.descriptor,
        roster_digest: *masks.roster.as_bytes(),
        graph_seed: *masks.graph_seed.as_bytes(),
        terms: Terms {
            suite: crate::masks::suite(masks.suite),
            degree: masks.degree,
            threshold: masks.threshold,
            floor: descriptor.floor,
        },
        nonces: opening.nonces.iter().map(|nonce| *nonce.as_bytes()).collect(),
        neighbours: neighbours.collect::<Result<_, Breach>>()?,
    })
}

/// The key of a neighbour's certificate, if that is one of an agent of this tenant by a trusted root. Whether it is the neighbour's own is compared
/// with its advert.
fn certified(shown: &NeighbourAdvert, identity: &Identity, date: Timestamp) -> Result<PublicKey, String> {
    let info = cert::parse(&shown.certificate).map_err(|e| e.to_string())?;
    let issued_by = |root: &Vec<u8>| cert::verify_issued_by(&shown.certificate, root).is_ok();
    if !identity.roots.iter().any(issued_by) {
        return Err("no root of the trust bundle has issued it".to_owned());
    }
    if !info.subject.is_agent() || info.subject.tenant != identity.tenant.as_str() {
        return Err(format!("it is of {}, no agent of tenant {}", info.subject, identity.tenant));
    }
    if info.public_key.fingerprint() != *shown.agent.as_bytes() {
        return Err("it is of another agent".to_owned());
    }
    let date_s = i64::try_from(date.as_ms() / 1000).unwrap_or(i64::MAX);
    if info.not_after_s.saturating_add(CERTIFICATE_TOLERANCE_S) < date_s {
        return Err("it has ended more than a day ago".to_owned());
    }
    Ok(info.public_key)
}
