//! What came back from requests and from work.

use aimass_federation::RequestKind;
use aimass_federation::agent::Event;
use aimass_learning::TrainError;
use aimass_net::NetError;
use aimass_protocol::ErrorCode;
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::message::agent::{CheckInReply, ReadyReply, SignedDescriptor, Task};
use aimass_protocol::message::secagg::Opening;
use aimass_protocol::{CohortId, ContributionId};

use super::{Driver, off_reactor};
use crate::event::AgentEvent;
use crate::platform::{now, wall};
use crate::run::tasks::{Answer, Message};
use crate::run::{MaskAnswer, RunError};
use crate::state::EncodedRecord;
use crate::verify::{TaskError, verify_descriptor, verify_task};
use crate::work::{WorkError, pinned_teacher};

impl Driver {
    pub(super) async fn on_message(&mut self, message: Message) -> Result<(), RunError> {
        match message {
            Message::Connected(connection) => self.on_connected(connection).await,
            Message::NotConnected(failure) => self.on_not_connected(failure).await,
            Message::Closed { connection, error } => self.on_closed(connection, error).await,
            Message::Answer { request, number, result } => {
                if !self.requests.take(request, number) {
                    return Ok(());
                }
                match result {
                    Ok(answer) => self.on_answer(answer).await,
                    Err(error) => self.on_request_error(request, error).await,
                }
            }
            Message::Progressed { number, percent } if self.training.is_current(number) => self.step(Event::Progressed { percent }).await,
            Message::Progressed { .. } => Ok(()),
            Message::Trained { number, order, result } => {
                let job = order.job;
                self.training.ended(number);
                match result {
                    _ if !self.training.is_current(number) => Ok(self.options.state.discard(order.contribution)?),
                    Ok((record, took)) => {
                        let (job_hex, seconds) = (job.to_hex(), took.as_secs_f64());
                        self.notes.tell(&match record.is_counted() {
                            true => AgentEvent::Counted {
                                job: job_hex,
                                round: record.round,
                                rows: record.examples,
                                numbers: record.n_weights,
                                seconds,
                            },
                            false => AgentEvent::Trained {
                                job: job_hex,
                                round: record.round,
                                examples: record.examples,
                                steps: record.steps,
                                train_loss: record.train_loss,
                                seconds,
                            },
                        });
                        self.step(Event::Trained {
                            job,
                            base: order.base,
                            contribution: order.contribution,
                        })
                        .await
                    }
                    Err(WorkError::Train(TrainError::Stopped { .. })) => Ok(()),
                    Err(e @ WorkError::Base { base }) => {
                        tracing::warn!("{e}");
                        self.options.state.retain_models(&[])?;
                        self.step(Event::BaseLost { base }).await
                    }
                    Err(e @ WorkError::Teacher { .. }) => {
                        tracing::warn!("{e}");
                        // The base is still good: only what is missing is fetched.
                        self.step(Event::BaseLost { base: order.base }).await
                    }
                    // The job is good, the disk is not: it goes on after the next start.
                    Err(WorkError::State(e)) => Err(e.into()),
                    Err(e) => {
                        self.step(Event::TrainFailed {
                            job,
                            reason: e.to_string(),
                        })
                        .await
                    }
                }
            }
            Message::Encoded {
                contribution,
                cohort,
                result,
            } => self.on_encoded(contribution, cohort, result).await,
            Message::Membership(update) => self.on_membership(update).await,
            Message::Followed { connection, followed } => {
                self.on_followed(connection, followed);
                Ok(())
            }
        }
    }

    async fn on_encoded(
        &mut self,
        contribution: ContributionId,
        cohort: CohortId,
        result: Result<EncodedRecord, WorkError>,
    ) -> Result<(), RunError> {
        match result {
            Ok(_) => self.step(Event::Encoded { contribution, cohort }).await,
            // The contribution is good, the disk is not: it is offered again after the next start.
            Err(WorkError::State(e)) => Err(e.into()),
            Err(e) => {
                self.step(Event::EncodeFailed {
                    contribution,
                    reason: e.to_string(),
                })
                .await
            }
        }
    }

    async fn on_answer(&mut self, answer: Answer) -> Result<(), RunError> {
        match answer {
            Answer::CheckIn(CheckInReply::Task(task)) => {
                self.on_welcome();
                self.on_task(task, false).await
            }
            Answer::CheckIn(CheckInReply::ComeBack(come_back)) => {
                self.on_welcome();
                self.step(Event::ComeBack(come_back)).await
            }
            Answer::Fetched { base, bytes } => {
                self.notes.tell(&AgentEvent::Fetched {
                    base: base.to_hex(),
                    bytes,
                });
                self.step(Event::Fetched { base }).await
            }
            Answer::Ready {
                contribution,
                reply: ReadyReply::Cohort(signed),
            } => self.on_cohort(contribution, signed).await,
            Answer::Ready {
                contribution,
                reply: ReadyReply::Draw(call),
            } => self.step(Event::Draw { contribution, call }).await,
            Answer::Masks(MaskAnswer::Told(event)) => {
                self.notes.masks(&self.session, &event);
                self.step(event).await
            }
            Answer::Masks(MaskAnswer::Opening { cohort, draw, opening }) => self.on_opening(cohort, draw, opening).await,
            Answer::ResiduesLost { contribution, cohort } => {
                tracing::warn!("the update of contribution {contribution} is damaged on disk");
                self.step(Event::ResiduesLost { contribution, cohort }).await
            }
            Answer::Ready {
                contribution,
                reply: ReadyReply::Superseded,
            } => {
                self.notes.superseded(&self.session, contribution);
                self.step(Event::Superseded { contribution }).await
            }
            Answer::Uploaded {
                contribution,
                cohort,
                uploaded,
            } => {
                self.notes
                    .uploaded(&self.session, contribution, uploaded.bytes, uploaded.sent_bytes);
                self.step(Event::Accepted { contribution, cohort }).await
            }
            Answer::Progress { wanted: true, .. } => Ok(()),
            Answer::Progress { job, base, .. } => {
                if self
                    .session
                    .snapshot()
                    .task
                    .is_some_and(|task| (task.job, task.base) == (job, base))
                {
                    self.notes.tell(&AgentEvent::Superseded { job: job.to_hex() });
                }
                self.step(Event::Unwanted { job, base }).await
            }
            Answer::Outcome { contribution, reply } => {
                self.notes.outcome(&self.session, contribution, reply);
                self.step(Event::Outcome { contribution, reply }).await
            }
        }
    }

    async fn on_request_error(&mut self, request: RequestKind, error: NetError) -> Result<(), RunError> {
        let closed = self
            .network
            .connection
            .as_ref()
            .is_none_or(|(_, connection)| connection.is_closed());
        match error {
            // Whoever watches the connection says so as well, with the same words; the first of the two counts.
            e if closed => self.disconnect(e).await,
            e @ NetError::CertificateRefused { .. } => self.disconnect(e).await,
            NetError::Refused(refusal) if refusal.code == ErrorCode::Revoked => self.disconnect(refusal.into()).await,
            NetError::Refused(refusal) => self.step(Event::Refused { request, refusal }).await,
            e => {
                self.step(Event::Failed {
                    request,
                    reason: e.to_string(),
                })
                .await
            }
        }
    }

    /// Checks who signed the job. An owner that is not known may be in a newer bundle: it is asked for once.
    pub(super) async fn on_task(&mut self, task: Task, bundle_is_fresh: bool) -> Result<(), RunError> {
        let server = self.network.connection.as_ref();
        let Some(server) = server.and_then(|(_, connection)| connection.peer_public_key()) else {
            // The session asks again when it is connected.
            return Ok(());
        };
        let enrolment = self.enrolment()?;
        let tenant = enrolment.membership().tenant.clone();
        let max_file_bytes = self.bench().max_file_bytes;
        let verified = verify_task(&task, &tenant, enrolment.bundle().content());
        // Before anything of it is fetched.
        let refused = verified
            .as_ref()
            .ok()
            .and_then(|job| pinned_teacher(&job.file, max_file_bytes).err());
        if let Some(reason) = refused {
            let (job, reason) = (task.job, reason.to_string());
            return self.step(Event::Invalid { job, reason }).await;
        }
        match verified {
            Ok(job) => {
                self.notes.task(&job, &task);
                let (state, kept) = (self.options.state.clone(), task.clone());
                off_reactor(move || state.save_task(&kept)).await?;
                let file = Box::new(job.file.clone());
                self.jobs.insert(job.id, job);
                self.step(Event::Task {
                    job: task.job,
                    file,
                    round: task.round,
                    base: task.base,
                    base_bytes: task.base_bytes,
                    finish_within_ms: task.finish_within_ms,
                    log: task.log,
                    server,
                })
                .await
            }
            Err(TaskError::OwnerUnknown { .. }) if !bundle_is_fresh => {
                self.task_in_doubt = Some(task);
                self.begin_bundle_refresh()
            }
            Err(e) => {
                self.step(Event::Invalid {
                    job: task.job,
                    reason: e.to_string(),
                })
                .await
            }
        }
    }

    async fn on_cohort(&mut self, contribution: ContributionId, signed: SignedDescriptor) -> Result<(), RunError> {
        match self.verified(contribution, &signed).await? {
            Some(Ok(descriptor)) => {
                let descriptor = Box::new(descriptor);
                self.step(Event::Cohort { contribution, descriptor }).await
            }
            Some(Err(event)) => self.step(event).await,
            None => Ok(()),
        }
    }

    async fn on_opening(&mut self, cohort: CohortId, draw: u8, opening: Box<Opening>) -> Result<(), RunError> {
        let Some(held) = self.session.snapshot().held else { return Ok(()) };
        match self.verified(held.id, &opening.descriptor).await? {
            Some(Ok(descriptor)) => {
                self.step(Event::Opening {
                    cohort,
                    draw,
                    opening,
                    descriptor: Box::new(descriptor),
                })
                .await
            }
            Some(Err(event)) => self.step(event).await,
            None => Ok(()),
        }
    }

    /// Checks that a descriptor is this server's and about the layout that was trained. An event says what is wrong; without a connection there is
    /// nobody whose it could be.
    async fn verified(
        &mut self,
        contribution: ContributionId,
        signed: &SignedDescriptor,
    ) -> Result<Option<Result<Descriptor, Event>>, RunError> {
        let state = self.options.state.clone();
        let Some(record) = off_reactor(move || state.load_trained(contribution)).await? else {
            let reason = WorkError::Missing { id: contribution }.to_string();
            return Ok(Some(Err(Event::EncodeFailed { contribution, reason })));
        };
        let tenant = self.enrolment()?.membership().tenant.clone();
        let server = self.network.connection.as_ref();
        let Some(server) = server.and_then(|(_, connection)| connection.peer_public_key()) else {
            return Ok(None);
        };
        Ok(Some(match verify_descriptor(signed, &server, &tenant, record.layout_digest) {
            Ok(descriptor) => {
                self.session.set_wall_clock(now(), wall());
                self.notes.tell(&AgentEvent::Cohort {
                    job: descriptor.job.to_hex(),
                    round: descriptor.round,
                    cohort: descriptor.cohort.to_hex(),
                    members: descriptor.members,
                });
                Ok(descriptor)
            }
            Err(e) => Err(Event::Invalid {
                job: record.job,
                reason: e.to_string(),
            }),
        }))
    }
}
