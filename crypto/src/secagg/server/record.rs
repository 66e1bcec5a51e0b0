//! What a server keeps of a cohort, so that it can be killed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Closed, Drawn, Party, Server};
use crate::secagg::mask::Suite;
use crate::secagg::params::GraphParams;
use crate::secagg::{Bitmap, MemberId, Roster, SealedShare, StepError};
use crate::sign::PublicKey;

/// What a restarted server needs from the moment that shares are closed: public data alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRecord {
    /// The cohort.
    pub cohort: [u8; 16],
    /// Which of its draws.
    pub draw: u8,
    /// Number of what mask streams are made with.
    pub suite: u8,
    /// SHA-256 of the descriptor.
    pub salt: [u8; 32],
    /// Of the graph.
    pub graph_seed: [u8; 32],
    /// Neighbours of each member.
    pub degree: u32,
    /// Shares that give a secret.
    pub threshold: u32,
    /// Fewest survivors.
    pub floor: u32,
    /// The roster, ascending.
    pub members: Vec<MemberRecord>,
    /// The sealed shares among those who dealt. They may be left out: then who has not had its own yet can't go on.
    pub shares: Vec<SealedShare>,
    /// The survivors, when they are sealed.
    pub survivors: Option<Vec<u8>>,
}

/// A member in a [`ServerRecord`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRecord {
    /// Its id.
    pub member: MemberId,
    /// Its identity key.
    pub identity: [u8; 32],
    /// As in its advert.
    pub mask_key: [u8; 32],
    /// As in its advert.
    pub self_commitment: [u8; 32],
    /// As in its advert.
    pub draw_commitment: [u8; 32],
    /// Whether it is among those whose shares were closed.
    pub dealt: bool,
}

impl Server {
    /// What a restarted server needs, from [`Self::close_shares`] on.
    pub fn record(&self) -> Option<ServerRecord> {
        let (roster, drawn, closed) = (self.roster.as_ref()?, self.drawn.as_ref()?, self.closed.as_ref()?);
        let (salt, suite) = self.described?;
        let members = roster.members().iter().map(|(member, draw_commitment)| {
            let party = self.parties.get(member)?;
            Some(MemberRecord {
                member: *member,
                identity: *party.identity.as_bytes(),
                mask_key: party.mask_key,
                self_commitment: party.self_commitment,
                draw_commitment: *draw_commitment,
                dealt: closed.members.contains(member),
            })
        });
        let among = |share: &&SealedShare| closed.members.contains(&share.from) && closed.members.contains(&share.to);
        Some(ServerRecord {
            cohort: self.cohort,
            draw: self.draw,
            suite: suite.number(),
            salt,
            graph_seed: drawn.seed,
            degree: drawn.params.degree,
            threshold: drawn.params.threshold,
            floor: closed.floor,
            members: members.collect::<Option<_>>()?,
            shares: self.dealt.values().flatten().filter(among).cloned().collect(),
            survivors: self.survivors.as_ref().map(|survivors| survivors.as_bytes().to_vec()),
        })
    }

    /// A server that goes on where the record was made. Consents and unmask shares have to be sent again, or replayed; who had left
    /// ([`Self::leave`]) has to be said again.
    ///
    /// # Errors
    /// [`StepError::BadRecord`].
    pub fn restore(record: ServerRecord) -> Result<Self, StepError> {
        let bad = |reason| StepError::BadRecord { reason };
        let suite = Suite::from_number(record.suite).ok_or(bad("an unknown suite"))?;
        let commitments = record.members.iter().map(|member| (member.member, member.draw_commitment));
        let roster = Roster::new(record.cohort, record.draw, commitments.collect()).map_err(|_| bad("its members are no roster"))?;
        let params = GraphParams {
            degree: record.degree,
            threshold: record.threshold,
        };
        let graph = roster
            .graph(record.graph_seed, params)
            .ok_or(bad("its degree and threshold do not fit its members"))?;
        let mut server = Self::new(record.cohort, record.draw, []);
        for member in &record.members {
            let identity = PublicKey::from_bytes(&member.identity).map_err(|_| bad("an identity is no key"))?;
            let party = Party {
                identity,
                mask_key: member.mask_key,
                self_commitment: member.self_commitment,
            };
            server.parties.insert(member.member, party);
        }
        let u2: BTreeSet<MemberId> = record
            .members
            .iter()
            .filter(|member| member.dealt)
            .map(|member| member.member)
            .collect();
        server.dealt = u2.iter().map(|member| (*member, Vec::new())).collect::<BTreeMap<_, _>>();
        for share in record.shares {
            let neighbours = roster.index_of(&share.from).zip(roster.index_of(&share.to));
            let are_neighbours = neighbours.is_some_and(|(from, to)| graph.are_neighbours(from, to));
            match server.dealt.get_mut(&share.from) {
                Some(dealt) if are_neighbours && u2.contains(&share.to) => dealt.push(share),
                _ => return Err(bad("a share of or for somebody who dealt none")),
            }
        }
        for dealt in server.dealt.values_mut() {
            dealt.sort_unstable_by_key(|share| share.to);
        }
        server.drawn = Some(Drawn {
            seed: record.graph_seed,
            params,
            graph,
        });
        server.described = Some((record.salt, suite));
        server.closed = Some(Closed {
            members: u2,
            floor: record.floor,
        });
        let survivors = record
            .survivors
            .map(|bytes| Bitmap::from_bytes(roster.len(), &bytes).ok_or(bad("its survivors are no set")));
        let survivors = survivors
            .transpose()?
            .map(|survivors| roster.at(&survivors.indices().collect::<Vec<_>>()));
        server.roster = Some(roster);
        if let Some(survivors) = survivors {
            server
                .seal(&BTreeSet::from_iter(survivors))
                .map_err(|_| bad("its survivors can't be unmasked"))?;
        }
        Ok(server)
    }
}
