//! Who waits for an answer.

use std::collections::HashMap;

use aimass_federation::RequestKind;
use aimass_protocol::message::Refusal;
use aimass_protocol::{AgentId, CohortId, ErrorCode};
use tokio::sync::mpsc::UnboundedSender;

use super::Answer;

struct Waiter {
    answers: UnboundedSender<Answer>,
    /// What an upload or a step of secure aggregation is for.
    cohort: Option<CohortId>,
}

/// At most one open request of each kind for each agent.
#[derive(Default)]
pub(super) struct Waiting {
    open: HashMap<(AgentId, RequestKind), Waiter>,
}

impl Waiting {
    /// Notes a request. An older one of the same kind ends without an answer.
    pub(super) fn wait(&mut self, agent: AgentId, kind: RequestKind, cohort: Option<CohortId>, answers: UnboundedSender<Answer>) {
        self.open.insert((agent, kind), Waiter { answers, cohort });
    }

    /// Whether the agent waits for an answer of this kind.
    pub(super) fn is_open(&self, agent: AgentId, kind: RequestKind) -> bool {
        self.open.contains_key(&(agent, kind))
    }

    /// Answers a request, if it is still open.
    pub(super) fn answer(&mut self, agent: AgentId, kind: RequestKind, answer: Answer) {
        let ends = !matches!(answer, Answer::UploadFrom(_));
        if let Some(waiter) = self.open.get(&(agent, kind)) {
            let heard = waiter.answers.send(answer).is_ok();
            if ends || !heard {
                self.open.remove(&(agent, kind));
            }
        }
    }

    /// The same, if the request is about this cohort.
    pub(super) fn answer_about(&mut self, cohort: CohortId, agent: AgentId, kind: RequestKind, answer: Answer) {
        if self.open.get(&(agent, kind)).is_some_and(|waiter| waiter.cohort == Some(cohort)) {
            self.answer(agent, kind, answer);
        }
    }

    /// Ends all requests of an agent without an answer.
    pub(super) fn forget(&mut self, agent: AgentId) {
        for kind in RequestKind::ALL {
            self.open.remove(&(agent, kind));
        }
    }

    /// Ends the uploads of a cohort that is over.
    pub(super) fn close_uploads(&mut self, cohort: CohortId) {
        self.open.retain(|(_, kind), waiter| {
            let over = *kind == RequestKind::Upload && waiter.cohort == Some(cohort);
            if over {
                let text = "the cohort is over; offer the contribution again";
                let _ = waiter.answers.send(Answer::Refused(Refusal::new(ErrorCode::CohortUnknown, text)));
            }
            !over
        });
    }
}

#[cfg(test)]
mod tests {
    use aimass_protocol::message::secagg::UnmaskReply;
    use tokio::sync::mpsc::{error::TryRecvError, unbounded_channel};

    use super::*;

    const AGENT: AgentId = AgentId::from_bytes([1; 16]);
    const COHORT: CohortId = CohortId::from_bytes([2; 16]);

    #[test]
    fn the_newest_request_gets_the_answer_and_the_older_one_ends() {
        let mut waiting = Waiting::default();
        let (older, mut old) = unbounded_channel();
        let (newer, mut new) = unbounded_channel();
        waiting.wait(AGENT, RequestKind::Ready, None, older);
        waiting.wait(AGENT, RequestKind::Ready, None, newer);
        waiting.answer(AGENT, RequestKind::Ready, Answer::Superseded);
        assert!(matches!(old.try_recv(), Err(TryRecvError::Disconnected)));
        assert!(matches!(new.try_recv(), Ok(Answer::Superseded)));
        waiting.answer(AGENT, RequestKind::Ready, Answer::Superseded);
        assert!(matches!(new.try_recv(), Err(TryRecvError::Disconnected)), "answered once");
    }

    #[test]
    fn a_dropped_cohort_ends_its_uploads_alone() {
        let mut waiting = Waiting::default();
        let (upload, mut uploading) = unbounded_channel();
        let (outcome, mut asking) = unbounded_channel();
        waiting.wait(AGENT, RequestKind::Upload, Some(COHORT), upload);
        waiting.wait(AGENT, RequestKind::Outcome, None, outcome);
        let (unmask, mut unmasking) = unbounded_channel();
        waiting.wait(AGENT, RequestKind::Unmask, Some(COHORT), unmask);
        waiting.close_uploads(CohortId::from_bytes([3; 16]));
        assert!(matches!(uploading.try_recv(), Err(TryRecvError::Empty)));
        waiting.close_uploads(COHORT);
        assert!(matches!(uploading.try_recv(), Ok(Answer::Refused(refusal)) if refusal.code == ErrorCode::CohortUnknown));
        assert!(matches!(asking.try_recv(), Err(TryRecvError::Empty)));
        assert!(matches!(unmasking.try_recv(), Err(TryRecvError::Empty)));
        let taken = || Answer::Unmask(UnmaskReply::Taken);
        waiting.answer_about(CohortId::from_bytes([3; 16]), AGENT, RequestKind::Unmask, taken());
        assert!(
            matches!(unmasking.try_recv(), Err(TryRecvError::Empty)),
            "it asked about another cohort"
        );
        waiting.answer_about(COHORT, AGENT, RequestKind::Unmask, taken());
        assert!(matches!(unmasking.try_recv(), Ok(Answer::Unmask(UnmaskReply::Taken))));
    }
}
