//! Frames: a length (u32, little-endian), then so many bytes, of which the first is the kind of the message.

use std::io::{self, Read, Write};

/// Most bytes of a frame that a worker takes: the state of the largest model (1 GiB) under an optimizer with two moments.
pub(super) const MAX_FRAME_BYTES: u64 = (3 << 30) + (1 << 20);
/// Read at a time: a length that lies allocates no more than what is there and this.
const PIECE_BYTES: u64 = 1 << 20;

/// The next frame; `None` where the stream ends between two.
pub(super) fn read(input: &mut impl Read, limit_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; 4];
    let mut got = 0;
    while got < header.len() {
        match input.read(&mut header[got..]) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let length = u64::from(u32::from_le_bytes(header));
    if length == 0 || length > limit_bytes {
        let text = format!("a frame of {length} bytes, where 1 to {limit_bytes} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut body = Vec::new();
    let mut left = length;
    while left > 0 {
        let n = input.by_ref().take(left.min(PIECE_BYTES)).read_to_end(&mut body)? as u64;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= n;
    }
    Ok(Some(body))
}

/// Writes a frame and flushes.
pub(super) fn write(output: &mut impl Write, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a frame of 4 GiB or more"))?;
    output.write_all(&length.to_le_bytes())?;
    output.write_all(body)?;
    output.flush()
}
