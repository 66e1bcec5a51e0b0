//! Values that move, and sums of them: permutations, broadcasts, parts, joins, picks, sums over axes.

use aimass_kernels::permute::{self, Place};
use aimass_kernels::{Isa, Team};

use super::{Backward, Forward, Needs, Operation, in_parts};

/// Another order of axes.
#[derive(Debug)]
pub(in super::super) struct Permute {
    pub(in super::super) shape: Vec<usize>,
    pub(in super::super) axes: Vec<usize>,
}

impl Permute {
    /// In parts along the first axis where it stays the first.
    fn run(&self, team: &Team, isa: Isa, x: &[f32], shape: &[usize], axes: &[usize], y: &mut [f32]) {
        let length = shape.first().copied().unwrap_or(0);
        if axes.first() != Some(&0) || length == 0 {
            return permute::permute(isa, x, shape, axes, y);
        }
        let rest = y.len() / length;
        in_parts(team, y, rest, |at, y| {
            let mut part = shape.to_vec();
            part[0] = y.len() / rest.max(1);
            permute::permute(isa, &x[at..at + y.len()], &part, axes, y);
        });
    }
}

impl Operation for Permute {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::default()
    }

    fn forward(&self, io: Forward<'_>) {
        let x = io.input(0);
        let [y, ..] = io.outputs;
        self.run(io.team, io.isa, x, &self.shape, &self.axes, y);
    }

    fn backward(&self, mut io: Backward<'_>) {
        let dy = io.by_output(0);
        let mut back = vec![0; self.axes.len()];
        for (i, &axis) in self.axes.iter().enumerate() {
            back[axis] = i;
        }
        let turned: Vec<usize> = self.axes.iter().map(|&axis| self.shape[axis]).collect();
        if let Some(dx) = io.by_inputs[0].take() {
            self.run(io.team, io.isa, dy, &turned, &back, dx);
        }
    }
}

/// `y = scale * x`, broadcast; or where `sums`, the other way: `y` is the sum over what would be broadcast.
#[derive(Debug)]
pub(in super::super) struct Spread {
    pub(in super::super) scale: f32,
    /// Of one rank, the first of 1 where they differ.
    pub(in super::super) narrow: Vec<usize>,
    pub(in super::super) wide: Vec<usize>,
    pub(in super::super) sums: bool,
}

impl Operation for Spread {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::default()
    }

    fn forward(&self, io: Forward<'_>) {
        let x = io.input(0);
        let [y, ..] = io.outputs;
        if self.sums {
            y.fill(0.0);
            permute::sum_to(io.isa, self.scale, x, &self.wide, y, &self.narrow);
        } else {
            permute::expand(io.isa, self.scale, x, &self.narrow, y, &self.wide);
        }
    }

    fn backward(&self, mut io: Backward<'_>) {
        let dy = io.by_output(0);
        let Some(dx) = io.by_inputs[0].take() else { return };
        if self.sums {
            permute::expand(io.isa, self.scale, dy, &self.narrow, dx, &self.wide);
        } else {
            dx.fill(0.0);
            permute::sum_to(io.isa, self.scale, dy, &self.wide, dx, &self.narrow);
        }
    }
}

/// Parts of a tensor, each an output; or where `joins`, the other way: each input becomes a part.
#[derive(Debug)]
pub(in super::super) struct Parts {
    pub(in super::super) whole: Vec<usize>,
    /// Start and shape of each.
    pub(in super::super) parts: Vec<(Vec<usize>, Vec<usize>)>,
    pub(in super::super) joins: bool,
}

impl Parts {
    fn place(&self, start: &[usize]) -> Place {
        Place::part(&self.whole, start, &vec![1; start.len()])
    }
}

impl Operation for Parts {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::default()
    }

    fn forward(&self, io: Forward<'_>) {
        if self.joins {
            let inputs: Vec<&[f32]> = (0..self.parts.len()).map(|i| io.input(i)).collect();
            let [y, ..] = io.outputs;
            for ((start, shape), x) in self.parts.iter().zip(inputs) {
                permute::copy(io.isa, shape, x, &Place::whole(shape), y, &self.place(start));
            }
            return;
        }
        let x = io.input(0);
        for ((start, shape), y) in self.parts.iter().zip(io.outputs) {
            if !y.is_empty() {
                permute::copy(io.isa, shape, x, &self.place(start), y, &Place::whole(shape));
            }
        }
    }

    fn backward(&self, mut io: Backward<'_>) {
        if self.joins {
            let dy = io.by_output(0);
            for ((start, shape), dx) in self.parts.iter().zip(io.by_inputs) {
                if let Some(dx) = dx {
                    permute::copy(io.isa, shape, dy, &self.place(start), dx, &Place::whole(shape));
                }
            }
            return;
        }
        let Some(dx) = io.by_inputs[0].take() else { return };
        dx.fill(0.0);
        for (i, (start, shape)) in self.parts.iter().enumerate() {
            let dy = io.by_output(i);
            if !dy.is_empty() {
                permute::copy(io.isa, shape, dy, &Place::whole(shape), dx, &self.place(start));
            }
        }
    }
}

/// Slices along an axis by indices, which were checked: `[before, length, after]` to `[before, picks, after]`.
#[derive(Debug)]
pub(in super::super) struct Gather {
    pub(in super::super) before: usize,
    pub(in super::super) length: usize,
    pub(in super::super) after: usize,
}

impl Operation for Gather {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::default()
    }

    fn accumulates(&self, input: usize) -> bool {
        input == 0
    }

    fn forward(&self, io: Forward<'_>) {
        let (x, indices) = (io.input(0), io.ints(1));
        let [y, ..] = io.outputs;
        let (n, after) = (indices.len(), self.after);
        for (x, y) in x.chunks_exact(self.length * after).zip(y.chunks_exact_mut(n * after)) {
            for (y, &index) in y.chunks_exact_mut(after).zip(indices) {
                y.copy_from_slice(&x[index as usize * after..][..after]);
            }
        }
    }

    fn backward(&self, mut io: Backward<'_>) {
        let (dy, indices) = (io.by_output(0), io.ints(1));
        let (dx, alpha) = match (io.by_inputs[0].take(), io.targets[0].take()) {
            (Some(dx), _) => {
                dx.fill(0.0);
                (dx, 1.0)
            }
            (None, Some(target)) => (target.values, target.alpha),
            (None, None) => return,
        };
        let (n, after) = (indices.len(), self.after);
        debug_assert_eq!(dy.len(), self.before * n * after);
        for (dx, dy) in dx.chunks_exact_mut(self.length * after).zip(dy.chunks_exact(n * after)) {
            for (dy, &index) in dy.chunks_exact(after).zip(indices) {
                for (x, y) in dx[index as usize * after..][..after].iter_mut().zip(dy) {
                    *x += alpha * y;
                }
            }
        }
    }
}
