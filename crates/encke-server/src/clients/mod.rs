//! Getting the device client (reference, section 21): the program of this server's own platform as a script that installs
//! it, as a Debian package and as it is, and the one-line installation. Packages of other systems are not made.

mod packages;
mod pieces;
mod program;

pub use program::OwnProgram;

use crate::app::{App, now, store_error};
use crate::auth::{Admin, organization_of_host, throttled};
use crate::live::still_right;
use crate::origin::Origin;
use crate::table::{Call, Doc, Envelope, FileReply, Nobody, NumberedMap, Route, Visitor, done};
use crate::users::profile_of;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use encke_api::endpoint::Role;
use encke_api::form::{Json, NoParams};
use encke_api::live::PROGRAM_PATH;
use encke_api::types::{
    AvailableDownload, ServerConfigOptions, ServerConfigOptionsSoftwareBuildRoleFragment,
    SoftwareBuildRoleOptions, UserProfileConfig,
};
use encke_api::{ApiError, ApiResult, params};
use encke_store::{Scope, StoredSession};
use packages::Build;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Path of the script that installs the client.
pub(crate) const SCRIPT_PATH: &str = "/install.sh";
/// Number of the script that holds the client, among the platforms.
const GENERIC: i64 = 1;
/// Number of the Debian package.
const DEBIAN: i64 = 2;
/// Longest address, in bytes.
const MAX_ADDRESS: usize = 255;
/// Most build processes that the configuration may ask for.
const MAX_BUILDERS: i64 = 1024;

params! {
    /// Parameters of the calls for one platform.
    struct One {
        /// The server's address as the client shall know it; the one that the call came by if left out. The branding's
        /// DefaultLoginServerURL comes first.
        SelfAddress: Option<String>
    }
}

params! {
    /// Parameters of the calls that name a platform.
    struct Platform {
        /// Number of the platform, from available-platforms.
        Platform: i64,
        /// The server's address as the client shall know it; the one that the call came by if left out. The branding's
        /// DefaultLoginServerURL comes first.
        SelfAddress: Option<String>
    }
}

params! {
    /// Parameters of `EnckeClientProgram`.
    struct Plain {
        /// An install token; it stays good.
        InstallToken: Option<String>,
        /// Account name.
        Username: Option<String>,
        /// The account's password.
        Password: Option<String>,
        /// Of a device: the login half of the stretched password.
        LoginKey: Option<String>,
        /// Of a device: its id.
        DeviceID: Option<String>
    }
}

params! {
    /// Parameters of `AdminMetaBuildConfigSet`.
    struct SetConfig {
        /// The whole section.
        SoftwareBuildRoleConfig: Json<SoftwareBuildRoleOptions>
    }
}

/// What an organization may build; empty for the top level.
fn options_of(config: &ServerConfigOptions, organization: &str) -> SoftwareBuildRoleOptions {
    if organization.is_empty() {
        return config.software_build_role.clone();
    }
    let found = config.organizations.get(organization);
    found.map(|o| o.software_build_role.clone()).unwrap_or_default()
}

/// Whether clients may be fetched under a host name: by who signed in, and by everybody.
pub(crate) fn downloads_of_host(app: &App, host: &str) -> (bool, bool) {
    let config = app.config();
    let Some(organization) = organization_of_host(app, host) else {
        return (false, false);
    };
    let options = options_of(&config, &organization);
    let on = config.software_build_role.role_enabled && options.role_enabled;
    (on, on && options.allow_unauthenticated_downloads)
}

fn open_to_all(app: &App, origin: &Origin) -> bool {
    downloads_of_host(app, &origin.host).1
}

/// The organization whose client is handed out.
fn organization(app: &App, visitor: &Visitor, origin: &Origin) -> ApiResult<String> {
    let organization = match &visitor.0 {
        Some(admin) => admin.organization.clone(),
        None => organization_of_host(app, &origin.host).ok_or_else(ApiError::unauthorised)?,
    };
    if !options_of(&app.config(), &organization).role_enabled {
        return Err(ApiError::forbidden(
            "Building clients is switched off for this organization",
        ));
    }
    Ok(organization)
}

/// Whether an address can stand wherever clients keep it.
fn is_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or(text.strip_prefix("http://"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]@%".contains(c);
    rest.is_some_and(|r| !r.is_empty() && r.chars().all(plain)) && text.len() <= MAX_ADDRESS
}

/// A name on one line of a control file or a script.
fn one_line(name: &str, default: &str) -> String {
    let name: String = name
        .chars()
        .filter(|c| !c.is_control() && *c != '<' && *c != '>')
        .collect();
    match name.trim() {
        "" => default.to_string(),
        name => name.to_string(),
    }
}

fn build_of(app: &App, organization: &str, address: Option<&str>, origin: &Origin) -> ApiResult<Build> {
    let config = app.config();
    let branding = match config.organizations.get(organization) {
        Some(o) => &o.branding,
        None => &config.branding,
    };
    let own = origin.base();
    let given = [
        branding.default_login_server_url.as_str(),
        address.unwrap_or_default(),
    ];
    let server = match given.into_iter().find(|a| !a.trim().is_empty()) {
        Some(server) => server.trim(),
        // What a caller says about the host goes into a script.
        None if is_address(&own) => own.as_str(),
        None => app.local_url.as_str(),
    };
    if !is_address(server) {
        return Err(ApiError::bad_request(
            "SelfAddress must be an address such as https://backup.example.org/",
        ));
    }
    let product = one_line(&branding.product_name, "Encke");
    Ok(Build {
        server: server.trim_end_matches('/').to_string(),
        company: one_line(&branding.company_name, &product),
        product,
    })
}

/// What a platform of this number is.
async fn platforms(app: &App) -> ApiResult<BTreeMap<i64, AvailableDownload>> {
    let facts = app.program.facts().await?;
    let (system, machine) = facts.program.platform.split_once('/').unwrap_or_default();
    if system != "linux" {
        return Ok(BTreeMap::new());
    }
    let entry = |description: String, recommended| AvailableDownload {
        category: "Linux".into(),
        description,
        recommended,
        ..Default::default()
    };
    Ok(BTreeMap::from([
        (
            GENERIC,
            entry(
                format!("Linux, {machine}: a script that installs on any distribution"),
                true,
            ),
        ),
        (
            DEBIAN,
            entry(format!("Debian and Ubuntu, {machine}: a package"), false),
        ),
    ]))
}

async fn check_platform(app: &App, platform: i64) -> ApiResult<()> {
    if platforms(app).await?.contains_key(&platform) {
        return Ok(());
    }
    Err(ApiError::unsupported(
        "this server builds no client of this number; available-platforms lists those it builds",
    ))
}

async fn available(
    app: Arc<App>,
    _: Visitor,
    _: Call<NoParams>,
) -> ApiResult<NumberedMap<AvailableDownload>> {
    Ok(NumberedMap(platforms(&app).await?))
}

async fn generate(
    app: &App,
    visitor: &Visitor,
    platform: i64,
    address: Option<&str>,
    origin: &Origin,
) -> ApiResult<FileReply> {
    check_platform(app, platform).await?;
    let organization = organization(app, visitor, origin)?;
    let build = build_of(app, &organization, address, origin)?;
    let sender = app.program.sender()?;
    let facts = app.program.facts().await?;
    let program = app.program.packed(app).await?;
    let (pieces, name) = if platform == DEBIAN {
        (
            packages::debian(&build, &facts, program)?,
            packages::debian_name(&facts),
        )
    } else {
        let machine = facts.program.platform.replace('/', "-");
        (
            packages::self_extracting(&build, &facts, program)?,
            format!("encke-{machine}.run"),
        )
    };
    Ok(pieces::reply(pieces, name, sender))
}

async fn generic(app: Arc<App>, visitor: Visitor, call: Call<One>) -> ApiResult<FileReply> {
    generate(
        &app,
        &visitor,
        GENERIC,
        call.params.SelfAddress.as_deref(),
        &call.origin,
    )
    .await
}

async fn debian(app: Arc<App>, visitor: Visitor, call: Call<One>) -> ApiResult<FileReply> {
    generate(
        &app,
        &visitor,
        DEBIAN,
        call.params.SelfAddress.as_deref(),
        &call.origin,
    )
    .await
}

async fn by_platform(app: Arc<App>, visitor: Visitor, call: Call<Platform>) -> ApiResult<FileReply> {
    let p = call.params;
    generate(&app, &visitor, p.Platform, p.SelfAddress.as_deref(), &call.origin).await
}

async fn test(app: Arc<App>, visitor: Visitor, call: Call<Platform>) -> ApiResult<Envelope> {
    let p = call.params;
    check_platform(&app, p.Platform).await?;
    let organization = organization(&app, &visitor, &call.origin)?;
    build_of(&app, &organization, p.SelfAddress.as_deref(), &call.origin)?;
    Ok(done())
}

/// Whether a caller may have the program.
async fn check_downloader(app: &App, p: &Plain, origin: &Origin) -> ApiResult<()> {
    let given = |field: &Option<String>| field.clone().filter(|f| !f.is_empty());
    if let Some(token) = given(&p.InstallToken) {
        return throttled(app, origin, "\0install token", async {
            let known = app
                .store
                .is_install_token(&StoredSession::hash_of(&token), now())
                .await;
            if known.map_err(store_error)? {
                return Ok(());
            }
            Err(ApiError::forbidden(
                "The install token is unknown, used or expired",
            ))
        })
        .await;
    }
    let Some(name) = given(&p.Username) else {
        if open_to_all(app, origin) {
            return Ok(());
        }
        return Err(ApiError::forbidden(
            "Give an install token or an account's log-in, or allow downloads without signing in",
        ));
    };
    throttled(app, origin, &name, async {
        let (key, password) = (given(&p.LoginKey), given(&p.Password));
        let stored = match profile_of(app, &Scope::All, &name).await {
            Ok(stored) => stored,
            Err(_) => {
                app.passwords.waste_time(&password.unwrap_or_default()).await;
                return Err(ApiError::unauthorised());
            }
        };
        let profile: UserProfileConfig = stored.parse().map_err(store_error)?;
        let right = match (key, password) {
            (Some(key), _) => {
                still_right(&profile, &key)
                    && given(&p.DeviceID).is_some_and(|d| profile.devices.contains_key(&d))
            }
            (None, Some(password)) => app.passwords.verify(&profile.password_hash, &password).await?,
            (None, None) => false,
        };
        if !right {
            return Err(ApiError::unauthorised());
        }
        crate::auth::check_organization(app, &profile.organization_id)?;
        if profile.is_suspended {
            return Err(ApiError::forbidden("This account is suspended"));
        }
        Ok(())
    })
    .await
}

async fn plain(app: Arc<App>, _: Nobody, call: Call<Plain>) -> ApiResult<FileReply> {
    check_downloader(&app, &call.params, &call.origin).await?;
    let sender = app.program.sender()?;
    let program = app.program.plain().await?;
    Ok(pieces::reply(vec![program], "encke".into(), sender))
}

/// The script that installs the client from this server. It holds no secret; what it fetches is guarded.
pub(crate) async fn script(app: &App, origin: &Origin) -> Response {
    let script = async {
        if !app.config().software_build_role.role_enabled {
            return Err(ApiError::forbidden(
                "The software_build role of this server is switched off",
            ));
        }
        let organization = organization_of_host(app, &origin.host).ok_or_else(ApiError::unauthorised)?;
        let facts = app.program.facts().await?;
        Ok(packages::fetching(
            &build_of(app, &organization, None, origin)?,
            &facts,
        ))
    };
    // Read by a shell: what goes wrong must not look like a script, and is told by the status.
    let (status, text) = match script.await {
        Ok(text) => (StatusCode::OK, text),
        Err(e) => (
            StatusCode::from_u16(e.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            format!("# {}\nexit 1\n", one_line(&e.message, "")),
        ),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/x-shellscript; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

async fn get_config(
    app: Arc<App>,
    admin: Admin,
    _: Call<NoParams>,
) -> ApiResult<Doc<ServerConfigOptionsSoftwareBuildRoleFragment>> {
    Ok(Doc(ServerConfigOptionsSoftwareBuildRoleFragment {
        software_build_role: options_of(&app.config(), &admin.organization),
        ..Default::default()
    }))
}

async fn set_config(app: Arc<App>, admin: Admin, call: Call<SetConfig>) -> ApiResult<Envelope> {
    let options = call.params.SoftwareBuildRoleConfig.0;
    if !(0..=MAX_BUILDERS).contains(&options.max_builders) {
        return Err(ApiError::bad_request(format!(
            "MaxBuilders is between 0 and {MAX_BUILDERS}"
        )));
    }
    app.change_config(move |config| {
        let place = if admin.organization.is_empty() {
            &mut config.software_build_role
        } else {
            let own = config.organizations.get_mut(&admin.organization);
            let own = &mut own.ok_or_else(ApiError::unauthorised)?.software_build_role;
            // Whether a tenant may build is for the top level to say.
            if options.role_enabled && !own.role_enabled {
                return Err(ApiError::forbidden(
                    "Building clients is switched off for this organization",
                ));
            }
            own
        };
        *place = options;
        Ok(Vec::new())
    })
    .await?;
    Ok(done())
}

/// Endpoints of clients.
#[must_use]
pub fn routes() -> Vec<Route> {
    const BOTH: &[Role] = &[Role::Auth, Role::SoftwareBuild];
    let builds = vec![
        Route::new(
            "AdminBrandingAvailablePlatforms",
            "/api/v1/admin/branding/available-platforms",
            "Answers the clients that this server builds, by number: those of the platform it runs on itself.",
            available,
        )
        .responds("map[int]AvailableDownload"),
        Route::new(
            "AdminBrandingGenerateClientByPlatform",
            "/api/v1/admin/branding/generate-client/by-platform",
            "Answers a client of the platform of this number.",
            by_platform,
        ),
        Route::new(
            "AdminBrandingGenerateClientLinuxgeneric",
            "/api/v1/admin/branding/generate-client/linuxgeneric",
            "Answers a shell script that holds the client and installs it: `sh encke-linux-amd64.run --token …`.",
            generic,
        ),
        Route::new(
            "AdminBrandingGenerateClientLinuxDeb",
            "/api/v1/admin/branding/generate-client/linux-deb",
            "Answers a Debian package of the client. Installed with ENCKE_INSTALL_TOKEN set, it registers the machine.",
            debian,
        ),
        Route::new(
            "AdminBrandingGenerateClientTest",
            "/api/v1/admin/branding/generate-client/test",
            "Tells whether a client of the platform of this number can be had.",
            test,
        ),
    ];
    let builds = builds.into_iter().map(|r| {
        r.roles(BOTH)
            .open_if(open_to_all)
            .denied_if(|p| p.deny_software_build_role)
    });
    let others = vec![
        Route::new(
            "EnckeClientProgram",
            PROGRAM_PATH,
            "Answers the client program as it is, to who brings an install token or an account's log-in, to devices, and to everybody where the configuration says so. A token stays good.",
            plain,
        )
        .roles(BOTH),
        Route::new(
            "AdminMetaBuildConfigGet",
            "/api/v1/admin/meta/build-config/get",
            "Answers what the configuration says about building clients, for the caller's organization.",
            get_config,
        )
        .denied_if(|p| p.deny_software_build_role || p.prevent_edit_server_settings),
        Route::new(
            "AdminMetaBuildConfigSet",
            "/api/v1/admin/meta/build-config/set",
            "Says who may fetch clients, for the caller's organization; in force at once.",
            set_config,
        )
        .denied_if(|p| p.deny_software_build_role || p.prevent_edit_server_settings),
    ];
    builds.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_go_into_a_client() {
        for good in [
            "https://backup.example.org",
            "http://127.0.0.1:8060/",
            "https://[::1]:443/x",
        ] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "backup.example.org",
            "https://",
            "https://a b",
            "http://a'b",
            "http://a$(b)",
            "http://a\nb",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
        assert_eq!(one_line("Acme\nBackup <x>", "Encke"), "AcmeBackup x");
        assert_eq!(one_line(" ", "Encke"), "Encke");
    }
}
