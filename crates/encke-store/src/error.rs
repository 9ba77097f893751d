//! What can go wrong in the store.

/// Result of a store call.
pub type StoreResult<T> = Result<T, StoreError>;

/// A failure a caller can act on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such row, or it is outside the caller's scope.
    #[error("not found")]
    NotFound,
    /// A row of this key exists already.
    #[error("exists already")]
    Exists,
    /// The document has changed since it was read.
    #[error("changed since it was read")]
    Changed,
    /// The caller's input can not be stored or searched for; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// More work than a short read may do; it has to be done on a thread for blocking work.
    #[error("too long for a short read")]
    TooLong,
    /// The disk is full.
    #[error("the database's disk is full")]
    Full,
    /// The store is shutting down.
    #[error("the store has stopped")]
    Stopped,
    /// The database comes from a newer version of the program.
    #[error("the database has schema version {found}, this program knows up to {known}")]
    TooNew {
        /// Version in the database.
        found: i64,
        /// Newest version this program knows.
        known: i64,
    },
    /// A stored document can not be read any more.
    #[error("stored document is damaged: {0}")]
    Damaged(String),
    /// The database failed.
    #[error("database: {0}")]
    Database(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(e: rusqlite::Error) -> Self {
        match e.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full,
            // Only the meter of short reads interrupts.
            Some(rusqlite::ErrorCode::OperationInterrupted) => StoreError::TooLong,
            Some(rusqlite::ErrorCode::ConstraintViolation) => match &e {
                rusqlite::Error::SqliteFailure(f, _)
                    if f.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY
                        || f.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE =>
                {
                    StoreError::Exists
                }
                _ => StoreError::Database(e.to_string()),
            },
            _ => StoreError::Database(e.to_string()),
        }
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(e: serde_json::Error) -> Self {
        StoreError::Damaged(e.to_string())
    }
}
