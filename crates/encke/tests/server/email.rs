//! E-mail against a real SMTP server (aiosmtpd): TLS, log-in, the queue over crashes and refusals, reports, bulletins.

use crate::support::certificates::certify;
use crate::support::device::{Device, USER, until};
use crate::support::postgres;
use crate::support::services::Service;
use crate::support::{AUTHORITY, Server, configure};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const GET: &str = "/api/v1/admin/meta/email-options/get";
const SET: &str = "/api/v1/admin/meta/email-options/set";
const TEST: &str = "/api/v1/admin/meta/send-test-email";
const PASSWORD: &str = "correct-horse-battery";

/// A mail server and what it took over.
struct Smtp {
    folder: PathBuf,
    port: u16,
    _service: Service,
}

impl Smtp {
    fn start(server: &Server, kind: &str, login: (&str, &str), port: u16) -> Self {
        let folder = server.work_dir.join(format!("mail-{kind}"));
        fs::create_dir_all(&folder).unwrap();
        let pem = if kind == "plain" {
            String::new()
        } else {
            let both = server.work_dir.join("both.pem");
            let read = |name: &str| fs::read_to_string(server.work_dir.join(name)).unwrap();
            fs::write(&both, read("key.pem") + &read("cert.pem")).unwrap();
            both.display().to_string()
        };
        let service = Service::smtp(&folder, kind, login, &pem, port);
        let port = service.url.rsplit_once(':').unwrap().1.parse().unwrap();
        Self {
            folder,
            port,
            _service: service,
        }
    }

    /// What arrived so far.
    fn mails(&self) -> Vec<Value> {
        let entries = fs::read_dir(&self.folder).unwrap().map(|e| e.unwrap().path());
        entries
            .filter(|p| p.extension().is_some_and(|e| e == "json"))
            .map(|p| serde_json::from_slice(&fs::read(p).unwrap()).unwrap())
            .collect()
    }

    /// The first mail to an address whose text has these words.
    fn mail(&self, to: &str, words: &str) -> String {
        until(&format!("a mail to {to} with {words:?}"), || {
            let mut mails = self.mails().into_iter();
            mails.find_map(|m| {
                let text = plain(m["data"].as_str().unwrap());
                (m["to"] == json!([to]) && text.contains(words)).then_some(text)
            })
        })
    }

    /// What is to be answered to the next mails instead of taking them over.
    fn answer(&self, lines: &[&str]) {
        let draft = self.folder.join("draft");
        fs::write(&draft, lines.join("\n")).unwrap();
        fs::rename(draft, self.folder.join("answers")).unwrap();
    }
}

/// A mail read by another library than the one that wrote it: subject, then every part decoded.
fn plain(data: &str) -> String {
    let script = "import email,email.policy,sys\n\
        m=email.message_from_bytes(sys.stdin.buffer.read(),policy=email.policy.default)\n\
        print('Subject:',m['Subject']); print('Message-ID:',m['Message-ID']); print('From:',m['From'])\n\
        for p in m.walk():\n\
        \x20 if p.get_content_maintype()=='text': print(p.get_content_type()); print(p.get_content())";
    let mut child = Command::new("python3")
        .args(["-c", script])
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), data.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

fn options(port: u16, more: &Value) -> Value {
    let mut all = json!({
        "Mode": "smtp", "FromEmail": "backup@example.com", "FromName": "Our Backup", "SMTPHost": "localhost",
        "SMTPPort": port, "SMTPAllowUnencrypted": true,
    });
    all.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    all
}

fn set(server: &Server, options: &Value) {
    let answer = server.call(SET, &[("EmailOptions", &options.to_string())]);
    assert_eq!(answer["Status"], 200, "{answer}");
}

fn test(server: &Server, options: &Value, to: &str) -> Value {
    let fields = [
        ("EmailOptions", options.to_string()),
        ("Recipient", to.to_string()),
    ];
    server.call(TEST, &fields.each_ref().map(|(k, v)| (*k, v.as_str())))
}

fn add_account(server: &Server, name: &str, change: impl Fn(&mut Value)) {
    let fields = [
        ("TargetUser", name),
        ("TargetPassword", crate::support::device::PASSWORD),
    ];
    assert_eq!(server.call("/api/v1/admin/add-user", &fields)["Status"], 200);
    edit(server, name, change);
}

fn edit(server: &Server, name: &str, change: impl Fn(&mut Value)) {
    let answer = server.call("/api/v1/admin/get-user-profile-and-hash", &[("TargetUser", name)]);
    let mut profile = answer["Profile"].clone();
    change(&mut profile);
    let saved = server.call(
        "/api/v1/admin/set-user-profile",
        &[("TargetUser", name), ("ProfileData", &profile.to_string())],
    );
    assert_eq!(saved["Status"], 200, "{saved}");
}

fn queue(server: &Server) -> Vec<Value> {
    let list = server.call("/api/encke/v1/email/list", &[]);
    list.as_array().unwrap_or_else(|| panic!("{list}")).clone()
}

fn version(server: &Server) -> Value {
    server.call("/api/v1/admin/meta/version", &[])
}

/// Whether a word stands in a file below a folder.
fn is_written(folder: &Path, word: &str) -> bool {
    let found = Command::new("grep").args(["-rqaF", word]).arg(folder).status();
    found.unwrap().success()
}

#[test]
fn mails_go_encrypted_and_with_log_in_and_the_password_is_shown_to_nobody() {
    let mut server = Server::start();
    let folder = server.work_dir.clone();
    certify(&folder, 2);
    let starttls = Smtp::start(&server, "starttls", ("mailer", PASSWORD), 0);
    let tls = Smtp::start(&server, "tls", ("mailer", PASSWORD), 0);
    let plain_one = Smtp::start(&server, "plain", ("", ""), 0);
    let login = json!({ "SMTPUsername": "mailer", "SMTPPassword": PASSWORD, "SMTPAllowUnencrypted": false });
    let wanted = options(starttls.port, &login);
    // An authority that the system does not know.
    let refused = test(&server, &wanted, "x@example.com");
    assert_eq!(refused["Status"], 502, "{refused}");
    let mut any = wanted.clone();
    any["SMTPAllowInvalidCertificate"] = json!(true);
    assert_eq!(test(&server, &any, "any@example.com")["Status"], 200);
    server.stop();
    fs::copy(folder.join("ca.pem"), server.data_dir.join(AUTHORITY)).unwrap();
    server.restart();
    set(&server, &wanted);
    let shown = server.call(GET, &[]);
    assert_eq!(
        (&shown["SMTPPassword"], &shown["SMTPUsername"], &shown["SMTPHost"]),
        (&json!("********"), &json!("mailer"), &json!("localhost"))
    );
    let config = server.call("/api/v1/admin/meta/server-config/get", &[]);
    assert_eq!(config["Email"]["SMTPPassword"], "********");
    // What is shown can be set again, and tried.
    set(&server, &shown);
    let sent = test(&server, &shown, "shown@example.com");
    assert_eq!(sent["Status"], 200, "{sent}");
    let text = starttls.mail("shown@example.com", "The e-mail settings work.");
    assert!(text.contains("From: Our Backup <backup@example.com>"), "{text}");
    let mut wrapped = wanted.clone();
    wrapped["Mode"] = json!("smtp-ssl");
    wrapped["SMTPPort"] = json!(tls.port);
    assert_eq!(test(&server, &wrapped, "tls@example.com")["Status"], 200);
    for mail in starttls.mails().iter().chain(&tls.mails()) {
        assert_eq!((&mail["tls"], &mail["user"]), (&json!(true), &json!("mailer")));
    }
    // The password goes to no other server, and nothing goes in clear unless that is wanted.
    let mut elsewhere = shown.clone();
    elsewhere["SMTPPort"] = json!(plain_one.port);
    assert_eq!(test(&server, &elsewhere, "x@example.com")["Status"], 400);
    let clear = json!({ "SMTPAllowUnencrypted": false });
    let refused = test(&server, &options(plain_one.port, &clear), "x@example.com");
    assert_eq!(refused["Status"], 502, "{refused}");
    assert_eq!(
        test(&server, &options(plain_one.port, &json!({})), "x@example.com")["Status"],
        200
    );
    let mut wrong = wanted.clone();
    wrong["SMTPPassword"] = json!("wrong-password-here");
    let refused = test(&server, &wrong, "x@example.com");
    assert_eq!(refused["Status"], 502);
    assert!(refused["Message"].as_str().unwrap().contains("535"), "{refused}");
    for (name, value) in [
        ("Mode", json!("pigeon")),
        ("FromEmail", json!("nobody")),
        ("SMTPHost", json!("")),
        ("SMTPPort", json!(70_000)),
    ] {
        let mut bad = wanted.clone();
        bad[name] = value;
        let refused = server.call(SET, &[("EmailOptions", &bad.to_string())]);
        assert_eq!(refused["Status"], 400, "{name}: {refused}");
    }
    let mut direct = wanted;
    direct["Mode"] = json!("builtin");
    assert_eq!(
        server.call(SET, &[("EmailOptions", &direct.to_string())])["Status"],
        501
    );
    assert_eq!(test(&server, &shown, "no address")["Status"], 400);
    server.stop();
    assert!(!server.log().contains(PASSWORD) && !server.log().contains("wrong-password-here"));
    assert!(
        !is_written(&server.data_dir, PASSWORD),
        "the password lies in clear"
    );
}

/// A bulletin to many while the server crashes and the mail server refuses.
#[test]
fn no_mail_is_lost_over_a_crash_and_none_repeated_but_what_was_on_its_way() {
    let mut server = Server::start();
    const MANY: usize = 24;
    let mut smtp = Smtp::start(&server, "plain", ("", ""), 0);
    let set_up = options(smtp.port, &json!({}));
    set(&server, &set_up);
    let names: Vec<String> = (0..MANY).map(|n| format!("user{n:02}")).collect();
    for name in &names {
        add_account(&server, name, |p| {
            p["Emails"] = json!([format!("{name}@example.com")])
        });
    }
    // The mail server is away at first.
    let port = smtp.port;
    drop(smtp);
    let text = [("Subject", "Maintenance"), ("Content", "We are away on Sunday.")];
    let sent = server.call("/api/v1/admin/bulletin/submit", &text);
    assert_eq!(sent["Status"], 200, "{sent}");
    assert_eq!(version(&server)["EmailsWaitingInQueue"], MANY);
    until("the failure to be told", || {
        let errors = queue(&server);
        errors.iter().any(|m| m["Error"] != "").then_some(())
    });
    smtp = Smtp::start(&server, "plain", ("", ""), port);
    smtp.answer(&["451 come back", "550 never", "421 going"]);
    // What waits is tried at once with settings that are saved.
    set(&server, &set_up);
    until("some mails", || (smtp.mails().len() >= 3).then_some(()));
    server.kill();
    server.restart();
    until("all mails", || {
        (version(&server)["EmailsWaitingInQueue"] == 0).then_some(())
    });
    let mails = smtp.mails();
    let ids: std::collections::HashSet<String> = mails
        .iter()
        .map(|m| {
            let text = plain(m["data"].as_str().unwrap());
            assert!(text.contains("We are away on Sunday."), "{text}");
            text.lines()
                .find(|l| l.starts_with("Message-ID"))
                .unwrap()
                .to_string()
        })
        .collect();
    assert_eq!(
        ids.len(),
        MANY - 1,
        "each once, but for the one that was refused for good"
    );
    // What was on its way when the server was killed may have come twice, under the same id: four at most.
    assert!(mails.len() <= MANY - 1 + 4, "{}", mails.len());
    let failed: Vec<Value> = queue(&server)
        .into_iter()
        .filter(|m| m["State"] == "failed")
        .collect();
    assert_eq!(failed.len(), 1);
    assert!(
        failed[0]["Error"].as_str().unwrap().contains("never"),
        "{failed:?}"
    );
    assert_eq!(
        (
            &version(&server)["EmailsSentSuccessfully"],
            &version(&server)["EmailsSentErrors"]
        ),
        (&json!(MANY - 1), &json!(1))
    );
}

#[test]
fn a_backup_is_told_of_when_it_ends_in_the_account_s_language_and_once() {
    let mut server = Server::start();
    let smtp = Smtp::start(&server, "plain", ("", ""), 0);
    let everything = json!({ "EmailReportingOptions": [{
        "EmailReportConfig": { "ReportType": 0, "SummaryFrequency": [], "Filter": { "ClauseType": "and" } },
        "LanguageCode": "fr_FR", "LocalTimezone": "Europe/Paris", "Recipients": ["chief@example.com"],
    }] });
    set(&server, &options(smtp.port, &everything));
    add_account(&server, USER, |p| {
        p["Emails"] = json!(["dora@example.com", "quiet@example.com", "failures@example.com"]);
        p["SendEmailReports"] = json!(true);
        p["LanguageCode"] = json!("de_DE");
        p["LocalTimezone"] = json!("Asia/Tokyo");
        let only_failures = json!({ "Reports": [{ "ReportType": 0, "SummaryFrequency": [], "Filter": {
            "ClauseType": "", "RuleField": "BackupJobDetail.Status", "RuleOperator": "int_gte", "RuleValue": "7000",
        } }] });
        p["OverrideEmailSettings"] =
            json!({ "quiet@example.com": { "Reports": [] }, "failures@example.com": only_failures });
    });
    let device = Device::start(&server, "laptop");
    let folder = server.work_dir.join("files");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a"), "some text").unwrap();
    device.add_item(&server, "papers", "engine1/file", &json!({ "INCLUDE1": folder }));
    device.add_item(
        &server,
        "lost",
        "engine1/file",
        &json!({ "INCLUDE1": "/nowhere/at/all" }),
    );
    device.add_bucket(&server, "vault");
    device.back_up(&server, "papers", "vault");
    let text = smtp.mail("dora@example.com", "Ergebnis");
    for words in [
        "Subject: Encke: Erfolg - papers (dora)",
        "Geschütztes Element",
        "text/html",
        "Protokoll",
        "Asia/Tokyo",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let text = smtp.mail("chief@example.com", "papers");
    assert!(text.contains("Réussite") && text.contains("Journal"), "{text}");
    let failed = crate::support::device::ended(&server, &device.backup(&server, "lost", "vault"));
    assert!(failed["Status"].as_i64().unwrap() >= 7000, "{failed}");
    smtp.mail("failures@example.com", "lost");
    smtp.mail("dora@example.com", "lost");
    smtp.mail("chief@example.com", "lost");
    // A preview shows the newest job that it would tell of, without sending anything.
    let report = json!({ "ReportType": 0, "SummaryFrequency": [], "Filter": {
        "ClauseType": "", "RuleField": "BackupJobDetail.Status", "RuleOperator": "int_eq", "RuleValue": "5000" } });
    let preview = |report: &Value| {
        let fields = [("TargetUser", USER), ("EmailReportConfig", &report.to_string())];
        server.call("/api/v1/admin/preview-user-email-report", &fields)
    };
    let shown = preview(&report);
    assert_eq!(shown["Status"], 200, "{shown}");
    assert_eq!(shown["EmailSubject"], "Encke: Erfolg - papers (dora)");
    assert_eq!(
        (&shown["From"], &shown["To"]),
        (
            &json!("Our Backup <backup@example.com>"),
            &json!(["dora@example.com"])
        )
    );
    assert!(
        shown["EmailBodyHTML"]
            .as_str()
            .unwrap()
            .contains("Geschütztes Element")
    );
    for (kind, words) in [(1, "Übersicht"), (2, "nach Ergebnis"), (3, "Jüngste Aktivität")] {
        let shown = preview(
            &json!({ "ReportType": kind, "SummaryFrequency": [], "Filter": { "ClauseType": "and" } }),
        );
        let text = shown["EmailBodyPlaintext"]
            .as_str()
            .unwrap_or_else(|| panic!("{shown}"));
        assert!(shown["EmailSubject"].as_str().unwrap().contains(words), "{shown}");
        assert!(text.contains("papers") && text.contains("lost"), "{text}");
    }
    let wrong = json!({ "ReportType": 1, "SummaryFrequency": [], "Filter": { "ClauseType": "xor" } });
    assert_eq!(preview(&wrong)["Status"], 400);
    // A restart tells of nothing again.
    until("the queue to be empty", || {
        (version(&server)["EmailsWaitingInQueue"] == 0).then_some(())
    });
    let before = smtp.mails().len();
    server.kill();
    server.restart_here();
    device.add_item(
        &server,
        "hinterland",
        "engine1/file",
        &json!({ "INCLUDE1": folder }),
    );
    device.back_up(&server, "hinterland", "vault");
    smtp.mail("chief@example.com", "hinterland");
    smtp.mail("dora@example.com", "hinterland");
    assert_eq!(smtp.mails().len(), before + 2);
    assert!(
        !smtp
            .mails()
            .iter()
            .any(|m| m["to"] == json!(["quiet@example.com"]))
    );
}

#[test]
fn scheduled_reports_come_once_each_time_also_from_two_servers() {
    let database = postgres::database();
    let mut one = Server::start_on(&database);
    let two = Server::start_beside(&one);
    let smtp = Smtp::start(&one, "plain", ("", ""), 0);
    // Every five seconds, each put off by up to four.
    let schedule = json!({ "FrequencyType": 8015, "SecondsPast": 5, "Offset": 0, "RestrictRuntime": false, "FromTime": {},
        "ToTime": {}, "RestrictDays": false, "DaysSelect": {}, "RandomDelaySecs": 4, "SelectedMonth": 0, "SelectedDay": 0 });
    let report = json!({ "ReportType": 1, "SummaryFrequency": [schedule], "TimeSpan": { "FrequencyType": 8011, "Seconds": 86400 },
        "Filter": { "ClauseType": "and" } });
    set(&two, &options(smtp.port, &json!({})));
    let name = "erin";
    add_account(&two, name, |p| {
        p["Emails"] = json!(["erin@example.com"]);
        p["SendEmailReports"] = json!(true);
        p["OverrideEmailSettings"] = json!({ "erin@example.com": { "Reports": [report] } });
    });
    until("three reports", || (smtp.mails().len() >= 3).then_some(()));
    one.kill();
    let before = smtp.mails().len();
    until("the other server to take over", || {
        (smtp.mails().len() >= before + 3).then_some(())
    });
    // Each time of the schedule once.
    let times: Vec<String> = smtp
        .mails()
        .iter()
        .map(|m| {
            let text = plain(m["data"].as_str().unwrap());
            text.lines()
                .find(|l| l.contains("from "))
                .unwrap()
                .trim()
                .to_string()
        })
        .collect();
    let distinct: std::collections::HashSet<&String> = times.iter().collect();
    assert_eq!(times.len(), distinct.len(), "{times:?}");
    let second = |time: &&String| -> u32 { time.rsplit_once(':').unwrap().1[..2].parse().unwrap() };
    assert!(
        times.iter().any(|t| second(&t) % 5 != 0),
        "none was put off: {times:?}"
    );
    assert!(
        version(&two)["ScheduledEmailThreadLastWakeTime"]
            .as_i64()
            .unwrap()
            > 0
    );
}

#[test]
fn tenants_have_their_own_sender_reports_and_users() {
    let mut server = Server::start();
    let smtp = Smtp::start(&server, "plain", ("", ""), 0);
    for (id, email) in [
        (
            "acme",
            json!({ "Mode": "", "FromEmail": "hello@acme.example", "FromName": "" }),
        ),
        ("dull", json!({ "Mode": "disabled" })),
    ] {
        let organization = json!({ "Name": id, "Hosts": [format!("{id}.example.com")], "Email": email });
        let fields = [
            ("OrganizationID", id),
            ("Organization", &organization.to_string()),
        ];
        let made = server.call("/api/v1/admin/organization/set", &fields);
        assert_eq!(made["Status"], 200, "{made}");
    }
    let text = [("Subject", "Hello"), ("Content", "To you all")];
    let off = server.call("/api/v1/admin/bulletin/submit", &text);
    assert_eq!(off["Status"], 400, "nothing can be sent yet: {off}");
    set(&server, &options(smtp.port, &json!({})));
    server.stop();
    configure(&server.data_dir, |config| {
        for (name, id, may) in [
            ("ann", "acme", true),
            ("bob", "acme", false),
            ("dan", "dull", true),
        ] {
            let admin = json!({ "Username": name, "OrganizationID": id, "Password": "long enough", "PasswordFormat": 0,
                "AllowPasswordLogin": true, "Permissions": { "AllowEditEmailOptions": may } });
            config.admin_users.push(serde_json::from_value(admin).unwrap());
        }
    });
    server.restart();
    let as_admin = |name: &str, id: &str, path: &str, fields: &[(&str, &str)]| {
        let mut all = vec![
            ("Username", name),
            ("AuthType", "Password"),
            ("Password", "long enough"),
        ];
        all.extend(fields);
        server.post_to_host(&format!("{id}.example.com"), path, &all)
    };
    let own = as_admin("ann", "acme", GET, &[]);
    assert_eq!(
        (&own["FromEmail"], &own["Mode"]),
        (&json!("hello@acme.example"), &json!(""))
    );
    assert_eq!(
        own["SMTPHost"],
        Value::Null,
        "the top level's server is not shown"
    );
    let fields = [("TargetUser", "amy"), ("TargetPassword", "long enough")];
    let made = as_admin("ann", "acme", "/api/v1/admin/add-user", &fields);
    assert_eq!(made["Status"], 200, "{made}");
    edit(&server, "amy", |p| {
        p["Emails"] = json!(["amy@acme.example", "AMY@acme.example"]);
    });
    add_account(&server, "top", |p| p["Emails"] = json!(["top@example.com"]));
    let sent = as_admin("ann", "acme", "/api/v1/admin/bulletin/submit", &text);
    assert_eq!(sent["Status"], 200, "{sent}");
    let got = smtp.mail("amy@acme.example", "To you all");
    assert!(got.contains("From: Our Backup <hello@acme.example>"), "{got}");
    assert_eq!(
        as_admin("dan", "dull", "/api/v1/admin/bulletin/submit", &text)["Status"],
        400
    );
    assert_eq!(as_admin("bob", "acme", GET, &[])["Status"], 403);
    assert_eq!(
        as_admin("bob", "acme", "/api/encke/v1/email/list", &[])["Status"],
        403
    );
    let listed = as_admin("ann", "acme", "/api/encke/v1/email/list", &[]);
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(server.call("/api/v1/admin/bulletin/submit", &text)["Status"], 200);
    smtp.mail("top@example.com", "To you all");
    // A report about the tenant alone, and none about another one.
    let report = json!({
        "EmailReportConfig": { "ReportType": 1, "SummaryFrequency": [], "Filter": { "ClauseType": "and" } },
        "LanguageCode": "es_ES", "LocalTimezone": "", "Recipients": ["boss@acme.example"],
    })
    .to_string();
    let path = "/api/v1/admin/meta/send-test-report";
    let sent = as_admin("ann", "acme", path, &[("EmailReportingOption", &report)]);
    assert_eq!(sent["Status"], 200, "{sent}");
    smtp.mail("boss@acme.example", "Resumen de copias");
    let foreign = [
        ("EmailReportingOption", report.as_str()),
        ("TargetOrganization", "dull"),
    ];
    assert_eq!(as_admin("ann", "acme", path, &foreign)["Status"], 403);
    let preview = [("TargetUser", "top"), ("EmailReportConfig", "{\"ReportType\":1}")];
    assert_eq!(
        as_admin("ann", "acme", "/api/v1/admin/preview-user-email-report", &preview)["Status"],
        404
    );
    until("the queue to be empty", || {
        (version(&server)["EmailsWaitingInQueue"] == 0).then_some(())
    });
    assert_eq!(smtp.mails().len(), 3, "one address, one mail");
}

#[test]
fn a_saved_report_goes_by_mail_once_each_time_and_by_a_link_when_it_is_large() {
    let mut server = Server::start();
    let smtp = Smtp::start(&server, "plain", ("", ""), 0);
    let ask = |server: &Server, name: &str, fields: &[(&str, &str)]| {
        server.call(&format!("/api/encke/v1/reports/{name}"), fields)
    };
    let sample = |rows: &str| {
        let saved = ask(&server, "save-sample", &[("Size", rows), ("Seed", "1")]);
        saved["ReportID"]
            .as_str()
            .unwrap_or_else(|| panic!("{saved}"))
            .to_string()
    };
    let (small, large) = (sample("185"), sample("200000"));
    let every = |seconds: u32| json!([{ "FrequencyType": 8015, "SecondsPast": seconds }]).to_string();
    let fields = |report: &str, to: &str, seconds: u32| {
        [
            ("ReportID", report.to_string()),
            ("Schedules", every(seconds)),
            ("Recipients", to.to_string()),
            ("Format", "csv".to_string()),
        ]
    };
    let save = |server: &Server, fields: &[(&str, String)]| {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (*k, v.as_str())).collect();
        ask(server, "save-schedule", &fields)
    };
    // Without a mail server nothing is promised; nor to what is no address.
    assert_eq!(save(&server, &fields(&small, "a@example.com", 5))["Status"], 400);
    set(&server, &options(smtp.port, &json!({})));
    assert_eq!(save(&server, &fields(&small, "nobody", 5))["Status"], 400);
    assert_eq!(
        save(&server, &fields("unknown", "a@example.com", 5))["Status"],
        404
    );
    let saved = save(&server, &fields(&small, "a@example.com", 5));
    assert_eq!(saved["Status"], 200, "{saved}");

    // The file is in the mail as the export has it.
    let attached = |mail: &Value| {
        let script = "import email,email.policy,sys,hashlib\n\
            m=email.message_from_bytes(sys.stdin.buffer.read(),policy=email.policy.default)\n\
            [print(p.get_filename(), len(p.get_content().splitlines())) for p in m.iter_attachments()]";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let data = mail["data"].as_str().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), data.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    until("two mails", || (smtp.mails().len() >= 2).then_some(()));
    let file = attached(&smtp.mails()[0]);
    assert!(file.trim().ends_with(".csv 186"), "{file}");

    // Killed and started again it goes on, and repeats none: each mail has an id of its own.
    server.kill();
    server.restart();
    let before = smtp.mails().len();
    until("more mails after the restart", || {
        (smtp.mails().len() >= before + 2).then_some(())
    });
    let ids: Vec<String> = smtp
        .mails()
        .iter()
        .map(|m| {
            let text = plain(m["data"].as_str().unwrap());
            text.lines()
                .find(|l| l.starts_with("Message-ID"))
                .unwrap()
                .to_string()
        })
        .collect();
    let distinct: std::collections::HashSet<&String> = ids.iter().collect();
    assert_eq!(ids.len(), distinct.len(), "{ids:?}");
    let id = saved["ScheduleID"].as_str().unwrap();
    let listed = ask(&server, "list-schedules", &[]);
    assert!(
        listed[0]["Sent"].as_i64().unwrap() > 0 && listed[0]["Problem"] == "",
        "{listed}"
    );
    assert_eq!(
        ask(&server, "delete-schedule", &[("ScheduleID", id)])["Status"],
        200
    );
    assert_eq!(ask(&server, "list-schedules", &[]), json!([]));

    // A large one is fetched by whoever got the mail, until the report is deleted.
    let saved = save(&server, &fields(&large, "b@example.com", 86_400));
    let id = saved["ScheduleID"].as_str().unwrap();
    assert_eq!(ask(&server, "send-now", &[("ScheduleID", id)])["Status"], 200);
    let text = smtp.mail("b@example.com", "/api/public/files/");
    let link = text.lines().find(|l| l.starts_with("http")).unwrap();
    let get = || crate::support::http().get(link).call().unwrap();
    let lines = get()
        .body_mut()
        .with_config()
        .limit(1 << 30)
        .read_to_string()
        .unwrap()
        .lines()
        .count();
    assert_eq!(lines, 200_001);
    assert_eq!(ask(&server, "delete", &[("ReportID", &large)])["Status"], 200);
    assert_eq!(get().status(), 404);
    assert_eq!(ask(&server, "list-schedules", &[]), json!([]));
}
