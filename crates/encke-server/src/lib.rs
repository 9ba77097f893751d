//! The server: HTTP in, store and live connections behind. One module a capability; each declares its endpoints
//! (`routes`) beside their handlers.
//!
//! Start reading at [`http`] (from the socket to the endpoint table), [`table`] (how an endpoint is declared and
//! guarded) and [`auth`] (who is calling). This crate knows nothing of the repository format.

pub mod admins;
pub mod app;
mod archive;
pub mod auth;
pub mod clients;
pub mod console;
pub mod constellation;
pub mod email;
pub mod events;
pub mod external_login;
pub mod groups;
pub mod http;
pub mod installation;
pub mod jobs;
pub mod leader;
pub mod live;
pub mod meta;
pub mod news;
pub mod organizations;
pub mod origin;
pub mod policies;
pub mod reference;
pub mod replication;
pub mod reports;
mod secrets;
pub mod self_backup;
pub mod shared_quotas;
mod start;
pub mod storage_role;
pub mod storage_templates;
pub mod stream;
pub mod table;
mod tls;
pub mod unsupported;
pub mod updates;
pub mod users;
pub mod webauthn;
pub mod webhooks;

pub use app::Ending;
pub use console::is_origin;
pub use meta::LOG_FOLDER;
pub use reports::ReportOptions;
pub use start::{DEFAULT_ACME_DIRECTORY, DEFAULT_LISTEN, ServeOptions, Server, StartError, all_routes};
