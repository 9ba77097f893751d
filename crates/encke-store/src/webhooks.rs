//! How far each webhook has told of the stored events. What a webhook is stands in the configuration.

use crate::Store;
use crate::error::{StoreError, StoreResult};
use crate::sql::{P, Row, Sql, Tx};
use std::collections::HashMap;

/// What is kept about a webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredWebhook {
    /// Whose it is; empty for the top level.
    pub organization: String,
    /// Its name there.
    pub name: String,
    /// Id of the last stored event it told of, or passed over.
    pub told: i64,
    /// The key it signs with, wrapped.
    pub signing_key: String,
    /// Unix seconds of the last message that arrived; 0 for none.
    pub succeeded: i64,
    /// Unix seconds of the last failure; 0 for none.
    pub failed: i64,
    /// What that failure was; empty once a message arrived.
    pub error: String,
}

const COLUMNS: &str = "organization, name, told, signing_key, succeeded, failed, error";

fn read_row(row: &dyn Row) -> StoreResult<StoredWebhook> {
    Ok(StoredWebhook {
        organization: row.text(0)?.to_string(),
        name: row.text(1)?.to_string(),
        told: row.int(2)?,
        signing_key: row.text(3)?.to_string(),
        succeeded: row.int(4)?,
        failed: row.int(5)?,
        error: row.text(6)?.to_string(),
    })
}

fn all(sql: &mut dyn Sql) -> StoreResult<Vec<StoredWebhook>> {
    sql.all(
        &format!("SELECT {COLUMNS} FROM webhooks ORDER BY organization, name"),
        &[],
        read_row,
    )
}

impl Store {
    /// Everything known about webhooks.
    ///
    /// # Errors
    /// The database fails.
    pub async fn webhooks(&self) -> StoreResult<Vec<StoredWebhook>> {
        self.read_few(all).await
    }

    /// Brings what is known in line with the webhooks there are (organization, name and a wrapped key for a new one). A
    /// new one tells of what happens from now on, as do all `anew` ones; what they have not told of yet is dropped.
    ///
    /// # Errors
    /// The database fails.
    pub async fn align_webhooks(
        &self,
        wanted: Vec<(String, String, String)>,
        anew: impl Fn(&str) -> bool + Send + 'static,
    ) -> StoreResult<()> {
        self.write(move |tx| {
            let last = tx
                .sql()
                .first("SELECT id FROM events ORDER BY id DESC LIMIT 1", &[], |row| row.int(0))?
                .unwrap_or_default();
            let mut present: HashMap<(String, String), StoredWebhook> = all(tx.sql())?
                .into_iter()
                .map(|w| ((w.organization.clone(), w.name.clone()), w))
                .collect();
            for (organization, name, key) in wanted {
                let id = [P::Text(&organization), P::Text(&name)];
                match present.remove(&(organization.clone(), name.clone())) {
                    None => {
                        tx.execute(
                            "INSERT INTO webhooks (organization, name, told, signing_key, succeeded, failed, error)
                             VALUES (?1, ?2, ?3, ?4, 0, 0, '')",
                            &[id[0], id[1], P::Int(last), P::Text(&key)],
                        )?;
                    }
                    Some(_) if anew(&organization) => {
                        tx.execute(
                            "UPDATE webhooks SET told = ?3, error = '' WHERE organization = ?1 AND name = ?2",
                            &[id[0], id[1], P::Int(last)],
                        )?;
                    }
                    Some(_) => {}
                }
            }
            for (organization, name) in present.into_keys() {
                tx.execute(
                    "DELETE FROM webhooks WHERE organization = ?1 AND name = ?2",
                    &[P::Text(&organization), P::Text(&name)],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Notes how far a webhook came. `at` is when a message arrived (Unix seconds); nothing where it only passed events
    /// over.
    ///
    /// # Errors
    /// The database fails.
    pub async fn webhook_told(
        &self,
        organization: &str,
        name: &str,
        told: i64,
        at: Option<i64>,
    ) -> StoreResult<()> {
        let (organization, name) = (organization.to_string(), name.to_string());
        self.write(move |tx| {
            let arrived = if at.is_some() { ", succeeded = ?4, error = ''" } else { "" };
            let mut params = vec![P::Text(&organization), P::Text(&name), P::Int(told)];
            params.extend(at.map(P::Int));
            tx.execute(
                &format!(
                    "UPDATE webhooks SET told = ?3{arrived} WHERE organization = ?1 AND name = ?2 AND told < ?3"
                ),
                &params,
            )?;
            Ok(())
        })
        .await
    }

    /// Notes a failure of a webhook.
    ///
    /// # Errors
    /// The database fails.
    pub async fn webhook_failed(
        &self,
        organization: &str,
        name: &str,
        error: String,
        at: i64,
    ) -> StoreResult<()> {
        let (organization, name) = (organization.to_string(), name.to_string());
        self.write(move |tx| {
            tx.execute(
                "UPDATE webhooks SET failed = ?3, error = ?4 WHERE organization = ?1 AND name = ?2",
                &[
                    P::Text(&organization),
                    P::Text(&name),
                    P::Int(at),
                    P::Text(&error),
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Gives a webhook another key.
    ///
    /// # Errors
    /// `NotFound`, or the database fails.
    pub async fn set_webhook_key(&self, organization: &str, name: &str, key: String) -> StoreResult<()> {
        let (organization, name) = (organization.to_string(), name.to_string());
        self.write(move |tx| {
            let touched = tx.execute(
                "UPDATE webhooks SET signing_key = ?3 WHERE organization = ?1 AND name = ?2",
                &[P::Text(&organization), P::Text(&name), P::Text(&key)],
            )?;
            if touched == 0 {
                return Err(StoreError::NotFound);
            }
            Ok(())
        })
        .await
    }

    /// How many stored events after one there are, counted up to a limit.
    ///
    /// # Errors
    /// The database fails.
    pub async fn count_events_after(
        &self,
        organization: Option<&str>,
        id: i64,
        limit: i64,
    ) -> StoreResult<i64> {
        let organization = organization.map(str::to_string);
        self.read_few(move |sql| {
            let only = if organization.is_some() {
                " AND organization = ?3"
            } else {
                ""
            };
            let mut params = vec![P::Int(id), P::Int(limit)];
            params.extend(organization.as_deref().map(P::Text));
            let count = sql.first(
                &format!("SELECT COUNT(*) FROM (SELECT 1 AS one FROM events WHERE id > ?1{only} LIMIT ?2) e"),
                &params,
                |row| row.int(0),
            )?;
            Ok(count.unwrap_or_default())
        })
        .await
    }
}

/// Forgets an organization's webhooks, within the transaction that removes the organization.
///
/// # Errors
/// The database fails.
pub fn remove_webhooks_of_organization(tx: &mut Tx, organization: &str) -> StoreResult<()> {
    tx.execute(
        "DELETE FROM webhooks WHERE organization = ?1",
        &[P::Text(organization)],
    )?;
    Ok(())
}
