//! Which weights get adapters, and where each is used.

use std::collections::BTreeMap;

use globset::GlobMatcher;

use super::{KEY, LoraError, PREFIX};
use crate::error::shown;
use crate::proto::{GraphProto, NodeProto};
use crate::{ElementType, Model};

/// A weight that gets an adapter.
#[derive(Debug)]
pub(super) struct Adapted<'m> {
    pub(super) name: &'m str,
    /// Its position among the initializers.
    pub(super) index: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Whether what it is multiplied with meets its rows, so that the left factor is `A`.
    pub(super) input_is_left: bool,
    /// Numbers that each of the adapter's inner values is a sum of.
    pub(super) fan_in: usize,
    pub(super) uses: Vec<Use<'m>>,
}

/// One use of a weight by a node.
#[derive(Debug, Clone)]
pub(super) struct Use<'m> {
    /// Position of the node.
    pub(super) node: usize,
    /// What the node gives.
    pub(super) output: &'m str,
    pub(super) side: Side,
    /// Whether the node sees the weight's transpose.
    pub(super) transposed: bool,
    /// The other operand, or the indices.
    pub(super) other: &'m str,
    /// Whether the node takes the other operand's transpose.
    pub(super) other_transposed: bool,
    /// What the node multiplies the product by.
    pub(super) factor: f32,
}

/// How a node uses a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// x W
    Right,
    /// W x
    Left,
    /// Its rows, by index.
    Rows,
}

/// A float32 matrix among the initializers, and all that is done with it.
#[derive(Debug)]
struct Matrix<'m> {
    index: usize,
    rows: usize,
    columns: usize,
    uses: Vec<Use<'m>>,
    /// The first use that an adapter can't follow: by whom, and how.
    problem: Option<(String, &'static str)>,
}

struct Walk<'m> {
    matrices: BTreeMap<&'m str, Matrix<'m>>,
    /// What is a matrix, or its transpose, under another name.
    aliases: BTreeMap<&'m str, (&'m str, bool)>,
}

/// The weights that `globs` choose; without any, all that a MatMul or Gemm multiplies by and that can have an adapter.
pub(super) fn choose<'m>(model: &'m Model, globs: &[(String, GlobMatcher)]) -> Result<Vec<Adapted<'m>>, LoraError> {
    let graph = model.graph();
    let ours = |name: &String| name.starts_with(PREFIX);
    let adapted = graph.node.iter().any(|node| ours(&node.name)) || model.proto().metadata_props.iter().any(|e| e.key.starts_with(KEY));
    if adapted {
        return Err(LoraError::Already);
    }
    let mut walk = Walk {
        matrices: BTreeMap::new(),
        aliases: BTreeMap::new(),
    };
    for (index, tensor) in model.initializers().enumerate() {
        if let (ElementType::F32, &[rows, columns]) = (tensor.element, &tensor.shape[..])
            && rows > 0
            && columns > 0
        {
            let name = tensor.proto.name.as_str();
            walk.aliases.insert(name, (name, false));
            walk.matrices.insert(
                name,
                Matrix {
                    index,
                    rows,
                    columns,
                    uses: Vec::new(),
                    problem: None,
                },
            );
        }
    }
    for (at, node) in graph.node.iter().enumerate() {
        walk.visit(at, node)?;
    }
    for output in &graph.output {
        walk.refuse(&output.name, || "the graph".to_owned(), "gives it as an output");
    }
    walk.chosen(globs)
}

impl<'m> Walk<'m> {
    fn alias(&self, name: &str) -> Option<(&'m str, bool)> {
        self.aliases.get(name).copied()
    }

    fn refuse(&mut self, value: &str, by: impl FnOnce() -> String, problem: &'static str) {
        if let Some((name, _)) = self.alias(value)
            && let Some(matrix) = self.matrices.get_mut(name)
        {
            matrix.problem.get_or_insert_with(|| (by(), problem));
        }
    }

    fn visit(&mut self, at: usize, node: &'m NodeProto) -> Result<(), LoraError> {
        for attribute in &node.attribute {
            for graph in attribute.g.iter().map(|g| &**g).chain(&attribute.graphs) {
                self.refuse_in(graph, node);
            }
        }
        let (first, second) = (node.input_name(0), node.input_name(1));
        let alias = |name: Option<&str>| name.and_then(|name| self.alias(name));
        let (left, right) = (alias(first), alias(second));
        let op = node.standard_op().unwrap_or_default();
        if let (Some((name, transposed)), "Identity" | "Transpose", Some(output)) = (left, op, node.output.first()) {
            // A matrix has two axes: they are swapped, or stay.
            let swaps = op == "Transpose" && node.attr_ints("perm")?.is_none_or(|perm| perm == [1, 0]);
            self.aliases.insert(output, (name, transposed != swaps));
            return Ok(());
        }
        let (mut left_use, mut right_use) = (None, None);
        if let (Some(first), Some(second), Some(output)) = (first, second, node.output.first().map(String::as_str)) {
            let flag = |name: &str| -> Result<bool, LoraError> { Ok(node.attr_i(name)?.unwrap_or(0) != 0) };
            let gemm = op == "Gemm";
            let (trans_a, trans_b) = (gemm && flag("transA")?, gemm && flag("transB")?);
            let used = |side, transposed, other, other_transposed, factor| Use {
                node: at,
                output,
                side,
                transposed,
                other,
                other_transposed,
                factor,
            };
            match op {
                "MatMul" | "Gemm" if left.is_some() != right.is_some() => {
                    let alpha = if gemm { node.attr_f("alpha")?.unwrap_or(1.0) } else { 1.0 };
                    left_use = left.map(|(_, transposed)| used(Side::Left, transposed != trans_a, second, trans_b, alpha));
                    right_use = right.map(|(_, transposed)| used(Side::Right, transposed != trans_b, first, trans_a, alpha));
                }
                "Gather" if matches!(node.attr_i("axis")?, None | Some(0 | -2)) => {
                    left_use = left.map(|(_, transposed)| used(Side::Rows, transposed, second, false, 1.0));
                }
                _ => {}
            }
        }
        for (index, input) in node.input.iter().enumerate() {
            let Some((name, _)) = self.alias(input) else { continue };
            let followed = match index {
                0 => left_use.take(),
                1 => right_use.take(),
                _ => None,
            };
            match followed {
                Some(followed) => {
                    if let Some(matrix) = self.matrices.get_mut(name) {
                        matrix.uses.push(followed);
                    }
                }
                None => self.refuse(input, || node.label(), "uses it in a way that an adapter can't follow"),
            }
        }
        Ok(())
    }

    /// A graph within a node sees the values around it.
    fn refuse_in(&mut self, graph: &GraphProto, node: &NodeProto) {
        for inner in &graph.node {
            for input in &inner.input {
                self.refuse(input, || node.label(), "uses it in a graph of its own");
            }
            for attribute in &inner.attribute {
                // Not deeper than the limit on nesting that the reader holds.
                for graph in attribute.g.iter().map(|g| &**g).chain(&attribute.graphs) {
                    self.refuse_in(graph, node);
                }
            }
        }
        for output in &graph.output {
            self.refuse(&output.name, || node.label(), "uses it in a graph of its own");
        }
    }

    fn chosen(mut self, globs: &[(String, GlobMatcher)]) -> Result<Vec<Adapted<'m>>, LoraError> {
        self.matrices.retain(|_, matrix| !matrix.uses.is_empty());
        let multiplies = |matrix: &Matrix<'_>| matrix.uses.iter().any(|u| u.side != Side::Rows);
        if let Some((text, _)) = globs.iter().find(|(_, glob)| !self.matrices.keys().any(|name| glob.is_match(name))) {
            let known: Vec<String> = self.matrices.keys().take(5).map(|name| shown(name)).collect();
            return Err(LoraError::Unmatched {
                glob: shown(text),
                known: if known.is_empty() { "(none)".to_owned() } else { known.join(", ") },
            });
        }
        let mut chosen = Vec::new();
        for (name, matrix) in self.matrices {
            let named = globs.iter().any(|(_, glob)| glob.is_match(name));
            match matrix.problem {
                Some((node, problem)) if named => {
                    return Err(LoraError::Use {
                        weight: shown(name),
                        node,
                        problem,
                    });
                }
                None if named || (globs.is_empty() && multiplies(&matrix)) => {}
                _ => continue,
            }
            let first = &matrix.uses[0];
            let input_is_left = match first.side {
                Side::Right | Side::Rows => !first.transposed,
                Side::Left => first.transposed,
            };
            chosen.push(Adapted {
                name,
                index: matrix.index,
                rows: matrix.rows,
                columns: matrix.columns,
                input_is_left,
                fan_in: match (first.side, input_is_left) {
                    (Side::Rows, _) => 1,
                    (_, true) => matrix.rows,
                    (_, false) => matrix.columns,
                },
                uses: matrix.uses,
            });
        }
        if chosen.is_empty() {
            return Err(LoraError::NothingToAdapt);
        }
        chosen.sort_by_key(|weight| weight.index);
        Ok(chosen)
    }
}
