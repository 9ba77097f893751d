//! SMB: a real Samba.

use super::{Device, Proxy, Server, Service, back_up_and_restore, cut_while, fs, json, ping, user};

#[test]
fn a_vault_on_smb_survives_a_broken_connection() {
    let server = Server::start();
    let device = Device::start(&server, "device");
    let folder = server.work_dir.join("samba");
    fs::create_dir(&folder).unwrap();
    let service = Service::samba(&folder, &user(), "my password", "backups");
    let link = Proxy::to(&service.url);
    let address = link.url().strip_prefix("http://").unwrap().to_string();
    let place = |password: &str, share: &str| {
        json!({
            "DestinationType": 1011, "SMB": {
                "SMBServer": address, "SMBShare": share, "SMBDirectory": r"some\where", "SMBUsername": user(),
                "SMBPassword": password,
            },
        })
    };
    assert_eq!(ping(&server, &place("my password", "backups")), 200);
    assert_eq!(ping(&server, &place("wrong", "backups")), 502);
    assert_eq!(ping(&server, &place("my password", "missing")), 502);
    assert_eq!(ping(&server, &place("my password", "")), 400);
    let share = folder.join("share");
    assert!(
        fs::read_dir(&share).unwrap().next().is_none(),
        "a ping changes nothing"
    );
    cut_while(&link, || {
        back_up_and_restore(&server, &device, "smb", &place("my password", "backups"));
    });
    // All kinds of places hold the same: stock restic looks at the folder behind the share.
    let place = share.join("some/where");
    device.edit(&server, |profile| {
        profile["Destinations"]["smb"]["DestinationType"] = json!(1002);
        profile["Destinations"]["smb"]["LocalcopyPath"] = json!(place);
    });
    device.restic("smb", &["check", "--read-data"]);
}
