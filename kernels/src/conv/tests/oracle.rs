//! The same in plain loops over f64, channels first.

use super::super::{MaxPool, Shape};

pub(super) struct Case<'a> {
    pub(super) shape: Shape,
    pub(super) relu: bool,
    pub(super) pool: Option<MaxPool>,
    pub(super) x: &'a [f32],
    pub(super) weights: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
}

pub(super) struct Forward {
    pub(super) y: Vec<f64>,
    /// For each of `y`, which of the convolution's outputs it is.
    from: Vec<usize>,
}

pub(super) struct Gradients {
    pub(super) x: Vec<f64>,
    pub(super) weights: Vec<f64>,
    pub(super) bias: Vec<f64>,
}

fn made(shape: &Shape) -> [usize; 2] {
    let input = [
        shape.height + shape.pads[0] + shape.pads[2],
        shape.width + shape.pads[1] + shape.pads[3],
    ];
    [0, 1].map(|i| (input[i] - shape.dilation[i] * (shape.kernel[i] - 1) - 1) / shape.stride[i] + 1)
}

impl Case<'_> {
    /// Calls `f` with the indices of an output, an input and a weight that are multiplied, for all.
    fn each(&self, mut f: impl FnMut(usize, usize, usize)) {
        let s = &self.shape;
        let [height, width] = made(s);
        let (ci, co) = (s.channels_in / s.groups, s.channels_out / s.groups);
        for n in 0..s.images {
            for c in 0..s.channels_out {
                for oy in 0..height {
                    for ox in 0..width {
                        let out = ((n * s.channels_out + c) * height + oy) * width + ox;
                        for i in 0..ci {
                            for ky in 0..s.kernel[0] {
                                for kx in 0..s.kernel[1] {
                                    let y = oy * s.stride[0] + ky * s.dilation[0];
                                    let x = ox * s.stride[1] + kx * s.dilation[1];
                                    if y < s.pads[0] || x < s.pads[1] || y >= s.pads[0] + s.height || x >= s.pads[1] + s.width {
                                        continue;
                                    }
                                    let channel = n * s.channels_in + c / co * ci + i;
                                    let input = (channel * s.height + y - s.pads[0]) * s.width + x - s.pads[1];
                                    f(out, input, ((c * ci + i) * s.kernel[0] + ky) * s.kernel[1] + kx);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    pub(super) fn forward(&self) -> Forward {
        let s = &self.shape;
        let [height, width] = made(s);
        let bias = |c: usize| self.bias.map_or(0.0, |bias| f64::from(bias[c]));
        let outputs = s.images * s.channels_out;
        let mut z: Vec<f64> = (0..outputs * height * width)
            .map(|i| bias(i / (height * width) % s.channels_out))
            .collect();
        self.each(|out, input, weight| z[out] += f64::from(self.x[input]) * f64::from(self.weights[weight]));
        let [wh, ww] = self.pool.map_or([1, 1], |pool| pool.window);
        let (mut y, mut from) = (Vec::new(), Vec::new());
        for plane in 0..outputs {
            for py in 0..height / wh {
                for px in 0..width / ww {
                    let mut best = usize::MAX;
                    for i in 0..wh * ww {
                        let at = (plane * height + py * wh + i / ww) * width + px * ww + i % ww;
                        if best == usize::MAX || z[at] > z[best] {
                            best = at;
                        }
                    }
                    y.push(if self.relu { z[best].max(0.0) } else { z[best] });
                    from.push(best);
                }
            }
        }
        Forward { y, from }
    }

    pub(super) fn backward(&self, forward: &Forward, dy: &[f32]) -> Gradients {
        let s = &self.shape;
        let [height, width] = made(s);
        let mut dz = vec![0.0; s.images * s.channels_out * height * width];
        for (i, &from) in forward.from.iter().enumerate() {
            if !self.relu || forward.y[i] > 0.0 {
                dz[from] = f64::from(dy[i]);
            }
        }
        let mut gradients = Gradients {
            x: vec![0.0; self.x.len()],
            weights: vec![0.0; self.weights.len()],
            bias: vec![0.0; s.channels_out],
        };
        self.each(|out, input, weight| {
            gradients.x[input] += dz[out] * f64::from(self.weights[weight]);
            gradients.weights[weight] += dz[out] * f64::from(self.x[input]);
        });
        for (i, dz) in dz.iter().enumerate() {
            gradients.bias[i / (height * width) % s.channels_out] += dz;
        }
        gradients
    }
}
