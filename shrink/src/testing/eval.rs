//! Computes a graph, slowly.

use std::collections::BTreeMap;

use aimass_onnx::proto::{NodeProto, TensorProto};
use aimass_onnx::{Model, TensorRef};

/// A dense array, row-major; booleans and integers as numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f64>,
}

impl Array {
    fn of(tensor: &TensorProto) -> Self {
        let tensor = TensorRef::new(tensor).expect("sound");
        let floats = tensor.to_f32().map(|v| v.into_iter().map(f64::from).collect());
        let data = floats.or_else(|| tensor.to_i64().map(|v| v.into_iter().map(|v| v as f64).collect()));
        Self {
            data: data.expect("floats or integers"),
            shape: tensor.shape,
        }
    }

    fn integers(&self) -> Vec<i64> {
        self.data.iter().map(|&v| v as i64).collect()
    }

    /// The element at a place given for a shape that this one is broadcast to.
    fn at(&self, place: &[usize]) -> f64 {
        let skip = place.len() - self.shape.len();
        let flat = |flat, (&at, &length): (&usize, &usize)| flat * length + if length == 1 { 0 } else { at };
        self.data[place[skip..].iter().zip(&self.shape).fold(0, flat)]
    }

    fn from_fn(shape: Vec<usize>, mut value: impl FnMut(&[usize]) -> f64) -> Self {
        let n = shape.iter().product::<usize>();
        let mut place = vec![0; shape.len()];
        let mut data = Vec::with_capacity(n);
        for _ in 0..n {
            data.push(value(&place));
            for axis in (0..shape.len()).rev() {
                place[axis] += 1;
                if place[axis] < shape[axis] {
                    break;
                }
                place[axis] = 0;
            }
        }
        Self { shape, data }
    }
}

/// The outputs of a model with one input.
pub(crate) fn run(model: &Model, x: &Array) -> Vec<Array> {
    let graph = model.graph();
    let mut values: BTreeMap<String, Array> = BTreeMap::new();
    for tensor in &graph.initializer {
        values.insert(tensor.name.clone(), Array::of(tensor));
    }
    values.insert(model.inputs()[0].name.clone(), x.clone());
    for node in &graph.node {
        let inputs: Vec<Option<&Array>> = node.input.iter().map(|name| values.get(name)).collect();
        let outputs = compute(node, &inputs);
        for (name, output) in node.output.iter().zip(outputs) {
            values.insert(name.clone(), output);
        }
    }
    graph.output.iter().map(|output| values[&output.name].clone()).collect()
}

fn compute(node: &NodeProto, inputs: &[Option<&Array>]) -> Vec<Array> {
    let input = |at: usize| inputs.get(at).copied().flatten();
    let x = || input(0).expect("an input");
    let int = |name: &str, missing: i64| node.attr_i(name).expect("typed").unwrap_or(missing);
    let float = |name: &str, missing: f64| node.attr_f(name).expect("typed").map_or(missing, f64::from);
    let ints = |name: &str| node.attr_ints(name).expect("typed").map(<[i64]>::to_vec);
    let each = |f: &dyn Fn(f64) -> f64| Array {
        shape: x().shape.clone(),
        data: x().data.iter().map(|&v| f(v)).collect(),
    };
    let one = match node.op_type.as_str() {
        "Constant" => Array::of(node.attr_t("value").expect("typed").expect("a tensor")),
        "Identity" | "Dropout" => x().clone(),
        "Relu" => each(&|v| v.max(0.0)),
        "LeakyRelu" => each(&|v| if v < 0.0 { 0.01 * v } else { v }),
        "Sigmoid" => each(&|v| 1.0 / (1.0 + (-v).exp())),
        "Tanh" => each(&f64::tanh),
        "Clip" => {
            let (low, high) = (input(1).map_or(f64::MIN, |a| a.data[0]), input(2).map_or(f64::MAX, |a| a.data[0]));
            each(&|v| v.clamp(low, high))
        }
        "Add" => broadcast(inputs, |a, b| a + b),
        "Sub" => broadcast(inputs, |a, b| a - b),
        "Mul" => broadcast(inputs, |a, b| a * b),
        "Div" => broadcast(inputs, |a, b| a / b),
        "PRelu" => broadcast(inputs, |a, slope| if a < 0.0 { a * slope } else { a }),
        "BatchNormalization" => {
            let epsilon = float("epsilon", 1e-5);
            let part = |at: usize, c: usize| input(at).expect("a parameter").data[c];
            Array::from_fn(x().shape.clone(), |p| {
                (x().at(p) - part(3, p[1])) / (part(4, p[1]) + epsilon).sqrt() * part(1, p[1]) + part(2, p[1])
            })
        }
        "Gemm" => {
            let (a, b) = (x(), input(1).expect("B"));
            let (ta, tb) = (int("transA", 0) != 0, int("transB", 0) != 0);
            let (alpha, beta) = (float("alpha", 1.0), float("beta", 1.0));
            let (rows, inner) = if ta { (a.shape[1], a.shape[0]) } else { (a.shape[0], a.shape[1]) };
            let columns = b.shape[usize::from(!tb)];
            assert_eq!(inner, b.shape[usize::from(tb)]);
            Array::from_fn(vec![rows, columns], |p| {
                let product = |k: usize| {
                    let a = if ta { a.at(&[k, p[0]]) } else { a.at(&[p[0], k]) };
                    a * if tb { b.at(&[p[1], k]) } else { b.at(&[k, p[1]]) }
                };
                alpha * (0..inner).map(product).sum::<f64>() + input(2).map_or(0.0, |c| beta * c.at(p))
            })
        }
        "MatMul" => {
            let (a, b) = (x(), input(1).expect("B"));
            let (rank, inner) = (a.shape.len(), a.shape[a.shape.len() - 1]);
            assert_eq!((b.shape.len(), inner), (2, b.shape[0]));
            let mut shape = a.shape.clone();
            shape[rank - 1] = b.shape[1];
            Array::from_fn(shape, |p| {
                let mut place = p.to_vec();
                let mut product = |k: usize| {
                    place[rank - 1] = k;
                    a.at(&place) * b.at(&[k, p[rank - 1]])
                };
                (0..inner).map(&mut product).sum()
            })
        }
        "Conv" => conv(node, x(), input(1).expect("W"), input(2)),
        "ConvTranspose" => conv_transpose(node, x(), input(1).expect("W"), input(2)),
        "GlobalAveragePool" => {
            let mut shape = x().shape.clone();
            let area = shape[2..].iter().product::<usize>();
            shape[2..].fill(1);
            let data = x().data.chunks(area).map(|c| c.iter().sum::<f64>() / area as f64).collect();
            Array { shape, data }
        }
        "MaxPool" | "AveragePool" => {
            let average = node.op_type == "AveragePool";
            let (kernel, strides) = (ints("kernel_shape").expect("given"), ints("strides"));
            let stride = |axis: usize| strides.as_ref().map_or(1, |s| s[axis] as usize);
            let mut shape = x().shape.clone();
            for (axis, length) in shape[2..].iter_mut().enumerate() {
                *length = (*length - kernel[axis] as usize) / stride(axis) + 1;
            }
            let window: Vec<usize> = kernel.iter().map(|&k| k as usize).collect();
            Array::from_fn(shape, |p| {
                let mut found = Vec::new();
                Array::from_fn(window.clone(), |k| {
                    let place: Vec<usize> = (0..p.len())
                        .map(|a| if a < 2 { p[a] } else { p[a] * stride(a - 2) + k[a - 2] })
                        .collect();
                    found.push(x().at(&place));
                    0.0
                });
                match average {
                    true => found.iter().sum::<f64>() / found.len() as f64,
                    false => found.into_iter().fold(f64::MIN, f64::max),
                }
            })
        }
        "Flatten" => {
            let rows = x().shape[0];
            Array {
                shape: vec![rows, x().data.len() / rows],
                data: x().data.clone(),
            }
        }
        "Reshape" => {
            let mut shape = input(1).expect("a shape").integers();
            shape
                .iter_mut()
                .zip(&x().shape)
                .filter(|(d, _)| **d == 0)
                .for_each(|(d, &own)| *d = own as i64);
            let known = shape.iter().filter(|&&d| d > 0).product::<i64>();
            let rest = x().data.len() as i64 / known;
            let shape: Vec<usize> = shape.iter().map(|&d| if d < 0 { rest } else { d } as usize).collect();
            assert_eq!(shape.iter().product::<usize>(), x().data.len());
            Array {
                shape,
                data: x().data.clone(),
            }
        }
        "Transpose" => {
            let perm: Vec<usize> = match ints("perm") {
                Some(perm) => perm.iter().map(|&a| a as usize).collect(),
                None => (0..x().shape.len()).rev().collect(),
            };
            Array::from_fn(perm.iter().map(|&a| x().shape[a]).collect(), |p| {
                let mut place = vec![0; p.len()];
                perm.iter().zip(p).for_each(|(&axis, &at)| place[axis] = at);
                x().at(&place)
            })
        }
        "ReduceMean" => {
            let axes = ints("axes").expect("given");
            let keeps = int("keepdims", 1) != 0;
            let over = |axis: usize| axes.contains(&(axis as i64));
            let mut shape = x().shape.clone();
            (0..shape.len()).filter(|&a| over(a)).for_each(|a| shape[a] = 1);
            let mut sums = Array::from_fn(shape.clone(), |_| 0.0);
            Array::from_fn(x().shape.clone(), |p| {
                let flat = |flat, (axis, &at): (usize, &usize)| flat * shape[axis] + if over(axis) { 0 } else { at };
                sums.data[p.iter().enumerate().fold(0, flat)] += x().at(p);
                0.0
            });
            let count = x().data.len() / sums.data.len();
            sums.data.iter_mut().for_each(|v| *v /= count as f64);
            if !keeps {
                sums.shape = (0..shape.len()).filter(|&a| !over(a)).map(|a| shape[a]).collect();
            }
            sums
        }
        "Concat" => {
            let axis = int("axis", 0) as usize;
            let parts: Vec<&Array> = inputs.iter().map(|i| i.expect("there")).collect();
            let mut shape = parts[0].shape.clone();
            shape[axis] = parts.iter().map(|p| p.shape[axis]).sum();
            Array::from_fn(shape, |p| {
                let mut place = p.to_vec();
                for part in &parts {
                    if place[axis] < part.shape[axis] {
                        return part.at(&place);
                    }
                    place[axis] -= part.shape[axis];
                }
                unreachable!("within the sum of the parts")
            })
        }
        "Shape" => Array {
            shape: vec![x().shape.len()],
            data: x().shape.iter().map(|&d| d as f64).collect(),
        },
        "Gather" => {
            let (indices, axis) = (input(1).expect("indices"), int("axis", 0) as usize);
            let shape = [&x().shape[..axis], &indices.shape, &x().shape[axis + 1..]].concat();
            let n = indices.shape.len();
            Array::from_fn(shape, |p| {
                let index = indices.at(&p[axis..axis + n]) as usize;
                x().at(&[&p[..axis], &[index], &p[axis + n..]].concat())
            })
        }
        "Unsqueeze" => Array {
            shape: vec![1],
            data: x().data.clone(),
        },
        "Split" => {
            let axis = int("axis", 0) as usize;
            let sizes = input(1).map_or_else(|| ints("split").expect("given"), Array::integers);
            let mut from = 0;
            let parts = sizes.iter().map(|&size| {
                let mut shape = x().shape.clone();
                shape[axis] = size as usize;
                let part = Array::from_fn(shape, |p| {
                    let mut place = p.to_vec();
                    place[axis] += from;
                    x().at(&place)
                });
                from += size as usize;
                part
            });
            return parts.collect();
        }
        op => panic!("the evaluator has no {op}"),
    };
    vec![one]
}

fn broadcast(inputs: &[Option<&Array>], f: impl Fn(f64, f64) -> f64) -> Array {
    let (a, b) = (inputs[0].expect("there"), inputs[1].expect("there"));
    let rank = a.shape.len().max(b.shape.len());
    let length = |array: &Array, axis: usize| (axis + array.shape.len()).checked_sub(rank).map_or(1, |at| array.shape[at]);
    let joined = |axis: usize| {
        let (a, b) = (length(a, axis), length(b, axis));
        assert!(a == b || a == 1 || b == 1, "{a} and {b} do not broadcast");
        a.max(b)
    };
    Array::from_fn((0..rank).map(joined).collect(), |p| f(a.at(p), b.at(p)))
}

/// Strides, dilations and pads of a convolution along its axes.
fn geometry(node: &NodeProto, axes: usize) -> [Vec<usize>; 3] {
    let list = |name: &str, missing: usize, n: usize| {
        let said = node.attr_ints(name).expect("typed");
        said.map_or(vec![missing; n], |list| list.iter().map(|&v| v as usize).collect())
    };
    [list("strides", 1, axes), list("dilations", 1, axes), list("pads", 0, 2 * axes)]
}

fn conv(node: &NodeProto, x: &Array, w: &Array, bias: Option<&Array>) -> Array {
    let axes = x.shape.len() - 2;
    let [strides, dilations, pads] = geometry(node, axes);
    let groups = node.attr_i("group").expect("typed").unwrap_or(1) as usize;
    assert_eq!(x.shape[1], w.shape[1] * groups);
    assert_eq!(w.shape[0] % groups, 0);
    let mut shape = vec![x.shape[0], w.shape[0]];
    for axis in 0..axes {
        let reach = (w.shape[axis + 2] - 1) * dilations[axis] + 1;
        shape.push((x.shape[axis + 2] + pads[axis] + pads[axes + axis] - reach) / strides[axis] + 1);
    }
    let each = w.shape[0] / groups;
    Array::from_fn(shape, |p| {
        let mut sum = bias.map_or(0.0, |b| b.at(&[p[1]]));
        Array::from_fn(w.shape[1..].to_vec(), |k| {
            let mut place = vec![p[0], p[1] / each * w.shape[1] + k[0]];
            for axis in 0..axes {
                let at = p[axis + 2] * strides[axis] + k[axis + 1] * dilations[axis];
                match at.checked_sub(pads[axis]).filter(|&at| at < x.shape[axis + 2]) {
                    Some(at) => place.push(at),
                    None => return 0.0,
                }
            }
            sum += x.at(&place) * w.at(&[&[p[1]], k].concat());
            0.0
        });
        sum
    })
}

fn conv_transpose(node: &NodeProto, x: &Array, w: &Array, bias: Option<&Array>) -> Array {
    let axes = x.shape.len() - 2;
    let [strides, dilations, pads] = geometry(node, axes);
    let groups = node.attr_i("group").expect("typed").unwrap_or(1) as usize;
    assert_eq!(x.shape[1], w.shape[0]);
    let (inputs, outputs) = (w.shape[0] / groups, w.shape[1]);
    let mut shape = vec![x.shape[0], outputs * groups];
    for axis in 0..axes {
        let reach = (w.shape[axis + 2] - 1) * dilations[axis] + 1;
        shape.push(strides[axis] * (x.shape[axis + 2] - 1) + reach - pads[axis] - pads[axes + axis]);
    }
    let mut out = Array::from_fn(shape.clone(), |p| bias.map_or(0.0, |b| b.at(&[p[1]])));
    Array::from_fn(x.shape.clone(), |p| {
        Array::from_fn(w.shape[1..].to_vec(), |k| {
            let mut flat = p[0] * shape[1] + p[1] / inputs * outputs + k[0];
            for axis in 0..axes {
                let at = (p[axis + 2] * strides[axis] + k[axis + 1] * dilations[axis]).checked_sub(pads[axis]);
                match at.filter(|&at| at < shape[axis + 2]) {
                    Some(at) => flat = flat * shape[axis + 2] + at,
                    None => return 0.0,
                }
            }
            out.data[flat] += x.at(p) * w.at(&[&[p[1]], k].concat());
            0.0
        });
        0.0
    });
    out
}
