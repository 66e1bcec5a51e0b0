//! An embedding bag as ordinary nodes.

use std::collections::BTreeSet;

use super::patterns::{Bounds, Found, Mode, Operand, Padding, Rows};
use crate::proto::{AttributeProto, DataType, NodeProto, TensorProto};

const FLOAT: i64 = DataType::Float as i64;
const INT64: i64 = DataType::Int64 as i64;
/// In which the axes of ReduceMax and ReduceMean became an input.
const AXES_ARE_INPUTS: i64 = 18;

/// Nodes under names of their own.
struct Nodes {
    prefix: String,
    opset: i64,
    made: Vec<NodeProto>,
}

/// The nodes that give `output`.
pub(super) fn nodes(found: &Found<'_>, output: &str, opset: i64, taken: &mut BTreeSet<String>) -> Vec<NodeProto> {
    let mut prefixes = (1u64..).map(|i| format!("{output}.bag{}", if i == 1 { String::new() } else { i.to_string() }));
    let is_free = |prefix: &String| {
        let next = taken.range(prefix.clone()..).next();
        next.is_none_or(|name| !name.starts_with(prefix.as_str()))
    };
    let prefix = prefixes.find(is_free).unwrap_or_default();
    taken.insert(prefix.clone());
    let mut nodes = Nodes {
        prefix,
        opset,
        made: Vec::new(),
    };
    let rows = nodes.rows(found.rows);
    let made = if found.grid {
        nodes.grid(found, &rows)
    } else {
        nodes.scattered(found, &rows)
    };
    // The last node gives what the loop gave.
    if let Some(last) = nodes.made.iter_mut().find(|node| node.output.contains(&made)) {
        last.output = vec![output.to_owned()];
    }
    nodes.made
}

impl Nodes {
    fn give(&mut self, op: &str, part: &str, inputs: &[&str]) -> String {
        self.with(op, part, inputs, Vec::new())
    }

    fn with(&mut self, op: &str, part: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let name = format!("{}/{part}", self.prefix);
        self.made.push(NodeProto {
            op_type: op.to_owned(),
            name: name.clone(),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.clone()],
            attribute,
            ..NodeProto::default()
        });
        name
    }

    fn constant(&mut self, part: &str, tensor: TensorProto) -> String {
        self.with("Constant", part, &[], vec![AttributeProto::tensor("value", tensor)])
    }

    /// A list of integers.
    fn ints(&mut self, part: &str, values: &[i64]) -> String {
        let tensor = TensorProto {
            dims: vec![values.len() as i64],
            ..integers(values)
        };
        self.constant(part, tensor)
    }

    fn float(&mut self, part: &str, value: f32) -> String {
        let tensor = TensorProto {
            data_type: DataType::Float as i32,
            raw_data: value.to_le_bytes().to_vec().into(),
            ..TensorProto::default()
        };
        self.constant(part, tensor)
    }

    fn cast(&mut self, part: &str, input: &str, to: i64) -> String {
        self.with("Cast", part, &[input], vec![AttributeProto::int("to", to)])
    }

    /// Over axis 1.
    fn reduce(&mut self, op: &str, part: &str, input: &str, keepdims: bool) -> String {
        let keep = AttributeProto::int("keepdims", i64::from(keepdims));
        if op == "ReduceSum" || self.opset >= AXES_ARE_INPUTS {
            let axes = self.ints(&format!("{part}_axes"), &[1]);
            return self.with(op, part, &[input, &axes], vec![keep]);
        }
        self.with(op, part, &[input], vec![AttributeProto::int_list("axes", &[1]), keep])
    }

    /// The rows, `[n, columns]`.
    fn rows(&mut self, rows: Rows<'_>) -> String {
        let (table, indices, weights) = match rows {
            Rows::There(name) => return name.to_owned(),
            Rows::Gathered { table, indices, weights } => (table, indices, weights),
        };
        let rows = self.give("Gather", "rows", &[table, indices]);
        let Some(weights) = weights else { return rows };
        let one = self.ints("column", &[1]);
        let weights = self.give("Unsqueeze", "weights", &[weights, &one]);
        self.give("Mul", "weighted", &[&rows, &weights])
    }

    /// How many bags, as a list of one.
    fn bags(&mut self, bags: Operand<'_>) -> String {
        match bags {
            Operand::Int(bags) => self.ints("bags", &[bags]),
            Operand::Value(bags) => {
                let list = self.ints("list", &[-1]);
                self.give("Reshape", "bags", &[bags, &list])
            }
        }
    }

    /// For each index whether it is not the padding.
    fn kept(&mut self, padding: Padding<'_>) -> String {
        let indices = self.cast("indices", padding.indices, INT64);
        let zero = self.constant("zero_index", integers(&[0]));
        let rows = self.constant("table_rows", integers(&[padding.table_rows]));
        let index = self.constant("padding", integers(&[padding.index]));
        let negative = self.give("Less", "negative", &[&indices, &zero]);
        let wrapped = self.give("Add", "wrapped", &[&indices, &rows]);
        let indices = self.give("Where", "index", &[&negative, &wrapped, &indices]);
        let padded = self.give("Equal", "padded", &[&indices, &index]);
        self.give("Not", "kept", &[&padded])
    }

    /// Bags that are the rows of a matrix: `[n, columns]` is `[bags, length, columns]`.
    fn grid(&mut self, found: &Found<'_>, rows: &str) -> String {
        let bags = self.bags(found.bags);
        let rest = self.ints("length", &[-1]);
        let shape = self.give("Shape", "shape", &[rows]);
        let (one, two) = (self.ints("from", &[1]), self.ints("to", &[2]));
        let columns = self.give("Slice", "columns", &[&shape, &one, &two]);
        let axis = || vec![AttributeProto::int("axis", 0)];
        let shape = self.with("Concat", "by_bag", &[&bags, &rest, &columns], axis());
        let rows = self.give("Reshape", "grid", &[rows, &shape]);
        let Some(padding) = found.padding else {
            let reduce = match found.mode {
                Mode::Sum => "ReduceSum",
                Mode::Mean => "ReduceMean",
                Mode::Max => "ReduceMax",
            };
            return self.reduce(reduce, "made", &rows, false);
        };
        let kept = self.kept(padding);
        let shape = self.with("Concat", "members_shape", &[&bags, &rest], axis());
        let members = self.give("Reshape", "members", &[&kept, &shape]);
        self.of_members(
            found.mode,
            &members,
            |nodes, counted| {
                let two = nodes.ints("columns_axis", &[2]);
                let counted = nodes.give("Unsqueeze", "counted_rows", &[counted, &two]);
                let counted = nodes.give("Mul", "rows_counted", &[&rows, &counted]);
                nodes.reduce("ReduceSum", "sum", &counted, false)
            },
            &rows,
        )
    }

    /// Bags of any length.
    fn scattered(&mut self, found: &Found<'_>, rows: &str) -> String {
        let bags = self.bags(found.bags);
        let zero = self.ints("first", &[0]);
        let one = self.ints("second", &[1]);
        let (starts, ends) = match found.bounds {
            Bounds::Two { starts, ends } => (
                self.give("Slice", "starts", &[starts, &zero, &bags]),
                self.give("Slice", "ends", &[ends, &zero, &bags]),
            ),
            Bounds::One(offsets) => {
                let starts = self.give("Slice", "starts", &[offsets, &zero, &bags]);
                let end = self.give("Add", "end", &[&bags, &one]);
                (starts, self.give("Slice", "ends", &[offsets, &one, &end]))
            }
        };
        let mut column = |part: &str, values: &str| {
            let values = self.cast(&format!("{part}_values"), values, INT64);
            self.give("Unsqueeze", part, &[&values, &one])
        };
        let (starts, ends) = (column("starts_column", &starts), column("ends_column", &ends));
        let shape = self.give("Shape", "shape", &[rows]);
        let n = self.give("Slice", "n_rows", &[&shape, &zero, &one]);
        let n = self.give("Squeeze", "n", &[&n, &zero]);
        let (from, step) = (self.constant("from", integers(&[0])), self.constant("step", integers(&[1])));
        let positions = self.give("Range", "positions", &[&from, &n, &step]);
        let before = self.give("Less", "before", &[&positions, &starts]);
        let begun = self.give("Not", "begun", &[&before]);
        let inside = self.give("Less", "inside", &[&positions, &ends]);
        let mut members = self.give("And", "members", &[&begun, &inside]);
        if let Some(padding) = found.padding {
            let kept = self.kept(padding);
            members = self.give("And", "kept_members", &[&members, &kept]);
        }
        let sum = |nodes: &mut Self, counted: &str| nodes.give("MatMul", "sum", &[counted, rows]);
        self.of_members(found.mode, &members, sum, rows)
    }

    /// `members` `[bags, length]`, `rows` `[length, columns]` or `[bags, length, columns]`; `sum` of what counts.
    fn of_members(&mut self, mode: Mode, members: &str, sum: impl FnOnce(&mut Self, &str) -> String, rows: &str) -> String {
        let counted = self.cast("counted", members, FLOAT);
        if mode == Mode::Sum {
            return sum(self, &counted);
        }
        let count = self.reduce("ReduceSum", "count", &counted, true);
        if mode == Mode::Mean {
            let sum = sum(self, &counted);
            let one = self.float("one", 1.0);
            let count = self.give("Max", "divisor", &[&count, &one]);
            return self.give("Div", "mean", &[&sum, &count]);
        }
        let axis = self.ints("last_axis", &[2]);
        let members = self.give("Unsqueeze", "member_rows", &[members, &axis]);
        let lowest = self.float("lowest", f32::MIN);
        let rows = self.give("Where", "candidates", &[&members, rows, &lowest]);
        let top = self.reduce("ReduceMax", "top", &rows, false);
        let zero = self.float("zero", 0.0);
        let any = self.give("Greater", "any", &[&count, &zero]);
        self.give("Where", "max", &[&any, &top, &zero])
    }
}

/// A scalar, or the values of a list.
fn integers(values: &[i64]) -> TensorProto {
    TensorProto {
        data_type: DataType::Int64 as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}
