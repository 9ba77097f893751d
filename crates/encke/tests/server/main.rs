//! The server through the front door: a real `encke serve`, called over HTTP.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod api;
mod audit;
mod client_builds;
mod constellation;
mod email;
mod events;
mod external_login;
mod installation;
mod meta;
mod organizations;
mod permissions;
mod policies;
mod reference;
mod replication;
mod sign_in;
mod storage_role;
mod storage_templates;
mod store;
mod tls;
mod tls_listeners;
mod updates;
mod webhooks;
