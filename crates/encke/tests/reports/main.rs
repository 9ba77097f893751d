//! Reports through the front door: where their rows come from, and who gets them how.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod data;
mod files;
mod public;
