//! The calls that go to a device: run, browse, restore. Each administrator's call has a user's twin that acts on the
//! user's own devices (reference, section 11).

use super::{Connection, REQUEST_TIMEOUT};
use crate::app::{App, store_error};
use crate::auth::{Admin, User};
use crate::table::{Call, Doc, Envelope, MapOf, Route, done};
use encke_api::endpoint::Role;
use encke_api::form::{Json, NoParams};
use encke_api::live::{JobStarted, Request};
use encke_api::types::{
    BackupJobAdvancedOptions, DestinationLocation, DispatchWithJobIDResponse,
    DispatcherStoredObjectsResponse, DispatcherVaultSnapshotsResponse, LiveUserConnection,
    RestoreJobAdvancedOptions, StoredObject, VMDKSnapshotViewOptions, VaultSnapshot,
};
use encke_api::wire::Wire as _;
use encke_api::{ApiError, ApiResult, params};
use encke_store::Scope;
use encke_store::audit::{Deed, action};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;

params! {
    /// Parameters of `AdminDispatcherListActive`.
    struct ListActive {
        /// Only this account's devices.
        UserNameFilter: Option<String>
    }
}

params! {
    /// A live connection.
    struct Target {
        /// Id of the live connection.
        TargetID: String
    }
}

params! {
    /// Parameters of the update-login-password calls.
    struct NewPassword {
        /// Id of the live connection.
        TargetID: String,
        /// The account's password in clear.
        NewPassword: String
    }
}

params! {
    /// Parameters of `AdminDispatcherUpdateLoginUrl`.
    struct NewUrl {
        /// Id of the live connection.
        TargetID: String,
        /// Address of the server.
        NewURL: String,
        /// Take it over without a try.
        Force: Option<bool>
    }
}

params! {
    /// Parameters of the run-backup calls.
    struct RunBackup {
        /// Id of the live connection.
        TargetID: String,
        /// Id of the backup rule.
        BackupRule: String
    }
}

params! {
    /// Parameters of the run-backup-custom calls.
    struct RunBackupCustom {
        /// Id of the live connection.
        TargetID: String,
        /// Id of the Protected Item.
        Source: String,
        /// Id of the Storage Vault.
        Destination: String,
        /// How to run.
        Options: Option<Json<BackupJobAdvancedOptions>>
    }
}

params! {
    /// Parameters of the run-restore calls.
    struct RunRestore {
        /// Id of the live connection.
        TargetID: String,
        /// Folder on the device to restore into.
        Path: String,
        /// Id of the Protected Item.
        Source: String,
        /// Id of the Storage Vault.
        Destination: String,
        /// Snapshot; the newest of item and vault if left out.
        Snapshot: Option<String>,
        /// Full paths inside the snapshot; everything if left out.
        Paths: Option<Json<Vec<String>>>
    }
}

params! {
    /// Parameters of the run-restore-custom calls.
    struct RunRestoreCustom {
        /// Id of the live connection.
        TargetID: String,
        /// Id of the Protected Item.
        Source: String,
        /// Id of the Storage Vault.
        Destination: String,
        /// How and where to restore.
        Options: Json<RestoreJobAdvancedOptions>,
        /// Snapshot; the newest of item and vault if left out.
        Snapshot: Option<String>,
        /// Full paths inside the snapshot; everything if left out.
        Paths: Option<Json<Vec<String>>>,
        /// Files to expect, if known.
        KnownFileCount: Option<i64>,
        /// Bytes to expect, if known.
        KnownByteCount: Option<i64>,
        /// Directories to expect, if known.
        KnownDirCount: Option<i64>
    }
}

params! {
    /// Parameters of the request-vault-snapshots calls.
    struct VaultSnapshots {
        /// Id of the live connection.
        TargetID: String,
        /// Id of the Storage Vault.
        Destination: String
    }
}

params! {
    /// Parameters of the request-stored-objects calls.
    struct StoredObjects {
        /// Id of the live connection.
        TargetID: String,
        /// Id of the Storage Vault.
        Destination: String,
        /// The snapshot.
        SnapshotID: String,
        /// `subtree` of the folder; the snapshot's root if left out.
        TreeID: Option<String>,
        /// For looking into disk images.
        Options: Option<Json<VMDKSnapshotViewOptions>>
    }
}

params! {
    /// Parameters of the request-filesystem-objects calls.
    struct FilesystemObjects {
        /// Id of the live connection.
        TargetID: String,
        /// Absolute path of a folder; the root if left out.
        Path: Option<String>
    }
}

params! {
    /// Parameters of the ping-destination calls.
    struct PingDestination {
        /// Id of the live connection.
        TargetID: String,
        /// What to reach.
        ExtraData: Json<DestinationLocation>
    }
}

/// Who asks, as far as a call to a device cares.
pub(super) trait Asker: Send {
    fn scope(&self) -> Scope;
}
impl Asker for Admin {
    fn scope(&self) -> Scope {
        Admin::scope(self)
    }
}
impl Asker for User {
    fn scope(&self) -> Scope {
        User::scope(self)
    }
}

pub(super) async fn ask(app: &App, who: &impl Asker, target: &str, request: Request) -> ApiResult<Value> {
    app.live
        .find(&who.scope(), target)?
        .request(request, REQUEST_TIMEOUT)
        .await
}

pub(super) fn read<T: DeserializeOwned>(body: Value) -> ApiResult<T> {
    serde_json::from_value(body).map_err(|e| {
        tracing::warn!(error = %e, "a device's answer can not be read");
        ApiError::new(502, "The device's answer can not be read")
    })
}

/// Notes that somebody came to what is in a vault: who, by which device, and what exactly.
pub(super) async fn note_access(
    app: &App,
    connection: &Connection,
    action: &str,
    mut details: Value,
) -> ApiResult<()> {
    details["Device"] = json!(connection.info.device_id);
    let deed = Deed {
        organization: &connection.organization,
        kind: "account",
        action,
        resource: &connection.info.username,
    };
    app.store.note_deed(deed, details).await.map_err(store_error)
}

async fn start_job(
    app: &App,
    who: &impl Asker,
    target: &str,
    request: Request,
) -> ApiResult<Doc<DispatchWithJobIDResponse>> {
    let restores = match &request {
        Request::RunRestore {
            source,
            destination,
            snapshot,
            paths,
            options,
            ..
        } => Some(json!({
            "Source": source, "Destination": destination, "Snapshot": snapshot, "Paths": paths,
            "Path": options.dest_path,
        })),
        _ => None,
    };
    let connection = app.live.find(&who.scope(), target)?;
    let started: JobStarted = read(connection.request(request, REQUEST_TIMEOUT).await?)?;
    if let Some(mut details) = restores {
        details["Job"] = json!(started.job_id);
        note_access(app, &connection, action::RESTORE, details).await?;
    }
    Ok(Doc(DispatchWithJobIDResponse {
        status: 200,
        message: "OK".into(),
        job_id: started.job_id,
        ..Default::default()
    }))
}

fn live_map(app: &App, scope: &Scope, username: Option<&str>) -> MapOf<LiveUserConnection> {
    MapOf(
        app.live
            .list(scope, username)
            .into_iter()
            .map(|c| (c.id.clone(), c.info.clone()))
            .collect(),
    )
}

async fn list_active(
    app: Arc<App>,
    admin: Admin,
    call: Call<ListActive>,
) -> ApiResult<MapOf<LiveUserConnection>> {
    Ok(live_map(
        &app,
        &admin.scope(),
        call.params.UserNameFilter.as_deref().filter(|n| !n.is_empty()),
    ))
}

async fn user_list_active(
    app: Arc<App>,
    user: User,
    _: Call<NoParams>,
) -> ApiResult<MapOf<LiveUserConnection>> {
    Ok(live_map(&app, &user.scope(), None))
}

async fn run_backup<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<RunBackup>,
) -> ApiResult<Doc<DispatchWithJobIDResponse>> {
    let p = call.params;
    start_job(&app, &who, &p.TargetID, Request::RunBackup { rule: p.BackupRule }).await
}

async fn run_backup_custom<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<RunBackupCustom>,
) -> ApiResult<Doc<DispatchWithJobIDResponse>> {
    let p = call.params;
    let options = Box::new(p.Options.unwrap_or_default().0);
    let request = Request::RunBackupCustom {
        source: p.Source,
        destination: p.Destination,
        options,
    };
    start_job(&app, &who, &p.TargetID, request).await
}

async fn run_restore<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<RunRestore>,
) -> ApiResult<Doc<DispatchWithJobIDResponse>> {
    let p = call.params;
    let options = RestoreJobAdvancedOptions {
        dest_path: p.Path,
        overwrite_existing_files: true,
        ..Default::default()
    };
    let request = Request::RunRestore {
        source: p.Source,
        destination: p.Destination,
        snapshot: p.Snapshot.unwrap_or_default(),
        paths: p.Paths.unwrap_or_default().0,
        options: Box::new(options),
        known_files: 0,
        known_bytes: 0,
        known_dirs: 0,
    };
    start_job(&app, &who, &p.TargetID, request).await
}

async fn run_restore_custom<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<RunRestoreCustom>,
) -> ApiResult<Doc<DispatchWithJobIDResponse>> {
    let p = call.params;
    let options = p.Options.0;
    let overwrites = options.overwrite_if_newer
        || options.overwrite_if_different_content
        || options.overwrite_force_permissions;
    if overwrites && !options.overwrite_existing_files {
        return Err(ApiError::bad_request(
            "OverwriteIfNewer, OverwriteIfDifferentContent and OverwriteForcePermissions need OverwriteExistingFiles",
        ));
    }
    let request = Request::RunRestore {
        source: p.Source,
        destination: p.Destination,
        snapshot: p.Snapshot.unwrap_or_default(),
        paths: p.Paths.unwrap_or_default().0,
        options: Box::new(options),
        known_files: p.KnownFileCount.unwrap_or_default(),
        known_bytes: p.KnownByteCount.unwrap_or_default(),
        known_dirs: p.KnownDirCount.unwrap_or_default(),
    };
    start_job(&app, &who, &p.TargetID, request).await
}

/// The user's twins of the run calls answer a plain envelope (reference, section 11).
fn without_job(answer: ApiResult<Doc<DispatchWithJobIDResponse>>) -> ApiResult<Envelope> {
    answer.map(|_| done())
}

async fn user_run_backup(app: Arc<App>, user: User, call: Call<RunBackup>) -> ApiResult<Envelope> {
    without_job(run_backup(app, user, call).await)
}
async fn user_run_backup_custom(
    app: Arc<App>,
    user: User,
    call: Call<RunBackupCustom>,
) -> ApiResult<Envelope> {
    without_job(run_backup_custom(app, user, call).await)
}
async fn user_run_restore(app: Arc<App>, user: User, call: Call<RunRestore>) -> ApiResult<Envelope> {
    without_job(run_restore(app, user, call).await)
}
async fn user_run_restore_custom(
    app: Arc<App>,
    user: User,
    call: Call<RunRestoreCustom>,
) -> ApiResult<Envelope> {
    without_job(run_restore_custom(app, user, call).await)
}

async fn vault_snapshots<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<VaultSnapshots>,
) -> ApiResult<Doc<DispatcherVaultSnapshotsResponse>> {
    let p = call.params;
    let body = ask(
        &app,
        &who,
        &p.TargetID,
        Request::ListSnapshots {
            destination: p.Destination,
        },
    )
    .await?;
    let snapshots: Vec<VaultSnapshot> = read(body)?;
    Ok(Doc(DispatcherVaultSnapshotsResponse {
        status: 200,
        message: "OK".into(),
        snapshots,
        ..Default::default()
    }))
}

fn objects(body: Value) -> ApiResult<Doc<DispatcherStoredObjectsResponse>> {
    let stored_objects: Vec<StoredObject> = read(body)?;
    Ok(Doc(DispatcherStoredObjectsResponse {
        status: 200,
        message: "OK".into(),
        stored_objects,
        ..Default::default()
    }))
}

async fn stored_objects<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<StoredObjects>,
) -> ApiResult<Doc<DispatcherStoredObjectsResponse>> {
    let p = call.params;
    if p.Options.is_some_and(|o| !o.0.is_zero()) {
        return Err(ApiError::unsupported(
            "looking into disk images is not available yet",
        ));
    }
    let request = Request::StoredObjects {
        destination: p.Destination,
        snapshot: p.SnapshotID,
        tree: p.TreeID.unwrap_or_default(),
    };
    objects(ask(&app, &who, &p.TargetID, request).await?)
}

async fn filesystem_objects<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<FilesystemObjects>,
) -> ApiResult<Doc<DispatcherStoredObjectsResponse>> {
    let p = call.params;
    let request = Request::BrowseFilesystem {
        path: p.Path.unwrap_or_default(),
    };
    objects(ask(&app, &who, &p.TargetID, request).await?)
}

async fn refetch_profile<C: Asker>(app: Arc<App>, who: C, call: Call<Target>) -> ApiResult<Envelope> {
    ask(&app, &who, &call.params.TargetID, Request::RefetchProfile).await?;
    Ok(done())
}

async fn update_login_password<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<NewPassword>,
) -> ApiResult<Envelope> {
    let p = call.params;
    let request = Request::UpdateLoginPassword {
        password: p.NewPassword,
    };
    ask(&app, &who, &p.TargetID, request).await?;
    // It connects anew with them: nobody should still be handed the connection that ends.
    app.live.remove(&p.TargetID);
    Ok(done())
}

async fn update_login_url(app: Arc<App>, who: Admin, call: Call<NewUrl>) -> ApiResult<Envelope> {
    let p = call.params;
    if !p.NewURL.starts_with("http://") && !p.NewURL.starts_with("https://") {
        return Err(ApiError::bad_request("NewURL must be an http or https address"));
    }
    let request = Request::UpdateLoginUrl {
        url: p.NewURL,
        force: p.Force == Some(true),
    };
    ask(&app, &who, &p.TargetID, request).await?;
    // It connects anew with them: nobody should still be handed the connection that ends.
    app.live.remove(&p.TargetID);
    Ok(done())
}

async fn drop_connection<C: Asker>(app: Arc<App>, who: C, call: Call<Target>) -> ApiResult<Envelope> {
    app.live
        .find(&who.scope(), &call.params.TargetID)?
        .closing
        .cancel();
    Ok(done())
}

async fn ping_destination<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<PingDestination>,
) -> ApiResult<Envelope> {
    let p = call.params;
    ask(
        &app,
        &who,
        &p.TargetID,
        Request::PingDestination {
            location: Box::new(p.ExtraData.0),
        },
    )
    .await?;
    Ok(done())
}

/// Endpoints that go to a device.
#[must_use]
pub(super) fn routes() -> Vec<Route> {
    let list = "Lists the devices on line by connection id.";
    let backup = "Runs a backup rule on a device.";
    let custom = "Backs up one Protected Item to one Storage Vault on a device.";
    let restore = "Restores from a Storage Vault into a folder of a device.";
    let restore_custom = "Restores from a Storage Vault with all options.";
    let snapshots = "Lists the snapshots of a Storage Vault, through a device.";
    let stored = "Lists a folder of a snapshot, through a device.";
    let files = "Lists a folder of a device.";
    let refetch = "Makes a device fetch its account's profile anew.";
    let drop = "Cuts a live connection; the device connects again.";
    let new_password = "Gives a device its account's new password. The device tries it first and keeps the old one if it fails.";
    let ping = "Makes a device try to reach a destination.";
    let all = vec![
        Route::new(
            "AdminDispatcherListActive",
            "/api/v1/admin/dispatcher/list-active",
            list,
            list_active,
        ),
        Route::new(
            "AdminDispatcherRunBackup",
            "/api/v1/admin/dispatcher/run-backup",
            backup,
            run_backup::<Admin>,
        ),
        Route::new(
            "AdminDispatcherRunBackupCustom",
            "/api/v1/admin/dispatcher/run-backup-custom",
            custom,
            run_backup_custom::<Admin>,
        ),
        Route::new(
            "AdminDispatcherRunRestore",
            "/api/v1/admin/dispatcher/run-restore",
            restore,
            run_restore::<Admin>,
        ),
        Route::new(
            "AdminDispatcherRunRestoreCustom",
            "/api/v1/admin/dispatcher/run-restore-custom",
            restore_custom,
            run_restore_custom::<Admin>,
        ),
        Route::new(
            "AdminDispatcherRequestVaultSnapshots",
            "/api/v1/admin/dispatcher/request-vault-snapshots",
            snapshots,
            vault_snapshots::<Admin>,
        ),
        Route::new(
            "AdminDispatcherRequestStoredObjects",
            "/api/v1/admin/dispatcher/request-stored-objects",
            stored,
            stored_objects::<Admin>,
        ),
        Route::new(
            "AdminDispatcherRequestFilesystemObjects",
            "/api/v1/admin/dispatcher/request-filesystem-objects",
            files,
            filesystem_objects::<Admin>,
        ),
        Route::new(
            "AdminDispatcherRefetchProfile",
            "/api/v1/admin/dispatcher/refetch-profile",
            refetch,
            refetch_profile::<Admin>,
        ),
        Route::new(
            "AdminDispatcherDropConnection",
            "/api/v1/admin/dispatcher/drop-connection",
            drop,
            drop_connection::<Admin>,
        ),
        Route::new(
            "AdminDispatcherUpdateLoginPassword",
            "/api/v1/admin/dispatcher/update-login-password",
            new_password,
            update_login_password::<Admin>,
        ),
        Route::new(
            "UserWebDispatcherUpdateLoginPassword",
            "/api/v1/user/web/dispatcher/update-login-password",
            new_password,
            update_login_password::<User>,
        ),
        Route::new(
            "AdminDispatcherUpdateLoginUrl",
            "/api/v1/admin/dispatcher/update-login-url",
            "Moves a device to another address of its server. The device tries it first, unless forced.",
            update_login_url,
        ),
        Route::new(
            "AdminDispatcherPingDestination",
            "/api/v1/admin/dispatcher/ping-destination",
            ping,
            ping_destination::<Admin>,
        ),
        Route::new(
            "UserWebDispatcherListActive",
            "/api/v1/user/web/dispatcher/list-active",
            list,
            user_list_active,
        ),
        Route::new(
            "UserWebDispatcherRunBackup",
            "/api/v1/user/web/dispatcher/run-backup",
            backup,
            user_run_backup,
        ),
        Route::new(
            "UserWebDispatcherRunBackupCustom",
            "/api/v1/user/web/dispatcher/run-backup-custom",
            custom,
            user_run_backup_custom,
        ),
        Route::new(
            "UserWebDispatcherRunRestore",
            "/api/v1/user/web/dispatcher/run-restore",
            restore,
            user_run_restore,
        ),
        Route::new(
            "UserWebDispatcherRunRestoreCustom",
            "/api/v1/user/web/dispatcher/run-restore-custom",
            restore_custom,
            user_run_restore_custom,
        ),
        Route::new(
            "UserWebDispatcherRequestVaultSnapshots",
            "/api/v1/user/web/dispatcher/request-vault-snapshots",
            snapshots,
            vault_snapshots::<User>,
        ),
        Route::new(
            "UserWebDispatcherRequestStoredObjects",
            "/api/v1/user/web/dispatcher/request-stored-objects",
            stored,
            stored_objects::<User>,
        ),
        Route::new(
            "UserWebRequestFilesystemObjects",
            "/api/v1/user/web/request-filesystem-objects",
            files,
            filesystem_objects::<User>,
        ),
        Route::new(
            "UserWebDispatcherDropConnection",
            "/api/v1/user/web/dispatcher/drop-connection",
            drop,
            drop_connection::<User>,
        ),
        Route::new(
            "UserWebDispatcherPingDestination",
            "/api/v1/user/web/dispatcher/ping-destination",
            ping,
            ping_destination::<User>,
        ),
    ];
    all.into_iter().map(|r| r.roles(&[Role::Auth])).collect()
}
