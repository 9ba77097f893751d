//! Calls that go to a device beside backing up and restoring: look after vaults, search, list what could be backed up,
//! and end the device's program.

use super::dispatcher::{Asker, ask, read};
use crate::app::{App, store_error};
use crate::auth::{Admin, User};
use crate::table::{Call, Doc, Envelope, Route, done};
use encke_api::endpoint::Role;
use encke_api::form::Json;
use encke_api::live::{JobStarted, Request, Upkeep};
use encke_api::types::{
    BrowseDiskDrivesResponse, BrowseSQLServerResponse, DiskDrive, MongoDBConnection, MySQLConnection,
    SearchClause, SearchResultFileInfo, SearchSnapshotsResponse,
};
use encke_api::{ApiError, ApiResult, params};
use std::collections::BTreeMap;
use std::sync::Arc;

params! {
    /// A live connection.
    struct Target {
        /// Id of the live connection.
        TargetID: String
    }
}

params! {
    /// A vault, through a device.
    struct Vault {
        /// Id of the live connection.
        TargetID: String,
        /// Id of the Storage Vault.
        Destination: String
    }
}

params! {
    /// Parameters of `AdminDispatcherUnlock`.
    struct Unlock {
        /// Id of the live connection.
        TargetID: String,
        /// Id of the Storage Vault.
        Destination: String,
        /// Also remove locks that may be held.
        AllowUnsafe: Option<bool>
    }
}

params! {
    /// Parameters of the delete-snapshot calls.
    struct OneSnapshot {
        /// Id of the live connection.
        TargetID: String,
        /// Id of the Storage Vault.
        DestinationID: String,
        /// The snapshot.
        SnapshotID: String
    }
}

params! {
    /// Parameters of the delete-snapshots calls.
    struct Snapshots {
        /// Id of the live connection.
        TargetID: String,
        /// Id of the Storage Vault.
        DestinationID: String,
        /// The snapshots.
        SnapshotIDs: Json<Vec<String>>
    }
}

params! {
    /// Parameters of the search-snapshots calls.
    struct Search {
        /// Id of the live connection.
        TargetID: String,
        /// Id of the Storage Vault.
        DestinationID: String,
        /// Where to look.
        SnapshotIDs: Json<Vec<String>>,
        /// What to look for: fields `name` (or `File`), `path`, `type`, `mode`, `size`, `mtime`, `atime`, `ctime`.
        Filter: Json<SearchClause>
    }
}

params! {
    /// Parameters of the request-browse-mysql calls.
    struct BrowseMysql {
        /// Id of the live connection.
        TargetID: String,
        /// How the device reaches the server.
        Credentials: Json<MySQLConnection>
    }
}

params! {
    /// Parameters of the request-browse-mongodb calls.
    struct BrowseMongodb {
        /// Id of the live connection.
        TargetID: String,
        /// How the device reaches the server.
        Credentials: Json<MongoDBConnection>
    }
}

params! {
    /// Parameters of `AdminDispatcherUninstallSoftware`.
    struct Uninstall {
        /// Id of the live connection.
        TargetID: String,
        /// Remove the device's settings as well.
        RemoveConfigFile: bool
    }
}

/// Starts a job over a vault.
async fn start(
    app: &App,
    who: &impl Asker,
    target: &str,
    destination: String,
    task: Upkeep,
) -> ApiResult<Envelope> {
    let request = Request::Upkeep { destination, task };
    let _: JobStarted = read(ask(app, who, target, request).await?)?;
    Ok(done())
}

async fn retention(app: Arc<App>, who: Admin, call: Call<Vault>) -> ApiResult<Envelope> {
    let p = call.params;
    start(&app, &who, &p.TargetID, p.Destination, Upkeep::Retention).await
}

async fn deep_verify(app: Arc<App>, who: Admin, call: Call<Vault>) -> ApiResult<Envelope> {
    let p = call.params;
    start(&app, &who, &p.TargetID, p.Destination, Upkeep::DeepVerify).await
}

async fn reindex(app: Arc<App>, who: Admin, call: Call<Vault>) -> ApiResult<Envelope> {
    let p = call.params;
    start(&app, &who, &p.TargetID, p.Destination, Upkeep::Reindex).await
}

async fn unlock(app: Arc<App>, who: Admin, call: Call<Unlock>) -> ApiResult<Envelope> {
    let p = call.params;
    let all = p.AllowUnsafe == Some(true);
    start(&app, &who, &p.TargetID, p.Destination, Upkeep::Unlock { all }).await
}

async fn delete(
    app: &App,
    who: &impl Asker,
    target: &str,
    destination: String,
    snapshots: Vec<String>,
) -> ApiResult<Envelope> {
    if snapshots.is_empty() {
        return Err(ApiError::bad_request("No snapshot is named"));
    }
    start(
        app,
        who,
        target,
        destination,
        Upkeep::DeleteSnapshots { snapshots },
    )
    .await
}

/// What the policy says to a user; administrators may always.
async fn may_delete(app: &App, user: &User) -> ApiResult<()> {
    let stored = crate::users::profile_of(app, &user.scope(), &user.name).await?;
    if stored
        .parse()
        .map_err(store_error)?
        .policy
        .prevent_delete_single_snapshots
    {
        return Err(ApiError::forbidden("You may not delete snapshots"));
    }
    Ok(())
}

async fn delete_one(app: Arc<App>, who: Admin, call: Call<OneSnapshot>) -> ApiResult<Envelope> {
    let p = call.params;
    delete(&app, &who, &p.TargetID, p.DestinationID, vec![p.SnapshotID]).await
}

async fn delete_several(app: Arc<App>, who: Admin, call: Call<Snapshots>) -> ApiResult<Envelope> {
    let p = call.params;
    delete(&app, &who, &p.TargetID, p.DestinationID, p.SnapshotIDs.0).await
}

async fn user_delete_one(app: Arc<App>, user: User, call: Call<OneSnapshot>) -> ApiResult<Envelope> {
    may_delete(&app, &user).await?;
    let p = call.params;
    delete(&app, &user, &p.TargetID, p.DestinationID, vec![p.SnapshotID]).await
}

async fn user_delete_several(app: Arc<App>, user: User, call: Call<Snapshots>) -> ApiResult<Envelope> {
    may_delete(&app, &user).await?;
    let p = call.params;
    delete(&app, &user, &p.TargetID, p.DestinationID, p.SnapshotIDs.0).await
}

async fn search<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<Search>,
) -> ApiResult<Doc<SearchSnapshotsResponse>> {
    let p = call.params;
    let request = Request::SearchSnapshots {
        destination: p.DestinationID,
        snapshots: p.SnapshotIDs.0,
        filter: Box::new(p.Filter.0),
    };
    let snapshot_files: BTreeMap<String, Vec<SearchResultFileInfo>> =
        read(ask(&app, &who, &p.TargetID, request).await?)?;
    Ok(Doc(SearchSnapshotsResponse {
        status: 200,
        message: "OK".into(),
        snapshot_files,
        ..Default::default()
    }))
}

async fn disks<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<Target>,
) -> ApiResult<Doc<BrowseDiskDrivesResponse>> {
    let disks: Vec<DiskDrive> = read(ask(&app, &who, &call.params.TargetID, Request::BrowseDisks).await?)?;
    Ok(Doc(BrowseDiskDrivesResponse {
        status: 200,
        message: "OK".into(),
        disks,
        ..Default::default()
    }))
}

async fn databases(
    app: &App,
    who: &impl Asker,
    target: &str,
    request: Request,
) -> ApiResult<Doc<BrowseSQLServerResponse>> {
    let names: Vec<String> = read(ask(app, who, target, request).await?)?;
    Ok(Doc(BrowseSQLServerResponse {
        status: 200,
        message: "OK".into(),
        objects: names.into_iter().map(|n| (n.clone(), n)).collect(),
        ..Default::default()
    }))
}

async fn mysql<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<BrowseMysql>,
) -> ApiResult<Doc<BrowseSQLServerResponse>> {
    let p = call.params;
    let connection = Box::new(p.Credentials.0);
    databases(&app, &who, &p.TargetID, Request::BrowseMysql { connection }).await
}

async fn mongodb<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<BrowseMongodb>,
) -> ApiResult<Doc<BrowseSQLServerResponse>> {
    let p = call.params;
    let connection = Box::new(p.Credentials.0);
    databases(&app, &who, &p.TargetID, Request::BrowseMongodb { connection }).await
}

/// Asks for something after which the device does not come back.
async fn farewell(app: &App, who: &Admin, target: &str, request: Request) -> ApiResult<Envelope> {
    ask(app, who, target, request).await?;
    app.live.remove(target);
    Ok(done())
}

async fn kill(app: Arc<App>, who: Admin, call: Call<Target>) -> ApiResult<Envelope> {
    farewell(&app, &who, &call.params.TargetID, Request::Stop).await
}

async fn force_login(app: Arc<App>, who: Admin, call: Call<Target>) -> ApiResult<Envelope> {
    farewell(&app, &who, &call.params.TargetID, Request::ForgetLogin).await
}

async fn uninstall(app: Arc<App>, who: Admin, call: Call<Uninstall>) -> ApiResult<Envelope> {
    let p = call.params;
    let remove_settings = p.RemoveConfigFile;
    farewell(&app, &who, &p.TargetID, Request::Uninstall { remove_settings }).await
}

/// The endpoints.
#[must_use]
pub(super) fn routes() -> Vec<Route> {
    let delete_text = "Starts a job that deletes a snapshot, through a device.";
    let several_text = "Starts a job that deletes snapshots, through a device.";
    let search_text =
        "Finds files in snapshots of a Storage Vault, through a device whose owner lets file names be shown.";
    let disks_text = "Lists a device's disks.";
    let mysql_text = "Lists the databases of a MySQL or MariaDB server that a device reaches.";
    let mongodb_text = "Lists the databases of a MongoDB server that a device reaches with its tools.";
    let admin = |name: &'static str| format!("/api/v1/admin/dispatcher/{name}").leak() as &'static str;
    let user = |name: &'static str| format!("/api/v1/user/web/dispatcher/{name}").leak() as &'static str;
    let all = vec![
        Route::new(
            "AdminDispatcherApplyRetentionRules",
            admin("apply-retention-rules"),
            "Starts a job that applies the retention rules of a Storage Vault, on a device.",
            retention,
        ),
        Route::new(
            "AdminDispatcherDeepverifyStorageVault",
            admin("deepverify-storage-vault"),
            "Starts a job that verifies every byte of a Storage Vault, on a device.",
            deep_verify,
        ),
        Route::new(
            "AdminDispatcherReindexStorageVault",
            admin("reindex-storage-vault"),
            "Starts a job that brings the index of a Storage Vault in line with what is stored, on a device.",
            reindex,
        ),
        Route::new(
            "AdminDispatcherUnlock",
            admin("unlock"),
            "Starts a job that removes stale locks of other programs from a Storage Vault. Devices hold none themselves.",
            unlock,
        ),
        Route::new(
            "AdminDispatcherDeleteSnapshot",
            admin("delete-snapshot"),
            delete_text,
            delete_one,
        ),
        Route::new(
            "UserWebDispatcherDeleteSnapshot",
            user("delete-snapshot"),
            delete_text,
            user_delete_one,
        ),
        Route::new(
            "AdminDispatcherDeleteSnapshots",
            admin("delete-snapshots"),
            several_text,
            delete_several,
        ),
        Route::new(
            "UserWebDispatcherDeleteSnapshots",
            user("delete-snapshots"),
            several_text,
            user_delete_several,
        ),
        Route::new(
            "AdminDispatcherSearchSnapshots",
            admin("search-snapshots"),
            search_text,
            search::<Admin>,
        ),
        Route::new(
            "UserWebDispatcherSearchSnapshots",
            user("search-snapshots"),
            search_text,
            search::<User>,
        ),
        Route::new(
            "AdminDispatcherRequestBrowseDiskDrives",
            admin("request-browse-disk-drives"),
            disks_text,
            disks::<Admin>,
        ),
        Route::new(
            "UserWebDispatcherRequestBrowseDiskDrives",
            user("request-browse-disk-drives"),
            disks_text,
            disks::<User>,
        ),
        Route::new(
            "AdminDispatcherRequestBrowseMysql",
            admin("request-browse-mysql"),
            mysql_text,
            mysql::<Admin>,
        ),
        Route::new(
            "UserWebDispatcherRequestBrowseMysql",
            user("request-browse-mysql"),
            mysql_text,
            mysql::<User>,
        ),
        Route::new(
            "AdminDispatcherRequestBrowseMongodb",
            admin("request-browse-mongodb"),
            mongodb_text,
            mongodb::<Admin>,
        ),
        Route::new(
            "UserWebDispatcherRequestBrowseMongodb",
            user("request-browse-mongodb"),
            mongodb_text,
            mongodb::<User>,
        ),
        Route::new(
            "AdminDispatcherKillProcess",
            admin("kill-process"),
            "Ends a device's program, with its jobs cancelled; it does not start again by itself.",
            kill,
        ),
        Route::new(
            "AdminDispatcherForceLogin",
            admin("force-login"),
            "Makes a device forget its account and end; somebody has to register it again there.",
            force_login,
        ),
        Route::new(
            "AdminDispatcherUninstallSoftware",
            admin("uninstall-software"),
            "Takes a device's program out of its system's services and ends it.",
            uninstall,
        ),
    ];
    all.into_iter().map(|r| r.roles(&[Role::Auth])).collect()
}
