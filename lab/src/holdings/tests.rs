use super::*;

const ROWS: &str = "a,label\n1,0\n2,1\n3,0\n4,1\n";

fn wanted() -> Wanted {
    Wanted {
        targets: vec!["label".to_owned()],
        model_inputs: vec!["a".to_owned()],
        ..Wanted::default()
    }
}

fn opened(data: &Path, held_out: Option<&Path>, partition: &Partition) -> Result<Holdings, HoldingsError> {
    Holdings::open(&[data.to_owned()], None, held_out, &wanted(), partition, 2, 1)
}

#[test]
fn what_models_are_measured_on_is_not_trained_on() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["a.csv", "b.csv", "test.csv"] {
        std::fs::write(dir.path().join(name), ROWS).expect("written");
    }
    let rows_of = |holdings: &Holdings| holdings.sample().expect("reads").expect("there").len();
    let all = opened(dir.path(), None, &Partition::Iid).expect("opens");
    assert_eq!((rows_of(&all), all.notes().len()), (12, 0));
    // By another way to the same file.
    let held_out = dir
        .path()
        .join("../")
        .join(dir.path().file_name().expect("a name"))
        .join("test.csv");
    let others = opened(dir.path(), Some(&held_out), &Partition::Iid).expect("opens");
    assert_eq!(rows_of(&others), 8);
    let notes = others.notes();
    assert!(notes.len() == 1 && notes[0].contains("test.csv was not trained on"), "{notes:?}");
    // Each file is a client's: the third is nobody's.
    let files = opened(dir.path(), Some(&held_out), &Partition::Files).expect("two are left");
    assert_eq!(files.notes(), notes);
    std::fs::remove_file(dir.path().join("b.csv")).expect("removed");
    let error = opened(dir.path(), Some(&held_out), &Partition::Files)
        .map(|_| ())
        .expect_err("one is left")
        .to_string();
    assert!(error.contains("has 1 files for 2 clients"), "{error}");
    // What is named itself is meant.
    let named = opened(&held_out, Some(&held_out), &Partition::Iid).expect("opens");
    assert_eq!(rows_of(&named), 4);
}

#[test]
fn test_images_beside_training_images_are_not_taken_for_training_data() {
    let dir = tempfile::tempdir().expect("a folder");
    let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1][..], &[0, 255]].concat();
    let labels = [&[0, 0, 8, 1, 0, 0, 0, 2][..], &[0, 1]].concat();
    for part in ["train", "t10k"] {
        std::fs::write(dir.path().join(format!("{part}-images-idx3-ubyte")), &images).expect("written");
        std::fs::write(dir.path().join(format!("{part}-labels-idx1-ubyte")), &labels).expect("written");
    }
    let error = opened(dir.path(), None, &Partition::Iid)
        .map(|_| ())
        .expect_err("both are there")
        .to_string();
    assert!(error.contains("t10k-images-idx3-ubyte") && error.contains("--evaluate"), "{error}");
    let held_out = dir.path().join("t10k-images-idx3-ubyte");
    let training = opened(dir.path(), Some(&held_out), &Partition::Iid).expect("opens");
    assert_eq!(training.sample().expect("reads").expect("there").len(), 2);
    assert!(training.notes()[0].contains("t10k-images"), "{:?}", training.notes());
    // Alone they are what is meant.
    let alone = opened(&held_out, None, &Partition::Iid).expect("opens");
    assert_eq!(alone.sample().expect("reads").expect("there").len(), 2);
}
