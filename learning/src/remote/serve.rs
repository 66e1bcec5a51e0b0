//! The worker's side: does as it is told until the parent is gone.

use std::io::{self, Read, Write};
use std::sync::mpsc;

use aimass_onnx::{Model, ParamLayout};
use burn_backend::Backend;

use super::frame;
use super::message::{Adapter, Load, Refusal, RefusalKind, Reply, Request, State, VERSION};
use crate::{TrainError, Trainer};

/// Why a worker stopped serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The pipe broke.
    #[error("the pipe to the parent: {0}")]
    Pipe(#[from] io::Error),
    /// The parent said what no parent says.
    #[error("the parent's message makes no sense: {reason}; start this program through `aimass`, of the same version")]
    Parent {
        /// Where it breaks off.
        reason: String,
    },
}

/// Serves one parent. `open` opens the device that `B`'s default device stands for from then on. Returns after a goodbye, or when
/// `input` ends; `hung_up` is called then from another thread first, so that a worker whose device hangs does not outlive its parent.
///
/// # Errors
/// [`ServeError`]; a parent that breaks the protocol is told so.
pub fn serve<B: Backend>(
    mut input: impl Read + Send + 'static,
    mut output: impl Write,
    open: impl FnMut() -> Result<Adapter, String>,
    hung_up: impl FnOnce() + Send + 'static,
) -> Result<(), ServeError> {
    // One waiting request: the parent sends the next after the reply. So the thread sees the end of the input at once.
    let (sender, requests) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        loop {
            let frame = frame::read(&mut input, frame::MAX_FRAME_BYTES);
            let more = matches!(frame, Ok(Some(_)));
            if matches!(frame, Ok(None)) {
                return hung_up();
            }
            if sender.send(frame).is_err() || !more {
                return;
            }
        }
    });
    let mut session = Session::<B, _> {
        greeted: false,
        opened: false,
        trainer: None,
        open,
    };
    while let Ok(frame) = requests.recv() {
        let Some(frame) = frame? else { return Ok(()) };
        let reply = match Request::decode(&frame) {
            Ok(Request::Bye) => return Ok(()),
            Ok(request) => session.answer(request),
            Err(malformed) => Err(malformed.to_string()),
        };
        drop(frame);
        match reply {
            Ok(reply) => frame::write(&mut output, &reply.encode())?,
            Err(reason) => {
                let refusal = Refusal {
                    kind: RefusalKind::Protocol,
                    reason: reason.clone(),
                    step: 0,
                    loss: 0.0,
                };
                frame::write(&mut output, &Reply::Refused(refusal).encode())?;
                return Err(ServeError::Parent { reason });
            }
        }
    }
    Ok(())
}

struct Session<B: Backend, F> {
    greeted: bool,
    opened: bool,
    trainer: Option<Trainer<B>>,
    open: F,
}

impl<B: Backend, F: FnMut() -> Result<Adapter, String>> Session<B, F> {
    /// What to reply; `Err` for a request out of order, after which there is nothing more to say.
    fn answer(&mut self, request: Request) -> Result<Reply, String> {
        let refused = |error: TrainError| Reply::Refused(error.into());
        match request {
            Request::Hello { version: VERSION } => {
                self.greeted = true;
                Ok(Reply::Hello { version: VERSION })
            }
            Request::Hello { version } => Err(format!("the parent speaks version {version}, this worker {VERSION}")),
            _ if !self.greeted => Err("a request before the greeting".to_owned()),
            Request::Probe => Ok(match (self.open)() {
                Ok(adapter) => {
                    self.opened = true;
                    Reply::Probe(adapter)
                }
                Err(reason) => refused(TrainError::Device { reason }),
            }),
            _ if !self.opened => Err("a request before a device was opened".to_owned()),
            Request::Load(load) => {
                // One model at a time: the device may not have room for two.
                self.trainer = None;
                Ok(match load_trainer(&load) {
                    Ok(trainer) => {
                        self.trainer = Some(trainer);
                        Reply::Done
                    }
                    Err(error) => refused(error),
                })
            }
            Request::Bye => Err("a request after the goodbye".to_owned()),
            Request::SetState(_) | Request::Batch(_) | Request::GetState | Request::SetMask(_) => {
                let trainer = self.trainer.as_mut().ok_or("a request before a model was loaded")?;
                Ok(train(trainer, request).unwrap_or_else(refused))
            }
        }
    }
}

fn train<B: Backend>(trainer: &mut Trainer<B>, request: Request) -> Result<Reply, TrainError> {
    Ok(match request {
        Request::SetState(state) => {
            set_state(trainer, &state)?;
            Reply::Done
        }
        Request::SetMask(mask) => {
            trainer.set_mask(mask.as_ref())?;
            Reply::Done
        }
        Request::Batch(batch) => {
            let report = trainer.step(batch)?;
            let steps = trainer.steps();
            Reply::Progress { steps, report }
        }
        _ => Reply::State(state_of(trainer)?),
    })
}

pub(super) fn state_of<B: Backend>(trainer: &Trainer<B>) -> Result<State, TrainError> {
    Ok(State {
        steps: trainer.steps(),
        weights: trainer.weights()?,
        buffers: trainer.buffers()?,
        moments: trainer.optimizer_state()?,
    })
}

pub(super) fn set_state<B: Backend>(trainer: &mut Trainer<B>, state: &State) -> Result<(), TrainError> {
    trainer.set_weights(&state.weights)?;
    trainer.set_buffers(&state.buffers)?;
    trainer.restore(state.steps, &state.moments)
}

/// The trainer that a message describes.
pub(super) fn load_trainer<B: Backend>(load: &Load) -> Result<Trainer<B>, TrainError> {
    let unreadable = |reason: String| TrainError::Graph { reason };
    let model = Model::from_bytes(&load.model).map_err(|e| unreadable(e.to_string()))?;
    let layout = ParamLayout::with_kinds(&model, &load.kinds);
    let layout =
        layout.ok_or_else(|| unreadable("the layout is of another model; train with the model that it was made from".to_owned()))?;
    let mut trainer = Trainer::on(&model, &layout, &load.config)?;
    trainer.limit_memory(load.memory_limit_bytes)?;
    Ok(trainer)
}
