//! Everything that an organization has on this server in one ZIP file: JSON documents, one a file, and its jobs as
//! JSON lines. Readable without this program.

use crate::app::{App, now, store_error};
use crate::archive::{Archive, failed, folder_of};
use encke_api::types::{
    GroupPolicy, NewsEntry, Organization, SelfBackupExportOptions, SharedStorageQuota, UserGroup,
};
use encke_api::{ApiError, ApiResult};
use encke_store::collections::Collected;
use encke_store::{JobFilter, Scope, UsersOf};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

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

/// Writes the export under a name with the time in it. Answers its bytes.
///
/// # Errors
/// 400 for options that can not be met, 507 when the folder can not be written.
pub(crate) async fn export(
    app: &App,
    options: &SelfBackupExportOptions,
    organization: &Organization,
) -> ApiResult<u64> {
    let id = options.restrict_to_single_org_id.clone();
    let folder = folder_of(options)?;
    let name = format!("organization-{}-{}.zip", file_name(&id), now());
    let (at, key) = (folder.clone(), options.encryption_key.clone());
    let created = tokio::task::spawn_blocking(move || Archive::create(&at, &name, &key));
    let archive = created
        .await
        .map_err(|_| ApiError::internal())?
        .map_err(|e| failed(&folder, &e))?;
    let archive = fill(app, archive, &id, organization, options.exclude_jobs_db, &folder).await?;
    tokio::task::spawn_blocking(move || archive.finish())
        .await
        .map_err(|_| ApiError::internal())?
        .map_err(|e| failed(&folder, &e))
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
            *result = archive.line(job);
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
