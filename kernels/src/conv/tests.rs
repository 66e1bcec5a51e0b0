//! Every instruction set against plain loops.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;

mod oracle;

fn values(rng: &mut ChaCha20Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0).collect()
}

/// From channels first to what a layout says, `planes` images of `[channels][pixels]`.
fn arranged(values: &[f32], channels: usize, pixels: usize, layout: Layout) -> Vec<f32> {
    if layout == Layout::ChannelsFirst {
        return values.to_vec();
    }
    let at = |i: usize| i / (channels * pixels) * channels * pixels + i % channels * pixels + i / channels % pixels;
    (0..values.len()).map(|i| values[at(i)]).collect()
}

fn first(values: &[f32], channels: usize, pixels: usize, layout: Layout) -> Vec<f32> {
    if layout == Layout::ChannelsFirst {
        values.to_vec()
    } else {
        arranged(values, pixels, channels, Layout::ChannelsLast)
    }
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3, |a: f64, b| a.max(b.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        assert!(
            error <= 1e-5 * largest,
            "{what}: {found} for {expected} at {i}, the largest is {largest}"
        );
    }
}

/// Filled with what must not matter.
fn scratch(len: usize) -> Buffer {
    Buffer::from_slice(&vec![f32::NAN; len])
}

/// By one thread and by three, with the same bits.
fn check(seed: u64, shape: Shape, layouts: [Layout; 2], relu: bool, pool: Option<MaxPool>, with_bias: bool) {
    let alone = check_by(&Team::alone(), seed, shape, layouts, relu, pool, with_bias);
    let three = check_by(&Team::new(3).cutting_from(0), seed, shape, layouts, relu, pool, with_bias);
    assert!(alone == three, "seed {seed}, {shape:?}, {layouts:?}, {pool:?}: three threads");
}

/// What each instruction set found.
fn check_by(
    team: &Team,
    seed: u64,
    shape: Shape,
    layouts: [Layout; 2],
    relu: bool,
    pool: Option<MaxPool>,
    with_bias: bool,
) -> Vec<[Vec<f32>; 4]> {
    let mut all = Vec::new();
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let Shape {
        images,
        channels_in,
        channels_out,
        groups,
        kernel,
        ..
    } = shape;
    let x = values(&mut rng, images * channels_in * shape.height * shape.width);
    let weights = values(&mut rng, channels_out * channels_in / groups * kernel[0] * kernel[1]);
    let bias = with_bias.then(|| values(&mut rng, channels_out));
    let case = oracle::Case {
        shape,
        relu,
        pool,
        x: &x,
        weights: &weights,
        bias: bias.as_deref(),
    };
    let forward = case.forward();
    let dy = values(&mut rng, forward.y.len());
    let gradients = case.backward(&forward, &dy);

    for isa in Isa::available() {
        let what = format!("seed {seed}, {isa:?}, {shape:?}, {layouts:?}, relu {relu}, {pool:?}, bias {with_bias}");
        let conv = Conv::new(isa, shape, layouts[0], layouts[1], relu, pool);
        let mut laid_out = Buffer::new(conv.weights_len());
        conv.lay_out(&weights, &mut laid_out);
        let mut back = vec![0.0; weights.len()];
        conv.read_out(&laid_out, &mut back);
        assert_eq!(back, weights, "{what}");

        let (in_pixels, out_pixels) = (shape.height * shape.width, conv.output_size().iter().product());
        let x = arranged(&x, channels_in, in_pixels, layouts[0]);
        let dy = arranged(&dy, channels_out, out_pixels, layouts[1]);
        let [f, i, w] = conv.scratch_lens(team.threads());
        let mut y = vec![f32::NAN; dy.len()];
        let mut kept = vec![255; conv.kept_len_bytes()];
        conv.forward(team, &x, &laid_out, bias.as_deref(), &mut y, &mut kept, &mut scratch(f));
        assert_near(&first(&y, channels_out, out_pixels, layouts[1]), &forward.y, &format!("y, {what}"));

        // In two parts, from the same bits.
        let half = images / 2;
        let [x_len, y_len] = conv.image_len();
        let (mut parts_y, mut parts_kept) = (vec![0.0; y.len()], vec![255; kept.len()]);
        for part in [0..half, half..images] {
            let (y, kept) = (&mut parts_y[part.start * y_len..part.end * y_len], &mut parts_kept[..]);
            let kept = &mut kept[part.start * conv.kept_image()..part.end * conv.kept_image()];
            conv.forward(
                team,
                &x[part.start * x_len..part.end * x_len],
                &laid_out,
                bias.as_deref(),
                y,
                kept,
                &mut scratch(f),
            );
        }
        assert!(parts_y == y && parts_kept == kept, "split, {what}");

        let mut dx = vec![f32::NAN; x.len()];
        conv.backward_input(team, &dy, &y, &kept, &laid_out, &mut dx, &mut scratch(i));
        assert_near(
            &first(&dx, channels_in, in_pixels, layouts[0]),
            &gradients.x,
            &format!("dx, {what}"),
        );

        let mut target = Buffer::new(conv.weights_len());
        let mut bias_target = vec![1.0; channels_out];
        conv.backward_weights(team, &x, &dy, &y, &kept, 0.5, &mut target, Some(&mut bias_target), &mut scratch(w));
        conv.backward_weights(team, &x, &dy, &y, &kept, 0.5, &mut target, None, &mut scratch(w));
        conv.read_out(&target, &mut back);
        assert_near(&back, &gradients.weights, &format!("dw, {what}"));
        let bias: Vec<f64> = gradients.bias.iter().map(|g| 1.0 + 0.5 * g).collect();
        assert_near(&bias_target, &bias, &format!("db, {what}"));
        // Padding stays zero, so that the whole can be stepped.
        let sum: f64 = target.iter().map(|v| f64::from(v.abs())).sum();
        let read: f64 = back.iter().map(|v| f64::from(v.abs())).sum();
        assert!((sum - read).abs() <= 1e-9 * sum, "{what}");
        all.push([y, dx, target.to_vec(), bias_target]);
    }
    all
}

const PLAIN: Shape = Shape {
    images: 2,
    channels_in: 1,
    height: 7,
    width: 9,
    channels_out: 5,
    kernel: [3, 3],
    stride: [1, 1],
    dilation: [1, 1],
    pads: [1, 1, 1, 1],
    groups: 1,
};
const LAST: [Layout; 2] = [Layout::ChannelsLast; 2];
const FIRST: [Layout; 2] = [Layout::ChannelsFirst; 2];

#[test]
fn channels_around_a_vector_and_primes() {
    for (seed, (channels_in, channels_out)) in [
        (1, 1),
        (3, 15),
        (15, 16),
        (16, 17),
        (17, 33),
        (8, 7),
        (7, 8),
        (9, 31),
        (32, 64),
        (5, 47),
    ]
    .into_iter()
    .enumerate()
    {
        let shape = Shape {
            channels_in,
            channels_out,
            ..PLAIN
        };
        check(seed as u64, shape, LAST, false, None, seed % 2 == 0);
        check(seed as u64, shape, FIRST, true, None, true);
        check(
            seed as u64,
            shape,
            [Layout::ChannelsLast, Layout::ChannelsFirst],
            true,
            Some(MaxPool { window: [2, 2] }),
            true,
        );
    }
}

#[test]
fn the_cnn_of_mcmahan() {
    let pool = Some(MaxPool { window: [2, 2] });
    let one = Shape {
        images: 1,
        height: 28,
        width: 28,
        channels_out: 32,
        kernel: [5, 5],
        pads: [2; 4],
        ..PLAIN
    };
    check(1, one, [Layout::ChannelsFirst, Layout::ChannelsLast], true, pool, true);
    let two = Shape {
        images: 3,
        channels_in: 32,
        height: 14,
        width: 14,
        channels_out: 64,
        ..one
    };
    check(2, two, LAST, true, pool, true);
    check(3, two, [Layout::ChannelsLast, Layout::ChannelsFirst], true, pool, true);
}

#[test]
fn blocks_of_a_resnet() {
    let shape = Shape {
        images: 5,
        channels_in: 32,
        channels_out: 48,
        ..PLAIN
    };
    check(
        1,
        Shape {
            height: 4,
            width: 4,
            ..shape
        },
        LAST,
        false,
        None,
        false,
    );
    check(
        2,
        Shape {
            height: 16,
            width: 16,
            stride: [2, 2],
            ..shape
        },
        LAST,
        false,
        None,
        false,
    );
    check(
        3,
        Shape {
            height: 8,
            width: 8,
            kernel: [1, 1],
            stride: [2, 2],
            pads: [0; 4],
            ..shape
        },
        LAST,
        false,
        None,
        false,
    );
    check(
        4,
        Shape {
            height: 8,
            width: 8,
            kernel: [1, 1],
            pads: [0; 4],
            ..shape
        },
        LAST,
        true,
        None,
        true,
    );
    check(
        5,
        Shape {
            channels_in: 3,
            height: 32,
            width: 32,
            ..shape
        },
        [Layout::ChannelsFirst, Layout::ChannelsLast],
        false,
        None,
        false,
    );
    // Several blocks of images.
    check(
        6,
        Shape {
            images: 7,
            channels_in: 64,
            channels_out: 20,
            height: 32,
            width: 32,
            ..shape
        },
        LAST,
        false,
        None,
        false,
    );
}

#[test]
fn one_axis_and_depthwise() {
    let line = Shape {
        height: 1,
        kernel: [1, 5],
        pads: [0, 2, 0, 1],
        width: 23,
        channels_in: 6,
        channels_out: 9,
        ..PLAIN
    };
    check(1, line, FIRST, true, Some(MaxPool { window: [1, 3] }), true);
    check(
        2,
        Shape {
            dilation: [1, 2],
            stride: [1, 2],
            ..line
        },
        LAST,
        false,
        None,
        true,
    );
    for (seed, channels) in [2, 7, 16, 17, 40].into_iter().enumerate() {
        let shape = Shape {
            channels_in: channels,
            channels_out: channels,
            groups: channels,
            ..PLAIN
        };
        check(seed as u64, shape, LAST, true, None, true);
        check(
            seed as u64,
            Shape {
                stride: [2, 2],
                kernel: [5, 5],
                pads: [2; 4],
                ..shape
            },
            FIRST,
            false,
            None,
            false,
        );
        check(seed as u64, shape, LAST, true, Some(MaxPool { window: [2, 2] }), true);
    }
}

#[test]
fn random_shapes() {
    for seed in 0..250 {
        let mut rng = ChaCha20Rng::seed_from_u64(1000 + seed);
        let mut pick = |from: usize, to: usize| from + rng.next_u32() as usize % (to - from + 1);
        let groups = if pick(0, 2) == 0 { pick(2, 5) } else { 1 };
        let kernel = if pick(0, 1) == 0 {
            [[1, 1], [3, 3], [5, 5]][pick(0, 2)]
        } else {
            [pick(1, 5), pick(1, 5)]
        };
        let dilation = if pick(0, 3) == 0 { [pick(1, 3), pick(1, 3)] } else { [1, 1] };
        let shape = Shape {
            images: pick(1, 6),
            channels_in: groups * pick(1, 21),
            channels_out: groups * pick(1, 37),
            height: dilation[0] * (kernel[0] - 1) + pick(1, 9),
            width: dilation[1] * (kernel[1] - 1) + pick(1, 19),
            kernel,
            stride: [pick(1, 3), pick(1, 3)],
            dilation,
            pads: [pick(0, 3), pick(0, 3), pick(0, 3), pick(0, 3)],
            groups,
        };
        let layouts = [0, 1].map(|_| {
            if pick(0, 1) == 0 {
                Layout::ChannelsFirst
            } else {
                Layout::ChannelsLast
            }
        });
        let size = Conv::new(Isa::PORTABLE, shape, layouts[0], layouts[1], false, None).output_size();
        let pool = (pick(0, 2) == 0).then(|| MaxPool {
            window: [pick(1, 3.min(size[0])), pick(1, 3.min(size[1]))],
        });
        check(seed, shape, layouts, pick(0, 1) == 0, pool, pick(0, 1) == 0);
    }
}
