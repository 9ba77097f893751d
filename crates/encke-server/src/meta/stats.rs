//! How many accounts, devices and buckets there were over time: noted once an hour, an organization a row.

use crate::app::{App, now, store_error};
use crate::auth::Admin;
use crate::table::{Call, NumberedMap, Route};
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
        /// Leaves out the notes whose numbers are those of the notes before and after, instead of each hour's.
        Simple: bool
    }
}

async fn stats(app: Arc<App>, admin: Admin, call: Call<Stats>) -> ApiResult<NumberedMap<StatResult>> {
    let notes = app.store.statistics(&admin.scope()).await.map_err(store_error)?;
    let mut out: BTreeMap<i64, StatResult> = BTreeMap::new();
    for note in notes {
        let result = StatResult {
            buckets: note.buckets,
            users: note.users,
            devices: note.devices,
            ..Default::default()
        };
        out.insert(note.time, result);
    }
    if call.params.Simple {
        leave_out_runs(&mut out);
    }
    Ok(NumberedMap(out))
}

/// Leaves out what a chart's line would not miss: notes equal to both neighbours.
fn leave_out_runs(notes: &mut BTreeMap<i64, StatResult>) {
    let all: Vec<(i64, StatResult)> = notes.iter().map(|(t, r)| (*t, r.clone())).collect();
    for around in all.windows(3) {
        if around[0].1 == around[1].1 && around[1].1 == around[2].1 {
            notes.remove(&around[1].0);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_keeps_its_first_and_last_note() {
        let note = |users| StatResult {
            users,
            ..Default::default()
        };
        let mut notes = BTreeMap::from([
            (1, note(1)),
            (2, note(1)),
            (3, note(1)),
            (4, note(1)),
            (5, note(2)),
            (6, note(1)),
        ]);
        leave_out_runs(&mut notes);
        assert_eq!(notes.keys().copied().collect::<Vec<_>>(), [1, 4, 5, 6]);
    }
}
