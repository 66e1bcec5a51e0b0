use aimass_onnx::proto::{AttributeProto, NodeProto};

use super::*;
use crate::program::Element;

fn run(op: &str, attributes: Vec<AttributeProto>, inputs: &[Host]) -> Result<Vec<Host>, Problem> {
    let proto = NodeProto {
        op_type: op.to_owned(),
        attribute: attributes,
        ..NodeProto::default()
    };
    let node = Attributes { proto: &proto, opset: 17 };
    assert!(takes(&node), "{op}");
    apply(&node, &inputs.iter().cloned().map(Some).collect::<Vec<_>>())
}

fn ints(shape: &[usize], values: &[i64]) -> Host {
    Host::ints(shape.to_vec(), values.to_vec()).expect("fits")
}

fn values(host: &Host) -> &[i64] {
    host.values.as_deref().expect("known")
}

#[test]
fn arithmetic_broadcasts_and_never_overflows() {
    let made = run("Add", vec![], &[ints(&[2, 1], &[10, 20]), ints(&[3], &[1, 2, 3])]).expect("adds");
    assert_eq!(
        (made[0].shape.as_slice(), values(&made[0])),
        (&[2, 3][..], &[11, 12, 13, 21, 22, 23][..])
    );
    for (op, a, b) in [
        ("Add", i64::MAX, 1),
        ("Mul", i64::MIN, -1),
        ("Div", 1, 0),
        ("Div", i64::MIN, -1),
        ("Mod", 1, 0),
    ] {
        let error = run(op, vec![], &[ints(&[], &[a]), ints(&[], &[b])]).expect_err(op);
        assert!(error.problem.contains("overflows or divides by zero"), "{op}");
    }
    assert_eq!(
        values(&run("Mod", vec![], &[ints(&[], &[-7]), ints(&[], &[3])]).expect("mod")[0]),
        [2]
    );
    let fmod = vec![AttributeProto::int("fmod", 1)];
    assert_eq!(
        values(&run("Mod", fmod, &[ints(&[], &[-7]), ints(&[], &[3])]).expect("mod")[0]),
        [-1]
    );
    let less = run("Less", vec![], &[ints(&[2], &[1, 3]), ints(&[], &[2])]).expect("compares");
    assert_eq!((less[0].element, values(&less[0])), (Element::Bool, &[1, 0][..]));
}

#[test]
fn unknown_values_keep_their_shape() {
    let fed = Host::new(Element::Int, vec![2, 3], None).expect("small");
    let made = run("Transpose", vec![], std::slice::from_ref(&fed)).expect("a shape");
    assert_eq!((made[0].shape.as_slice(), &made[0].values), (&[3, 2][..], &None));
    let shape = run("Shape", vec![], std::slice::from_ref(&fed)).expect("known at once");
    assert_eq!(values(&shape[0]), [2, 3]);
    let error = run(
        "Reshape",
        vec![],
        &[ints(&[6], &[0; 6]), Host::new(Element::Int, vec![2], None).expect("small")],
    );
    assert!(error.expect_err("unknown shape").problem.contains("from the values of a batch"));
}

#[test]
fn moves_keep_row_major_order() {
    let x = ints(&[2, 3], &[1, 2, 3, 4, 5, 6]);
    assert_eq!(
        values(&run("Transpose", vec![], std::slice::from_ref(&x)).expect("moves")[0]),
        [1, 4, 2, 5, 3, 6]
    );
    let axis = |v| vec![AttributeProto::int("axis", v)];
    let picked = run("Gather", axis(1), &[x.clone(), ints(&[2], &[-1, 0])]).expect("picks");
    assert_eq!((picked[0].shape.as_slice(), values(&picked[0])), (&[2, 2][..], &[3, 1, 6, 4][..]));
    assert!(run("Gather", axis(1), &[x.clone(), ints(&[1], &[3])]).is_err(), "past the end");
    let joined = run("Concat", axis(1), &[x.clone(), ints(&[2, 1], &[7, 8])]).expect("joins");
    assert_eq!(values(&joined[0]), [1, 2, 3, 7, 4, 5, 6, 8]);
    let huge = run(
        "Add",
        vec![],
        &[ints(&[1 << 13, 1], &vec![0; 1 << 13]), ints(&[1 << 13], &vec![0; 1 << 13])],
    );
    assert!(huge.expect_err("too large").problem.contains("past the limit"));
}
