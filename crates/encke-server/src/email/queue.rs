//! From the queue to the mail servers. One server of those on a database sends. A mail leaves the queue when the mail
//! server has acknowledged it; a crash between the two is the one case where it is sent again, under the same Message-ID.

use super::settings;
use super::smtp::{Failure, Outgoing};
use crate::app::{App, now};
use encke_store::{DueMail, StoreError};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Mails taken from the queue together.
const BATCH: i64 = 50;
/// Mails on their way at once.
const AT_ONCE: usize = 4;
/// Seconds before a mail is tried again the first time; doubled each time, up to the longest.
const FIRST_PAUSE: i64 = 5;
const LONGEST_PAUSE: i64 = 1800;
/// A mail that could not be sent for so many seconds is given up.
const GIVE_UP_AFTER: i64 = 2 * 86_400;
/// Days that mails are known after they were sent or given up.
const KNOWN_DAYS: i64 = 7;
/// How often old ones are forgotten, and the longest time until the queue is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// Shortest time between two mails: at most 20 a second.
const SPACING: Duration = Duration::from_millis(50);

/// How often in a row an organization's mail server could not be used.
type Troubles = Mutex<HashMap<String, u32>>;

fn pause(times: i64) -> i64 {
    let doubled = FIRST_PAUSE << times.clamp(0, 20);
    doubled.min(LONGEST_PAUSE)
}

/// Sends what is due, for as long as this server leads.
pub(super) async fn run(app: Arc<App>) {
    let troubles = Troubles::default();
    let mut spacing = tokio::time::interval(SPACING);
    spacing.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let spacing = tokio::sync::Mutex::new(spacing);
    let mut forgot = 0;
    loop {
        if now() - forgot >= 600 {
            forgot = now();
            if let Err(e) = app.store.prune_mails(forgot - KNOWN_DAYS * 86_400).await {
                tracing::warn!(error = %e, "old e-mails could not be forgotten");
            }
        }
        let due = match app.store.due_mails(now(), BATCH).await {
            Ok(due) => due,
            Err(e) => {
                tracing::warn!(error = %e, "e-mails could not be read");
                tokio::time::sleep(Duration::from_secs(5)).await;
                continue;
            }
        };
        if due.is_empty() {
            let next = app.store.next_mail().await.ok().flatten();
            let seconds = next.map_or(i64::MAX, |due| due - now());
            let wait = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            tokio::select! {
                () = app.mailer.wake.notified() => {}
                () = tokio::time::sleep(wait.clamp(Duration::from_millis(100), LOOK_EVERY)) => {}
            }
            continue;
        }
        let unusable = Mutex::new(Vec::new());
        futures_util::stream::iter(due)
            .for_each_concurrent(AT_ONCE, |mail| async {
                spacing.lock().await.tick().await;
                if unusable.lock().contains(&mail.organization) {
                    return;
                }
                if let Err(e) = deliver(&app, &troubles, &unusable, mail).await {
                    tracing::warn!(error = %e, "what became of an e-mail could not be written");
                }
            })
            .await;
    }
}

async fn deliver(
    app: &App,
    troubles: &Troubles,
    unusable: &Mutex<Vec<String>>,
    mail: DueMail,
) -> Result<(), StoreError> {
    let content = match app.store.mail_content(&mail.content).await {
        Ok(content) => content,
        // Its organization was deleted meanwhile.
        Err(StoreError::NotFound) => {
            return app
                .store
                .mail_given_up(mail, "its content is gone".into(), now())
                .await;
        }
        Err(e) => return Err(e),
    };
    let outgoing = Outgoing {
        id: &mail.id,
        recipient: &mail.recipient,
        content,
    };
    let sent = match settings::of(app, &mail.organization) {
        Ok(settings) => app.mailer.servers.send(&settings, outgoing).await,
        Err(e) if e.status == 500 => Err(Failure::Unusable(e.message)),
        Err(e) => Err(Failure::Refused(e.message)),
    };
    let organization = mail.organization.clone();
    let failure = match sent {
        Ok(()) => {
            troubles.lock().remove(&organization);
            tracing::debug!(mail = mail.id, "an e-mail was sent");
            return app.store.mail_sent(mail, now()).await;
        }
        Err(failure) => failure,
    };
    let error = failure.text().to_string();
    let too_old = now() - mail.created > GIVE_UP_AFTER;
    if too_old || matches!(failure, Failure::Refused(_)) {
        tracing::warn!(mail = mail.id, organization, error, "an e-mail was given up");
        return app.store.mail_given_up(mail, error, now()).await;
    }
    let mut due = now() + pause(mail.tries);
    if matches!(failure, Failure::Unusable(_)) {
        let is_first = {
            let mut unusable = unusable.lock();
            let known = unusable.contains(&organization);
            if !known {
                unusable.push(organization.clone());
            }
            !known
        };
        let times = {
            let mut troubles = troubles.lock();
            let times = troubles.entry(organization.clone()).or_default();
            if is_first {
                *times += 1;
            }
            *times
        };
        due = now() + pause(i64::from(times) - 1);
        if is_first {
            tracing::warn!(organization, error, "the mail server can not be used");
            // The others would fare no better.
            app.store.move_mails(vec![organization], due, false).await?;
        }
    }
    app.store.mail_again(mail, error, due).await
}
