use super::*;
use crate::testing::Random;

/// What `Σ` of each output is, in 64 bits.
fn oracle(x: &[u8], zero: u8, at: &impl Fn(usize, usize) -> i8, outputs: usize) -> Vec<i64> {
    let sum = |output: usize| {
        x.iter()
            .enumerate()
            .map(|(i, &x)| (i64::from(x) - i64::from(zero)) * i64::from(at(output, i)))
            .sum()
    };
    (0..outputs).map(sum).collect()
}

/// Every instruction set, on shapes with and without rests, is the oracle to the last bit.
#[test]
fn should_sum_exactly_on_every_instruction_set() {
    let mut random = Random::new(1);
    for case in 0..200 {
        let (rows, len, outputs) = (1 + random.below(9), 1 + random.below(70), 1 + random.below(150));
        let extreme = case % 3 == 0;
        let byte = |random: &mut Random| if extreme { 255 } else { random.below(256) as u8 };
        let mut x: Vec<u8> = (0..rows * len).map(|_| byte(&mut random)).collect();
        let weights: Vec<i8> = (0..outputs * len)
            .map(|_| {
                if extreme {
                    [-128, 127][random.below(2)]
                } else {
                    random.below(256) as u8 as i8
                }
            })
            .collect();
        let at = |output: usize, i: usize| weights[output * len + i];
        let (zero, y_zero) = (random.below(256) as u8, random.below(256) as u8);
        let bias: Vec<i32> = (0..outputs).map(|_| random.below(20_000) as i32 - 10_000).collect();
        let scale: Vec<f32> = (0..outputs).map(|_| (random.value() + 1.1) * 1e-3).collect();
        let add = random.values(outputs);
        let each = x.chunks(len).map(|x| oracle(x, zero, &at, outputs)).collect::<Vec<_>>().concat();
        let floats: Vec<f32> = each
            .iter()
            .enumerate()
            .map(|(i, &sum)| (sum + i64::from(bias[i % outputs])) as f32 * scale[i % outputs] + add[i % outputs])
            .collect();
        let least = random.below(100) as u8;
        let bytes: Vec<u8> = floats
            .iter()
            .map(|v| (f64::from(v.round_ties_even()) + f64::from(y_zero)).clamp(f64::from(least), 255.0) as u8)
            .collect();
        x.resize(rows * len + SLACK, 7);
        for isa in Isa::available() {
            let runs = Runs::one(len);
            let packed = Weights::new(isa, &runs, outputs, at);
            let rescale = packed.rescale(zero, &bias, &scale, &add).expect("fits");
            let places = Places {
                count: [1, rows],
                x: [0, len],
                y: [0, outputs],
            };
            let mut y = vec![0u8; rows * outputs];
            let to = To::Bytes {
                y: &mut y,
                zero: y_zero,
                least,
                most: 255,
            };
            product(&packed, &runs, &rescale, places, &x, to);
            assert_eq!(y, bytes, "{isa:?}: {rows} x {len} x {outputs}");
            let mut y = vec![0f32; rows * outputs];
            product(&packed, &runs, &rescale, places, &x, To::Floats { y: &mut y, relu: false });
            assert_eq!(y, floats, "{isa:?}: {rows} x {len} x {outputs}");
        }
    }
}

/// A convolution by runs is the sum over its window.
#[test]
fn should_convolve_by_runs() {
    let mut random = Random::new(2);
    for _ in 0..100 {
        let mut one_of = |below: usize| 1 + random.below(below);
        let (channels, outputs) = (one_of(9), one_of(40));
        let (kernel, stride, dilation) = ([one_of(3), one_of(5)], [one_of(2), one_of(2)], [one_of(2), one_of(2)]);
        let size = [one_of(6) + 5, one_of(20) + 9];
        let frame = Frame {
            before: [1, 2],
            behind: [one_of(2), 1],
            ..Frame::bare(channels, size)
        };
        let held = [
            frame.before[0] + size[0] + frame.behind[0],
            frame.before[1] + size[1] + frame.behind[1],
        ];
        let out: [usize; 2] = std::array::from_fn(|i| (held[i] - dilation[i] * (kernel[i] - 1) - 1) / stride[i] + 1);
        let zero = random.below(256) as u8;
        let x: Vec<u8> = (0..frame.len() + SLACK).map(|_| random.below(256) as u8).collect();
        let taps = kernel[0] * kernel[1] * channels;
        let weights: Vec<i8> = (0..outputs * taps).map(|_| random.below(256) as u8 as i8).collect();
        let at = |output: usize, i: usize| weights[output * taps + i];
        let mut expected = Vec::new();
        for row in 0..out[0] {
            for column in 0..out[1] {
                let tap = |i: usize| {
                    let (c, tap) = (i % channels, i / channels);
                    let y = row * stride[0] + tap / kernel[1] * dilation[0];
                    let x_at = column * stride[1] + tap % kernel[1] * dilation[1];
                    x[y * frame.row() + x_at * channels + c]
                };
                let under: Vec<u8> = (0..taps).map(tap).collect();
                expected.extend(oracle(&under, zero, &at, outputs).iter().map(|&sum| sum as f32));
            }
        }
        let runs = Runs::window(kernel, dilation, channels, frame.row());
        for isa in Isa::available() {
            let packed = Weights::new(isa, &runs, outputs, at);
            let none = vec![0.0; outputs];
            let rescale = packed.rescale(zero, &vec![0; outputs], &vec![1.0; outputs], &none).expect("fits");
            let places = Places {
                count: out,
                x: [stride[0] * frame.row(), stride[1] * channels],
                y: [out[1] * outputs, outputs],
            };
            let mut y = vec![0.0; expected.len()];
            product(&packed, &runs, &rescale, places, &x, To::Floats { y: &mut y, relu: false });
            assert_eq!(y, expected, "{isa:?}: {frame:?} {kernel:?} {stride:?} {dilation:?}");
        }
    }
}

#[test]
fn should_refuse_sums_that_may_overflow() {
    let runs = Runs::one(70_000);
    let weights = Weights::new(Isa::PORTABLE, &runs, 1, |_, _| 127);
    assert!(weights.rescale(0, &[0], &[1.0], &[0.0]).is_none());
    let runs = Runs::one(1000);
    let weights = Weights::new(Isa::PORTABLE, &runs, 1, |_, _| 127);
    assert!(weights.rescale(0, &[0], &[1.0], &[0.0]).is_some());
    assert!(weights.rescale(0, &[i32::MAX], &[1.0], &[0.0]).is_none());
}

#[test]
fn should_quantize_pool_and_dequantize_within_frames() {
    let mut random = Random::new(3);
    for isa in Isa::available() {
        for channels in [1, 3, 17] {
            let from = Frame {
                before: [1, 1],
                behind: [1, 0],
                ..Frame::bare(channels, [5, 7])
            };
            let x: Vec<f32> = random.values(channels * 35).iter().map(|v| v * 3.0).collect();
            let (scale, zero) = (0.01, 100);
            let mut bytes = vec![0; from.len()];
            quantize(isa, &x, scale, zero, &from, &mut bytes);
            let back = |v: f32| f64::from((v / scale).round_ties_even() + 100.0).clamp(0.0, 255.0) as u8;
            let mut floats = vec![0.0; x.len()];
            dequantize(&bytes, scale, zero, &from, &mut floats);
            for (x, found) in x.iter().zip(&floats) {
                assert_eq!(*found, (f32::from(back(*x)) - 100.0) * scale);
            }
            let to = Frame::bare(channels, [3, 3]);
            let mut largest = vec![0; to.len()];
            max_pool(isa, &bytes, &from, [3, 2], [2, 3], [1, 1], &mut largest, &to);
            for (i, &found) in largest.iter().enumerate() {
                let (c, place) = (i % channels, i / channels);
                let mut expected = 0;
                for a in 0..3 {
                    for b in 0..2 {
                        let (row, column) = (place / 3 * 2 + a, place % 3 * 3 + b);
                        expected = expected.max(bytes[row * from.row() + column * channels + c]);
                    }
                }
                assert_eq!(found, expected, "{isa:?} {channels}");
            }
        }
    }
    let none = Frame::bare(1, [1, 3]);
    let mut bytes = vec![9; 3];
    quantize(
        Isa::best(),
        &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY],
        1.0,
        3,
        &none,
        &mut bytes,
    );
    assert_eq!(bytes, [0, 255, 0]);
}

#[test]
fn should_read_nothing_behind_the_bytes_whatever_the_runs_say() {
    let [row, rows] = [([1, 3], [1, 0]), ([2, 2], [1000, 1])].map(|(rows, strides)| Runs {
        count: 3,
        len: 4,
        rows,
        strides,
    });
    let weights = Weights::new(Isa::best(), &row, 1, |_, _| 1);
    let rescale = weights.rescale(0, &[0], &[1.0], &[0.0]).expect("small sums");
    let places = Places {
        count: [1, 1],
        x: [0, 0],
        y: [0, 0],
    };
    let run = |runs: &Runs, len: usize| {
        let (x, mut y) = (vec![1; len], [0.0]);
        let to = To::Floats { y: &mut y, relu: false };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| product(&weights, runs, &rescale, places, &x, to))).is_ok()
    };
    assert!(run(&row, 6) && !run(&row, 5), "three runs of four bytes, one byte apart");
    assert!(!run(&rows, 1003) && run(&rows, 1004), "the last run is not the furthest");
}
