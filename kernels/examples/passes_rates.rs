//! Rates of what passes over tensors: optimizers, permutations, pools, batch normalisation, elementwise functions, rows.
//!
//! `cargo run --release -p aimass-kernels --example passes_rates [name]`: best of many runs, beside that of a plain copy of the same
//! bytes in the same second. `AIMASS_CPU_ISA` asks for another instruction set.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aimass_kernels::batch_norm::{BatchNorm, Gradients, ScaleAndBias};
use aimass_kernels::elementwise::{Binary, Function, Operand, Reads, binary, binary_gradient};
use aimass_kernels::optimizer::{Rule, Step, Terms, sum_of_squares};
use aimass_kernels::permute::{permute, sum_to, to_channels_first, to_channels_last};
use aimass_kernels::pool::{AveragePool, MaxPool, PoolShape};
use aimass_kernels::rows::{CrossEntropy, RowNorm, Softmax};
use aimass_kernels::{Buffer, Isa, Layout, Team};

/// Seconds of the fastest run.
fn best(mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    let begin = Instant::now();
    let mut runs = 0;
    while runs < 5 || begin.elapsed() < Duration::from_millis(60) {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}

struct Bench {
    isa: Isa,
    wanted: Option<String>,
}

impl Bench {
    /// Prints the rate of `work`, which reads and writes `floats` floats.
    fn rate(&self, name: &str, floats: usize, work: impl FnMut()) {
        if self.wanted.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
            return;
        }
        let (from, mut to) = (Buffer::new(floats / 2), Buffer::new(floats / 2));
        let copy = best(|| {
            to.copy_from_slice(black_box(&from));
            black_box(&mut to);
        });
        let seconds = best(work);
        let bytes = 4.0 * floats as f64;
        println!(
            "{name:44} {:9.1} microseconds {:7.1} GB/s, copy {:6.1}",
            seconds * 1e6,
            bytes / seconds / 1e9,
            bytes / copy / 1e9
        );
    }
}

fn values(n: usize) -> Buffer {
    let mut state = 1u32;
    let values: Vec<f32> = (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Buffer::from_slice(&values)
}

fn optimizers(bench: &Bench) {
    let n = 200_000;
    let (mut weights, gradient) = (values(n), values(n));
    let mut moments = [Buffer::new(n), Buffer::new(n)];
    let rules = [
        (
            "sgd",
            3,
            Rule::Sgd {
                momentum: 0.0,
                nesterov: false,
            },
        ),
        (
            "momentum",
            5,
            Rule::Sgd {
                momentum: 0.9,
                nesterov: false,
            },
        ),
        (
            "adam",
            7,
            Rule::Adam {
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
                decoupled: false,
            },
        ),
    ];
    for (name, streams, rule) in rules {
        let step = Step {
            rule,
            lr: 1e-6,
            weight_decay: 1e-4,
            gradient_scale: 1.0,
            number: 1000,
        };
        bench.rate(&format!("optimizer {name} of {n}"), streams * n, || {
            let mut kept: Vec<&mut [f32]> = moments.iter_mut().take(rule.moments()).map(|m| &mut **m).collect();
            step.apply(bench.isa, &mut weights, &gradient, &mut kept, Terms::default());
        });
    }
    bench.rate(&format!("optimizer sum of squares of {n}"), n, || {
        black_box(sum_of_squares(bench.isa, &gradient));
    });
}

fn permutations(bench: &Bench) {
    let n = 16 * 64 * 1024;
    let (x, mut y) = (values(n), Buffer::new(n));
    bench.rate("permute [16,64,1024] to channels last", 2 * n, || {
        to_channels_last(bench.isa, &x, [16, 64, 1024], &mut y);
    });
    bench.rate("permute [16,64,1024] to channels first", 2 * n, || {
        to_channels_first(bench.isa, &x, [16, 64, 1024], &mut y);
    });
    let n = 16 * 512 * 16;
    bench.rate("permute [16,512,16] to channels last", 2 * n, || {
        to_channels_last(bench.isa, &x[..n], [16, 512, 16], &mut y[..n]);
    });
    let n = 8 * 64 * 4 * 64;
    bench.rate("permute heads [8,64,4,64] 0213", 2 * n, || {
        permute(bench.isa, &x[..n], &[8, 64, 4, 64], &[0, 2, 1, 3], &mut y[..n]);
    });
    bench.rate("permute heads [8,64,4,64] 0231", 2 * n, || {
        permute(bench.isa, &x[..n], &[8, 64, 4, 64], &[0, 2, 3, 1], &mut y[..n]);
    });
    bench.rate("permute sum [512,256] to [256]", n, || {
        sum_to(bench.isa, 1.0, &x[..n], &[512, 256], &mut y[..256], &[256]);
    });
    bench.rate("permute sum [16,64,128] to [64]", n, || {
        sum_to(bench.isa, 1.0, &x[..n], &[16, 64, 128], &mut y[..64], &[64, 1]);
    });
}

fn pools(bench: &Bench) {
    for (name, height, kernel, stride, pad) in [
        ("2x2/2 of 28", 28, 2, 2, 0),
        ("3x3/2 of 32", 32, 3, 2, 1),
        ("3x3/1 of 16", 16, 3, 1, 1),
    ] {
        let shape = PoolShape {
            images: 10,
            channels: 32,
            height,
            width: height,
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            pads: [pad; 4],
            ceil: false,
        };
        let [rows, columns] = shape.output();
        let n = 320 * height * height;
        let (x, mut dx) = (values(n), Buffer::new(n));
        let dy = values(320 * rows * columns);
        let mut y = dy.clone();
        for layout in [Layout::ChannelsFirst, Layout::ChannelsLast] {
            let pool = MaxPool::new(bench.isa, shape, layout);
            let mut kept = vec![0; pool.kept_len_bytes()];
            bench.rate(&format!("pool max {name} {layout:?}"), n + y.len(), || {
                pool.forward(&x, &mut y, &mut kept);
            });
            bench.rate(&format!("pool max {name} {layout:?} backward"), n + dy.len(), || {
                pool.backward(&dy, &kept, &mut dx);
            });
            let pool = AveragePool::new(bench.isa, shape, layout, true);
            bench.rate(&format!("pool mean {name} {layout:?}"), n + y.len(), || pool.forward(&x, &mut y));
            bench.rate(&format!("pool mean {name} {layout:?} backward"), n + dy.len(), || {
                pool.backward(&dy, &mut dx);
            });
        }
    }
}

fn batch_norms(bench: &Bench) {
    let team = &Team::alone();
    for shape in [[16, 64, 1024], [16, 512, 16]] {
        let n = shape.iter().product();
        let (x, dy, mut y, mut dx) = (values(n), values(n), Buffer::new(n), Buffer::new(n));
        let (scale, bias) = (values(shape[1]), values(shape[1]));
        let (mut by_scale, mut by_bias) = (Buffer::new(shape[1]), Buffer::new(shape[1]));
        for layout in [Layout::ChannelsFirst, Layout::ChannelsLast] {
            let norm = BatchNorm::new(bench.isa, shape, layout, 1e-5, true);
            let (mut kept, mut scratch) = (Buffer::new(norm.kept_len()), Buffer::new(norm.scratch_len()));
            bench.rate(&format!("batch norm {shape:?} {layout:?}"), 2 * n, || {
                norm.forward(
                    team,
                    &x,
                    ScaleAndBias {
                        scale: &scale,
                        bias: &bias,
                    },
                    None,
                    &mut y,
                    &mut kept,
                );
            });
            bench.rate(&format!("batch norm {shape:?} {layout:?} backward"), 4 * n, || {
                let to = Gradients {
                    x: &mut dx,
                    residual: None,
                    alpha: 1e-9,
                    scale: &mut by_scale,
                    bias: &mut by_bias,
                };
                norm.backward(team, &x, &y, &dy, &kept, to, &mut scratch);
            });
        }
    }
}

fn functions(bench: &Bench) {
    let n = 100_000;
    let (x, dy, mut y, mut dx) = (values(n), values(n), Buffer::new(n), Buffer::new(n));
    let all = [
        Function::Relu,
        Function::Elu { alpha: 1.0, gamma: 1.0 },
        Function::Sigmoid,
        Function::Tanh,
        Function::Softplus,
        Function::Gelu,
        Function::GeluTanh,
        Function::Swish(1.0),
    ];
    for function in all {
        bench.rate(&format!("function {function:?}"), 2 * n, || function.forward(bench.isa, &x, &mut y));
        let kept = if function.reads() == Reads::Output { &y } else { &x };
        bench.rate(&format!("function {function:?} backward"), 3 * n, || {
            function.backward(bench.isa, kept, &dy, &mut dx);
        });
    }
    let [rows, len] = [512, 256];
    let n = rows * len;
    let (a, dy, mut y) = (values(n), values(n), Buffer::new(n));
    for (name, b_shape) in [("same", [rows, len]), ("row", [1, len]), ("column", [rows, 1])] {
        let b = values(b_shape.iter().product());
        let (shapes, shape) = ([&[rows, len][..], &b_shape[..]], [rows, len]);
        bench.rate(&format!("binary product [512,256] {name}"), 2 * n + b.len(), || {
            binary(bench.isa, Binary::Mul, [&a, &b], shapes, &mut y, &shape);
        });
        let mut target = Buffer::new(b.len());
        bench.rate(&format!("binary product [512,256] {name} by second"), 2 * n + b.len(), || {
            binary_gradient(
                bench.isa,
                Binary::Mul,
                Operand::Second,
                &dy,
                [&a, &b],
                shapes,
                &shape,
                &mut target,
                false,
            );
        });
    }
}

fn rows(bench: &Bench) {
    let team = &Team::alone();
    for [count, len] in [[32, 10], [2048, 64], [512, 256], [64, 10_000]] {
        let n = count * len;
        let (x, dy, mut y, mut dx) = (values(n), values(n), Buffer::new(n), Buffer::new(n));
        let softmax = Softmax::new(bench.isa, [count, len, 1], false);
        bench.rate(&format!("rows softmax [{count},{len}]"), 2 * n, || softmax.forward(&x, &mut y));
        bench.rate(&format!("rows softmax [{count},{len}] backward"), 3 * n, || {
            softmax.backward(&y, &dy, &mut dx);
        });
        let targets: Vec<i64> = (0..count).map(|i| (i % len) as i64).collect();
        bench.rate(&format!("rows cross-entropy [{count},{len}] both"), 2 * n, || {
            let loss = CrossEntropy::plain(len).run(bench.isa, &x, &targets, 1.0, Some(&mut dx));
            assert!(loss.is_ok(), "its targets are classes");
        });
        let norm = RowNorm::new(bench.isa, [count, len], 1e-5, true);
        let (scale, bias) = (values(len), values(len));
        let (mut kept, mut by_scale, mut by_bias) = (Buffer::new(norm.kept_len()), Buffer::new(len), Buffer::new(len));
        bench.rate(&format!("rows norm [{count},{len}]"), 2 * n, || {
            norm.forward(team, &x, Some(&scale), Some(&bias), &mut y, &mut kept);
        });
        bench.rate(&format!("rows norm [{count},{len}] by input"), 3 * n, || {
            norm.backward_input(team, &x, &dy, Some(&scale), &kept, &mut dx);
        });
        bench.rate(&format!("rows norm [{count},{len}] by learned"), 2 * n, || {
            norm.backward_learned(&x, &dy, &kept, 1e-9, Some(&mut by_scale), Some(&mut by_bias));
        });
    }
}

fn main() {
    let bench = Bench {
        isa: Isa::best(),
        wanted: std::env::args().nth(1),
    };
    println!("{:?}", bench.isa);
    optimizers(&bench);
    permutations(&bench);
    pools(&bench);
    batch_norms(&bench);
    functions(&bench);
    rows(&bench);
}
