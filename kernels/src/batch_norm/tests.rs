use super::*;
use crate::permute::{to_channels_first, to_channels_last};
use crate::testing::{Random, assert_close, wide};

const EPSILON: f32 = 1e-3;

/// A case: its inputs, channels first, and whether statistics are stored ones.
struct Case {
    shape: [usize; 3],
    relu: bool,
    x: Vec<f64>,
    scale: Vec<f64>,
    bias: Vec<f64>,
    residual: Option<Vec<f64>>,
    stored: Option<[Vec<f64>; 2]>,
}

impl Case {
    fn statistics(&self, channel: usize) -> (f64, f64) {
        if let Some([mean, variance]) = &self.stored {
            return (mean[channel], variance[channel]);
        }
        let values: Vec<f64> = (0..self.x.len())
            .filter(|&i| self.channel(i) == channel)
            .map(|i| self.x[i])
            .collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        (mean, values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count)
    }

    fn channel(&self, i: usize) -> usize {
        i / self.shape[2] % self.shape[1]
    }

    fn y(&self) -> Vec<f64> {
        let statistics: Vec<(f64, f64)> = (0..self.shape[1]).map(|c| self.statistics(c)).collect();
        let value = |i: usize| {
            let c = self.channel(i);
            let (mean, variance) = statistics[c];
            let y = self.scale[c] * (self.x[i] - mean) / (variance + f64::from(EPSILON)).sqrt() + self.bias[c];
            let y = y + self.residual.as_ref().map_or(0.0, |r| r[i]);
            if self.relu { y.max(0.0) } else { y }
        };
        (0..self.x.len()).map(value).collect()
    }

    /// By central differences of the sum of `y * dy`.
    fn gradient(&mut self, dy: &[f32], of: impl Fn(&mut Self) -> &mut Vec<f64>) -> Vec<f64> {
        const STEP: f64 = 1e-6;
        let value = |case: &Self| case.y().iter().zip(dy).map(|(y, &g)| y * f64::from(g)).sum::<f64>();
        let n = of(self).len();
        let by = |i: usize| {
            let old = of(self)[i];
            of(self)[i] = old + STEP;
            let above = value(self);
            of(self)[i] = old - STEP;
            let below = value(self);
            of(self)[i] = old;
            (above - below) / (2.0 * STEP)
        };
        (0..n).map(by).collect()
    }
}

/// Runs one case with one instruction set and layout, and compares.
fn compare(isa: Isa, layout: Layout, seed: u64, random: &mut Random, shape: [usize; 3]) {
    let [_, channels, _] = shape;
    let len = shape.iter().product();
    let x: Vec<f32> = random.values(len).iter().map(|v| v * 2.0 + 3.0).collect();
    let (scale, bias, dy) = (random.values(channels), random.values(channels), random.values(len));
    let residual = (seed.is_multiple_of(3)).then(|| random.values(len));
    let stored = (seed.is_multiple_of(4)).then(|| {
        [
            random.values(channels),
            random.values(channels).iter().map(|v| v + 1.5).collect::<Vec<f32>>(),
        ]
    });
    let relu = seed.is_multiple_of(2);
    let mut case = Case {
        shape,
        relu,
        x: wide(&x),
        scale: wide(&scale),
        bias: wide(&bias),
        residual: residual.as_deref().map(wide),
        stored: stored.as_ref().map(|[mean, variance]| [wide(mean), wide(variance)]),
    };
    let what = format!("{isa:?} {layout:?} seed {seed} {shape:?} relu {relu} stored {}", stored.is_some());
    let turned = |x: &[f32]| {
        let mut y = x.to_vec();
        if layout == Layout::ChannelsLast {
            to_channels_last(isa, x, shape, &mut y);
        }
        y
    };
    let back = |x: &[f32]| {
        let mut y = x.to_vec();
        if layout == Layout::ChannelsLast {
            to_channels_first(isa, x, shape, &mut y);
        }
        y
    };
    let norm = BatchNorm::new(isa, shape, layout, EPSILON, relu);
    let (x, dy) = (turned(&x), turned(&dy));
    let residual = residual.map(|r| turned(&r));
    let learned = ScaleAndBias {
        scale: &scale,
        bias: &bias,
    };
    let team = &Team::new(1 + len % 3).cutting_from(0);
    let (mut y, mut kept) = (vec![f32::NAN; len], vec![f32::NAN; norm.kept_len()]);
    if let Some([mean, variance]) = &stored {
        norm.forward_stored(team, &x, learned, [mean, variance], residual.as_deref(), &mut y, &mut kept);
    } else {
        norm.forward(team, &x, learned, residual.as_deref(), &mut y, &mut kept);
        let (mut mean, mut variance) = (vec![1.0; channels], vec![2.0; channels]);
        norm.move_statistics(0.9, &kept, &mut mean, &mut variance);
        let count = (len / channels) as f64;
        let expected = (0..channels).map(|c| case.statistics(c));
        let (means, variances): (Vec<f64>, Vec<f64>) = expected
            .map(|(m, v)| (0.9 + 0.1 * m, 1.8 + 0.1 * v * count / (count - 1.0)))
            .unzip();
        assert_close(&mean, &means, 1e-6, &what);
        assert_close(&variance, &variances, 1e-6, &what);
    }
    assert_close(&back(&y), &case.y(), 1e-5, &what);
    let (mut dx, mut scratch) = (vec![f32::NAN; len], vec![f32::NAN; norm.scratch_len()]);
    let mut by_residual = residual.as_ref().map(|_| vec![f32::NAN; len]);
    let (mut by_scale, mut by_bias) = (vec![1.0; channels], vec![2.0; channels]);
    let to = Gradients {
        x: &mut dx,
        residual: by_residual.as_deref_mut(),
        alpha: -0.5,
        scale: &mut by_scale,
        bias: &mut by_bias,
    };
    let given = turned(&back(&dy));
    if stored.is_some() {
        norm.backward_stored(team, &x, &y, &given, &kept, to, &mut scratch);
    } else {
        norm.backward(team, &x, &y, &given, &kept, to, &mut scratch);
    }
    let dy = back(&dy);
    assert_close(&back(&dx), &case.gradient(&dy, |c| &mut c.x), 3e-5, &format!("{what}: by x"));
    let targets = |gradient: Vec<f64>, start: f64| -> Vec<f64> { gradient.iter().map(|g| start - 0.5 * g).collect() };
    let expected = targets(case.gradient(&dy, |c| &mut c.scale), 1.0);
    assert_close(&by_scale, &expected, 1e-5, &format!("{what}: by scale"));
    let expected = targets(case.gradient(&dy, |c| &mut c.bias), 2.0);
    assert_close(&by_bias, &expected, 1e-5, &format!("{what}: by bias"));
    if let Some(found) = by_residual {
        let expected = case.gradient(&dy, |c| c.residual.as_mut().expect("it has one"));
        assert_close(&back(&found), &expected, 1e-5, &format!("{what}: by the residual"));
    }
}

#[test]
fn values_and_gradients_are_those_of_the_definition() {
    for isa in Isa::available() {
        for layout in [Layout::ChannelsFirst, Layout::ChannelsLast] {
            for seed in 0..12 {
                let mut random = Random::new(seed);
                let channels = [1, 2, 7, 8, 16, 17, 33][random.below(7)];
                let positions = if channels > 8 {
                    1 + random.below(9)
                } else {
                    [4, 16, 31, 37][random.below(4)]
                };
                compare(isa, layout, seed, &mut random, [2 + (seed % 3) as usize, channels, positions]);
            }
        }
    }
}

#[test]
fn statistics_far_from_zero_keep_their_digits() {
    for isa in Isa::available() {
        for layout in [Layout::ChannelsFirst, Layout::ChannelsLast] {
            let shape = [7, 70, 100];
            let len = shape.iter().product();
            let mut random = Random::new(5);
            // The first rows say little of the others.
            let x: Vec<f32> = (0..len).map(|i| random.value() + if i < len / 10 { 20.0 } else { 30.0 }).collect();
            let norm = BatchNorm::new(isa, shape, layout, EPSILON, false);
            let (mut y, mut kept) = (vec![0.0; len], vec![0.0; norm.kept_len()]);
            let ones = vec![1.0; 70];
            norm.forward(
                &Team::alone(),
                &x,
                ScaleAndBias { scale: &ones, bias: &ones },
                None,
                &mut y,
                &mut kept,
            );
            for channel in 0..70 {
                let of = |i: usize| match layout {
                    Layout::ChannelsFirst => i / 100 % 70,
                    Layout::ChannelsLast => i % 70,
                };
                let values: Vec<f64> = (0..len).filter(|&i| of(i) == channel).map(|i| f64::from(x[i])).collect();
                let mean = values.iter().sum::<f64>() / 700.0;
                let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / 700.0;
                let error = (f64::from(kept[channel]) / mean - 1.0).abs();
                assert!(error < 1e-7, "{isa:?} {layout:?} channel {channel}: mean off by {error}");
                let error = (f64::from(kept[140 + channel]) / variance - 1.0).abs();
                assert!(error < 1e-6, "{isa:?} {layout:?} channel {channel}: variance off by {error}");
            }
        }
    }
}

#[test]
fn not_a_number_is_not_hidden() {
    for isa in Isa::available() {
        for layout in [Layout::ChannelsFirst, Layout::ChannelsLast] {
            let norm = BatchNorm::new(isa, [1, 1, 20], layout, EPSILON, true);
            let mut x = [0.5; 20];
            x[19] = f32::NAN;
            let (mut y, mut kept) = ([0.0; 20], [0.0; 4]);
            norm.forward(
                &Team::alone(),
                &x,
                ScaleAndBias {
                    scale: &[1.0],
                    bias: &[0.0],
                },
                None,
                &mut y,
                &mut kept,
            );
            assert!(y.iter().all(|v| v.is_nan()), "{isa:?} {layout:?}: {y:?}");
        }
    }
}
