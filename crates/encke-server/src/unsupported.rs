//! Published endpoints that this server does not serve: each checks the caller, then answers 501 with a reason, and
//! stands in the reference as not yet there or as unsupported. Never a pretended success (DESIGN D1).

use crate::app::App;
use crate::auth::{Admin, Principal, User};
use crate::table::{Call, CallerKind, Envelope, Nobody, Route};
use encke_api::endpoint::Support::{self, NotYet, Unsupported};
use encke_api::form::NoParams;
use encke_api::{ApiError, ApiResult};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;

/// Why the calls for keys of the first generation are missing.
pub(crate) const U2F: &str = "U2F was replaced by WebAuthn in protocol 21.12; register the key by account/webauthn/request-registration-challenge";

/// Why a capability is missing: for good, or as long as nobody built it.
fn reason(area: &str, path: &str) -> Support {
    if path.contains("/u2f/") {
        return Unsupported(U2F);
    }
    if path == "/api/v1/admin/convert-storage-role" {
        return Unsupported(
            "the Storage Role keeps its buckets on its own disk, so there is no S3 service behind them to convert a vault to",
        );
    }
    const DEVICE: [(&str, Support); 5] = [
        ("office", NotYet("Microsoft 365 is not backed up yet")),
        ("email-preview", NotYet("mailboxes are not backed up yet")),
        (
            "vmware",
            NotYet("virtual machines of VMware are not backed up yet"),
        ),
        (
            "import",
            Unsupported("there is no other product on Linux that settings could be imported from"),
        ),
        (
            "smb-auth",
            Unsupported(
                "Windows share log-ins exist on Windows devices alone; a Linux device mounts shares itself",
            ),
        ),
    ];
    const WINDOWS: [&str; 4] = ["exchange-edb", "hyperv", "mssql", "vss-aaw"];
    if path.contains("/dispatcher/") {
        if WINDOWS.iter().any(|w| path.ends_with(w)) {
            return Unsupported("this exists on Windows devices alone, and devices of this server run Linux");
        }
        if let Some((_, why)) = DEVICE.iter().find(|(part, _)| path.contains(part)) {
            return *why;
        }
    }
    if area == "branding_builds" {
        return Unsupported(
            "this server builds clients of the system that it runs on itself, which is Linux",
        );
    }
    NotYet(match area {
        "psa" => "PSA systems are not connected yet",
        _ => "this call is not available yet",
    })
}

/// The permission flags that guard a call once it is served (reference, section 4.4), so that nobody learns more from a
/// missing call than from a present one.
fn guarded(route: Route, path: &str) -> Route {
    let is = |part: &str| path.starts_with("/api/v1/admin/") && path.contains(part);
    if is("/generate-client/") {
        route.denied_if(|p| p.deny_software_build_role)
    } else {
        route
    }
}

fn route<C: CallerKind + 'static>(name: &'static str, path: &'static str, support: Support) -> Route {
    let why = support.refusal().unwrap_or_default();
    Route::new(
        name,
        path,
        "",
        move |_: Arc<App>, _: C, _: Call<NoParams>| async move {
            ApiResult::<Envelope>::Err(ApiError::unsupported(why))
        },
    )
    .support(support)
}

/// Every published endpoint that is not declared by a capability.
///
/// # Panics
/// The specification built into the program can not be read: a fault of the build.
#[must_use]
pub fn routes(declared: &[Route]) -> Vec<Route> {
    let known: HashSet<&str> = declared.iter().map(|r| r.endpoint.path).collect();
    let spec: Vec<Value> =
        serde_json::from_str(encke_api::spec::ENDPOINTS).expect("the specification is JSON");
    let mut out = Vec::new();
    for e in spec {
        let text = |key: &str| e[key].as_str().unwrap_or_default().to_string();
        let path = text("path");
        if known.contains(path.as_str()) {
            continue;
        }
        let support = reason(&text("area"), &path);
        // Lives as long as the program, like the declared ones.
        let (name, path): (&'static str, &'static str) = (text("name").leak(), path.leak());
        let route = match text("auth").as_str() {
            "admin" => route::<Admin>(name, path, support),
            "user" => route::<User>(name, path, support),
            "admin_or_user" => route::<Principal>(name, path, support),
            _ => route::<Nobody>(name, path, support),
        };
        let mut route = guarded(route, path).responds(e["response"]["type"].as_str().unwrap_or_default());
        if e["admin_only_toplevel"] == Value::Bool(true) {
            route = route.top_level();
        }
        out.push(route);
    }
    out
}
