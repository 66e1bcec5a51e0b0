use aimass_inference::Engine;
use aimass_onnx::build::mlp;

use super::*;

fn host(config: HostConfig) -> Host {
    Host::start(config).expect("threads start")
}

fn block<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(future)
}

fn rows(n: usize) -> Tensor {
    Tensor::f32(vec![n, 4], (0..n * 4).map(|i| (i as f32 * 0.37).sin()).collect()).expect("fills")
}

#[test]
fn should_hold_models_and_versions() {
    let host = host(HostConfig::default());
    let model = mlp(&[4, 3], 1);
    host.load("a", "1", model.as_bytes()).expect("loads");
    host.load("a", "2", model.as_bytes()).expect("loads beside");
    host.load("b", "1", model.as_bytes()).expect("loads");
    assert!(matches!(host.load("a", "2", model.as_bytes()), Err(HostError::Exists { .. })));
    for name in ["", "a/b", "a b", "ä", &"x".repeat(81)] {
        assert!(
            matches!(host.load(name, "1", model.as_bytes()), Err(HostError::Name { .. })),
            "{name:?}"
        );
    }
    assert_eq!(host.names(), ["a", "b"]);
    assert_eq!(host.find("a", None).expect("there").1.version, "1");
    assert_eq!(host.find("a", Some("2")).expect("there").1.version, "2");
    assert!(matches!(host.unload("a", "1"), Err(HostError::Unknown { .. })), "it is in service");
    host.unload("a", "2").expect("goes");
    host.unload("a", "1").expect("goes, and the model with it");
    assert!(matches!(host.find("a", None), Err(ServeError::NotFound(_))));
    assert!(matches!(host.unload("a", "1"), Err(HostError::Unknown { .. })));
}

#[test]
fn should_load_nothing_over_its_memory_and_free_what_is_unloaded() {
    let model = mlp(&[512, 512, 10], 1);
    let one = model.as_bytes().len() as u64;
    let config = HostConfig {
        memory_cap_bytes: Some(6 * one),
        engine: Engine::Tract,
        ..HostConfig::default()
    };
    let host = host(config);
    host.load("a", "1", model.as_bytes()).expect("fits");
    let used = host.memory_used();
    assert!((one..=6 * one).contains(&used), "{used} of {one}");
    let refused = host.load("b", "1", model.as_bytes());
    assert!(
        matches!(&refused, Err(HostError::Load { source, .. }) if matches!(**source, LoadError::Memory(_))),
        "{refused:?}"
    );
    assert_eq!(
        (host.memory_used(), host.names()),
        (used, vec!["a".to_owned()]),
        "nothing was evicted, nothing leaked"
    );
    host.unload("a", "1").expect("goes");
    assert_eq!(host.memory_used(), 0);
    host.load("b", "1", model.as_bytes()).expect("fits now");
}

#[test]
fn should_give_many_rows_what_each_gets_alone() {
    for threads in [1, 3] {
        let mut config = HostConfig::default();
        config.queue.threads = threads;
        let host = host(config);
        let version = host.load("m", "1", mlp(&[4, 8, 3], 1).as_bytes()).expect("loads");
        let all = rows(103);
        let answer = block(host.infer(&version, Request::new(&version, vec![all.clone()]))).expect("computes");
        let (_, found, _) = &answer.outputs[0];
        assert_eq!(found.shape(), [103, 3]);
        for row in [0, 15, 16, 50, 102] {
            let one = all.slice(0, row, row + 1).expect("in range");
            let alone = version.servable.run(&[one]).expect("runs");
            assert!(
                found.slice(0, row, row + 1).expect("in range").is_close(&alone[0], 1e-5),
                "row {row}"
            );
        }
    }
}

#[test]
fn should_finish_what_began_on_the_version_that_was_swapped_out() {
    let host = host(HostConfig::default());
    let old = host.load("m", "1", mlp(&[4, 3], 1).as_bytes()).expect("loads");
    let expected = old.servable.run(&[rows(1)]).expect("runs");
    host.swap("m", "2", mlp(&[4, 3], 2).as_bytes()).expect("swaps");
    let answer = block(host.infer(&old, Request::new(&old, vec![rows(1)]))).expect("computes");
    assert_eq!(
        (answer.outputs[0].1.clone(), answer.version.version.as_str()),
        (expected[0].clone(), "1")
    );
    drop((answer, old));
    let used = host.memory_used();
    host.swap("m", "3", mlp(&[4, 3], 1).as_bytes()).expect("swaps");
    assert_eq!(host.memory_used(), used, "what is swapped out is freed");
}
