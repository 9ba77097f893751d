//! Mails that wait to be sent. A mail is written in the transaction of what it tells, stays until the mail server took it
//! over or it is given up, and is known for a while after that.

use crate::Store;
use crate::error::{StoreError, StoreResult};
use crate::scope::Scope;
use crate::sql::{P, Row, Tx};

const WAITING: i64 = 0;
const SENT: i64 = 1;
const GIVEN_UP: i64 = 2;
/// Rows of one statement, so that many recipients do not mean many round trips.
const ROWS: usize = 50;
/// Counters.
const SENT_COUNTER: &str = "mails-sent";
const GIVEN_UP_COUNTER: &str = "mails-given-up";

/// A file that goes with a mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// File name.
    pub name: String,
    /// Media type, such as `text/csv`.
    pub media: String,
    /// Content.
    pub bytes: Vec<u8>,
}

/// What a mail says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailContent {
    /// Subject line.
    pub subject: String,
    /// Body as plain text.
    pub plain: String,
    /// Body as HTML; empty for none.
    pub html: String,
    /// Files.
    pub attachments: Vec<Attachment>,
}

/// A mail to write.
#[derive(Clone, Debug, Default)]
pub struct NewMail {
    /// Whose settings it is sent with; empty for the top level.
    pub organization: String,
    /// What it says.
    pub content: MailContent,
    /// To whom, each in a mail of its own: id and address. An id that was used already is passed over, so what is
    /// written again after a crash is not sent again.
    pub recipients: Vec<(String, String)>,
}

/// A mail whose time has come.
#[derive(Clone, Debug)]
pub struct DueMail {
    /// Its id, unlike any other.
    pub id: String,
    /// Whose settings it is sent with.
    pub organization: String,
    /// To whom.
    pub recipient: String,
    /// What it says, see [`Store::mail_content`].
    pub content: String,
    /// Unix seconds.
    pub created: i64,
    /// How often it was tried.
    pub tries: i64,
}

/// A mail as people see it.
#[derive(Clone, Debug)]
pub struct ListedMail {
    /// Its id.
    pub id: String,
    /// Whose settings it is sent with.
    pub organization: String,
    /// To whom.
    pub recipient: String,
    /// Subject line.
    pub subject: String,
    /// `waiting`, `sent` or `failed`.
    pub state: &'static str,
    /// Unix seconds.
    pub created: i64,
    /// Unix seconds of the next try, where it waits.
    pub due: i64,
    /// How often it was tried.
    pub tries: i64,
    /// Unix seconds of its end; 0 where it waits.
    pub ended: i64,
    /// What the last failure was.
    pub error: String,
}

/// How many mails there were and are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailCounts {
    /// Sent since the server was set up.
    pub sent: i64,
    /// Given up since then.
    pub given_up: i64,
    /// Waiting now.
    pub waiting: i64,
}

/// Writes a mail, to be sent at once.
///
/// # Errors
/// `Invalid` when more than `limit` mails of its organization would wait, or the database fails.
pub fn enqueue_mail(tx: &mut Tx, mail: &NewMail, now: i64, limit: i64) -> StoreResult<u64> {
    let organization = mail.organization.as_str();
    let waiting = tx.sql().first(
        "SELECT COUNT(*) FROM mails WHERE state = 0 AND organization = ?1",
        &[P::Text(organization)],
        |row| row.int(0),
    )?;
    let more = i64::try_from(mail.recipients.len()).unwrap_or(i64::MAX);
    if waiting.unwrap_or_default().saturating_add(more) > limit {
        return Err(StoreError::Invalid(format!(
            "More than {limit} e-mails would be waiting; look after the mail server first"
        )));
    }
    let Some((first, _)) = mail.recipients.first() else {
        return Ok(0);
    };
    let mut written = 0;
    for some in mail.recipients.chunks(ROWS) {
        let subject = mail.content.subject.as_str();
        let mut params = vec![
            P::Text(organization),
            P::Text(subject),
            P::Text(first),
            P::Int(now),
        ];
        let mut rows = Vec::with_capacity(some.len());
        for (id, recipient) in some {
            let at = params.len() + 1;
            rows.push(format!("(?{at}, ?1, ?{}, ?2, ?3, 0, ?4, ?4, 0, 0, '')", at + 1));
            params.extend([P::Text(id), P::Text(recipient)]);
        }
        written += tx.execute(
            &format!(
                "INSERT INTO mails (id, organization, recipient, subject, content, state, created, due, tries, ended,
                 error) VALUES {} ON CONFLICT (id) DO NOTHING",
                rows.join(", ")
            ),
            &params,
        )?;
    }
    if written == 0 {
        return Ok(0);
    }
    let content = &mail.content;
    let kept = tx.execute(
        "INSERT INTO mail_contents (id, subject, plain, html) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO NOTHING",
        &[
            P::Text(first),
            P::Text(&content.subject),
            P::Text(&content.plain),
            P::Text(&content.html),
        ],
    )?;
    for (number, file) in (0..).zip(&content.attachments).filter(|_| kept > 0) {
        tx.execute(
            "INSERT INTO mail_attachments (content, number, name, media, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
            &[
                P::Text(first),
                P::Int(number),
                P::Text(&file.name),
                P::Text(&file.media),
                P::Blob(&file.bytes),
            ],
        )?;
    }
    Ok(written)
}

fn count(tx: &mut Tx, counter: &str) -> StoreResult<()> {
    tx.execute(
        "INSERT INTO counters (name, value) VALUES (?1, 1) ON CONFLICT (name) DO UPDATE SET value = counters.value + 1",
        &[P::Text(counter)],
    )?;
    Ok(())
}

/// Forgets contents that no waiting mail has.
fn drop_content(tx: &mut Tx, content: &str) -> StoreResult<()> {
    tx.execute(
        "DELETE FROM mail_contents WHERE id = ?1
         AND NOT EXISTS (SELECT 1 FROM mails WHERE content = ?1 AND state = 0)",
        &[P::Text(content)],
    )?;
    Ok(())
}

fn end(tx: &mut Tx, mail: &DueMail, state: i64, error: &str, now: i64) -> StoreResult<()> {
    let touched = tx.execute(
        "UPDATE mails SET state = ?2, tries = tries + 1, ended = ?3, error = ?4 WHERE id = ?1 AND state = 0",
        &[P::Text(&mail.id), P::Int(state), P::Int(now), P::Text(error)],
    )?;
    if touched > 0 {
        count(
            tx,
            if state == SENT {
                SENT_COUNTER
            } else {
                GIVEN_UP_COUNTER
            },
        )?;
    }
    drop_content(tx, &mail.content)
}

fn due_row(row: &dyn Row) -> StoreResult<DueMail> {
    Ok(DueMail {
        id: row.text(0)?.to_string(),
        organization: row.text(1)?.to_string(),
        recipient: row.text(2)?.to_string(),
        content: row.text(3)?.to_string(),
        created: row.int(4)?,
        tries: row.int(5)?,
    })
}

fn listed_row(row: &dyn Row) -> StoreResult<ListedMail> {
    Ok(ListedMail {
        id: row.text(0)?.to_string(),
        organization: row.text(1)?.to_string(),
        recipient: row.text(2)?.to_string(),
        subject: row.text(3)?.to_string(),
        state: match row.int(4)? {
            WAITING => "waiting",
            SENT => "sent",
            _ => "failed",
        },
        created: row.int(5)?,
        due: row.int(6)?,
        tries: row.int(7)?,
        ended: row.int(8)?,
        error: row.text(9)?.to_string(),
    })
}

impl Store {
    /// Mails that are due, the longest waiting first.
    ///
    /// # Errors
    /// The database fails.
    pub async fn due_mails(&self, now: i64, limit: i64) -> StoreResult<Vec<DueMail>> {
        self.read_few(move |sql| {
            sql.all(
                "SELECT id, organization, recipient, content, created, tries FROM mails
                 WHERE state = 0 AND due <= ?1 ORDER BY due, created LIMIT ?2",
                &[P::Int(now), P::Int(limit)],
                due_row,
            )
        })
        .await
    }

    /// Unix seconds at which the next mail is due; nothing when none waits.
    ///
    /// # Errors
    /// The database fails.
    pub async fn next_mail(&self) -> StoreResult<Option<i64>> {
        self.read_few(|sql| {
            sql.first(
                "SELECT due FROM mails WHERE state = 0 ORDER BY due LIMIT 1",
                &[],
                |row| row.int(0),
            )
        })
        .await
    }

    /// What a mail says.
    ///
    /// # Errors
    /// `NotFound`, or the database fails.
    pub async fn mail_content(&self, id: &str) -> StoreResult<MailContent> {
        let id = id.to_string();
        self.read(move |sql| {
            let found = sql.first(
                "SELECT subject, plain, html FROM mail_contents WHERE id = ?1",
                &[P::Text(&id)],
                |row| {
                    Ok(MailContent {
                        subject: row.text(0)?.to_string(),
                        plain: row.text(1)?.to_string(),
                        html: row.text(2)?.to_string(),
                        attachments: Vec::new(),
                    })
                },
            )?;
            let mut content = found.ok_or(StoreError::NotFound)?;
            content.attachments = sql.all(
                "SELECT name, media, bytes FROM mail_attachments WHERE content = ?1 ORDER BY number",
                &[P::Text(&id)],
                |row| {
                    Ok(Attachment {
                        name: row.text(0)?.to_string(),
                        media: row.text(1)?.to_string(),
                        bytes: row.blob(2)?.to_vec(),
                    })
                },
            )?;
            Ok(content)
        })
        .await
    }

    /// Notes that the mail server took a mail over.
    ///
    /// # Errors
    /// The database fails.
    pub async fn mail_sent(&self, mail: DueMail, now: i64) -> StoreResult<()> {
        self.write(move |tx| end(tx, &mail, SENT, "", now)).await
    }

    /// Gives a mail up.
    ///
    /// # Errors
    /// The database fails.
    pub async fn mail_given_up(&self, mail: DueMail, error: String, now: i64) -> StoreResult<()> {
        self.write(move |tx| end(tx, &mail, GIVEN_UP, &error, now)).await
    }

    /// Has a mail tried again at a time (Unix seconds).
    ///
    /// # Errors
    /// The database fails.
    pub async fn mail_again(&self, mail: DueMail, error: String, due: i64) -> StoreResult<()> {
        self.write(move |tx| {
            tx.execute(
                "UPDATE mails SET tries = tries + 1, due = ?2, error = ?3 WHERE id = ?1 AND state = 0",
                &[P::Text(&mail.id), P::Int(due), P::Text(&error)],
            )?;
            Ok(())
        })
        .await
    }

    /// Has all waiting mails of these organizations tried not before a time, or, where it lies earlier, at it (Unix
    /// seconds).
    ///
    /// # Errors
    /// The database fails.
    pub async fn move_mails(&self, organizations: Vec<String>, due: i64, earlier: bool) -> StoreResult<()> {
        self.write(move |tx| {
            let sign = if earlier { ">" } else { "<" };
            for organization in &organizations {
                tx.execute(
                    &format!(
                        "UPDATE mails SET due = ?2 WHERE state = 0 AND organization = ?1 AND due {sign} ?2"
                    ),
                    &[P::Text(organization), P::Int(due)],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Mails written before a time (Unix seconds), newest first.
    ///
    /// # Errors
    /// The database fails.
    pub async fn mails(&self, scope: &Scope, before: i64, limit: i64) -> StoreResult<Vec<ListedMail>> {
        let scope = scope.clone();
        self.read(move |sql| {
            let (condition, param) = scope.condition("organization", "''", 3);
            let params: Vec<P> = [P::Int(before), P::Int(limit)].into_iter().chain(param).collect();
            sql.all(
                &format!(
                    "SELECT id, organization, recipient, subject, state, created, due, tries, ended, error FROM mails
                     WHERE created < ?1 AND {condition} ORDER BY created DESC, id LIMIT ?2"
                ),
                &params,
                listed_row,
            )
        })
        .await
    }

    /// How many mails there were and are.
    ///
    /// # Errors
    /// The database fails.
    pub async fn mail_counts(&self) -> StoreResult<MailCounts> {
        self.read_few(|sql| {
            let mut value = |counter: &str| {
                sql.first(
                    "SELECT value FROM counters WHERE name = ?1",
                    &[P::Text(counter)],
                    |row| row.int(0),
                )
            };
            Ok(MailCounts {
                sent: value(SENT_COUNTER)?.unwrap_or_default(),
                given_up: value(GIVEN_UP_COUNTER)?.unwrap_or_default(),
                waiting: sql
                    .first("SELECT COUNT(*) FROM mails WHERE state = 0", &[], |row| {
                        row.int(0)
                    })?
                    .unwrap_or_default(),
            })
        })
        .await
    }

    /// Forgets mails that ended before a time (Unix seconds).
    ///
    /// # Errors
    /// The database fails.
    pub async fn prune_mails(&self, before: i64) -> StoreResult<u64> {
        self.write(move |tx| {
            tx.execute(
                "DELETE FROM mails WHERE state > 0 AND ended < ?1",
                &[P::Int(before)],
            )
        })
        .await
    }
}

/// Removes what an organization's mails are, within the transaction that removes the organization.
///
/// # Errors
/// The database fails.
pub fn remove_mails_of_organization(tx: &mut Tx, organization: &str) -> StoreResult<()> {
    let organization = [P::Text(organization)];
    tx.execute(
        "DELETE FROM mail_contents WHERE id IN (SELECT content FROM mails WHERE organization = ?1)",
        &organization,
    )?;
    tx.execute("DELETE FROM mails WHERE organization = ?1", &organization)?;
    Ok(())
}
