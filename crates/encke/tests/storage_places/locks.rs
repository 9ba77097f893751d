//! Object lock on a service that enforces it.

use super::{Device, Server, Service, back_up_and_restore, fs, json, ping};
use crate::support::device::{USER, ended, log, until};
use jiff::{Span, Timestamp};
use std::collections::HashSet;

/// What the service tells of all versions of all objects: name, whether it is the newest, and until when it is locked.
fn versions(service: &Service) -> Vec<(String, String, bool, Option<Timestamp>)> {
    let told = service.told(&["locks", "locked"]);
    let told = told.as_object().unwrap().iter();
    told.map(|(id, version)| {
        let until = version[2].as_str().unwrap().parse().ok();
        let (name, newest) = (version[0].as_str().unwrap(), version[1].as_bool().unwrap());
        (id.clone(), name.to_string(), newest, until)
    })
    .collect()
}

/// Asks for a retention pass, and waits until it has ended well.
fn retention(server: &Server, device: &Device) {
    let passes = || -> HashSet<String> {
        let all = server.call("/api/v1/admin/get-jobs-for-user", &[("TargetUser", USER)]);
        let passes = all
            .as_array()
            .unwrap()
            .iter()
            .filter(|job| job["Classification"] == 4003);
        passes
            .map(|job| job["GUID"].as_str().unwrap().to_string())
            .collect()
    };
    let before = passes();
    let answer = device.ask(server, "apply-retention-rules", &[("Destination", "s3")]);
    assert_eq!(answer["Status"], 200, "{answer}");
    let job = until("the job", || passes().difference(&before).next().cloned());
    let done = ended(server, &job);
    assert_eq!(done["Status"], 5000, "{}", log(server, &job));
}

/// Whether all that the repository needs is locked for as long as the settings say, and not much longer.
fn assert_locked(service: &Service, seven_days_from: Timestamp) {
    let hours = |n: i64| seven_days_from + Span::new().hours(n);
    let (mut others, mut packs) = (0, 0);
    for (_, name, _, until) in versions(service).iter().filter(|(_, _, newest, _)| *newest) {
        let locked = until.is_some_and(|until| until >= hours(7 * 24) && until <= hours(10 * 24 + 1));
        if name.contains("/data/") {
            // Packs that are not needed any more are left to their time.
            packs += usize::from(locked);
        } else if !name.contains("/locks/") {
            assert!(locked, "{name}: {until:?}");
            others += 1;
        }
    }
    assert!(packs >= 2 && others >= 4, "{packs} packs, {others} others");
}

#[test]
fn locked_objects_stay_until_their_time_and_are_locked_anew_while_they_are_needed() {
    let server = Server::start();
    let device = Device::start(&server, "device");
    let service = Service::s3();
    let (id, secret) = service.key("owner");
    assert_eq!(service.told(&["lockable", "locked"]), "done");
    let place = |bucket: &str, mode: u8, days: i64| {
        json!({
            "DestinationType": 1000, "S3Server": service.url.trim_start_matches("http://"), "S3UsesTLS": false,
            "S3AccessKey": id, "S3SecretKey": secret, "S3BucketName": bucket, "S3Subdir": "some/where",
            "S3ObjectLockMode": mode, "S3ObjectLockDays": days,
        })
    };
    assert_eq!(ping(&server, &place("locked", 1, 7)), 200);
    assert_eq!(
        ping(&server, &place("locked", 0, 7)),
        200,
        "days alone mean locks"
    );
    assert_eq!(
        ping(&server, &place("master", 1, 7)),
        400,
        "a bucket without locks"
    );
    assert_eq!(ping(&server, &place("master", 2, 7)), 200, "no locks wanted");
    assert_eq!(ping(&server, &place("locked", 1, 0)), 400);
    let began = Timestamp::now();
    back_up_and_restore(&server, &device, "s3", &place("locked", 1, 7));
    device.restic("s3", &["check", "--read-data"]);
    assert_locked(&service, began);

    // Whoever has the key can not destroy any of it.
    let refused = service.told(&["destroy", "locked"]);
    let locked: HashSet<String> = versions(&service)
        .into_iter()
        .filter_map(|(id, _, _, until)| until.map(|_| id))
        .collect();
    for (version, answer) in refused.as_object().unwrap() {
        assert!(
            answer == "AccessDenied" || !locked.contains(version),
            "{version}: {answer}"
        );
    }
    device.restic("s3", &["check", "--read-data"]);

    // Retention ends well, and what it deleted stays under its lock, where the repository does not see it.
    device.edit(&server, |profile| {
        let last = json!({ "Mode": 802, "Ranges": [{ "Type": 900, "Jobs": 1 }] });
        profile["Destinations"]["s3"]["DefaultRetention"] = last;
    });
    retention(&server, &device);
    device.restic("s3", &["check", "--read-data"]);
    let ids = |wanted: bool| -> HashSet<String> {
        let all = versions(&service).into_iter();
        all.filter_map(|(id, _, newest, _)| (newest == wanted).then_some(id))
            .collect()
    };
    let hidden = ids(false);
    assert!(!hidden.is_empty(), "a snapshot was deleted");
    assert!(
        locked
            .iter()
            .all(|id| ids(true).contains(id) || hidden.contains(id)),
        "nothing is gone"
    );

    // Once the locks have run out it goes for good, and what is needed is locked anew.
    service.told(&["unlock", "locked"]);
    let cache = device.data_dir().join("cache");
    let repository = fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(repository.join("protected")).expect("the device notes what it locked");
    let again = Timestamp::now();
    retention(&server, &device);
    let left = ids(false);
    assert!(hidden.is_disjoint(&left), "{hidden:?} {left:?}");
    assert_locked(&service, again);
    device.restic("s3", &["check", "--read-data"]);
}
