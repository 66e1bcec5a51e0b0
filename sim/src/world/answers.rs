//! What the simulated server answers to its agents.

use aimass_federation::RequestKind;
use aimass_federation::agent::Event as News;
use aimass_federation::coordinator::{AgentReply, Event, SecureStep};
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::{OutcomeReply, ProgressReply};
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, ErrorCode};

use super::masks::descriptor;
use super::server::Open;
use super::{Ask, World};

impl World {
    /// Answers a request for a model.
    pub(super) fn fetched(&mut self, device: usize, open: &Open, base: Digest) {
        let known = self
            .server
            .disk
            .jobs
            .values()
            .any(|spec| spec.base == base || spec.earlier.contains(&base));
        let news = if known {
            News::Fetched { base }
        } else {
            let text = "there is no such model here any more; check in again";
            News::Refused {
                request: RequestKind::Fetch,
                refusal: Refusal::new(ErrorCode::BlobUnknown, text),
            }
        };
        self.send(open, device, RequestKind::Fetch, news);
    }

    /// Sends a reply on the open stream, if there is one.
    pub(super) fn reply(&mut self, agent: AgentId, reply: AgentReply) {
        let kind = reply.kind();
        let Some(open) = self.server.open.get(&(agent, kind)).cloned() else {
            return;
        };
        let reply = match (&open.ask, reply) {
            (Ask::Event(asked), reply) if self.is_withheld(asked, &reply) => AgentReply::Refused {
                request: kind,
                refusal: Refusal::new(ErrorCode::Unavailable, "the server's disk is full; ask again"),
            },
            (_, reply) => reply,
        };
        let Some(device) = self.links.get(&open.connection).map(|link| link.device) else {
            return;
        };
        if let AgentReply::UploadAllowed { cohort, contribution } = reply {
            self.oracle.invited(cohort, contribution);
            return self.begin_transfer(device, &open, cohort, contribution);
        }
        self.server.open.remove(&(agent, kind));
        let Ask::Event(asked) = &open.ask else { return };
        if let Some(news) = self.news(device, asked, reply) {
            self.send(&open, device, kind, news);
        }
    }

    /// Ends the uploads into a cohort that is over.
    pub(super) fn close_uploads(&mut self, cohort: CohortId) {
        let over: Vec<AgentId> = self
            .server
            .open
            .iter()
            .filter(|(_, open)| open.uploads_into(cohort))
            .map(|((agent, _), _)| *agent)
            .collect();
        for agent in over {
            let text = "the cohort is over; offer the contribution again";
            let refusal = Refusal::new(ErrorCode::CohortUnknown, text);
            let request = RequestKind::Upload;
            self.reply(agent, AgentReply::Refused { request, refusal });
        }
    }

    /// What a device reads in a reply to what it asked.
    fn news(&mut self, device: usize, asked: &Event, reply: AgentReply) -> Option<News> {
        let (contribution, cohort) = match asked {
            Event::Secure { step, .. } if !matches!(reply, AgentReply::Refused { .. }) => return self.secure_news(device, step, reply),
            Event::Secure {
                step: SecureStep::Survivors(query),
                ..
            } => (query.contribution, None),
            Event::Ready { ready, .. } => (ready.contribution, None),
            Event::UploadBegun { cohort, contribution, .. } => (*contribution, Some(*cohort)),
            Event::Outcome { query, .. } => (query.contribution, Some(query.cohort)),
            _ => (ContributionId::from_bytes([0; ContributionId::LEN]), None),
        };
        Some(match reply {
            AgentReply::Task {
                job,
                round,
                base,
                base_bytes,
                finish_within,
            } => News::Task {
                job,
                file: Box::new(self.server.disk.jobs.get(&job)?.file.clone()),
                round,
                base,
                base_bytes,
                finish_within_ms: finish_within.map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX)),
                log: match asked {
                    Event::CheckIn { check_in, .. } => self
                        .server
                        .disk
                        .log
                        .base_proof(&self.trust, job, base, check_in.log_size)
                        .map(Box::new),
                    _ => None,
                },
                server: self.trust.server_key(),
            },
            AgentReply::ComeBack(come_back) => News::ComeBack(come_back),
            AgentReply::Cohort(terms) => News::Cohort {
                contribution,
                descriptor: Box::new(descriptor(terms, None)),
            },
            AgentReply::Superseded => News::Superseded { contribution },
            AgentReply::Accepted => {
                let cohort = cohort?;
                self.oracle.accepted(device, cohort, contribution);
                News::Accepted { contribution, cohort }
            }
            AgentReply::Outcome(reply) => {
                if reply == OutcomeReply::NotIncluded {
                    self.oracle.denied(device, cohort?, contribution);
                }
                News::Outcome { contribution, reply }
            }
            AgentReply::Refused { request, refusal } => {
                self.report.refusals += 1;
                let is_denial = matches!(refusal.code, ErrorCode::Late | ErrorCode::CohortUnknown);
                if let Some(cohort) = cohort.filter(|_| is_denial) {
                    self.oracle.denied(device, cohort, contribution);
                }
                News::Refused { request, refusal }
            }
            AgentReply::Progress(ProgressReply { wanted }) => match asked {
                Event::Progress { progress, .. } if !wanted => News::Unwanted {
                    job: progress.job,
                    base: progress.base,
                },
                _ => return None,
            },
            AgentReply::Draw(call) => News::Draw { contribution, call },
            // Answers to steps of a cohort with masks are above.
            _ => return None,
        })
    }
}
