//! GFLOP/s of convolutions, forward and in both gradients, beside what this processor can do at most, measured in between.
//!
//! `cargo run --release -p aimass-kernels --example conv_rates [part of a name]`; `AIMASS_CPU_ISA` asks for other instructions.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Seconds that this thread has had a processor: the machine may be busy with other things.
#[cfg(target_os = "linux")]
fn processor_seconds() -> f64 {
    #[repr(C)]
    struct Time {
        seconds: i64,
        nanoseconds: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Time) -> i32;
    }
    const THREAD_CPU_TIME: i32 = 3;
    let mut time = Time {
        seconds: 0,
        nanoseconds: 0,
    };
    // SAFETY: on 64 bits that is what it writes.
    unsafe { clock_gettime(THREAD_CPU_TIME, &mut time) };
    time.seconds as f64 + time.nanoseconds as f64 * 1e-9
}

#[cfg(not(target_os = "linux"))]
fn processor_seconds() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

use aimass_kernels::Layout;
use aimass_kernels::conv::{Conv, MaxPool, Shape};
use aimass_kernels::{Buffer, Isa, Team};

/// The shortest of many runs, which together take so long.
const WINDOW: Duration = Duration::from_millis(300);

fn best(mut run: impl FnMut()) -> f64 {
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed() < WINDOW {
        let start = processor_seconds();
        run();
        best = best.min(processor_seconds() - start);
    }
    best
}

/// Fused products of registers alone, as many as the processor does.
fn peak(isa: Isa) -> f64 {
    const ROUNDS: usize = 200_000;
    const SUMS: usize = 12;
    let lanes = isa.lanes();
    let seconds = best(|| match isa.name() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has what `isa` names.
        "avx512" => unsafe { x86::avx512::<SUMS>(ROUNDS) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        "avx2" => unsafe { x86::avx2::<SUMS>(ROUNDS) },
        _ => {}
    });
    (2 * lanes * SUMS * ROUNDS) as f64 / seconds / 1e9
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn avx512<const SUMS: usize>(rounds: usize) {
        let (a, b) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.25)));
        let mut sums = [b; SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2<const SUMS: usize>(rounds: usize) {
        let (a, b) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(0.25)));
        let mut sums = [b; SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
    }
}

struct Bench {
    conv: Conv,
    x: Buffer,
    weights: Buffer,
    bias: Option<Buffer>,
    y: Buffer,
    kept: Vec<u8>,
    scratch: Buffer,
}

/// Any values around zero.
fn fill(buffer: &mut [f32]) {
    let mut state = 0x9e37_79b9_u32;
    for value in buffer {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        *value = state as f32 / u32::MAX as f32 - 0.5;
    }
}

impl Bench {
    fn new(isa: Isa, shape: Shape, relu: bool, pool: Option<MaxPool>, bias: bool) -> Self {
        let conv = Conv::new(isa, shape, Layout::ChannelsLast, Layout::ChannelsLast, relu, pool);
        let mut x = Buffer::new(shape.images * shape.channels_in * shape.height * shape.width);
        fill(&mut x);
        let mut onnx = vec![0.0; shape.channels_out * shape.channels_in / shape.groups * shape.kernel[0] * shape.kernel[1]];
        fill(&mut onnx);
        let mut weights = Buffer::new(conv.weights_len());
        conv.lay_out(&onnx, &mut weights);
        let [height, width] = conv.output_size();
        Self {
            x,
            weights,
            bias: bias.then(|| Buffer::new(shape.channels_out)),
            y: Buffer::new(shape.images * shape.channels_out * height * width),
            kept: vec![0; conv.kept_len_bytes()],
            scratch: Buffer::new(conv.scratch_len(1)),
            conv,
        }
    }

    /// Seconds forward, by input, by weights.
    fn times(&mut self) -> [f64; 3] {
        let Self {
            conv,
            x,
            weights,
            bias,
            y,
            kept,
            scratch,
            ..
        } = self;
        let team = &Team::alone();
        let forward = best(|| conv.forward(team, black_box(x), weights, bias.as_deref(), y, kept, scratch));
        let mut dy = Buffer::new(y.len());
        fill(&mut dy);
        let mut dx = Buffer::new(x.len());
        let input = best(|| conv.backward_input(team, black_box(&dy), y, kept, weights, &mut dx, scratch));
        let (mut target, mut bias_target) = (Buffer::new(weights.len()), bias.as_ref().map(|bias| Buffer::new(bias.len())));
        let by_weights = best(|| {
            conv.backward_weights(
                team,
                black_box(x),
                &dy,
                y,
                kept,
                1e-6,
                &mut target,
                bias_target.as_deref_mut(),
                scratch,
            );
        });
        [forward, input, by_weights]
    }
}

fn main() {
    let isa = Isa::best();
    let wanted = std::env::args().nth(1).unwrap_or_default();
    println!(
        "{}: GFLOP/s as if nothing were sparse (share of the peak beside it, and microseconds)",
        isa.name()
    );
    let plain = Shape {
        images: 16,
        channels_in: 64,
        height: 32,
        width: 32,
        channels_out: 64,
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        pads: [1; 4],
        groups: 1,
    };
    let one = Shape {
        images: 10,
        channels_in: 1,
        height: 28,
        width: 28,
        channels_out: 32,
        kernel: [5, 5],
        pads: [2; 4],
        ..plain
    };
    let two = Shape {
        channels_in: 32,
        height: 14,
        width: 14,
        channels_out: 64,
        ..one
    };
    let layer = |channels: usize, size: usize| Shape {
        channels_in: channels,
        channels_out: channels,
        height: size,
        width: size,
        ..plain
    };
    let down = |channels: usize, size: usize| Shape {
        channels_in: channels,
        channels_out: 2 * channels,
        height: size,
        width: size,
        stride: [2, 2],
        ..plain
    };
    let short = |shape: Shape| Shape {
        kernel: [1, 1],
        pads: [0; 4],
        ..shape
    };
    let shapes = [
        ("cnn 1 b10", one, true),
        ("cnn 2 b10", two, true),
        ("cnn 1 b1", Shape { images: 1, ..one }, true),
        ("cnn 2 b1", Shape { images: 1, ..two }, true),
        ("cnn 1 b32", Shape { images: 32, ..one }, true),
        ("cnn 2 b32", Shape { images: 32, ..two }, true),
        ("resnet 3-64 @32", Shape { channels_in: 3, ..plain }, false),
        ("resnet 64 @32", plain, false),
        ("resnet 64-128 @32 s2", down(64, 32), false),
        ("resnet 64-128 @32 1x1 s2", short(down(64, 32)), false),
        ("resnet 128 @16", layer(128, 16), false),
        ("resnet 128-256 @16 s2", down(128, 16), false),
        ("resnet 128-256 @16 1x1 s2", short(down(128, 16)), false),
        ("resnet 256 @8", layer(256, 8), false),
        ("resnet 256-512 @8 s2", down(256, 8), false),
        ("resnet 256-512 @8 1x1 s2", short(down(256, 8)), false),
        ("resnet 512 @4", layer(512, 4), false),
        ("1x1 256 @8", short(layer(256, 8)), false),
        (
            "depthwise 128 @16",
            Shape {
                groups: 128,
                ..layer(128, 16)
            },
            false,
        ),
    ];
    for (name, shape, pooled) in shapes {
        if !name.contains(&wanted) {
            continue;
        }
        let pool = pooled.then_some(MaxPool { window: [2, 2] });
        let mut bench = Bench::new(isa, shape, pooled, pool, pooled);
        let before = peak(isa);
        let times = bench.times();
        let peak = before.max(peak(isa));
        print!("{name:26} peak {peak:4.0}");
        for (pass, seconds) in ["forward", "by input", "by weights"].into_iter().zip(times) {
            let rate = bench.conv.operations(shape.images) / seconds / 1e9;
            print!("  {pass} {rate:4.0} ({:3.0} %, {:7.1})", rate / peak * 100.0, seconds * 1e6);
        }
        println!("  scratch {} KiB", bench.conv.scratch_len(1) / 256);
    }
}
