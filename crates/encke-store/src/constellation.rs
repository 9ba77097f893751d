//! What a server knows of the buckets of all servers: a few documents by name, which the server makes and reads.

use crate::Store;
use crate::error::StoreResult;
use crate::sql::P;

impl Store {
    /// A document as JSON text; nothing before the first one was kept.
    ///
    /// # Errors
    /// The database fails.
    pub async fn constellation(&self, name: &'static str) -> StoreResult<Option<String>> {
        self.read(move |sql| {
            sql.first(
                "SELECT body FROM constellation WHERE name = ?1",
                &[P::Text(name)],
                |row| Ok(row.text(0)?.to_string()),
            )
        })
        .await
    }

    /// Keeps a document in the place of the one before.
    ///
    /// # Errors
    /// The database fails.
    pub async fn set_constellation(&self, name: &'static str, body: String) -> StoreResult<()> {
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO constellation (name, body) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET body = excluded.body",
                &[P::Text(name), P::Text(&body)],
            )?;
            Ok(())
        })
        .await
    }
}
