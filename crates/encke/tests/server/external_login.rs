//! Log-in of administrators by other systems (reference, section 23): a real directory (slapd) and a real OpenID Connect
//! provider (oidc-provider).

use crate::support::directory::{BASE, Directory, SEARCHER};
use crate::support::services::Service;
use crate::support::{Server, TRUSTED, code};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

const GET: &str = "/api/v1/admin/external-auth-sources/get";
const SET: &str = "/api/v1/admin/external-auth-sources/set";
const NEW: &str = "/api/v1/admin/external-auth-sources/new";
const DELETE: &str = "/api/v1/admin/external-auth-sources/delete";
const TEST: &str = "/api/encke/v1/external-auth-sources/test";
const START: &str = "/api/v1/admin/account/session-start";
const PROPERTIES: &str = "/api/v1/admin/account/properties";
const UPGRADE: &str = "/api/v1/admin/account/session-upgrade";

const PEOPLE: [(&str, &str, &str); 4] = [
    ("anna", "anna-secret", "backup"),
    ("berta", "berta-secret", "backup"),
    ("carl", "carl-secret", "sales"),
    ("ursula", "directory-secret", "backup"),
];

fn directory_source(directory: &Directory) -> Value {
    json!({
        "Type": "ldap", "Description": "Directory",
        "NewUserPermissions": { "PreventServerShutdown": true },
        "LDAP": {
            "Hostname": "localhost", "Port": directory.port, "SecurityMethod": "plain", "AcceptInvalidSSL": false,
            "FallbackServers": [], "BindUser": SEARCHER.0, "BindPassword": SEARCHER.1,
            "SearchDN": format!("ou=people,{BASE}"),
            "SearchFilter": "(&(employeeType=backup)(|(uid=%{USER})(mail=%{USER})))",
        },
    })
}

fn save(server: &Server, id: &str, source: &Value) -> Value {
    server.call(SET, &[("Sources", &json!({ id: source }).to_string())])
}

fn log_in(server: &Server, name: &str, password: &str) -> Value {
    server.post(
        START,
        &[
            ("Username", name),
            ("AuthType", "Password"),
            ("Password", password),
        ],
    )
}

fn by_session(server: &Server, path: &str, key: &str, fields: &[(&str, &str)]) -> Value {
    let mut all = vec![
        ("Username", "any"),
        ("AuthType", "SessionKey"),
        ("SessionKey", key),
    ];
    all.extend_from_slice(fields);
    server.post(path, &all)
}

fn admins(server: &Server) -> Vec<Value> {
    let all = server.call("/api/v1/admin/admin-user/list", &[]);
    all.as_array().unwrap().clone()
}

fn admin(server: &Server, name: &str) -> Value {
    let found = admins(server).into_iter().find(|a| a["Username"] == name);
    found.unwrap_or_else(|| panic!("there is no {name}"))
}

/// Gives an administrator one-time codes as the only way in, and answers their secret.
fn require_codes(server: &Server, key: &str) -> String {
    let made = by_session(server, "/api/v1/admin/account/regenerate-totp", key, &[]);
    let secret = made["URL"].as_str().unwrap().split("secret=").nth(1).unwrap();
    let secret = secret.split('&').next().unwrap().to_string();
    let mut security = by_session(server, PROPERTIES, key, &[])["Security"].clone();
    security["AllowPasswordLogin"] = false.into();
    security["AllowPasswordAndTOTPLogin"] = true.into();
    let fields = [("Security", &*security.to_string())];
    let set = by_session(server, "/api/v1/admin/account/set-properties", key, &fields);
    assert_eq!(set["Status"], 200, "{set}");
    secret
}

#[test]
fn a_directory_lets_its_people_in_and_nobody_else() {
    let directory = Directory::start(&PEOPLE);
    let server = Server::start();
    let made = server.call(
        NEW,
        &[
            ("Source", &directory_source(&directory).to_string()),
            ("SourceID", "company"),
        ],
    );
    assert_eq!(
        (&made["Status"], &made["ID"]),
        (&200.into(), &"company".into()),
        "{made}"
    );

    // The secret is shown to nobody, and does not stand in the store.
    let shown = server.call(GET, &[]);
    assert_eq!(shown["company"]["LDAP"]["BindPassword"], "********");
    assert_eq!(made["Source"], shown["company"]);
    assert_eq!(shown["company"]["LDAP"]["SearchDN"], format!("ou=people,{BASE}"));
    let config = server.call("/api/v1/admin/meta/server-config/get", &[]);
    assert_eq!(config["ExternalAdminUserSources"], shown);
    assert_eq!(save(&server, "company", &shown["company"])["Status"], 200);
    for file in ["encke.db", "encke.db-wal"] {
        let stored = std::fs::read(server.data_dir.join(file)).unwrap_or_default();
        let secret = SEARCHER.1.as_bytes();
        assert!(!stored.windows(secret.len()).any(|w| w == secret), "{file}");
    }

    // Local accounts win on the name.
    let added = server.call(
        "/api/v1/admin/admin-user/new",
        &[("TargetUser", "berta"), ("TargetPassword", "local-secret")],
    );
    assert_eq!(added["Status"], 200);
    server.call(
        "/api/v1/admin/add-user",
        &[("TargetUser", "ursula"), ("TargetPassword", "user-secret")],
    );
    for (name, password) in [
        ("anna", "berta-secret"),
        ("anna", ""),
        ("*", "anna-secret"),
        ("anna)(uid=*", "anna-secret"),
        ("nobody", "anna-secret"),
        // Known there, and not one of those that the filter finds.
        ("carl", "carl-secret"),
        ("berta", "berta-secret"),
        ("searcher", SEARCHER.1),
    ] {
        let answer = log_in(&server, name, password);
        assert_eq!(answer["Status"], 403, "{name}: {answer}");
    }
    assert_eq!(admins(&server).len(), 2);
    assert_eq!(log_in(&server, "berta", "local-secret")["Status"], 200);

    let entered = log_in(&server, "anna", "anna-secret");
    assert_eq!(entered["SessionType"], "admin", "{entered}");
    let key = entered["SessionKey"].as_str().unwrap();
    let made = admin(&server, "anna");
    assert_eq!(made["ExternalAuthenticationSource"], "company");
    assert_eq!(made["Permissions"], json!({ "PreventServerShutdown": true }));
    let refused = by_session(&server, "/api/v1/admin/meta/shutdown-service", key, &[]);
    assert_eq!(refused["Status"], 403, "{refused}");

    // The same person by another spelling or address is the same administrator; SDKs send the password with each call.
    for name in ["anna", "ANNA", "anna@example.com", " anna "] {
        let fields = [
            ("Username", name),
            ("AuthType", "Password"),
            ("Password", "anna-secret"),
        ];
        let own = server.post(PROPERTIES, &fields);
        assert_eq!(own["Permissions"]["PreventServerShutdown"], true, "{name}: {own}");
    }
    assert_eq!(admins(&server).len(), 3);

    // An end user's name is the end user's, also where both could be meant.
    let hybrid = |name, password| {
        let fields = [
            ("Username", name),
            ("AuthType", "Password"),
            ("Password", password),
        ];
        server.post("/api/v1/hybrid/session/start", &fields)
    };
    assert_eq!(hybrid("ursula", "user-secret")["SessionType"], "user");
    assert_eq!(hybrid("ursula", "directory-secret")["Status"], 403);
    assert_eq!(hybrid("anna", "anna-secret")["SessionType"], "admin");

    // There is no password here to change, and a second factor of this server can be asked for beside the directory's.
    let security = json!({ "PasswordFormat": 0, "Password": "mine", "AllowPasswordLogin": true });
    let fields = [("Security", &*security.to_string()), ("Password", "anna-secret")];
    let changed = by_session(&server, "/api/v1/admin/account/set-properties", key, &fields);
    assert_eq!(changed["Status"], 400, "{changed}");
    let secret = require_codes(&server, key);
    let asked = log_in(&server, "anna", "anna-secret");
    assert_eq!(asked["Status"], 449, "{asked}");
    assert_eq!(log_in(&server, " ANNA", "anna-secret")["Status"], 449);
    assert_eq!(log_in(&server, "anna", "wrong")["Status"], 403);
    let whole = [
        ("Username", "anna"),
        ("AuthType", "PasswordTOTP"),
        ("Password", "anna-secret"),
        ("TOTP", &*code(&secret, 0)),
    ];
    assert_eq!(server.post(START, &whole)["Status"], 200);

    // The session lives as long as the source does.
    assert_eq!(by_session(&server, PROPERTIES, key, &[])["OrganizationID"], "");
    assert_eq!(server.call(DELETE, &[("SourceID", "company")])["Status"], 200);
    assert_eq!(by_session(&server, PROPERTIES, key, &[])["Status"], 403);
    assert_eq!(log_in(&server, "anna", "anna-secret")["Status"], 403);
    assert_eq!(server.call(DELETE, &[("SourceID", "company")])["Status"], 404);
    assert_eq!(admin(&server, "anna")["ExternalAuthenticationSource"], "company");
}

#[test]
fn a_directory_is_bound_to_in_three_ways_and_searched_for_one() {
    let directory = Directory::start(&PEOPLE);
    let server = Server::start();
    let with = |change: &Value| {
        let mut source = directory_source(&directory);
        let ldap = source["LDAP"].as_object_mut().unwrap();
        ldap.extend(change.as_object().unwrap().clone());
        source
    };
    let dn = format!("cn=Entry of %{{USER}},ou=people,{BASE}");
    for (way, source) in [
        ("nobody", with(&json!({ "BindUser": "", "BindPassword": "" }))),
        (
            "who logs in",
            with(&json!({ "BindUser": dn, "BindPassword": "%{PASS}" })),
        ),
        (
            "the entry itself",
            with(
                &json!({ "BindUser": "", "BindPassword": "", "SearchDN": dn, "SearchFilter": "(objectClass=*)" }),
            ),
        ),
    ] {
        assert_eq!(save(&server, "company", &source)["Status"], 200, "{way}");
        assert_eq!(log_in(&server, "anna", "anna-secret")["Status"], 200, "{way}");
        assert_eq!(log_in(&server, "anna", "wrong")["Status"], 403, "{way}");
        assert_eq!(
            log_in(&server, "anna,ou=people", "anna-secret")["Status"],
            403,
            "{way}"
        );
    }
    let shown = &server.call(GET, &[])["company"];
    assert_eq!(shown["LDAP"]["SearchFilter"], "(objectClass=*)");

    // One hit and no more: with a filter that finds several, nobody gets in.
    let several = with(&json!({ "SearchFilter": "(|(uid=%{USER})(employeeType=backup))" }));
    assert_eq!(save(&server, "company", &several)["Status"], 200);
    assert_eq!(log_in(&server, "anna", "anna-secret")["Status"], 403);

    // What can not work is refused when it is saved.
    for (wrong, why) in [
        (with(&json!({ "SearchFilter": "(uid=%{USER}" })), "SearchFilter"),
        (with(&json!({ "SearchFilter": "(uid=anna)" })), "SearchFilter"),
        (
            with(&json!({ "SearchFilter": "(userPassword=%{PASS}%{USER})" })),
            "BindPassword",
        ),
        (with(&json!({ "Hostname": "" })), "Hostname"),
        (with(&json!({ "Hostname": "ldap://localhost" })), "Hostname"),
        (with(&json!({ "SecurityMethod": "ssl" })), "SecurityMethod"),
        (with(&json!({ "Port": 70_000 })), "Port"),
        (json!({ "Type": "b2" }), "Type"),
    ] {
        let answer = save(&server, "company", &wrong);
        assert_eq!(answer["Status"], 400, "{wrong}: {answer}");
        assert!(answer["Message"].as_str().unwrap().contains(why), "{answer}");
    }
    assert_eq!(
        server.call(GET, &[])["company"]["LDAP"]["SearchFilter"],
        several["LDAP"]["SearchFilter"]
    );

    // A secret does not follow to another server.
    let mut elsewhere = server.call(GET, &[])["company"].clone();
    elsewhere["LDAP"]["Hostname"] = "ldap.example.net".into();
    let answer = save(&server, "company", &elsewhere);
    assert_eq!(answer["Status"], 400, "{answer}");

    // Trying it out says what is wrong, and changes nothing.
    let good = directory_source(&directory).to_string();
    assert_eq!(server.call(TEST, &[("Source", &good)])["Status"], 200);
    let tried = |name, password| {
        let fields = [("Source", &*good), ("TestUser", name), ("TestPassword", password)];
        server.call(TEST, &fields)
    };
    assert_eq!(tried("anna", "anna-secret")["Status"], 200);
    assert_eq!(tried("anna", "wrong")["Status"], 403);
    assert_eq!(tried("carl", "carl-secret")["Status"], 403);
    let wrong = with(&json!({ "BindPassword": "wrong" })).to_string();
    let answer = server.call(TEST, &[("Source", &wrong)]);
    assert_eq!(answer["Status"], 502, "{answer}");
    assert!(
        answer["Message"].as_str().unwrap().contains("BindUser"),
        "{answer}"
    );
    let saved = server.call(GET, &[])["company"].to_string();
    let fields = [("Source", &*saved), ("SourceID", "company")];
    assert_eq!(server.call(TEST, &fields)["Status"], 200);
    assert_eq!(server.call(TEST, &[("Source", &*saved)])["Status"], 400);
}

#[test]
fn a_directory_is_reached_by_tls_and_by_the_server_that_is_there() {
    let directory = Directory::start(&PEOPLE);
    let server = Server::start_prepared(|data_dir| {
        std::fs::copy(&directory.authority, data_dir.with_file_name(TRUSTED)).unwrap();
    });
    let doubting = Server::start();
    for (method, port) in [("ldaps", directory.tls_port), ("starttls", directory.port)] {
        let mut source = directory_source(&directory);
        source["LDAP"]["SecurityMethod"] = method.into();
        source["LDAP"]["Port"] = port.into();
        assert_eq!(save(&server, "company", &source)["Status"], 200);
        assert_eq!(log_in(&server, "anna", "anna-secret")["Status"], 200, "{method}");
        assert_eq!(log_in(&server, "anna", "wrong")["Status"], 403, "{method}");

        // Whose certificate nobody vouches for does not get a password.
        assert_eq!(save(&doubting, "company", &source)["Status"], 200);
        // She is told why only where she was let in before: at first her name is one like any other.
        let answer = log_in(&doubting, "anna", "anna-secret");
        let unseen = method == "ldaps";
        assert_eq!(
            answer["Status"],
            if unseen { 403 } else { 503 },
            "{method}: {answer}"
        );
        // Nor does one that is certified as another host.
        source["LDAP"]["Hostname"] = "127.0.0.1".into();
        assert_eq!(save(&server, "company", &source)["Status"], 200);
        assert_eq!(log_in(&server, "anna", "anna-secret")["Status"], 503, "{method}");
        source["LDAP"]["AcceptInvalidSSL"] = true.into();
        assert_eq!(save(&doubting, "company", &source)["Status"], 200, "{method}");
        assert_eq!(
            log_in(&doubting, "anna", "anna-secret")["Status"],
            200,
            "{method}"
        );
        assert_eq!(save(&server, "none", &json!({ "Type": "ldap" }))["Status"], 400);
    }

    // The first server is away: the next one answers, and says no where it must.
    let away = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut source = directory_source(&directory);
    source["LDAP"]["FallbackServers"] = json!([{
        "Hostname": "localhost", "Port": directory.tls_port, "SecurityMethod": "ldaps", "AcceptInvalidSSL": false,
    }]);
    source["LDAP"]["Port"] = away.into();
    assert_eq!(save(&server, "company", &source)["Status"], 200);
    assert_eq!(log_in(&server, "berta", "berta-secret")["Status"], 200);
    assert_eq!(log_in(&server, "berta", "wrong")["Status"], 403);
    source["LDAP"]["FallbackServers"] = json!([]);
    assert_eq!(save(&server, "company", &source)["Status"], 200);
    // Who came from the directory is told that it is away, however the name is written. Nobody else is: a client with
    // a wrong name must not be told to try again.
    for (name, status) in [("berta", 503), ("Berta", 503), ("nobody", 403), ("carl", 403)] {
        let answer = log_in(&server, name, "berta-secret");
        assert_eq!(answer["Status"], status, "{name}: {answer}");
        let as_user = [
            ("Username", name),
            ("AuthType", "Password"),
            ("Password", "berta-secret"),
        ];
        let answer = server.post("/api/v1/user/web/session/start", &as_user);
        assert_eq!(answer["Status"], 403, "directories know no end users: {answer}");
    }
    // Those of this server get in all the same.
    assert_eq!(log_in(&server, "admin", "admin")["Status"], 200);
}

#[test]
fn guessing_at_a_directory_is_slowed_down() {
    let directory = Directory::start(&PEOPLE);
    let server = Server::start();
    assert_eq!(
        save(&server, "company", &directory_source(&directory))["Status"],
        200
    );
    let statuses: Vec<i64> = (0..12)
        .map(|_| log_in(&server, "anna", "guess")["Status"].as_i64().unwrap())
        .collect();
    assert!(statuses[..10].iter().all(|s| *s == 403), "{statuses:?}");
    assert_eq!(&statuses[10..], [429, 429]);
    assert_eq!(log_in(&server, "berta", "berta-secret")["Status"], 200);
}

/// Calls as an administrator of a tenant, whom the host name tells.
fn at(server: &Server, host: &str, path: &str, name: &str, password: &str, fields: &[(&str, &str)]) -> Value {
    let mut all = vec![
        ("Username", name),
        ("AuthType", "Password"),
        ("Password", password),
    ];
    all.extend_from_slice(fields);
    server.post_to_host(host, path, &all)
}

#[test]
fn a_tenant_has_sources_of_its_own() {
    let directory = Directory::start(&PEOPLE);
    let mut server = Server::start();
    for tenant in ["north", "south"] {
        let organization = json!({ "Name": tenant, "Hosts": [format!("{tenant}.test")] }).to_string();
        let fields = [("OrganizationID", tenant), ("Organization", &*organization)];
        assert_eq!(
            server.call("/api/v1/admin/organization/set", &fields)["Status"],
            200
        );
        let fields = [
            ("TargetUser", "boss"),
            ("TargetPassword", tenant),
            ("TargetOrgID", tenant),
        ];
        assert_eq!(
            server.call("/api/v1/admin/admin-user/new", &fields)["Status"],
            200
        );
    }
    // Nobody said that they may.
    let refused = at(&server, "north.test", GET, "boss", "north", &[]);
    assert_eq!(refused["Status"], 403);
    server.stop();
    crate::support::configure(&server.data_dir, |config| {
        for boss in config.admin_users.iter_mut().filter(|a| a.username == "boss") {
            boss.permissions.allow_edit_external_auth_sources = true;
            boss.permissions.prevent_delete_storage_vault = true;
        }
    });
    server.restart();
    let north =
        |path: &str, fields: &[(&str, &str)]| at(&server, "north.test", path, "boss", "north", fields);
    let south =
        |path: &str, fields: &[(&str, &str)]| at(&server, "south.test", path, "boss", "south", fields);

    let mut source = directory_source(&directory);
    let new = |source: &Value| north(NEW, &[("Source", &source.to_string()), ("SourceID", "n")]);
    // Nobody can make a stronger twin of oneself.
    for more in [
        json!({}),
        json!({ "PreventDeleteStorageVault": true, "AllowEditBranding": true }),
    ] {
        source["NewUserPermissions"] = more;
        let answer = new(&source);
        assert_eq!(answer["Status"], 403, "{answer}");
        assert!(
            answer["Message"]
                .as_str()
                .unwrap()
                .starts_with("NewUserPermissions"),
            "{answer}"
        );
    }
    source["NewUserPermissions"] = json!({ "PreventDeleteStorageVault": true });
    source["OIDC"] = json!({ "OrganizationID": "south" });
    assert_eq!(new(&source)["Status"], 403);
    source.as_object_mut().unwrap().remove("OIDC");
    let made = new(&source);
    assert_eq!(made["Source"]["OIDC"]["OrganizationID"], "north", "{made}");
    assert_eq!(new(&source)["Status"], 409);

    // Others neither see nor touch it, and the top level does.
    assert_eq!(south(GET, &[]), json!({}));
    assert_eq!(south(DELETE, &[("SourceID", "n")])["Status"], 404);
    assert_eq!(
        south(NEW, &[("Source", &source.to_string()), ("SourceID", "n")])["Status"],
        409
    );
    let taken = south(SET, &[("Sources", &json!({ "n": source }).to_string())]);
    assert_eq!(taken["Status"], 403, "{taken}");
    assert_eq!(south(SET, &[("Sources", "{}")])["Status"], 200);
    assert_eq!(server.call(GET, &[])["n"]["Type"], "ldap");
    let names: Vec<String> = north(GET, &[]).as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["n"]);

    // It lets people in at its own host alone.
    let entered = at(&server, "north.test", START, "anna", "anna-secret", &[]);
    assert_eq!(entered["Status"], 200, "{entered}");
    assert_eq!(
        at(&server, "south.test", START, "anna", "anna-secret", &[])["Status"],
        403
    );
    assert_eq!(log_in(&server, "anna", "anna-secret")["Status"], 403);
    assert_eq!(admin(&server, "anna")["OrganizationID"], "north");
    let key = entered["SessionKey"].as_str().unwrap();
    assert_eq!(
        by_session(&server, PROPERTIES, key, &[])["OrganizationID"],
        "north"
    );
    let fields = [("OrganizationID", "north")];
    assert_eq!(
        server.call("/api/v1/admin/organization/delete", &fields)["Status"],
        200
    );
    assert_eq!(by_session(&server, PROPERTIES, key, &[])["Status"], 403);
    assert_eq!(server.call(GET, &[]), json!({}));
}

/// Somebody at a browser: curl with cookies.
struct Browser<'a> {
    jar: PathBuf,
    server: &'a Server,
}

impl<'a> Browser<'a> {
    fn new(server: &'a Server, name: &str) -> Self {
        let jar = server.work_dir.join(name);
        Self { jar, server }
    }

    /// Headers and body of the answers, of all steps of a way.
    fn curl(&self, arguments: &[&str]) -> String {
        let output = Command::new("curl")
            .args(["-s", "-i", "-b"])
            .arg(&self.jar)
            .arg("-c")
            .arg(&self.jar)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Where an answer sends the browser.
    fn sent_to(&self, arguments: &[&str]) -> String {
        let answer = self.curl(arguments);
        let line = answer.lines().find_map(|l| {
            l.strip_prefix("location: ")
                .or_else(|| l.strip_prefix("Location: "))
        });
        line.unwrap_or_else(|| panic!("{arguments:?} answered {answer}"))
            .trim()
            .to_string()
    }

    /// Goes to the provider and logs in there. Answers the address that it sends back to.
    fn through(&self, source: &str, name: &str) -> String {
        let start = format!(
            "{}/external-login/{source}?self_address={}/",
            self.server.url, self.server.url
        );
        let mut to = self.sent_to(&[&start]);
        let provider = to[..to.find("/auth").unwrap()].to_string();
        // Log-in, then consent, each with a way back to the provider.
        for form in [
            format!("prompt=login&login={name}&password=any"),
            "prompt=consent".into(),
        ] {
            while !to.contains("/interaction/") {
                if !to.starts_with(&provider) {
                    return to;
                }
                to = self.sent_to(&[&to]);
            }
            let to_form = if to.starts_with('/') {
                format!("{provider}{to}")
            } else {
                to
            };
            to = self.sent_to(&["--data", &form, &to_form]);
        }
        while to.starts_with(&provider) {
            to = self.sent_to(&[&to]);
        }
        to
    }

    /// Follows the address back, and fetches what the console's page would.
    fn back(&self, to: &str) -> Value {
        let page = self.sent_to(&[to]);
        assert_eq!(page, "/sign-in?external=1");
        self.fetch()
    }

    fn fetch(&self) -> Value {
        let answer = self.curl(&[
            "-X",
            "POST",
            &format!("{}/external-login/session", self.server.url),
        ]);
        let body = answer.rsplit_once("\r\n\r\n").unwrap().1;
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{answer}: {e}"))
    }

    fn enter(&self, source: &str, name: &str) -> Value {
        let back = self.through(source, name);
        self.back(&back)
    }
}

fn provider_source(provider: &Service) -> Value {
    json!({
        "Type": "oidc", "Description": "Provider", "NewUserPermissions": { "PreventServerShutdown": true },
        "OIDC": {
            "DisplayName": "Company", "Provider": "oidc", "ClientID": "encke", "ClientSecret": "client-secret",
            "SkipMFA": false, "Scopes": ["openid", "profile", "email", "groups"],
            "RequiredClaims": [{ "Name": "groups", "Value": "backup" }],
            "DiscoveryDocumentURL": format!("{}/.well-known/openid-configuration", provider.url),
        },
    })
}

#[test]
fn a_provider_sends_its_people_back_with_a_session() {
    let server = Server::start();
    let accounts = server.work_dir.join("accounts.json");
    let know = |people: &Value| std::fs::write(&accounts, people.to_string()).unwrap();
    know(&json!({
        "s-1": { "preferred_username": "anna", "groups": ["staff", "backup"] },
        "s-2": { "preferred_username": "carl", "groups": ["sales"] },
        "s-3": { "preferred_username": "admin", "groups": ["backup"] },
    }));
    let redirect = format!("{}/external-login/callback", server.url);
    let provider = Service::oidc(&accounts, ("encke", "client-secret"), &redirect);
    let source = provider_source(&provider);
    assert_eq!(save(&server, "company", &source)["Status"], 200);
    assert_eq!(
        server.call(TEST, &[("Source", &source.to_string())])["Status"],
        200
    );
    assert_eq!(
        server.call(GET, &[])["company"]["OIDC"]["ClientSecret"],
        "********"
    );
    let branding = || -> Value {
        let mut answer = crate::support::http()
            .get(format!("{}/gen/branding.props", server.url))
            .call()
            .unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    };
    let shown = &branding()["ExternalAuthenticationSources"];
    assert_eq!(
        shown,
        &json!([{ "DisplayName": "Company", "LoginStartURL": "/external-login/company" }])
    );

    // There and back. No address on the way holds the key.
    let anna = Browser::new(&server, "anna");
    let back = anna.through("company", "s-1");
    assert!(back.starts_with(&redirect), "{back}");
    let entered = anna.back(&back);
    assert_eq!(
        (&entered["Status"], &entered["Username"]),
        (&200.into(), &"anna".into()),
        "{entered}"
    );
    assert_eq!(entered["Pending"], false);
    let key = entered["SessionKey"].as_str().unwrap();
    assert_eq!(key.len(), 64);
    assert!(!back.contains(key) && !server.log().contains(key));
    let own = by_session(&server, PROPERTIES, key, &[]);
    assert_eq!(own["Permissions"], json!({ "PreventServerShutdown": true }));
    assert_eq!(admin(&server, "anna")["ExternalAuthenticationSource"], "company");
    // It is fetched once, and neither the address nor another browser does it again.
    assert_eq!(anna.fetch()["Status"], 403);
    assert_eq!(anna.back(&back)["Status"], 403);
    let other = Browser::new(&server, "other");
    let elsewhere = Browser::new(&server, "elsewhere").through("company", "s-1");
    assert_eq!(other.back(&elsewhere)["Status"], 403);
    // A browser that began a log-in of its own does not end another's.
    other.through("company", "s-1");
    let mixed = other.back(&elsewhere);
    assert_eq!(mixed["Status"], 403, "{mixed}");
    // No password goes with the name.
    assert_eq!(log_in(&server, "anna", "any")["Status"], 403);

    // Who lacks a claim, or whose name is somebody else's here, does not get in.
    let refused = Browser::new(&server, "carl").enter("company", "s-2");
    assert_eq!(refused["Status"], 403, "{refused}");
    assert!(
        refused["Message"].as_str().unwrap().contains("groups"),
        "{refused}"
    );
    let refused = Browser::new(&server, "impostor").enter("company", "s-3");
    assert!(
        refused["Message"]
            .as_str()
            .unwrap()
            .contains("another administrator"),
        "{refused}"
    );
    assert_eq!(admins(&server).len(), 2);

    // The subject counts: a new name there changes nothing, and does not give the old one to whoever takes it up.
    know(&json!({
        "s-1": { "preferred_username": "anna-new", "groups": ["backup"] },
        "s-4": { "preferred_username": "anna", "groups": ["backup"] },
    }));
    assert_eq!(
        Browser::new(&server, "renamed").enter("company", "s-1")["Username"],
        "anna"
    );
    assert_eq!(
        Browser::new(&server, "taker").enter("company", "s-4")["Status"],
        403
    );

    // A second factor of this server, unless the source says that there is none.
    let secret = require_codes(&server, key);
    let half = Browser::new(&server, "half").enter("company", "s-1");
    assert_eq!(half["Pending"], true, "{half}");
    let pending = half["SessionKey"].as_str().unwrap();
    assert_eq!(by_session(&server, PROPERTIES, pending, &[])["Status"], 449);
    assert_eq!(
        by_session(&server, UPGRADE, pending, &[("TOTP", "000000")])["Status"],
        403
    );
    let lifted = by_session(&server, UPGRADE, pending, &[("TOTP", &code(&secret, 0))]);
    assert_eq!(lifted["Status"], 200, "{lifted}");
    assert_eq!(
        by_session(&server, PROPERTIES, pending, &[])["OrganizationID"],
        ""
    );
    let mut skipping = source.clone();
    skipping["OIDC"]["SkipMFA"] = true.into();
    assert_eq!(save(&server, "company", &skipping)["Status"], 200);
    let whole = Browser::new(&server, "whole").enter("company", "s-1");
    assert_eq!(whole["Pending"], false, "{whole}");

    // Only at some hosts.
    skipping["OIDC"]["Hosts"] = json!(["login.example.com"]);
    assert_eq!(save(&server, "company", &skipping)["Status"], 200);
    assert!(branding().get("ExternalAuthenticationSources").is_none());
    let hidden = Browser::new(&server, "hidden");
    assert_eq!(
        hidden.sent_to(&[&format!("{}/external-login/company", server.url)]),
        "/sign-in?external=1"
    );
    assert_eq!(hidden.fetch()["Status"], 404);

    // Without its source a session ends.
    let key = whole["SessionKey"].as_str().unwrap();
    assert_eq!(by_session(&server, PROPERTIES, key, &[])["OrganizationID"], "");
    assert_eq!(server.call(SET, &[("Sources", "{}")])["Status"], 200);
    assert_eq!(by_session(&server, PROPERTIES, key, &[])["Status"], 403);
}

#[test]
fn a_provider_that_can_not_be_used_says_why() {
    let server = Server::start();
    let accounts = server.work_dir.join("accounts.json");
    std::fs::write(&accounts, "{}").unwrap();
    let redirect = format!("{}/external-login/callback", server.url);
    let provider = Service::oidc(&accounts, ("encke", "another-secret"), &redirect);
    let mut source = provider_source(&provider);
    for (change, why) in [
        (
            json!({ "DiscoveryDocumentURL": "ftp://example.com" }),
            "DiscoveryDocumentURL",
        ),
        (
            json!({ "Provider": "azure-ad-v2", "AzureTenantID": "common" }),
            "AzureTenantID",
        ),
        (
            json!({ "Provider": "google", "RequiredClaims": [] }),
            "GoogleHostedDomain",
        ),
        (json!({ "Provider": "dashboard" }), "dashboard"),
        (json!({ "ClientID": "" }), "ClientID"),
        (json!({ "DisplayName": "" }), "DisplayName"),
        (json!({ "Scopes": ["profile email"] }), "scope"),
        (json!({ "OrganizationID": "nowhere" }), "organization"),
    ] {
        let mut wrong = source.clone();
        wrong["OIDC"]
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let answer = save(&server, "company", &wrong);
        assert_eq!(answer["Status"], 400, "{change}: {answer}");
        assert!(answer["Message"].as_str().unwrap().contains(why), "{answer}");
    }
    // It calls itself otherwise, or is not there: said to whoever tries it out, and not to the world.
    let other = provider.url.replace("127.0.0.1", "localhost");
    source["OIDC"]["DiscoveryDocumentURL"] = other.as_str().into();
    let answer = server.call(TEST, &[("Source", &source.to_string())]);
    assert_eq!(answer["Status"], 502, "{answer}");
    assert!(
        answer["Message"].as_str().unwrap().contains("calls itself"),
        "{answer}"
    );
    assert_eq!(save(&server, "company", &source)["Status"], 200);
    let browser = Browser::new(&server, "away");
    assert_eq!(
        browser.sent_to(&[&format!("{}/external-login/company", server.url)]),
        "/sign-in?external=1"
    );
    assert_eq!(browser.fetch()["Status"], 503);
    // The secret is wrong: the provider refuses the code.
    std::fs::write(
        &accounts,
        json!({ "s-1": { "preferred_username": "anna", "groups": ["backup"] } }).to_string(),
    )
    .unwrap();
    source["OIDC"]["DiscoveryDocumentURL"] = provider.url.as_str().into();
    source["OIDC"]["ClientSecret"] = "client-secret".into();
    assert_eq!(save(&server, "company", &source)["Status"], 200);
    let refused = Browser::new(&server, "refused").enter("company", "s-1");
    assert_eq!(refused["Status"], 403, "{refused}");
    // Nobody there gives in: the way back says so.
    let browser = Browser::new(&server, "cancelled");
    let to = browser.sent_to(&[&format!("{}/external-login/company", server.url)]);
    let state = to.split('&').find_map(|p| p.strip_prefix("state=")).unwrap();
    let refused = browser.back(&format!("{redirect}?error=access_denied&state={state}"));
    assert!(
        refused["Message"].as_str().unwrap().contains("access_denied"),
        "{refused}"
    );
    assert_eq!(admins(&server).len(), 1);
    // A browser that keeps coming back with nothing has to pause.
    let statuses: Vec<i64> = (0..12)
        .map(|_| {
            let to = browser.sent_to(&[&format!("{}/external-login/company", server.url)]);
            let state = to.split('&').find_map(|p| p.strip_prefix("state=")).unwrap();
            let answer = browser.back(&format!("{redirect}?code=guess&state={state}"));
            answer["Status"].as_i64().unwrap()
        })
        .collect();
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
}
