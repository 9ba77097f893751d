//! Storage templates and vault requests (reference, section 14): an administrator describes where Storage Vaults may
//! lie ([`templates`]); an administrator or an end user then asks for one ([`requests`]), and the server makes the
//! place with a key of its own ([`provision`]) and writes the ready vault into the profile.

mod aws;
mod custom;
pub(crate) mod http;
mod other_role;
mod provision;
mod requests;
mod secrets;
mod templates;

pub(crate) use secrets::{adopt, obscured};

use crate::table::Route;
use encke_api::constants::{
    REMOTESERVER_AWS, REMOTESERVER_B2, REMOTESERVER_COMET, REMOTESERVER_COMET_STORAGE, REMOTESERVER_CUSTOM,
    REMOTESERVER_IDRIVEE2, REMOTESERVER_IMPOSSIBLECLOUD_IAM, REMOTESERVER_IMPOSSIBLECLOUD_PARTNER,
    REMOTESERVER_S3_GENERIC, REMOTESERVER_STORJ, REMOTESERVER_WASABI,
};
use encke_api::types::{RemoteStorageOption, ServerConfigOptions};

/// The kinds of templates with their names for people.
const KINDS: [(&str, &str); 11] = [
    (REMOTESERVER_COMET, "Storage Role"),
    (REMOTESERVER_S3_GENERIC, "S3-compatible with IAM"),
    (REMOTESERVER_AWS, "Amazon AWS"),
    (REMOTESERVER_WASABI, "Wasabi"),
    (REMOTESERVER_IDRIVEE2, "IDrive e2"),
    (REMOTESERVER_CUSTOM, "custom HTTP"),
    (REMOTESERVER_B2, "Backblaze B2"),
    (REMOTESERVER_COMET_STORAGE, "Comet Storage"),
    (REMOTESERVER_STORJ, "Storj"),
    (REMOTESERVER_IMPOSSIBLECLOUD_IAM, "Impossible Cloud"),
    (REMOTESERVER_IMPOSSIBLECLOUD_PARTNER, "Impossible Cloud (partner)"),
];

/// What people call the kind of a template; nothing for what is no kind of storage.
fn kind_name(kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|(k, _)| *k == kind).map(|(_, name)| *name)
}

/// The templates of an organization (empty for the top level). Nobody has another's.
fn of_organization<'a>(config: &'a ServerConfigOptions, organization: &str) -> &'a [RemoteStorageOption] {
    if organization.is_empty() {
        return &config.authentication_role.remote_storage;
    }
    let found = config.organizations.get(organization);
    found.map_or(&[], |o| &o.remote_storage)
}

/// Endpoints.
#[must_use]
pub fn routes() -> Vec<Route> {
    let mut all = templates::routes();
    all.extend(requests::routes());
    all
}
