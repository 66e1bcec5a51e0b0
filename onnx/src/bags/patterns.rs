//! The loops that `torch.onnx.export` makes of embedding bags, as texts (see [`super::text`]).

use std::collections::BTreeMap;

use super::matching::matches;
use super::text::{Scope, Writer};
use crate::Dim;
use crate::proto::NodeProto;

/// What a bag makes of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Sum,
    Mean,
    Max,
}

/// A value of the graph, or an integer that never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand<'a> {
    Value(&'a str),
    Int(i64),
}

/// The gathered rows `[n, columns]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows<'a> {
    /// A value of the graph.
    There(&'a str),
    /// To be gathered from a table, times a weight each.
    Gathered {
        table: &'a str,
        indices: &'a str,
        weights: Option<&'a str>,
    },
}

/// Where the bags begin and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bounds<'a> {
    /// The first of both, as many as there are bags.
    Two { starts: &'a str, ends: &'a str },
    /// A bag ends where the next one begins.
    One(&'a str),
}

/// The index that counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Padding<'a> {
    pub(super) indices: &'a str,
    pub(super) index: i64,
    /// Rows of the table: added to a negative index.
    pub(super) table_rows: i64,
}

/// An embedding bag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) mode: Mode,
    pub(super) rows: Rows<'a>,
    pub(super) bounds: Bounds<'a>,
    /// How many, a scalar.
    pub(super) bags: Operand<'a>,
    pub(super) padding: Option<Padding<'a>>,
    /// Whether the rows are those of a matrix of indices, each a bag.
    pub(super) grid: bool,
}

const MODES: [(Mode, &str); 3] = [(Mode::Sum, "ReduceSum"), (Mode::Mean, "ReduceMean"), (Mode::Max, "ReduceMax")];

/// By the TorchScript exporter (`_embedding_bag_helper` of torch/onnx): a scan over `a#`, the number of the bag.
fn scripted(reduce: &str, weighted: bool) -> String {
    const START: &str = "(Unsqueeze (Gather ?starts a#) [0])";
    const END: &str = "(Unsqueeze (Gather ?ends a#) [0])";
    let mut rows = format!("(Gather ?table (Slice ?indices {START} {END} [0]))");
    if weighted {
        rows = format!("(Mul {rows} (Unsqueeze (Slice ?weights {START} {END} [0]) [1]))");
    }
    format!("(Loop:0 ?bags true () () true ({reduce} {rows} [0] :keepdims=0))")
}

/// By torch.export (`aten_embedding_bag` of onnxscript): a sequence `a0` grows by a row while `a1` counts. `row` is what becomes of a bag
/// that is not empty.
fn exported(row: &str, is_empty: &str) -> String {
    let next = format!("((SequenceInsert a0 (If {is_empty} zeros {row})) (Add a1 1)) (Less (Add a1 1) ?bags)");
    format!("(Loop:0 _ ?any ((SequenceEmpty) 0) {next})")
}

const START: &str = "(Slice ?offsets (Reshape a1 [-1]) (Add (Reshape a1 [-1]) 1))";
const END: &str = "(Slice ?offsets (Add (Reshape a1 [-1]) 1) (Add (Reshape a1 [-1]) 2))";

/// Without padding. The last bag is treated apart where it has to be.
fn unpadded(mode: Mode) -> String {
    let rows = format!("(Slice ?rows {START} {END})");
    let row = match mode {
        Mode::Sum => format!("(ReduceSum {rows} [0])"),
        Mode::Mean => {
            let (sum, count) = (format!("(ReduceSum {rows} [0])"), format!("(Sub ?len {START})"));
            let last = format!("(If (Greater {count} 0) (Div {sum} (Cast {count} :to=1)) {sum})");
            format!("(If (Equal a1 ?last) {last} (ReduceMean {rows} [0]))")
        }
        Mode::Max => format!("(ReduceMax (If (Equal a1 ?last) (Slice ?rows {START} ?len) {rows}) [0])"),
    };
    exported(&row, &format!("(Equal {START} {END})"))
}

/// With padding: a loop inside lists the positions `b1` of what is not padding.
fn padded(reduce: &str) -> String {
    const END: &str = "(Gather ?offsets (Add a1 1))";
    const INDEX: &str = "(Gather ?indices b0)";
    let index = format!("(If (Less {INDEX} 0) (Add {INDEX} ?table_rows) {INDEX})");
    let list = format!("(If (Not (Equal {index} ?padding)) (Concat b1 (Reshape b0 [-1])) b1)");
    let first = "(Gather ?offsets a1)";
    let kept = format!("(Loop:1 _ (Less {first} {END}) ({first} []) ((Add b0 1) {list}) (Less (Add b0 1) {END}))");
    exported(
        &format!("({reduce} (Gather ?rows {kept}) [0])"),
        &format!("(Equal (Size {kept}) 0)"),
    )
}

/// The embedding bag that an output of a loop is.
pub(super) fn find<'a>(scope: &Scope<'a>, node: &'a NodeProto, output: usize) -> Option<Found<'a>> {
    let mut writer = Writer::new(scope, false);
    let text = writer.output(node, output)?;
    let seen = Seen {
        scope,
        names: writer.names,
    };
    MODES.into_iter().find_map(|(mode, reduce)| {
        seen.scripted(&text, mode, reduce)
            .or_else(|| seen.unpadded(&text, mode))
            .or_else(|| seen.padded(&text, mode, reduce))
    })
}

struct Seen<'s, 'a> {
    scope: &'s Scope<'a>,
    names: Vec<&'a str>,
}

type Parts<'p, 't> = BTreeMap<&'p str, &'t str>;

impl<'a> Seen<'_, 'a> {
    /// The value that a text `@0` names.
    fn name(&self, text: &str) -> Option<&'a str> {
        self.names.get(text.strip_prefix('@')?.parse::<usize>().ok()?).copied()
    }

    fn operand(&self, text: &str) -> Option<Operand<'a>> {
        match text.parse() {
            Ok(number) => Some(Operand::Int(number)).filter(|_| number > 0),
            Err(_) => self.name(text).map(Operand::Value),
        }
    }

    /// What values are computed from, down to the inputs of the graph, in one numbering; and what its numbers are.
    fn whole(&self, names: &[&'a str]) -> Option<(Vec<String>, Vec<&'a str>)> {
        let mut writer = Writer::new(self.scope, true);
        let texts = names.iter().map(|name| writer.of(name)).collect::<Option<_>>()?;
        Some((texts, writer.names))
    }

    fn scripted(&self, text: &str, mode: Mode, reduce: &str) -> Option<Found<'a>> {
        let (plain, weighted) = (scripted(reduce, false), scripted(reduce, true));
        let parts = matches(&plain, text).or_else(|| matches(&weighted, text))?;
        let indices = self.name(parts["indices"])?;
        let (starts, ends) = (self.name(parts["starts"])?, self.name(parts["ends"])?);
        let weights = match parts.get("weights") {
            Some(text) => Some(self.name(text)?),
            None => None,
        };
        let bags = self.operand(parts["bags"])?;
        Some(Found {
            mode,
            rows: Rows::Gathered {
                table: self.name(parts["table"])?,
                indices,
                weights,
            },
            bounds: Bounds::Two { starts, ends },
            bags,
            padding: None,
            grid: self.is_grid_of_script(indices, starts, ends, bags).unwrap_or(false),
        })
    }

    fn unpadded(&self, text: &str, mode: Mode) -> Option<Found<'a>> {
        let pattern = unpadded(mode);
        let parts = matches(&pattern, text)?;
        let (rows, offsets) = (self.name(parts["rows"])?, self.name(parts["offsets"])?);
        let last_fits = || is_last(&parts) && self.is_length(parts["len"], rows, offsets) == Some(true);
        (mode == Mode::Sum || last_fits()).then(|| self.exported(&parts, mode, rows, offsets, None))?
    }

    fn padded(&self, text: &str, mode: Mode, reduce: &str) -> Option<Found<'a>> {
        let pattern = padded(reduce);
        let parts = matches(&pattern, text)?;
        let (rows, offsets) = (self.name(parts["rows"])?, self.name(parts["offsets"])?);
        let padding = Padding {
            indices: self.name(parts["indices"])?,
            index: parts["padding"].parse().ok()?,
            table_rows: parts["table_rows"].parse().ok()?,
        };
        (self.indices_of(rows)? == padding.indices).then(|| self.exported(&parts, mode, rows, offsets, Some(padding)))?
    }

    /// What both forms of torch.export have in common.
    fn exported(
        &self,
        parts: &Parts<'_, '_>,
        mode: Mode,
        rows: &'a str,
        offsets: &'a str,
        padding: Option<Padding<'a>>,
    ) -> Option<Found<'a>> {
        let bags = parts["bags"];
        let begins = parts["any"] == format!("(Less 0 {bags})") || (parts["any"] == "true" && bags.parse::<i64>().is_ok());
        if !begins {
            return None;
        }
        let bags = self.operand(bags)?;
        Some(Found {
            mode,
            rows: Rows::There(rows),
            bounds: Bounds::One(offsets),
            bags,
            padding,
            grid: self.is_grid_of_export(rows, offsets, bags).unwrap_or(false),
        })
    }

    /// What the rows are gathered by; they are Gather(table, indices) times something.
    fn indices_of(&self, rows: &str) -> Option<&'a str> {
        let scaled = self.scope.maker(rows).filter(|node| node.standard_op() == Some("Mul"))?;
        let gather = self.scope.maker(scaled.input_name(0)?)?;
        let by_rows = gather.standard_op() == Some("Gather") && gather.attr_i("axis").ok()?.unwrap_or(0) == 0;
        by_rows.then(|| gather.input_name(1))?
    }

    /// Whether `len`, where the last bag ends, is the number of rows.
    fn is_length(&self, len: &str, rows: &str, offsets: &str) -> Option<bool> {
        if let Some(number) = len.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            return Some(self.scope.ints(offsets)?.last() == Some(&number.parse().ok()?));
        }
        let of = match matches("(Shape ?of :end=1)", len) {
            Some(parts) => self.name(parts["of"])?,
            None => self.scope.maker(self.name(len)?).filter(|node| is_shape(node))?.input_name(0)?,
        };
        let (texts, names) = self.whole(&[of, self.indices_of(rows)?])?;
        let [of, indices] = &texts[..] else { return None };
        let is_list = matches("(Reshape ?of [-1])", of).is_some() || matches!(rank(self.scope, &names, of), Some(1));
        Some(is_list && (indices == of || *indices == format!("(Reshape {of} [-1])")))
    }

    /// Whether the bags are the rows of a matrix, as nn.EmbeddingBag makes them where it is given no offsets.
    fn is_grid_of_script(&self, indices: &'a str, starts: &'a str, ends: &'a str, bags: Operand<'a>) -> Option<bool> {
        const LENGTH: &str = "(Cast (Gather (Shape ?t) 1) :to=7)";
        const ALL: &str = "(Cast (ReduceProd (Shape ?t) :keepdims=0) :to=7)";
        const LIST: &str = "(Reshape ?t [-1])";
        let Operand::Value(bags) = bags else { return None };
        let (texts, _) = self.whole(&[starts, ends, bags, indices])?;
        let starts = format!("(Concat (Range 0 {ALL} {LENGTH}) (Unsqueeze (Gather (Shape {LIST}) 0) [0]))");
        let ends = format!("(Slice {starts} [1] [9223372036854775807] [0] [1])");
        let pattern = format!("{starts} {ends} (Gather (Shape {ends}) 0) {LIST}");
        Some(matches(&pattern, &texts.join(" ")).is_some())
    }

    /// The same for torch.export.
    fn is_grid_of_export(&self, rows: &'a str, offsets: &'a str, bags: Operand<'a>) -> Option<bool> {
        const RANGE: &str = "(Range 0 (Mul (Squeeze (Shape ?t :end=1)) ?length) ?length)";
        const ONCE: &str = "(Reshape ?t [-1])";
        let Operand::Value(bags) = bags else { return None };
        let (texts, names) = self.whole(&[rows, offsets, bags])?;
        let text = texts.join(" ");
        let padded = format!("(Mul (Gather ?table {ONCE}) ?weights) (Concat {RANGE} (Reshape (Size {ONCE}) [-1])) (Size {RANGE})");
        let plain =
            format!("(Mul (Gather ?table (Reshape {ONCE} [-1])) ?weights) (Concat {RANGE} (Shape (Reshape {ONCE} [-1]))) (Size {RANGE})");
        let parts = matches(&padded, &text).or_else(|| matches(&plain, &text))?;
        let (of, length) = (parts["t"], parts["length"]);
        let known = match length.parse::<usize>() {
            Ok(length) => dims(self.scope, &names, of)?.get(1) == Some(&Dim::Fixed(length)),
            Err(_) => length == format!("(Squeeze (Shape {of} :end=2 :start=1))"),
        };
        Some(known && rank(self.scope, &names, of) == Some(2))
    }
}

/// Whether `?last` is one less than `?bags`.
fn is_last(parts: &Parts<'_, '_>) -> bool {
    let (bags, last) = (parts["bags"], parts["last"]);
    match (bags.parse::<i64>(), last.parse::<i64>()) {
        (Ok(bags), Ok(last)) => bags.checked_sub(1) == Some(last),
        _ => last == format!("(Sub {bags} 1)"),
    }
}

/// Whether a node gives the whole shape of something.
fn is_shape(node: &NodeProto) -> bool {
    node.standard_op() == Some("Shape") && node.attr("end").is_none() && matches!(node.attr_i("start"), Ok(None | Some(0)))
}

/// What the file says of the input that a text `@0` names.
fn dims<'m>(scope: &Scope<'m>, names: &[&str], text: &str) -> Option<&'m [Dim]> {
    let name = names.get(text.strip_prefix('@')?.parse::<usize>().ok()?)?;
    let input = scope.model.inputs().iter().find(|input| input.name == *name)?;
    input.dims.as_deref()
}

fn rank(scope: &Scope<'_>, names: &[&str], text: &str) -> Option<usize> {
    dims(scope, names, text).map(<[Dim]>::len)
}
