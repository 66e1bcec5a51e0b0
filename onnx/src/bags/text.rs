//! What a value is computed from, as a text that does not depend on names, order or where constants are stored.
//!
//! `(Gather @0 (Add a1 [1]) :axis=1)`: an op, its inputs, its attributes. `@0` is a value of the graph; `0`, `[0]`, `[]` and `true` are
//! constants of at most one element; `a1` is what the outermost loop carries, `b0` the one inside of it; `_` is left out. A loop is
//! `(Loop:OUTPUT trips condition (first values) (next values) next condition, scan outputs ...)`, with what it carries in the order of
//! the texts of the first values. Defaults of attributes are left out, axes are inputs, and Identity is what it stands for.

use std::collections::BTreeMap;

use crate::proto::{GraphProto, NodeProto, TensorProto};
use crate::{ElementType, Model, TensorRef};

/// Deepest nesting, and most characters made in all: no text of an embedding bag comes near.
const MAX_DEPTH: usize = 48;
const MAX_TEXT: usize = 1 << 17;

/// The names of a model's graph.
pub(super) struct Scope<'a> {
    pub(super) model: &'a Model,
    pub(super) makers: BTreeMap<&'a str, (&'a NodeProto, usize)>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        Self {
            model,
            makers: makers(model.graph()),
        }
    }

    /// The node that makes a value as its first output.
    pub(super) fn maker(&self, name: &str) -> Option<&'a NodeProto> {
        self.makers.get(name).filter(|(_, output)| *output == 0).map(|(node, _)| *node)
    }

    /// The values of a constant of integers.
    pub(super) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        let constant = || {
            let node = self.maker(name).filter(|node| node.standard_op() == Some("Constant"))?;
            TensorRef::new(node.attr_t("value").ok()??).ok()
        };
        self.model.initializer(name).or_else(constant)?.to_i64()
    }
}

fn makers(graph: &GraphProto) -> BTreeMap<&str, (&NodeProto, usize)> {
    let outputs = |node| -> Vec<_> {
        let node: &NodeProto = node;
        node.output.iter().enumerate().map(|(i, name)| (name.as_str(), (node, i))).collect()
    };
    graph.node.iter().flat_map(outputs).filter(|(name, _)| !name.is_empty()).collect()
}

/// A graph inside of the graph.
struct Frame<'a> {
    makers: BTreeMap<&'a str, (&'a NodeProto, usize)>,
    tensors: BTreeMap<&'a str, &'a TensorProto>,
    /// What its inputs stand for.
    inputs: BTreeMap<&'a str, String>,
}

/// Writes texts.
pub(super) struct Writer<'s, 'a> {
    scope: &'s Scope<'a>,
    /// Whether values of the graph are written out, or named.
    whole: bool,
    frames: Vec<Frame<'a>>,
    /// What `@0`, `@1`, ... are.
    pub(super) names: Vec<&'a str>,
    spent: usize,
}

impl<'s, 'a> Writer<'s, 'a> {
    pub(super) fn new(scope: &'s Scope<'a>, whole: bool) -> Self {
        Self {
            scope,
            whole,
            frames: Vec::new(),
            names: Vec::new(),
            spent: 0,
        }
    }

    /// The text of a node's output.
    pub(super) fn output(&mut self, node: &'a NodeProto, output: usize) -> Option<String> {
        self.node(node, output, 0, 0)
    }

    /// The text of a value of the graph.
    pub(super) fn of(&mut self, name: &'a str) -> Option<String> {
        self.value(name, 0, 0)
    }

    /// `level`: how many of the frames are in sight.
    fn value(&mut self, name: &'a str, level: usize, depth: usize) -> Option<String> {
        self.spent += 8;
        if self.spent > MAX_TEXT || depth > MAX_DEPTH {
            return None;
        }
        if name.is_empty() {
            return Some("_".to_owned());
        }
        for at in (0..level).rev() {
            let frame = self.frames.get(at)?;
            if let Some(text) = frame.inputs.get(name) {
                return Some(text.clone());
            }
            if let Some(tensor) = frame.tensors.get(name) {
                return constant(tensor);
            }
            if let Some(&(node, output)) = frame.makers.get(name) {
                return self.node(node, output, at + 1, depth + 1);
            }
        }
        if let Some(tensor) = self.scope.model.initializer(name) {
            return Some(
                constant(tensor.proto)
                    .filter(|text| text != ZEROS)
                    .unwrap_or_else(|| self.name(name)),
            );
        }
        let Some(&(node, output)) = self.scope.makers.get(name) else {
            return Some(self.name(name));
        };
        let written = match node.standard_op() {
            Some("Identity") => Some(self.node(node, output, 0, depth + 1)?),
            Some("Constant" | "Cast" | "CastLike") => {
                let text = self.node(node, output, 0, depth + 1);
                text.filter(|text| self.whole || is_constant(text))
            }
            Some("SequenceEmpty" | "Less") => Some(self.node(node, output, 0, depth + 1)?),
            _ if self.whole => Some(self.node(node, output, 0, depth + 1)?),
            _ => None,
        };
        Some(written.unwrap_or_else(|| self.name(name)))
    }

    fn name(&mut self, name: &'a str) -> String {
        let known = self.names.iter().position(|known| *known == name);
        let index = known.unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        format!("@{index}")
    }

    fn node(&mut self, node: &'a NodeProto, output: usize, level: usize, depth: usize) -> Option<String> {
        let op = node.standard_op()?;
        let first = node.input.first();
        let text = match op {
            "Constant" => constant(node.attr_t("value").ok()??)?,
            "Identity" => self.value(first?, level, depth + 1)?,
            // Of another type, which no constant here depends on.
            "CastLike" => self.value(first?, level, depth + 1).filter(|text| is_constant(text))?,
            "Cast" => {
                let text = self.value(first?, level, depth + 1)?;
                match (node.attr_i("to").ok()??, text.as_str()) {
                    (BOOL, "1" | "true") => "true".to_owned(),
                    (INT64, text) if is_constant(text) && text != "true" => text.to_owned(),
                    (to, text) => format!("(Cast {text} :to={to})"),
                }
            }
            "If" => self.branches(node, level, depth)?,
            "Loop" => self.cycle(node, output, level, depth)?,
            _ => self.call(op, node, output, level, depth)?,
        };
        self.spent += text.len();
        (self.spent <= MAX_TEXT).then_some(text)
    }

    fn call(&mut self, op: &str, node: &'a NodeProto, output: usize, level: usize, depth: usize) -> Option<String> {
        let mut text = format!("({op}");
        if output > 0 {
            text += &format!(":{output}");
        }
        for input in &node.input {
            text += " ";
            text += &self.value(input, level, depth + 1)?;
        }
        let mut attributes: Vec<_> = node.attribute.iter().map(|attribute| attribute.name.as_str()).collect();
        attributes.sort_unstable();
        for name in attributes {
            if name == "axes" {
                let &[axis] = node.attr_ints(name).ok()?? else { return None };
                text += &format!(" [{axis}]");
                continue;
            }
            match (op, name, node.attr_i(name).ok()??) {
                ("Gather" | "Concat", "axis", 0) | (_, "keepdims", 1) | (_, "noop_with_empty_axes", 0) => {}
                ("Shape", "start", 0) | ("Reshape", "allowzero", _) => {}
                (_, _, value) => text += &format!(" :{name}={value}"),
            }
        }
        Some(text + ")")
    }

    fn branches(&mut self, node: &'a NodeProto, level: usize, depth: usize) -> Option<String> {
        let condition = self.value(node.input.first()?, level, depth + 1)?;
        let mut text = format!("(If {condition}");
        for name in ["then_branch", "else_branch"] {
            let graph = node.attr_g(name).ok()??;
            let [output] = &graph.output[..] else { return None };
            text += " ";
            text += &self.inside(graph, BTreeMap::new(), level, |writer, level| {
                writer.value(&output.name, level, depth + 1)
            })?;
        }
        Some(text + ")")
    }

    fn cycle(&mut self, node: &'a NodeProto, output: usize, level: usize, depth: usize) -> Option<String> {
        let body = node.attr_g("body").ok()??;
        let [trips, condition, first @ ..] = &node.input[..] else {
            return None;
        };
        let (carried, results) = (body.input.get(2..)?, body.output.get(1..)?);
        if carried.len() != first.len() || results.len() < first.len() {
            return None;
        }
        let mut text = self.value(trips, level, depth + 1)?;
        text += " ";
        text += &self.value(condition, level, depth + 1)?;
        let mut order = Vec::new();
        for (i, name) in first.iter().enumerate() {
            order.push((self.value(name, level, depth + 1)?, i));
        }
        order.sort();
        let letter = char::from(b'a'.checked_add(u8::try_from(level).ok()?)?);
        let carried_name = |at: usize| format!("{letter}{at}");
        let mut inputs: BTreeMap<&str, String> = order
            .iter()
            .enumerate()
            .map(|(at, (_, i))| (carried[*i].name.as_str(), carried_name(at)))
            .collect();
        inputs.insert(&body.input.first()?.name, format!("{letter}#"));
        inputs.insert(&body.input.get(1)?.name, format!("{letter}?"));
        let firsts: Vec<&str> = order.iter().map(|(text, _)| text.as_str()).collect();
        text += &format!(" ({})", firsts.join(" "));
        let scans = first.len()..results.len();
        let listed: Vec<usize> = order.iter().map(|(_, i)| *i).collect();
        let (nexts, condition, scanned) = self.inside(body, inputs, level, |writer, level| {
            let mut of = |i: usize| writer.value(&results.get(i)?.name, level, depth + 1);
            let nexts = listed.iter().map(|&i| of(i)).collect::<Option<Vec<_>>>()?;
            let scanned = scans.map(of).collect::<Option<Vec<_>>>()?;
            Some((nexts, writer.value(&body.output.first()?.name, level, depth + 1)?, scanned))
        })?;
        let chosen = order.iter().position(|(_, i)| *i == output).unwrap_or(output);
        text += &format!(" ({}) {condition}", nexts.join(" "));
        scanned.iter().for_each(|scan| text += &format!(" {scan}"));
        Some(format!("(Loop:{chosen} {text})"))
    }

    fn inside<T>(
        &mut self,
        graph: &'a GraphProto,
        inputs: BTreeMap<&'a str, String>,
        level: usize,
        write: impl FnOnce(&mut Self, usize) -> Option<T>,
    ) -> Option<T> {
        // So that a large graph is not indexed again and again.
        self.spent += 4 * (graph.node.len() + graph.initializer.len());
        let hidden = self.frames.split_off(level);
        self.frames.push(Frame {
            makers: makers(graph),
            tensors: graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect(),
            inputs,
        });
        let made = write(self, level + 1);
        self.frames.truncate(level);
        self.frames.extend(hidden);
        made
    }
}

const BOOL: i64 = 9;
const INT64: i64 = 7;
/// One row of zeros, in a graph inside of the graph.
const ZEROS: &str = "zeros";

fn is_constant(text: &str) -> bool {
    text == "true" || text.starts_with(['[', '-']) || text.starts_with(|c: char| c.is_ascii_digit())
}

/// A constant of at most one integer, true, or of zeros.
fn constant(tensor: &TensorProto) -> Option<String> {
    let tensor = TensorRef::new(tensor).ok()?;
    match tensor.element {
        ElementType::I64 | ElementType::I32 if tensor.shape.len() <= 1 => match &tensor.to_i64()?[..] {
            [] => Some("[]".to_owned()),
            [value] if tensor.shape.is_empty() => Some(value.to_string()),
            [value] => Some(format!("[{value}]")),
            _ => None,
        },
        ElementType::Bool if tensor.shape.is_empty() => tensor.to_bool()?.first().filter(|&&value| value).map(|_| "true".to_owned()),
        ElementType::F32 if matches!(tensor.shape[..], [1, _]) => {
            let zeros = tensor.to_f32()?.iter().all(|&value| value == 0.0);
            zeros.then(|| ZEROS.to_owned())
        }
        _ => None,
    }
}
