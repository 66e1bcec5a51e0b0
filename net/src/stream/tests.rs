use aimass_protocol::limits::{CHUNK_BYTES, MAX_CONTROL_BYTES};
use tokio::time::{Instant, sleep};

use super::*;
use crate::testing::{Deployment, Pair, SOON, message, random_bytes};

/// An open stream's four halves: the agent's writer and reader, the server's writer and reader. The agent has sent "hello".
async fn stream(pair: &Pair) -> (FrameWriter, FrameReader, FrameWriter, FrameReader) {
    let (mut writer, reader) = pair.near.open().await.expect("an open connection");
    writer.control(&message("hello")).await.expect("sent");
    let (far_writer, mut far_reader) = timeout(SOON, pair.far.accept())
        .await
        .expect("in time")
        .expect("open")
        .expect("a stream");
    assert_eq!(far_reader.control::<Refusal>().await.expect("hello"), message("hello"));
    (writer, reader, far_writer, far_reader)
}

/// Sends bytes that no [`FrameWriter`] would.
async fn raw(writer: &mut FrameWriter, bytes: &[u8]) {
    writer.stream.write_all(bytes).await.expect("written");
}

#[tokio::test]
async fn frames_arrive_as_they_were_sent() {
    let pair = Deployment::new(1).pair().await;
    let (mut writer, _reader, _far_writer, mut far) = stream(&pair).await;
    let (small, large) = (Bytes::from_static(b"x"), Bytes::from(random_bytes(CHUNK_BYTES, 1)));
    let sending = tokio::spawn({
        let (small, large) = (small.clone(), large.clone());
        async move {
            writer.chunk(small).await.expect("sent");
            writer.chunk(large).await.expect("sent");
            writer.control(&message("end")).await.expect("sent");
            writer.delivered().await.expect("acknowledged");
            writer.bytes_written()
        }
    });
    assert_eq!(far.chunk(1).await.expect("a chunk"), small);
    assert_eq!(far.chunk(CHUNK_BYTES).await.expect("a chunk"), large);
    assert_eq!(far.control::<Refusal>().await.expect("a message"), message("end"));
    far.end().await.expect("nothing follows");
    assert_eq!(sending.await.expect("no panic"), far.bytes_read());
}

#[tokio::test]
async fn request_and_reply() {
    let pair = Deployment::new(1).pair().await;
    let far = pair.far.clone();
    tokio::spawn(async move {
        while let Ok(Some((mut writer, mut reader))) = far.accept().await {
            let asked: Refusal = reader.control().await.expect("a request");
            let answer = if asked.text == "refuse" {
                Err(Refusal::new(ErrorCode::JobUnknown, "no such job"))
            } else {
                Ok(asked)
            };
            reply(&mut writer, answer).await.expect("sent");
        }
    });
    let (answer, mut reader): (Refusal, _) = request(&pair.near, &message("echo"), SOON).await.expect("an answer");
    assert_eq!(answer, message("echo"));
    reader.end().await.expect("nothing follows");
    let (answer, ..): (Refusal, _, _) = exchange(&pair.near, &message("echo"), SOON).await.expect("an answer");
    assert_eq!(answer, message("echo"));
    let refused = request::<_, Refusal>(&pair.near, &message("refuse"), SOON).await;
    assert!(matches!(
        refused,
        Err(NetError::Refused(Refusal {
            code: ErrorCode::JobUnknown,
            ..
        }))
    ));
}

#[tokio::test]
async fn bytes_that_are_no_frame_are_refused() {
    let pair = Deployment::new(1).pair().await;
    let over = u32::try_from(MAX_CONTROL_BYTES + 1).expect("fits").to_le_bytes();
    let oversized = [1, over[0], over[1], over[2], over[3]];
    let malformed = [1, 3, 0, 0, 0, 0xff, 0xff, 0xff];
    // A whole message, and one byte more than it needs inside its frame.
    let mut padded = codec::encode(&message("x")).expect("encodes");
    padded.push(0);
    let len = u32::try_from(padded.len()).expect("fits").to_le_bytes();
    let padded = [&[1], &len[..], &padded].concat();
    for (what, bytes) in [
        ("nothing", &[][..]),
        ("half a header", &[1, 5]),
        ("an unknown kind", &[9, 1, 0, 0, 0, 0]),
        ("a chunk", &[2, 1, 0, 0, 0, 0]),
        ("an oversized length", &oversized),
        ("the largest length", &[1, 255, 255, 255, 255]),
        ("a cut payload", &[1, 200, 0, 0, 0, 1, 2, 3]),
        ("malformed CBOR", &malformed),
        ("trailing bytes in the frame", &padded),
    ] {
        let (mut writer, _reader, _far_writer, mut far) = stream(&pair).await;
        raw(&mut writer, bytes).await;
        writer.finish();
        let read = far.control::<Refusal>().await;
        assert!(matches!(read, Err(NetError::Protocol { .. })), "{what}: {read:?}");
        assert_eq!(read.expect_err("refused").code(), ErrorCode::Malformed);
    }
    assert!(!pair.near.is_closed(), "a bad stream costs no connection");
}

#[tokio::test]
async fn an_oversized_length_is_refused_before_its_bytes_come() {
    let pair = Deployment::new(1).pair().await;
    let (mut writer, _reader, _far_writer, mut far) = stream(&pair).await;
    raw(&mut writer, &[1, 255, 255, 255, 255]).await;
    let began = Instant::now();
    assert!(matches!(far.control::<Refusal>().await, Err(NetError::Protocol { .. })));
    assert!(began.elapsed() < PROGRESS_TIMEOUT / 2, "it did not wait for them");
}

#[tokio::test]
async fn a_chunk_of_another_length_and_bytes_after_the_end_are_refused() {
    let pair = Deployment::new(1).pair().await;
    let (mut writer, _reader, _far_writer, mut far) = stream(&pair).await;
    writer.chunk(Bytes::from_static(b"four")).await.expect("sent");
    assert!(matches!(far.chunk(5).await, Err(NetError::Protocol { .. })));
    let (mut writer, _reader, _far_writer, mut far) = stream(&pair).await;
    raw(&mut writer, &[0]).await;
    assert!(matches!(far.end().await, Err(NetError::Protocol { .. })));
}

#[tokio::test]
async fn what_would_be_refused_is_not_sent() {
    let pair = Deployment::new(1).pair().await;
    let (mut writer, _reader, _far_writer, mut far) = stream(&pair).await;
    let sent = writer.chunk(Bytes::from(vec![0; CHUNK_BYTES + 1])).await;
    assert!(matches!(sent, Err(NetError::Unsendable { .. })), "{sent:?}");
    writer.control(&message("next")).await.expect("the stream is whole");
    assert_eq!(far.control::<Refusal>().await.expect("the next one"), message("next"));
}

#[tokio::test]
async fn a_peer_that_stops_in_the_middle_is_given_up() {
    let pair = Deployment::new(1).pair().await;
    let (mut writer, _reader, _far_writer, mut far) = stream(&pair).await;
    far.set_progress_timeout(Duration::from_millis(100));
    raw(&mut writer, &[1, 200, 0, 0, 0, 1]).await;
    let read = far.control_within::<Refusal>(SOON).await;
    assert!(matches!(read, Err(NetError::Stalled { .. })), "{read:?}");
    assert!(read.expect_err("stalled").is_retryable());
}

#[tokio::test]
async fn a_slow_peer_is_not_given_up_while_it_moves() {
    let pair = Deployment::new(1).pair().await;
    let (mut writer, _reader, _far_writer, mut far) = stream(&pair).await;
    far.set_progress_timeout(Duration::from_millis(400));
    let frame = [&[2, 8, 0, 0, 0][..], b"patience"].concat();
    let sending = tokio::spawn(async move {
        for byte in frame {
            raw(&mut writer, &[byte]).await;
            sleep(Duration::from_millis(50)).await;
        }
        writer
    });
    // 13 bytes of 50 ms each: longer than the timeout, never so long between two.
    assert_eq!(far.chunk(8).await.expect("a chunk"), &b"patience"[..]);
    sending.await.expect("no panic");
}

#[tokio::test]
async fn a_long_poll_waits_for_its_first_byte() {
    let pair = Deployment::new(1).pair().await;
    let (_writer, mut reader, mut far_writer, _far) = stream(&pair).await;
    reader.set_progress_timeout(Duration::from_millis(100));
    tokio::spawn(async move {
        sleep(Duration::from_millis(400)).await;
        far_writer.control(&message("late")).await.expect("sent");
    });
    assert_eq!(reader.control_within::<Refusal>(SOON).await.expect("late"), message("late"));
    let (_writer, mut reader, _far_writer, _far) = stream(&pair).await;
    let waited = reader.control_within::<Refusal>(Duration::from_millis(100)).await;
    assert!(matches!(waited, Err(NetError::Stalled { .. })), "{waited:?}");
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_given_up() {
    let pair = Deployment::new(1).pair().await;
    let (mut writer, _reader, _far_writer, _far) = stream(&pair).await;
    writer.set_progress_timeout(Duration::from_millis(200));
    let chunk = Bytes::from(vec![0; CHUNK_BYTES]);
    let mut sent = Ok(());
    // The windows hold a few chunks; nobody reads them.
    for _ in 0..20 {
        if sent.is_ok() {
            sent = writer.chunk(chunk.clone()).await;
        }
    }
    assert!(matches!(sent, Err(NetError::Stalled { .. })), "{sent:?}");
}

#[tokio::test]
async fn codes_of_abort_and_stop_arrive() {
    let pair = Deployment::new(1).pair().await;
    let (mut writer, _reader, _far_writer, mut far) = stream(&pair).await;
    writer.abort(ErrorCode::Unavailable);
    let read = far.control::<Refusal>().await;
    assert!(
        matches!(
            read,
            Err(NetError::Refused(Refusal {
                code: ErrorCode::Unavailable,
                ..
            }))
        ),
        "{read:?}"
    );

    for (stop, expected) in [(Some(ErrorCode::Late), ErrorCode::Late), (None, ErrorCode::Unavailable)] {
        let (mut writer, _reader, _far_writer, mut far) = stream(&pair).await;
        match stop {
            Some(code) => far.stop(code),
            None => drop(far),
        }
        let refusal = loop {
            match writer.chunk(Bytes::from(vec![0; CHUNK_BYTES])).await {
                Ok(()) => {}
                Err(NetError::Refused(refusal)) => break refusal,
                Err(e) => panic!("{e:?}"),
            }
        };
        assert_eq!(refusal.code, expected);
    }
}

#[tokio::test]
async fn a_send_that_was_cancelled_in_the_middle_breaks_the_stream_off() {
    let pair = Deployment::new(1).pair().await;
    let (mut writer, _reader, _far_writer, mut far) = stream(&pair).await;
    let sending = tokio::spawn(async move {
        loop {
            writer.chunk(Bytes::from(vec![0; CHUNK_BYTES])).await.expect("sent");
        }
    });
    // It is held by the window in the middle of a frame.
    sleep(Duration::from_millis(200)).await;
    sending.abort();
    let ended = loop {
        if let Err(e) = far.chunk(CHUNK_BYTES).await {
            break e;
        }
    };
    assert!(matches!(ended, NetError::Broken { .. }), "{ended:?}");
}
