//! A disk that takes no checkpoint.

use std::process::Command;

use super::*;

const CHILD: &str = "AIMASS_TEST_NO_CHECKPOINT";

/// Not a test by itself: one process in which each call to the disk of an interrupted training fails in turn.
#[test]
fn interrupted_training_whose_disk_fails() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let whole = trained(&longer());
    let mut unkept = 0;
    for n in 1..=5 {
        let device = longer();
        aimass_net::disk::fail_call(n);
        let result = train_with(&device, &mut |p| if p.step < 5 { Wish::GoOn } else { Wish::Pause });
        aimass_net::disk::fail_call(0);
        let stopped = matches!(result, Err(WorkError::Train(TrainError::Stopped { step: 5 })));
        unkept += usize::from(stopped && !device.state.checkpoint_path().exists());
        assert_eq!(trained(&device), whole, "call {n}");
    }
    assert_eq!(unkept, 1, "one of the calls writes the checkpoint");
}

#[test]
fn a_checkpoint_that_can_not_be_written_costs_no_training() {
    let output = Command::new(std::env::current_exe().expect("this binary"))
        .args(["work::tests::disk::interrupted_training_whose_disk_fails", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("writing a checkpoint: no space left"));

    // A folder is where it would go: what was begun beside it does not stay.
    let device = longer();
    let path = device.state.checkpoint_path();
    fs::create_dir_all(path.join("in the way")).expect("a folder");
    let result = train_with(&device, &mut |p| if p.step < 5 { Wish::GoOn } else { Wish::Pause });
    assert!(
        matches!(result, Err(WorkError::Train(TrainError::Stopped { step: 5 }))),
        "{result:?}"
    );
    assert!(!path.with_extension("bin.tmp").exists());
    assert_eq!(trained(&device), trained(&longer()));
}
