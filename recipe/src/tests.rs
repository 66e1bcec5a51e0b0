use aimass_onnx::ParamKind;
use aimass_onnx::build::mlp;

use super::*;

const JOB_FILE: &str = r#"
[job]
name = "digits"
kind = "train"
purpose = "recognise digits"

[model]
path = "model.onnx"

[data]
contract = "default"
target = "label"

[strategy]
name = "fedavg"

[round]
rounds = 3
min = 2

[aggregation]
mode = "plain"

[train]
lr = 0.1
batch = 10
"#;

/// A job with these keys in `[train]`.
fn job(keys: &str) -> JobFile {
    JobFile::parse(&format!("{JOB_FILE}{keys}\n")).expect(keys)
}

fn config(keys: &str) -> TrainConfig {
    train_config(&job(keys), Setting::Round, 95, [3; 32])
}

#[test]
fn a_plain_job_is_plain_descent() {
    let config = config("");
    let expected = TrainConfig {
        heads: vec![Loss::cross_entropy().into()],
        optimizer: OptimizerConfig::sgd(0.1),
        batch_norm: BatchNorm::Stored,
        epochs: 1,
        batch: 10,
        seed: [3; 32],
    };
    assert_eq!(config, expected);
}

#[test]
fn every_loss_arrives_with_its_options() {
    let loss = |keys: &str| config(keys).heads.remove(0).loss;
    assert_eq!(
        loss("label_smoothing = 0.1\nclass_weights = [1, 2]\nignore_index = 7\nclass_axis = \"second\""),
        Loss::CrossEntropy(CrossEntropy {
            label_smoothing: 0.1,
            class_weights: Some(vec![1.0, 2.0]),
            ignore_index: Some(7),
            class_axis: ClassAxis::Second,
        })
    );
    assert_eq!(
        loss("loss = \"binary_cross_entropy\"\npos_weight = [3]"),
        Loss::BinaryCrossEntropy(BinaryCrossEntropy {
            pos_weight: Some(vec![3.0])
        })
    );
    assert_eq!(loss("loss = \"mse\""), Loss::Mse);
    assert_eq!(loss("loss = \"mae\""), Loss::Mae);
    assert_eq!(loss("loss = \"huber\"\ndelta = 0.5"), Loss::Huber(Huber { delta: 0.5 }));
    let temperature = 0.5;
    assert_eq!(
        loss("loss = \"contrastive\"\ntemperature = 0.5"),
        Loss::Contrastive(Contrastive { temperature })
    );
    assert_eq!(loss("loss = \"pairwise\"\nmargin = 2"), Loss::Pairwise(Pairwise { margin: 2.0 }));
    let heads = config("[[train.heads]]\noutput = \"a\"\nloss = \"mse\"\nweight = 0.5\n[[train.heads]]\noutput = \"b\"").heads;
    assert_eq!(
        heads,
        [
            Head {
                output: Some("a".to_owned()),
                loss: Loss::Mse,
                weight: 0.5
            },
            Head {
                output: Some("b".to_owned()),
                loss: Loss::cross_entropy(),
                weight: 1.0
            },
        ]
    );
}

#[test]
fn every_optimizer_arrives_with_its_options() {
    let rule = |keys: &str| config(keys).optimizer.rule;
    let momentum = |momentum, nesterov| Rule::Sgd { momentum, nesterov };
    let adam = |decoupled| Rule::Adam {
        beta1: 0.8,
        beta2: 0.99,
        epsilon: 1e-6,
        decoupled,
    };
    assert_eq!(rule("optimizer = \"momentum\""), momentum(0.9, false));
    assert_eq!(rule("optimizer = \"nesterov\"\nmomentum = 0.5"), momentum(0.5, true));
    assert_eq!(rule("optimizer = \"adam\"\nbeta1 = 0.8\nbeta2 = 0.99\nepsilon = 1e-6"), adam(false));
    assert_eq!(rule("optimizer = \"adamw\"\nbeta1 = 0.8\nbeta2 = 0.99\nepsilon = 1e-6"), adam(true));
    assert_eq!(
        rule("optimizer = \"rmsprop\"\nalpha = 0.9\nmomentum = 0.5"),
        Rule::RmsProp {
            alpha: 0.9,
            epsilon: 1e-8,
            momentum: 0.5
        }
    );
    let optimizer = config("weight_decay = 0.01\nclip_norm = 5").optimizer;
    assert_eq!((optimizer.weight_decay, optimizer.clip_norm), (0.01, Some(5.0)));
}

#[test]
fn schedules_end_with_the_training_unless_the_job_says_otherwise() {
    // 95 rows in batches of 10: 10 steps.
    let schedule = |keys: &str| config(keys).optimizer.schedule;
    let cosine = |warmup, steps, floor| Schedule::Cosine { warmup, steps, floor };
    assert_eq!(schedule("schedule = { name = \"cosine\", warmup = 2 }"), cosine(2, 10, 0.0));
    assert_eq!(
        schedule("schedule = { name = \"cosine\", floor = 0.1, steps = 400 }"),
        cosine(0, 400, 0.1)
    );
    assert_eq!(
        schedule("schedule = { name = \"cosine\", warmup = 50 }"),
        cosine(50, 51, 0.0),
        "the training ends in the rise"
    );
    let linear = Schedule::Linear {
        warmup: 0,
        steps: 10,
        floor: 0.0,
    };
    assert_eq!(schedule("schedule = { name = \"linear\" }"), linear);
    assert_eq!(
        schedule("schedule = { name = \"step\", every = 3, gamma = 0.5 }"),
        Schedule::Step { every: 3, gamma: 0.5 }
    );
}

#[test]
fn running_statistics_stay_in_rounds_unless_the_job_says_otherwise() {
    let of = |keys: &str, setting| train_config(&job(keys), setting, 10, [0; 32]).batch_norm;
    assert_eq!(
        (of("", Setting::Round), of("", Setting::Central)),
        (BatchNorm::Stored, BatchNorm::Batch)
    );
    assert_eq!(of("batch_norm = \"batch\"", Setting::Round), BatchNorm::Batch);
    assert_eq!(of("batch_norm = \"stored\"", Setting::Central), BatchNorm::Stored);
}

#[test]
fn every_metric_that_a_job_may_name_is_one() {
    for name in aimass_protocol::job::METRICS.iter().chain(&["top1", "top4294967295"]) {
        assert_eq!(metrics(&job(&format!("metrics = [\"{name}\"]")).train).expect(name).len(), 1);
    }
}

#[test]
fn adapters_are_added_and_train_alone_but_for_what_the_job_adds() {
    let model = mlp(&[2, 4, 2], 1);
    let kinds = |file: &JobFile| -> Vec<String> {
        let recipe = Recipe::of(&adapt(&model, file).expect("a sound job"), file).expect("something trains");
        let trains = recipe.layout.params().iter().filter(|p| p.kind == ParamKind::Weight);
        trains.map(|p| p.name.clone()).collect()
    };
    let all = kinds(&job(""));
    assert!(all.len() == 4 && all.iter().all(|name| !name.contains("lora")), "{all:?}");
    let adapters = kinds(&job("lora = { rank = 1 }"));
    assert!(
        adapters.len() == 4 && adapters.iter().all(|name| name.contains("lora")),
        "{adapters:?}"
    );
    let mut more = job("lora = { rank = 1 }");
    more.model.trainable = vec!["*bias*".to_owned()];
    assert_eq!(kinds(&more).len(), 6);
    let nothing = job("lora = { rank = 1, targets = [\"nothing*\"] }");
    let error = adapt(&model, &nothing).expect_err("no such weight");
    assert_eq!(error.field(), "train.lora");
    assert!(
        error.to_string().contains("the glob \"nothing*\" matches no float32 matrix"),
        "{error}"
    );
    let error = Recipe::of(&model, &nothing).expect_err("was not adapted");
    assert!(matches!(error, RecipeError::NoAdapters), "{error}");
}

#[test]
fn a_head_reads_its_own_target_or_that_of_the_data() {
    let model = mlp(&[2, 4, 2], 1);
    let file = job("[[train.heads]]\n[[train.heads]]\ntarget = \"size\"\nloss = \"mse\"");
    let recipe = Recipe::of(&model, &file).expect("sound");
    assert_eq!(recipe.wanted.targets, ["label", "size"]);
    assert_eq!(recipe.wanted.model_inputs, [model.inputs()[0].name.clone()]);
    let error = Recipe::of(&model, &job("[[train.heads]]\noutput = \"none\"")).expect_err("no such output");
    assert_eq!(error.field(), "model.path");
}
