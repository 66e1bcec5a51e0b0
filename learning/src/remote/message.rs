//! What parent and worker say to each other.

use std::fmt;

use aimass_onnx::{Model, ParamKind, ParamLayout};

use super::codec::{In, Malformed, Out};
use super::process::Lost;
use crate::{Batch, Mask, StepReport, TrainConfig, TrainError};

/// Version of the protocol. Parent and worker are of one build, and refuse each other otherwise.
pub const VERSION: u16 = 2;
/// Most characters of what a worker says that are shown.
const MAX_WORDS: usize = 600;
/// Begins both Hellos.
const MAGIC: [u8; 8] = *b"AIMGPU\r\n";

/// What a worker computes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// As the driver calls it.
    pub name: String,
    /// The graphics API: `vulkan`, `metal`, `dx12`, `gl`.
    pub api: String,
    /// The driver and its version, where it says so.
    pub driver: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: AdapterKind,
}

/// What an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdapterKind {
    /// A card of its own.
    Discrete,
    /// Part of the processor.
    Integrated,
    /// Of a virtual machine.
    Virtual,
    /// The CPU, posing as one.
    Software,
    /// The driver does not say.
    Other,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.api)
    }
}

/// All that a training is besides its data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Load {
    pub(crate) config: TrainConfig,
    /// Of the layout's entries, in order.
    pub(crate) kinds: Vec<ParamKind>,
    pub(crate) memory_limit_bytes: Option<u64>,
    /// The ONNX file.
    pub(crate) model: Vec<u8>,
}

/// All that a training has become.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct State {
    pub(crate) steps: u64,
    pub(crate) weights: Vec<f32>,
    pub(crate) buffers: Vec<f32>,
    pub(crate) moments: Vec<Vec<f32>>,
}

/// From the parent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Request {
    /// First of all; touches no driver.
    Hello {
        version: u16,
    },
    /// Open the device, say which.
    Probe,
    Load(Box<Load>),
    SetState(State),
    Batch(Batch),
    GetState,
    Bye,
    /// What is pruned from now on.
    SetMask(Option<Mask>),
}

/// From the worker, one for each request but `Bye`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    Hello {
        version: u16,
    },
    Probe(Adapter),
    /// To `Load`, `SetState` and `SetMask`.
    Done,
    /// To `Batch`.
    Progress {
        steps: u64,
        report: StepReport,
    },
    /// To `GetState`.
    State(State),
    Refused(Refusal),
}

/// A [`TrainError`], or what else was wrong with a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    pub(crate) reason: String,
    /// Of [`RefusalKind::Diverged`].
    pub(crate) step: u64,
    pub(crate) loss: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    Graph,
    Data,
    Config,
    Diverged,
    /// The device failed, or there is none.
    Device,
    /// A request that makes no sense here.
    Protocol,
}

impl From<TrainError> for Refusal {
    fn from(error: TrainError) -> Self {
        let of = |kind, reason| Self {
            kind,
            reason,
            step: 0,
            loss: 0.0,
        };
        match error {
            TrainError::Graph { reason } => of(RefusalKind::Graph, reason),
            TrainError::Data { reason } => of(RefusalKind::Data, reason),
            TrainError::Config { reason } => of(RefusalKind::Config, reason),
            TrainError::Diverged { step, loss } => Self {
                kind: RefusalKind::Diverged,
                reason: String::new(),
                step,
                loss,
            },
            TrainError::Device { reason } => of(RefusalKind::Device, reason),
            other @ (TrainError::Source(_) | TrainError::Stopped { .. } | TrainError::Backend { .. }) => {
                of(RefusalKind::Protocol, other.to_string())
            }
        }
    }
}

impl Refusal {
    /// The error that the trainer in the worker gave, or that the worker is of no use.
    pub(crate) fn into_train_error(self) -> Result<TrainError, Lost> {
        let Self { reason, step, loss, .. } = self;
        Ok(match self.kind {
            RefusalKind::Graph => TrainError::Graph { reason },
            RefusalKind::Data => TrainError::Data { reason },
            RefusalKind::Config => TrainError::Config { reason },
            RefusalKind::Diverged => TrainError::Diverged { step, loss },
            RefusalKind::Device => return Err(Lost::Device(reason)),
            RefusalKind::Protocol => return Err(Lost::Garbage(reason)),
        })
    }
}

impl Load {
    pub(crate) fn new(model: &Model, layout: &ParamLayout, config: &TrainConfig, memory_limit_bytes: Option<u64>) -> Self {
        Self {
            config: config.clone(),
            kinds: layout.params().iter().map(|param| param.kind).collect(),
            memory_limit_bytes,
            model: model.as_bytes().to_vec(),
        }
    }
}

/// What a worker or its driver says, as it can be shown on a terminal.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MAX_WORDS).map(shown).collect()
}

const STATE: &str = "the state";
const MASK: &str = "the mask";
const BATCH: &str = "the batch";
const ADAPTER: &str = "the adapter";
const REFUSAL: &str = "a refusal";

impl Request {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Out::default();
        match self {
            Self::Hello { version } => out.hello(*version),
            Self::Probe => out.u8(2),
            Self::Load(load) => {
                out.u8(3);
                out.config(&load.config);
                out.option(load.memory_limit_bytes, Out::u64);
                let kinds: Vec<u8> = load.kinds.iter().map(|kind| kind_byte(*kind)).collect();
                out.bytes(&kinds);
                out.bytes(&load.model);
            }
            Self::SetState(state) => out.state(4, state),
            Self::Batch(batch) => {
                out.u8(5);
                out.u8(u8::try_from(batch.inputs.len()).unwrap_or(u8::MAX));
                batch.inputs.iter().for_each(|array| out.array(array));
                out.u8(u8::try_from(batch.targets.len()).unwrap_or(u8::MAX));
                batch.targets.iter().for_each(|array| out.array(array));
                out.option(batch.weights.as_deref(), Out::floats);
                out.bool(batch.flat);
            }
            Self::GetState => out.u8(7),
            Self::Bye => out.u8(8),
            Self::SetMask(mask) => {
                out.u8(11);
                out.option(mask.as_ref(), |out, mask| {
                    out.u64(mask.len() as u64);
                    out.bytes(&mask.to_bytes());
                });
            }
        }
        out.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut bytes = In::new(bytes);
        let request = match bytes.u8("a request")? {
            1 => Self::Hello { version: bytes.hello()? },
            2 => Self::Probe,
            3 => {
                let config = bytes.config()?;
                let memory_limit_bytes = bytes.option("the memory limit", |bytes| bytes.u64("the memory limit"))?;
                let kinds = bytes.bytes("the layout")?.iter().map(|&byte| param_kind(byte));
                let kinds = kinds.collect::<Result<_, _>>()?;
                let model = bytes.bytes("the model")?.to_vec();
                Self::Load(Box::new(Load {
                    config,
                    kinds,
                    memory_limit_bytes,
                    model,
                }))
            }
            4 => Self::SetState(bytes.state()?),
            5 => Self::Batch(Batch {
                inputs: bytes.list(BATCH, |bytes| bytes.array(BATCH))?,
                targets: bytes.list(BATCH, |bytes| bytes.array(BATCH))?,
                weights: bytes.option(BATCH, |bytes| bytes.floats(BATCH))?,
                flat: bytes.bool(BATCH)?,
            }),
            7 => Self::GetState,
            8 => Self::Bye,
            11 => Self::SetMask(bytes.option(MASK, |bytes| {
                let len = bytes.u64(MASK)?;
                let bits = bytes.bytes(MASK)?;
                let mask = usize::try_from(len).ok().and_then(|len| Mask::from_bytes(bits, len));
                mask.ok_or(Malformed::Unknown { what: MASK, value: len })
            })?),
            value => {
                return Err(Malformed::Unknown {
                    what: "a request",
                    value: value.into(),
                });
            }
        };
        bytes.end()?;
        Ok(request)
    }
}

impl Reply {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Out::default();
        match self {
            Self::Hello { version } => out.hello(*version),
            Self::Probe(adapter) => {
                out.u8(2);
                [&adapter.name, &adapter.api, &adapter.driver]
                    .into_iter()
                    .for_each(|text| out.text(text));
                out.u8(match adapter.kind {
                    AdapterKind::Discrete => 0,
                    AdapterKind::Integrated => 1,
                    AdapterKind::Virtual => 2,
                    AdapterKind::Software => 3,
                    AdapterKind::Other => 4,
                });
            }
            Self::Done => out.u8(9),
            Self::Progress { steps, report } => {
                out.u8(6);
                out.u64(*steps);
                out.f32(report.loss);
                out.option(report.gradient_norm, Out::f64);
            }
            Self::State(state) => out.state(7, state),
            Self::Refused(refusal) => {
                out.u8(10);
                out.u8(match refusal.kind {
                    RefusalKind::Graph => 0,
                    RefusalKind::Data => 1,
                    RefusalKind::Config => 2,
                    RefusalKind::Diverged => 3,
                    RefusalKind::Device => 4,
                    RefusalKind::Protocol => 5,
                });
                out.text(&refusal.reason);
                out.u64(refusal.step);
                out.f32(refusal.loss);
            }
        }
        out.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut bytes = In::new(bytes);
        let reply = match bytes.u8("a reply")? {
            1 => Self::Hello { version: bytes.hello()? },
            2 => Self::Probe(Adapter {
                name: printable(&bytes.text(ADAPTER)?),
                api: printable(&bytes.text(ADAPTER)?),
                driver: printable(&bytes.text(ADAPTER)?),
                kind: match bytes.u8(ADAPTER)? {
                    0 => AdapterKind::Discrete,
                    1 => AdapterKind::Integrated,
                    2 => AdapterKind::Virtual,
                    3 => AdapterKind::Software,
                    4 => AdapterKind::Other,
                    value => {
                        return Err(Malformed::Unknown {
                            what: ADAPTER,
                            value: value.into(),
                        });
                    }
                },
            }),
            9 => Self::Done,
            6 => Self::Progress {
                steps: bytes.u64("the steps")?,
                report: StepReport {
                    loss: bytes.f32("the loss")?,
                    gradient_norm: bytes.option("the norm", |bytes| bytes.f64("the norm"))?,
                },
            },
            7 => Self::State(bytes.state()?),
            10 => Self::Refused(Refusal {
                kind: match bytes.u8(REFUSAL)? {
                    0 => RefusalKind::Graph,
                    1 => RefusalKind::Data,
                    2 => RefusalKind::Config,
                    3 => RefusalKind::Diverged,
                    4 => RefusalKind::Device,
                    5 => RefusalKind::Protocol,
                    value => {
                        return Err(Malformed::Unknown {
                            what: REFUSAL,
                            value: value.into(),
                        });
                    }
                },
                reason: printable(&bytes.text(REFUSAL)?),
                step: bytes.u64(REFUSAL)?,
                loss: bytes.f32(REFUSAL)?,
            }),
            value => {
                return Err(Malformed::Unknown {
                    what: "a reply",
                    value: value.into(),
                });
            }
        };
        bytes.end()?;
        Ok(reply)
    }
}

impl Out {
    fn hello(&mut self, version: u16) {
        self.u8(1);
        self.0.extend_from_slice(&MAGIC);
        self.u16(version);
    }

    fn state(&mut self, kind: u8, state: &State) {
        self.u8(kind);
        self.u64(state.steps);
        self.floats(&state.weights);
        self.floats(&state.buffers);
        self.u8(u8::try_from(state.moments.len()).unwrap_or(u8::MAX));
        state.moments.iter().for_each(|moment| self.floats(moment));
    }
}

impl In<'_> {
    fn hello(&mut self) -> Result<u16, Malformed> {
        let magic = u64::from_le_bytes(MAGIC);
        match self.u64("the greeting")? {
            greeting if greeting == magic => self.u16("the version"),
            value => Err(Malformed::Unknown {
                what: "the greeting",
                value,
            }),
        }
    }

    fn state(&mut self) -> Result<State, Malformed> {
        Ok(State {
            steps: self.u64(STATE)?,
            weights: self.floats(STATE)?,
            buffers: self.floats(STATE)?,
            moments: self.list(STATE, |bytes| bytes.floats(STATE))?,
        })
    }
}

fn kind_byte(kind: ParamKind) -> u8 {
    match kind {
        ParamKind::Weight => 0,
        ParamKind::Buffer => 1,
        ParamKind::Frozen => 2,
    }
}

fn param_kind(byte: u8) -> Result<ParamKind, Malformed> {
    match byte {
        0 => Ok(ParamKind::Weight),
        1 => Ok(ParamKind::Buffer),
        2 => Ok(ParamKind::Frozen),
        value => Err(Malformed::Unknown {
            what: "the layout",
            value: value.into(),
        }),
    }
}
