//! The last step of jobs.

use super::*;

fn pending(n: u8) -> CompressionRecord {
    CompressionRecord {
        job: JobId::from_bytes([n; 16]),
        round: 3,
        parent: Digest::from_bytes([4; 32]),
        ranges: None,
        recipe: "quantize = \"dynamic\", epochs = 0".to_owned(),
        attempts: 1,
        made: None,
        failure: None,
        ended_at_ms: None,
    }
}

#[test]
fn should_know_after_a_restart_what_became_of_a_last_step() {
    let dir = tempfile::tempdir().expect("a folder");
    let measured = MeasuredRecord {
        bytes: 10,
        accuracy: Some(0.5),
        explained: None,
        loss: Some(1.25),
    };
    let done = CompressionRecord {
        made: Some(CompressedRecord {
            digest: Digest::from_bytes([5; 32]),
            before: MeasuredRecord { bytes: 40, ..measured },
            after: measured,
            rows: 7,
            points_lost: Some(-0.5),
            parity: None,
            steps: vec![StepRecord {
                name: "quantize".to_owned(),
                note: "8 bits".to_owned(),
                after: measured,
                seconds: 0.5,
            }],
        }),
        ended_at_ms: Some(9),
        ..pending(1)
    };
    {
        let store = open(dir.path());
        store.put_compression(&pending(1)).expect("written");
        store.put_compression(&pending(2)).expect("written");
        store.put_compression(&done).expect("written");
    }
    let store = open(dir.path());
    let read = |n: u8| store.compression(JobId::from_bytes([n; 16])).expect("read");
    assert_eq!(read(1), Some(done.clone()));
    assert_eq!(read(2), Some(pending(2)));
    assert_eq!(read(3), None);
    assert!(pending(2).is_pending() && !done.is_pending());
}
