//! From a histogram to a range, from a range to scale and zero point.

use super::histogram::{BINS, Histogram};

/// How the range of an activation is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// All values: nothing is clipped.
    MinMax,
    /// This many percent of the values, as many clipped below as above. Above 50, at most 100; 99.99 is usual.
    Percentile(f64),
    /// The range with the smallest mean squared error between the values and what they become.
    Mse,
    /// The clipping threshold at which the distribution of the quantized values tells least from that of the values, by Kullback and
    /// Leibler's divergence.
    ///
    /// # Source
    /// Migacz, "8-bit inference with TensorRT" (GTC 2017).
    Entropy,
}

/// Type of quantized activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activations {
    /// uint8 with a zero point: all 256 levels between the smallest and the largest value.
    #[default]
    U8,
    /// int8 without one, symmetric about zero.
    I8,
}

/// A range of values, zero included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Range {
    pub(crate) low: f32,
    pub(crate) high: f32,
}

/// Scale and zero point of one tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Params {
    pub(crate) scale: f32,
    pub(crate) zero_point: i32,
}

impl Range {
    fn new(low: f32, high: f32) -> Self {
        Self {
            low: low.min(0.0),
            high: high.max(0.0),
        }
    }

    /// The scale that spreads the range over all levels.
    pub(crate) fn params(self, activations: Activations) -> Params {
        // In double precision: the difference of two floats may be more than a float.
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        let scale = match activations {
            Activations::U8 => (high - low) / 255.0,
            Activations::I8 => high.max(-low) / 127.0,
        };
        // A tensor of zeros.
        let scale = if scale == 0.0 { 1.0 } else { (scale as f32).max(f32::MIN_POSITIVE) };
        let zero_point = match activations {
            Activations::U8 => (-low / f64::from(scale)).round_ties_even().clamp(0.0, 255.0) as i32,
            Activations::I8 => 0,
        };
        Params { scale, zero_point }
    }
}

impl Histogram {
    /// The range by `method`; `None` when it is empty.
    pub(crate) fn range(&self, method: Method, activations: Activations) -> Option<Range> {
        let (low, high) = self.extremes()?;
        let all = Range::new(low, high);
        Some(match method {
            Method::MinMax => all,
            Method::Percentile(percent) => self.percentile(percent, all),
            Method::Mse => self.least_error(activations, all),
            Method::Entropy => self.least_divergence(all),
        })
    }

    fn percentile(&self, percent: f64, all: Range) -> Range {
        let total = self.total() as f64;
        let beyond = total * (100.0 - percent) / 200.0;
        let passed = |counts: &mut dyn Iterator<Item = &u64>| {
            let mut sum = 0.0;
            for (at, &count) in counts.enumerate() {
                sum += count as f64;
                if sum > beyond {
                    return at;
                }
            }
            0
        };
        let first = passed(&mut self.counts().iter());
        let last = passed(&mut self.counts().iter().rev());
        Range::new(
            (self.edge(first) as f32).max(all.low),
            (self.edge(BINS - last) as f32).min(all.high),
        )
    }

    /// First both ends together, then each alone, in steps of a hundredth.
    fn least_error(&self, activations: Activations, all: Range) -> Range {
        let filled: Vec<(f64, f64)> = self.filled().collect();
        let cut = |low: f64, high: f64| Range::new((f64::from(all.low) * low) as f32, (f64::from(all.high) * high) as f32);
        let error = |range: Range| squared_error(&filled, range.params(activations), activations);
        let best = |candidates: &mut dyn Iterator<Item = (f64, f64)>| {
            let mut found = (f64::INFINITY, (1.0, 1.0));
            for (low, high) in candidates {
                let error = error(cut(low, high));
                if error < found.0 {
                    found = (error, (low, high));
                }
            }
            found.1
        };
        let steps = || (1..=100).rev().map(|step| f64::from(step) / 100.0);
        let (low, high) = best(&mut steps().map(|step| (step, step)));
        if activations == Activations::I8 {
            return cut(low, high);
        }
        let (low, _) = best(&mut steps().map(|step| (step, high)));
        let (_, high) = best(&mut steps().map(|step| (low, step)));
        cut(low, high)
    }

    /// Centre and count of each bin that is not empty.
    fn filled(&self) -> impl Iterator<Item = (f64, f64)> {
        let centre = |bin: usize| self.edge(bin) + self.width() / 2.0;
        self.counts()
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(move |(bin, &count)| (centre(bin), count as f64))
    }

    /// Over windows about zero of 128 bins and more.
    fn least_divergence(&self, all: Range) -> Range {
        const LEVELS: usize = 128;
        let half = BINS / 2;
        let mut counts: Vec<f64> = self.counts().iter().map(|&count| count as f64).collect();
        // The zeros of a Relu are exact at any threshold, and would outweigh everything else: they count as their neighbours do.
        let beside = counts[half - 1].max(counts[half + 1]);
        counts[half] = if beside > 0.0 { counts[half].min(beside) } else { counts[half] };
        let mut best = (f64::INFINITY, half);
        for reach in LEVELS / 2..=half {
            let window = half - reach..half + reach;
            let mut clipped = counts[window.clone()].to_vec();
            let outside = (counts[..window.start].iter().sum::<f64>(), counts[window.end..].iter().sum::<f64>());
            let quantized = spread(&clipped, LEVELS);
            clipped[0] += outside.0;
            *clipped.last_mut().unwrap_or(&mut 0.0) += outside.1;
            let divergence = divergence(&clipped, &quantized);
            if divergence < best.0 {
                best = (divergence, reach);
            }
        }
        let threshold = (best.1 as f64 * self.width()) as f32;
        Range::new(all.low.max(-threshold), all.high.min(threshold))
    }
}

/// Counts over `levels` levels, each spread evenly over those of its bins that are not empty.
fn spread(counts: &[f64], levels: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(counts.len());
    for level in 0..levels {
        let part = &counts[level * counts.len() / levels..(level + 1) * counts.len() / levels];
        let filled = part.iter().filter(|&&count| count > 0.0).count();
        let mean = part.iter().sum::<f64>() / filled.max(1) as f64;
        out.extend(part.iter().map(|&count| if count > 0.0 { mean } else { 0.0 }));
    }
    out
}

/// How far `q` is from `p`, neither of which need add up to 1. Infinite where `q` has nothing that `p` has.
fn divergence(p: &[f64], q: &[f64]) -> f64 {
    let (sum_p, sum_q) = (p.iter().sum::<f64>(), q.iter().sum::<f64>());
    if sum_p == 0.0 || sum_q == 0.0 {
        return f64::INFINITY;
    }
    // What fell outside lies in the outermost bins of `p`, where `q` may have nothing.
    const FLOOR: f64 = 1e-4;
    let term = |(&p, &q): (&f64, &f64)| {
        let (p, q) = (p / sum_p, (q / sum_q).max(FLOOR / sum_q));
        if p > 0.0 { p * (p / q).ln() } else { 0.0 }
    };
    p.iter().zip(q).map(term).sum()
}

/// Sum over bins of count times squared error; values are taken as their bin's centre.
fn squared_error(filled: &[(f64, f64)], params: Params, activations: Activations) -> f64 {
    let (low, high) = match activations {
        Activations::U8 => (0.0, 255.0),
        Activations::I8 => (-128.0, 127.0),
    };
    let (scale, zero_point) = (f64::from(params.scale), f64::from(params.zero_point));
    let error = |&(value, count): &(f64, f64)| {
        let level = ((value / scale).round_ties_even() + zero_point).clamp(low, high);
        let error = (level - zero_point) * scale - value;
        count * error * error
    };
    filled.iter().map(error).sum()
}
