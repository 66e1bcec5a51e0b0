//! Reading and writing at a position, without the offset that all handles of a file share.

use std::fs::File;
use std::io;

use crate::disk;

#[cfg(unix)]
pub(super) fn read_exact_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<()> {
    disk::call("reading a file")?;
    std::os::unix::fs::FileExt::read_exact_at(file, into, offset)
}

#[cfg(unix)]
pub(super) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    disk::call("writing a file")?;
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(not(unix))]
pub(super) fn read_exact_at(mut file: &File, into: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    disk::call("reading a file")?;
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(into)
}

#[cfg(not(unix))]
pub(super) fn write_all_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    disk::call("writing a file")?;
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}
