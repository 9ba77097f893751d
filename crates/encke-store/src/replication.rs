//! What was last given to the servers that this one is copied to.

use crate::Store;
use crate::error::StoreResult;
use crate::sql::P;
use std::collections::BTreeMap;

/// What was given for one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicated {
    /// The document's hash here, as it was given.
    pub source_hash: String,
    /// The hash that the other server gave its own.
    pub replica_hash: String,
}

impl Store {
    /// What a server was given of a kind, by id.
    ///
    /// # Errors
    /// The database fails.
    pub async fn replicated(
        &self,
        target: &str,
        kind: &'static str,
    ) -> StoreResult<BTreeMap<String, Replicated>> {
        let target = target.to_string();
        let rows = self.read(move |sql| {
            sql.all(
                "SELECT id, source_hash, replica_hash FROM replicated WHERE target = ?1 AND kind = ?2",
                &[P::Text(&target), P::Text(kind)],
                |row| {
                    let given = Replicated {
                        source_hash: row.text(1)?.to_string(),
                        replica_hash: row.text(2)?.to_string(),
                    };
                    Ok((row.text(0)?.to_string(), given))
                },
            )
        });
        Ok(rows.await?.into_iter().collect())
    }

    /// What a server was given for one document; nothing if it was given none.
    ///
    /// # Errors
    /// The database fails.
    pub async fn replicated_one(
        &self,
        target: &str,
        kind: &'static str,
        id: &str,
    ) -> StoreResult<Option<Replicated>> {
        let (target, id) = (target.to_string(), id.to_string());
        self.read_few(move |sql| {
            sql.first(
                "SELECT source_hash, replica_hash FROM replicated WHERE target = ?1 AND kind = ?2 AND id = ?3",
                &[P::Text(&target), P::Text(kind), P::Text(&id)],
                |row| {
                    Ok(Replicated {
                        source_hash: row.text(0)?.to_string(),
                        replica_hash: row.text(1)?.to_string(),
                    })
                },
            )
        })
        .await
    }

    /// Notes what a server was given.
    ///
    /// # Errors
    /// The database fails.
    pub async fn note_replicated(
        &self,
        target: &str,
        kind: &'static str,
        id: &str,
        given: Replicated,
    ) -> StoreResult<()> {
        let (target, id) = (target.to_string(), id.to_string());
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO replicated (target, kind, id, source_hash, replica_hash) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (target, kind, id) DO UPDATE
                 SET source_hash = excluded.source_hash, replica_hash = excluded.replica_hash",
                &[
                    P::Text(&target),
                    P::Text(kind),
                    P::Text(&id),
                    P::Text(&given.source_hash),
                    P::Text(&given.replica_hash),
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets what a server was given for a document.
    ///
    /// # Errors
    /// The database fails.
    pub async fn forget_replicated(&self, target: &str, kind: &'static str, id: &str) -> StoreResult<()> {
        let (target, id) = (target.to_string(), id.to_string());
        self.write(move |tx| {
            tx.execute(
                "DELETE FROM replicated WHERE target = ?1 AND kind = ?2 AND id = ?3",
                &[P::Text(&target), P::Text(kind), P::Text(&id)],
            )?;
            Ok(())
        })
        .await
    }
}
