use super::*;

#[test]
fn cross_entropy_of_equal_logits_is_the_log_of_the_classes() {
    let mut gradient = [0.0; 8];
    let loss = Loss::CrossEntropy.of_batch(&[0.5; 8], 4, &[0.0, 3.0], Some(&mut gradient));
    assert!((loss.sum - 2.0 * 4f64.ln()).abs() < 1e-12);
    assert_eq!(loss.correct, 1, "of equal logits the first counts");
    assert_eq!(gradient, [-0.375, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, -0.375]);
}

#[test]
fn large_logits_do_not_overflow() {
    let loss = Loss::CrossEntropy.of_batch(&[1000.0, -1000.0], 2, &[1.0], None);
    assert!((loss.sum - 2000.0).abs() < 1e-9, "{loss:?}");
}

#[test]
fn what_is_not_finite_stays_visible() {
    for outputs in [[f32::NAN, 0.0], [f32::INFINITY, 0.0], [f32::NEG_INFINITY, f32::NEG_INFINITY]] {
        assert!(
            !Loss::CrossEntropy.of_batch(&outputs, 2, &[0.0], None).sum.is_finite(),
            "{outputs:?}"
        );
    }
    assert!(!Loss::Mse.of_batch(&[f32::NAN], 1, &[0.0], None).sum.is_finite());
}

#[test]
fn mse_is_the_squared_error_and_its_gradient() {
    let mut gradient = [0.0; 2];
    let loss = Loss::Mse.of_batch(&[1.0, 3.0], 1, &[2.0, 0.0], Some(&mut gradient));
    assert_eq!((loss.sum, loss.correct), (10.0, 0));
    assert_eq!(gradient, [-1.0, 3.0]);
}
