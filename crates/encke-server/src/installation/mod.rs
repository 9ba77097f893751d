//! Devices that have no account yet: install tokens, and the lobby where a device waits until an administrator gives it
//! an account (reference, section 10).

mod lobby;
mod tokens;

pub use lobby::Lobby;
pub(crate) use lobby::{enter, stay};
pub(crate) use tokens::{Taken, redeem};

use crate::table::Route;
use encke_api::endpoint::Role;

/// Endpoints of install tokens and the lobby.
#[must_use]
pub fn routes() -> Vec<Route> {
    let all = tokens::routes().into_iter().chain(lobby::routes());
    all.map(|r| r.roles(&[Role::Auth])).collect()
}
