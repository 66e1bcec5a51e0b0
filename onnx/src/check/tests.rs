use crate::proto::{AttributeProto, AttributeType, FunctionProto, GraphProto, ModelProto, OperatorSetIdProto, SparseTensorProto};
use crate::testing::{node, proto, tensor, value};
use crate::{Model, ReadError};

fn refused(proto: ModelProto) -> ReadError {
    Model::from_proto(proto).map(|_| ()).expect_err("refused")
}

fn with_graph(change: impl FnOnce(&mut GraphProto)) -> ModelProto {
    let mut proto = proto(vec![node("MatMul", &["x", "w"], &["y"])], vec![tensor("w", &[2, 2], &[0.0; 4])]);
    change(proto.graph.as_mut().expect("there"));
    proto
}

fn subgraph(name: &str, node: Vec<crate::proto::NodeProto>, output: &str) -> AttributeProto {
    let graph = GraphProto {
        node,
        output: vec![value(output, &[])],
        ..GraphProto::default()
    };
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Graph as i32,
        g: Some(Box::new(graph)),
        ..AttributeProto::default()
    }
}

#[test]
fn a_name_is_given_once() {
    let twice = |name: &str, by: &str| ReadError::DuplicateName {
        name: name.into(),
        by: by.into(),
    };
    let two = refused(with_graph(|graph| graph.node.push(node("Relu", &["x"], &["y"]))));
    assert_eq!(two, twice("y", "Relu (giving \"y\")"));
    let two = refused(with_graph(|graph| graph.initializer.push(tensor("w", &[1], &[0.0]))));
    assert_eq!(two, twice("w", "initializer number 1"));
    let two = refused(with_graph(|graph| graph.input.push(value("x", &[]))));
    assert_eq!(two, twice("x", "input number 1"));
    let two = refused(with_graph(|graph| graph.output.push(value("y", &[]))));
    assert_eq!(two, twice("y", "output number 1"));
    let two = refused(with_graph(|graph| graph.node[0].output = vec!["w".into()]));
    assert_eq!(two, twice("w", "MatMul (giving \"w\")"));
    let attributes = vec![AttributeProto::int("axis", 1), AttributeProto::int("axis", 2)];
    let two = refused(with_graph(|graph| graph.node[0].attribute = attributes));
    assert_eq!(
        two,
        ReadError::DuplicateAttribute {
            node: "MatMul (giving \"y\")".into(),
            attribute: "axis".into()
        }
    );
}

#[test]
fn what_needs_a_name_has_one() {
    let unnamed = |what, index| ReadError::Unnamed { what, index };
    assert_eq!(
        refused(with_graph(|graph| graph.initializer[0].name.clear())),
        unnamed("initializer", 0)
    );
    assert_eq!(refused(with_graph(|graph| graph.input[0].name.clear())), unnamed("input", 0));
    assert_eq!(refused(with_graph(|graph| graph.output[0].name.clear())), unnamed("output", 0));
    let sparse = SparseTensorProto::default();
    assert_eq!(
        refused(with_graph(|graph| graph.sparse_initializer.push(sparse))),
        unnamed("sparse initializer", 0)
    );
    let no_operator = refused(with_graph(|graph| graph.node[0].op_type.clear()));
    assert_eq!(
        no_operator,
        ReadError::NoOperator {
            node: "node (giving \"y\")".into()
        }
    );
}

#[test]
fn inputs_resolve_in_order_and_without_cycles() {
    let relu = |input: &str, output: &str| node("Relu", &[input], &[output]);
    let nodes = |nodes| refused(with_graph(|graph| graph.node = nodes));
    let (label, input) = ("Relu (giving \"y\")".to_owned(), "a".to_owned());
    assert_eq!(
        nodes(vec![relu("a", "y")]),
        ReadError::Dangling {
            node: label.clone(),
            input: input.clone()
        }
    );
    let later = nodes(vec![relu("a", "y"), relu("x", "a")]);
    assert_eq!(
        later,
        ReadError::OutOfOrder {
            node: label.clone(),
            input: input.clone()
        }
    );
    for cycle in [vec![relu("a", "y"), relu("b", "a"), relu("y", "b")], vec![relu("y", "y")]] {
        assert!(matches!(nodes(cycle), ReadError::Cycle { node, .. } if node == label));
    }
    let none = refused(with_graph(|graph| graph.output[0].name = "z".into()));
    assert_eq!(none, ReadError::MissingOutput { output: "z".into() });
    assert_eq!(refused(with_graph(|graph| graph.output.clear())), ReadError::NoOutputs);
}

#[test]
fn an_input_that_is_left_out_is_fine() {
    let proto = with_graph(|graph| graph.node[0] = node("Clip", &["x", "", "w"], &["y", ""]));
    assert!(Model::from_proto(proto).is_ok());
}

#[test]
fn subgraphs_see_the_names_around_them_and_keep_their_own() {
    let branch = |name, input: &str| subgraph(name, vec![node("Relu", &[input], &["inner"])], "inner");
    let with_branches = |then_input: &str, last: &str| {
        let mut choice = node("If", &["x"], &["chosen"]);
        choice.attribute = vec![branch("then_branch", then_input), branch("else_branch", "x")];
        let last = node("Relu", &[last], &["y"]);
        Model::from_proto(with_graph(|graph| graph.node = vec![choice, last])).map(|_| ())
    };
    assert_eq!(with_branches("w", "chosen"), Ok(()));
    let relu = |output: &str| format!("Relu (giving {output:?})");
    assert_eq!(
        with_branches("nowhere", "chosen"),
        Err(ReadError::Dangling {
            node: relu("inner"),
            input: "nowhere".into()
        })
    );
    assert_eq!(
        with_branches("w", "inner"),
        Err(ReadError::Dangling {
            node: relu("y"),
            input: "inner".into()
        })
    );
}

#[test]
fn constants_of_nodes_are_checked_too() {
    let mut short = AttributeProto {
        name: "value".into(),
        r#type: AttributeType::Tensor as i32,
        ..AttributeProto::default()
    };
    short.t = Some(Box::new(tensor("c", &[3], &[0.0; 2])));
    let error = refused(with_graph(|graph| graph.node[0].attribute.push(short)));
    assert_eq!(
        error,
        ReadError::DataLength {
            tensor: "c".into(),
            expected: 12,
            found: 8,
            unit: "bytes"
        }
    );
}

#[test]
fn other_domains_are_kept_if_they_are_imported() {
    let foreign = |imports: &[&str]| {
        let mut proto = with_graph(|graph| graph.node[0].domain = "com.example".into());
        let import = |&domain: &&str| OperatorSetIdProto {
            domain: domain.into(),
            version: 1,
        };
        proto.opset_import.extend(imports.iter().map(import));
        Model::from_proto(proto).map(|_| ())
    };
    assert_eq!(foreign(&["com.example"]), Ok(()));
    let unimported = ReadError::UnimportedDomain {
        node: "MatMul (giving \"y\")".into(),
        domain: "com.example".into(),
    };
    assert_eq!(foreign(&[]), Err(unimported));
    assert_eq!(
        foreign(&["com.example", "com.example"]),
        Err(ReadError::DuplicateOpset {
            domain: "com.example".into()
        })
    );
    assert_eq!(foreign(&["ai.onnx"]), Err(ReadError::DuplicateOpset { domain: String::new() }));
}

#[test]
fn bodies_of_functions_are_checked() {
    let function = |input: &str| FunctionProto {
        name: "f".into(),
        domain: "local".into(),
        input: vec!["a".into()],
        output: vec!["b".into()],
        node: vec![node("Relu", &[input], &["b"])],
        ..FunctionProto::default()
    };
    let read = |input| {
        Model::from_proto(ModelProto {
            functions: vec![function(input)],
            ..with_graph(|_| {})
        })
        .map(|_| ())
    };
    assert_eq!(read("a"), Ok(()));
    assert!(matches!(read("w"), Err(ReadError::Dangling { input, .. }) if input == "w"));
}
