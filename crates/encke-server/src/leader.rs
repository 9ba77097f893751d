//! Of several servers on one database, one sends e-mails, makes scheduled reports, feeds webhooks, copies itself to
//! others and looks for unused buckets. With SQLite there is one server, and it leads from its start.

use crate::app::App;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Name of the lease in the store.
const LEASE: &str = "outgoing";
/// A server that is not heard of for so many seconds has lost the lease.
const LEASE_TIME: i64 = 15;
/// How often the lease is renewed, or asked for.
const RENEW_EVERY: Duration = Duration::from_secs(4);

/// Whether this server leads.
pub struct Leader(watch::Sender<bool>);

impl Default for Leader {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Leader {
    /// Whether it leads now.
    #[must_use]
    pub fn leads(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once it leads.
    pub async fn wait(&self) {
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(|leads| *leads).await;
    }

    /// Returns once it leads no more.
    pub async fn lost(&self) {
        let _ = self.0.subscribe().wait_for(|leads| !*leads).await;
    }
}

/// Runs work again and again while this server leads, until it stops. The work is dropped when the lease is lost.
pub(crate) fn while_leading<F, W>(app: &Arc<App>, work: W)
where
    W: Fn(Arc<App>) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let app = app.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = app.stopping.cancelled() => return,
                () = app.leader.wait() => {}
            }
            tokio::select! {
                () = app.stopping.cancelled() => return,
                () = app.leader.lost() => {}
                () = work(app.clone()) => {}
            }
        }
    });
}

/// Asks for the lease and keeps it until the server stops.
pub(crate) async fn keep(app: Arc<App>) {
    loop {
        let asked = app.store.lease(LEASE, &app.start_hash, LEASE_TIME);
        // A lease that could not be renewed in time is another's.
        let asked = tokio::time::timeout(RENEW_EVERY, asked).await;
        let leads = match asked {
            Ok(Ok(leads)) => leads,
            Ok(Err(e)) => {
                tracing::warn!(error = %e, "the lease for outgoing messages could not be renewed");
                false
            }
            Err(_) => false,
        };
        app.leader.0.send_if_modified(|present| {
            let changed = *present != leads;
            *present = leads;
            changed
        });
        tokio::select! {
            () = app.stopping.cancelled() => break,
            () = tokio::time::sleep(RENEW_EVERY) => {}
        }
    }
    app.leader.0.send_replace(false);
    if let Err(e) = app.store.give_back(LEASE, &app.start_hash).await {
        tracing::warn!(error = %e, "the lease for outgoing messages could not be given back");
    }
}
