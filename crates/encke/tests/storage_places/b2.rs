//! Backblaze B2, as the simulator of the vendor's own library has it.

use super::{ByHand, Command, Path, Proxy, Server, Service, fs, json, ping};
use serde_json::Value;

fn ask(service: &Service, path: &str) -> Value {
    let url = format!("{}{path}", service.url);
    let mut answer = crate::support::http().get(&url).call().unwrap();
    serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
}

/// Copies what is in the bucket into a folder, for stock restic, which knows B2's own address only.
fn copied(service: &Service, to: &Path) {
    let (id, key) = service.key("owner");
    for name in ask(service, "/files").as_array().unwrap() {
        let name = name.as_str().unwrap();
        let file = to.join(name.strip_prefix("some/where/").unwrap());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, service.b2_file("backups", name, (&id, &key))).unwrap();
    }
}

#[test]
fn a_repository_on_b2_survives_a_broken_connection() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::b2("backups");
    let (id, key) = service.key("owner");
    let link = Proxy::to(&service.url);
    let url = link.url();
    let environment = [
        ("B2_ACCOUNT_ID", id.as_str()),
        ("B2_ACCOUNT_KEY", key.as_str()),
        ("ENCKE_B2_API_URL", url.as_str()),
    ];
    let vault = ByHand {
        dir: dir.path(),
        repo: "b2:backups:some/where",
        environment: &environment,
    };
    vault.back_up_and_restore(&link);
    // Its session ends, as it does every day.
    let src = dir.path().join("src");
    fs::write(src.join("letter"), "Dear readers").unwrap();
    vault.done(&["backup", src.to_str().unwrap()]);
    vault.done(&["retention", "--keep", "last=1"]);
    vault.done(&["check", "--read-data"]);
    let copy = dir.path().join("copy");
    copied(&service, &copy);
    let checked = Command::new("restic")
        .args(["--no-cache", "check", "--read-data", "-r"])
        .arg(&copy)
        .env("RESTIC_PASSWORD", "correct horse")
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
    // What is deleted leaves no hidden versions behind.
    let names = ask(&service, "/files").as_array().unwrap().len();
    assert!(
        ask(&service, "/versions").as_u64().unwrap() as usize <= names + 3,
        "retries may leave a version each"
    );
    let wrong = [environment[0], ("B2_ACCOUNT_KEY", "wrong"), environment[2]];
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
fn b2_is_pinged() {
    let service = Service::b2("backups");
    let server = Server::start_with_environment(&[("ENCKE_B2_API_URL", &service.url)]);
    let place = |key: &(String, String), bucket: &str| json!({ "DestinationType": 1008, "B2": { "AccountID": key.0, "Key": key.1, "Bucket": bucket, "Prefix": "x" } });
    let (owner, limited) = (service.key("owner"), service.key("limited"));
    assert_eq!(ping(&server, &place(&owner, "backups")), 200);
    assert_eq!(ping(&server, &place(&owner, "missing")), 502);
    assert_eq!(ping(&server, &place(&owner, "")), 400);
    assert_eq!(ping(&server, &place(&limited, "backups")), 200);
    assert_eq!(ping(&server, &place(&limited, "missing")), 502);
    assert_eq!(ping(&server, &place(&(owner.0, "wrong".into()), "backups")), 502);
}
