use super::*;

#[test]
fn should_refuse_what_does_not_fill_its_shape() {
    assert!(matches!(
        Tensor::f32(vec![2, 3], vec![0.0; 5]),
        Err(TensorError::Count { wanted: 6, found: 5, .. })
    ));
    assert!(matches!(Tensor::f32(vec![0, 3], Vec::new()), Err(TensorError::Empty { .. })));
    assert!(matches!(Tensor::f32(vec![1; 9], vec![0.0]), Err(TensorError::Rank { found: 9 })));
    assert!(matches!(
        Tensor::zeros(Datatype::F32, vec![usize::MAX, usize::MAX]),
        Err(TensorError::Overflow { .. })
    ));
    assert!(Tensor::f32(Vec::new(), vec![1.0]).is_ok(), "a scalar");
}

#[test]
fn should_read_the_bytes_it_writes() {
    let all = [
        Data::Bool(vec![true, false]),
        Data::U8(vec![0, 255]),
        Data::I8(vec![-128, 127]),
        Data::I32(vec![i32::MIN, 7]),
        Data::I64(vec![i64::MAX, -1]),
        Data::F32(vec![1.5, f32::NEG_INFINITY]),
        Data::F64(vec![-0.0, 1e300]),
    ];
    for data in all {
        let mut bytes = Vec::new();
        data.append_le_bytes(&mut bytes);
        assert_eq!(bytes.len(), data.len() * data.datatype().bytes());
        assert_eq!(Data::from_le_bytes(data.datatype(), &bytes), Ok(data.clone()));
        assert_eq!(data.datatype().name().parse(), Ok(data.datatype()));
    }
    assert!(matches!(
        Data::from_le_bytes(Datatype::F32, &[0; 5]),
        Err(TensorError::Bytes { found: 5, .. })
    ));
    assert_eq!(
        Data::from_le_bytes(Datatype::Bool, &[1, 2]),
        Err(TensorError::Truth { at: 1, found: 2 })
    );
    assert!("FP16".parse::<Datatype>().is_err());
}

#[test]
fn should_cut_and_join_along_any_axis() {
    let whole = Tensor::new(vec![2, 3, 2], Data::I32((0..12).collect())).expect("fills");
    let middle = whole.slice(1, 1, 2).expect("in range");
    assert_eq!((middle.shape(), middle.data()), (&[2, 1, 2][..], &Data::I32(vec![2, 3, 8, 9])));
    for axis in 0..3 {
        let parts: Vec<Tensor> = (0..whole.shape()[axis])
            .map(|i| whole.slice(axis, i, i + 1).expect("in range"))
            .collect();
        let parts: Vec<&Tensor> = parts.iter().collect();
        assert_eq!(Tensor::concat(&parts, axis).as_ref(), Ok(&whole), "axis {axis}");
    }
    assert!(whole.slice(1, 2, 4).is_err() && whole.slice(3, 0, 1).is_err() && whole.slice(0, 1, 1).is_err());
    let other = Tensor::f32(vec![2, 3, 2], vec![0.0; 12]).expect("fills");
    assert!(Tensor::concat(&[&whole, &other], 0).is_err() && Tensor::concat(&[], 0).is_err());
}

#[test]
fn should_tell_rounding_from_a_difference() {
    let a = Tensor::f32(vec![3], vec![1.0, 2.0, f32::NAN]).expect("fills");
    let near = Tensor::f32(vec![3], vec![1.000_01, 2.0, f32::NAN]).expect("fills");
    let far = Tensor::f32(vec![3], vec![1.1, 2.0, f32::NAN]).expect("fills");
    let finite = Tensor::f32(vec![3], vec![1.0, 2.0, 3.0]).expect("fills");
    assert!(a.is_close(&near, 1e-4) && !a.is_close(&far, 1e-4) && !a.is_close(&finite, 1e-4) && !finite.is_close(&a, 1e-4));
}
