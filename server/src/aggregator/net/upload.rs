//! "Here is my update": journalled chunk by chunk, each verified; added to the sum when it is whole and on the disk.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aimass_net::blob::{names_its_chunks, receive_chunks, verified_prefix};
use aimass_net::{NetError, disk};
use aimass_protocol::manifest::Manifest;
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::{Upload, UploadReply};
use aimass_protocol::{CohortId, ErrorCode};
use tokio::sync::OwnedMutexGuard;

use super::request::Stream;
use crate::aggregator::counters::Counter;
use crate::aggregator::driver::{Answer, Ask, Command};

/// How often the driver is told that an upload gets further.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Serves an upload from its request to its place in the sum.
pub(super) async fn serve(stream: &mut Stream, upload: Upload) -> Result<(), NetError> {
    let Upload {
        cohort,
        contribution,
        manifest,
    } = upload;
    if !names_its_chunks(&manifest) {
        let text = "the manifest's digest is not that of its chunks' digests: make it as the protocol says";
        return stream.refuse(Refusal::new(ErrorCode::Malformed, text)).await;
    }
    let mut answers = stream.question(Ask::Upload {
        cohort,
        contribution,
        size_bytes: manifest.size_bytes(),
        digest: manifest.digest(),
    });
    let ticket = match answers.recv().await {
        Some(Answer::UploadFrom(ticket)) => ticket,
        other => return end(stream, other).await,
    };
    stream.job = Some(ticket.job);
    let cut = {
        let writing = ticket.writing.lock_owned();
        let shared = Arc::clone(&stream.shared);
        let received = shared.uploads.take(receive(stream, cohort, &manifest, writing));
        tokio::select! {
            // What the driver says first: the cohort is over, or a newer stream took this one's place.
            biased;
            answer = answers.recv() => Some(answer),
            received = received => match received {
                Ok(()) => None,
                Err(error) => return stream.refuse_broken(error).await,
            },
        }
    };
    if let Some(answer) = cut {
        return end(stream, answer).await;
    }
    // Counted before the sum may be published, so that the round's figures hold its uploads.
    stream.count();
    let _ = stream.shared.commands.send(Command::Received {
        agent: stream.agent,
        cohort,
        contribution,
        digest: manifest.digest(),
    });
    let answer = answers.recv().await;
    end(stream, answer).await
}

/// Takes the chunks that are not in the journal yet. Each is verified before it is written; the manifest's digest is that of all of them.
async fn receive(
    stream: &mut Stream,
    cohort: CohortId,
    manifest: &Manifest,
    writing: impl Future<Output = OwnedMutexGuard<()>>,
) -> Result<(), NetError> {
    // Held by all that touches the file, on blocking threads too: those run on when this future is dropped.
    let writing = Arc::new(writing.await);
    let (shared, agent, expected) = (Arc::clone(&stream.shared), stream.agent, manifest.clone());
    let held = Arc::clone(&writing);
    let (file, next_chunk) = tokio::task::spawn_blocking(move || {
        let _held = held;
        let file = shared.journal.open_update(cohort, agent)?;
        let next_chunk = verified_prefix(&file, &expected)?;
        Ok::<_, io::Error>((file, next_chunk))
    })
    .await
    .unwrap_or_else(|e| Err(io::Error::other(e)))
    .map_err(journal_error)?;
    if next_chunk > 0 {
        stream.shared.counters.count(Counter::UploadsResumed);
    }
    stream.reply(UploadReply::Resume { next_chunk }).await?;
    let mut told = Instant::now();
    let commands = stream.shared.commands.clone();
    receive_chunks(&mut stream.reader, manifest, next_chunk, &file, &writing, || {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            // The driver is gone only when the service ends.
            let _ = commands.send(Command::UploadProgressed { agent, cohort });
        }
    })
    .await?;
    stream.reader.end().await?;
    tokio::task::spawn_blocking(move || {
        let _held = writing;
        disk::call("syncing an update").and_then(|()| file.sync_data())
    })
    .await
    .unwrap_or_else(|e| Err(io::Error::other(e)))
    .map_err(journal_error)
}

fn journal_error(source: io::Error) -> NetError {
    NetError::Io {
        what: "journal".to_owned(),
        source,
    }
}

async fn end(stream: &mut Stream, answer: Option<Answer>) -> Result<(), NetError> {
    match answer {
        Some(Answer::Accepted) => stream.reply(UploadReply::Accepted).await,
        Some(Answer::Refused(refusal)) => stream.refuse(refusal).await,
        _ => stream.replaced(),
    }
}
