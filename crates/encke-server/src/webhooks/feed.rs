//! Stored events to webhooks, in order and at least once. How far each came is in the store; the events themselves are
//! the queue, so it is as long as events are kept, and a restart loses nothing.

use super::post::{Failure, Sender};
use super::{Hook, align, all};
use crate::app::{App, now};
use encke_api::constants::SEVT_META_HELLO;
use encke_store::{EventDraft, StoredEvent, StoredWebhook};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

/// Events read together.
const BATCH: i64 = 100;
/// Tries of a message that the receiver refuses.
const REFUSED_TRIES: u32 = 5;
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Events that could not be told of for so many seconds are passed over.
const GIVE_UP_AFTER: i64 = 86_400;
/// How often it is looked whether others changed the webhooks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Longest wait for new events.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Events passed over before that is noted.
const NOTE_AFTER: i64 = 200;

/// The pause after so many failures in a row.
pub(super) fn pause(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}

/// Feeds every webhook, for as long as this server leads; anew whenever webhooks change.
pub(super) async fn run(app: Arc<App>) {
    let mut changed = app.webhooks.0.subscribe();
    loop {
        changed.mark_unchanged();
        let hooks = all(&app.config());
        let mut feeders = JoinSet::new();
        match start(&app, &hooks).await {
            Ok(stored) => {
                for (hook, state) in stored {
                    feeders.spawn(feed(app.clone(), hook, state));
                }
            }
            Err(e) => tracing::warn!(error = %e, "webhooks could not be started"),
        }
        loop {
            tokio::select! {
                _ = changed.changed() => break,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if all(&app.config()) != hooks || (feeders.is_empty() && !hooks.is_empty()) {
                break;
            }
        }
        // Dropping them ends them; a message on its way is sent again.
    }
}

async fn start(app: &App, hooks: &[Hook]) -> encke_api::ApiResult<Vec<(Hook, StoredWebhook)>> {
    align(app, None).await?;
    let known = app.store.webhooks().await.map_err(crate::app::store_error)?;
    let find = |hook: &Hook| {
        let mut known = known.iter();
        known
            .find(|k| k.organization == hook.organization && k.name == hook.name)
            .cloned()
    };
    Ok(hooks
        .iter()
        .filter_map(|hook| Some((hook.clone(), find(hook)?)))
        .collect())
}

/// The first message of each start.
async fn hello(app: &App, hook: &Hook, sender: &Sender) {
    if !hook.wants(SEVT_META_HELLO) {
        return;
    }
    let Ok(version) = crate::meta::version_info(app).await else {
        return;
    };
    let event = EventDraft {
        actor: String::new(),
        organization: hook.organization.clone(),
        resource: String::new(),
        kind: SEVT_META_HELLO,
        data: serde_json::to_value(&version).unwrap_or_default(),
    };
    let tracing = uuid::Uuid::new_v4().to_string();
    let id = format!("hello-{tracing}");
    let body = sender.body(&event.into_event().json);
    if let Err(e) = sender.post(&id, &tracing, body).await {
        note_failure(app, hook, &tracing, &e).await;
    }
}

async fn note_failure(app: &App, hook: &Hook, tracing: &str, failure: &Failure) {
    let error = failure.text();
    let (organization, name) = (hook.organization.as_str(), hook.name.as_str());
    tracing::warn!(
        organization,
        webhook = name,
        tracing,
        error,
        "a webhook's message did not arrive"
    );
    let noted = app
        .store
        .webhook_failed(organization, name, error.to_string(), now())
        .await;
    if let Err(e) = noted {
        tracing::warn!(error = %e, "a webhook's failure could not be noted");
    }
}

async fn feed(app: Arc<App>, hook: Hook, state: StoredWebhook) {
    let sender = match Sender::new(&app, &hook, &state.signing_key) {
        Ok(sender) => sender,
        Err(e) => {
            tracing::error!(
                webhook = hook.name,
                error = e.message,
                "a webhook can not be used"
            );
            return std::future::pending().await;
        }
    };
    let mut bus = app.store.subscribe_stored();
    hello(&app, &hook, &sender).await;
    let (mut told, mut noted) = (state.told, state.told);
    loop {
        let events = match app.store.events_after(hook.organization(), told, BATCH).await {
            Ok(events) => events,
            Err(e) => {
                tracing::warn!(error = %e, "events could not be read for a webhook");
                tokio::time::sleep(Duration::from_secs(5)).await;
                continue;
            }
        };
        if events.is_empty() {
            wait(&mut bus).await;
            continue;
        }
        for event in events {
            let arrived = if hook.wants(event.kind) {
                tell(&app, &hook, &sender, &event).await
            } else {
                None
            };
            told = event.id;
            if arrived.is_some() || told - noted >= NOTE_AFTER {
                let written = app
                    .store
                    .webhook_told(&hook.organization, &hook.name, told, arrived)
                    .await;
                match written {
                    Ok(()) => noted = told,
                    Err(e) => tracing::warn!(error = %e, "how far a webhook came could not be noted"),
                }
            }
        }
    }
}

/// Waits until something is stored.
async fn wait(bus: &mut tokio::sync::broadcast::Receiver<Arc<encke_store::Event>>) {
    let stored = async {
        if let Err(RecvError::Closed) = bus.recv().await {
            std::future::pending::<()>().await;
        }
    };
    let _ = tokio::time::timeout(LONGEST_WAIT, stored).await;
}

/// Tells of an event until it arrives or is given up. When it arrived (Unix seconds).
async fn tell(app: &App, hook: &Hook, sender: &Sender, event: &StoredEvent) -> Option<i64> {
    let (id, tracing) = (event.id.to_string(), uuid::Uuid::new_v4().to_string());
    let mut failures = 0;
    loop {
        if now() - event.time > GIVE_UP_AFTER {
            tracing::warn!(
                webhook = hook.name,
                event = id,
                "a webhook's event is too old and passed over"
            );
            return None;
        }
        match sender.post(&id, &tracing, sender.body(&event.json)).await {
            Ok(()) => return Some(now()),
            Err(failure) => {
                failures += 1;
                note_failure(app, hook, &tracing, &failure).await;
                if matches!(failure, Failure::Refused(_)) && failures >= REFUSED_TRIES {
                    tracing::warn!(webhook = hook.name, event = id, "a webhook's event is given up");
                    return None;
                }
            }
        }
        tokio::time::sleep(pause(failures)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let seconds: Vec<u64> = (1..=11).map(|n| pause(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }
}
