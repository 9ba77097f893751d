//! Whose rows a caller may see. Every query takes one, so a call without a scope does not compile.

use crate::sql::P;

/// The rows a caller may touch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everything: administrators of the top level, and the server itself.
    All,
    /// One organization's accounts and what belongs to them.
    Organization(String),
    /// One account and what belongs to it.
    User(String),
}

impl Scope {
    /// A condition over a table's columns for organization and user name, with its parameter. `at` is the number of
    /// the parameter in the statement.
    #[must_use]
    pub fn condition(&self, organization: &str, username: &str, at: usize) -> (String, Option<P<'_>>) {
        match self {
            Scope::All => ("1 = 1".into(), None),
            Scope::Organization(o) => (format!("{organization} = ?{at}"), Some(P::Text(o))),
            Scope::User(u) => (format!("{username} = ?{at}"), Some(P::Text(u))),
        }
    }

    /// Whether an account of this organization and name is inside.
    #[must_use]
    pub fn contains(&self, organization: &str, username: &str) -> bool {
        match self {
            Scope::All => true,
            Scope::Organization(o) => o == organization,
            Scope::User(u) => u == username,
        }
    }
}
