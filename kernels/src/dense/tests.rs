//! Layers against plain loops in f64, on every instruction set, over odd shapes.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::*;

fn values(rng: &mut ChaCha20Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0).collect()
}

fn close(found: &[f32], expected: &[f64], what: &str) {
    let largest = expected.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(*f) - e).abs() <= 1e-5 * largest, "{what} at {i}: {f} for {e}");
    }
}

fn to(values: &mut [f32], alpha: f32) -> Option<Target<'_>> {
    Some(Target { values, alpha })
}

/// `a: [m, k]`, `b: [k, n]` by functions of their places.
fn times(m: usize, n: usize, k: usize, a: impl Fn(usize, usize) -> f32, b: impl Fn(usize, usize) -> f32) -> Vec<f64> {
    let mut c = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            c[i * n + j] = (0..k).map(|l| f64::from(a(i, l)) * f64::from(b(l, j))).sum();
        }
    }
    c
}

/// By one thread and by three, with the same bits.
fn check(isa: Isa, rng: &mut ChaCha20Rng, rows: usize, layer: Dense, with_bias: bool, transposed: bool) {
    let alone = check_by(&Team::alone(), isa, &mut rng.clone(), rows, layer, with_bias, transposed);
    let three = check_by(&Team::new(3).cutting_from(0), isa, rng, rows, layer, with_bias, transposed);
    assert!(alone == three, "{isa:?} {rows} rows {layer:?}: three threads");
}

fn check_by(team: &Team, isa: Isa, rng: &mut ChaCha20Rng, rows: usize, layer: Dense, with_bias: bool, transposed: bool) -> [Vec<f32>; 5] {
    let Dense { inputs, outputs, relu } = layer;
    let what = format!("{isa:?} {rows} rows {layer:?} bias {with_bias} transposed {transposed}");
    let (x, w, bias, dy) = (
        values(rng, rows * inputs),
        values(rng, inputs * outputs),
        values(rng, outputs),
        values(rng, rows * outputs),
    );
    let at = |i: usize, j: usize| if transposed { w[j * inputs + i] } else { w[i * outputs + j] };
    let mut laid_out = Buffer::new(layer.weights_len());
    layer.lay_out(&w, transposed, &mut laid_out);
    let mut back = vec![0.0; w.len()];
    layer.read_out(&laid_out, transposed, &mut back);
    assert_eq!(back, w, "{what}");

    let mut expected = times(rows, outputs, inputs, |i, l| x[i * inputs + l], at);
    for (i, e) in expected.iter_mut().enumerate() {
        *e += if with_bias { f64::from(bias[i % outputs]) } else { 0.0 };
        *e = if relu { e.max(0.0) } else { *e };
    }
    let mut scratch = Buffer::new(layer.scratch_len(rows));
    scratch.fill(f32::NAN);
    let mut y = vec![f32::NAN; rows * outputs];
    layer.forward(team, isa, &x, &laid_out, with_bias.then_some(&bias[..]), &mut y, &mut scratch);
    close(&y, &expected, &format!("{what}: y"));

    let masked: Vec<f32> = dy.iter().zip(&y).map(|(d, y)| if !relu || *y > 0.0 { *d } else { 0.0 }).collect();
    let d = |i: usize, j: usize| masked[i * outputs + j];
    let by_x = times(rows, inputs, outputs, d, |j, i| at(i, j));
    let by_w = times(inputs, outputs, rows, |i, r| x[r * inputs + i], d);
    let alpha = -0.25;
    let pass = Pass { x: &x, y: &y, dy: &dy };
    let (mut dx, mut b) = (vec![f32::NAN; x.len()], bias.clone());
    // In place, then into a buffer of its own.
    let mut updated = laid_out.clone();
    scratch.fill(f32::NAN);
    layer.backward(
        team,
        isa,
        pass,
        None,
        Some(&mut dx),
        to(&mut updated, alpha),
        to(&mut b, alpha),
        &mut scratch,
    );
    close(&dx, &by_x, &format!("{what}: dx"));
    let mut moved = vec![0.0; w.len()];
    layer.read_out(&updated, false, &mut moved);
    let expected: Vec<f64> = (0..w.len())
        .map(|i| f64::from(at(i / outputs, i % outputs)) + f64::from(alpha) * by_w[i])
        .collect();
    close(&moved, &expected, &format!("{what}: weights"));
    let columns: Vec<f64> = (0..outputs)
        .map(|j| f64::from(bias[j]) + f64::from(alpha) * (0..rows).map(|i| f64::from(d(i, j))).sum::<f64>())
        .collect();
    close(&b, &columns, &format!("{what}: bias"));
    for (i, row) in updated.chunks_exact(layer.stride()).enumerate() {
        assert!(
            row[outputs..].iter().all(|v| *v == 0.0),
            "{what}: the padding of row {i} stays zero"
        );
    }
    let mut gradient = Buffer::new(layer.weights_len());
    layer.backward(team, isa, pass, Some(&laid_out), None, to(&mut gradient, 1.0), None, &mut scratch);
    layer.read_out(&gradient, false, &mut moved);
    close(&moved, &by_w, &format!("{what}: gradient"));
    dx.fill(f32::NAN);
    layer.backward(team, isa, pass, Some(&laid_out), Some(&mut dx), None, None, &mut scratch);
    close(&dx, &by_x, &format!("{what}: dx of weights that stay"));
    [y, dx, updated.to_vec(), b, gradient.to_vec()]
}

#[test]
fn layers_of_odd_shapes_are_right_on_every_instruction_set() {
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let sizes = [1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 61, 130];
    for isa in Isa::available() {
        for (i, rows) in [1, 2, 3, 5, 6, 7, 10, 11, 12, 13, 23, 32, 64, 65, 97].into_iter().enumerate() {
            for round in 0..6 {
                let layer = Dense {
                    inputs: sizes[(i + round) % sizes.len()],
                    outputs: sizes[(5 * i + 7 * round + 3) % sizes.len()],
                    relu: round % 2 == 0,
                };
                check(isa, &mut rng, rows, layer, round % 3 != 0, round > 2);
            }
        }
        // Weights that are gone through in blocks.
        let large = Dense {
            inputs: 1131,
            outputs: 301,
            relu: true,
        };
        check(isa, &mut rng, 10, large, true, true);
        check(isa, &mut rng, 1, large, true, false);
    }
}

#[test]
#[should_panic(expected = "within its slice")]
fn a_product_beyond_its_slice_is_refused() {
    let a = [0.0; 5];
    let mut c = [0.0; 4];
    product(
        Isa::best(),
        Matrix::rows(&a, [2, 3]),
        Matrix::rows(&[0.0; 6], [3, 2]),
        1.0,
        0.0,
        MatrixMut::rows(&mut c, [2, 2]),
    );
}
