//! Sessions of people and programs that logged in. Only a key's SHA-256 is kept.

use crate::Store;
use crate::audit::{Deed, Differences, action};
use crate::error::{StoreError, StoreResult};
use crate::events::EventDraft;
use crate::sql::{P, Row, Sql, Tx};
use sha2::{Digest, Sha256};

/// Whose session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionKind {
    /// An administrator's.
    Admin,
    /// An end user's.
    User,
}

impl SessionKind {
    /// The word in `SessionType`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            SessionKind::Admin => "admin",
            SessionKind::User => "user",
        }
    }
}

/// A stored session.
#[derive(Clone, Debug)]
pub struct StoredSession {
    /// SHA-256 of the key, hexadecimal.
    pub key_hash: String,
    /// Whose it is.
    pub kind: SessionKind,
    /// Admin or account name.
    pub name: String,
    /// Organization of the admin or account; empty for the top level.
    pub organization: String,
    /// Waits for a second factor; good for nothing but `session-upgrade`.
    pub pending: bool,
    /// Unix seconds.
    pub created: i64,
    /// Unix seconds of the last call (kept to the minute).
    pub used: i64,
    /// The administrator who started it for somebody else; empty for one's own.
    pub started_by: String,
}

impl StoredSession {
    /// How a key is kept.
    #[must_use]
    pub fn hash_of(key: &str) -> String {
        hex::encode(Sha256::digest(key.as_bytes()))
    }
}

const COLUMNS: &str = "key_hash, kind, name, organization, pending, created, used, started_by";

fn read_row(row: &dyn Row) -> StoreResult<StoredSession> {
    Ok(StoredSession {
        key_hash: row.text(0)?.to_string(),
        kind: match row.text(1)? {
            "admin" => SessionKind::Admin,
            "user" => SessionKind::User,
            other => return Err(StoreError::Damaged(format!("session kind {other}"))),
        },
        name: row.text(2)?.to_string(),
        organization: row.text(3)?.to_string(),
        pending: row.int(4)? != 0,
        created: row.int(5)?,
        used: row.int(6)?,
        started_by: row.text(7)?.to_string(),
    })
}

fn find(sql: &mut dyn Sql, key_hash: &str) -> StoreResult<Option<StoredSession>> {
    sql.first(
        &format!("SELECT {COLUMNS} FROM sessions WHERE key_hash = ?1"),
        &[P::Text(key_hash)],
        read_row,
    )
}

/// Notes who began a session, and for whom.
fn note_start(tx: &mut Tx, session: &StoredSession) -> StoreResult<()> {
    let by = match session.started_by.as_str() {
        "" => &session.name,
        by => by,
    };
    tx.asked_if_unknown(by, &session.organization);
    let deed = Deed {
        organization: &session.organization,
        kind: match session.kind {
            SessionKind::Admin => "administrator",
            SessionKind::User => "account",
        },
        action: action::SIGN_IN,
        resource: &session.name,
    };
    tx.note(deed, &Differences::default())
}

impl Store {
    /// Keeps a new session; one that is pending has no event yet.
    ///
    /// # Errors
    /// The database fails.
    pub async fn add_session(&self, s: StoredSession, event: Option<EventDraft>) -> StoreResult<()> {
        self.write(move |tx| {
            tx.execute(
                &format!("INSERT INTO sessions ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"),
                &[
                    P::Text(&s.key_hash),
                    P::Text(s.kind.word()),
                    P::Text(&s.name),
                    P::Text(&s.organization),
                    P::from(s.pending),
                    P::Int(s.created),
                    P::Int(s.used),
                    P::Text(&s.started_by),
                ],
            )?;
            if let Some(event) = event {
                note_start(tx, &s)?;
                tx.emit(event);
            }
            Ok(())
        })
        .await
    }

    /// The session of a key's hash.
    ///
    /// # Errors
    /// The database fails.
    pub async fn session(&self, key_hash: &str) -> StoreResult<Option<StoredSession>> {
        let key = key_hash.to_string();
        self.read_few(move |sql| find(sql, &key)).await
    }

    /// Notes a session's last use.
    ///
    /// # Errors
    /// The database fails.
    pub async fn touch_session(&self, key_hash: &str, used: i64) -> StoreResult<()> {
        let key = key_hash.to_string();
        self.write(move |tx| {
            tx.execute(
                "UPDATE sessions SET used = ?2 WHERE key_hash = ?1",
                &[P::Text(&key), P::Int(used)],
            )?;
            Ok(())
        })
        .await
    }

    /// Lifts a pending session: it starts only now.
    ///
    /// # Errors
    /// The database fails; `NotFound` if there is no such pending session.
    pub async fn upgrade_session(&self, key_hash: &str, started: EventDraft) -> StoreResult<()> {
        let key = key_hash.to_string();
        self.write(move |tx| {
            let touched = tx.execute(
                "UPDATE sessions SET pending = 0 WHERE key_hash = ?1 AND pending = 1",
                &[P::Text(&key)],
            )?;
            if touched == 0 {
                return Err(StoreError::NotFound);
            }
            let session = find(tx.sql(), &key)?.ok_or(StoreError::NotFound)?;
            note_start(tx, &session)?;
            tx.emit(started);
            Ok(())
        })
        .await
    }

    /// Ends a session; the event is sent only if there was one.
    ///
    /// # Errors
    /// The database fails.
    pub async fn end_session(&self, key_hash: &str, event: Option<EventDraft>) -> StoreResult<bool> {
        let key = key_hash.to_string();
        self.write(move |tx| {
            let ended = tx.execute("DELETE FROM sessions WHERE key_hash = ?1", &[P::Text(&key)])? > 0;
            if let Some(event) = event.filter(|_| ended) {
                tx.emit(event);
            }
            Ok(ended)
        })
        .await
    }

    /// Sessions not used since a time, for the expiry round. At most 1,000 at once.
    ///
    /// # Errors
    /// The database fails.
    pub async fn idle_sessions(&self, used_before: i64) -> StoreResult<Vec<StoredSession>> {
        self.read(move |sql| {
            sql.all(
                &format!("SELECT {COLUMNS} FROM sessions WHERE used < ?1 ORDER BY used LIMIT 1000"),
                &[P::Int(used_before)],
                read_row,
            )
        })
        .await
    }

    /// Ends all sessions of one name, for example when its password changes. `event` makes the event of each.
    ///
    /// # Errors
    /// The database fails.
    pub async fn end_sessions_of<F>(
        &self,
        kind: SessionKind,
        name: &str,
        organization: &str,
        event: F,
    ) -> StoreResult<()>
    where
        F: Fn(&StoredSession) -> EventDraft + Send + 'static,
    {
        let (name, organization) = (name.to_string(), organization.to_string());
        self.write(move |tx| {
            let params = [P::Text(kind.word()), P::Text(&name), P::Text(&organization)];
            let which = "WHERE kind = ?1 AND name = ?2 AND organization = ?3";
            let ended = tx.sql().all(
                &format!("SELECT {COLUMNS} FROM sessions {which}"),
                &params,
                read_row,
            )?;
            tx.execute(&format!("DELETE FROM sessions {which}"), &params)?;
            for session in ended.iter().filter(|s| !s.pending) {
                tx.emit(event(session));
            }
            Ok(())
        })
        .await
    }
}
