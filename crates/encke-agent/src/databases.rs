//! Databases, by the official tools of their makers: the lists of databases, the commands that dump them, and those that
//! take a dump back.
//!
//! The keys of the published engines are not public, so these are ours (documented in `docs/protected-items.md`).
//! Passwords go to the tools in a file that only this user may read, or in their environment, never in their arguments.

use crate::error::{AgentError, AgentResult};
use crate::proxmox::{ssh_place, unreached};
use crate::tools::{lines, tool};
use encke_api::types::{MongoDBConnection, MySQLConnection, RestoreJobAdvancedOptions, SourceConfig};
use encke_storage::{Forward, RemoteShell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The engine of PostgreSQL items. The published API has none.
pub(crate) const ENGINE_POSTGRESQL: &str = "encke/postgresql";
/// Where a MongoDB server listens as a rule.
const MONGO_PORT: u16 = 27_017;
/// Schemas of MySQL that are made by the server itself.
const MYSQL_OWN: [&str; 3] = ["information_schema", "performance_schema", "sys"];

/// One stream of a dump.
pub(crate) struct Dump {
    /// File name in the snapshot.
    pub name: String,
    /// Writes it to its standard output.
    pub command: Command,
}

/// Something that is undone when it is dropped: a file with a password, a tunnel.
pub(crate) type Held = Box<dyn Send>;

/// A dump, and what its commands need while they run.
pub(crate) struct Dumps {
    /// In the order of their names.
    pub streams: Vec<Dump>,
    /// What the commands need while they run; undone when this is dropped.
    pub held: Vec<Held>,
}

/// A file with a password, gone when this is dropped.
pub(crate) struct Secret(PathBuf);

impl Secret {
    fn new(folder: &Path, text: &str) -> AgentResult<Self> {
        let mut random = [0u8; 8];
        getrandom::fill(&mut random).map_err(|_| encke_api::account_keys::KeyError::Random)?;
        let name = format!("secret-{}", hex::encode(random));
        crate::settings::write_private(folder, &name, text.as_bytes())?;
        Ok(Self(folder.join(name)))
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Which databases an item names.
struct Choice {
    all: bool,
    named: BTreeSet<String>,
    excepted: BTreeSet<String>,
}

impl Choice {
    fn of(source: &SourceConfig) -> AgentResult<Self> {
        let named = |prefix: &str| {
            let found = source.engine_props.iter().filter(|(k, _)| k.starts_with(prefix));
            found.map(|(_, v)| v.clone()).collect::<BTreeSet<_>>()
        };
        let choice = Self {
            all: source.engine_props.contains_key("ALL_DATABASES"),
            named: named("DATABASE-"),
            excepted: named("EXCEPT-DATABASE-"),
        };
        if !choice.all && choice.named.is_empty() {
            return Err(AgentError::Invalid("the item names no database".into()));
        }
        Ok(choice)
    }

    fn pick(self, present: impl FnOnce() -> AgentResult<Vec<String>>) -> AgentResult<Vec<String>> {
        if !self.all {
            return Ok(self.named.into_iter().collect());
        }
        let mut names = present()?;
        names.retain(|n| !self.excepted.contains(n));
        names.sort();
        Ok(names)
    }
}

fn property(source: &SourceConfig, key: &str) -> String {
    source.engine_props.get(key).cloned().unwrap_or_default()
}

/// A database's name as a file name.
fn file_name(database: &str, ending: &str) -> String {
    let mut out = String::with_capacity(database.len() + 4);
    for c in database.chars() {
        match c {
            '/' | '%' | '\0' => out += &format!("%{:02X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out + ending
}

/// A value in an option file of MySQL.
fn quoted(value: &str) -> AgentResult<String> {
    if value.contains(['\n', '\r', '\0']) {
        return Err(AgentError::Invalid("log-in data must be a single line".into()));
    }
    Ok(format!(
        "\"{}\"",
        value.replace('\\', "\\\\").replace('"', "\\\"")
    ))
}

/// The option file that tells MySQL's tools how to log in.
fn mysql_options(folder: &Path, c: &MySQLConnection) -> AgentResult<Secret> {
    let mut text = String::from("[client]\nprotocol=tcp\n");
    let mut add = |key: &str, value: &str| -> AgentResult<()> {
        if !value.is_empty() {
            text += &format!("{key}={}\n", quoted(value)?);
        }
        Ok(())
    };
    add("host", if c.host.is_empty() { "127.0.0.1" } else { &c.host })?;
    add("port", &c.port)?;
    add("user", &c.username)?;
    add("password", &c.password)?;
    if c.use_tls {
        add("ssl-ca", &c.tls_custom_server_ca_path)?;
        add("ssl-cert", &c.tls_custom_client_crt_path)?;
        add("ssl-key", &c.tls_custom_client_key_path)?;
        text += if c.tls_skip_verify {
            "ssl\n"
        } else {
            "ssl\nssl-verify-server-cert\n"
        };
    }
    Secret::new(folder, &text)
}

/// A tool of MySQL that logs in by an option file, which must be named first.
fn mysql_command(program: &Path, options: &Secret) -> Command {
    let mut command = Command::new(program);
    command.arg(format!("--defaults-file={}", options.0.display()));
    command
}

fn mysql_databases(options: &Secret) -> AgentResult<Vec<String>> {
    let mut list = mysql_command(&tool("", &["mariadb", "mysql"])?, options);
    list.args(["--batch", "--skip-column-names", "--execute=SHOW DATABASES"]);
    let mut names = lines(list)?;
    names.retain(|n| !MYSQL_OWN.contains(&n.as_str()));
    Ok(names)
}

/// The databases of a server.
pub(crate) fn browse_mysql(folder: &Path, connection: &MySQLConnection) -> AgentResult<Vec<String>> {
    mysql_databases(&mysql_options(folder, connection)?)
}

/// Dumps of a MySQL or MariaDB item.
pub(crate) fn mysql(folder: &Path, source: &SourceConfig) -> AgentResult<Dumps> {
    let has = |key: &str| source.engine_props.contains_key(key);
    let connection = MySQLConnection {
        host: property(source, "HOST"),
        port: property(source, "PORT"),
        username: property(source, "USERNAME"),
        password: property(source, "PASSWORD"),
        use_tls: has("USE_TLS"),
        tls_skip_verify: has("TLS_SKIP_VERIFY"),
        tls_custom_server_ca_path: property(source, "TLS_CA"),
        tls_custom_client_crt_path: property(source, "TLS_CERT"),
        tls_custom_client_key_path: property(source, "TLS_KEY"),
        ..Default::default()
    };
    let isolation: &[&str] = match property(source, "ISOLATION").as_str() {
        "" | "lock" => &["--lock-tables"],
        "transaction" => &["--single-transaction", "--skip-lock-tables"],
        "none" => &["--skip-lock-tables"],
        other => {
            return Err(AgentError::Invalid(format!(
                "ISOLATION '{other}' is none of lock, transaction, none"
            )));
        }
    };
    let program = tool(&property(source, "DUMP_PROGRAM"), &["mariadb-dump", "mysqldump"])?;
    let options = mysql_options(folder, &connection)?;
    let names = Choice::of(source)?.pick(|| mysql_databases(&options))?;
    let streams = names.into_iter().map(|name| {
        let mut command = mysql_command(&program, &options);
        command
            .args(isolation)
            .args(["--quick", "--hex-blob", "--routines", "--events", "--triggers"]);
        command.args(["--default-character-set=utf8mb4", "--databases", "--", &name]);
        Dump {
            name: file_name(&name, ".sql"),
            command,
        }
    });
    Ok(Dumps {
        streams: streams.collect(),
        held: vec![Box::new(options)],
    })
}

/// A command that takes a dump on its standard input into a live MySQL or MariaDB server, and what it needs.
pub(crate) fn mysql_restore(folder: &Path, o: &RestoreJobAdvancedOptions) -> AgentResult<(Command, Secret)> {
    let options = mysql_options(
        folder,
        &MySQLConnection {
            host: o.host.clone(),
            port: o.port.clone(),
            username: o.username.clone(),
            password: o.password.clone(),
            use_tls: o.use_ssl,
            tls_skip_verify: o.ssl_allow_invalid,
            tls_custom_server_ca_path: o.ssl_ca_file.clone(),
            tls_custom_client_crt_path: o.ssl_crt_file.clone(),
            tls_custom_client_key_path: o.ssl_key_file.clone(),
            ..Default::default()
        },
    )?;
    let mut command = mysql_command(&tool("", &["mariadb", "mysql"])?, &options);
    command.args(["--batch", "--default-character-set=utf8mb4"]);
    Ok((command, options))
}

/// A tool of PostgreSQL's with the item's log-in in its environment.
fn postgres_command(program: &str, source: &SourceConfig) -> AgentResult<Command> {
    let mut command = Command::new(tool("", &[program])?);
    for (variable, key) in [
        ("PGHOST", "HOST"),
        ("PGPORT", "PORT"),
        ("PGUSER", "USERNAME"),
        ("PGPASSWORD", "PASSWORD"),
        ("PGSSLMODE", "SSLMODE"),
    ] {
        let value = property(source, key);
        if !value.is_empty() {
            command.env(variable, value);
        }
    }
    command.env("PGCONNECT_TIMEOUT", "30").arg("--no-password");
    Ok(command)
}

/// Dumps of a PostgreSQL item: the roles and settings that all databases share, and each database.
pub(crate) fn postgres(source: &SourceConfig) -> AgentResult<Dumps> {
    let names = Choice::of(source)?.pick(|| {
        let mut list = postgres_command("psql", source)?;
        list.args(["--no-psqlrc", "--tuples-only", "--no-align", "--dbname=postgres"])
            .args([
                "--command",
                "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate",
            ]);
        lines(list)
    })?;
    let mut globals = postgres_command("pg_dumpall", source)?;
    globals.args(["--globals-only", "--clean", "--if-exists"]);
    let mut streams = vec![Dump {
        name: "globals.sql".into(),
        command: globals,
    }];
    for name in names {
        let mut command = postgres_command("pg_dump", source)?;
        command.args(["--format=plain", "--create", "--clean", "--if-exists"]);
        command.arg(format!("--dbname={}", connection_string(&name)));
        streams.push(Dump {
            name: file_name(&format!("database-{name}"), ".sql"),
            command,
        });
    }
    streams.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Dumps {
        streams,
        held: Vec::new(),
    })
}

/// A database's name as nothing but a name: one with an equals sign in it would be read as settings.
fn connection_string(name: &str) -> String {
    format!("dbname='{}'", name.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The configuration file and the arguments that tell MongoDB's tools how to log in.
fn mongo_arguments(c: &MongoDBConnection) -> Vec<String> {
    let mut out = Vec::new();
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            out.push(format!("--{key}={value}"));
        }
    };
    if c.use_replica {
        add(
            "host",
            &format!("{}/{}", c.replica_name, c.replica_members.join(",")),
        );
        add("readPreference", &c.read_preference);
    } else {
        add("host", &c.server);
        if c.port > 0 {
            add("port", &c.port.to_string());
        }
    }
    add("username", &c.username);
    add("authenticationDatabase", &c.authentication_db);
    if c.use_ssl {
        out.push("--ssl".into());
        let mut add = |key: &str, value: &str| {
            if !value.is_empty() {
                out.push(format!("--{key}={value}"));
            }
        };
        add("sslPEMKeyFile", &c.client_sslpem_path);
        add("sslCAFile", &c.server_sslpem_path);
        if c.allow_invalid_certificate || c.allow_invalid_hostname {
            out.push("--tlsInsecure".into());
        }
    }
    out
}

/// How a server is reached from here, and the tunnel to it where there has to be one.
fn mongo_reached(c: &MongoDBConnection) -> AgentResult<(MongoDBConnection, Option<Forward>)> {
    let mut here = c.clone();
    if !c.use_ssh {
        return Ok((here, None));
    }
    if c.use_replica {
        return Err(AgentError::Unsupported(
            "a MongoDB replica set through an SSH tunnel: its members name each other by addresses of their own".into(),
        ));
    }
    let port = match c.port {
        0 => MONGO_PORT,
        port => u16::try_from(port).map_err(|_| AgentError::Invalid(format!("{port} is no port")))?,
    };
    let shell = RemoteShell::connect(ssh_place(&c.ssh_connection)?).map_err(unreached)?;
    let tunnel = shell.forward(&c.server, port).map_err(unreached)?;
    here.server = "127.0.0.1".into();
    here.port = tunnel.port().into();
    Ok((here, Some(tunnel)))
}

/// Dumps of a MongoDB item, as one archive that `mongorestore --archive` reads.
pub(crate) fn mongodb(folder: &Path, source: &SourceConfig) -> AgentResult<Dumps> {
    let connection: MongoDBConnection = serde_json::from_str(&property(source, "CONNECTION"))
        .map_err(|e| AgentError::Invalid(format!("the item's CONNECTION can not be read: {e}")))?;
    let program = tool(&connection.mongodump_path, &["mongodump"])?;
    let (connection, tunnel) = mongo_reached(&connection)?;
    let choice = Choice::of(source)?;
    // YAML takes a JSON text as it is.
    let secret = |key: &str, value: &str| {
        serde_json::to_string(value)
            .map(|text| format!("{key}: {text}\n"))
            .unwrap_or_default()
    };
    let mut text = secret("password", &connection.password);
    if !connection.ssl_client_key_password.is_empty() {
        text += &secret("sslPEMKeyPassword", &connection.ssl_client_key_password);
    }
    let config = Secret::new(folder, &text)?;
    let archive = |database: Option<&str>| {
        let mut command = Command::new(&program);
        command.arg(format!("--config={}", config.0.display()));
        command
            .args(mongo_arguments(&connection))
            .args(["--quiet", "--archive"]);
        if let Some(name) = database {
            command.arg(format!("--db={name}"));
        }
        Dump {
            name: file_name(database.unwrap_or("all"), ".archive"),
            command,
        }
    };
    let streams = if choice.all {
        vec![archive(None)]
    } else {
        choice.named.iter().map(|n| archive(Some(n))).collect()
    };
    let mut held: Vec<Held> = vec![Box::new(config)];
    held.extend(tunnel.map(|t| Box::new(t) as Held));
    Ok(Dumps { streams, held })
}

/// The databases of a MongoDB server, asked by its shell.
pub(crate) fn browse_mongodb(c: &MongoDBConnection) -> AgentResult<Vec<String>> {
    let program = tool(&c.mongo_shell_path, &["mongosh", "mongo"])?;
    let (c, _tunnel) = mongo_reached(c)?;
    let server = if c.use_replica {
        format!(
            "mongodb://{}/?replicaSet={}",
            c.replica_members.join(","),
            c.replica_name
        )
    } else {
        let port = if c.port > 0 { c.port } else { MONGO_PORT.into() };
        format!("mongodb://{}:{port}/", c.server)
    };
    let mut command = Command::new(program);
    command.args([server.as_str(), "--quiet"]);
    if c.use_ssl {
        command.arg("--tls");
        for (option, file) in [
            ("--tlsCertificateKeyFile", &c.client_sslpem_path),
            ("--tlsCAFile", &c.server_sslpem_path),
        ] {
            if !file.is_empty() {
                command.args([option, file]);
            }
        }
        if c.allow_invalid_certificate {
            command.arg("--tlsAllowInvalidCertificates");
        }
        if c.allow_invalid_hostname {
            command.arg("--tlsAllowInvalidHostnames");
        }
    }
    // The password is read from the environment by the script itself: arguments can be seen by everybody.
    command.env(
        "ENCKE_MONGO",
        serde_json::to_string(&[&c.username, &c.password, &c.authentication_db]).unwrap_or_default(),
    );
    let script = "const [u,p,d]=JSON.parse(process.env.ENCKE_MONGO);\
                  if(u)db.getSiblingDB(d||'admin').auth(u,p);\
                  db.adminCommand({listDatabases:1,nameOnly:true}).databases.forEach(x=>print(x.name))";
    command.args(["--eval", script]);
    lines(command)
}
