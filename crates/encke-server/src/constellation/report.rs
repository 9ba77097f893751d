//! What was found out by asking all servers: kept as it is, and shown in the published form.

use super::census::{Found, Identity, Use, Uses};
use super::settings::Target;
use encke_api::types::{BucketUsageInfo, ConstellationCheckReport, UserOnServer};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most vaults outside of the cluster that are named.
const MAX_OUTSIDE: usize = 1000;

/// A report.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Report {
    /// Unix seconds; 0 if there was no report yet.
    pub check_started: i64,
    /// Unix seconds.
    pub check_completed: i64,
    /// This one, then those of the settings in their order: `ServerID` is the place in this list.
    pub servers: Vec<ServerSeen>,
    /// By id.
    pub buckets: BTreeMap<String, BucketSeen>,
    /// Why nothing may be deleted; empty if all is known.
    pub problems: Vec<String>,
    /// Vaults that name a bucket which no server of the cluster has.
    pub outside: Vec<Outside>,
    /// How many more there are.
    pub outside_left_out: usize,
}

/// A server that was asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ServerSeen {
    #[serde(rename = "TargetID")]
    pub id: String,
    pub name: String,
    pub address: String,
    /// Why it did not tell all; empty if it did.
    pub error: String,
    pub accounts: usize,
    pub buckets: usize,
    /// The tenant whose administrator asked; empty for the top level.
    #[serde(rename = "OrganizationID")]
    pub organization: String,
    /// The server that stands in the list before under another address.
    #[serde(rename = "SameAsServerID", skip_serializing_if = "Option::is_none")]
    pub same_as: Option<usize>,
}

/// A bucket that is somewhere or is named by somebody.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct BucketSeen {
    pub exists_on: Vec<Copy>,
    pub used_by: Vec<UsedBy>,
}

/// A bucket on one server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Copy {
    #[serde(rename = "ServerID")]
    pub server: usize,
    #[serde(rename = "OrganizationID")]
    pub organization: String,
    /// Unix seconds by its server's clock.
    pub create_time: i64,
    /// Seconds by its server's clock.
    pub age: i64,
    /// Bytes.
    pub size: i64,
}

/// An account whose vault names a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct UsedBy {
    #[serde(rename = "ServerID")]
    pub server: usize,
    /// Empty for the server's settings.
    pub username: String,
    #[serde(rename = "OrganizationID")]
    pub organization: String,
}

/// A vault that names what no server of the cluster has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Outside {
    /// Server of the account.
    #[serde(rename = "ServerID")]
    pub server: usize,
    pub username: String,
    #[serde(rename = "BucketID")]
    pub bucket: String,
    /// As the vault names it.
    pub address: String,
    /// Whether the server that it names belongs to the cluster: then the bucket is missing there.
    pub is_known_server: bool,
}

impl BucketSeen {
    /// Whether a server has it and nobody names it.
    pub(super) fn is_unused(&self) -> bool {
        !self.exists_on.is_empty() && self.used_by.is_empty()
    }
}

impl Report {
    /// Buckets that nobody names.
    pub(super) fn unused(&self) -> BTreeSet<&str> {
        let unused = self.buckets.iter().filter(|(_, b)| b.is_unused());
        unused.map(|(id, _)| id.as_str()).collect()
    }

    /// Those of them that are as old as this in seconds, on every server. What is new may be about to get its vault.
    pub(super) fn deletable(&self, age: i64) -> Vec<(String, Vec<Copy>)> {
        let old = |b: &BucketSeen| b.exists_on.iter().all(|c| c.create_time > 0 && c.age >= age);
        let all = self.buckets.iter().filter(|(_, b)| b.is_unused() && old(b));
        all.map(|(id, b)| (id.clone(), b.exists_on.clone())).collect()
    }

    /// The published form, as an administrator of this tenant may see it (empty for the top level): tenants see their own
    /// buckets on this server and their own accounts; whoever else uses them has no name there.
    pub(super) fn published(&self, reader: &str) -> ConstellationCheckReport {
        let own =
            |server: usize, organization: &str| reader.is_empty() || (server == 0 && organization == reader);
        let mut usage = BTreeMap::new();
        for (id, bucket) in &self.buckets {
            let on: Vec<_> = bucket
                .exists_on
                .iter()
                .filter(|c| own(c.server, &c.organization))
                .collect();
            let mut users: Vec<_> = bucket
                .used_by
                .iter()
                .filter(|u| own(u.server, &u.organization) && (reader.is_empty() || !u.username.is_empty()))
                .map(|u| (u.server, u.username.as_str()))
                .collect();
            if on.is_empty() && users.is_empty() {
                continue;
            }
            if users.len() < bucket.used_by.len() {
                users.push((0, ""));
            }
            let info = BucketUsageInfo {
                access_key: id.clone(),
                exists_on_servers: on.iter().map(|c| whole(c.server)).collect(),
                in_use_by: users
                    .into_iter()
                    .map(|(server, username)| UserOnServer {
                        server_id: whole(server),
                        username: username.to_string(),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            };
            usage.insert(id.clone(), info);
        }
        ConstellationCheckReport {
            check_started: self.check_started,
            check_completed: self.check_completed,
            usage,
            ..Default::default()
        }
    }
}

fn whole(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// What is known of this server: its name and address.
pub(super) struct Here {
    pub name: String,
    pub address: String,
}

/// What one server told, step by step.
pub(super) struct Answer {
    pub identity: Result<Identity, String>,
    pub buckets: Result<BTreeMap<String, Found>, String>,
    pub uses: Result<Uses, String>,
}

fn plain(address: &str) -> String {
    address.trim().trim_end_matches('/').to_lowercase()
}

/// Puts together what all servers told: this one first, then the targets. `had_accounts` is how many accounts each had
/// before, by the target's id.
pub(super) fn put_together(
    here: &Here,
    targets: &[Target],
    answers: Vec<Answer>,
    had_accounts: &BTreeMap<String, usize>,
) -> Report {
    let mut report = Report::default();
    let known: BTreeSet<String> = std::iter::once(plain(&here.address))
        .chain(targets.iter().map(|t| plain(&t.address)))
        .collect();
    let mut silent = BTreeSet::new();
    let mut identities: Vec<Option<Identity>> = Vec::new();
    let mut vaults: Vec<(usize, Use)> = Vec::new();
    for (number, answer) in answers.into_iter().enumerate() {
        let target = number.checked_sub(1).map(|i| &targets[i]);
        let mut seen = ServerSeen {
            id: target.map(|t| t.id.clone()).unwrap_or_default(),
            name: target.map_or_else(|| here.name.clone(), |t| t.name.clone()),
            address: target.map_or_else(|| here.address.clone(), |t| t.address.clone()),
            ..Default::default()
        };
        let whole = answer
            .identity
            .and_then(|identity| Ok((identity, answer.buckets?, answer.uses?)));
        match whole {
            Err(error) => {
                report.problems.push(format!("{}: {error}", seen.name));
                silent.insert(plain(&seen.address));
                seen.error = error;
                identities.push(None);
            }
            Ok((identity, buckets, uses)) => {
                seen.organization.clone_from(&identity.organization);
                seen.same_as = identities.iter().position(|earlier| {
                    earlier
                        .as_ref()
                        .is_some_and(|e| e.start_hash == identity.start_hash && e.organization.is_empty())
                });
                seen.accounts = uses.accounts;
                seen.buckets = buckets.len();
                if uses.accounts == 0 && had_accounts.get(&seen.id).is_some_and(|n| *n > 0) {
                    report.problems.push(format!(
                        "{}: it had accounts before and shows none now. If that is right, make a new report",
                        seen.name
                    ));
                }
                if seen.same_as.is_none() {
                    for (id, found) in buckets {
                        report.buckets.entry(id).or_default().exists_on.push(Copy {
                            server: number,
                            organization: found.organization,
                            create_time: found.created,
                            age: identity.clock - found.created,
                            size: found.bytes,
                        });
                    }
                    vaults.extend(uses.all.into_iter().map(|u| (number, u)));
                }
                identities.push(Some(identity));
            }
        }
        report.servers.push(seen);
    }
    for (number, identity) in identities.iter().enumerate() {
        let Some(identity) = identity.as_ref().filter(|i| !i.organization.is_empty()) else {
            continue;
        };
        let is_whole =
            |other: &Identity| other.start_hash == identity.start_hash && other.organization.is_empty();
        if !identities.iter().flatten().any(is_whole) {
            report.problems.push(format!(
                "{}: it is seen as its tenant '{}' alone, and the accounts of its other tenants may use anything; name an \
                 administrator of the top level there",
                report.servers[number].name, identity.organization
            ));
        }
    }
    for (server, one) in vaults {
        let bucket = report.buckets.entry(one.bucket.clone()).or_default();
        let by = UsedBy {
            server,
            username: one.user.clone(),
            organization: one.organization,
        };
        if bucket.used_by.contains(&by) {
            continue;
        }
        bucket.used_by.push(by);
        let address = plain(&one.address);
        if !bucket.exists_on.is_empty() || address.is_empty() || silent.contains(&address) {
            continue;
        }
        if report.outside.len() == MAX_OUTSIDE {
            report.outside_left_out += 1;
            continue;
        }
        report.outside.push(Outside {
            server,
            username: one.user,
            bucket: one.bucket,
            is_known_server: known.contains(&address),
            address: one.address,
        });
    }
    report
}
