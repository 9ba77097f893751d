//! The command line for repositories, `encke vault`.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod crash;
