//! Giving an object out, whole or in part, a block at a time: the next one is read while the last is on its way.

use super::blocking;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures_util::stream;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use tokio::task::JoinHandle;

/// Bytes read at once; twice this is a download's memory.
const BLOCK: u64 = 256 * 1024;

/// The part of an object that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// First byte and length.
    Range(u64, u64),
    /// Asked for is what is not there.
    Outside,
}

impl Part {
    /// From a request's `Range` (RFC 9110, section 14). What is no single range of bytes counts as the whole.
    pub(super) fn of(headers: &HeaderMap, size: u64) -> Self {
        let Some(range) = headers
            .get(header::RANGE)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.trim().strip_prefix("bytes="))
        else {
            return Part::Whole;
        };
        let Some((first, last)) = range.split_once('-') else {
            return Part::Whole;
        };
        match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
            (Ok(first), Ok(last)) if first <= last && first < size => {
                Part::Range(first, last.min(size - 1) - first + 1)
            }
            (Ok(first), Ok(last)) if first > last => Part::Whole,
            (Ok(first), Err(_)) if last.trim().is_empty() && first < size => Part::Range(first, size - first),
            (Err(_), Ok(suffix)) if first.trim().is_empty() && suffix > 0 && size > 0 => {
                let length = suffix.min(size);
                Part::Range(size - length, length)
            }
            (Ok(_), Ok(_)) => Part::Outside,
            (Ok(_), Err(_)) if last.trim().is_empty() => Part::Outside,
            (Err(_), Ok(_)) if first.trim().is_empty() => Part::Outside,
            _ => Part::Whole,
        }
    }
}

/// Opens an object; gives its size too.
pub(super) async fn open(path: PathBuf) -> io::Result<(File, u64)> {
    blocking(move || {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    })
    .await
}

type Block = io::Result<(File, Bytes)>;

fn read_block(mut file: File, left: u64) -> JoinHandle<Block> {
    tokio::task::spawn_blocking(move || {
        let wanted = left.min(BLOCK);
        let mut block = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
        let read = (&mut file).take(wanted).read_to_end(&mut block)?;
        if read as u64 != wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((file, block.into()))
    })
}

/// The bytes of a part of a file.
pub(super) async fn body(mut file: File, first: u64, length: u64) -> io::Result<Body> {
    if length == 0 {
        return Ok(Body::empty());
    }
    if first > 0 {
        file = blocking(move || {
            file.seek(SeekFrom::Start(first))?;
            Ok(file)
        })
        .await?;
    }
    let start = Some((read_block(file, length), length));
    let blocks = stream::unfold(start, |state| async move {
        let (reading, left) = state?;
        let block = reading.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        Some(match block {
            Ok((file, bytes)) => {
                let left = left - bytes.len() as u64;
                let next = (left > 0).then(|| (read_block(file, left), left));
                (Ok(bytes), next)
            }
            Err(e) => {
                tracing::error!(error = %e, "an object broke off while it was read");
                (Err(e), None)
            }
        })
    });
    Ok(Body::from_stream(blocks))
}

#[cfg(test)]
mod tests {
    use super::Part;
    use axum::http::{HeaderMap, HeaderValue, header};

    fn part(range: &'static str) -> Part {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static(range));
        Part::of(&headers, 100)
    }

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        assert_eq!(Part::of(&HeaderMap::new(), 100), Part::Whole);
        assert_eq!(part("bytes=0-0"), Part::Range(0, 1));
        assert_eq!(part("bytes=10-19"), Part::Range(10, 10));
        assert_eq!(part("bytes=90-200"), Part::Range(90, 10));
        assert_eq!(part("bytes=90-"), Part::Range(90, 10));
        assert_eq!(part("bytes=-7"), Part::Range(93, 7));
        assert_eq!(part("bytes=-700"), Part::Range(0, 100));
        assert_eq!(part("bytes=100-"), Part::Outside);
        assert_eq!(part("bytes=100-101"), Part::Outside);
        assert_eq!(part("bytes=-0"), Part::Outside);
        assert_eq!(part("bytes=20-10"), Part::Whole);
        assert_eq!(part("bytes=0-1,5-6"), Part::Whole);
        assert_eq!(part("lines=0-1"), Part::Whole);
    }
}
