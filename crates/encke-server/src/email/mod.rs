//! E-mail (reference, section 19): a queue in the store, the mail servers that each organization sends with, reports
//! about jobs, and bulletins.
//!
//! [`enqueue`] is the one way out: what it took is sent once, also over a crash, as far as SMTP lets one know. Start
//! reading at `queue.rs` (what becomes of a mail), then `settings.rs` (whose mail server) and `smtp.rs`.

mod endpoints;
mod queue;
mod reports;
mod settings;
mod smtp;

pub(crate) use settings::adopt;

use crate::app::{App, now, store_error};
use crate::table::Route;
use encke_api::{ApiError, ApiResult};
use encke_store::sql::Tx;
use encke_store::{MailContent, NewMail, StoreResult};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore};

/// Most bytes of one mail before it is encoded: what common mail servers take.
pub const MAX_MAIL: usize = 18 * 1024 * 1024;
/// Most recipients of one mail.
pub const MAX_RECIPIENTS: usize = 100_000;
/// Most mails of one organization that wait.
const MAX_WAITING: i64 = 200_000;
/// Longest subject in bytes.
const MAX_SUBJECT: usize = 500;
/// Test mails at once.
const MAX_TESTS: usize = 4;

/// A mail to be sent.
#[derive(Clone, Debug, Default)]
pub struct Mail {
    /// Whose settings it is sent with; empty for the top level.
    pub organization: String,
    /// What it says.
    pub content: MailContent,
    /// Addresses; each gets a mail of its own and sees no other.
    pub recipients: Vec<String>,
    /// Names what the mail tells of, so that it is sent once even if it is enqueued again, as after a crash. Known for
    /// a week after it was sent. Empty for none.
    pub once: String,
}

/// The mailer's part of the running server.
pub struct Mailer {
    /// Told when a mail was enqueued.
    pub(crate) wake: Notify,
    /// Connections to mail servers.
    servers: smtp::Servers,
    /// Told when the e-mail settings changed.
    settings_changed: Notify,
    /// Test mails.
    tests: Semaphore,
    /// What became of scheduled reports.
    pub(crate) worker: Mutex<Worker>,
}

/// What the version call tells of the worker for scheduled reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Worker {
    /// One of `EMAIL_WORKER_STATE_`.
    pub state: i64,
    /// Nanoseconds.
    pub last_duration: i64,
    /// Unix seconds.
    pub waiting_until: i64,
    /// Unix seconds.
    pub last_wake: i64,
    /// Whether something was sent then.
    pub last_sent: bool,
}

impl Default for Mailer {
    fn default() -> Self {
        Self {
            wake: Notify::new(),
            settings_changed: Notify::new(),
            servers: smtp::Servers::default(),
            tests: Semaphore::new(MAX_TESTS),
            worker: Mutex::default(),
        }
    }
}

/// Whether mails of an organization are sent at all.
#[must_use]
pub fn is_on(app: &App, organization: &str) -> bool {
    settings::source(&app.config(), organization).is_some()
}

/// An address that mail can be sent to.
#[must_use]
pub fn is_address(text: &str) -> bool {
    text.len() <= 320 && text.parse::<lettre::Address>().is_ok()
}

/// Checks a mail and gives it its ids.
///
/// # Errors
/// 400 naming what is wrong: an address, the size, no recipients.
pub fn prepared(mail: Mail) -> ApiResult<NewMail> {
    let bad = |message: String| Err(ApiError::bad_request(message));
    let mut content = mail.content;
    // A line break would begin another header.
    content.subject = content
        .subject
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    while content.subject.len() > MAX_SUBJECT {
        content.subject.pop();
    }
    let files: usize = content.attachments.iter().map(|a| a.bytes.len()).sum();
    if content.plain.len() + content.html.len() + files > MAX_MAIL {
        return bad(format!("An e-mail has at most {MAX_MAIL} bytes"));
    }
    if mail.recipients.is_empty() || mail.recipients.len() > MAX_RECIPIENTS {
        return bad(format!("An e-mail has 1 to {MAX_RECIPIENTS} recipients"));
    }
    let mut seen = std::collections::HashSet::new();
    let mut recipients = Vec::with_capacity(mail.recipients.len());
    for address in mail.recipients {
        let address = address.trim().to_string();
        if !is_address(&address) {
            return bad(format!("'{address}' is not an e-mail address"));
        }
        if !seen.insert(address.to_lowercase()) {
            continue;
        }
        let id = if mail.once.is_empty() {
            uuid::Uuid::new_v4().simple().to_string()
        } else {
            let text = format!("{}\n{}\n{address}", mail.organization, mail.once);
            hex::encode(&Sha256::digest(text)[..16])
        };
        recipients.push((id, address));
    }
    Ok(NewMail {
        organization: mail.organization,
        content,
        recipients,
    })
}

/// Writes a prepared mail within the transaction of what it tells of. Call [`wake`] when that is done.
///
/// # Errors
/// Too many mails wait, or the database fails.
pub fn enqueue_in(tx: &mut Tx, mail: &NewMail) -> StoreResult<u64> {
    encke_store::enqueue_mail(tx, mail, now(), MAX_WAITING)
}

/// Tells the mailer that there is something to send.
pub fn wake(app: &App) {
    app.mailer.wake.notify_one();
}

/// Tells the reports' worker that e-mail settings changed.
pub(crate) fn settings_changed(app: &App) {
    app.mailer.settings_changed.notify_one();
}

/// Takes a mail over: when this returns it is on disk, and will be sent, or tried for two days.
///
/// # Errors
/// 400 for what can not be sent (see [`prepared`]) or where e-mail is switched off; 500.
pub async fn enqueue(app: &App, mail: Mail) -> ApiResult<()> {
    if !is_on(app, &mail.organization) {
        return Err(settings::switched_off());
    }
    let mail = prepared(mail)?;
    let written = app.store.write(move |tx| enqueue_in(tx, &mail)).await;
    written.map_err(store_error)?;
    wake(app);
    Ok(())
}

/// Whether e-mail settings can be kept.
///
/// # Errors
/// 400 naming what is wrong; 501 for a way of delivery that this server does not have.
pub(crate) fn check(options: &encke_api::types::EmailOptions) -> ApiResult<()> {
    settings::check(options)?;
    reports::check_options(options)
}

/// Every endpoint of e-mail.
#[must_use]
pub fn routes() -> Vec<Route> {
    let mut routes = endpoints::routes();
    routes.extend(reports::routes());
    routes
}

/// Sends until the server stops.
pub(crate) fn start(app: &Arc<App>) {
    crate::leader::while_leading(app, queue::run);
    crate::leader::while_leading(app, reports::follow_jobs);
    crate::leader::while_leading(app, reports::follow_schedules);
}
