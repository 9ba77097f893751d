//! Devices that work by their schedules, and jobs that wait, through the front door: the real server and the real agent.

use crate::support::Server;
use crate::support::device::{Device, USER, ended, job, log, started, until};
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

/// An item that notes each of its runs in a file.
fn noting(server: &Server, device: &Device) -> PathBuf {
    let notes = server.work_dir.join("notes");
    let command = format!("echo ran >> '{}'; echo x", notes.display());
    device.add_folder_vault(server, "vault", &server.work_dir.join("vault"));
    device.add_item(
        server,
        "item",
        "engine1/stdout",
        &json!({ "COMMAND": command, "SAVEAS": "o" }),
    );
    notes
}

fn lines(path: &PathBuf) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

fn jobs(server: &Server) -> Vec<Value> {
    let all = server.call("/api/v1/admin/get-jobs-for-user", &[("TargetUser", USER)]);
    all.as_array().unwrap().clone()
}

fn set_rule(device: &Device, server: &Server, schedules: &Value, triggers: &Value) {
    device.edit(server, |p| {
        p["BackupRules"]["rule"] = json!({
            "Description": "r", "Source": "item", "Destination": "vault", "Schedules": schedules,
            "EventTriggers": triggers,
        });
    });
}

#[test]
fn schedules_run_with_and_without_the_server_and_after_a_restart() {
    let mut server = Server::start();
    let mut device = Device::start(&server, "laptop");
    let notes = noting(&server, &device);
    // Every two seconds.
    set_rule(
        &device,
        &server,
        &json!([{ "FrequencyType": 8015, "SecondsPast": 2 }]),
        &json!({}),
    );
    until("two runs", || (lines(&notes) >= 2).then_some(()));
    server.kill();
    let before = lines(&notes);
    until("runs without the server", || {
        (lines(&notes) >= before + 2).then_some(())
    });
    // The agent starts anew without the server as well.
    device.kill();
    let before = lines(&notes);
    device.launch();
    until("runs of a new agent", || {
        (lines(&notes) >= before + 2).then_some(())
    });
    server.restart_here();
    device.connection(&server);
    set_rule(&device, &server, &json!([]), &json!({}));
    let all = until("all reports", || {
        let all = jobs(&server);
        let is_open = |j: &Value| (6000..7000).contains(&j["Status"].as_i64().unwrap());
        (all.len() >= lines(&notes) && !all.iter().any(is_open)).then_some(all)
    });
    assert!(
        all.iter()
            .all(|j| j["BackupRuleGUID"] == "rule" && j["DeviceID"] == "laptop")
    );
    // Only what was killed in the middle ended otherwise than well.
    for bad in all.iter().filter(|j| j["Status"] != 5000) {
        let text = log(&server, bad["GUID"].as_str().unwrap());
        assert!(
            text.contains("stopped while this job was running"),
            "{bad} {text}"
        );
    }
    // No run twice: their seconds are even and apart, but for those that start at the same look.
    let mut starts: Vec<i64> = all.iter().map(|j| j["StartTime"].as_i64().unwrap()).collect();
    starts.sort_unstable();
    assert!(starts.windows(2).all(|w| w[1] > w[0]), "{starts:?}");
}

#[test]
fn a_run_that_was_missed_is_made_up_for_where_the_rule_says_so() {
    let server = Server::start();
    let mut device = Device::start(&server, "laptop");
    let notes = noting(&server, &device);
    // Once a day, twelve hours from now.
    let now = jiff_now();
    let schedule =
        json!([{ "FrequencyType": 8015, "SecondsPast": 86_400, "Offset": (now + 43_200) % 86_400 }]);
    set_rule(&device, &server, &schedule, &json!({}));
    let state = device.data_dir().join("schedule.json");
    until("the plan", || state.exists().then_some(()));
    // As if the machine had been off for three days.
    let set_back = |device: &mut Device| {
        device.stop();
        let mut plan: Value = serde_json::from_str(&fs::read_to_string(&state).unwrap()).unwrap();
        for settled in plan["rules"]["rule"]["schedules"]
            .as_object_mut()
            .unwrap()
            .values_mut()
        {
            *settled = json!(now - 3 * 86_400);
        }
        fs::write(&state, plan.to_string()).unwrap();
        device.launch();
        device.connection(&server);
    };
    set_back(&mut device);
    until("the plan to be looked at", || {
        fs::read_to_string(&state)
            .unwrap()
            .contains("\"missed\":true")
            .then_some(())
    });
    assert_eq!(lines(&notes), 0);
    set_rule(
        &device,
        &server,
        &schedule,
        &json!({ "OnPCBootIfLastJobMissed": true }),
    );
    until("the run", || (lines(&notes) == 1).then_some(()));
    set_back(&mut device);
    until("the run", || (lines(&notes) == 2).then_some(()));
}

fn jiff_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_secs()).unwrap()
}

#[test]
fn a_failed_backup_waits_and_is_tried_again() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let mark = server.work_dir.join("mark");
    let command = format!(
        "test -e '{0}' || {{ touch '{0}'; exit 1; }}; echo x",
        mark.display()
    );
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    device.add_item(
        &server,
        "item",
        "engine1/stdout",
        &json!({ "COMMAND": command, "SAVEAS": "o" }),
    );
    let triggers =
        json!({ "OnLastJobFailDoRetry": true, "LastJobFailDoRetryCount": 1, "LastJobFailDoRetryTime": 1 });
    set_rule(&device, &server, &json!([]), &triggers);
    let run = || started(&device.ask(&server, "run-backup", &[("BackupRule", "rule")]));
    let id = run();
    let waiting = until("the job to wait", || {
        Some(job(&server, &id)).filter(|j| j["Status"] == 6003)
    });
    assert_eq!(waiting["RetryCount"], 1);
    // Another one that waits can be cancelled at once.
    fs::remove_file(&mark).unwrap();
    let other = run();
    until("the other to wait", || {
        Some(()).filter(|()| job(&server, &other)["Status"] == 6003)
    });
    let fields = [("TargetUser", USER), ("JobID", other.as_str())];
    assert_eq!(server.call("/api/v1/admin/job/cancel", &fields)["Status"], 200);
    assert_eq!(ended(&server, &other)["Status"], 7005);
    let done = ended(&server, &id);
    assert_eq!(done["Status"], 5000, "{}", log(&server, &id));
    assert_eq!(done["RetryCount"], 1);
    let text = log(&server, &id);
    assert!(
        text.contains("E The command for o ended with exit status: 1"),
        "{text}"
    );
    assert!(text.contains("I Trying again in 1 minutes (1 of 1)"), "{text}");
}

#[test]
fn more_jobs_than_a_device_runs_at_once_wait_for_their_turn() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let gate = server.work_dir.join("gate");
    let command = format!("while ! test -e '{}'; do sleep 0.1; done; echo x", gate.display());
    for n in 0..10 {
        let properties = json!({ "COMMAND": command, "SAVEAS": "o" });
        device.add_item(&server, &format!("item{n}"), "engine1/stdout", &properties);
    }
    let ids: Vec<String> = (0..10)
        .map(|n| device.backup(&server, &format!("item{n}"), "vault"))
        .collect();
    let with = |status: i64| {
        ids.iter()
            .filter(|id| job(&server, id)["Status"] == status)
            .count()
    };
    assert_eq!((with(6001), with(6004)), (8, 2));
    fs::write(&gate, "").unwrap();
    for id in &ids {
        assert_eq!(ended(&server, id)["Status"], 5000, "{}", log(&server, id));
    }
    device.restic("vault", &["check"]);
}

#[test]
fn quotas_and_speed_limits_hold_while_a_job_runs() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let file = server.work_dir.join("file");
    let mut noise = vec![0; 6 << 20];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
    fs::File::create(&file).unwrap().write_all(&noise).unwrap();
    device.add_item(&server, "item", "engine1/file", &json!({ "INCLUDE1": file }));
    // Six megabytes at two each second.
    let id = device.backup_with(
        &server,
        "item",
        "vault",
        &json!({ "LimitVaultSpeedBps": 2 << 20 }),
    );
    let slow = ended(&server, &id);
    assert_eq!(slow["Status"], 5000, "{}", log(&server, &id));
    let time = slow["EndTime"].as_i64().unwrap() - slow["StartTime"].as_i64().unwrap();
    assert!(time >= 2, "{slow}");
    // A limit that the vault keeps to when the job starts, and not while it runs.
    device.edit(&server, |p| {
        p["Destinations"]["vault"]["StorageLimitEnabled"] = json!(true);
        p["Destinations"]["vault"]["StorageLimitBytes"] = json!(20 << 20);
    });
    let properties = json!({ "COMMAND": "head -c 1000000000 /dev/urandom", "SAVEAS": "o" });
    device.add_item(&server, "endless", "engine1/stdout", &properties);
    let id = device.backup(&server, "endless", "vault");
    let full = ended(&server, &id);
    assert_eq!(full["Status"], 7003, "{full} {}", log(&server, &id));
    assert!(log(&server, &id).contains("used up while the job ran"));
    // What was sent stays, so the next one does not begin.
    let id = device.backup(&server, "item", "vault");
    assert_eq!(ended(&server, &id)["Status"], 7003);
    device.restic("vault", &["check", "--read-data"]);
}

#[test]
fn the_start_of_the_machine_starts_a_rule_and_that_of_the_agent_does_not() {
    let server = Server::start();
    let mut device = Device::start(&server, "laptop");
    let notes = noting(&server, &device);
    set_rule(&device, &server, &json!([]), &json!({ "OnPCBoot": true }));
    if !device.set_uptime(Some(30)) {
        eprintln!(
            "this system lets a test have no time namespace (it needs root and some minutes): not tested"
        );
        return;
    }
    device.stop();
    device.launch();
    until("the run", || (lines(&notes) == 1).then_some(()));
    device.stop();
    // Ten minutes later the agent's start is no sign of the machine's.
    assert!(device.set_uptime(Some(700)));
    device.launch();
    // What it starts, it starts before it does what it is asked to.
    device.back_up(&server, "item", "vault");
    let all = jobs(&server);
    let by_rule = |j: &&Value| j["BackupRuleGUID"] == "rule";
    assert_eq!(
        (lines(&notes), all.iter().filter(by_rule).count()),
        (2, 1),
        "{all:?}"
    );
}

#[test]
fn a_rule_runs_in_its_hours_and_skips_what_still_runs() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let gate = server.work_dir.join("gate");
    let command = format!("while ! test -e '{}'; do sleep 0.1; done; echo x", gate.display());
    let item = json!({ "COMMAND": command, "SAVEAS": "o" });
    device.add_item(&server, "item", "engine1/stdout", &item);
    // Due in a few seconds, in an hour that one of them may not run in. Both are looked at in one moment, in this order.
    let now = jiff::Zoned::now();
    let past = i64::from(now.minute()) * 60 + i64::from(now.second());
    let hours = |from: i64, to: i64| {
        let hour = |add: i64| json!({ "Hour": (i64::from(now.hour()) + add).rem_euclid(24), "Minutes": 0 });
        json!([{
            "FrequencyType": 8012, "SecondsPast": (past + 8) % 3600, "RestrictRuntime": true,
            "FromTime": hour(from), "ToTime": hour(to),
        }])
    };
    device.edit(&server, |p| {
        for (name, schedules) in [("a-shut", hours(3, 20)), ("b-open", hours(-1, 2))] {
            p["BackupRules"][name] = json!({
                "Description": name, "Source": "item", "Destination": "vault", "Schedules": schedules,
                "SkipAlreadyRunning": true,
            });
        }
    });
    let of_rule = |rule: &str| {
        let all = jobs(&server);
        let found: Vec<Value> = all.into_iter().filter(|j| j["BackupRuleGUID"] == rule).collect();
        found
    };
    let open = until("the run", || of_rule("b-open").pop());
    assert_eq!(of_rule("a-shut"), Vec::<Value>::new());
    // By hand it may be started at any hour; but it runs already.
    let id = started(&device.ask(&server, "run-backup", &[("BackupRule", "a-shut")]));
    let skipped = ended(&server, &id);
    assert_eq!(
        (&skipped["Status"], &skipped["ConflictingJobID"]),
        (&json!(7006), &open["GUID"])
    );
    fs::write(&gate, "").unwrap();
    let id = open["GUID"].as_str().unwrap();
    assert_eq!(ended(&server, id)["Status"], 5000, "{}", log(&server, id));
}
