//! Operators that move integers without changing them, and all others.

use aimass_onnx::proto::NodeProto;

use super::ServeError;
use super::writer::{Twin, Writer, Zero};
use crate::parts::shown;

/// Operators whose output holds values of input 0 and no others.
const MOVES: [&str; 14] = [
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "MaxPool",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

impl Writer<'_> {
    /// A node that is not of quantized graphs. What it does to integers it does to the floats that hold them, where it only moves them.
    pub(super) fn other(&mut self, node: &NodeProto) -> Result<(), ServeError> {
        let op = node.standard_op().unwrap_or_default();
        let sum = node.input_name(0).and_then(|name| self.sums.get(name)).cloned();
        if let (Some(sum), "Cast") = (&sum, op) {
            let mut cast = node.clone();
            cast.input[0].clone_from(sum);
            self.nodes.push(cast);
            return Ok(());
        }
        let twin = node.input_name(0).and_then(|name| self.twins.get(name)).cloned();
        match (twin, &node.output[..]) {
            (Some(twin), [output]) if MOVES.contains(&op) && self.is_quantized_value(node, &twin) => {
                let mut moved = node.clone();
                let name = self.names.fresh(&format!("{output}/moved"));
                moved.input[0].clone_from(&twin.centred);
                moved.output = vec![name.clone()];
                self.nodes.push(moved);
                match (twin.zero, twin.kind) {
                    (Zero::Known(zero), Some(kind)) => self.integer(output, name, zero, kind),
                    (zero, kind) => {
                        let twin = Twin { centred: name, zero, kind };
                        self.twins.insert(output.clone(), twin);
                    }
                }
                Ok(())
            }
            _ if op == "Concat" && self.all_twins(node) => self.concat(node),
            _ => {
                self.nodes.push(node.clone());
                self.check_integers(node)
            }
        }
    }

    fn is_quantized_value(&self, node: &NodeProto, twin: &Twin) -> bool {
        // A constant's twin is there for one reader; others read the constant.
        twin.kind.is_some() && !node.input_name(0).is_some_and(|name| self.constants.is_constant(name))
    }

    fn all_twins(&self, node: &NodeProto) -> bool {
        node.input
            .iter()
            .all(|name| self.twins.get(name).is_some_and(|twin| twin.kind.is_some()))
    }

    fn concat(&mut self, node: &NodeProto) -> Result<(), ServeError> {
        let kinds: Vec<_> = node.input.iter().filter_map(|name| self.twins.get(name)?.kind).collect();
        let (Some(&kind), [output]) = (kinds.first(), &node.output[..]) else {
            return Err(ServeError::parameter(node, "it joins nothing"));
        };
        if kinds.iter().any(|other| *other != kind) {
            return Err(ServeError::parameter(node, "it joins integers of different types"));
        }
        let mut joined = node.clone();
        joined.input = node.input.iter().map(|name| self.whole(name)).collect();
        let name = self.names.fresh(&format!("{output}/joined"));
        joined.output = vec![name.clone()];
        self.nodes.push(joined);
        self.integer(output, name, 0, kind);
        Ok(())
    }

    /// That what a node of another kind reads of integers is a type that it has.
    fn check_integers(&self, node: &NodeProto) -> Result<(), ServeError> {
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            if let Some(kind) = self.twins.get(name).and_then(|twin| twin.kind)
                && kind.bits() < 8
            {
                let reason = format!(
                    "it reads {:?}, which is {}; quantize activations to 8 bits",
                    shown(name),
                    kind.name()
                );
                return Err(ServeError::unsupported(node, reason));
            }
        }
        Ok(())
    }
}
