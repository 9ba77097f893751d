//! Storage Role buckets: who owns them, the hash of their key and their measured size. The bytes are elsewhere.

use crate::error::{StoreError, StoreResult};
use crate::events::EventDraft;
use crate::sql::{P, Row, Sql};
use crate::{Scope, Store};
use serde_json::{Value, json};
use std::fmt;
use std::ops::ControlFlow;

/// What buckets are called where it is noted who changed them.
const KIND: &str = "bucket";
/// Longest bucket id in bytes. GUIDs have 36; the rest is for ids brought from elsewhere.
const MAX_ID: usize = 64;

/// The id of a bucket, safe as the name of a folder: 1 to 64 letters, digits, `-` and `_`, the first one a letter or
/// digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketId(String);

impl BucketId {
    /// The id, if the text is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let safe = text.len() <= MAX_ID
            && text.bytes().all(plain)
            && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        safe.then(|| Self(text.to_string()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much a bucket holds, and when that was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketSize {
    /// Bytes.
    pub bytes: i64,
    /// Unix seconds.
    pub started: i64,
    /// Unix seconds.
    pub completed: i64,
}

/// What the server enforces for a bucket, whoever holds its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketRules {
    /// Most bytes it may hold; 0 for as many as the disk takes.
    pub quota: i64,
    /// Its key deletes nothing but locks.
    pub append_only: bool,
    /// Days for which deleted objects can be brought back by an administrator.
    pub trash_days: i64,
}

/// A stored bucket.
#[derive(Clone, Debug)]
pub struct StoredBucket {
    /// Its id.
    pub id: BucketId,
    /// Organization whose administrators see it; empty for the top level.
    pub organization: String,
    /// Unix seconds.
    pub created: i64,
    /// How the key is hashed.
    pub key_format: i64,
    /// The key's hash.
    pub key_hash: String,
    /// What it holds.
    pub size: BucketSize,
    /// What is enforced.
    pub rules: BucketRules,
}

const COLUMNS: &str = "id, organization, created, key_format, key_hash, size, measure_started, measure_completed, \
    quota, append_only, trash_days";

fn read_row(row: &dyn Row) -> StoreResult<StoredBucket> {
    let id = row.text(0)?;
    Ok(StoredBucket {
        id: BucketId::parse(id).ok_or_else(|| StoreError::Damaged(format!("bucket id {id:?}")))?,
        organization: row.text(1)?.to_string(),
        created: row.int(2)?,
        key_format: row.int(3)?,
        key_hash: row.text(4)?.to_string(),
        size: BucketSize {
            bytes: row.int(5)?,
            started: row.int(6)?,
            completed: row.int(7)?,
        },
        rules: BucketRules {
            quota: row.int(8)?,
            append_only: row.int(9)? != 0,
            trash_days: row.int(10)?,
        },
    })
}

/// The condition of a scope. Buckets belong to no account, so an account sees none.
fn condition(scope: &Scope, at: usize) -> (String, Option<P<'_>>) {
    scope.condition("organization", "''", at)
}

fn find(sql: &mut dyn Sql, scope: &Scope, id: &BucketId) -> StoreResult<StoredBucket> {
    let (condition, param) = condition(scope, 2);
    let params: Vec<P> = std::iter::once(P::Text(id.as_str())).chain(param).collect();
    sql.first(
        &format!("SELECT {COLUMNS} FROM buckets WHERE id = ?1 AND {condition}"),
        &params,
        read_row,
    )?
    .ok_or(StoreError::NotFound)
}

/// The rules by name, for whoever wants to know what was changed.
fn told(rules: BucketRules) -> Value {
    json!({ "QuotaBytes": rules.quota, "AppendOnly": rules.append_only, "TrashDays": rules.trash_days })
}

impl Store {
    /// Keeps a new bucket.
    ///
    /// # Errors
    /// `Exists` if there is one of this id, in whatever organization; or the database fails.
    pub async fn add_bucket(&self, b: StoredBucket, event: EventDraft) -> StoreResult<()> {
        self.write(move |tx| {
            tx.execute(
                &format!(
                    "INSERT INTO buckets ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
                ),
                &[
                    P::Text(b.id.as_str()),
                    P::Text(&b.organization),
                    P::Int(b.created),
                    P::Int(b.key_format),
                    P::Text(&b.key_hash),
                    P::Int(b.size.bytes),
                    P::Int(b.size.started),
                    P::Int(b.size.completed),
                    P::Int(b.rules.quota),
                    P::from(b.rules.append_only),
                    P::Int(b.rules.trash_days),
                ],
            )?;
            tx.asked_if_unknown(&event.actor, &b.organization);
            tx.note_change(KIND, &b.organization, b.id.as_str(), None, Some(&told(b.rules)))?;
            tx.emit(event);
            Ok(())
        })
        .await
    }

    /// A bucket.
    ///
    /// # Errors
    /// `NotFound`, also outside the scope; or the database fails.
    pub async fn bucket(&self, scope: &Scope, id: &BucketId) -> StoreResult<StoredBucket> {
        let (scope, id) = (scope.clone(), id.clone());
        self.read_few(move |sql| find(sql, &scope, &id)).await
    }

    /// Hands over bucket after bucket, ordered by id, together with a state that comes back at the end. Runs on a
    /// thread for blocking work; `on_bucket` may wait for its reader and breaks to stop.
    ///
    /// # Errors
    /// The database fails.
    pub async fn each_bucket<S, F>(&self, scope: &Scope, mut state: S, mut on_bucket: F) -> StoreResult<S>
    where
        S: Send + 'static,
        F: FnMut(&mut S, StoredBucket) -> ControlFlow<()> + Send + 'static,
    {
        let scope = scope.clone();
        self.read(move |sql| {
            let (condition, param) = condition(&scope, 1);
            let params: Vec<P> = param.into_iter().collect();
            sql.query(
                &format!("SELECT {COLUMNS} FROM buckets WHERE {condition} ORDER BY id"),
                &params,
                &mut |row| Ok(on_bucket(&mut state, read_row(row)?)),
            )?;
            Ok(state)
        })
        .await
    }

    /// Forgets a bucket. Its bytes are the caller's affair.
    ///
    /// # Errors
    /// `NotFound`, also outside the scope; or the database fails.
    pub async fn delete_bucket(&self, scope: &Scope, id: &BucketId, event: EventDraft) -> StoreResult<()> {
        let (scope, id) = (scope.clone(), id.clone());
        self.write(move |tx| {
            let old = find(tx.sql(), &scope, &id)?;
            tx.execute("DELETE FROM buckets WHERE id = ?1", &[P::Text(id.as_str())])?;
            let gone = told(old.rules);
            tx.asked_if_unknown(&event.actor, &old.organization);
            tx.note_change(KIND, &old.organization, id.as_str(), Some(&gone), None)?;
            tx.emit(event);
            Ok(())
        })
        .await
    }

    /// Keeps a new measurement.
    ///
    /// # Errors
    /// `NotFound` if the bucket is gone; or the database fails.
    pub async fn set_bucket_size(&self, id: &BucketId, size: BucketSize) -> StoreResult<()> {
        let id = id.clone();
        self.write(move |tx| {
            let touched = tx.execute(
                "UPDATE buckets SET size = ?2, measure_started = ?3, measure_completed = ?4 WHERE id = ?1",
                &[
                    P::Text(id.as_str()),
                    P::Int(size.bytes),
                    P::Int(size.started),
                    P::Int(size.completed),
                ],
            )?;
            if touched == 0 {
                Err(StoreError::NotFound)
            } else {
                Ok(())
            }
        })
        .await
    }

    /// Sets what is enforced for a bucket.
    ///
    /// # Errors
    /// `NotFound`, also outside the scope; or the database fails.
    pub async fn set_bucket_rules(
        &self,
        scope: &Scope,
        id: &BucketId,
        rules: BucketRules,
    ) -> StoreResult<()> {
        let (scope, id) = (scope.clone(), id.clone());
        self.write(move |tx| {
            let old = find(tx.sql(), &scope, &id)?;
            tx.execute(
                "UPDATE buckets SET quota = ?2, append_only = ?3, trash_days = ?4 WHERE id = ?1",
                &[
                    P::Text(id.as_str()),
                    P::Int(rules.quota),
                    P::from(rules.append_only),
                    P::Int(rules.trash_days),
                ],
            )?;
            let (before, now) = (told(old.rules), told(rules));
            tx.note_change(KIND, &old.organization, id.as_str(), Some(&before), Some(&now))
        })
        .await
    }

    /// Adds what came and went since the last measurement; its times stay as they are.
    ///
    /// # Errors
    /// The database fails.
    pub async fn add_bucket_sizes(&self, changes: Vec<(BucketId, i64)>) -> StoreResult<()> {
        self.write(move |tx| {
            for (id, change) in &changes {
                tx.execute(
                    "UPDATE buckets SET size = CASE WHEN size + ?2 > 0 THEN size + ?2 ELSE 0 END WHERE id = ?1",
                    &[P::Text(id.as_str()), P::Int(*change)],
                )?;
            }
            Ok(())
        })
        .await
    }
}
