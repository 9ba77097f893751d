//! Jobs (being written).
use crate::app::App;
use crate::live::Connection;
use crate::table::Route;
use encke_api::types::{BackupJobDetail, JobEntry};
use encke_api::{ApiError, ApiResult};
use encke_store::StoreResult;
use encke_store::sql::Tx;

pub(crate) fn delete_of_user(_tx: &mut Tx, _username: &str) -> StoreResult<()> {
    Ok(())
}
pub(crate) async fn report(_app: &App, _organization: &str, _job: BackupJobDetail) -> ApiResult<()> {
    Err(ApiError::internal())
}
pub(crate) async fn append_log(
    _app: &App,
    _user: &str,
    _device: &str,
    _job: &str,
    _first: u64,
    _entries: Vec<JobEntry>,
) -> ApiResult<()> {
    Err(ApiError::internal())
}
pub(crate) async fn device_connected(_app: &App, _c: &Connection, _running: &[String]) -> ApiResult<()> {
    Ok(())
}
pub(crate) async fn device_gone(_app: &App, _c: &Connection) {}
pub fn routes() -> Vec<Route> {
    vec![]
}

pub(crate) fn start(_app: &std::sync::Arc<App>) {}
