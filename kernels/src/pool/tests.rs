use super::*;
use crate::isa::Isa;
use crate::layout::Layout;
use crate::permute::{to_channels_first, to_channels_last};
use crate::testing::{Random, assert_close};

/// Shapes whose windows all see the image.
fn shape(random: &mut Random) -> PoolShape {
    loop {
        let widest = [12, 80][random.below(2)];
        let kernels = [[2, 2], [2, 2], [3, 3], [1, 3], [5, 2], [1, 1], [3, 4]];
        let kernel = kernels[random.below(kernels.len())];
        let mut shape = PoolShape {
            images: 1 + random.below(2),
            channels: [1, 3, 7, 8, 16, 17, 33][random.below(7)],
            height: if kernel[0] == 1 { 1 } else { 1 + random.below(12) },
            width: 1 + random.below(widest),
            kernel,
            stride: [1 + random.below(3), 1 + random.below(3)],
            dilation: [[1, 1], [1, 1], [2, 1], [1, 3]][random.below(4)],
            pads: [0; 4],
            ceil: random.below(2) == 0,
        };
        if random.below(3) == 0 {
            shape.stride = kernel;
            shape.dilation = [1, 1];
        } else {
            shape.pads = std::array::from_fn(|i| random.below(2 * kernel[i % 2]).min(kernel[i % 2] - 1));
        }
        if shape.check().is_ok() {
            return shape;
        }
    }
}

/// One window at a time, with padding written out. Returns outputs, and for each the input places (of its plane) and their weights.
fn oracle(shape: &PoolShape, x: &[f32], average: Option<bool>) -> (Vec<f64>, Vec<Vec<(usize, f64)>>) {
    let [rows, columns] = shape.output();
    let (mut y, mut places) = (Vec::new(), Vec::new());
    for plane in x.chunks(shape.height * shape.width) {
        for at in 0..rows * columns {
            let (mut inside, mut counted) = (Vec::new(), 0.0);
            for tap in 0..shape.kernel[0] * shape.kernel[1] {
                let r = at / columns * shape.stride[0] + tap / shape.kernel[1] * shape.dilation[0];
                let c = at % columns * shape.stride[1] + tap % shape.kernel[1] * shape.dilation[1];
                let in_padded = r < shape.pads[0] + shape.height + shape.pads[2] && c < shape.pads[1] + shape.width + shape.pads[3];
                counted += if average == Some(true) && in_padded { 1.0 } else { 0.0 };
                let (Some(r), Some(c)) = (r.checked_sub(shape.pads[0]), c.checked_sub(shape.pads[1])) else {
                    continue;
                };
                if r < shape.height && c < shape.width {
                    inside.push(r * shape.width + c);
                }
            }
            if average.is_some() {
                let count = if average == Some(true) { counted } else { inside.len() as f64 };
                y.push(inside.iter().map(|&i| f64::from(plane[i])).sum::<f64>() / count);
                places.push(inside.into_iter().map(|i| (i, 1.0 / count)).collect());
            } else {
                let first = inside.iter().copied().reduce(|a, b| if plane[b] > plane[a] { b } else { a });
                let first = first.expect("every window sees the image");
                y.push(f64::from(plane[first]));
                places.push(vec![(first, 1.0)]);
            }
        }
    }
    (y, places)
}

fn oracle_gradient(shape: &PoolShape, dy: &[f32], places: &[Vec<(usize, f64)>]) -> Vec<f64> {
    let plane = shape.height * shape.width;
    let [rows, columns] = shape.output();
    let mut dx = vec![0.0; shape.input_len()];
    for (at, places) in places.iter().enumerate() {
        for (place, weight) in places {
            dx[at / (rows * columns) * plane + place] += f64::from(dy[at]) * weight;
        }
    }
    dx
}

/// Runs `f(layout, x, dy)`, which returns `y` and `dx`, in both layouts on the same images; hands back both in the first.
fn in_both_layouts(
    shape: &PoolShape,
    x: &[f32],
    dy: &[f32],
    f: impl Fn(Layout, &[f32], &[f32]) -> (Vec<f32>, Vec<f32>),
) -> Vec<(Vec<f32>, Vec<f32>)> {
    let isa = Isa::PORTABLE;
    let [rows, columns] = shape.output();
    let (input, output) = (
        [shape.images, shape.channels, shape.height * shape.width],
        [shape.images, shape.channels, rows * columns],
    );
    let mut x_last = vec![0.0; x.len()];
    let mut dy_last = vec![0.0; dy.len()];
    to_channels_last(isa, x, input, &mut x_last);
    to_channels_last(isa, dy, output, &mut dy_last);
    let (y, dx) = f(Layout::ChannelsLast, &x_last, &dy_last);
    let (mut y_first, mut dx_first) = (vec![0.0; y.len()], vec![0.0; dx.len()]);
    to_channels_first(isa, &y, output, &mut y_first);
    to_channels_first(isa, &dx, input, &mut dx_first);
    vec![f(Layout::ChannelsFirst, x, dy), (y_first, dx_first)]
}

#[test]
fn the_largest_of_each_window_is_picked() {
    for isa in Isa::available() {
        for seed in 0..400 {
            let mut random = Random::new(seed);
            let shape = shape(&mut random);
            // Few different values, so that there are ties.
            let x: Vec<f32> = random.values(shape.input_len()).iter().map(|v| (v * 4.0).round()).collect();
            let dy = random.values(shape.output_len());
            let (y, places) = oracle(&shape, &x, None);
            let dx = oracle_gradient(&shape, &dy, &places);
            let found = in_both_layouts(&shape, &x, &dy, |layout, x, dy| {
                let pool = MaxPool::new(isa, shape, layout);
                let mut kept = vec![0; pool.kept_len_bytes()];
                let (mut y, mut again, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
                pool.forward(x, &mut y, &mut kept);
                pool.forward(x, &mut again, &mut []);
                assert_eq!(y, again, "{isa:?} seed {seed}: {shape:?} {layout:?} without picks");
                pool.backward(dy, &kept, &mut dx);
                (y, dx)
            });
            for (layout, (found_y, found_dx)) in found.iter().enumerate() {
                assert_close(found_y, &y, 0.0, &format!("{isa:?} seed {seed}: {shape:?} layout {layout}"));
                assert_close(
                    found_dx,
                    &dx,
                    1e-6,
                    &format!("{isa:?} seed {seed}: {shape:?} layout {layout} backward"),
                );
            }
        }
    }
}

#[test]
fn the_mean_of_each_window_counts_what_it_should() {
    for isa in Isa::available() {
        for seed in 0..400 {
            let mut random = Random::new(seed);
            let shape = shape(&mut random);
            let padding_counts = seed % 2 == 0;
            let (x, dy) = (random.values(shape.input_len()), random.values(shape.output_len()));
            let (y, places) = oracle(&shape, &x, Some(padding_counts));
            let dx = oracle_gradient(&shape, &dy, &places);
            let found = in_both_layouts(&shape, &x, &dy, |layout, x, dy| {
                let pool = AveragePool::new(isa, shape, layout, padding_counts);
                let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
                pool.forward(x, &mut y);
                pool.backward(dy, &mut dx);
                (y, dx)
            });
            for (layout, (found_y, found_dx)) in found.iter().enumerate() {
                assert_close(found_y, &y, 1e-5, &format!("{isa:?} seed {seed}: {shape:?} layout {layout}"));
                assert_close(
                    found_dx,
                    &dx,
                    1e-5,
                    &format!("{isa:?} seed {seed}: {shape:?} layout {layout} backward"),
                );
            }
        }
    }
}

#[test]
fn windows_of_many_taps_keep_larger_picks() {
    let shape = PoolShape {
        images: 2,
        channels: 17,
        height: 40,
        width: 37,
        kernel: [20, 37],
        stride: [20, 37],
        dilation: [1, 1],
        pads: [0; 4],
        ceil: false,
    };
    for isa in Isa::available() {
        let mut random = Random::new(3);
        let (x, dy) = (random.values(shape.input_len()), random.values(shape.output_len()));
        let (y, places) = oracle(&shape, &x, None);
        let dx = oracle_gradient(&shape, &dy, &places);
        let found = in_both_layouts(&shape, &x, &dy, |layout, x, dy| {
            let pool = MaxPool::new(isa, shape, layout);
            assert_eq!(pool.kept_len_bytes(), 4 * dy.len());
            let (mut y, mut dx, mut kept) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0; pool.kept_len_bytes()]);
            pool.forward(x, &mut y, &mut kept);
            pool.backward(dy, &kept, &mut dx);
            (y, dx)
        });
        for (found_y, found_dx) in found {
            assert_close(&found_y, &y, 0.0, &format!("{isa:?}"));
            assert_close(&found_dx, &dx, 1e-6, &format!("{isa:?}"));
        }
    }
}

#[test]
fn not_a_number_is_not_lost() {
    let shape = PoolShape {
        images: 1,
        channels: 1,
        height: 2,
        width: 40,
        kernel: [2, 2],
        stride: [2, 2],
        dilation: [1, 1],
        pads: [0; 4],
        ceil: false,
    };
    for isa in Isa::available() {
        for (at, layout) in (0..80).flat_map(|at| [(at, Layout::ChannelsFirst), (at, Layout::ChannelsLast)]) {
            let mut x = [1.0; 80];
            x[at] = f32::NAN;
            let mut y = [0.0; 20];
            MaxPool::new(isa, shape, layout).forward(&x, &mut y, &mut []);
            for (i, y) in y.into_iter().enumerate() {
                assert_eq!(y.is_nan(), i == at % 40 / 2, "{isa:?} {layout:?}: {at} seen at {i}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "wholly in the padding")]
fn a_window_that_sees_nothing_is_refused() {
    let shape = PoolShape {
        images: 1,
        channels: 1,
        height: 1,
        width: 4,
        kernel: [1, 2],
        stride: [1, 2],
        dilation: [1, 1],
        pads: [0, 2, 0, 0],
        ceil: false,
    };
    AveragePool::new(Isa::best(), shape, Layout::ChannelsFirst, true);
}
