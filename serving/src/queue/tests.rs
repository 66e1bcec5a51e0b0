use aimass_inference::{LoadOptions, Servable};
use aimass_onnx::build::mlp;

use super::*;

fn version(batches: &[usize]) -> Arc<Version> {
    let options = LoadOptions {
        batches: batches.to_vec(),
        ..LoadOptions::default()
    };
    let servable = Servable::load(mlp(&[4, 8, 3], 1).as_bytes(), &options).expect("loads");
    Arc::new(Version {
        model: "m".to_owned(),
        version: "1".to_owned(),
        servable,
    })
}

fn rows(n: usize, seed: usize) -> Tensor {
    let values = (0..n * 4).map(|i| ((i + 31 * seed) as f32 * 0.37).sin()).collect();
    Tensor::f32(vec![n, 4], values).expect("fills")
}

fn config(max_batch: usize, delay_ms: u64) -> QueueConfig {
    QueueConfig {
        max_batch,
        delay: Duration::from_millis(delay_ms),
        ..QueueConfig::default()
    }
}

/// A queue without threads: what would be chosen can be looked at.
fn still(config: QueueConfig) -> Queue {
    Queue {
        config,
        state: Mutex::default(),
        changed: Condvar::new(),
    }
}

#[test]
fn should_join_what_fits_and_leave_the_rest() {
    let queue = still(config(8, 0));
    let (one, other) = (version(&[1, 8]), version(&[1, 8]));
    let sizes = [(&one, 3), (&other, 1), (&one, 3), (&one, 3), (&one, 1)];
    let _receivers: Vec<_> = sizes
        .iter()
        .map(|(version, n)| queue.push(version, vec![rows(*n, 0)], false).expect("room"))
        .collect();
    let (group, _) = queue.choose(&queue.lock(), Instant::now());
    assert_eq!(group, [0, 2], "another model is not joined, and the third would be over 8 rows");
}

#[test]
fn should_wait_for_others_no_longer_than_the_delay() {
    let queue = still(config(4, 50));
    let one = version(&[1, 4]);
    let _first = queue.push(&one, vec![rows(1, 0)], false).expect("room");
    let since = queue.lock().waiting[0].since;
    let (group, due) = queue.choose(&queue.lock(), since);
    assert!(group.is_empty() && due == Some(Duration::from_millis(50)));
    let (group, _) = queue.choose(&queue.lock(), since + Duration::from_millis(50));
    assert_eq!(group, [0]);
    let _others: Vec<_> = (0..3).map(|_| queue.push(&one, vec![rows(1, 0)], false).expect("room")).collect();
    let (group, _) = queue.choose(&queue.lock(), since);
    assert_eq!(group, [0, 1, 2, 3], "full: nothing is waited for");
}

#[test]
fn should_refuse_over_its_capacity_and_forget_who_went_away() {
    let queue = still(QueueConfig {
        capacity: 2,
        ..config(4, 0)
    });
    let one = version(&[1]);
    let receivers: Vec<_> = (0..2).map(|_| queue.push(&one, vec![rows(1, 0)], false).expect("room")).collect();
    assert_eq!(queue.push(&one, vec![rows(1, 0)], false).err(), Some(Full { capacity: 2 }));
    drop(receivers);
    let left = queue
        .push(&one, vec![rows(2, 0)], true)
        .expect("a further piece of what was let in");
    let group = queue.next().expect("work");
    assert_eq!((group.len(), group[0].rows), (1, 2), "whose clients went away are not computed");
    drop(left);
}

#[test]
fn should_give_each_its_own_rows() {
    let (queue, workers) = Queue::start(config(16, 20)).expect("threads start");
    let one = version(&[1, 4, 16]);
    let sizes = [1, 5, 2, 7, 16, 3, 40];
    let push = |(seed, n): (usize, &usize)| queue.push(&one, vec![rows(*n, seed)], false).expect("room");
    let receivers: Vec<_> = sizes.iter().enumerate().map(push).collect();
    for (seed, (receiver, n)) in receivers.into_iter().zip(sizes).enumerate() {
        let found = receiver.blocking_recv().expect("an answer").expect("computed");
        let alone = one.servable.run(&[rows(n, seed)]).expect("runs");
        assert!(found[0].is_close(&alone[0], 1e-5), "{n} rows");
    }
    drop(workers);
    assert_eq!(queue.depth(), (0, 0));
}
