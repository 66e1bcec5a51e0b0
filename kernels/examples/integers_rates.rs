//! What the steps from an update to a sum cost, by the value, on every instruction set: in the first-level cache, in blocks of 4096 values.
//!
//! `cargo run --release -p aimass-kernels --example integers_rates`

use std::hint::black_box;
use std::time::Instant;

use aimass_kernels::{Isa, integers};

const N: usize = 4096;

/// Nanoseconds a value, the best of many.
fn best(mut work: impl FnMut()) -> f64 {
    let times = (0..200).map(|_| {
        let start = Instant::now();
        for _ in 0..20 {
            work();
        }
        start.elapsed().as_secs_f64() * 1e9 / (20 * N) as f64
    });
    times.fold(f64::INFINITY, f64::min)
}

fn main() {
    let values: Vec<f32> = (0..N).map(|i| (i as f32 * 0.37).sin() * 1e-3).collect();
    for isa in Isa::available() {
        let mut squares = [0.0; 16];
        let mut block = values.clone();
        let mut words = vec![0; integers::random_words(N)];
        let mut signs = vec![0; N / 32];
        let mut residues = vec![0u32; N];
        let (mut sums, mut wide) = (vec![0u32; N], vec![0u64; N]);
        let mut packed = vec![0; integers::packed_len(N, 29) + integers::SLACK];
        let mut stream = integers::Keystream::new(isa, [3; 32]);
        stream.fill(&mut signs);
        let rounding = integers::Rounding::new((1 << 24) - 1, 100.0);
        println!("{}, ns a value", isa.name());
        let print = |name: &str, time: f64| println!("  {name:<24}{time:.3}");
        print("norm", best(|| integers::add_squares(isa, &values, black_box(&mut squares))));
        print("scale", best(|| integers::scale(isa, &values, 0.37, black_box(&mut block))));
        print("rotate", best(|| integers::rotate(isa, black_box(&mut block), &signs)));
        print("random words", best(|| stream.fill(black_box(&mut words))));
        print("round", best(|| rounding.round(isa, &values, &words, black_box(&mut residues))));
        let mut zeros = vec![0u32; N];
        print("round zeros", best(|| rounding.round_zeros(isa, &words, black_box(&mut zeros))));
        print(
            "pack 29 bits",
            best(|| integers::Residue::pack(black_box(&residues), 29, &mut packed)),
        );
        print("unpack 29 bits", best(|| integers::unpack(black_box(&packed), 29, &mut wide)));
        print("add to u32", best(|| integers::add(isa, black_box(&mut sums), &residues)));
        print("add to u64", best(|| integers::add_narrow(isa, black_box(&mut wide), &residues)));
    }
}
