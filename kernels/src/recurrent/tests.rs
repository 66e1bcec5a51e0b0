//! Both cells against plain f64, over odd shapes and every instruction set.

mod oracle;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::{Backward, Cell, Direction, Forward, Recurrent, Shape};
use crate::Team;
use crate::buffer::Buffer;
use crate::isa::Isa;
use oracle::{Operands, Results, run};

/// Values behind the scratch that have to stay.
const GUARD: usize = 1 << 14;

const CELLS: [Cell; 2] = [Cell::Lstm, Cell::Gru];
const DIRECTIONS: [Direction; 3] = [Direction::Forward, Direction::Reverse, Direction::Both];

/// Numbers that f32 holds, from -1 to 1.
fn numbers(rng: &mut ChaCha8Rng, len: usize, scale: f32) -> Vec<f64> {
    (0..len)
        .map(|_| f64::from((rng.next_u32() as f32 / 2f32.powi(31) - 1.0) * scale))
        .collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

fn operands(rng: &mut ChaCha8Rng, layer: &Recurrent, states: bool) -> Operands {
    let s = layer.shape();
    let gates = layer.directions() * layer.gates() * s.hidden;
    let scale = 1.0 / (s.hidden as f32).sqrt();
    let state = if states { layer.state_len() } else { 0 };
    Operands {
        x: numbers(rng, layer.x_len(), 1.0),
        w: numbers(rng, gates * s.input, 1.0 / (s.input as f32).sqrt()),
        r: numbers(rng, gates * s.hidden, scale),
        b: numbers(rng, if s.bias { 2 * gates } else { 0 }, scale),
        hidden: numbers(rng, state, 1.0),
        cell: numbers(rng, if layer.has_cell() { state } else { 0 }, 1.0),
    }
}

fn results(rng: &mut ChaCha8Rng, layer: &Recurrent) -> Results {
    let cell = if layer.has_cell() { 1.0 } else { 0.0 };
    Results {
        y: numbers(rng, layer.y_len(), 1.0),
        hidden: numbers(rng, layer.state_len(), 1.0),
        cell: numbers(rng, layer.state_len(), cell),
    }
}

#[track_caller]
fn assert_near(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs())).max(1e-3);
    for (i, (&f, e)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(f) - e).abs();
        assert!(error <= 1e-5 * largest, "{what}[{i}]: {f} for {e}, largest {largest}");
    }
}

/// Both passes and the update against the oracle, with junk in everything that is to be written.
/// By one thread and by three, with the same bits.
fn check(shape: Shape, isa: Isa, seed: u64, lengths: Option<&[usize]>) {
    let alone = check_by(&Team::alone(), shape, isa, seed, lengths);
    let three = check_by(&Team::new(3).cutting_from(0), shape, isa, seed, lengths);
    let bits = |all: Vec<Vec<f32>>| -> Vec<u32> { all.iter().flatten().map(|v| v.to_bits()).collect() };
    assert!(bits(alone) == bits(three), "{isa:?} seed {seed} {shape:?}: three threads");
}

fn check_by(team: &Team, shape: Shape, isa: Isa, seed: u64, lengths: Option<&[usize]>) -> Vec<Vec<f32>> {
    let layer = Recurrent::new(isa, shape);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let states = seed.is_multiple_of(2);
    let o = operands(&mut rng, &layer, states);
    let by = results(&mut rng, &layer);
    let (expected, gradients) = run(&layer, lengths, &o, Some(&by));

    let bias = narrow(&o.b);
    let bias = shape.bias.then_some(&bias[..]);
    let mut weights = Buffer::new(layer.weights_len());
    layer.lay_out(&narrow(&o.w), &narrow(&o.r), bias, &mut weights);
    let (x, hidden, cell) = (narrow(&o.x), narrow(&o.hidden), narrow(&o.cell));
    let junk = |len: usize| vec![f32::NAN; len];
    let mut kept = Buffer::from_slice(&junk(layer.kept_len()));
    // What lies behind the scratch is somebody else's.
    let mut guarded = Buffer::from_slice(&junk(layer.scratch_len(team.threads()) + GUARD));
    let (scratch, guard) = guarded.split_at_mut(layer.scratch_len(team.threads()));
    let (mut y, mut last_hidden, mut last_cell) = (junk(layer.y_len()), junk(layer.state_len()), junk(layer.state_len()));
    let of_cell = layer.has_cell();
    layer.forward(
        team,
        Forward {
            x: &x,
            weights: &weights,
            lengths,
            initial_hidden: states.then_some(&hidden),
            initial_cell: (states && of_cell).then_some(&cell),
            y: &mut y,
            last_hidden: Some(&mut last_hidden),
            last_cell: of_cell.then_some(&mut last_cell),
            kept: &mut kept,
            scratch,
        },
    );
    assert_near("y", &y, &expected.y);
    assert_near("last hidden", &last_hidden, &expected.hidden);
    if of_cell {
        assert_near("last cell", &last_cell, &expected.cell);
    }

    let (by_y, by_last_hidden, by_last_cell) = (narrow(&by.y), narrow(&by.hidden), narrow(&by.cell));
    let (mut by_x, mut by_hidden, mut by_cell) = (junk(layer.x_len()), junk(layer.state_len()), junk(layer.state_len()));
    scratch.fill(f32::NAN);
    layer.backward(
        team,
        Backward {
            weights: &weights,
            lengths,
            by_y: Some(&by_y),
            by_last_hidden: Some(&by_last_hidden),
            by_last_cell: of_cell.then_some(&by_last_cell),
            kept: &mut kept,
            by_x: Some(&mut by_x),
            by_initial_hidden: states.then_some(&mut by_hidden),
            by_initial_cell: (states && of_cell).then_some(&mut by_cell),
            scratch,
        },
    );
    assert_near("by x", &by_x, &gradients.x);
    if states {
        assert_near("by hidden", &by_hidden, &gradients.hidden);
        if of_cell {
            assert_near("by cell", &by_cell, &gradients.cell);
        }
    }

    // Half a gradient on top of the weights.
    layer.update(team, &x, &kept, &mut weights, 0.5, scratch);
    let (mut w, mut r, mut b) = (junk(o.w.len()), junk(o.r.len()), junk(o.b.len()));
    layer.read_out(&weights, &mut w, &mut r, shape.bias.then_some(&mut b));
    let half = |at: &[f64], by: &[f64]| -> Vec<f64> { at.iter().zip(by).map(|(a, g)| a + 0.5 * g).collect() };
    assert_near("w", &w, &half(&o.w, &gradients.w));
    assert_near("r", &r, &half(&o.r, &gradients.r));
    assert_near("b", &b, &half(&o.b, &gradients.b));
    // Lanes beyond the hidden size stayed zero: weights that are laid out anew are the same, bit for bit.
    let mut again = Buffer::new(layer.weights_len());
    layer.lay_out(&w, &r, shape.bias.then_some(&b), &mut again);
    assert!(
        weights.iter().zip(&*again).all(|(a, b)| a.to_bits() == b.to_bits()),
        "padding changed"
    );
    assert!(guard.iter().all(|v| v.is_nan()), "{shape:?} {isa:?} writes behind its scratch");
    vec![y, last_hidden, last_cell, by_x, by_hidden, by_cell, weights.to_vec()]
}

fn plain(cell: Cell, steps: usize, batch: usize, input: usize, hidden: usize) -> Shape {
    Shape {
        cell,
        direction: Direction::Forward,
        steps,
        batch,
        input,
        hidden,
        batch_first: false,
        bias: true,
    }
}

#[test]
fn every_size_of_batch_and_state_is_right() {
    for isa in Isa::available() {
        let lanes = isa.lanes();
        for cell in CELLS {
            for (i, hidden) in [1, lanes - 1, lanes, lanes + 1, 3 * lanes + 2, 53].into_iter().enumerate() {
                for (k, batch) in [1, 2, 7, 10, 13, 25].into_iter().enumerate() {
                    let input = [1, lanes - 1, lanes, lanes + 1, 3 * lanes, 11][(i + k) % 6];
                    let seed = (i * 10 + k) as u64;
                    let shape = plain(cell, 1 + (i + k) % 5, batch, input, hidden);
                    println!("{isa:?} {shape:?} seed {seed}");
                    check(shape, isa, seed, None);
                }
            }
        }
    }
}

#[test]
fn directions_orders_and_lengths_are_right() {
    let mut seed = 1000;
    for isa in Isa::available() {
        for cell in CELLS {
            for direction in DIRECTIONS {
                for (batch_first, bias) in [(false, false), (false, true), (true, true)] {
                    for (batch, lengths) in [(1, vec![4]), (5, vec![7, 0, 3, 1, 9]), (14, (0..14).collect())] {
                        let shape = Shape {
                            direction,
                            batch_first,
                            bias,
                            ..plain(cell, 7, batch, 6, 19)
                        };
                        println!("{isa:?} {shape:?} seed {seed}");
                        check(shape, isa, seed, None);
                        check(shape, isa, seed + 1, Some(&lengths));
                        seed += 3;
                    }
                }
            }
        }
    }
}

#[test]
fn many_rows_and_columns_are_right() {
    for isa in Isa::available() {
        for cell in CELLS {
            println!("{isa:?} {cell:?} seeds 7, 8");
            check(plain(cell, 80, 3, 5, 40), isa, 7, None);
            check(plain(cell, 5, 33, 70, 130), isa, 8, None);
        }
    }
}

/// The oracle's own gradients, by finite differences.
#[test]
fn the_oracle_is_right() {
    for cell in CELLS {
        for direction in DIRECTIONS {
            let shape = Shape {
                direction,
                ..plain(cell, 4, 2, 3, 3)
            };
            let layer = Recurrent::new(Isa::PORTABLE, shape);
            let mut rng = ChaCha8Rng::seed_from_u64(5);
            let o = operands(&mut rng, &layer, true);
            let by = results(&mut rng, &layer);
            let lengths = Some(&[3usize, 4][..]);
            let (_, gradients) = run(&layer, lengths, &o, Some(&by));
            let loss = |o: &Operands| {
                let (out, _) = run(&layer, lengths, o, None);
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                dot(&out.y, &by.y) + dot(&out.hidden, &by.hidden) + dot(&out.cell, &by.cell)
            };
            type Part = (fn(&mut Operands) -> &mut Vec<f64>, Vec<f64>);
            let each: [Part; 6] = [
                (|o| &mut o.x, gradients.x),
                (|o| &mut o.w, gradients.w),
                (|o| &mut o.r, gradients.r),
                (|o| &mut o.b, gradients.b),
                (|o| &mut o.hidden, gradients.hidden),
                (|o| &mut o.cell, gradients.cell),
            ];
            for (part, (values, gradients)) in each.into_iter().enumerate() {
                for (i, gradient) in gradients.into_iter().enumerate() {
                    let moved = |by: f64| {
                        let mut o = o.clone();
                        values(&mut o)[i] += by;
                        loss(&o)
                    };
                    let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    assert!(
                        (slope - gradient).abs() < 1e-7,
                        "{cell:?} {direction:?} {part} {i}: {slope}, {gradient}"
                    );
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "kept has 3 values")]
fn a_slice_that_is_too_short_is_refused() {
    let layer = Recurrent::new(Isa::best(), plain(Cell::Gru, 2, 2, 2, 2));
    let weights = vec![0.0; layer.weights_len()];
    layer.forward(
        &Team::alone(),
        Forward {
            x: &[0.0; 8],
            weights: &weights,
            lengths: None,
            initial_hidden: None,
            initial_cell: None,
            y: &mut [0.0; 8],
            last_hidden: None,
            last_cell: None,
            kept: &mut [0.0; 3],
            scratch: &mut [],
        },
    );
}

/// Long sequences of small layers: what the update packs is more than what the passes need.
#[test]
fn small_layers_of_many_rows_keep_to_their_scratch() {
    for isa in Isa::available() {
        for (i, (cell, steps, batch, input, hidden)) in [
            (Cell::Lstm, 128, 1, 32, 16),
            (Cell::Lstm, 28, 32, 28, 16),
            (Cell::Gru, 128, 1, 64, 32),
            (Cell::Gru, 40, 4, 33, 3),
        ]
        .into_iter()
        .enumerate()
        {
            let shape = Shape {
                cell,
                direction: Direction::Forward,
                steps,
                batch,
                input,
                hidden,
                batch_first: false,
                bias: true,
            };
            check(shape, isa, 900 + i as u64, None);
        }
    }
}
