//! Small changes to a model: of its bytes, and of what they mean.

use prost::Message;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::proto::tensor_shape_proto::dimension;
use crate::proto::{DataType, GraphProto, ModelProto, NodeProto, type_proto};

/// Numbers at which arithmetic breaks.
const NUMBERS: [i64; 16] = [
    0,
    1,
    -1,
    2,
    -2,
    3,
    7,
    64,
    255,
    1 << 16,
    1 << 31,
    -(1 << 31),
    1 << 40,
    i64::MAX - 1,
    i64::MAX,
    i64::MIN,
];
const FLOATS: [f32; 8] = [0.0, -0.0, 1e-38, -1.0, 1e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
/// Opsets around those that are read.
const OPSETS: std::ops::Range<i64> = 6..30;

/// `bytes` with one to four changes that follow from `seed` alone. `other`: another model, for parts of it.
pub fn mutate(bytes: &[u8], other: &[u8], seed: u64) -> Vec<u8> {
    let mut draws = Draws(ChaCha20Rng::seed_from_u64(seed));
    let mut bytes = bytes.to_vec();
    for _ in 0..=draws.below(3) {
        let decoded = if draws.below(4) == 0 {
            None
        } else {
            ModelProto::decode(&*bytes).ok()
        };
        match decoded {
            Some(mut model) => {
                draws.change_model(&mut model, other);
                bytes = model.encode_to_vec();
            }
            None => draws.change_bytes(&mut bytes, other),
        }
    }
    bytes
}

struct Draws(ChaCha20Rng);

impl Draws {
    /// From 0 to `n` - 1; 0 where `n` is 0.
    fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n.max(1) as u64) as usize
    }

    fn of<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        let at = self.below(items.len());
        items.get(at).cloned()
    }

    fn change_bytes(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len() + 1);
        let length = 1 + self.below(16);
        let end = (at + length).min(bytes.len());
        match self.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at.min(end)..end)),
            2 => drop(bytes.splice(at..at, [0xff; 9].into_iter().take(length))),
            3 => {
                let from = self.below(other.len());
                let part: Vec<u8> = other[from..].iter().take(8 * length).copied().collect();
                bytes.splice(at..end, part);
            }
            4 => {
                let part = bytes[at.min(end)..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let new = self.below(256) as u8;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = new;
                }
            }
        }
    }

    fn change_model(&mut self, model: &mut ModelProto, other: &[u8]) {
        if self.below(16) == 0 {
            let version = OPSETS.start + self.below((OPSETS.end - OPSETS.start) as usize) as i64;
            model.opset_import.iter_mut().for_each(|import| import.version = version);
        }
        if let Some(graph) = model.graph.as_mut() {
            self.change_graph(graph, other);
        }
    }

    fn change_graph(&mut self, graph: &mut GraphProto, other: &[u8]) {
        match self.below(10) {
            0 => self.change_tensor(graph),
            1 => self.change_input(graph),
            2 => self.change_names(graph),
            3 => {
                let at = self.below(graph.node.len());
                if at < graph.node.len() {
                    graph.node.remove(at);
                }
            }
            4 => {
                // A constant becomes an input.
                let at = self.below(graph.initializer.len());
                if at < graph.initializer.len() {
                    graph.initializer.remove(at);
                }
            }
            _ => self.change_node(graph, other),
        }
    }

    fn change_node(&mut self, graph: &mut GraphProto, other: &[u8]) {
        let names: Vec<String> = graph
            .node
            .iter()
            .flat_map(|node| node.input.iter().chain(&node.output).cloned())
            .collect();
        let ops: Vec<String> = graph.node.iter().map(|node| node.op_type.clone()).collect();
        let at = self.below(graph.node.len());
        let Some(node) = graph.node.get_mut(at) else { return };
        match self.below(8) {
            0 => node.op_type = self.of(&ops).unwrap_or_default(),
            1 => {
                let theirs = ModelProto::decode(other).ok().and_then(|model| model.graph).unwrap_or_default();
                if let Some(their) = self.of(&theirs.node) {
                    node.op_type = their.op_type;
                    node.attribute = their.attribute;
                }
            }
            2 => {
                let place = self.below(node.input.len());
                let name = self.of(&names).unwrap_or_default();
                if let Some(input) = node.input.get_mut(place) {
                    *input = if name.len().is_multiple_of(5) { String::new() } else { name };
                }
            }
            3 => node.input.extend(self.of(&names)),
            4 => drop(node.input.pop()),
            _ => self.change_attribute(node, other),
        }
    }

    fn change_attribute(&mut self, node: &mut NodeProto, other: &[u8]) {
        let number = self.of(&NUMBERS).unwrap_or_default();
        let float = self.of(&FLOATS).unwrap_or_default();
        let (place, drop_it) = (self.below(8), self.below(8) == 0);
        let at = self.below(node.attribute.len());
        let Some(attribute) = node.attribute.get_mut(at) else { return };
        if let Some(graph) = attribute.g.as_deref_mut() {
            return self.change_graph(graph, other);
        }
        if drop_it {
            node.attribute.remove(at);
            return;
        }
        if let Some(old) = &mut attribute.i {
            *old = number;
        }
        if let Some(old) = &mut attribute.f {
            *old = float;
        }
        if let Some(old) = attribute.ints.get_mut(place) {
            *old = number;
        } else if !attribute.ints.is_empty() {
            attribute.ints.push(number);
        }
    }

    fn change_tensor(&mut self, graph: &mut GraphProto) {
        let number = self.of(&NUMBERS).unwrap_or_default();
        let at = self.below(graph.initializer.len());
        let Some(tensor) = graph.initializer.get_mut(at) else { return };
        if tensor.data_type == DataType::Int64 as i32 && self.below(4) > 0 {
            let mut data = tensor.raw_data.to_vec();
            let place = self.below(data.len() / 8);
            if let Some(word) = data.as_chunks_mut::<8>().0.get_mut(place) {
                *word = number.to_le_bytes();
            }
            tensor.raw_data = data.into();
            return;
        }
        match self.below(4) {
            // Another shape of as many elements.
            0 => tensor.dims.reverse(),
            1 => tensor.dims.insert(0, 1),
            _ => {
                let place = self.below(tensor.dims.len());
                if let Some(dim) = tensor.dims.get_mut(place) {
                    *dim = number;
                }
            }
        }
    }

    fn change_input(&mut self, graph: &mut GraphProto) {
        let number = self.of(&NUMBERS).unwrap_or_default();
        let at = self.below(graph.input.len());
        let value = graph.input.get_mut(at).and_then(|input| input.r#type.as_mut()?.value.as_mut());
        let Some(type_proto::Value::TensorType(tensor)) = value else {
            return;
        };
        if self.below(4) == 0 {
            tensor.elem_type = self.of(&[1, 6, 7, 9, 10, 11]).unwrap_or_default();
        }
        let Some(shape) = tensor.shape.as_mut() else { return };
        let place = self.below(shape.dim.len());
        match (self.below(4), shape.dim.get_mut(place)) {
            (0, Some(_)) => drop(shape.dim.remove(place)),
            (_, Some(dim)) => dim.value = Some(dimension::Value::DimValue(number)),
            (_, None) => {}
        }
    }

    /// An output of the graph becomes another value.
    fn change_names(&mut self, graph: &mut GraphProto) {
        let names: Vec<String> = graph.node.iter().flat_map(|node| node.output.iter().cloned()).collect();
        let name = self.of(&names).unwrap_or_default();
        let at = self.below(graph.output.len());
        if let Some(output) = graph.output.get_mut(at) {
            output.name = name;
        }
    }
}
