//! What runs beside the session: requests and blocking work, each reporting back with one message.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use aimass_federation::RequestKind;
use aimass_net::{Connection, NetError};
use aimass_protocol::message::agent::{CheckInReply, OutcomeReply, ReadyReply};
use aimass_protocol::{CohortId, ContributionId, Digest, JobId};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::masks::MaskAnswer;
use super::membership::MembershipUpdate;
use super::requests::Uploaded;
use super::serving::Followed;
use crate::state::{EncodedRecord, TrainedRecord};
use crate::work::{TrainOrder, Wish, WorkError};

/// What a task has to say when it is done.
pub(super) enum Message {
    /// A connection stands.
    Connected(Connection),
    /// There is none, and why.
    NotConnected(ConnectFailure),
    /// The connection with this number has ended.
    Closed { connection: u64, error: NetError },
    /// A request has its answer.
    Answer {
        request: RequestKind,
        number: u64,
        result: Result<Answer, NetError>,
    },
    /// Training is so far.
    Progressed { number: u64, percent: u8 },
    /// Training has ended.
    Trained {
        number: u64,
        order: Box<TrainOrder>,
        result: Result<(TrainedRecord, std::time::Duration), WorkError>,
    },
    /// Encoding has ended.
    Encoded {
        contribution: ContributionId,
        cohort: CohortId,
        result: Result<EncodedRecord, WorkError>,
    },
    /// News of the certificate or of the trust bundle.
    Membership(MembershipUpdate),
    /// What is served is what the server says, or why it is not.
    Followed {
        connection: u64,
        followed: Result<Followed, NetError>,
    },
}

/// Why there is no connection.
pub(crate) struct ConnectFailure {
    /// For people.
    pub(crate) reason: String,
    /// What would help.
    pub(crate) remedy: Remedy,
}

/// What would help against a failure to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Time.
    Wait,
    /// A new certificate.
    Renew,
    /// A newer trust bundle.
    Bundle,
}

/// What the server said.
pub(super) enum Answer {
    /// To a check-in.
    CheckIn(CheckInReply),
    /// To a fetch: the model is on the disk.
    Fetched { base: Digest, bytes: u64 },
    /// To a ready.
    Ready { contribution: ContributionId, reply: ReadyReply },
    /// To an upload: it is in the sum.
    Uploaded {
        contribution: ContributionId,
        cohort: CohortId,
        uploaded: Uploaded,
    },
    /// To progress: whether the work can still be used.
    Progress { job: JobId, base: Digest, wanted: bool },
    /// What is on the disk for this cohort is damaged, so that nothing could be uploaded.
    ResiduesLost { contribution: ContributionId, cohort: CohortId },
    /// To a step of a cohort with masks.
    Masks(MaskAnswer),
    /// To an outcome query.
    Outcome { contribution: ContributionId, reply: OutcomeReply },
}

/// Open requests, one of a kind: a newer one replaces the older, whose stream is closed and whose answer is ignored.
pub(super) struct Requests {
    messages: mpsc::UnboundedSender<Message>,
    next: u64,
    open: BTreeMap<RequestKind, (u64, AbortHandle)>,
}

impl Requests {
    pub(super) fn new(messages: mpsc::UnboundedSender<Message>) -> Self {
        Self {
            messages,
            next: 0,
            open: BTreeMap::new(),
        }
    }

    /// Starts a request. Its answer comes as [`Message::Answer`].
    pub(super) fn start(&mut self, request: RequestKind, ask: impl Future<Output = Result<Answer, NetError>> + Send + 'static) {
        self.next += 1;
        let (number, messages) = (self.next, self.messages.clone());
        let task = tokio::spawn(async move {
            let fault = Fault { messages, request, number };
            let result = ask.await;
            let _ = fault.messages.send(Message::Answer { request, number, result });
        });
        if let Some((_, older)) = self.open.insert(request, (number, task.abort_handle())) {
            older.abort();
        }
    }

    /// Whether this answer belongs to the open request of its kind, which is closed then.
    pub(super) fn take(&mut self, request: RequestKind, number: u64) -> bool {
        let current = self.open.get(&request).is_some_and(|(open, _)| *open == number);
        if current {
            self.open.remove(&request);
        }
        current
    }

    /// Gives up all of them.
    pub(super) fn abort_all(&mut self) {
        for (_, (_, task)) in std::mem::take(&mut self.open) {
            task.abort();
        }
    }
}

/// Reports a request that panics as one that failed: the session asks again instead of waiting for ever.
struct Fault {
    messages: mpsc::UnboundedSender<Message>,
    request: RequestKind,
    number: u64,
}

impl Drop for Fault {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = NetError::Broken {
                reason: "the request met a fault of this program; its log has the details".to_owned(),
            };
            let _ = self.messages.send(Message::Answer {
                request: self.request,
                number: self.number,
                result: Err(error),
            });
        }
    }
}

/// What runs as training is to do; shared with its thread.
#[derive(Debug, Clone)]
pub(super) struct Order(Arc<AtomicU8>);

const GO_ON: u8 = 0;
const PAUSE: u8 = 1;
const DROP: u8 = 2;

impl Order {
    /// What is wanted now.
    pub(super) fn wish(&self) -> Wish {
        match self.0.load(Ordering::Relaxed) {
            GO_ON => Wish::GoOn,
            PAUSE => Wish::Pause,
            _ => Wish::Drop,
        }
    }
}

/// Training that can be stopped. One runs at a time: the next waits for the end of the one before.
pub(super) struct Training {
    number: u64,
    order: Order,
    is_running: bool,
    turn: Arc<Mutex<()>>,
}

impl Training {
    pub(super) fn new() -> Self {
        Self {
            number: 0,
            order: Order(Arc::new(AtomicU8::new(GO_ON))),
            is_running: false,
            turn: Arc::default(),
        }
    }

    /// Stops what runs, and gives the next its number, its order, and what its thread has to lock while it runs.
    pub(super) fn begin(&mut self) -> (u64, Order, Arc<Mutex<()>>) {
        self.drop_current();
        self.number += 1;
        self.is_running = true;
        self.order = Order(Arc::new(AtomicU8::new(GO_ON)));
        (self.number, self.order.clone(), Arc::clone(&self.turn))
    }

    /// Whether this is the training that was begun last.
    pub(super) fn is_current(&self, number: u64) -> bool {
        self.number == number
    }

    /// Notes that a training has ended.
    pub(super) fn ended(&mut self, number: u64) {
        if self.is_current(number) {
            self.is_running = false;
        }
    }

    /// Whether there is one that has not ended.
    pub(super) fn is_running(&self) -> bool {
        self.is_running
    }

    /// Stops what runs at its next step; it is kept.
    pub(super) fn pause(&self) {
        // What is dropped already stays so.
        let _ = self.order.0.compare_exchange(GO_ON, PAUSE, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Stops what runs at its next step; nobody needs it.
    pub(super) fn drop_current(&self) {
        self.order.0.store(DROP, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_newer_request_replaces_the_older_of_its_kind() {
        let (sender, mut messages) = mpsc::unbounded_channel();
        let mut requests = Requests::new(sender);
        requests.start(RequestKind::Outcome, std::future::pending());
        requests.start(RequestKind::Fetch, async {
            Ok(Answer::Fetched {
                base: Digest::from_bytes([1; 32]),
                bytes: 0,
            })
        });
        requests.start(RequestKind::Fetch, async {
            Ok(Answer::Fetched {
                base: Digest::from_bytes([2; 32]),
                bytes: 0,
            })
        });
        let mut taken = Vec::new();
        while taken.is_empty() {
            let Some(Message::Answer {
                request,
                number,
                result: Ok(Answer::Fetched { base, .. }),
            }) = messages.recv().await
            else {
                panic!("only fetches answer");
            };
            if requests.take(request, number) {
                taken.push(base);
            }
        }
        assert_eq!(taken, [Digest::from_bytes([2; 32])]);
        assert!(!requests.take(RequestKind::Fetch, 3), "an answer is taken once");
        assert!(requests.take(RequestKind::Outcome, 1), "another kind is untouched");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_request_that_panics_is_answered_all_the_same() {
        let (sender, mut messages) = mpsc::unbounded_channel();
        let mut requests = Requests::new(sender);
        requests.start(RequestKind::Fetch, async {
            tokio::task::yield_now().await;
            panic!("on purpose")
        });
        let Some(Message::Answer {
            request: RequestKind::Fetch,
            number,
            result: Err(error),
        }) = messages.recv().await
        else {
            panic!("the fault is reported");
        };
        assert!(error.to_string().contains("fault of this program"), "{error}");
        assert!(requests.take(RequestKind::Fetch, number));
    }

    #[test]
    fn only_the_latest_training_counts() {
        let mut training = Training::new();
        let (first, stopped, _) = training.begin();
        let (second, running, _) = training.begin();
        assert_eq!((stopped.wish(), running.wish()), (Wish::Drop, Wish::GoOn));
        assert!(!training.is_current(first) && training.is_current(second));
        training.ended(first);
        assert!(training.is_running());
        training.pause();
        assert_eq!((stopped.wish(), running.wish()), (Wish::Drop, Wish::Pause));
        training.drop_current();
        training.pause();
        assert_eq!(running.wish(), Wish::Drop, "dropped is dropped");
        training.ended(second);
        assert!(!training.is_running());
    }
}
