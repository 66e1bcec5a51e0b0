use super::*;

fn windows(window: usize, stride: usize, merge: Merge, per_step: bool) -> Windows {
    Windows {
        input: 0,
        window,
        stride,
        axis: 1,
        merge,
        per_step,
    }
}

fn row(values: &[f32]) -> Tensor {
    Tensor::f32(vec![1, values.len()], values.to_vec()).expect("fills")
}

#[test]
fn should_cover_every_step() {
    for len in 1..40 {
        for window in 1..=len {
            for stride in 1..=window {
                let begins = windows(window, stride, Merge::Concat, false).begins(len).expect("sound");
                let mut covered = vec![false; len];
                for begin in &begins {
                    covered[*begin..begin + window].fill(true);
                }
                assert!(
                    covered.iter().all(|c| *c) && begins.is_sorted_by(|a, b| a < b),
                    "{len} {window} {stride} {begins:?}"
                );
            }
        }
    }
    assert!(windows(1, 1, Merge::Concat, false).begins(MAX_WINDOWS + 1).is_err());
}

#[test]
fn should_give_back_what_each_step_says() {
    // Outputs that are the input itself: joined they are the input again, whatever the stride.
    let long = row(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    for (merge, stride) in [(Merge::Concat, 3), (Merge::Concat, 2), (Merge::Mean, 1), (Merge::Mean, 3)] {
        let plan = windows(3, stride, merge, true);
        let begins = plan.begins(7).expect("sound");
        let parts: Vec<Vec<Tensor>> = begins.iter().map(|&b| vec![long.slice(1, b, b + 3).expect("in range")]).collect();
        assert_eq!(
            plan.merged(&begins, 7, &parts).expect("merges"),
            std::slice::from_ref(&long),
            "{merge:?} {stride}"
        );
    }
}

#[test]
fn should_average_where_windows_overlap() {
    let parts = [vec![row(&[0.0, 2.0])], vec![row(&[4.0, 6.0])]];
    let merged = windows(2, 1, Merge::Mean, true).merged(&[0, 1], 3, &parts).expect("merges");
    assert_eq!(merged, [row(&[0.0, 3.0, 6.0])]);
}

#[test]
fn should_vote_over_scores_and_labels() {
    let plan = windows(2, 2, Merge::Vote, false);
    let scores = [[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]];
    let parts: Vec<Vec<Tensor>> = scores.iter().map(|s| vec![row(s)]).collect();
    assert_eq!(plan.merged(&[0, 2, 4, 6], 8, &parts).expect("merges"), [row(&[0.25, 0.75])]);
    let label = |v: i64| vec![Tensor::new(vec![1], Data::I64(vec![v])).expect("fills")];
    let labels = [label(3), label(1), label(3), label(1)];
    assert_eq!(
        plan.merged(&[0, 2, 4, 6], 8, &labels).expect("merges"),
        label(1),
        "the smaller of two"
    );
    assert!(windows(2, 2, Merge::Mean, false).merged(&[0, 2], 4, &labels[..2]).is_err());
}
