//! Recurrent layers: LSTM, GRU and RNN as ONNX defines them.
//!
//! The inputs of all steps meet their weights in one product. The steps then run one after the other, each with a product of the hidden
//! state: unrolled ([`run`]), or while training the usual cells as one operation with its own gradient ([`fused`]). What unrolled steps
//! read of the first product is cut out by halves, since the gradient of a cut is as large as what it was cut from.

pub(crate) mod cell;
mod fused;
mod run;

use super::activation::Activation;
use super::{Kernel, scratch};
use crate::program::{Element, Host, NodeView, Output, Planned, Problem, Source, Tensor, Value, refuse};
use cell::{Cell, Functions};

/// Most steps: each is some dozen tensors while training.
const MAX_STEPS: usize = 1 << 14;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recurrent {
    pub(crate) cell: Cell,
    pub(crate) directions: Vec<Direction>,
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    pub(crate) input: usize,
    pub(crate) hidden: usize,
    /// Whether the batch comes before the steps (layout 1).
    pub(crate) batch_first: bool,
    /// Largest magnitude of what goes into an activation.
    pub(crate) clip: Option<f32>,
    /// Which of the optional operands are there, in the order of the fields.
    pub(crate) bias: bool,
    pub(crate) lengths: bool,
    pub(crate) initial_hidden: bool,
    pub(crate) initial_cell: bool,
    pub(crate) peepholes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Direction {
    pub(crate) reverse: bool,
    pub(crate) functions: Functions,
}

pub(super) fn recurrent(node: &NodeView<'_>) -> Result<Planned, Problem> {
    const KNOWN: &[&str] = &[
        "activation_alpha",
        "activation_beta",
        "activations",
        "clip",
        "direction",
        "hidden_size",
        "layout",
    ];
    let (own, cell) = match node.op() {
        "LSTM" => ("input_forget", {
            let input_forget = node.flag("input_forget");
            Cell::Lstm { input_forget }
        }),
        "GRU" => ("linear_before_reset", {
            let linear_before_reset = node.flag("linear_before_reset");
            Cell::Gru { linear_before_reset }
        }),
        _ => ("", Cell::Rnn),
    };
    node.knows(&[KNOWN, &[own]].concat())?;
    let (x, w, r) = (node.tensor(0)?, node.tensor(1)?, node.tensor(2)?);
    let batch_first = node.flag("layout");
    let reverse: &[bool] = match node.text("direction", "forward").as_str() {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => {
            return Err(refuse(
                format!("its `direction` is `{other}`"),
                "use forward, reverse or bidirectional",
            ));
        }
    };
    let [first, second, input] = x.shape[..] else {
        return Err(refuse(
            format!("its input has the shape {:?}", x.shape),
            "it takes steps, batch and features",
        ));
    };
    let (steps, batch) = if batch_first { (second, first) } else { (first, second) };
    let hidden = r.shape.last().copied().unwrap_or(0);
    if usize::try_from(node.int("hidden_size", hidden as i64)) != Ok(hidden) {
        return Err(refuse(
            format!("its `hidden_size` is {}, its weights have {hidden}", node.int("hidden_size", 0)),
            "correct the attribute",
        ));
    }
    if steps > MAX_STEPS {
        return Err(refuse(
            format!("its sequences have {steps} steps, the limit is {MAX_STEPS}"),
            "feed shorter sequences",
        ));
    }
    let (d, gates) = (reverse.len(), cell.gates());
    let width = hidden.checked_mul(2 * gates).filter(|&n| n <= 1 << 28);
    let width = width.ok_or_else(|| refuse(format!("its hidden size is {hidden}"), "make it smaller"))? / 2;
    let state = if batch_first { [batch, d, hidden] } else { [d, batch, hidden] };
    let is_lstm = matches!(cell, Cell::Lstm { .. });
    check(w, "W", &[d, width, input])?;
    check(r, "R", &[d, width, hidden])?;
    let bias = optional(node, 3, "B", &[d, 2 * width])?;
    let lengths = lengths(node, steps, batch)?;
    let initial_hidden = optional(node, 5, "initial_h", &state)?.filter(|t| !is_zero(t));
    let (initial_cell, peepholes) = if is_lstm {
        let cell = optional(node, 6, "initial_c", &state)?.filter(|t| !is_zero(t));
        (cell, optional(node, 7, "P", &[d, 3 * hidden])?)
    } else {
        (None, None)
    };
    scratch::check(&[steps, batch, width])?;
    let clip = node.float("clip").filter(|&c| c > 0.0);
    let functions = functions(node, cell, d)?;
    let kernel = Recurrent {
        cell,
        directions: reverse
            .iter()
            .zip(functions)
            .map(|(&reverse, functions)| Direction { reverse, functions })
            .collect(),
        steps,
        batch,
        input,
        hidden,
        batch_first,
        clip,
        bias: bias.is_some(),
        lengths: lengths.is_some(),
        initial_hidden: initial_hidden.is_some(),
        initial_cell: initial_cell.is_some(),
        peepholes: peepholes.is_some(),
    };
    let mut inputs: Vec<Source> = [Some(x), Some(w), Some(r), bias].into_iter().flatten().map(Source::from).collect();
    inputs.extend(lengths.map(|host| Source::Index(host.clone(), crate::program::Indexing::Axis(steps + 1))));
    inputs.extend([initial_hidden, initial_cell, peepholes].into_iter().flatten().map(Source::from));
    let all = if batch_first {
        vec![batch, steps, d, hidden]
    } else {
        vec![steps, d, batch, hidden]
    };
    let mut outputs = vec![Output::float(all), Output::float(state.to_vec())];
    if is_lstm {
        outputs.push(Output::float(state.to_vec()));
    }
    Ok(Planned::Run {
        kernel: Kernel::Recurrent(Box::new(kernel)),
        inputs,
        outputs,
    })
}

fn check(tensor: &Tensor, what: &str, shape: &[usize]) -> Result<(), Problem> {
    if tensor.shape == shape {
        return Ok(());
    }
    Err(refuse(
        format!("its {what} has the shape {:?} where {shape:?} is needed", tensor.shape),
        "correct the shapes",
    ))
}

fn optional<'a>(node: &NodeView<'a>, i: usize, what: &str, shape: &[usize]) -> Result<Option<&'a Tensor>, Problem> {
    let tensor = node.optional_tensor(i)?;
    tensor.map_or(Ok(()), |t| check(t, what, shape))?;
    Ok(tensor)
}

/// Whether it is known to hold zeros alone: exporters write initial states out.
fn is_zero(tensor: &Tensor) -> bool {
    tensor.constant.as_deref().is_some_and(|values| values.iter().all(|&v| v == 0.0))
}

/// Lengths of the sequences, unless all are known to be whole.
fn lengths<'a>(node: &NodeView<'a>, steps: usize, batch: usize) -> Result<Option<&'a Host>, Problem> {
    let host = match node.input(4) {
        None => return Ok(None),
        Some(Value::Host(host)) if host.element == Element::Int => host,
        Some(_) => {
            return Err(refuse(
                "its `sequence_lens` are not integers of the host",
                "make them integers that follow from an input",
            ));
        }
    };
    if host.shape != [batch] {
        return Err(refuse(
            format!("its `sequence_lens` have the shape {:?} for a batch of {batch}", host.shape),
            "correct the shapes",
        ));
    }
    let whole = |values: &[i64]| values.iter().all(|&len| usize::try_from(len) == Ok(steps));
    Ok(Some(host).filter(|host| !host.values.as_deref().is_some_and(whole)))
}

/// The activations of each direction.
fn functions(node: &NodeView<'_>, cell: Cell, directions: usize) -> Result<Vec<Functions>, Problem> {
    let each = cell.defaults().len();
    let names = node.text_list("activations");
    let (mut alphas, mut betas) = (
        node.float_list("activation_alpha").iter().copied(),
        node.float_list("activation_beta").iter().copied(),
    );
    if names.is_empty() {
        return Ok(vec![Functions::new(cell.defaults()); directions]);
    }
    if names.len() != each * directions {
        return Err(refuse(
            format!("it names {} activations", names.len()),
            format!("name {}", each * directions),
        ));
    }
    let named = names.iter().map(|name| function(name, &mut alphas, &mut betas));
    let all = named.collect::<Result<Vec<_>, _>>()?;
    Ok(all.chunks(each).map(Functions::new).collect())
}

/// Each function takes its numbers from the lists, in order.
fn function(name: &str, alphas: &mut impl Iterator<Item = f32>, betas: &mut impl Iterator<Item = f32>) -> Result<Activation, Problem> {
    let mut alpha = |default: f32| alphas.next().unwrap_or(default);
    let mut beta = |default: f32| betas.next().unwrap_or(default);
    Ok(match name.to_ascii_lowercase().as_str() {
        "affine" => Activation::Affine(alpha(1.0), beta(0.0)),
        "elu" => Activation::Elu {
            alpha: alpha(1.0),
            gamma: 1.0,
        },
        "hardsigmoid" => Activation::HardSigmoid(alpha(0.2), beta(0.5)),
        "leakyrelu" => Activation::LeakyRelu(alpha(0.01)),
        "relu" => Activation::Relu,
        "scaledtanh" => Activation::ScaledTanh(alpha(1.0), beta(1.0)),
        "sigmoid" => Activation::Sigmoid,
        "softplus" => Activation::Softplus,
        "softsign" => Activation::Softsign,
        "tanh" => Activation::Tanh,
        "thresholdedrelu" => Activation::ThresholdedRelu(alpha(1.0)),
        _ => {
            return Err(refuse(
                format!("its activation `{name}` is not known"),
                "use one of those that ONNX names for recurrent layers",
            ));
        }
    })
}

impl Recurrent {
    /// Whether training goes through every operation of every step, rather than through one with its own gradient.
    pub(crate) fn unrolls(&self) -> bool {
        let usual = matches!(
            self.cell,
            Cell::Lstm { input_forget: false } | Cell::Gru { linear_before_reset: true }
        );
        !usual || self.peepholes || self.clip.is_some()
    }
}
