use aimass_learning::Dataset;
use aimass_learning::training::Training;
use aimass_onnx::TrainableRules;
use aimass_onnx::build::mlp;

use super::*;
use crate::{Recipe, Setting, train_config};

const JOB: &str = "[job]\nname = \"digits\"\nkind = \"train\"\npurpose = \"recognise digits\"\nseed = 4\n[model]\npath = \"model.onnx\"\n\
                   [data]\ncontract = \"default\"\ntarget = \"label\"\n[round]\nrounds = 3\nmin = 3\n[train]\nlr = 0.1\nbatch = 4\n";

fn job(keys: &str) -> JobFile {
    JobFile::parse(&format!("{JOB}{keys}\n")).expect(keys)
}

/// 12 rows of 4 values, and 3 classes.
fn data() -> Dataset {
    let features = (0..48).map(|i| ((i * 7 % 11) as f32 - 5.0) / 5.0).collect();
    Dataset::new(features, (0..12).map(|i| (i % 3) as f32).collect(), 4).expect("whole rows")
}

/// The student's weights after a round on `data()`.
fn trained(file: &JobFile, teacher: Option<&Model>) -> Vec<f32> {
    let student = mlp(&[4, 3], 1);
    let data = data();
    let layout = student.layout(&TrainableRules::default()).expect("a layout");
    let config = train_config(file, Setting::Round, 12, [1; 32]);
    let bound = teacher.map(|teacher| {
        taught(
            &data,
            &Teacher::new(teacher.clone()),
            &student,
            &config,
            NonZeroUsize::MIN,
            &mut |_, _| true,
        )
        .expect("fits")
    });
    let rows: &dyn Source = bound.as_ref().map_or(&data, |bound| bound);
    let mut training = Training::new(&student, &layout, rows, &config).expect("fits");
    while training.step().expect("trains").is_some() {}
    training.weights().expect("there").weights
}

#[test]
fn should_learn_from_a_teacher_in_rounds_alone_and_be_measured_by_the_task() {
    let file = job("[train.distil]\nteacher = \"t.onnx\"\ntemperature = 2.0\nalpha = 0.25");
    let loss = |setting| train_config(&file, setting, 12, [0; 32]).heads.remove(0).loss;
    let expected = Loss::Distillation(Distillation {
        temperature: 2.0,
        alpha: 0.25,
        hard: Box::new(Loss::cross_entropy()),
    });
    assert_eq!(loss(Setting::Round), expected);
    assert_eq!(loss(Setting::Central), Loss::cross_entropy());
    let recipe = Recipe::of(&mlp(&[4, 3], 1), &file).expect("fits");
    assert_eq!(recipe.heads[0].loss, Loss::cross_entropy(), "what is evaluated are labels");
}

#[test]
fn should_learn_the_same_from_answers_that_are_kept_and_from_answers_as_they_are_asked_for() {
    let teacher = mlp(&[4, 8, 3], 2);
    let file = job("epochs = 3\n[train.distil]\nteacher = \"t.onnx\"");
    let kept = trained(&file, Some(&teacher));
    let student = mlp(&[4, 3], 1);
    let config = train_config(&file, Setting::Round, 12, [1; 32]);
    let data = data();
    let asked = Taught::new(&data, &Teacher::new(teacher.clone()), &student, &config.heads).expect("fits");
    let layout = student.layout(&TrainableRules::default()).expect("a layout");
    let mut training = Training::new(&student, &layout, &asked, &config).expect("fits");
    while training.step().expect("trains").is_some() {}
    assert_eq!(kept, training.weights().expect("there").weights);
    assert_ne!(kept, trained(&job("epochs = 3"), None), "the teacher counts");
    assert_ne!(kept, trained(&file, Some(&mlp(&[4, 8, 3], 3))), "and it counts which one");
}

#[test]
fn should_refuse_a_teacher_that_can_not_teach_with_or_without_rows() {
    let file = job("[train.distil]\nteacher = \"t.onnx\"");
    let student = mlp(&[4, 3], 1);
    let data = data();
    for rows in [None, Some(&data as &dyn Source)] {
        check(&student, &mlp(&[4, 9, 3], 2), &file, rows).expect("fits");
        let refused = |teacher: &Model| check(&student, teacher, &file, rows).expect_err("does not fit");
        let classes = refused(&mlp(&[4, 9, 5], 2));
        assert_eq!(classes.field(), "train.distil.teacher");
        assert!(
            classes.to_string().contains("3]") && classes.to_string().contains("5]"),
            "{classes}"
        );
        let inputs = refused(&mlp(&[6, 3], 2)).to_string();
        assert!(inputs.contains('4') && inputs.contains('6'), "{inputs}");
        let huge = mlp(&[4, 3], 2);
        let layout = huge.layout(&TrainableRules::default()).expect("a layout");
        let nan = huge.with_weights(&layout, &vec![f32::NAN; layout.n_weights()]).expect("as many");
        let nan = refused(&nan).to_string();
        assert!(nan.contains("NaN"), "{nan}");
    }
}
