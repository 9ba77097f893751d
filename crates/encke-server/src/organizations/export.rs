//! Everything that an organization has on this server in one ZIP file: JSON documents, one a file, and its jobs as
//! JSON lines. Readable without this program.

use crate::app::{App, now, store_error};
use encke_api::constants::DESTINATIONTYPE_LOCALCOPY;
use encke_api::types::{
    GroupPolicy, NewsEntry, Organization, SelfBackupExportOptions, SharedStorageQuota, UserGroup,
};
use encke_api::{ApiError, ApiResult};
use encke_store::collections::Collected;
use encke_store::{JobFilter, Scope, UsersOf};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use zip::write::{FileOptions, SimpleFileOptions, ZipWriter};

/// A ZIP file in the making. The first failure is kept and ends the work.
struct Archive {
    zip: ZipWriter<File>,
    password: Option<String>,
}

impl Archive {
    fn start(&mut self, name: &str) -> io::Result<()> {
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .large_file(true);
        match &self.password {
            None => self.zip.start_file(name, options)?,
            Some(password) => {
                let options: FileOptions<()> = options.with_aes_encryption(zip::AesMode::Aes256, password);
                self.zip.start_file(name, options)?;
            }
        }
        Ok(())
    }

    fn document(&mut self, name: &str, document: &impl Serialize) -> io::Result<()> {
        self.start(name)?;
        serde_json::to_writer_pretty(&mut self.zip, document)?;
        Ok(())
    }

    fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.start(name)?;
        self.zip.write_all(text.as_bytes())
    }
}

/// A file name out of letters that every system takes; other bytes as `%xx`, so that no two names become one.
fn file_name(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_@".contains(&b);
    name.bytes()
        .map(|b| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02x}")
            }
        })
        .collect()
}

fn failed(folder: &Path, e: &io::Error) -> ApiError {
    ApiError::new(507, format!("The export to '{}' failed: {e}", folder.display()))
}

/// Writes the export under a name with the time in it; a file that is not whole never has that name.
///
/// # Errors
/// 400 for options that can not be met, 507 when the folder can not be written.
pub(super) async fn export(
    app: &App,
    options: &SelfBackupExportOptions,
    organization: &Organization,
) -> ApiResult<()> {
    let id = options.restrict_to_single_org_id.clone();
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
    let target = folder.join(format!("organization-{}-{}.zip", file_name(&id), now()));
    let draft = target.with_extension("zip.new");
    let (made, at) = (folder.clone(), draft.clone());
    let created = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&made)?;
        use std::os::unix::fs::OpenOptionsExt as _;
        File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(at)
    });
    let file = created
        .await
        .map_err(|_| ApiError::internal())?
        .map_err(|e| failed(&folder, &e))?;
    let archive = Archive {
        zip: ZipWriter::new(file),
        password: Some(options.encryption_key.clone()).filter(|k| !k.is_empty()),
    };
    let written = fill(app, archive, &id, organization, options.exclude_jobs_db, &folder).await;
    let finished = match written {
        Err(e) => Err(e),
        Ok(archive) => {
            let (from, to) = (draft.clone(), target.clone());
            let ended = tokio::task::spawn_blocking(move || {
                archive.zip.finish()?.sync_all()?;
                std::fs::rename(from, to)
            });
            ended
                .await
                .map_err(|_| ApiError::internal())?
                .map_err(|e| failed(&folder, &e))
        }
    };
    if finished.is_err() {
        let _ = tokio::fs::remove_file(&draft).await;
    }
    finished
}

async fn collection<T: Collected>(
    app: &App,
    archive: &mut Archive,
    scope: &Scope,
    name: &str,
    folder: &Path,
) -> ApiResult<()> {
    let all = app.store.items::<T>(scope).await.map_err(store_error)?;
    archive.document(name, &all).map_err(|e| failed(folder, &e))
}

async fn fill(
    app: &App,
    mut archive: Archive,
    id: &str,
    organization: &Organization,
    without_jobs: bool,
    folder: &Path,
) -> ApiResult<Archive> {
    let scope = Scope::Organization(id.to_string());
    let fail = |e: io::Error| failed(folder, &e);
    let config = app.config();
    let admins: Vec<_> = config
        .admin_users
        .iter()
        .filter(|a| a.organization_id == id)
        .collect();
    archive
        .document("organization.json", organization)
        .map_err(fail)?;
    archive.document("admins.json", &admins).map_err(fail)?;
    collection::<GroupPolicy>(app, &mut archive, &scope, "policies.json", folder).await?;
    collection::<UserGroup>(app, &mut archive, &scope, "groups.json", folder).await?;
    collection::<SharedStorageQuota>(app, &mut archive, &scope, "quotas.json", folder).await?;
    collection::<NewsEntry>(app, &mut archive, &scope, "news.json", folder).await?;
    let users = app
        .store
        .usernames_of(UsersOf::Organization(id.to_string()))
        .await
        .map_err(store_error)?;
    for user in users {
        if let Ok(stored) = app.store.profile(&scope, &user).await {
            let name = format!("users/{}.json", file_name(&user));
            archive.text(&name, &stored.body).map_err(fail)?;
        }
    }
    if without_jobs {
        return Ok(archive);
    }
    archive.start("jobs.jsonl").map_err(fail)?;
    let state = (archive, Ok(()));
    let (archive, jobs): (Archive, io::Result<()>) = app
        .store
        .each_job(&scope, JobFilter::All, state, |(archive, result), job| {
            *result = writeln!(archive.zip, "{job}");
            if result.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
        .await
        .map_err(store_error)?;
    jobs.map_err(fail)?;
    Ok(archive)
}
