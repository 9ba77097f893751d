//! Events that are not stored (log-ins, live connections, the server's own start and end) to webhooks: each server tells of
//! its own, a few times, for as long as it lives.

use super::post::Sender;
use super::{Hook, all, feed};
use crate::app::App;
use encke_store::Event;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

/// Events that wait for one webhook; what comes when there are more is lost.
const QUEUE: usize = 256;
/// Tries of a message.
const TRIES: u32 = 4;
/// How often it is looked whether the webhooks changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A webhook with its queue.
type Queue = (Hook, mpsc::Sender<Arc<Event>>);

/// The webhooks there are, each with a queue that is worked through.
fn open_queues(app: &Arc<App>, hooks: &[Hook]) -> Vec<Queue> {
    let open = |hook: &Hook| {
        let (send, receive) = mpsc::channel(QUEUE);
        tokio::spawn(tell(app.clone(), hook.clone(), receive));
        (hook.clone(), send)
    };
    hooks.iter().map(open).collect()
}

/// Tells until the server stops. Where there are no webhooks it does not listen: log-ins come with every call.
pub(super) async fn run(app: Arc<App>, bus: Receiver<Arc<Event>>) {
    let mut changed = app.webhooks.0.subscribe();
    let mut hooks = all(&app.config());
    let mut queues = open_queues(&app, &hooks);
    let mut bus = Some(bus);
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        if queues.is_empty() {
            bus = None;
        }
        let next = async {
            match &mut bus {
                Some(bus) => bus.recv().await,
                None => std::future::pending().await,
            }
        };
        let is_new = tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = changed.changed() => true,
            _ = look.tick() => all(&app.config()) != hooks,
            event = next => {
                match event {
                    Ok(event) if event.stored => {}
                    Ok(event) => pass_on(&queues, &event),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
                false
            }
        };
        if is_new {
            hooks = all(&app.config());
            bus = bus.or_else(|| Some(app.store.subscribe()));
            // The old queues end when they are empty.
            queues = open_queues(&app, &hooks);
        }
    }
}

fn pass_on(queues: &[Queue], event: &Arc<Event>) {
    for (hook, queue) in queues {
        let may = hook.organization().is_none_or(|o| o == event.organization);
        if may && hook.wants(event.kind) && queue.try_send(event.clone()).is_err() {
            tracing::warn!(webhook = hook.name, "a webhook is too slow, an event is lost");
        }
    }
}

async fn tell(app: Arc<App>, hook: Hook, mut events: mpsc::Receiver<Arc<Event>>) {
    let mut sender = None;
    while let Some(event) = events.recv().await {
        if sender.is_none() {
            sender = open(&app, &hook).await;
        }
        let Some(sender) = &sender else { continue };
        let tracing = uuid::Uuid::new_v4().to_string();
        let id = format!("live-{tracing}");
        for failures in 1..=TRIES {
            let Err(failure) = sender.post(&id, &tracing, sender.body(&event.json)).await else {
                break;
            };
            let error = failure.text();
            tracing::warn!(
                webhook = hook.name,
                tracing,
                error,
                "a webhook's message did not arrive"
            );
            if failures < TRIES {
                tokio::time::sleep(feed::pause(failures)).await;
            }
        }
    }
}

async fn open(app: &App, hook: &Hook) -> Option<Sender> {
    let known = app.store.webhooks().await.ok()?;
    let state = known
        .iter()
        .find(|k| k.organization == hook.organization && k.name == hook.name)?;
    Sender::new(app, hook, &state.signing_key).ok()
}
