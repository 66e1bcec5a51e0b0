//! How fast layers of few rows are, beside what the processor could do: `cargo run --release -p aimass-kernels --example dense_rates`.

use std::time::Instant;

use aimass_kernels::dense::{Dense, Pass};
use aimass_kernels::{Buffer, Isa, Target, Team};

/// Best of many short windows, in GFLOP/s.
fn best(flops: f64, mut work: impl FnMut()) -> f64 {
    let mut best = 0.0f64;
    for _ in 0..40 {
        let (begin, mut n) = (Instant::now(), 0);
        while begin.elapsed().as_secs_f64() < 0.005 {
            work();
            n += 1;
        }
        best = best.max(f64::from(n) * flops / begin.elapsed().as_secs_f64() / 1e9);
    }
    best
}

fn main() {
    for isa in Isa::available() {
        for (name, rows, inputs, outputs) in [
            ("2NN fc1", 10, 784, 200),
            ("2NN fc1", 32, 784, 200),
            ("2NN fc2", 10, 200, 200),
            ("CNN fc1", 1, 3136, 512),
            ("CNN fc1", 10, 3136, 512),
            ("CNN fc1", 32, 3136, 512),
        ] {
            let layer = Dense {
                inputs,
                outputs,
                relu: true,
            };
            let flops = 2.0 * (rows * inputs * outputs) as f64;
            let (x, mut w) = (Buffer::from_slice(&vec![0.5; rows * inputs]), Buffer::new(layer.weights_len()));
            w.fill(0.01);
            let (bias, mut y) = (vec![0.1; outputs], vec![0.0; rows * outputs]);
            let mut scratch = Buffer::new(layer.scratch_len(rows));
            let team = &Team::alone();
            let forward = best(flops, || layer.forward(team, isa, &x, &w, Some(&bias), &mut y, &mut scratch));
            let dy = vec![1e-9; rows * outputs];
            let mut dx = Buffer::new(rows * inputs);
            let mut backward = |with_dx: bool| {
                best(flops * if with_dx { 2.0 } else { 1.0 }, || {
                    let pass = Pass { x: &x, y: &y, dy: &dy };
                    layer.backward(
                        team,
                        isa,
                        pass,
                        None,
                        with_dx.then_some(&mut dx[..]),
                        Some(Target {
                            values: &mut w,
                            alpha: -1e-9,
                        }),
                        None,
                        &mut scratch,
                    );
                })
            };
            let (both, update) = (backward(true), backward(false));
            println!(
                "{:9} {name} {rows:3}x{inputs}x{outputs}: forward {forward:6.1}, dx and update {both:6.1}, update {update:6.1} GFLOP/s",
                isa.name()
            );
        }
    }
}
