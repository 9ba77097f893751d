//! Vault requests and pings against real services: the server's own Storage Role, another server's, S3 with IAM,
//! WebDAV, and an HTTP service of the operator's own. Devices back up into what was made, and stock restic judges.

use crate::support::device::{Device, PASSWORD, USER, ended};
use crate::support::services::{Service, serve};
use crate::support::{Server, configure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

const TEMPLATES: &str = "/api/v1/admin/meta/remote-storage-vault";

fn with_storage_role() -> Server {
    Server::start_prepared(|data_dir| configure(data_dir, |_| {}))
}

fn add_user(server: &Server, name: &str) {
    let fields = [("TargetUser", name), ("TargetPassword", PASSWORD)];
    let made = server.call("/api/v1/admin/add-user", &fields);
    assert_eq!(made["Status"], 200, "{made}");
}

fn set_templates(server: &Server, templates: &Value) -> Value {
    let text = templates.to_string();
    server.call(&format!("{TEMPLATES}/set"), &[("RemoteStorageOptions", &text)])
}

fn save_templates(server: &Server, templates: &Value) {
    let saved = set_templates(server, templates);
    assert_eq!(saved["Status"], 200, "{saved}");
}

fn test_template(server: &Server, template: &Value) -> Value {
    let text = template.to_string();
    server.call(&format!("{TEMPLATES}/test"), &[("TemplateOptions", &text)])
}

fn request(server: &Server, template: &str) -> Value {
    let fields = [("TargetUser", USER), ("StorageProvider", template)];
    server.call("/api/v1/admin/request-storage-vault", &fields)
}

/// A vault that was requested: its id and settings.
fn requested(server: &Server, template: &str) -> (String, Value) {
    let answer = request(server, template);
    assert_eq!(answer["Status"], 200, "{answer}");
    let id = answer["DestinationID"].as_str().unwrap().to_string();
    let now = server.call("/api/v1/admin/get-user-profile-and-hash", &[("TargetUser", USER)]);
    assert_eq!(now["ProfileHash"], answer["ProfileHash"]);
    assert_eq!(now["Profile"], answer["Profile"]);
    let vault = answer["Profile"]["Destinations"][&id].clone();
    assert!(vault.is_object(), "{answer}");
    (id, vault)
}

fn vaults(server: &Server) -> usize {
    let profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", USER)]);
    profile["Destinations"].as_object().unwrap().len()
}

fn buckets(server: &Server) -> Vec<String> {
    let all = server.call("/api/v1/admin/storage/list-buckets", &[]);
    all.as_object().unwrap().keys().cloned().collect()
}

fn s3_template(service: &Service, user: &str) -> Value {
    let (id, secret) = service.key(user);
    json!({
        "Type": "s3", "ID": "cloud", "Description": "Cloud",
        "S3": {
            "S3Endpoint": service.url, "IAMEndpoint": service.url, "MasterBucket": "master", "Prefix": "customers",
            "AccessKey": id, "SecretKey": secret,
        },
    })
}

/// Backs a folder up into a vault and restores it; stock restic finds the repository sound.
fn round_trip(server: &Server, device: &Device, vault: &str) {
    let folder = server.work_dir.join("data");
    std::fs::create_dir_all(folder.join("deep")).unwrap();
    let content: Vec<u8> = (0u32..300_000)
        .flat_map(|i| (i ^ (i >> 7)).to_le_bytes())
        .collect();
    std::fs::write(folder.join("deep/numbers"), &content).unwrap();
    std::fs::write(folder.join("letter"), "Dear reader").unwrap();
    device.add_item(server, "item", "engine1/file", &json!({ "INCLUDE": folder }));
    device.back_up(server, "item", vault);
    device.restic(vault, &["check", "--read-data"]);
    let target = server.work_dir.join(format!("restored-{vault}"));
    let options = json!({ "Type": 0, "DestPath": target });
    let done = ended(server, &device.restore(server, vault, "item", &options, &[]));
    assert_eq!(done["Status"], 5000, "{done}");
    let back = target.join(folder.strip_prefix("/").unwrap());
    assert!(std::fs::read(back.join("deep/numbers")).unwrap() == content);
    assert_eq!(
        std::fs::read_to_string(back.join("letter")).unwrap(),
        "Dear reader"
    );
}

#[test]
fn a_vault_on_the_own_storage_role_is_ready_for_devices() {
    let server = with_storage_role();
    let device = Device::start(&server, "device");
    save_templates(
        &server,
        &json!([{
            "Type": "comet", "ID": "own", "Description": "In the cellar", "RebrandStorage": true,
            "StorageLimitEnabled": true, "StorageLimitBytes": 123_456_789,
        }]),
    );
    let offered = server.call("/api/v1/admin/request-storage-vault-providers", &[]);
    assert_eq!(offered, json!({ "own": "In the cellar" }));

    let url = server.url.clone();
    let fields = [
        ("TargetUser", USER),
        ("StorageProvider", "own"),
        ("SelfAddress", url.as_str()),
    ];
    let answer = server.call("/api/v1/admin/request-storage-vault", &fields);
    assert_eq!(answer["Status"], 200, "{answer}");
    let id = answer["DestinationID"].as_str().unwrap();
    let vault = &answer["Profile"]["Destinations"][id];
    assert_eq!(vault["DestinationType"], 1003);
    assert_eq!(vault["CometServer"], format!("{url}/"));
    assert_eq!(vault["Description"], "In the cellar");
    assert_eq!(vault["StorageLimitEnabled"], true);
    assert_eq!(vault["StorageLimitBytes"], 123_456_789);
    assert_eq!(vault["RebrandStorage"], true);
    assert_eq!(vault["AssociatedDevices"], json!(["device"]));
    assert_eq!(vault["DefaultRetention"]["Mode"], 801);
    assert_eq!(buckets(&server), [vault["CometBucket"].as_str().unwrap()]);
    round_trip(&server, &device, id);

    // A test of the template leaves nothing.
    let tested = test_template(&server, &json!({ "Type": "comet" }));
    assert_eq!(tested["Status"], 200, "{tested}");
    assert_eq!(buckets(&server).len(), 1);
}

#[test]
fn a_vault_on_s3_has_a_key_that_opens_nothing_else() {
    let service = Service::s3();
    let server = Server::start();
    let device = Device::start(&server, "device");
    save_templates(&server, &json!([s3_template(&service, "owner")]));
    let (id, vault) = requested(&server, "cloud");
    assert_eq!(vault["DestinationType"], 1000);
    assert_eq!(vault["S3UsesTLS"], false);
    assert_eq!(vault["S3BucketName"], "master");
    let folder = vault["S3Subdir"].as_str().unwrap();
    assert!(folder.starts_with("customers/"), "{folder}");
    let (own, secret) = (
        vault["S3AccessKey"].as_str().unwrap(),
        vault["S3SecretKey"].as_str().unwrap(),
    );
    assert_ne!(own, service.key("owner").0);
    round_trip(&server, &device, &id);
    let objects = service.told(&["objects", "master", ""]);
    let objects = objects.as_array().unwrap();
    assert!(!objects.is_empty());
    assert!(objects.iter().all(|o| o.as_str().unwrap().starts_with(folder)));

    let as_vault = |question: &[&str]| service.ask((own, secret), question);
    assert_eq!(as_vault(&["put", "master", &format!("{folder}/own")]), "done");
    for foreign in ["customers/other/file", "elsewhere", folder] {
        assert_eq!(as_vault(&["put", "master", foreign]), "AccessDenied", "{foreign}");
    }
    assert_eq!(as_vault(&["users"]), "AccessDenied");
    assert_eq!(as_vault(&["buckets"]), "AccessDenied");

    // Two vaults share nothing.
    let (_, second) = requested(&server, "cloud");
    assert_ne!(second["S3AccessKey"], own);
    let other = format!("{}/file", second["S3Subdir"].as_str().unwrap());
    assert_eq!(as_vault(&["put", "master", &other]), "AccessDenied");
    assert_eq!(service.told(&["users"]).as_array().unwrap().len(), 4);
}

#[test]
fn a_template_without_a_bucket_makes_one_for_each_vault() {
    let service = Service::s3();
    let server = Server::start();
    add_user(&server, USER);
    let mut template = s3_template(&service, "owner");
    template["S3"]["MasterBucket"] = json!("");
    template["S3"]["Region"] = json!("eu-west-1");
    let tested = test_template(&server, &template);
    assert_eq!(tested["Status"], 200, "{tested}");
    assert_eq!(service.told(&["buckets"]), json!(["master"]));
    assert_eq!(service.told(&["users"]), json!(["owner", "half"]));

    save_templates(&server, &json!([template]));
    let (_, vault) = requested(&server, "cloud");
    let bucket = vault["S3BucketName"].as_str().unwrap();
    assert_eq!(vault["S3CustomRegion"], "eu-west-1");
    assert_eq!(service.told(&["buckets"]).as_array().unwrap().len(), 2);
    let key = (
        vault["S3AccessKey"].as_str().unwrap(),
        vault["S3SecretKey"].as_str().unwrap(),
    );
    assert_eq!(service.ask(key, &["put", bucket, "customers/file"]), "done");
    assert_eq!(service.ask(key, &["put", "master", "file"]), "AccessDenied");
}

#[test]
fn a_template_with_object_lock_makes_vaults_that_lock_what_they_write() {
    let service = Service::s3();
    let server = Server::start();
    let device = Device::start(&server, "device");
    let mut template = s3_template(&service, "owner");
    template["S3"]["ObjectLockMode"] = json!(1);
    let refused = test_template(&server, &template);
    assert_eq!(refused["Status"], 400, "no days: {refused}");
    template["S3"]["ObjectLockDays"] = json!(5);
    let refused = test_template(&server, &template);
    assert_eq!(refused["Status"], 400, "a bucket without object lock: {refused}");
    template["S3"]["MasterBucket"] = json!("");
    save_templates(&server, &json!([template]));
    let (id, vault) = requested(&server, "cloud");
    assert_eq!(
        (
            &vault["S3ObjectLockMode"],
            &vault["S3ObjectLockDays"],
            &vault["S3RemoveDeleted"]
        ),
        (&json!(1), &json!(5), &json!(true))
    );
    round_trip(&server, &device, &id);
    let locks = service.told(&["locks", vault["S3BucketName"].as_str().unwrap()]);
    // Stock restic's own locks come and go.
    let own = |version: &&Value| !version[0].as_str().unwrap().contains("/locks/");
    let locks: Vec<&Value> = locks.as_object().unwrap().values().filter(own).collect();
    assert!(locks.len() >= 5, "{locks:?}");
    assert!(locks.iter().all(|version| version[2] != ""), "{locks:?}");
}

#[test]
fn a_service_without_iam_gives_a_folder_and_the_key_of_the_template() {
    let service = Service::s3();
    let server = Server::start();
    let device = Device::start(&server, "device");
    let mut template = s3_template(&service, "owner");
    template["S3"]["IAMEndpoint"] = json!("");
    save_templates(&server, &json!([template]));
    let (id, vault) = requested(&server, "cloud");
    assert_eq!(vault["S3AccessKey"], service.key("owner").0);
    assert_eq!(vault["S3SecretKey"], service.key("owner").1);
    round_trip(&server, &device, &id);
}

#[test]
fn what_was_made_is_taken_away_when_a_later_step_fails() {
    let service = Service::s3();
    let server = Server::start();
    add_user(&server, USER);
    // This key may make a user, but not say what the user may do.
    save_templates(&server, &json!([s3_template(&service, "half")]));
    let answer = request(&server, "cloud");
    assert_eq!(answer["Status"], 502, "{answer}");
    assert!(
        answer["Message"].as_str().unwrap().contains("AccessDenied"),
        "{answer}"
    );
    assert!(
        server.log().contains("CreateUser") || server.log().contains("encke-"),
        "nothing was begun"
    );
    assert_eq!(vaults(&server), 0);
    let left = service.told(&["users"]);
    let left: Vec<&str> = left
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(left, ["owner", "half"]);

    // A bucket goes with the user that could not be made.
    let mut template = s3_template(&service, "owner");
    template["S3"]["MasterBucket"] = json!("");
    template["S3"]["IAMEndpoint"] = json!("http://127.0.0.1:1");
    save_templates(&server, &json!([template]));
    let answer = request(&server, "cloud");
    assert_eq!(answer["Status"], 502, "{answer}");
    assert_eq!(service.told(&["buckets"]), json!(["master"]));
    assert_eq!(vaults(&server), 0);
}

#[test]
fn another_servers_storage_role_makes_the_bucket_and_loses_it_when_the_request_fails() {
    let (server, other) = (with_storage_role(), with_storage_role());
    let device = Device::start(&server, "device");
    let template = |address: &str| {
        json!([{
            "Type": "comet", "ID": "other", "Description": "Far away",
            "RemoteAddress": address, "Username": "admin", "Password": "admin",
        }])
    };
    save_templates(&server, &template(&other.url));
    let (id, vault) = requested(&server, "other");
    assert_eq!(vault["CometServer"], format!("{}/", other.url));
    assert_eq!(buckets(&other), [vault["CometBucket"].as_str().unwrap()]);
    assert!(buckets(&server).is_empty());
    round_trip(&server, &device, &id);

    // Between the bucket and the profile somebody else changes the profile.
    let (heard, calls) = channel();
    let (there, here) = (other.url.clone(), server.url.clone());
    let http = crate::support::http();
    let proxy = serve(move |got| {
        let url = format!("{there}{}", got.path);
        let sent = http
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded");
        let text = sent.send(&got.body).unwrap().body_mut().read_to_string().unwrap();
        if got.path.ends_with("register-bucket") {
            let admin = [
                ("Username", "admin"),
                ("AuthType", "Password"),
                ("Password", "admin"),
            ];
            let call = |path: &str, more: &[(&str, &str)]| {
                let fields = admin.iter().chain(more).copied();
                let mut answer = http
                    .post(format!("{here}/api/v1/admin/{path}"))
                    .send_form(fields)
                    .unwrap();
                answer.body_mut().read_to_string().unwrap()
            };
            let profile = call("get-user-profile", &[("TargetUser", USER)]);
            let mut profile: Value = serde_json::from_str(&profile).unwrap();
            profile["AccountName"] = json!("Dora the second");
            let text = profile.to_string();
            call(
                "set-user-profile",
                &[("TargetUser", USER), ("ProfileData", &text)],
            );
        }
        heard.send(got.path).unwrap();
        (200, text)
    });
    save_templates(&server, &template(&proxy));
    let now = server.call("/api/v1/admin/get-user-profile-hash", &[("TargetUser", USER)]);
    let fields = [
        ("TargetUser", USER),
        ("StorageProvider", "other"),
        ("ProfileHash", now["ProfileHash"].as_str().unwrap()),
    ];
    let answer = server.call("/api/v1/admin/request-storage-vault", &fields);
    assert_eq!(answer["Status"], 409, "{answer}");
    let calls: Vec<String> = calls.try_iter().collect();
    assert_eq!(
        calls,
        [
            "/api/v1/admin/storage/register-bucket",
            "/api/v1/admin/storage/delete-bucket"
        ]
    );
    assert_eq!(buckets(&other).len(), 1);
    assert_eq!(vaults(&server), 1);
    // An old hash is seen before anything is made.
    let answer = server.call("/api/v1/admin/request-storage-vault", &fields);
    assert_eq!(answer["Status"], 409, "{answer}");
}

#[test]
fn a_service_of_the_operators_own_says_where_a_vault_lies() {
    let server = Server::start();
    let device = Device::start(&server, "device");
    let place: PathBuf = server.work_dir.join("place");
    let (heard, calls) = channel();
    let url = serve({
        let place = place.clone();
        move |got| {
            let answer = match got.path.as_str() {
                "/refuse" => (403, "no".into()),
                "/chatter" => (200, "<html>welcome</html>".into()),
                "/strange" => (200, json!({ "DestinationType": 77 }).to_string()),
                _ => (
                    200,
                    json!({ "DestinationType": 1002, "LocalcopyPath": place }).to_string(),
                ),
            };
            heard.send(got).unwrap();
            answer
        }
    });
    let template = |path: &str, kind: &str, body: &str| {
        json!([{
            "Type": "custom", "ID": "mine", "Description": "Mine",
            "Custom": {
                "URL": format!("{url}{path}"), "CustomHeaders": { "X-Customer": "c-17" },
                "CustomBodyType": kind, "CustomBody": body,
            },
        }])
    };
    let bodies = [
        ("none", "ignored", ""),
        ("json", r#"{"plan":"big one"}"#, r#"{"plan":"big one"}"#),
        ("urlencoded", r#"{"plan":"big one"}"#, "plan=big+one"),
        ("urlencoded", "plan=big%20one", "plan=big+one"),
    ];
    for (kind, body, sent) in bodies {
        save_templates(&server, &template("/make", kind, body));
        let (_, vault) = requested(&server, "mine");
        assert_eq!(vault["LocalcopyPath"], json!(place));
        let got = calls.recv().unwrap();
        assert_eq!(got.body, sent, "{kind}");
        assert!(got.head.contains("x-customer: c-17"), "{}", got.head);
    }
    save_templates(&server, &template("/make", "form", "plan=big one"));
    let (id, _) = requested(&server, "mine");
    let got = calls.recv().unwrap();
    assert!(got.head.contains("multipart/form-data"), "{}", got.head);
    assert!(
        got.body.contains("name=\"plan\"\r\n\r\nbig one\r\n"),
        "{}",
        got.body
    );
    round_trip(&server, &device, &id);

    let before = vaults(&server);
    for path in ["/refuse", "/chatter", "/strange"] {
        save_templates(&server, &template(path, "", ""));
        let answer = request(&server, "mine");
        assert_eq!(answer["Status"], 502, "{path}: {answer}");
        assert!(!answer.to_string().contains("welcome"), "{answer}");
    }
    assert_eq!(vaults(&server), before);
}

#[test]
fn permission_and_policy_decide_what_is_offered() {
    let server = with_storage_role();
    add_user(&server, USER);
    let templates = json!([
        { "Type": "comet", "ID": "own", "Description": "Own" },
        { "Type": "s3", "ID": "cloud", "Description": "Cloud", "S3": { "S3Endpoint": "127.0.0.1:1", "AccessKey": "a", "SecretKey": "b" } },
        { "Type": "custom", "ID": "mine", "Description": "Mine", "Custom": { "URL": "http://127.0.0.1:1/" } },
        { "Type": "storj", "ID": "storj", "Description": "Not made here" },
    ]);
    save_templates(&server, &templates);
    let as_user = |path: &str, more: &[(&str, &str)]| {
        let mut fields = vec![
            ("Username", USER),
            ("AuthType", "Password"),
            ("Password", PASSWORD),
        ];
        fields.extend(more);
        server.post(&format!("/api/v1/user/web/{path}"), &fields)
    };
    let names = |offered: &Value| -> Vec<String> { offered.as_object().unwrap().keys().cloned().collect() };
    let all = as_user("request-storage-vault-providers", &[]);
    assert_eq!(names(&all), ["cloud", "mine", "own"]);
    let made = as_user("request-storage-vault", &[("StorageProvider", "own")]);
    assert_eq!(made["Status"], 200, "{made}");
    let refused = request(&server, "storj");
    assert_eq!(refused["Status"], 501, "{refused}");
    assert!(
        refused["Message"].as_str().unwrap().contains("Storj"),
        "{refused}"
    );
    assert_eq!(request(&server, "nothing")["Status"], 400);

    let set_policy = |policy: Value| {
        let policy = json!({ "Description": "P", "Policy": policy }).to_string();
        let set = server.call(
            "/api/v1/admin/policies/set",
            &[("PolicyID", "policy"), ("Policy", &policy)],
        );
        assert_eq!(set["Status"], 200, "{set}");
        let answer = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", USER)]);
        let mut profile = answer;
        profile["PolicyID"] = json!("policy");
        let text = profile.to_string();
        let saved = server.call(
            "/api/v1/admin/set-user-profile",
            &[("TargetUser", USER), ("ProfileData", &text)],
        );
        assert_eq!(saved["Status"], 200, "{saved}");
    };
    set_policy(json!({
        "StorageVaultProviders": { "ShouldRestrictProviderList": true, "AllowedProvidersWhenRestricted": [1003] },
    }));
    assert_eq!(names(&as_user("request-storage-vault-providers", &[])), ["own"]);
    let refused = as_user("request-storage-vault", &[("StorageProvider", "cloud")]);
    assert_eq!(refused["Status"], 400, "{refused}");
    set_policy(json!({ "PreventRequestStorageVault": true, "PreventAddCustomStorageVault": true }));
    assert!(names(&as_user("request-storage-vault-providers", &[])).is_empty());
    let refused = as_user("request-storage-vault", &[("StorageProvider", "own")]);
    assert_eq!(refused["Status"], 403, "{refused}");
    // The policy does not bind the administrator.
    requested(&server, "own");
    assert_eq!(vaults(&server), 2);
    assert_eq!(buckets(&server).len(), 2);

    let unknown_device = server.call(
        "/api/v1/admin/request-storage-vault",
        &[
            ("TargetUser", USER),
            ("StorageProvider", "own"),
            ("DeviceID", "nobody's"),
        ],
    );
    assert_eq!(unknown_device["Status"], 400, "{unknown_device}");
    assert_eq!(buckets(&server).len(), 2);
}

#[test]
fn secrets_of_templates_never_leave_the_server_and_stay_as_they_are() {
    let service = Service::s3();
    let server = Server::start();
    add_user(&server, USER);
    let template = s3_template(&service, "owner");
    let (_, secret) = service.key("owner");
    save_templates(&server, &json!([template]));
    let mut shown = server.call(&format!("{TEMPLATES}/get"), &[]);
    assert_eq!(shown[0]["S3"]["SecretKey"], "********");
    assert_eq!(shown[0]["S3"]["AccessKey"], service.key("owner").0);
    let config = server.call("/api/v1/admin/meta/server-config/get", &[]);
    assert!(!config.to_string().contains(&secret));
    for file in std::fs::read_dir(&server.data_dir).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            assert!(!contains(&path, &secret), "{}", path.display());
        }
    }

    shown[0]["Description"] = json!("Renamed");
    save_templates(&server, &shown);
    let (_, vault) = requested(&server, "cloud");
    assert_eq!(vault["Description"], "Renamed");
    let tested = test_template(&server, &shown[0]);
    assert_eq!(tested["Status"], 200, "{tested}");
    // Whoever moves a template elsewhere has to know its secret.
    shown[0]["S3"]["IAMEndpoint"] = json!("http://127.0.0.1:1");
    assert_eq!(set_templates(&server, &shown)["Status"], 400);
    assert_eq!(test_template(&server, &shown[0])["Status"], 400);

    // Accounts that name a template that is gone get the other one.
    let mut profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", USER)]);
    profile["AutoStorageTemplateGUID"] = json!("cloud");
    let text = profile.to_string();
    let fields = [("TargetUser", USER), ("ProfileData", text.as_str())];
    assert_eq!(
        server.call("/api/v1/admin/set-user-profile", &fields)["Status"],
        200
    );
    let next = json!([{ "Type": "comet", "ID": "own" }]).to_string();
    let fields = [
        ("RemoteStorageOptions", next.as_str()),
        ("ReplacementAutoVaultID", "own"),
    ];
    let set = server.call(&format!("{TEMPLATES}/set"), &fields);
    assert_eq!(set["Status"], 200, "{set}");
    let profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", USER)]);
    assert_eq!(profile["AutoStorageTemplateGUID"], "own");
}

fn contains(path: &Path, text: &str) -> bool {
    let content = std::fs::read(path).unwrap();
    content.windows(text.len()).any(|w| w == text.as_bytes())
}

#[test]
fn a_ping_tells_what_can_be_reached_and_changes_nothing() {
    let server = with_storage_role();
    let ping = |location: Value| {
        let text = location.to_string();
        let answer = server.call("/api/v1/admin/storage/ping-destination", &[("ExtraData", &text)]);
        (
            answer["Status"].as_i64().unwrap(),
            answer["Message"].as_str().unwrap().to_string(),
        )
    };
    let status = |location: Value| ping(location).0;

    let folder = server.work_dir.join("new/folder");
    let local = |path: &Path| json!({ "DestinationType": 1002, "LocalcopyPath": path });
    assert_eq!(status(local(&folder)), 200);
    assert!(!server.work_dir.join("new").exists());
    let file = server.work_dir.join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(status(local(&file)), 502);
    assert_eq!(status(local(&file.join("below"))), 502);
    assert_eq!(status(local(Path::new("relative"))), 400);

    let bucket = server.call("/api/v1/admin/storage/register-bucket", &[]);
    let role = |key: &Value| {
        json!({
            "DestinationType": 1003, "CometServer": server.url, "CometBucket": bucket["NewBucketID"],
            "CometBucketKey": key,
        })
    };
    assert_eq!(status(role(&bucket["NewBucketKey"])), 200);
    assert_eq!(status(role(&json!("wrong"))), 502);

    let service = Service::s3();
    let (id, secret) = service.key("owner");
    let s3 = |bucket: &str, secret: &str| {
        json!({
            "DestinationType": 1000, "S3Server": service.url.trim_start_matches("http://"), "S3UsesTLS": false,
            "S3AccessKey": id, "S3SecretKey": secret, "S3BucketName": bucket, "S3Subdir": "some/where",
        })
    };
    assert_eq!(ping(s3("master", &secret)), (200, "OK".into()));
    assert_eq!(status(s3("master", "wrong")), 502);
    assert_eq!(status(s3("missing", &secret)), 502);
    assert_eq!(status(s3("", &secret)), 400);
    assert_eq!(service.told(&["objects", "master", ""]), json!([]));
    let mut locked = s3("master", &secret);
    locked["S3ObjectLockMode"] = json!(1);
    assert_eq!(status(locked.clone()), 400, "no days");
    locked["S3ObjectLockDays"] = json!(7);
    assert_eq!(status(locked), 400, "the bucket was made without object lock");

    let shared = server.work_dir.join("shared");
    std::fs::create_dir(&shared).unwrap();
    let dav = Service::webdav(&shared, "dav", "dav-password");
    let dav = |password: &str| {
        json!({
            "DestinationType": 1010,
            "WebDav": { "DavServer": dav.url, "UserName": "dav", "AccessKey": password, "Path": "not/yet" },
        })
    };
    assert_eq!(ping(dav("dav-password")), (200, "OK".into()));
    assert_eq!(status(dav("wrong")), 502);
    assert!(std::fs::read_dir(&shared).unwrap().next().is_none());

    for (kind, name, wanted) in [
        (1007, "Swift", 400),
        (1008, "B2", 400),
        (1009, "Storj", 501),
        (1011, "SMB", 400),
    ] {
        let (status, message) = ping(json!({ "DestinationType": kind }));
        assert_eq!(status, wanted, "{name}: {message}");
        assert!(wanted == 400 || message.contains(name), "{message}");
    }
    assert_eq!(status(json!({ "DestinationType": 5 })), 400);
    assert_eq!(status(json!({})), 400);
}

#[test]
fn a_vault_on_webdav_is_backed_up_to_and_restored_from() {
    let server = Server::start();
    let device = Device::start(&server, "device");
    let shared = server.work_dir.join("shared");
    std::fs::create_dir(&shared).unwrap();
    let dav = Service::webdav(&shared, "dav", "dav-password");
    device.edit(&server, |profile| {
        profile["Destinations"]["dav"] = json!({
            "Description": "dav", "DestinationType": 1010,
            "WebDav": { "DavServer": dav.url, "UserName": "dav", "AccessKey": "dav-password", "Path": "vault" },
            "DefaultRetention": { "Mode": 801, "Ranges": [] },
        });
    });
    let folder = server.work_dir.join("data");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("letter"), "Dear reader").unwrap();
    device.add_item(&server, "item", "engine1/file", &json!({ "INCLUDE": folder }));
    device.back_up(&server, "item", "dav");
    let target = server.work_dir.join("restored");
    let options = json!({ "Type": 0, "DestPath": target });
    let done = ended(&server, &device.restore(&server, "dav", "item", &options, &[]));
    assert_eq!(done["Status"], 5000, "{done}");
    let back = target.join(folder.strip_prefix("/").unwrap()).join("letter");
    assert_eq!(std::fs::read_to_string(back).unwrap(), "Dear reader");
    // The folder is an ordinary repository.
    let access = device.run(&["vault-access", "--destination", "dav"]);
    assert!(!access.status.success());
    assert!(shared.join("vault/config").is_file());
}
