//! Making a report, and deleting what nobody uses: only while all is known of all servers, and each bucket only after all
//! of them were asked once more.

use super::census::{Gone, Server, Uses};
use super::report::{Answer, Copy, Here, Report, put_together};
use super::seconds;
use super::settings::{Target, targets};
use crate::app::{App, now, store_error};
use crate::meta::brand_name;
use encke_api::types::ConstellationRoleOptions;
use encke_api::{ApiError, ApiResult};
use encke_store::audit::{asked_by, asker};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// A bucket that is younger than this in seconds stays: its vault may be about to be saved.
const KEEP_NEW: i64 = 3600;
/// Variable of the environment with other seconds than [`KEEP_NEW`].
const KEEP_NEW_VARIABLE: &str = "ENCKE_CONSTELLATION_KEEP_NEW_SECONDS";
/// What was asked longer ago than this is asked again before the next bucket is deleted.
const FRESH: Duration = Duration::from_secs(5);
/// Most ids of deleted buckets that are shown of one deletion.
const MAX_SHOWN: usize = 1000;

/// Documents in the store.
const REPORT: &str = "report";
const COUNTS: &str = "counts";

/// Why all servers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// An hour is over. What was unused twice is deleted, if the settings say so.
    ByItself,
    /// Somebody of the top level wants a report. Nothing is deleted.
    Report,
    /// Somebody of a tenant does.
    Look,
    /// Somebody wants what is unused to be deleted.
    Prune,
}

/// What is kept beside the report.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Counts {
    /// Unix seconds; 0 for never.
    pub last_check_start: i64,
    /// The same of those that nobody asked for.
    pub last_by_itself: i64,
    pub total_checks_started: i64,
    pub total_buckets_deleted: i64,
    /// How many accounts each server had, by the target's id: one that has lost all of them is not believed.
    pub accounts: BTreeMap<String, usize>,
    pub last_prune: Option<Pruned>,
}

/// What became of a deletion.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Pruned {
    /// Unix seconds.
    pub time: i64,
    /// Who asked for it; empty for the server itself.
    pub actor: String,
    /// Buckets that were deleted, each once, however many servers had it.
    pub count: usize,
    /// Ids of the first ones.
    pub deleted: Vec<String>,
    /// Unused ones that were left alone as they are too new, or were not unused in the report before.
    pub waiting: usize,
    /// Why no more were; empty if all were.
    pub error: String,
    /// Ids of all.
    #[serde(skip)]
    gone: HashSet<String>,
}

async fn document<T: DeserializeOwned + Default>(app: &App, name: &'static str) -> ApiResult<T> {
    let kept = app.store.constellation(name).await.map_err(store_error)?;
    // One of another version of the program is as good as none.
    Ok(kept
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default())
}

async fn keep<T: Serialize>(app: &App, name: &'static str, document: &T) -> ApiResult<()> {
    let text = serde_json::to_string(document).map_err(|_| ApiError::internal())?;
    app.store.set_constellation(name, text).await.map_err(store_error)
}

/// The newest report; an empty one before the first.
pub(super) async fn report(app: &App) -> ApiResult<Report> {
    document(app, REPORT).await
}

/// What is counted.
pub(super) async fn counts(app: &App) -> ApiResult<Counts> {
    document(app, COUNTS).await
}

/// This server as reports name it.
pub(super) fn here(app: &App) -> Here {
    Here {
        name: brand_name(&app.config()),
        address: app.local_url.clone(),
    }
}

/// Counts a check for as long as it lives.
struct Active<'a>(&'a AtomicI64);

impl<'a> Active<'a> {
    fn new(count: &'a AtomicI64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Asks all servers, and deletes as `why` says; to the end, even if the caller goes away in the middle.
///
/// # Errors
/// The store fails. What goes wrong with other servers stands in the report.
pub(super) async fn run(app: &Arc<App>, why: Why, actor: &str) -> ApiResult<(Report, Pruned)> {
    let (app, actor) = (app.clone(), actor.to_string());
    let running = asked_by(asker(), async move { one_at_a_time(&app, why, &actor).await });
    tokio::spawn(running).await.map_err(|e| {
        tracing::error!(error = %e, "a check of the cluster's buckets broke off");
        ApiError::internal()
    })?
}

async fn one_at_a_time(app: &Arc<App>, why: Why, actor: &str) -> ApiResult<(Report, Pruned)> {
    let state = &app.constellation;
    let _active = Active::new(&state.active);
    let begun = state.begun.load(Ordering::Relaxed);
    let _one = state.one.lock().await;
    // Another one began after this was asked for: its report is as new.
    if matches!(why, Why::Report | Why::Look) && state.begun.load(Ordering::Relaxed) > begun {
        return Ok((report(app).await?, Pruned::default()));
    }
    state.begun.fetch_add(1, Ordering::Relaxed);
    let before = report(app).await?;
    let mut counts = counts(app).await?;
    counts.last_check_start = now();
    counts.total_checks_started += 1;
    if why == Why::ByItself {
        counts.last_by_itself = counts.last_check_start;
    }
    keep(app, COUNTS, &counts).await?;

    let options = app.config().constellation_role.clone();
    let cluster = Cluster::new(app, &options);
    let mut new = cluster.report(app, &counts).await;
    keep(app, REPORT, &new).await?;
    for seen in &new.servers {
        let known = counts.accounts.entry(seen.id.clone()).or_default();
        // Only who looks at the report may accept that there are none any more.
        if seen.error.is_empty() && (seen.accounts > 0 || why == Why::Report) {
            *known = seen.accounts;
        }
    }
    counts
        .accounts
        .retain(|id, _| new.servers.iter().any(|s| s.id == *id));
    for problem in &new.problems {
        tracing::warn!(problem, "not all is known of the cluster's buckets");
    }

    let mut pruned = Pruned::default();
    if why == Why::Prune || (why == Why::ByItself && options.delete_unused_data) {
        pruned = cluster.prune(app, why, actor, &options, &before, &new).await;
        counts.total_buckets_deleted += i64::try_from(pruned.count).unwrap_or_default();
        // An hour in which nothing was to be deleted is not worth to hide the one before.
        if why == Why::Prune || pruned.count > 0 || !pruned.error.is_empty() {
            counts.last_prune = Some(pruned.clone());
        }
    }
    keep(app, COUNTS, &counts).await?;
    if pruned.count > 0 {
        new.buckets.retain(|id, _| !pruned.gone.contains(id));
        keep(app, REPORT, &new).await?;
    }
    Ok((new, pruned))
}

/// All servers, this one first.
struct Cluster {
    here: Here,
    targets: Vec<Target>,
    servers: Vec<Arc<Server>>,
}

impl Cluster {
    fn new(app: &App, options: &ConstellationRoleOptions) -> Self {
        let targets = targets(options);
        let others = targets.iter().map(|t| Server::of(app, t));
        let servers = std::iter::once(Server::Here)
            .chain(others)
            .map(Arc::new)
            .collect();
        Self {
            here: here(app),
            targets,
            servers,
        }
    }

    fn address(&self, server: usize) -> &str {
        match server.checked_sub(1) {
            None => &self.here.address,
            Some(i) => &self.targets[i].address,
        }
    }

    /// Asks all servers at once for the same.
    async fn ask<T, F, Fut>(&self, app: &Arc<App>, ask: F) -> Vec<Result<T, String>>
    where
        T: Send + 'static,
        F: Fn(usize, Arc<App>, Arc<Server>) -> Fut,
        Fut: Future<Output = Result<T, String>> + Send + 'static,
    {
        let servers = self.servers.iter().cloned().enumerate();
        let asked: Vec<_> = servers
            .map(|(number, server)| tokio::spawn(ask(number, app.clone(), server)))
            .collect();
        let mut answers = Vec::new();
        for one in asked {
            answers.push(
                one.await
                    .unwrap_or_else(|_| Err("The server could not be asked".into())),
            );
        }
        answers
    }

    /// First all buckets, then all accounts: whoever is given a bucket meanwhile is seen with it.
    async fn report(&self, app: &Arc<App>, counts: &Counts) -> Report {
        let started = now();
        let first = self
            .ask(app, |_, app, server| async move {
                let identity = server.identity(&app).await?;
                let buckets = server.buckets(&app, &identity).await?;
                Ok((identity, buckets))
            })
            .await;
        let identities: Vec<_> = first
            .iter()
            .map(|f| f.as_ref().ok().map(|(identity, _)| identity.clone()))
            .collect();
        let second = self
            .ask(app, move |number, app, server| {
                let identity = identities[number].clone();
                async move {
                    match identity {
                        Some(identity) => server.uses(&app, &identity).await,
                        None => Ok(Uses::default()),
                    }
                }
            })
            .await;
        let answers = first.into_iter().zip(second).map(|(first, uses)| match first {
            Ok((identity, buckets)) => Answer {
                identity: Ok(identity),
                buckets: Ok(buckets),
                uses,
            },
            Err(error) => Answer {
                identity: Err(error),
                buckets: Ok(BTreeMap::new()),
                uses,
            },
        });
        let mut report = put_together(&self.here, &self.targets, answers.collect(), &counts.accounts);
        report.check_started = started;
        report.check_completed = now();
        report
    }

    /// Every bucket that anybody names at this moment.
    ///
    /// # Errors
    /// A server did not tell, or shows no accounts where the report saw some.
    async fn used(&self, app: &Arc<App>, report: &Report) -> Result<HashSet<String>, String> {
        let answers = self
            .ask(app, |_, app, server| async move {
                let identity = server.identity(&app).await?;
                server.uses(&app, &identity).await
            })
            .await;
        let mut used = HashSet::new();
        for (seen, answer) in report.servers.iter().zip(answers) {
            let uses = answer.map_err(|e| format!("{}: {e}", seen.name))?;
            if uses.accounts == 0 && seen.accounts > 0 {
                return Err(format!("{}: its accounts are gone", seen.name));
            }
            used.extend(uses.all.into_iter().map(|u| u.bucket));
        }
        Ok(used)
    }

    async fn prune(
        &self,
        app: &Arc<App>,
        why: Why,
        actor: &str,
        options: &ConstellationRoleOptions,
        before: &Report,
        report: &Report,
    ) -> Pruned {
        let mut pruned = Pruned {
            time: now(),
            actor: actor.to_string(),
            ..Default::default()
        };
        if !report.problems.is_empty() {
            pruned.error = report.problems.join("; ");
            return pruned;
        }
        let all = report.unused().len();
        let mut chosen = report.deletable(seconds(KEEP_NEW_VARIABLE, KEEP_NEW));
        if why == Why::ByItself {
            // A report with problems saw too few accounts.
            let twice = if before.problems.is_empty() {
                before.unused()
            } else {
                BTreeSet::new()
            };
            chosen.retain(|(id, _)| twice.contains(id.as_str()));
        }
        pruned.waiting = all - chosen.len();
        let mut asked: Option<(Instant, HashSet<String>)> = None;
        for (id, copies) in chosen {
            if app.config().constellation_role != *options {
                pruned.error = "The settings were changed meanwhile".into();
                break;
            }
            if asked.as_ref().is_none_or(|(at, _)| at.elapsed() > FRESH) {
                // From before the question: what is answered is at least as new.
                let at = Instant::now();
                match self.used(app, report).await {
                    Ok(used) => asked = Some((at, used)),
                    Err(error) => {
                        pruned.error = error;
                        break;
                    }
                }
            }
            let is_used = asked.as_ref().is_none_or(|(_, used)| used.contains(&id));
            if is_used {
                tracing::info!(bucket = id, "a bucket came into use again and stays");
                continue;
            }
            match self.delete(app, actor, &id, &copies).await {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(bucket = id, actor, "an unused bucket was deleted");
                    pruned.count += 1;
                    if pruned.deleted.len() < MAX_SHOWN {
                        pruned.deleted.push(id.clone());
                    }
                    pruned.gone.insert(id);
                }
                Err(error) => {
                    pruned.error = error;
                    break;
                }
            }
        }
        if !pruned.error.is_empty() {
            tracing::warn!(error = pruned.error, "not all unused buckets were deleted");
        }
        pruned
    }

    /// Deletes a bucket on every server that has it. Whether it is gone from all of them.
    async fn delete(&self, app: &Arc<App>, actor: &str, id: &str, copies: &[Copy]) -> Result<bool, String> {
        let mut gone = true;
        for copy in copies {
            let address = self.address(copy.server);
            let deleted = self.servers[copy.server]
                .delete(app, actor, address, id, copy.create_time)
                .await;
            match deleted {
                Ok(Gone::Now | Gone::Before) => {}
                Ok(Gone::Another) => gone = false,
                Err(error) => return Err(format!("{address}, bucket {id}: {error}")),
            }
        }
        Ok(gone)
    }
}
