//! Log-in by a directory: bind, search for exactly one entry, bind as that entry with the password (reference,
//! section 23; RFC 4511, RFC 4513 section 5.1).

use encke_api::constants::{LDAPSECURITYMETHOD_LDAPS, LDAPSECURITYMETHOD_PLAIN, LDAPSECURITYMETHOD_STARTTLS};
use encke_api::types::{ExternalLDAPAuthenticationSourceServer, ExternalLDAPAuthenticationSourceSettings};
use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, Scope, SearchEntry, SearchOptions, dn_escape, ldap_escape,
};
use std::time::Duration;

/// Stands for the name that somebody logs in with.
const USER: &str = "%{USER}";
/// Stands for the password that somebody logs in with.
pub(super) const PASS: &str = "%{PASS}";
/// Longest wait for a connection or an answer.
const PATIENCE: Duration = Duration::from_secs(8);
/// Most servers that take over from the first.
const MAX_FALLBACKS: usize = 16;
/// What may hold the name that somebody logs in with, as the directory writes it.
const NAMES: [&str; 5] = ["uid", "sAMAccountName", "userPrincipalName", "mail", "cn"];

/// `invalidCredentials`.
const WRONG: u32 = 49;
/// What a server answers to a bind of somebody who may not log in: constraint violated, inappropriate authentication,
/// wrong credentials, no rights, unwilling, no such object.
const REFUSED: [u32; 6] = [19, 48, WRONG, 50, 53, 32];

/// Why nobody logged in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The name or password is wrong, or the search does not find exactly this person.
    #[error("{0}")]
    Refused(String),
    /// No server can tell.
    #[error("{0}")]
    Unavailable(String),
}

/// Somebody whom the directory knows.
#[derive(Debug)]
pub(super) struct Person {
    /// Distinguished name, in lower case.
    pub dn: String,
    /// The name as the directory writes it.
    pub name: String,
}

/// Says what is wrong with settings.
pub(super) fn check(settings: &ExternalLDAPAuthenticationSourceSettings) -> Result<(), String> {
    if settings.fallback_servers.len() > MAX_FALLBACKS {
        return Err(format!("There are at most {MAX_FALLBACKS} FallbackServers"));
    }
    for server in servers(settings) {
        if server.hostname.is_empty() || server.hostname.contains(['/', '@', '?', '#', ' ']) {
            return Err("Hostname is the name or address of a server, without scheme and port".into());
        }
        url(&server).ok_or("SecurityMethod is ldaps, starttls or plain, and Port at most 65535")?;
    }
    if !settings.search_filter.contains(USER) && !settings.search_dn.contains(USER) {
        return Err(format!(
            "SearchFilter has {USER} where the name of who logs in belongs, such as (uid={USER})"
        ));
    }
    if settings.search_filter.contains(PASS) || settings.search_dn.contains(PASS) {
        return Err(format!("{PASS} belongs into BindPassword alone"));
    }
    ldap3::parse_filter(settings.search_filter.replace(USER, "x")).map_err(|()| {
        "SearchFilter is not a filter such as (&(objectClass=person)(uid=%{USER}))".to_string()
    })?;
    Ok(())
}

/// The servers in the order they are asked.
fn servers(s: &ExternalLDAPAuthenticationSourceSettings) -> Vec<ExternalLDAPAuthenticationSourceServer> {
    let first = ExternalLDAPAuthenticationSourceServer {
        hostname: s.hostname.clone(),
        port: s.port,
        security_method: s.security_method.clone(),
        accept_invalid_ssl: s.accept_invalid_ssl,
        ..Default::default()
    };
    std::iter::once(first)
        .chain(s.fallback_servers.iter().cloned())
        .collect()
}

fn url(server: &ExternalLDAPAuthenticationSourceServer) -> Option<String> {
    let (scheme, default) = match server.security_method.as_str() {
        LDAPSECURITYMETHOD_LDAPS => ("ldaps", 636),
        LDAPSECURITYMETHOD_STARTTLS | LDAPSECURITYMETHOD_PLAIN => ("ldap", 389),
        _ => return None,
    };
    let port = match server.port {
        0 => default,
        n => u16::try_from(n).ok()?,
    };
    let host = &server.hostname;
    let host = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    Some(format!("{scheme}://{host}:{port}"))
}

async fn connect(server: &ExternalLDAPAuthenticationSourceServer) -> Result<Ldap, String> {
    let url = url(server).ok_or("its settings are wrong")?;
    let settings = LdapConnSettings::new()
        .set_conn_timeout(PATIENCE)
        .set_starttls(server.security_method == LDAPSECURITYMETHOD_STARTTLS)
        .set_no_tls_verify(server.accept_invalid_ssl);
    // The library's own time-out ends with the connection; StartTLS and its handshake come after.
    let opened = tokio::time::timeout(PATIENCE, LdapConnAsync::with_settings(settings, &url));
    let (connection, ldap) = opened
        .await
        .map_err(|_| "no answer")?
        .map_err(|e| e.to_string())?;
    tokio::spawn(async move {
        // Its end is seen by whoever waits for an answer.
        let _ = connection.drive().await;
    });
    Ok(ldap)
}

/// The first server that can be reached, and why those before it can not.
async fn connect_any(settings: &ExternalLDAPAuthenticationSourceSettings) -> Result<Ldap, Failure> {
    let mut reasons = Vec::new();
    for server in servers(settings) {
        match connect(&server).await {
            Ok(ldap) => return Ok(ldap),
            Err(why) => {
                tracing::warn!(server = %server.hostname, error = %why, "a directory server can not be reached");
                reasons.push(format!("{}: {why}", server.hostname));
            }
        }
    }
    Err(Failure::Unavailable(format!(
        "The directory can not be reached ({})",
        reasons.join("; ")
    )))
}

/// Binds. A refusal is the caller's where the caller's own name or password is what was tried.
async fn bind(ldap: &mut Ldap, dn: &str, password: &str, is_caller: bool) -> Result<(), Failure> {
    let answer = ldap.with_timeout(PATIENCE).simple_bind(dn, password).await;
    let answer = answer.map_err(|e| Failure::Unavailable(format!("The directory gave no answer: {e}")))?;
    match answer.rc {
        0 => Ok(()),
        rc if is_caller && REFUSED.contains(&rc) => Err(Failure::Refused(
            "The directory refuses the name or the password".into(),
        )),
        rc if REFUSED.contains(&rc) => Err(Failure::Unavailable(format!(
            "The directory refuses BindUser or BindPassword (code {rc} {})",
            answer.text
        ))),
        rc => Err(Failure::Unavailable(format!(
            "The directory answered code {rc} {}",
            answer.text
        ))),
    }
}

/// Connects, and binds as the settings say where that needs nobody's password.
pub(super) async fn try_out(settings: &ExternalLDAPAuthenticationSourceSettings) -> Result<(), Failure> {
    let mut ldap = connect_any(settings).await?;
    if !settings.bind_user.contains(USER) && !settings.bind_password.contains(PASS) {
        bind(&mut ldap, &settings.bind_user, &settings.bind_password, false).await?;
    }
    let _ = ldap.unbind().await;
    Ok(())
}

/// Who somebody is, if the directory knows the name and the password is right.
pub(super) async fn log_in(
    settings: &ExternalLDAPAuthenticationSourceSettings,
    name: &str,
    password: &str,
) -> Result<Person, Failure> {
    // A bind without a password succeeds as nobody in particular (RFC 4513, section 5.1.2).
    if name.is_empty() || password.is_empty() || name.contains('\0') || password.contains('\0') {
        return Err(Failure::Refused("A name and a password are needed".into()));
    }
    let mut ldap = connect_any(settings).await?;
    let found = find(&mut ldap, settings, name, password).await;
    let result = match found {
        // Whatever was bound before: the password must be that of the entry that was found.
        Ok(person) => bind(&mut ldap, &person.0, password, true)
            .await
            .map(|()| person.1),
        Err(e) => Err(e),
    };
    let _ = ldap.unbind().await;
    result
}

async fn find(
    ldap: &mut Ldap,
    settings: &ExternalLDAPAuthenticationSourceSettings,
    name: &str,
    password: &str,
) -> Result<(String, Person), Failure> {
    let as_caller = settings.bind_user.contains(USER) || settings.bind_password.contains(PASS);
    let user = if settings.bind_user.contains('=') {
        dn_escape(name)
    } else {
        name.into()
    };
    let bind_user = settings.bind_user.replace(USER, &user);
    bind(
        ldap,
        &bind_user,
        &settings.bind_password.replace(PASS, password),
        as_caller,
    )
    .await?;
    let base = settings.search_dn.replace(USER, &dn_escape(name));
    let filter = settings.search_filter.replace(USER, &ldap_escape(name));
    // Two are enough to know that it is not one.
    let found = ldap
        .with_timeout(PATIENCE)
        .with_search_options(SearchOptions::new().sizelimit(2))
        .search(&base, Scope::Subtree, &filter, NAMES)
        .await
        .map_err(|e| Failure::Unavailable(format!("The directory gave no answer: {e}")))?;
    let (entries, answer) = (found.0, found.1);
    // No such object, and it was the name that told which.
    if answer.rc == 32 && settings.search_dn.contains(USER) {
        return Err(Failure::Refused("The search finds nobody".into()));
    }
    // Success, or more than two (`sizeLimitExceeded`).
    if ![0, 4].contains(&answer.rc) {
        return Err(Failure::Unavailable(format!(
            "The search of the directory answered code {} {}",
            answer.rc, answer.text
        )));
    }
    let mut entries = entries
        .into_iter()
        .filter(|e| !e.is_ref() && !e.is_intermediate())
        .map(SearchEntry::construct);
    let (first, second) = (entries.next(), entries.next());
    let entry = match (first, second) {
        (Some(entry), None) if answer.rc == 0 => entry,
        (None, _) => return Err(Failure::Refused("The search finds nobody".into())),
        _ => return Err(Failure::Refused("The search finds more than one entry".into())),
    };
    let same = |value: &&String| value.to_lowercase() == name.to_lowercase();
    let written = NAMES
        .iter()
        .filter_map(|n| entry.attrs.get(*n))
        .flatten()
        .find(same);
    let person = Person {
        dn: entry.dn.to_lowercase(),
        name: written.cloned().unwrap_or_else(|| name.trim().to_string()),
    };
    Ok((entry.dn, person))
}
