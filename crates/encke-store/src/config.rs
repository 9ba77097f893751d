//! The server configuration: one document, changed as a whole under a hash (DESIGN D2).

use crate::Store;
use crate::error::{StoreError, StoreResult};
use crate::events::EventDraft;
use crate::sql::{P, Row};
use crate::users::document_hash;
use encke_api::types::ServerConfigOptions;

const NAME: &str = "config";

fn read_row(row: &dyn Row) -> StoreResult<(String, String)> {
    Ok((row.text(0)?.to_string(), row.text(1)?.to_string()))
}

impl Store {
    /// The configuration and its hash; nothing before the first save.
    ///
    /// # Errors
    /// The database fails or the document is damaged.
    pub async fn config(&self) -> StoreResult<Option<(ServerConfigOptions, String)>> {
        let found = self
            .read(|sql| {
                sql.first(
                    "SELECT body, hash FROM documents WHERE name = ?1",
                    &[P::Text(NAME)],
                    read_row,
                )
            })
            .await?;
        found
            .map(|(body, hash)| Ok((serde_json::from_str(&body)?, hash)))
            .transpose()
    }

    /// Changes the configuration: `change` gets the present one and may refuse with an error of its own. Changes
    /// are serialised, so none is lost. Answers the new configuration.
    ///
    /// # Errors
    /// What `change` answers, or the database fails.
    pub async fn change_config<E, F>(&self, change: F) -> StoreResult<Result<ServerConfigOptions, E>>
    where
        E: Send + 'static,
        F: FnOnce(&mut ServerConfigOptions) -> Result<Vec<EventDraft>, E> + Send + 'static,
    {
        self.write(move |tx| {
            let found = tx.sql().first(
                "SELECT body, hash FROM documents WHERE name = ?1",
                &[P::Text(NAME)],
                read_row,
            )?;
            let mut config = match &found {
                Some((body, _)) => serde_json::from_str(body)?,
                None => ServerConfigOptions::default(),
            };
            let events = match change(&mut config) {
                Ok(events) => events,
                Err(e) => return Ok(Err(e)),
            };
            let body = serde_json::to_string(&config)?;
            let hash = document_hash(&body);
            if let Some((old, _)) = &found {
                tx.note_config(serde_json::from_str(old)?, serde_json::from_str(&body)?)?;
            }
            match found {
                None => {
                    tx.execute(
                        "INSERT INTO documents (name, body, hash) VALUES (?1, ?2, ?3)",
                        &[P::Text(NAME), P::Text(&body), P::Text(&hash)],
                    )?;
                }
                Some((_, old)) => {
                    let touched = tx.execute(
                        "UPDATE documents SET body = ?2, hash = ?3 WHERE name = ?1 AND hash = ?4",
                        &[P::Text(NAME), P::Text(&body), P::Text(&hash), P::Text(&old)],
                    )?;
                    if touched == 0 {
                        return Err(StoreError::Changed);
                    }
                }
            }
            for event in events {
                tx.emit(event);
            }
            Ok(Ok(config))
        })
        .await
    }
}
