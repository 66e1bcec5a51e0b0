//! LSTM and GRU layers whose weights are sources.

use aimass_kernels::recurrent::{self, Cell, Recurrent};

use super::super::sources::{Layout, RecurrentWeights};
use super::{Backward, Forward, Needs, Operation};

/// Inputs: x, W, R, B where there is one, then the initial states that there are. Outputs: all hidden states, the last, and the last state
/// of the cell.
#[derive(Debug)]
pub(in super::super) struct RecurrentLayer {
    pub(in super::super) layer: Recurrent,
    /// W, R and B by source.
    pub(in super::super) sources: [Option<usize>; 3],
    /// Which input holds each initial state.
    pub(in super::super) initial_hidden: Option<usize>,
    pub(in super::super) initial_cell: Option<usize>,
    /// Values of the first output, where nothing reads it.
    pub(in super::super) unread: usize,
}

impl RecurrentLayer {
    fn has_cell(&self) -> bool {
        self.layer.shape().cell == Cell::Lstm
    }
}

fn some(values: &mut [f32]) -> Option<&mut [f32]> {
    Some(values).filter(|values| !values.is_empty())
}

impl Operation for RecurrentLayer {
    fn needs(&self, threads: usize) -> Needs {
        Needs {
            kept: self.layer.kept_len(),
            scratch: self.layer.scratch_len(threads) + self.unread,
            scratch_backward: self.layer.scratch_len(threads),
            reads_inputs: vec![0, 1],
            ..Needs::default()
        }
    }

    fn layout(&self, input: usize) -> Option<Layout> {
        let part = input.checked_sub(1)?;
        self.sources.get(part)?.map(|_| {
            Layout::Recurrent(RecurrentWeights {
                layer: self.layer,
                sources: self.sources,
                part,
            })
        })
    }

    fn accumulates(&self, input: usize) -> bool {
        input > 0 && self.sources.get(input - 1).is_some_and(Option::is_some)
    }

    fn forward(&self, io: Forward<'_>) {
        let (x, weights) = (io.input(0), io.input(1));
        let (initial_hidden, initial_cell) = (self.initial_hidden.map(|i| io.input(i)), self.initial_cell.map(|i| io.input(i)));
        let [y, last_hidden, last_cell, ..] = io.outputs;
        let (scratch, unread) = io.scratch.split_at_mut(self.layer.scratch_len(io.team.threads()));
        self.layer.forward(
            io.team,
            recurrent::Forward {
                x,
                weights,
                lengths: None,
                initial_hidden,
                initial_cell,
                y: if self.unread > 0 { unread } else { y },
                last_hidden: some(last_hidden),
                last_cell: some(last_cell).filter(|_| self.has_cell()),
                kept: io.kept,
                scratch,
            },
        );
    }

    fn backward(&self, mut io: Backward<'_>) {
        let by = |i: usize| Some(io.by_output(i)).filter(|by| !by.is_empty());
        let (by_y, by_last_hidden, by_last_cell) = (by(0), by(1), by(2));
        let (x, weights) = (io.input(0), io.weights(1));
        let target = io.targets[1].take();
        let weights = weights.or(target.as_ref().map(|target| &*target.values)).unwrap_or_default();
        let by_x = io.by_inputs[0].take();
        let mut initial = |i: Option<usize>| i.and_then(|i| io.by_inputs[i].take());
        let (by_initial_hidden, by_initial_cell) = (initial(self.initial_hidden), initial(self.initial_cell));
        self.layer.backward(
            io.team,
            recurrent::Backward {
                weights,
                lengths: None,
                by_y,
                by_last_hidden,
                by_last_cell,
                kept: io.kept,
                by_x,
                by_initial_hidden,
                by_initial_cell,
                scratch: io.scratch,
            },
        );
        if let Some(target) = target {
            self.layer.update(io.team, x, io.kept, target.values, target.alpha, io.scratch);
        }
    }
}
