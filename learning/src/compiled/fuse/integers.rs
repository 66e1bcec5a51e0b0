//! Layers between a QuantizeLinear and a DequantizeLinear, computed on integers, where a plan runs forward alone.
//!
//! `x -> Quantize -> [Dequantize -> layer -> Relu -> Quantize]... -> Dequantize` becomes one operation. A result is what onnxruntime's own fusion of the
//! pattern gives, to the last bit: sums are exact, and rescaled by `scale of x * scale of the weights / scale of what comes out` in float32. Between layers
//! only bytes are kept. The pattern ends where something else reads a value, or where there is no kernel for a step; what comes then is another operation's.

use std::sync::Arc;

use aimass_kernels::quantized::{Frame, Runs, Weights};

use super::super::ops::integers::{Image, IntegerChain, Layer, Meaning, Rows};
use super::layers::{image, two};
use super::{Fuser, OUTSIDE, Proto};
use crate::ops::Kernel;
use crate::ops::activation::Activation;
use crate::ops::conv::Conv;
use crate::ops::elementwise::Op as Arithmetic;
use crate::ops::pool::{Of, Pool};
use crate::program::{Dequantized, Slot, Step};

/// Most bytes of an image with its frame.
const MOST_BYTES: usize = 1 << 28;

/// A QuantizeLinear to 8 bits with one scale: int8 is held as bytes that are 128 more.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scale {
    scale: f32,
    /// As the graph has it.
    zero: f32,
    least: f32,
}

impl Scale {
    fn byte(self) -> u8 {
        (self.zero - self.least) as u8
    }

    fn meaning(self) -> Meaning {
        Meaning {
            scale: self.scale,
            zero: self.byte(),
        }
    }
}

/// A pattern as far as it is known.
struct Draft {
    /// Steps that it stands for; the last one makes its output.
    steps: Vec<usize>,
    now: Scale,
    frames: Vec<(Frame, u8)>,
    images: Vec<Image>,
    rows: Vec<(Rows, usize)>,
    /// Whether the values are rows now, of images with their channels last.
    flat: bool,
    layers: usize,
    /// Whether floats come out of the last layer.
    done: bool,
}

impl Draft {
    fn frame(&self) -> Frame {
        self.frames[self.frames.len() - 1].0
    }

    /// Gives the last image a frame for windows that are read from it.
    fn pad(&mut self, before: [usize; 2], reach: [usize; 2], fill: u8) {
        if let Some((frame, filled)) = self.frames.last_mut() {
            frame.before = before;
            frame.behind = std::array::from_fn(|i| reach[i].saturating_sub(before[i] + frame.size[i]));
            *filled = fill;
        }
    }
}

impl Fuser<'_> {
    /// The operation that begins with the QuantizeLinear `i`, and the last step that it stands for.
    pub(super) fn integer_chain(&mut self, i: usize) -> Option<(usize, Proto)> {
        if !self.forward_alone || !matches!(self.program.steps[i].kernel, Kernel::Quantize(_)) {
            return None;
        }
        let x = self.program.steps[i].inputs.first()?.slot;
        let mut draft = Draft {
            steps: vec![i],
            now: self.scale_of(i)?,
            frames: Vec::new(),
            images: Vec::new(),
            rows: Vec::new(),
            flat: true,
            layers: 0,
            done: false,
        };
        let enter = draft.now.meaning();
        let (mut best, mut last) = (None, i);
        let mut n = 0;
        loop {
            let (back, step) = self.next(last)?;
            if !matches!(step.kernel, Kernel::Dequantize) || self.parameters(step)? != (draft.now.scale, draft.now.zero) {
                return None;
            }
            draft.steps.push(back);
            if draft.frames.is_empty() {
                n = self.enter(back, x, &mut draft)?;
            }
            if draft.layers > 0 {
                best = Some(back);
            }
            match self.further(back, &mut draft) {
                Some(quantized) => last = quantized,
                None => break,
            }
            if draft.done {
                best = Some(last);
                break;
            }
        }
        let end = best?;
        for &step in &draft.steps {
            self.take(step);
        }
        let chain = IntegerChain {
            isa: self.isa,
            n,
            enter,
            frames: draft.frames,
            images: draft.images,
            rows: draft.rows,
            exit: (!draft.done).then(|| draft.now.meaning()),
        };
        Some((end, self.proto(end, [x], chain)))
    }

    /// The first frame, by what reads the values of step `back` first; how many images or rows there are.
    fn enter(&self, back: usize, x: Slot, draft: &mut Draft) -> Option<usize> {
        let (_, step) = self.next(back)?;
        let shape = self.shape(x);
        let elements: usize = shape.iter().product();
        if matches!(step.kernel, Kernel::Conv(_) | Kernel::Pool(_)) {
            let as_read = self.shape(step.inputs.first()?.slot);
            let frame = Frame::bare(*as_read.get(1)?, image(as_read)?);
            draft.flat = false;
            draft.frames.push((frame, 0));
            return (as_read == shape && frame.len() < MOST_BYTES).then(|| as_read[0]);
        }
        let inner = *self.shape(step.inputs.first()?.slot).last()?;
        draft.frames.push((Frame::bare(1, [1, inner]), 0));
        (inner > 0 && elements.is_multiple_of(inner)).then(|| elements / inner)
    }

    /// Takes the steps behind the DequantizeLinear `back` into the draft, to the next QuantizeLinear, or to the end.
    fn further(&self, back: usize, draft: &mut Draft) -> Option<usize> {
        let (reader, step) = self.next(back)?;
        match &step.kernel {
            Kernel::Quantize(_) => self.requantized(back, reader, false, draft),
            Kernel::Activation(Activation::Relu) => {
                let (quantized, _) = self.next(reader)?;
                let made = self.requantized(back, quantized, true, draft)?;
                draft.steps.insert(draft.steps.len() - 1, reader);
                Some(made)
            }
            Kernel::Pool(pool) => self.integer_pool(reader, pool, draft),
            Kernel::Conv(conv) => self.integer_convolution(reader, conv, draft),
            Kernel::Gemm(_) | Kernel::MatMul(_) => self.integer_dense(reader, draft),
            _ => None,
        }
    }

    /// Other scales for the same values: a table, or nothing.
    fn requantized(&self, back: usize, quantized: usize, relu: bool, draft: &mut Draft) -> Option<usize> {
        let next = self.scale_of(quantized)?;
        let before = draft.now;
        let made = self.shape((*self.program.steps[back].outputs.first()?)?);
        let read = self.shape(self.program.steps[quantized].inputs.first()?.slot);
        let flattened = !draft.flat && made != read;
        let fits = made.first() == read.first() && read.len() == 2;
        if flattened && !fits || draft.flat && made != read {
            return None;
        }
        if next != before || relu {
            let mut table = Box::new([0u8; 256]);
            for (i, entry) in table.iter_mut().enumerate() {
                let value = (i as f32 - f32::from(before.byte())) * before.scale;
                let value = if relu { value.max(0.0) } else { value };
                let zero = f32::from(next.byte());
                *entry = ((value / next.scale).max(-zero).min(255.0 - zero).round_ties_even() + zero) as u8;
            }
            match draft.rows.last() {
                Some(&(_, n)) => draft.rows.push((Rows::Map(table), n)),
                None => {
                    let frame = draft.frame();
                    draft.images.push(Image::Map(table));
                    draft.frames.push((Frame::bare(frame.channels, frame.size), 0));
                }
            }
        }
        draft.flat |= flattened;
        draft.now = next;
        draft.steps.push(quantized);
        Some(quantized)
    }

    /// The largest of integers stands for the largest of what they stand for, where their scale stays.
    fn integer_pool(&self, at: usize, pool: &Pool, draft: &mut Draft) -> Option<usize> {
        let ([pass], false) = (&pool.passes[..], draft.flat) else {
            return None;
        };
        let (quantized, _) = self.next(at)?;
        let frame = draft.frame();
        let same = pass.view[1..] == [frame.channels, frame.size[0], frame.size[1]];
        if pool.of != Of::Max || !same || self.scale_of(quantized)? != draft.now || !self.is_direct(at, quantized) {
            return None;
        }
        let axes = pass.axes;
        draft.pad(
            axes.map(|a| a.pads.0),
            axes.map(|a| (a.output - 1) * a.stride + (a.kernel - 1) * a.dilation + 1),
            0,
        );
        draft.images.push(Image::MaxPool {
            window: axes.map(|a| a.kernel),
            stride: axes.map(|a| a.stride),
            dilation: axes.map(|a| a.dilation),
        });
        draft.frames.push((Frame::bare(frame.channels, axes.map(|a| a.output)), 0));
        draft.steps.extend([at, quantized]);
        Some(quantized)
    }

    fn integer_convolution(&self, at: usize, conv: &Conv, draft: &mut Draft) -> Option<usize> {
        let step = &self.program.steps[at];
        let (w, weights) = self.integers(step, 1)?;
        let axes = two(&conv.axes)?;
        let frame = draft.frame();
        let shape = self.shape(w);
        // What lies in between may have given the image another shape.
        let read = self.shape(step.inputs[0].slot);
        if draft.flat
            || conv.groups != 1
            || shape[1] != frame.channels
            || read.get(1) != Some(&frame.channels)
            || image(read) != Some(frame.size)
        {
            return None;
        }
        let (steps, relu, quantized) = self.behind(at)?;
        let quantized = quantized?;
        let next = self.scale_of(quantized)?;
        let mut padded = Draft {
            frames: vec![(frame, 0)],
            steps: Vec::new(),
            images: Vec::new(),
            rows: Vec::new(),
            ..*draft
        };
        let (kernel, dilation) = (axes.map(|a| a.kernel), axes.map(|a| a.dilation));
        padded.pad(
            axes.map(|a| a.pads.0),
            axes.map(|a| (a.output - 1) * a.stride + (a.kernel - 1) * a.dilation + 1),
            draft.now.byte(),
        );
        let (padded, fill) = padded.frames[0];
        let out = Frame::bare(shape[0], axes.map(|a| a.output));
        if padded.len().max(out.len()) >= MOST_BYTES {
            return None;
        }
        let runs = Runs::window(kernel, dilation, frame.channels, padded.row());
        let (channels, taps) = (frame.channels, kernel[0] * kernel[1]);
        // The file has a tap's channels apart.
        let packed = weights.packed(self.isa, &runs, shape[0], vec![channels, taps], |output, i| {
            (output * channels + i % channels) * taps + i / channels
        })?;
        let layer = self.layer(
            step.inputs.get(2).map(|o| o.slot),
            weights,
            0,
            (packed, runs),
            draft.now,
            (relu, Some(next)),
        )?;
        let last = draft.frames.len() - 1;
        draft.frames[last] = (padded, fill);
        draft.images.push(Image::Convolution {
            layer,
            stride: axes.map(|a| a.stride),
        });
        draft.frames.push((out, 0));
        draft.steps.push(at);
        draft.steps.extend(steps);
        draft.now = next;
        draft.layers += 1;
        Some(quantized)
    }

    fn integer_dense(&self, at: usize, draft: &mut Draft) -> Option<usize> {
        let step = &self.program.steps[at];
        let (w, weights) = self.integers(step, 1)?;
        let &[a, b] = self.shape(w) else { return None };
        let (transposed, inputs, outputs, mut bias) = match &step.kernel {
            Kernel::Gemm(gemm) => {
                let plain = gemm.alpha == 1.0 && gemm.beta == 1.0 && !gemm.trans_a;
                let (inputs, outputs) = if gemm.trans_b { (b, a) } else { (a, b) };
                plain.then_some((gemm.trans_b, inputs, outputs, step.inputs.get(2).map(|o| o.slot)))?
            }
            Kernel::MatMul(matmul) if matmul.shared => (false, a, b, None),
            _ => return None,
        };
        let frame = draft.frame();
        let width = draft.rows.last().map_or(frame.len(), |(_, n)| *n);
        let read = self.shape(step.inputs.first()?.slot);
        if width != inputs || read.last() != Some(&inputs) || !draft.flat {
            return None;
        }
        let mut last = at;
        let mut steps = vec![at];
        if bias.is_none()
            && let Some((next, slot)) = self.addend(at, outputs)
        {
            (last, bias) = (next, Some(slot));
            steps.push(next);
        }
        let (behind, relu, quantized) = self.behind(last)?;
        let next = match quantized {
            Some(quantized) => Some(self.scale_of(quantized)?),
            None => None,
        };
        let runs = Runs::one(inputs);
        // Rows that were images have their channels last; the file has them first.
        let (channels, pixels) = if draft.rows.is_empty() {
            (frame.channels, frame.size[0] * frame.size[1])
        } else {
            (1, inputs)
        };
        let order = vec![usize::from(transposed), channels, pixels];
        let packed = weights.packed(self.isa, &runs, outputs, order, |output, i| {
            let input = i % channels * pixels + i / channels;
            if transposed {
                output * inputs + input
            } else {
                input * outputs + output
            }
        })?;
        let axis = usize::from(!transposed);
        let layer = self.layer(bias, weights, axis, (packed, runs), draft.now, (relu, next))?;
        draft.rows.push((Rows::Dense(layer), outputs));
        draft.steps.extend(steps);
        draft.steps.extend(&behind);
        draft.layers += 1;
        match next {
            Some(next) => draft.now = next,
            None => draft.done = true,
        }
        quantized.or_else(|| behind.last().copied()).or(Some(last))
    }

    /// The steps behind a layer that go into it: a ReLU, a QuantizeLinear to 8 bits; whether there is a ReLU, and the QuantizeLinear.
    fn behind(&self, last: usize) -> Option<(Vec<usize>, bool, Option<usize>)> {
        let (mut steps, mut at, mut relu) = (Vec::new(), last, false);
        if let Some((next, step)) = self.next(at)
            && matches!(step.kernel, Kernel::Activation(Activation::Relu))
        {
            (at, relu) = (next, true);
            steps.push(next);
        }
        let quantized = self
            .next(at)
            .filter(|(next, _)| self.scale_of(*next).is_some() && self.is_direct(at, *next));
        steps.extend(quantized.map(|(next, _)| next));
        Some((steps, relu, quantized.map(|(next, _)| next)))
    }

    /// A layer's weights, scales and bias, for sums that no 32 bits are too few for.
    fn layer(
        &self,
        bias: Option<Slot>,
        weights: &Dequantized,
        axis: usize,
        (packed, runs): (Arc<Weights>, Runs),
        now: Scale,
        (relu, next): (bool, Option<Scale>),
    ) -> Option<Layer> {
        let outputs = packed.outputs();
        let products: Vec<f32> = weights.scales_along(axis)?.iter().map(|scale| now.scale * scale).collect();
        let out = next.map_or(1.0, |next| next.scale);
        let scale: Vec<f32> = products.iter().map(|product| product / out).collect();
        let (mut whole, mut add) = (vec![0; outputs], vec![0.0; outputs]);
        if let Some(slot) = bias {
            let source = &self.graph.sources[self.source(slot)?];
            // Behind a bias of one value for all there is no integer an output.
            let of_sums = source
                .integers
                .as_ref()
                .filter(|bias| bias.scales_along(bias.axes() - 1).as_ref() == Some(&products));
            match of_sums {
                Some(bias) => whole = bias.words(),
                None => add = source.floats().iter().map(|v| v / out).collect(),
            }
            if whole.len() != outputs || add.len() != outputs || self.shape(slot).last() != Some(&outputs) {
                return None;
            }
        }
        if scale.iter().chain(&add).any(|v| !v.is_finite()) {
            return None;
        }
        Some(Layer {
            rescale: packed.rescale(now.byte(), &whole, &scale, &add)?,
            weights: packed,
            runs,
            bytes: next.map(|next| (next.byte(), if relu { next.byte() } else { 0 })),
            relu,
        })
    }

    /// The integers behind an operand that is a constant source.
    fn integers(&self, step: &Step, operand: usize) -> Option<(Slot, &Dequantized)> {
        let slot = step.inputs.get(operand)?.slot;
        // A view of it would be read otherwise.
        let own = self.roots[slot] == slot;
        let source = &self.graph.sources[self.source(slot).filter(|_| own)?];
        Some((slot, source.integers.as_deref().filter(|integers| integers.bytes().is_some())?))
    }

    /// A constant of `n` values that the one step behind `last` adds.
    fn addend(&self, last: usize, n: usize) -> Option<(usize, Slot)> {
        let (next, step) = self.next(last)?;
        let Kernel::Binary(binary) = &step.kernel else { return None };
        let made = self.roots[(*self.program.steps[last].outputs.first()?)?];
        let [a, b] = [step.inputs.first()?.slot, step.inputs.get(1)?.slot];
        let bias = if self.roots[a] == made { b } else { a };
        let along_last = self.shape(bias).last() == Some(&n) && self.shape(bias).iter().product::<usize>() == n;
        let same = self.shape((*step.outputs.first()?)?) == self.shape((*self.program.steps[last].outputs.first()?)?);
        (binary.op == Arithmetic::Add && along_last && same && self.source(bias).is_some()).then_some((next, bias))
    }

    /// Whether `reader` reads what `step` makes as it is, not another view of it.
    fn is_direct(&self, step: usize, reader: usize) -> bool {
        let made = self.program.steps[step].outputs.first().copied().flatten();
        self.program.steps[reader].inputs.first().map(|operand| operand.slot) == made
    }

    /// Scale and zero point of a step, where there is one of each.
    fn parameters(&self, step: &Step) -> Option<(f32, f32)> {
        match (self.floats_of(step, 1)?.1, self.floats_of(step, 2)?.1) {
            (&[scale], &[zero]) => Some((scale, zero)),
            _ => None,
        }
    }

    /// Of a QuantizeLinear to 8 bits, whose integers one step reads.
    fn scale_of(&self, quantized: usize) -> Option<Scale> {
        let step = &self.program.steps[quantized];
        let Kernel::Quantize(quantize) = step.kernel else { return None };
        let (scale, zero) = self.parameters(step)?;
        let slot = (*step.outputs.first()?)?;
        let read_once = self.reads[self.roots[slot]].len() == 1 && self.reads[self.roots[slot]][0] != OUTSIDE;
        (quantize.most - quantize.least == 255.0 && read_once).then_some(Scale {
            scale,
            zero,
            least: quantize.least,
        })
    }
}
