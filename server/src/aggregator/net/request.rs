//! One request of an agent: read, decided, answered.

use std::sync::Arc;

use aimass_federation::coordinator::SecureStep;
use aimass_net::{FrameReader, FrameWriter, NetError, reply};
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::{AgentRequest, BundleReply, CheckInReply, ReadyReply, ServeReply, Serving, SignedRelease};
use aimass_protocol::{AgentId, Checked, ErrorCode, JobId};
use serde::Serialize;
use serde_bytes::ByteBuf;
use tokio::sync::mpsc;

use super::meter::Meter;
use super::{fetch, upload};
use crate::aggregator::counters::Counter;
use crate::aggregator::driver::{Answer, Ask, Command, now};
use crate::aggregator::service::Shared;
use crate::aggregator::submit::snapshots;

/// A stream with everything that serving it needs.
pub(super) struct Stream {
    pub(super) shared: Arc<Shared>,
    pub(super) agent: AgentId,
    pub(super) writer: FrameWriter,
    pub(super) reader: FrameReader,
    pub(super) meter: Meter,
    /// The job that the stream's bytes count for, once it is known.
    pub(super) job: Option<JobId>,
}

/// Serves one stream to its end.
pub(super) async fn serve(shared: Arc<Shared>, agent: AgentId, writer: FrameWriter, reader: FrameReader) {
    let mut stream = Stream {
        shared,
        agent,
        writer,
        reader,
        meter: Meter::default(),
        job: None,
    };
    if let Err(error) = stream.serve().await {
        stream.shared.counters.count(Counter::StreamsBroken);
        tracing::debug!(%error, "stream broke off");
    }
    stream.count();
}

impl Stream {
    async fn serve(&mut self) -> Result<(), NetError> {
        let request = match self.reader.control::<AgentRequest>().await {
            Ok(request) => request,
            Err(error) => return self.refuse_broken(error).await,
        };
        self.shared.counters.count(Counter::Requests);
        if let Err(refusal) = self.shared.registry.check(self.agent) {
            return self.refuse(refusal).await;
        }
        if !matches!(request, AgentRequest::Upload(_))
            && let Err(error) = self.reader.end().await
        {
            return self.refuse_broken(error).await;
        }
        match request {
            AgentRequest::CheckIn(check_in) => {
                if self.shared.registry.checked_in(self.agent, &check_in, now()) {
                    self.touch();
                }
                self.ask(Ask::CheckIn(check_in)).await
            }
            AgentRequest::Ready(ready) => {
                self.job = Some(ready.job);
                self.ask(Ask::Ready(ready)).await
            }
            AgentRequest::Outcome(query) => {
                self.job = Some(query.job);
                self.ask(Ask::Outcome(query)).await
            }
            AgentRequest::Progress(progress) => {
                self.job = Some(progress.job);
                self.ask(Ask::Progress(progress)).await
            }
            AgentRequest::Advert(advert) => match self.shared.trust.member_key(&self.shared.tenant, self.agent, &advert.certificate) {
                Ok(key) => {
                    let advert = Box::new(advert);
                    self.secure_step(SecureStep::Advert { advert, key }).await
                }
                Err(refusal) => self.refuse(refusal).await,
            },
            AgentRequest::Reveal(reveal) => self.secure_step(SecureStep::Reveal(reveal)).await,
            AgentRequest::Shares(shares) => {
                self.job = self.shared.traffic.job_of(shares.cohort);
                self.ask(Ask::Shares(shares)).await
            }
            AgentRequest::Survivors(query) => {
                self.job = Some(query.job);
                self.ask(Ask::Secure(SecureStep::Survivors(query))).await
            }
            AgentRequest::Consent(consent) => self.secure_step(SecureStep::Consent(consent)).await,
            AgentRequest::Unmask(unmask) => self.secure_step(SecureStep::Unmask(unmask)).await,
            AgentRequest::Bundle(query) => {
                let current = self.shared.trust.current();
                let newer = current.bundle().version() > query.have_version;
                let bundle = newer.then(|| ByteBuf::from(current.bundle().as_bytes().to_vec()));
                self.reply(BundleReply { bundle }).await
            }
            AgentRequest::Serve(query) => self.serve_release(&query.have).await,
            AgentRequest::Fetch(fetch) => fetch::serve(self, fetch).await,
            AgentRequest::Upload(upload) => upload::serve(self, upload).await,
        }
    }

    /// The release that the agent is to serve, if it has another one.
    async fn serve_release(&mut self, have: &[Serving]) -> Result<(), NetError> {
        let Some(job) = self.shared.catalog.assigned(self.agent, have) else {
            return self.reply(ServeReply { release: None }).await;
        };
        let found = match snapshots(&self.shared, Some(job)).await {
            Ok(mut jobs) => jobs
                .pop()
                .and_then(|job| Some((hex::decode(&job.record.signed_job).ok()?, job.record))),
            Err(_) => return self.replaced(),
        };
        let release = found.map(|(signed_job, record)| {
            Box::new(SignedRelease {
                job,
                signed_job: ByteBuf::from(signed_job),
                owner: record.owner,
                signature: record.signature,
            })
        });
        self.reply(ServeReply { release }).await
    }

    async fn secure_step(&mut self, step: SecureStep) -> Result<(), NetError> {
        self.job = self.shared.traffic.job_of(step.cohort());
        self.ask(Ask::Secure(step)).await
    }

    /// Writes the agent's record, without anybody waiting for it.
    fn touch(&self) {
        let (shared, agent) = (Arc::clone(&self.shared), self.agent);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = shared.registry.touch(agent) {
                tracing::warn!(%agent, %error, "an agent's record could not be written");
            }
        });
    }

    /// Puts a question to the driver.
    pub(super) fn question(&self, ask: Ask) -> mpsc::UnboundedReceiver<Answer> {
        let (answers, answered) = mpsc::unbounded_channel();
        // Without a driver the channel closes, as it does for a request that was replaced.
        let _ = self.shared.commands.send(Command::Ask {
            agent: self.agent,
            ask,
            answers,
        });
        answered
    }

    async fn ask(&mut self, ask: Ask) -> Result<(), NetError> {
        self.count();
        let answer = self.question(ask).recv().await;
        match answer {
            Some(Answer::Task(task)) => {
                self.job = Some(task.job);
                self.reply(CheckInReply::Task(task)).await
            }
            Some(Answer::ComeBack(come_back)) => self.reply(CheckInReply::ComeBack(come_back)).await,
            Some(Answer::Cohort(descriptor)) => self.reply(ReadyReply::Cohort(descriptor)).await,
            Some(Answer::Superseded) => self.reply(ReadyReply::Superseded).await,
            Some(Answer::Outcome(outcome)) => self.reply(outcome).await,
            Some(Answer::Progress(reply)) => self.reply(reply).await,
            Some(Answer::Draw(call)) => self.reply(ReadyReply::Draw(call)).await,
            Some(Answer::Roster(roster)) => self.reply(roster).await,
            Some(Answer::Reveal(reply)) => self.reply(*reply).await,
            Some(Answer::Shares(reply)) => self.reply(reply).await,
            Some(Answer::Survivors(reply)) => self.reply(reply).await,
            Some(Answer::Consent(reply)) => self.reply(reply).await,
            Some(Answer::Unmask(reply)) => self.reply(reply).await,
            Some(Answer::Refused(refusal)) => self.refuse(refusal).await,
            Some(Answer::UploadFrom(_) | Answer::Accepted) | None => self.replaced(),
        }
    }

    /// Ends a request that a newer one of the same kind has replaced, or that the end of the service cuts short.
    pub(super) fn replaced(&mut self) -> Result<(), NetError> {
        self.writer.abort(ErrorCode::Unavailable);
        Ok(())
    }

    pub(super) async fn reply<T: Serialize + Checked>(&mut self, message: T) -> Result<(), NetError> {
        reply(&mut self.writer, Ok(message)).await
    }

    pub(super) async fn refuse(&mut self, refusal: Refusal) -> Result<(), NetError> {
        self.shared.counters.refused(refusal.code);
        tracing::info!(code = %refusal.code, reason = %refusal.text, "refused");
        self.reader.stop(refusal.code);
        // A refusal reads the same whatever was asked.
        reply::<BundleReply>(&mut self.writer, Err(refusal)).await
    }

    /// Tells the agent what it did wrong, where it is its fault and it still listens.
    pub(super) async fn refuse_broken(&mut self, error: NetError) -> Result<(), NetError> {
        match &error {
            NetError::Protocol { .. } | NetError::Digest { .. } => self.refuse(Refusal::new(error.code(), error.to_string())).await,
            NetError::Io { what, source } => {
                tracing::error!(%what, error = %source, "an upload can't be stored");
                let text = "the server can't store the update now: send it again later";
                self.refuse(Refusal::new(ErrorCode::Unavailable, text)).await
            }
            _ => Err(error),
        }
    }

    /// Counts what the stream carried since the last call.
    pub(super) fn count(&mut self) {
        self.meter.count(&self.shared, self.job, &self.writer, &self.reader);
    }
}
