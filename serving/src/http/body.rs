//! The body of a request, read under limits: of its size, of time, and of what all requests take together.

use std::pin::Pin;
use std::time::Duration;

use aimass_inference::Reservation;
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::header;

use crate::error::ServeError;
use crate::host::Host;

/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(30);
/// What numbers in JSON take at most once they are read, for each byte of text: two bytes ("1,") become eight.
const DECODED: u64 = 4;

/// A body, and the memory that is set aside for it.
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    _memory: Vec<Reservation>,
}

/// Reads a body. What it takes is set aside before it is allocated.
pub(super) async fn read(host: &Host, request: Request) -> Result<Received, ServeError> {
    let limit = host.config().max_request_bytes;
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|n| n > limit as u64) {
        return Err(ServeError::TooLarge { limit });
    }
    let reading = collect(host, request.into_body(), limit);
    tokio::time::timeout(BODY_TIME, reading).await.map_err(|_| ServeError::SlowBody {
        seconds: BODY_TIME.as_secs(),
    })?
}

async fn collect(host: &Host, mut body: Body, limit: usize) -> Result<Received, ServeError> {
    let mut received = Received {
        bytes: Vec::new(),
        _memory: Vec::new(),
    };
    while let Some(piece) = next(&mut body).await? {
        if received.bytes.len() + piece.len() > limit {
            return Err(ServeError::TooLarge { limit });
        }
        received._memory.push(host.bodies().reserve((1 + DECODED) * piece.len() as u64)?);
        received.bytes.extend_from_slice(&piece);
    }
    Ok(received)
}

/// The next piece; `None` at the end.
async fn next(body: &mut Body) -> Result<Option<Bytes>, ServeError> {
    loop {
        match std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(error)) => return Err(ServeError::BadRequest(format!("the request's body broke off: {error}"))),
        }
    }
}
