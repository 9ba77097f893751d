//! ZIP files that the server writes for its administrators: whole or not there at all, readable by their owner alone,
//! and encrypted (AES-256) under a password.

use encke_api::constants::DESTINATIONTYPE_LOCALCOPY;
use encke_api::types::SelfBackupExportOptions;
use encke_api::{ApiError, ApiResult};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use zip::write::{FileOptions, SimpleFileOptions, ZipWriter};

/// A ZIP file in the making; it is gone unless it is finished.
pub(crate) struct Archive {
    zip: Option<ZipWriter<File>>,
    password: Option<String>,
    draft: PathBuf,
    target: PathBuf,
}

/// The folder that an archive shall go to.
///
/// # Errors
/// 400 or 501 for options that can not be met.
pub(crate) fn folder_of(options: &SelfBackupExportOptions) -> ApiResult<PathBuf> {
    let location = &options.location;
    if location.destination_type != DESTINATIONTYPE_LOCALCOPY {
        return Err(ApiError::unsupported(
            "an export goes to a folder of the server (Location of type 1002)",
        ));
    }
    if options.encryption_key_format != 0 {
        return Err(ApiError::bad_request(
            "EncryptionKeyFormat must be 0, the key in clear",
        ));
    }
    let folder = PathBuf::from(&location.localcopy_path);
    if !folder.is_absolute() {
        return Err(ApiError::bad_request("Location.LocalcopyPath must be absolute"));
    }
    Ok(folder)
}

/// What an administrator reads when an archive can not be written.
pub(crate) fn failed(folder: &Path, e: &io::Error) -> ApiError {
    ApiError::new(507, format!("The export to '{}' failed: {e}", folder.display()))
}

impl Archive {
    /// Begins a file in a folder, which is made if need be.
    ///
    /// # Errors
    /// The folder can not be written.
    pub(crate) fn create(folder: &Path, name: &str, password: &str) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        std::fs::create_dir_all(folder)?;
        let target = folder.join(name);
        let draft = folder.join(format!("{name}.new"));
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        Ok(Self {
            zip: Some(ZipWriter::new(file)),
            password: Some(password.to_string()).filter(|p| !p.is_empty()),
            draft,
            target,
        })
    }

    /// Begins an entry, whose content is written to the answer.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn start(&mut self, name: &str) -> io::Result<&mut impl Write> {
        let zip = self.zip.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .large_file(true);
        match &self.password {
            None => zip.start_file(name, options)?,
            Some(password) => {
                let options: FileOptions<()> = options.with_aes_encryption(zip::AesMode::Aes256, password);
                zip.start_file(name, options)?;
            }
        }
        Ok(zip)
    }

    /// Adds to the entry begun last.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        let zip = self.zip.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(zip, "{text}")
    }

    /// Adds a JSON document.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn document(&mut self, name: &str, document: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(self.start(name)?, document)?;
        Ok(())
    }

    /// Adds a text.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.start(name)?.write_all(text.as_bytes())
    }

    /// Adds a copy of a file.
    ///
    /// # Errors
    /// It can not be read, or the disk fails.
    pub(crate) fn file(&mut self, name: &str, path: &Path) -> io::Result<()> {
        let mut file = File::open(path)?;
        io::copy(&mut file, self.start(name)?)?;
        Ok(())
    }

    /// Gives the whole file its name. Answers its bytes.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        let zip = self.zip.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let file = zip.finish()?;
        file.sync_all()?;
        let size = file.metadata()?.len();
        std::fs::rename(&self.draft, &self.target)?;
        let folder = self.target.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()?;
        Ok(size)
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        // It has its own name by now if all went well.
        let _ = std::fs::remove_file(&self.draft);
    }
}
