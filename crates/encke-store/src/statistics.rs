//! Numbers over time: how many accounts, devices and buckets there were.

use crate::Store;
use crate::error::StoreResult;
use crate::scope::Scope;
use crate::sql::P;

/// Stands for the whole server in the table.
const ALL: &str = "*";

/// What there was at a time.
#[derive(Clone, Debug)]
pub struct Note {
    /// Unix seconds.
    pub time: i64,
    /// Accounts.
    pub users: i64,
    /// Registered devices.
    pub devices: i64,
    /// Storage Role buckets.
    pub buckets: i64,
}

impl Store {
    /// Notes what there is now, and forgets what was noted before a time (Unix seconds).
    ///
    /// # Errors
    /// The database fails.
    pub async fn note_statistics(&self, time: i64, forget_before: i64) -> StoreResult<()> {
        self.write(move |tx| {
            tx.execute("DELETE FROM statistics WHERE time < ?1", &[P::Int(forget_before)])?;
            tx.execute(
                "INSERT INTO statistics (time, organization, users, devices, buckets)
                 SELECT ?1, ?2, (SELECT COUNT(*) FROM users),
                 (SELECT CAST(COALESCE(SUM(devices), 0) AS BIGINT) FROM users), (SELECT COUNT(*) FROM buckets)",
                &[P::Int(time), P::Text(ALL)],
            )?;
            tx.execute(
                "INSERT INTO statistics (time, organization, users, devices, buckets)
                 SELECT ?1, o.organization, CAST(SUM(o.users) AS BIGINT), CAST(SUM(o.devices) AS BIGINT),
                 CAST(SUM(o.buckets) AS BIGINT) FROM (
                 SELECT organization, 1 AS users, devices, 0 AS buckets FROM users
                 UNION ALL SELECT organization, 0, 0, 1 FROM buckets) o
                 WHERE o.organization <> '' GROUP BY o.organization",
                &[P::Int(time)],
            )?;
            Ok(())
        })
        .await
    }

    /// Unix seconds of the last note.
    ///
    /// # Errors
    /// The database fails.
    pub async fn last_statistics(&self) -> StoreResult<Option<i64>> {
        self.read(|sql| {
            sql.first(
                "SELECT time FROM statistics WHERE organization = ?1 ORDER BY time DESC LIMIT 1",
                &[P::Text(ALL)],
                |row| row.int(0),
            )
        })
        .await
    }

    /// All notes about what is inside a scope, in order of time.
    ///
    /// # Errors
    /// The database fails.
    pub async fn statistics(&self, scope: &Scope) -> StoreResult<Vec<Note>> {
        let organization = match scope {
            Scope::All => ALL.to_string(),
            Scope::Organization(o) => o.clone(),
            Scope::User(_) => return Ok(Vec::new()),
        };
        self.read(move |sql| {
            sql.all(
                "SELECT time, users, devices, buckets FROM statistics WHERE organization = ?1 ORDER BY time",
                &[P::Text(&organization)],
                |row| {
                    Ok(Note {
                        time: row.int(0)?,
                        users: row.int(1)?,
                        devices: row.int(2)?,
                        buckets: row.int(3)?,
                    })
                },
            )
        })
        .await
    }
}
