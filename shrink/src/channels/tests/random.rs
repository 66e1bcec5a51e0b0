//! Random convolutional nets: chains, residual connections, concatenations, splits, depthwise and grouped convolutions.

use aimass_onnx::Model;
use aimass_onnx::proto::AttributeProto;

use super::{conv, int};
use crate::testing::Net;

/// A net over `[batch, 3, 5, 5]` with two outputs a row.
pub(crate) fn net(seed: u64) -> Model {
    let mut net = Net::new(seed, &[0, 3, 5, 5]);
    // Values of 5 x 5 places with their channels.
    let mut values = vec![("x".to_owned(), 3)];
    for step in 0..4 + net.draw(8) {
        let (from, channels) = values[net.draw(values.len())].clone();
        let name = format!("v{step}");
        let made = 2 * (1 + net.draw(4) as i64);
        let value = match net.draw(9) {
            0 | 1 => (conv(&mut net, &name, &from, &[made, channels, 3, 3], 1), made),
            2 => (conv(&mut net, &name, &from, &[2 * channels, 1, 3, 3], channels), 2 * channels),
            3 if channels % 2 == 0 => (conv(&mut net, &name, &from, &[made, channels / 2, 1, 1], 2), made),
            4 => (net.norm(&name, &from, channels), channels),
            5 => (
                net.node(["Relu", "Sigmoid", "LeakyRelu"][step % 3], &name, &[&from], vec![]),
                channels,
            ),
            6 => {
                let other = values.iter().rev().find(|(other, n)| *n == channels && *other != from).cloned();
                let Some((other, _)) = other else { continue };
                (net.node(["Add", "Mul", "Sub"][step % 3], &name, &[&from, &other], vec![]), channels)
            }
            7 => {
                let (other, more) = values[net.draw(values.len())].clone();
                (net.node("Concat", &name, &[&from, &other], int("axis", 1)), channels + more)
            }
            8 if channels > 2 => {
                let sizes = net.integers(&format!("{name}.sizes"), &[2, channels - 2]);
                let rest = format!("{name}.rest");
                net.node_giving("Split", &[&from, &sizes], &[&name, &rest], int("axis", 1));
                values.push((rest, channels - 2));
                (name.clone(), 2)
            }
            _ => continue,
        };
        values.push(value);
    }
    let (last, channels) = values[values.len() - 1].clone();
    let (flat, inner) = match net.draw(3) {
        0 => {
            let pooled = net.node("GlobalAveragePool", "pooled", &[&last], vec![]);
            (net.node("Flatten", "flat", &[&pooled], vec![]), channels)
        }
        1 => (net.node("Flatten", "flat", &[&last], vec![]), 25 * channels),
        _ => {
            let to = net.integers("to", &[-1, 25 * channels]);
            (net.node("Reshape", "flat", &[&last, &to], vec![]), 25 * channels)
        }
    };
    let w = net.weight("fc.weight", &[4, inner]);
    let b = net.weight("fc.bias", &[4]);
    let hidden = net.node("Gemm", "hidden", &[&flat, &w, &b], vec![AttributeProto::int("transB", 1)]);
    let hidden = net.node("Tanh", "tanh", &[&hidden], vec![]);
    let w = net.weight("out.weight", &[4, 2]);
    net.node("MatMul", "y", &[&hidden, &w], vec![]);
    net.output("y", &[0, 2]);
    net.model()
}
