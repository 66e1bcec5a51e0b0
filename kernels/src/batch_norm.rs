//! Batch normalisation over channels.

mod channels;

use std::ops::Range;

use crate::Team;
use crate::isa::{Isa, Kernel, dispatch};
use crate::layout::Layout;
use crate::stretch::{first, put, take};
use crate::team::{Apart, ranges};
use crate::vector::Vector;
use channels::{Channels, Sums, Work};

/// Batch normalisation of `[images, channels, positions]`, and the ReLU behind it where there is one.
///
/// # Source
/// Ioffe and Szegedy 2015, Batch Normalization (ICML), algorithms 1 and 2.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm {
    isa: Isa,
    shape: [usize; 3],
    layout: Layout,
    epsilon: f32,
    relu: bool,
}

/// What is learned of each channel.
#[derive(Debug, Clone, Copy)]
pub struct ScaleAndBias<'a> {
    /// `[channels]`
    pub scale: &'a [f32],
    /// `[channels]`
    pub bias: &'a [f32],
}

/// Where gradients go.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// By the input; overwritten.
    pub x: &'a mut [f32],
    /// By what was added before the ReLU, where something was; overwritten. Without a ReLU that is the gradient by the output itself.
    pub residual: Option<&'a mut [f32]>,
    /// What the gradients by scale and bias are multiplied by before they are added to their targets.
    pub alpha: f32,
    /// `[channels]`
    pub scale: &'a mut [f32],
    /// `[channels]`
    pub bias: &'a mut [f32],
}

impl BatchNorm {
    /// For inputs of `[images, channels, positions]`, or of the other layout's order.
    pub fn new(isa: Isa, shape: [usize; 3], layout: Layout, epsilon: f32, relu: bool) -> Self {
        crate::elements(&shape);
        Self {
            isa,
            shape,
            layout,
            epsilon,
            relu,
        }
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    fn count(&self) -> f64 {
        (self.shape[0] * self.shape[2]) as f64
    }

    /// Floats that the forward pass keeps for the backward pass.
    pub fn kept_len(&self) -> usize {
        4 * self.shape[1]
    }

    /// Floats of scratch that the backward pass needs.
    pub fn scratch_len(&self) -> usize {
        2 * self.shape[1]
    }

    /// Normalises by the statistics of the batch: `y = relu(scale * (x - mean) / sqrt(variance + epsilon) + bias + residual)`.
    /// [`Self::move_statistics`] tells of them afterwards.
    ///
    /// # Panics
    /// On slices of other lengths; so do all functions here.
    pub fn forward(&self, team: &Team, x: &[f32], learned: ScaleAndBias<'_>, residual: Option<&[f32]>, y: &mut [f32], kept: &mut [f32]) {
        self.check(x, learned, residual, y, kept);
        self.normalise(team, x, learned, residual, y, kept, true);
    }

    /// Normalises by stored statistics, `[channels]` each.
    pub fn forward_stored(
        &self,
        team: &Team,
        x: &[f32],
        learned: ScaleAndBias<'_>,
        [mean, variance]: [&[f32]; 2],
        residual: Option<&[f32]>,
        y: &mut [f32],
        kept: &mut [f32],
    ) {
        self.check(x, learned, residual, y, kept);
        let channels = self.shape[1];
        kept[..channels].copy_from_slice(mean);
        assert_eq!(variance.len(), channels, "there is no variance for each channel");
        for channel in 0..channels {
            let derived = self.derived(learned.scale[channel], f64::from(variance[channel]));
            for (part, value) in derived.into_iter().enumerate() {
                kept[(1 + part) * channels + channel] = value;
            }
        }
        self.normalise(team, x, learned, residual, y, kept, false);
    }

    fn check(&self, x: &[f32], learned: ScaleAndBias<'_>, residual: Option<&[f32]>, y: &[f32], kept: &[f32]) {
        let (len, channels) = (self.len(), self.shape[1]);
        assert!(
            x.len() == len && y.len() == len,
            "input or output has another length than the shape"
        );
        assert!(
            residual.is_none_or(|r| r.len() == len),
            "the residual has another length than the shape"
        );
        assert!(
            learned.scale.len() == channels && learned.bias.len() == channels,
            "there is no scale and bias for each channel"
        );
        assert_eq!(kept.len(), self.kept_len(), "what is kept has another length");
    }

    /// Channels in parts; in one where they come last.
    fn parts(&self, team: &Team) -> impl Iterator<Item = Range<usize>> + use<> {
        let most = match self.layout {
            Layout::ChannelsFirst => self.shape[1],
            Layout::ChannelsLast => 1,
        };
        ranges(self.shape[1], team.parts_of_values(self.len(), most), 1)
    }

    /// All lengths were checked.
    fn normalise(
        &self,
        team: &Team,
        x: &[f32],
        learned: ScaleAndBias<'_>,
        residual: Option<&[f32]>,
        y: &mut [f32],
        kept: &mut [f32],
        of_batch: bool,
    ) {
        let normalise = Normalise {
            x: x.as_ptr(),
            residual: residual.map_or(std::ptr::null(), <[f32]>::as_ptr),
            y: y.as_mut_ptr(),
            relu: self.relu,
        };
        // SAFETY: parts write to channels of their own.
        let shared = unsafe { Apart::new((normalise, kept.as_mut_ptr())) };
        team.each(self.parts(team), |some| {
            let (normalise, kept) = shared.get();
            let forward = Forward {
                norm: self,
                some,
                learned,
                kept,
                normalise,
                of_batch,
            };
            // SAFETY: all lengths were checked.
            unsafe { dispatch(self.isa, forward) };
        });
    }

    /// What follows from the variance of a channel and is kept behind its mean: the inverse deviation, the variance, the factor of the
    /// input.
    #[inline(always)]
    fn derived(&self, scale: f32, variance: f64) -> [f32; 3] {
        let inverse = 1.0 / (variance + f64::from(self.epsilon)).sqrt();
        [inverse as f32, variance as f32, (f64::from(scale) * inverse) as f32]
    }

    /// Moves stored statistics towards those of the batch, of which `momentum` stays; the variance is the unbiased one, as PyTorch
    /// stores it.
    pub fn move_statistics(&self, momentum: f32, kept: &[f32], mean: &mut [f32], variance: &mut [f32]) {
        let channels = self.shape[1];
        assert_eq!(kept.len(), self.kept_len(), "what is kept has another length");
        let unbiased = (self.count() / (self.count() - 1.0)) as f32;
        let moves = |old: &mut [f32], new: &[f32], scale: f32| {
            for (old, new) in old.iter_mut().zip(new) {
                *old = *old * momentum + new * ((1.0 - momentum) * scale);
            }
        };
        moves(mean, &kept[..channels], 1.0);
        moves(variance, &kept[2 * channels..3 * channels], unbiased);
    }

    /// All gradients, for [`Self::forward`]. `y` is what it gave; read only where there is a ReLU.
    pub fn backward(&self, team: &Team, x: &[f32], y: &[f32], dy: &[f32], kept: &[f32], to: Gradients<'_>, scratch: &mut [f32]) {
        self.run_backward(team, x, y, dy, kept, to, scratch, true);
    }

    /// All gradients, for [`Self::forward_stored`]: the statistics are constants.
    pub fn backward_stored(&self, team: &Team, x: &[f32], y: &[f32], dy: &[f32], kept: &[f32], to: Gradients<'_>, scratch: &mut [f32]) {
        self.run_backward(team, x, y, dy, kept, to, scratch, false);
    }

    fn run_backward(
        &self,
        team: &Team,
        x: &[f32],
        y: &[f32],
        dy: &[f32],
        kept: &[f32],
        to: Gradients<'_>,
        scratch: &mut [f32],
        of_batch: bool,
    ) {
        let (len, channels) = (self.len(), self.shape[1]);
        assert!(
            x.len() == len && dy.len() == len && to.x.len() == len,
            "input or gradients have another length than the shape"
        );
        assert!(!self.relu || y.len() == len, "the output has another length than the shape");
        let residual = to.residual.map_or(std::ptr::null_mut(), |r| {
            assert_eq!(r.len(), len, "the gradient of the residual has another length than the shape");
            r.as_mut_ptr()
        });
        assert!(
            to.scale.len() == channels && to.bias.len() == channels,
            "there is no target for each channel"
        );
        assert_eq!(kept.len(), self.kept_len(), "what is kept has another length");
        assert_eq!(scratch.len(), self.scratch_len(), "the scratch has another length");
        let given = Given {
            x: x.as_ptr(),
            y: if self.relu { y.as_ptr() } else { std::ptr::null() },
            dy: dy.as_ptr(),
        };
        let backward = Backward {
            norm: self,
            kept,
            scratch: scratch.as_mut_ptr(),
            alpha: to.alpha,
            scale: to.scale.as_mut_ptr(),
            bias: to.bias.as_mut_ptr(),
            sums: GradientSums { given, residual },
            input: InputGradient {
                given,
                dx: to.x.as_mut_ptr(),
                of_batch,
            },
            of_batch,
        };
        // SAFETY: parts write to channels of their own.
        let backward = unsafe { Apart::new(backward) };
        team.each(self.parts(team), |some| {
            // SAFETY: all lengths were checked.
            unsafe { dispatch(self.isa, OfChannels(backward.get(), some)) };
        });
    }
}

struct Forward<'a> {
    norm: &'a BatchNorm,
    /// Channels; all of them where they come last.
    some: Range<usize>,
    learned: ScaleAndBias<'a>,
    /// `[mean, inverse deviation, variance, factor]`, of `[channels]` each.
    kept: *mut f32,
    normalise: Normalise,
    /// Whether the statistics are yet to be computed.
    of_batch: bool,
}

impl Forward<'_> {
    /// Keeps the statistics of a channel, from the sums of the differences from `about` and of their squares.
    #[inline(always)]
    unsafe fn finish(&self, channel: usize, about: f32, sum: f64, squares: f64) {
        let (channels, count) = (self.norm.shape[1], self.norm.count());
        let off = sum / count;
        let variance = squares / count - off * off;
        // Rounding may leave less than nothing; NaN stays.
        let variance = if variance < 0.0 { 0.0 } else { variance };
        *self.kept.add(channel) = (f64::from(about) + off) as f32;
        let derived = self.norm.derived(self.learned.scale[channel], variance);
        for (part, value) in derived.into_iter().enumerate() {
            *self.kept.add((1 + part) * channels + channel) = value;
        }
    }
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let [images, channels, positions] = self.norm.shape;
        let loops = Channels {
            images,
            channels,
            positions,
        };
        let count = self.norm.count();
        let bias = self.learned.bias.as_ptr();
        let moments = Moments(self.normalise.x);
        let kept = self.kept;
        let none = [V::splat(0.0); 4];
        match self.norm.layout {
            // One channel after the other, so that it is still near when it is read again.
            Layout::ChannelsFirst => {
                for channel in self.some.clone() {
                    if self.of_batch {
                        let about = (loops.plane_sums::<V, _>(channel, none, moments)[0] / count) as f32;
                        let [sum, squares] = loops.plane_sums(channel, [V::splat(about), none[0], none[0], none[0]], moments);
                        self.finish(channel, about, sum, squares);
                    }
                    let of = |part: usize| V::splat(*kept.add(part * channels + channel));
                    let parameters = [of(0), of(3), V::splat(*bias.add(channel)), none[0]];
                    loops.planes(channel, parameters, self.normalise);
                }
            }
            Layout::ChannelsLast => {
                if self.of_batch {
                    // Moments about a mean of the first rows: what they are about is near, and one pass is enough.
                    let few = Channels {
                        images: 1,
                        channels,
                        positions: (images * positions).min(128),
                    };
                    few.column_sums::<V, _>([kept; 4], [kept, kept.add(channels)], Plain(self.normalise.x));
                    for channel in 0..channels {
                        *kept.add(channel) /= few.positions as f32;
                    }
                    let (sums, squares) = (kept.add(channels), kept.add(2 * channels));
                    loops.column_sums::<V, _>([kept; 4], [sums, squares], moments);
                    for channel in 0..channels {
                        let (sum, squares) = (f64::from(*sums.add(channel)), f64::from(*squares.add(channel)));
                        self.finish(channel, *kept.add(channel), sum, squares);
                    }
                }
                loops.rows::<V, _>([kept, kept.add(3 * channels), bias, bias], self.normalise);
            }
        }
    }
}

/// Sums of the input.
#[derive(Clone, Copy)]
struct Plain(*const f32);

impl Sums for Plain {
    #[inline(always)]
    unsafe fn add<V: Vector>(self, _: [V; 4], i: usize, n: usize, [sum, none]: [V; 2]) -> [V; 2] {
        [sum.add(take::<V>(self.0.add(i), n)), none]
    }
}

/// Sums of the input less the first parameter, and of the squares of that.
#[derive(Clone, Copy)]
struct Moments(*const f32);

impl Sums for Moments {
    #[inline(always)]
    unsafe fn add<V: Vector>(self, [about, ..]: [V; 4], i: usize, n: usize, [sum, squares]: [V; 2]) -> [V; 2] {
        let x = first(take::<V>(self.0.add(i), n).sub(about), n);
        [sum.add(x), x.fma(x, squares)]
    }
}

/// `(x - mean) * factor + bias`, and what comes behind it. Parameters: mean, factor, bias.
#[derive(Clone, Copy)]
struct Normalise {
    x: *const f32,
    /// Null where there is none.
    residual: *const f32,
    y: *mut f32,
    relu: bool,
}

impl Work for Normalise {
    #[inline(always)]
    unsafe fn at<V: Vector>(self, [mean, factor, bias, _]: [V; 4], i: usize, n: usize) {
        let mut y = take::<V>(self.x.add(i), n).sub(mean).fma(factor, bias);
        if !self.residual.is_null() {
            y = y.add(take::<V>(self.residual.add(i), n));
        }
        if self.relu {
            y = V::splat(0.0).max(y);
        }
        put(y, self.y.add(i), n);
    }
}

#[derive(Clone, Copy)]
struct Backward<'a> {
    norm: &'a BatchNorm,
    kept: &'a [f32],
    scratch: *mut f32,
    alpha: f32,
    scale: *mut f32,
    bias: *mut f32,
    sums: GradientSums,
    input: InputGradient,
    of_batch: bool,
}

impl Backward<'_> {
    /// Adds the gradients of a channel to their targets. Returns what the gradient by the input takes off: a constant, and a factor of the
    /// distance from the mean.
    #[inline(always)]
    unsafe fn finish(&self, channel: usize, by_bias: f64, by_scale: f64) -> [f32; 2] {
        let channels = self.norm.shape[1];
        *self.bias.add(channel) += (f64::from(self.alpha) * by_bias) as f32;
        *self.scale.add(channel) += (f64::from(self.alpha) * by_scale) as f32;
        if !self.of_batch {
            return [0.0; 2];
        }
        let inverse = f64::from(self.kept[channels + channel]);
        let share = f64::from(self.kept[3 * channels + channel]) / self.norm.count();
        [(share * by_bias) as f32, (share * inverse * by_scale) as f32]
    }
}

/// Some channels; all of them where they come last.
struct OfChannels<'a>(Backward<'a>, Range<usize>);

impl Kernel for OfChannels<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self(backward, some) = self;
        backward.channels::<V>(some);
    }
}

impl Backward<'_> {
    #[inline(always)]
    unsafe fn channels<V: Vector>(self, some: Range<usize>) {
        let [images, channels, positions] = self.norm.shape;
        let loops = Channels {
            images,
            channels,
            positions,
        };
        let kept = self.kept.as_ptr();
        let (mean, inverse, factor) = (kept, kept.add(channels), kept.add(3 * channels));
        match self.norm.layout {
            Layout::ChannelsFirst => {
                for channel in some {
                    let of = |part: *const f32| V::splat(*part.add(channel));
                    let none = V::splat(0.0);
                    let [by_bias, by_scale] = loops.plane_sums(channel, [of(mean), of(inverse), none, none], self.sums);
                    let [constant, slope] = self.finish(channel, by_bias, by_scale);
                    let parameters = [of(mean), of(factor), V::splat(constant), V::splat(slope)];
                    loops.planes(channel, parameters, self.input);
                }
            }
            Layout::ChannelsLast => {
                let scratch = self.scratch;
                let (first, second) = (scratch, scratch.add(channels));
                loops.column_sums::<V, _>([mean, inverse, mean, mean], [first, second], self.sums);
                for channel in 0..channels {
                    let (by_bias, by_scale) = (f64::from(*first.add(channel)), f64::from(*second.add(channel)));
                    let [constant, slope] = self.finish(channel, by_bias, by_scale);
                    *first.add(channel) = constant;
                    *second.add(channel) = slope;
                }
                loops.rows::<V, _>([mean, factor, first, second], self.input);
            }
        }
    }
}

/// What both passes of the backward pass read.
#[derive(Clone, Copy)]
struct Given {
    x: *const f32,
    /// Null where there is no ReLU.
    y: *const f32,
    dy: *const f32,
}

impl Given {
    /// The gradient before the ReLU.
    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, i: usize, n: usize) -> V {
        let dy = take::<V>(self.dy.add(i), n);
        if self.y.is_null() {
            return dy;
        }
        let zero = V::splat(0.0);
        zero.select(take::<V>(self.y.add(i), n).eq(zero), dy)
    }
}

/// Sums of the gradients by bias and scale. Parameters: mean, inverse deviation.
#[derive(Clone, Copy)]
struct GradientSums {
    given: Given,
    /// Null where there is none.
    residual: *mut f32,
}

impl Sums for GradientSums {
    #[inline(always)]
    unsafe fn add<V: Vector>(self, [mean, inverse, ..]: [V; 4], i: usize, n: usize, [by_bias, by_scale]: [V; 2]) -> [V; 2] {
        let gradient = self.given.gradient::<V>(i, n);
        if !self.residual.is_null() {
            put(gradient, self.residual.add(i), n);
        }
        let normalised = take::<V>(self.given.x.add(i), n).sub(mean).mul(inverse);
        [by_bias.add(gradient), gradient.fma(normalised, by_scale)]
    }
}

/// `gradient * factor - constant - slope * (x - mean)`. Parameters: mean, factor, constant, slope.
#[derive(Clone, Copy)]
struct InputGradient {
    given: Given,
    dx: *mut f32,
    of_batch: bool,
}

impl Work for InputGradient {
    #[inline(always)]
    unsafe fn at<V: Vector>(self, [mean, factor, constant, slope]: [V; 4], i: usize, n: usize) {
        let mut dx = self.given.gradient::<V>(i, n).mul(factor);
        if self.of_batch {
            let far = mean.sub(take::<V>(self.given.x.add(i), n));
            dx = far.fma(slope, dx.sub(constant));
        }
        put(dx, self.dx.add(i), n);
    }
}

#[cfg(test)]
mod tests;
