//! Devices through the front door: the real server and the real agent.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod backup;
mod faults;
mod items;
mod machines;
mod network;
mod schedule;
mod schedule_week;
mod server;
mod snapshots;
mod upkeep;
