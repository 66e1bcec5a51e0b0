//! The models of `testdata/torch`, which PyTorch exported and trained, against this crate: outputs, loss curves, trained files,
//! refusals. Its README says what the files hold.
//!
//! `cargo test --release --workspace --test torch -- --nocapture` prints a table of every check; `AIMASS_ONLY=gru` (a part of a name)
//! runs some files. What can't pass yet stands in [`gaps`], with the reason; a gap that starts to pass fails the test too.

mod bags;
mod checks;
mod curves;
mod files;
mod gaps;
mod inference;
mod losses;
mod refused;

use checks::{each_model, judge};

#[test]
fn outputs_are_those_of_pytorch() {
    judge("inference", each_model(|file| vec![inference::check(file)]));
}

#[test]
fn training_follows_pytorch() {
    judge("curve", each_model(curves::check));
}

#[test]
fn what_can_not_train_is_refused_by_name() {
    judge("refused", refused::check_all());
}

#[test]
fn embedding_bags_that_are_empty_give_zeros() {
    judge("bags", bags::empty());
}

#[test]
fn loops_that_are_no_embedding_bags_stay_loops() {
    judge("changed", bags::changed());
}
