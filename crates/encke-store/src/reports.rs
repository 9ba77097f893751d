//! Saved reports and their API codes.

use crate::Store;
use crate::error::{StoreError, StoreResult};
use crate::events::now;
use crate::sessions::SessionKind;
use crate::sql::{P, Row, Tx};

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
}

const COLUMNS: &str = "id, owner_kind, owner, organization, name, version, body";

fn read_row(row: &dyn Row) -> StoreResult<StoredReport> {
    let kind = match row.text(1)? {
        "admin" => SessionKind::Admin,
        "user" => SessionKind::User,
        other => return Err(StoreError::Damaged(format!("report owner {other}"))),
    };
    Ok(StoredReport {
        id: row.text(0)?.to_string(),
        owner: ReportOwner {
            kind,
            name: row.text(2)?.to_string(),
            organization: row.text(3)?.to_string(),
        },
        name: row.text(4)?.to_string(),
        version: row.int(5)?,
        body: row.text(6)?.to_string(),
    })
}

fn owned(owner: &ReportOwner) -> [P<'_>; 3] {
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
    tx.execute(
        "DELETE FROM reports WHERE owner_kind = ?1 AND owner = ?2 AND organization = ?3",
        &owned(owner),
    )?;
    Ok(())
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
            if touched == 0 { Err(StoreError::NotFound) } else { Ok(()) }
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
            let [kind, who, organization] = owned(&owner);
            let touched = tx.execute(
                "DELETE FROM reports WHERE id = ?1 AND owner_kind = ?2 AND owner = ?3 AND organization = ?4",
                &[P::Text(&id), kind, who, organization],
            )?;
            if touched == 0 {
                return Err(StoreError::NotFound);
            }
            tx.execute("DELETE FROM report_codes WHERE report = ?1", &[P::Text(&id)])?;
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
        self.read(move |sql| {
            let [kind, who, organization] = owned(&owner);
            let known = sql.first(
                "SELECT 1 FROM reports WHERE id = ?1 AND owner_kind = ?2 AND owner = ?3 AND organization = ?4",
                &[P::Text(&id), kind, who, organization],
                |row| row.int(0),
            )?;
            known.ok_or(StoreError::NotFound)?;
            sql.first(
                "SELECT code_hash, sealed, locale FROM report_codes WHERE report = ?1",
                &[P::Text(&id)],
                |row| {
                    Ok(StoredCode {
                        hash: row.text(0)?.to_string(),
                        sealed: row.text(1)?.to_string(),
                        locale: row.text(2)?.to_string(),
                    })
                },
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
            let [kind, who, organization] = owned(&owner);
            let params = [P::Text(&id), kind, who, organization];
            let known = tx.sql().first(
                "SELECT (SELECT COUNT(*) FROM report_codes WHERE report = ?1) FROM reports
                 WHERE id = ?1 AND owner_kind = ?2 AND owner = ?3 AND organization = ?4",
                &params,
                |row| row.int(0),
            )?;
            match known {
                None => return Err(StoreError::NotFound),
                Some(0) => {}
                Some(_) => return Err(StoreError::Exists),
            }
            tx.execute(
                "INSERT INTO report_codes (code_hash, report, sealed, locale, created) VALUES (?1, ?2, ?3, ?4, ?5)",
                &[P::Text(&code.hash), P::Text(&id), P::Text(&code.sealed), P::Text(&code.locale), P::Int(now())],
            )?;
            Ok(())
        })
        .await
    }

    /// The report that a code opens, and the code's language.
    ///
    /// # Errors
    /// `NotFound`, or the database fails.
    pub async fn report_by_code(&self, code_hash: &str) -> StoreResult<(StoredReport, String)> {
        let hash = code_hash.to_string();
        self.read(move |sql| {
            let found = sql.first(
                "SELECT r.id, r.owner_kind, r.owner, r.organization, r.name, r.version, r.body, c.locale
                 FROM report_codes c JOIN reports r ON r.id = c.report WHERE c.code_hash = ?1",
                &[P::Text(&hash)],
                |row| Ok((read_row(row)?, row.text(7)?.to_string())),
            )?;
            found.ok_or(StoreError::NotFound)
        })
        .await
    }
}
