//! Large parts of files, read and written past the page cache. What is large is not used again soon: it need not push
//! other files out of the cache, nor be copied through it, and a disk takes few large requests many times faster than the
//! kernel's many small ones (`bench/profiles/direct-writes.txt`).

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::cell::RefCell;

/// Parts of at least this many bytes are worth it.
pub const FROM: usize = 256 * 1024;
/// What requests are made of: large enough for a disk's full speed, and small beside a pack.
const PART: usize = 2 * 1024 * 1024;
/// Alignment of memory, offsets and sizes that suits every disk.
pub const BLOCK: usize = 4096;

/// Memory that disks read from and write into.
struct Room(Vec<u8>);

impl Room {
    fn bytes(&mut self) -> &mut [u8] {
        self.0.resize(PART + BLOCK, 0);
        let start = self.0.as_ptr().align_offset(BLOCK);
        &mut self.0[start..start + PART]
    }
}

thread_local! {
    static ROOM: RefCell<Room> = const { RefCell::new(Room(Vec::new())) };
}

/// Whether this is known to pay off, and to be as safe as the other way, where the file lies. Over a network each request
/// would wait for the server.
pub fn suits(file: impl AsFd) -> bool {
    const EXT: i64 = 0xEF53;
    const XFS: i64 = 0x5846_5342;
    rustix::fs::fstatfs(file).is_ok_and(|fs| [EXT, XFS].contains(&fs.f_type))
}

/// Writes content at an offset in bytes; if `direct`, whole blocks past the page cache, where the disk allows it, and only
/// the ends through it.
///
/// # Errors
/// The system's, when it can not be written.
pub fn write_at(file: impl AsFd, offset: u64, content: &[u8], direct: bool) -> Result<(), Errno> {
    let file = file.as_fd();
    let (before, after) = ends(offset, content.len());
    if !direct || content.len() < FROM + before + after {
        return write_all(file, offset, content);
    }
    let end = content.len() - after;
    write_all(file, offset, &content[..before])?;
    write_all(file, offset + end as u64, &content[end..])?;
    write_blocks(file, offset + before as u64, &[&content[before..end]])
}

/// How many bytes of content that is written at an offset lie before and behind its whole blocks.
#[must_use]
pub fn ends(offset: u64, length: usize) -> (usize, usize) {
    let within = usize::try_from(offset % BLOCK as u64).expect("less than a block");
    let before = ((BLOCK - within) % BLOCK).min(length);
    (before, (length - before) % BLOCK)
}

/// Writes whole blocks, given in parts that lie one behind the other, past the page cache where the disk allows it.
///
/// # Errors
/// The system's, when they can not be written.
pub fn write_blocks(file: impl AsFd, offset: u64, parts: &[&[u8]]) -> Result<(), Errno> {
    let file = file.as_fd();
    let flags = rustix::fs::fcntl_getfl(file)?;
    let mut direct = rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT).is_ok();
    let written = ROOM.with_borrow_mut(|room| {
        let room = room.bytes();
        let (mut at, mut filled) = (offset, 0);
        let mut flush = |part: &[u8]| {
            match write_all(file, at, part) {
                // A disk with other ideas of alignment. What was written in part is written again.
                Err(Errno::INVAL) if direct => {
                    direct = false;
                    rustix::fs::fcntl_setfl(file, flags)?;
                    write_all(file, at, part)?;
                }
                written => written?,
            }
            at += part.len() as u64;
            Ok(())
        };
        for mut part in parts.iter().copied() {
            while !part.is_empty() {
                let (now, later) = part.split_at(part.len().min(PART - filled));
                room[filled..filled + now.len()].copy_from_slice(now);
                filled += now.len();
                part = later;
                if filled == PART {
                    flush(room)?;
                    filled = 0;
                }
            }
        }
        flush(&room[..filled])
    });
    rustix::fs::fcntl_setfl(file, flags)?;
    written
}

fn write_all(file: BorrowedFd, mut offset: u64, mut content: &[u8]) -> Result<(), Errno> {
    while !content.is_empty() {
        match rustix::io::pwrite(file, content, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => {
                content = &content[n..];
                offset += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads from an offset in bytes out of a file that was opened with `O_DIRECT`; answers how many bytes it were, fewer only
/// at the file's end.
///
/// # Errors
/// The system's; `EINVAL` from a disk with other ideas of alignment.
pub(crate) fn read_at(file: impl AsFd, offset: u64, out: &mut [u8]) -> Result<usize, Errno> {
    let file = file.as_fd();
    ROOM.with_borrow_mut(|room| {
        let room = room.bytes();
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let skip = usize::try_from(at % BLOCK as u64).expect("less than a block");
            let wanted = (skip + out.len() - done).next_multiple_of(BLOCK).min(PART);
            let got = match rustix::io::pread(file, &mut room[..wanted], at - skip as u64) {
                Err(Errno::INTR) => continue,
                got => got?,
            };
            let new = got.saturating_sub(skip).min(out.len() - done);
            if new == 0 {
                break;
            }
            out[done..done + new].copy_from_slice(&room[skip..skip + new]);
            done += new;
        }
        Ok(done)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File, OpenOptions};
    use std::os::unix::fs::OpenOptionsExt as _;

    #[test]
    fn any_part_of_a_file_is_written_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let size = 5 * 1024 * 1024 + 777;
        let byte = |n: usize| (n * 31 + n / 4096) as u8;
        let content: Vec<u8> = (0..size).map(byte).collect();
        let file = File::create(&path).unwrap();
        file.set_len(size as u64).unwrap();
        // Pieces that neither begin nor end with blocks, the last ones first.
        let cuts = [0, 1, 4095, 4096, 700_001, 1_048_576, 3_500_000, size - 1, size];
        for cut in cuts.windows(2).rev() {
            write_at(&file, cut[0] as u64, &content[cut[0]..cut[1]], true).unwrap();
        }
        assert!(fs::read(&path).unwrap() == content);
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(&path)
            .unwrap();
        for (from, to) in [
            (0, size),
            (1, 2),
            (4095, 2_200_000),
            (4096, 8192),
            (size - 5000, size),
        ] {
            let mut out = vec![0; to - from];
            assert_eq!(read_at(&direct, from as u64, &mut out).unwrap(), to - from);
            assert!(out == content[from..to], "{from} to {to}");
        }
        let mut out = vec![0; 9000];
        assert_eq!(read_at(&direct, (size - 100) as u64, &mut out).unwrap(), 100);
        assert_eq!(read_at(&direct, (size + 100) as u64, &mut out).unwrap(), 0);
    }
}
