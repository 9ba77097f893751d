//! Of several servers on one database, one does what must be done once.

use crate::error::StoreResult;
use crate::sql::{Dialect, P};
use crate::{Database, Store};

impl Store {
    /// Takes or keeps a lease for so many seconds by the database's clock. Whether it is the caller's now. A SQLite
    /// database has one server, which always has it.
    ///
    /// # Errors
    /// The database fails.
    pub async fn lease(&self, name: &'static str, owner: &str, seconds: i64) -> StoreResult<bool> {
        if matches!(self.database, Database::Sqlite(_)) {
            return Ok(true);
        }
        let owner = owner.to_string();
        self.write(move |tx| {
            debug_assert_eq!(tx.sql().dialect(), Dialect::Postgres);
            let touched = tx.execute(
                "INSERT INTO leases (name, owner, until)
                 VALUES (?1, ?2, CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT) + ?3)
                 ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until
                 WHERE leases.owner = excluded.owner
                 OR leases.until < CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)",
                &[P::Text(name), P::Text(&owner), P::Int(seconds)],
            )?;
            Ok(touched > 0)
        })
        .await
    }

    /// Gives a lease back.
    ///
    /// # Errors
    /// The database fails.
    pub async fn give_back(&self, name: &'static str, owner: &str) -> StoreResult<()> {
        if matches!(self.database, Database::Sqlite(_)) {
            return Ok(());
        }
        let owner = owner.to_string();
        self.write(move |tx| {
            tx.execute(
                "DELETE FROM leases WHERE name = ?1 AND owner = ?2",
                &[P::Text(name), P::Text(&owner)],
            )?;
            Ok(())
        })
        .await
    }
}
