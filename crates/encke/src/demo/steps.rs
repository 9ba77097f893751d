//! The steps of the demonstration.

use super::client::{ADMIN, Client};
use super::compare::{self, Compared};
use crate::vault::bytes;
use anyhow::{Context as _, bail};
use encke_agent::{Agent, Registration, Settings, register};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The demonstration's account and its password.
const USER: &str = "demo";
const USER_PASSWORD: &str = "demo-password";
const VAULT: &str = "demo-vault";
const ITEM: &str = "demo-item";
const RULE: &str = "demo-rule";
/// Bytes copied from the system's documentation at most.
const SAMPLE_BYTES: u64 = 100 << 20;

/// What the steps need.
pub struct Demo {
    pub url: String,
    pub data_dir: PathBuf,
    pub folder: Option<PathBuf>,
    pub stopping: CancellationToken,
    pub runtime: tokio::runtime::Handle,
}

impl Demo {
    /// Shows everything.
    pub fn show(self) -> anyhow::Result<()> {
        let client = Client::new(&self.url);
        let properties = client.get("/gen/branding.props")?;
        if properties["ServerIsEmpty"] == true {
            let first = [("TargetUser", ADMIN), ("TargetPassword", ADMIN)];
            client.call("/api/v1/admin/add-first-admin-user", &first)?;
            println!("Made the administrator {ADMIN}.");
        }
        let folder = match &self.folder {
            Some(folder) => fs::canonicalize(folder).with_context(|| folder.display().to_string())?,
            None => self.sample()?,
        };
        if !client
            .call("/api/v1/admin/list-users", &[])?
            .as_array()
            .is_some_and(|u| u.contains(&json!(USER)))
        {
            let user = [
                ("TargetUser", USER),
                ("TargetPassword", USER_PASSWORD),
                ("StoreRecoveryCode", "1"),
            ];
            client.call("/api/v1/admin/add-user", &user)?;
            println!("Made the account {USER}.");
        }
        let device = self.device()?;
        self.prepare(&client, &device, &folder)?;
        let connection = self.connection(&client, &device)?;
        let backup = self.backup(&client, &connection)?;
        self.restore(&client, &connection, &folder)?;
        let report = self.report(&client)?;
        println!(
            "\nThe backup job, as the API shows it:\n{}",
            serde_json::to_string_pretty(&backup)?
        );
        self.invite(&report);
        Ok(())
    }

    /// A copy of real documentation, so that the demonstration may be run again on changing data without touching
    /// anything of the system's.
    fn sample(&self) -> anyhow::Result<PathBuf> {
        let target = self.data_dir.join("documents");
        if target.is_dir() {
            return Ok(target);
        }
        let sources = [PathBuf::from("/usr/share/doc"), PathBuf::from("/usr/share/man")];
        let toolchain = std::process::Command::new("rustc")
            .args(["--print", "sysroot"])
            .output();
        let toolchain = toolchain
            .ok()
            .map(|o| PathBuf::from(String::from_utf8_lossy(&o.stdout).trim()).join("share"));
        let draft = self.data_dir.join("documents.new");
        let _ = fs::remove_dir_all(&draft);
        let mut left = SAMPLE_BYTES;
        for source in sources.into_iter().chain(toolchain).filter(|s| s.is_dir()) {
            let name = source.to_string_lossy().trim_start_matches('/').replace('/', "-");
            copy(&source, &draft.join(name), &mut left)?;
        }
        if left == SAMPLE_BYTES {
            bail!("this system has no documentation to copy; name a folder with --folder");
        }
        fs::rename(&draft, &target)?;
        println!(
            "Copied {} of documentation to {}.",
            bytes(SAMPLE_BYTES - left),
            target.display()
        );
        Ok(target)
    }

    /// Registers this machine and keeps its agent running.
    fn device(&self) -> anyhow::Result<String> {
        let dir = self.data_dir.join("agent");
        let settings = match Settings::load(&dir) {
            Ok(settings) if settings.server == self.url => settings,
            _ => {
                let registration = Registration {
                    server: &self.url,
                    username: USER,
                    password: USER_PASSWORD,
                    totp: "",
                    device_id: None,
                    device_name: None,
                    allows_filenames: true,
                };
                let settings = self.runtime.block_on(register(&registration, &dir))?;
                println!("Registered this machine as device {}.", settings.device_id);
                settings
            }
        };
        let stopping = self.stopping.clone();
        self.runtime.spawn(async move {
            if let Err(e) = Agent::run(&dir, stopping).await {
                tracing::error!(error = %e, "the agent stopped");
            }
        });
        Ok(settings.device_id)
    }

    /// Makes the vault, the item and the rule, and keeps them up to date.
    fn prepare(&self, client: &Client, device: &str, folder: &Path) -> anyhow::Result<()> {
        let target = [("TargetUser", USER)];
        let answer = client.call("/api/v1/admin/get-user-profile-and-hash", &target)?;
        let mut profile = answer["Profile"].clone();
        if profile["Destinations"][VAULT].is_null() {
            let bucket = client.call("/api/v1/admin/storage/register-bucket", &[])?;
            profile["Destinations"][VAULT] = json!({
                "Description": "Demo vault",
                "DestinationType": 1003,
                "CometServer": self.url,
                "CometBucket": bucket["NewBucketID"],
                "CometBucketKey": bucket["NewBucketKey"],
                "DefaultRetention": { "Mode": 801, "Ranges": [] },
                "AssociatedDevices": [device],
            });
            println!("Made a Storage Vault in this server's own Storage Role.");
        }
        profile["Destinations"][VAULT]["CometServer"] = json!(self.url);
        let item = &mut profile["Sources"][ITEM];
        if item.is_null() {
            *item = json!({ "Engine": "engine1/file", "Description": "Documents" });
        }
        item["OwnerDevice"] = json!(device);
        item["EngineProps"] = json!({ "INCLUDE1": folder });
        if profile["BackupRules"][RULE].is_null() {
            profile["BackupRules"][RULE] =
                json!({ "Description": "By hand", "Source": ITEM, "Destination": VAULT });
        }
        let text = profile.to_string();
        let hash = answer["ProfileHash"].as_str().unwrap_or_default();
        let fields = [
            ("TargetUser", USER),
            ("ProfileData", text.as_str()),
            ("RequireHash", hash),
        ];
        client.call("/api/v1/admin/set-user-profile-hash", &fields)?;
        println!("The Protected Item is {}.", folder.display());
        Ok(())
    }

    /// Waits for the device to be on line.
    fn connection(&self, client: &Client, device: &str) -> anyhow::Result<String> {
        let limit = Instant::now() + Duration::from_secs(30);
        while Instant::now() < limit {
            let live = client.call(
                "/api/v1/admin/dispatcher/list-active",
                &[("UserNameFilter", USER)],
            )?;
            let found = live
                .as_object()
                .into_iter()
                .flatten()
                .find(|(_, c)| c["DeviceID"] == device);
            if let Some((id, _)) = found {
                // The change of the profile has to reach the device first.
                client.call("/api/v1/admin/dispatcher/refetch-profile", &[("TargetID", id)])?;
                return Ok(id.clone());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("the device did not come on line")
    }

    fn backup(&self, client: &Client, connection: &str) -> anyhow::Result<Value> {
        println!("\nBacking up through the live connection ...");
        let fields = [("TargetID", connection), ("BackupRule", RULE)];
        let started = client.call("/api/v1/admin/dispatcher/run-backup", &fields)?;
        let job = follow(client, &started)?;
        let number = |key: &str| job[key].as_u64().unwrap_or_default();
        println!(
            "Backed up {} files, {}; uploaded {} in {} s.",
            number("TotalFiles"),
            bytes(number("TotalSize")),
            bytes(number("UploadSize")),
            number("EndTime") - number("StartTime"),
        );
        Ok(job)
    }

    fn restore(&self, client: &Client, connection: &str, folder: &Path) -> anyhow::Result<()> {
        let target = self.data_dir.join("restored");
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        println!("\nRestoring to {} ...", target.display());
        let path = target.to_string_lossy();
        let fields = [
            ("TargetID", connection),
            ("Path", path.as_ref()),
            ("Source", ITEM),
            ("Destination", VAULT),
        ];
        follow(
            client,
            &client.call("/api/v1/admin/dispatcher/run-restore", &fields)?,
        )?;
        let restored = target.join(folder.strip_prefix("/").unwrap_or(folder));
        let mut seen = Compared::default();
        compare::folders(folder, &restored, &mut seen)?;
        println!(
            "Compared {} entries and {}: every byte and attribute is the same.",
            seen.entries,
            bytes(seen.bytes)
        );
        Ok(())
    }

    /// The sample report's public address.
    fn report(&self, client: &Client) -> anyhow::Result<String> {
        let made = client.call(
            "/api/encke/v1/reports/save-sample",
            &[("Size", "185"), ("Seed", "1")],
        )?;
        let code = made["APICode"]
            .as_str()
            .context("the sample report has no API code")?;
        let path = format!("/data-backend/api/public/areports/run/0/25/?API_KEY={code}");
        let page = client.get(&path)?;
        println!(
            "\nThe report '{}' has {} rows on {} pages.",
            page["reportName"].as_str().unwrap_or_default(),
            page["totalSize"],
            page["lastPage"].as_u64().unwrap_or_default() + 1,
        );
        Ok(format!("{}{path}", self.url))
    }

    fn invite(&self, report: &str) {
        println!("\nTry it:");
        println!(
            "  console       {}/   (administrator {ADMIN}, password {ADMIN}; user {USER}, password {USER_PASSWORD})",
            self.url
        );
        println!("  reference     {}/docs", self.url);
        println!(
            "  API           curl -X POST -d 'Username={ADMIN}&AuthType=Password&Password={ADMIN}' {}/api/v1/admin/list-users",
            self.url
        );
        println!("  report        curl '{report}'");
        println!(
            "  stock restic  eval \"$(encke agent --data-dir {} vault-access --destination {VAULT} | sed 's/^/export /')\" && restic snapshots",
            self.data_dir.join("agent").display()
        );
    }
}

/// Follows a job to its end with a progress bar. A job that does not end well is an error.
fn follow(client: &Client, started: &Value) -> anyhow::Result<Value> {
    let id = started["JobID"].as_str().context("no job was started")?;
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new(0)
    } else {
        ProgressBar::hidden()
    };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} files {msg}") {
        bar.set_style(style);
    }
    loop {
        let job = client.call("/api/v1/admin/get-job-properties", &[("JobID", id)])?;
        let progress = &job["Progress"];
        bar.set_length(progress["ItemsTotal"].as_u64().unwrap_or_default());
        bar.set_position(progress["ItemsDone"].as_u64().unwrap_or_default());
        bar.set_message(bytes(progress["BytesDone"].as_u64().unwrap_or_default()));
        let status = job["Status"].as_u64().unwrap_or_default();
        if !(6000..7000).contains(&status) {
            bar.finish_and_clear();
            if status == 5000 {
                return Ok(job);
            }
            let log = client.call(
                "/api/v1/admin/get-job-log-entries",
                &[("JobID", id), ("MinSeverity", "W")],
            )?;
            bail!("job {id} ended with status {status}: {log}");
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Copies files and folders with their times, up to a number of bytes; links are left out.
fn copy(from: &Path, to: &Path, left: &mut u64) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    let mut entries: Vec<_> = fs::read_dir(from)?.collect::<std::io::Result<_>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (meta, target) = (entry.metadata()?, to.join(entry.file_name()));
        if meta.is_dir() {
            copy(&entry.path(), &target, left)?;
        } else if meta.is_file() && meta.len() <= *left {
            fs::copy(entry.path(), &target)?;
            fs::File::open(&target)?.set_modified(meta.modified()?)?;
            *left -= meta.len();
        }
    }
    Ok(())
}
