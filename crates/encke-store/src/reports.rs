//! Saved reports and their API codes.

use crate::Store;
use crate::error::{StoreError, StoreResult};
use crate::events::now;
use crate::sessions::SessionKind;
use crate::sql::{P, Row, Sql, Tx};
use serde_json::{Value, json};

/// Whose a report is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReportOwner {
    /// Administrator or end user.
    pub kind: SessionKind,
    /// Name.
    pub name: String,
    /// Organization; empty for the top level.
    pub organization: String,
}

/// A saved report.
#[derive(Clone, Debug)]
pub struct StoredReport {
    /// GUID.
    pub id: String,
    /// Owner.
    pub owner: ReportOwner,
    /// Name.
    pub name: String,
    /// Counts up with each change.
    pub version: i64,
    /// The report as JSON text.
    pub body: String,
}

/// An API code of a report.
#[derive(Clone, Debug)]
pub struct StoredCode {
    /// SHA-256 of the code, hexadecimal.
    pub hash: String,
    /// The code, encrypted with the server's key.
    pub sealed: String,
    /// Language of the columns' names, fixed when the code was made.
    pub locale: String,
    /// Unix seconds of the end; 0 for none.
    pub expires: i64,
    /// Addresses and networks that may use it, separated by commas; empty for any.
    pub addresses: String,
    /// Unix seconds.
    pub created: i64,
}

/// A data source that somebody set up.
#[derive(Clone, Debug)]
pub struct StoredSource {
    /// GUID.
    pub id: String,
    /// Owner.
    pub owner: ReportOwner,
    /// Name.
    pub name: String,
    /// Its description as JSON text, without secrets.
    pub body: String,
    /// Its secret, encrypted with the server's key; empty for none.
    pub sealed: String,
    /// Counts up with each change.
    pub version: i64,
}

/// A template that somebody made.
#[derive(Clone, Debug)]
pub struct StoredTemplate {
    /// Number.
    pub id: i64,
    /// Owner.
    pub owner: ReportOwner,
    /// Who else of the organization may use it: `none`, `admins`, `everyone`.
    pub audience: String,
    /// Counts up with each change.
    pub version: i64,
    /// The template as JSON text.
    pub body: String,
}

/// Calls with a report's code: how many in a minute, from one address, with one answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReportCalls {
    /// The report.
    pub report: String,
    /// Unix seconds of the minute's begin.
    pub minute: i64,
    /// Where they came from.
    pub address: String,
    /// Status of the answers.
    pub status: i64,
    /// How many calls.
    pub calls: i64,
    /// How many rows they got.
    pub rows: i64,
}

/// What these are called where it is noted who changed them.
const CODE: &str = "report-code";
const SOURCE: &str = "report-source";
const TEMPLATE: &str = "report-template";

/// Days that the log of calls is kept.
const KEEP_CALLS: i64 = 90;

pub(crate) const COLUMNS: &str = "id, owner_kind, owner, organization, name, version, body";

fn read_owner(row: &dyn Row, at: usize) -> StoreResult<ReportOwner> {
    let kind = match row.text(at)? {
        "admin" => SessionKind::Admin,
        "user" => SessionKind::User,
        other => return Err(StoreError::Damaged(format!("report owner {other}"))),
    };
    Ok(ReportOwner {
        kind,
        name: row.text(at + 1)?.to_string(),
        organization: row.text(at + 2)?.to_string(),
    })
}

pub(crate) fn read_row(row: &dyn Row) -> StoreResult<StoredReport> {
    Ok(StoredReport {
        id: row.text(0)?.to_string(),
        owner: read_owner(row, 1)?,
        name: row.text(4)?.to_string(),
        version: row.int(5)?,
        body: row.text(6)?.to_string(),
    })
}

fn read_code(row: &dyn Row, at: usize) -> StoreResult<StoredCode> {
    Ok(StoredCode {
        hash: row.text(at)?.to_string(),
        sealed: row.text(at + 1)?.to_string(),
        locale: row.text(at + 2)?.to_string(),
        expires: row.int(at + 3)?,
        addresses: row.text(at + 4)?.to_string(),
        created: row.int(at + 5)?,
    })
}

pub(crate) fn owned(owner: &ReportOwner) -> [P<'_>; 3] {
    [
        P::Text(owner.kind.word()),
        P::Text(&owner.name),
        P::Text(&owner.organization),
    ]
}

/// Removes all reports and codes of an owner who is being removed, within the same transaction: a later account of the
/// same name must not inherit them.
///
/// # Errors
/// The database fails.
pub fn delete_reports_of(tx: &mut Tx, owner: &ReportOwner) -> StoreResult<()> {
    let theirs = "SELECT id FROM reports WHERE owner_kind = ?1 AND owner = ?2 AND organization = ?3";
    tx.execute(
        &format!("DELETE FROM report_codes WHERE report IN ({theirs})"),
        &owned(owner),
    )?;
    for table in [
        "report_shares",
        "report_calls",
        "report_schedules",
        "report_files",
    ] {
        tx.execute(
            &format!("DELETE FROM {table} WHERE report IN ({theirs})"),
            &owned(owner),
        )?;
    }
    for table in ["reports", "report_sources", "report_templates"] {
        tx.execute(
            &format!("DELETE FROM {table} WHERE owner_kind = ?1 AND owner = ?2 AND organization = ?3"),
            &owned(owner),
        )?;
    }
    // Nor what was shared with them.
    let organization = "SELECT id FROM reports WHERE organization = ?3";
    tx.execute(
        &format!("DELETE FROM report_shares WHERE kind = ?1 AND name = ?2 AND report IN ({organization})"),
        &owned(owner),
    )?;
    Ok(())
}

fn read_source(row: &dyn Row) -> StoreResult<StoredSource> {
    Ok(StoredSource {
        id: row.text(0)?.to_string(),
        owner: read_owner(row, 1)?,
        name: row.text(4)?.to_string(),
        body: row.text(5)?.to_string(),
        sealed: row.text(6)?.to_string(),
        version: row.int(7)?,
    })
}

const SOURCE_COLUMNS: &str = "id, owner_kind, owner, organization, name, body, sealed, version";

fn read_template(row: &dyn Row) -> StoreResult<StoredTemplate> {
    Ok(StoredTemplate {
        id: row.int(0)?,
        owner: read_owner(row, 1)?,
        audience: row.text(4)?.to_string(),
        version: row.int(5)?,
        body: row.text(6)?.to_string(),
    })
}

const TEMPLATE_COLUMNS: &str = "id, owner_kind, owner, organization, audience, version, body";

/// The templates that somebody may use, as a condition on the parameters of [`owned`].
const USABLE: &str = "organization = ?3 AND (owner_kind = ?1 AND owner = ?2 OR audience = 'everyone'
    OR audience = 'admins' AND ?1 = 'admin')";

/// A code as it is noted. Its hash says whether it became another one; by its name it is kept as a secret.
fn told_code(report: &str, code: &StoredCode) -> Value {
    json!({ "Report": report, "APIKey": code.hash, "Locale": code.locale, "Expires": code.expires,
        "Addresses": code.addresses })
}

/// A stored document to be noted; of one that is damaged nothing.
fn document(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_default()
}

fn told_source(source: &StoredSource) -> Value {
    json!({ "Name": source.name, "Source": document(&source.body), "Secret": source.sealed })
}

/// What templates call a key is the name of a column, and no secret.
fn columns_named(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(name, v)| {
                let name = if name == "key" { "column".into() } else { name };
                (name, columns_named(v))
            })
            .collect(),
        Value::Array(all) => all.into_iter().map(columns_named).collect(),
        other => other,
    }
}

fn told_template(audience: &str, body: &str) -> Value {
    json!({ "Audience": audience, "Template": columns_named(document(body)) })
}

/// Notes a change of something that an owner has.
fn note(
    tx: &mut Tx,
    kind: &str,
    owner: &ReportOwner,
    id: &str,
    old: Option<&Value>,
    new: Option<&Value>,
) -> StoreResult<()> {
    tx.asked_if_unknown(&owner.name, &owner.organization);
    tx.note_change(kind, &owner.organization, id, old, new)
}

/// The name of an owner's report, and its code.
fn find_code(sql: &mut dyn Sql, id: &str, owner: &ReportOwner) -> StoreResult<(String, Option<StoredCode>)> {
    let [kind, who, organization] = owned(owner);
    let name = sql.first(
        "SELECT name FROM reports WHERE id = ?1 AND owner_kind = ?2 AND owner = ?3 AND organization = ?4",
        &[P::Text(id), kind, who, organization],
        |row| Ok(row.text(0)?.to_string()),
    )?;
    let name = name.ok_or(StoreError::NotFound)?;
    let code = sql.first(
        "SELECT code_hash, sealed, locale, expires, addresses, created FROM report_codes WHERE report = ?1",
        &[P::Text(id)],
        |row| read_code(row, 0),
    )?;
    Ok((name, code))
}

fn find_source(sql: &mut dyn Sql, id: &str, owner: &ReportOwner) -> StoreResult<Option<StoredSource>> {
    let query = format!("SELECT {SOURCE_COLUMNS} FROM report_sources WHERE id = ?1");
    let found = sql.first(&query, &[P::Text(id)], read_source)?;
    Ok(found.filter(|s| s.owner == *owner))
}

fn find_template(sql: &mut dyn Sql, id: i64, owner: &ReportOwner) -> StoreResult<Option<StoredTemplate>> {
    let query = format!("SELECT {TEMPLATE_COLUMNS} FROM report_templates WHERE id = ?1");
    let found = sql.first(&query, &[P::Int(id)], read_template)?;
    Ok(found.filter(|t| t.owner == *owner))
}

/// `NotFound` when a statement touched nothing.
fn found(touched: u64) -> StoreResult<()> {
    if touched == 0 {
        Err(StoreError::NotFound)
    } else {
        Ok(())
    }
}

impl Store {
    /// Removes all reports and codes of an owner.
    ///
    /// # Errors
    /// The database fails.
    pub async fn delete_reports_of_owner(&self, owner: ReportOwner) -> StoreResult<()> {
        self.write(move |tx| delete_reports_of(tx, &owner)).await
    }

    /// The reports of an owner, by name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn reports(&self, owner: &ReportOwner) -> StoreResult<Vec<StoredReport>> {
        let owner = owner.clone();
        self.read(move |sql| {
            let query = format!(
                "SELECT {COLUMNS} FROM reports WHERE owner_kind = ?1 AND owner = ?2 AND organization = ?3 ORDER BY name"
            );
            sql.all(&query, &owned(&owner), read_row)
        })
        .await
    }

    /// Saves a report under its id; a change counts its version up.
    ///
    /// # Errors
    /// `NotFound` when the id is another owner's; or the database fails.
    pub async fn save_report(
        &self,
        id: &str,
        owner: &ReportOwner,
        name: &str,
        body: &str,
    ) -> StoreResult<()> {
        let (id, owner, name, body) = (id.to_string(), owner.clone(), name.to_string(), body.to_string());
        self.write(move |tx| {
            let [kind, who, organization] = owned(&owner);
            let params = [P::Text(&id), kind, who, organization, P::Text(&name), P::Text(&body)];
            let touched = tx.execute(
                "INSERT INTO reports (id, owner_kind, owner, organization, name, version, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6)
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name, body = excluded.body, version = reports.version + 1
                 WHERE reports.owner_kind = ?2 AND reports.owner = ?3 AND reports.organization = ?4",
                &params,
            )?;
            found(touched)
        })
        .await
    }

    /// Deletes a report; its codes are worthless from the same moment.
    ///
    /// # Errors
    /// `NotFound`, or the database fails.
    pub async fn delete_report(&self, id: &str, owner: &ReportOwner) -> StoreResult<()> {
        let (id, owner) = (id.to_string(), owner.clone());
        self.write(move |tx| {
            let (name, code) = find_code(tx.sql(), &id, &owner)?;
            let [kind, who, organization] = owned(&owner);
            let touched = tx.execute(
                "DELETE FROM reports WHERE id = ?1 AND owner_kind = ?2 AND owner = ?3 AND organization = ?4",
                &[P::Text(&id), kind, who, organization],
            )?;
            found(touched)?;
            for table in [
                "report_codes",
                "report_shares",
                "report_calls",
                "report_schedules",
                "report_files",
            ] {
                tx.execute(&format!("DELETE FROM {table} WHERE report = ?1"), &[P::Text(&id)])?;
            }
            if let Some(code) = code {
                note(tx, CODE, &owner, &id, Some(&told_code(&name, &code)), None)?;
            }
            Ok(())
        })
        .await
    }

    /// The code of an owner's report, if it has one.
    ///
    /// # Errors
    /// `NotFound` when there is no such report; or the database fails.
    pub async fn report_code(&self, id: &str, owner: &ReportOwner) -> StoreResult<Option<StoredCode>> {
        let (id, owner) = (id.to_string(), owner.clone());
        self.read(move |sql| Ok(find_code(sql, &id, &owner)?.1)).await
    }

    /// The codes of an owner's reports, each with its report's id.
    ///
    /// # Errors
    /// The database fails.
    pub async fn report_codes_of(&self, owner: &ReportOwner) -> StoreResult<Vec<(String, StoredCode)>> {
        let owner = owner.clone();
        self.read(move |sql| {
            sql.all(
                "SELECT c.report, c.code_hash, c.sealed, c.locale, c.expires, c.addresses, c.created
                 FROM report_codes c JOIN reports r ON r.id = c.report
                 WHERE r.owner_kind = ?1 AND r.owner = ?2 AND r.organization = ?3",
                &owned(&owner),
                |row| Ok((row.text(0)?.to_string(), read_code(row, 1)?)),
            )
        })
        .await
    }

    /// Gives a report a code. `Exists` when it has one by now.
    ///
    /// # Errors
    /// `NotFound`, `Exists`, or the database fails.
    pub async fn add_report_code(&self, id: &str, owner: &ReportOwner, code: StoredCode) -> StoreResult<()> {
        let (id, owner) = (id.to_string(), owner.clone());
        self.write(move |tx| {
            let (name, known) = find_code(tx.sql(), &id, &owner)?;
            if known.is_some() {
                return Err(StoreError::Exists);
            }
            tx.execute(
                "INSERT INTO report_codes (code_hash, report, sealed, locale, created, expires, addresses)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                &[
                    P::Text(&code.hash),
                    P::Text(&id),
                    P::Text(&code.sealed),
                    P::Text(&code.locale),
                    P::Int(now()),
                    P::Int(code.expires),
                    P::Text(&code.addresses),
                ],
            )?;
            note(tx, CODE, &owner, &id, None, Some(&told_code(&name, &code)))
        })
        .await
    }

    /// Puts a new code in the place of a report's present one, which is worthless from the same moment. Its limits stay.
    ///
    /// # Errors
    /// `NotFound` when there is no such report or it has no code; or the database fails.
    pub async fn replace_report_code(
        &self,
        id: &str,
        owner: &ReportOwner,
        code: StoredCode,
    ) -> StoreResult<()> {
        let (id, owner) = (id.to_string(), owner.clone());
        self.write(move |tx| {
            let (name, old) = find_code(tx.sql(), &id, &owner)?;
            let old = old.ok_or(StoreError::NotFound)?;
            tx.execute(
                "UPDATE report_codes SET code_hash = ?2, sealed = ?3, locale = ?4, created = ?5 WHERE report = ?1",
                &[
                    P::Text(&id),
                    P::Text(&code.hash),
                    P::Text(&code.sealed),
                    P::Text(&code.locale),
                    P::Int(now()),
                ],
            )?;
            let new = StoredCode {
                expires: old.expires,
                addresses: old.addresses.clone(),
                ..code
            };
            let (before, after) = (told_code(&name, &old), told_code(&name, &new));
            note(tx, CODE, &owner, &id, Some(&before), Some(&after))
        })
        .await
    }

    /// Takes a report's code away; whoever has it can do nothing with it from now on.
    ///
    /// # Errors
    /// `NotFound` when there is no such report or it has no code; or the database fails.
    pub async fn revoke_report_code(&self, id: &str, owner: &ReportOwner) -> StoreResult<()> {
        let (id, owner) = (id.to_string(), owner.clone());
        self.write(move |tx| {
            let (name, code) = find_code(tx.sql(), &id, &owner)?;
            let code = code.ok_or(StoreError::NotFound)?;
            tx.execute("DELETE FROM report_codes WHERE report = ?1", &[P::Text(&id)])?;
            note(tx, CODE, &owner, &id, Some(&told_code(&name, &code)), None)
        })
        .await
    }

    /// Changes when a report's code ends and who may use it.
    ///
    /// # Errors
    /// `NotFound` when there is no such report or it has no code; or the database fails.
    pub async fn limit_report_code(
        &self,
        id: &str,
        owner: &ReportOwner,
        expires: i64,
        addresses: &str,
    ) -> StoreResult<()> {
        let (id, owner, addresses) = (id.to_string(), owner.clone(), addresses.to_string());
        self.write(move |tx| {
            let (name, code) = find_code(tx.sql(), &id, &owner)?;
            let code = code.ok_or(StoreError::NotFound)?;
            tx.execute(
                "UPDATE report_codes SET expires = ?2, addresses = ?3 WHERE report = ?1",
                &[P::Text(&id), P::Int(expires), P::Text(&addresses)],
            )?;
            let old = told_code(&name, &code);
            let new = told_code(
                &name,
                &StoredCode {
                    expires,
                    addresses,
                    ..code
                },
            );
            note(tx, CODE, &owner, &id, Some(&old), Some(&new))
        })
        .await
    }

    /// The report that a code opens, and the code.
    ///
    /// # Errors
    /// `NotFound`, or the database fails.
    pub async fn report_by_code(&self, code_hash: &str) -> StoreResult<(StoredReport, StoredCode)> {
        let hash = code_hash.to_string();
        self.read(move |sql| {
            let found = sql.first(
                "SELECT r.id, r.owner_kind, r.owner, r.organization, r.name, r.version, r.body,
                        c.code_hash, c.sealed, c.locale, c.expires, c.addresses, c.created
                 FROM report_codes c JOIN reports r ON r.id = c.report WHERE c.code_hash = ?1",
                &[P::Text(&hash)],
                |row| Ok((read_row(row)?, read_code(row, 7)?)),
            )?;
            found.ok_or(StoreError::NotFound)
        })
        .await
    }

    /// Reports that others of the organization share with somebody, by name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn reports_shared_with(&self, owner: &ReportOwner) -> StoreResult<Vec<StoredReport>> {
        let owner = owner.clone();
        self.read(move |sql| {
            sql.all(
                "SELECT r.id, r.owner_kind, r.owner, r.organization, r.name, r.version, r.body
                 FROM report_shares s JOIN reports r ON r.id = s.report
                 WHERE s.kind = ?1 AND s.name = ?2 AND r.organization = ?3 ORDER BY r.name, r.id",
                &owned(&owner),
                read_row,
            )
        })
        .await
    }

    /// Whom a report is shared with: kind (`admin`, `user`) and name.
    ///
    /// # Errors
    /// `NotFound` when the report is not the owner's; or the database fails.
    pub async fn report_shares(&self, id: &str, owner: &ReportOwner) -> StoreResult<Vec<(String, String)>> {
        let (id, owner) = (id.to_string(), owner.clone());
        self.read(move |sql| {
            let [kind, who, organization] = owned(&owner);
            let known = sql.first(
                "SELECT 1 FROM reports WHERE id = ?1 AND owner_kind = ?2 AND owner = ?3 AND organization = ?4",
                &[P::Text(&id), kind, who, organization],
                |row| row.int(0),
            )?;
            known.ok_or(StoreError::NotFound)?;
            sql.all(
                "SELECT kind, name FROM report_shares WHERE report = ?1 ORDER BY kind, name",
                &[P::Text(&id)],
                |row| Ok((row.text(0)?.to_string(), row.text(1)?.to_string())),
            )
        })
        .await
    }

    /// Shares a report with these and nobody else.
    ///
    /// # Errors
    /// `NotFound` when the report is not the owner's; or the database fails.
    pub async fn share_report(
        &self,
        id: &str,
        owner: &ReportOwner,
        with: Vec<(SessionKind, String)>,
    ) -> StoreResult<()> {
        let (id, owner) = (id.to_string(), owner.clone());
        self.write(move |tx| {
            let [kind, who, organization] = owned(&owner);
            let known = tx.sql().first(
                "SELECT 1 FROM reports WHERE id = ?1 AND owner_kind = ?2 AND owner = ?3 AND organization = ?4",
                &[P::Text(&id), kind, who, organization],
                |row| row.int(0),
            )?;
            known.ok_or(StoreError::NotFound)?;
            tx.execute("DELETE FROM report_shares WHERE report = ?1", &[P::Text(&id)])?;
            for (kind, name) in &with {
                tx.execute(
                    "INSERT INTO report_shares (report, kind, name) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                    &[P::Text(&id), P::Text(kind.word()), P::Text(name)],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// The data sources of an owner, by name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn report_sources(&self, owner: &ReportOwner) -> StoreResult<Vec<StoredSource>> {
        let owner = owner.clone();
        self.read(move |sql| {
            let query = format!(
                "SELECT {SOURCE_COLUMNS} FROM report_sources
                 WHERE owner_kind = ?1 AND owner = ?2 AND organization = ?3 ORDER BY name, id"
            );
            sql.all(&query, &owned(&owner), read_source)
        })
        .await
    }

    /// One data source, whoever owns it: ask only for what a template names that the caller may use.
    ///
    /// # Errors
    /// `NotFound`, or the database fails.
    pub async fn report_source(&self, id: &str) -> StoreResult<StoredSource> {
        let id = id.to_string();
        self.read(move |sql| {
            let query = format!("SELECT {SOURCE_COLUMNS} FROM report_sources WHERE id = ?1");
            sql.first(&query, &[P::Text(&id)], read_source)?
                .ok_or(StoreError::NotFound)
        })
        .await
    }

    /// Every data source, whoever owns it: for the server's own work on their files.
    ///
    /// # Errors
    /// The database fails.
    pub async fn all_report_sources(&self) -> StoreResult<Vec<StoredSource>> {
        self.read(move |sql| {
            let query = format!("SELECT {SOURCE_COLUMNS} FROM report_sources ORDER BY id");
            sql.all(&query, &[], read_source)
        })
        .await
    }

    /// Replaces what a data source says of its rows, unless it was changed meanwhile; counts its version up.
    ///
    /// # Errors
    /// `Changed` when it was changed or deleted; or the database fails.
    pub async fn reload_report_source(&self, id: &str, version: i64, body: &str) -> StoreResult<()> {
        let (id, body) = (id.to_string(), body.to_string());
        self.write(move |tx| {
            let touched = tx.execute(
                "UPDATE report_sources SET body = ?3, version = version + 1 WHERE id = ?1 AND version = ?2",
                &[P::Text(&id), P::Int(version), P::Text(&body)],
            )?;
            found(touched).map_err(|_| StoreError::Changed)
        })
        .await
    }

    /// Saves a data source under its id, new or changed.
    ///
    /// # Errors
    /// `NotFound` when the id is another owner's; or the database fails.
    pub async fn save_report_source(&self, source: StoredSource) -> StoreResult<()> {
        self.write(move |tx| {
            let old = find_source(tx.sql(), &source.id, &source.owner)?;
            let [kind, who, organization] = owned(&source.owner);
            let touched = tx.execute(
                "INSERT INTO report_sources (id, owner_kind, owner, organization, name, body, sealed, version)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1)
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name, body = excluded.body, sealed = excluded.sealed,
                     version = report_sources.version + 1
                 WHERE report_sources.owner_kind = ?2 AND report_sources.owner = ?3
                     AND report_sources.organization = ?4",
                &[
                    P::Text(&source.id),
                    kind,
                    who,
                    organization,
                    P::Text(&source.name),
                    P::Text(&source.body),
                    P::Text(&source.sealed),
                ],
            )?;
            found(touched)?;
            let (before, after) = (old.as_ref().map(told_source), told_source(&source));
            note(tx, SOURCE, &source.owner, &source.id, before.as_ref(), Some(&after))
        })
        .await
    }

    /// Deletes a data source. Templates on it stay, and say that it is gone.
    ///
    /// # Errors
    /// `NotFound`, or the database fails.
    pub async fn delete_report_source(&self, id: &str, owner: &ReportOwner) -> StoreResult<()> {
        let (id, owner) = (id.to_string(), owner.clone());
        self.write(move |tx| {
            let gone = find_source(tx.sql(), &id, &owner)?.ok_or(StoreError::NotFound)?;
            tx.execute("DELETE FROM report_sources WHERE id = ?1", &[P::Text(&id)])?;
            note(tx, SOURCE, &owner, &id, Some(&told_source(&gone)), None)
        })
        .await
    }

    /// The templates that somebody may use, by number.
    ///
    /// # Errors
    /// The database fails.
    pub async fn report_templates(&self, user: &ReportOwner) -> StoreResult<Vec<StoredTemplate>> {
        let user = user.clone();
        self.read(move |sql| {
            let query = format!("SELECT {TEMPLATE_COLUMNS} FROM report_templates WHERE {USABLE} ORDER BY id");
            sql.all(&query, &owned(&user), read_template)
        })
        .await
    }

    /// One template that somebody may use.
    ///
    /// # Errors
    /// `NotFound`, or the database fails.
    pub async fn report_template(&self, id: i64, user: &ReportOwner) -> StoreResult<StoredTemplate> {
        let user = user.clone();
        self.read(move |sql| {
            let query = format!("SELECT {TEMPLATE_COLUMNS} FROM report_templates WHERE {USABLE} AND id = ?4");
            let [kind, who, organization] = owned(&user);
            sql.first(&query, &[kind, who, organization, P::Int(id)], read_template)?
                .ok_or(StoreError::NotFound)
        })
        .await
    }

    /// Adds a template under the next number from `first` on, which `body` is made with; answers the number.
    ///
    /// # Errors
    /// The database fails.
    pub async fn add_report_template<F>(
        &self,
        owner: &ReportOwner,
        audience: &str,
        first: i64,
        body: F,
    ) -> StoreResult<i64>
    where
        F: FnOnce(i64) -> StoreResult<String> + Send + 'static,
    {
        let (owner, audience) = (owner.clone(), audience.to_string());
        self.write(move |tx| {
            let last = tx
                .sql()
                .first("SELECT COALESCE(MAX(id), 0) FROM report_templates", &[], |row| {
                    row.int(0)
                })?;
            let id = (last.unwrap_or_default() + 1).max(first);
            let body = body(id)?;
            let [kind, who, organization] = owned(&owner);
            tx.execute(
                "INSERT INTO report_templates (id, owner_kind, owner, organization, audience, version, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6)",
                &[
                    P::Int(id),
                    kind,
                    who,
                    organization,
                    P::Text(&audience),
                    P::Text(&body),
                ],
            )?;
            let new = told_template(&audience, &body);
            note(tx, TEMPLATE, &owner, &id.to_string(), None, Some(&new))?;
            Ok(id)
        })
        .await
    }

    /// Changes a template.
    ///
    /// # Errors
    /// `NotFound` when it is not the owner's; or the database fails.
    pub async fn change_report_template(
        &self,
        id: i64,
        owner: &ReportOwner,
        audience: &str,
        body: &str,
    ) -> StoreResult<()> {
        let (owner, audience, body) = (owner.clone(), audience.to_string(), body.to_string());
        self.write(move |tx| {
            let old = find_template(tx.sql(), id, &owner)?.ok_or(StoreError::NotFound)?;
            tx.execute(
                "UPDATE report_templates SET audience = ?2, body = ?3, version = version + 1 WHERE id = ?1",
                &[P::Int(id), P::Text(&audience), P::Text(&body)],
            )?;
            let old = told_template(&old.audience, &old.body);
            let new = told_template(&audience, &body);
            note(tx, TEMPLATE, &owner, &id.to_string(), Some(&old), Some(&new))
        })
        .await
    }

    /// Deletes a template. Reports made of it stay, and say that it is gone.
    ///
    /// # Errors
    /// `NotFound`, or the database fails.
    pub async fn delete_report_template(&self, id: i64, owner: &ReportOwner) -> StoreResult<()> {
        let owner = owner.clone();
        self.write(move |tx| {
            let gone = find_template(tx.sql(), id, &owner)?.ok_or(StoreError::NotFound)?;
            tx.execute("DELETE FROM report_templates WHERE id = ?1", &[P::Int(id)])?;
            let gone = told_template(&gone.audience, &gone.body);
            note(tx, TEMPLATE, &owner, &id.to_string(), Some(&gone), None)
        })
        .await
    }

    /// Adds calls to the log, and removes what is too old. Calls of reports that are gone by now are not kept.
    ///
    /// # Errors
    /// The database fails.
    pub async fn log_report_calls(&self, calls: Vec<ReportCalls>) -> StoreResult<()> {
        self.write(move |tx| {
            for c in &calls {
                tx.execute(
                    "INSERT INTO report_calls (report, minute, address, status, calls, result_rows)
                     SELECT id, CAST(?2 AS BIGINT), CAST(?3 AS TEXT), CAST(?4 AS BIGINT), CAST(?5 AS BIGINT),
                            CAST(?6 AS BIGINT) FROM reports WHERE id = ?1
                     ON CONFLICT (report, minute, address, status) DO UPDATE SET
                         calls = report_calls.calls + excluded.calls,
                         result_rows = report_calls.result_rows + excluded.result_rows",
                    &[
                        P::Text(&c.report),
                        P::Int(c.minute),
                        P::Text(&c.address),
                        P::Int(c.status),
                        P::Int(c.calls),
                        P::Int(c.rows),
                    ],
                )?;
            }
            tx.execute(
                "DELETE FROM report_calls WHERE minute < ?1",
                &[P::Int(now() - KEEP_CALLS * 86_400)],
            )?;
            Ok(())
        })
        .await
    }

    /// The latest calls with a report's code, newest first.
    ///
    /// # Errors
    /// `NotFound` when the report is not the owner's; or the database fails.
    pub async fn report_calls(
        &self,
        id: &str,
        owner: &ReportOwner,
        limit: i64,
    ) -> StoreResult<Vec<ReportCalls>> {
        let (id, owner) = (id.to_string(), owner.clone());
        self.read(move |sql| {
            let [kind, who, organization] = owned(&owner);
            let known = sql.first(
                "SELECT 1 FROM reports WHERE id = ?1 AND owner_kind = ?2 AND owner = ?3 AND organization = ?4",
                &[P::Text(&id), kind, who, organization],
                |row| row.int(0),
            )?;
            known.ok_or(StoreError::NotFound)?;
            sql.all(
                "SELECT report, minute, address, status, calls, result_rows FROM report_calls WHERE report = ?1
                 ORDER BY minute DESC, address, status LIMIT ?2",
                &[P::Text(&id), P::Int(limit)],
                |row| {
                    Ok(ReportCalls {
                        report: row.text(0)?.to_string(),
                        minute: row.int(1)?,
                        address: row.text(2)?.to_string(),
                        status: row.int(3)?,
                        calls: row.int(4)?,
                        rows: row.int(5)?,
                    })
                },
            )
        })
        .await
    }
}
