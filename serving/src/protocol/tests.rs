use aimass_inference::{Data, Datatype};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::numbers::Numbers;

fn read(data: &Value) -> Numbers {
    serde_json::from_str(&data.to_string()).expect("any JSON is read")
}

fn nested(values: &[Value], shape: &[usize]) -> Value {
    match shape {
        [n, rest @ ..] if !rest.is_empty() => values.chunks(values.len() / n).map(|part| nested(part, rest)).collect(),
        _ => Value::Array(values.to_vec()),
    }
}

proptest! {
    /// Floats come through to the last bit, flat or nested as the shape is.
    #[test]
    fn should_read_the_floats_that_were_written(
        shape in proptest::collection::vec(1usize..5, 1..4),
        seed in proptest::collection::vec(any::<f32>().prop_filter("finite", |v| v.is_finite()), 64),
        flat in any::<bool>(),
    ) {
        let floats = &seed[..shape.iter().product()];
        let values: Vec<Value> = floats.iter().map(|v| json!(v)).collect();
        let data = if flat { Value::Array(values) } else { nested(&values, &shape) };
        prop_assert_eq!(read(&data).into_data(Datatype::F32, &shape), Ok(Data::F32(floats.to_vec())));
    }

    #[test]
    fn should_read_the_integers_that_fit(values in proptest::collection::vec(any::<i64>(), 1..4), small in proptest::collection::vec(-200i64..200, 1..20)) {
        prop_assert_eq!(read(&json!(values)).into_data(Datatype::I64, &[values.len()]), Ok(Data::I64(values.clone())));
        let narrow: Option<Vec<i8>> = small.iter().map(|&v| i8::try_from(v).ok()).collect();
        prop_assert_eq!(read(&json!(small)).into_data(Datatype::I8, &[small.len()]).ok(), narrow.map(Data::I8));
    }

    /// Whatever stands there is read or refused.
    #[test]
    fn should_never_panic(text in "[\\[\\],0-9.eE+-]{0,60}|[ -~]{0,60}", rank in 0usize..4) {
        if let Ok(numbers) = serde_json::from_str::<Numbers>(&text) {
            for datatype in Datatype::ALL {
                let _ = numbers.clone().into_data(datatype, &vec![2; rank]);
            }
        }
    }

    #[test]
    fn should_refuse_ragged_lists(a in 1usize..5, b in 1usize..5) {
        prop_assume!(a != b);
        let data = json!([vec![1; a], vec![1; b]]);
        prop_assert!(read(&data).into_data(Datatype::F32, &[2, a]).is_err());
    }
}

#[test]
fn should_tell_integers_from_other_numbers() {
    assert_eq!(read(&json!([1, 2])).into_data(Datatype::F64, &[2]), Ok(Data::F64(vec![1.0, 2.0])));
    assert_eq!(read(&json!([1, 2.5])).into_data(Datatype::F64, &[2]), Ok(Data::F64(vec![1.0, 2.5])));
    assert!(
        read(&json!([1, 2.5]))
            .into_data(Datatype::I32, &[2])
            .is_err_and(|e| e.contains("2.5 (value 1)"))
    );
    assert!(
        read(&json!([256]))
            .into_data(Datatype::U8, &[1])
            .is_err_and(|e| e.contains("UINT8 can't hold"))
    );
    assert_eq!(read(&json!([true])).into_data(Datatype::Bool, &[1]), Ok(Data::Bool(vec![true])));
    assert!(
        read(&json!([1]))
            .into_data(Datatype::Bool, &[1])
            .is_err_and(|e| e.contains("true and false"))
    );
}
