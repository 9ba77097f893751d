//! OpenStack Swift with its own log-in and with Keystone.

use super::{ByHand, Device, Proxy, Server, Service, back_up_and_restore, fs, json, ping};
use crate::support::services::serve;

#[test]
fn swift_is_shared_with_stock_restic_and_survives_a_broken_connection() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::swift(dir.path(), "test:tester", "a-key", None);
    let (host, path) = service.url.split_at(service.url.find("/auth").unwrap());
    let link = Proxy::to(host);
    let login = format!("{}{path}", link.url());
    let environment = [
        ("ST_AUTH", login.as_str()),
        ("ST_USER", "test:tester"),
        ("ST_KEY", "a-key"),
    ];
    let vault = ByHand {
        dir: dir.path(),
        repo: "swift:backups:/some/where",
        environment: &environment,
    };
    vault.back_up_and_restore(&link);
    vault.restic(&["check", "--read-data"]);
    let src = dir.path().join("src");
    fs::write(src.join("letter"), "Dear readers").unwrap();
    vault.restic(&["backup", src.to_str().unwrap()]);
    vault.done(&["check", "--read-data"]);
    vault.done(&["retention", "--keep", "last=1"]);
    vault.restic(&["check", "--read-data"]);
    let wrong = [environment[0], environment[1], ("ST_KEY", "wrong")];
    let refused = ByHand {
        environment: &wrong,
        ..vault
    }
    .encke(&["snapshots"]);
    assert!(!refused.status.success());
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("credentials"),
        "{refused:?}"
    );
}

#[test]
fn a_vault_on_swift_with_keystone() {
    let server = Server::start();
    let device = Device::start(&server, "device");
    let folder = server.work_dir.join("swift");
    fs::create_dir(&folder).unwrap();
    let service = Service::swift(&folder, "test:tester", "a-key", Some("keystone password"));
    let place = |password: &str, region: &str, tenant: &str| {
        json!({
            "DestinationType": 1007, "Swift": {
                "Username": "admin", "APIKey": password, "Region": region, "AuthURL": service.told["identity"],
                "Domain": "Default", "Tenant": tenant, "Container": "backups", "Prefix": "/some/where/",
                "DefaultContainerPolicy": "only",
            },
        })
    };
    let good = place("keystone password", "here", "admin");
    assert_eq!(ping(&server, &good), 200);
    assert_eq!(ping(&server, &place("wrong", "here", "admin")), 502);
    assert_eq!(
        ping(&server, &place("keystone password", "nowhere", "admin")),
        400
    );
    assert_eq!(ping(&server, &place("keystone password", "here", "another")), 502);
    let mut unversioned = good.clone();
    unversioned["Swift"]["AuthURL"] = json!("http://127.0.0.1:1/identity");
    assert_eq!(ping(&server, &unversioned), 400);
    back_up_and_restore(&server, &device, "swift", &good);
    device.restic("swift", &["check", "--read-data"]);
    // Version 2 of Keystone is no longer made: its answers come from the test, for the real storage.
    let version_1 = service.url.clone();
    let identity = serve(move |got| {
        let asked: serde_json::Value = serde_json::from_str(&got.body).unwrap_or_default();
        let login = &asked["auth"]["passwordCredentials"];
        let known = got.path == "/v2.0/tokens" && asked["auth"]["tenantName"] == "test";
        if !known || login["username"] != "tester" || login["password"] != "a-key" {
            return (401, "{}".into());
        }
        let request = crate::support::http().get(&version_1);
        let request = request
            .header("X-Auth-User", "test:tester")
            .header("X-Auth-Key", "a-key");
        let answer = request.call().unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_string();
        let endpoint = json!({ "region": "here", "publicURL": header("x-storage-url") });
        let catalogue = json!([{ "type": "object-store", "endpoints": [endpoint] }]);
        let access = json!({ "token": { "id": header("x-auth-token") }, "serviceCatalog": catalogue });
        (200, json!({ "access": access }).to_string())
    });
    let version_2 = |password: &str| {
        json!({
            "DestinationType": 1007, "Swift": {
                "Username": "tester", "APIKey": password, "AuthURL": format!("{identity}/v2.0"), "Tenant": "test",
                "Container": "backups",
            },
        })
    };
    assert_eq!(ping(&server, &version_2("a-key")), 200);
    assert_eq!(ping(&server, &version_2("wrong")), 502);
}
