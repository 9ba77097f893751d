//! Fills a server's database for the benchmarks, much faster than a server could be asked to, while no server runs on it.
//!
//! `fill DATABASE ACCOUNTS JOBS LINES`: copies of the account `template`, named `account-00000` and on, each with
//! devices, Protected Items and vaults; jobs of these accounts, spread over the last 80 days in the order of their time;
//! log lines, a fiftieth of them in the first job and the rest alike.

#![allow(clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use encke_api::types::BackupJobDetail;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::{SystemTime, UNIX_EPOCH};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Seconds that the jobs are spread over; younger than what a server removes.
const SPAN: u64 = 80 * 86_400;
/// Rows that are written in one transaction.
const AT_ONCE: u64 = 500_000;

fn guid(kind: u32, number: u64) -> String {
    format!("{number:08x}-{kind:04x}-4000-8000-{number:012x}")
}

fn name(account: u64) -> String {
    format!("account-{account:05}")
}

fn profile(template: &Value, account: u64) -> Value {
    let mut p = template.clone();
    p["Username"] = json!(name(account));
    p["AccountName"] = json!(format!("Customer number {account}"));
    for n in 0..2 {
        let (device, vault) = (guid(1, account * 2 + n), guid(2, account * 2 + n));
        p["Devices"][&device] = json!({
            "FriendlyName": format!("workstation-{n}.example.com"), "RegistrationTime": 1_760_000_000,
            "ClientVersion": "25.9.8", "PlatformVersion": { "os": "linux", "arch": "amd64", "distribution": "Debian 12" },
        });
        p["Destinations"][&vault] = json!({
            "Description": format!("Vault {n}"), "DestinationType": 1003, "CometServer": "https://backup.example.com/",
            "CometBucket": vault, "CometBucketKey": "0123456789abcdef0123456789abcdef",
            "EncryptedEncryptionKey": "k".repeat(300), "DefaultRetention": { "Mode": 801, "Ranges": [] },
            "Statistics": { "ClientProvidedSize": { "Size": 123_456_789, "MeasureStarted": 1_760_000_000,
                "MeasureCompleted": 1_760_000_060 }, "ClientProvidedContent": {} },
        });
        for m in 0..2 {
            let source = guid(3, account * 4 + n * 2 + m);
            p["Sources"][&source] = json!({
                "Engine": "engine1/file", "Description": format!("Files {m}"), "OwnerDevice": device,
                "EngineProps": { "INCLUDE-1": "/home", "INCLUDE-2": "/srv", "EXCLUDE-1": "/home/*/.cache" },
            });
            p["BackupRules"][guid(4, account * 4 + n * 2 + m)] = json!({
                "Description": "Nightly", "Source": source, "Destination": vault,
                "Schedules": [{ "FrequencyType": 8011, "SecondsPast": 79_200 }],
            });
        }
    }
    p
}

fn fill_accounts(db: &mut Connection, accounts: u64) -> Outcome {
    let text: String = db.query_row("SELECT body FROM users WHERE username = 'template'", [], |r| {
        r.get(0)
    })?;
    let template: Value = serde_json::from_str(&text)?;
    let tx = db.transaction()?;
    tx.execute_batch("CREATE TEMP TABLE copy AS SELECT * FROM users WHERE username = 'template'")?;
    for account in 0..accounts {
        let body = profile(&template, account).to_string();
        let hash = hex::encode(&Sha256::digest(body.as_bytes())[..16]);
        tx.prepare_cached("UPDATE copy SET username = ?1, hash = ?2, body = ?3, devices = 2")?
            .execute(params![name(account), hash, body])?;
        tx.prepare_cached("INSERT INTO users SELECT * FROM copy")?
            .execute([])?;
    }
    tx.commit()?;
    Ok(())
}

fn job(number: u64, jobs: u64, accounts: u64, now: i64) -> BackupJobDetail {
    let account = number.wrapping_mul(2_654_435_761) % accounts;
    let started = now - (SPAN - number * SPAN / jobs) as i64;
    let status = match number % 50 {
        0 => 7002,
        1 => 7001,
        2 => 7003,
        _ => 5000,
    };
    let mut job = BackupJobDetail {
        guid: guid(0, number),
        username: name(account),
        classification: if number.is_multiple_of(20) { 4005 } else { 4001 },
        status,
        start_time: started,
        end_time: started + 40,
        source_guid: guid(3, account * 4 + number % 4),
        destination_guid: guid(2, account * 2 + number % 2),
        device_id: guid(1, account * 2 + number % 2),
        snapshot_id: format!("{number:064x}"),
        client_version: "25.9.8".into(),
        total_directories: 120,
        total_files: 1_500 + (number % 700) as i64,
        total_size: 10_000_000 + (number % 1_000_003) as i64 * 1_000,
        upload_size: (number % 9_973) as i64 * 1_000,
        ..Default::default()
    };
    job.progress.counter = 9;
    job.progress.recieved_time = job.end_time;
    job
}

fn fill_jobs(db: &mut Connection, accounts: u64, jobs: u64, now: i64) -> Outcome {
    for first in (0..jobs).step_by(AT_ONCE as usize) {
        let tx = db.transaction()?;
        for number in first..jobs.min(first + AT_ONCE) {
            let job = job(number, jobs, accounts, now);
            tx.prepare_cached(
                "INSERT INTO jobs (id, username, organization, device, source, destination, class, status, started,
                                   ended, counter, received, body)
                 VALUES (?1, ?2, '', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?9, ?11)",
            )?
            .execute(params![
                job.guid,
                job.username,
                job.device_id,
                job.source_guid,
                job.destination_guid,
                job.classification as i64,
                job.status as i64,
                job.start_time,
                job.end_time,
                job.progress.counter,
                serde_json::to_string(&job)?,
            ])?;
        }
        tx.commit()?;
        eprintln!("{} jobs", jobs.min(first + AT_ONCE));
    }
    Ok(())
}

fn fill_log(db: &mut Connection, jobs: u64, lines: u64, now: i64) -> Outcome {
    let long = lines / 50;
    let each = (lines - long) / jobs.saturating_sub(1).max(1);
    let mut written = 0;
    let mut number = 0;
    while number < jobs {
        let tx = db.transaction()?;
        let mut in_transaction = 0;
        while number < jobs && in_transaction < AT_ONCE {
            let id = guid(0, number);
            let count = if number == 0 { long } else { each };
            for seq in 0..count {
                let severity = if seq % 40 == 39 { "W" } else { "I" };
                tx.prepare_cached(
                    "INSERT INTO job_log (job_id, seq, time, severity, message) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    id,
                    seq as i64,
                    now,
                    severity,
                    format!("Saved folder /home/somebody/documents/{seq}: 12 files"),
                ])?;
            }
            in_transaction += count;
            number += 1;
        }
        tx.commit()?;
        written += in_transaction;
        if written % 10_000_000 < in_transaction {
            eprintln!("{written} log lines");
        }
    }
    Ok(())
}

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, accounts, jobs, lines] = arguments.as_slice() else {
        return Err("usage: fill DATABASE ACCOUNTS JOBS LINES".into());
    };
    let (accounts, jobs, lines): (u64, u64, u64) = (accounts.parse()?, jobs.parse()?, lines.parse()?);
    let mut db = Connection::open(database)?;
    // A database that a crash may spoil is made anew.
    db.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -500000")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() as i64;
    fill_accounts(&mut db, accounts)?;
    fill_jobs(&mut db, accounts, jobs, now)?;
    fill_log(&mut db, jobs, lines, now)?;
    db.execute_batch("PRAGMA journal_mode = WAL")?;
    Ok(())
}
