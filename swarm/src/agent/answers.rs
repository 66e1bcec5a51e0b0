//! What an agent's tasks have to say.

use aimass_edge_agent::run::MaskAnswer;
use aimass_edge_agent::verify::{verify_descriptor, verify_task};
use aimass_federation::RequestKind;
use aimass_federation::agent::{Event, Stage};
use aimass_net::{Connection, NetError};
use aimass_protocol::ContributionId;
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::message::agent::{CheckInReply, OutcomeReply, ReadyReply, SignedDescriptor, Task};
use rand_core::Rng as _;

use super::{Agent, Answer, Message};

impl Agent {
    pub(super) fn on_message(&mut self, message: Message) {
        match message {
            Message::Connected(Ok(connection)) => {
                self.connections += 1;
                let (number, watched) = (self.connections, connection.clone());
                self.connection = Some(connection);
                self.tasks.spawn(async move {
                    let error = watched.closed().await;
                    Message::Closed { connection: number, error }
                });
                self.world.tally.connected(self.index);
                self.step(Event::Connected);
            }
            Message::Connected(Err(reason)) => self.disconnected(reason),
            Message::Closed { connection, error } if connection == self.connections && self.connection.is_some() => {
                self.disconnected(error.to_string());
            }
            Message::Closed { .. } => {}
            Message::Answer { request, number, result } => {
                if self.open.get(&request).is_none_or(|(current, _)| *current != number) {
                    return;
                }
                self.open.remove(&request);
                match result {
                    Ok(answer) => self.on_answer(answer),
                    Err(error) => self.on_error(request, error),
                }
            }
            Message::Trained { job, base } => {
                let mut id = [0; ContributionId::LEN];
                self.rng.fill_bytes(&mut id);
                let contribution = ContributionId::from_bytes(id);
                self.step(Event::Trained { job, base, contribution });
            }
        }
    }

    fn on_answer(&mut self, answer: Answer) {
        match answer {
            Answer::CheckIn(CheckInReply::Task(task)) => self.on_task(task),
            Answer::CheckIn(CheckInReply::ComeBack(come_back)) => self.step(Event::ComeBack(come_back)),
            Answer::Fetched(base) => {
                self.world.disks[self.index].write(|disk| disk.model = Some(base));
                self.step(Event::Fetched { base });
            }
            Answer::Ready(contribution, ReadyReply::Cohort(signed)) => {
                let event = self.verified(&signed).map(|descriptor| Event::Cohort { contribution, descriptor });
                self.step_if(event);
            }
            Answer::Ready(contribution, ReadyReply::Draw(call)) => self.step(Event::Draw { contribution, call }),
            Answer::Masks(MaskAnswer::Opening { cohort, draw, opening }) => {
                let event = self.verified(&opening.descriptor).map(|descriptor| Event::Opening {
                    cohort,
                    draw,
                    opening,
                    descriptor,
                });
                self.step_if(event);
            }
            Answer::Masks(MaskAnswer::Told(event)) => {
                let held = self.session.snapshot().held.map(|held| held.id);
                self.step(event);
                let after = self.session.snapshot().held;
                // It went back to where it was before the cohort, or is spent and gone.
                let is_back = after.is_none_or(|held| held.stage == Stage::Trained);
                if let Some(contribution) = held.filter(|_| is_back) {
                    self.world.tally.outcome(self.index, contribution, OutcomeReply::NotIncluded);
                }
            }
            Answer::Ready(contribution, ReadyReply::Superseded) => {
                self.world.tally.trouble("ready: superseded");
                self.step(Event::Superseded { contribution });
            }
            Answer::Uploaded(contribution, cohort) => {
                let held = self.session.snapshot().held.filter(|held| held.id == contribution);
                if let Some(descriptor) = held.as_ref().and_then(|held| held.stage.descriptor()) {
                    self.world.tally.accepted_in(self.index, contribution, descriptor.round);
                }
                self.step(Event::Accepted { contribution, cohort });
            }
            Answer::Outcome(contribution, reply) => {
                self.world.tally.outcome(self.index, contribution, reply);
                self.step(Event::Outcome { contribution, reply });
            }
        }
    }

    /// Holds the server to what a real agent holds it to.
    fn on_task(&mut self, task: Task) {
        let Some(server) = self.connection.as_ref().and_then(Connection::peer_public_key) else {
            return;
        };
        let enrolment = &self.member().enrolment;
        let event = match verify_task(&task, &enrolment.membership().tenant, enrolment.bundle().content()) {
            Ok(verified) => Event::Task {
                job: task.job,
                file: Box::new(verified.file),
                round: task.round,
                base: task.base,
                base_bytes: task.base_bytes,
                finish_within_ms: task.finish_within_ms,
                log: task.log,
                server,
            },
            Err(e) => Event::Invalid {
                job: task.job,
                reason: e.to_string(),
            },
        };
        self.step(event);
    }

    /// The descriptor, or what the session is told of it; nothing where nobody is there whose it could be.
    #[expect(clippy::result_large_err, reason = "the event is what happens instead")]
    fn verified(&self, signed: &SignedDescriptor) -> Result<Box<Descriptor>, Option<Event>> {
        let server = self.connection.as_ref().and_then(Connection::peer_public_key);
        let (Some(server), Some(oracle), Some(held)) = (server, self.world.oracle(), self.session.snapshot().held) else {
            return Err(None);
        };
        let tenant = &self.member().enrolment.membership().tenant;
        verify_descriptor(signed, &server, tenant, oracle.layout_digest())
            .map(Box::new)
            .map_err(|e| {
                Some(Event::Invalid {
                    job: held.job,
                    reason: e.to_string(),
                })
            })
    }

    fn step_if(&mut self, event: Result<Event, Option<Event>>) {
        if let Some(event) = event.map_or_else(|event| event, Some) {
            self.step(event);
        }
    }

    fn on_error(&mut self, request: RequestKind, error: NetError) {
        let closed = self.connection.as_ref().is_none_or(Connection::is_closed);
        match error {
            error if closed => self.disconnected(error.to_string()),
            NetError::Refused(refusal) => self.step(Event::Refused { request, refusal }),
            error => {
                let reason = error.to_string();
                self.step(Event::Failed { request, reason });
            }
        }
    }

    fn disconnected(&mut self, reason: String) {
        for (_, (_, task)) in std::mem::take(&mut self.open) {
            task.abort();
        }
        self.connection = None;
        self.world.tally.disconnected(self.index, &reason);
        self.step(Event::Disconnected { reason });
    }
}
