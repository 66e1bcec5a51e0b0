use super::*;

fn some() -> Checkpoint {
    Checkpoint {
        identity: Identity {
            recipe: [1; 32],
            model: [2; 32],
            data: [3; 32],
        },
        step: 0x0102_0304_0506_0708,
        position: Position {
            epoch: 9,
            row: 20,
            rng_words: 1 << 100,
            loss_sum: 1.5,
        },
        recent: Recent { sum: 0.25, rows: 7 },
        weights: vec![1.0, -2.0, 3.0],
        buffers: vec![f32::NAN, -0.0],
        moments: vec![vec![0.5; 3], vec![0.25; 3]],
        mask: None,
    }
}

fn masked() -> Checkpoint {
    Checkpoint {
        mask: Some(Mask::of_weights(&[1.0, 0.0, 3.0])),
        ..some()
    }
}

fn bytes_of(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut bytes = Vec::new();
    checkpoint.write_to(&mut bytes).expect("memory takes all");
    bytes
}

#[test]
fn the_bytes_are_the_documented_ones() {
    let bytes = bytes_of(&some());
    assert_eq!(bytes.len(), HEADER_BYTES + 4 * (3 + 2 + 6) + 4);
    assert_eq!(&bytes[..8], b"AIMCKPT\x01");
    for (at, expected) in [
        (8, vec![1; 32]),
        (40, vec![2; 32]),
        (72, vec![3; 32]),
        (104, vec![8, 7, 6, 5, 4, 3, 2, 1]),
        (112, vec![9, 0, 0, 0]),
        (116, 20u64.to_le_bytes().to_vec()),
        (124, (1u128 << 100).to_le_bytes().to_vec()),
        (140, 1.5f64.to_le_bytes().to_vec()),
        (148, 0.25f64.to_le_bytes().to_vec()),
        (156, 7u64.to_le_bytes().to_vec()),
        (164, 3u64.to_le_bytes().to_vec()),
        (172, 2u64.to_le_bytes().to_vec()),
        (180, 2u32.to_le_bytes().to_vec()),
        (184, 1f32.to_le_bytes().to_vec()),
        (188, (-2f32).to_le_bytes().to_vec()),
        (196, f32::NAN.to_le_bytes().to_vec()),
        (204, 0.5f32.to_le_bytes().to_vec()),
    ] {
        assert_eq!(bytes[at..at + expected.len()], expected, "at {at}");
    }
    let crc = crc32fast::hash(&bytes[..bytes.len() - 4]);
    assert_eq!(bytes[bytes.len() - 4..], crc.to_le_bytes());
}

#[test]
fn a_mask_comes_behind_everything_else_and_makes_it_version_2() {
    let (plain, masked) = (bytes_of(&some()), bytes_of(&masked()));
    assert_eq!(&masked[..8], b"AIMCKPT\x02");
    let end = plain.len() - 4;
    assert_eq!(masked[8..end], plain[8..end]);
    assert_eq!(masked[end], 0b101);
    assert_eq!(masked.len(), plain.len() + 1);
}

#[test]
fn any_changed_byte_and_any_other_length_is_refused() {
    for one in [some(), masked()] {
        refused_when_changed(&one);
    }
}

fn refused_when_changed(one: &Checkpoint) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("checkpoint.bin");
    one.write(&path).expect("writes");
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("a folder").count(),
        1,
        "nothing temporary stays"
    );
    let read = || Checkpoint::read(&path, &one.identity, 3, 2);
    let back = read().expect("reads");
    assert_eq!(bytes_of(&back), bytes_of(one));
    assert_eq!(back.mask, one.mask);
    let bytes = bytes_of(one);
    for i in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[i] ^= 0x10;
        std::fs::write(&path, &changed).expect("writes");
        let error = read().expect_err("changed");
        let expected = if (8..104).contains(&i) {
            "belongs to another training"
        } else {
            "not a whole checkpoint"
        };
        assert!(error.to_string().contains(expected), "byte {i}: {error}");
    }
    for bytes in [&bytes[..0], &bytes[..100], &bytes[..bytes.len() - 1], &[&bytes[..], &[0]].concat()] {
        std::fs::write(&path, bytes).expect("writes");
        assert!(matches!(read(), Err(CheckpointError::Damaged { .. })), "{} bytes", bytes.len());
    }
    std::fs::remove_file(&path).expect("there");
    assert!(matches!(read(), Err(CheckpointError::Io { .. })));
}

#[test]
fn a_write_that_fails_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("checkpoint.bin");
    // A folder is where it would go.
    std::fs::create_dir_all(path.join("in the way")).expect("a folder");
    let error = some().write(&path).expect_err("there is a folder");
    assert!(matches!(error, CheckpointError::Io { .. }), "{error}");
    let names: Vec<_> = std::fs::read_dir(dir.path())
        .expect("a folder")
        .map(|e| e.expect("reads").path())
        .collect();
    assert_eq!(names, [path]);
}

#[test]
fn what_belongs_to_something_else_says_what_differs() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("checkpoint.bin");
    let one = some();
    one.write(&path).expect("writes");
    let with = |change: fn(&mut Identity)| {
        let mut identity = one.identity;
        change(&mut identity);
        Checkpoint::read(&path, &identity, 3, 2).expect_err("another").to_string()
    };
    assert!(with(|i| i.model = [0; 32]).contains("the model differs"));
    assert!(with(|i| i.data = [0; 32]).contains("the data or its split differs"));
    assert!(with(|i| i.recipe = [0; 32]).contains("how it is trained"));
    let sizes = Checkpoint::read(&path, &one.identity, 4, 2).expect_err("another layout");
    assert!(matches!(sizes, CheckpointError::Damaged { .. }), "{sizes}");
}
