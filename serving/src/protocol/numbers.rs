//! The `data` of a tensor in JSON: numbers or truth values, in one list or nested as the shape is.

use std::fmt;

use aimass_inference::{Data, Datatype};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Most values of one tensor in JSON. More go as binary tensor data.
pub const MAX_ELEMENTS: usize = 16 << 20;
/// Deepest nesting.
const MAX_DEPTH: usize = aimass_inference::MAX_RANK;

/// Values as they are written: integers as long as there is no other number.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Bools(Vec<bool>),
}

/// What a tensor's `data` holds. What is wrong with it is kept, to be told with the tensor's name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Numbers {
    kind: Kind,
    /// Length of each level of lists; `None` where lists of one level differ.
    lens: Vec<Option<usize>>,
    problem: Option<String>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            kind: Kind::Ints(Vec::new()),
            lens: Vec::new(),
            problem: None,
        }
    }
}

impl<'de> serde::Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut numbers = Self::default();
        Collect {
            into: &mut numbers,
            depth: 0,
        }
        .deserialize(deserializer)?;
        Ok(numbers)
    }
}

impl Numbers {
    fn len(&self) -> usize {
        match &self.kind {
            Kind::Ints(v) => v.len(),
            Kind::Floats(v) => v.len(),
            Kind::Bools(v) => v.len(),
        }
    }

    /// Notes the first problem.
    fn wrong(&mut self, problem: impl FnOnce() -> String) {
        if self.problem.is_none() {
            self.problem = Some(problem());
        }
    }

    /// Whether another value may be kept.
    fn has_room(&mut self, depth: usize) -> bool {
        if depth == 0 {
            self.wrong(|| "must be a list, for instance [1.0, 2.0]".to_owned());
        }
        if self.lens.len() > depth {
            self.wrong(|| "has numbers and lists side by side: nest it as the shape is, or not at all".to_owned());
        }
        if self.len() >= MAX_ELEMENTS {
            self.wrong(|| format!("has more than {MAX_ELEMENTS} values, the limit: send fewer rows at once, or binary tensor data"));
        }
        self.problem.is_none()
    }

    fn int(&mut self, value: i64, depth: usize) {
        if !self.has_room(depth) {
            return;
        }
        match &mut self.kind {
            Kind::Ints(values) => values.push(value),
            Kind::Floats(values) => values.push(value as f64),
            Kind::Bools(_) => self.mixed(),
        }
    }

    fn float(&mut self, value: f64, depth: usize) {
        if !self.has_room(depth) {
            return;
        }
        match &mut self.kind {
            Kind::Ints(values) => {
                let mut floats: Vec<f64> = values.iter().map(|&v| v as f64).collect();
                floats.push(value);
                self.kind = Kind::Floats(floats);
            }
            Kind::Floats(values) => values.push(value),
            Kind::Bools(_) => self.mixed(),
        }
    }

    fn bool(&mut self, value: bool, depth: usize) {
        if !self.has_room(depth) {
            return;
        }
        match &mut self.kind {
            Kind::Ints(values) if values.is_empty() => self.kind = Kind::Bools(vec![value]),
            Kind::Bools(values) => values.push(value),
            _ => self.mixed(),
        }
    }

    fn mixed(&mut self) {
        let at = self.len();
        self.wrong(|| format!("mixes numbers with true and false (value {at})"));
    }

    fn other(&mut self, what: &str) {
        let at = self.len();
        self.wrong(|| format!("holds {what} (value {at}), which is no number: send finite numbers, or true and false for BOOL"));
    }

    fn end_of_list(&mut self, depth: usize, len: usize) {
        if self.lens.len() <= depth {
            // Levels above are noted when their lists end; what they hold stays open until then.
            self.lens.resize(depth + 1, Some(usize::MAX));
        }
        self.lens[depth] = match self.lens[depth] {
            Some(usize::MAX) => Some(len),
            Some(known) if known == len => Some(len),
            _ => None,
        };
    }

    /// The values as this type.
    ///
    /// # Errors
    /// What is wrong with them, as a sentence that follows the tensor's name.
    pub(super) fn into_data(self, datatype: Datatype, shape: &[usize]) -> Result<Data, String> {
        if let Some(problem) = self.problem {
            return Err(format!("its data {problem}"));
        }
        if self.lens.len() > 1 && !self.lens.iter().zip(shape).all(|(len, n)| *len == Some(*n)) || self.lens.len() > shape.len().max(1) {
            return Err(format!(
                "its data is nested otherwise than its shape {shape:?} says: nest it so, or send one flat list"
            ));
        }
        match (self.kind, datatype) {
            (Kind::Bools(values), Datatype::Bool) => Ok(Data::Bool(values)),
            (_, Datatype::Bool) => Err("its data holds numbers where BOOL takes true and false".to_owned()),
            (Kind::Bools(_), _) => Err(format!("its data holds true and false where {datatype} takes numbers")),
            (Kind::Ints(values), Datatype::F32) => Ok(Data::F32(values.into_iter().map(|v| v as f32).collect())),
            (Kind::Ints(values), Datatype::F64) => Ok(Data::F64(values.into_iter().map(|v| v as f64).collect())),
            (Kind::Floats(values), Datatype::F64) => Ok(Data::F64(values)),
            (Kind::Floats(values), Datatype::F32) => narrow(&values).map(Data::F32),
            (Kind::Floats(values), _) => {
                let at = values.iter().position(|v| v.fract() != 0.0).unwrap_or(0);
                Err(format!(
                    "its data holds {} (value {at}) where {datatype} takes whole numbers, written without a point",
                    values[at]
                ))
            }
            (Kind::Ints(values), Datatype::I64) => Ok(Data::I64(values)),
            (Kind::Ints(values), Datatype::I32) => whole(&values, datatype).map(Data::I32),
            (Kind::Ints(values), Datatype::U8) => whole(&values, datatype).map(Data::U8),
            (Kind::Ints(values), Datatype::I8) => whole(&values, datatype).map(Data::I8),
            (Kind::Ints(_), other) => Err(format!("{other} is not served")),
        }
    }
}

fn narrow(values: &[f64]) -> Result<Vec<f32>, String> {
    match values.iter().position(|v| !(*v as f32).is_finite()) {
        Some(at) => Err(format!("its data holds {:?} (value {at}), which FP32 can't hold", values[at])),
        None => Ok(values.iter().map(|&v| v as f32).collect()),
    }
}

fn whole<T: TryFrom<i64>>(values: &[i64], datatype: Datatype) -> Result<Vec<T>, String> {
    let narrowed = values
        .iter()
        .enumerate()
        .map(|(at, &v)| T::try_from(v).map_err(|_| format!("its data holds {v} (value {at}), which {datatype} can't hold")));
    narrowed.collect()
}

/// Reads a value into `into`, lists within lists.
struct Collect<'a> {
    into: &'a mut Numbers,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Collect<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Collect<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.into.bool(value, self.depth);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.into.int(value, self.depth);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.into.int(value, self.depth),
            Err(_) => self.into.float(value as f64, self.depth),
        }
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.into.float(value, self.depth);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        let shown: String = text.chars().take(20).collect();
        self.into.other(&format!("the text {shown:?}"));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.into.other("null");
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.into.other("an object");
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { into, depth } = self;
        if depth >= MAX_DEPTH {
            into.wrong(|| format!("is nested more than {MAX_DEPTH} deep"));
        }
        let mut len = 0;
        // Once something is wrong nothing is kept; the rest is read over.
        while into.problem.is_none() {
            let inner = Collect {
                into: &mut *into,
                depth: depth + 1,
            };
            if list.next_element_seed(inner)?.is_none() {
                into.end_of_list(depth, len);
                return Ok(());
            }
            len += 1;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}
