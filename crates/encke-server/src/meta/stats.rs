//! How many accounts, devices and buckets there were over time: noted once an hour, an organization a row.

use crate::app::{App, now, store_error};
use crate::auth::Admin;
use crate::table::{Call, MapOf, Route};
use encke_api::types::StatResult;
use encke_api::{ApiResult, params};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Seconds between two notes.
const INTERVAL: i64 = 3600;
/// Notes are kept for this many days.
const KEEP_DAYS: i64 = 3 * 366;

params! {
    /// Parameters of `AdminMetaStats`.
    struct Stats {
        /// The last note of each day only, instead of each hour.
        Simple: bool
    }
}

async fn stats(app: Arc<App>, admin: Admin, call: Call<Stats>) -> ApiResult<MapOf<StatResult>> {
    let notes = app.store.statistics(&admin.scope()).await.map_err(store_error)?;
    let mut out: BTreeMap<i64, StatResult> = BTreeMap::new();
    for note in notes {
        let time = if call.params.Simple {
            note.time - note.time.rem_euclid(86_400)
        } else {
            note.time
        };
        let result = StatResult {
            buckets: note.buckets,
            users: note.users,
            devices: note.devices,
            ..Default::default()
        };
        // In order of time, so the day's last one stays.
        out.insert(time, result);
    }
    Ok(MapOf(out.into_iter().map(|(t, r)| (t.to_string(), r)).collect()))
}

/// Takes notes until the server stops. The first is due at the first start.
pub(crate) async fn keep(app: Arc<App>) {
    loop {
        let last = app.store.last_statistics().await.unwrap_or(Some(now()));
        let wait = last.map_or(0, |t| (t + INTERVAL - now()).max(0));
        let wait = Duration::from_secs(u64::try_from(wait).unwrap_or_default());
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let time = now();
        if let Err(e) = app.store.note_statistics(time, time - KEEP_DAYS * 86_400).await {
            tracing::warn!(error = %e, "the statistics could not be noted");
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "AdminMetaStats",
            "/api/v1/admin/meta/stats",
            "Answers how many accounts, devices and buckets the caller's organization had, by the Unix second of the note.",
            stats,
        )
        .denied_if(|p| p.deny_view_server_history),
    ]
}
