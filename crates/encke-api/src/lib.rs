//! The API boundary: wire structures, constants, endpoint descriptions, parameter parsing and the rules for
//! account keys. Pure data and computation: nothing here opens a file or a socket.
//!
//! Start reading at [`endpoint`] (how a call is described), then [`form`] (how its parameters are read) and
//! [`types`] (structures generated from `spec/types.json`).

pub mod account_keys;
pub mod endpoint;
pub mod error;
pub mod form;
pub mod live;
pub mod messages;
pub mod schedule;
pub mod spec;
pub mod wire;

/// Structures of the published API, generated from `spec/types.json`.
pub mod types {
    #![allow(clippy::struct_excessive_bools, clippy::derive_partial_eq_without_eq)]
    use crate::wire::*;
    use serde::de::MapAccess;
    use serde::ser::SerializeMap;
    use serde_json::{Map, Value};
    include!(concat!(env!("OUT_DIR"), "/types.rs"));
}

/// Constants of the published API, generated from `spec/constants.json`.
pub mod constants {
    include!(concat!(env!("OUT_DIR"), "/constants.rs"));
}

pub use error::{ApiError, ApiResult, SecondFactor};
