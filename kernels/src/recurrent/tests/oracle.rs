//! LSTM and GRU in f64, one value after the other, in the layouts of ONNX.

use super::super::{Cell, Recurrent, Shape};

/// Everything that goes into a layer, or the gradients by it.
#[derive(Debug, Clone, Default)]
pub(super) struct Operands {
    pub(super) x: Vec<f64>,
    pub(super) w: Vec<f64>,
    pub(super) r: Vec<f64>,
    pub(super) b: Vec<f64>,
    pub(super) hidden: Vec<f64>,
    pub(super) cell: Vec<f64>,
}

/// Everything that comes out, or the gradients by it.
#[derive(Debug, Clone, Default)]
pub(super) struct Results {
    pub(super) y: Vec<f64>,
    pub(super) hidden: Vec<f64>,
    pub(super) cell: Vec<f64>,
}

/// What the gradient of one row's step needs.
struct Row {
    t: usize,
    b: usize,
    /// Activated gates in the order of ONNX, `[gates][hidden]`, and the recurrent sums of each.
    gates: Vec<Vec<f64>>,
    recurrent: Vec<Vec<f64>>,
    hidden: Vec<f64>,
    cell: Vec<f64>,
    after: Vec<f64>,
}

/// Where things begin.
struct Places(Shape, usize);

impl Places {
    fn x(&self, t: usize, b: usize) -> usize {
        let s = &self.0;
        s.input * if s.batch_first { b * s.steps + t } else { t * s.batch + b }
    }
    fn y(&self, t: usize, d: usize, b: usize) -> usize {
        let (s, all) = (&self.0, self.1);
        s.hidden
            * if s.batch_first {
                (b * s.steps + t) * all + d
            } else {
                (t * all + d) * s.batch + b
            }
    }
    fn state(&self, d: usize, b: usize) -> usize {
        let (s, all) = (&self.0, self.1);
        s.hidden * if s.batch_first { b * all + d } else { d * s.batch + b }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Runs the layer; with `by`, the gradients of `sum(results * by)`.
pub(super) fn run(layer: &Recurrent, lengths: Option<&[usize]>, o: &Operands, by: Option<&Results>) -> (Results, Operands) {
    let shape = *layer.shape();
    let Shape {
        steps,
        batch,
        input,
        hidden: n,
        ..
    } = shape;
    let (all, gates) = (layer.directions(), if shape.cell == Cell::Lstm { 4 } else { 3 });
    let at = Places(shape, all);
    let mut out = Results {
        y: vec![0.0; all * steps * batch * n],
        hidden: vec![0.0; all * batch * n],
        cell: vec![0.0; all * batch * n],
    };
    let zeros = |v: &Vec<f64>| vec![0.0; v.len()];
    let mut grad = Operands {
        x: zeros(&o.x),
        w: zeros(&o.w),
        r: zeros(&o.r),
        b: zeros(&o.b),
        hidden: zeros(&o.hidden),
        cell: zeros(&o.cell),
    };
    for d in 0..all {
        let w = |g: usize, u: usize| ((d * gates + g) * n + u) * input;
        let r = |g: usize, u: usize| ((d * gates + g) * n + u) * n;
        let bias = |which: usize, g: usize, u: usize| ((d * 2 + which) * gates + g) * n + u;
        for b in 0..batch {
            let from = at.state(d, b);
            let mut h = o.hidden.get(from..from + n).map_or(vec![0.0; n], <[f64]>::to_vec);
            let mut c = o.cell.get(from..from + n).map_or(vec![0.0; n], <[f64]>::to_vec);
            let mut rows = Vec::new();
            for s in 0..steps {
                let t = if layer.is_reverse(d) { steps - 1 - s } else { s };
                if lengths.is_some_and(|l| t >= l[b]) {
                    continue;
                }
                let x = &o.x[at.x(t, b)..][..input];
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let bias_of = |which, g, u| o.b.get(bias(which, g, u)).copied().unwrap_or(0.0);
                let table =
                    |f: &dyn Fn(usize, usize) -> f64| -> Vec<Vec<f64>> { (0..gates).map(|g| (0..n).map(|u| f(g, u)).collect()).collect() };
                let from_x = table(&|g, u| dot(x, &o.w[w(g, u)..][..input]) + bias_of(0, g, u));
                let recurrent = table(&|g, u| dot(&h, &o.r[r(g, u)..][..n]) + bias_of(1, g, u));
                let (before, cell) = (h.clone(), c.clone());
                let mut y = from_x.clone();
                for u in 0..n {
                    match shape.cell {
                        Cell::Lstm => {
                            for g in 0..4 {
                                let sum = from_x[g][u] + recurrent[g][u];
                                y[g][u] = if g == 3 { sum.tanh() } else { sigmoid(sum) };
                            }
                            c[u] = y[2][u] * c[u] + y[0][u] * y[3][u];
                            h[u] = y[1][u] * c[u].tanh();
                        }
                        Cell::Gru => {
                            y[0][u] = sigmoid(from_x[0][u] + recurrent[0][u]);
                            y[1][u] = sigmoid(from_x[1][u] + recurrent[1][u]);
                            y[2][u] = (from_x[2][u] + y[1][u] * recurrent[2][u]).tanh();
                            h[u] = (1.0 - y[0][u]) * y[2][u] + y[0][u] * h[u];
                        }
                    }
                }
                out.y[at.y(t, d, b)..][..n].copy_from_slice(&h);
                rows.push(Row {
                    t,
                    b,
                    gates: y,
                    recurrent,
                    hidden: before,
                    cell,
                    after: c.clone(),
                });
            }
            out.hidden[from..from + n].copy_from_slice(&h);
            out.cell[from..from + n].copy_from_slice(&c);
            let Some(by) = by else { continue };
            let mut dh = by.hidden[from..from + n].to_vec();
            let mut dc = by.cell[from..from + n].to_vec();
            for row in rows.iter().rev() {
                let y = &row.gates;
                let mut past = vec![0.0; n];
                for u in 0..n {
                    let dh = dh[u] + by.y[at.y(row.t, d, row.b) + u];
                    let slope = |g: usize| y[g][u] * (1.0 - y[g][u]);
                    // By the sums of the input's product, and of the recurrent one.
                    let mut by_x = vec![0.0; gates];
                    match shape.cell {
                        Cell::Lstm => {
                            let squashed = row.after[u].tanh();
                            dc[u] += dh * y[1][u] * (1.0 - squashed * squashed);
                            by_x[0] = dc[u] * y[3][u] * slope(0);
                            by_x[1] = dh * squashed * slope(1);
                            by_x[2] = dc[u] * row.cell[u] * slope(2);
                            by_x[3] = dc[u] * y[0][u] * (1.0 - y[3][u] * y[3][u]);
                            dc[u] *= y[2][u];
                        }
                        Cell::Gru => {
                            by_x[2] = dh * (1.0 - y[0][u]) * (1.0 - y[2][u] * y[2][u]);
                            by_x[0] = dh * (row.hidden[u] - y[2][u]) * slope(0);
                            by_x[1] = by_x[2] * row.recurrent[2][u] * slope(1);
                            past[u] += dh * y[0][u];
                        }
                    }
                    let mut by_h = by_x.clone();
                    if shape.cell == Cell::Gru {
                        by_h[2] *= y[1][u];
                    }
                    for g in 0..gates {
                        for i in 0..input {
                            grad.w[w(g, u) + i] += by_x[g] * o.x[at.x(row.t, row.b) + i];
                            grad.x[at.x(row.t, row.b) + i] += by_x[g] * o.w[w(g, u) + i];
                        }
                        for i in 0..n {
                            grad.r[r(g, u) + i] += by_h[g] * row.hidden[i];
                            past[i] += by_h[g] * o.r[r(g, u) + i];
                        }
                        if !o.b.is_empty() {
                            grad.b[bias(0, g, u)] += by_x[g];
                            grad.b[bias(1, g, u)] += by_h[g];
                        }
                    }
                }
                dh = past;
            }
            if let Some(place) = grad.hidden.get_mut(from..from + n) {
                place.copy_from_slice(&dh);
            }
            if let Some(place) = grad.cell.get_mut(from..from + n) {
                place.copy_from_slice(&dc);
            }
        }
    }
    (out, grad)
}
