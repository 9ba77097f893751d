//! Starting and stopping the server.

use crate::app::{App, Ending, KEEP_DAYS, now};
use crate::auth::{Passwords, Sessions, Throttle, UsedCodes};
use crate::live::Registry;
use crate::table::{Route, Table};
use crate::tls;
use axum::Router;
use encke_api::account_keys::{PASSWORD_FORMAT_ENCKE, StoredPassword, WrappingKey};
use encke_api::constants::{PASSWORD_FORMAT_PLAINTEXT, SEVT_SERVER_STARTED};
use encke_api::types::{HTTPConnectorOptions, ServerConfigOptions};
use encke_store::{EventDraft, Store, StoreError};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use parking_lot::RwLock;
use serde_json::Value;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

/// Connections at once.
const MAX_CONNECTIONS: usize = 60_000;
/// A request's head must have arrived within this time.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// A TLS handshake is done within this time.
const HANDSHAKE_TIME: Duration = Duration::from_secs(15);
/// How often a server looks for changes of the configuration by others on its database.
const CONFIG_TIME: Duration = Duration::from_secs(2);
/// Open calls have this long to end when the server stops.
const STOP_TIME: Duration = Duration::from_secs(10);

/// Where a server listens that was told nothing.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8060";

/// The authority that certifies `AutoSSLDomains` when no other is named: Let's Encrypt.
pub const DEFAULT_ACME_DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// How to run.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Address to listen at, before those of the configuration. Without one the configuration's `ListenAddresses`
    /// hold, and without those [`DEFAULT_LISTEN`].
    pub listen: Option<SocketAddr>,
    /// Folder of the database, the keys and the buckets. Made if it does not exist.
    pub data_dir: PathBuf,
    /// Address of a PostgreSQL database for the metadata; without one it is `encke.db` in the data folder.
    pub database: Option<String>,
    /// Directory of the authority (ACME) that certifies `AutoSSLDomains`, such as [`DEFAULT_ACME_DIRECTORY`].
    pub acme_directory: String,
    /// What the report service may do.
    pub reports: crate::reports::ReportOptions,
    /// Origins of the portals that may sign people in to the console and frame it; without one every page may.
    pub portals: Vec<String>,
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or folder of the data folder.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The address can not be listened at.
    #[error("can not listen at {address}: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// A listener's certificate.
    #[error("can not listen at {address} with TLS: {error}")]
    Tls {
        /// Which.
        address: SocketAddr,
        /// What is wrong.
        error: tls::TlsError,
    },
    /// The database.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The key file does not hold a key.
    #[error("{0}: not a key file of this program")]
    Key(PathBuf),
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// A running server.
pub struct Server {
    /// What it shares with its handlers.
    pub app: Arc<App>,
    /// Where it listens; the first one where there are several.
    pub address: SocketAddr,
    /// The same as the address of a web page, without a slash at the end.
    pub url: String,
    listening: Vec<tokio::task::JoinHandle<()>>,
}

/// Every endpoint the server has, supported or not.
#[must_use]
pub fn all_routes() -> Vec<Route> {
    let mut routes = Vec::new();
    routes.extend(crate::admins::routes());
    routes.extend(crate::auth::routes());
    routes.extend(crate::clients::routes());
    routes.extend(crate::console::routes());
    routes.extend(crate::constellation::routes());
    routes.extend(crate::email::routes());
    routes.extend(crate::events::routes());
    routes.extend(crate::external_login::routes());
    routes.extend(crate::groups::routes());
    routes.extend(crate::installation::routes());
    routes.extend(crate::jobs::routes());
    routes.extend(crate::live::routes());
    routes.extend(crate::meta::routes());
    routes.extend(crate::news::routes());
    routes.extend(crate::organizations::routes());
    routes.extend(crate::policies::routes());
    routes.extend(crate::replication::routes());
    routes.extend(crate::reports::routes());
    routes.extend(crate::self_backup::routes());
    routes.extend(crate::shared_quotas::routes());
    routes.extend(crate::storage_role::routes());
    routes.extend(crate::storage_templates::routes());
    routes.extend(crate::updates::routes());
    routes.extend(crate::users::routes());
    routes.extend(crate::webauthn::routes());
    routes.extend(crate::webhooks::routes());
    let unsupported = crate::unsupported::routes(&routes);
    routes.extend(unsupported);
    routes
}

impl Server {
    /// Opens the data folder and starts to listen.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: ServeOptions) -> Result<Self, StartError> {
        let file_error = |path: &Path| {
            let path = path.to_path_buf();
            move |error| StartError::File { path, error }
        };
        std::fs::create_dir_all(&options.data_dir).map_err(file_error(&options.data_dir))?;
        let server_key = load_key(&options.data_dir.join("server.key"))?;
        let store = match &options.database {
            Some(url) => Store::connect(url).await?,
            None => Store::open(&options.data_dir.join("encke.db"))?,
        };
        let config = prepare_config(&store).await?;
        let wanted = match options.listen {
            Some(address) => vec![(address, HTTPConnectorOptions::default())],
            None => crate::meta::listen_addresses(&config.listen_addresses),
        };
        let stopping = CancellationToken::new();
        let acme = Arc::new(tls::Answers::default());
        let surroundings = tls::Surroundings {
            key: &server_key,
            data_dir: &options.data_dir,
            directory: &options.acme_directory,
            answers: &acme,
            stopping: &stopping,
        };
        let redirects = tls::missing_redirects(&wanted);
        let mut listeners = Vec::new();
        for (address, options) in wanted {
            let opened = match tls::acceptor(&options, &surroundings) {
                Ok(tls) => match TcpListener::bind(address).await {
                    Ok(listener) => Ok((listener, tls)),
                    Err(error) => Err(StartError::Listen { address, error }),
                },
                Err(error) => Err(StartError::Tls { address, error }),
            };
            match opened {
                Ok(listener) => listeners.push(listener),
                // One address that is gone must not take the others away.
                Err(error) if !listeners.is_empty() => tracing::error!(%error, "one address less"),
                Err(error) => return Err(error),
            }
        }
        let mut redirecting = Vec::new();
        for address in redirects {
            match TcpListener::bind(address).await {
                Ok(listener) => redirecting.push(listener),
                Err(error) => {
                    tracing::warn!(%address, %error, "no redirect to https: the port can not be had")
                }
            }
        }
        let scheme = if listeners[0].1.is_some() { "https" } else { "http" };
        let address = listeners[0].0.local_addr().map_err(|error| StartError::Listen {
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            error,
        })?;
        let app = Arc::new(App {
            store,
            buckets: crate::storage_role::Buckets::new(&options.data_dir),
            server_key,
            passwords: Passwords::new().map_err(|_| StartError::Random)?,
            sessions: Sessions::default(),
            throttle: Throttle::default(),
            used_codes: UsedCodes::default(),
            external: crate::external_login::External::default(),
            challenges: crate::webauthn::Challenges::default(),
            reports: crate::reports::Reports::new(&options.data_dir, options.reports),
            self_backup: crate::self_backup::SelfBackup::default(),
            replication: crate::replication::Replication::default(),
            constellation: crate::constellation::Constellation::default(),
            data_dir: options.data_dir,
            portals: options.portals,
            acme,
            leader: crate::leader::Leader::default(),
            mailer: crate::email::Mailer::default(),
            webhooks: crate::webhooks::State::default(),
            live: Registry::default(),
            program: crate::clients::OwnProgram::default(),
            campaign: crate::updates::Campaigns::default(),
            lobby: crate::installation::Lobby::default(),
            table: Table::new(all_routes()),
            start_hash: uuid::Uuid::new_v4().to_string(),
            start_time: now(),
            local_url: format!("{scheme}://{address}"),
            stopping,
            ending: tokio::sync::watch::Sender::new(None),
            config: RwLock::new(Arc::new(config)),
        });
        tokio::spawn(crate::auth::sweep(app.clone()));
        tokio::spawn(prune(app.clone()));
        if options.database.is_some() {
            tokio::spawn(follow_config(app.clone()));
        }
        tokio::spawn(crate::policies::start(app.clone()));
        tokio::spawn(crate::leader::keep(app.clone()));
        crate::email::start(&app);
        crate::webhooks::start(&app);
        crate::events::files::start(&app);
        crate::reports::start(&app);
        app.store.announce(|| EventDraft {
            actor: String::new(),
            organization: String::new(),
            resource: app.start_hash.clone(),
            kind: SEVT_SERVER_STARTED,
            data: Value::Null,
        });
        crate::jobs::start(&app);
        tokio::spawn(crate::updates::run(app.clone()));
        crate::storage_role::start(&app).await;
        // After the buckets are in their places: one that is not there yet would look as if it were lost.
        crate::replication::start(&app);
        crate::constellation::start(&app);
        tokio::spawn(crate::meta::keep_statistics(app.clone()));
        crate::self_backup::start(&app);
        let mut listening = Vec::new();
        for (listener, tls) in listeners {
            let router = crate::http::router(app.clone());
            listening.push(tokio::spawn(listen(app.clone(), router, listener, tls)));
        }
        for listener in redirecting {
            let router = tls::redirecting(app.clone());
            listening.push(tokio::spawn(listen(app.clone(), router, listener, None)));
        }
        tracing::info!(%address, "server started");
        Ok(Self {
            url: app.local_url.clone(),
            app,
            address,
            listening,
        })
    }

    /// Waits until an administrator ends the server.
    pub async fn ended(&self) -> Ending {
        let mut ending = self.app.ending.subscribe();
        loop {
            if let Some(ending) = *ending.borrow_and_update() {
                return ending;
            }
            if ending.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Stops listening, lets open calls end, and returns.
    pub async fn stop(self) {
        self.app.stopping.cancel();
        for listening in self.listening {
            let _ = listening.await;
        }
        tracing::info!("server stopped");
    }
}

async fn listen(app: Arc<App>, router: Router, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let scheme = crate::origin::Scheme(if tls.is_some() { "https" } else { "http" });
    let router = router.layer(axum::Extension(scheme));
    let mut service = router.into_make_service_with_connect_info::<SocketAddr>();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME);
    loop {
        let accepted = tokio::select! {
            () = app.stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                // Out of file descriptors: give the open connections time to end.
                tracing::error!(error = %e, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Beyond the limit a connection is closed at once rather than left waiting.
        let Ok(permit) = room.clone().try_acquire_owned() else {
            continue;
        };
        let _ = socket.set_nodelay(true);
        let router = match service.call(peer).await {
            Ok(router) => router,
            Err(e) => match e {},
        };
        let handler = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut router = router.clone();
            async move {
                router
                    .call(request.map(|body| axum::body::Body::new(body.map_err(axum::Error::new))))
                    .await
            }
        });
        let (builder, watcher, tls) = (builder.clone(), graceful.watcher(), tls.clone());
        tokio::spawn(async move {
            // A broken connection is the client's affair.
            match tls {
                None => {
                    let connection = builder.serve_connection_with_upgrades(TokioIo::new(socket), handler);
                    let _ = watcher.watch(connection).await;
                }
                Some(tls) => {
                    if let Ok(Ok(socket)) = tokio::time::timeout(HANDSHAKE_TIME, tls.accept(socket)).await
                        && !tls::is_inspection(&socket)
                    {
                        let connection =
                            builder.serve_connection_with_upgrades(TokioIo::new(socket), handler);
                        let _ = watcher.watch(connection).await;
                    }
                }
            }
            drop(permit);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(STOP_TIME, graceful.shutdown()).await;
}

/// Reads the key that protects what the server keeps encrypted, or makes one at the first start.
fn load_key(path: &Path) -> Result<WrappingKey, StartError> {
    let error = |error| StartError::File {
        path: path.to_path_buf(),
        error,
    };
    match std::fs::read_to_string(path) {
        Ok(text) => WrappingKey::from_text(text.trim()).map_err(|_| StartError::Key(path.to_path_buf())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let mut bytes = [0u8; 32];
            getrandom::fill(&mut bytes).map_err(|_| StartError::Random)?;
            let key = WrappingKey::from_bytes(bytes);
            write_private(path, key.to_text().as_bytes()).map_err(error)?;
            Ok(key)
        }
        Err(e) => Err(error(e)),
    }
}

/// Writes a file that only its owner may read, whole or not at all.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let draft = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

/// The configuration as the server starts with it: made at the first start, passwords in clear hashed.
async fn prepare_config(store: &Store) -> Result<ServerConfigOptions, StoreError> {
    if let Some((config, _)) = store.config().await? {
        let in_clear = |a: &encke_api::types::AllowedAdminUser| {
            a.password_format == PASSWORD_FORMAT_PLAINTEXT && !a.password.is_empty()
        };
        if !config.admin_users.iter().any(in_clear) {
            return Ok(config);
        }
        let hashed = store.change_config(move |config| {
            for admin in config.admin_users.iter_mut().filter(|a| in_clear(a)) {
                let (stored, _) = StoredPassword::create(&admin.password).map_err(|_| StoreError::Stopped)?;
                admin.password = stored.to_text();
                admin.password_format = PASSWORD_FORMAT_ENCKE;
            }
            Ok(Vec::new())
        });
        return hashed.await?;
    }
    store
        .change_config(|config| {
            config.authentication_role.role_enabled = true;
            config.authentication_role.generate_missed_backup_events = true;
            config.authentication_role.generate_scheduled_emails = true;
            config.authentication_role.prune_logs_after_days = KEEP_DAYS;
            config.storage_role.role_enabled = true;
            config.software_build_role.role_enabled = true;
            config.login_protection = crate::auth::default_protection();
            Ok(Vec::new())
        })
        .await?
}

/// Takes over what another server on the same database changes in the configuration.
async fn follow_config(app: Arc<App>) {
    let mut timer = tokio::time::interval(CONFIG_TIME);
    let mut last = String::new();
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = timer.tick() => {}
        }
        let before = app.config();
        match app.store.config().await {
            Ok(Some((config, hash))) if hash != last => {
                let mut present = app.config.write();
                // What this server changed meanwhile is newer than what was read.
                if Arc::ptr_eq(&present, &before) {
                    *present = Arc::new(config);
                    last = hash;
                }
            }
            Ok(_) => {}
            Err(e) => tracing::warn!(error = %e, "the configuration could not be read"),
        }
    }
}

/// Forgets old events once an hour.
async fn prune(app: Arc<App>) {
    let mut timer = tokio::time::interval(Duration::from_secs(3600));
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = timer.tick() => {}
        }
        let before = now() - crate::app::keep_days(&app.config()) * 86_400;
        crate::meta::prune_logs(&app.data_dir, before);
        if let Err(e) = app.store.prune_install_tokens(now()).await {
            tracing::warn!(error = %e, "expired install tokens could not be removed");
        }
        if let Err(e) = app.store.prune_events(before).await {
            tracing::warn!(error = %e, "old events could not be removed");
        }
    }
}
