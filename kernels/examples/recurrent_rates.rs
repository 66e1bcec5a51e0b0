//! How long recurrent layers take, beside what the processor could do in the same second:
//! `cargo run --release -p aimass-kernels --example recurrent_rates` (with `all` behind `--`: every instruction set and shape).

use std::hint::black_box;
use std::time::Instant;

use aimass_kernels::recurrent::{Backward, Cell, Direction, Forward, Recurrent, Shape};
use aimass_kernels::{Buffer, Isa, Team};

/// Multiplications and additions that a second of nothing else has, in GFLOP/s; zero where no loop was written.
fn peak(isa: Isa) -> f64 {
    const ROUNDS: usize = 20_000;
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        #[target_feature(enable = "avx512f")]
        fn avx512() -> f64 {
            let mut sums = [_mm512_set1_ps(1.0); 16];
            let (a, b) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.5)));
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = _mm512_fmadd_ps(*sum, a, b);
                }
            }
            black_box(sums);
            (ROUNDS * 16 * 32) as f64
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2() -> f64 {
            let mut sums = [_mm256_set1_ps(1.0); 10];
            let (a, b) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(0.5)));
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = _mm256_fmadd_ps(*sum, a, b);
                }
            }
            black_box(sums);
            (ROUNDS * 10 * 16) as f64
        }
        let start = Instant::now();
        let begin = now(start);
        let flops = match isa.name() {
            // SAFETY: there is no `Isa` of this name unless the processor has the instructions.
            "avx512" => unsafe { avx512() },
            // SAFETY: as above.
            "avx2" => unsafe { avx2() },
            _ => return 0.0,
        };
        flops / (now(start) - begin) / 1e9
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (isa, ROUNDS, black_box(0));
        0.0
    }
}

/// Seconds that this thread has run, where the system says so (others may be at work beside it), else seconds of the clock.
fn now(start: Instant) -> f64 {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    {
        const THREAD_CPUTIME: i32 = 3;
        unsafe extern "C" {
            fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
        }
        let mut time = [0i64; 2];
        // SAFETY: on 64-bit Linux `timespec` is two 64-bit integers.
        if unsafe { clock_gettime(THREAD_CPUTIME, &mut time) } == 0 {
            return time[0] as f64 + time[1] as f64 * 1e-9;
        }
    }
    start.elapsed().as_secs_f64()
}

/// Shortest of many runs of each part, in seconds, and the highest peak between them.
fn measure(isa: Isa, shape: Shape) -> ([f64; 3], f64) {
    let team = &Team::alone();
    let layer = Recurrent::new(isa, shape);
    let (rows, d) = (shape.steps * shape.batch, layer.directions());
    let mut weights = Buffer::new(layer.weights_len());
    for (i, weight) in weights.iter_mut().enumerate() {
        *weight = ((i * 7919 % 1000) as f32 - 500.0) * 1e-4;
    }
    let x: Vec<f32> = (0..rows * shape.input).map(|i| ((i * 31 % 17) as f32 - 8.0) * 0.1).collect();
    let (mut y, mut kept, mut scratch) = (
        Buffer::new(rows * d * shape.hidden),
        Buffer::new(layer.kept_len()),
        Buffer::new(layer.scratch_len(1)),
    );
    let by_y = vec![1e-3; y.len()];
    let mut by_x = Buffer::new(x.len());
    let (mut best, mut highest) = ([f64::INFINITY; 3], 0.0f64);
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < 1.5 {
        highest = highest.max(peak(isa));
        let mut time = |part: usize, work: &mut dyn FnMut()| {
            let from = now(begin);
            work();
            best[part] = best[part].min(now(begin) - from);
        };
        time(0, &mut || {
            layer.forward(
                team,
                Forward {
                    x: &x,
                    weights: &weights,
                    lengths: None,
                    initial_hidden: None,
                    initial_cell: None,
                    y: &mut y,
                    last_hidden: None,
                    last_cell: None,
                    kept: &mut kept,
                    scratch: &mut scratch,
                },
            );
        });
        time(1, &mut || {
            layer.backward(
                team,
                Backward {
                    weights: &weights,
                    lengths: None,
                    by_y: Some(&by_y),
                    by_last_hidden: None,
                    by_last_cell: None,
                    kept: &mut kept,
                    by_x: Some(&mut by_x),
                    by_initial_hidden: None,
                    by_initial_cell: None,
                    scratch: &mut scratch,
                },
            );
        });
        time(2, &mut || layer.update(team, &x, &kept, &mut weights, -1e-6, &mut scratch));
    }
    (best, highest)
}

fn main() {
    let all = std::env::args().any(|arg| arg == "all");
    let shape = |cell, steps, batch, input, hidden| Shape {
        cell,
        direction: Direction::Forward,
        steps,
        batch,
        input,
        hidden,
        batch_first: true,
        bias: true,
    };
    let language_model = [shape(Cell::Lstm, 80, 10, 8, 256), shape(Cell::Lstm, 80, 10, 256, 256)];
    let others = [
        shape(Cell::Lstm, 80, 1, 256, 256),
        shape(Cell::Lstm, 80, 32, 256, 256),
        shape(Cell::Lstm, 20, 16, 30, 100),
        shape(Cell::Gru, 80, 10, 256, 256),
    ];
    let args: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    if let [steps, batch, input, hidden] = args[..] {
        let isa = Isa::best();
        let shape = shape(Cell::Lstm, steps, batch, input, hidden);
        let (parts, peak) = measure(isa, shape);
        let flops = 8.0 * (steps * batch * hidden * (input + hidden)) as f64;
        println!("{parts:?} {:?} {peak}", parts.map(|p| flops / p / 1e9));
        return;
    }
    let isas = if all { Isa::available() } else { vec![Isa::best()] };
    for isa in isas {
        for shape in language_model.iter().chain(others.iter().filter(|_| all)) {
            let Shape {
                cell,
                steps,
                batch,
                input,
                hidden,
                ..
            } = *shape;
            let gates = if cell == Cell::Lstm { 4 } else { 3 };
            let flops = 2.0 * (steps * batch * gates * hidden * (input + hidden)) as f64;
            let (parts, peak) = measure(isa, *shape);
            let rates = parts.map(|part| flops / part / 1e9);
            println!(
                "{:8} {cell:?} {steps}x{batch}x{input} to {hidden}: forward {:.2} ms ({:.0} GFLOP/s), back {:.2} ms ({:.0}), update {:.2} ms ({:.0}), all {:.2} ms; peak {peak:.0}",
                isa.name(),
                parts[0] * 1e3,
                rates[0],
                parts[1] * 1e3,
                rates[1],
                parts[2] * 1e3,
                rates[2],
                parts.iter().sum::<f64>() * 1e3,
            );
        }
    }
}
