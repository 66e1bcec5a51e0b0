//! Joining: the members of a cohort with masks show their keys, draw lots for the graph, agree to the terms, and deal shares. Only then are they a round.
//!
//! Nothing of it is on the disk: a server that is killed here has forgotten the cohort, and its members offer again, with other keys.

use std::collections::BTreeMap;

use aimass_crypto::secagg::{self, Fault, Server, StepError, UnverifiedShares, VerifiedShares};
use aimass_crypto::sign::PublicKey;
use aimass_protocol::descriptor::SecAggParams;
use aimass_protocol::limits::MAX_DRAWS;
use aimass_protocol::message::secagg::{Advert, DrawCall, Reveal, Roster, RosterEntry, Shares};
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, Timestamp};

use super::cohort::Cohort;
use super::collecting::Collecting;
use super::entry::Phase;
use super::gathering::Gathering;
use super::job::{Context, Job};
use super::secure::{self, Secure, at_fault, given_up, id};
use super::{AgentReply, CohortTerms, Effect, OpenRound, SecAggRecord};
use crate::RequestKind;

/// Which step the cohort is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Adverts,
    Reveals,
    /// The driver makes the descriptor.
    Describing,
    Shares,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Joining {
    terms: CohortTerms,
    draw: u8,
    step: Step,
    pub(super) secure: Secure,
    /// Those who are in it still.
    members: BTreeMap<AgentId, ContributionId>,
    adverts: BTreeMap<AgentId, Advert>,
    roster: Option<secagg::Roster>,
}

impl Joining {
    /// Calls the members to the first draw.
    pub(super) fn begin<R>(cx: &mut Context<'_, R>, terms: CohortTerms, members: BTreeMap<AgentId, ContributionId>) -> Self {
        let mut phase = Self {
            secure: Secure::new(server(terms.cohort, 1, &members)),
            draw: 1,
            step: Step::Adverts,
            adverts: BTreeMap::new(),
            roster: None,
            members,
            terms,
        };
        phase.secure.waits.begin(cx.now);
        for agent in phase.members.keys() {
            cx.reply(*agent, AgentReply::Draw(phase.call()));
        }
        phase
    }

    pub(super) fn cohort(&self) -> CohortId {
        self.terms.cohort
    }

    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// Whether another agent brings this contribution.
    pub(super) fn is_offered_by_another(&self, agent: AgentId, contribution: ContributionId) -> bool {
        self.members.iter().any(|(other, c)| *other != agent && *c == contribution)
    }

    fn call(&self) -> DrawCall {
        DrawCall {
            cohort: self.terms.cohort,
            draw: self.draw,
        }
    }

    /// A member offers again. True if it was answered: it had not shown its keys yet. Else it has lost them.
    pub(super) fn offered_again<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, contribution: ContributionId) -> bool {
        if self.members.get(&agent) == Some(&contribution) && !self.adverts.contains_key(&agent) && self.step == Step::Adverts {
            self.secure.waits.heard(agent);
            cx.reply(agent, AgentReply::Draw(self.call()));
            return true;
        }
        self.leaves(cx, agent);
        false
    }

    /// The member takes no part any more; what it still waits for has no answer.
    pub(super) fn leaves<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId) {
        if self.members.remove(&agent).is_none() {
            return;
        }
        if let Some(request) = self.secure.stop_asking(agent) {
            given_up(cx, agent, request);
        }
        self.secure.server.leave(&id(agent));
        self.secure.waits.lost(agent);
        if self.step == Step::Adverts {
            self.adverts.remove(&agent);
        }
    }

    pub(super) fn gone(&mut self, now: Timestamp, agent: AgentId) {
        if self.members.contains_key(&agent) {
            self.secure.gone(now, agent);
        }
    }

    pub(super) fn revoked<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId) {
        if let Some(request) = self.secure.stop_asking(agent) {
            cx.refuse(agent, request, aimass_protocol::ErrorCode::Revoked, super::REVOKED);
        }
        self.leaves(cx, agent);
    }

    pub(super) fn advert<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>, agent: AgentId, advert: Advert, key: PublicKey) {
        const REQUEST: RequestKind = RequestKind::Advert;
        if !self.members.contains_key(&agent) || advert.draw != self.draw {
            return given_up(cx, agent, REQUEST);
        }
        let signature = *advert.signature.as_bytes();
        let taken = self.secure.server.advert(id(agent), secure::advert(agent, &advert), key, signature);
        if let Err(fault) = taken {
            return self.is_at_fault(job, cx, agent, REQUEST, &fault);
        }
        // The first one was verified; of a repeat only the keys are compared.
        self.adverts.entry(agent).or_insert(advert);
        match &self.roster {
            None => self.secure.asks(agent, REQUEST),
            Some(roster) => {
                self.secure.waits.heard(agent);
                cx.reply(agent, AgentReply::Roster(wire_roster(roster)));
            }
        }
    }

    pub(super) fn reveal<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>, agent: AgentId, reveal: Reveal) {
        const REQUEST: RequestKind = RequestKind::Reveal;
        if !self.members.contains_key(&agent) {
            return given_up(cx, agent, REQUEST);
        }
        if reveal.draw != self.draw {
            // It has not heard of the new draw.
            return cx.reply(agent, AgentReply::DrawAgain(self.call()));
        }
        if let Err(fault) = self.secure.server.reveal(id(agent), *reveal.nonce.as_bytes()) {
            return self.is_at_fault(job, cx, agent, REQUEST, &fault);
        }
        if self.step == Step::Shares {
            self.secure.waits.heard(agent);
            self.open(cx, agent);
        } else {
            self.secure.asks(agent, REQUEST);
        }
    }

    /// What a member dealt, without its signatures being looked at; `None` for who is no member.
    pub(super) fn check_shares(&self, agent: AgentId, shares: &Shares) -> Option<Result<UnverifiedShares, Fault>> {
        self.members.get(&agent)?;
        let dealt = secure::dealt(agent, shares).unwrap_or_default();
        Some(self.secure.server.check_shares(id(agent), dealt))
    }

    pub(super) fn shares<R>(
        &mut self,
        job: &mut Job,
        cx: &mut Context<'_, R>,
        agent: AgentId,
        dealt: Option<Result<VerifiedShares, Fault>>,
    ) {
        const REQUEST: RequestKind = RequestKind::Shares;
        let Some(dealt) = dealt.filter(|_| self.members.contains_key(&agent)) else {
            return given_up(cx, agent, REQUEST);
        };
        match dealt.and_then(|verified| self.secure.server.shares(verified)) {
            Ok(()) => self.secure.asks(agent, REQUEST),
            Err(fault) => self.is_at_fault(job, cx, agent, REQUEST, &fault),
        }
    }

    /// Drops an agent that breaks the protocol: the others go on.
    fn is_at_fault<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>, agent: AgentId, request: RequestKind, fault: &Fault) {
        if self.secure.is_asking(agent, request) {
            self.secure.stop_asking(agent);
        }
        at_fault(cx, agent, request, fault);
        job.barred.insert(agent, aimass_protocol::ErrorCode::SecAgg);
        self.leaves(cx, agent);
    }

    /// The terms are in a signed descriptor.
    pub(super) fn described<R>(&mut self, cx: &mut Context<'_, R>, digest: Digest) {
        if self.step != Step::Describing {
            return;
        }
        let suite = crate::masks::suite(self.terms.secagg.map(|params| params.suite).unwrap_or_default());
        // It can't be out of turn: the graph is drawn.
        if self.secure.server.describe(*digest.as_bytes(), suite).is_ok() {
            self.step = Step::Shares;
            self.secure.waits.begin(cx.now);
            for agent in self.secure.take_asking(RequestKind::Reveal) {
                self.open(cx, agent);
            }
        }
    }

    fn open<R>(&self, cx: &mut Context<'_, R>, agent: AgentId) {
        let neighbours = self.secure.server.opening_for(&id(agent)).into_iter();
        let neighbours = neighbours.filter_map(|(advert, _)| {
            let neighbour = AgentId::from_bytes(advert.member);
            Some(secure::neighbour(neighbour, self.adverts.get(&neighbour)?))
        });
        cx.reply(
            agent,
            AgentReply::Opening {
                cohort: self.terms.cohort,
                nonces: self.secure.server.nonces().into_iter().map(secure::digest).collect(),
                neighbours: neighbours.collect(),
                log_size: self.adverts.get(&agent).map_or(0, |advert| advert.log_size),
            },
        );
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        let missing = match self.step {
            Step::Adverts => self.secure.server.missing_adverts(),
            Step::Reveals => self.secure.server.missing_reveals(),
            Step::Describing => return None,
            Step::Shares => self.secure.server.missing_shares(),
        };
        Some(self.secure.waits.due(&missing))
    }

    pub(super) fn advance<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>) -> Option<Phase> {
        if self.members.len() < job.need() {
            return Some(self.give_up(job, cx));
        }
        self.timeout().filter(|due| *due <= cx.now)?;
        match self.step {
            Step::Adverts => self.close_adverts(job, cx),
            Step::Reveals => self.close_reveals(job, cx),
            Step::Describing => None,
            Step::Shares => self.close_shares(job, cx),
        }
    }

    fn close_adverts<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>) -> Option<Phase> {
        let Ok(roster) = self.secure.server.close_adverts() else {
            return Some(self.give_up(job, cx));
        };
        self.members.retain(|agent, _| roster.index_of(&id(*agent)).is_some());
        if self.members.len() < job.need() {
            return Some(self.give_up(job, cx));
        }
        self.step = Step::Reveals;
        self.secure.waits.begin(cx.now);
        for agent in self.secure.take_asking(RequestKind::Advert) {
            cx.reply(agent, AgentReply::Roster(wire_roster(&roster)));
        }
        self.roster = Some(roster);
        None
    }

    fn close_reveals<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>) -> Option<Phase> {
        let Some(roster) = &self.roster else {
            return Some(self.give_up(job, cx));
        };
        let (members, digest) = (roster.len(), roster.digest());
        let Ok(params) = crate::masks::graph_params(members, job.file.aggregation.profile) else {
            return Some(self.give_up(job, cx));
        };
        let (degree, threshold) = (params.degree, params.threshold);
        let seed = match self.secure.server.close_reveals(params) {
            Ok(seed) => seed,
            Err(StepError::Unrevealed { members }) => {
                for member in members {
                    let agent = AgentId::from_bytes(member);
                    if !self.secure.waits.is_gone(agent) {
                        job.kept_back(agent);
                    }
                    self.leaves(cx, agent);
                }
                return self.draw_again(job, cx);
            }
            Err(_) => return Some(self.give_up(job, cx)),
        };
        self.terms.members = members;
        self.terms.deadline = cx.now.after(job.max_time());
        self.terms.secagg = Some(SecAggParams {
            suite: job.file.aggregation.suite,
            profile: job.file.aggregation.profile,
            degree,
            threshold,
            draw: self.draw,
            roster: secure::digest(digest),
            graph_seed: secure::digest(seed),
        });
        self.step = Step::Describing;
        cx.out.push(Effect::Describe(self.terms.clone()));
        None
    }

    /// Somebody kept its part of the draw back, which could be to choose among graphs: all draw again without it.
    fn draw_again<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>) -> Option<Phase> {
        if self.draw >= MAX_DRAWS || self.members.len() < job.need() {
            return Some(self.give_up(job, cx));
        }
        self.draw += 1;
        self.step = Step::Adverts;
        self.adverts.clear();
        self.roster = None;
        self.secure.server = server(self.terms.cohort, self.draw, &self.members);
        self.secure.waits.begin(cx.now);
        let call = self.call();
        for agent in self.secure.take_asking(RequestKind::Reveal) {
            cx.reply(agent, AgentReply::DrawAgain(call));
        }
        None
    }

    fn close_shares<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>) -> Option<Phase> {
        let dealers = self.secure.server.close_shares(self.terms.floor);
        let record = self.secure.server.record();
        let (Ok(dealers), Some(record)) = (dealers, record) else {
            return Some(self.give_up(job, cx));
        };
        if dealers.len() < job.need() {
            return Some(self.give_up(job, cx));
        }
        self.members.retain(|agent, _| dealers.contains(&id(*agent)));
        cx.out.push(Effect::OpenRound(OpenRound {
            terms: self.terms.clone(),
            members: self.members.iter().map(|(agent, contribution)| (*agent, *contribution)).collect(),
            survivors: None,
            secagg: Some(SecAggRecord::of(&record)),
            unmasking: None,
        }));
        for agent in self.secure.take_asking(RequestKind::Shares) {
            if self.members.contains_key(&agent) {
                cx.reply(agent, secure::shares_for(&self.secure.server, agent, self.terms.cohort));
            } else {
                given_up(cx, agent, RequestKind::Shares);
            }
        }
        let cohort = Cohort::new(cx.now, self.terms.clone(), self.members.clone()).with_masks(self.secure.clone());
        Some(Phase::Collecting(Collecting::new(cx.now, cohort)))
    }

    /// The cohort could not be formed; its members offer again.
    pub(super) fn give_up<R>(&mut self, job: &mut Job, cx: &mut Context<'_, R>) -> Phase {
        self.secure.give_up(cx);
        cx.out.push(Effect::ForgetCohort {
            terms: self.terms.clone(),
            draws: if self.roster.is_some() { self.draw } else { self.draw - 1 },
        });
        // A member that leaves each time could keep the others busy without end.
        let pause = job.pause_after_failure(&cx.config);
        Phase::Gathering(Gathering::held_until(cx.now.after(pause)))
    }
}

fn server(cohort: CohortId, draw: u8, members: &BTreeMap<AgentId, ContributionId>) -> Server {
    Server::new(*cohort.as_bytes(), draw, members.keys().map(|agent| id(*agent)))
}

fn wire_roster(roster: &secagg::Roster) -> Roster {
    let entry = |(member, commitment): &([u8; 16], [u8; 32])| RosterEntry {
        agent: AgentId::from_bytes(*member),
        draw_commitment: secure::digest(*commitment),
    };
    Roster {
        members: roster.members().iter().map(entry).collect(),
    }
}
