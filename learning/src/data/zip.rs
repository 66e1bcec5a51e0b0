//! The little of ZIP that NPZ needs: a list of files, stored or deflated.
//!
//! Source: PKWARE's APPNOTE 6.3.10, sections 4.3 and 4.5.3 (ZIP64). Only the central directory is believed; local headers are looked
//! at to find where the content begins.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use flate2::bufread::DeflateDecoder;

use super::DataError;

/// The end record, and the longest comment after it.
const END_BYTES: u64 = 22;
const LONGEST_COMMENT: u64 = 65_535;
const END: [u8; 4] = *b"PK\x05\x06";
const END64_LOCATOR: [u8; 4] = *b"PK\x06\x07";
const END64: [u8; 4] = *b"PK\x06\x06";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";
const ZIP64_EXTRA: u16 = 1;
/// Bounds of the directory: nobody keeps more arrays in one file.
const MAX_ENTRIES: u64 = 65_536;
const MAX_DIRECTORY_BYTES: u64 = 16 << 20;
/// Bytes that are read at once of content that nobody keeps.
const REST_AT_ONCE: usize = 256 << 10;

/// One file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) deflated: bool,
    pub(super) crc32: u32,
    /// Bytes in the archive.
    pub(super) packed_bytes: u64,
    /// Bytes once unpacked.
    pub(super) bytes: u64,
    /// Where the content begins.
    pub(super) offset: u64,
}

/// Little-endian numbers from a slice, one after the other; `None` past its end.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }
    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }
    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
    fn signature(&mut self, expected: [u8; 4]) -> Option<()> {
        (self.take(4)? == expected).then_some(())
    }
}

fn read_at(mut file: &File, at: u64, len: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The files of an archive of `file_bytes`. Encrypted and split archives, other methods and two files of one name are refused.
pub(super) fn directory(name: &str, file: &File, file_bytes: u64) -> Result<Vec<Entry>, DataError> {
    let wrong = |problem: String| DataError::parse(name, 0, 0, problem);
    let damaged = || wrong("is not a whole zip archive; copy it again, or save it again with numpy.savez".to_owned());
    let at = |at, len| read_at(file, at, len).map_err(|e| DataError::io(name, e));
    let (entries, len, begin) = end(&at, file_bytes)?.ok_or_else(damaged)?;
    if entries > MAX_ENTRIES || len > MAX_DIRECTORY_BYTES {
        return Err(wrong(format!("holds {entries} files, the limit is {MAX_ENTRIES}; split it")));
    }
    let bytes = at(begin, len)?;
    let mut fields = Fields(&bytes);
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    for _ in 0..entries {
        let (mut entry, method, flags) = central(&mut fields).ok_or_else(damaged)?;
        let shown: String = entry.name.chars().take(80).collect();
        if flags & 1 != 0 {
            return Err(wrong(format!("its file `{shown}` is encrypted; pack it without a password")));
        }
        if !matches!(method, 0 | 8) {
            return Err(wrong(format!(
                "its file `{shown}` is packed by method {method}; save it with numpy.savez or savez_compressed"
            )));
        }
        if !names.insert(entry.name.clone()) {
            return Err(wrong(format!("holds the file `{shown}` twice; save it again")));
        }
        let local = at(entry.offset, 30)?;
        let content = content_offset(&local, entry.offset).ok_or_else(damaged)?;
        if content.checked_add(entry.packed_bytes).is_none_or(|end| end > begin) || (!entry.deflated && entry.bytes != entry.packed_bytes) {
            return Err(damaged());
        }
        entry.offset = content;
        found.push(entry);
    }
    if fields.0.is_empty() { Ok(found) } else { Err(damaged()) }
}

/// Entries, bytes and begin of the central directory.
type Directory = (u64, u64, u64);

fn end(at: &impl Fn(u64, u64) -> Result<Vec<u8>, DataError>, file_bytes: u64) -> Result<Option<Directory>, DataError> {
    let tail_at = file_bytes.saturating_sub(END_BYTES + LONGEST_COMMENT);
    let tail = at(tail_at, END_BYTES + LONGEST_COMMENT)?;
    // The record whose comment ends where the file does.
    let is_end = |i: &usize| {
        let mut fields = Fields(&tail[*i..]);
        fields.signature(END).is_some()
            && fields.take(16).is_some()
            && fields.u16().is_some_and(|comment| usize::from(comment) == fields.0.len())
    };
    let Some(i) = (0..tail.len()).rev().find(is_end) else {
        return Ok(None);
    };
    let record_at = tail_at + i as u64;
    let Some((disks, entries, len, begin)) = end_record(&tail[i..]) else {
        return Ok(None);
    };
    if disks != 0 {
        return Ok(None);
    }
    if entries != 0xffff && len != 0xffff_ffff && begin != 0xffff_ffff {
        let whole = u64::from(begin) + u64::from(len) <= record_at;
        return Ok(whole.then_some((u64::from(entries), u64::from(len), u64::from(begin))));
    }
    let Some(locator_at) = record_at.checked_sub(20) else {
        return Ok(None);
    };
    let Some(end64_at) = locator(&at(locator_at, 20)?) else {
        return Ok(None);
    };
    let directory = end64(&at(end64_at, 56)?);
    Ok(directory.filter(|&(_, len, begin)| begin.checked_add(len).is_some_and(|end| end <= end64_at)))
}

/// Disk numbers (0 for an archive in one piece), entries, bytes and begin of the directory.
fn end_record(bytes: &[u8]) -> Option<(u16, u16, u32, u32)> {
    let mut fields = Fields(bytes);
    fields.signature(END)?;
    let disks = fields.u16()? | fields.u16()?;
    let here = fields.u16()?;
    let entries = fields.u16()?;
    let disks = if here == entries { disks } else { 1 };
    Some((disks, entries, fields.u32()?, fields.u32()?))
}

fn locator(bytes: &[u8]) -> Option<u64> {
    let mut fields = Fields(bytes);
    fields.signature(END64_LOCATOR)?;
    fields.u32()?;
    fields.u64()
}

fn end64(bytes: &[u8]) -> Option<Directory> {
    let mut fields = Fields(bytes);
    fields.signature(END64)?;
    // Its size, versions and disk numbers.
    fields.take(8 + 2 + 2 + 4 + 4)?;
    fields.u64()?;
    Some((fields.u64()?, fields.u64()?, fields.u64()?))
}

/// One record of the directory, its method and its flags. The offset is still that of the local header.
fn central(fields: &mut Fields<'_>) -> Option<(Entry, u16, u16)> {
    fields.signature(CENTRAL)?;
    fields.take(4)?;
    let (flags, method) = (fields.u16()?, fields.u16()?);
    fields.take(4)?;
    let crc32 = fields.u32()?;
    let (packed, bytes) = (fields.u32()?, fields.u32()?);
    let (name_len, extra_len, comment_len) = (fields.u16()?, fields.u16()?, fields.u16()?);
    fields.take(8)?;
    let offset = fields.u32()?;
    let name = std::str::from_utf8(fields.take(name_len.into())?).ok()?.to_owned();
    let extra = fields.take(extra_len.into())?;
    fields.take(comment_len.into())?;
    // Those at their maximum stand in the extra field, in this order.
    let mut wide = Fields(zip64(extra).unwrap_or_default());
    let mut widened = |narrow: u32| if narrow == u32::MAX { wide.u64() } else { Some(narrow.into()) };
    let bytes = widened(bytes)?;
    let packed_bytes = widened(packed)?;
    let offset = widened(offset)?;
    let entry = Entry {
        name,
        deflated: method == 8,
        crc32,
        packed_bytes,
        bytes,
        offset,
    };
    Some((entry, method, flags))
}

fn zip64(extra: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields(extra);
    loop {
        let (id, len) = (fields.u16()?, fields.u16()?);
        let content = fields.take(len.into())?;
        if id == ZIP64_EXTRA {
            return Some(content);
        }
    }
}

/// Where the content begins behind a local header that lies at `at`.
fn content_offset(local: &[u8], at: u64) -> Option<u64> {
    let mut fields = Fields(local);
    fields.signature(LOCAL)?;
    fields.take(22)?;
    let (name, extra) = (fields.u16()?, fields.u16()?);
    at.checked_add(30 + u64::from(name) + u64::from(extra))
}

fn damaged(name: &str, entry: &Entry) -> DataError {
    let problem = format!("its file `{}` is damaged: size or checksum differ; copy it again", entry.name);
    DataError::parse(name, 0, 0, problem)
}

/// An entry's content as it is unpacked, with what shows whether it is whole.
struct Content<R> {
    unpacked: R,
    bytes: u64,
    checksum: crc32fast::Hasher,
}

impl<R: Read> Read for Content<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.unpacked.read(buffer)?;
        self.bytes += n as u64;
        self.checksum.update(&buffer[..n]);
        Ok(n)
    }
}

/// Gives an entry's content to `read` while it is unpacked. What that makes of it is returned once all of the content turned out to have its size and
/// checksum. Nothing is kept here; the caller bounds `entry.bytes`, which are read at most.
pub(super) fn content<T>(
    name: &str,
    mut file: &File,
    entry: &Entry,
    read: impl FnOnce(&mut dyn Read) -> Result<T, DataError>,
) -> Result<T, DataError> {
    let io = |e| DataError::io(name, e);
    file.seek(SeekFrom::Start(entry.offset)).map_err(io)?;
    let packed = BufReader::new(file.take(entry.packed_bytes));
    let unpacked: Box<dyn Read> = if entry.deflated {
        Box::new(DeflateDecoder::new(packed))
    } else {
        Box::new(packed)
    };
    let mut content = Content {
        unpacked: unpacked.take(entry.bytes.saturating_add(1)),
        bytes: 0,
        checksum: crc32fast::Hasher::new(),
    };
    let made = read(&mut content);
    let mut rest = vec![0; REST_AT_ONCE];
    loop {
        match content.read(&mut rest) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return made.and(Err(io(error))),
        }
    }
    if content.bytes != entry.bytes || content.checksum.finalize() != entry.crc32 {
        return Err(damaged(name, entry));
    }
    made
}
