//! Who the people of other systems, by which administrators log in, are here.

use crate::Store;
use crate::error::{StoreError, StoreResult};
use crate::sql::P;

impl Store {
    /// The name of the administrator that a source's subject was bound to.
    ///
    /// # Errors
    /// The database fails.
    pub async fn external_admin(&self, source: &str, subject: &str) -> StoreResult<Option<String>> {
        let (source, subject) = (source.to_string(), subject.to_string());
        self.read_few(move |sql| {
            sql.first(
                "SELECT username FROM external_admins WHERE source = ?1 AND subject = ?2",
                &[P::Text(&source), P::Text(&subject)],
                |row| Ok(row.text(0)?.to_string()),
            )
        })
        .await
    }

    /// Binds a source's subject to an administrator's name. With `moved`, takes the name over from another subject:
    /// the source says that a log-in name has a new subject.
    ///
    /// # Errors
    /// `Exists` when the name is another subject's; the database fails.
    pub async fn bind_external_admin(
        &self,
        source: &str,
        subject: &str,
        username: &str,
        moved: bool,
    ) -> StoreResult<()> {
        let [source, subject, username] = [source, subject, username].map(ToString::to_string);
        self.write(move |tx| {
            if moved {
                tx.execute(
                    "DELETE FROM external_admins WHERE source = ?1 AND username = ?2",
                    &[P::Text(&source), P::Text(&username)],
                )?;
            }
            let bound = tx.execute(
                "INSERT INTO external_admins (source, subject, username) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                &[P::Text(&source), P::Text(&subject), P::Text(&username)],
            )?;
            if bound == 0 {
                return Err(StoreError::Exists);
            }
            Ok(())
        })
        .await
    }
}
