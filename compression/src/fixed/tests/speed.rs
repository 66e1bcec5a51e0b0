//! What a value costs, from the update to the mean.

use std::time::Instant;

use super::*;
use crate::OpenSum;

/// Prints what a value costs: `cargo test --release -p aimass-compression -- --nocapture speed`. The kernels by themselves:
/// `cargo run --release -p aimass-kernels --example integers_rates`.
#[test]
#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
fn speed_of_encode_validate_add_and_decode() {
    let n = 1_663_370;
    let delta: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin() * 1e-3).collect();
    let zeros = vec![0.0; n];
    for (rotation, isa) in [None, Some([1; 32])]
        .into_iter()
        .flat_map(|r| Isa::available().into_iter().map(move |isa| (r, isa)))
    {
        let codec = codec(FixedParams {
            members: 30,
            rotation,
            ..params(n, 24)
        });
        let mut times = [f64::INFINITY; 7];
        let mut sum = Accumulator::new(codec.plan());
        let (mut open, mut scratch) = (OpenSum::new(codec.plan()), Scratch::on(isa));
        for round in 0..5 {
            let mut took = |step: usize, start: Instant| times[step] = times[step].min(start.elapsed().as_secs_f64());
            let start = Instant::now();
            let encoded = codec
                .encode_with(update(&delta, 100), &mut rng(round), &mut scratch)
                .expect("finite");
            took(0, start);
            let start = Instant::now();
            let mut validator = Validator::new(codec.plan());
            encoded
                .packed
                .chunks(256 * 1024)
                .try_for_each(|chunk| validator.push(chunk))
                .expect("honest");
            validator.finish().expect("complete");
            took(1, start);
            let start = Instant::now();
            sum.add_stream(&mut encoded.packed.as_slice()).expect("honest");
            took(2, start);
            let start = Instant::now();
            let decoded = sum.decode(&codec).expect("not empty");
            took(3, start);
            assert_eq!(decoded.weight, 100 * (round + 1));
            let start = Instant::now();
            codec
                .encode_into(update(&delta, 100), &mut rng(round), &mut open, &mut scratch)
                .expect("finite");
            took(4, start);
            let start = Instant::now();
            let packed = open.to_accumulator();
            took(6, start);
            assert!(packed.count() > 0);
            let start = Instant::now();
            codec
                .encode_into(update(&zeros, 100), &mut rng(round), &mut open, &mut scratch)
                .expect("finite");
            took(5, start);
        }
        println!(
            "{}, encoding on {isa:?}",
            if rotation.is_some() { "rotated" } else { "not rotated" }
        );
        let names = [
            "encode",
            "validate",
            "add",
            "decode",
            "encode and add",
            "the same of zeros",
            "pack the sum",
        ];
        for (step, seconds) in names.into_iter().zip(times) {
            println!("  {step}: {:.2} ms, {:.2} ns a value", seconds * 1e3, seconds * 1e9 / n as f64);
        }
    }
}
