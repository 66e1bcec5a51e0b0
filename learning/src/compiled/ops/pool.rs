//! Pools.

use aimass_kernels::Team;
use aimass_kernels::pool::{self, PoolShape};
use aimass_kernels::team::{cut, ranges};

use super::{Backward, Forward, Needs, Operation};

/// A pool for the images of each part, with where these begin in the input, and how many values they have there and in the output.
fn images<P>(team: &Team, shape: PoolShape, of_images: impl Fn(usize) -> P) -> Vec<(P, (usize, usize, usize))> {
    let input = shape.channels * shape.height * shape.width;
    let output = shape.channels * shape.output().iter().product::<usize>();
    let values = shape.images * input.max(output);
    let parts = ranges(shape.images, team.parts_of_values(values, shape.images), 1);
    parts
        .map(|range| {
            (
                of_images(range.len()),
                (range.start * input, range.len() * input, range.len() * output),
            )
        })
        .collect()
}

/// The maximum of each window.
#[derive(Debug)]
pub(in super::super) struct MaxPool(pub(in super::super) pool::MaxPool);

impl Operation for MaxPool {
    fn needs(&self, _threads: usize) -> Needs {
        Needs {
            kept_bytes: self.0.kept_len_bytes(),
            ..Needs::default()
        }
    }

    fn forward(&self, io: Forward<'_>) {
        let x = io.input(0);
        let [y, ..] = io.outputs;
        let (mut y, mut kept, mut parts) = (y, io.kept_bytes, Vec::new());
        for (pool, (from, len, out)) in images(io.team, *self.0.shape(), |n| self.0.of_images(n)) {
            let picks = pool.kept_len_bytes();
            parts.push((pool, &x[from..from + len], cut(&mut y, out), cut(&mut kept, picks)));
        }
        io.team.each(parts, |(pool, x, y, kept)| pool.forward(x, y, kept));
    }

    fn backward(&self, mut io: Backward<'_>) {
        let dy = io.by_output(0);
        if let Some(dx) = io.by_inputs[0].take() {
            let (mut dx, mut dy, mut kept, mut parts) = (dx, dy, io.kept_bytes, Vec::new());
            for (pool, (_, len, out)) in images(io.team, *self.0.shape(), |n| self.0.of_images(n)) {
                let (by, rest) = dy.split_at(out);
                let (picks, others) = kept.split_at(pool.kept_len_bytes());
                (dy, kept) = (rest, others);
                parts.push((pool, by, picks, cut(&mut dx, len)));
            }
            io.team.each(parts, |(pool, dy, kept, dx)| pool.backward(dy, kept, dx));
        }
    }
}

/// The mean of each window.
#[derive(Debug)]
pub(in super::super) struct AveragePool(pub(in super::super) pool::AveragePool);

impl Operation for AveragePool {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::default()
    }

    fn forward(&self, io: Forward<'_>) {
        let x = io.input(0);
        let [y, ..] = io.outputs;
        let (mut y, mut parts) = (y, Vec::new());
        for (pool, (from, len, out)) in images(io.team, *self.0.shape(), |n| self.0.of_images(n)) {
            parts.push((pool, &x[from..from + len], cut(&mut y, out)));
        }
        io.team.each(parts, |(pool, x, y)| pool.forward(x, y));
    }

    fn backward(&self, mut io: Backward<'_>) {
        let dy = io.by_output(0);
        if let Some(dx) = io.by_inputs[0].take() {
            let (mut dx, mut dy, mut parts) = (dx, dy, Vec::new());
            for (pool, (_, len, out)) in images(io.team, *self.0.shape(), |n| self.0.of_images(n)) {
                let (by, rest) = dy.split_at(out);
                dy = rest;
                parts.push((pool, by, cut(&mut dx, len)));
            }
            io.team.each(parts, |(pool, dy, dx)| pool.backward(dy, dx));
        }
    }
}
