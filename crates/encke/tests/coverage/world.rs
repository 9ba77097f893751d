//! A server with people, tenants and things in it: who calls, and which values are right for which parameter.

use crate::answers::{Answer, PUBLISHED, STRUCTURES};
use crate::support::authenticator::Authenticator;
use crate::support::device::{Device, USER};
use crate::support::{ADMIN, Server, configure};
use encke_api::endpoint::{Caller, Endpoint};
use encke_api::form::Param;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// No call may take longer than this, device or no device.
const PATIENCE: Duration = Duration::from_secs(30);
/// Stands in names and descriptions of what strangers must not see.
pub const CANARY: &str = "CANARY-5d2f";
/// The tenants: the one looked at, the one looking, the suspended one.
pub const NORTH: &str = "org-north-4c1d";
pub const SOUTH: &str = "org-south-9b2e";
const WEST: &str = "org-west-77aa";
/// Everybody's password but `dora`'s and the first administrator's.
const PASSWORD: &str = "a-good-password";
/// Where people see the console: security keys are bound to it.
const PAGE: &str = "https://backup.example.org";
/// Id of the device that waits in the lobby.
const IN_LOBBY: &str = "device-in-the-lobby";
/// A file that was uploaded.
const UPLOAD: &[u8] = b"\x89PNG\r\n\x1a\n\0\xff not text";

/// Somebody who calls.
#[derive(Clone, Copy)]
pub struct Who {
    pub name: &'static str,
    pub password: &'static str,
    /// The host whose organization the caller belongs to; empty for the server's own address.
    pub host: &'static str,
}

const fn who(name: &'static str, host: &'static str) -> Who {
    Who {
        name,
        password: PASSWORD,
        host,
    }
}

pub const FIRST: Who = Who {
    name: ADMIN,
    password: ADMIN,
    host: "",
};
pub const DORA: Who = Who {
    name: USER,
    password: "dora-password",
    host: "",
};
/// Callers whose own log-in may be changed.
pub const ADA: Who = who("ada", "");
pub const UMA: Who = who("uma", "");
const VIC: Who = who("vic", "");
/// Of another tenant.
pub const MALLORY: Who = who("mallory", "south.test");
pub const STAN: Who = who("stan", "south.test");
/// Suspended: her organization, his account.
pub const WENDY: Who = who("wendy", "west.test");
pub const SUSE: Who = who("suse", "");

pub struct World {
    pub server: Server,
    pub device: Option<Device>,
    /// A device that waits in the lobby.
    waiting: Option<Device>,
    http: ureq::Agent,
    /// Identifiers by what they name.
    pub facts: BTreeMap<&'static str, String>,
}

fn prepare(data_dir: &Path) {
    let copies_folder = data_dir.with_file_name("copies").display().to_string();
    configure(data_dir, move |config| {
        config.software_build_role.role_enabled = true;
        config.constellation_role.role_enabled = true;
        // What is measured here is not how guessing is slowed down.
        config.login_protection.enabled = true;
        config.login_protection.failure_threshold = 1_000_000;
        let mut copies = encke_api::types::SelfBackupTarget::default();
        copies.location.destination_type = encke_api::constants::DESTINATIONTYPE_LOCALCOPY;
        copies.location.localcopy_path = copies_folder;
        config.self_backup.targets.push(copies);
        for (id, host) in [(NORTH, "north.test"), (SOUTH, "south.test"), (WEST, "west.test")] {
            let organization = config.organizations.entry(id.into()).or_default();
            organization.hosts.push(host.into());
            organization.name = id.into();
            organization.is_suspended = id == WEST;
        }
    });
}

/// Where nobody listens.
const NOBODY: &str = "http://127.0.0.1:9";

/// A log-in provider. No directory: that one would be asked for every name that nobody has.
fn log_in_source(organization: &str, address: &str) -> Value {
    json!({
        "Type": "oidc", "Description": CANARY, "NewUserPermissions": {},
        "OIDC": {
            "DisplayName": "Company", "OrganizationID": organization, "Provider": "oidc", "ClientID": "encke",
            "ClientSecret": "secret-of-the-client", "SkipMFA": false, "DiscoveryDocumentURL": address,
        },
    })
}

impl World {
    /// People and tenants; a device with a vault and a finished backup when asked.
    pub fn start(with_device: bool) -> Self {
        let server = Server::start_prepared(prepare);
        let http = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let mut world = Self {
            server,
            device: None,
            waiting: None,
            http,
            facts: BTreeMap::new(),
        };
        for (name, organization) in [("ada", ""), ("mallory", SOUTH), ("nadia", NORTH), ("wendy", WEST)] {
            world.must(
                "admin-user/new",
                &[
                    ("TargetUser", name),
                    ("TargetPassword", PASSWORD),
                    ("TargetOrgID", organization),
                ],
            );
        }
        for (name, organization) in [
            ("uma", ""),
            ("vic", ""),
            ("suse", ""),
            ("vera", NORTH),
            ("stan", SOUTH),
        ] {
            world.must(
                "add-user",
                &[
                    ("TargetUser", name),
                    ("TargetPassword", PASSWORD),
                    ("TargetOrganization", organization),
                ],
            );
        }
        let canary = |profile: &mut Value| profile["AccountName"] = json!(CANARY);
        world.edit("vera", canary);
        world.edit("suse", |profile| profile["IsSuspended"] = json!(true));
        for organization in ["", NORTH] {
            world.furnish(organization);
        }
        if with_device {
            world.add_device();
            world.edit(USER, canary);
        } else {
            world.must(
                "add-user",
                &[("TargetUser", USER), ("TargetPassword", DORA.password)],
            );
        }
        world
    }

    /// Things of a tenant, as far as the server has such things.
    fn furnish(&mut self, organization: &'static str) {
        let north = organization == NORTH;
        let policy = json!({ "Description": CANARY, "OrganizationID": organization }).to_string();
        let quota = json!({ "Description": CANARY, "OrganizationID": organization, "LimitBytes": 1_000_000 })
            .to_string();
        let made = [
            (
                "bucket",
                "storage/register-bucket",
                "NewBucketID",
                vec![("SetOrganizationID", organization)],
            ),
            (
                "group",
                "user-groups/new",
                "UserGroupID",
                vec![("Name", CANARY), ("TargetOrganization", organization)],
            ),
        ];
        for (fact, path, property, fields) in made {
            let answer = self.server.call(&format!("/api/v1/admin/{path}"), &fields);
            if let Some(id) = answer[property].as_str() {
                let fact: &'static str = if north {
                    format!("north {fact}").leak()
                } else {
                    fact
                };
                self.facts.insert(fact, id.into());
            }
        }
        if !north {
            let made = self.server.call("/api/encke/v1/reports/save-sample", &[]);
            self.facts
                .insert("report", made["ReportID"].as_str().unwrap_or_default().into());
        }
        let id = if north { "policy-north-29" } else { "policy-top-17" };
        let fields = [("PolicyID", id), ("Policy", policy.as_str())];
        let answer = self.server.call("/api/v1/admin/policies/set", &fields);
        if answer["Status"] == 200 {
            self.facts
                .insert(if north { "north policy" } else { "policy" }, id.into());
        }
        let id = if north {
            "template-north-53"
        } else {
            "template-top-58"
        };
        self.keep_template(organization, id);
        let source = if north { "source-north-46" } else { "source-top-64" };
        let wanted = log_in_source(organization, NOBODY).to_string();
        self.must(
            "external-auth-sources/new",
            &[("SourceID", source), ("Source", &wanted)],
        );
        self.facts
            .insert(if north { "north log-in" } else { "log-in" }, source.into());
        self.facts
            .insert(if north { "north provider" } else { "provider" }, id.into());
        let id = if north { "quota-north-31" } else { "quota-top-72" };
        let fields = [
            ("SharedStorageQuotaID", id),
            ("SharedStorageQuota", quota.as_str()),
        ];
        let answer = self.server.call("/api/v1/admin/squota/set-with-hash", &fields);
        if answer["Status"] == 200 {
            self.facts
                .insert(if north { "north quota" } else { "quota" }, id.into());
        }
    }

    /// Lets an organization request Storage Vaults on the server's own Storage Role.
    fn keep_template(&self, organization: &str, id: &str) {
        let template = json!([{ "Type": "comet", "ID": id, "Description": CANARY }]);
        if organization.is_empty() {
            let text = template.to_string();
            let path = "/api/v1/admin/meta/remote-storage-vault/set";
            self.server.call(path, &[("RemoteStorageOptions", &text)]);
            return;
        }
        let all = self.server.call("/api/v1/admin/organization/list", &[]);
        let mut wanted = all[organization].clone();
        wanted["RemoteStorage"] = template;
        let wanted = wanted.to_string();
        self.must(
            "organization/set",
            &[("OrganizationID", organization), ("Organization", &wanted)],
        );
    }

    fn add_device(&mut self) {
        let server = &self.server;
        let device = Device::start(server, "device-61b0");
        let folder = server.work_dir.join("data");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("letter.txt"), "Dear reader").unwrap();
        device.add_item(
            server,
            "item-8a",
            "engine1/file",
            &json!({ "INCLUDE-letters": folder }),
        );
        device.add_item(
            server,
            "item-9b",
            "engine1/file",
            &json!({ "INCLUDE-letters": folder }),
        );
        let sleep = json!({ "COMMAND": "sleep 1000", "SAVEAS": "nothing" });
        device.add_item(server, "item-zz", "engine1/stdout", &sleep);
        device.add_folder_vault(server, "vault-3f", &server.work_dir.join("vault"));
        device.edit(server, |profile| {
            profile["BackupRules"]["rule-c5"] = json!({
                "Description": "Nightly", "Source": "item-8a", "Destination": "vault-3f", "Schedules": [],
            });
        });
        let job = device.back_up(server, "item-8a", "vault-3f");
        let found = device.ask(server, "request-vault-snapshots", &[("Destination", "vault-3f")]);
        let snapshot = found["Snapshots"][0]["Snapshot"]
            .as_str()
            .unwrap_or_else(|| panic!("{found}"))
            .to_string();
        let facts = [
            ("connection", device.connection(server)),
            ("device", device.id.clone()),
            ("item", "item-8a".into()),
            ("other item", "item-9b".into()),
            ("other rule", "rule-d6".into()),
            ("sleeper", "item-zz".into()),
            ("vault", "vault-3f".into()),
            ("rule", "rule-c5".into()),
            ("job", job["GUID"].as_str().unwrap().into()),
            ("snapshot", snapshot),
            ("file", folder.join("letter.txt").display().to_string()),
            ("folder", folder.display().to_string()),
        ];
        self.facts.extend(facts);
        self.device = Some(device);
    }

    pub fn must(&self, path: &str, fields: &[(&str, &str)]) {
        let fields: Vec<_> = fields.iter().copied().filter(|(_, v)| !v.is_empty()).collect();
        let made = self.server.call(&format!("/api/v1/admin/{path}"), &fields);
        assert_eq!(made["Status"], 200, "{path} {fields:?}: {made}");
    }

    pub fn edit(&self, user: &str, change: impl Fn(&mut Value)) {
        // A device may write at the same time.
        crate::support::device::until("the profile to be saved", || {
            let answer = self
                .server
                .call("/api/v1/admin/get-user-profile-and-hash", &[("TargetUser", user)]);
            let mut profile = answer["Profile"].clone();
            change(&mut profile);
            let (profile, hash) = (profile.to_string(), answer["ProfileHash"].as_str().unwrap());
            let fields = [
                ("TargetUser", user),
                ("ProfileData", profile.as_str()),
                ("RequireHash", hash),
            ];
            let saved = self.server.call("/api/v1/admin/set-user-profile-hash", &fields);
            assert!(saved["Status"] == 200 || saved["Status"] == 409, "{saved}");
            (saved["Status"] == 200).then_some(())
        });
    }

    /// Who may call an endpoint; calls that change the caller's own log-in are left to those who can spare it.
    pub fn right(&self, e: &Endpoint) -> Who {
        let own = e.path.contains("/account/") || e.path.contains("/session");
        match (e.caller, own) {
            (Caller::User, true) if e.path.contains("password") => VIC,
            (Caller::User, true) => UMA,
            (Caller::User, false) => DORA,
            (_, true) => ADA,
            (_, false) => FIRST,
        }
    }

    /// Calls; credentials go the way the body's kind wants.
    pub fn call(&self, e: &Endpoint, who: Option<Who>, fields: &[(String, String)]) -> Answer {
        let own = [
            ("Username", who.map(|w| w.name)),
            ("Password", who.map(|w| w.password)),
        ];
        let mut credentials: Vec<(&str, &str)> = own.iter().filter_map(|(n, v)| Some((*n, (*v)?))).collect();
        if who.is_some() {
            credentials.push(("AuthType", "Password"));
        }
        self.send(e, &credentials, who.map_or("", |w| w.host), fields)
    }

    /// A new session of the one who may call.
    fn session(&self, e: &Endpoint) -> String {
        let who = self.right(e);
        let fields = [
            ("Username", who.name),
            ("AuthType", "Password"),
            ("Password", who.password),
        ];
        let started = self.server.post("/api/v1/hybrid/session/start", &fields);
        started["SessionKey"]
            .as_str()
            .unwrap_or_else(|| panic!("{started}"))
            .to_string()
    }

    /// Calls with these credentials, asking for a host.
    pub fn send(
        &self,
        e: &Endpoint,
        credentials: &[(&str, &str)],
        host: &str,
        fields: &[(String, String)],
    ) -> Answer {
        let url = format!("{}{}", self.server.url, e.path);
        let host = match host {
            "" => self.server.url.trim_start_matches("http://"),
            h => h,
        };
        let sent = if e.method == "GET" {
            self.http.get(url).header("Host", host).call()
        } else if e.params.iter().any(|p| (p.type_name)() == "bytes") {
            let mut request = self.http.post(url).header("Host", host);
            for (name, value) in credentials {
                request = request.header(format!("X-Comet-Admin-{name}"), *value);
            }
            let mut body = Vec::new();
            for (name, value) in fields {
                body.extend(
                    format!("--cut\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").bytes(),
                );
                body.extend(if value == UPLOAD_MARK {
                    UPLOAD
                } else {
                    value.as_bytes()
                });
                body.extend(b"\r\n");
            }
            body.extend(b"--cut--\r\n");
            request
                .header("Content-Type", "multipart/form-data; boundary=cut")
                .send(&body)
        } else {
            let all = fields.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            self.http
                .post(url)
                .header("Host", host)
                .send_form(all.chain(credentials.iter().copied()))
        };
        let mut answer = sent.unwrap_or_else(|error| panic!("{} with {fields:?}: {error}", e.name));
        // Programs are large.
        let body = answer
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_to_vec()
            .unwrap();
        Answer {
            transport: answer.status().as_u16(),
            json: serde_json::from_slice(&body).ok(),
            body,
        }
    }

    /// The parameters of a call as they should be, for the things of the top level or of the tenant "north".
    pub fn fields(&self, e: &Endpoint, north: bool) -> Vec<(String, String)> {
        let value = |p: &Param| Some((p.name.to_string(), self.value(e, p, north)?));
        e.params.iter().filter_map(value).collect()
    }

    fn fact(&self, name: &str, north: bool) -> String {
        let found = if north {
            self.facts.get(format!("north {name}").as_str())
        } else {
            None
        };
        found
            .or(self.facts.get(name))
            .cloned()
            .unwrap_or_else(|| format!("no-such-{name}"))
    }

    /// A value for a parameter; nothing for an optional one that is better left out.
    #[allow(clippy::too_many_lines)] // one line a parameter
    fn value(&self, e: &Endpoint, p: &Param, north: bool) -> Option<String> {
        let kind = (p.type_name)();
        let path = e.path.trim_start_matches("/api/v1/");
        let user = if north { "vera" } else { USER };
        let fact = |name: &str| self.fact(name, north);
        Some(match p.name {
            "TargetUser" => match path {
                "admin/add-user" | "admin/delete-user" => "bob".into(),
                "admin/add-user-from-profile" | "admin/disable-user-totp" | "admin/reset-user-password" => {
                    "carol".into()
                }
                _ if path.starts_with("admin/admin-user/") => "second".into(),
                _ => user.into(),
            },
            "TargetPassword" | "NewPassword" if e.caller == Caller::User => self.right(e).password.into(),
            "OldPassword" if e.caller == Caller::User => self.right(e).password.into(),
            "OldPassword" => PASSWORD.into(),
            "TargetPassword" if path.contains("install") => DORA.password.into(),
            "NewPassword" if path.contains("update-login-password") => DORA.password.into(),
            "TargetPassword" | "NewPassword" => PASSWORD.into(),
            // The caller's own tenant, which is what leaving it out means.
            "TargetOrganization" | "TargetOrgID" | "SetOrganizationID" if !north => return None,
            "TargetOrganization" | "TargetOrgID" | "SetOrganizationID" => NORTH.into(),
            "OrganizationID" if path == "admin/organization/delete" => WEST.into(),
            "OrganizationID" => NORTH.into(),
            "TargetID" => self.connection(),
            "TargetDevice" => fact("device"),
            _ if e.path == encke_api::live::PROGRAM_PATH => match p.name {
                "Username" => USER.into(),
                "Password" => DORA.password.into(),
                _ => return None,
            },
            "Platform" => "1".into(),
            "SoftwareBuildRoleConfig" => json!({"RoleEnabled": !north}).to_string(),
            "Options" if kind == "UpdateCampaignOptions" => {
                json!({"Active": true, "ReinstallCurrentVer": true}).to_string()
            }
            "NewsItem" => fact("news"),
            _ if path.contains("external-auth-sources/") => match p.name {
                "SourceID" if path.ends_with("new") => "source-new-81".into(),
                "SourceID" => fact("log-in"),
                "Source" => {
                    let reached = self.facts.get("log-in address").map(String::as_str);
                    let address = reached.filter(|_| path.ends_with("test")).unwrap_or(NOBODY);
                    log_in_source(if north { NORTH } else { "" }, address).to_string()
                }
                "TestUser" | "TestPassword" => return None,
                _ => return self.by_type(e, p, &kind),
            },
            _ if path.starts_with("/api/encke/v1/reports/") => return self.of_reports(e, p, &kind, north),
            "SourceID" if e.caller == Caller::User => fact("other item"),
            "Destination" | "DestinationID" | "DestinationId" => fact("vault"),
            "SourceID" | "ImportSourceID" => fact("item"),
            "Source" if kind == "string" => fact("item"),
            "SnapshotID" if path.ends_with("browse-virtual-machines") => fact("machines"),
            "SnapshotID" if path.ends_with("request-windisk-snapshot") => fact("disks"),
            "Snapshot" | "SnapshotID" => fact("snapshot"),
            // What there is only where somebody started it.
            "Credentials" | "EmailOptions" | "Log" | "Logs" => match self.equipment(path, p) {
                Some(known) => known,
                None => return self.by_type(e, p, &kind),
            },
            "Node" => "pve1".into(),
            "ViewID" => fact("view"),
            "Name" if path.ends_with("webhooks/new-key") => fact("webhook"),
            "EmailReportingOption" => json!({
                "Recipients": ["dora@example.com"],
                "EmailReportConfig": {
                    "ReportType": 1, "SummaryFrequency": [], "Filter": {"ClauseType": "and"},
                    "TimeSpan": {"FrequencyType": 8011, "Seconds": 86400},
                },
            })
            .to_string(),
            "SnapshotIDs" => json!([fact("snapshot")]).to_string(),
            "BackupRule" => fact("rule"),
            "JobID" => fact("job"),
            "PolicyID" => fact("policy"),
            "GroupID" => fact("group"),
            "SharedStorageQuotaID" => fact("quota"),
            "BucketID" => fact("bucket"),
            "QuotaBytes" | "AppendOnly" | "Since" => "0".into(),
            "TrashDays" => "30".into(),
            "DeviceID" if p.optional => fact("device"),
            "DeviceID" => IN_LOBBY.into(),
            "Hash" => fact("resource"),
            "upload" => UPLOAD_MARK.into(),
            "RequireHash" | "ProfileHash" => self.profile_hash(e, user)?,
            "CheckHash" | "CheckPolicyHash" | "TreeID" | "Continuation" | "TargetTOTPCode" => return None,
            "SetBucketValue" | "SetKeyHashFormat" | "SetKeyHashValue" | "ReplacementAutoVaultID" => {
                return None;
            }
            "RecoveryKey" | "TOTPSecret" | "RemoteServerID" => return None,
            "SelfAddress" if path.contains("webauthn") => PAGE.into(),
            "ChallengeID" => fact("challenge"),
            "Credential" => fact("credential"),
            "Server" | "SelfAddress" | "NewURL" => self.server.url.clone(),
            "StorageProvider" => fact("provider"),
            "EmailAddress" | "Recipient" => "dora@example.com".into(),
            "Start" => "0".into(),
            "End" => "4000000000".into(),
            "Path" if path.contains("run-restore") => {
                self.server.work_dir.join("restored").display().to_string()
            }
            "Path" if path == "/api/encke/v1/snapshot/file" => fact("file"),
            "Path" => fact("folder"),
            "Types" => "[4100]".into(),
            "Limit" => "3".into(),
            "Actor" | "Contains" | "Until" | "Before" if path == "/api/encke/v1/events/list" => return None,
            "Paths" => "[]".into(),
            "UserNameFilter" => USER.into(),
            "MinSeverity" => "I".into(),
            "MessageContains" => return None,
            "TOTPCode" => self.code(e).unwrap_or_else(|| "000000".into()),
            "SessionKey" | "Users" if kind == "string" => return None,
            "Users" => json!([user]).to_string(),
            "Filter" | "Query" if kind == "SearchClause" => match path.contains("dispatcher") {
                true => json!({"RuleField": "File", "RuleOperator": "str_contains", "RuleValue": "letter"}),
                false => json!({"RuleField": "Username", "RuleOperator": "str_eq", "RuleValue": user}),
            }
            .to_string(),
            "Options" if kind == "RestoreJobAdvancedOptions" => {
                json!({"Type": 0, "DestPath": self.server.work_dir.join("restored")}).to_string()
            }
            "TemplateOptions" => json!({ "Type": "comet", "Description": "Here" }).to_string(),
            "ExtraData" => {
                json!({"DestinationType": 1002, "LocalcopyPath": self.server.work_dir.join("ping")})
                    .to_string()
            }
            "ProfileData" if path == "admin/add-user-from-profile" => {
                json!({"PasswordFormat": 0, "PasswordHash": PASSWORD, "AccountName": "Carol"}).to_string()
            }
            "ProfileData" => {
                self.profile(if e.caller == Caller::User { USER } else { user })["Profile"].to_string()
            }
            "Source" if kind == "SourceConfig" => {
                json!({"Engine": "engine1/file", "Description": "Letters", "OwnerDevice": fact("device")})
                    .to_string()
            }
            "BackupRules" => json!({fact(if e.caller == Caller::User { "other rule" } else { "rule" }): {
                "Description": "Nightly", "Destination": fact("vault"), "Schedules": [],
                "Source": fact(if e.caller == Caller::User { "other item" } else { "item" }),
            }})
            .to_string(),
            "Security" => json!({"AllowPasswordLogin": true}).to_string(),
            "Options" if kind == "SelfBackupExportOptions" => {
                json!({"RestrictToSingleOrgID": NORTH, "Location": {
                    "DestinationType": 1002, "LocalcopyPath": self.server.work_dir.join("export")}})
                .to_string()
            }
            "Policy" => json!({"Description": "Standard"}).to_string(),
            "Group" => json!({"Name": "Offices"}).to_string(),
            "Organization" => json!({"Name": "North", "Hosts": ["north.test"]}).to_string(),
            "SharedStorageQuota" => json!({"Description": "Team", "LimitBytes": 1_000_000}).to_string(),
            "RemoveConfigFile" | "Force" | "AllowUnsafe" => "false".into(),
            _ => return self.by_type(e, p, &kind),
        })
    }

    /// How something outside the server is reached.
    fn equipment(&self, path: &str, p: &Param) -> Option<String> {
        let name = match p.name {
            "EmailOptions" => "mail options",
            "Log" | "Logs" => "log day",
            _ if path.ends_with("proxmox") => "proxmox",
            _ if path.contains("proxmox/") => "ssh",
            _ if path.ends_with("mongodb") => "mongodb",
            _ => "mysql",
        };
        let known = self.facts.get(name)?.clone();
        Some(if p.name == "Logs" {
            format!("[{known}]")
        } else {
            known
        })
    }

    /// A value for a parameter of the report service.
    fn of_reports(&self, e: &Endpoint, p: &Param, kind: &str, north: bool) -> Option<String> {
        let fact = |name: &str| self.fact(name, north);
        let is = |name: &str| e.path.ends_with(name);
        Some(match p.name {
            "ReportID" | "SourceID" | "ScheduleID" if p.optional => return None,
            "ScheduleID" => fact("schedule"),
            "ExportID" => fact("export"),
            "Schedules" => json!([{"FrequencyType": 8011, "SecondsPast": 28800}]).to_string(),
            "TimeZone" => "Europe/Nicosia".into(),
            "Recipients" => "dora@example.com".into(),
            "ReportID" => fact("report"),
            "SourceID" if is("list-tables") => "sample".into(),
            "SourceID" => fact("report source"),
            "Locale" => "en_US".into(),
            "Template" if is("save-template") => {
                "{name: Persons, source: sample, table: persons, columns: [{key: lastName, type: STRING}]}"
                    .into()
            }
            "Template" if is("delete-template") => fact("report template"),
            "Template" => "1001".into(),
            "Audience" => "none".into(),
            "Parameter" => "status".into(),
            "Columns" | "SourcePassword" | "Users" | "Admins" => return None,
            "Report" if is("save") => return None,
            "Report" => json!({"name": "Persons", "template": 1001, "columns": ["lastName"]}).to_string(),
            "Source" => {
                let path = self.server.work_dir.join("theirs.db");
                let database = rusqlite::Connection::open(&path).unwrap();
                database
                    .execute_batch("CREATE TABLE IF NOT EXISTS t (n int)")
                    .unwrap();
                json!({"kind": "sqlite", "path": path}).to_string()
            }
            "FileName" => "persons.csv".into(),
            "File" => "name,born\nAnna,2001-02-03\n".into(),
            "Format" => "csv".into(),
            "Expires" => "4000000000".into(),
            "Addresses" => "127.0.0.1".into(),
            _ => return self.by_type(e, p, kind),
        })
    }

    fn by_type(&self, e: &Endpoint, p: &Param, kind: &str) -> Option<String> {
        // What the twin that reads it answers is right to be written back.
        let twin = e.path.strip_suffix("/set").map(|stem| format!("{stem}/get"));
        if let Some(read) = twin.as_ref().and_then(|t| PUBLISHED.get(t))
            && p.json
        {
            let answer = self.server.call(twin.as_ref()?, &[]);
            if read["response"]["type"] == kind && answer.get("Status").is_none() {
                return Some(answer.to_string());
            }
        }
        Some(match kind {
            "string" => format!("example-{}", p.name.to_lowercase()),
            "bytes" => UPLOAD_MARK.into(),
            "int" => "1".into(),
            "bool" => "true".into(),
            k if k.starts_with("[]") => "[]".into(),
            k if k.starts_with("map[") || STRUCTURES.contains_key(k) => "{}".into(),
            k => panic!("{}: nothing is known of parameter type {k}", e.name),
        })
    }

    fn profile(&self, user: &str) -> Value {
        self.server
            .call("/api/v1/admin/get-user-profile-and-hash", &[("TargetUser", user)])
    }

    fn profile_hash(&self, e: &Endpoint, user: &str) -> Option<String> {
        let user = if e.caller == Caller::User {
            self.right(e).name
        } else {
            user
        };
        Some(self.profile(user)["ProfileHash"].as_str()?.to_string())
    }

    /// The one-time code of now, of the secret that was made last.
    fn code(&self, e: &Endpoint) -> Option<String> {
        let whose = if e.caller == Caller::User {
            "user totp"
        } else {
            "admin totp"
        };
        let (_, secret) = self.facts.get(whose)?.split_once("secret=")?;
        let secret = secret.split('&').next()?.to_string();
        let bytes = totp_rs::Secret::Encoded(secret).to_bytes().ok()?;
        let totp = totp_rs::TOTP::new_unchecked(totp_rs::Algorithm::SHA1, 6, 1, 30, bytes);
        totp.generate_current().ok()
    }

    /// Sees to it that the device is on line, and that a job runs where a call wants to end one.
    fn prepare(&mut self, e: &Endpoint) {
        if e.path.ends_with("news/remove") {
            let all = self.server.call("/api/v1/admin/news/get-all", &[]);
            if let Some(id) = all.as_object().and_then(|o| o.keys().next()) {
                self.facts.insert("news", id.clone());
            }
        }
        if e.path.ends_with("views/remove") {
            let view = [("Name", "Late"), ("Path", "/jobs"), ("Search", "{}")];
            self.server.call("/api/encke/v1/views/share", &view);
            let all = self.server.call("/api/encke/v1/views/list", &[]);
            let id = all.as_object().and_then(|o| o.keys().next()).unwrap();
            self.facts.insert("view", id.clone());
        }
        if e.path.ends_with("webauthn/submit-challenge-response") {
            let asked = self.server.call(
                "/api/v1/admin/account/webauthn/request-registration-challenge",
                &[
                    ("SelfAddress", PAGE),
                    ("Username", ADA.name),
                    ("AuthType", "Password"),
                    ("Password", ADA.password),
                ],
            );
            let credential = Authenticator::new(PAGE).create(&asked["CredentialCreationOptions"]);
            self.facts
                .insert("challenge", asked["ChallengeID"].as_str().unwrap().into());
            self.facts.insert("credential", credential);
        }
        if e.path.contains("/installation/") {
            self.fill_lobby();
        }
        let Some(device) = &mut self.device else { return };
        if e.params.iter().any(|p| p.name == "TargetID") && !device.is_running() {
            if !device.data_dir().join("agent.json").exists() {
                // It was told to forget its account.
                let url = self.server.url.clone();
                let again = [
                    "register",
                    "--server",
                    &url,
                    "--user",
                    USER,
                    "--device-id",
                    &device.id.clone(),
                ];
                assert!(device.run(&again).status.success());
            }
            device.launch();
            device.connection(&self.server);
        }
        if e.path.contains("job/") {
            let job = device.backup(&self.server, &self.facts["sleeper"], &self.facts["vault"]);
            self.facts.insert("job", job);
        }
    }

    /// Sees to it that a device waits in the lobby.
    fn fill_lobby(&mut self) {
        let list = "/api/v1/admin/installation/list-active";
        if self
            .server
            .call(list, &[])
            .as_object()
            .is_some_and(|l| !l.is_empty())
        {
            return;
        }
        // It may have got an account meanwhile.
        if let Some(gone) = self.waiting.take() {
            let _ = std::fs::remove_dir_all(gone.data_dir());
        }
        let mut device = Device::unregistered(&self.server, IN_LOBBY);
        device.launch_as(&["lobby", "--server", &self.server.url, "--device-id", IN_LOBBY]);
        self.waiting = Some(device);
        crate::support::device::until("a device in the lobby", || {
            let waiting = self.server.call(list, &[]);
            waiting.as_object().is_some_and(|l| !l.is_empty()).then_some(())
        });
    }

    /// Calls with everything right; the fields that were sent, and the answer.
    pub fn call_rightly(&mut self, e: &Endpoint) -> (Vec<(String, String)>, Answer) {
        if e.name == "AdminAddFirstAdminUser" {
            // Good once in a server's life.
            let mut empty = Server::start_from(|_| {});
            std::mem::swap(&mut self.server, &mut empty);
            let fields = self.fields(e, false);
            let answer = self.call(e, None, &fields);
            std::mem::swap(&mut self.server, &mut empty);
            return (fields, answer);
        }
        self.prepare(e);
        let fields = self.fields(e, false);
        let who = self.right(e);
        let needs_session = ["session-revoke", "session/revoke", "session-upgrade"];
        let answer = if needs_session.iter().any(|w| e.path.ends_with(w)) {
            let key = self.session(e);
            let session = [
                ("Username", who.name),
                ("AuthType", "SessionKey"),
                ("SessionKey", key.as_str()),
            ];
            self.send(e, &session, "", &fields)
        } else {
            self.call(e, (e.caller != Caller::Nobody).then_some(who), &fields)
        };
        // The device goes after it has answered.
        let goes = ["kill-process", "force-login", "uninstall-software"];
        if goes.iter().any(|w| e.path.ends_with(w))
            && answer.failure().is_none()
            && let Some(device) = &mut self.device
        {
            device.wait_end();
        }
        (fields, answer)
    }

    /// The device's connection as it is now: it changes with every log-in.
    fn connection(&self) -> String {
        match &self.device {
            Some(device) => device.connection(&self.server),
            None => self.fact("connection", false),
        }
    }

    /// Ends up with a running server after a call that stops or restarts it.
    pub fn wait_back(&mut self, start_hash: &str) {
        let ended = crate::support::device::until("the server to restart", || {
            if self.server.has_ended() {
                return Some(true);
            }
            (self.start_hash().is_some_and(|now| now != start_hash)).then_some(false)
        });
        if ended {
            self.server.restart_here();
        }
    }

    /// Tells one run of the server from another.
    pub fn start_hash(&self) -> Option<String> {
        let sent = self
            .http
            .post(format!("{}/api/v1/admin/meta/version", self.server.url))
            .send_form([("Username", ADMIN), ("AuthType", "Password"), ("Password", ADMIN)]);
        let text = sent.ok()?.body_mut().read_to_string().ok()?;
        let version: Value = serde_json::from_str(&text).ok()?;
        Some(version["ServerStartHash"].as_str()?.to_string())
    }

    /// What others own, to see whether it changed: everything that is not the looking tenant's.
    pub fn state(&self) -> Vec<String> {
        let mut out = Vec::new();
        let lists = [
            "list-users-full",
            "admin-user/list",
            "storage/list-buckets",
            "organization/list",
            "policies/list-full",
            "user-groups/list-full",
            "squota/list-all",
            "meta/remote-storage-vault/get",
            "meta/webhook-options/get",
            "news/get-all",
            "meta/server-config/get",
        ];
        for list in lists {
            let path = format!("/api/v1/admin/{list}");
            let answer = self.server.call(&path, &[]);
            let mut keep = |name: &str, value: &Value| {
                let text = format!("{list} {name}: {value}");
                if !text.contains(SOUTH) && list != "meta/server-config/get" {
                    out.push(text);
                }
            };
            match &answer {
                Value::Array(items) => items.iter().for_each(|v| keep("", v)),
                Value::Object(items) => items.iter().for_each(|(k, v)| keep(k, v)),
                other => keep("", other),
            }
        }
        out
    }
}

/// Stands for [`UPLOAD`] among the text fields.
const UPLOAD_MARK: &str = "\u{1}upload";
