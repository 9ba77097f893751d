//! How an endpoint is described. The server declares each one beside its handler with these words; router,
//! permission check, API reference and coverage test are made from the same table (DESIGN D1).

use crate::form::Param;

/// Whose credentials a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody's: credentials that come along are ignored.
    Nobody,
    /// An administrator's.
    Admin,
    /// An end user's.
    User,
    /// Either kind; the answer tells which.
    AdminOrUser,
}

/// Parts of the server that can be switched off on their own (reference, section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Accounts, devices, jobs.
    Auth,
    /// Buckets.
    Storage,
    /// Client installers.
    SoftwareBuild,
    /// Bucket usage over a cluster.
    Constellation,
}

impl Role {
    /// The word in `spec/endpoints.json`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Role::Auth => "auth",
            Role::Storage => "storage",
            Role::SoftwareBuild => "software_build",
            Role::Constellation => "constellation",
        }
    }
}

/// Whether this server does what the endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Complete.
    Supported,
    /// Answers 501 with this reason, until somebody builds it.
    NotYet(&'static str),
    /// Answers 501 with this reason, which will not change.
    Unsupported(&'static str),
}

impl Support {
    /// The word in the reference.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Support::Supported => "supported",
            Support::NotYet(_) => "not yet",
            Support::Unsupported(_) => "unsupported",
        }
    }

    /// Why a call answers 501; nothing for one that works.
    #[must_use]
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Support::Supported => None,
            Support::NotYet(why) | Support::Unsupported(why) => Some(why),
        }
    }
}

/// One endpoint as router, reference and tests see it.
#[derive(Clone)]
pub struct Endpoint {
    /// Name in the SDKs, such as `AdminListUsers`.
    pub name: &'static str,
    /// Absolute path.
    pub path: &'static str,
    /// `POST`, or `GET` for the two public property calls.
    pub method: &'static str,
    /// Whose credentials it needs.
    pub caller: Caller,
    /// Refuses administrators of an organization.
    pub top_level_only: bool,
    /// Roles that must be switched on.
    pub roles: &'static [Role],
    /// Parameters in published order.
    pub params: &'static [Param],
    /// Type of a successful answer in the specification's type language.
    pub response: String,
    /// One sentence for the reference.
    pub summary: &'static str,
    /// Whether it works here.
    pub support: Support,
}
