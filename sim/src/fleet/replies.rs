//! What the coordinator answers, as the clients read it.

use aimass_federation::RequestKind;
use aimass_federation::agent::Event as News;
use aimass_federation::coordinator::{AgentReply, Event, SecureStep};
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::ProgressReply;
use aimass_protocol::{AgentId, ErrorCode};

use super::client::Open;
use super::{Answer, Fleet, Happening, Selection, Workshop};

impl<W: Workshop> Fleet<W> {
    pub(super) fn reply(&mut self, agent: AgentId, reply: AgentReply) {
        let Some(client) = self.names.client(agent) else { return };
        let kind = reply.kind();
        let Some(active) = self.active.get_mut(&client) else {
            if kind == RequestKind::CheckIn {
                self.check_in_answered(client, reply);
            }
            return;
        };
        let life = active.life;
        let Some(open) = active.open.get(&kind) else { return };
        if let AgentReply::UploadAllowed { cohort, contribution } = reply {
            let number = open.number;
            return self.upload(client, number, cohort, contribution);
        }
        let Some(Open { number, ask }) = active.open.remove(&kind) else {
            return;
        };
        let log_size = match &ask {
            Event::CheckIn { check_in, .. } => check_in.log_size,
            _ => 0,
        };
        let Some(news) = self.news(client, &ask, reply, log_size) else {
            return;
        };
        let ms = self.latency(client);
        let answer = Answer {
            client,
            life,
            number,
            kind,
            news,
        };
        self.after(ms, Happening::Answer(Box::new(answer)));
    }

    /// The check-in of a client without a process is answered.
    fn check_in_answered(&mut self, client: u32, reply: AgentReply) {
        match reply {
            AgentReply::ComeBack(come_back) => {
                let back_at = self.now + come_back.after_ms.max(1);
                // Whose window ends before goes, and is told nothing else.
                let ends_before = || {
                    self.clients
                        .window(client, self.now)
                        .is_some_and(|window| back_at >= window.until_ms)
                };
                if self.setup.selection == Selection::Uniform && ends_before() {
                    return self.disengage(client);
                }
                self.at(back_at, Happening::Wake { client });
            }
            AgentReply::Task { .. } => {
                let log_size = self.kept.get(&client).map_or(0, |kept| kept.snapshot.log.size);
                let window = self.clients.window(client, self.now);
                let news = self.task(reply, log_size);
                if let (Some(window), Some(news)) = (window, news) {
                    self.activate(client, window.until_ms, Some(news));
                }
            }
            AgentReply::Refused { refusal, .. } => {
                self.declined = Some(refusal.to_string());
                self.disengage(client);
            }
            _ => {}
        }
    }

    /// What a client reads in a task.
    fn task(&mut self, reply: AgentReply, log_size: u64) -> Option<News> {
        let AgentReply::Task {
            job,
            round,
            base,
            base_bytes,
            finish_within,
        } = reply
        else {
            return None;
        };
        Some(News::Task {
            job,
            file: Box::new(self.setup.job.clone()),
            round,
            base,
            base_bytes,
            finish_within_ms: finish_within.map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX)),
            log: self.log.base_proof(&self.trust, job, base, log_size).map(Box::new),
            server: self.trust.server_key(),
        })
    }

    fn news(&mut self, client: u32, asked: &Event, reply: AgentReply, log_size: u64) -> Option<News> {
        let (contribution, cohort) = match asked {
            Event::Secure { step, .. } if !matches!(reply, AgentReply::Refused { .. }) => return self.secure_news(client, step, reply),
            Event::Secure {
                step: SecureStep::Survivors(query),
                ..
            } => (query.contribution, Some(query.cohort)),
            Event::Ready { ready, .. } => (ready.contribution, None),
            Event::UploadBegun { contribution, cohort, .. } => (*contribution, Some(*cohort)),
            Event::Outcome { query, .. } => (query.contribution, Some(query.cohort)),
            _ => (aimass_protocol::ContributionId::from_bytes([0; 16]), None),
        };
        Some(match reply {
            AgentReply::Task { .. } => return self.task(reply, log_size),
            AgentReply::ComeBack(come_back) => News::ComeBack(come_back),
            AgentReply::Cohort(terms) => News::Cohort {
                contribution,
                descriptor: Box::new(self.descriptor(&terms)),
            },
            AgentReply::Draw(call) => News::Draw { contribution, call },
            AgentReply::Superseded => News::Superseded { contribution },
            AgentReply::Accepted => News::Accepted {
                contribution,
                cohort: cohort?,
            },
            AgentReply::Outcome(reply) => News::Outcome { contribution, reply },
            AgentReply::Refused { request, refusal } => News::Refused { request, refusal },
            AgentReply::Progress(ProgressReply { wanted }) => match asked {
                Event::Progress { progress, .. } if !wanted => News::Unwanted {
                    job: progress.job,
                    base: progress.base,
                },
                _ => return None,
            },
            // Answers to steps of a cohort with masks are above.
            _ => return None,
        })
    }
}

pub(super) fn no_such_model() -> News {
    let text = "there is no such model here any more; check in again";
    News::Refused {
        request: RequestKind::Fetch,
        refusal: Refusal::new(ErrorCode::BlobUnknown, text),
    }
}
