//! What secure aggregation's parts cost on this machine: `cargo run --release -p aimass-crypto --example secagg_rates`.
#![allow(clippy::disallowed_methods)] // It reads the clock: that is what it is for.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aimass_crypto::secagg::graph::Graph;
use aimass_crypto::secagg::mask::{MaskKey, MaskStream, PrivateKey, Suite, pair_key};
use aimass_crypto::secagg::params::{Model, find};
use aimass_crypto::secagg::shamir::{Secret, Share, reconstruct, reconstruct_robust, split};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// Holders and threshold of a cohort of 256 with 5 % cheats and 30 % drop-outs under a semi-malicious server.
const HOLDERS: u32 = 134;
const THRESHOLD: u32 = 74;
const STREAM_BYTES: usize = 1 << 20;

fn main() {
    let rng = &mut ChaCha20Rng::seed_from_u64(1);
    for suite in [Suite::Aes256Ctr, Suite::ChaCha20] {
        let key = MaskKey::from_bytes([7; 32]);
        let mut out = vec![0; STREAM_BYTES];
        let mut stream = MaskStream::new(suite, &key, 0);
        let time = best(200, || {
            stream.seek(0);
            stream.fill(&mut out);
            black_box(&out);
        });
        println!("mask stream {suite:?}: {:.2} GB/s", STREAM_BYTES as f64 / time.as_secs_f64() / 1e9);
    }

    let (own, peer) = (PrivateKey::random(rng), PrivateKey::random(rng).public_key());
    let time = best(500, || {
        black_box(pair_key(&own, &peer, b"salt"));
    });
    println!("pair key (X25519 and HKDF): {:.1} us", micros(time));
    let time = best(500, || {
        black_box(PrivateKey::random(rng));
    });
    println!("new key pair: {:.1} us", micros(time));

    let xs: Vec<u32> = (1..=HOLDERS).collect();
    let secret = Secret::random(rng);
    let time = best(100, || {
        black_box(split(&secret, THRESHOLD, &xs, rng).expect("good places"));
    });
    println!("dealing {HOLDERS} shares, threshold {THRESHOLD}: {:.0} us", micros(time));
    let dealt = split(&secret, THRESHOLD, &xs, rng).expect("good places");
    let mut shares: Vec<(u32, Share)> = xs.iter().copied().zip(dealt).collect();
    let time = best(100, || {
        black_box(reconstruct(&shares, THRESHOLD).expect("shares enough"));
    });
    println!("reconstructing from {THRESHOLD} shares: {:.0} us", micros(time));
    let liars = (HOLDERS - THRESHOLD) as usize / 2;
    for (_, share) in &mut shares[..liars] {
        *share = Share::from_bytes(&[1; 32].map(|byte: u8| byte & 0x0f)).expect("less than l");
    }
    let time = best(20, || {
        let (_, wrong) = reconstruct_robust(&shares, THRESHOLD, |found| *found == secret).expect("liars few enough");
        assert_eq!(wrong.len(), liars);
    });
    println!("decoding {HOLDERS} shares, {liars} of them wrong: {:.0} us", micros(time));

    for (n, degree) in [(256, 134), (1_000_000, 102)] {
        let time = best(5, || {
            black_box(Graph::new([3; 32], n, degree).expect("a graph"));
        });
        println!("graph of {n}: {:.0} us", micros(time));
    }
    for (n, adversarial, dropout, model) in [
        (256, 0.05, 0.3, Model::SemiMalicious),
        (1000, 0.3, 0.3, Model::SemiMalicious),
        (1_000_000, 0.05, 0.3, Model::SemiHonest),
        (1_000_000, 0.05, 0.3, Model::SemiMalicious),
        (1_000_000, 0.3, 0.3, Model::SemiMalicious),
        (1_000_000, 0.0, 0.45, Model::SemiMalicious),
        (1_000_000, 0.9, 0.0, Model::SemiMalicious),
        (1_000_000, 0.6, 0.3, Model::SemiHonest),
        (1_000_000, 0.0, 0.9, Model::SemiHonest),
    ] {
        let mut found = None;
        let time = best(2, || found = Some(find(n, adversarial, dropout, model)));
        println!(
            "parameters for {n}, {adversarial} corrupt, {dropout} dropping out, {model:?}: {:.0} us, {found:?}",
            micros(time)
        );
    }
}

/// The best of some runs: others use this machine too.
fn best(runs: u32, mut run: impl FnMut()) -> Duration {
    let time = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..runs).map(|_| time(&mut run)).min().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
