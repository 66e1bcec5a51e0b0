use aimass_onnx::build::{InitialWeights, McMahanCnn, RecurrentLm, TransformerClassifier, mlp};
use aimass_onnx::{LayoutError, Model, ParamKind, TrainableRules};
use proptest::prelude::*;

use super::*;

fn sparsity(share: f64) -> Sparsity {
    Sparsity::new(share).expect("a share")
}

fn small() -> Model {
    mlp(&[12, 10, 8, 3], 7)
}

fn values(model: &Model, name: &str) -> Vec<f32> {
    model.initializer(name).and_then(|t| t.to_f32()).expect("there")
}

fn with_value(model: &Model, at: usize, value: f32) -> Model {
    let layout = model.layout(&TrainableRules::default()).expect("it trains");
    let mut weights = model.weights(&layout).expect("its own");
    weights[at] = value;
    model.with_weights(&layout, &weights).expect("its own")
}

#[test]
fn should_refuse_what_is_no_share_with_the_reason() {
    for (share, reason) in [
        (1.0, "leaves no weight"),
        (f64::NAN, "no number"),
        (-0.1, "negative"),
        (1.5, "more than everything"),
        (f64::INFINITY, "more than"),
    ] {
        let refused = Sparsity::try_from(share).expect_err("refused").to_string();
        assert!(refused.contains(reason), "{refused}");
    }
    assert_eq!(sparsity(0.9).to_string(), "90 %");
}

#[test]
fn should_count_to_the_nearest_and_never_all() {
    assert_eq!(sparsity(0.29).count(100), 29);
    assert_eq!(sparsity(0.99).count(10), 9);
    assert_eq!(sparsity(0.5).count(0), 0);
    assert_eq!(sparsity(0.0).count(10), 0);
}

#[test]
fn should_prune_the_smallest_by_one_threshold() {
    let model = small();
    let masks = Masks::by_magnitude(
        &model,
        &PruneRules {
            min_elements: 1,
            ..PruneRules::default()
        },
        sparsity(0.7),
    )
    .expect("prunes");
    let names: Vec<_> = masks.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["fc1.weight", "fc2.weight", "fc3.weight"], "no biases");
    assert_eq!((masks.elements(), masks.pruned()), (12 * 10 + 10 * 8 + 8 * 3, 157));
    assert_eq!(masks.sparsity(), 157.0 / 224.0);
    let (mut kept, mut pruned) = (f32::INFINITY, 0.0f32);
    for (name, mask) in masks.iter() {
        for (value, keep) in values(&model, name).iter().zip(mask.iter()) {
            match keep {
                true => kept = kept.min(value.abs()),
                false => pruned = pruned.max(value.abs()),
            }
        }
    }
    assert!(pruned <= kept, "{pruned} went and {kept} stayed");
    let layers = masks.layers();
    assert_eq!(layers.iter().map(|layer| layer.pruned).sum::<usize>(), 157);
    assert_eq!(layers[0].elements, 120);
}

#[test]
fn should_break_ties_by_position() {
    let model = small();
    let layout = model.layout(&TrainableRules::default()).expect("it trains");
    let equal: Vec<f32> = (0..layout.n_weights()).map(|i| if i % 2 == 0 { 0.5 } else { -0.5 }).collect();
    let model = model.with_weights(&layout, &equal).expect("fits");
    let masks = Masks::by_magnitude(&model, &PruneRules::default(), sparsity(0.25)).expect("prunes");
    // 200 weights in the two matrices that are large enough.
    let first = masks.keeps("fc1.weight").expect("masked");
    assert!((0..120).all(|i| first.get(i) == Some(i >= 50)));
    assert_eq!(masks.keeps("fc2.weight").map(Mask::pruned), Some(0));
    assert_eq!((first.get(120), first.is_empty()), (None, false));
    assert!(masks.keeps("fc3.weight").is_none() && masks.keeps("fc1.bias").is_none());
}

#[test]
fn should_write_zeros_and_nothing_else() {
    let model = small();
    let masks = Masks::by_magnitude(&model, &PruneRules::default(), sparsity(0.8)).expect("prunes");
    let pruned = masks.apply(&model).expect("its own masks");
    assert_eq!(pruned.as_bytes().len(), model.as_bytes().len());
    for (name, mask) in masks.iter() {
        let (before, after) = (values(&model, name), values(&pruned, name));
        for ((before, after), keep) in before.iter().zip(after).zip(mask.iter()) {
            assert_eq!(after.to_bits(), if keep { before.to_bits() } else { 0 });
        }
    }
    for name in ["fc1.bias", "fc3.weight"] {
        assert_eq!(values(&model, name), values(&pruned, name));
    }
    assert_eq!(Masks::of_zeros(&pruned, &PruneRules::default()), Ok(masks));
}

#[test]
fn should_keep_pruned_what_is_pruned() {
    let model = small();
    let rules = PruneRules::default();
    let mut masks = Masks::by_magnitude(&model, &rules, sparsity(0.3)).expect("prunes");
    let before = masks.clone();
    // A pruned weight that an optimizer moved far away, and a lower target.
    let first = (0..120).find(|&i| masks.keeps("fc1.weight").and_then(|m| m.get(i)) == Some(false));
    let moved = with_value(&model, first.expect("one is pruned"), 100.0);
    masks.grow(&moved, sparsity(0.1)).expect("grows");
    assert_eq!(masks, before);
    masks.grow(&moved, sparsity(0.6)).expect("grows");
    assert_eq!(masks.pruned(), 120);
    for (name, mask) in masks.iter() {
        let before = before.keeps(name).expect("the same parameters");
        assert!(mask.iter().zip(before.iter()).all(|(now, then)| then || !now));
    }
}

#[test]
fn should_serve_a_trainer_with_flat_weights() {
    let model = small();
    let layout = model.layout(&TrainableRules::default()).expect("it trains");
    let mut weights = model.weights(&layout).expect("its own");
    let mut masks = Masks::dense(&model, &PruneRules::default()).expect("something to prune");
    assert_eq!(masks.pruned(), 0);
    masks.grow_flat(&layout, &weights, sparsity(0.5)).expect("fits");
    assert_eq!(
        Ok(&masks),
        Masks::by_magnitude(&model, &PruneRules::default(), sparsity(0.5)).as_ref()
    );
    masks.zero(&layout, &mut weights).expect("fits");
    assert_eq!(masks.apply(&model).expect("fits").weights(&layout).expect("its own"), weights);
    let flat = masks.flat(&layout).expect("fits");
    assert!(flat.iter().zip(&weights).all(|(&keep, &weight)| keep || weight == 0.0));
    assert_eq!(flat.iter().filter(|&&keep| !keep).count(), masks.pruned());
    let bytes = masks.keeps("fc1.weight").expect("masked").to_bytes();
    assert!(bytes.iter().zip(&flat).all(|(&byte, &keep)| (byte == 1) == keep));
}

#[test]
fn should_refuse_masks_and_layouts_of_another_model() {
    let masks = Masks::by_magnitude(&small(), &PruneRules::default(), sparsity(0.5)).expect("prunes");
    let other = mlp(&[13, 10, 8, 3], 7);
    let refused = PruneError::OtherModel {
        param: "fc1.weight".into(),
        expected: 120,
    };
    assert_eq!(masks.apply(&other).map(|_| ()), Err(refused.clone()));
    assert_eq!(masks.clone().grow(&other, sparsity(0.6)), Err(refused.clone()));
    let layout = other.layout(&TrainableRules::default()).expect("it trains");
    assert_eq!(masks.flat(&layout), Err(refused.clone()));
    assert_eq!(masks.zero(&layout, &mut vec![0.0; layout.n_weights()]), Err(refused.clone()));
    let own = small().layout(&TrainableRules::default()).expect("it trains");
    assert_eq!(masks.zero(&own, &mut [0.0; 10]), Err(refused.clone()));
    // The parameter is frozen in this layout.
    let frozen = TrainableRules::new(&["!fc1*".to_owned()]).expect("parses");
    let frozen = small().layout(&frozen).expect("the rest trains");
    assert_eq!(masks.flat(&frozen), Err(refused));
}

#[test]
fn should_refuse_weights_without_a_magnitude() {
    for value in [f32::NAN, f32::INFINITY] {
        let refused = Masks::by_magnitude(&with_value(&small(), 5, value), &PruneRules::default(), sparsity(0.5));
        assert!(
            matches!(&refused, Err(PruneError::NonFinite { param, index: 5, .. }) if param == "fc1.weight"),
            "{refused:?}"
        );
    }
}

#[test]
fn should_leave_biases_norms_and_tables_unless_they_are_named() {
    let names = |model: &Model, rules: &PruneRules| -> Vec<String> {
        let masks = Masks::dense(model, rules).expect("something to prune");
        masks.iter().map(|(name, _)| name.to_owned()).collect()
    };
    let model = TransformerClassifier::default().build(InitialWeights::default()).expect("builds");
    let rules = PruneRules::default();
    let chosen = names(&model, &rules);
    assert!(
        !chosen.is_empty()
            && chosen
                .iter()
                .all(|name| !name.contains("norm") && !name.contains("emb") && !name.ends_with("bias"))
    );
    let recurrent = RecurrentLm::new(aimass_onnx::build::Cell::Lstm)
        .build(InitialWeights::default())
        .expect("builds");
    let chosen = names(&recurrent, &rules);
    assert!(chosen.iter().any(|name| name.contains("weight_hh")), "{chosen:?}");
    assert!(
        !chosen.iter().any(|name| name.contains("emb") || name.contains("bias")),
        "{chosen:?}"
    );
    let rules = PruneRules::new(&["*".to_owned()], &["*.bias".to_owned()]).expect("parse");
    let cnn = McMahanCnn.build(InitialWeights::default()).expect("builds");
    assert!(names(&cnn, &rules).iter().all(|name| name.ends_with("weight")));
}

#[test]
fn should_name_globs_that_match_nothing_and_rules_that_leave_nothing() {
    let rules = |include: &[&str], exclude: &[&str]| {
        let owned = |globs: &[&str]| globs.iter().map(|&glob| glob.to_owned()).collect::<Vec<_>>();
        PruneRules::new(&owned(include), &owned(exclude))
    };
    assert!(matches!(rules(&["[a"], &[]), Err(LayoutError::Glob { .. })));
    let masks = |rules: PruneRules| Masks::dense(&small(), &rules).map(|_| ());
    for rules in [rules(&["convolution*"], &[]), rules(&[], &["convolution*"])] {
        let refused = masks(rules.expect("parses"));
        assert!(
            matches!(&refused, Err(PruneError::Unmatched { glob, known }) if glob == "convolution*" && known.starts_with("fc1.weight")),
            "{refused:?}"
        );
    }
    assert_eq!(
        masks(rules(&[], &["*"]).expect("parses")),
        Err(PruneError::NothingToPrune { min_elements: 64 })
    );
}

#[test]
fn should_never_prune_running_statistics() {
    let model = aimass_onnx::build::ResNet18::default()
        .build(InitialWeights::default())
        .expect("builds");
    let rules = PruneRules::new(&["*".to_owned()], &[]).expect("parses");
    let masks = Masks::dense(&model, &rules).expect("something to prune");
    assert!(masks.keeps("bn1.running_var").is_none() && masks.keeps("bn1.weight").is_some());
    let layout = model.layout(&TrainableRules::default()).expect("it trains");
    let buffers = |model: &Model| model.values(&layout, ParamKind::Buffer);
    let masks = Masks::by_magnitude(&model, &rules, sparsity(0.5)).expect("prunes");
    assert_eq!(buffers(&masks.apply(&model).expect("its own")), buffers(&model));
}

#[test]
fn should_follow_the_cubic_schedule() {
    let schedule = Schedule::new(sparsity(0.0), sparsity(0.9), 100, 500, 100).expect("sound");
    // 0.9 (1 - (1 - k/4)^3), by hand.
    let expected = [(100, 0.0), (200, 0.5203125), (300, 0.7875), (400, 0.8859375), (500, 0.9)];
    let changes: Vec<_> = schedule.changes().collect();
    assert_eq!(changes.len(), 5);
    for ((step, found), (at, share)) in changes.into_iter().zip(expected) {
        assert_eq!(step, at);
        assert!((found.share() - share).abs() < 1e-12, "{found} at {step}");
        assert_eq!(schedule.due(step), Some(found));
        assert_eq!(schedule.due(step + 1), None);
        assert_eq!(schedule.at(step + 99), found, "until the next change");
    }
    assert_eq!((schedule.at(99), schedule.due(99)), (Sparsity::DENSE, None));
    assert_eq!((schedule.at(u64::MAX), schedule.due(600)), (sparsity(0.9), None));
}

#[test]
fn should_end_at_the_target_where_the_frequency_does_not_divide() {
    let schedule = Schedule::new(sparsity(0.1), sparsity(0.8), 0, 10, 4).expect("sound");
    let steps: Vec<_> = schedule.changes().map(|(step, _)| step).collect();
    assert_eq!(steps, [0, 4, 8, 10]);
    assert_eq!(schedule.due(10), Some(sparsity(0.8)));
    let at_once = Schedule::new(sparsity(0.0), sparsity(0.8), 7, 7, 1).expect("sound");
    assert_eq!(at_once.changes().collect::<Vec<_>>(), [(7, sparsity(0.8))]);
}

#[test]
fn should_refuse_schedules_that_cannot_be_followed() {
    let refused = |initial, target, begin, end, frequency| {
        let schedule = Schedule::new(sparsity(initial), sparsity(target), begin, end, frequency);
        matches!(schedule, Err(PruneError::Schedule { .. }))
    };
    assert!(refused(0.0, 0.5, 0, 10, 0) && refused(0.0, 0.5, 11, 10, 1) && refused(0.6, 0.5, 0, 10, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn should_prune_exactly_as_many_as_asked_for_and_only_more(
        weights in proptest::collection::vec(prop_oneof![Just(0.0f32), Just(-0.25), Just(0.25), -1.0f32..1.0], 163),
        shares in proptest::collection::vec(0.0f64..1.0, 1..6),
    ) {
        let model = mlp(&[12, 10, 3], 1);
        let layout = model.layout(&TrainableRules::default()).expect("it trains");
        let model = model.with_weights(&layout, &weights).expect("fits");
        let rules = PruneRules { min_elements: 1, ..PruneRules::default() };
        let mut masks = Masks::dense(&model, &rules).expect("something to prune");
        let mut most = 0;
        for share in shares {
            let sparsity = sparsity(share);
            let before = masks.clone();
            masks.grow(&model, sparsity).expect("finite");
            most = most.max(sparsity.count(150));
            prop_assert_eq!(masks.pruned(), most);
            // Grown in steps or at once, the same weights go.
            prop_assert_eq!(&masks, &Masks::by_magnitude(&model, &rules, Sparsity::new(most as f64 / 150.0).expect("a share")).expect("prunes"));
            for (name, mask) in masks.iter() {
                let before = before.keeps(name).expect("the same parameters");
                prop_assert!(mask.iter().zip(before.iter()).all(|(now, then)| then || !now));
            }
        }
    }

    #[test]
    fn should_never_fall_along_a_schedule(
        (initial, more) in (0.0f64..0.99).prop_flat_map(|initial| (Just(initial), 0.0..(0.99 - initial))),
        begin in 0u64..1000, length in 0u64..1000, frequency in 1u64..200,
    ) {
        let target = sparsity(initial + more);
        let schedule = Schedule::new(sparsity(initial), target, begin, begin + length, frequency).expect("sound");
        let changes: Vec<_> = schedule.changes().collect();
        prop_assert!(changes.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        prop_assert_eq!(changes.last().copied(), Some((begin + length, target)));
    }
}
