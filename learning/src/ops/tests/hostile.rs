//! Every case with numbers, texts and opsets of a hostile file in it: refused or computed, never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use aimass_onnx::Model;
use aimass_onnx::proto::{AttributeProto, DataType, ModelProto, TensorProto};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::cases::{Case, cases};
use super::descent;
use crate::array::{Array, Values};
use crate::executor::{Cpu, Executor};
use crate::testing::Numbers;

/// Numbers that overflow something, point outside or are none, and a few that fit now and then.
const INTS: [i64; 14] = [
    i64::MIN,
    i64::MAX,
    -1,
    0,
    1,
    2,
    3,
    -7,
    7,
    1 << 31,
    -(1 << 31),
    1 << 40,
    1 << 62,
    i64::MIN + 1,
];
const FLOATS: [f32; 6] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -1.0, 1e30];
const TEXTS: [&str; 6] = ["", "...,->", "wrap", "max", "ij,...jk->k...", "align_corners"];

/// Numbers one by one instead of in raw bytes.
fn spelled_out(tensor: &mut TensorProto) {
    if tensor.data_type == DataType::Float as i32 && !tensor.raw_data.is_empty() {
        let bytes = std::mem::take(&mut tensor.raw_data);
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes")));
        tensor.float_data = values.collect();
    }
    if tensor.data_type == DataType::Int64 as i32 && !tensor.raw_data.is_empty() {
        let bytes = std::mem::take(&mut tensor.raw_data);
        let values = bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes")));
        tensor.int64_data = values.collect();
    }
}

struct Hostile(Numbers);

impl Hostile {
    fn below(&mut self, n: usize) -> usize {
        (((self.0.next() + 1.0) / 2.0 * n as f32) as usize).min(n.saturating_sub(1))
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn attribute(&mut self, attribute: &mut AttributeProto) {
        if attribute.i.is_some() {
            attribute.i = Some(self.pick(&INTS));
        } else if attribute.f.is_some() {
            attribute.f = Some(self.pick(&FLOATS));
        } else if attribute.s.is_some() {
            attribute.s = Some(self.pick(&TEXTS).as_bytes().to_vec());
        } else if attribute.ints.is_empty() || self.below(4) == 0 {
            attribute.ints.push(self.pick(&INTS));
        } else {
            let at = self.below(attribute.ints.len());
            attribute.ints[at] = self.pick(&INTS);
        }
    }

    /// Changes one thing of a case.
    fn model(&mut self, proto: &mut ModelProto) {
        let Some(graph) = &mut proto.graph else { return };
        graph.initializer.iter_mut().for_each(spelled_out);
        let node = self.below(graph.node.len());
        match self.below(5) {
            0 | 1 => {
                let attributes = &mut graph.node[node].attribute;
                if !attributes.is_empty() {
                    let at = self.below(attributes.len());
                    self.attribute(&mut attributes[at]);
                }
            }
            2 => {
                let inputs = &mut graph.node[node].input;
                if !inputs.is_empty() {
                    // Another value of the graph, or one input fewer.
                    let at = self.below(inputs.len());
                    let other = self.below(inputs.len());
                    if self.below(2) == 0 {
                        inputs[at] = inputs[other].clone();
                    } else {
                        inputs.truncate(at.max(1));
                    }
                }
            }
            3 => {
                if let Some(import) = proto.opset_import.first_mut() {
                    import.version = 7 + self.below(15) as i64;
                }
            }
            _ => {
                let ints: Vec<usize> = (0..graph.initializer.len())
                    .filter(|&i| !graph.initializer[i].int64_data.is_empty())
                    .collect();
                let at = self.below(graph.initializer.len());
                let float = graph.initializer.get_mut(at).and_then(|tensor| tensor.float_data.first_mut());
                if let Some(float) = float
                    && self.below(2) == 0
                {
                    *float = self.pick(&FLOATS);
                } else if !ints.is_empty() {
                    let tensor = &mut graph.initializer[self.pick(&ints)];
                    let at = self.below(tensor.int64_data.len());
                    tensor.int64_data[at] = self.pick(&INTS);
                }
            }
        }
    }

    fn inputs(&mut self, inputs: &mut [Array]) {
        for array in inputs {
            if let Values::Ints(values) = array.values()
                && self.below(8) == 0
            {
                let mut values = values.clone();
                let at = self.below(values.len());
                if let Some(value) = values.get_mut(at) {
                    *value = self.pick(&INTS);
                }
                *array = Array::ints(array.shape().to_vec(), values).expect("the same shape");
            }
        }
    }
}

/// Runs a case forwards, and where something trains backwards; errors are fine.
fn run(case: &Case, hostile: &mut Hostile) {
    let Ok(graph) = case.graph() else { return };
    let mut inputs = case.feed(&graph);
    hostile.inputs(&mut inputs);
    let trains = graph.trains();
    let mut executor = Executor::<Cpu>::new(graph);
    if executor.forward(inputs.clone()).is_ok() && trains {
        let ones = |outputs: &[Array]| Ok(outputs.iter().map(|y| Some(vec![1.0; y.as_floats()?.len()])).collect());
        let mut noise = ChaCha20Rng::from_seed([0; 32]);
        drop(executor.step(inputs, true, &mut descent(1e-3), &mut noise, ones));
    }
}

#[test]
fn hostile_files_are_refused_or_computed() {
    const EACH: usize = 12;
    let mut hostile = Hostile(Numbers::new(5));
    let mut wrong = Vec::new();
    for case in cases() {
        for variant in [&case, &case.known(), &case.shifted()] {
            for _ in 0..EACH {
                let mut proto = variant.model.proto().clone();
                for _ in 0..=hostile.below(2) {
                    hostile.model(&mut proto);
                }
                let Ok(model) = Model::from_proto(proto) else { continue };
                let changed = variant.with_model(model);
                let text = format!("{:?}", changed.model.graph().node);
                let outcome = catch_unwind(AssertUnwindSafe(|| run(&changed, &mut hostile)));
                if outcome.is_err() {
                    wrong.push(format!("{} panics with {}", case.name, text.chars().take(1500).collect::<String>()));
                }
            }
        }
    }
    super::all_good(&wrong);
}
