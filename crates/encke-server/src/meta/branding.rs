//! How a host's pages look: names, colours, logo (reference, section 21).

use super::resources;
use crate::app::App;
use crate::auth::Admin;
use crate::table::{Call, Doc, Envelope, Nobody, Route, done};
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use encke_api::constants::{DEFAULT_ACCENTCOLOR, DEFAULT_TOPCOLOR};
use encke_api::form::{Json, NoParams};
use encke_api::types::{
    BrandingOptions, ServerConfigOptions, ServerConfigOptionsBrandingFragment, ServerMetaBrandingProperties,
};
use encke_api::{ApiError, ApiResult, params};
use std::sync::Arc;

params! {
    /// Parameters of `AdminMetaBrandingConfigSet`.
    struct Set {
        /// The whole branding.
        BrandingConfig: Json<BrandingOptions>
    }
}

fn of_organization<'a>(config: &'a ServerConfigOptions, organization: &str) -> &'a BrandingOptions {
    let found = config.organizations.get(organization);
    found.map_or(&config.branding, |o| &o.branding)
}

/// The branding of a host. A suspended organization's pages look like the server's own.
fn of_host<'a>(app: &App, config: &'a ServerConfigOptions, host: &str) -> &'a BrandingOptions {
    let organization = crate::auth::organization_of_host(app, host).unwrap_or_default();
    of_organization(config, &organization)
}

async fn properties(
    app: Arc<App>,
    _: Nobody,
    call: Call<NoParams>,
) -> ApiResult<Doc<ServerMetaBrandingProperties>> {
    let config = app.config();
    let branding = of_host(&app, &config, &call.origin.host);
    let or = |value: &str, default: &str| {
        if value.is_empty() {
            default.to_string()
        } else {
            value.to_string()
        }
    };
    let logo = resources::hash_of(&branding.logo_image).unwrap_or_default();
    let (signed_in, everybody) = crate::clients::downloads_of_host(&app, &call.origin.host);
    Ok(Doc(ServerMetaBrandingProperties {
        brand_name: or(&branding.brand_name, "Encke"),
        product_name: or(&branding.product_name, "Encke"),
        has_image: !logo.is_empty(),
        image_etag: logo.to_string(),
        top_color: or(&branding.top_color, DEFAULT_TOPCOLOR),
        accent_color: or(&branding.accent_color, DEFAULT_ACCENTCOLOR),
        hide_news_area: branding.hide_news_area,
        allow_authenticated_downloads: signed_in,
        allow_unauthenticated_downloads: everybody,
        prune_logs_after_days: config.authentication_role.prune_logs_after_days,
        expired_in_seconds: crate::auth::idle_seconds(&app),
        external_authentication_sources: crate::external_login::displayed(&app, &call.origin.host),
        server_is_empty: config.admin_users.is_empty(),
        cloud_storage_name: branding.cloud_storage_name.clone(),
        admin_hide_pre_built_client_option: branding.admin_hide_pre_built_client_option,
        admin_hide_branded_cloud_storage: branding.admin_hide_branded_cloud_storage,
        ..Default::default()
    }))
}

/// The logo of a host, `/gen/logo.img`: what `LogoImage` names.
pub(crate) async fn logo(app: &App, host: &str) -> Response {
    let config = app.config();
    let found = match resources::hash_of(&of_host(app, &config, host).logo_image) {
        Some(hash) => resources::read(app, hash).await.ok(),
        None => None,
    };
    let Some(content) = found else {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    // An image is shown, never run: a picture that is a script is not served as one.
    let media = match content.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, ..] => "image/jpeg",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        _ => "application/octet-stream",
    };
    let mut response = Response::new(Body::from(content));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=300"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

async fn get(
    app: Arc<App>,
    admin: Admin,
    _: Call<NoParams>,
) -> ApiResult<Doc<ServerConfigOptionsBrandingFragment>> {
    Ok(Doc(ServerConfigOptionsBrandingFragment {
        branding: of_organization(&app.config(), &admin.organization).clone(),
        ..Default::default()
    }))
}

fn check_colour(name: &str, colour: &str) -> ApiResult<()> {
    let digits = colour.strip_prefix('#').unwrap_or(colour);
    if colour.is_empty() || ([3, 6].contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_hexdigit()))
    {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "{name} '{colour}' is not a colour such as #1a2b3c"
    )))
}

async fn set(app: Arc<App>, admin: Admin, call: Call<Set>) -> ApiResult<Envelope> {
    let branding = call.params.BrandingConfig.0;
    check_colour("TopColor", &branding.top_color)?;
    check_colour("AccentColor", &branding.accent_color)?;
    if let Some(hash) = resources::hash_of(&branding.logo_image) {
        resources::read(&app, hash)
            .await
            .map_err(|_| ApiError::bad_request("LogoImage names a resource that does not exist"))?;
    }
    app.change_config(move |config| {
        let place = if admin.organization.is_empty() {
            &mut config.branding
        } else {
            let own = config.organizations.get_mut(&admin.organization);
            &mut own.ok_or_else(ApiError::unauthorised)?.branding
        };
        *place = branding;
        Ok(Vec::new())
    })
    .await?;
    Ok(done())
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "BrandingProps",
            "/gen/branding.props",
            "Public properties for the log-in page of this host.",
            properties,
        )
        .get(),
        Route::new(
            "AdminMetaBrandingConfigGet",
            "/api/v1/admin/meta/branding-config/get",
            "Answers how the pages of the caller's organization look.",
            get,
        )
        .granted_if(|p| p.allow_edit_branding)
        .denied_if(|p| p.prevent_edit_server_settings),
        Route::new(
            "AdminMetaBrandingConfigSet",
            "/api/v1/admin/meta/branding-config/set",
            "Says how the pages of the caller's organization look; in force at once.",
            set,
        )
        .granted_if(|p| p.allow_edit_branding)
        .denied_if(|p| p.prevent_edit_server_settings),
    ]
}
