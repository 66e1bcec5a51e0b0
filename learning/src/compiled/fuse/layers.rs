//! Layers: convolutions, pools, batch normalisation, recurrent layers.

use aimass_kernels::Layout;
use aimass_kernels::batch_norm::BatchNorm;
use aimass_kernels::conv::{self, Conv};
use aimass_kernels::pool::{AveragePool as MeanPool, MaxPool as LargestPool, PoolShape};
use aimass_kernels::recurrent::{self, Direction, Recurrent as Layer};

use super::super::ops::batch_norm::Normalisation;
use super::super::ops::conv::Convolution;
use super::super::ops::pool::{AveragePool, MaxPool};
use super::super::ops::recurrent::RecurrentLayer;
use super::{Fuser, OUTSIDE, Proto};
use crate::ops::Kernel;
use crate::ops::activation::Activation;
use crate::ops::batch_norm::BatchNorm as BatchNormKernel;
use crate::ops::conv::Conv as ConvKernel;
use crate::ops::elementwise::Op as Arithmetic;
use crate::ops::pool::{Of, Pool};
use crate::ops::recurrent::Recurrent;
use crate::ops::recurrent::cell::Cell;
use crate::ops::window::Axis;
use crate::program::Slot;

/// Floats of an image that a convolution goes through by 32-bit places.
const MOST_OF_AN_IMAGE: usize = 1 << 31;

/// Pixels that a convolution makes of an image, each of which is noted.
const MOST_PIXELS: usize = 1 << 22;

/// Two spatial axes of a window; one of them does nothing where there is but one.
pub(super) fn two(axes: &[Axis]) -> Option<[Axis; 2]> {
    const ONE: Axis = Axis {
        kernel: 1,
        stride: 1,
        dilation: 1,
        pads: (0, 0),
        output: 1,
    };
    match *axes {
        [a] => Some([ONE, a]),
        [a, b] => Some([a, b]),
        _ => None,
    }
}

/// Height and width of an image whose last axes they are.
pub(super) fn image(shape: &[usize]) -> Option<[usize; 2]> {
    match shape[2..] {
        [width] => Some([1, width]),
        [height, width] => Some([height, width]),
        _ => None,
    }
}

fn pads([a, b]: [Axis; 2]) -> [usize; 4] {
    [a.pads.0, b.pads.0, a.pads.1, b.pads.1]
}

impl Fuser<'_> {
    pub(super) fn convolution(&mut self, i: usize, kernel: &ConvKernel) -> Option<(usize, Proto)> {
        let step = &self.program.steps[i];
        let [x, w] = [step.inputs[0].slot, step.inputs[1].slot];
        let bias = step.inputs.get(2).map(|operand| operand.slot);
        self.own_source(w)?;
        // Both train, or neither does.
        if let Some(bias) = bias {
            self.own_source(bias).filter(|_| self.tracked[bias] == self.tracked[w])?;
        }
        let axes = two(&kernel.axes)?;
        let [height, width] = image(self.shape(x))?;
        let shape = conv::Shape {
            images: self.shape(x)[0],
            channels_in: self.shape(x)[1],
            height,
            width,
            channels_out: self.shape(w)[0],
            kernel: axes.map(|a| a.kernel),
            stride: axes.map(|a| a.stride),
            dilation: axes.map(|a| a.dilation),
            pads: pads(axes),
            groups: kernel.groups,
        };
        // Of the image in its frame, and of what comes out in the frame that the gradient by the input is computed in.
        let framed = |length: usize, axis: Axis| length + axis.pads.0 + axis.pads.1 + 2 * axis.dilation * axis.kernel;
        let frame = framed(height, axes[0]).checked_mul(framed(width, axes[1]))?;
        let taps = axes[0].kernel.checked_mul(axes[1].kernel)?;
        let channels = shape.channels_in.max(shape.channels_out);
        let pixels = axes[0].output.checked_mul(axes[1].output)?;
        if frame.checked_mul(channels)?.checked_mul(taps)? >= MOST_OF_AN_IMAGE || pixels > MOST_PIXELS {
            return None;
        }
        let made = axes.map(|a| a.output);
        let mut last = i;
        let mut relu = false;
        if let Some(next) = self.relu_behind(last) {
            (last, relu) = (next, true);
        }
        let mut window = None;
        if let Some((next, pool)) = self.tiling_pool(last, made) {
            self.take(next);
            (last, window) = (next, Some(pool));
            if !relu && let Some(next) = self.relu_behind(last) {
                (last, relu) = (next, true);
            }
        }
        let op = Convolution {
            conv: Conv::new(self.isa, shape, Layout::ChannelsFirst, Layout::ChannelsFirst, relu, window),
            shape,
            bias: bias.is_some(),
            relu,
        };
        Some((last, self.proto(last, [x, w].into_iter().chain(bias), op)))
    }

    /// A max pool behind step `last` whose windows tile an image of the size `made`.
    fn tiling_pool(&self, last: usize, made: [usize; 2]) -> Option<(usize, conv::MaxPool)> {
        let (next, step) = self.next(last)?;
        let Kernel::Pool(pool) = &step.kernel else { return None };
        let [pass] = &pool.passes[..] else { return None };
        let tiles = |(axis, made): (&Axis, usize)| {
            axis.kernel == axis.stride && axis.dilation == 1 && axis.pads == (0, 0) && axis.output == made / axis.stride
        };
        let window = [pass.axes[0].kernel, pass.axes[1].kernel];
        let fits = pool.of == Of::Max && pass.view[2..] == made && pass.axes.iter().zip(made).all(tiles);
        (fits && window[0] * window[1] <= 256).then_some((next, conv::MaxPool { window }))
    }

    pub(super) fn pool(&mut self, i: usize, pool: &Pool) -> Option<(usize, Proto)> {
        let [pass] = &pool.passes[..] else { return None };
        let [images, channels, height, width] = pass.view;
        let axes = pass.axes;
        let of_output = |ceil: bool| {
            let shape = PoolShape {
                images,
                channels,
                height,
                width,
                kernel: axes.map(|a| a.kernel),
                stride: axes.map(|a| a.stride),
                dilation: axes.map(|a| a.dilation),
                pads: pads(axes),
                ceil,
            };
            (shape.check().is_ok() && shape.output() == axes.map(|a| a.output)).then_some(shape)
        };
        let shape = of_output(false).or_else(|| of_output(true))?;
        let x = self.program.steps[i].inputs[0].slot;
        let layout = Layout::ChannelsFirst;
        let proto = match pool.of {
            Of::Max => self.proto(i, [x], MaxPool(LargestPool::new(self.isa, shape, layout))),
            Of::Average { padding_counts } => {
                let pool = MeanPool::new(self.isa, shape, layout, padding_counts);
                self.proto(i, [x], AveragePool(pool))
            }
            Of::Lp { .. } => return None,
        };
        Some((i, proto))
    }

    pub(super) fn normalisation(&mut self, i: usize, kernel: BatchNormKernel) -> Option<(usize, Proto)> {
        let step = &self.program.steps[i];
        if kernel.names_statistics || step.outputs.first()?.is_none() {
            return None;
        }
        let mut inputs: Vec<Slot> = step.inputs.iter().map(|operand| operand.slot).collect();
        let x = inputs[0];
        // The gradient by stored statistics is not made here.
        if inputs[3..].iter().any(|&slot| self.tracked[slot]) {
            return None;
        }
        let shape = self.shape(x);
        let shape = [shape[0], shape[1], shape[2..].iter().product()];
        let mut last = i;
        let mut relu = false;
        let mut residual = false;
        // A second use of the layer reads the statistics that the first one moved, and those are made where a pattern ends.
        let inside = |slot: Slot| self.reads[self.roots[slot]].iter().any(|&reader| reader != OUTSIDE);
        if step.outputs[1..].iter().flatten().any(|&slot| inside(slot)) {
            // By itself.
        } else if let Some(next) = self.relu_behind(last) {
            (last, relu) = (next, true);
        } else if let Some((next, other)) = self.addition_behind(last)
            && let Some(behind) = self.relu_after(next)
        {
            self.take(next);
            self.take(behind);
            inputs.push(other);
            (last, relu, residual) = (behind, true, true);
        }
        let op = Normalisation {
            norm: BatchNorm::new(self.isa, shape, Layout::ChannelsFirst, kernel.epsilon, relu),
            channels: shape[1],
            len: shape.iter().product(),
            tracks_x: self.tracked[x],
            relu,
            residual,
            momentum: kernel.momentum,
        };
        let mut proto = self.proto(last, inputs, op);
        // The statistics are outputs of the first step.
        proto.outputs.extend(step.outputs[1..].iter().copied());
        if last == i {
            proto.outputs.clone_from(&step.outputs);
        }
        Some((last, proto))
    }

    fn relu_after(&self, last: usize) -> Option<usize> {
        let (next, step) = self.next(last)?;
        matches!(step.kernel, Kernel::Activation(Activation::Relu)).then_some(next)
    }

    /// The step behind `last` that adds something of the same shape, and what that is.
    fn addition_behind(&self, last: usize) -> Option<(usize, Slot)> {
        let (next, step) = self.next(last)?;
        let Kernel::Binary(binary) = &step.kernel else { return None };
        let made = (*self.program.steps[last].outputs.first()?)?;
        let [a, b] = [step.inputs.first()?.slot, step.inputs.get(1)?.slot];
        let other = if a == made { b } else { a };
        let same = self.shape(other) == self.shape(made) && [a, b].contains(&made) && self.program.floats[other];
        (binary.op == Arithmetic::Add && same).then_some((next, other))
    }

    pub(super) fn recurrent(&mut self, i: usize, kernel: &Recurrent) -> Option<(usize, Proto)> {
        let step = &self.program.steps[i];
        let cell = match kernel.cell {
            Cell::Lstm { input_forget: false } => recurrent::Cell::Lstm,
            Cell::Gru { linear_before_reset: true } => recurrent::Cell::Gru,
            _ => return None,
        };
        let usual = kernel.directions.iter().all(|d| d.functions.are(kernel.cell.defaults()));
        if !usual || kernel.clip.is_some() || kernel.lengths || kernel.peepholes {
            return None;
        }
        let direction = match kernel.directions[..] {
            [d] if d.reverse => Direction::Reverse,
            [_] => Direction::Forward,
            _ => Direction::Both,
        };
        let weights = &step.inputs[1..if kernel.bias { 4 } else { 3 }];
        let mut sources = [None; 3];
        for (source, operand) in sources.iter_mut().zip(weights) {
            *source = Some(self.own_source(operand.slot)?);
        }
        // All train, or none does.
        if weights
            .iter()
            .any(|operand| self.tracked[operand.slot] != self.tracked[weights[0].slot])
        {
            return None;
        }
        let y = step.outputs.first().copied().flatten();
        let states = 1 + weights.len();
        let shape = recurrent::Shape {
            cell,
            direction,
            steps: kernel.steps,
            batch: kernel.batch,
            input: kernel.input,
            hidden: kernel.hidden,
            batch_first: kernel.batch_first,
            bias: kernel.bias,
        };
        if !Layer::fits(&shape) {
            return None;
        }
        let op = RecurrentLayer {
            layer: Layer::new(self.isa, shape),
            sources,
            initial_hidden: kernel.initial_hidden.then_some(states),
            initial_cell: kernel.initial_cell.then_some(states + usize::from(kernel.initial_hidden)),
            unread: if y.is_none() {
                kernel.directions.len() * kernel.steps * kernel.batch * kernel.hidden
            } else {
                0
            },
        };
        Some((i, self.proto(i, step.inputs.iter().map(|operand| operand.slot), op)))
    }
}
