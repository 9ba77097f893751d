//! Documents of which there are many but small ones (policies, groups, shared quotas, news): one table, one shape.

use crate::Store;
use crate::error::{StoreError, StoreResult};
use crate::scope::Scope;
use crate::sql::{P, Row, Sql, Tx};
use crate::users::document_hash;
use encke_api::types::{GroupPolicy, NewsEntry, SharedStorageQuota, UserGroup};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// A kind of document that is kept in the collections table.
pub trait Collected: Serialize + DeserializeOwned + Send + 'static {
    /// Name of the kind.
    const KIND: &'static str;
    /// The organization it belongs to; empty for the top level.
    fn organization(&self) -> &str;
}

macro_rules! collected {
    ($($type:ty => $kind:literal),*) => {$(
        impl Collected for $type {
            const KIND: &'static str = $kind;
            fn organization(&self) -> &str {
                &self.organization_id
            }
        }
    )*};
}
collected!(GroupPolicy => "policy", UserGroup => "group", SharedStorageQuota => "quota", NewsEntry => "news");

/// A stored document.
#[derive(Clone, Debug)]
pub struct Item<T> {
    /// Its id.
    pub id: String,
    /// Changes with every change of the document.
    pub hash: String,
    /// The document.
    pub value: T,
}

fn read_row<T: Collected>(row: &dyn Row) -> StoreResult<Item<T>> {
    Ok(Item {
        id: row.text(0)?.to_string(),
        hash: row.text(1)?.to_string(),
        value: serde_json::from_str(row.text(2)?)?,
    })
}

/// All documents of a kind, by id.
///
/// # Errors
/// The database fails or a document is damaged.
pub fn items<T: Collected>(sql: &mut dyn Sql, scope: &Scope) -> StoreResult<Vec<Item<T>>> {
    let (condition, param) = scope.condition("organization", "''", 2);
    let params: Vec<P> = std::iter::once(P::Text(T::KIND)).chain(param).collect();
    sql.all(
        &format!("SELECT id, hash, body FROM collections WHERE kind = ?1 AND {condition} ORDER BY id"),
        &params,
        read_row,
    )
}

/// One document.
///
/// # Errors
/// `NotFound`, also when it is outside the scope; the database fails or the document is damaged.
pub fn item<T: Collected>(sql: &mut dyn Sql, scope: &Scope, id: &str) -> StoreResult<Item<T>> {
    let (condition, param) = scope.condition("organization", "''", 3);
    let params: Vec<P> = [P::Text(T::KIND), P::Text(id)].into_iter().chain(param).collect();
    sql.first(
        &format!("SELECT id, hash, body FROM collections WHERE kind = ?1 AND id = ?2 AND {condition}"),
        &params,
        read_row,
    )?
    .ok_or(StoreError::NotFound)
}

/// Writes a document, over the present one of this id if there is one. Answers its hash.
///
/// # Errors
/// `Changed` when `present` is not the stored hash (`None`: there is none) any more, or the database fails.
pub fn put_item<T: Collected>(
    tx: &mut Tx,
    id: &str,
    value: &T,
    present: Option<&str>,
) -> StoreResult<String> {
    let body = serde_json::to_string(value)?;
    let hash = document_hash(&body);
    let columns = [
        P::Text(T::KIND),
        P::Text(id),
        P::Text(value.organization()),
        P::Text(&hash),
        P::Text(&body),
    ];
    let found = tx.sql().first(
        "SELECT body FROM collections WHERE kind = ?1 AND id = ?2",
        &columns[..2],
        |row| Ok(row.text(0)?.to_string()),
    )?;
    match present {
        None => {
            if found.is_some() {
                return Err(StoreError::Exists);
            }
            tx.execute(
                "INSERT INTO collections (kind, id, organization, hash, body) VALUES (?1, ?2, ?3, ?4, ?5)",
                &columns,
            )?;
        }
        Some(old) => {
            let params: Vec<P> = columns.into_iter().chain([P::Text(old)]).collect();
            let touched = tx.execute(
                "UPDATE collections SET organization = ?3, hash = ?4, body = ?5
                 WHERE kind = ?1 AND id = ?2 AND hash = ?6",
                &params,
            )?;
            if touched == 0 {
                return Err(StoreError::Changed);
            }
        }
    }
    tx.note_document(
        T::KIND,
        value.organization(),
        id,
        found.as_deref(),
        Some(body.as_str()),
    )?;
    Ok(hash)
}

/// Removes a document and answers what it was.
///
/// # Errors
/// `NotFound`, also when it is outside the scope, or the database fails.
pub fn remove_item<T: Collected>(tx: &mut Tx, scope: &Scope, id: &str) -> StoreResult<Item<T>> {
    let old = item::<T>(tx.sql(), scope, id)?;
    tx.execute(
        "DELETE FROM collections WHERE kind = ?1 AND id = ?2",
        &[P::Text(T::KIND), P::Text(id)],
    )?;
    let gone = serde_json::to_value(&old.value)?;
    tx.note_change(T::KIND, old.value.organization(), id, Some(&gone), None)?;
    Ok(old)
}

/// Removes what an organization has in the collections.
///
/// # Errors
/// The database fails.
pub fn remove_items_of_organization(tx: &mut Tx, organization: &str) -> StoreResult<()> {
    tx.execute(
        "DELETE FROM collections WHERE organization = ?1",
        &[P::Text(organization)],
    )?;
    Ok(())
}

impl Store {
    /// All documents of a kind, by id.
    ///
    /// # Errors
    /// See [`items`].
    pub async fn items<T: Collected>(&self, scope: &Scope) -> StoreResult<BTreeMap<String, T>> {
        let scope = scope.clone();
        let all = self.read_few(move |sql| items::<T>(sql, &scope)).await?;
        Ok(all.into_iter().map(|i| (i.id, i.value)).collect())
    }

    /// One document.
    ///
    /// # Errors
    /// See [`item`].
    pub async fn item<T: Collected>(&self, scope: &Scope, id: &str) -> StoreResult<Item<T>> {
        let (scope, id) = (scope.clone(), id.to_string());
        self.read_few(move |sql| item(sql, &scope, &id)).await
    }

    /// Bytes that the Storage Vaults of a shared quota were last measured at, together.
    ///
    /// # Errors
    /// The database fails.
    pub async fn quota_usage(&self, quota: &str) -> StoreResult<i64> {
        let quota = quota.to_string();
        self.read(move |sql| {
            let found = sql.first(
                "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM vault_quotas WHERE quota = ?1",
                &[P::Text(&quota)],
                |row| row.int(0),
            )?;
            Ok(found.unwrap_or_default())
        })
        .await
    }
}
