//! PostgreSQL, for when one machine is not enough: several servers share one database. Writers take turns by an
//! advisory lock, so events have one order; each server hears of all of them by LISTEN and NOTIFY.

use crate::Bus;
use crate::error::{StoreError, StoreResult};
use crate::events::Event;
use crate::migrations;
use crate::sql::{Dialect, OnRow, P, Row, Sql, check};
use crate::writer::{Done, WriteConnection, Writer};
use parking_lot::{Condvar, Mutex};
use postgres::config::SslMode;
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, GenericClient, IsolationLevel, NoTls, Statement, Transaction};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::str::FromStr as _;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Readers at once, connected when they are first needed. A client that takes a long list slowly keeps its reader all
/// the while; a database of the usual 100 connections has room for two servers.
const READERS: usize = 40;
/// Rows of a streamed result that are fetched together.
const BATCH: i32 = 500;
/// Prepared statements kept on each connection.
const STATEMENTS: usize = 256;
/// The advisory lock that writers of one database take ("encke").
const LOCK: i64 = 0x0065_6e63_6b65;
/// The channel on which servers tell each other of events.
const CHANNEL: &str = "encke_events";
/// How long a connection may take to be made.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// A connection that was used within this time is not asked whether it is still there.
const TRUST_TIME: Duration = Duration::from_secs(1);
/// The listener looks this often whether it is still wanted.
const LISTEN_TIME: Duration = Duration::from_secs(1);

/// What SQLite gets from the program itself (`sqlite.rs`): plain tests of text, and lower-casing of any alphabet.
const FUNCTIONS: &str = r#"
    CREATE OR REPLACE FUNCTION text_contains(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
        'SELECT strpos($1, $2) > 0 OR $2 = ''''';
    CREATE OR REPLACE FUNCTION text_starts(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
        'SELECT starts_with($1, $2)';
    CREATE OR REPLACE FUNCTION text_ends(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
        'SELECT right($1, length($2)) = $2';
    CREATE OR REPLACE FUNCTION fold(text) RETURNS text LANGUAGE sql IMMUTABLE AS
        'SELECT lower($1 COLLATE "und-x-icu") COLLATE "C"';
"#;

pub(crate) struct Postgres {
    pub(crate) writer: Writer,
    config: Config,
    readers: Mutex<Vec<Option<Connection>>>,
    returned: Condvar,
    /// The listener ends when this is gone.
    _alive: Arc<()>,
}

impl Postgres {
    /// Connects, and creates or migrates the schema. Blocks.
    pub(crate) fn connect(url: &str, bus: Bus) -> StoreResult<Self> {
        let mut config = Config::from_str(url)
            .map_err(|e| StoreError::Invalid(format!("The database's address can not be read: {e}")))?;
        config.connect_timeout(CONNECT_TIME).application_name("encke");
        let mut connection = Connection::open(&config)?;
        migrate(&mut connection)?;
        let alive = Arc::new(());
        listen(config.clone(), &mut connection, bus, Arc::downgrade(&alive))?;
        let writer = Writer::start(PostgresWriter {
            config: config.clone(),
            connection,
        })?;
        Ok(Self {
            writer,
            config,
            readers: Mutex::new((0..READERS).map(|_| None).collect()),
            returned: Condvar::new(),
            _alive: alive,
        })
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&mut dyn Sql) -> StoreResult<T>) -> StoreResult<T> {
        let mut slot = {
            let mut pool = self.readers.lock();
            loop {
                if let Some(slot) = pool.pop() {
                    break slot;
                }
                self.returned.wait(&mut pool);
            }
        };
        // The slot goes back whatever happens, else a fault in one reader would in time stop all of them.
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| self.read_once(&mut slot, work)));
        self.readers.lock().push(slot);
        self.returned.notify_one();
        result.unwrap_or_else(|fault| std::panic::resume_unwind(fault))
    }

    fn read_once<T>(
        &self,
        slot: &mut Option<Connection>,
        work: impl FnOnce(&mut dyn Sql) -> StoreResult<T>,
    ) -> StoreResult<T> {
        let (mut connection, is_old) = match slot.take() {
            Some(connection) => (connection, true),
            None => (Connection::open(&self.config)?, false),
        };
        // It may have been lost since, when the database was started anew.
        if is_old && connection.used.elapsed() > TRUST_TIME && connection.client.batch_execute("").is_err() {
            connection = Connection::open(&self.config)?;
        }
        // Gives all of the work's statements the same state, as in SQLite.
        let transaction = connection
            .client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()?;
        let result = work(&mut Reader {
            transaction,
            statements: &mut connection.statements,
        });
        if !connection.client.is_closed() {
            connection.used = Instant::now();
            *slot = Some(connection);
        }
        result
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The driver waits for the connection to end, which is not allowed on a thread that runs tasks.
        let readers = std::mem::take(self.readers.get_mut());
        std::thread::spawn(move || drop(readers));
    }
}

/// What encrypts the connection: with the system's certificates, unless the address says `sslmode=disable`.
fn tls() -> StoreResult<MakeRustlsConnect> {
    static TLS: OnceLock<MakeRustlsConnect> = OnceLock::new();
    if let Some(tls) = TLS.get() {
        return Ok(tls.clone());
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| StoreError::Database(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TLS.get_or_init(|| MakeRustlsConnect::new(config)).clone())
}

fn connect(config: &Config) -> StoreResult<Client> {
    Ok(if config.get_ssl_mode() == SslMode::Disable {
        config.connect(NoTls)?
    } else {
        config.connect(tls()?)?
    })
}

/// Brings the schema up to date, each step in a transaction of its own. Servers that start together take turns.
fn migrate(c: &mut Connection) -> StoreResult<()> {
    let lock = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK});");
    c.client.batch_execute(&format!(
        "{lock} CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL); COMMIT"
    ))?;
    loop {
        c.client.batch_execute(&lock)?;
        let found = c.client.query_one(
            "SELECT COALESCE(MAX(version), 0)::BIGINT FROM schema_version",
            &[],
        )?;
        let (found, known): (i64, i64) = (found.get(0), migrations::known());
        if found > known {
            return Err(StoreError::TooNew { found, known });
        }
        let Some((version, step)) = migrations::after(found).next() else {
            c.client.batch_execute(FUNCTIONS)?;
            c.client.batch_execute("COMMIT")?;
            return Ok(());
        };
        let step = step
            .replace(
                "{autoincrement}",
                "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
            )
            .replace("{blob}", "BYTEA")
            .replace("{clustered}", "")
            // Text is compared byte by byte, as in SQLite.
            .replace(" TEXT", " TEXT COLLATE \"C\"");
        c.client.batch_execute(&step)?;
        c.client.batch_execute(&format!(
            "INSERT INTO schema_version (version) VALUES ({version}); COMMIT"
        ))?;
    }
}

/// Passes on every event of the database, whichever server wrote it, in the order of their transactions.
fn listen(config: Config, first: &mut Connection, bus: Bus, alive: Weak<()>) -> StoreResult<()> {
    const LAST: &str = "SELECT COALESCE(MAX(id), 0)::BIGINT FROM events";
    let mut last: i64 = first.client.query_one(LAST, &[])?.get(0);
    let follow = move || {
        let mut pause = Duration::from_millis(100);
        while alive.strong_count() > 0 {
            let lost = match follow(&config, &mut last, &bus, &alive) {
                Ok(()) => return,
                Err(lost) => lost,
            };
            tracing::warn!(error = %lost, "the events of the database can not be followed, trying again");
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    };
    std::thread::Builder::new()
        .name("store-events".into())
        .spawn(follow)
        .map_err(|e| StoreError::Database(e.to_string()))?;
    Ok(())
}

fn follow(config: &Config, last: &mut i64, bus: &Bus, alive: &Weak<()>) -> StoreResult<()> {
    const NEW: &str = "SELECT id, organization, type, body FROM events WHERE id > $1 ORDER BY id LIMIT 500";
    let mut client = connect(config)?;
    client.batch_execute(&format!("LISTEN {CHANNEL}"))?;
    let new = client.prepare(NEW)?;
    while alive.strong_count() > 0 {
        // Also what was written while nobody listened.
        loop {
            let rows = client.query(&new, &[&*last])?;
            for row in &rows {
                *last = row.get(0);
                bus.send(Event {
                    organization: row.get(1),
                    kind: row.get(2),
                    json: row.get(3),
                    stored: true,
                });
            }
            if rows.is_empty() {
                break;
            }
        }
        let is_told = client.notifications().timeout_iter(LISTEN_TIME).next()?.is_some();
        if is_told {
            // One look finds what all that came until now tells of.
            while client.notifications().iter().next()?.is_some() {}
        }
        if client.is_closed() {
            return Err(StoreError::Database("the connection was closed".into()));
        }
    }
    Ok(())
}

struct PostgresWriter {
    config: Config,
    connection: Connection,
}

impl WriteConnection for PostgresWriter {
    fn begin(&mut self) -> StoreResult<()> {
        let begin = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})");
        if self.connection.client.batch_execute(&begin).is_err() {
            self.connection = Connection::open(&self.config)?;
            self.connection.client.batch_execute(&begin)?;
        }
        Ok(())
    }
    fn control(&mut self, statement: &str) -> StoreResult<()> {
        Ok(self.connection.client.batch_execute(statement)?)
    }
    fn commit(&mut self, events: &[Event]) -> StoreResult<()> {
        if events.is_empty() {
            self.control("COMMIT")
        } else {
            self.control(&format!("NOTIFY {CHANNEL}; COMMIT"))
        }
    }
    fn sql(&mut self) -> &mut dyn Sql {
        &mut self.connection
    }
    fn committed(&mut self, _done: Done) {
        // Events come back by the listener, in one order with those of other servers.
    }
}

type Statements = HashMap<String, Statement>;

/// A connection with its prepared statements.
struct Connection {
    client: Client,
    statements: Statements,
    used: Instant,
}

impl Connection {
    fn open(config: &Config) -> StoreResult<Self> {
        let client = connect(config)?;
        Ok(Self {
            client,
            statements: HashMap::new(),
            used: Instant::now(),
        })
    }
}

/// The types of the parameters are told, since the database guesses some of them wrongly.
fn prepare(
    client: &mut impl GenericClient,
    statements: &mut Statements,
    sql: &str,
    params: &[P],
) -> StoreResult<Statement> {
    check(params)?;
    if let Some(known) = statements.get(sql) {
        return Ok(known.clone());
    }
    if statements.len() >= STATEMENTS {
        statements.clear();
    }
    let types: Vec<Type> = params.iter().map(type_of).collect();
    let statement = client.prepare_typed(&sql.replace('?', "$"), &types)?;
    statements.insert(sql.to_string(), statement.clone());
    Ok(statement)
}

fn query_few(
    client: &mut impl GenericClient,
    statements: &mut Statements,
    sql: &str,
    params: &[P],
    on_row: OnRow,
) -> StoreResult<()> {
    let statement = prepare(client, statements, sql, params)?;
    for row in &client.query(&statement, &references(params))? {
        if on_row(&PostgresRow(row))?.is_break() {
            break;
        }
    }
    Ok(())
}

/// A transaction that reads.
struct Reader<'a> {
    transaction: Transaction<'a>,
    statements: &'a mut Statements,
}

impl Sql for Reader<'_> {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn query(&mut self, sql: &str, params: &[P], on_row: OnRow) -> StoreResult<()> {
        let statement = prepare(&mut self.transaction, self.statements, sql, params)?;
        // A portal, since the driver would otherwise collect rows faster than a slow reader takes them.
        let portal = self.transaction.bind(&statement, &references(params))?;
        loop {
            let rows = self.transaction.query_portal(&portal, BATCH)?;
            for row in &rows {
                if on_row(&PostgresRow(row))?.is_break() {
                    return Ok(());
                }
            }
            if rows.len() < BATCH as usize {
                return Ok(());
            }
        }
    }

    fn query_few(&mut self, sql: &str, params: &[P], on_row: OnRow) -> StoreResult<()> {
        query_few(&mut self.transaction, self.statements, sql, params, on_row)
    }

    fn execute(&mut self, sql: &str, params: &[P]) -> StoreResult<u64> {
        let statement = prepare(&mut self.transaction, self.statements, sql, params)?;
        Ok(self.transaction.execute(&statement, &references(params))?)
    }
}

/// Within a transaction of the writer's.
impl Sql for Connection {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn query(&mut self, sql: &str, params: &[P], on_row: OnRow) -> StoreResult<()> {
        query_few(&mut self.client, &mut self.statements, sql, params, on_row)
    }

    fn execute(&mut self, sql: &str, params: &[P]) -> StoreResult<u64> {
        let statement = prepare(&mut self.client, &mut self.statements, sql, params)?;
        Ok(self.client.execute(&statement, &references(params))?)
    }
}

fn type_of(param: &P) -> Type {
    match param {
        P::Text(_) => Type::TEXT,
        P::Int(_) => Type::INT8,
        P::Blob(_) => Type::BYTEA,
        P::Null => Type::UNKNOWN,
    }
}

impl ToSql for P<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            P::Text(t) => t.to_sql(kind, out),
            P::Int(i) => i.to_sql(kind, out),
            P::Blob(b) => b.to_sql(kind, out),
            P::Null => Ok(IsNull::Yes),
        }
    }
    fn accepts(_kind: &Type) -> bool {
        true
    }
    to_sql_checked!();
}

fn references<'a>(params: &'a [P<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|p| p as &(dyn ToSql + Sync)).collect()
}

struct PostgresRow<'a>(&'a postgres::Row);

impl Row for PostgresRow<'_> {
    fn text(&self, column: usize) -> StoreResult<&str> {
        self.0.try_get(column).map_err(damaged)
    }
    fn int(&self, column: usize) -> StoreResult<i64> {
        if self.0.columns().get(column).map(postgres::Column::type_) == Some(&Type::INT4) {
            return self.0.try_get::<_, i32>(column).map(i64::from).map_err(damaged);
        }
        self.0.try_get(column).map_err(damaged)
    }
    fn blob(&self, column: usize) -> StoreResult<&[u8]> {
        self.0.try_get(column).map_err(damaged)
    }
    fn is_null(&self, column: usize) -> bool {
        matches!(self.0.try_get::<_, Null>(column), Ok(Null(true)))
    }
}

/// Reads only whether a column is NULL.
struct Null(bool);

impl<'a> postgres::types::FromSql<'a> for Null {
    fn from_sql(_: &Type, _: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Null(false))
    }
    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Null(true))
    }
    fn accepts(_: &Type) -> bool {
        true
    }
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn damaged(e: postgres::Error) -> StoreError {
    StoreError::Damaged(e.to_string())
}

impl From<postgres::Error> for StoreError {
    fn from(e: postgres::Error) -> Self {
        match e.code() {
            Some(code) if *code == SqlState::UNIQUE_VIOLATION => StoreError::Exists,
            Some(code) if *code == SqlState::DISK_FULL => StoreError::Full,
            _ => {
                // The driver's own text keeps the reason to itself.
                let reason = std::error::Error::source(&e).map(ToString::to_string);
                StoreError::Database(reason.map_or_else(|| e.to_string(), |r| format!("{e}: {r}")))
            }
        }
    }
}
