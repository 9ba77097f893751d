//! The program that clients get: this server's own executable, for the platform it runs on. It is read where the system
//! keeps it for the running process, so that a newer file under its name is not handed out under the old one's hash.

use super::pieces::Piece;
use crate::app::App;
use encke_api::constants::APPLICATION_VERSION;
use encke_api::live::{Program, platform};
use encke_api::{ApiError, ApiResult};
use flate2::Compression;
use flate2::write::GzEncoder;
use memchr::memmem;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{Mutex, OnceCell, OwnedSemaphorePermit, Semaphore};

/// Bytes read at once while the program is hashed or packed.
const BLOCK: usize = 1 << 20;
/// Programs sent at once; who comes later is asked to try again. Each takes a buffer and a share of the network.
const MAX_SENDING: usize = 64;
/// Where the program lies in a package.
pub(super) const PLACE: &str = "usr/bin/encke";

/// This server's executable.
pub struct OwnProgram {
    opened: Result<Arc<File>, io::Error>,
    facts: OnceCell<Arc<Facts>>,
    packing: Mutex<()>,
    sending: Arc<Semaphore>,
}

/// What is known of the executable.
pub(crate) struct Facts {
    /// As devices are told of it.
    pub program: Program,
    /// Unix seconds of the file's last change.
    pub modified: i64,
    /// The C library that it needs at least, such as `2.36`; nothing where it needs none.
    pub libc: Option<String>,
}

impl Default for OwnProgram {
    fn default() -> Self {
        let opened = File::open("/proc/self/exe").or_else(|_| File::open(std::env::current_exe()?));
        if let Err(error) = &opened {
            tracing::warn!(%error, "this program's own file can not be read, so no clients are handed out");
        }
        Self {
            opened: opened.map(Arc::new),
            facts: OnceCell::new(),
            packing: Mutex::default(),
            sending: Arc::new(Semaphore::new(MAX_SENDING)),
        }
    }
}

fn internal(e: impl std::fmt::Display) -> ApiError {
    tracing::error!(error = %e, "the client program could not be read");
    ApiError::internal()
}

impl OwnProgram {
    fn file(&self) -> ApiResult<Arc<File>> {
        let unreadable =
            |_| ApiError::unsupported("this server can not read its own program, so it hands out no clients");
        self.opened.as_ref().cloned().map_err(unreadable)
    }

    /// What is known of the executable; it is read once.
    ///
    /// # Errors
    /// 501 where it can not be opened, 500 where reading it fails.
    pub(crate) async fn facts(&self) -> ApiResult<Arc<Facts>> {
        let file = self.file()?;
        let read = || async {
            let read = tokio::task::spawn_blocking(move || read(&file));
            read.await.map_err(internal)?.map_err(internal).map(Arc::new)
        };
        self.facts.get_or_try_init(read).await.cloned()
    }

    /// The executable as it is.
    ///
    /// # Errors
    /// As [`OwnProgram::facts`].
    pub(crate) async fn plain(&self) -> ApiResult<Piece> {
        let size = self.facts().await?.program.size;
        Ok(Piece::File(self.file()?, size))
    }

    /// Room to send the program, or a package with it.
    ///
    /// # Errors
    /// 503 without room.
    pub(crate) fn sender(&self) -> ApiResult<OwnedSemaphorePermit> {
        self.sending
            .clone()
            .try_acquire_owned()
            .map_err(|_| ApiError::new(503, "Too many programs are sent at once; try again in a minute"))
    }

    /// The executable as one compressed member of a tar archive, under [`PLACE`]. It is packed once and kept in the data
    /// folder under its hash.
    ///
    /// # Errors
    /// As [`OwnProgram::facts`], or 507 without room on the disk.
    pub(super) async fn packed(&self, app: &App) -> ApiResult<Piece> {
        let facts = self.facts().await?;
        let file = self.file()?;
        let folder = app.data_dir.join("clients");
        let path = folder.join(format!("{}.tar.gz", facts.program.sha256));
        let _one = self.packing.lock().await;
        let packed = tokio::task::spawn_blocking(move || {
            if let Ok(packed) = File::open(&path) {
                return Ok(packed);
            }
            pack(&file, &facts, &folder, &path)?;
            File::open(&path)
        });
        let packed = packed.await.map_err(internal)?.map_err(|e| match e.kind() {
            io::ErrorKind::StorageFull => {
                ApiError::new(507, "The server's disk is full; the client could not be packed")
            }
            _ => internal(e),
        })?;
        let length = packed.metadata().map_err(internal)?.len();
        Ok(Piece::File(Arc::new(packed), length))
    }
}

/// Reads a file from its beginning, whatever others do with it.
struct FromStart<'a>(&'a File, u64);

impl io::Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read_at(buffer, self.1)?;
        self.1 += n as u64;
        Ok(n)
    }
}

fn read(file: &File) -> io::Result<Facts> {
    let metadata = file.metadata()?;
    let mut reader = FromStart(file, 0);
    let mut hasher = Sha256::new();
    let (mut size, mut libc) = (0, None);
    let mut block = vec![0; BLOCK];
    loop {
        let n = reader.read(&mut block)?;
        if n == 0 {
            break;
        }
        hasher.update(&block[..n]);
        size += n as u64;
        libc = libc.max(newest_libc(&block[..n]));
    }
    Ok(Facts {
        program: Program {
            version: APPLICATION_VERSION.into(),
            platform: platform(),
            sha256: hex::encode(hasher.finalize()),
            size,
        },
        modified: metadata.mtime(),
        libc: libc.map(|(major, minor)| format!("{major}.{minor}")),
    })
}

/// The newest version of the C library that is named in a part of an executable. Linkers write these names close
/// together, so a name that is cut in two by a block's end hides nothing but by a rare chance.
fn newest_libc(part: &[u8]) -> Option<(u32, u32)> {
    const NAME: &[u8] = b"GLIBC_";
    let version = |at: usize| {
        let rest = &part[at + NAME.len()..];
        let end = rest.iter().position(|b| !b.is_ascii_digit() && *b != b'.')?;
        let text = std::str::from_utf8(&rest[..end]).ok()?;
        let (major, minor) = text.split_once('.')?;
        // Such as the 2.5 of 2.5.1.
        let minor = minor.split('.').next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    memmem::find_iter(part, NAME).filter_map(version).max()
}

fn pack(file: &File, facts: &Facts, folder: &Path, path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    // Those of programs that this server was before.
    for entry in std::fs::read_dir(folder)?.flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
    let draft = path.with_extension("new");
    let mut gzip = GzEncoder::new(File::create(&draft)?, Compression::default());
    gzip.write_all(&super::pieces::file_header(
        PLACE,
        facts.program.size,
        0o755,
        facts.modified,
    )?)?;
    let mut reader = FromStart(file, 0).take(facts.program.size);
    io::copy(&mut reader, &mut gzip)?;
    gzip.write_all(&super::pieces::padding(facts.program.size))?;
    gzip.finish()?.sync_all()?;
    std::fs::rename(&draft, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_library_is_found_by_number() {
        let part = b"..GLIBC_2.4\0GLIBC_2.34\0GLIBC_2.3.4\0GLIBC_PRIVATE\0GLIBC_2.9\0";
        assert_eq!(newest_libc(part), Some((2, 34)));
        assert_eq!(newest_libc(b"static"), None);
    }
}
