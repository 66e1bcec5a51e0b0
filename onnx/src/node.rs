//! Nodes and their attributes.

use crate::AttributeError;
use crate::error::shown;
use crate::proto::{AttributeProto, AttributeType, GraphProto, NodeProto, TensorProto};

/// Whether `domain` is ONNX's own operator set.
pub(crate) fn is_standard_domain(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

impl NodeProto {
    /// How to name this node to a person: operator and name, or its first output where it has none.
    pub fn label(&self) -> String {
        let op = if self.op_type.is_empty() { "node" } else { &self.op_type };
        match (self.name.as_str(), self.output.first()) {
            ("", Some(output)) => format!("{} (giving {:?})", shown(op), shown(output)),
            ("", None) => shown(op),
            (name, _) => format!("{} {:?}", shown(op), shown(name)),
        }
    }

    /// The operator's name, where it is of ONNX's own operator set.
    pub fn standard_op(&self) -> Option<&str> {
        is_standard_domain(&self.domain).then_some(self.op_type.as_str())
    }

    /// Name of input `index`; `None` when it is left out.
    pub fn input_name(&self, index: usize) -> Option<&str> {
        self.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// An attribute by name.
    pub fn attr(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// An integer attribute; `None` when it is left out.
    ///
    /// # Errors
    /// [`AttributeError`] when it is of another type.
    pub fn attr_i(&self, name: &str) -> Result<Option<i64>, AttributeError> {
        // A writer that drops zeros leaves the value out.
        self.typed(name, AttributeType::Int, "an integer", |a| Some(a.i.unwrap_or(0)))
    }

    /// A float attribute; `None` when it is left out.
    ///
    /// # Errors
    /// [`AttributeError`] when it is of another type.
    pub fn attr_f(&self, name: &str) -> Result<Option<f32>, AttributeError> {
        self.typed(name, AttributeType::Float, "a float", |a| Some(a.f.unwrap_or(0.0)))
    }

    /// A text attribute; `None` when it is left out.
    ///
    /// # Errors
    /// [`AttributeError`] when it is of another type or not UTF-8.
    pub fn attr_s(&self, name: &str) -> Result<Option<&str>, AttributeError> {
        self.typed(name, AttributeType::String, "a text", |a| {
            std::str::from_utf8(a.s.as_deref().unwrap_or_default()).ok()
        })
    }

    /// A list of integers; `None` when it is left out.
    ///
    /// # Errors
    /// [`AttributeError`] when it is of another type.
    pub fn attr_ints(&self, name: &str) -> Result<Option<&[i64]>, AttributeError> {
        self.typed(name, AttributeType::Ints, "a list of integers", |a| Some(a.ints.as_slice()))
    }

    /// A list of floats; `None` when it is left out.
    ///
    /// # Errors
    /// [`AttributeError`] when it is of another type.
    pub fn attr_floats(&self, name: &str) -> Result<Option<&[f32]>, AttributeError> {
        self.typed(name, AttributeType::Floats, "a list of floats", |a| Some(a.floats.as_slice()))
    }

    /// A list of texts; `None` when it is left out.
    ///
    /// # Errors
    /// [`AttributeError`] when it is of another type or not UTF-8.
    pub fn attr_strings(&self, name: &str) -> Result<Option<Vec<&str>>, AttributeError> {
        self.typed(name, AttributeType::Strings, "a list of texts", |a| {
            a.strings.iter().map(|text| std::str::from_utf8(text).ok()).collect()
        })
    }

    /// A tensor; `None` when it is left out. [`crate::TensorRef::new`] reads it.
    ///
    /// # Errors
    /// [`AttributeError`] when it is of another type.
    pub fn attr_t(&self, name: &str) -> Result<Option<&TensorProto>, AttributeError> {
        self.typed(name, AttributeType::Tensor, "a tensor", |a| a.t.as_deref())
    }

    /// A graph; `None` when it is left out.
    ///
    /// # Errors
    /// [`AttributeError`] when it is of another type.
    pub fn attr_g(&self, name: &str) -> Result<Option<&GraphProto>, AttributeError> {
        self.typed(name, AttributeType::Graph, "a graph", |a| a.g.as_deref())
    }

    fn typed<'a, T>(
        &'a self,
        name: &str,
        wanted: AttributeType,
        expected: &'static str,
        value: impl FnOnce(&'a AttributeProto) -> Option<T>,
    ) -> Result<Option<T>, AttributeError> {
        let Some(attribute) = self.attr(name) else { return Ok(None) };
        let wrong = || AttributeError {
            node: self.label(),
            attribute: shown(name),
            expected,
        };
        if attribute.kind() != wanted || !attribute.ref_attr_name.is_empty() {
            return Err(wrong());
        }
        value(attribute).ok_or_else(wrong).map(Some)
    }
}

impl AttributeProto {
    /// Its type; for files that don't say it (IR 1 and some writers), by the field that holds a value.
    pub fn kind(&self) -> AttributeType {
        match AttributeType::try_from(self.r#type) {
            Ok(AttributeType::Undefined) | Err(_) => {}
            Ok(said) => return said,
        }
        [
            (self.i.is_some(), AttributeType::Int),
            (self.f.is_some(), AttributeType::Float),
            (self.s.is_some(), AttributeType::String),
            (self.t.is_some(), AttributeType::Tensor),
            (self.g.is_some(), AttributeType::Graph),
            (!self.ints.is_empty(), AttributeType::Ints),
            (!self.floats.is_empty(), AttributeType::Floats),
            (!self.strings.is_empty(), AttributeType::Strings),
        ]
        .into_iter()
        .find_map(|(there, kind)| there.then_some(kind))
        .unwrap_or(AttributeType::Undefined)
    }

    /// An integer attribute.
    pub fn int(name: &str, value: i64) -> Self {
        Self {
            name: name.to_owned(),
            r#type: AttributeType::Int as i32,
            i: Some(value),
            ..Self::default()
        }
    }

    /// A list of integers.
    pub fn int_list(name: &str, values: &[i64]) -> Self {
        Self {
            name: name.to_owned(),
            r#type: AttributeType::Ints as i32,
            ints: values.to_vec(),
            ..Self::default()
        }
    }

    /// A float attribute.
    pub fn float(name: &str, value: f32) -> Self {
        Self {
            name: name.to_owned(),
            r#type: AttributeType::Float as i32,
            f: Some(value),
            ..Self::default()
        }
    }

    /// A text attribute.
    pub fn text(name: &str, value: &str) -> Self {
        Self {
            name: name.to_owned(),
            r#type: AttributeType::String as i32,
            s: Some(value.as_bytes().to_vec()),
            ..Self::default()
        }
    }

    /// A tensor attribute.
    pub fn tensor(name: &str, value: TensorProto) -> Self {
        Self {
            name: name.to_owned(),
            r#type: AttributeType::Tensor as i32,
            t: Some(Box::new(value)),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_by_their_type() {
        let node = NodeProto {
            op_type: "Conv".into(),
            output: vec!["y".into()],
            attribute: vec![
                AttributeProto::int("group", 2),
                AttributeProto::int_list("pads", &[1, 2]),
                AttributeProto::float("alpha", 0.5),
                AttributeProto::text("auto_pad", "SAME_UPPER"),
                AttributeProto {
                    s: Some(vec![0xff]),
                    ..AttributeProto::text("bad", "")
                },
                AttributeProto {
                    i: None,
                    ..AttributeProto::int("zero", 0)
                },
                AttributeProto {
                    r#type: 0,
                    ..AttributeProto::int("old", 3)
                },
            ],
            ..Default::default()
        };
        assert_eq!(node.attr_i("group"), Ok(Some(2)));
        assert_eq!(node.attr_i("absent"), Ok(None));
        assert_eq!(node.attr_i("zero"), Ok(Some(0)));
        assert_eq!(node.attr_i("old"), Ok(Some(3)));
        assert_eq!(node.attr_ints("pads"), Ok(Some(&[1, 2][..])));
        assert_eq!(node.attr_f("alpha"), Ok(Some(0.5)));
        assert_eq!(node.attr_s("auto_pad"), Ok(Some("SAME_UPPER")));
        assert!(node.attr_s("bad").is_err());
        let error = node.attr_ints("group").expect_err("an integer is no list");
        assert_eq!(
            error.to_string(),
            "the attribute \"group\" of Conv (giving \"y\") is not a list of integers; export the model again"
        );
    }
}
